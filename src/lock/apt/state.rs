//! A private state of apt: its directories, its configuration, its programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Doing as _, Error, Result};
use crate::process::{Run as _, cannot_start};

/// Settings of the host's apt that its administrator chose for reaching archives; the private state keeps them.
const KEPT: &[&str] = &[
    "Acquire::http::",
    "Acquire::https::",
    "Acquire::Retries",
    "Acquire::ForceIPv",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
];

/// What is below the directory of a state, besides its files.
const PARTS: &[&str] = &[
    "lists/partial",
    "cache/archives/partial",
    "etc/apt.conf.d",
    "etc/preferences.d",
    "etc/sources.list.d",
    "etc/trusted.gpg.d",
];

/// One in a directory. What apt does in it, the host's own never sees.
#[derive(Debug)]
pub struct State {
    dir: PathBuf,
}

impl State {
    /// Makes the directories.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn make(dir: PathBuf) -> Result<Self> {
        for part in PARTS {
            let part = dir.join(part);
            fs::create_dir_all(&part).doing(|| format!("creating {}", part.display()))?;
        }
        Ok(Self { dir })
    }

    /// Returns its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes the configuration: nothing of the host's but how to reach archives, no unsigned index.
    ///
    /// # Errors
    /// apt is missing; the file cannot be written.
    pub fn configure(&self, architecture: &str) -> Result<()> {
        self.write("apt.conf", &configuration(&self.dir, architecture, &host_acquire()?))
    }

    /// Writes a file below its directory.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.join(name);
        fs::write(&path, text).doing(|| format!("writing {}", path.display()))
    }

    /// Runs one of apt's programs, which ends with the thread that waits for it, and returns what it printed. Not with `Run`, since
    /// apt says on standard output why it finds no solution.
    ///
    /// # Errors
    /// apt is missing, or what it says.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", program])
            .args(args)
            .env("APT_CONFIG", self.dir.join("apt.conf"))
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        let output = command.output().map_err(|error| cannot_start("setpriv".as_ref(), error))?;
        let text = String::from_utf8_lossy(&output.stdout);
        if output.status.success() {
            return Ok(text.into_owned());
        }
        if output.status.code() == Some(NOT_FOUND) {
            return Err(cannot_start(program.as_ref(), std::io::ErrorKind::NotFound.into()));
        }
        Err(Error::failed(format!(
            "`{program} {}` ended with {}:\n{}{}",
            args.first().unwrap_or(&""),
            output.status,
            reasons(&text),
            String::from_utf8_lossy(&output.stderr).trim()
        )))
    }
}

/// The exit code of `setpriv` for a program that is not there, as of every shell.
const NOT_FOUND: i32 = 127;

/// Leaves out of apt's output what it says while it works.
fn reasons(output: &str) -> String {
    let chatter =
        ["Reading ", "Building ", "Hit:", "Get:", "Ign:", "Err:", "Fetched ", "Some packages could not", "'"];
    let lines = output.lines().filter(|line| !chatter.iter().any(|start| line.starts_with(start)));
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn host_acquire() -> Result<String> {
    let text = Command::new("apt-config").args(["dump", "Acquire"]).run_text()?;
    let kept = |line: &&str| KEPT.iter().any(|prefix| line.starts_with(prefix));
    Ok(text.lines().filter(kept).fold(String::new(), |all, line| all + line + "\n"))
}

/// Writes the configuration: nothing of the host's but how to reach archives, no unsigned index.
fn configuration(dir: &Path, architecture: &str, kept: &str) -> String {
    let dir = dir.display();
    format!(
        "{kept}\
Dir::State \"{dir}\";
Dir::State::lists \"{dir}/lists\";
Dir::State::status \"{dir}/status\";
Dir::State::extended_states \"{dir}/extended_states\";
Dir::Cache \"{dir}/cache\";
Dir::Cache::archives \"{dir}/cache/archives\";
Dir::Etc \"{dir}/etc\";
Dir::Etc::main \"apt.conf\";
Dir::Etc::parts \"apt.conf.d\";
Dir::Etc::sourcelist \"sources.list\";
Dir::Etc::sourceparts \"sources.list.d\";
Dir::Etc::preferences \"preferences\";
Dir::Etc::preferencesparts \"preferences.d\";
Dir::Etc::trusted \"trusted.gpg\";
Dir::Etc::trustedparts \"trusted.gpg.d\";
Dir::Etc::netrc \"/etc/apt/auth.conf\";
Dir::Etc::netrcparts \"/etc/apt/auth.conf.d\";
APT::Architecture \"{architecture}\";
APT::Architectures {{ \"{architecture}\"; }};
APT::Install-Recommends \"false\";
APT::Install-Suggests \"false\";
APT::Sandbox::User \"root\";
APT::Get::AllowUnauthenticated \"false\";
Acquire::Languages \"none\";
Acquire::PDiffs \"false\";
Acquire::AllowInsecureRepositories \"false\";
Acquire::AllowWeakRepositories \"false\";
Acquire::AllowDowngradeToInsecureRepositories \"false\";
"
    )
}

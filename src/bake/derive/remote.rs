//! A machine that is made into an image, reached over SSH.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{Read, empty};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::machine::Machine;
use crate::bake::builder::Builder;
use crate::bake::sandbox::{STAGE, Step};
use crate::bake::shell;
use crate::error::{Doing as _, Error, Result};
use crate::interrupt;
use crate::process::cannot_start;
use crate::ssh::{Address, Ended, Lines, Refusal, Session};

/// How long a machine may take from its start until it lets us in, unless the recipe says so. Translated and beside other
/// work, a vendor's image was seen to take three minutes; a machine that takes ten will not come.
const UP: Duration = Duration::from_mins(10);
/// How long a machine may live, whatever becomes of rekiln; it ends itself then. Longer than any bake that someone waits
/// for.
pub const LIFETIME: Duration = Duration::from_hours(4);
/// How long a machine that was told to restart may go on answering: a service that does not end is killed after 90 s.
const DOWN: Duration = Duration::from_mins(3);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);
/// How many of the last lines of a failed step its error shows: a screenful.
const LAST_LINES: usize = 25;
/// Where the machine keeps what was staged: on its disk, for an artifact may be larger than its memory.
const ROOM: &str = "/var/lib/rekiln-stage";
/// What a script that may lose its connection prints, and its exit code. In memory: they are written on a full disk, too, and
/// mean nothing after a restart.
const OUTPUT: &str = "/run/rekiln-script.output";
const STATUS: &str = "/run/rekiln-script.status";
/// What everything that runs finds in its environment, as in the sandbox.
const ENVIRONMENT: &str = "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    LC_ALL=C.UTF-8 TZ=UTC DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true DEBCONF_NOWARNINGS=yes \
    UCF_FORCE_CONFFNEW=1\numask 022\n";

/// The machine.
pub struct Remote {
    address: Address,
    machine: Box<dyn Machine>,
    session: Option<Session>,
    epoch: i64,
    patience: Duration,
    /// What the kernel called the boot in which the last script was started.
    scripted: Option<String>,
}

impl Remote {
    /// Takes a machine that was just started.
    #[must_use]
    pub fn new(machine: Box<dyn Machine>, address: Address, epoch: i64) -> Self {
        Self { address, machine, session: None, epoch, patience: UP, scripted: None }
    }

    /// Changes how long it may take until it lets us in.
    #[must_use]
    pub const fn waiting(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Returns the machine itself.
    pub fn machine(&mut self) -> &mut dyn Machine {
        &mut *self.machine
    }

    /// Returns where it listens.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Waits until it lets us in.
    ///
    /// # Errors
    /// It never does, it is another machine than ours, it ended, and we were interrupted.
    pub fn wait_up(&mut self) -> Result<()> {
        let start = Instant::now();
        self.session = None;
        loop {
            self.machine.must_run()?;
            let why = match Session::connect(&self.address) {
                Ok(session) => {
                    self.session = Some(session);
                    return Ok(());
                }
                Err(Refusal::Never(error)) => return Err(error),
                Err(Refusal::NotYet(why)) => why,
            };
            if start.elapsed() > self.patience {
                return Err(Error::failed(format!(
                    "the machine did not let us in within {} s: {why}; its console ends with:\n{}",
                    self.patience.as_secs(),
                    self.machine.last_words()
                ))
                .hint(
                    "the image must have an SSH server, and systemd 252 or cloud-init, which reads a NoCloud seed; \
                     `cloud_init = true` in [source.disk] has cloud-init start it as its vendor means it",
                )
                .hint(
                    "a machine that only needs longer: `ssh_timeout = \"30m\"` in the recipe's [source.disk]",
                ));
            }
            interrupt::check()?;
            std::thread::sleep(PAUSE);
        }
    }

    /// Runs a shell script as root, its text read from `script`, and says how it ended.
    ///
    /// # Errors
    /// We were interrupted.
    pub fn shell(&mut self, script: &str, line: &mut (dyn FnMut(&str) + Send)) -> Result<Ended> {
        let text = format!("set -eu\n{ENVIRONMENT}export SOURCE_DATE_EPOCH={}\n{script}", self.epoch);
        self.command("exec sh -s 2>&1", &mut text.as_bytes(), line)
    }

    /// Runs a shell script that must end well.
    ///
    /// # Errors
    /// It does not; with its last lines.
    pub fn must(&mut self, what: &str, script: &str, line: &mut (dyn FnMut(&str) + Send)) -> Result<()> {
        let mut last = Last::default();
        let ended = self.shell(script, &mut |text| {
            last.push(text);
            line(text);
        })?;
        self.judge(what, &ended, &last)
    }

    fn judge(&mut self, what: &str, ended: &Ended, last: &Last) -> Result<()> {
        let how = match ended {
            Ended::Exit(0) => return Ok(()),
            Ended::Exit(code) => format!("ended with exit code {code}"),
            Ended::Signal(signal) => format!("was ended by signal {signal}"),
            Ended::Lost(why) => {
                self.session = None;
                // A machine that is gone explains more than a connection that is.
                self.machine.must_run()?;
                let error = Error::failed(format!(
                    "{what}: the connection to the machine was lost: {why}{}",
                    last.text()
                ));
                return Err(error.hint(
                    "a script that restarts the network or the SSH server says so: `expect_disconnect = true` in its [[run]]",
                ));
            }
        };
        Err(Error::failed(format!("{what} {how}{}", last.text())))
    }

    fn command(
        &mut self,
        command: &str,
        input: &mut (dyn Read + Send),
        line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Ended> {
        if self.session.is_none() {
            self.wait_up()?;
        }
        let Some(session) = &mut self.session else { return Err(Error::failed("the machine is not there")) };
        let mut lines = Lines::default();
        let ended = session.run(command, input, &mut |bytes| lines.take(bytes, line))?;
        lines.end(line);
        Ok(ended)
    }

    /// Sends the staged files that the steps read.
    fn stage(&mut self, stages: &BTreeMap<String, PathBuf>, steps: &[Step]) -> Result<()> {
        for (name, dir) in stages {
            let files = wanted(&format!("{STAGE}/{name}/"), steps);
            if files.is_empty() {
                continue;
            }
            let place = shell::quoted(&format!("{STAGE}/{name}"));
            let mut tar = Tar::of(dir, &files)?;
            // /run is in memory and gone after a restart; what lies there is a link to the disk.
            let take = format!(
                "umask 077; mkdir -p {ROOM} && ln -sfn {ROOM} {STAGE} && mkdir -p {place} && exec tar -x -C {place} 2>&1"
            );
            let mut last = Last::default();
            let ended = self.command(&take, &mut tar, &mut |text| last.push(text))?;
            self.judge("sending files to the machine", &ended, &last)?;
            tar.end()?;
        }
        Ok(())
    }

    /// Restarts the machine, unless the script before did so itself, and waits until it is up again.
    fn reboot(&mut self) -> Result<()> {
        self.machine.may_restart(true);
        let now = self.boot_id()?;
        let before = self.scripted.take().unwrap_or_else(|| now.clone());
        if now != before {
            self.machine.may_restart(false);
            return Ok(());
        }
        // Whether the connection outlives the command is chance; so is whether the machine is on its way down already.
        let _ = self.shell("systemctl reboot\n", &mut |_| {})?;
        self.after_reboot(&before)
    }

    fn after_reboot(&mut self, before: &str) -> Result<()> {
        let start = Instant::now();
        loop {
            self.session = None;
            self.wait_up()?;
            if self.boot_id()? != before {
                self.machine.may_restart(false);
                return Ok(());
            }
            if start.elapsed() > DOWN {
                return Err(Error::failed(format!(
                    "the machine was told to restart and did not within {} s; its console ends with:\n{}",
                    DOWN.as_secs(),
                    self.machine.last_words()
                )));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Returns what the kernel calls this boot, over a new connection when this one is lost at that moment.
    fn boot_id(&mut self) -> Result<String> {
        let start = Instant::now();
        loop {
            let mut id = String::new();
            let ended = self.command("cat /proc/sys/kernel/random/boot_id", &mut empty(), &mut |line| {
                line.clone_into(&mut id);
            })?;
            if ended == Ended::Exit(0) && !id.is_empty() {
                return Ok(id);
            }
            // A server that lets us in and cuts us off at once belongs to a machine that is going down.
            if start.elapsed() > DOWN {
                return Err(Error::failed(format!(
                    "the machine lets us in and did not say within {} s which boot this is: {ended:?}",
                    DOWN.as_secs()
                )));
            }
            self.session = None;
            interrupt::check()?;
            std::thread::sleep(PAUSE);
        }
    }

    /// Runs a program that goes on when the connection does not, and follows it over as many connections as it takes.
    fn run_detached(
        &mut self,
        argv: &[String],
        may_reboot: bool,
        line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<()> {
        let boot = self.boot_id()?;
        self.scripted = Some(boot.clone());
        self.machine.may_restart(may_reboot);
        // A script that restarts the machine is ended with everything else: how is not its exit code.
        let unless_down =
            if may_reboot { "[ \"$(systemctl is-system-running)\" = stopping ] || " } else { "" };
        let program =
            shell::quoted(&format!("{}; code=$?; {unless_down}echo $code > {STATUS}", shell::command(argv)));
        let start =
            format!("rm -f {STATUS}\n: > {OUTPUT}\nsetsid sh -c {program} > {OUTPUT} 2>&1 < /dev/null &\n");
        self.must("starting a script", &start, &mut |_| {})?;
        let mut last = Last::default();
        let mut seen = 0_u64;
        loop {
            // Prints what is new until the status is there, which comes after everything else.
            let follow = format!(
                "at={seen}; while :; do done=; [ -s {STATUS} ] && done=1; \
                 size=$(stat -c %s {OUTPUT}); if [ $size -gt $at ]; then \
                 tail -c +$((at + 1)) {OUTPUT} | head -c $((size - at)); at=$size; fi; \
                 [ -n \"$done\" ] && exit 0; sleep 0.2; done"
            );
            let mut lines = Lines::default();
            if self.session.is_none() {
                self.wait_up()?;
            }
            if self.boot_id()? != boot {
                lines.end(line);
                return if may_reboot {
                    Ok(())
                } else {
                    Err(Error::failed(format!(
                        "the machine restarted while {} ran; how far that came is not known{}",
                        argv.join(" "),
                        last.text()
                    ))
                    .hint("a script that restarts the machine says so: `reboot = true` in its [[run]]"))
                };
            }
            let Some(session) = &mut self.session else { continue };
            let ended = session.run(&follow, &mut empty(), &mut |bytes| {
                seen += bytes.len() as u64;
                lines.take(bytes, &mut |text| {
                    last.push(text);
                    line(text);
                });
            })?;
            lines.end(line);
            match ended {
                Ended::Exit(0) => break,
                Ended::Lost(_) => {
                    self.session = None;
                    self.machine.must_run()?;
                }
                ended => return self.judge("following a script", &ended, &last),
            }
        }
        let mut status = String::new();
        let _ = self.command(&format!("cat {STATUS}; rm -f {OUTPUT}"), &mut empty(), &mut |line| {
            line.clone_into(&mut status);
        })?;
        let code = status.trim().parse().doing(|| format!("reading how {} ended", argv.join(" ")))?;
        self.judge(&argv.join(" "), &Ended::Exit(code), &last)
    }
}

impl Builder for Remote {
    fn carry_out(
        &mut self,
        stages: &BTreeMap<String, PathBuf>,
        steps: &[Step],
        line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<()> {
        self.stage(stages, steps)?;
        let mut pending = String::new();
        for step in steps {
            match step {
                Step::Run { argv } => {
                    self.flush(&mut pending, line)?;
                    self.must(
                        &argv.join(" "),
                        &format!("exec < /dev/null\n{}\n", shell::command(argv)),
                        line,
                    )?;
                }
                Step::RunDetached { argv, may_reboot } => {
                    self.flush(&mut pending, line)?;
                    self.run_detached(argv, *may_reboot, line)?;
                }
                Step::Reboot => {
                    self.flush(&mut pending, line)?;
                    self.reboot()?;
                    let again = format!("{}ln -sfn {ROOM} {STAGE}\n", lifetime());
                    self.must("going on after the restart", &again, line)?;
                }
                // What runs no program of the image goes together: each command costs a translated machine 100 ms.
                step => pending.extend(shell::lines(step)),
            }
        }
        self.flush(&mut pending, line)?;
        self.must("removing what was staged", &format!("rm -rf {ROOM} {STAGE}\n"), line)
    }

    fn download(&mut self, path: &str) -> Result<Option<Vec<u8>>> {
        if self.session.is_none() {
            self.wait_up()?;
        }
        let Some(session) = &mut self.session else { return Ok(None) };
        let mut bytes = Vec::new();
        let file = shell::quoted(path);
        // An exit code of our own tells a file that is not there from one that cannot be read.
        let ended = session.run(
            &format!("if [ -f {file} ]; then exec cat {file}; else exit 44; fi"),
            &mut empty(),
            &mut |part| bytes.extend_from_slice(part),
        )?;
        match ended {
            Ended::Exit(0) => Ok(Some(bytes)),
            Ended::Exit(44) => Ok(None),
            ended => self.judge(&format!("reading {path}"), &ended, &Last::default()).map(|()| None),
        }
    }

    fn console(&mut self) -> String {
        self.machine.console()
    }
}

impl Remote {
    fn flush(&mut self, pending: &mut String, line: &mut (dyn FnMut(&str) + Send)) -> Result<()> {
        if pending.is_empty() {
            return Ok(());
        }
        let script = std::mem::take(pending);
        self.must("writing into the image", &script, line)
    }
}

/// Returns the shell's line that sets a machine's end, which a restart forgets.
pub fn lifetime() -> String {
    format!(
        "systemd-run --quiet --no-block --unit=rekiln-lifetime --on-active={}s systemctl poweroff --force\n",
        LIFETIME.as_secs()
    )
}

/// The last lines of a step.
#[derive(Debug, Default)]
struct Last(VecDeque<String>);

impl Last {
    fn push(&mut self, line: &str) {
        if self.0.len() == LAST_LINES {
            self.0.pop_front();
        }
        self.0.push_back(line.to_owned());
    }

    fn text(&self) -> String {
        self.0.iter().flat_map(|line| ["\n", line]).collect()
    }
}

/// Returns the files below a stage that the steps name, relative to it.
fn wanted(stage: &str, steps: &[Step]) -> BTreeSet<String> {
    let named = steps.iter().flat_map(|step| match step {
        Step::Write { from, .. } => vec![from],
        Step::Run { argv } | Step::RunDetached { argv, .. } => argv.iter().collect(),
        _ => Vec::new(),
    });
    named.filter_map(|word| word.strip_prefix(stage).map(str::to_owned)).collect()
}

/// A tar program that packs files while they are sent.
struct Tar {
    child: std::process::Child,
    output: std::process::ChildStdout,
}

impl Tar {
    fn of(dir: &Path, files: &BTreeSet<String>) -> Result<Self> {
        let mut child = Command::new("tar")
            .args(["--create", "--dereference", "--directory"])
            .arg(dir)
            .arg("--")
            .args(files)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| cannot_start("tar".as_ref(), error))?;
        let output = child.stdout.take().ok_or_else(|| Error::failed("tar has no output"))?;
        Ok(Self { child, output })
    }

    fn end(mut self) -> Result<()> {
        let status = self.child.wait().doing(|| "waiting for tar")?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::failed(format!("packing staged files: tar ended with {status}")))
        }
    }
}

impl Read for Tar {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.output.read(buffer)
    }
}

impl Drop for Tar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_steps_read_is_sent() {
        let steps = [
            Step::Write {
                path: "/etc/x".to_owned(),
                from: format!("{STAGE}/files/0"),
                mode: 0o644,
                owner: "root".to_owned(),
            },
            Step::Run { argv: vec!["tar".to_owned(), format!("{STAGE}/vault/abc")] },
            Step::Remove { path: format!("{STAGE}/vault/none") },
        ];
        assert_eq!(wanted(&format!("{STAGE}/files/"), &steps), BTreeSet::from(["0".to_owned()]));
        assert_eq!(wanted(&format!("{STAGE}/vault/"), &steps), BTreeSet::from(["abc".to_owned()]));
        assert!(wanted(&format!("{STAGE}/debs/"), &steps).is_empty());
    }
}

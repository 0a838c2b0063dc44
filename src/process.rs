//! The one way to run another program: its output captured, its failure explained.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use crate::error::{Doing as _, Error, Result};

/// How many characters of a failed program's last words an error carries:
/// enough for the cause, short enough for a terminal.
pub const LAST_WORDS: usize = 2000;

/// Running a [`Command`] to its end.
pub trait Run {
    /// Runs the program with no standard input and returns its output.
    ///
    /// # Errors
    /// A missing program (with the command that installs it), and an exit code other than 0 with
    /// the last words of its standard error.
    fn run(&mut self) -> Result<Output>;

    /// Like [`Run::run`], with `input` as standard input.
    ///
    /// # Errors
    /// As [`Run::run`].
    fn run_with_input(&mut self, input: &[u8]) -> Result<Output>;

    /// Like [`Run::run`], returning standard output as text.
    ///
    /// # Errors
    /// As [`Run::run`], and output that is not UTF-8.
    fn run_text(&mut self) -> Result<String>;
}

impl Run for Command {
    fn run(&mut self) -> Result<Output> {
        self.stdin(Stdio::null());
        let output = self.output().map_err(|error| cannot_start(self.get_program(), error))?;
        check(self, output)
    }

    fn run_with_input(&mut self, input: &[u8]) -> Result<Output> {
        let mut child = self
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| cannot_start(self.get_program(), error))?;
        let stdin = child.stdin.take();
        // A scope, so that a program that writes before it has read everything cannot stall us.
        let output = std::thread::scope(|scope| {
            scope.spawn(move || stdin.map(|mut pipe| pipe.write_all(input)));
            child.wait_with_output()
        })
        .doing(|| format!("running {}", self.get_program().display()))?;
        check(self, output)
    }

    fn run_text(&mut self) -> Result<String> {
        let output = self.run()?;
        String::from_utf8(output.stdout)
            .doing(|| format!("reading what {} printed", self.get_program().display()))
    }
}

/// Returns when process `pid` started, in clock ticks since the host's start; with the number it names a process
/// for good, as numbers are used again.
#[must_use]
pub fn start_time(pid: u32) -> Option<u64> {
    stat(pid, 22)?.parse().ok()
}

/// Returns the parent of process `pid`.
#[must_use]
pub fn parent(pid: u32) -> Option<u32> {
    stat(pid, 4)?.parse().ok()
}

/// Returns a field of `/proc/<pid>/stat`, numbered from 1 as in proc(5), behind the second.
fn stat(pid: u32, field: usize) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the program's name, may hold spaces and parentheses; nothing after it does.
    text.rsplit_once(')')?.1.split_whitespace().nth(field - 3).map(str::to_owned)
}

/// Explains why `program` did not start; a missing one comes with the package that has it.
#[must_use]
pub fn cannot_start(program: &OsStr, error: std::io::Error) -> Error {
    let name = program.to_string_lossy();
    if error.kind() == std::io::ErrorKind::NotFound {
        let error = Error::failed(format!("`{name}` is not installed"));
        return match package_of(&name) {
            Some(package) => error.hint(format!(
                "install it with `apt-get install {package}`, or run `rekiln doctor --install`"
            )),
            None => error,
        };
    }
    let failed: Result<()> = Err(error).doing(|| format!("starting `{name}`"));
    failed.err().unwrap_or_else(|| Error::failed(format!("starting `{name}`")))
}

fn check(command: &Command, output: Output) -> Result<Output> {
    if output.status.success() {
        return Ok(output);
    }
    Err(failure(command, &format!("ended with {}", output.status), &output.stdout, &output.stderr))
}

/// Explains a program that went wrong: the command, `how` (such as `ended with exit status: 1`) and its last words.
#[must_use]
pub fn failure(command: &Command, how: &str, stdout: &[u8], stderr: &[u8]) -> Error {
    let words = last_words(if stderr.is_empty() { stdout } else { stderr });
    let before = if words.is_empty() { "" } else { ":\n" };
    Error::failed(format!("`{}` {how}{before}{words}", shown(command)))
}

/// Returns the end of what a program printed, for an error.
#[must_use]
pub fn last_words(printed: &[u8]) -> String {
    let words = String::from_utf8_lossy(printed);
    let words = words.trim();
    let from = words.char_indices().rev().nth(LAST_WORDS).map_or(0, |(at, _)| at);
    words[from..].to_owned()
}

/// Writes the command as a person would type it, shortened to one line.
fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
        // The first arguments name the work; a list of a hundred packages would hide the cause.
        if text.len() > 160 {
            text.push_str(" …");
            break;
        }
    }
    text
}

/// A program rekiln uses and the Debian 12 package that has it.
pub const PROGRAMS: &[(&str, &str)] = &[
    ("apt-get", "apt"),
    ("curl", "curl"),
    ("dpkg", "dpkg"),
    ("git", "git"),
    ("haproxy", "haproxy"),
    ("ip", "iproute2"),
    ("mcopy", "mtools"),
    ("mdir", "mtools"),
    ("mkfs.erofs", "erofs-utils"),
    ("mkfs.vfat", "dosfstools"),
    ("objcopy", "binutils"),
    ("pg_basebackup", "postgresql-client-15"),
    ("psql", "postgresql-client-15"),
    ("qemu-img", "qemu-utils"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("sfdisk", "fdisk"),
    ("tar", "tar"),
    ("unshare", "util-linux"),
    ("veritysetup", "cryptsetup-bin"),
    ("zstd", "zstd"),
];

/// Returns the Debian package that has `program`.
#[must_use]
pub fn package_of(program: &str) -> Option<&'static str> {
    PROGRAMS.iter().find(|(name, _)| *name == program).map(|(_, package)| *package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_carries_the_last_words() {
        let error = Command::new("sh").args(["-c", "echo broken >&2; exit 3"]).run().expect_err("it fails");
        assert!(error.chain().contains("broken") && error.chain().contains("exit status: 3"), "{error:?}");
    }

    #[test]
    fn input_larger_than_a_pipe() {
        let input = vec![b'x'; 1 << 20];
        let output = Command::new("cat").run_with_input(&input).expect("cat runs");
        assert_eq!(output.stdout.len(), input.len());
    }

    #[test]
    fn missing_program_is_named() {
        let error = Command::new("no-such-program").run().expect_err("it is missing");
        assert!(error.chain().contains("`no-such-program` is not installed"), "{error:?}");
    }
}

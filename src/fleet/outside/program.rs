//! A program with a limit, which takes everything that it started with it when it ends.

use std::io::{ErrorKind, Read, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::LARGEST;
use crate::error::{Doing as _, Error, Result};
use crate::process::{LAST_WORDS, cannot_start, failure};

/// How many bytes of standard error are kept: [`LAST_WORDS`] characters, of four bytes at most.
const WORDS: usize = 4 * LAST_WORDS;

/// How much is read at once: what a stack has room for.
const CHUNK: usize = 1 << 14;

/// How many chunks are read in a row, in all 1 MiB: no pipe holds more, unless root made it so. Whoever writes faster
/// than we read cannot keep us from looking at the clock.
const CHUNKS: usize = 64;

/// Runs `command`, a program with its arguments, with `input` on its standard input, and returns its standard output.
///
/// When it ends, and when `limit` is over, whatever is left of its process group is killed: nothing of it outlives the
/// call, except what made a session of its own. A program that does not read its input is fine.
///
/// # Errors
/// No program or one that is missing; an exit code other than 0, with the program's last words; the limit; more than
/// 1 MiB of output, and output that is not UTF-8.
pub fn run(command: &[String], input: &[u8], limit: Duration) -> Result<String> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Error::invalid("there is no program in an empty command"));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    let Output { status, stdout, stderr } = finish(&mut command, input, limit)?;
    if !status.success() {
        return Err(failure(&command, &format!("ended with {status}"), &stdout, &stderr));
    }
    String::from_utf8(stdout).doing(|| format!("reading what `{program}` printed"))
}

/// Runs `command` as [`run`] does, and returns how it ended, whatever its exit code. Of standard error, only the end is
/// kept.
///
/// # Errors
/// A missing program, the limit, and too much output.
pub(super) fn finish(command: &mut Command, input: &[u8], limit: Duration) -> Result<Output> {
    // A limit beyond what the clock can count is none.
    let until = Instant::now().checked_add(limit);
    let mut running = Running::start(command)?;
    let end = running.attend(input, until).doing(|| attending(command))?;
    let status = running.end().doing(|| attending(command))?;
    let Running { stdout, stderr, .. } = &mut running;
    let (stdout, stderr) = (std::mem::take(&mut stdout.bytes), std::mem::take(&mut stderr.bytes));
    match (end, status) {
        (End::Exited, Some(status)) => Ok(Output { status, stdout, stderr }),
        (End::TooMuch, _) => Err(failure(command, "printed more than 1 MiB and was killed", b"", &stderr)
            .hint("what is not the answer belongs in a file or a log")),
        _ => Err(failure(command, &format!("was not done after {limit:?} and was killed"), &stdout, &stderr)),
    }
}

fn attending(command: &Command) -> String {
    format!("running `{}`", command.get_program().display())
}

/// Why a program is no longer attended to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It ended by itself.
    Exited,
    /// Its time is over.
    TooLate,
    /// It printed too much.
    TooMuch,
}

/// A program at work; dropped, it is killed.
struct Running {
    /// `None` when it was waited for.
    child: Option<Child>,
    /// Readable when it has ended.
    exit: OwnedFd,
    stdin: Option<ChildStdin>,
    stdout: Printed<ChildStdout>,
    stderr: Printed<ChildStderr>,
}

impl Running {
    fn start(command: &mut Command) -> Result<Self> {
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| cannot_start(command.get_program(), error))?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let exit = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
        let mut child = Some(child);
        let exit = exit.inspect_err(|_| drop(end(&mut child))).doing(|| attending(command))?;
        let (stdout, stderr) = (Printed::new(stdout), Printed::new(stderr));
        let running = Self { child, exit, stdin, stdout, stderr };
        running.never_wait().doing(|| attending(command))?;
        Ok(running)
    }

    /// Lets reading and writing return at once: only [`poll`] waits, as only it has a limit.
    fn never_wait(&self) -> rustix::io::Result<()> {
        self.stdin.as_ref().map_or(Ok(()), |pipe| rustix::io::ioctl_fionbio(pipe, true))?;
        self.stdout.pipe.as_ref().map_or(Ok(()), |pipe| rustix::io::ioctl_fionbio(pipe, true))?;
        self.stderr.pipe.as_ref().map_or(Ok(()), |pipe| rustix::io::ioctl_fionbio(pipe, true))
    }

    /// Writes the input and reads what is printed, until the program ends or must be ended.
    fn attend(&mut self, mut input: &[u8], until: Option<Instant>) -> std::io::Result<End> {
        loop {
            if input.is_empty() {
                self.stdin = None;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let exited = self.wait(left)?;
            if exited {
                // Its children first: what they print from now on is nobody's.
                self.kill();
            }
            if !self.write(&mut input)? {
                self.stdin = None;
            }
            self.stdout.read()?;
            self.stderr.read()?;
            self.stderr.keep_the_end();
            if self.stdout.bytes.len() > LARGEST {
                return Ok(End::TooMuch);
            }
            if exited {
                return Ok(End::Exited);
            }
            if left == Some(Duration::ZERO) {
                return Ok(End::TooLate);
            }
        }
    }

    /// Waits until there is something to do, for `left` at most, and tells whether the program has ended.
    fn wait(&self, left: Option<Duration>) -> std::io::Result<bool> {
        let mut fds = vec![PollFd::new(&self.exit, PollFlags::IN)];
        fds.extend(self.stdin.iter().map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
        fds.extend(self.stdout.pipe.iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        fds.extend(self.stderr.pipe.iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let left = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        match poll(&mut fds, left.as_ref()) {
            Ok(_) => Ok(!fds[0].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what fits, and tells whether the program may want more.
    fn write(&mut self, input: &mut &[u8]) -> std::io::Result<bool> {
        let Some(pipe) = &mut self.stdin else { return Ok(false) };
        while !input.is_empty() {
            match pipe.write(input) {
                Ok(count) => *input = &input[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // It does not read, or no longer.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    fn kill(&self) {
        if let Some(child) = &self.child {
            kill(child);
        }
    }

    fn end(&mut self) -> std::io::Result<Option<ExitStatus>> {
        end(&mut self.child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Kills the process group of `child`. Its number is the child's, which is nobody else's while nobody waited for it.
fn kill(child: &Child) {
    // An error means that there is nobody left.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
}

/// Kills the process group of `child` and waits for the child, once; from then on its number may be another's.
fn end(child: &mut Option<Child>) -> std::io::Result<Option<ExitStatus>> {
    let Some(mut child) = child.take() else { return Ok(None) };
    kill(&child);
    child.wait().map(Some)
}

/// What came out of a pipe.
struct Printed<P> {
    /// `None` when everything came.
    pipe: Option<P>,
    bytes: Vec<u8>,
}

impl<P: Read + AsFd> Printed<P> {
    const fn new(pipe: Option<P>) -> Self {
        Self { pipe, bytes: Vec::new() }
    }

    /// Takes what is there.
    fn read(&mut self) -> std::io::Result<()> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        let mut chunk = [0; CHUNK];
        for _ in 0..CHUNKS {
            match pipe.read(&mut chunk) {
                Ok(0) => {
                    self.pipe = None;
                    return Ok(());
                }
                Ok(count) => self.bytes.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn keep_the_end(&mut self) {
        let surplus = self.bytes.len().saturating_sub(WORDS);
        self.bytes.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than any of these programs takes on a busy machine.
    const AMPLE: Duration = Duration::from_mins(1);

    fn sh(script: &str, input: &[u8], limit: Duration) -> Result<String> {
        run(&["sh".to_owned(), "-c".to_owned(), script.to_owned()], input, limit)
    }

    #[test]
    fn answers() {
        let large = vec![b'x'; LARGEST];
        assert_eq!(sh("cat", &large, AMPLE).expect("it echoes").into_bytes(), large);
        // Neither a program that does not read nor one that closes its output is an error.
        assert_eq!(sh("echo 1; exec >&- 2>&-; sleep 0.1", &large, AMPLE).expect("it ends"), "1\n");
        assert_eq!(sh("yes | head -c 3000000 >&2; echo 1", b"", AMPLE).expect("it talks"), "1\n");
    }

    #[test]
    fn failures() {
        for (script, expected) in [
            ("echo 7; echo broken >&2; exit 3", "ended with exit status: 3:\nbroken"),
            ("echo only this; exit 1", "ended with exit status: 1:\nonly this"),
            ("kill -9 $$", "signal: 9"),
            ("yes", "printed more than 1 MiB and was killed"),
            ("printf '\\377'", "reading what `sh` printed: invalid utf-8"),
        ] {
            let error = sh(script, b"", AMPLE).expect_err(script);
            assert!(error.chain().contains(expected), "{script}: {error:?}");
        }
        let missing = run(&["no-such-program".to_owned()], b"", AMPLE).expect_err("it is missing");
        assert!(missing.chain().contains("`no-such-program` is not installed"), "{missing:?}");
        assert!(run(&[], b"", AMPLE).is_err());
    }

    #[test]
    fn the_limit_ends_all_of_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let pids = dir.path().join("pids");
        let note = format!("echo $$ >> {0}; sh -c 'echo $$ >> {0}; sleep 1000'", pids.display());
        // In the foreground until the limit; and left behind by a program that ends.
        let script = format!("{note}; echo never");
        let error = sh(&format!("echo so far; {script}"), b"", Duration::from_secs(1)).expect_err("too long");
        assert!(error.chain().contains("was not done after 1s and was killed:\nso far"), "{error:?}");
        let left = sh(&format!("({script}) & sleep 0.5; echo 1"), b"", AMPLE);
        assert_eq!(left.expect("it ends"), "1\n");
        let pids = std::fs::read_to_string(&pids).expect("they noted themselves");
        assert_eq!(pids.lines().count(), 4, "{pids}");
        // Whoever outlived it is init's child for a moment after the signal; no longer.
        let alive = |pid: &str| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
        };
        let until = Instant::now() + Duration::from_secs(5);
        while pids.lines().any(alive) {
            assert!(Instant::now() < until, "{pids}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn who_escapes_does_not_hold_us() {
        let start = Instant::now();
        // It keeps the pipes open for longer than the test waits.
        let left = sh("setsid sleep 20 & sleep 0.2; echo 1", b"", AMPLE).expect("it ends");
        assert_eq!(left, "1\n");
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

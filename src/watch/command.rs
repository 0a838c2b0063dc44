//! Do: a job that is a command of rekiln, in a process of its own.
//!
//! # How it can fail
//!
//! * *The watcher is killed*: the kernel ends its commands by SIGTERM (`setpriv --pdeathsig`), on which they stop between two
//!   acts and write so into their journals. Whoever leads next begins them again, and they go on where they stopped.
//! * *The command hangs*: nothing here waits for it but its own thread. What a roll may wait for has a limit of its own.
//! * *It says nothing or nonsense*: only its exit code counts; what it says is for people.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::error::{Doing as _, Error, Result};
use crate::process::cannot_start;

/// How many lines of a command's text are kept for when it says nothing better: the end of a backtrace.
const LINES: usize = 10;

/// The longest line that is looked at: none of ours is longer, but for a rollout of thousands.
const LONGEST: u64 = 1 << 20;

/// What programs return that a signal ended, and more than any of our exit codes.
const SIGNALLED: u8 = 128;

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Its exit code.
    pub code: u8,
    /// Why, when that is not 0; else what it measured, if that is what it is for.
    pub why: Option<String>,
}

/// Asks a command to stop between two acts; safe to call at any time.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    child: Arc<Mutex<Option<Pid>>>,
}

impl Stop {
    /// Asks.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
        if let Some(pid) = *self.child.lock().unwrap_or_else(PoisonError::into_inner) {
            // One that has ended is not waited for yet, so that this is no other process.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Tells whether someone asked.
    #[must_use]
    pub fn asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// Returns what is set when someone asks, for work that is no process.
    #[must_use]
    pub fn flag(&self) -> &AtomicBool {
        &self.asked
    }

    /// Knows the child from now on, and asks it at once where that was before it was there.
    fn of(&self, child: &Child) {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = pid;
        if self.asked() {
            self.ask();
        }
    }

    fn over(&self) {
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Runs `program` with `arguments` and returns how it ended. `said` hears what it says meanwhile.
///
/// The kernel ends it when the calling thread ends: call it on a thread that does nothing else.
///
/// # Errors
/// It cannot be started.
pub fn run(program: &Path, arguments: &[OsString], stop: &Stop, said: impl FnMut(String)) -> Result<End> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| cannot_start(command.get_program(), error))?;
    stop.of(&child);
    let end = attend(&mut child, said);
    // Not waited for before: its number is its own until then.
    stop.over();
    let status = child.wait().doing(|| format!("waiting for `{}`", program.display()));
    let Words { error, text: words, measured } = end?;
    let code = code(status?);
    if code == 0 {
        return Ok(End { code, why: measured });
    }
    let why = error.or_else(|| (!words.is_empty()).then(|| words.join("\n")));
    let why = why.or_else(|| (code > SIGNALLED).then(|| "a signal ended it".to_owned()));
    Ok(End { code, why })
}

fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or_else(|| status.signal().map(|signal| signal + i32::from(SIGNALLED)));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// What a child said.
struct Words {
    error: Option<String>,
    /// The last lines of its text.
    text: Vec<String>,
    measured: Option<String>,
}

/// Reads what a child says until it says no more.
fn attend(child: &mut Child, mut said: impl FnMut(String)) -> Result<Words> {
    let lost = || Error::failed("a command has no output");
    let (stdout, stderr) = (child.stdout.take().ok_or_else(lost)?, child.stderr.take().ok_or_else(lost)?);
    std::thread::scope(|scope| {
        let text = scope.spawn(move || last_lines(stderr));
        let (mut error, mut measured) = (None, None);
        for line in lines(stdout) {
            let Ok(value) = serde_json::from_str::<Value>(&line) else { continue };
            match value.get("event").and_then(Value::as_str) {
                Some("error") => {
                    // With what is wrong in which file, where that is it.
                    let message = value.get("line").or_else(|| value.get("message"));
                    let message = message.and_then(Value::as_str).unwrap_or_default();
                    // The first is what went wrong in one fleet, the last may only sum that up.
                    error.get_or_insert_with(|| message.to_owned());
                    said(message.to_owned());
                }
                Some("killed") => measured = value.get("text").and_then(Value::as_str).map(str::to_owned),
                Some("note") => said(text_of(&value, "text")),
                Some("started" | "finished") => said(text_of(&value, "step")),
                _ => {}
            }
        }
        Ok(Words { error, text: text.join().unwrap_or_default(), measured })
    })
}

/// A line about a scope: `web: 2 launched`.
fn text_of(value: &Value, key: &str) -> String {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    format!("{}: {}", text("scope"), text(key))
}

fn last_lines(stderr: impl Read) -> Vec<String> {
    let mut last = VecDeque::new();
    for line in lines(stderr) {
        last.push_back(line);
        if last.len() > LINES {
            last.pop_front();
        }
    }
    last.into()
}

/// Reads lines, however long and of whatever bytes, and ends at the first that cannot be read.
fn lines(from: impl Read) -> impl Iterator<Item = String> {
    let mut from = BufReader::new(from);
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        let read = from.by_ref().take(LONGEST).read_until(b'\n', &mut line).ok()?;
        (read > 0).then(|| String::from_utf8_lossy(&line).trim_end().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, stop: &Stop) -> (End, Vec<String>) {
        let mut heard = Vec::new();
        let end = run(Path::new("sh"), &["-c".into(), script.into()], stop, |word| {
            heard.push(word);
        });
        (end.expect("it runs"), heard)
    }

    #[test]
    fn what_a_command_says_and_how_it_ends() {
        let said = r#"echo '{"event":"started","scope":"web","step":"bake"}'; echo nonsense; echo '{"event":"rolling"}'
            echo '{"event":"error","message":"fleet web: paused"}'; echo words >&2; exit 3"#;
        let (end, heard) = shell(said, &Stop::default());
        assert_eq!(end, End { code: 3, why: Some("fleet web: paused".to_owned()) });
        assert_eq!(heard, ["web: bake", "fleet web: paused"]);
        for (script, code, why) in [
            ("exit 0", 0, None),
            (
                r#"echo '{"event":"killed","text":"web-2: whole after 9.0 s"}'"#,
                0,
                Some("web-2: whole after 9.0 s"),
            ),
            (r#"echo '{"event":"killed","text":"web-2"}'; echo a >&2; exit 1"#, 1, Some("a")),
            ("echo a >&2; echo b >&2; exit 1", 1, Some("a\nb")),
            ("kill -KILL $$", 137, Some("a signal ended it")),
            ("printf '\\377\\n'; exit 0", 0, None),
        ] {
            let (end, _) = shell(script, &Stop::default());
            assert_eq!(end, End { code, why: why.map(str::to_owned) }, "{script}");
        }
    }

    #[test]
    fn it_is_stopped_whenever_that_is_asked() {
        let before = Stop::default();
        before.ask();
        let script = "trap 'exit 130' TERM; echo '{\"event\":\"note\",\"scope\":\"s\",\"text\":\"t\"}'; while :; do sleep 0.05; done";
        // Before the shell set its trap, the signal ends it; after that, the trap does.
        assert!([130, 143].contains(&shell(script, &before).0.code));
        let stop = Stop::default();
        let asks = stop.clone();
        let end = run(Path::new("sh"), &["-c".into(), script.into()], &stop, move |_| asks.ask());
        assert_eq!(end.expect("it runs").code, 130);
    }
}

//! The agent: says on a serial port what it sees in the running system.

use std::fs::File;
use std::io::Write;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::cmdline::Identity;
use crate::report::{self, Report};
use crate::say;

/// How often terminals are looked for: a session that a person works in lasts longer.
const LOOK: Duration = Duration::from_secs(2);
/// How often systemd is asked, which costs a process, and how often a line is written though nothing changed.
const EVERY: Duration = Duration::from_mins(1);
/// How often systemd is asked before the system is ready.
const STARTING: Duration = Duration::from_secs(1);
/// What stands before a line that goes to the console for lack of a second serial port.
const PREFIX: &str = "rekiln-agent: ";

/// Reports for as long as the system runs.
pub fn run() -> ExitCode {
    let own = match Identity::read() {
        Ok(own) => own,
        Err(error) => {
            say(&error);
            return ExitCode::FAILURE;
        }
    };
    let mut port = Port::open();
    let mut last = None;
    let mut said = Instant::now();
    let mut asked = None::<Instant>;
    let mut now = Report::default();
    loop {
        let pause = if now.ready { EVERY } else { STARTING };
        if asked.is_none_or(|asked| asked.elapsed() >= pause) {
            now.ready = report::is_ready();
            now.failed_units = if now.ready { report::failed_units() } else { Vec::new() };
            asked = Some(Instant::now());
        }
        now.listening = report::listening();
        // Once touched, always touched: who had a shell may have left anything behind.
        if now.touched.is_none() && !own.debug {
            now.touched = report::touched();
        }
        if last.as_ref() != Some(&now) || said.elapsed() >= EVERY {
            port.say(&now.json(&own.image, &own.roothash, report::uptime()));
            last = Some(now.clone());
            said = Instant::now();
        }
        sleep(if now.ready { LOOK } else { STARTING });
    }
}

/// Where the lines go.
enum Port {
    /// A serial port of our own.
    Own(File),
    /// The console, shared with everyone, or nothing.
    Console(Option<File>),
}

impl Port {
    /// Opens the second serial port if there is one. The driver makes nodes for ports that do not exist;
    /// writing to those fails, and so an empty line is tried first.
    fn open() -> Self {
        let write = |path| File::options().write(true).open(path);
        match write("/dev/ttyS1") {
            Ok(own) if (&own).write_all(b"\n").is_ok() => Self::Own(own),
            _ => Self::Console(write("/dev/console").ok()),
        }
    }

    /// Writes one line. A port that does not take it is no reason to stop looking.
    fn say(&mut self, line: &str) {
        let _ = match self {
            Self::Own(file) => file.write_all(format!("{line}\n").as_bytes()),
            Self::Console(Some(file)) => file.write_all(format!("{PREFIX}{line}\n").as_bytes()),
            Self::Console(None) => Ok(()),
        };
    }
}

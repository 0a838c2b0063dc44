//! The program inside a rekiln image.
//!
//! One static file, two lives. As `/init` of the initrd it loads modules, opens the verity device, mounts the
//! layers and hands over to systemd ([`init`]). As `/usr/lib/rekiln/guest agent` it runs in the finished system
//! and says on a serial port what it sees ([`agent`]). It takes no input from outside and opens no socket.

use std::io::Write as _;

mod agent;
mod cmdline;
mod init;
mod modules;
mod mounts;
mod report;
mod verity;

fn main() -> std::process::ExitCode {
    if std::process::id() == 1 {
        init::run();
    }
    if std::env::args().nth(1).as_deref() == Some("agent") {
        return agent::run();
    }
    say("usage: guest agent (or as /init of an initrd)");
    std::process::ExitCode::from(2)
}

/// Writes a line for people. A console that is gone must not stop a boot, so failures are ignored.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "rekiln: {text}");
}

/// What was being done, and why it failed.
type Result<T> = std::result::Result<T, String>;

/// Puts what was being done before an error.
trait Doing<T> {
    /// Turns the error into `<doing>: <error>`.
    fn doing(self, doing: &str) -> Result<T>;
}

impl<T, E: std::fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: &str) -> Result<T> {
        self.map_err(|error| format!("{doing}: {error}"))
    }
}

//! Who writes a journal, and whether they still live.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::process::start_time;

/// How long a writer on another host counts as alive after its last word, longer than any act between two
/// entries. On this host the process itself is looked at.
const LEASE: SignedDuration = SignedDuration::from_secs(120);

/// How often who has a journal says that it lives, where others may only hear of it there: several times within that, so
/// that neither a slow call nor clocks that differ by a minute make it look dead.
pub(super) const HEARTBEAT: SignedDuration = SignedDuration::from_secs(20);

/// Who writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    /// Host name.
    pub host: String,
    /// Process number.
    pub pid: u32,
    /// When the process started, in clock ticks since the host's start: a used-again number is no impostor.
    pub started: u64,
    /// The command.
    pub command: String,
}

impl Writer {
    /// Returns this process.
    #[must_use]
    pub fn this(command: impl Into<String>) -> Self {
        let pid = std::process::id();
        Self { host: host(), pid, started: start_time(pid).unwrap_or(0), command: command.into() }
    }

    /// Tells whether it may still write, having last been heard of at `at`.
    pub(super) fn lives(&self, at: Timestamp, now: Timestamp) -> bool {
        match self.gone_at(at) {
            None => start_time(self.pid) == Some(self.started),
            Some(gone) => now < gone,
        }
    }

    /// Returns when it counts as gone, having last been heard of at `at`; `None` on this host, where one can look.
    pub(super) fn gone_at(&self, at: Timestamp) -> Option<Timestamp> {
        (self.host != host()).then(|| at + LEASE)
    }
}

/// That a roller lived at some time: a soak has no entries for longer than others wait for a word of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Heartbeat {
    pub(super) by: Writer,
    pub(super) at: Timestamp,
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

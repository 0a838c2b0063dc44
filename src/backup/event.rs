//! What is said of the backups of a fleet, one thing at a time.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::memory::Backups;
use crate::chain::{Chain, Says};
use crate::digest::{Digest, ImageId};
use crate::fleet::census::InstanceId;

/// The journal of a fleet's backups, beside them: `backups/<fleet>/<number>.json` at the target. Who has it takes, proves
/// and removes them; a second process waits, whichever computer it is on.
pub type Journal = Chain<Event>;

/// Which backup: when it began, to the second, such as `20261129T222013Z`. So names sort as times.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BackupId(pub String);

impl BackupId {
    /// Returns the name of one that begins at `now`.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self(now.strftime("%Y%m%dT%H%M%SZ").to_string())
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A backup that is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// The digest of all of it.
    pub sha256: Digest,
    /// Bytes that are kept.
    pub bytes: u64,
    /// In how many objects, numbered from 1.
    pub parts: u32,
    /// How long it took.
    pub took: SignedDuration,
}

/// A restore that answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// How long the fresh machine took until it asked for the backup.
    pub boot: SignedDuration,
    /// How long it took from there until the database took writes: the way over the network, unpacking, checking each
    /// file, and starting. The 30-minute rule is about this.
    pub restore: SignedDuration,
    /// How many rows the query returned.
    pub rows: u64,
    /// The first value of the first, cut to what fits a line.
    pub first: String,
    /// How large the restored database is, in bytes, where it says so.
    pub data: Option<u64>,
}

/// One thing that the journal says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// A process works at them.
    Opened,
    /// One is about to be taken.
    Begun {
        /// Which.
        id: BackupId,
        /// The member that it is copied from.
        source: InstanceId,
        /// The image that the member runs; it is restored into a machine of the same.
        image: ImageId,
    },
    /// It is whole, and does not count yet.
    Taken {
        /// Which.
        id: BackupId,
        /// What it is.
        #[serde(flatten)]
        taken: Taken,
    },
    /// It is about to be restored into a fresh machine.
    Tried {
        /// Which.
        id: BackupId,
    },
    /// It was restored and answered: from now on it counts.
    Proved {
        /// Which.
        id: BackupId,
        /// What was measured.
        #[serde(flatten)]
        proof: Proof,
    },
    /// It could not be taken, or did not answer: it does not count.
    Failed {
        /// Which.
        id: BackupId,
        /// Why.
        why: String,
    },
    /// What is kept of it is about to be removed.
    Removed {
        /// Which.
        id: BackupId,
        /// Why.
        why: String,
    },
    /// The process has ended in order.
    Closed,
}

impl Says for Event {
    type Sum = Backups;

    const FOLDER: &'static str = "backups";

    // A directory may be one that several computers share: it is none of this computer's, where people took care.
    const BEATS: bool = true;

    fn about(name: &str) -> String {
        format!("the backups of {name}")
    }

    fn add(&self, sum: &mut Backups, at: Timestamp) {
        sum.add(at, self);
    }

    fn is_command(&self) -> bool {
        false
    }

    fn ends(&self) -> bool {
        matches!(self, Self::Closed)
    }
}

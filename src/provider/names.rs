//! Which names of instances were given up: what was ended is not launched any more, however late a launch comes.
//!
//! A process that has lost the journal may still be about to do what it had written before. Whoever has the journal
//! now ends what was begun, finds nothing, and goes on; then the late launch must not make what nobody knows of.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::retry_on_intr;

use crate::error::{Doing as _, Result};
use crate::fleet::census::InstanceId;

/// The directory of one fleet that has a file for each name that was given up; no instance is called so.
pub(in crate::provider) const ENDED: &str = "ended";

/// How long a name is remembered. Names are never used again on purpose; no launch is late by a day.
const REMEMBERED: Duration = Duration::from_hours(24);

/// The names of one fleet. While a value of this type lives, no other process takes or gives up a name; it must not live
/// for longer than it takes to write a file.
pub(in crate::provider) struct Names {
    dir: PathBuf,
    /// Keeps the lock, which the kernel ends with the process.
    _lock: File,
}

impl Names {
    /// Waits for the names of the fleet that has its records in `fleet`.
    ///
    /// # Errors
    /// The store cannot be written.
    pub(in crate::provider) fn of(fleet: &Path) -> Result<Self> {
        let dir = fleet.join(ENDED);
        let doing = || format!("locking the names in {}", dir.display());
        fs::create_dir_all(&dir).doing(doing)?;
        let lock = File::open(&dir).doing(doing)?;
        retry_on_intr(|| flock(&lock, FlockOperation::LockExclusive)).doing(doing)?;
        Ok(Self { dir, _lock: lock })
    }

    /// Tells whether a name was given up.
    pub(in crate::provider) fn is_ended(&self, id: &InstanceId) -> bool {
        self.dir.join(&id.0).exists()
    }

    /// Gives a name up, and forgets those that were given up a day ago.
    ///
    /// # Errors
    /// The store cannot be written.
    pub(in crate::provider) fn end(&self, id: &InstanceId) -> Result<()> {
        let file = self.dir.join(&id.0);
        File::create(&file).doing(|| format!("writing {}", file.display()))?;
        let entries = fs::read_dir(&self.dir).doing(|| format!("reading {}", self.dir.display()))?;
        for entry in entries.flatten() {
            let age =
                entry.metadata().and_then(|found| found.modified()).ok().and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age > REMEMBERED) {
                fs::remove_file(entry.path()).doing(|| format!("removing {}", entry.path().display()))?;
            }
        }
        Ok(())
    }
}

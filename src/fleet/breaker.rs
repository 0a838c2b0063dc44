//! The circuit breaker: after some failed rollouts within a time, whichever fleets they were of, nothing voluntary
//! begins until a person clears it.

use std::fs;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::atomic_write::atomic_write;
use crate::digest::ImageId;
use crate::error::{Doing as _, Result};
use crate::store::Store;

/// One failed rollout: `breaker/<fleet>-<entry>.json` in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The fleet.
    pub fleet: String,
    /// The image that was rolled out.
    pub image: ImageId,
    /// Why it failed.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// Says why nothing voluntary may begin: so many failures lie within such a time of each other, however long ago. Time
/// alone closes nothing; a person does.
#[must_use]
pub fn tripped(failures: &[Failure], most: usize, within: SignedDuration) -> Option<String> {
    if most == 0 {
        return None;
    }
    let mut failures: Vec<&Failure> = failures.iter().collect();
    failures.sort_by_key(|failure| failure.at);
    let close = failures.windows(most).find(|some| some[most - 1].at.duration_since(some[0].at) <= within)?;
    let which: Vec<_> = close.iter().map(|f| format!("{} to {}", f.fleet, f.image.short())).collect();
    Some(format!("{most} rollouts failed within {within:#}: {}", which.join(", ")))
}

/// The failures that a store remembers.
#[derive(Debug, Clone)]
pub struct Failures {
    dir: PathBuf,
}

impl Failures {
    /// Opens those of a store.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        Self { dir: store.root().join("breaker") }
    }

    /// Remembers that the rollout which began with an entry of the fleet's journal failed. Safe to repeat.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn add(&self, rollout: u64, failure: &Failure) -> Result<()> {
        fs::create_dir_all(&self.dir).doing(|| format!("creating {}", self.dir.display()))?;
        let text = serde_json::to_vec_pretty(failure).doing(|| "describing a failed rollout")?;
        atomic_write(&self.dir.join(format!("{}-{rollout}.json", failure.fleet)), &text)
    }

    /// Returns all, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(&self) -> Result<Vec<Failure>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir).into_iter().flatten() {
            let path = entry.doing(|| "listing failed rollouts")?.path();
            if path.extension().is_some_and(|end| end == "json") {
                let doing = || format!("reading {}", path.display());
                let failure: Failure = serde_json::from_slice(&fs::read(&path).doing(doing)?).doing(doing)?;
                all.push(failure);
            }
        }
        all.sort_by(|a, b| a.at.cmp(&b.at).then(a.fleet.cmp(&b.fleet)));
        Ok(all)
    }

    /// Forgets all of them and returns how many there were.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn clear(&self) -> Result<usize> {
        let count = self.list()?.len();
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).doing(|| "clearing the circuit breaker")
            }
            _ => Ok(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn failure(fleet: &str, minute: i64) -> Failure {
        let at = Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minute);
        Failure { fleet: fleet.to_owned(), image: Digest::of(b"x"), reason: "a test".to_owned(), at }
    }

    #[test]
    fn so_many_within_a_time() {
        let hour = SignedDuration::from_hours(1);
        for (minutes, most, open) in [
            (&[][..], 1, false),
            (&[0], 1, true),
            (&[0, 30], 3, false),
            (&[0, 30, 60], 3, true),
            (&[0, 30, 61], 3, false),
            // Order does not matter, nor what is far away.
            (&[1000, 0, 1030, 1060], 3, true),
            (&[0, 1, 2], 0, false),
        ] {
            let failures: Vec<_> = minutes.iter().map(|minute| failure("web", *minute)).collect();
            assert_eq!(tripped(&failures, most, hour).is_some(), open, "{minutes:?} {most}");
        }
    }

    #[test]
    fn a_rollout_fails_once_and_all_are_cleared_together() {
        let dir = tempfile::tempdir().expect("a directory");
        let failures = Failures::new(&Store::open(&dir.path().display().to_string()).expect("a store"));
        assert_eq!(failures.list().expect("listed"), []);
        for rollout in [7, 7, 9] {
            failures.add(rollout, &failure("web", 1)).expect("added");
        }
        failures.add(7, &failure("db", 0)).expect("added");
        let fleets: Vec<_> = failures.list().expect("listed").into_iter().map(|f| f.fleet).collect();
        assert_eq!(fleets, ["db", "web", "web"]);
        assert_eq!(failures.clear().expect("cleared"), 3);
        assert_eq!(failures.clear().expect("nothing there"), 0);
    }
}

//! The circuit breaker: after some failed rollouts within a time, whichever fleets they were of, nothing voluntary
//! begins until a person clears it.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Breaker;
use super::policy::duration;
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

/// As [`tripped`], with what a fleet file says.
///
/// # Errors
/// A time that does not read.
pub fn open_by(breaker: &Breaker, failures: &[Failure]) -> Result<Option<String>> {
    Ok(tripped(failures, breaker.failures as usize, within(breaker)?))
}

/// Returns the time within which failures count together.
///
/// # Errors
/// A time that does not read.
pub fn within(breaker: &Breaker) -> Result<SignedDuration> {
    duration("roll.breaker.within", &breaker.within)
}

/// That a person cleared the breaker: `breaker/cleared/<time>.json` in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleared {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
    /// What was forgotten.
    pub failures: Vec<Failure>,
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
        let mut all: Vec<Failure> = self.files()?.iter().map(|file| read(file)).collect::<Result<_>>()?;
        all.sort_by(|a, b| a.at.cmp(&b.at).then(a.fleet.cmp(&b.fleet)));
        Ok(all)
    }

    /// Forgets all of them and returns how many there were; who asks later finds when and why. Safe to repeat.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn clear(&self, reason: &str, at: Timestamp) -> Result<usize> {
        let files = self.files()?;
        if files.is_empty() {
            return Ok(0);
        }
        let cleared = Cleared { at, reason: reason.to_owned(), failures: self.list()? };
        let dir = self.cleared();
        fs::create_dir_all(&dir).doing(|| format!("creating {}", dir.display()))?;
        let text = serde_json::to_vec_pretty(&cleared).doing(|| "describing what is cleared")?;
        // Written before anything is forgotten: nothing is lost in between.
        atomic_write(&dir.join(format!("{:020}.json", at.as_millisecond())), &text)?;
        for file in &files {
            fs::remove_file(file).doing(|| format!("removing {}", file.display()))?;
        }
        Ok(files.len())
    }

    /// Returns when it was cleared last, and why; `None` when it never was.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn last_cleared(&self) -> Result<Option<Cleared>> {
        let newest = json_files(&self.cleared())?.into_iter().max();
        newest.as_deref().map(read).transpose()
    }

    fn cleared(&self) -> PathBuf {
        self.dir.join("cleared")
    }

    fn files(&self) -> Result<Vec<PathBuf>> {
        json_files(&self.dir)
    }
}

/// Returns the files of a directory that need not be there.
fn json_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.doing(|| "listing failed rollouts")?.path();
        if path.extension().is_some_and(|end| end == "json") {
            files.push(path);
        }
    }
    Ok(files)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let doing = || format!("reading {}", path.display());
    serde_json::from_slice(&fs::read(path).doing(doing)?).doing(doing)
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
        assert_eq!(failures.last_cleared().expect("read"), None);
        let at = Timestamp::UNIX_EPOCH;
        assert_eq!(failures.clear("found it", at).expect("cleared"), 3);
        assert_eq!(failures.list().expect("listed"), []);
        assert_eq!(failures.clear("again", at).expect("nothing there"), 0);
        let cleared = failures.last_cleared().expect("read").expect("it was");
        assert_eq!((cleared.reason.as_str(), cleared.failures.len()), ("found it", 3));
    }
}

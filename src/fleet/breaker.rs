//! The circuit breaker: after some failed rollouts within a time, whichever fleets they were of, nothing voluntary
//! begins until a person clears it.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Breaker;
use super::policy::duration;
use crate::digest::ImageId;
use crate::error::{Doing as _, Result};
use crate::objects::Objects;

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

/// The failures that are remembered, in one place or in several at once.
#[derive(Debug, Clone)]
pub struct Failures {
    places: Vec<Objects>,
}

impl Failures {
    /// Those of these places: a store, and buckets that several computers share.
    #[must_use]
    pub fn new(places: &[Objects]) -> Self {
        Self { places: places.iter().map(|place| place.under("breaker")).collect() }
    }

    /// Remembers that the rollout which began with an entry of the fleet's journal failed. Safe to repeat.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn add(&self, rollout: u64, failure: &Failure) -> Result<()> {
        let text = serde_json::to_vec_pretty(failure).doing(|| "describing a failed rollout")?;
        for place in &self.places {
            place.write(&format!("{}-{rollout}.json", failure.fleet), &text).await?;
        }
        Ok(())
    }

    /// Returns all, oldest first.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn list(&self) -> Result<Vec<Failure>> {
        let mut all: BTreeMap<String, Failure> = BTreeMap::new();
        for place in &self.places {
            for name in names(place).await? {
                // One that was cleared meanwhile is not there.
                if let Some(failure) = place.read_json(&name).await? {
                    all.insert(name, failure);
                }
            }
        }
        let mut all: Vec<_> = all.into_values().collect();
        all.sort_by(|a, b| a.at.cmp(&b.at).then(a.fleet.cmp(&b.fleet)));
        Ok(all)
    }

    /// Forgets all of them and returns how many there were; who asks later finds when and why. Safe to repeat.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn clear(&self, reason: &str, at: Timestamp) -> Result<usize> {
        let failures = self.list().await?;
        if failures.is_empty() {
            return Ok(0);
        }
        let count = failures.len();
        let cleared = Cleared { at, reason: reason.to_owned(), failures };
        let text = serde_json::to_vec_pretty(&cleared).doing(|| "describing what is cleared")?;
        for place in &self.places {
            // Written before anything is forgotten: nothing is lost in between.
            place.under(CLEARED).write(&format!("{:020}.json", at.as_millisecond()), &text).await?;
            for name in names(place).await? {
                place.remove(&name).await?;
            }
        }
        Ok(count)
    }

    /// Returns when it was cleared last, and why; `None` when it never was.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn last_cleared(&self) -> Result<Option<Cleared>> {
        let mut last: Option<Cleared> = None;
        for place in self.places.iter().map(|place| place.under(CLEARED)) {
            if let Some(name) = names(&place).await?.into_iter().max() {
                let cleared: Option<Cleared> = place.read_json(&name).await?;
                last = last.into_iter().chain(cleared).max_by_key(|cleared| cleared.at);
            }
        }
        Ok(last)
    }
}

/// Where it is kept what was cleared.
const CLEARED: &str = "cleared";

async fn names(place: &Objects) -> Result<Vec<String>> {
    let names = place.list().await?.into_iter().map(|listed| listed.name);
    Ok(names.filter(|name| Path::new(name).extension().is_some_and(|end| end == "json")).collect())
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

    #[tokio::test]
    async fn a_rollout_fails_once_and_all_are_cleared_together() {
        let dir = tempfile::tempdir().expect("a directory");
        let places = ["here", "there"].map(|name| Objects::Directory(dir.path().join(name)));
        let failures = Failures::new(&places);
        assert_eq!(failures.list().await.expect("listed"), []);
        for rollout in [7, 7, 9] {
            failures.add(rollout, &failure("web", 1)).await.expect("added");
        }
        failures.add(7, &failure("db", 0)).await.expect("added");
        let fleets: Vec<_> = failures.list().await.expect("listed").into_iter().map(|f| f.fleet).collect();
        assert_eq!(fleets, ["db", "web", "web"]);
        assert_eq!(failures.last_cleared().await.expect("read"), None);
        let at = Timestamp::UNIX_EPOCH;
        assert_eq!(failures.clear("found it", at).await.expect("cleared"), 3);
        assert_eq!(failures.list().await.expect("listed"), []);
        assert_eq!(failures.clear("again", at).await.expect("nothing there"), 0);
        let cleared = failures.last_cleared().await.expect("read").expect("it was");
        assert_eq!((cleared.reason.as_str(), cleared.failures.len()), ("found it", 3));
    }
}

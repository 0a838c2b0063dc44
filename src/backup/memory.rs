//! Decide: what the journal of a fleet's backups adds up to, and what follows from it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::event::{BackupId, Event, Proof, Taken};
use crate::digest::ImageId;
use crate::fleet::census::{Census, Health, Instance, InstanceId, State as Is};
use crate::fleet::cluster::Role;
use crate::fleet::moment::lasting;

/// What the words about one that failed have before the reason.
pub const FAILED: &str = " failed: ";

/// The fold of a journal: every backup that is kept, and those that failed since the last proved one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backups {
    all: BTreeMap<BackupId, Backup>,
    /// The newest name that was ever used.
    newest: Option<BackupId>,
}

/// One backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// When it began: what was written later is not in it.
    pub begun: Timestamp,
    /// The member that it was copied from.
    pub source: InstanceId,
    /// The image that the member ran.
    pub image: ImageId,
    /// What is kept of it, once it is whole.
    pub taken: Option<Taken>,
    /// How far it is.
    pub state: State,
    /// Whether it is no longer kept.
    pub removed: bool,
}

/// How far a backup is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is being taken.
    Begun,
    /// It is whole.
    Taken,
    /// It is being restored.
    Tried,
    /// It was restored and answered.
    Proved {
        /// When.
        at: Timestamp,
        /// What was measured.
        proof: Proof,
    },
    /// It could not be taken, or did not answer.
    Failed {
        /// When.
        at: Timestamp,
        /// Why.
        why: String,
    },
}

impl Backup {
    /// Tells whether it could be restored.
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        self.taken.is_some() && !self.removed
    }

    /// Returns when it was proved and what was measured, while it counts.
    #[must_use]
    pub const fn proved(&self) -> Option<(Timestamp, &Proof)> {
        match &self.state {
            State::Proved { at, proof } if self.is_kept() => Some((*at, proof)),
            _ => None,
        }
    }
}

impl Backups {
    /// Adds the next event.
    pub fn add(&mut self, at: Timestamp, event: &Event) {
        let (id, state) = match event {
            Event::Opened | Event::Closed => return,
            Event::Begun { id, source, image } => {
                let (source, image) = (source.clone(), *image);
                let begun =
                    Backup { begun: at, source, image, taken: None, state: State::Begun, removed: false };
                self.all.insert(id.clone(), begun);
                self.newest = self.newest.take().max(Some(id.clone()));
                return;
            }
            Event::Taken { id, taken } => {
                if let Some(backup) = self.all.get_mut(id) {
                    backup.taken = Some(taken.clone());
                }
                (id, State::Taken)
            }
            Event::Tried { id } => (id, State::Tried),
            Event::Proved { id, proof } => (id, State::Proved { at, proof: proof.clone() }),
            Event::Failed { id, why } => (id, State::Failed { at, why: why.clone() }),
            Event::Removed { id, .. } => {
                if let Some(backup) = self.all.get_mut(id) {
                    backup.removed = true;
                }
                return self.forget();
            }
        };
        if let Some(backup) = self.all.get_mut(id) {
            backup.state = state;
        }
        self.forget();
    }

    /// What failed before the last proved one, and is not kept, is of no interest to anyone.
    fn forget(&mut self) {
        let Some(last) = self.proved().map(|(id, _, _)| id.clone()) else { return };
        self.all.retain(|id, backup| *id >= last || backup.is_kept());
    }

    /// Returns all, the oldest first.
    #[must_use]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&BackupId, &Backup)> {
        self.all.iter()
    }

    /// Returns one.
    #[must_use]
    pub fn get(&self, id: &BackupId) -> Option<&Backup> {
        self.all.get(id)
    }

    /// Returns the last one that counts, with what was measured.
    #[must_use]
    pub fn proved(&self) -> Option<(&BackupId, &Backup, &Proof)> {
        self.all.iter().rev().find_map(|(id, backup)| Some((id, backup, backup.proved()?.1)))
    }

    /// Returns those that failed after the last one that counts, with why and when; the oldest first.
    pub fn failed(&self) -> impl Iterator<Item = (&BackupId, Timestamp, &str)> {
        let last = self.proved().map(|(id, _, _)| id);
        self.all.iter().filter(move |(id, _)| last.is_none_or(|last| *id > last)).filter_map(
            |(id, backup)| match &backup.state {
                State::Failed { at, why } => Some((id, *at, why.as_str())),
                _ => None,
            },
        )
    }

    /// Returns a name for one that begins at `now`: later than any before it, whatever the clock did since.
    #[must_use]
    pub fn name(&self, now: Timestamp) -> BackupId {
        let mut at = now;
        while self.newest.as_ref().is_some_and(|newest| BackupId::at(at) <= *newest) {
            at += SignedDuration::from_secs(1);
        }
        BackupId::at(at)
    }

    /// Returns those that a process began and whose end nobody wrote: once no process works at them, it was killed.
    #[must_use]
    pub fn unfinished(&self) -> Vec<BackupId> {
        let open = |backup: &Backup| matches!(backup.state, State::Begun | State::Tried);
        self.all.iter().filter(|(_, backup)| open(backup)).map(|(id, _)| id.clone()).collect()
    }

    /// Returns those that are kept and need not be, with why: proved ones beyond `keep`, and others that are older than
    /// the last proved one. The last proved one is never among them.
    #[must_use]
    pub fn surplus(&self, keep: usize) -> Vec<(BackupId, String)> {
        let Some((last, ..)) = self.proved() else { return Vec::new() };
        let kept = || self.all.iter().filter(|(_, backup)| backup.is_kept());
        let proved = kept().rev().filter(|(_, backup)| backup.proved().is_some()).skip(keep.max(1));
        let why = format!("{keep} newer ones are proved");
        let mut surplus: Vec<_> = proved.map(|(id, _)| (id.clone(), why.clone())).collect();
        let void = kept().filter(|(id, backup)| *id < last && backup.proved().is_none());
        surplus.extend(void.map(|(id, _)| (id.clone(), "it is not proved, and a newer one is".to_owned())));
        surplus.sort();
        surplus
    }
}

/// Returns since when the last proved backup is too old to rely on: twice as old as it should become. `None` while it is not;
/// without one, the epoch.
#[must_use]
pub fn overdue(last: Option<Timestamp>, every: SignedDuration, now: Timestamp) -> Option<Timestamp> {
    let since =
        last.map_or(Timestamp::UNIX_EPOCH, |last| last.saturating_add(every * 2).unwrap_or(Timestamp::MAX));
    (now > since).then_some(since)
}

/// Says what is wrong with the backups of a fleet; `None` where nothing is.
#[must_use]
pub fn lacks(backups: &Backups, every: SignedDuration, now: Timestamp) -> Option<String> {
    let last = backups.proved().map(|(_, backup, _)| backup.begun);
    let old = overdue(last, every, now).map(|_| match last {
        Some(last) => format!("the last backup that counts is {} old", lasting(now.duration_since(last))),
        None => "no backup counts: none was restored and answered yet".to_owned(),
    });
    let failed = backups
        .failed()
        .last()
        .map(|(id, _, why)| format!("backup {id}{FAILED}{}", why.lines().next().unwrap_or_default()));
    let both: Vec<_> = old.into_iter().chain(failed).collect();
    (!both.is_empty()).then(|| both.join("; "))
}

/// Chooses the member that a backup is copied from: one that has all data and does not lead, a synchronous one first; the
/// leader where there is no other. Of several alike, the oldest.
///
/// # Errors
/// Nobody would do; why.
pub fn source(census: &Census) -> Result<&InstanceId, String> {
    let rank = |seen: &Instance| {
        if seen.state != Is::Running || seen.health != Health::Healthy || !seen.has_all() {
            return None;
        }
        match seen.membership.as_ref()?.role {
            Role::Synchronous => Some(0),
            Role::Replica => Some(1),
            Role::Leader => Some(2),
            Role::Joining => None,
        }
    };
    let found =
        census.instances.iter().filter_map(|seen| Some((rank(seen)?, seen.id.number(), &seen.id))).min();
    found.map(|(_, _, id)| id).ok_or_else(|| match census.instances.len() {
        0 => "it has no members".to_owned(),
        count => format!("none of its {count} members is healthy and has all data"),
    })
}

/// Tells whether what the query returned is what the fleet file wants.
///
/// # Errors
/// It is not; why.
pub fn judge(rows: &[Vec<String>], at_least: Option<i64>) -> Result<(), String> {
    let Some(first) = rows.first() else { return Err("the query returned no row".to_owned()) };
    let Some(least) = at_least else { return Ok(()) };
    let value = first.first().map(String::as_str).unwrap_or_default();
    // A sum of PostgreSQL's is a `numeric`, which may have digits after the point.
    match value.parse::<f64>() {
        #[expect(clippy::cast_precision_loss, reason = "nobody counts beyond 2^53, and then by one")]
        Ok(number) if number >= least as f64 => Ok(()),
        Ok(_) => Err(format!("the query returned {value}, and {least} is the least that is good")),
        Err(_) => Err(format!("the query returned `{value}`, which is no number, and `at_least` wants one")),
    }
}

#[cfg(test)]
mod tests;

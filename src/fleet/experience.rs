//! Decide: how long the steps of a replacement took in a fleet's rollouts so far.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::census::InstanceId;
use super::history::Event;
use super::journal::Entry;
use crate::provider::{Action, Outcome};

/// So many of the last steps of a kind count: enough that one slow boot moves no median, and few enough that what last
/// year's machines took is forgotten.
const LAST: usize = 100;

/// A step of a replacement that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// From the launch until it served.
    Start(SignedDuration),
    /// From the drain until it was ended.
    Drain(SignedDuration),
}

/// How long one kind of step took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Spell {
    /// How many there were, from 1.
    pub count: usize,
    /// As long as half of them at most; in whole milliseconds.
    #[serde(serialize_with = "seconds")]
    pub median: SignedDuration,
    /// The longest.
    #[serde(serialize_with = "seconds")]
    pub worst: SignedDuration,
}

/// For machines durations are seconds, as everywhere in rekiln's JSON.
pub(super) fn seconds<S: serde::Serializer>(time: &SignedDuration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

impl Spell {
    /// Sums up; `None` when there is nothing to sum up.
    #[must_use]
    pub fn of(times: impl IntoIterator<Item = SignedDuration>) -> Option<Self> {
        let mut times: Vec<_> = times.into_iter().collect();
        times.sort_unstable();
        // Of an even number the lower one of the middle: a time that was really taken.
        let median = *times.get(times.len().saturating_sub(1) / 2)?;
        let worst = *times.last()?;
        Some(Self { count: times.len(), median, worst })
    }
}

/// What a journal says about how long things take. Equal journals give equal experience.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Experience {
    launched: BTreeMap<InstanceId, Timestamp>,
    drained: BTreeMap<InstanceId, Timestamp>,
    starts: VecDeque<SignedDuration>,
    drains: VecDeque<SignedDuration>,
}

impl Experience {
    /// Folds a journal, oldest entry first.
    #[must_use]
    pub fn of(entries: &[Entry]) -> Self {
        let mut experience = Self::default();
        for entry in entries {
            experience.add(entry.at, &entry.event);
        }
        experience
    }

    /// Adds the next event, and returns the step that ended with it. What failed, was interrupted or lies across a
    /// clock that went back says nothing about how long it takes.
    pub fn add(&mut self, at: Timestamp, event: &Event) -> Option<Step> {
        match event {
            Event::Intent { action: Action::Launch { id, .. } } => {
                self.launched.insert(id.clone(), at);
            }
            Event::Intent { action: Action::Drain { id, .. } } => {
                self.drained.insert(id.clone(), at);
            }
            Event::Failed { instance, .. } => {
                self.launched.remove(instance);
            }
            Event::Serving { instance } => {
                let took = since(self.launched.remove(instance)?, at)?;
                keep(&mut self.starts, took);
                return Some(Step::Start(took));
            }
            Event::Outcome { action: Action::Drain { id, .. }, result: Ok(Outcome::Refused { .. }) } => {
                self.drained.remove(id);
            }
            Event::Outcome {
                action: Action::Terminate { id, healthy, .. },
                result: Ok(Outcome::Applied | Outcome::AlreadyDone | Outcome::Ended),
            } => {
                self.launched.remove(id);
                let took = since(self.drained.remove(id)?, at).filter(|_| *healthy)?;
                keep(&mut self.drains, took);
                return Some(Step::Drain(took));
            }
            Event::Down => (self.launched, self.drained) = Default::default(),
            _ => {}
        }
        None
    }

    /// Returns how long the last launches took to serve; `None` when none is on record.
    #[must_use]
    pub fn start(&self) -> Option<Spell> {
        Spell::of(self.starts.iter().copied())
    }

    /// Returns how long the last drains took; `None` when none is on record.
    #[must_use]
    pub fn drain(&self) -> Option<Spell> {
        Spell::of(self.drains.iter().copied())
    }
}

fn since(start: Timestamp, at: Timestamp) -> Option<SignedDuration> {
    Some(at.duration_since(start)).filter(|took| !took.is_negative())
}

fn keep(times: &mut VecDeque<SignedDuration>, took: SignedDuration) {
    times.push_back(took);
    if times.len() > LAST {
        times.pop_front();
    }
}

//! The instances of the simulated world, and their counts kept beside them: a law that counted ten thousand instances
//! after each act would make a rollout of them quadratic.

use std::collections::BTreeMap;

use super::world::Simulated;
use crate::digest::Digest;
use crate::fleet::census::{InstanceId, State};

/// Every instance by id. Instances are changed through it only, so that the counts are right.
#[derive(Debug, Clone, Default)]
pub(super) struct Population {
    all: BTreeMap<InstanceId, Simulated>,
    pub(super) tally: Tally,
}

/// How many instances there are of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those that serve.
    pub serving: usize,
    /// Those that serve, by generation.
    pub serving_of: BTreeMap<Digest, usize>,
    /// Launched and not serving yet.
    pub starting: usize,
    /// Finishing their requests.
    pub draining: usize,
    /// Those that should serve and do not.
    pub unhealthy: usize,
    /// Everything that rekiln launched and whose machine runs.
    pub ours: usize,
    /// What rekiln launched that starts or runs, untouched, by generation: how far a new image has spread.
    pub spread_of: BTreeMap<Digest, usize>,
    /// Everything that serves, or soon does.
    pub living: usize,
    /// Those that are drained, by zone.
    pub draining_in: BTreeMap<String, usize>,
}

impl Tally {
    /// Tells whether an instance counts for how far its image has spread; one that was touched is to be replaced.
    pub(super) fn spreads(found: &Simulated) -> bool {
        let seen = &found.seen;
        found.ours && seen.touched.is_none() && matches!(seen.state, State::Launching | State::Running)
    }

    fn count(&mut self, found: &Simulated, change: fn(usize) -> usize) {
        let seen = &found.seen;
        let (serves, generation) = (seen.serves(), seen.generation.as_ref().map(|generation| generation.id));
        let turn = |count: &mut usize| *count = change(*count);
        if serves {
            turn(&mut self.serving);
            if let Some(id) = generation {
                turn(self.serving_of.entry(id).or_default());
            }
        }
        match seen.state {
            State::Launching => turn(&mut self.starting),
            State::Running if serves => {}
            State::Running if found.is_registering() => turn(&mut self.starting),
            State::Running | State::Dead => turn(&mut self.unhealthy),
            State::Draining => {
                turn(&mut self.draining);
                if let Some(zone) = &seen.zone {
                    turn(self.draining_in.entry(zone.clone()).or_default());
                }
            }
        }
        if matches!(seen.state, State::Launching)
            || seen.state == State::Running && (serves || !seen.in_service)
        {
            turn(&mut self.living);
        }
        if found.ours && seen.state != State::Dead {
            turn(&mut self.ours);
        }
        if let Some(id) = generation.filter(|_| Self::spreads(found)) {
            turn(self.spread_of.entry(id).or_default());
        }
    }

    fn join(&mut self, found: &Simulated) {
        self.count(found, |count| count + 1);
    }

    fn leave(&mut self, found: &Simulated) {
        self.count(found, |count| count.saturating_sub(1));
    }
}

impl Population {
    pub(super) fn get(&self, id: &InstanceId) -> Option<&Simulated> {
        self.all.get(id)
    }

    /// Every instance, by id.
    pub(super) fn values(&self) -> impl DoubleEndedIterator<Item = &Simulated> {
        self.all.values()
    }

    pub(super) fn insert(&mut self, id: InstanceId, found: Simulated) {
        self.tally.join(&found);
        if let Some(before) = self.all.insert(id, found) {
            self.tally.leave(&before);
        }
    }

    pub(super) fn remove(&mut self, id: &InstanceId) {
        if let Some(found) = self.all.remove(id) {
            self.tally.leave(&found);
        }
    }

    /// Changes one instance; `None` when there is none of that name.
    pub(super) fn change<T>(
        &mut self,
        id: &InstanceId,
        change: impl FnOnce(&mut Simulated) -> T,
    ) -> Option<T> {
        let found = self.all.get_mut(id)?;
        self.tally.leave(found);
        let value = change(found);
        self.tally.join(found);
        Some(value)
    }

    /// Changes every instance, in the order of ids, and counts anew.
    pub(super) fn change_all(&mut self, mut change: impl FnMut(&mut Simulated)) {
        let mut tally = Tally::default();
        for found in self.all.values_mut() {
            change(found);
            tally.join(found);
        }
        self.tally = tally;
    }
}

//! A simulated fleet whose size is not rekiln's to say: a group as Auto Scaling has them. It launches and ends instances by
//! itself until there are as many as its owner wants, and one more or less for each that rekiln launched or ended.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::Sim;
use super::world::{Simulated, World};
use crate::error::Result;
use crate::fleet::Fleet;
use crate::fleet::census::{self, Census, Health, Instance, InstanceId, State};
use crate::fleet::generation::Generation;
use crate::fleet::policy::Policy;
use crate::provider::Outcome;

/// How old a list may be at most: lists of AWS lag behind by seconds, and less than another size must be seen to count.
const LAG: SignedDuration = SignedDuration::from_secs(8);

/// After so many looks that showed a new size rekiln must act by it, and not by the one before: they take half a second at
/// least, so that the ten seconds in which it must be seen have passed, and what was begun before is settled.
const KNOWN: u32 = 60;

/// A size that the owner wanted, and that rekiln may plan with.
#[derive(Debug, Clone)]
struct Word {
    policy: Policy,
    /// How many looks have shown a later one.
    superseded: u32,
}

/// A group: how large it is to be, and who says so.
#[derive(Debug, Clone)]
pub(super) struct Group {
    fleet: Fleet,
    zones: Vec<String>,
    /// How many instances it is to have, what rekiln added included.
    desired: u32,
    /// How many its owner wants, what rekiln added left out.
    word: u32,
    /// By how many rekiln's launches and ends have changed its size.
    added: i64,
    /// What it launches by itself.
    template: Generation,
    /// How many it has launched by itself.
    launched: u64,
    /// What rekiln ended and took from the size.
    taken: BTreeSet<InstanceId>,
    /// The sizes that rekiln may plan with, oldest first; the last is the owner's word.
    words: Vec<Word>,
    /// Whether its size was ever changed by its owner.
    resized: bool,
    /// Whether the last change took away some of what rekiln added: that is seen while it lasts only.
    robbed: bool,
}

impl Group {
    /// Someone writes its size: what rekiln added is left out of their word; what it added beyond all that they want is gone.
    fn resize(&mut self, desired: u32) -> Result<()> {
        self.robbed = self.added > i64::from(desired);
        self.added = self.added.min(i64::from(desired));
        self.desired = desired;
        self.word = u32::try_from(i64::from(desired) - self.added).unwrap_or(0);
        let policy = Policy::sized(&self.fleet, self.word, self.zones.clone())?;
        self.words.push(Word { policy, superseded: 0 });
        self.resized = true;
        Ok(())
    }

    /// Tells whether an owner who waits between two changes makes another one now. From two sizes that follow each other at
    /// once nobody can tell how many of those that rekiln added are left, and a group of few may be without any.
    const fn is_at_rest(&self) -> bool {
        !self.robbed || self.words.len() == 1
    }

    fn zone(&self, at: u64) -> Option<String> {
        let at = usize::try_from(at).unwrap_or(0);
        self.zones.get(at.checked_rem(self.zones.len())?).cloned()
    }

    /// Returns what acts are judged by: as much as any of the sizes allows that rekiln may plan with.
    fn allows(&self) -> Option<Policy> {
        let all = || self.words.iter().map(|word| &word.policy);
        let size = all().map(|policy| policy.size).max()?;
        let floor = all().map(Policy::floor).min()?;
        let surge = all().map(|policy| policy.surge).max()?;
        let last = all().next_back()?.clone();
        // Where the size changed, as many are new as the waves of several sizes allow, and none of them alone says how many.
        let waves = if self.resized { vec![size] } else { last.waves.clone() };
        Some(Policy { size, surge, unavailable: size - floor, waves, ..last })
    }

    /// By how many rekiln has enlarged it.
    pub(super) const fn added(&self) -> i64 {
        self.added
    }
}

impl World {
    /// Holds the group's size, one instance after the other: launches what is missing, ends what is too many, and forgets
    /// what it lost of its own.
    pub(super) fn hold_size(&mut self) {
        let Some(mut group) = self.group.take() else { return };
        let living: Vec<InstanceId> = self.living().map(|found| found.seen.id.clone()).collect();
        let desired = usize::try_from(group.desired).unwrap_or(0);
        for _ in living.len()..desired {
            if self.chance.below(3) == 0 {
                group.launched += 1;
                let id = InstanceId(format!("i-x{}", group.launched));
                let zone = group.zone(self.chance.below(u64::MAX));
                let found = self.boot(&id, &group.template, zone, false);
                self.instances.insert(id, found);
            }
        }
        let mut living = living;
        for _ in desired..living.len() {
            if self.chance.below(3) == 0 {
                let at = usize::try_from(self.chance.below(living.len() as u64)).unwrap_or(0);
                self.instances.change(&living.remove(at), Simulated::die);
            }
        }
        // The group gives its load balancer every member, whoever launched it, without being told; and none is healthy before
        // the load balancer says so.
        let (from, end) = self.times.register;
        let all: Vec<_> = self.instances.values().map(|found| (found.ours, found.seen.clone())).collect();
        for (ours, seen) in all {
            match seen.state {
                State::Dead if !ours && self.chance.below(3) == 0 => self.instances.remove(&seen.id),
                State::Launching if seen.health == Health::Healthy => {
                    let registers = self.chance.below(2) == 0;
                    let at = self.now + self.chance.between(from, end);
                    self.instances.change(&seen.id, |found| {
                        if registers {
                            found.register(at);
                        }
                        found.seen.health = Health::Unhealthy;
                    });
                }
                State::Running if !seen.in_service => {
                    self.instances.change(&seen.id, |found| {
                        if found.is_registering() {
                            found.seen.health = Health::Unhealthy;
                        }
                    });
                }
                _ => {}
            }
        }
        self.group = Some(group);
    }

    fn living(&self) -> impl Iterator<Item = &Simulated> {
        self.instances.values().filter(|found| found.seen.state != State::Dead)
    }

    /// Someone who is not rekiln makes the group larger or smaller by one.
    pub(super) fn autoscale(&mut self) {
        let more = self.chance.below(2) == 0;
        if let Some(group) = self.group.as_mut().filter(|group| group.is_at_rest()) {
            let desired = if more { group.desired + 1 } else { group.desired.saturating_sub(1) };
            // The same file was read for other sizes before.
            let _ = group.resize(desired);
        }
    }

    /// rekiln launches into the group, which launches the same by itself from then on.
    pub(super) fn pin(&mut self, generation: &Generation) {
        if let Some(group) = &mut self.group {
            group.template = generation.clone();
        }
    }

    /// rekiln has launched one: the group is larger by it.
    pub(super) fn enlarge(&mut self) {
        if let Some(group) = &mut self.group {
            group.desired += 1;
            group.added += 1;
        }
    }

    /// Ends a member, as [`World::act`] does it without a group; `None` where there is none.
    pub(super) fn end_member(&mut self, id: &InstanceId) -> Option<Outcome> {
        let Self { group, instances, ended, .. } = self;
        let group = group.as_mut()?;
        if id.is_coming() {
            return Some(Outcome::refused("the group is about to launch it by itself"));
        }
        let outcome = match instances.get(id) {
            // It says that it was rekiln's doing as often as it is asked.
            None if group.taken.contains(id) => Outcome::Applied,
            None => Outcome::AlreadyDone,
            Some(found) if found.seen.serves() => return Some(Outcome::refused("it serves")),
            Some(found) if found.seen.state == State::Dead => Outcome::Ended,
            Some(_) if group.desired == 0 => return Some(Outcome::refused("the group is to have none")),
            Some(_) => {
                (group.desired, group.added) = (group.desired - 1, group.added - 1);
                group.taken.insert(id.clone());
                Outcome::Applied
            }
        };
        instances.remove(id);
        ended.insert(id.clone());
        Some(outcome)
    }

    /// Tells whether the last list may be shown again.
    pub(super) fn may_lag(&self) -> bool {
        let young = |last: &Census| self.now.duration_since(last.at).abs() <= LAG;
        self.group.is_none() || self.last.as_ref().is_some_and(young)
    }

    /// Adds to a look what it says of the group, and what the group is about to launch.
    pub(super) fn add_group(&mut self, census: &mut Census) {
        let Some(group) = &mut self.group else { return };
        let listed = census.instances.iter().filter(|seen| seen.state != State::Dead).count();
        let missing = usize::try_from(group.desired).unwrap_or(0).saturating_sub(listed);
        let coming = |number: usize| Instance {
            id: InstanceId::coming(number),
            image: group.template.image(),
            generation: Some(group.template.clone()),
            state: State::Launching,
            health: Health::Unhealthy,
            in_service: false,
            launched_at: census.at,
            touched: None,
            connections: 0,
            address: None,
            zone: None,
            known_as: None,
            membership: None,
        };
        census.instances.extend((1..=missing).map(coming));
        census.group = Some(census::Group { desired: group.desired, zones: group.zones.clone() });
        let last = group.words.len().saturating_sub(1);
        for word in &mut group.words[..last] {
            word.superseded += 1;
        }
        group.words.retain(|word| word.superseded <= KNOWN);
    }

    /// Returns what acts are judged by.
    pub(super) fn allows(&self) -> Option<Policy> {
        self.group.as_ref()?.allows()
    }
}

impl Sim {
    /// Makes a group that holds `size` instances of `template` by itself, at the epoch.
    ///
    /// # Errors
    /// A fleet file that cannot be read.
    pub fn group(fleet: &Fleet, size: u32, template: Generation, seed: u64) -> Result<Self> {
        let zones = Policy::of(fleet)?.zones;
        let policy = Policy::sized(fleet, size, zones.clone())?;
        let sim = Self::new(policy.clone(), seed);
        sim.world.borrow_mut().group = Some(Group {
            fleet: fleet.clone(),
            zones,
            desired: size,
            word: size,
            added: 0,
            template,
            launched: 0,
            taken: BTreeSet::new(),
            words: vec![Word { policy, superseded: 0 }],
            resized: false,
            robbed: false,
        });
        Ok(sim)
    }

    /// The group's owner, an autoscaler or a person, writes its size; of a fleet that is no group, nobody.
    ///
    /// # Errors
    /// A fleet file that cannot be read for that size.
    pub fn resize(&self, desired: u32) -> Result<()> {
        self.world.borrow_mut().group.as_mut().map_or(Ok(()), |group| group.resize(desired))
    }

    /// Tells whether the group's owner has waited for long enough since the last change.
    #[must_use]
    pub fn may_resize(&self) -> bool {
        self.world.borrow().group.as_ref().is_some_and(Group::is_at_rest)
    }

    /// Returns how many instances the group is to have, and how many of them its owner wants; `None` when it is no group.
    #[must_use]
    pub fn sizes(&self) -> Option<(u32, u32)> {
        self.world.borrow().group.as_ref().map(|group| (group.desired, group.word))
    }
}

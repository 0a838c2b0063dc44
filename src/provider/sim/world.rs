//! The truth of the simulated world, and how it changes by acts and by time.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::cluster::Members;
use super::faults::{Chance, Faults, Reached};
use super::group::Group;
use super::population::Population;
use crate::digest::ImageId;
use crate::fleet::census::{Census, Health, Instance, InstanceId, State};
use crate::fleet::generation::Generation;
use crate::fleet::policy::Policy;
use crate::provider::{Action, Outcome};

/// How long things take in the simulated world: from, and up to.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// From a launch until the instance is healthy.
    pub boot: (SignedDuration, SignedDuration),
    /// From being given requests until the load balancer sends some.
    pub register: (SignedDuration, SignedDuration),
    /// From being drained until the last request is answered.
    pub drain: (SignedDuration, SignedDuration),
}

impl Default for Times {
    /// As of machines on EC2: boots of half a minute, seconds for the rest.
    fn default() -> Self {
        let seconds = SignedDuration::from_secs;
        Self {
            boot: (seconds(15), seconds(40)),
            register: (seconds(0), seconds(3)),
            drain: (seconds(0), seconds(6)),
        }
    }
}

/// One simulated instance.
#[derive(Debug, Clone)]
pub(super) struct Simulated {
    pub(super) seen: Instance,
    /// When it becomes healthy; `None` when it never does.
    boots_at: Option<Timestamp>,
    /// When the load balancer begins to send it requests.
    registered_at: Option<Timestamp>,
    /// When its last request is answered; `None` while it is not drained, or when it never is.
    drained_at: Option<Timestamp>,
    /// Until when it answers nothing.
    sick_until: Option<Timestamp>,
    /// Whether rekiln launched it.
    pub(super) ours: bool,
}

impl Simulated {
    pub(super) fn die(&mut self) {
        (self.seen.state, self.seen.health, self.seen.in_service) = (State::Dead, Health::Unhealthy, false);
    }

    /// The load balancer begins to send it requests then.
    pub(super) const fn register(&mut self, at: Timestamp) {
        (self.seen.state, self.seen.connections, self.registered_at) = (State::Running, 2, Some(at));
    }

    pub(super) fn sicken(&mut self) {
        (self.seen.health, self.boots_at) = (Health::Unhealthy, None);
    }

    /// Tells whether the load balancer is about to send it requests.
    pub(super) const fn is_registering(&self) -> bool {
        self.registered_at.is_some()
    }

    /// Returns how long each of the things that come to it by itself still takes; `None` for what never comes.
    pub(super) fn ahead(&self, now: Timestamp) -> [Option<SignedDuration>; 4] {
        let times = [self.boots_at, self.registered_at, self.drained_at, self.sick_until];
        times.map(|at| at.map(|at| at.duration_since(now).max(SignedDuration::ZERO)))
    }

    /// Returns when something of it changes by itself next, after `now`.
    fn changes_at(&self, now: Timestamp) -> Option<Timestamp> {
        let boots = self.boots_at.filter(|_| self.seen.health == Health::Unhealthy);
        let drains = self.drained_at.filter(|_| self.seen.connections > 0);
        let times = [boots, self.registered_at, drains, self.sick_until];
        times.into_iter().flatten().filter(|at| *at > now).min()
    }
}

/// The simulated world.
#[derive(Clone)]
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) chance: Chance,
    pub(super) faults: Faults,
    pub(super) times: Times,
    pub(super) reached: Reached,
    /// Images whose instances never become healthy.
    pub(super) bad: Vec<ImageId>,
    pub(super) instances: Population,
    pub(super) launched: BTreeSet<InstanceId>,
    /// Names that were ended or refused: what comes late is not launched any more.
    pub(super) ended: BTreeSet<InstanceId>,
    pub(super) last: Option<Census>,
    /// Zones without room, and until when.
    pub(super) full: BTreeMap<String, Timestamp>,
    /// How many more requests are too many.
    throttled: u64,
    strangers: u64,
    /// What holds the fleet's size, where that is not the fleet file's.
    pub(super) group: Option<Group>,
    /// Its members, where they hold data.
    pub(super) members: Option<Members>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: Timestamp::UNIX_EPOCH,
            chance: Chance::new(seed),
            faults: Faults::default(),
            times: Times::default(),
            reached: Reached::default(),
            bad: Vec::new(),
            instances: Population::default(),
            launched: BTreeSet::new(),
            ended: BTreeSet::new(),
            last: None,
            full: BTreeMap::new(),
            throttled: 0,
            strangers: 0,
            group: None,
            members: None,
        }
    }

    /// Lets time pass, with what happens to instances meanwhile.
    pub(super) fn pass(&mut self, time: SignedDuration) {
        self.now += time;
        let Self { now, chance, faults, reached, .. } = self;
        self.instances.change_all(|found| {
            if found.seen.state == State::Dead {
                return;
            }
            if chance.happens(faults.death, &mut reached.faults.death) {
                found.die();
                return;
            }
            if chance.happens(faults.flap, &mut reached.faults.flap) {
                found.sick_until = Some(*now + SignedDuration::from_secs(5));
            }
            if chance.happens(faults.touch, &mut reached.faults.touch) {
                found.seen.touched = Some("an interactive session".to_owned());
            }
            let well =
                found.boots_at.is_some_and(|at| at <= *now) && found.sick_until.is_none_or(|at| at <= *now);
            found.seen.health = if well { Health::Healthy } else { Health::Unhealthy };
            if found.registered_at.is_some_and(|at| at <= *now) {
                (found.registered_at, found.seen.in_service) = (None, true);
            }
            if found.drained_at.is_some_and(|at| at <= *now) {
                found.seen.connections = 0;
            }
        });
        let Self { now, chance, members, instances, .. } = self;
        if let Some(members) = members {
            members.pass(instances, *now, chance);
        }
        self.hold_size();
    }

    /// Returns how long nothing changes by itself; `None` when nothing ever does.
    pub(super) fn calm(&self) -> Option<SignedDuration> {
        let members = self.members.as_ref().and_then(|members| members.changes_at(self.now));
        let each = self.instances.values().filter_map(|found| found.changes_at(self.now));
        let next = each.chain(members).min()?;
        Some(next.duration_since(self.now))
    }

    /// Lets happen what happens to the whole fleet at a look.
    pub(super) fn disturb(&mut self, policy: &Policy) {
        if self.chance.happens(self.faults.clock_jump, &mut self.reached.faults.clock_jump) {
            let hour = SignedDuration::from_hours(1);
            self.now += self.chance.between(-hour, hour);
        }
        if self.chance.happens(self.faults.zone_loss, &mut self.reached.faults.zone_loss)
            && !policy.zones.is_empty()
        {
            let zone = self.chance.below(policy.zones.len() as u64);
            let zone = policy.zones.get(usize::try_from(zone).unwrap_or(0));
            self.instances.change_all(|found| {
                if found.seen.zone.as_ref() == zone {
                    found.die();
                }
            });
        }
        if self.chance.happens(self.faults.stranger, &mut self.reached.faults.stranger) {
            match self.group {
                Some(_) => self.autoscale(),
                None => self.stray(policy),
            }
        }
    }

    /// Lets someone who is not rekiln launch an instance of the last image.
    pub(super) fn stray(&mut self, policy: &Policy) {
        let last = self.instances.values().next_back();
        let template = last.map(|found| found.seen.clone());
        if let Some(generation) = template.and_then(|seen| seen.generation) {
            self.strangers += 1;
            let id = InstanceId(format!("stranger-x{}", self.strangers));
            let zone = policy.zones.first().cloned();
            let found = self.boot(&id, &generation, zone, false);
            self.instances.insert(id, found);
        }
    }

    /// Leaves a zone without room until then; that without a name is the whole where there are no zones.
    pub(super) fn fill(&mut self, zone: &str, until: Timestamp) {
        self.full.insert(zone.to_owned(), until);
    }

    /// Tells whether a request is one too many; bursts of them begin by chance.
    pub(super) fn is_throttled(&mut self) -> bool {
        if self.throttled == 0 && self.chance.happens(self.faults.throttle, &mut self.reached.faults.throttle)
        {
            self.throttled = 1 + self.chance.below(5);
        }
        let throttled = self.throttled > 0;
        self.throttled = self.throttled.saturating_sub(1);
        throttled
    }

    pub(super) const fn serving(&self) -> usize {
        self.instances.tally.serving
    }

    pub(super) fn boot(
        &mut self,
        id: &InstanceId,
        generation: &Generation,
        zone: Option<String>,
        ours: bool,
    ) -> Simulated {
        let image = generation.image();
        let spoilt = image.is_some_and(|image| self.bad.contains(&image));
        let bad = self.chance.happens(self.faults.bad_boot, &mut self.reached.faults.bad_boot) || spoilt;
        let (from, end) = self.times.boot;
        let boots_at = self.now + self.chance.between(from, end);
        Simulated {
            seen: Instance {
                id: id.clone(),
                generation: Some(generation.clone()),
                image,
                state: State::Launching,
                health: Health::Unhealthy,
                in_service: false,
                launched_at: self.now,
                touched: None,
                connections: 0,
                address: None,
                zone,
                known_as: None,
                membership: None,
            },
            boots_at: (!bad).then_some(boots_at),
            registered_at: None,
            drained_at: None,
            sick_until: None,
            ours,
        }
    }

    fn launch(&mut self, id: &InstanceId, generation: &Generation, zone: Option<&String>) -> Outcome {
        if self.instances.get(id).is_some() {
            return Outcome::AlreadyDone;
        }
        if self.ended.contains(id) {
            return Outcome::refused("its name was given up");
        }
        self.pin(generation);
        let place = zone.cloned().unwrap_or_default();
        if self.chance.happens(self.faults.no_capacity, &mut 0) {
            let (from, end) = (SignedDuration::from_secs(10), SignedDuration::from_mins(5));
            let until = self.now + self.chance.between(from, end);
            self.full.insert(place.clone(), until);
        }
        if self.full.get(&place).is_some_and(|until| self.now < *until) {
            self.reached.faults.no_capacity += 1;
            self.ended.insert(id.clone());
            return Outcome::NoCapacity { words: format!("InsufficientInstanceCapacity in zone `{place}`") };
        }
        let found = self.boot(id, generation, zone.cloned(), true);
        self.launched.insert(id.clone());
        self.instances.insert(id.clone(), found);
        self.enlarge();
        Outcome::Applied
    }

    /// Checks what an action expects, as every provider does, and carries it out.
    pub(super) fn act(&mut self, action: &Action) -> Outcome {
        self.reached.acts += 1;
        if let Some(refused) = self.object(action) {
            return refused;
        }
        if let Some(outcome) = self.act_on_members(action) {
            return outcome;
        }
        let outcome = self.act_on_instance(action);
        self.tell_members(action, &outcome);
        outcome
    }

    fn act_on_instance(&mut self, action: &Action) -> Outcome {
        if let Action::Launch { id, generation, zone, .. } = action {
            return self.launch(id, generation, zone.as_ref());
        }
        if let Action::Terminate { id, .. } = action
            && let Some(outcome) = self.end_member(id)
        {
            return outcome;
        }
        let serving = self.serving();
        let now = self.now;
        let (register, drain) = (self.times.register, self.times.drain);
        let Self { instances, chance, faults, reached, .. } = self;
        let change = |found: &mut Simulated| {
            let serves = found.seen.serves();
            match action {
                Action::Admit { .. } if found.seen.health == Health::Healthy => {
                    if found.seen.in_service || found.registered_at.is_some() {
                        return Outcome::AlreadyDone;
                    }
                    (found.seen.state, found.drained_at, found.seen.connections) = (State::Running, None, 2);
                    found.registered_at = Some(now + chance.between(register.0, register.1));
                }
                Action::Admit { .. } => return Outcome::refused("it is not healthy"),
                Action::Drain { others, .. } => {
                    if serving - usize::from(serves) < *others {
                        return Outcome::refused("too few others serve");
                    }
                    if found.seen.state == State::Dead {
                        return Outcome::refused("it is dead");
                    }
                    (found.seen.state, found.seen.in_service, found.registered_at) =
                        (State::Draining, false, None);
                    let endless = chance.happens(faults.endless, &mut reached.faults.endless);
                    found.drained_at = (!endless).then_some(now + chance.between(drain.0, drain.1));
                }
                Action::Terminate { .. } if serves => return Outcome::refused("it serves"),
                Action::HandOver { .. } | Action::Deregister { .. } => {
                    return Outcome::refused("its members hold no data");
                }
                Action::Terminate { .. } | Action::Launch { .. } => {}
            }
            Outcome::Applied
        };
        let ends = matches!(action, Action::Terminate { .. });
        match instances.change(action.id(), change) {
            None if ends => {
                self.ended.insert(action.id().clone());
                Outcome::AlreadyDone
            }
            None => Outcome::refused("it does not exist"),
            Some(outcome) => {
                if ends && outcome == Outcome::Applied {
                    instances.remove(action.id());
                    self.ended.insert(action.id().clone());
                }
                outcome
            }
        }
    }

    /// What a look sees, with what looks get wrong.
    pub(super) fn census(&mut self) -> Census {
        self.reached.looks += 1;
        let at = self.now;
        let may_lag = self.may_lag();
        let Self { chance, faults, reached, .. } = self;
        if chance.happens(faults.stale, &mut reached.faults.stale)
            && let Some(last) = self.last.as_ref().filter(|_| may_lag)
        {
            return Census { at, ..last.clone() };
        }
        let mut instances: Vec<_> = self.instances.values().map(|found| found.seen.clone()).collect();
        for seen in instances.iter_mut().filter(|seen| seen.state != State::Dead) {
            if chance.happens(faults.unknown, &mut reached.faults.unknown) {
                seen.health = Health::Unknown;
            }
        }
        if chance.happens(faults.partial, &mut reached.faults.partial) {
            instances.retain(|_| chance.below(3) > 0);
        }
        if chance.happens(faults.reordered, &mut reached.faults.reordered) {
            instances.reverse();
        }
        let mut census = Census { at, instances, trouble: None, group: None, cluster: None };
        if let Some(members) = &self.members {
            let silent = members.faults.silent;
            members.tell(&mut census, || self.chance.happens(silent, &mut 0));
        }
        self.add_group(&mut census);
        self.last = Some(census.clone());
        census
    }
}

//! What must never be done, whatever the mode, the fault or the crash: checked by the simulated world after each act
//! with its own eyes, and not with the planner's.

mod members;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::group::Group;
use super::population::Tally;
use super::world::{Simulated, World};
use crate::digest::{Digest, ImageId};
use crate::fleet::census::{Health, InstanceId, State};
use crate::fleet::history::HOUR;
use crate::fleet::policy::Policy;
use crate::provider::{Action, Outcome};

/// What the person who runs a simulation knows and the world does not: it changes what is forbidden.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orders {
    /// An emergency: no waves, soak, windows or rate.
    pub emergency: bool,
    /// Everything voluntary is stopped.
    pub paused: bool,
    /// The circuit breaker is open.
    pub breaker: bool,
    /// Instances that someone wants replaced: they are not the less for being of the new image.
    pub rotated: Vec<InstanceId>,
    /// Instances that were given up: one that serves all the same is replaced too.
    pub given_up: Vec<InstanceId>,
    /// Images that no one may launch.
    pub quarantined: Vec<ImageId>,
    /// The generation that completed last.
    pub proven: Option<Digest>,
    /// Generations whose waves every gate lets pass, by how many waves did.
    pub gated: BTreeMap<Digest, usize>,
}

/// The laws, and what broke them.
#[derive(Debug, Clone, Default)]
pub(super) struct Law {
    pub(super) orders: Orders,
    pub(super) violations: Vec<String>,
    /// When instances were taken out of service to be replaced, and how many; the last hour's.
    pub(super) drained: BTreeMap<Timestamp, usize>,
    /// When so many instances of a generation served for the first time: for each wave.
    pub(super) reached: BTreeMap<(Digest, usize), Timestamp>,
    /// Those that so many served of when that was last looked at.
    pub(super) lasting: BTreeSet<(Digest, usize)>,
    /// Those that have served for as long as the soak since: whatever the clock says later.
    pub(super) soaked: BTreeSet<(Digest, usize)>,
}

/// What the world was like before an act.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    serving: usize,
    /// Everything that serves, or soon does.
    living: usize,
    /// Whether the instance that the act is about served.
    served: bool,
    /// What members that hold data were like.
    members: members::Standing,
}

impl Law {
    pub(super) fn before(world: &World, action: &Action) -> Before {
        let found = world.instances.get(action.id());
        Before {
            serving: world.serving(),
            living: world.instances.tally.living,
            served: found.is_some_and(|found| found.seen.serves()),
            members: members::Standing::of(world, action.id()),
        }
    }

    /// Remembers how far each generation is, and forgets the drains of an hour ago, whatever the clock says later;
    /// called whenever time has passed. What falls ill does so at the end of that time, and served until then.
    pub(super) fn watch(&mut self, world: &World, policy: &Policy) {
        let served = std::mem::take(&mut self.lasting);
        for (generation, count) in &world.instances.tally.serving_of {
            for (wave, _) in policy.waves.iter().enumerate().filter(|(_, limit)| *count >= **limit) {
                let since = self.reached.entry((*generation, wave)).or_insert(world.now);
                // A clock that went back says nothing about what came before.
                *since = (*since).min(world.now);
                self.lasting.insert((*generation, wave));
            }
        }
        for wave in served.into_iter().chain(self.lasting.iter().copied()) {
            if self.reached.get(&wave).is_some_and(|since| world.now.duration_since(*since) >= policy.soak) {
                self.soaked.insert(wave);
            }
        }
        while self.drained.first_key_value().is_some_and(|(at, _)| world.now.duration_since(*at) >= HOUR) {
            self.drained.pop_first();
        }
    }

    pub(super) fn accuse(&mut self, world: &World, what: &str) {
        self.violations.push(format!("{what} (at {})", world.now));
    }

    /// Judges an act that was done.
    pub(super) fn judge(
        &mut self,
        world: &World,
        policy: &Policy,
        action: &Action,
        before: Before,
        outcome: &Outcome,
    ) {
        if *outcome != Outcome::Applied {
            return;
        }
        match action {
            Action::Launch { id, generation, .. } => {
                self.judge_launch(world, policy, id, (generation.id, generation.image()), before);
            }
            Action::Drain { id, .. } if before.served => self.judge_drain(world, policy, id),
            _ => {}
        }
        self.judge_members(world, policy, action, before.members);
        let after = world.serving();
        if after < before.serving && after < policy.floor() {
            self.accuse(world, &format!("floor: after `{action}` {after} serve, {} must", policy.floor()));
        }
        if matches!(action, Action::Terminate { .. }) && before.served {
            self.accuse(world, &format!("drain: `{action}`, and it served"));
        }
    }

    fn judge_launch(
        &mut self,
        world: &World,
        policy: &Policy,
        id: &InstanceId,
        (generation, image): (Digest, Option<ImageId>),
        before: Before,
    ) {
        let ours = world.instances.tally.ours;
        match world.group.as_ref().map(Group::added) {
            // What the group does by itself is its owner's affair.
            Some(added) if added > i64::try_from(policy.surge).unwrap_or(i64::MAX) => {
                self.accuse(
                    world,
                    &format!("ceiling: {added} were added to the group, {} may", policy.surge),
                );
            }
            None if ours > policy.ceiling() => {
                self.accuse(world, &format!("ceiling: {ours} instances exist, {} may", policy.ceiling()));
            }
            _ => {}
        }
        if image.is_some_and(|image| self.orders.quarantined.contains(&image)) {
            self.accuse(world, &format!("quarantine: {id} was launched from a quarantined image"));
        }
        let stops = self.orders.paused || self.orders.breaker || !policy.windows.is_open(world.now);
        // Each instance is looked at only where it can matter.
        let whole = || before.living.saturating_sub(self.lost(world, policy, generation)) >= policy.size;
        if policy.surge > 0 && stops && before.living >= policy.size && whole() {
            self.judge_voluntary(world, policy, &format!("{id} was launched beside a whole fleet"));
        }
        self.judge_waves(world, policy, id, generation);
    }

    /// A new image may have no more instances than the wave allows that all before it have soaked for.
    fn judge_waves(&mut self, world: &World, policy: &Policy, id: &InstanceId, generation: Digest) {
        let Orders { emergency, proven, .. } = &self.orders;
        if *emergency || proven.is_none() || *proven == Some(generation) {
            return;
        }
        // What someone wants replaced, or was given up, has its replacement beside it.
        let replaced: BTreeSet<_> = self.orders.rotated.iter().chain(&self.orders.given_up).collect();
        let replaced = replaced.into_iter().filter(|id| {
            world.instances.get(id).is_some_and(|found| {
                Tally::spreads(found)
                    && found.seen.generation.as_ref().is_some_and(|own| own.id == generation)
            })
        });
        let count = world.instances.tally.spread_of.get(&generation).copied().unwrap_or(0);
        let count = count.saturating_sub(replaced.count());
        let waves = policy.waves.iter().enumerate().take(policy.waves.len() - 1);
        for (wave, limit) in waves.filter(|(_, limit)| count > **limit) {
            if !self.soaked.contains(&(generation, wave)) {
                self.accuse(
                    world,
                    &format!("waves: {id} is number {count}, and wave {wave} of {limit} has not soaked"),
                );
            }
            let gated = self.orders.gated.get(&generation).copied().unwrap_or(0);
            if !policy.gates.is_empty() && gated <= wave {
                self.accuse(
                    world,
                    &format!("gates: {id} is number {count}, and no gate let wave {wave} pass"),
                );
            }
        }
    }

    fn judge_drain(&mut self, world: &World, policy: &Policy, id: &InstanceId) {
        if self.orders.paused {
            self.accuse(world, &format!("pause: {id} was drained"));
        }
        if policy.surge == 0 {
            self.judge_voluntary(world, policy, &format!("{id} was drained"));
        }
        *self.drained.entry(world.now).or_default() += 1;
        if let Some(rate) = policy.rate.filter(|_| !self.orders.emergency) {
            let drained: usize = self.drained.values().sum();
            if drained > rate {
                self.accuse(world, &format!("rate: {drained} drained within an hour, {rate} may"));
            }
        }
        if policy.one_zone {
            let zone = world.instances.get(id).and_then(|found| found.seen.zone.clone());
            let draining = world.instances.tally.draining_in.iter().filter(|(_, count)| **count > 0);
            if let Some((other, _)) = draining.into_iter().find(|(other, _)| Some(*other) != zone.as_ref()) {
                self.accuse(world, &format!("zones: {id} was drained while others drain in zone {other}"));
            }
        }
    }

    fn judge_voluntary(&mut self, world: &World, policy: &Policy, what: &str) {
        let Orders { emergency, paused, breaker, .. } = self.orders;
        if paused {
            self.accuse(world, &format!("pause: {what}"));
        }
        if breaker && !emergency {
            self.accuse(world, &format!("breaker: {what}"));
        }
        if !emergency && !policy.windows.is_open(world.now) {
            self.accuse(world, &format!("windows: {what}"));
        }
    }

    /// Forgets the drains of an emergency, which count for nobody's rate.
    pub(super) fn forget_drains(&mut self) {
        self.drained.clear();
    }

    /// How many were launched and will never serve: too long ago, touched on the way, given up or wanted replaced
    /// before they served, or from what nobody wants now. Nor
    /// does what another one launched count before it gets requests: no journal knows it when a list leaves it out. And
    /// what the last answer said is ill may be cured, though it has recovered since.
    fn lost(&self, world: &World, policy: &Policy, wanted: Digest) -> usize {
        let unwanted = |generation: Digest| generation != wanted && Some(generation) != self.orders.proven;
        let replaced: BTreeSet<_> = self.orders.rotated.iter().chain(&self.orders.given_up).collect();
        let late = |found: &&Simulated| {
            let seen = &found.seen;
            seen.state == State::Launching
                && (!found.ours
                    || seen.touched.is_some()
                    || replaced.contains(&seen.id)
                    || seen.generation.as_ref().is_none_or(|generation| unwanted(generation.id))
                    || seen.health != Health::Healthy
                        && world.now.duration_since(seen.launched_at) >= policy.deadline)
        };
        let told = world.last.iter().flat_map(|census| &census.instances);
        let told_ill: BTreeSet<_> =
            told.filter(|told| told.health == Health::Unhealthy).map(|told| &told.id).collect();
        let ill = |found: &&Simulated| {
            let seen = &found.seen;
            seen.state == State::Running && told_ill.contains(&seen.id)
        };
        world.instances.values().filter(|found| late(found) || ill(found)).count()
    }
}

//! A small, strict, simulated world with virtual time and seeded faults. It panics nowhere: what an invariant
//! forbids is kept in [`Sim::violations`].

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Action, Outcome, Provider, ProviderError};
use crate::digest::{Digest, ImageId};
use crate::error::{Error, Result};
use crate::fleet::census::{Census, Health, Instance, InstanceId, State};
use crate::fleet::policy::Policy;

/// What goes wrong in the simulated world, each in percent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// A launched instance never becomes healthy.
    pub bad_boot: u64,
    /// An instance dies, at each look.
    pub death: u64,
    /// An act fails and nothing happened.
    pub failure: u64,
    /// An act happened and its answer is lost.
    pub lost_reply: u64,
    /// A census is the one before.
    pub stale: u64,
    /// An instance's health cannot be told, at each look.
    pub unknown: u64,
}

/// The simulated world.
pub struct Sim {
    policy: Policy,
    world: RefCell<World>,
}

struct World {
    now: Timestamp,
    seed: u64,
    faults: Faults,
    /// Images whose instances never become healthy.
    bad: Vec<ImageId>,
    instances: BTreeMap<InstanceId, Simulated>,
    launched: Vec<InstanceId>,
    last: Option<Census>,
    violations: Vec<String>,
}

struct Simulated {
    seen: Instance,
    boots_at: Option<Timestamp>,
}

/// How long a simulated instance takes to boot.
const BOOT: SignedDuration = SignedDuration::from_secs(20);

impl Sim {
    /// Makes an empty world at the epoch.
    #[must_use]
    pub fn new(policy: Policy, seed: u64) -> Self {
        let world = World {
            now: Timestamp::UNIX_EPOCH,
            seed,
            faults: Faults::default(),
            bad: Vec::new(),
            instances: BTreeMap::new(),
            launched: Vec::new(),
            last: None,
            violations: Vec::new(),
        };
        Self { policy, world: RefCell::new(world) }
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.world.borrow_mut().faults = faults;
    }

    /// Makes every instance of `image` launched from now on stay unhealthy.
    pub fn spoil(&self, image: ImageId) {
        self.world.borrow_mut().bad.push(image);
    }

    /// Ends an instance's machine.
    pub fn kill(&self, id: &InstanceId) {
        if let Some(found) = self.world.borrow_mut().instances.get_mut(id) {
            found.die();
        }
    }

    /// Makes an instance answer no more, though it runs.
    pub fn sicken(&self, id: &InstanceId) {
        if let Some(found) = self.world.borrow_mut().instances.get_mut(id) {
            (found.seen.health, found.boots_at) = (Health::Unhealthy, None);
        }
    }

    /// Lets someone log in to an instance.
    pub fn touch(&self, id: &InstanceId, why: &str) {
        if let Some(found) = self.world.borrow_mut().instances.get_mut(id) {
            found.seen.touched = Some(why.to_owned());
        }
    }

    /// Returns what is really there, oldest first.
    #[must_use]
    pub fn truth(&self) -> Vec<Instance> {
        self.world.borrow().instances.values().map(|found| found.seen.clone()).collect()
    }

    /// Returns what was done that must never be done.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.world.borrow().violations.clone()
    }
}

impl Simulated {
    fn die(&mut self) {
        (self.seen.state, self.seen.health, self.seen.in_service) = (State::Dead, Health::Unhealthy, false);
    }
}

impl World {
    /// One draw: the digest of seed after seed. Slow and the same on every machine.
    fn chance(&mut self, percent: u64) -> bool {
        let digest = Digest::of(&self.seed.to_le_bytes());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest.as_bytes()[..8]);
        self.seed = u64::from_le_bytes(bytes);
        self.seed % 100 < percent
    }

    fn pass(&mut self, time: SignedDuration) {
        self.now += time;
        let now = self.now;
        let ids: Vec<_> = self.instances.keys().cloned().collect();
        for id in ids {
            let dies = self.chance(self.faults.death);
            let Some(found) = self.instances.get_mut(&id) else { continue };
            if dies {
                found.die();
            }
            if found.boots_at.is_some_and(|at| at <= now) && found.seen.state != State::Dead {
                found.seen.health = Health::Healthy;
            }
            if found.seen.state == State::Draining {
                found.seen.connections = found.seen.connections.saturating_sub(1);
            }
        }
    }

    fn serving(&self) -> usize {
        self.instances.values().filter(|found| found.seen.serves()).count()
    }

    fn launch(
        &mut self,
        id: &InstanceId,
        generation: &crate::fleet::generation::Generation,
        policy: &Policy,
    ) -> Outcome {
        if self.instances.contains_key(id) {
            return Outcome::AlreadyDone;
        }
        let image = generation.image();
        let bad = image.is_some_and(|image| self.bad.contains(&image)) || self.chance(self.faults.bad_boot);
        let seen = Instance {
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
        };
        if self.launched.contains(id) {
            self.violations.push(format!("{id} was launched twice"));
        }
        self.launched.push(id.clone());
        self.instances.insert(id.clone(), Simulated { seen, boots_at: (!bad).then_some(self.now + BOOT) });
        let alive = self.instances.values().filter(|found| found.seen.state != State::Dead).count();
        if alive > policy.ceiling() {
            self.violations.push(format!("{alive} instances exist; {} may", policy.ceiling()));
        }
        Outcome::Applied
    }

    fn act(&mut self, action: &Action, policy: &Policy) -> Outcome {
        if let Action::Launch { id, generation } = action {
            return self.launch(id, generation, policy);
        }
        let before = self.serving();
        let Some(found) = self.instances.get_mut(action.id()) else {
            return if matches!(action, Action::Terminate { .. }) {
                Outcome::AlreadyDone
            } else {
                Outcome::refused("it does not exist")
            };
        };
        let serves = found.seen.serves();
        match action {
            Action::Launch { .. } => {}
            Action::Admit { .. } if found.seen.health == Health::Healthy => {
                (found.seen.state, found.seen.in_service, found.seen.connections) = (State::Running, true, 2);
            }
            Action::Admit { .. } => return Outcome::refused("it is not healthy"),
            Action::Drain { others, .. } => {
                if before - usize::from(serves) < *others {
                    return Outcome::refused("too few others serve");
                }
                if found.seen.state == State::Dead {
                    return Outcome::refused("it is dead");
                }
                (found.seen.state, found.seen.in_service) = (State::Draining, false);
            }
            Action::Terminate { .. } if serves => return Outcome::refused("it serves"),
            Action::Terminate { id, .. } => {
                let id = id.clone();
                self.instances.remove(&id);
            }
        }
        let after = self.serving();
        if after < before && after < policy.floor() {
            self.violations.push(format!("{action}: {after} serve, {} must", policy.floor()));
        }
        Outcome::Applied
    }
}

impl Provider for Sim {
    async fn prepare(&self) -> Result<()> {
        Ok(())
    }

    async fn census(&self) -> Result<Census> {
        let mut world = self.world.borrow_mut();
        world.pass(SignedDuration::from_millis(500));
        let at = world.now;
        let stale = world.faults.stale;
        if world.chance(stale)
            && let Some(last) = world.last.clone()
        {
            return Ok(Census { at, ..last });
        }
        let mut instances: Vec<_> = world.instances.values().map(|found| found.seen.clone()).collect();
        for seen in &mut instances {
            let unknown = world.faults.unknown;
            if seen.state != State::Dead && world.chance(unknown) {
                seen.health = Health::Unknown;
            }
        }
        let census = Census { at, instances, trouble: None };
        world.last = Some(census.clone());
        Ok(census)
    }

    async fn apply(&self, action: &Action) -> Result<Outcome, ProviderError> {
        let mut world = self.world.borrow_mut();
        let faults = world.faults;
        if world.chance(faults.failure) {
            return Err(ProviderError::Failed(Error::failed("the simulated cloud says no")));
        }
        let outcome = world.act(action, &self.policy);
        if world.chance(faults.lost_reply) {
            return Err(ProviderError::Unclear("the simulated answer was lost".to_owned()));
        }
        Ok(outcome)
    }

    fn console_tail(&self, id: &InstanceId) -> Vec<String> {
        vec![format!("{id}: simulated console")]
    }

    fn now(&self) -> Timestamp {
        self.world.borrow().now
    }

    async fn wait(&self, time: Duration) {
        // Virtual time runs as fast as it is asked for; a fivefold step keeps long boots short to simulate.
        let time = SignedDuration::try_from(time * 5).unwrap_or(SignedDuration::ZERO);
        self.world.borrow_mut().pass(time);
    }
}

//! A strict, simulated cloud with virtual time, seeded faults and laws of its own. It panics nowhere: what a law forbids
//! is kept in [`Sim::violations`].

mod cluster;
mod faults;
mod group;
mod law;
mod likeness;
mod population;
pub mod rehearsal;
mod surroundings;
mod world;

use std::cell::{Ref, RefCell};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Action, Outcome, Provider, ProviderError};
use crate::digest::ImageId;
use crate::error::{Error, Result};
use crate::fleet::census::{Census, Instance, InstanceId};
use crate::fleet::policy::Policy;
pub use cluster::MemberFaults;
use cluster::Members;
pub use faults::{Chance, Faults, Reached};
use law::Law;
pub use law::Orders;
pub use population::Tally;
pub use surroundings::{GateFaults, SimStore, SimSurroundings};
pub use world::Times;
use world::{Simulated, World};

/// How much virtual time a look takes.
const LOOK: SignedDuration = SignedDuration::from_millis(500);

/// The simulated cloud of one fleet.
#[derive(Clone)]
pub struct Sim {
    policy: RefCell<Policy>,
    world: RefCell<World>,
    law: RefCell<Law>,
}

impl Sim {
    /// Makes an empty world at the epoch.
    #[must_use]
    pub fn new(policy: Policy, seed: u64) -> Self {
        let mut world = World::new(seed);
        world.members = policy.copies.clone().map(Members::new);
        Self { policy: RefCell::new(policy), world: RefCell::new(world), law: RefCell::new(Law::default()) }
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.world.borrow_mut().faults = faults;
    }

    /// Sets what goes wrong among members that hold data from now on.
    pub fn set_member_faults(&self, faults: MemberFaults) {
        if let Some(members) = &mut self.world.borrow_mut().members {
            members.faults = faults;
        }
    }

    /// Tells whether nobody leads members that hold data, and nobody will without a person.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.world.borrow().is_lost()
    }

    /// Sets how long things take from now on.
    pub fn set_times(&self, times: Times) {
        self.world.borrow_mut().times = times;
    }

    /// Replaces the policy that acts are judged by: someone committed another fleet file.
    pub fn set_policy(&self, policy: Policy) {
        *self.policy.borrow_mut() = policy;
    }

    /// Changes what is forbidden.
    pub fn order(&self, change: impl FnOnce(&mut Orders)) {
        let mut law = self.law.borrow_mut();
        let was = law.orders.emergency;
        change(&mut law.orders);
        if was && !law.orders.emergency {
            law.forget_drains();
        }
    }

    /// Makes every instance of `image` launched from now on stay unhealthy.
    pub fn spoil(&self, image: ImageId) {
        self.world.borrow_mut().bad.push(image);
    }

    /// Ends an instance's machine.
    pub fn kill(&self, id: &InstanceId) {
        self.world.borrow_mut().instances.change(id, Simulated::die);
    }

    /// Makes an instance answer no more, though it runs.
    pub fn sicken(&self, id: &InstanceId) {
        self.world.borrow_mut().instances.change(id, Simulated::sicken);
    }

    /// Lets someone log in to an instance.
    pub fn touch(&self, id: &InstanceId, why: &str) {
        self.world.borrow_mut().instances.change(id, |found| found.seen.touched = Some(why.to_owned()));
    }

    /// Lets an autoscaler that knows nothing of rekiln launch an instance of the last image.
    pub fn stray(&self) {
        self.world.borrow_mut().stray(&self.policy.borrow());
    }

    /// Leaves a zone without room for so long.
    pub fn fill(&self, zone: &str, time: SignedDuration) {
        let mut world = self.world.borrow_mut();
        let until = world.now + time;
        world.fill(zone, until);
    }

    /// Lets time pass while nobody rolls.
    pub fn pass(&self, time: SignedDuration) {
        self.world.borrow_mut().pass(time);
    }

    /// Returns how long nothing changes by itself, as instances boot and finish requests; `None` when nothing does.
    #[must_use]
    pub fn calm(&self) -> Option<SignedDuration> {
        self.world.borrow().calm()
    }

    /// Returns the ids of what is really there.
    #[must_use]
    pub fn ids(&self) -> Vec<InstanceId> {
        self.world.borrow().instances.values().map(|found| found.seen.id.clone()).collect()
    }

    /// Returns how many there really are of each kind.
    #[must_use]
    pub fn tally(&self) -> Ref<'_, Tally> {
        Ref::map(self.world.borrow(), |world| &world.instances.tally)
    }

    /// Returns what is really there, by id.
    #[must_use]
    pub fn truth(&self) -> Vec<Instance> {
        self.world.borrow().instances.values().map(|found| found.seen.clone()).collect()
    }

    /// Adds to what was done that must never be done; for laws about processes, which the world knows nothing of.
    pub fn accuse(&self, what: &str) {
        self.law.borrow_mut().accuse(&self.world.borrow(), what);
    }

    /// Returns what was done that must never be done.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.law.borrow().violations.clone()
    }

    /// Returns how often each thing happened.
    #[must_use]
    pub fn reached(&self) -> Reached {
        self.world.borrow().reached
    }

    fn act(&self, action: &Action) -> Outcome {
        let (mut world, mut law, policy) =
            (self.world.borrow_mut(), self.law.borrow_mut(), self.policy.borrow());
        let before = Law::before(&world, action);
        let twice = matches!(action, Action::Launch { id, .. } if world.launched.contains(id));
        let outcome = world.act(action);
        if twice && outcome == Outcome::Applied {
            law.violations.push(format!("names: {} was launched twice", action.id()));
        }
        let allows = world.allows();
        law.judge(&world, allows.as_ref().unwrap_or(&policy), action, before, &outcome);
        outcome
    }
}

impl Provider for Sim {
    async fn prepare(&self) -> Result<()> {
        Ok(())
    }

    async fn census(&self) -> Result<Census, ProviderError> {
        let mut world = self.world.borrow_mut();
        let policy = self.policy.borrow();
        world.pass(LOOK);
        world.disturb(&policy);
        let allows = world.allows();
        self.law.borrow_mut().watch(&world, allows.as_ref().unwrap_or(&policy));
        if world.is_throttled() {
            return Err(ProviderError::Throttled("RequestLimitExceeded".to_owned()));
        }
        Ok(world.census())
    }

    async fn apply(&self, action: &Action) -> Result<Outcome, ProviderError> {
        {
            let mut world = self.world.borrow_mut();
            if world.is_throttled() {
                return Err(ProviderError::Throttled("RequestLimitExceeded".to_owned()));
            }
            let World { chance, faults, reached, .. } = &mut *world;
            if chance.happens(faults.failure, &mut reached.faults.failure) {
                return Err(ProviderError::Failed(Error::failed("the simulated cloud says no")));
            }
        }
        let outcome = self.act(action);
        let (twice, lost) = {
            let mut world = self.world.borrow_mut();
            let World { chance, faults, reached, .. } = &mut *world;
            let twice = chance.happens(faults.duplicate, &mut reached.faults.duplicate);
            (twice, chance.happens(faults.lost_reply, &mut reached.faults.lost_reply))
        };
        if twice {
            let _ = self.act(action);
        }
        if lost {
            return Err(ProviderError::Unclear("the simulated answer was lost".to_owned()));
        }
        Ok(outcome)
    }

    async fn kill(&self, id: &InstanceId, others: usize) -> Result<Outcome, ProviderError> {
        let mut world = self.world.borrow_mut();
        let serves = world.instances.get(id).is_some_and(|found| found.seen.serves());
        let serving = world.serving() - usize::from(serves);
        if !serves || serving < others {
            return Ok(Outcome::refused(format!(
                "it serves: {serves}; so do {serving} others; {others} must"
            )));
        }
        world.instances.change(id, Simulated::die);
        Ok(Outcome::Applied)
    }

    async fn console_tail(&self, id: &InstanceId) -> Vec<String> {
        vec![format!("{id}: simulated console")]
    }

    fn now(&self) -> Timestamp {
        self.world.borrow().now
    }

    async fn wait(&self, time: Duration) {
        // Virtual time runs as fast as it is asked for; a fivefold step keeps long boots short to simulate.
        let time = SignedDuration::try_from(time * 5).unwrap_or(SignedDuration::ZERO);
        let mut world = self.world.borrow_mut();
        world.pass(time);
        let allows = world.allows();
        self.law.borrow_mut().watch(&world, allows.as_ref().unwrap_or(&self.policy.borrow()));
    }
}

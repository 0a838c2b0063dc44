//! What surrounds simulated fleets: one store of quarantined images and failed rollouts, and gates that answer by chance.

use std::cell::RefCell;
use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::Sim;
use super::faults::Chance;
use crate::digest::ImageId;
use crate::error::Result;
use crate::fleet::breaker::{Failure, tripped};
use crate::fleet::census::{Census, Instance, InstanceId};
use crate::fleet::generation::Target;
use crate::fleet::surroundings::{News, Outlook, Reading, Surroundings};
use crate::fleet::{Gate, Step};

/// What several simulated fleets share.
#[derive(Debug)]
pub struct SimStore {
    /// Images that must not be launched, and why.
    pub refused: RefCell<BTreeMap<ImageId, String>>,
    /// Failed rollouts.
    pub failures: RefCell<Vec<(String, u64, Failure)>>,
    /// What people were told.
    pub news: RefCell<Vec<String>>,
    /// So many failures …
    pub most: usize,
    /// … within this time open the breaker.
    pub within: SignedDuration,
    chance: RefCell<Chance>,
}

impl SimStore {
    /// Makes an empty store whose breaker opens after `most` failures within `within`; 0 means never.
    #[must_use]
    pub fn new(seed: u64, most: usize, within: SignedDuration) -> Self {
        Self {
            refused: RefCell::default(),
            failures: RefCell::default(),
            news: RefCell::default(),
            most,
            within,
            chance: RefCell::new(Chance::new(seed)),
        }
    }

    /// Tells why nothing voluntary may begin.
    #[must_use]
    pub fn breaker(&self) -> Option<String> {
        let failures: Vec<_> = self.failures.borrow().iter().map(|(_, _, failure)| failure.clone()).collect();
        tripped(&failures, self.most, self.within)
    }

    /// A person clears the breaker.
    pub fn clear_breaker(&self) {
        self.failures.borrow_mut().clear();
    }
}

/// How a simulated gate answers, in thousandths; otherwise it says yes.
#[derive(Debug, Clone, Copy, Default)]
pub struct GateFaults {
    /// It says no.
    pub fail: u64,
    /// It cannot tell yet.
    pub not_yet: u64,
}

/// The surroundings of one simulated fleet.
pub struct SimSurroundings<'a> {
    /// What it shares with others.
    pub store: &'a SimStore,
    /// Its world, which is told what is forbidden.
    pub sim: &'a Sim,
    /// Its name.
    pub fleet: &'a str,
    /// How its gates answer.
    pub gates: GateFaults,
    /// A hook fails in so many of a thousand calls.
    pub bad_hooks: u64,
}

impl Surroundings for SimSurroundings<'_> {
    async fn outlook(&self, targets: &[&Target], _: Timestamp) -> Result<Outlook> {
        let all = self.store.refused.borrow();
        let breaker = self.store.breaker();
        self.sim.order(|orders| {
            orders.quarantined = all.keys().copied().collect();
            orders.breaker = breaker.is_some();
        });
        let refused = |target: &&Target| Some((target.image, all.get(&target.image)?.clone()));
        Ok(Outlook { refused: targets.iter().filter_map(refused).collect(), breaker })
    }

    async fn judge(&self, _: &Gate, target: &Target, _: &Census) -> Reading {
        let draw = self.store.chance.borrow_mut().below(1000);
        if draw < self.gates.fail {
            return Reading::Fail("the simulated errors are above their limit".to_owned());
        }
        if draw < self.gates.fail + self.gates.not_yet {
            return Reading::NotYet("too few simulated numbers".to_owned());
        }
        self.sim.order(|orders| *orders.gated.entry(target.generation.id).or_default() += 1);
        Reading::Pass
    }

    async fn hook(&self, _: Step, instance: &InstanceId, _: Option<&Instance>, _: &str) -> Result<()> {
        if self.store.chance.borrow_mut().below(1000) < self.bad_hooks {
            return Err(crate::error::Error::failed(format!("the simulated hook for {instance} fails")));
        }
        Ok(())
    }

    async fn tell(&self, news: News<'_>) {
        if let ("failed", Some(instance)) = (news.event, news.instance) {
            self.sim.order(|orders| orders.given_up.push(instance.clone()));
        }
        self.store.news.borrow_mut().push(news.text);
    }

    async fn condemn(
        &self,
        rollout: u64,
        target: &Target,
        proven: bool,
        reason: &str,
        now: Timestamp,
    ) -> Result<()> {
        let fleet = self.fleet.to_owned();
        let mut failures = self.store.failures.borrow_mut();
        failures.retain(|(name, number, _)| (name, *number) != (&fleet, rollout));
        let failure =
            Failure { fleet: fleet.clone(), image: target.image, reason: reason.to_owned(), at: now };
        failures.push((fleet, rollout, failure));
        if !proven {
            let why = format!("it is quarantined: {reason}");
            self.store.refused.borrow_mut().entry(target.image).or_insert(why);
        }
        Ok(())
    }
}

//! Members that hold data, in the simulated world: who copies, who has all of it, whose votes decide, who leads.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::faults::Chance;
use super::population::Population;
use super::world::{Simulated, World};
use crate::fleet::census::{Census, Health, InstanceId, State};
use crate::fleet::cluster::{self, Membership, Role, majority};
use crate::fleet::stateful::{Copies, Durability};
use crate::provider::{Action, Outcome};

/// How long a leader's word lasts after it falls silent: as Patroni's leader key does at its default.
const TERM: SignedDuration = SignedDuration::from_secs(30);

/// How long a new member copies: from, and up to. Short beside a boot, long beside a look.
const COPIES: (SignedDuration, SignedDuration) =
    (SignedDuration::from_secs(5), SignedDuration::from_secs(40));

/// What goes wrong among members only, in thousandths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemberFaults {
    /// A member does not answer, at each look at it.
    pub silent: u64,
    /// A leader that is asked to hand over says "not now".
    pub not_now: u64,
}

/// The members of one stateful fleet.
#[derive(Debug, Clone)]
pub(super) struct Members {
    copies: Copies,
    pub(super) faults: MemberFaults,
    pub(super) leader: Option<InstanceId>,
    /// Since when the leader is silent.
    silent: Option<Timestamp>,
    /// Who copies, and until when; `None` for who has all data.
    data: BTreeMap<InstanceId, Option<Timestamp>>,
    /// Who has a vote, ended or not, until it is removed.
    pub(super) voters: BTreeSet<InstanceId>,
    /// Without whom no write is acknowledged.
    standbys: BTreeSet<InstanceId>,
    /// Who has every write that was acknowledged.
    pub(super) holders: BTreeSet<InstanceId>,
    /// Who was launched to found.
    founders: BTreeSet<InstanceId>,
    /// Who founded.
    pub(super) founded: Vec<InstanceId>,
    /// How often the members elected someone themselves.
    pub(super) elections: usize,
    /// How often leadership was handed over, and from whom to whom.
    pub(super) handed: Vec<(InstanceId, InstanceId)>,
}

fn well(instances: &Population, id: &InstanceId) -> bool {
    let well = |found: &Simulated| found.seen.state != State::Dead && found.seen.health == Health::Healthy;
    instances.get(id).is_some_and(well)
}

impl Members {
    pub(super) fn new(copies: Copies) -> Self {
        Self {
            copies,
            faults: MemberFaults::default(),
            leader: None,
            silent: None,
            data: BTreeMap::new(),
            voters: BTreeSet::new(),
            standbys: BTreeSet::new(),
            holders: BTreeSet::new(),
            founders: BTreeSet::new(),
            founded: Vec::new(),
            elections: 0,
            handed: Vec::new(),
        }
    }

    fn has_all(&self, id: &InstanceId) -> bool {
        self.data.get(id) == Some(&None)
    }

    /// Who has all data.
    pub(super) fn having(&self) -> impl Iterator<Item = &InstanceId> {
        self.data.iter().filter(|(_, until)| until.is_none()).map(|(id, _)| id)
    }

    /// Returns when members do something by themselves next, after `now`.
    pub(super) fn changes_at(&self, now: Timestamp) -> Option<Timestamp> {
        let silent = self.silent.map(|since| since + TERM);
        self.data.values().copied().flatten().chain(silent).filter(|at| *at > now).min()
    }

    fn decides(&self, instances: &Population) -> bool {
        self.voters.iter().filter(|id| well(instances, id)).count() >= majority(self.voters.len())
    }

    /// Tells whether nobody leads, and nobody ever will by itself: machines that ended do not come back.
    fn is_lost(&self, instances: &Population) -> bool {
        let may_vote =
            |id: &&InstanceId| instances.get(id).is_some_and(|found| found.seen.state != State::Dead);
        let votes = self.voters.iter().filter(may_vote).count();
        let heir = |id: &InstanceId| may_vote(&id) && (self.leader.as_ref() == Some(id) || self.may_lead(id));
        !self.founded.is_empty() && (votes < majority(self.voters.len()) || !self.data.keys().any(heir))
    }

    /// Tells whether members would elect it: where writes wait for standbys, only one of those.
    fn may_lead(&self, id: &InstanceId) -> bool {
        let strict = self.copies.durability == Durability::Quorum && self.copies.synchronous > 0;
        self.has_all(id) && (!strict || self.standbys.contains(id))
    }

    /// What members do by themselves as time passes.
    pub(super) fn pass(&mut self, instances: &Population, now: Timestamp, chance: &mut Chance) {
        for id in instances.values().map(|found| &found.seen.id) {
            if self.data.contains_key(id) || !well(instances, id) {
                continue;
            }
            if self.founders.contains(id) {
                self.founded.push(id.clone());
                (self.leader, self.silent) = (Some(id.clone()), None);
                self.voters = BTreeSet::from([id.clone()]);
                self.data = BTreeMap::from([(id.clone(), None)]);
            } else if self.leader.as_ref().is_some_and(|leader| well(instances, leader)) {
                // One at a time, as an etcd of that age lets learn.
                let copying =
                    self.data.iter().any(|(other, until)| until.is_some() && well(instances, other));
                if !copying {
                    self.data.insert(id.clone(), Some(now + chance.between(COPIES.0, COPIES.1)));
                }
            }
        }
        let decides = self.decides(instances);
        // One that was ill while it copied begins anew.
        self.data.retain(|id, until| until.is_none() || well(instances, id));
        if decides {
            for (id, until) in &mut self.data {
                if until.is_some_and(|until| until <= now) {
                    *until = None;
                    self.voters.insert(id.clone());
                }
            }
        }
        self.elect(instances, now, decides);
        self.write(instances);
    }

    fn elect(&mut self, instances: &Population, now: Timestamp, decides: bool) {
        let leads = self.leader.as_ref().is_some_and(|leader| well(instances, leader)) && decides;
        if leads || self.founded.is_empty() {
            self.silent = None;
            return;
        }
        let since = *self.silent.get_or_insert(now);
        // A clock that went back says nothing about what came before.
        let over = now < since || now.duration_since(since) >= TERM;
        if !over || !decides {
            return;
        }
        let heir = self.data.keys().find(|id| well(instances, id) && self.may_lead(id)).cloned();
        if let Some(heir) = heir {
            self.standbys.remove(&heir);
            (self.leader, self.silent) = (Some(heir), None);
            self.elections += 1;
        }
    }

    /// Writes go on while a leader leads and as many standbys as they wait for have them.
    fn write(&mut self, instances: &Population) {
        let Some(leader) = self.leader.clone().filter(|_| self.silent.is_none()) else { return };
        let stays = |id: &InstanceId| *id != leader && well(instances, id);
        self.standbys.retain(|id| stays(id));
        let free: Vec<_> = self.data.keys().filter(|id| stays(id) && self.has_all(id)).cloned().collect();
        // One that is about to go is the last choice, as where it is marked so.
        let goes =
            |id: &InstanceId| instances.get(id).is_none_or(|found| found.seen.state == State::Draining);
        let wanted = self.copies.synchronous;
        let first = free.iter().filter(|id| !goes(id)).chain(free.iter().filter(|id| goes(id)));
        for id in first {
            if self.standbys.len() < wanted {
                self.standbys.insert(id.clone());
            }
        }
        // Nobody writes before the first one gets requests.
        let open =
            !self.holders.is_empty() || instances.get(&leader).is_some_and(|found| found.seen.in_service);
        if open && (self.standbys.len() >= wanted || self.copies.durability == Durability::Leader) {
            self.holders = self.standbys.iter().cloned().chain([leader]).collect();
        }
    }

    fn membership(&self, id: &InstanceId) -> Membership {
        let role = if self.leader.as_ref() == Some(id) && self.silent.is_none() {
            Role::Leader
        } else if self.standbys.contains(id) {
            Role::Synchronous
        } else if self.has_all(id) {
            Role::Replica
        } else {
            Role::Joining
        };
        Membership { role, caught_up: self.has_all(id), stays: None }
    }

    /// Adds to a look what members say of themselves.
    pub(super) fn tell(&self, census: &mut Census, mut silent: impl FnMut() -> bool) {
        let mut heard = false;
        for seen in &mut census.instances {
            seen.membership = None;
            if seen.state != State::Dead && seen.health == Health::Healthy && !silent() {
                seen.membership = Some(self.membership(&seen.id));
                heard = true;
            }
        }
        let voters: Vec<_> = self.voters.iter().cloned().collect();
        census.cluster = heard.then(|| cluster::Cluster {
            registered: voters.clone(),
            voters,
            refuses: Vec::new(),
            data: None,
        });
    }

    /// Members know of an act that was done.
    fn follow(&mut self, action: &Action) {
        match action {
            Action::Launch { id, founds: true, .. } => drop(self.founders.insert(id.clone())),
            Action::Terminate { id, .. } => {
                if self.holders.is_empty() && self.leader.as_ref() == Some(id) {
                    // It founded, and nobody could write to it: the next one founds.
                    (self.leader, self.founded) = (None, Vec::new());
                }
                self.data.remove(id);
                self.standbys.remove(id);
                self.voters.remove(id);
            }
            _ => {}
        }
    }
}

impl World {
    /// What is true of members at this moment, without what looks get wrong.
    pub(super) fn plain(&self) -> Census {
        let instances = self.instances.values().map(|found| found.seen.clone()).collect();
        let mut census = Census { at: self.now, instances, trouble: None, group: None, cluster: None };
        if let Some(members) = &self.members {
            members.tell(&mut census, || false);
        }
        census
    }

    /// Says why members do not let an act be done, as whoever carries it out is told by them.
    pub(super) fn object(&self, action: &Action) -> Option<Outcome> {
        let members = self.members.as_ref()?;
        let says = cluster::objection(action, &self.plain(), &members.copies)?;
        Some(Outcome::refused(says))
    }

    /// Carries out what is for members alone; `None` where the act is another one.
    pub(super) fn act_on_members(&mut self, action: &Action) -> Option<Outcome> {
        let Self { members, chance, .. } = self;
        let members = members.as_mut()?;
        match action {
            Action::HandOver { id, to } => {
                if chance.happens(members.faults.not_now, &mut 0) {
                    return Some(Outcome::refused("not now"));
                }
                members.standbys.remove(to);
                members.leader = Some(to.clone());
                members.handed.push((id.clone(), to.clone()));
                Some(Outcome::Applied)
            }
            Action::Deregister { id } => {
                let left = members.voters.remove(id);
                members.data.remove(id);
                Some(if left { Outcome::Applied } else { Outcome::AlreadyDone })
            }
            _ => None,
        }
    }

    /// Members learn of what was done.
    pub(super) fn tell_members(&mut self, action: &Action, outcome: &Outcome) {
        if let Some(members) = self.members.as_mut().filter(|_| *outcome == Outcome::Applied) {
            members.follow(action);
        }
    }

    /// Tells whether the data is lost, or nobody can lead any more, without a person.
    pub(super) fn is_lost(&self) -> bool {
        self.members.as_ref().is_some_and(|members| members.is_lost(&self.instances))
    }
}

//! Decide: what the members of a stateful fleet are to each other.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::census::{Census, Health, Instance, InstanceId, State};
use super::stateful::{Copies, Durability};
use crate::provider::Action;

/// What a member says of itself, and its leader of it. That of one that does not answer is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// What it is.
    pub role: Role,
    /// Whether it has all data but for what the fleet file's `max_lag` allows. A leader always has.
    pub caught_up: bool,
    /// Why it may not leave, in its own words, such as a backup that it makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stays: Option<String>,
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It takes the writes.
    Leader,
    /// No write is acknowledged before it, or enough of its kind, have it.
    Synchronous,
    /// It follows.
    Replica,
    /// It copies the data, and follows nobody yet.
    Joining,
}

/// What the members of a stateful fleet say of the whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Who is registered with the others, by name, in order: also who has ended.
    pub registered: Vec<InstanceId>,
    /// Whose votes decide who leads, in order; empty where members have none, since what decides is elsewhere.
    pub voters: Vec<InstanceId>,
    /// Why nobody may leave and leadership stays, whoever it is: such as a person's maintenance, or writes that are
    /// acknowledged before a second member has them.
    pub refuses: Vec<String>,
    /// How many bytes of data a new member copies, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<u64>,
}

impl Membership {
    /// Tells whether its data would do if it were the only one left.
    #[must_use]
    pub const fn has_all(&self) -> bool {
        self.caught_up && !matches!(self.role, Role::Joining)
    }
}

impl Instance {
    /// Tells whether it leads its fleet.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.answers().is_some_and(|membership| membership.role == Role::Leader)
    }

    /// Tells whether it has all data.
    #[must_use]
    pub fn has_all(&self) -> bool {
        self.answers().is_some_and(Membership::has_all)
    }

    /// What it says, while its machine runs.
    fn answers(&self) -> Option<&Membership> {
        self.membership.as_ref().filter(|_| self.state != State::Dead)
    }

    /// Tells whether it runs and answers, so that its vote counts.
    #[must_use]
    pub fn votes(&self) -> bool {
        // One that is ill, and said to copy, may not answer anybody.
        let well = self.state == State::Launching || self.health == Health::Healthy;
        well && self.answers().is_some()
    }
}

/// How many of so many votes decide.
#[must_use]
pub const fn majority(votes: usize) -> usize {
    votes / 2 + 1
}

impl Cluster {
    /// Tells whether the votes of those in `alive` decide, when those in `without` have none any more.
    #[must_use]
    pub fn decides(&self, alive: &BTreeSet<&InstanceId>, without: Option<&InstanceId>) -> bool {
        let voters = || self.voters.iter().filter(|voter| Some(*voter) != without);
        let all = voters().count();
        all == 0 && self.voters.is_empty()
            || voters().filter(|voter| alive.contains(voter)).count() >= majority(all)
    }
}

/// What would be missing if a member were gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// Votes to decide who leads, before or after.
    Votes {
        /// How many of the voters answer now.
        votes: usize,
        /// How many voters there are now.
        of: usize,
    },
    /// Members beside the leader that have all data, before or after.
    Copies {
        /// How many would.
        have: usize,
        /// How many must.
        must: usize,
    },
}

/// Returns those whose votes count: they run and answer.
#[must_use]
pub fn alive(instances: &[Instance]) -> BTreeSet<&InstanceId> {
    instances.iter().filter(|seen| seen.votes()).map(|seen| &seen.id).collect()
}

/// Returns who leads: nobody when none, or more than one, says that it does.
#[must_use]
pub fn leader(instances: &[Instance]) -> Option<&InstanceId> {
    let mut leading = instances.iter().filter(|seen| seen.leads());
    leading.next().filter(|_| leading.next().is_none()).map(|seen| &seen.id)
}

impl Cluster {
    /// Returns how many voters answer, and how many there are.
    #[must_use]
    pub fn votes(&self, alive: &BTreeSet<&InstanceId>) -> (usize, usize) {
        (self.voters.iter().filter(|voter| alive.contains(voter)).count(), self.voters.len())
    }

    /// Tells whether the votes decide now, so that one can be taken away, and would without it.
    #[must_use]
    pub fn bears(&self, alive: &BTreeSet<&InstanceId>, id: &InstanceId) -> bool {
        self.decides(alive, None) && self.decides(alive, Some(id))
    }

    /// Returns what would be missing without a member that lives, before or after it is gone.
    #[must_use]
    pub fn lack_without(&self, instances: &[Instance], id: &InstanceId, copies: &Copies) -> Option<Lack> {
        let alive = alive(instances);
        if !self.bears(&alive, id) {
            let (votes, of) = self.votes(&alive);
            return Some(Lack::Votes { votes, of });
        }
        // One that drains is about to go as well.
        let stay = || instances.iter().filter(|seen| seen.state != State::Draining && seen.has_all());
        let is = |seen: &Instance, role| seen.membership.as_ref().is_some_and(|found| found.role == role);
        let synchronous =
            instances.iter().filter(|seen| seen.has_all() && is(seen, Role::Synchronous)).count();
        let others = stay().filter(|seen| !seen.leads() && seen.id != *id).count();
        let have = match copies.durability {
            Durability::Quorum => others.min(synchronous),
            Durability::Leader => others,
        };
        (have < copies.synchronous).then_some(Lack::Copies { have, must: copies.synchronous })
    }
}

/// Says why an act must not be done to the members as they are at this moment: the last word before it, whatever it was
/// planned from.
#[must_use]
pub fn objection(action: &Action, census: &Census, copies: &Copies) -> Option<String> {
    let nothing = Cluster::default();
    let cluster = census.cluster.as_ref().unwrap_or(&nothing);
    let (instances, id) = (&census.instances, action.id());
    let found = instances.iter().find(|seen| seen.id == *id);
    let (leader, alive) = (leader(instances), alive(instances));
    let is_it = |seen: &Instance| seen.id == *id || seen.known_as.as_deref() == Some(&id.0);
    let lacks = || cluster.lack_without(instances, id, copies).map(|lack| lack.to_string());
    let nobody = || "nobody leads".to_owned();
    let refuses = || cluster.refuses.first().cloned();
    match action {
        Action::Launch { founds: true, .. } => {
            let other = instances.iter().find(|seen| seen.id != *id);
            other.map(|other| format!("{} is there: it may have data", other.id))
        }
        Action::Launch { .. } | Action::Admit { .. } => None,
        Action::Drain { .. } if leader.is_none() => Some(nobody()),
        Action::Drain { .. } if leader == Some(id) => Some("it leads".to_owned()),
        Action::Drain { .. } => {
            let stays = found.and_then(|seen| seen.membership.as_ref()?.stays.clone());
            refuses().or(stays).or_else(lacks)
        }
        Action::Terminate { .. } => {
            let served = |seen: &Instance| matches!(seen.state, State::Running | State::Draining);
            if census.cluster.is_none() && instances.iter().any(served) {
                return Some("no member says who has a vote".to_owned());
            }
            let has_all = found.is_some_and(Instance::has_all);
            if !has_all && !cluster.voters.contains(id) {
                // It never had a vote or all data: nobody counts on it.
                return None;
            }
            let dead = found.is_none_or(|seen| seen.state == State::Dead);
            let well = found.is_some_and(|seen| seen.health == Health::Healthy);
            // It founded, and nobody has written to it yet.
            let alone = instances
                .iter()
                .all(|seen| seen.state == State::Launching && (seen.id == *id || !seen.has_all()));
            match leader {
                _ if alone => None,
                None => Some(nobody()),
                Some(_) if dead => (!cluster.bears(&alive, id)).then(|| {
                    let (votes, of) = cluster.votes(&alive);
                    Lack::Votes { votes, of }.to_string()
                }),
                Some(leader) if leader == id && well => Some("it leads".to_owned()),
                Some(_) => lacks(),
            }
        }
        Action::HandOver { to, .. } => {
            let heir = instances.iter().find(|seen| seen.id == *to);
            if leader != Some(id) {
                Some(leader.map_or_else(nobody, |leader| format!("{leader} leads")))
            } else if heir.is_none_or(|heir| !heir.serves() || !heir.has_all()) {
                Some(format!("{to} does not serve, or does not have all data"))
            } else {
                refuses()
            }
        }
        Action::Deregister { .. } if instances.iter().any(is_it) => Some("it is there".to_owned()),
        Action::Deregister { .. } if leader.is_none() => Some(nobody()),
        Action::Deregister { .. } => (!cluster.bears(&alive, id)).then(|| {
            let (votes, of) = cluster.votes(&alive);
            Lack::Votes { votes, of }.to_string()
        }),
    }
}

impl std::fmt::Display for Lack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Votes { votes, of } => {
                write!(f, "{votes} of {of} votes answer, and without it too few would")
            }
            Self::Copies { have, must } => {
                write!(f, "without it {have} beside the leader would have all data, {must} must")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who has a vote, who answers, who is gone, and whether the rest decides.
    type Row<'a> = (&'a [u64], &'a [u64], Option<u64>, bool);

    #[test]
    fn more_than_half_of_those_that_are_left_decide() {
        let id = |number| InstanceId::new("db", number);
        let table: [Row<'_>; 9] = [
            (&[1, 2, 3], &[1, 2, 3], None, true),
            (&[1, 2, 3], &[1, 2], None, true),
            (&[1, 2, 3], &[1], None, false),
            // One that has ended may be removed; of two that are left then, both must vote.
            (&[1, 2, 3], &[1, 2], Some(3), true),
            (&[1, 2, 3], &[1, 2], Some(2), false),
            (&[1, 2, 3, 4], &[1, 2, 3], Some(3), true),
            (&[1], &[1], Some(1), false),
            // Who decides is elsewhere.
            (&[], &[], None, true),
            (&[], &[], Some(1), true),
        ];
        for (voters, alive, without, wanted) in table {
            let ids = |numbers: &[u64]| numbers.iter().map(|number| id(*number)).collect::<Vec<_>>();
            let (alive, without) = (ids(alive), without.map(id));
            let cluster = Cluster { voters: ids(voters), ..Cluster::default() };
            let got = cluster.decides(&alive.iter().collect(), without.as_ref());
            assert_eq!(got, wanted, "{voters:?} {alive:?} without {without:?}");
        }
    }
}

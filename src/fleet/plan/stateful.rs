//! Decide: what else must hold where members hold data. Whatever the rest of the plan wants, this has the last word:
//! replicas first and the leader last; leadership moves once, to a member that is new already; the votes and the copies
//! that must be there are there before and after each removal; one joins at a time, and one leaves at a time.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::members::{GONE, Known};
use super::room::Batch;
use super::{Hold, Kind, Situation, Standing};
use crate::fleet::census::{Health, Instance, InstanceId, State};
use crate::fleet::cluster::{Cluster, Lack, Role, alive, leader};
use crate::fleet::history::{Event, Leadership};
use crate::fleet::stateful::{Copies, Durability};
use crate::provider::Action;

/// How long members may take to elect a leader before that counts as lost. Patroni's leader key lives for 30 s by default,
/// it is looked at every 10 s, and a replica is promoted within seconds.
const ELECTION: SignedDuration = SignedDuration::from_mins(1);

/// How long a leader that does not hand over is left alone before it is asked again: "not now" changes within seconds.
const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// How long a handover that was said to be done may take to be seen, before it counts as one that never came.
const SEEN: SignedDuration = SignedDuration::from_secs(30);

/// What must be remembered of who leads, before anything is done about it.
pub(super) fn note(situation: &Situation<'_>) -> Option<Event> {
    let Situation { policy, census, history, now, .. } = *situation;
    policy.copies.as_ref()?;
    let now_leads = leader(&census.instances);
    let changed = match (&history.leadership.leads, now_leads) {
        // Before anybody led, there is nothing to miss.
        (None, now_leads) => now_leads.is_some(),
        // A time that is still to come is that of a clock that went back since: it is counted anew.
        (Some((None, since)), None) => *since > now,
        (Some((Some(before), _)), None) => leads_no_more(situation, before),
        (Some((before, _)), now_leads) => before.as_ref() != now_leads,
    };
    changed.then(|| Event::Led { instance: now_leads.cloned() })
}

/// Tells whether a leader that does not say so any more leads no more. One that is not seen, or does not answer, may.
fn leads_no_more(situation: &Situation<'_>, id: &InstanceId) -> bool {
    let mut seen = situation.census.instances.iter().filter(|seen| seen.id == *id);
    match seen.next() {
        Some(seen) if seen.votes() => !seen.leads(),
        Some(seen) => seen.state == State::Dead || seen.health == Health::Unhealthy,
        None => {
            let since = situation.history.members.get(id).map(|member| member.absent);
            since.is_none_or(|since| since.is_some_and(|at| situation.now.duration_since(at) >= GONE))
        }
    }
}

/// What is seen of all members together.
struct Whole<'a> {
    copies: &'a Copies,
    cluster: &'a Cluster,
    leader: Option<&'a InstanceId>,
    /// Whose votes count: they run and answer.
    alive: BTreeSet<&'a InstanceId>,
}

impl Whole<'_> {
    fn votes(&self) -> (usize, usize) {
        self.cluster.votes(&self.alive)
    }
}

/// What may be removed in one plan, so far.
#[derive(Default)]
struct Turn {
    /// Whether one that lives leaves, or leadership moves.
    leaves: bool,
    /// Whether one that lives is ended.
    ends: bool,
    /// Whether one joins.
    joins: bool,
}

impl<'a> Batch<'a> {
    /// Tells whether others are to be replaced before it: whoever writes do not wait for goes first, and who leads last.
    pub(super) fn waits_for_others(&self, member: &Standing, known: &Known<'_>) -> bool {
        if self.situation.policy.copies.is_none() {
            return false;
        }
        let rank = |known: &Known<'_>| match known.seen.and_then(|seen| Some(seen.membership.as_ref()?.role))
        {
            Some(Role::Leader) => 2,
            Some(Role::Synchronous) => 1,
            Some(Role::Replica | Role::Joining) | None => 0,
        };
        let own = rank(known);
        let before = |(other, known): (&Standing, &Known<'_>)| {
            other.id != member.id && matches!(other.kind, Kind::Stale(_)) && rank(known) < own
        };
        own > 0 && self.each().any(before)
    }

    /// Leaves of what was planned what members that hold data allow, and adds what only they need.
    pub(super) fn protect(&mut self) {
        let Situation { policy, census, .. } = *self.situation;
        let Some(copies) = &policy.copies else { return };
        let nothing = Cluster::default();
        let whole = Whole {
            copies,
            cluster: census.cluster.as_ref().unwrap_or(&nothing),
            leader: leader(&census.instances),
            alive: alive(&census.instances),
        };
        let draining = self.count(|kind| *kind == Kind::Draining) > 0;
        let mut turn = Turn { leaves: draining, ..Turn::default() };
        for action in std::mem::take(&mut self.actions) {
            let verdict = match &action {
                Action::Launch { id, .. } => {
                    self.may_join(&whole, id, &mut turn).map(|founds| match action {
                        Action::Launch { id, generation, zone, .. } => {
                            Some(Action::Launch { id, generation, zone, founds })
                        }
                        other => Some(other),
                    })
                }
                Action::Drain { id, .. } if whole.leader == Some(id) => self.hand_over(&whole, id, &mut turn),
                Action::Drain { id, .. } => self.may_leave(&whole, id, &mut turn).map(|()| Some(action)),
                Action::Terminate { id, .. } => {
                    self.may_end(&whole, id, &mut turn).map(|better| Some(better.unwrap_or(action)))
                }
                _ => Ok(Some(action)),
            };
            match verdict {
                Ok(allowed) => self.actions.extend(allowed),
                Err(hold) => self.hold(hold),
            }
        }
        self.deregister(&whole);
        let vacancy = self.vacancy(&whole);
        self.hold(vacancy);
    }

    fn hold(&mut self, hold: Option<Hold>) {
        if let Some(hold) = hold.filter(|hold| !self.holds.contains(hold)) {
            self.holds.push(hold);
        }
    }

    /// Returns why nothing can be done about members now: nobody leads them.
    fn vacancy(&self, whole: &Whole<'_>) -> Option<Hold> {
        let Situation { history, now, .. } = *self.situation;
        if !history.founded || whole.leader.is_some() {
            return None;
        }
        let since = match &history.leadership.leads {
            Some((None, since)) => *since,
            Some((Some(id), _)) => return Some(Hold::Unknown { id: id.clone() }),
            // Nobody was ever seen to lead.
            None => return Some(Hold::Lost { since: now, votes: 0, of: 0 }),
        };
        if now.duration_since(since) < ELECTION {
            return Some(Hold::Leaderless { since });
        }
        let (votes, of) = whole.votes();
        Some(Hold::Lost { since, votes, of })
    }

    /// Tells whether one may join now, and whether it founds: who has no other to copy from, and no others ever were.
    fn may_join(&self, whole: &Whole<'_>, id: &InstanceId, turn: &mut Turn) -> Result<bool, Option<Hold>> {
        let others = || self.each().filter(|(member, _)| member.id != *id);
        let joining = others().any(|(member, _)| matches!(member.kind, Kind::Starting | Kind::Unfinished));
        // Whoever joins is named already; the next begins when it has all data.
        if turn.joins || joining {
            return Err(None);
        }
        if !self.situation.history.founded {
            // One that failed, or that cannot be told, may have founded: it is ended first.
            if others().next().is_some() {
                return Err(None);
            }
            turn.joins = true;
            return Ok(true);
        }
        if whole.leader.is_none() {
            return Err(None);
        }
        if !whole.cluster.decides(&whole.alive, None) {
            let (votes, of) = whole.votes();
            return Err(Some(Hold::Votes { id: id.clone(), votes, of }));
        }
        turn.joins = true;
        Ok(false)
    }

    /// Tells whether one that lives, and does not lead, may leave now.
    fn may_leave(&self, whole: &Whole<'_>, id: &InstanceId, turn: &mut Turn) -> Result<(), Option<Hold>> {
        if turn.leaves || whole.leader.is_none() {
            return Err(None);
        }
        if let Some(why) = whole.cluster.refuses.first() {
            return Err(Some(Hold::Settles { why: why.clone() }));
        }
        let seen = self.seen(id);
        let membership = seen.and_then(|seen| seen.membership.as_ref());
        if let Some(why) = membership.and_then(|membership| membership.stays.clone()) {
            return Err(Some(Hold::Stays { id: id.clone(), why }));
        }
        if membership.is_none() && seen.is_some_and(Instance::serves) {
            return Err(Some(Hold::Unknown { id: id.clone() }));
        }
        self.enough_without(whole, id)?;
        turn.leaves = true;
        Ok(())
    }

    /// Checks the votes and the copies before and after one leaves.
    fn enough_without(&self, whole: &Whole<'_>, id: &InstanceId) -> Result<(), Option<Hold>> {
        let lack = whole.cluster.lack_without(&self.situation.census.instances, id, whole.copies);
        let id = id.clone();
        match lack {
            None => Ok(()),
            Some(Lack::Votes { votes, of }) => Err(Some(Hold::Votes { id, votes, of })),
            Some(Lack::Copies { have, must }) => Err(Some(Hold::Copies { id, have, must })),
        }
    }

    /// Tells whether one may be ended now; `Some` where something else is to be done with it.
    fn may_end(
        &self,
        whole: &Whole<'_>,
        id: &InstanceId,
        turn: &mut Turn,
    ) -> Result<Option<Action>, Option<Hold>> {
        let Some((member, known)) = self.each().find(|(member, _)| member.id == *id) else { return Ok(None) };
        let given = known.member.is_some_and(|member| member.served || member.given.is_some());
        let counts = known.seen.is_some_and(|seen| seen.in_service || seen.has_all());
        let served = given || counts || whole.cluster.voters.contains(id);
        if !self.situation.history.founded {
            return Ok(None);
        }
        if self.situation.census.cluster.is_none() {
            // Nobody says who has a vote: it may be this one.
            return Err(None);
        }
        // What never served has no data that others lack, and nobody counts on its vote.
        if !served && whole.leader != Some(id) {
            return Ok(None);
        }
        if whole.leader.is_none() {
            // Its disk may be the last that has all data, until someone leads who has it.
            return Err(None);
        }
        if known.seen.is_none_or(|seen| seen.state == State::Dead) {
            let (votes, of) = whole.votes();
            let bears = whole.cluster.bears(&whole.alive, id);
            return if bears { Ok(None) } else { Err(Some(Hold::Votes { id: id.clone(), votes, of })) };
        }
        let drained = member.kind == Kind::Draining;
        if whole.leader == Some(id) {
            if drained {
                return Ok(Some(Action::Admit { id: id.clone() }));
            }
            // A new one had better lead. Where none can, and it is ill, the others elect when it is gone.
            let ill = known.seen.is_some_and(|seen| seen.health == Health::Unhealthy);
            match self.hand_over(whole, id, turn) {
                Err(Some(Hold::HandingOver { to: None, .. } | Hold::Keeps { .. })) if ill => {}
                other => return other,
            }
        }
        // One that drains was allowed to leave when that began; votes and copies may have changed since.
        if turn.ends || turn.leaves && !drained {
            return Err(None);
        }
        self.enough_without(whole, id)?;
        (turn.leaves, turn.ends) = (true, true);
        Ok(None)
    }

    /// Has leadership handed over to the oldest new member that has all data, at most once in a rollout by rekiln's own act.
    fn hand_over(
        &self,
        whole: &Whole<'_>,
        id: &InstanceId,
        turn: &mut Turn,
    ) -> Result<Option<Action>, Option<Hold>> {
        let Situation { history, now, .. } = *self.situation;
        if turn.leaves {
            return Err(None);
        }
        if let Some(why) = whole.cluster.refuses.first() {
            return Err(Some(Hold::Settles { why: why.clone() }));
        }
        let waits =
            |why: &str| Err(Some(Hold::HandingOver { id: id.clone(), to: None, why: why.to_owned() }));
        if !whole.cluster.decides(&whole.alive, None) {
            let (votes, of) = whole.votes();
            return Err(Some(Hold::Votes { id: id.clone(), votes, of }));
        }
        let synchronous = whole.copies.durability == Durability::Quorum && whole.copies.synchronous > 0;
        let heir = |(member, known): &(&'a Standing, &'a Known<'a>)| {
            let role = known.seen.and_then(|seen| Some(seen.membership.as_ref()?.role));
            member.new
                && member.id != *id
                && member.kind == Kind::Current
                && known.seen.is_some_and(|seen| seen.serves() && seen.has_all())
                && (!synchronous || role == Some(Role::Synchronous))
        };
        let Leadership { moved, refused, .. } = &history.leadership;
        if let Some(moved) = moved {
            if moved.from == *id && now.duration_since(moved.at).abs() < SEEN {
                return waits("it was handed over a moment ago");
            }
            if moved.to == *id {
                // Someone wants it replaced all the same, or was on it: the next roll may move it again.
                let why =
                    "leadership was handed to it in this rollout, and moves once; the next roll goes on"
                        .to_owned();
                return Err(Some(Hold::Keeps { id: id.clone(), why }));
            }
        }
        let Some((heir, _)) = self.each().filter(heir).min_by_key(|(member, _)| member.id.number()) else {
            return waits("no new member may take it yet");
        };
        if let Some(refused) = refused {
            if now.duration_since(refused.since) >= whole.copies.switchover {
                return Err(Some(Hold::Keeps { id: id.clone(), why: refused.words.clone() }));
            }
            if now.duration_since(refused.at).abs() < ASK_AGAIN {
                let (to, why) = (Some(heir.id.clone()), refused.words.clone());
                return Err(Some(Hold::HandingOver { id: id.clone(), to, why }));
            }
        }
        turn.leaves = true;
        Ok(Some(Action::HandOver { id: id.clone(), to: heir.id.clone() }))
    }

    /// Removes what those left with the others who have ended.
    fn deregister(&mut self, whole: &Whole<'_>) {
        let Situation { fleet, history, .. } = *self.situation;
        if whole.leader.is_none() {
            return;
        }
        let known: BTreeSet<&InstanceId> = self.members.iter().map(|member| &member.id).collect();
        // What rekiln did not launch is not rekiln's to remove.
        let ours = |id: &&InstanceId| {
            let number = id.number();
            number > 0 && number <= history.launches && **id == InstanceId::new(fleet, number)
        };
        let left = whole.cluster.registered.iter().filter(|registered| {
            // By whichever name: what the provider does not list at the moment may be there all the same.
            let id = history.known_as.get(*registered).unwrap_or(registered);
            ours(&id) && !known.contains(id)
        });
        let left = left.filter(|id| whole.cluster.bears(&whole.alive, id));
        // One at a time: each changes how many votes decide.
        self.actions.extend(left.take(1).map(|id| Action::Deregister { id: id.clone() }));
    }

    fn seen(&self, id: &InstanceId) -> Option<&'a Instance> {
        self.each().find(|(member, _)| member.id == *id).and_then(|(_, known)| known.seen)
    }
}

//! Decide: one batch in the making: who is there, and what is ended.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::members::Looked;
use super::{Hold, Kind, Situation, Standing};
use crate::fleet::census::{Health, Instance, InstanceId, State};
use crate::provider::Action;

/// How long a load balancer has to send requests to what was given some, before it is told again.
const ADMIT_AGAIN: SignedDuration = SignedDuration::from_secs(10);

/// One plan in the making.
pub(super) struct Batch<'a> {
    pub(super) situation: &'a Situation<'a>,
    pub(super) members: &'a [Standing],
    looked: Looked<'a>,
    pub(super) actions: Vec<Action>,
    pub(super) holds: Vec<Hold>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(situation: &'a Situation<'a>, members: &'a [Standing], looked: Looked<'a>) -> Self {
        Self { situation, members, looked, actions: Vec::new(), holds: Vec::new() }
    }

    pub(super) fn seen(&self, id: &InstanceId) -> Option<&'a Instance> {
        self.looked.get(id)
    }

    pub(super) fn count(&self, is: impl Fn(&Kind) -> bool) -> usize {
        self.members.iter().filter(|member| is(&member.kind)).count()
    }

    /// Those that serve and are not about to stop. Unknown ones do not count.
    pub(super) fn serving(&self) -> usize {
        self.count(|kind| matches!(kind, Kind::Current | Kind::Stale(_)))
    }

    /// Everything that takes up room. What this plan ends still does, since ending may fail; what is unfinished may be
    /// there, unseen.
    pub(super) fn existing(&self) -> usize {
        let ended = |id: &InstanceId| self.seen(id).is_some_and(|seen| seen.state == State::Dead);
        let takes = |m: &&Standing| match m.kind {
            Kind::Unfinished => true,
            _ => !ended(&m.id),
        };
        self.members.iter().filter(takes).count()
    }

    pub(super) fn terminate(&mut self, id: &InstanceId, healthy: bool, reason: &str) {
        self.actions.push(Action::Terminate { id: id.clone(), healthy, reason: reason.to_owned() });
    }

    /// Ends what is dead, gone, failed, outdated or drained.
    pub(super) fn end(&mut self) {
        let serving = self.serving();
        let policy = self.situation.policy;
        let enough = serving >= policy.floor();
        let again: BTreeSet<InstanceId> = self.again().iter().map(|member| member.id.clone()).collect();
        for Standing { id, kind, .. } in self.members {
            match kind {
                Kind::Dead => self.terminate(id, false, "its machine ended"),
                Kind::Gone => self.terminate(id, false, "it is gone"),
                Kind::Failed(_) => self.terminate(id, false, "it failed"),
                Kind::Outdated => self.terminate(id, false, "outdated before it served"),
                Kind::Unfinished if !again.contains(id) => {
                    self.terminate(id, false, "its launch was interrupted and is no longer wanted");
                }
                Kind::Unhealthy if serving >= policy.size => self.terminate(id, false, "unhealthy"),
                Kind::Draining => self.end_drained(id, enough),
                _ => {}
            }
        }
    }

    fn end_drained(&mut self, id: &InstanceId, enough: bool) {
        let Situation { policy, history, now, .. } = *self.situation;
        let Some(seen) = self.seen(id) else { return };
        let since = history.members.get(id).and_then(|member| member.draining);
        let over = since.is_some_and(|since| now.duration_since(since) >= policy.drain);
        let (connections, health) = (seen.connections, seen.health);
        if seen.in_service {
            // The intent is in the journal, and the act did not happen or was undone.
            self.actions.push(Action::Drain { id: id.clone(), others: policy.floor() });
        } else if health == Health::Unhealthy {
            self.terminate(id, false, "unhealthy and drained");
        } else if !enough && health == Health::Healthy {
            // Its replacement stopped serving: it is needed again.
            self.actions.push(Action::Admit { id: id.clone() });
        } else if !enough {
            self.holds.push(Hold::Unknown { id: id.clone() });
        } else if connections == 0 || over {
            self.terminate(id, true, "drained");
        } else {
            self.holds.push(Hold::Draining { id: id.clone(), connections });
        }
    }

    /// Tells whether a drain of it was begun whose answer nobody heard: it may drain although the list says that it
    /// serves.
    pub(super) fn may_drain(&self, member: &Standing) -> bool {
        let serves = matches!(member.kind, Kind::Current | Kind::Stale(_));
        let remembered = || self.situation.history.members.get(&member.id);
        serves && remembered().is_some_and(|remembered| remembered.draining.is_some())
    }

    /// Gives requests to what is healthy and gets none, or may get none.
    pub(super) fn admit(&mut self) {
        let Situation { history, now, .. } = *self.situation;
        for member in self.members.iter().filter(|member| member.kind == Kind::Current) {
            if self.may_drain(member) {
                self.actions.push(Action::Admit { id: member.id.clone() });
            }
        }
        for Standing { id, .. } in self.members.iter().filter(|member| member.kind == Kind::Starting) {
            let healthy = self.seen(id).is_some_and(|seen| seen.health == Health::Healthy);
            let admitted = history.members.get(id).and_then(|member| member.admitted);
            let waits = admitted.is_some_and(|at| now.duration_since(at).abs() < ADMIT_AGAIN);
            if healthy && !waits {
                self.actions.push(Action::Admit { id: id.clone() });
            }
        }
    }

    /// Names what is waited for.
    pub(super) fn explain(&mut self) {
        let acted: BTreeSet<InstanceId> = self.actions.iter().map(|action| action.id().clone()).collect();
        for Standing { id, kind, .. } in self.members.iter().filter(|member| !acted.contains(&member.id)) {
            let id = id.clone();
            match kind {
                Kind::Starting => self.holds.push(Hold::Starting { id }),
                Kind::Unknown => self.holds.push(Hold::Unknown { id }),
                Kind::Absent => self.holds.push(Hold::Absent { id }),
                Kind::Unhealthy => self.holds.push(Hold::Floor { id }),
                _ => {}
            }
        }
        self.explain_wave();
    }
}

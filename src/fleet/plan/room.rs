//! Decide: one batch in the making: who is there, and what is ended.

use std::collections::HashSet;

use super::members::{Known, just_admitted};
use super::{Hold, Kind, Situation, Standing};
use crate::fleet::census::{Health, Instance, InstanceId, State};
use crate::provider::Action;

/// Tells whether a drain of it was begun whose answer nobody heard: it may drain although the list says that it
/// serves, or although it was told to serve a moment before.
pub(super) fn may_drain(member: &Standing, known: &Known<'_>) -> bool {
    let serves = matches!(member.kind, Kind::Current | Kind::Stale(_) | Kind::Starting);
    serves && known.member.is_some_and(|remembered| remembered.draining.is_some())
}

/// One plan in the making.
pub(super) struct Batch<'a> {
    pub(super) situation: &'a Situation<'a>,
    pub(super) members: &'a [Standing],
    /// What is known of each of `members`, in the same order.
    known: &'a [Known<'a>],
    pub(super) actions: Vec<Action>,
    pub(super) holds: Vec<Hold>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(situation: &'a Situation<'a>, members: &'a [Standing], known: &'a [Known<'a>]) -> Self {
        Self { situation, members, known, actions: Vec::new(), holds: Vec::new() }
    }

    /// Every instance with what is known of it, in the order of ids.
    pub(super) fn each(&self) -> impl Iterator<Item = (&'a Standing, &'a Known<'a>)> + use<'a> {
        self.members.iter().zip(self.known)
    }

    pub(super) fn count(&self, is: impl Fn(&Kind) -> bool) -> usize {
        self.members.iter().filter(|member| is(&member.kind)).count()
    }

    /// Those that serve and are not about to stop. Unknown ones do not count.
    /// Nor do those that hold data and lag behind.
    pub(super) fn serving(&self) -> usize {
        self.whole(|kind| matches!(kind, Kind::Current | Kind::Stale(_)))
    }

    /// Those that are as they should be; of those that hold data, which have all of it.
    pub(super) fn current(&self) -> usize {
        self.whole(|kind| *kind == Kind::Current)
    }

    fn whole(&self, is: impl Fn(&Kind) -> bool) -> usize {
        if self.situation.policy.copies.is_none() {
            return self.count(is);
        }
        let whole = |(member, known): &(&Standing, &Known<'_>)| {
            is(&member.kind) && known.seen.is_some_and(Instance::has_all)
        };
        self.each().filter(whole).count()
    }

    /// Everything that takes up room. What this plan ends still does, since ending may fail; what is unfinished may be
    /// there, unseen.
    pub(super) fn existing(&self) -> usize {
        let ended = |known: &Known<'_>| known.seen.is_some_and(|seen| seen.state == State::Dead);
        let takes = |(member, known): &(&Standing, &Known<'_>)| match member.kind {
            Kind::Dead => false,
            Kind::Failed(_) | Kind::Unknown => !ended(known),
            _ => true,
        };
        self.each().filter(takes).count()
    }

    pub(super) fn terminate(&mut self, id: &InstanceId, healthy: bool, reason: &str) {
        self.actions.push(Action::Terminate { id: id.clone(), healthy, reason: reason.to_owned() });
    }

    /// Ends what is dead, gone, failed, outdated or drained.
    pub(super) fn end(&mut self) {
        let serving = self.serving();
        let policy = self.situation.policy;
        let enough = serving >= policy.floor();
        let targets = self.filling().into_iter().chain([self.situation.target]);
        let again = targets.flat_map(|target| self.again(target)).map(|member| &member.id);
        let again: HashSet<&InstanceId> = again.collect();
        for (Standing { id, kind, .. }, known) in self.each() {
            match kind {
                Kind::Dead => self.terminate(id, false, "its machine ended"),
                Kind::Gone => self.terminate(id, false, "it is gone"),
                Kind::Failed(_) => self.terminate(id, false, "it failed"),
                Kind::Outdated => self.terminate(id, false, "outdated before it served"),
                Kind::Unfinished if !again.contains(id) => {
                    self.terminate(id, false, "its launch was interrupted and is no longer wanted");
                }
                Kind::Unhealthy if serving >= policy.size => self.terminate(id, false, "unhealthy"),
                Kind::Draining => self.end_drained(id, known, enough),
                _ => {}
            }
        }
    }

    fn end_drained(&mut self, id: &InstanceId, known: &Known<'_>, enough: bool) {
        let Situation { policy, now, .. } = *self.situation;
        let Some(seen) = known.seen else { return };
        // Leadership that came to it meanwhile stays until it is handed over.
        let enough = enough && !seen.leads();
        let since = known.member.and_then(|member| member.draining);
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

    /// Gives requests to what is healthy and gets none, or may get none.
    pub(super) fn admit(&mut self) {
        let now = self.situation.now;
        let waits = |known: &Known<'_>| just_admitted(known.member, now);
        let holds = |seen: &Instance| self.situation.policy.copies.is_none() || seen.has_all();
        let healthy =
            |known: &Known<'_>| known.seen.is_some_and(|seen| seen.health == Health::Healthy && holds(seen));
        let serves =
            self.each().filter(|(member, known)| member.kind == Kind::Current && may_drain(member, known));
        let starts = |(member, known): &(&Standing, &Known<'_>)| {
            member.kind == Kind::Starting && healthy(known) && !waits(known)
        };
        let admitted = serves.chain(self.each().filter(starts));
        self.actions.extend(admitted.map(|(member, _)| Action::Admit { id: member.id.clone() }));
    }

    /// Returns until when one that holds data may recover.
    fn ill(&self, id: &InstanceId, kind: &Kind, known: &Known<'_>) -> Option<Hold> {
        let copies = self.situation.policy.copies.as_ref().filter(|_| *kind == Kind::Unknown)?;
        let since = known.member?.ill?;
        known.seen.filter(|seen| seen.health == Health::Unhealthy)?;
        Some(Hold::Ill { id: id.clone(), until: since + copies.recovery })
    }

    /// Names what is waited for.
    pub(super) fn explain(&mut self) {
        let acted: HashSet<&InstanceId> = self.actions.iter().map(Action::id).collect();
        for (Standing { id, kind, .. }, known) in self.each() {
            if let Some(hold) = self.ill(id, kind, known).filter(|_| !acted.contains(id)) {
                self.holds.push(hold);
                continue;
            }
            let hold: fn(InstanceId) -> Hold = match kind {
                Kind::Starting => |id| Hold::Starting { id },
                Kind::Unknown => |id| Hold::Unknown { id },
                Kind::Absent => |id| Hold::Absent { id },
                Kind::Unhealthy => |id| Hold::Floor { id },
                _ => continue,
            };
            if !acted.contains(id) {
                self.holds.push(hold(id.clone()));
            }
        }
        self.explain_wave();
    }
}

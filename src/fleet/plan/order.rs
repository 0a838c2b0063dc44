//! Decide: what gets requests, and in which order instances stop getting them.

use std::cmp::Reverse;

use super::room::Step;
use super::{Hold, Kind, Standing};
use crate::fleet::census::{Health, InstanceId};
use crate::provider::Action;

impl Step<'_> {
    /// Gives requests to what is healthy and gets none.
    pub(super) fn admit(&mut self) {
        for Standing { id, kind } in self.members {
            let healthy = self.seen(id).is_some_and(|seen| seen.health == Health::Healthy);
            if *kind == Kind::Starting && healthy {
                self.actions.push(Action::Admit { id: id.clone() });
            }
        }
    }

    /// Drains what is to be replaced and what is too many, as far as enough others serve.
    pub(super) fn replace(&mut self) {
        let current = self.count(|kind| *kind == Kind::Current);
        let (stale, extra) = (self.stale(), self.extra(current));
        // With surge, an old one goes only when a new one covers it; without, `unavailable` is the leave to be short.
        let old = stale.len() + self.count(|kind| *kind == Kind::Unhealthy);
        let mut covered = match self.policy.surge {
            0 => usize::MAX,
            _ => (current + old).saturating_sub(self.policy.size),
        };
        // An unhealthy or missing one is cured before a healthy one is touched in place; and what nothing can
        // replace stays, unless it is one too many.
        let sick = self.count(|kind| matches!(kind, Kind::Unhealthy | Kind::Unknown | Kind::Absent));
        let replaceable = sick == 0 && self.may_launch().is_ok();
        let mut serving = self.serving();
        let stale = stale.into_iter().map(|id| (id, true));
        for (id, is_stale) in stale.chain(extra.into_iter().map(|id| (id, false))) {
            let too_many = current.max(serving) > self.policy.size;
            if serving > self.policy.floor() && covered > 0 && (too_many || replaceable) {
                serving -= 1;
                covered -= 1;
                self.actions.push(Action::Drain { id, others: self.policy.floor() });
            } else if is_stale {
                self.holds.push(Hold::Floor { id });
            }
        }
        self.end_needless(current);
    }

    /// What is to be replaced, oldest first.
    fn stale(&self) -> Vec<InstanceId> {
        let mut stale: Vec<_> = self.members.iter().filter(|m| matches!(m.kind, Kind::Stale(_))).collect();
        stale.sort_by_key(|m| (self.seen(&m.id).map(|seen| seen.launched_at), m.id.number()));
        stale.into_iter().map(|member| member.id.clone()).collect()
    }

    /// What is current and one too many, newest first: the older have proven themselves.
    fn extra(&self, current: usize) -> Vec<InstanceId> {
        let mut extra: Vec<_> = self.members.iter().filter(|m| m.kind == Kind::Current).collect();
        extra.sort_by_key(|m| Reverse((self.seen(&m.id).map(|seen| seen.launched_at), m.id.number())));
        extra.truncate(current.saturating_sub(self.policy.size));
        extra.into_iter().map(|member| member.id.clone()).collect()
    }

    /// Ends starting ones that nobody waits for any more.
    fn end_needless(&mut self, current: usize) {
        if current < self.policy.size {
            return;
        }
        let starting = self.members.iter().rev().filter(|m| m.kind == Kind::Starting);
        let ids: Vec<_> = starting.map(|member| member.id.clone()).collect();
        let needless = (current + ids.len()).saturating_sub(self.policy.size);
        for id in ids.into_iter().take(needless) {
            self.actions.retain(|action| *action.id() != id);
            self.terminate(&id, false, "one too many");
        }
    }

    /// Names what is waited for.
    pub(super) fn explain(&mut self) {
        for Standing { id, kind } in self.members {
            if self.actions.iter().any(|action| action.id() == id) {
                continue;
            }
            let id = id.clone();
            match kind {
                Kind::Starting => self.holds.push(Hold::Starting { id }),
                Kind::Unknown => self.holds.push(Hold::Unknown { id }),
                Kind::Absent => self.holds.push(Hold::Absent { id }),
                Kind::Unhealthy => self.holds.push(Hold::Floor { id }),
                _ => {}
            }
        }
    }
}

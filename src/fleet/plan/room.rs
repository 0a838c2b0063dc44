//! Decide: what is ended, and what is launched into the room that is there.

use jiff::Timestamp;

use super::{Hold, Kind, Standing};
use crate::fleet::census::{Census, Health, Instance, InstanceId, State};
use crate::fleet::generation::Target;
use crate::fleet::history::History;
use crate::fleet::policy::Policy;
use crate::provider::Action;

/// One plan in the making.
pub(super) struct Step<'a> {
    pub(super) policy: &'a Policy,
    pub(super) target: &'a Target,
    pub(super) census: &'a Census,
    pub(super) history: &'a History,
    pub(super) now: Timestamp,
    pub(super) members: &'a [Standing],
    pub(super) actions: Vec<Action>,
    pub(super) holds: Vec<Hold>,
}

impl Step<'_> {
    pub(super) fn seen(&self, id: &InstanceId) -> Option<&Instance> {
        self.census.instances.iter().find(|instance| instance.id == *id)
    }

    pub(super) fn count(&self, is: impl Fn(&Kind) -> bool) -> usize {
        self.members.iter().filter(|member| is(&member.kind)).count()
    }

    /// Those that serve and are not about to stop. Unknown ones do not count.
    pub(super) fn serving(&self) -> usize {
        self.count(|kind| matches!(kind, Kind::Current | Kind::Stale(_)))
    }

    /// Everything that takes up room. What this plan ends still does, since ending may fail; what is unfinished
    /// takes its room when its launch is begun again.
    fn existing(&self) -> usize {
        let ended = |id: &InstanceId| self.seen(id).is_some_and(|seen| seen.state == State::Dead);
        let takes = |m: &&Standing| !matches!(m.kind, Kind::Unfinished | Kind::Gone) && !ended(&m.id);
        self.members.iter().filter(takes).count()
    }

    pub(super) fn may_launch(&self) -> Result<(), Hold> {
        if let Some(reason) = &self.target.refused {
            return Err(Hold::Refused { reason: reason.clone() });
        }
        if let Some(reason) = &self.history.halted {
            return Err(Hold::Halted { reason: reason.clone() });
        }
        let failed = self.history.failures.len();
        if failed > self.policy.failures {
            let which: Vec<_> = self.history.failures.iter().map(ToString::to_string).collect();
            let reason = format!("{failed} failed ({}), {} allowed", which.join(", "), self.policy.failures);
            return Err(Hold::Halted { reason });
        }
        Ok(())
    }

    pub(super) fn terminate(&mut self, id: &InstanceId, healthy: bool, reason: &str) {
        self.actions.push(Action::Terminate { id: id.clone(), healthy, reason: reason.to_owned() });
    }

    /// Ends what is dead, gone, failed, outdated or drained.
    pub(super) fn end(&mut self) {
        let serving = self.serving();
        let enough = serving >= self.policy.floor();
        for Standing { id, kind } in self.members {
            match kind {
                Kind::Dead => self.terminate(id, false, "its machine ended"),
                Kind::Gone => self.terminate(id, false, "it is gone"),
                Kind::Failed(_) => self.terminate(id, false, "it failed"),
                Kind::Outdated => self.terminate(id, false, "outdated before it served"),
                Kind::Unfinished if !self.wanted_again(id) => {
                    self.terminate(id, false, "its launch was interrupted and is no longer wanted");
                }
                Kind::Unhealthy if serving >= self.policy.size => self.terminate(id, false, "unhealthy"),
                Kind::Draining => self.end_drained(id, enough),
                _ => {}
            }
        }
    }

    fn wanted_again(&self, id: &InstanceId) -> bool {
        let same =
            self.history.members.get(id).is_some_and(|m| m.generation == Some(self.target.generation.id));
        let current = self.count(|kind| matches!(kind, Kind::Current | Kind::Starting));
        same && self.may_launch().is_ok() && current < self.policy.size
    }

    fn end_drained(&mut self, id: &InstanceId, enough: bool) {
        let Some(seen) = self.seen(id) else { return };
        let healthy = seen.health != Health::Unhealthy;
        let since = self.history.members.get(id).and_then(|member| member.draining);
        let over = since.is_some_and(|since| self.now.duration_since(since) >= self.policy.drain);
        let (connections, health) = (seen.connections, seen.health);
        if seen.in_service {
            // The intent is in the journal, and the act did not happen or was undone.
            self.actions.push(Action::Drain { id: id.clone(), others: self.policy.floor() });
        } else if !healthy {
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

    /// Launches what is missing, ending unhealthy ones when there is no room beside them.
    pub(super) fn launch(&mut self, fleet: &str) {
        let good =
            self.count(|kind| matches!(kind, Kind::Current | Kind::Starting | Kind::Unknown | Kind::Absent));
        let mut wanted = self.policy.size.saturating_sub(good);
        if wanted == 0 {
            return;
        }
        if let Err(hold) = self.may_launch() {
            self.holds.push(hold);
            return;
        }
        let room = self.policy.ceiling().saturating_sub(self.existing());
        if room == 0 {
            // The next plan launches into the room.
            let sick = self.members.iter().filter(|m| m.kind == Kind::Unhealthy && !self.ends(&m.id));
            if let Some(id) = sick.map(|member| member.id.clone()).next() {
                self.terminate(&id, false, "unhealthy, to make room for its replacement");
            }
            return;
        }
        let again = self.members.iter().filter(|m| m.kind == Kind::Unfinished && self.wanted_again(&m.id));
        let mut ids: Vec<_> = again.map(|member| member.id.clone()).collect();
        let fresh = (1..).map(|offset| InstanceId::new(fleet, self.history.launches + offset));
        wanted = wanted.min(room);
        let more = wanted.saturating_sub(ids.len());
        ids.extend(fresh.take(more));
        ids.truncate(wanted);
        for id in ids {
            self.actions.push(Action::Launch { id, generation: self.target.generation.clone() });
        }
    }

    fn ends(&self, id: &InstanceId) -> bool {
        self.actions.iter().any(|action| matches!(action, Action::Terminate { id: ended, .. } if ended == id))
    }
}

//! Decide: whether something voluntary may begin now, and how much of it.

use super::room::Batch;
use super::{Hold, Kind, Situation};
use crate::fleet::history::HOUR;

/// How many replacements may begin now, and what holds the rest.
pub(super) struct Pace {
    /// How many.
    pub(super) may_begin: usize,
    /// Why no more; `None` when nothing holds them.
    pub(super) hold: Option<Hold>,
}

impl Batch<'_> {
    /// Decides how many healthy instances may begin to be replaced now. A cure is never voluntary, and what has begun
    /// is finished outside of windows and rates too.
    pub(super) fn pace(&self) -> Pace {
        let Situation { policy, history, outlook, now, .. } = *self.situation;
        let none = |hold| Pace { may_begin: 0, hold: Some(hold) };
        if let Some(reason) = &history.paused {
            return none(Hold::Paused { reason: reason.clone() });
        }
        if history.emergency {
            return Pace { may_begin: usize::MAX, hold: None };
        }
        if let Some(reason) = &outlook.breaker {
            return none(Hold::Breaker { reason: reason.clone() });
        }
        if !policy.windows.is_open(now) {
            return none(Hold::Window { until: policy.windows.opens_at(now) });
        }
        let (left, hold) = self.drains_left();
        // A replacement that was launched and has taken no one's place yet counts already; in place, a drain is first.
        let begun = if policy.surge > 0 { self.living().saturating_sub(policy.size) } else { 0 };
        Pace { may_begin: left.saturating_sub(begun), hold: hold.filter(|_| begun == 0) }
    }

    /// How many more may be drained within this hour, and what holds the rest when none may.
    pub(super) fn drains_left(&self) -> (usize, Option<Hold>) {
        let Situation { policy, history, now, .. } = *self.situation;
        let Some(rate) = policy.rate.filter(|_| !history.emergency) else { return (usize::MAX, None) };
        let recent = history.replaced.iter().filter(|at| now.duration_since(**at) < HOUR);
        let first = recent.clone().next().copied().unwrap_or(now);
        let left = rate.saturating_sub(recent.count());
        (left, (left == 0).then_some(Hold::Rate { until: first + HOUR }))
    }

    /// Everything that serves, or is expected to.
    pub(super) fn living(&self) -> usize {
        self.count(|kind| kind.stays() || matches!(kind, Kind::Stale(_)))
    }
}

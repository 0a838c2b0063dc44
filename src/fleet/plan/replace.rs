//! Decide: in which order instances stop getting requests.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet, VecDeque};

use jiff::Timestamp;

use super::room::Batch;
use super::{Hold, Kind, Situation, Standing, Urgency};
use crate::fleet::census::InstanceId;
use crate::provider::Action;

/// How many waiting instances are named; of more, their number says as much.
const ONE_BY_ONE: usize = 5;

/// What like ones are replaced by, the oldest first.
fn age(member: &Standing) -> (Option<Timestamp>, u64) {
    (member.launched_at, member.id.number())
}

impl<'a> Batch<'a> {
    /// Drains what is to be replaced and what is too many, as far as enough others serve.
    pub(super) fn replace(&mut self) {
        let Situation { policy, history, target, .. } = *self.situation;
        let current = self.count(|kind| *kind == Kind::Current);
        let stale = self.victims();
        let extra = self.extra(current);
        // An unhealthy or missing one is cured before a healthy one is touched in place; and what nothing can
        // replace stays, unless it is one too many.
        let sick =
            self.count(|kind| matches!(kind, Kind::Unhealthy | Kind::Unknown | Kind::Absent | Kind::Gone));
        let replaceable = sick == 0 && self.refusal(target).is_none();
        let mut serving = self.serving();
        let mut covered = self.covered(current, stale.len() + extra.len());
        let (mut rest, mut withheld) = (Vec::new(), false);
        let stale = stale.into_iter().map(|id| (id, true));
        for (id, is_stale) in stale.chain(extra.into_iter().map(|id| (id, false))) {
            let too_many = current.max(serving) > policy.size;
            let allowed = history.paused.is_none() && covered > 0 && (too_many || replaceable);
            if allowed && serving > policy.floor() {
                serving -= 1;
                covered -= 1;
                self.actions.push(Action::Drain { id: id.clone(), others: policy.floor() });
            } else {
                withheld = true;
                rest.extend(is_stale.then_some(id));
            }
        }
        if let Some(reason) = history.paused.clone().filter(|_| withheld) {
            // Also where all that is left is to drain: a roll is not over, and waits for as long as it is paused.
            let paused = Hold::Paused { reason };
            if !self.holds.contains(&paused) {
                self.holds.push(paused);
            }
        }
        let new = self.members.iter().filter(|member| member.new && member.kind == Kind::Current).count();
        let waits = self.stage().is_some_and(|stage| new >= stage.limit)
            || self.holds.iter().any(|hold| hold.blocks() || hold.intended());
        if waits && !rest.is_empty() || rest.len() > ONE_BY_ONE {
            self.holds.push(Hold::Turn { count: rest.len() });
        } else {
            self.holds.extend(rest.into_iter().map(|id| Hold::Floor { id: id.clone() }));
        }
        self.end_needless(current);
    }

    /// How many may be drained now. With surge, an old one goes only when a new one covers it; without, `unavailable`
    /// is the leave to be short, as far as the wave and the pace go.
    fn covered(&mut self, current: usize, waiting: usize) -> usize {
        let Situation { policy, .. } = *self.situation;
        if policy.surge > 0 {
            let old = self.count(|kind| matches!(kind, Kind::Stale(_) | Kind::Unhealthy));
            let covered = (current + old).saturating_sub(policy.size);
            // Launches are paced; but an autoscaler's count too, and would let more be drained.
            let (may_drain, hold) = self.drains_left();
            if may_drain < covered {
                self.holds.extend(hold);
            }
            return covered.min(may_drain);
        }
        let begun = |member: &&Standing| member.kind == Kind::Draining || member.new && member.kind.stays();
        let begun = self.members.iter().filter(begun).count();
        let limit = self.stage().map_or(usize::MAX, |stage| stage.limit.saturating_sub(begun));
        let pace = self.pace();
        let covered = limit.min(pace.may_begin);
        if covered < waiting.min(limit) {
            self.holds.extend(pace.hold);
        }
        covered
    }

    /// The zone that is replaced now when that is one at a time: where something drains, else where a drain was begun
    /// whose answer nobody heard, else the first with something to replace.
    pub(super) fn active_zone(&self) -> Option<&str> {
        let policy = self.situation.policy;
        if !policy.one_zone {
            return None;
        }
        let rank = |member: &Standing| match member.kind {
            Kind::Draining => Some(0),
            _ if self.may_drain(member) => Some(1),
            Kind::Stale(_) => Some(2),
            _ => None,
        };
        let order = |member: &Standing| {
            let zone = policy.zones.iter().position(|zone| Some(zone) == member.zone.as_ref())?;
            Some((rank(member)?, zone))
        };
        let (_, first) = self.members.iter().filter_map(order).min()?;
        policy.zones.get(first).map(String::as_str)
    }

    /// What is to be replaced: the most urgent first, then from the zone that has the most, then the oldest.
    fn victims(&self) -> Vec<&'a InstanceId> {
        let active = self.active_zone();
        let mut populations: BTreeMap<&str, usize> = BTreeMap::new();
        let mut queues: BTreeMap<Urgency, BTreeMap<&str, Vec<&Standing>>> = BTreeMap::new();
        for member in self.members {
            let zone = member.zone.as_deref().unwrap_or_default();
            if matches!(member.kind, Kind::Current | Kind::Stale(_)) {
                *populations.entry(zone).or_default() += 1;
            }
            if let Kind::Stale(why) = &member.kind
                && active.is_none_or(|active| active == zone)
            {
                queues.entry(why.urgency).or_default().entry(zone).or_default().push(member);
            }
        }
        let mut victims = Vec::new();
        for zones in queues.into_values() {
            let mut zones: BTreeMap<&str, VecDeque<_>> = zones
                .into_iter()
                .map(|(zone, queue)| {
                    // A name's number is read once, and not at each comparison.
                    let mut queue: Vec<_> = queue.into_iter().map(|member| (age(member), member)).collect();
                    queue.sort_by_key(|(age, _)| *age);
                    (zone, queue.into())
                })
                .collect();
            loop {
                let fullest = zones.iter().filter_map(|(zone, queue)| {
                    let (age, _) = queue.front()?;
                    let population = populations.get(zone).copied().unwrap_or(0);
                    Some((Reverse(population), *age, *zone))
                });
                let Some((.., zone)) = fullest.min() else { break };
                let next = zones.get_mut(zone).and_then(VecDeque::pop_front);
                victims.extend(next.map(|(_, member)| &member.id));
                populations.entry(zone).and_modify(|count| *count = count.saturating_sub(1));
            }
        }
        victims
    }

    /// What is current and one too many, newest first: the older have proven themselves.
    fn extra(&self, current: usize) -> Vec<&'a InstanceId> {
        let many = current.saturating_sub(self.situation.policy.size);
        if many == 0 {
            return Vec::new();
        }
        let mut extra: Vec<_> = self.members.iter().filter(|m| m.kind == Kind::Current).collect();
        extra.sort_by_cached_key(|member| Reverse(age(member)));
        if self.situation.policy.one_zone {
            let first = extra.first().and_then(|member| member.zone.as_deref());
            let zone = self.active_zone().or(first);
            extra.retain(|member| member.zone.as_deref() == zone);
        }
        extra.truncate(many);
        extra.into_iter().map(|member| &member.id).collect()
    }

    /// Ends starting ones that nobody waits for any more.
    fn end_needless(&mut self, current: usize) {
        let size = self.situation.policy.size;
        if current < size {
            return;
        }
        let starting = self.members.iter().rev().filter(|m| m.kind == Kind::Starting);
        let needless = (current + starting.clone().count()).saturating_sub(size);
        let needless: Vec<_> = starting.map(|member| &member.id).take(needless).collect();
        let ended: HashSet<_> = needless.iter().copied().collect();
        self.actions.retain(|action| !ended.contains(action.id()));
        for id in needless {
            self.terminate(id, false, "one too many");
        }
    }
}

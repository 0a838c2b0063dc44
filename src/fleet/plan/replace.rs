//! Decide: in which order instances stop getting requests.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet, VecDeque};

use jiff::Timestamp;

use super::members::{Known, may_begin};
use super::room::{Batch, may_drain};
use super::{Hold, Kind, Situation, Standing, Urgency};
use crate::fleet::census::{Instance, InstanceId, State};
use crate::provider::Action;

/// How many waiting instances are named; of more, their number says as much.
const ONE_BY_ONE: usize = 5;

/// What like ones are replaced by, the oldest first.
type Age = (Option<Timestamp>, u64);

/// Like ones, with their age.
type Queue<'a> = Vec<(Age, &'a InstanceId)>;

fn age(member: &Standing) -> Age {
    (member.launched_at, member.id.number())
}

/// The zone of an instance; empty where there are no zones.
fn zone(member: &Standing) -> &str {
    member.zone.as_deref().unwrap_or_default()
}

/// Returns the `most` smallest in order. Only these are sorted: of ten thousand, a step drains a few hundred at most.
fn smallest<K: Ord + Copy, T>(mut all: Vec<(K, T)>, most: usize) -> Vec<(K, T)> {
    if most < all.len() {
        all.select_nth_unstable_by_key(most, |(key, _)| *key);
        all.truncate(most);
    }
    all.sort_unstable_by_key(|(key, _)| *key);
    all
}

impl<'a> Batch<'a> {
    /// Drains what is to be replaced and what is too many, as far as enough others serve.
    pub(super) fn replace(&mut self) {
        let Situation { policy, history, target, .. } = *self.situation;
        let current = self.current();
        let stale = self.stale();
        let (extra_count, extra) = self.extra(current);
        // An unhealthy or missing one is cured before a healthy one is touched in place; and what nothing can
        // replace stays, unless it is one too many.
        let sick =
            self.count(|kind| matches!(kind, Kind::Unhealthy | Kind::Unknown | Kind::Absent | Kind::Gone));
        let replaceable = sick == 0 && self.refusal(target).is_none();
        let mut serving = self.serving();
        let mut covered = self.covered(current, stale.len() + extra_count);
        // More cannot be drained now, and so many are named beyond them.
        let most = covered.min(serving.saturating_sub(policy.floor())).saturating_add(ONE_BY_ONE);
        let stale_count = stale.len();
        let (stale, extra) = (self.victims(stale, most), smallest(extra, most.min(extra_count)));
        let mut drained = 0;
        for id in stale.iter().copied().chain(extra.into_iter().map(|(_, id)| id)) {
            let too_many = current.max(serving) > policy.size;
            let allowed = history.paused.is_none() && covered > 0 && (too_many || replaceable);
            // Whoever comes after it is not allowed either: nothing here grows.
            if !allowed || serving <= policy.floor() {
                break;
            }
            serving -= 1;
            covered -= 1;
            drained += 1;
            self.actions.push(Action::Drain { id: id.clone(), others: policy.floor() });
        }
        let withheld = drained < stale_count + extra_count;
        let rest = stale_count.saturating_sub(drained);
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
        if waits && rest > 0 || rest > ONE_BY_ONE {
            self.holds.push(Hold::Turn { count: rest });
        } else {
            let rest = stale.into_iter().skip(drained);
            self.holds.extend(rest.map(|id| Hold::Floor { id: id.clone() }));
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
        let rank = |member: &Standing, known: &Known<'_>| match member.kind {
            Kind::Draining => Some(0),
            // One that may be given requests again at this moment drains until it is.
            _ if known.seen.is_some_and(|seen| seen.state == State::Draining) => Some(0),
            _ if may_drain(member, known) => Some(1),
            Kind::Stale(_) if !self.waits_for_others(member, known) => Some(2),
            _ => None,
        };
        let order = |(member, known): (&Standing, &Known<'_>)| {
            let zone = policy.zones.iter().position(|zone| Some(zone) == member.zone.as_ref())?;
            Some((rank(member, known)?, zone))
        };
        let (_, first) = self.each().filter_map(order).min()?;
        policy.zones.get(first).map(String::as_str)
    }

    /// What is to be replaced, in the zone that is replaced now.
    fn stale(&self) -> Vec<(&'a Standing, Urgency)> {
        let active = self.active_zone();
        let here = |member: &Standing| active.is_none_or(|active| Some(active) == member.zone.as_deref());
        let stale = |(member, known): (&'a Standing, &Known<'_>)| match &member.kind {
            Kind::Stale(why) if here(member) && !self.waits_for_others(member, known) => {
                Some((member, why.urgency))
            }
            _ => None,
        };
        self.each().filter_map(stale).collect()
    }

    /// The first `most` of what is stale: the most urgent first, then from the zone that has the most, then the
    /// oldest.
    fn victims(&self, stale: Vec<(&'a Standing, Urgency)>, most: usize) -> Vec<&'a InstanceId> {
        let mut populations: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.iter().filter(|m| matches!(m.kind, Kind::Current | Kind::Stale(_))) {
            *populations.entry(zone(member)).or_default() += 1;
        }
        let mut queues: BTreeMap<Urgency, BTreeMap<&str, Queue<'a>>> = BTreeMap::new();
        for (member, urgency) in stale {
            // A name's number is read once, and not at each comparison.
            let aged = (age(member), &member.id);
            queues.entry(urgency).or_default().entry(zone(member)).or_default().push(aged);
        }
        let mut victims = Vec::new();
        for zones in queues.into_values() {
            let left = most - victims.len();
            let sorted = |(zone, queue)| (zone, VecDeque::from(smallest(queue, left)));
            let mut zones: BTreeMap<&str, VecDeque<_>> = zones.into_iter().map(sorted).collect();
            while victims.len() < most {
                let fullest = zones.iter().filter_map(|(zone, queue)| {
                    let (age, _) = queue.front()?;
                    let population = populations.get(zone).copied().unwrap_or(0);
                    Some((Reverse(population), *age, *zone))
                });
                let Some((.., zone)) = fullest.min() else { break };
                let next = zones.get_mut(zone).and_then(VecDeque::pop_front);
                victims.extend(next.map(|(_, id)| id));
                populations.entry(zone).and_modify(|count| *count = count.saturating_sub(1));
            }
        }
        victims
    }

    /// How many current ones are too many, and those of whom they are the first in order: newest first, the older
    /// have proven themselves.
    fn extra(&self, current: usize) -> (usize, Vec<(Reverse<Age>, &'a InstanceId)>) {
        let many = current.saturating_sub(self.situation.policy.size);
        if many == 0 {
            return (0, Vec::new());
        }
        // Whoever leads is not too many: another one is.
        let all = self.each().filter(|(member, known)| {
            member.kind == Kind::Current && !known.seen.is_some_and(Instance::leads)
        });
        let mut extra: Vec<_> = all.map(|(member, _)| (Reverse(age(member)), member)).collect();
        if self.situation.policy.one_zone {
            let newest = extra.iter().min_by_key(|(age, _)| *age);
            let newest = newest.and_then(|(_, member)| member.zone.as_deref());
            let zone = self.active_zone().or(newest);
            extra.retain(|(_, member)| member.zone.as_deref() == zone);
        }
        let extra: Vec<_> = extra.into_iter().map(|(age, member)| (age, &member.id)).collect();
        (many.min(extra.len()), extra)
    }

    /// Ends starting ones that nobody waits for any more.
    fn end_needless(&mut self, current: usize) {
        let size = self.situation.policy.size;
        if current < size {
            return;
        }
        // What may serve by now is drained once it is seen to.
        let now = self.situation.now;
        let starting: Vec<_> = self.each().filter(|(member, _)| member.kind == Kind::Starting).collect();
        let needless = (current + starting.len()).saturating_sub(size);
        let idle = starting.into_iter().rev().filter(|(_, known)| !may_begin(known.member, now));
        // What the group is about to launch by itself is ended when it is there.
        let idle = idle.map(|(member, _)| &member.id).filter(|id| !id.is_coming());
        let needless: Vec<_> = idle.take(needless).collect();
        let ended: HashSet<_> = needless.iter().copied().collect();
        self.actions.retain(|action| !ended.contains(action.id()));
        for id in needless {
            self.terminate(id, false, "one too many");
        }
    }
}

//! Decide: everything that a roll would do if all went well, and when, for `rekiln plan`.

mod members;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::members::GONE;
use super::{Hold, Kind, Plan, Situation, plan, stage};
use crate::fleet::census::{Census, Health, Instance, State};
use crate::fleet::experience::Experience;
use crate::fleet::history::{Event, History};
use crate::fleet::policy::Policy;
use crate::fleet::surroundings::Reading;
use crate::provider::{Action, Outcome};

/// Where a forecast ends at the latest: far more steps than a fleet of hundreds takes.
const STEPS: usize = 2_000;
/// And how many instances are looked at in all its steps: about a second's worth.
pub(super) const LOOKS: usize = 1_000_000;

/// How long things are supposed to take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Times {
    /// From a launch until the instance is healthy.
    boot: SignedDuration,
    /// From a drain until the last request is answered.
    drain: SignedDuration,
}

impl Times {
    /// As long as the fleet's own took at the median, as far as the policy allows; no time where none is on record.
    pub(super) fn of(experience: &Experience, policy: &Policy) -> Self {
        let boot = experience.start().map(|spell| spell.median).unwrap_or_default();
        let drain = experience.drain().map(|spell| spell.median).unwrap_or_default();
        // What takes as long as the deadline is not supposed to serve, but to fail.
        let longest = (policy.deadline - SignedDuration::from_secs(1)).max(SignedDuration::ZERO);
        Self { boot: boot.min(longest), drain: drain.min(policy.drain) }
    }
}

/// How a forecast ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// With everything done, then.
    Done(Timestamp),
    /// With what only a person or another day can end.
    Held(Vec<Hold>),
}

/// What is foreseen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Forecast {
    /// Every act in order; cut short for very large fleets.
    pub(super) acts: Vec<Action>,
    /// How it ends.
    pub(super) end: End,
}

/// Returns every act in order, supposing that what is launched serves, what is drained finishes, and gates say yes.
/// It ends where only a person or another day helps, and is cut short for very large fleets.
#[must_use]
pub fn forecast(situation: &Situation<'_>) -> Vec<Action> {
    foresee(situation, Times::default(), LOOKS).acts
}

/// As [`forecast`], with the time that each step takes, and with at most so many looks at an instance.
pub(super) fn foresee(situation: &Situation<'_>, times: Times, looks: usize) -> Forecast {
    let (mut census, mut history, mut now) =
        (situation.census.clone(), situation.history.clone(), situation.now);
    let mut acts = Vec::new();
    let mut looked = 0;
    for _ in 0..STEPS {
        let plan = plan(&Situation { census: &census, history: &history, now, ..*situation });
        looked += census.instances.len();
        if looked > looks {
            let rest = rest(situation, &history, &plan, times);
            return Forecast { acts, end: End::Done(now + rest) };
        }
        let added = history.added;
        remember(&mut history, &plan, now);
        if let Some(group) = &mut census.group {
            // What is added to the group is in its size at once.
            let desired = (i64::from(group.desired) + history.added - added).max(0);
            group.desired = u32::try_from(desired).unwrap_or(u32::MAX);
        }
        for action in &plan.actions {
            suppose(&mut census, action, now, times);
            if situation.policy.copies.is_some() {
                members::suppose(&mut census, action);
            }
        }
        let (moved, done) = (plan.moves(), plan.done());
        let due = plan.holds.iter().filter_map(due).filter(|until| *until > now).min();
        acts.extend(plan.actions);
        if moved {
            continue;
        }
        let Some(next) = due.into_iter().chain(next(&census, &history, now, times)).min() else {
            let end = if done { End::Done(now) } else { End::Held(plan.holds) };
            return Forecast { acts, end };
        };
        now = next;
        time_passes(&mut census, &history, now, times);
        if situation.policy.copies.is_some() {
            members::catch_up(&mut census);
        }
    }
    let plan = plan(&Situation { census: &census, history: &history, now, ..*situation });
    let rest = rest(situation, &history, &plan, times);
    Forecast { acts, end: End::Done(now + rest) }
}

/// How long what is left takes where nobody looks at every step of it: as many at a time as the policy allows, one after
/// the other, and the soaks.
fn rest(situation: &Situation<'_>, history: &History, plan: &Plan, times: Times) -> SignedDuration {
    let policy = situation.policy;
    let current = plan.members.iter().filter(|member| member.kind == Kind::Current).count();
    let left = policy.size.saturating_sub(current);
    let at_once = if policy.surge > 0 { policy.surge } else { policy.unavailable }.max(1);
    let turns = i32::try_from(left.div_ceil(at_once)).unwrap_or(i32::MAX);
    let work = (times.boot + times.drain).saturating_mul(turns);
    let hours = policy.rate.filter(|_| !history.emergency).map_or(0, |rate| left / rate);
    let paced = SignedDuration::from_hours(i64::try_from(hours).unwrap_or(0));
    let waves = stage(policy, history, situation.target).map_or(0, |at| policy.waves.len() - at.number);
    let soaks = policy.soak.saturating_mul(i32::try_from(waves).unwrap_or(i32::MAX));
    // Longer than a century is not foreseen, and no time that can be written down.
    work.max(paced).saturating_add(soaks).min(SignedDuration::from_hours(24 * 365 * 100))
}

/// Writes down what a plan notes and does, as if all of it went well.
fn remember(history: &mut History, plan: &Plan, now: Timestamp) {
    for note in &plan.notes {
        history.add(now, note);
    }
    for gate in &plan.judge {
        let wave = history.wave.number;
        history.add(now, &Event::Judged { wave, gate: gate.clone(), reading: Reading::Pass });
    }
    for action in &plan.actions {
        history.add(now, &Event::Intent { action: action.clone() });
        history.add(now, &Event::Outcome { action: action.clone(), result: Ok(Outcome::Applied) });
    }
}

/// Returns when a hold ends by itself.
fn due(hold: &Hold) -> Option<Timestamp> {
    match hold {
        Hold::Soaking { until, .. }
        | Hold::Rate { until }
        | Hold::Capacity { until, .. }
        | Hold::Ill { until, .. }
        | Hold::Resizing { until, .. } => Some(*until),
        _ => None,
    }
}

/// Makes the world as it is after an act that went well.
fn suppose(census: &mut Census, action: &Action, now: Timestamp, times: Times) {
    let takes = |time: SignedDuration| time > SignedDuration::ZERO;
    if let Action::Launch { id, generation, zone, .. } = action {
        census.instances.retain(|instance| instance.id != *id);
        census.instances.push(Instance {
            id: id.clone(),
            generation: Some(generation.clone()),
            image: generation.image(),
            state: State::Launching,
            health: if takes(times.boot) { Health::Unhealthy } else { Health::Healthy },
            in_service: false,
            launched_at: now,
            touched: None,
            connections: 0,
            address: None,
            zone: zone.clone(),
            known_as: None,
            membership: None,
        });
    }
    if matches!(action, Action::Terminate { .. }) {
        census.instances.retain(|instance| instance.id != *action.id());
    }
    let found = census.instances.iter_mut().find(|instance| instance.id == *action.id());
    match (action, found) {
        (Action::Admit { .. }, Some(found)) => (found.state, found.in_service) = (State::Running, true),
        (Action::Drain { .. }, Some(found)) => {
            (found.state, found.in_service) = (State::Draining, false);
            found.connections = u32::from(takes(times.drain));
        }
        _ => {}
    }
}

/// Returns when an instance that boots, or that still serves requests, is done with it; `None` when it does neither.
fn done_at(seen: &Instance, history: &History, times: Times) -> Option<Timestamp> {
    match seen.state {
        State::Launching if seen.health == Health::Unhealthy => Some(seen.launched_at + times.boot),
        State::Draining if seen.connections > 0 => {
            let since = history.members.get(&seen.id).and_then(|member| member.draining);
            Some(since.unwrap_or(seen.launched_at) + times.drain)
        }
        _ => None,
    }
}

/// Returns when something comes that is waited for, at `now` at the earliest; `None` when nothing does.
fn next(census: &Census, history: &History, now: Timestamp, times: Times) -> Option<Timestamp> {
    let steps = census.instances.iter().filter_map(|seen| done_at(seen, history, times));
    let waited = |absent: Option<Timestamp>| absent.filter(|since| now.duration_since(*since) < GONE);
    let absent = history.members.iter().filter_map(|(id, member)| Some((id, waited(member.absent)?)));
    let mut absent: BTreeMap<_, _> = absent.collect();
    if !absent.is_empty() {
        for seen in &census.instances {
            absent.remove(&seen.id);
        }
    }
    steps.chain(absent.into_values().map(|since| since + GONE)).min().map(|at| at.max(now))
}

/// Makes the world as it is at `now`.
fn time_passes(census: &mut Census, history: &History, now: Timestamp, times: Times) {
    for seen in &mut census.instances {
        if done_at(seen, history, times).is_some_and(|at| at <= now) {
            if seen.state == State::Launching {
                seen.health = Health::Healthy;
            }
            seen.connections = 0;
        }
    }
}

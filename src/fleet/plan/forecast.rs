//! Decide: everything that a roll would do if all went well, for `rekiln plan`.

use jiff::Timestamp;

use super::members::GONE;
use super::{Hold, Plan, Situation, plan};
use crate::fleet::census::{Census, Health, Instance, InstanceId, State};
use crate::fleet::history::{Event, History};
use crate::fleet::surroundings::Reading;
use crate::provider::{Action, Outcome};

/// Where a forecast ends at the latest: far more steps than a fleet of hundreds takes.
const STEPS: usize = 2_000;
/// And how many instances are looked at in all its steps: about a second's worth.
const LOOKS: usize = 2_000_000;

/// Returns every act in order, supposing that what is launched serves, what is drained finishes, and gates say yes.
/// It ends where only a person or another day helps, and is cut short for very large fleets.
#[must_use]
pub fn forecast(situation: &Situation<'_>) -> Vec<Action> {
    let (mut census, mut history, mut now) =
        (situation.census.clone(), situation.history.clone(), situation.now);
    let mut acts = Vec::new();
    let mut looks = 0;
    for _ in 0..STEPS {
        looks += census.instances.len();
        if looks > LOOKS {
            break;
        }
        let plan = plan(&Situation { census: &census, history: &history, now, ..*situation });
        remember(&mut history, &plan, now);
        for action in &plan.actions {
            suppose(&mut census, action, now);
        }
        let moved = plan.moves();
        let waits = plan.holds.iter().filter_map(due).min();
        acts.extend(plan.actions);
        if !moved {
            now = match waits {
                Some(until) if until > now => until,
                _ if time_passes(&mut census, &history, now) => now + GONE,
                _ => break,
            };
        }
    }
    acts
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
        Hold::Soaking { until, .. } | Hold::Rate { until } | Hold::Capacity { until, .. } => Some(*until),
        _ => None,
    }
}

/// Makes the world as it is after an act that went well.
fn suppose(census: &mut Census, action: &Action, now: Timestamp) {
    if let Action::Launch { id, generation, zone } = action {
        census.instances.retain(|instance| instance.id != *id);
        census.instances.push(Instance {
            id: id.clone(),
            generation: Some(generation.clone()),
            image: generation.image(),
            state: State::Launching,
            health: Health::Healthy,
            in_service: false,
            launched_at: now,
            touched: None,
            connections: 0,
            address: None,
            zone: zone.clone(),
        });
    }
    if matches!(action, Action::Terminate { .. }) {
        census.instances.retain(|instance| instance.id != *action.id());
    }
    let found = census.instances.iter_mut().find(|instance| instance.id == *action.id());
    match (action, found) {
        (Action::Admit { .. }, Some(found)) => (found.state, found.in_service) = (State::Running, true),
        (Action::Drain { .. }, Some(found)) => {
            (found.state, found.in_service, found.connections) = (State::Draining, false, 0);
        }
        _ => {}
    }
}

/// Lets what is waited for come; tells whether anything did.
fn time_passes(census: &mut Census, history: &History, now: Timestamp) -> bool {
    let missing = |id: &InstanceId| census.instances.iter().all(|seen| seen.id != *id);
    let mut moved = history.members.iter().any(|(id, member)| {
        member.absent.is_some_and(|since| now.duration_since(since) < GONE) && missing(id)
    });
    for seen in &mut census.instances {
        let boots = seen.state == State::Launching && seen.health == Health::Unhealthy;
        if boots {
            seen.health = Health::Healthy;
        }
        moved |= boots || seen.state == State::Draining && seen.connections > 0;
        seen.connections = 0;
    }
    moved
}

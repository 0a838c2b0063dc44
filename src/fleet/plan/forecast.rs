//! Decide: everything that a roll would do if all went well, for `rekiln plan`.

use jiff::Timestamp;

use super::members::GONE;
use super::plan;
use crate::fleet::census::{Census, Health, Instance, InstanceId, State};
use crate::fleet::generation::Target;
use crate::fleet::history::{Event, History};
use crate::fleet::policy::Policy;
use crate::provider::{Action, Outcome};

/// Where a forecast ends at the latest: far more than a fleet of hundreds takes.
const STEPS: usize = 2_000;

/// Returns every act in order, supposing that what is launched serves and what is drained finishes.
#[must_use]
pub fn forecast(
    policy: &Policy,
    fleet: &str,
    target: &Target,
    census: &Census,
    history: &History,
    now: Timestamp,
) -> Vec<Action> {
    let (mut census, mut history, mut now) = (census.clone(), history.clone(), now);
    let mut acts = Vec::new();
    for _ in 0..STEPS {
        let plan = plan(policy, fleet, target, &census, &history, now);
        for note in &plan.notes {
            history.add(now, note);
        }
        for action in &plan.actions {
            history.add(now, &Event::Intent { action: action.clone() });
            history.add(now, &Event::Outcome { action: action.clone(), result: Ok(Outcome::Applied) });
            suppose(&mut census, action, now);
        }
        let moved = !plan.notes.is_empty() || !plan.actions.is_empty();
        acts.extend(plan.actions);
        if !moved {
            if !time_passes(&mut census, &history, now) {
                break;
            }
            now += GONE;
        }
    }
    acts
}

/// Makes the world as it is after an act that went well.
fn suppose(census: &mut Census, action: &Action, now: Timestamp) {
    if let Action::Launch { id, generation } = action {
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

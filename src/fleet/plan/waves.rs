//! Decide: canary, waves, soaks and gates, and what a failure means.

use jiff::{SignedDuration, Timestamp};

use super::room::Batch;
use super::{Hold, Situation};
use crate::fleet::OnFailure;
use crate::fleet::generation::Target;
use crate::fleet::history::{Event, History};
use crate::fleet::policy::Policy;
use crate::fleet::surroundings::Reading;

/// How long a gate that says "not yet" is left alone: measurements cost something, and change within seconds.
const JUDGE_AGAIN: SignedDuration = SignedDuration::from_secs(10);

/// The wave that is worked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// Which, from 0.
    pub number: usize,
    /// How many instances are new at its end.
    pub limit: usize,
}

/// Returns the wave that is worked at; `None` when all have passed, or nothing new is rolled out: what completed
/// before needs no canary to come back, and an emergency has none.
#[must_use]
pub fn stage(policy: &Policy, history: &History, target: &Target) -> Option<Stage> {
    let proven = history.proven.as_ref().map(|proven| proven.generation.id);
    if history.emergency || proven == Some(target.generation.id) {
        return None;
    }
    // Where nothing is proven there is nothing to protect, and only the last soak makes sense.
    let first = if proven.is_none() { policy.waves.len() - 1 } else { 0 };
    let number = history.wave.number.max(first);
    policy.waves.get(number).map(|limit| Stage { number, limit: *limit })
}

impl Batch<'_> {
    pub(super) fn stage(&self) -> Option<Stage> {
        let Situation { policy, history, target, .. } = *self.situation;
        stage(policy, history, target)
    }

    /// What must be remembered of the wave.
    pub(super) fn wave_notes(&self) -> Vec<Event> {
        let Some(Stage { number: wave, limit }) = self.stage() else { return Vec::new() };
        let Situation { policy, history, now, .. } = *self.situation;
        let current = self.current();
        // Where there are to be none, none has shown anything.
        let limit = limit.max(1);
        match history.wave.reached {
            None if current >= limit => vec![Event::WaveReached { wave }],
            Some(_) if current < limit => vec![Event::WaveLost { wave }],
            Some(since) if now.duration_since(since) >= policy.soak && self.all_gates_pass() => {
                vec![Event::WavePassed { wave }]
            }
            _ => Vec::new(),
        }
    }

    fn reading(&self, gate: &str) -> Option<&(Timestamp, Reading)> {
        self.situation.history.wave.judged.get(gate)
    }

    fn all_gates_pass(&self) -> bool {
        let passes = |gate: &String| matches!(self.reading(gate), Some((_, Reading::Pass)));
        self.situation.policy.gates.iter().all(passes)
    }

    /// Returns when the wave has soaked; `None` while it is not reached.
    fn soaked_at(&self) -> Option<Timestamp> {
        self.stage()?;
        Some(self.situation.history.wave.reached? + self.situation.policy.soak)
    }

    /// The gates to measure now: when the soak is over, those that have not said yes or no.
    pub(super) fn gates_to_judge(&self) -> Vec<String> {
        let now = self.situation.now;
        if self.soaked_at().is_none_or(|at| now < at) {
            return Vec::new();
        }
        let due = |gate: &&String| match self.reading(gate) {
            None => true,
            Some((at, Reading::NotYet(_))) => now.duration_since(*at) >= JUDGE_AGAIN,
            Some(_) => false,
        };
        self.situation.policy.gates.iter().filter(due).cloned().collect()
    }

    /// Names what the wave waits for.
    pub(super) fn explain_wave(&mut self) {
        let (Some(stage), Some(until)) = (self.stage(), self.soaked_at()) else { return };
        let Situation { policy, now, .. } = *self.situation;
        if now < until {
            self.holds.push(Hold::Soaking { wave: stage.number + 1, of: policy.waves.len(), until });
            return;
        }
        for gate in &policy.gates {
            let why = match self.reading(gate) {
                Some((_, Reading::Pass | Reading::Fail(_))) => continue,
                Some((_, Reading::NotYet(why))) => why.clone(),
                None => "not measured yet".to_owned(),
            };
            self.holds.push(Hold::Gate { gate: gate.clone(), why });
        }
    }

    /// Returns why the rollout has failed; `None` while it has not.
    pub(super) fn failure(&self) -> Option<String> {
        let Situation { policy, history, .. } = *self.situation;
        if let Some(reason) = &history.halted {
            return Some(reason.clone());
        }
        let failed = history.failures.len();
        if failed > policy.failures {
            let which: Vec<_> = history.failures.iter().map(ToString::to_string).collect();
            return Some(format!("{failed} failed ({}), {} allowed", which.join(", "), policy.failures));
        }
        policy.gates.iter().find_map(|gate| match self.reading(gate) {
            Some((_, Reading::Fail(why))) => Some(format!("gate {gate} says no: {why}")),
            _ => None,
        })
    }

    /// Turns the rollout back when it has failed, the policy wants that, and there is something to go back to.
    pub(super) fn rollback(&self) -> Option<Event> {
        let Situation { policy, history, target, outlook, .. } = *self.situation;
        let reason = self.failure()?;
        let proven = history.proven.as_ref()?;
        let sensible = policy.on_failure == OnFailure::Rollback
            && history.halted.is_none()
            && history.retreat.is_none()
            && proven.generation.id != target.generation.id
            && outlook.refusal(proven.image).is_none();
        sensible.then(|| Event::RolledBack { target: proven.clone(), reason })
    }
}

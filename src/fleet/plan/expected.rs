//! Decide: when a rollout ends, from how long this fleet's own rollouts took.

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde::Serialize;

use super::forecast::{End, Forecast, LOOKS, Times, foresee};
use super::{Hold, Situation};
use crate::fleet::experience::Experience;
use crate::fleet::glance::headline;
use crate::fleet::moment::ahead;
use crate::provider::Action;

/// How many instances are looked at for an end that is told every few seconds: some hundredths of a second's worth.
const GLANCES: usize = 20_000;

/// When a rollout ends, if all goes well and it goes on from now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "expected", rename_all = "snake_case")]
pub enum Expected {
    /// Then.
    At {
        /// When; never before the time that it was asked at.
        at: Timestamp,
        /// Seconds until then.
        seconds: i64,
        /// From how many launches of the fleet that is known.
        launches: usize,
    },
    /// It cannot be told: no launch of the fleet is on record.
    NoRecord,
    /// It cannot be told: this must end first, and does not by itself.
    Held {
        /// What.
        why: Hold,
    },
}

impl Expected {
    /// Says it to who reads at `now`.
    #[must_use]
    pub fn told(&self, now: Timestamp) -> String {
        match self {
            Self::At { at, launches, .. } => {
                let when = ahead(*at, now).replace(", in ", ", in about ");
                let many = if *launches == 1 { "" } else { "es" };
                format!("expected end {when}, from {launches} launch{many} of this fleet")
            }
            Self::NoRecord => "expected end not known: no launch of this fleet is on record".to_owned(),
            // What holds it is said beside.
            Self::Held { .. } => "expected end not known while it is held".to_owned(),
        }
    }
}

/// Returns everything that a roll would do, as [`super::forecast`] does, and when it would end.
#[must_use]
pub fn outlook(situation: &Situation<'_>, experience: &Experience) -> (Vec<Action>, Expected) {
    let Forecast { acts, end } = foresee(situation, Times::of(experience, situation.policy), LOOKS);
    (acts, expected_of(end, situation, experience))
}

/// Returns when a roll would end, for who asks every few seconds: of a very large fleet only the first steps are looked
/// at one by one.
#[must_use]
pub fn expected(situation: &Situation<'_>, experience: &Experience) -> Expected {
    let Forecast { end, .. } = foresee(situation, Times::of(experience, situation.policy), GLANCES);
    expected_of(end, situation, experience)
}

fn expected_of(end: End, situation: &Situation<'_>, experience: &Experience) -> Expected {
    let now = situation.now;
    match (end, experience.start()) {
        (End::Held(holds), _) => {
            let why = headline(&holds).or(holds.first()).cloned();
            why.map_or(Expected::NoRecord, |why| Expected::Held { why })
        }
        (End::Done(_), None) => Expected::NoRecord,
        (End::Done(at), Some(starts)) => {
            let at = at.max(now);
            Expected::At { at, seconds: at.duration_since(now).as_secs(), launches: starts.count }
        }
    }
}

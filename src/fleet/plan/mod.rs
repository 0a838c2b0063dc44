//! Decide: what to do next, what holds the rest, and what each instance is.
//!
//! One plan is one batch: every action in it may be done right after the same census. The rule behind all of
//! them: a healthy instance is drained only while enough *others* serve, and ended only after it was drained.

mod expected;
mod explain;
mod forecast;
mod hold;
mod launch;
mod members;
mod pace;
mod replace;
mod room;
mod size;
mod stateful;
#[cfg(test)]
mod tests;
mod waves;

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::census::{Census, InstanceId};
use super::generation::Target;
use super::history::{Event, History};
use super::policy::Policy;
use super::surroundings::Outlook;
use crate::provider::Action;
pub use expected::{Expected, expected, outlook};
pub use explain::waiting;
pub use forecast::forecast;
pub use hold::Hold;
use room::Batch;
pub use waves::{Stage, stage};

/// Everything that a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// How the fleet is rolled.
    pub policy: &'a Policy,
    /// The fleet's name.
    pub fleet: &'a str,
    /// Where it goes: what Git asks for or, in the middle of a rollout, what the journal says.
    pub target: &'a Target,
    /// What was seen.
    pub census: &'a Census,
    /// What is remembered.
    pub history: &'a History,
    /// What the rest of the store says.
    pub outlook: &'a Outlook,
    /// The time.
    pub now: Timestamp,
}

/// What to do next. No actions, nothing to note and no holds means done.
#[must_use = "a plan that nobody reads changes nothing"]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What must be remembered before anything is done; when not empty there are no actions yet.
    pub notes: Vec<Event>,
    /// Gates to measure now, by name.
    pub judge: Vec<String>,
    /// What to do now, in order.
    pub actions: Vec<Action>,
    /// Why the rest is not done now.
    pub holds: Vec<Hold>,
    /// What each instance is, in the order of ids.
    pub members: Vec<Standing>,
}

impl Plan {
    /// Tells whether nothing is left to do.
    #[must_use]
    pub fn done(&self) -> bool {
        !self.moves() && self.holds.is_empty()
    }

    /// Tells whether there is something to do or to remember now.
    #[must_use]
    pub fn moves(&self) -> bool {
        !self.notes.is_empty() || !self.judge.is_empty() || !self.actions.is_empty()
    }

    /// Tells whether it cannot go on by itself: only a person, or another day, can make it.
    #[must_use]
    pub fn blocked(&self) -> bool {
        !self.moves() && self.holds.iter().any(Hold::blocks) && !self.holds.iter().any(Hold::passes)
    }
}

impl Plan {
    /// Returns why a roll ends here, when it does: what blocks it; without such, all that is waited for.
    #[must_use]
    pub fn why(&self) -> Vec<&Hold> {
        self.holds.iter().filter(|hold| !self.blocked() || hold.blocks()).collect()
    }

    /// Returns how a roll ends here, when it does.
    #[must_use]
    pub fn end(&self) -> Event {
        if self.done() {
            return Event::Completed;
        }
        let why = self.why();
        let halted = why.iter().find_map(|hold| match hold {
            Hold::Halted { reason } => Some(reason.clone()),
            _ => None,
        });
        match halted {
            Some(reason) => Event::Halted { reason },
            None => {
                Event::Stopped { reason: why.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ") }
            }
        }
    }
}

/// What one instance is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Which.
    pub id: InstanceId,
    /// What.
    #[serde(flatten)]
    pub kind: Kind,
    /// Its zone, where there are zones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Whether it was launched as the target asks.
    #[serde(skip)]
    pub new: bool,
    /// When it was launched, as far as it was seen; the order in which like ones are replaced.
    #[serde(skip)]
    pub launched_at: Option<Timestamp>,
}

/// What an instance is to the planner; one of each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "is", content = "because", rename_all = "snake_case")]
pub enum Kind {
    /// As it should be, and serving.
    Current,
    /// Serving, and to be replaced.
    Stale(Why),
    /// Launched, not serving yet.
    Starting,
    /// Launched from what is no longer wanted, and never in service.
    Outdated,
    /// It served and does not any more.
    Unhealthy,
    /// It never served in time.
    Failed(String),
    /// Taken out of service.
    Draining,
    /// Its machine has ended.
    Dead,
    /// Its launch was begun and never finished.
    Unfinished,
    /// It cannot be told.
    Unknown,
    /// Not seen, not yet gone.
    Absent,
    /// Not seen for so long that it is gone.
    Gone,
}

/// Why a serving instance is to be replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Why {
    /// How soon, compared with others.
    pub urgency: Urgency,
    /// Which parts differ, who wanted it, what happened to it.
    pub reasons: Vec<String>,
}

/// The order in which serving instances are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// It was given up, and serves again.
    Failed,
    /// Someone was on it.
    Touched,
    /// Someone wants it replaced.
    Wanted,
    /// It is too old.
    TooOld,
    /// It is not what Git asks for.
    Differs,
}

impl Kind {
    /// Tells whether it serves, will, or may, and is not to be replaced. What is gone may be there until the provider
    /// confirms its end: lists are partial, answers about one instance are not.
    const fn stays(&self) -> bool {
        matches!(self, Self::Current | Self::Starting | Self::Unknown | Self::Absent | Self::Gone)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Current => "current",
            Self::Stale(why) => return write!(f, "stale: {}", why.reasons.join(", ")),
            Self::Starting => "starting",
            Self::Outdated => "outdated before it served",
            Self::Unhealthy => "unhealthy",
            Self::Failed(why) => return write!(f, "failed: {why}"),
            Self::Draining => "draining",
            Self::Dead => "its machine ended",
            Self::Unfinished => "its launch was interrupted",
            Self::Unknown => "unknown",
            Self::Absent => "not seen",
            Self::Gone => "missing",
        })
    }
}

/// Decides what to do next. A pure function: same arguments, same plan.
///
/// Order: remember what was seen; end what is dead, failed or drained; give requests to what is healthy; make
/// room and launch what is missing; drain what is stale, the most urgent and oldest first, and what is too many,
/// newest first. Its cost grows linearly with the number of instances.
pub fn plan(situation: &Situation<'_>) -> Plan {
    let known = members::known(situation);
    let members = members::standings(situation, &known);
    let mut notes: Vec<_> = size::note(situation).into_iter().collect();
    if notes.is_empty() {
        notes = stateful::note(situation).into_iter().collect();
        notes.extend(members::notes(situation, &known, &members));
    }
    let mut batch = Batch::new(situation, &members, &known);
    if notes.is_empty() {
        notes = batch.wave_notes();
    }
    if notes.is_empty() {
        notes.extend(batch.rollback());
    }
    if notes.is_empty() {
        batch.end();
        batch.admit();
        batch.launch();
        batch.replace();
        batch.explain();
        batch.wait_for_size();
        batch.protect();
    }
    let (judge, actions, holds) = if notes.is_empty() {
        (batch.gates_to_judge(), batch.actions, batch.holds)
    } else {
        Default::default()
    };
    Plan { notes, judge, actions, holds, members }
}

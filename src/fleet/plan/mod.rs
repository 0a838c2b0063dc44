//! Decide: what to do next, what holds the rest, and what each instance is.
//!
//! One plan is one batch: every action in it may be done right after the same census. The rule behind all of
//! them: a healthy instance is drained only while enough *others* serve, and ended only after it was drained.

mod forecast;
mod members;
mod order;
mod room;
#[cfg(test)]
mod tests;

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::census::{Census, InstanceId};
use super::generation::Target;
use super::history::{Event, History};
use super::policy::Policy;
use crate::provider::Action;
pub use forecast::forecast;
use members::{notes, standings};
use room::Step;

/// What to do next. No actions, nothing to note and no holds means done.
#[must_use = "a plan that nobody reads changes nothing"]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What must be remembered before anything is done; when not empty there are no actions yet.
    pub notes: Vec<Event>,
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
        self.notes.is_empty() && self.actions.is_empty() && self.holds.is_empty()
    }

    /// Tells whether only a person can make it go on.
    #[must_use]
    pub fn blocked(&self) -> bool {
        self.notes.is_empty()
            && self.actions.is_empty()
            && self.holds.iter().any(Hold::blocks)
            && self.holds.iter().all(|hold| !matches!(hold, Hold::Starting { .. } | Hold::Draining { .. }))
    }
}

/// Why something is not done now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "hold", rename_all = "snake_case")]
pub enum Hold {
    /// A launched instance does not serve yet.
    Starting {
        /// Which.
        id: InstanceId,
    },
    /// A drained instance still serves requests.
    Draining {
        /// Which.
        id: InstanceId,
        /// How many.
        connections: u32,
    },
    /// What it is cannot be told, so nothing is assumed.
    Unknown {
        /// Which.
        id: InstanceId,
    },
    /// It is not seen, and not long enough to be gone.
    Absent {
        /// Which.
        id: InstanceId,
    },
    /// It should be replaced, and too few others serve.
    Floor {
        /// Which.
        id: InstanceId,
    },
    /// The failure budget is spent.
    Halted {
        /// Why.
        reason: String,
    },
    /// The image must not be launched.
    Refused {
        /// Why.
        reason: String,
    },
}

impl Hold {
    /// Tells whether only a person can end it.
    #[must_use]
    pub const fn blocks(&self) -> bool {
        matches!(self, Self::Halted { .. } | Self::Refused { .. })
    }

    /// Returns why it blocks, when it does.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Halted { reason } | Self::Refused { reason } => Some(reason),
            _ => None,
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting { id } => write!(f, "{id} does not serve yet"),
            Self::Draining { id, connections: 1 } => write!(f, "{id} still serves 1 connection"),
            Self::Draining { id, connections } => write!(f, "{id} still serves {connections} connections"),
            Self::Unknown { id } => write!(f, "the health of {id} cannot be told"),
            Self::Absent { id } => write!(f, "{id} is not seen; absent once is not gone"),
            Self::Floor { id } => write!(f, "{id} serves until enough others do"),
            Self::Halted { reason } => write!(f, "halted: {reason}"),
            Self::Refused { reason } => write!(f, "the image must not be launched: {reason}"),
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
}

/// What an instance is to the planner; one of each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "is", content = "because", rename_all = "snake_case")]
pub enum Kind {
    /// As it should be, and serving.
    Current,
    /// Serving, and to be replaced: which parts differ, or who wanted it, or what happened to it.
    Stale(Vec<String>),
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

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Current => "current",
            Self::Stale(why) => return write!(f, "stale: {}", why.join(", ")),
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
/// room and launch what is missing; drain what is stale, oldest first, and what is too many, newest first.
pub fn plan(
    policy: &Policy,
    fleet: &str,
    target: &Target,
    census: &Census,
    history: &History,
    now: Timestamp,
) -> Plan {
    let members = standings(policy, target, census, history, now);
    let notes = notes(census, history, &members);
    let mut step = Step {
        policy,
        target,
        census,
        history,
        now,
        members: &members,
        actions: Vec::new(),
        holds: Vec::new(),
    };
    if notes.is_empty() {
        step.end();
        step.admit();
        step.launch(fleet);
        step.replace();
        step.explain();
    }
    let (actions, holds) = (step.actions, step.holds);
    Plan { notes, actions, holds, members }
}

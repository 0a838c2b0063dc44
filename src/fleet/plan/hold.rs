//! Decide: why something is not done now, in words.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use crate::fleet::census::InstanceId;

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
    /// It should be replaced, after what the wave or the pace holds.
    Turn {
        /// How many.
        count: usize,
    },
    /// A wave serves and must go on doing so.
    Soaking {
        /// Which wave, from 1.
        wave: usize,
        /// Of how many.
        of: usize,
        /// Until when.
        until: Timestamp,
    },
    /// A gate does not let the wave pass yet.
    Gate {
        /// Which.
        gate: String,
        /// What it said.
        why: String,
    },
    /// No window is open.
    Window {
        /// When the next one opens; `None` when none does within a year.
        until: Option<Timestamp>,
    },
    /// As many were replaced as may be in an hour.
    Rate {
        /// When the next may be.
        until: Timestamp,
    },
    /// A zone has no room for another instance.
    Capacity {
        /// Which.
        zone: String,
        /// When it is asked again.
        until: Timestamp,
    },
    /// Someone paused the rollout.
    Paused {
        /// Why.
        reason: String,
    },
    /// Too many rollouts failed.
    Breaker {
        /// Which, and when.
        reason: String,
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
    /// Tells whether a rollout that waits for it had better end: only a person, or another day, can end it.
    #[must_use]
    pub const fn blocks(&self) -> bool {
        matches!(
            self,
            Self::Halted { .. } | Self::Refused { .. } | Self::Window { .. } | Self::Breaker { .. }
        )
    }

    /// Tells whether it ends by itself, and soon, so that a rollout waits for it before it ends.
    #[must_use]
    pub const fn passes(&self) -> bool {
        matches!(
            self,
            Self::Starting { .. } | Self::Draining { .. } | Self::Soaking { .. } | Self::Gate { .. }
        )
    }

    /// Tells whether waiting for it is in order for as long as it takes: the policy or a person wants it.
    #[must_use]
    pub const fn intended(&self) -> bool {
        matches!(self, Self::Soaking { .. } | Self::Rate { .. } | Self::Paused { .. } | Self::Capacity { .. })
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |at: &Timestamp| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
        match self {
            Self::Starting { id } => write!(f, "{id} does not serve yet"),
            Self::Draining { id, connections: 1 } => write!(f, "{id} still serves 1 connection"),
            Self::Draining { id, connections } => write!(f, "{id} still serves {connections} connections"),
            Self::Unknown { id } => write!(f, "the health of {id} cannot be told"),
            Self::Absent { id } => write!(f, "{id} is not seen; absent once is not gone"),
            Self::Floor { id } => write!(f, "{id} serves until enough others do"),
            Self::Turn { count: 1 } => f.write_str("1 more is to be replaced"),
            Self::Turn { count } => write!(f, "{count} more are to be replaced"),
            Self::Soaking { wave, of, until } => write!(f, "wave {wave} of {of} soaks until {}", time(until)),
            Self::Gate { gate, why } => write!(f, "gate {gate} does not let the wave pass yet: {why}"),
            Self::Window { until: Some(until) } => {
                write!(f, "no window is open; the next opens {}", time(until))
            }
            Self::Window { until: None } => f.write_str("no window opens within a year"),
            Self::Rate { until } => {
                write!(f, "as many were replaced as may be in an hour; the next {}", time(until))
            }
            Self::Capacity { zone, until } if zone.is_empty() => {
                write!(f, "there is no room for another instance; asked again {}", time(until))
            }
            Self::Capacity { zone, until } => {
                write!(f, "zone {zone} has no room for another instance; asked again {}", time(until))
            }
            Self::Paused { reason } => write!(f, "paused: {reason}"),
            Self::Breaker { reason } => write!(f, "the circuit breaker is open: {reason}"),
            Self::Halted { reason } => write!(f, "halted: {reason}"),
            Self::Refused { reason } => write!(f, "the image must not be launched: {reason}"),
        }
    }
}

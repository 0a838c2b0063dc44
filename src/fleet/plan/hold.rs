//! Decide: why something is not done now, in words.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use crate::fleet::census::InstanceId;
use crate::fleet::cluster::Lack;
use crate::fleet::moment::ahead;

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
    /// The provider's group has another size, or a list says so that is older than the last acts.
    Resizing {
        /// The size that is planned with.
        from: u32,
        /// The other one.
        to: u32,
        /// When it counts, if it is seen until then.
        until: Timestamp,
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
    /// It is ill, and may recover.
    Ill {
        /// Which.
        id: InstanceId,
        /// When it has not.
        until: Timestamp,
    },
    /// Nobody leads a stateful fleet: its members elect someone.
    Leaderless {
        /// Since when.
        since: Timestamp,
    },
    /// Nobody leads, and nobody will: too few votes are left, or nobody has all data.
    Lost {
        /// Since when.
        since: Timestamp,
        /// How many of the voters answer.
        votes: usize,
        /// How many voters there are.
        of: usize,
    },
    /// Without it, too few votes would be left to decide who leads.
    Votes {
        /// Which.
        id: InstanceId,
        /// How many of the voters answer now.
        votes: usize,
        /// How many voters there are now.
        of: usize,
    },
    /// Without it, too few beside the leader would have all data.
    Copies {
        /// Which.
        id: InstanceId,
        /// How many would.
        have: usize,
        /// How many must.
        must: usize,
    },
    /// It says that it may not leave.
    Stays {
        /// Which.
        id: InstanceId,
        /// Why.
        why: String,
    },
    /// Nobody may leave.
    Settles {
        /// Why.
        why: String,
    },
    /// It is asked to hand leadership over.
    HandingOver {
        /// Who leads.
        id: InstanceId,
        /// Who is to lead; nobody while no new one has all data.
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<InstanceId>,
        /// What it, or what is waited for, says.
        why: String,
    },
    /// It does not hand leadership over, however often it is asked.
    Keeps {
        /// Who leads.
        id: InstanceId,
        /// What it says.
        why: String,
    },
}

impl Hold {
    /// Tells whether a rollout that waits for it had better end: only a person, or another day, can end it.
    #[must_use]
    pub const fn blocks(&self) -> bool {
        matches!(
            self,
            Self::Halted { .. }
                | Self::Refused { .. }
                | Self::Window { .. }
                | Self::Breaker { .. }
                | Self::Lost { .. }
                | Self::Keeps { .. }
        )
    }

    /// Tells whether it ends by itself, and soon, so that a rollout waits for it before it ends.
    #[must_use]
    pub const fn passes(&self) -> bool {
        matches!(
            self,
            Self::Starting { .. }
                | Self::Draining { .. }
                | Self::Soaking { .. }
                | Self::Gate { .. }
                | Self::Resizing { .. }
                | Self::Ill { .. }
                | Self::Leaderless { .. }
        )
    }

    /// Tells whether waiting for it is in order for as long as it takes: the policy or a person wants it.
    #[must_use]
    pub const fn intended(&self) -> bool {
        matches!(self, Self::Soaking { .. } | Self::Rate { .. } | Self::Paused { .. } | Self::Capacity { .. })
    }

    /// Says it to who reads at `now`: with how long it still takes, where that is known. The words without a time are
    /// for the journal.
    #[must_use]
    pub fn told(&self, now: Timestamp) -> String {
        self.words(&|until| ahead(until, now))
    }

    fn words(&self, time: &dyn Fn(Timestamp) -> String) -> String {
        match self {
            Self::Starting { id } => format!("{id} does not serve yet"),
            Self::Draining { id, connections: 1 } => format!("{id} still serves 1 connection"),
            Self::Draining { id, connections } => format!("{id} still serves {connections} connections"),
            Self::Unknown { id } => format!("the health of {id} cannot be told"),
            Self::Absent { id } => format!("{id} is not seen; absent once is not gone"),
            Self::Floor { id } => format!("{id} serves until enough others do"),
            Self::Turn { count: 1 } => "1 more is to be replaced".to_owned(),
            Self::Turn { count } => format!("{count} more are to be replaced"),
            Self::Resizing { from, to, until } => {
                format!("the size is {to} and was {from}; that counts from {}", time(*until))
            }
            Self::Soaking { wave, of, until } => format!("wave {wave} of {of} soaks until {}", time(*until)),
            Self::Gate { gate, why } => format!("gate {gate} does not let the wave pass yet: {why}"),
            Self::Window { until: Some(until) } => {
                format!("no window is open; the next opens {}", time(*until))
            }
            Self::Window { until: None } => "no window opens within a year".to_owned(),
            Self::Rate { until } => {
                format!("as many were replaced as may be in an hour; the next {}", time(*until))
            }
            Self::Capacity { zone, until } if zone.is_empty() => {
                format!("there is no room for another instance; asked again {}", time(*until))
            }
            Self::Capacity { zone, until } => {
                format!("zone {zone} has no room for another instance; asked again {}", time(*until))
            }
            Self::Paused { reason } => format!("paused: {reason}"),
            Self::Breaker { reason } => format!("the circuit breaker is open: {reason}"),
            Self::Halted { reason } => format!("halted: {reason}"),
            Self::Refused { reason } => format!("the image must not be launched: {reason}"),
            Self::Ill { id, until } => format!("{id} is ill, and may recover until {}", time(*until)),
            Self::Leaderless { since } => format!("nobody leads since {}; the members elect", time(*since)),
            Self::Lost { since, votes, of: 0 } if *votes == 0 => {
                format!("nobody leads since {}, and no member says why", time(*since))
            }
            Self::Lost { since, votes, of } => {
                format!("nobody leads since {}: {votes} of {of} votes are left", time(*since))
            }
            Self::Votes { id, votes, of } => {
                format!("{id} stays: {}", Lack::Votes { votes: *votes, of: *of })
            }
            Self::Copies { id, have, must } => {
                format!("{id} stays: {}", Lack::Copies { have: *have, must: *must })
            }
            Self::Stays { id, why } => format!("{id} may not leave: {why}"),
            Self::Settles { why } => format!("nobody may leave: {why}"),
            Self::HandingOver { id, to: Some(to), why } => {
                format!("{id} hands leadership over to {to}: {why}")
            }
            Self::HandingOver { id, to: None, why } => format!("{id} leads on: {why}"),
            Self::Keeps { id, why } => format!("{id} does not hand leadership over: {why}"),
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words(&|at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()))
    }
}

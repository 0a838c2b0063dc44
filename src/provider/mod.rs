//! The seam to where instances live.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::fleet::census::{Census, InstanceId};
use crate::fleet::generation::{Generation, Target};

#[cfg(feature = "aws")]
pub mod aws;
pub mod local;
pub mod members;
mod names;
mod place;
pub mod sim;

pub use place::Place;

/// One act on one instance, with what it expects to find.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Action {
    /// Start an instance that gets no requests yet.
    Launch {
        /// Its name. A second launch of the same name is no second machine, and one of a name that was ended, or was
        /// to be ended when it was not there, is refused: it comes late from a process that lost the journal.
        id: InstanceId,
        /// What from.
        generation: Generation,
        /// The zone it goes into, where there are zones.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        zone: Option<String>,
        /// Whether it founds a stateful fleet: there is nobody whose data it could copy. Every other one joins.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        founds: bool,
    },
    /// Give it requests. Expects it to be healthy.
    Admit {
        /// Which.
        id: InstanceId,
    },
    /// Give it no new requests.
    Drain {
        /// Which.
        id: InstanceId,
        /// How many other instances must serve at that moment.
        others: usize,
    },
    /// End it and forget it.
    Terminate {
        /// Which.
        id: InstanceId,
        /// Whether it is healthy. A healthy one must be drained before; one that is found healthy although
        /// this says no is left alone, since it recovered.
        healthy: bool,
        /// Why: for the journal and the reader.
        reason: String,
    },
    /// Have the leader of a stateful fleet hand its leadership over. Expects it to lead, and the other to have caught up.
    HandOver {
        /// Who leads.
        id: InstanceId,
        /// Who is to lead.
        to: InstanceId,
    },
    /// Remove what an instance that is not there any more left with the others: its registration, its vote.
    Deregister {
        /// Whose.
        id: InstanceId,
    },
}

impl Action {
    /// Returns the instance it is about.
    #[must_use]
    pub const fn id(&self) -> &InstanceId {
        match self {
            Self::Launch { id, .. }
            | Self::Admit { id }
            | Self::Drain { id, .. }
            | Self::Terminate { id, .. }
            | Self::HandOver { id, .. }
            | Self::Deregister { id } => id,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Launch { id, generation, zone, .. } => {
                let image = generation.image().map_or_else(|| "?".to_owned(), |image| image.short());
                write!(f, "launch {id} from {image}")?;
                zone.as_ref().map_or(Ok(()), |zone| write!(f, " in {zone}"))
            }
            Self::Admit { id } => write!(f, "give {id} requests"),
            Self::Drain { id, .. } => write!(f, "drain {id}"),
            Self::Terminate { id, reason, .. } => write!(f, "end {id} ({reason})"),
            Self::HandOver { id, to } => write!(f, "hand leadership over from {id} to {to}"),
            Self::Deregister { id } => write!(f, "remove what {id} left behind"),
        }
    }
}

/// What came of an act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Done.
    Applied,
    /// It was so already.
    AlreadyDone,
    /// It is there no more, and ended by itself: it was launched, and nobody but its provider or its machine ended it.
    Ended,
    /// Not done: the world is not what the action expects. The next census tells more.
    Refused {
        /// What does not hold.
        precondition: String,
    },
    /// A launch was not made: the zone has no room for it now. Its name is given up with it.
    NoCapacity {
        /// The provider's words.
        words: String,
    },
    /// Not done, since too much was asked in too short a time.
    Throttled {
        /// The provider's words.
        words: String,
    },
}

impl Outcome {
    /// A refusal.
    pub fn refused(precondition: impl Into<String>) -> Self {
        Self::Refused { precondition: precondition.into() }
    }
}

/// What a provider says to an act that is for members who hold data: [`Place`] carries those out.
fn stateless() -> Outcome {
    Outcome::refused("its fleet file has no `[stateful]`")
}

/// Why a provider could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It may be done or not; the next census tells.
    #[error("no answer: {0}")]
    Unclear(String),
    /// It is not done, since too much was asked in too short a time. Nothing is wrong with the instance or the act.
    #[error("too many requests: {0}")]
    Throttled(String),
    /// It is not done.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl ProviderError {
    /// Returns what the provider said.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Failed(error) => error.chain(),
            other => other.to_string(),
        }
    }
}

impl From<ProviderError> for Error {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::Failed(error) => error,
            other => Self::failed(other.to_string()),
        }
    }
}

/// Where instances live.
///
/// Every act is safe to repeat, checks what it expects right before acting, and makes no choice.
pub trait Provider {
    /// Makes what the instances are to live in, where that is not there and can be made: called before
    /// [`Provider::prepare`] by whoever has the journal, never by a command that only looks. Safe to repeat.
    ///
    /// # Errors
    /// It cannot be made.
    fn make(&self, target: &Target) -> impl Future<Output = Result<()>> {
        let _ = target;
        async { Ok(()) }
    }

    /// Makes what serves the whole fleet (a load balancer) run and know the instances; called before each census
    /// by whoever has the journal, never by a command that only looks.
    ///
    /// # Errors
    /// It cannot be made to run.
    fn prepare(&self) -> impl Future<Output = Result<()>>;

    /// Looks.
    ///
    /// # Errors
    /// It cannot look at all. What it cannot tell of one instance is `Unknown` in the census.
    fn census(&self) -> impl Future<Output = Result<Census, ProviderError>>;

    /// Checks what `action` expects, then does it.
    ///
    /// # Errors
    /// It could not be done, or whether it was cannot be told.
    fn apply(&self, action: &Action) -> impl Future<Output = Result<Outcome, ProviderError>>;

    /// Kills an instance as a failure would: without a word to whatever gives it requests, and so that its record, if it has
    /// one, stays. Checks before that it is there and serves, and that `others` besides it do.
    ///
    /// # Errors
    /// It could not be done, or whether it was cannot be told.
    fn kill(&self, id: &InstanceId, others: usize) -> impl Future<Output = Result<Outcome, ProviderError>> {
        let _ = others;
        async move { Ok(Outcome::refused(format!("nothing here can kill {id}"))) }
    }

    /// Returns the end of an instance's console, and what else its provider says of how it came to be as it is; empty when
    /// there is nothing.
    fn console_tail(&self, id: &InstanceId) -> impl Future<Output = Vec<String>>;

    /// Gives back what was changed for the time of a roll only. Called at the end of each roll that has not lost its
    /// journal, whatever the end; `arrived` is what every instance is of now, if they are. Safe to repeat.
    ///
    /// # Errors
    /// Something is still as it was changed; the next roll, or `rekiln reap`, gives it back.
    fn release(&self, arrived: Option<&Generation>) -> impl Future<Output = Result<()>> {
        let _ = arrived;
        async { Ok(()) }
    }

    /// Returns the time by the provider's clock.
    fn now(&self) -> Timestamp;

    /// Lets time pass.
    fn wait(&self, time: Duration) -> impl Future<Output = ()>;
}

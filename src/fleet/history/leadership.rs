//! What became of leadership in one rollout.

use jiff::Timestamp;

use crate::fleet::census::InstanceId;
use crate::provider::Outcome;

/// Who leads a stateful fleet, and what became of leadership in one rollout by rekiln's own acts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leadership {
    /// Who led when that was last looked at, if anybody did, and since when; `None` before it was ever looked at.
    pub leads: Option<(Option<InstanceId>, Timestamp)>,
    /// The last time that it was handed over.
    pub moved: Option<Moved>,
    /// The answers since that said "not now".
    pub refused: Option<Refused>,
}

/// A leadership that was handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Who led.
    pub from: InstanceId,
    /// Who leads.
    pub to: InstanceId,
    /// When.
    pub at: Timestamp,
}

/// A leadership that was not handed over, though that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Since when it is asked in vain.
    pub since: Timestamp,
    /// When it was asked last.
    pub at: Timestamp,
    /// The last answer.
    pub words: String,
}

impl Leadership {
    /// Another rollout begins, or turns back: it may hand over once of its own.
    pub(super) fn begin(&mut self) {
        (self.moved, self.refused) = (None, None);
    }

    pub(super) fn led(&mut self, at: Timestamp, instance: Option<&InstanceId>) {
        self.leads = Some((instance.cloned(), at));
    }

    pub(super) fn conclude(&mut self, at: Timestamp, from: &InstanceId, to: &InstanceId, outcome: &Outcome) {
        match outcome {
            Outcome::Applied | Outcome::AlreadyDone => {
                self.moved = Some(Moved { from: from.clone(), to: to.clone(), at });
                self.refused = None;
            }
            Outcome::Refused { precondition: words } => {
                let since = self.refused.as_ref().map_or(at, |refused| refused.since);
                self.refused = Some(Refused { since, at, words: words.clone() });
            }
            Outcome::Ended | Outcome::NoCapacity { .. } | Outcome::Throttled { .. } => {}
        }
    }
}

//! What is asked of a roll.

use crate::fleet::census::InstanceId;

/// What a person wants of a roll.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Order {
    /// Why, for the journal.
    pub reason: String,
    /// What to replace although nothing changed.
    pub wish: Option<Wish>,
    /// Skips soak, canary, waves, gates, windows and rate, and takes over a running roll.
    pub emergency: bool,
    /// The commit that asks for it, where a merge is applied.
    pub commit: Option<String>,
}

/// What to replace although nothing changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Which; every member when empty.
    pub instances: Vec<InstanceId>,
    /// Why.
    pub reason: String,
}

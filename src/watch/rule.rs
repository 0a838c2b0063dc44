//! What a fleet does about an alert, put together from its file and the playbook that it names.

use jiff::SignedDuration;

/// A rule as decisions need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The alert's name and the labels that it must have: `HighErrorRate{severity="page"}`.
    pub name: String,
    /// So long after it was heard, the instance is replaced.
    pub within: SignedDuration,
    /// How many instances it may take in an hour.
    pub limit: usize,
    /// How many steps its playbook has that are carried out here; 0 without a playbook.
    pub steps: usize,
    /// Whether the instance is replaced after the last step, whatever time is left.
    pub rotates: bool,
}

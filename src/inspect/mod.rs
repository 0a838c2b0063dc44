//! What is on a disk, and what is wrong with it: one that rekiln sealed, or a vendor's in ext4 or XFS.

pub mod diff;
pub mod disk;
pub mod erofs;
pub mod ext4;
pub mod extents;
pub mod foreign;
mod inspection;
pub mod inventory;
pub mod kind;
pub mod partitions;
pub mod raw;
mod rpm;
pub mod rules;
#[cfg(test)]
mod tests;
pub mod tree;
mod uki;
mod units;
mod verity;
pub mod volume;
pub mod window;
pub mod xfs;

pub use inspection::{Expected, Inspection, inspect, inspect_disk};
pub use rules::{SETUID, rule_names};

use serde::{Deserialize, Serialize};

/// One violation of the strict profile on a disk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The rule's name, as exceptions use it.
    pub rule: String,
    /// Path in the image, or what else it is about.
    pub path: String,
    /// Why it is a finding.
    pub reason: String,
    /// The reason of the recipe's exception that accepts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excepted: Option<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Lets someone in, or gives them the machine.
    Critical,
    /// Weakens a barrier.
    High,
    /// Leaves behind what should not be there.
    Medium,
}

impl Severity {
    /// Returns the word for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
        }
    }
}

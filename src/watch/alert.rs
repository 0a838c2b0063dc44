//! Alerts as their senders write them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The label that is an alert's name, and with which it is never one of [`Heard::labels`]: Alertmanager's.
pub const NAME_LABEL: &str = "alertname";

/// What someone outside says of something that is not well, or is again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The alert's name: the label `alertname` in Alertmanager, the alarm's name in `CloudWatch`.
    pub name: String,
    /// What else identifies it: labels in Alertmanager, dimensions in `CloudWatch`.
    pub labels: BTreeMap<String, String>,
    /// Whether it fires; else it is resolved.
    pub firing: bool,
    /// What it is about, for people; untrusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
}

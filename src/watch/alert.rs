//! Decide: alerts as their senders write them. Whoever can reach the watcher can write anything here: what is too much is
//! refused, what is too long is cut, and nothing of it is ever run, filled in or asked.

mod alertmanager;
mod cloudwatch;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use alertmanager::alertmanager;
pub use cloudwatch::{Aws, cloudwatch};

use crate::digest::Digest;
use crate::error::{Error, Result};

/// The label that is an alert's name, and with which it is never one of [`Heard::labels`]: Alertmanager's.
pub const NAME_LABEL: &str = "alertname";

/// The most alerts that one message may have: a group of Alertmanager's for a thousand instances at once is no alert about
/// an instance any more, and the rules' limits would let it replace one or two of them.
const MOST_ALERTS: usize = 1000;

/// The most labels that one alert may have: ten times what people write, and more than the 30 dimensions of a metric.
const MOST_LABELS: usize = 100;

/// The longest text that is kept of anything, in bytes: what a page shows of it is less, and names of instances, services and
/// paths are shorter.
const LONGEST: usize = 1 << 10;

/// What stands at the end of a text that was cut, so that it is none that anybody wrote.
const CUT: char = '…';

/// What someone outside says of something that is not well, or is again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The alert's name: the label `alertname` in Alertmanager, the alarm's name in `CloudWatch`.
    pub name: String,
    /// What else identifies it: labels in Alertmanager, dimensions in `CloudWatch`. Of what has more than 1 KiB, the start,
    /// with `…` behind it; without control characters.
    pub labels: BTreeMap<String, String>,
    /// Whether it fires; else it is resolved.
    pub firing: bool,
    /// What it is about, for people; untrusted. One line of 1 KiB at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
}

impl Heard {
    /// Returns a short digest of name and labels: the same for an alert when it fires and when it is resolved, another one
    /// for every other alert.
    #[must_use]
    pub fn key(&self) -> String {
        // Each with its length, or two texts could be parted at another place. Labels are in order.
        let pairs = self.labels.iter().flat_map(|(label, value)| [label, value]);
        let texts = std::iter::once(&self.name).chain(pairs).map(|text| format!("{}:{text}", text.len()));
        Digest::of(texts.collect::<String>().as_bytes()).short()
    }

    /// Puts one together from what a sender wrote.
    fn new(
        name: &str,
        labels: impl IntoIterator<Item = (String, String)>,
        firing: bool,
        summary: Option<&str>,
    ) -> Result<Self> {
        let mut kept = BTreeMap::new();
        for (label, value) in labels {
            // Two cut names could become one, and one of their values would be lost.
            if label.len() > LONGEST {
                return Err(Error::invalid(format!(
                    "an alert has a label whose name has {} bytes",
                    label.len()
                )));
            }
            kept.insert(readable(&label), readable(&value));
            if kept.len() > MOST_LABELS {
                return Err(Error::invalid(format!("an alert has more than {MOST_LABELS} labels")));
            }
        }
        let summary =
            summary.map(readable).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        Ok(Self { name: readable(name), labels: kept, firing, summary })
    }
}

/// Makes a stranger's text fit for a line that people read: cut, and with spaces for control characters, which terminals
/// would obey.
fn readable(text: &str) -> String {
    let cut = text.len() > LONGEST;
    let end = if cut { text.floor_char_boundary(LONGEST - CUT.len_utf8()) } else { text.len() };
    let plain = text[..end].chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.chain(cut.then_some(CUT)).collect()
}

/// Refuses what has more alerts than one message may.
fn not_too_many(count: usize) -> Result<()> {
    if count > MOST_ALERTS {
        return Err(Error::invalid(format!("there are {count} alerts in one message, and {MOST_ALERTS} are the most"))
            .hint("Alertmanager cuts its messages with `max_alerts` in `webhook_configs`, and groups them with `group_by`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;

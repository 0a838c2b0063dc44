//! Decide: which alerts are a fleet's, and which instance they are about.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::census::{Census, Instance, State};
use crate::notation;
use crate::watch::alert::Heard;

/// The labels that name an instance where a rule does not say which does: Prometheus gives each series the first
/// (<https://prometheus.io/docs/concepts/jobs_instances/>), and EC2's metrics have the second as their dimension
/// (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/viewing_metrics_with_cloudwatch.html>).
pub const USUAL_INSTANCE: [&str; 2] = ["instance", "InstanceId"];

/// A rule: an alert that it is for opens a case. The playbook is carried out; when that does not resolve the alert in time,
/// the instance is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// The alert's name: Alertmanager's label `alertname`, or the name of a `CloudWatch` alarm.
    pub name: String,
    /// Further labels, or dimensions, that must be exactly so.
    #[serde(default, rename = "match", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The label, or dimension, that names the instance; left out: `instance`, else `InstanceId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The playbook that is carried out first: `restart` for `fleets/playbooks/restart.toml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub playbook: Option<String>,
    /// How long after it was heard it must be resolved, such as `5m`; else the instance is replaced. Must be there with a
    /// playbook; without one and left out, the instance is replaced at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// How many instances this rule may replace in an hour, such as `2/h`.
    #[serde(default = "default_limit")]
    pub limit: String,
}

/// One in an hour: if that does not help, the cause is elsewhere, and a person is to look before more goes.
fn default_limit() -> String {
    "1/h".to_owned()
}

impl Alert {
    /// Tells whether the rule is for what was heard, be it that the alert fires or that it is resolved.
    #[must_use]
    pub fn is_for(&self, heard: &Heard) -> bool {
        let has = |(label, value): (&String, &String)| heard.labels.get(label) == Some(value);
        self.name == heard.name && self.labels.iter().all(has)
    }

    /// Returns the text that names the instance; [`instance`] finds who that is. `None` when no label does.
    #[must_use]
    pub fn names<'h>(&self, heard: &'h Heard) -> Option<&'h str> {
        let text = |label: &str| heard.labels.get(label).map(String::as_str).filter(|text| !text.is_empty());
        match &self.instance {
            Some(label) => text(label),
            None => USUAL_INSTANCE.into_iter().find_map(text),
        }
    }

    /// Returns how long after it was heard it must be resolved.
    ///
    /// # Errors
    /// Text that is no duration; a playbook without one.
    pub fn within(&self) -> Result<Duration, String> {
        match (&self.within, &self.playbook) {
            (Some(within), _) => notation::duration(within),
            (None, None) => Ok(Duration::ZERO),
            (None, Some(playbook)) => Err(format!(
                "`within` is missing: how long the playbook `{playbook}` has until the instance is replaced"
            )),
        }
    }

    /// Returns how many instances it may replace in an hour.
    ///
    /// # Errors
    /// Text that is no rate.
    pub fn limit(&self) -> Result<u32, String> {
        notation::rate(&self.limit)
    }
}

/// Finds the instance that `text` names: by its id here or at its provider, by its address, or by its host with another port, as exporters have one
/// of their own, or none.
///
/// A host decides only if exactly one living instance has it: machines on one computer share theirs. `None` when nobody, or
/// not exactly one, is meant; the dead do not count, and neither do those that are yet to come.
#[must_use]
pub fn instance<'c>(census: &'c Census, text: &str) -> Option<&'c Instance> {
    let lives = |instance: &&Instance| instance.state != State::Dead && !instance.id.is_coming();
    let living = || census.instances.iter().filter(lives);
    let named =
        living().filter(|instance| instance.id.0 == text || instance.known_as.as_deref() == Some(text));
    if let Some(named) = only(named) {
        return Some(named);
    }
    let (host, port) = host(text)?;
    let there = living().filter_map(|instance| Some((instance, instance.address?)));
    let there: Vec<_> = there.filter(|(_, address)| address.ip().to_canonical() == host).collect();
    let exact = there.iter().filter(|(_, address)| Some(address.port()) == port);
    only(exact.map(|(instance, _)| *instance)).or_else(|| {
        // Two that are said to have one address are not told apart by leaving its port out.
        let exact = there.iter().any(|(_, address)| Some(address.port()) == port);
        if exact { None } else { only(there.iter().map(|(instance, _)| *instance)) }
    })
}

/// Reads `10.0.0.7`, `10.0.0.7:9100`, `::1` or `[::1]:9100`.
fn host(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((address.ip().to_canonical(), Some(address.port())));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    Some((bare.parse::<IpAddr>().ok()?.to_canonical(), None))
}

/// Returns the one that all of these are; a look may have seen one twice.
fn only<'c>(mut instances: impl Iterator<Item = &'c Instance>) -> Option<&'c Instance> {
    let first = instances.next()?;
    instances.all(|other| other.id == first.id).then_some(first)
}

/// Returns for each rule that says the same as one before it which that is, by their places in the list.
#[must_use]
pub fn repeated(rules: &[Alert]) -> Vec<(usize, usize)> {
    let mut seen = BTreeMap::new();
    let same = |(at, rule): (usize, &Alert)| {
        let before = *seen.entry((rule.name.clone(), rule.labels.clone())).or_insert(at);
        (before != at).then_some((at, before))
    };
    rules.iter().enumerate().filter_map(same).collect()
}

#[cfg(test)]
mod tests;

//! What Prometheus Alertmanager sends.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Heard, NAME_LABEL, not_too_many, readable};
use crate::error::{Doing as _, Error, Result};

/// The version of the format that is understood, and that `notify/webhook/webhook.go` of Alertmanager writes.
const VERSION: &str = "4";

/// A message: those of its keys that matter here, beside its version.
#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    alerts: Vec<Alert>,
}

#[derive(Debug, Deserialize)]
struct Alert {
    status: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// Reads what Alertmanager sends to a webhook: version 4 of its JSON, in which each alert of a group has a status of its own
/// (<https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>; the message's own status is `firing` as long as
/// one of its alerts is, and says nothing of the others).
///
/// # Errors
/// Text that is no such message, another version, a status that is neither `firing` nor `resolved`, more than 1,000 alerts,
/// and labels that are too many or have too long names. Then nothing of it was heard.
pub fn alertmanager(body: &[u8]) -> Result<Vec<Heard>> {
    // Before the rest: that of another version may be of another shape.
    let value: serde_json::Value = serde_json::from_slice(body).doing(|| "reading a message as JSON")?;
    let version = value.get("version");
    if version.and_then(serde_json::Value::as_str) != Some(VERSION) {
        let version = version.map_or_else(|| "none".to_owned(), |version| readable(&version.to_string()));
        return Err(Error::invalid(format!(
            "the message's version is {version}, and \"{VERSION}\" of Alertmanager's webhook is understood"
        ))
        .hint("others that send webhooks, such as Grafana itself, can send alerts to an Alertmanager"));
    }
    let message: Message = serde_json::from_value(value).doing(|| "reading a message of Alertmanager")?;
    not_too_many(message.alerts.len())?;
    message.alerts.into_iter().map(heard).collect()
}

fn heard(alert: Alert) -> Result<Heard> {
    let firing = match alert.status.as_str() {
        "firing" => true,
        "resolved" => false,
        other => {
            let other = readable(other);
            return Err(Error::invalid(format!(
                "an alert's status is `{other}`, neither firing nor resolved"
            )));
        }
    };
    let mut labels = alert.labels.unwrap_or_default();
    // Alertmanager takes alerts without a name; no rule is for them.
    let name = labels.remove(NAME_LABEL).unwrap_or_default();
    let annotations = alert.annotations.unwrap_or_default();
    // What people write in rules by convention: https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/
    let summary = ["summary", "description"].into_iter().find_map(|key| annotations.get(key));
    Heard::new(&name, labels, firing, summary.map(String::as_str))
}

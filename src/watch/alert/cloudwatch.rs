//! What `CloudWatch` has sent: by SNS, or by `EventBridge`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Heard, readable};
use crate::error::{Doing as _, Error, Result};

/// What a message from AWS says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aws {
    /// Alarms.
    Heard(Vec<Heard>),
    /// SNS asks whether its messages are wanted here: a GET of this URL, which was checked to be one of SNS, says yes. It has
    /// a token, and is not for logs.
    Confirm(String),
    /// Nothing to do, and why, for people.
    Nothing(String),
}

/// Reads what AWS posts:
///
/// * an SNS message (<https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html>) with an alarm in it, whose
///   JSON is that of <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Notify_Users_Alarm_Changes.html>; or with
///   an event of `EventBridge`; or either as it is, as SNS sends it with raw message delivery
///   (<https://docs.aws.amazon.com/sns/latest/dg/sns-large-payload-raw-message-delivery.html>);
/// * SNS's question whether messages are wanted
///   (<https://docs.aws.amazon.com/sns/latest/dg/http-subscription-confirmation-json.html>);
/// * an event of `EventBridge`
///   (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch-and-eventbridge.html>).
///
/// An alarm without enough data neither fires nor is it resolved. A dimension on which the metrics of one alarm do not agree
/// is left out: it names nobody. Signatures are not checked: who may post is for the server to say.
///
/// # Errors
/// Text that is none of these, and a URL to confirm with that is not SNS's.
pub fn cloudwatch(body: &[u8]) -> Result<Aws> {
    let value: Value = serde_json::from_slice(body).doing(|| "reading a message as JSON")?;
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    match text("Type") {
        Some("Notification") => {
            let message = text("Message").unwrap_or_default();
            match serde_json::from_str(message).ok().map(alarm) {
                Some(Ok(Some(aws))) => Ok(aws),
                Some(Err(error)) => Err(error),
                // Other senders may use the topic too, and a person who tries it out.
                Some(Ok(None)) | None => Ok(Aws::Nothing("a notification that is no alarm".to_owned())),
            }
        }
        Some("SubscriptionConfirmation") => {
            let url = text("SubscribeURL").unwrap_or_default();
            if is_of_sns(url) {
                return Ok(Aws::Confirm(url.to_owned()));
            }
            // Without the URL: it may have a token, and be anybody's.
            Err(Error::invalid("a subscription is to be confirmed at an URL that is not one of SNS")
                .hint("SNS's own are `https://sns.<region>.amazonaws.com/?Action=ConfirmSubscription&…`"))
        }
        Some("UnsubscribeConfirmation") => Ok(Aws::Nothing("a subscription was ended".to_owned())),
        Some(other) => Err(Error::invalid(format!("SNS has no messages of type `{}`", readable(other)))),
        None => alarm(value)?.ok_or_else(|| {
            Error::invalid("this is neither a message of SNS nor an event of `CloudWatch` about an alarm")
        }),
    }
}

/// Reads an alarm or an event; `None` when it is neither.
fn alarm(value: Value) -> Result<Option<Aws>> {
    if value.get("AlarmName").is_some() && value.get("NewStateValue").is_some() {
        let alarm: Alarm = serde_json::from_value(value).doing(|| "reading an alarm")?;
        let dimensions = alarm.trigger.map_or_else(Vec::new, Trigger::dimensions);
        let reason = alarm.reason.or(alarm.description);
        return told(&alarm.name, &alarm.state, dimensions, reason.as_deref()).map(Some);
    }
    if value.get("source").and_then(Value::as_str) != Some("aws.cloudwatch") {
        return Ok(None);
    }
    match value.get("detail-type").and_then(Value::as_str) {
        Some("CloudWatch Alarm State Change") => {
            let event: Event = serde_json::from_value(value).doing(|| "reading an event")?;
            let Detail { name, state, configuration } = event.detail;
            let metrics = configuration.metrics.unwrap_or_default().into_iter();
            let metrics = metrics.filter_map(|metric| metric.metric_stat?.metric?.dimensions);
            told(&name, &state.value, metrics.flatten(), state.reason.as_deref()).map(Some)
        }
        other => {
            let other = readable(other.unwrap_or("nothing"));
            Ok(Some(Aws::Nothing(format!("an event about {other}, and no alarm's state"))))
        }
    }
}

/// Puts together what an alarm says.
fn told(
    name: &str,
    state: &str,
    dimensions: impl IntoIterator<Item = (String, String)>,
    reason: Option<&str>,
) -> Result<Aws> {
    let firing = match state {
        "ALARM" => true,
        "OK" => false,
        "INSUFFICIENT_DATA" => {
            return Ok(Aws::Nothing(format!("the alarm {} has not enough data", readable(name))));
        }
        other => return Err(Error::invalid(format!("alarms are never in state `{}`", readable(other)))),
    };
    Ok(Aws::Heard(vec![Heard::new(name, agreed(dimensions), firing, reason)?]))
}

/// Keeps the dimensions on which all agree who have them.
fn agreed(dimensions: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, Option<String>> = BTreeMap::new();
    for (name, value) in dimensions {
        let kept = all.entry(name).or_insert_with(|| Some(value.clone()));
        if kept.as_ref() != Some(&value) {
            *kept = None;
        }
    }
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Tells whether an URL is one with which SNS is told that its messages are wanted. Whoever can post here could otherwise
/// have the watcher ask anything that it reaches, such as the metadata of the machine that it runs on.
fn is_of_sns(url: &str) -> bool {
    // Spelled as SNS does; all that other readers of URLs take differently (`@`, `\`, ports, escapes) is no part of a host.
    let parts = url.strip_prefix("https://").and_then(|rest| rest.split_once("/?"));
    let Some((host, query)) = parts else { return false };
    let name = host.strip_suffix(".cn").unwrap_or(host);
    let region = name.strip_prefix("sns.").and_then(|rest| rest.strip_suffix(".amazonaws.com"));
    let of_region = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let region = region.is_some_and(|region| !region.is_empty() && region.bytes().all(of_region));
    let plain = query.bytes().all(|byte| byte.is_ascii_graphic());
    region && plain && query.split('&').any(|pair| pair == "Action=ConfirmSubscription")
}

/// An alarm as SNS brings it.
#[derive(Debug, Deserialize)]
struct Alarm {
    #[serde(rename = "AlarmName")]
    name: String,
    #[serde(rename = "NewStateValue")]
    state: String,
    #[serde(default, rename = "NewStateReason")]
    reason: Option<String>,
    #[serde(default, rename = "AlarmDescription")]
    description: Option<String>,
    /// An alarm that is made of other alarms has none.
    #[serde(default, rename = "Trigger")]
    trigger: Option<Trigger>,
}

/// What an alarm watches: one metric, or several of which it reckons.
#[derive(Debug, Deserialize)]
struct Trigger {
    #[serde(default, rename = "Dimensions")]
    dimensions: Option<Vec<Dimension>>,
    #[serde(default, rename = "Metrics")]
    metrics: Option<Vec<Reckoned>>,
}

#[derive(Debug, Deserialize)]
struct Reckoned {
    #[serde(default, rename = "MetricStat")]
    metric_stat: Option<MetricStat>,
}

#[derive(Debug, Deserialize)]
struct MetricStat {
    #[serde(default, rename = "Metric")]
    metric: Option<Metric>,
}

#[derive(Debug, Deserialize)]
struct Metric {
    #[serde(default, rename = "Dimensions")]
    dimensions: Option<Vec<Dimension>>,
}

/// A dimension: alarms have it in small letters, and in capitals where the API's own names got through.
#[derive(Debug, Deserialize)]
struct Dimension {
    #[serde(alias = "Name")]
    name: String,
    #[serde(alias = "Value")]
    value: String,
}

impl Trigger {
    fn dimensions(self) -> Vec<(String, String)> {
        let metrics = self.metrics.unwrap_or_default().into_iter();
        let reckoned = metrics.filter_map(|one| one.metric_stat?.metric?.dimensions);
        let all = self.dimensions.into_iter().chain(reckoned).flatten();
        all.map(|Dimension { name, value }| (name, value)).collect()
    }
}

/// An event of `EventBridge` about an alarm's state.
#[derive(Debug, Deserialize)]
struct Event {
    detail: Detail,
}

#[derive(Debug, Deserialize)]
struct Detail {
    #[serde(rename = "alarmName")]
    name: String,
    state: State,
    #[serde(default)]
    configuration: Configuration,
}

#[derive(Debug, Deserialize)]
struct State {
    value: String,
    #[serde(default)]
    reason: Option<String>,
}

/// An alarm that is made of other alarms has no metrics.
#[derive(Debug, Default, Deserialize)]
struct Configuration {
    #[serde(default)]
    metrics: Option<Vec<EventMetric>>,
}

#[derive(Debug, Deserialize)]
struct EventMetric {
    #[serde(default, rename = "metricStat")]
    metric_stat: Option<EventMetricStat>,
}

#[derive(Debug, Deserialize)]
struct EventMetricStat {
    #[serde(default)]
    metric: Option<EventDimensions>,
}

#[derive(Debug, Deserialize)]
struct EventDimensions {
    #[serde(default)]
    dimensions: Option<BTreeMap<String, String>>,
}

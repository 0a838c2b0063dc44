//! Do: notifications, which tell people what is worth their attention.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::census::InstanceId;
use super::outside::request;
use super::{Notify, NotifyFormat};
use crate::digest::ImageId;
use crate::error::{Doing as _, Result};

/// How long a webhook may take. They answer within a second; one that does not must not hold up a roll for long.
const LIMIT: Duration = Duration::from_secs(10);

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Message<'a> {
    /// The fleet's name.
    pub fleet: &'a str,
    /// What happened, for a program: such as `failed` or `completed`.
    pub event: &'a str,
    /// What happened, for a person. Slack gets nothing else: it should name the fleet.
    pub text: &'a str,
    /// When.
    pub at: Timestamp,
    /// The image that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageId>,
    /// The instance that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<&'a InstanceId>,
}

/// Sends a message, within 10 s. Nothing may depend on that it arrives.
///
/// # Errors
/// Whatever asking the webhook returns, with its URL up to its host or as `$NAME`.
pub fn send(notify: &Notify, message: &Message) -> Result<()> {
    let doing = || format!("telling that fleet {} has {}", message.fleet, message.event);
    let body = match notify.format {
        NotifyFormat::Json => serde_json::to_vec(message),
        NotifyFormat::Slack => serde_json::to_vec(&json!({ "text": escaped(message.text) })),
    };
    request(&notify.webhook, Some(&body.doing(doing)?), LIMIT)
        .map(drop)
        .map_err(|error| error.during(doing()))
}

/// Escapes what Slack takes for markup: a console's last line must not call the whole channel.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::outside::server::Server;
    use super::*;

    fn sent(format: NotifyFormat, status: u16) -> (Result<()>, String) {
        let server = Server::answering(&[(status, "ok")]);
        let notify = Notify { webhook: server.url("/services/secret"), format };
        let instance = InstanceId::new("web", 7);
        let message = Message {
            fleet: "web",
            event: "halted",
            text: "web: \"panic\" <!channel> & more",
            at: Timestamp::UNIX_EPOCH,
            image: None,
            instance: Some(&instance),
        };
        let result = send(&notify, &message);
        let request = server.heard().remove(0);
        (result, request.split_once("\r\n\r\n").expect("a body").1.to_owned())
    }

    #[test]
    fn formats() {
        let (result, body) = sent(NotifyFormat::Json, 200);
        result.expect("it arrives");
        assert_eq!(
            body,
            r#"{"fleet":"web","event":"halted","text":"web: \"panic\" <!channel> & more","at":"1970-01-01T00:00:00Z","instance":"web-7"}"#
        );
        let (result, body) = sent(NotifyFormat::Slack, 200);
        result.expect("it arrives");
        assert_eq!(body, r#"{"text":"web: \"panic\" &lt;!channel&gt; &amp; more"}"#);
    }

    #[test]
    fn a_failure_keeps_the_secret() {
        let error = sent(NotifyFormat::Slack, 403).0.expect_err("forbidden").chain();
        assert!(error.starts_with("telling that fleet web has halted: http://127.0.0.1:"), "{error}");
        assert!(error.ends_with(" answered with HTTP status 403") && !error.contains("secret"), "{error}");
    }
}

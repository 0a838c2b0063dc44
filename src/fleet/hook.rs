//! Do: hooks, which let a fleet's people act at the steps of a replacement.

use jiff::Timestamp;
use serde::Serialize;

use super::census::InstanceId;
use super::generation::Generation;
use super::outside::{request, run};
use super::{Hook, Step};
use crate::digest::ImageId;
use crate::error::{Doing as _, Error, Result};
use crate::notation;

/// What a hook is told: one JSON object, on standard input or as the body of a POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Document<'a> {
    /// The fleet's name.
    pub fleet: &'a str,
    /// Which step it is, such as `before-drain`.
    pub step: Step,
    /// The instance.
    pub instance: &'a InstanceId,
    /// The image it was launched from; null when its record cannot be read.
    pub image: Option<ImageId>,
    /// The image and the launch configuration; null as above.
    pub generation: Option<&'a Generation>,
    /// Why the step is taken, for a person.
    pub reason: &'a str,
    /// When.
    pub at: Timestamp,
}

/// Calls a hook and waits for its end. What it prints or answers does not matter.
///
/// # Errors
/// Whatever running the program or asking the URL returns, its exit code, its HTTP status and its limit included.
pub fn call(hook: &Hook, document: &Document) -> Result<()> {
    let called = || {
        let limit = notation::duration(&hook.timeout).map_err(Error::invalid)?;
        let text = serde_json::to_vec(document).doing(|| "writing its document as JSON")?;
        match (&hook.command, &hook.http) {
            (Some(command), None) => run(command, &text, limit),
            (None, Some(url)) => request(url, Some(&text), limit),
            _ => Err(Error::invalid("it has not exactly one of `command` and `http`")),
        }
    };
    called().map(drop).map_err(|error| {
        // The step has its word in the file and in the document; it is the same here.
        let step = serde_json::to_value(hook.on).ok();
        let step = step.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default();
        error.during(format!("calling the {step} hook for {}", document.instance))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::outside::server::Server;
    use super::*;

    fn hook(kind: &str) -> Hook {
        toml::from_str(&format!("on = 'before-drain'\n{kind}\n")).expect("a hook")
    }

    fn call_it(hook: &Hook) -> Result<()> {
        let (image, instance) = (ImageId::of(b"image"), InstanceId::new("web", 7));
        let generation =
            Generation { id: ImageId::of(b"g"), parts: Arc::new([("port".into(), "80".into())].into()) };
        call(
            hook,
            &Document {
                fleet: "web",
                step: Step::BeforeDrain,
                instance: &instance,
                image: Some(image),
                generation: Some(&generation),
                reason: "stale: image",
                at: Timestamp::UNIX_EPOCH,
            },
        )
    }

    #[test]
    fn what_a_hook_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("told");
        call_it(&hook(&format!("command = ['sh', '-c', 'cat > {}']", file.display()))).expect("it runs");
        let told = std::fs::read_to_string(file).expect("it was told");
        let digests = (ImageId::of(b"image"), ImageId::of(b"g"));
        assert_eq!(
            told,
            format!(
                r#"{{"fleet":"web","step":"before-drain","instance":"web-7","image":"{}","generation":{{"id":"{}","parts":{{"port":"80"}}}},"reason":"stale: image","at":"1970-01-01T00:00:00Z"}}"#,
                digests.0, digests.1
            )
        );
        let server = Server::answering(&[(200, "whatever")]);
        call_it(&hook(&format!("http = '{}'", server.url("/hook")))).expect("it answers");
        assert!(server.heard()[0].ends_with(&told));
    }

    #[test]
    fn failures() {
        let server = Server::answering(&[(500, "")]);
        for (kind, expected) in [
            (
                "command = ['sh', '-c', 'echo not now >&2; exit 1']".to_owned(),
                "calling the before-drain hook for web-7: `sh -c echo not now >&2; exit 1` ended with exit status: 1:\nnot now",
            ),
            (
                "command = ['sleep', '60']\ntimeout = '100ms'".to_owned(),
                "was not done after 100ms and was killed",
            ),
            (format!("http = '{}'", server.url("/")), "answered with HTTP status 500"),
            (
                "http = '$REKILN_TEST_NOT_SET'".to_owned(),
                "the environment variable REKILN_TEST_NOT_SET is not set",
            ),
            (String::new(), "not exactly one of"),
        ] {
            let error = call_it(&hook(&kind)).expect_err("it fails").chain();
            assert!(error.contains(expected), "{error}");
        }
    }
}

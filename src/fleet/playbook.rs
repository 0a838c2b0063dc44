//! A playbook: what is done about an alert before the instance is replaced. `fleets/playbooks/<name>.toml`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::outside::filling::{ADDRESS, ALERT, FLEET, ID};
use crate::notation;

/// The placeholders that commands and URLs of steps may have.
pub const PLACEHOLDERS: [&str; 4] = [ADDRESS, ID, FLEET, ALERT];

/// How long a command or a request may take where a step does not say: as with gates and hooks.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// How long is waited where a step does not say: most services start in less, and an alert that waits any longer is better
/// answered by another instance.
pub const WAIT: Duration = Duration::from_mins(1);

/// How long lies between two tries of a wait where a step does not say: soon enough for people, rare enough for whoever
/// is asked.
pub const EVERY: Duration = Duration::from_secs(5);

/// What is done about an alert, step by step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Playbook {
    /// What it is for, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The steps, in order.
    #[serde(default, rename = "step")]
    pub steps: Vec<Step>,
}

/// A step: exactly one of `command`, `http`, `wait` and `rotate`. `{address}`, `{id}`, `{fleet}` and `{alert}` in commands and
/// URLs are filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What it does, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A program and its arguments, which runs where `rekiln watch` does, with the case as JSON on standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// An URL that gets the case as JSON by a POST; any 2xx status is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// What is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
    /// The instance is replaced: the last step, if at all.
    #[serde(default, skip_serializing_if = "is_false")]
    pub rotate: bool,
    /// How long lies between two tries of a `wait`, such as `5s`, the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    /// How long it may take: `10s` by default; a `wait` in all: `60s` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// What happens when it fails.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_failure: StepFailure,
}

/// What a step waits for: exactly one of `http`, `command` and `resolved`. Whatever it is, a resolved alert ends the wait.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// Until this URL answers a GET with a 2xx status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// Until this program, with its arguments, ends with exit code 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Until the alert is resolved.
    #[serde(default, skip_serializing_if = "is_false")]
    pub resolved: bool,
}

/// What a failed step means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepFailure {
    /// The instance is replaced at once.
    #[default]
    Stop,
    /// It is written to the journal, and the next step begins.
    Continue,
}

/// What a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A program with its arguments.
    Command(&'a [String]),
    /// An URL that gets a POST.
    Http(&'a str),
    /// Something that is waited for.
    Wait(Until<'a>),
    /// The instance is replaced.
    Rotate,
}

/// Until when is waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until<'a> {
    /// An URL answers a GET well.
    Http(&'a str),
    /// A program ends well.
    Command(&'a [String]),
    /// The alert is resolved.
    Resolved,
}

impl Playbook {
    /// Returns how long its steps may take in all; replacing the instance at its end is not counted.
    ///
    /// # Errors
    /// As [`Step::timeout`].
    pub fn longest(&self) -> Result<Duration, String> {
        self.steps.iter().try_fold(Duration::ZERO, |sum, step| Ok(sum.saturating_add(step.timeout()?)))
    }
}

impl Step {
    /// Returns what it is.
    ///
    /// # Errors
    /// Not exactly one thing.
    pub fn kind(&self) -> Result<Kind<'_>, String> {
        match (&self.command, &self.http, &self.wait, self.rotate) {
            (Some(command), None, None, false) => Ok(Kind::Command(command)),
            (None, Some(url), None, false) => Ok(Kind::Http(url)),
            (None, None, Some(wait), false) => wait.until().map(Kind::Wait),
            (None, None, None, true) => Ok(Kind::Rotate),
            _ => Err("a step has exactly one of `command`, `http`, `wait`, `rotate`".to_owned()),
        }
    }

    /// Returns how long it may take: each try of it, or a wait in all. Replacing an instance has times of its own, and is
    /// [`Duration::ZERO`].
    ///
    /// # Errors
    /// Text that is no duration.
    pub fn timeout(&self) -> Result<Duration, String> {
        match &self.timeout {
            _ if self.rotate => Ok(Duration::ZERO),
            Some(timeout) => notation::duration(timeout),
            None if self.wait.is_some() => Ok(WAIT),
            None => Ok(TIMEOUT),
        }
    }

    /// Returns how long lies between two tries of a wait.
    ///
    /// # Errors
    /// Text that is no duration.
    pub fn every(&self) -> Result<Duration, String> {
        self.every.as_deref().map_or(Ok(EVERY), notation::duration)
    }

    /// Returns what it does in a few words: its name, or what can be said without telling an URL, which may be a secret.
    #[must_use]
    pub fn shown(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let program = |command: &[String]| command.first().cloned().unwrap_or_default();
        match self.kind() {
            Ok(Kind::Command(command)) => format!("run `{}`", program(command)),
            Ok(Kind::Http(_)) => "send a request".to_owned(),
            Ok(Kind::Wait(Until::Http(_))) => "wait for a good answer".to_owned(),
            Ok(Kind::Wait(Until::Command(command))) => format!("wait for `{}`", program(command)),
            Ok(Kind::Wait(Until::Resolved)) => "wait until it is resolved".to_owned(),
            Ok(Kind::Rotate) => "replace the instance".to_owned(),
            Err(_) => "nothing that can be understood".to_owned(),
        }
    }
}

impl Wait {
    /// Returns until when is waited.
    ///
    /// # Errors
    /// Not exactly one thing.
    pub fn until(&self) -> Result<Until<'_>, String> {
        match (&self.http, &self.command, self.resolved) {
            (Some(url), None, false) => Ok(Until::Http(url)),
            (None, Some(command), false) => Ok(Until::Command(command)),
            (None, None, true) => Ok(Until::Resolved),
            _ => Err("a wait has exactly one of `http`, `command`, `resolved`".to_owned()),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_default(on_failure: &StepFailure) -> bool {
    *on_failure == StepFailure::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(text: &str) -> Step {
        toml::from_str(text).expect(text)
    }

    #[test]
    fn what_steps_are() {
        for (text, shown, seconds) in [
            ("command = ['a', 'b']", "run `a`", 10),
            ("http = 'http://h/secret'", "send a request", 10),
            ("http = 'http://h/secret'\ntimeout = '2s'\nname = 'flush'", "flush", 2),
            ("wait = { http = 'http://h/secret' }", "wait for a good answer", 60),
            ("wait = { command = ['a'] }\ntimeout = '5m'", "wait for `a`", 300),
            ("wait = { resolved = true }", "wait until it is resolved", 60),
            ("rotate = true", "replace the instance", 0),
            ("", "nothing that can be understood", 10),
        ] {
            let step = step(text);
            assert_eq!((step.shown(), step.timeout()), (shown.to_owned(), Ok(Duration::from_secs(seconds))));
            let again = toml::to_string(&step).expect("written");
            assert_eq!(toml::from_str::<Step>(&again).expect("read"), step, "{text}");
        }
        for text in [
            "",
            "rotate = false",
            "command = ['a']\nhttp = 'http://h'",
            "rotate = true\nwait = { resolved = true }",
            "wait = {}",
            "wait = { resolved = true, http = 'http://h' }",
            "wait = { resolved = false }",
        ] {
            assert!(step(text).kind().is_err(), "{text}");
        }
        assert_eq!(step("every = '1m'").every(), Ok(Duration::from_mins(1)));
        assert_eq!(step("").every(), Ok(EVERY));
    }

    #[test]
    fn what_a_playbook_may_take() {
        let steps = ["command = ['a']", "wait = { resolved = true }\ntimeout = '2m'", "rotate = true"];
        let playbook = Playbook { description: None, steps: steps.iter().map(|text| step(text)).collect() };
        assert_eq!(playbook.longest(), Ok(Duration::from_secs(130)));
        assert_eq!(Playbook::default().longest(), Ok(Duration::ZERO));
    }
}

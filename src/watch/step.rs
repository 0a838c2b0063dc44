//! Do: the steps of playbooks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

use crate::error::{Doing as _, Error, Kind as ErrorKind, Result};
use crate::fleet::census::InstanceId;
use crate::fleet::outside::filling::{ADDRESS, ALERT, FLEET, ID};
use crate::fleet::outside::{self, Filling, request, without_secrets};
use crate::fleet::playbook::{Kind, Step, Until};

/// The longest that one try of a wait takes, as gates and hooks have by default: who does not answer in that time is asked
/// again.
const TRY: Duration = Duration::from_secs(10);

/// The shortest time that one try gets: what would be ended as soon as it began says nothing.
const LEAST: Duration = Duration::from_millis(100);

/// How often a wait looks whether it is over: no person notices it, and it costs nothing.
const SLICE: Duration = Duration::from_millis(50);

/// What a step is told: one JSON object, on standard input or as the body of a POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Document<'a> {
    /// The fleet's name.
    pub fleet: &'a str,
    /// The alert's name.
    pub alert: &'a str,
    /// Its other labels, or dimensions; untrusted.
    pub labels: &'a BTreeMap<String, String>,
    /// What it is about, for people; untrusted.
    pub summary: Option<&'a str>,
    /// The instance; null when nobody knows which.
    pub instance: Option<&'a InstanceId>,
    /// Where its health port answers; null when it has no address.
    pub address: Option<SocketAddr>,
    /// When the alert was heard.
    pub since: Timestamp,
    /// The playbook's name.
    pub playbook: &'a str,
    /// Which step it is, from 1.
    pub step: usize,
}

/// Carries out one step and waits for its end. What it prints or answers does not matter.
///
/// A `wait` ends well as soon as `resolved` is set, whatever it waits for, and with an error when `stopped` is. Both are looked
/// at between two tries: a try that is under way ends first, after 10 s at most. A command or a request that is no wait is
/// not ended by either.
///
/// # Errors
/// Whatever running the program or asking the URL returns, its exit code, its HTTP status and its limit included; a wait that
/// was in vain, with what its last try returned; `stopped`; a placeholder with nothing to fill in; a step that is not exactly one
/// thing, and `rotate`, which is not carried out here.
pub fn carry_out(
    step: &Step,
    document: &Document,
    resolved: &AtomicBool,
    stopped: &AtomicBool,
) -> Result<()> {
    let carried_out = || {
        let limit = step.timeout().map_err(Error::invalid)?;
        let case =
            Case { document, text: serde_json::to_vec(document).doing(|| "writing the case as JSON")? };
        match step.kind().map_err(Error::invalid)? {
            Kind::Command(command) => case.run(command, limit),
            Kind::Http(url) => case.post(url, limit),
            Kind::Wait(until) => {
                let every = step.every().map_err(Error::invalid)?;
                case.wait(until, &Patience { limit, every, resolved, stopped })
            }
            Kind::Rotate => Err(Error::invalid("an instance is not replaced as other steps are carried out")),
        }
    };
    carried_out().map_err(|error| {
        let Document { fleet, instance, playbook, step: number, .. } = document;
        let of = instance.map_or_else(|| format!("fleet {fleet}"), |id| format!("{id} of fleet {fleet}"));
        error.during(format!("carrying out step {number} of playbook {playbook}, {}, for {of}", step.shown()))
    })
}

/// What a step is told, and the same as text.
struct Case<'a> {
    document: &'a Document<'a>,
    text: Vec<u8>,
}

/// How long a wait waits.
struct Patience<'a> {
    limit: Duration,
    every: Duration,
    resolved: &'a AtomicBool,
    stopped: &'a AtomicBool,
}

impl Case<'_> {
    fn filling(&self) -> Filling<'_> {
        let Document { fleet, alert, instance, address, .. } = self.document;
        Filling::new(
            vec![
                (ADDRESS, address.map(|address| address.to_string().into())),
                (ID, instance.map(|id| id.0.as_str().into())),
                (FLEET, Some((*fleet).into())),
                (ALERT, Some((*alert).into())),
            ],
            "an instance that just began, or that nobody knows, has no address",
        )
    }

    fn run(&self, command: &[String], limit: Duration) -> Result<()> {
        run(&self.filling().fill_words(command)?, &self.text, limit)
    }

    fn post(&self, url: &str, limit: Duration) -> Result<()> {
        request(&self.filling().fill_url(url)?, Some(&self.text), limit).map(drop)
    }

    fn wait(&self, until: Until<'_>, patience: &Patience<'_>) -> Result<()> {
        if patience.is_over()? {
            return Ok(());
        }
        // What can never be tried is known before anything is waited for.
        let filling = self.filling();
        let (url, command) = match until {
            Until::Http(url) => (Some(filling.fill_url(url)?), None),
            Until::Command(command) => (None, Some(filling.fill_words(command)?)),
            Until::Resolved => (None, None),
        };
        patience.spend(|limit| match (&url, &command) {
            (Some(url), _) => request(url, None, limit).map(drop),
            (_, Some(command)) => run(command, &self.text, limit),
            _ => Err(Error::failed("it is not resolved")),
        })
    }
}

/// Runs a program. Its words, and what it prints when it fails, may have URLs: of these, errors have no more than of others.
fn run(command: &[String], input: &[u8], limit: Duration) -> Result<()> {
    outside::run(command, input, limit).map(drop).map_err(|error| match error.kind() {
        ErrorKind::Failed => {
            let hints = error.hints().iter().map(|hint| without_secrets(hint));
            hints.fold(Error::failed(without_secrets(&error.chain())), Error::hint)
        }
        _ => error,
    })
}

impl Patience<'_> {
    /// Tries until it works, the alert is resolved, or there is no time left; once at least.
    fn spend(&self, mut attempt: impl FnMut(Duration) -> Result<()>) -> Result<()> {
        let start = Instant::now();
        let left = || self.limit.saturating_sub(start.elapsed());
        loop {
            if self.is_over()? {
                return Ok(());
            }
            let Err(error) = attempt(left().clamp(LEAST, TRY)) else { return Ok(()) };
            let mut pause = self.every;
            while !pause.is_zero() && !left().is_zero() {
                if self.is_over()? {
                    return Ok(());
                }
                let slice = pause.min(SLICE).min(left());
                std::thread::sleep(slice);
                pause = pause.saturating_sub(slice);
            }
            // What was set during the last slice is not too late.
            if self.is_over()? {
                return Ok(());
            }
            if left().is_zero() {
                return Err(error.during(format!("waiting for {:?}, in vain; at last", self.limit)));
            }
        }
    }

    /// Tells whether the alert is resolved, so that nothing is to be waited for.
    fn is_over(&self) -> Result<bool> {
        // Resolved comes first: who stops a wait that is over has not stopped anything.
        if self.resolved.load(Ordering::SeqCst) {
            return Ok(true);
        }
        if self.stopped.load(Ordering::SeqCst) {
            return Err(Error::interrupted("the wait was stopped before its end"));
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;

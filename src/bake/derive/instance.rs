//! An EC2 instance as the machine on which an image is derived.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::machine::{Machine, Rest};
use super::remote::LIFETIME;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::provider::aws::{Aws, Found, Phase, insist};

/// Between two looks at the instance: calls are shared by all of the account.
const LOOK: Duration = Duration::from_secs(3);
/// How often an interruption is looked for.
const PAUSE: Duration = Duration::from_millis(200);
/// How long AWS may take to show the end of a stopped instance's console. It is there within a minute as a rule (EC2 user
/// guide, "Instance console output": posted shortly after a transition); several because nothing else says that all went well.
const SHOWN: Duration = Duration::from_mins(5);
/// How many lines of a console are shown: a screenful.
const LINES: usize = 20;

/// The instance. Its end is not this value's business: what is made is in the ledger.
pub struct Instance {
    aws: Aws,
    runtime: Arc<Runtime>,
    id: String,
    spot: bool,
    looked: Instant,
}

impl Instance {
    /// Takes an instance that was launched, for `spot` or on demand.
    #[must_use]
    pub fn new(aws: Aws, runtime: Arc<Runtime>, id: String, spot: bool) -> Self {
        Self { aws, runtime, id, spot, looked: Instant::now() }
    }

    /// Looks at it. One that is not listed yet is starting.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn look(&mut self) -> Result<Option<Found>> {
        self.looked = Instant::now();
        self.runtime.block_on(insist(&self.aws.region, || self.aws.builder(&self.id)))
    }

    fn ended(&mut self, found: &Found) -> Error {
        let words = self.last_words();
        Error::failed(format!(
            "instance {} ended by itself: {}; its console ends with:\n{words}",
            self.id, found.reason
        ))
    }

    fn said(&self) -> Result<String> {
        self.runtime.block_on(insist(&self.aws.region, || self.aws.console(&self.id)))
    }
}

/// Tells whether a line of a console begins with one of these.
fn says(text: &str, starts: &[&str]) -> bool {
    text.lines().any(|line| starts.iter().any(|start| line.trim_start().starts_with(start)))
}

/// Waits, unless someone interrupts the program.
pub fn pause(time: Duration) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < time {
        interrupt::check()?;
        std::thread::sleep(PAUSE.min(time));
    }
    Ok(())
}

impl Machine for Instance {
    fn must_run(&mut self) -> Result<()> {
        if self.looked.elapsed() < LOOK {
            return Ok(());
        }
        match self.look()? {
            Some(found) if !matches!(found.phase, Phase::Pending | Phase::Running) => Err(self.ended(&found)),
            _ => Ok(()),
        }
    }

    fn console(&mut self) -> String {
        self.said().unwrap_or_default()
    }

    fn last_words(&mut self) -> String {
        let text = match self.said() {
            Ok(text) => crate::vm::report::plain(&text),
            Err(error) => return format!("(AWS does not show it: {})", error.chain()),
        };
        let mut last: Vec<&str> = text.lines().rev().take(LINES).collect();
        last.reverse();
        if last.is_empty() { "(nothing yet)".to_owned() } else { last.join("\n") }
    }

    /// One for spot cannot be stopped (EC2 user guide, "Stop an interrupted Spot Instance": only those of persistent requests).
    fn rest(&self) -> Rest {
        if self.spot { Rest::ReadOnly(LIFETIME) } else { Rest::Off }
    }

    fn keep_disk(&mut self) -> Result<()> {
        if self.spot {
            return Ok(());
        }
        self.runtime.block_on(insist(&self.aws.region, || self.aws.stop_on_shutdown(&self.id)))
    }

    fn wait_at_rest(&mut self, patience: Duration, done: &str) -> Result<()> {
        let start = Instant::now();
        loop {
            match self.look()? {
                Some(found) if found.phase == Phase::Stopped => return Ok(()),
                Some(found) if found.phase == Phase::Terminated => return Err(self.ended(&found)),
                _ if self.spot && says(&self.said()?, &[done]) => return Ok(()),
                _ if start.elapsed() > patience => {
                    let words = self.last_words();
                    return Err(Error::failed(format!(
                        "instance {} did not {} within {} s; its console ends with:\n{words}",
                        self.id,
                        if self.spot { "put its disk to rest" } else { "switch itself off" },
                        patience.as_secs(),
                    )));
                }
                _ => pause(LOOK)?,
            }
        }
    }

    fn final_words(&mut self, last: &[&str]) -> String {
        let start = Instant::now();
        loop {
            let text = crate::vm::report::plain(&self.console());
            if says(&text, last) || start.elapsed() > SHOWN || pause(LOOK).is_err() {
                return text;
            }
        }
    }
}

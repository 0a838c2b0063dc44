//! What long work says while it goes on. Library code reports; the CLI decides how it looks.

use serde::Serialize;

use crate::fleet::glance::Glance;

/// One thing that happened in long work.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A step of the work on `scope` (an image, a fleet, an instance) began.
    Started {
        /// What is worked on: `web`, `web-3`.
        scope: String,
        /// What is done: `installing packages`.
        step: String,
    },
    /// The step is this far.
    Advanced {
        /// As in `Started`.
        scope: String,
        /// As in `Started`.
        step: String,
        /// Units done.
        done: u64,
        /// Units in all.
        total: u64,
    },
    /// The step ended well.
    Finished {
        /// As in `Started`.
        scope: String,
        /// As in `Started`.
        step: String,
        /// Wall-clock seconds.
        seconds: f64,
    },
    /// A line that a program of the work printed; shown to people only when its step fails.
    Output {
        /// What is worked on.
        scope: String,
        /// The line.
        line: String,
    },
    /// Something worth a line by itself.
    Note {
        /// What it is about.
        scope: String,
        /// The line, without a full stop.
        text: String,
    },
    /// A rollout at this moment; each replaces the one before.
    Rolling(Box<Glance>),
    /// No process of this command rolls `scope` any more.
    Ended {
        /// The fleet.
        scope: String,
    },
}

/// Where events go. Shared by the threads and tasks of one command.
pub trait Progress: Send + Sync {
    /// Takes one event. Must not block for long and must not fail.
    fn tell(&self, event: Event);

    /// Tells whether anyone wants [`Event::Rolling`], which costs something at each look.
    fn watches(&self) -> bool {
        false
    }
}

impl dyn Progress + '_ {
    /// Says a line about `scope`.
    pub fn note(&self, scope: &str, text: impl Into<String>) {
        self.tell(Event::Note { scope: scope.to_owned(), text: text.into() });
    }

    /// Runs `work` as a step: says when it starts and, if it ends well, how long it took.
    ///
    /// # Errors
    /// What `work` returns.
    pub fn step<T, E>(&self, scope: &str, step: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let (scope, step) = (scope.to_owned(), step.to_owned());
        self.tell(Event::Started { scope: scope.clone(), step: step.clone() });
        let start = std::time::Instant::now();
        let value = work()?;
        self.tell(Event::Finished { scope, step, seconds: start.elapsed().as_secs_f64() });
        Ok(value)
    }
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn tell(&self, _: Event) {}
}

//! Do: wait, and give up what fails again and again.

use std::time::Duration;

use super::{Roll, Running};
use crate::error::{Error, Result};
use crate::fleet::history::Event;
use crate::fleet::plan::{Hold, Plan};
use crate::fleet::surroundings::Surroundings;
use crate::provider::Provider;

/// How long to wait between two looks when nothing can be done: short beside a boot, long beside a look.
const POLL: Duration = Duration::from_millis(200);

/// How long to wait when all that holds ends at a known time, or when a person says so: commands of a second terminal and
/// deaths are still noticed within seconds, and an hour's wait takes a tenth of the looks.
const CALM: Duration = Duration::from_secs(2);

/// How often in a row an act may fail before the roll stops. What heals by itself has healed by the third.
const ATTEMPTS: u32 = 3;

/// How long to wait after the first "too many requests", and at most; twice as long after each further one.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// How long to wait at most when all that was asked was refused, again and again: the list that it was decided from is
/// older than what refuses, and gets newer within seconds. The first wait is [`POLL`], each further one twice as long.
const REFUSED: Duration = Duration::from_secs(10);

impl<P: Provider, S: Surroundings> Roll<'_, P, S> {
    /// Waits when there is nothing to do.
    pub(super) async fn rest(&self, plan: &Plan) {
        let calm = plan.holds.iter().all(|hold| hold.intended() || matches!(hold, Hold::Turn { .. }));
        self.provider.wait(if calm { CALM } else { POLL }).await;
    }

    /// Waits when all acts of a plan were refused, before which `done` were done: longer each time in a row.
    pub(super) async fn rest_when_refused(&self, running: &mut Running, plan: &Plan, done: u64) {
        if plan.actions.is_empty() || running.done > done {
            running.vain = 0;
            return;
        }
        // Six doublings are more than the longest wait.
        self.provider.wait((POLL * (1 << running.vain.min(6))).min(REFUSED)).await;
        running.vain += 1;
    }

    pub(super) async fn back_off(&self, running: &mut Running) {
        let (first, most) = BACK_OFF;
        // Six doublings reach the longest wait.
        self.provider.wait((first * (1 << running.throttled.min(6))).min(most)).await;
        running.throttled += 1;
    }

    /// Counts a failure of `what`; the last of [`ATTEMPTS`] in a row ends the roll.
    pub(super) async fn failed(&mut self, running: &mut Running, what: &str, error: Error) -> Result<()> {
        let times = running.failing.entry(what.to_owned()).or_insert(0);
        *times += 1;
        if *times >= ATTEMPTS {
            let now = self.provider.now();
            self.journal.record(now, Event::Stopped { reason: error.chain() }).await?;
            return Err(error.during(what.to_owned()));
        }
        self.provider.wait(POLL).await;
        Ok(())
    }
}

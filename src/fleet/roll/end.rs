//! Do: write how a roll ended, and tell it.

use jiff::{SignedDuration, Timestamp};

use super::{Look, Roll, Running};
use crate::error::{Error, Result};
use crate::fleet::history::Event;
use crate::fleet::plan::Hold;
use crate::fleet::surroundings::Surroundings;
use crate::fleet::ways_out::ways_out;
use crate::provider::Provider;

impl<P: Provider, S: Surroundings> Roll<'_, P, S> {
    /// Writes the end when it is reached: everything done, or nothing can go on. Returns true when all is done.
    pub(super) async fn conclude(&mut self, running: &mut Running, look: &Look) -> Result<bool> {
        let Look { census, plan, .. } = look;
        if plan.moves() || plan.holds != running.still.1 || plan.holds.iter().any(Hold::intended) {
            running.still = (census.at, plan.holds.clone());
        }
        if plan.done() {
            return self.complete(running, look).await;
        }
        // Twice the time an instance may take to serve, and a minute for whatever else: nothing moves any more.
        let deadline = running.policy.deadline;
        let copies = running.policy.copies.as_ref().map_or(SignedDuration::ZERO, |copies| copies.max_copy);
        let patience = deadline + deadline + copies + running.policy.drain + SignedDuration::from_mins(1);
        if !plan.blocked() && census.at.duration_since(running.still.0) <= patience {
            return Ok(false);
        }
        let holds = plan.why().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let end = plan.end();
        if !self.saw(running, look).await? {
            return Ok(false);
        }
        if let Event::Halted { reason } = &end {
            self.condemn(reason, census.at).await?;
        }
        if !self.journal.propose(census.at, end).await? {
            return Ok(false);
        }
        self.news("held", format!("fleet {}: {holds}", self.name)).await;
        let error = Error::holding(format!("fleet {}: {holds}{}", self.name, self.last_console()));
        if plan.why().iter().any(|hold| matches!(hold, Hold::Lost { .. })) {
            let ways = ways_out(self.name, census, self.fleet.local.is_some(), self.fleet.backup.is_some());
            return Err(ways.into_iter().fold(error, Error::hint));
        }
        Err(error.hint(format!(
            "`rekiln history {}` has the consoles of failed instances; what served still serves",
            self.name
        )))
    }

    async fn complete(&mut self, running: &mut Running, look: &Look) -> Result<bool> {
        let at = look.census.at;
        let retreat = self.journal.history().retreat.clone();
        if !self.saw(running, look).await? || !self.journal.propose(at, Event::Completed).await? {
            return Ok(false);
        }
        let Some(retreat) = retreat else {
            self.news("completed", format!("fleet {} is as it should be", self.name)).await;
            return Ok(true);
        };
        let back = self.journal.history().target.as_ref().map(|target| target.image);
        let image = back.map_or_else(String::new, |image| image.short());
        self.news("rolled_back", format!("fleet {} is back at {image}: {}", self.name, retreat.reason)).await;
        Err(Error::holding(format!(
            "fleet {} was rolled back to {image}: {}{}",
            self.name,
            retreat.reason,
            self.last_console()
        ))
        .hint(if back == Some(self.target.image) {
            "the image serves as it was launched before: commit otherwise what it is launched with"
        } else {
            "`rekiln quarantine list` shows the image that failed; commit another one"
        }))
    }

    /// Remembers for all fleets that the rollout failed. Before the journal says so: a crash in between repeats it.
    pub(super) async fn condemn(&self, reason: &str, now: Timestamp) -> Result<()> {
        let history = self.journal.history();
        let Some(target) = &history.target else { return Ok(()) };
        // An image that served, launched otherwise, is not what failed; and it is what is gone back to.
        let proven = history.proven.as_ref().is_some_and(|proven| proven.image == target.image);
        let opened = self.journal.entries().iter().rev();
        let mut opened = opened.filter(|entry| matches!(entry.event, Event::Opened { .. }));
        let rollout = opened.next().map_or(0, |entry| entry.number);
        self.surroundings.condemn(rollout, target, proven, reason, now).await
    }

    /// The end of the console of the instance that failed last in this roll; empty when none did.
    fn last_console(&self) -> String {
        let this = self.journal.entries().iter().rev();
        let mut this = this.take_while(|entry| !matches!(entry.event, Event::Opened { .. }));
        let last = this.find_map(|entry| match &entry.event {
            Event::Failed { instance, console, .. } => Some((instance, console)),
            _ => None,
        });
        last.map_or_else(String::new, |(instance, console)| {
            let what = if console.is_empty() { "is empty" } else { "ends with\n  | " };
            format!("\nthe console of {instance} {what}{}", console.join("\n  | "))
        })
    }
}

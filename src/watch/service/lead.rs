//! Who leads, and what is written of it.

use std::time::Instant;

use jiff::Timestamp;

use super::super::event::{Event, Journal};
use super::super::hands::Hands;
use super::super::memory::Memory;
use super::{Service, Settings};
use crate::error::Error;

impl<H: Hands> Service<'_, H> {
    /// Takes part in the journal: goes on leading, follows, or begins to lead when nobody does.
    pub(super) fn lead(&mut self) {
        let Some(mut journal) = self.journal.take().or_else(|| self.open()) else { return };
        let now = Timestamp::now();
        let taken = self.runtime.block_on(async {
            if self.leads {
                journal.refresh().await?;
                return Ok(true);
            }
            journal.follow().await?;
            journal.hear().await?;
            if self.stopping || journal.roller(now).is_some() {
                return Ok(false);
            }
            journal.propose(now, Event::Leads).await
        });
        match taken {
            Ok(leads) => {
                if leads && !self.leads {
                    self.say("leads", "this watcher leads", serde_json::json!({}));
                    self.looking.next = Instant::now();
                }
                (self.leads, self.journal, self.complained) = (leads, Some(journal), None);
            }
            Err(error) => self.step_down(&error),
        }
    }

    fn open(&mut self) -> Option<Journal> {
        let Settings { journals, branch, writer, .. } = self.settings;
        match self.runtime.block_on(Journal::open(journals, branch, writer.clone())) {
            Ok(journal) => Some(journal),
            Err(error) => {
                self.complain(&error);
                None
            }
        }
    }

    /// Somebody else leads, or nobody can tell: what was begun is stopped.
    pub(super) fn step_down(&mut self, error: &Error) {
        self.complain(error);
        if self.leads {
            self.say("follows", "this watcher leads no more", serde_json::json!({}));
        }
        (self.leads, self.journal) = (false, None);
        self.stop_all();
    }

    pub(super) fn stop_all(&self) {
        for running in self.running.values() {
            running.stop.ask();
        }
    }

    pub(super) fn leave(&mut self) {
        if self.leads {
            self.record(&Event::Leaves);
        }
    }

    pub(super) fn memory(&self) -> Option<&Memory> {
        self.journal.as_ref().map(Journal::history)
    }

    /// Writes a decision. Returns whether it was written.
    pub(super) fn propose(&mut self, event: &Event) -> bool {
        let Some(journal) = &mut self.journal else { return false };
        match self.runtime.block_on(journal.propose(Timestamp::now(), event.clone())) {
            Ok(written) => {
                if written {
                    self.said(event);
                }
                written
            }
            Err(error) => {
                self.step_down(&error);
                false
            }
        }
    }

    /// Writes what happened.
    pub(super) fn record(&mut self, event: &Event) {
        let Some(journal) = &mut self.journal else { return };
        match self.runtime.block_on(journal.record(Timestamp::now(), event.clone())) {
            Ok(()) => self.said(event),
            Err(error) => self.step_down(&error),
        }
    }
}

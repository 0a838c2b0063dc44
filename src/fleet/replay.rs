//! Decide: whether a journal's decisions are those that the planner makes from what the journal says was seen.
//!
//! A decision is a note, a measurement of a gate, an intent, or an end. What follows a look may be fewer decisions than
//! were planned, since a command, a failed hook, a refusal or a crash cuts a batch short; but it may be no others, and in
//! no other order.

use std::collections::VecDeque;
use std::mem;

use jiff::Timestamp;
use serde::Serialize;

use super::Fleet;
use super::census::Census;
use super::history::{Event, History};
use super::journal::Entry;
use super::plan::{Plan, Situation, plan};
use super::policy::Policy;
use crate::provider::Action;

/// One roll of a journal, made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// The number of the entry that opened it.
    pub rollout: u64,
    /// When it was opened.
    pub at: Timestamp,
    /// How often it was planned anew.
    pub looks: usize,
    /// How many decisions were compared.
    pub decisions: usize,
    /// Why nothing was compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// The first decision that is another one now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub differs: Option<Difference>,
}

/// A decision that is another one now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The entry that records it.
    pub entry: u64,
    /// The entry of the look that it followed; 0 when it followed none.
    pub look: u64,
    /// What is recorded.
    pub recorded: Event,
    /// What is planned.
    pub planned: Planned,
}

/// One decision that is planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "plan", rename_all = "snake_case")]
pub enum Planned {
    /// To remember something; of a failed instance without its console, which is no decision.
    Note {
        /// What.
        event: Event,
    },
    /// To measure a gate.
    Judge {
        /// Which.
        gate: String,
        /// For which wave, from 0.
        wave: usize,
    },
    /// To do something.
    Act {
        /// What.
        action: Action,
    },
    /// To end the roll.
    End {
        /// How.
        event: Event,
    },
    /// Nothing more.
    Nothing,
}

impl Planned {
    fn is(&self, recorded: &Event) -> bool {
        match (self, recorded) {
            (Self::Note { event: Event::Failed { instance, reason, .. } }, recorded) => {
                matches!(recorded, Event::Failed { instance: failed, reason: why, .. } if failed == instance && why == reason)
            }
            (Self::Note { event } | Self::End { event }, recorded) => event == recorded,
            (Self::Judge { gate, wave }, Event::Judged { gate: judged, wave: of, .. }) => {
                gate == judged && wave == of
            }
            (Self::Act { action }, Event::Intent { action: intended }) => action == intended,
            _ => false,
        }
    }
}

/// Makes every decision of the journal of `fleet` again.
#[must_use]
pub fn replay(fleet: &str, entries: &[Entry]) -> Vec<Replayed> {
    let mut replay = Replay {
        fleet,
        history: History::default(),
        census: Census::empty(Timestamp::UNIX_EPOCH),
        policy: None,
        file: None,
        look: 0,
        planned: VecDeque::new(),
        all: Vec::new(),
    };
    for entry in entries {
        replay.read(entry);
        replay.history.add(entry.at, &entry.event);
    }
    replay.all
}

struct Replay<'a> {
    fleet: &'a str,
    history: History,
    census: Census,
    /// That of the roll at hand; `None` when it is not recorded.
    policy: Option<Policy>,
    /// The fleet file that it is from.
    file: Option<Box<Fleet>>,
    /// The entry of the last look.
    look: u64,
    planned: VecDeque<Planned>,
    all: Vec<Replayed>,
}

impl Replay<'_> {
    fn read(&mut self, entry: &Entry) {
        match &entry.event {
            Event::Opened { fleet, .. } => {
                let policy = fleet.as_ref().map(|fleet| Policy::of(fleet).map_err(|error| error.chain()));
                let (policy, skipped) = match policy {
                    Some(Ok(policy)) => (Some(policy), None),
                    Some(Err(why)) => (None, Some(format!("its fleet file cannot be read: {why}"))),
                    None => (None, Some("its fleet file is not recorded".to_owned())),
                };
                (self.policy, self.file) = (policy, fleet.clone());
                self.give_up(0);
                let (rollout, at) = (entry.number, entry.at);
                self.all.push(Replayed { rollout, at, looks: 0, decisions: 0, skipped, differs: None });
            }
            Event::Seen { changed, gone, outlook, group, cluster } => {
                self.census.advance(entry.at, changed, gone, group.as_ref(), cluster.as_ref());
                self.give_up(entry.number);
                // It was read when the roll was opened, and so it can be read now.
                let seen = |fleet| Policy::seen(fleet, &self.census, &self.history).ok().flatten();
                let sized = self.file.as_deref().and_then(seen);
                self.policy = sized.or(self.policy.take());
                let (Some(policy), Some(target)) = (&self.policy, &self.history.target) else { return };
                let plan = plan(&Situation {
                    policy,
                    fleet: self.fleet,
                    target,
                    census: &self.census,
                    history: &self.history,
                    outlook,
                    now: entry.at,
                });
                self.planned = queue(plan, self.history.wave.number);
                if let Some(replayed) = self.all.last_mut() {
                    replayed.looks += 1;
                }
            }
            // Someone else's word, after which the rest is planned anew.
            command if command.is_command() => self.give_up(self.look),
            Event::Ending | Event::Down | Event::Restores { .. } | Event::Rotate { .. } => self.give_up(0),
            // What came of an act is no decision.
            Event::Outcome { .. } => {}
            // A roll may stop at any time: it was asked to, or an act failed again and again.
            Event::Stopped { .. } if !matches!(self.planned.front(), Some(Planned::End { .. })) => {
                self.give_up(0);
            }
            recorded => self.compare(entry.number, recorded),
        }
    }

    fn give_up(&mut self, look: u64) {
        self.planned.clear();
        self.look = look;
    }

    fn compare(&mut self, number: u64, recorded: &Event) {
        let Some(replayed) = self.all.last_mut().filter(|_| self.policy.is_some()) else { return };
        replayed.decisions += 1;
        let planned = self.planned.pop_front().unwrap_or(Planned::Nothing);
        if !planned.is(recorded) && replayed.differs.is_none() {
            let (look, recorded) = (self.look, recorded.clone());
            replayed.differs = Some(Difference { entry: number, look, recorded, planned });
        }
    }
}

/// The decisions of a plan, in the order in which they are made.
fn queue(mut plan: Plan, wave: usize) -> VecDeque<Planned> {
    if !plan.moves() {
        return VecDeque::from([Planned::End { event: plan.end() }]);
    }
    let notes = mem::take(&mut plan.notes).into_iter().map(|event| Planned::Note { event });
    let judge = mem::take(&mut plan.judge).into_iter().map(|gate| Planned::Judge { gate, wave });
    let acts = mem::take(&mut plan.actions).into_iter().map(|action| Planned::Act { action });
    notes.chain(judge).chain(acts).collect()
}

//! Tell: a journal as the stories of its rollouts, with how long everything took.

mod fold;
mod page;
#[cfg(test)]
mod tests;
mod words;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::experience::{Experience, Spell, Step, seconds};
use super::history::{Event, History};
use super::journal::{Entry, Writer};
use super::policy::Policy;
use crate::digest::ImageId;
use crate::provider::{Action, Outcome};
use fold::Routine;
pub use page::{every_line, list};
use words::said;

/// One rollout, over all the processes that worked at it: from the entry that opened it to its end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Story {
    /// The number of the entry that opened it; 0 for what was written before any rollout.
    pub rollout: u64,
    /// When it was opened.
    pub begun: Timestamp,
    /// Who opened it.
    pub by: Writer,
    /// Why.
    pub reason: String,
    /// Whether it skipped what an emergency skips.
    pub emergency: bool,
    /// Where it went at first; `None` for what was written before any rollout.
    pub target: Option<ImageId>,
    /// How many waves it had, as far as that is known.
    pub waves: usize,
    /// How many processes worked at it, one after the other.
    pub runs: usize,
    /// How it ended; `None` while it goes on, or when its process died.
    pub end: Option<Ended>,
    /// Instances launched.
    pub launched: usize,
    /// Instances ended.
    pub ended: usize,
    /// Instances that were given up.
    pub failed: usize,
    /// From launch to service.
    pub starts: Option<Spell>,
    /// From drain to end.
    pub drains: Option<Spell>,
    /// How long waves soaked that passed, in all.
    #[serde(serialize_with = "seconds")]
    pub soaked: SignedDuration,
    /// How long it was paused, in all.
    #[serde(serialize_with = "seconds")]
    pub paused: SignedDuration,
    /// What happened, in order.
    #[serde(skip)]
    pub lines: Vec<Line>,
    /// Whether it had one wave, and no soak.
    #[serde(skip)]
    plain: bool,
    /// Each step's time, by kind.
    #[serde(skip)]
    took: (Vec<SignedDuration>, Vec<SignedDuration>),
}

/// How and when a rollout ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// How long after it was opened.
    #[serde(serialize_with = "seconds")]
    pub after: SignedDuration,
    /// How, in words: `completed`, `rolled back: …`, `halted: …`.
    pub how: String,
}

/// One thing that happened in a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The number of its entry.
    pub entry: u64,
    /// When.
    pub at: Timestamp,
    /// What, with the lines of a console below it.
    pub text: String,
    /// What of every replacement's daily round it is.
    routine: Option<Routine>,
}

/// What a story's words need of what was before.
#[derive(Default)]
struct Before {
    history: History,
    experience: Experience,
    paused: Option<Timestamp>,
}

/// Tells the stories of a journal, oldest first.
#[must_use]
pub fn stories(entries: &[Entry]) -> Vec<Story> {
    let mut before = Before::default();
    let mut stories: Vec<Story> = Vec::new();
    for (place, entry) in entries.iter().enumerate() {
        if stories.is_empty() || begins(&before.history, &entry.event) {
            stories.push(Story::begun(entry));
        }
        let Some(story) = stories.last_mut() else { continue };
        let step = before.experience.add(entry.at, &entry.event);
        if let Some((text, routine)) = said(story, &before, entry, step, &entries[place + 1..]) {
            story.lines.push(Line { entry: entry.number, at: entry.at, text, routine });
        }
        story.add(entry, step, &mut before);
        before.history.add(entry.at, &entry.event);
    }
    stories
}

/// Tells whether an event begins a rollout: a roll that takes up an unfinished one is part of that one's story.
fn begins(history: &History, event: &Event) -> bool {
    let Event::Opened { target, .. } = event else { return false };
    let same = history.generation() == Some(target.generation.id)
        || history.retreat.as_ref().is_some_and(|retreat| retreat.from == target.generation.id);
    !(same && history.unfinished())
}

impl Story {
    fn begun(entry: &Entry) -> Self {
        let (target, reason, emergency, fleet) = match &entry.event {
            Event::Opened { target, reason, emergency, fleet, .. } => {
                (Some(target.image), reason.as_str(), *emergency, fleet.as_ref())
            }
            _ => (None, "", false, None),
        };
        let policy = fleet.and_then(|fleet| Policy::of(fleet).ok());
        Self {
            rollout: target.map_or(0, |_| entry.number),
            begun: entry.at,
            by: entry.by.clone(),
            reason: reason.to_owned(),
            emergency,
            target,
            waves: policy.as_ref().map_or(0, |policy| policy.waves.len()),
            plain: policy.is_some_and(|policy| policy.waves.len() == 1 && policy.soak.is_zero()),
            runs: 0,
            end: None,
            launched: 0,
            ended: 0,
            failed: 0,
            starts: None,
            drains: None,
            soaked: SignedDuration::ZERO,
            paused: SignedDuration::ZERO,
            lines: Vec::new(),
            took: (Vec::new(), Vec::new()),
        }
    }

    /// Counts and times what an entry says.
    fn add(&mut self, entry: &Entry, step: Option<Step>, before: &mut Before) {
        match step {
            Some(Step::Start(took)) => {
                self.took.0.push(took);
                self.starts = Spell::of(self.took.0.iter().copied());
            }
            Some(Step::Drain(took)) => {
                self.took.1.push(took);
                self.drains = Spell::of(self.took.1.iter().copied());
            }
            None => {}
        }
        let retreat = before.history.retreat.as_ref();
        let end = match &entry.event {
            Event::Opened { emergency, .. } => {
                self.runs += 1;
                (self.end, self.emergency) = (None, *emergency);
                return;
            }
            Event::Outcome {
                action,
                result: Ok(Outcome::Applied | Outcome::AlreadyDone | Outcome::Ended),
            } => {
                self.launched += usize::from(matches!(action, Action::Launch { .. }));
                self.ended += usize::from(matches!(action, Action::Terminate { .. }));
                return;
            }
            Event::Failed { .. } => {
                self.failed += 1;
                return;
            }
            Event::WavePassed { .. } => {
                self.soaked += soaked(&before.history, entry.at).unwrap_or_default();
                return;
            }
            Event::Paused { .. } => {
                before.paused = before.paused.or(Some(entry.at));
                return;
            }
            Event::Resumed => {
                self.paused += before.paused.take().map(|at| entry.at.duration_since(at)).unwrap_or_default();
                return;
            }
            Event::Completed => match retreat {
                Some(retreat) => format!("rolled back: {}", retreat.reason),
                None => "completed".to_owned(),
            },
            Event::Halted { reason } => format!("halted: {reason}"),
            Event::Stopped { reason } => format!("stopped: {reason}"),
            Event::Down if self.end.is_none() => "taken down".to_owned(),
            _ => return,
        };
        self.end = Some(Ended { at: entry.at, after: entry.at.duration_since(self.begun), how: end });
    }
}

/// How long the wave that is worked at has soaked.
fn soaked(history: &History, at: Timestamp) -> Option<SignedDuration> {
    Some(at.duration_since(history.wave.reached?))
}

//! Tell: one entry of a journal in a person's words.

use jiff::{SignedDuration, Timestamp};

use super::fold::Routine;
use super::{Before, Story, soaked};
use crate::fleet::experience::Step;
use crate::fleet::history::Event;
use crate::fleet::journal::{Entry, Writer};
use crate::fleet::moment::lasting;
use crate::fleet::surroundings::Reading;
use crate::provider::{Action, Outcome};

/// Says what an entry says, and what of the daily round it is; `None` when that says nothing to a reader.
pub(super) fn said(
    story: &Story,
    before: &Before,
    entry: &Entry,
    step: Option<Step>,
    rest: &[Entry],
) -> Option<(String, Option<Routine>)> {
    let Writer { host, pid, command, .. } = &entry.by;
    let plain = |text: String| Some((text, None));
    let commanded = |text: String| Some((format!("{text}, by `{command}`"), None));
    match &entry.event {
        Event::Opened { target, reason, emergency, .. } => {
            let what = if *emergency { "emergency roll" } else { "roll" };
            let by = format!("by `{command}` (process {pid} on {host})");
            let image = target.image.short();
            // The entry before has the last word of the process that is gone.
            plain(match (story.runs, *emergency) {
                (0, _) => format!("{what} to {image}: {reason}, {by}"),
                (_, true) => format!("an emergency takes it over: {reason}, {by}"),
                (_, false) => format!("taken up again: {reason}, {by}"),
            })
        }
        // A kill that was done was told by its intent.
        Event::Seen { .. }
        | Event::Joined { .. }
        | Event::SizeDiffers { .. }
        | Event::Killed { result: Ok(Outcome::Applied), .. } => None,
        Event::Sized { size, .. } => match before.history.size {
            Some(known) if known != *size => {
                plain(format!("its owner changed the size from {known} to {size}"))
            }
            _ => None,
        },
        // What came of it is told; without that, this is where a process died.
        Event::Intent { action } if concluded(action, rest) => None,
        Event::Intent { action } => plain(format!("began to {action}; what came of it is not recorded")),
        Event::Outcome { action, result } => Some(came(action, result, step)),
        Event::Serving { instance } => match step {
            Some(Step::Start(took)) => {
                let text = format!("{instance} serves, {} after its launch", lasting(took));
                Some((text, Some(Routine::Serving(took))))
            }
            _ => plain(format!("{instance} serves")),
        },
        Event::Failed { instance, reason, console, .. } => {
            let mut text = format!("{instance} failed: {reason}");
            for line in console {
                text.extend(["\n| ", line]);
            }
            plain(text)
        }
        Event::Ill { instance } => plain(format!("{instance} is ill, and may recover")),
        Event::Recovered { instance } => plain(format!("{instance} has recovered")),
        Event::Led { instance: Some(instance) } => plain(format!("{instance} leads")),
        Event::Led { instance: None } => plain("nobody leads".to_owned()),
        Event::Absent { instance } => plain(format!("{instance} is not seen")),
        Event::Spared { instance } => plain(format!("{instance} lives on: its end was begun, and not done")),
        Event::Returned { instance } => plain(format!("{instance} is seen again")),
        Event::Rotate { instances, reason } => {
            let ids: Vec<_> = instances.iter().map(ToString::to_string).collect();
            plain(format!("rotate {}: {reason}", ids.join(", ")))
        }
        // One wave without a soak is no wave to a reader.
        Event::WaveReached { .. } | Event::WavePassed { .. } if story.plain => None,
        Event::WaveReached { wave } => plain(format!("{} serves and soaks", named(*wave, story.waves))),
        Event::WaveLost { wave } => {
            plain(format!("{} serves no more; its soak is void", named(*wave, story.waves)))
        }
        Event::WavePassed { wave } => {
            let after = soaked(&before.history, entry.at).filter(|took| took.as_secs() > 0);
            let after = after.map_or_else(String::new, |took| format!(", after a soak of {}", lasting(took)));
            plain(format!("{} has passed{after}", named(*wave, story.waves)))
        }
        Event::Judged { gate, reading, .. } => plain(match reading {
            Reading::Pass => format!("gate {gate} lets the wave pass"),
            Reading::Fail(why) => format!("gate {gate} says no: {why}"),
            Reading::NotYet(why) => format!("gate {gate} cannot tell yet: {why}"),
        }),
        Event::RolledBack { target, reason } => {
            plain(format!("rolls back to {}: {reason}", target.image.short()))
        }
        Event::Chaos { instance, reason, .. } => commanded(format!("chaos kills {instance}: {reason}")),
        Event::Killed { instance, result } => plain(match result {
            Ok(Outcome::Refused { precondition }) => format!("chaos did not kill {instance}: {precondition}"),
            Ok(Outcome::Throttled { words } | Outcome::NoCapacity { words }) => {
                format!("chaos could not kill {instance}: {words}")
            }
            Ok(_) => format!("chaos found {instance} dead already"),
            Err(why) => format!("whether chaos killed {instance} is not known: {why}"),
        }),
        Event::Paused { reason } => commanded(format!("paused: {reason}")),
        Event::Resumed => commanded(format!("resumed{}", since(before.paused, entry.at))),
        Event::Cancelled { back: true, reason } => commanded(format!("cancelled, and goes back: {reason}")),
        Event::Cancelled { back: false, reason } => commanded(format!("cancelled: {reason}")),
        Event::Retargeted { target, reason } => {
            commanded(format!("goes to {} now: {reason}", target.image.short()))
        }
        Event::Halted { reason } => plain(format!("halted: {reason}")),
        Event::Stopped { reason } => plain(format!("stopped: {reason}")),
        Event::Completed if before.history.retreat.is_some() => plain("is back".to_owned()),
        Event::Completed => plain("completed".to_owned()),
        Event::Ending => plain("being taken down".to_owned()),
        Event::Down => plain("down".to_owned()),
        Event::Restores { backup, taken } => {
            plain(format!("is founded anew from backup {backup}, taken {}", taken.strftime("%F %H:%M UTC")))
        }
    }
}

/// Tells whether what came of an intent was written before anything else was begun.
fn concluded(action: &Action, rest: &[Entry]) -> bool {
    let same = rest.iter().take_while(|entry| {
        !matches!(entry.event, Event::Intent { .. } | Event::Opened { .. } | Event::Down)
    });
    same.into_iter()
        .any(|entry| matches!(&entry.event, Event::Outcome { action: done, .. } if done == action))
}

/// What came of an act.
fn came(action: &Action, result: &Result<Outcome, String>, step: Option<Step>) -> (String, Option<Routine>) {
    match result {
        Ok(Outcome::Applied) => match (action, step) {
            (Action::Launch { .. }, _) => (action.to_string(), Some(Routine::Launch)),
            (Action::Admit { .. }, _) => (action.to_string(), Some(Routine::Admit)),
            (Action::Drain { .. }, _) => (action.to_string(), Some(Routine::Drain)),
            (Action::Terminate { .. }, Some(Step::Drain(took))) => {
                (format!("{action}, {} after its drain", lasting(took)), Some(Routine::End))
            }
            (Action::Terminate { .. } | Action::HandOver { .. } | Action::Deregister { .. }, _) => {
                (action.to_string(), None)
            }
        },
        Ok(Outcome::AlreadyDone) => (format!("was done already: {action}"), None),
        Ok(Outcome::Ended) => (format!("had ended by itself: {action}"), None),
        Ok(Outcome::Refused { precondition }) => (format!("did not {action}: {precondition}"), None),
        Ok(Outcome::NoCapacity { words } | Outcome::Throttled { words }) => {
            (format!("could not {action}: {words}"), None)
        }
        Err(why) => (format!("could not {action}: {why}"), None),
    }
}

fn named(wave: usize, of: usize) -> String {
    if of > 0 { format!("wave {} of {of}", wave + 1) } else { format!("wave {}", wave + 1) }
}

fn since(start: Option<Timestamp>, at: Timestamp) -> String {
    let took: Option<SignedDuration> = start.map(|start| at.duration_since(start));
    took.map_or_else(String::new, |took| format!(" after {}", lasting(took)))
}

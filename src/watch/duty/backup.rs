//! Decide: when a fleet's backup is due.

use jiff::{SignedDuration, Timestamp};

use super::{Duty, Fleet, Situation};
use crate::backup::memory::FAILED;
use crate::fleet::windows::Windows;
use crate::watch::event::{Event, Job};
use crate::watch::memory::Unsaved;

/// How long after a failure the next one is tried: each starts a machine and reads the whole database.
const AGAIN: SignedDuration = SignedDuration::from_mins(15);

/// The same where it failed more than once.
const LATER: SignedDuration = SignedDuration::from_hours(1);

/// How the backups of a fleet stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backups {
    /// How old the last one that counts may become.
    pub every: SignedDuration,
    /// When one may begin.
    pub windows: Windows,
    /// When the last one that counts began.
    pub last: Option<Timestamp>,
    /// Whether a living process works at them.
    pub worked: bool,
}

/// Decides whether one is begun now.
pub(super) fn due(situation: &Situation<'_>, name: &str, fleet: &Fleet) -> Option<Job> {
    let Situation { memory, seen, now, .. } = *situation;
    let backups = fleet.backups.as_ref()?;
    // What it is copied from would be replaced meanwhile; who paused it may not want load either.
    if fleet.rolled || fleet.paused.is_some() || fleet.living.is_empty() || backups.worked {
        return None;
    }
    if seen.running.iter().any(|job| job.of(name)) || !backups.windows.is_open(now) {
        return None;
    }
    if backups.last.is_some_and(|last| now.duration_since(last) < backups.every) {
        return None;
    }
    if let Some(Unsaved { failing, .. }) = memory.backups.get(name) {
        let wait = if failing.times > 1 { LATER } else { AGAIN };
        if now < failing.at + wait || fleet.at <= failing.at {
            return None;
        }
    }
    Some(Job::Backup { fleet: name.to_owned(), commit: fleet.commit.clone() })
}

/// Returns what people are to be told: each row of failures once.
pub(super) fn told<'a>(situation: &Situation<'a>) -> impl Iterator<Item = Duty> + use<'a> {
    let untold = situation.memory.backups.iter().filter(|(_, unsaved)| !unsaved.told);
    untold.map(|(fleet, Unsaved { why, .. })| {
        let (fleet, why) = (fleet.clone(), why.clone());
        Duty::Say(Event::Unsaved { fleet, why })
    })
}

/// Returns what people are to see: what the backups lack by their own journal, and why the last try of a watcher failed where
/// that journal has nothing of it, since nothing was there to copy from or to write to. One that counts and began since then is
/// the later word.
#[must_use]
pub fn shown(lacks: Option<&str>, failed: Option<&Unsaved>, seen: Option<&Backups>) -> Option<String> {
    let old =
        |unsaved: &Unsaved| seen.and_then(|seen| seen.last).is_some_and(|last| last >= unsaved.failing.at);
    let known = lacks.is_some_and(|lacks| lacks.contains(FAILED));
    let failed = failed.filter(|unsaved| !known && !old(unsaved));
    let failed = failed.map(|unsaved| format!("the last try{FAILED}{}", first_line(&unsaved.why)));
    let both: Vec<_> = lacks.map(str::to_owned).into_iter().chain(failed).collect();
    (!both.is_empty()).then(|| both.join("; "))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

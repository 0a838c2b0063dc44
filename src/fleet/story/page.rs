//! Tell: a story as a page: who began it, what happened when, how it ended, and how long its parts took.

use jiff::{SignedDuration, Timestamp};

use super::fold::folded;
use super::{Line, Story};
use crate::fleet::experience::Spell;
use crate::fleet::journal::Writer;
use crate::fleet::moment::lasting;
use crate::table::table;

impl Story {
    /// Tells it to a person. `works` is who works at it now, if anyone does.
    #[must_use]
    pub fn page(&self, fleet: &str, works: Option<&Writer>) -> Vec<String> {
        page(fleet, self, works)
    }
}

/// Lists rollouts, one a line: the entry that opened it, when, where to, how long it took, and how it ended.
#[must_use]
pub fn list(told: &[Story]) -> Vec<String> {
    let row = |story: &Story| {
        let what = if story.emergency { "emergency to" } else { "to" };
        let target =
            story.target.map_or_else(|| "no rollout".to_owned(), |image| format!("{what} {}", image.short()));
        let end = story.end.as_ref();
        let how = end.map_or_else(|| "no end is recorded".to_owned(), |end| end.how.clone());
        let after = end.map_or_else(String::new, |end| lasting(end.after));
        vec![story.rollout.to_string(), time(story.begun, "%F %H:%M:%S UTC"), target, after, how]
    };
    let mut lines = table(&told.iter().map(row).collect::<Vec<_>>());
    lines.push(String::new());
    lines
}

/// Tells every line of every rollout.
#[must_use]
pub fn every_line(told: &[Story]) -> Vec<String> {
    table(&told.iter().flat_map(|story| rows(story, &story.lines, true)).collect::<Vec<_>>())
}

fn page(fleet: &str, story: &Story, works: Option<&Writer>) -> Vec<String> {
    let Story { rollout, begun, by, reason, emergency, target, .. } = story;
    let mut lines = Vec::new();
    if let Some(target) = target {
        let what = if *emergency { "emergency rollout" } else { "rollout" };
        let Writer { host, pid, command, .. } = by;
        lines.push(format!("{what} {rollout} of {fleet} to {}: {reason}", target.short()));
        let when = time(*begun, "%F %H:%M:%S UTC");
        lines.push(format!("begun {when} by `{command}` (process {pid} on {host})"));
    }
    let mut told = folded(&story.lines);
    // The first two lines have said it.
    if target.is_some() && !told.is_empty() {
        told.remove(0);
    }
    lines.extend(table(&rows(story, &told, false)).into_iter().map(|line| format!("  {line}")));
    if target.is_some() {
        lines.extend(summary(fleet, story, works));
    }
    lines
}

/// The entry, the time, how long after the beginning, and what.
fn rows(story: &Story, lines: &[Line], dated: bool) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut day = time(story.begun, "%F");
    for line in lines {
        let of = time(line.at, "%F");
        let date = if dated || of != day { "%F %H:%M:%S" } else { "%H:%M:%S" };
        day = of;
        let mut text = line.text.lines();
        let after = lasting(line.at.duration_since(story.begun));
        let first = text.next().unwrap_or_default().to_owned();
        rows.push(vec![line.entry.to_string(), time(line.at, date), after, first]);
        rows.extend(text.map(|line| vec![String::new(), String::new(), String::new(), format!("  {line}")]));
    }
    rows
}

/// How it ended, and how long its parts took.
fn summary(fleet: &str, story: &Story, works: Option<&Writer>) -> Vec<String> {
    let mut lines = vec![match (&story.end, works) {
        (Some(end), _) => format!("{}, after {}", end.how, lasting(end.after)),
        (None, Some(Writer { command, pid, host, .. })) => {
            format!("it goes on, by `{command}` (process {pid} on {host})")
        }
        (None, None) => format!("its process ended without a word; `rekiln roll {fleet}` goes on"),
    }];
    let Story { launched, ended, failed, runs, .. } = story;
    let runs = if *runs > 1 { format!(", in {runs} runs") } else { String::new() };
    lines.push(format!("{launched} launched, {ended} ended, {failed} failed{runs}"));
    let spell = |what: &str, spell: Option<Spell>| {
        let Spell { count, median, worst } = spell?;
        let (median, worst) = (lasting(median), lasting(worst));
        Some(match count {
            1 => format!("{what} took {median}"),
            _ => format!("{what} took {median} at the median, {worst} at worst"),
        })
    };
    lines.extend(spell("a launch", story.starts));
    lines.extend(spell("a drain", story.drains));
    let while_it = [("soaked", story.soaked), ("was paused", story.paused)];
    let long = while_it.into_iter().filter(|(_, time)| *time >= SignedDuration::from_secs(1));
    lines.extend(long.map(|(what, time)| format!("it {what} for {}", lasting(time))));
    lines
}

fn time(at: Timestamp, format: &str) -> String {
    at.strftime(format).to_string()
}

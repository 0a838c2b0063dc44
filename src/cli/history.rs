//! `rekiln history`.

use jiff::Timestamp;

use super::Context;
use super::fleet::Site;
use crate::error::{Error, Result};
use crate::fleet::journal::Journal;
use crate::fleet::story::{Story, every_line, list, stories};

/// Arguments of `rekiln history`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleet: the name of a file in `fleets/`, or of one of its shards.
    fleet: String,
    /// One rollout, by the number of the entry that opened it: its story [default: that of the last one, below a list
    /// of all].
    rollout: Option<u64>,
    /// Every entry of the journal that says something, one by one.
    #[arg(long, conflicts_with = "rollout")]
    entries: bool,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// What went wrong; a journal whose chain is broken; no such rollout.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let Args { fleet, rollout, entries: all } = args;
    let site = Site::open(context, &fleet)?;
    let journal = context.block_on(site.journal("history"))?;
    let told = stories(journal.entries());
    let place = match rollout {
        None => told.len().saturating_sub(1),
        Some(number) => find(&fleet, &told, number)?,
    };
    let Some(story) = told.get(place) else {
        context.output.line(format!("fleet {fleet} has no history; next: `rekiln roll {fleet}`"));
        return Ok(0);
    };
    let first = if rollout.is_none() { 0 } else { place };
    json(context, &journal, &told[first..=place], told.get(place + 1));
    let works = if place + 1 == told.len() { journal.roller(Timestamp::now()) } else { None };
    let lines = if all {
        every_line(&told)
    } else {
        let mut lines = if rollout.is_none() && told.len() > 1 { list(&told) } else { Vec::new() };
        lines.extend(story.page(&fleet, works.map(|entry| &entry.by)));
        lines
    };
    for line in lines {
        context.output.line(line);
    }
    Ok(0)
}

fn find(fleet: &str, told: &[Story], number: u64) -> Result<usize> {
    told.iter().position(|story| story.rollout == number).ok_or_else(|| {
        let known: Vec<_> = told.iter().map(|story| story.rollout.to_string()).collect();
        let error = Error::invalid(format!("no rollout of fleet {fleet} was opened by entry {number}"));
        error.hint(match &known[..] {
            [] => format!("it has never been rolled; next: `rekiln roll {fleet}`"),
            _ => format!("rollouts were opened by entries {}", known.join(", ")),
        })
    })
}

/// For machines: every entry of `told`, up to the story after it, then what each of them adds up to.
fn json(context: &Context, journal: &Journal, told: &[Story], next: Option<&Story>) {
    let first = told.first().map_or(0, |story| story.rollout);
    let end = next.map_or(u64::MAX, |next| next.rollout);
    for entry in journal.entries().iter().filter(|entry| (first..end).contains(&entry.number)) {
        context.output.json(entry);
    }
    for story in told {
        context.output.json(&serde_json::json!({ "event": "rollout", "rollout": story }));
    }
}

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
    /// The fleet: the name of a file in `fleets/`.
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
    let chosen = match rollout {
        None => told.last(),
        Some(number) => Some(find(&fleet, &told, number)?),
    };
    let (Some(last), Some(story)) = (told.last(), chosen) else {
        context.output.line(format!("fleet {fleet} has no history; next: `rekiln roll {fleet}`"));
        return Ok(0);
    };
    json(context, &journal, &told, rollout);
    let works = (story.rollout == last.rollout).then(|| journal.roller(Timestamp::now())).flatten();
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

fn find<'a>(fleet: &str, told: &'a [Story], number: u64) -> Result<&'a Story> {
    told.iter().find(|story| story.rollout == number).ok_or_else(|| {
        let known: Vec<_> = told.iter().map(|story| story.rollout.to_string()).collect();
        let error = Error::invalid(format!("no rollout of fleet {fleet} was opened by entry {number}"));
        error.hint(match &known[..] {
            [] => format!("it has never been rolled; next: `rekiln roll {fleet}`"),
            _ => format!("rollouts were opened by entries {}", known.join(", ")),
        })
    })
}

/// For machines: every entry, then what each rollout adds up to.
fn json(context: &Context, journal: &Journal, told: &[Story], rollout: Option<u64>) {
    let mut chosen =
        told.iter().enumerate().filter(|(_, story)| rollout.is_none_or(|it| it == story.rollout));
    let first = chosen.clone().next().map_or(0, |(_, story)| story.rollout);
    let last = chosen.clone().next_back().and_then(|(place, _)| told.get(place + 1));
    let end = last.map_or(u64::MAX, |next| next.rollout);
    for entry in journal.entries().iter().filter(|entry| (first..end).contains(&entry.number)) {
        context.output.json(entry);
    }
    for (_, story) in &mut chosen {
        context.output.json(&serde_json::json!({ "event": "rollout", "rollout": story }));
    }
}

//! `rekiln history`.

use super::Context;
use super::fleet::{Site, table};
use crate::error::Result;
use crate::fleet::history::Event;
use crate::fleet::journal::Writer;
use crate::fleet::surroundings::Reading;
use crate::provider::Outcome;

/// Arguments of `rekiln history`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleet: the name of a file in `fleets/`.
    fleet: String,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// What went wrong; a journal whose chain is broken.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let Args { fleet } = args;
    let site = Site::open(context, &fleet)?;
    let journal = context.block_on(site.journal("history"))?;
    let entries = journal.entries();
    for entry in entries {
        context.output.json(entry);
    }
    let next = entries.iter().skip(1).map(Some).chain([None]);
    let rows: Vec<_> = entries
        .iter()
        .zip(next)
        .filter(|(entry, next)| !concluded(&entry.event, next.map(|next| &next.event)))
        .map(|(entry, _)| {
            let at = entry.at.strftime("%Y-%m-%d %H:%M:%S").to_string();
            let Writer { host, pid, command, .. } = &entry.by;
            let event = &entry.event;
            let by = match event {
                Event::Opened { .. } => format!(", by `{command}` (process {pid} on {host})"),
                _ if event.is_command() => format!(", by `{command}`"),
                _ => String::new(),
            };
            vec![entry.number.to_string(), at, said(&entry.event) + &by]
        })
        .collect();
    for line in table(&rows) {
        context.output.line(line);
    }
    if rows.is_empty() {
        context.output.line(format!("fleet {fleet} has no history; next: `rekiln roll {fleet}`"));
    }
    Ok(0)
}

/// An intent whose outcome is the next line says nothing to a reader; one without is where a process died.
fn concluded(event: &Event, next: Option<&Event>) -> bool {
    match (event, next) {
        (Event::Intent { action }, Some(Event::Outcome { action: done, .. })) => action == done,
        (Event::Seen { .. }, _) => true,
        _ => false,
    }
}

fn said(event: &Event) -> String {
    match event {
        Event::Opened { target, reason, emergency, .. } => {
            let what = if *emergency { "emergency roll" } else { "roll" };
            format!("{what} to {}: {reason}", target.image.short())
        }
        Event::Seen { .. } => String::new(),
        Event::Intent { action } => format!("began to {action}; what came of it is not recorded"),
        Event::Outcome { action, result: Ok(Outcome::Applied) } => action.to_string(),
        Event::Outcome { action, result: Ok(Outcome::AlreadyDone) } => format!("was done already: {action}"),
        Event::Outcome { action, result: Ok(Outcome::Refused { precondition }) } => {
            format!("did not {action}: {precondition}")
        }
        Event::Outcome { action, result: Ok(Outcome::NoCapacity { words }) } => {
            format!("could not {action}: {words}")
        }
        Event::Outcome { action, result: Err(why) } => format!("could not {action}: {why}"),
        Event::Serving { instance } => format!("{instance} serves"),
        Event::Failed { instance, reason, console, .. } => {
            let mut text = format!("{instance} failed: {reason}");
            for line in console {
                text.push_str("\n      | ");
                text.push_str(line);
            }
            text
        }
        Event::Absent { instance } => format!("{instance} is not seen"),
        Event::Returned { instance } => format!("{instance} is seen again"),
        Event::Rotate { instances, reason } => {
            let ids: Vec<_> = instances.iter().map(ToString::to_string).collect();
            format!("rotate {}: {reason}", ids.join(", "))
        }
        Event::WaveReached { wave } => format!("wave {} serves and soaks", wave + 1),
        Event::WaveLost { wave } => format!("wave {} serves no more; its soak is void", wave + 1),
        Event::WavePassed { wave } => format!("wave {} has passed", wave + 1),
        Event::Judged { gate, reading: Reading::Pass, .. } => format!("gate {gate} lets the wave pass"),
        Event::Judged { gate, reading: Reading::Fail(why), .. } => format!("gate {gate} says no: {why}"),
        Event::Judged { gate, reading: Reading::NotYet(why), .. } => {
            format!("gate {gate} cannot tell yet: {why}")
        }
        Event::RolledBack { target, reason } => format!("rolls back to {}: {reason}", target.image.short()),
        Event::Paused { reason } => format!("paused: {reason}"),
        Event::Resumed => "resumed".to_owned(),
        Event::Cancelled { back: true, reason } => format!("cancelled, and goes back: {reason}"),
        Event::Cancelled { back: false, reason } => format!("cancelled: {reason}"),
        Event::Retargeted { target, reason } => {
            format!("goes to {} now: {reason}", target.image.short())
        }
        Event::Halted { reason } => format!("halted: {reason}"),
        Event::Stopped { reason } => format!("stopped: {reason}"),
        Event::Completed => "completed".to_owned(),
        Event::Ending => "being taken down".to_owned(),
        Event::Down => "down".to_owned(),
    }
}

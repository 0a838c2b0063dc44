//! `rekiln pause`.

use super::Context;
use super::desk::{Desk, reason};
use super::fleet::meant;
use super::turn::for_each;
use crate::error::Result;
use crate::fleet::history::Event;

/// Arguments of `rekiln pause`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleet: the name of a file in `fleets/`, all of whose shards are meant, or of one shard.
    fleet: String,
    /// Why, for the journal and for whoever finds it paused.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// No such fleet; its journal cannot be read or written.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let Args { fleet, reason } = args;
    // Whoever pauses wants as much to stand still as can be had.
    for_each(context, &meant(context, Some(&fleet))?, "pausing", |fleet| {
        pause(context, fleet, reason.clone())
    })
}

fn pause(context: &Context, fleet: &str, reason: String) -> Result<u8> {
    context.block_on(async {
        let mut desk = Desk::open(context, fleet, "pause").await?;
        let text =
            format!("is paused: {reason}; what serves goes on serving, and what is sick is still cured");
        let next = [format!("`rekiln resume {fleet}` lets it go on")];
        let idle = format!("no roll of {fleet} begins before that");
        desk.say("paused", Event::Paused { reason }, &text, &idle, &next).await
    })
}

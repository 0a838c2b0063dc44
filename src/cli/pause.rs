//! `rekiln pause`.

use super::Context;
use super::desk::{Desk, reason};
use crate::error::Result;
use crate::fleet::history::Event;

/// Arguments of `rekiln pause`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleet: the name of a file in `fleets/`.
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
    context.block_on(async {
        let mut desk = Desk::open(context, &fleet, "pause").await?;
        let text =
            format!("is paused: {reason}; what serves goes on serving, and what is sick is still cured");
        let next = [format!("`rekiln resume {fleet}` lets it go on")];
        let idle = format!("no roll of {fleet} begins before that");
        desk.say("paused", Event::Paused { reason }, &text, &idle, &next).await
    })
}

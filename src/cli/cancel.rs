//! `rekiln cancel`.

use super::Context;
use super::desk::{Desk, reason};
use crate::error::Result;
use crate::fleet::history::Event;

/// Arguments of `rekiln cancel`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleet: the name of a file in `fleets/`, or of one of its shards.
    fleet: String,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
    /// Goes back to what completed last, the instances that were replaced already included. Without it, everything
    /// is left as it is.
    #[arg(long)]
    back: bool,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// Nothing is being rolled; with `--back`, there is nothing to go back to, or it must not be launched.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let Args { fleet, reason, back } = args;
    context.block_on(async {
        let mut desk = Desk::open(context, &fleet, "cancel").await?;
        let proven = desk.history().proven.clone().filter(|_| back && desk.history().unfinished());
        let (text, idle) = if let Some(proven) = &proven {
            desk.refuse_quarantined(proven.image).await?;
            let text = format!("goes back to {}: {reason}", proven.image.short());
            (text, format!("`rekiln roll {fleet} --to previous` carries it out"))
        } else {
            let text = format!("was cancelled: {reason}; every instance stays as it is");
            (text, format!("`rekiln status {fleet}` says what runs"))
        };
        desk.say("cancelled", Event::Cancelled { back, reason }, &text, &idle, &[]).await
    })
}

//! `rekiln resume`.

use super::Context;
use super::desk::Desk;
use super::fleet::meant;
use super::turn::in_turn;
use crate::error::Result;
use crate::fleet::history::Event;

/// Arguments of `rekiln resume`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleet: the name of a file in `fleets/`, all of whose shards are meant, or of one shard.
    fleet: String,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// No such fleet; its journal cannot be read or written.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let Args { fleet } = args;
    let fleets = meant(context, Some(&fleet))?;
    in_turn(
        context,
        &fleets,
        String::as_str,
        |fleet| format!("rekiln resume {fleet}"),
        |fleet| resume(context, fleet),
    )
}

fn resume(context: &Context, fleet: &str) -> Result<u8> {
    context.block_on(async {
        let mut desk = Desk::open(context, fleet, "resume").await?;
        let idle = if desk.history().unfinished() {
            format!("`rekiln roll {fleet}` goes on with what was begun")
        } else {
            format!("`rekiln roll {fleet}` may begin")
        };
        desk.say("resumed", Event::Resumed, "is no longer paused", &idle, &[]).await
    })
}

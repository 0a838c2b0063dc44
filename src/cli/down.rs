//! `rekiln down`.

use jiff::Timestamp;

use super::Context;
use super::fleet::{Site, meant};
use super::turn::in_turn;
use crate::error::Result;
use crate::fleet::history::Event;

/// Arguments of `rekiln down`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleet: the name of a file in `fleets/`, all of whose shards are meant, or of one shard.
    fleet: String,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// Another process rolls the fleet; a machine that does not end.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let Args { fleet } = args;
    let fleets = meant(context, Some(&fleet))?;
    in_turn(
        context,
        &fleets,
        String::as_str,
        |fleet| format!("rekiln down {fleet}"),
        |fleet| down(context, fleet),
    )
}

fn down(context: &Context, fleet: &str) -> Result<u8> {
    let site = Site::open(context, fleet)?;
    // A group was there before rekiln came, and stays.
    let here = site.provider.here("`rekiln down`")?;
    context.block_on(async {
        let mut journal = site.journal("down").await?;
        let now = Timestamp::now();
        journal.refuse_rival(now)?;
        // Before the act: whoever rolls loses the journal and stops, and nobody begins to while this goes on.
        journal.record(now, Event::Ending).await?;
        let ended = here.down()?;
        journal.record(Timestamp::now(), Event::Down).await?;
        context.output.json(&serde_json::json!({ "event": "down", "fleet": fleet, "ended": ended }));
        context.output.line(format!("fleet {fleet} is down: {} instances ended", ended.len()));
        Ok(0)
    })
}

//! `rekiln revive`.

use jiff::Timestamp;

use super::Context;
use super::fleet::{Site, meant};
use super::turn::in_turn;
use crate::error::{Error, Result};
use crate::fleet::census::State;
use crate::fleet::history::Event;
use crate::provider::{Action, Outcome, Provider as _};

/// Arguments of `rekiln revive`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleet: the name of a file in `fleets/`, all of whose shards are meant, or of one shard.
    fleet: String,
}

/// Starts machines of this computer again that ended, each with the disk that it has: the way out where too many members that
/// hold data ended for the others to decide. Anything else is replaced, and needs no person.
///
/// # Errors
/// A fleet without `[stateful]`, or of another place; another process rolls it; a machine that does not start.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let Args { fleet } = args;
    let fleets = meant(context, Some(&fleet))?;
    in_turn(
        context,
        &fleets,
        String::as_str,
        |fleet| format!("rekiln revive {fleet}"),
        |fleet| revive(context, fleet),
    )
}

fn revive(context: &Context, fleet: &str) -> Result<u8> {
    let site = Site::open(context, fleet)?;
    if site.fleet.stateful.is_none() {
        return Err(Error::invalid(format!("fleet {fleet} holds no data: what ended is replaced"))
            .hint(format!("`rekiln roll {fleet} --to current` does that")));
    }
    let here = site.provider.here("`rekiln revive`")?;
    context.block_on(async {
        let mut journal = site.journal("revive").await?;
        journal.refuse_rival(Timestamp::now())?;
        let census = here.census().await?;
        let ended: Vec<_> = census.instances.into_iter().filter(|seen| seen.state == State::Dead).collect();
        let mut revived = Vec::new();
        for seen in ended {
            // Who has no record of what it was launched from was never a member.
            let Some(generation) = seen.generation else { continue };
            let action = Action::Launch { id: seen.id.clone(), generation, zone: seen.zone, founds: false };
            journal.record(Timestamp::now(), Event::Intent { action: action.clone() }).await?;
            let result = here.apply(&action).await;
            let said = result.as_ref().map(Outcome::clone).map_err(crate::provider::ProviderError::words);
            journal.record(Timestamp::now(), Event::Outcome { action, result: said }).await?;
            match result? {
                Outcome::Refused { precondition } => {
                    return Err(Error::failed(format!("{} was not started: {precondition}", seen.id)));
                }
                _ => revived.push(seen.id),
            }
        }
        context.output.json(&serde_json::json!({ "event": "revived", "fleet": fleet, "started": revived }));
        if revived.is_empty() {
            context.output.line(format!("every machine of fleet {fleet} runs; nothing to do"));
            return Ok(0);
        }
        let names: Vec<_> = revived.iter().map(ToString::to_string).collect();
        context.output.line(format!("started again, with the disk that each has: {}", names.join(", ")));
        context.output.hint(format!(
            "`rekiln roll {fleet} --to current` once they are well: it says what it waits for"
        ));
        Ok(0)
    })
}

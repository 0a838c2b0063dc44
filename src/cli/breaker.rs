//! `rekiln breaker`.

use jiff::Timestamp;

use super::Context;
use super::desk::reason;
use super::fleet::table;
use crate::error::Result;
use crate::fleet::breaker::{Failures, open_by};
use crate::repository::Repository;

/// Arguments of `rekiln breaker`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Shows the failed rollouts, and for which fleets they are too many [default].
    Show,
    /// Forgets the failed rollouts, so that work may begin again.
    Clear {
        /// Why: what was found, or done about it.
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: String,
    },
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// The store cannot be read or written.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let failures = Failures::new(&context.block_on(context.all_journals(&context.store()?))?);
    match args.action.unwrap_or(Action::Show) {
        Action::Show => show(context, &failures),
        Action::Clear { reason } => clear(context, &failures, &reason),
    }
}

fn clear(context: &Context, failures: &Failures, reason: &str) -> Result<u8> {
    let output = &context.output;
    let forgotten = context.block_on(failures.clear(reason, Timestamp::now()))?;
    output.json(&serde_json::json!({ "event": "cleared", "forgotten": forgotten, "reason": reason }));
    if forgotten == 0 {
        output.line("no rollout failed; nothing to clear");
    } else {
        let some =
            if forgotten == 1 { "1 failed rollout is" } else { &format!("{forgotten} failed rollouts are") };
        output.line(format!("{some} forgotten: {reason}"));
        output.hint("their images stay quarantined: `rekiln quarantine list`");
    }
    Ok(0)
}

fn show(context: &Context, failures: &Failures) -> Result<u8> {
    let output = &context.output;
    let found = async { Ok((failures.list().await?, failures.last_cleared().await?)) };
    let (list, cleared) = context.block_on(found)?;
    // How many are too many is each fleet's own word.
    let repository = Repository::open(&context.repo)?;
    let mut fleets = Vec::new();
    for name in repository.fleet_names() {
        match repository.fleet(name) {
            Ok(fleet) => fleets.push((name, &fleet.roll.breaker, open_by(&fleet.roll.breaker, &list)?)),
            Err(error) => output.hint(format!("what fleet {name} allows cannot be told: {}", error.chain())),
        }
    }
    let told = fleets.iter().map(|(name, breaker, open)| {
        serde_json::json!({ "fleet": name, "failures": breaker.failures, "within": breaker.within, "open": open })
    });
    output.json(&serde_json::json!({
        "event": "breaker", "failures": list, "fleets": told.collect::<Vec<_>>(), "cleared": cleared,
    }));
    if list.is_empty() {
        output.line("no rollout failed");
    }
    let rows = list.iter().map(|failure| {
        let at = failure.at.strftime("%Y-%m-%d %H:%M:%S").to_string();
        vec![at, failure.fleet.clone(), failure.image.short(), failure.reason.clone()]
    });
    for line in table(&rows.collect::<Vec<_>>()) {
        output.line(line);
    }
    for (name, breaker, open) in &fleets {
        let (most, within) = (breaker.failures, &breaker.within);
        output.line(match open {
            Some(why) => format!("fleet {name}: open; nothing voluntary begins: {why}"),
            None if most == 0 => format!("fleet {name}: never opens"),
            None => format!("fleet {name}: closed; it opens after {most} within {within}"),
        });
    }
    if let Some(cleared) = cleared {
        let at = cleared.at.strftime("%Y-%m-%d %H:%M:%S");
        output.line(format!("cleared last at {at}: {} ({})", cleared.reason, cleared.failures.len()));
    }
    if fleets.iter().any(|(.., open)| open.is_some()) {
        output.hint(
            "find out why they failed (`rekiln history FLEET`), then `rekiln breaker clear --reason TEXT`",
        );
    }
    Ok(0)
}

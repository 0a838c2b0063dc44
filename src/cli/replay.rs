//! `rekiln replay`.

use super::Context;
use super::fleet::table;
use crate::error::{Doing as _, Error, Result};
use crate::fleet::journal::{Journal, Writer};
use crate::fleet::replay::{Replayed, replay};
use crate::notation;
use crate::repository::Repository;

/// Arguments of `rekiln replay`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleet: the name of a file in `fleets/`, or of one of its shards, or one that had a journal.
    fleet: String,
    /// One roll: the number of the entry that opened it, as `rekiln history` shows it; all when none is named.
    rollout: Option<u64>,
}

/// Runs the command and returns the exit code: 0 when every decision is the same, 1 when one differs.
///
/// # Errors
/// A journal whose chain is broken; no such rollout.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let Args { fleet, rollout } = args;
    notation::name(&fleet).map_err(Error::invalid)?;
    // One that is in no file any more has a journal all the same; but a file of several has none.
    if let Ok(repository) = Repository::open(&context.repo)
        && repository.shards(&fleet).is_some()
    {
        repository.has_fleet(&fleet)?;
    }
    let writer = Writer::this(format!("rekiln replay {fleet}"));
    let journal =
        context.block_on(async { Journal::open(&context.journals(&fleet).await?, &fleet, writer).await })?;
    let entries = journal.entries();
    let mut all = replay(&fleet, entries);
    if let Some(rollout) = rollout {
        let known: Vec<_> = all.iter().map(|replayed| replayed.rollout.to_string()).collect();
        all.retain(|replayed| replayed.rollout == rollout);
        if all.is_empty() {
            let error = Error::invalid(format!("no roll of fleet {fleet} was opened by entry {rollout}"));
            return Err(error.hint(match &known[..] {
                [] => format!("it has never been rolled; next: `rekiln roll {fleet}`"),
                _ => format!("rolls were opened by entries {}", known.join(", ")),
            }));
        }
    }
    for replayed in &all {
        context.output.json(&serde_json::json!({
            "event": "replayed", "fleet": fleet, "identical": identical(replayed), "replayed": replayed
        }));
    }
    if all.is_empty() {
        context.output.line(format!("fleet {fleet} has no history; next: `rekiln roll {fleet}`"));
        return Ok(0);
    }
    context.output.line(format!("{} entries, and the chain of digests is whole", entries.len()));
    let rows: Vec<_> = all.iter().map(row).collect();
    for line in table(&rows) {
        context.output.line(line);
    }
    let mut code = 0;
    for Replayed { rollout, differs, .. } in &all {
        let Some(differs) = differs else { continue };
        code = 1;
        let text = |value| serde_json::to_string(&value).doing(|| "writing a decision");
        context.output.line(format!(
            "roll {rollout}, entry {}, after the look of entry {}:",
            differs.entry, differs.look
        ));
        context.output.line(format!("  recorded  {}", text(serde_json::json!(differs.recorded))?));
        context.output.line(format!("  planned   {}", text(serde_json::json!(differs.planned))?));
    }
    if code == 1 {
        context
            .output
            .hint("a journal that another version of rekiln wrote may differ; else compare it with a backup");
    }
    Ok(code)
}

fn identical(replayed: &Replayed) -> bool {
    replayed.differs.is_none() && replayed.skipped.is_none()
}

fn row(replayed: &Replayed) -> Vec<String> {
    let Replayed { rollout, at, looks, decisions, skipped, differs } = replayed;
    let verdict = match (skipped, differs) {
        (Some(why), _) => format!("not compared: {why}"),
        (None, None) => "identical".to_owned(),
        (None, Some(differs)) => format!("differs at entry {}", differs.entry),
    };
    vec![
        format!("roll {rollout}"),
        at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        format!("{looks} looks"),
        format!("{decisions} decisions"),
        verdict,
    ]
}

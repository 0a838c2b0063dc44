//! `rekiln roll`.

use super::Context;
use super::desk::reason;
use super::fleet::{Site, meant};
use super::turn::in_turn;
use crate::error::Result;
use crate::fleet::generation::Target;
use crate::fleet::roll::Order;

/// Arguments of `rekiln roll`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleet: the name of a file in `fleets/`, all of whose shards are rolled one after the other, or of one shard.
    fleet: String,
    /// Where to: `previous` (what completed before), `current` (where the last rollout went: what is sick, too old or
    /// unfinished is replaced, and nothing else changes), or a baked image of the fleet's recipe by its id or the start of
    /// it [default: the image that Git asks for].
    #[arg(long, value_name = "previous|current|ID")]
    to: Option<String>,
    /// Why, for the journal.
    #[arg(long, default_value = "roll", value_name = "TEXT", value_parser = reason)]
    reason: String,
    /// Goes on without asking when more instances are to be replaced than `roll.guard` allows.
    #[arg(long)]
    yes: bool,
}

/// Says what a roll cost of what all of an account share.
fn told_calls(calls: u64, ended: usize) -> String {
    let tenths = calls.saturating_mul(10).checked_div(u64::try_from(ended).unwrap_or(u64::MAX));
    let each = tenths.map(|tenths| format!(", {}.{} for each replaced instance", tenths / 10, tenths % 10));
    format!("{calls} calls of AWS{}", each.unwrap_or_default())
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// What went wrong.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let Args { fleet, to, reason, yes } = args;
    let target = |fleet: &String| -> Result<(Site, Target)> {
        let site = Site::open(context, fleet)?;
        let history = context.block_on(async { Ok(site.journal("roll").await?.history().clone()) })?;
        let (target, _) = context.block_on(site.target_to(to.as_deref(), &history))?;
        Ok((site, target))
    };
    let all = meant(context, Some(&fleet))?.iter().map(target).collect::<Result<Vec<_>>>()?;
    // All are asked for before the first is begun.
    for (site, target) in &all {
        site.ask_if_many(context, target, yes)?;
    }
    let to = to.as_deref();
    let again = |fleet: &str| {
        let to = to.map_or_else(String::new, |to| format!(" --to {to}"));
        format!("rekiln roll {fleet}{to}")
    };
    in_turn(
        context,
        &all,
        |(site, _)| &site.name,
        again,
        |(site, target)| roll(context, site, target, to, &reason),
    )
}

fn roll(context: &Context, site: &Site, target: &Target, to: Option<&str>, reason: &str) -> Result<u8> {
    let fleet = &site.name;
    let (image, generation) = (target.image.short(), target.generation.id);
    let order = Order { reason: reason.to_owned(), ..Order::default() };
    let summary = site.roll(context, "roll", target.clone(), order)?;
    context.output.json(&serde_json::json!({
        "event": "rolled", "fleet": fleet, "summary": summary, "calls": site.provider.calls(),
        "made": site.provider.is_made(), "notes": site.provider.notes(),
    }));
    for note in site.provider.notes() {
        context.output.line(format!("note: {note}"));
    }
    if site.provider.is_made() {
        context.output.line(format!("made: {}", site.provider.told(&site.fleet)));
    }
    let (launched, ended) = (summary.launched.len(), summary.ended.len());
    let state = if to.is_some() { format!("runs {image}") } else { "is as Git asks".to_owned() };
    if launched + ended == 0 {
        let nothing = if site.provider.is_made() { "" } else { "; nothing to do" };
        context.output.line(format!("fleet {fleet} {state}{nothing}"));
    } else {
        context.output.line(format!("fleet {fleet} {state}: {launched} launched, {ended} ended"));
        if let Some(calls) = site.provider.calls() {
            context.output.line(told_calls(calls, ended));
        }
        let place = site.provider.told(&site.fleet);
        let place =
            if site.fleet.local.is_some() { format!("; it serves on {place}") } else { String::new() };
        context.output.line(format!("next: `rekiln status {fleet}`{place}"));
    }
    if to.is_some() {
        let git = site.target().ok().map(|(git, _)| git);
        if git.as_ref().is_none_or(|git| git.image.short() != image) {
            context
                .output
                .hint("Git asks for another image: commit what brings this one, or the next roll leaves it");
        } else if site.provider.is_designed() && git.is_some_and(|git| git.generation.id != generation) {
            context
                .output
                .hint("[aws.group] asks for something else: commit what brings this back, or the next roll leaves it");
        }
    }
    Ok(0)
}

//! `rekiln gc`.

mod pins;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::fleet::table;
use super::inspect::mib;
use super::{Context, confirm};
use crate::error::{Doing as _, Error, Result};
use crate::gc::look::{Sources, know_revisions};
use crate::gc::remove::{Removed, remove};
use crate::gc::{Decision, Kind, Plan, Rules, plan};
use crate::notation;

/// Arguments of `rekiln gc`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    action: Option<pins::Action>,
    /// Says what would go, and why, and changes nothing.
    #[arg(long)]
    dry_run: bool,
    /// What the fleets and locks at this revision ask for is kept too; may be repeated.
    #[arg(long = "ref", value_name = "REV")]
    revisions: Vec<String>,
    /// How many of the newest images of each recipe are kept, of those that a fleet may run.
    #[arg(long, default_value_t = 3, value_name = "N")]
    keep: usize,
    /// Everything made less than this ago is kept.
    #[arg(long, default_value = "7d", value_name = "AGE", value_parser = notation::duration)]
    younger: Duration,
    /// Removes without asking.
    #[arg(long)]
    yes: bool,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// What reaches what cannot be told; nobody agreed; the store cannot be changed.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    if let Some(action) = args.action {
        return pins::run(context, action);
    }
    let store = context.store()?;
    know_revisions(&context.repo, &args.revisions)?;
    let younger = SignedDuration::try_from(args.younger).doing(|| "reading `--younger`")?;
    let rules = Rules { keep: args.keep, younger };
    let sources = Sources { store: &store, repo: &context.repo, revisions: &args.revisions };
    let seen = context.block_on(sources.look(true)).map_err(|error| {
        error
            .during("looking at what reaches the store")
            .hint("nothing was removed, as this may reach anything")
    })?;
    let plan = plan(&seen, rules, Timestamp::now());
    show(context, &plan);
    let going = Sum::of(plan.removed());
    if args.dry_run {
        context.output.line(format!("would go: {going}"));
        told(context, true, &going);
        return Ok(0);
    }
    if going.count() == 0 {
        context.output.line("nothing to remove");
        told(context, false, &going);
        return Ok(0);
    }
    confirm::require(args.yes, "gc", &format!("it removes {going}"))?;
    let removed = context.block_on(remove(sources, rules, &plan, context.progress()))?;
    let Removed { gone, left } = &removed;
    let gone = Sum::of(plan.removed().filter(|decision| gone.contains(&(decision.kind, decision.digest))));
    for Decision { kind, digest, .. } in left {
        let kind = word(*kind);
        context.output.line(format!("{kind} {} stays: something reaches it by now", digest.short()));
    }
    context.output.line(format!("gone: {gone}"));
    told(context, false, &gone);
    Ok(0)
}

/// How much of what.
#[derive(Debug, Default)]
struct Sum {
    images: usize,
    layers: usize,
    inputs: usize,
    bytes: u64,
}

impl Sum {
    fn of<'a>(decisions: impl Iterator<Item = &'a Decision>) -> Self {
        let mut sum = Self::default();
        for decision in decisions {
            match decision.kind {
                Kind::Image => sum.images += 1,
                Kind::Layer => sum.layers += 1,
                Kind::Input => sum.inputs += 1,
            }
            sum.bytes += decision.size;
        }
        sum
    }

    const fn count(&self) -> usize {
        self.images + self.layers + self.inputs
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { images, layers, inputs, bytes } = self;
        let count =
            |kind, count: &usize| format!("{count} {}{}", word(kind), if *count == 1 { "" } else { "s" });
        let (images, layers) = (count(Kind::Image, images), count(Kind::Layer, layers));
        write!(f, "{images}, {layers} and {} ({:.1} MiB)", count(Kind::Input, inputs), mib(*bytes))
    }
}

const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Image => "image",
        Kind::Layer => "layer",
        Kind::Input => "input",
    }
}

/// Images each with their reasons, layers and inputs only when they go: what stays of them stays for an image's sake.
fn show(context: &Context, plan: &Plan) {
    let Plan(decisions) = plan;
    let mut rows = Vec::new();
    for decision in decisions {
        let Decision { kind, digest, name, size, why } = decision;
        let goes = decision.removes();
        let why: Vec<_> = why.iter().map(ToString::to_string).collect();
        context.output.json(&serde_json::json!({
            "event": if goes { "removes" } else { "keeps" },
            "what": kind, "id": digest, "name": name, "size": size, "why": why,
        }));
        if goes || *kind == Kind::Image {
            let verb = if goes { "remove" } else { "keep" };
            let size = format!("{:.1} MiB", mib(*size));
            let cells = [verb, word(*kind), &digest.short(), name, &size, &why.join("; ")];
            rows.push(cells.map(str::to_owned).to_vec());
        }
    }
    for line in table(&rows) {
        context.output.line(line);
    }
    let kept = Sum::of(decisions.iter().filter(|decision| !decision.removes()));
    context.output.line(format!("stays: {kept}"));
}

/// For machines: what it came to.
fn told(context: &Context, dry_run: bool, sum: &Sum) {
    let Sum { images, layers, inputs, bytes } = sum;
    context.output.json(&serde_json::json!({
        "event": "collected", "dry_run": dry_run,
        "images": images, "layers": layers, "inputs": inputs, "bytes": bytes,
    }));
}

fn not_pinned(image: &str) -> Error {
    Error::failed(format!("image {image} is not pinned")).hint("`rekiln gc list` lists those that are")
}

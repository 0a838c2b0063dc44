//! `rekiln gc`.

mod amis;
mod pins;

use std::time::Duration;

use amis::{Amis, Count};
use jiff::{SignedDuration, Timestamp};

use super::fleet::table;
use super::inspect::mib;
use super::{Context, confirm};
use crate::error::{Doing as _, Error, Result};
use crate::gc::look::{Sources, know_revisions};
use crate::gc::remove::remove;
use crate::gc::{Decision, Kind, Plan, Rules, plan};
use crate::notation;

/// Arguments of `rekiln gc`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
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
    /// Leaves out what is published in AWS.
    #[arg(long)]
    local: bool,
    /// AMIs go although they are shared with accounts that rekiln publishes nothing in, where it cannot see who needs
    /// them.
    #[arg(long, conflicts_with = "local")]
    shared: bool,
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
    let unseen = |error: Error| {
        error
            .during("looking at what reaches the store")
            .hint("nothing was removed, as this may reach anything")
    };
    let journals = &context.block_on(context.all_journals(&store)).map_err(unseen)?[..];
    let sources = Sources { store: &store, journals, repo: &context.repo, revisions: &args.revisions };
    let seen = context.block_on(sources.look(true)).map_err(unseen)?;
    let plan = plan(&seen, rules, Timestamp::now());
    let amis = if args.local { None } else { Some(Amis::look(context, &seen, rules, args.shared)?) };
    show(context, &plan);
    if let Some(amis) = &amis {
        amis.show(context);
    }
    let going = Sum::of(plan.removed());
    let published = amis.as_ref().map(Amis::going).unwrap_or_default();
    if args.dry_run {
        context.output.line(format!("would go: {going}{published}"));
        told(context, true, &going, published);
        return Ok(0);
    }
    if going.count() == 0 && published == Count::default() {
        context.output.line("nothing to remove");
        told(context, false, &going, published);
        return Ok(0);
    }
    confirm::require(args.yes, "gc", &format!("it removes {going}{published}"))?;
    let mut gone = Sum::default();
    if going.count() > 0 {
        let removed = context.block_on(remove(sources, rules, &plan, context.progress()))?;
        for Decision { kind, digest, .. } in &removed.left {
            let kind = word(*kind);
            context.output.line(format!("{kind} {} stays: something reaches it by now", digest.short()));
        }
        let is_gone = |decision: &&Decision| removed.gone.contains(&(decision.kind, decision.digest));
        gone = Sum::of(plan.removed().filter(is_gone));
    }
    let (withdrawn, failed) = match amis.filter(|_| published != Count::default()) {
        // What is gone here is said, whatever happens there.
        Some(amis) => {
            amis.remove(context, sources, rules).unwrap_or_else(|error| (Count::default(), Some(error)))
        }
        None => (Count::default(), None),
    };
    context.output.line(format!("gone: {gone}{withdrawn}"));
    told(context, false, &gone, withdrawn);
    failed.map_or(Ok(0), Err)
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
        let count = |kind, count: &usize| plural(*count, word(kind));
        let (images, layers) = (count(Kind::Image, images), count(Kind::Layer, layers));
        write!(f, "{images}, {layers} and {} ({:.1} MiB)", count(Kind::Input, inputs), mib(*bytes))
    }
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
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
fn told(context: &Context, dry_run: bool, sum: &Sum, published: Count) {
    let Sum { images, layers, inputs, bytes } = sum;
    let Count { amis, snapshots } = published;
    context.output.json(&serde_json::json!({
        "event": "collected", "dry_run": dry_run,
        "images": images, "layers": layers, "inputs": inputs, "bytes": bytes,
        "amis": amis, "snapshots": snapshots,
    }));
}

fn not_pinned(image: &str) -> Error {
    Error::failed(format!("image {image} is not pinned")).hint("`rekiln gc list` lists those that are")
}

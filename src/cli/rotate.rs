//! `rekiln rotate`.

mod which;

use jiff::Timestamp;

use super::desk::reason;
use super::fleet::{Site, meant, names};
use super::turn::in_turn;
use super::{Context, confirm};
use crate::catalog::Catalog;
use crate::catalog::selection::{PackageSpec, images_with};
use crate::diagnostic::nearest;
use crate::error::{Error, Result};
use crate::fleet::census::InstanceId;
use crate::fleet::generation::Target;
use crate::fleet::roll::{Order, Summary, Wish};
use crate::fleet::selection::Selection;
use crate::provider::local::Evidence;
use which::{Part, Which};

/// What an emergency does without; the words for people and for JSON.
const SKIPPED: [&str; 7] = ["canary", "waves", "soak", "gates", "windows", "rate", "circuit breaker"];

/// What holds in an emergency too.
const KEPT: [&str; 5] = ["floor of serving instances", "drain", "quarantine", "health", "failure budget"];

/// Arguments of `rekiln rotate`.
///
/// Without any of `--instance`, `--package`, `--image`, `--older-than` and `--touched`, every instance of the fleets is
/// replaced; with several of them, those of which all are true.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleets: names of files in `fleets/`, all of whose shards are meant, or of shards [default, with one of the
    /// selectors: all].
    #[arg(value_name = "FLEET")]
    fleets: Vec<String>,
    /// All fleets.
    #[arg(long, conflicts_with = "fleets")]
    all: bool,
    #[command(flatten)]
    which: Which,
    /// What new instances run, as for `rekiln roll` [default: the image that Git asks for].
    #[arg(long, value_name = "previous|current|ID")]
    to: Option<String>,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
    /// Skips canary, waves, soak, gates, windows, rate and the circuit breaker, takes over a roll that is running, and
    /// rotates several fleets at the same time. It never skips the floor of serving instances, the drain, the
    /// quarantine, health or the failure budget.
    #[arg(long)]
    emergency: bool,
    /// Goes on without asking: in an emergency, and when more instances are to be replaced than `roll.guard` allows.
    #[arg(long)]
    yes: bool,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// What went wrong.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let Args { fleets, all, which, to, reason, emergency, yes } = args;
    if fleets.is_empty() && !all && !which.selects() {
        return Err(Error::invalid("rotate what? No fleet is named, and nothing selects instances")
            .hint("name fleets, or say `--all`, `--package`, `--image`, `--older-than` or `--touched`"));
    }
    let named = fleets.iter().map(|name| meant(context, Some(name))).collect::<Result<Vec<_>>>()?.concat();
    let mut fleets = names(context)?;
    fleets.retain(|name| named.is_empty() || named.contains(name));
    let sites = fleets.iter().map(|name| Site::open(context, name)).collect::<Result<Vec<_>>>()?;
    let selection = which.selection(context)?;
    let parts: Vec<_> =
        sites.iter().map(|site| Part::of(context, site, &selection)).collect::<Result<_>>()?;
    know_instances(which.named(), &sites, &parts)?;
    let mut meant = Vec::new();
    for part in parts {
        let fleet = &part.site.name;
        for id in &part.chosen.unclear {
            context.output.line(format!(
                "fleet {fleet}: what the image of {id} has cannot be told, and it is left alone; \
                 `rekiln rotate {fleet} --instance {id} --reason TEXT` replaces it"
            ));
        }
        if part.chosen.ids.is_empty() {
            let why = if part.runs { "nothing of it is meant" } else { "it does not run" };
            context.output.line(format!("fleet {fleet} is left alone: {why}"));
            context.output.json(&serde_json::json!({ "event": "left_alone", "fleet": fleet, "why": why }));
        } else {
            let target = part.site.target_now(context, to.as_deref())?;
            meant.push((part, target));
        }
    }
    if meant.is_empty() {
        context.output.line("nothing to do");
        return Ok(0);
    }
    if let Some(spec) = &which.package {
        warn_of_package(context, spec, &meant)?;
    }
    if emergency {
        agree_to_emergency(context, &meant, yes)?;
    } else {
        for (part, target) in &meant {
            part.site.ask_if_many(context, target, yes)?;
        }
    }
    let evidence = !which.quarantine_instance.is_empty();
    let work = Work { context, selection: &selection, reason: &reason, emergency, evidence };
    if emergency {
        return Ok(work.at_once(&meant));
    }
    let again = |fleet: &str| format!("rekiln rotate {fleet} …");
    in_turn(
        context,
        &meant,
        |(part, _)| &part.site.name,
        again,
        |(part, target)| work.rotate(part, target).map(|()| 0),
    )
}

/// Refuses an instance that none of the fleets has: a slip of the pen must not look like work done.
fn know_instances(named: &[String], sites: &[Site], parts: &[Part<'_>]) -> Result<()> {
    let living = || parts.iter().flat_map(|part| &part.living).map(|id| id.0.as_str());
    let Some(wrong) = named.iter().find(|id| living().all(|known| known != *id)) else {
        return Ok(());
    };
    let (whose, look) = match sites {
        [site] => (format!("fleet {} has no instance {wrong}", site.name), format!(" {}", site.name)),
        _ => (format!("no fleet has an instance {wrong}"), String::new()),
    };
    let error = Error::invalid(whose);
    Err(match nearest(wrong, living()) {
        Some(meant) => error.hint(format!("did you mean `{meant}`?")),
        None => error,
    }
    .hint(format!("`rekiln status{look}` lists them")))
}

/// Says when what is launched has the package too: replacing an instance changes nothing that its image has.
fn warn_of_package(context: &Context, spec: &PackageSpec, meant: &[(Part<'_>, Target)]) -> Result<()> {
    let images = images_with(&Catalog::new(context.store()?), spec)?;
    for (Part { site, .. }, target) in meant {
        let Some(version) = images.get(&target.image) else { continue };
        let (fleet, image, package) = (&site.name, &site.fleet.image, &spec.name);
        let id = target.image.short();
        context.output.json(&serde_json::json!({
            "event": "still_there", "fleet": fleet, "image": target.image, "package": package, "version": version,
        }));
        context.output.line(format!(
            "warning: fleet {fleet} would get {image} {id}, which has {package} {version} too: rotating does not \
             remove it"
        ));
        context.output.hint(format!(
            "`rekiln lock {image} --update`, commit the lock, `rekiln bake {image}`, and then rotate or roll"
        ));
    }
    Ok(())
}

/// Says what an emergency does without and what not, and asks.
fn agree_to_emergency(context: &Context, meant: &[(Part<'_>, Target)], yes: bool) -> Result<()> {
    let fleets = meant.iter().map(|(part, target)| {
        serde_json::json!({ "fleet": part.site.name, "instances": part.chosen.ids, "target": target.image })
    });
    context.output.json(&serde_json::json!({
        "event": "emergency", "skips": SKIPPED, "never_skips": KEPT, "fleets": fleets.collect::<Vec<_>>(),
    }));
    context.output.line(format!("an emergency skips: {}", SKIPPED.join(", ")));
    context.output.line(format!("it never skips: {}", KEPT.join(", ")));
    context.output.line("it takes over a roll that is running");
    let count: usize = meant.iter().map(|(part, _)| part.chosen.ids.len()).sum();
    for (part, target) in meant {
        let (fleet, count, image) = (&part.site.name, part.chosen.ids.len(), target.image.short());
        context.output.line(format!("fleet {fleet}: {count} instances, replaced by {image}"));
        if let Some(reason) = &part.paused {
            context.output.line(format!("fleet {fleet} is paused ({reason}): an emergency lifts that"));
        }
    }
    let (many, some) = (meant.len(), if meant.len() == 1 { "fleet" } else { "fleets at the same time" });
    confirm::require(yes, "an emergency rotation", &format!("it replaces {count} instances of {many} {some}"))
}

/// What the rotations of several fleets share.
#[derive(Clone, Copy)]
struct Work<'a> {
    context: &'a Context,
    selection: &'a Selection,
    reason: &'a str,
    emergency: bool,
    /// Whether everything of the instances is kept.
    evidence: bool,
}

impl Work<'_> {
    /// All fleets at the same time, each in a thread of its own: what a provider does may block. One that fails stops
    /// no other.
    fn at_once(self, meant: &[(Part<'_>, Target)]) -> u8 {
        let results: Vec<_> = std::thread::scope(|scope| {
            let begin = |(part, target)| scope.spawn(move || self.rotate(part, target));
            let threads: Vec<_> = meant.iter().map(|(part, target)| begin((part, target))).collect();
            threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
        });
        let mut code = 0;
        for result in results {
            let error = match result {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error,
                Err(_) => Error::failed("the thread of a fleet ended without an answer"),
            };
            self.context.output.error(&error);
            code = code.max(error.exit_code());
        }
        code
    }

    /// Before anything else happens to them: whoever ends them now keeps what is left.
    fn keep(self, site: &Site, ids: &[InstanceId]) -> Result<()> {
        let fleet = &site.name;
        for id in ids {
            let (reason, at) = (self.reason.to_owned(), Timestamp::now());
            let dir = site
                .provider
                .here("keeping what is left of an instance")?
                .keep_evidence(&Evidence { instance: id.clone(), reason, at })?;
            self.context.output.json(
                &serde_json::json!({ "event": "evidence", "fleet": fleet, "instance": id, "dir": dir }),
            );
            let dir = dir.display();
            self.context
                .output
                .line(format!("fleet {fleet}: what is left of {id} when it ends is kept in {dir}"));
        }
        Ok(())
    }

    fn rotate(self, part: &Part<'_>, target: &Target) -> Result<()> {
        let Self { context, selection, reason, emergency, evidence } = self;
        let site = part.site;
        let fleet = &site.name;
        // Chosen anew: while other fleets were rotated or a person thought, instances came and went.
        let chosen = Part::of(context, site, selection)?.chosen;
        if chosen.ids.is_empty() {
            context.output.line(format!("fleet {fleet} is left alone: nothing of it is meant any more"));
            return Ok(());
        }
        if evidence {
            self.keep(site, &chosen.ids)?;
        }
        let instances = if selection.is_all() { Vec::new() } else { chosen.ids };
        let wish = Wish { instances, reason: reason.to_owned() };
        let order = Order { reason: reason.to_owned(), wish: Some(wish), emergency, commit: None };
        let summary = site.roll(context, "rotate", target.clone(), order)?;
        context.output.json(&serde_json::json!({
            "event": "rotated", "fleet": fleet, "summary": summary, "calls": site.provider.calls(),
        }));
        let Summary { launched, ended } = &summary;
        let list = |ids: &[InstanceId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        context.output.line(format!("fleet {fleet}: {} replaced by {}", list(ended), list(launched)));
        Ok(())
    }
}

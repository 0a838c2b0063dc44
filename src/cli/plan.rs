//! `rekiln plan`.

mod change;

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Context;
use super::fleet::{Site, meant, role, settled, table};
use super::turn::in_turn;
use crate::catalog::Record;
use crate::error::Result;
use crate::fleet::census::Census;
use crate::fleet::copying::Copying;
use crate::fleet::generation::Target;
use crate::fleet::plan::{Expected, Hold, Kind, Plan, Standing, outlook, plan, waiting};
use crate::fleet::policy::Policy;
use crate::provider::Action;

/// The environment variable that stands for `--vulnerabilities`.
const VULNERABILITIES: &str = "REKILN_VULNERABILITIES";

/// Arguments of `rekiln plan`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleet, or the file whose shards are all meant; all fleets when none is named.
    #[arg(conflicts_with_all = ["from", "to"])]
    fleet: Option<String>,
    /// Says instead what a change does: which images differ since this revision, and which fleets a merge rolls. Needs
    /// nothing but Git and the store. Where both have gone on, it is compared with where they parted.
    #[arg(long, value_name = "REV")]
    from: Option<String>,
    /// The revision with the change.
    #[arg(long, value_name = "REV", requires = "from", default_value = "HEAD")]
    to: String,
    /// Says also which vulnerabilities the change fixes, leaves and brings, by this JSON export of Debian's security
    /// tracker. By default that of the environment variable `REKILN_VULNERABILITIES`, if it is set.
    #[arg(long, value_name = "FILE", requires = "from")]
    vulnerabilities: Option<PathBuf>,
    /// How the change is told; `markdown` fits a comment on a pull request.
    #[arg(long, value_enum, requires = "from", default_value_t = change::Format::Text)]
    format: change::Format,
}

/// Runs the command and returns the exit code: 0 when nothing is to be done or work can go on, 3 when it is held; of a change,
/// 2 when what it leads to is not valid.
///
/// # Errors
/// What went wrong.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    if let Some(from) = &args.from {
        let file = known(args.vulnerabilities);
        return change::show(context, from, &args.to, file.as_deref(), args.format);
    }
    let fleets = meant(context, args.fleet.as_deref())?;
    in_turn(
        context,
        &fleets,
        String::as_str,
        |name| format!("rekiln plan {name}"),
        |name| show(context, name),
    )
}

/// Returns the file that is given, else that of the environment. Not by clap: a variable that is set for all jobs must not be
/// refused where there is no `--from`, nor an empty one.
pub(super) fn known(given: Option<PathBuf>) -> Option<PathBuf> {
    given.or_else(|| Some(std::env::var_os(VULNERABILITIES).filter(|file| !file.is_empty())?.into()))
}

fn show(context: &Context, name: &str) -> Result<u8> {
    let site = Site::open(context, name)?;
    let (target, image) = site.target()?;
    if let Some(unmade) = site.provider.unmade() {
        context.output.json(&serde_json::json!({
            "fleet": name, "target": target, "exceptions": image.exceptions, "unmade": unmade,
        }));
        context.output.line(format!("fleet {name}: {unmade} of {} ({})", site.fleet.image, image.id.short()));
        context.output.line(format!("next: `rekiln roll {name}`"));
        return Ok(0);
    }
    let mut look = context.block_on(site.look(context, &target))?;
    look.history = look.history.opened(&target);
    let first = plan(&look.situation(&site, &target));
    let (acts, expected) = outlook(&look.situation(&site, &target), &look.experience);
    context
        .output
        .json(&serde_json::json!({ "fleet": name, "target": target, "exceptions": image.exceptions, "plan": first, "forecast": acts, "end": expected, "notes": site.provider.notes(), "copying": look.copying }));
    let plan = settled(&look.situation(&site, &target));
    let told = Told {
        site: &site,
        policy: &look.policy,
        target: &target,
        image: &image,
        census: &look.census,
        plan: &plan,
        copying: look.copying.as_ref(),
    };
    let lines = told.lines(&acts, &expected);
    for line in lines {
        context.output.line(line);
    }
    Ok(if plan.blocked() { 3 } else { 0 })
}

/// What a plan is told from.
struct Told<'a> {
    site: &'a Site,
    policy: &'a Policy,
    target: &'a Target,
    image: &'a Record,
    census: &'a Census,
    plan: &'a Plan,
    copying: Option<&'a Copying>,
}

impl Told<'_> {
    /// What each instance is, what a roll does in which order and why, what holds the rest, and when it ends.
    fn lines(&self, acts: &[Action], end: &Expected) -> Vec<String> {
        let Self { policy, image, census, plan, .. } = self;
        let Site { name, fleet, .. } = self.site;
        let mut lines = vec![format!(
            "fleet {name}: {} instances of {} ({})",
            policy.size,
            fleet.image,
            image.id.short()
        )];
        lines.extend(image.exceptions.iter().map(|exception| {
            let path = exception.path.as_deref().unwrap_or("(anywhere)");
            format!("  the image is excepted from {} {path}: {}", exception.rule, exception.why)
        }));
        lines.extend(census.trouble.iter().map(|trouble| format!("  {trouble}")));
        let seen: BTreeMap<_, _> = census.instances.iter().map(|seen| (&seen.id, seen)).collect();
        let row = |member: &Standing| {
            let seen = seen.get(&member.id).copied();
            let mut row = vec![format!("  {}", member.id)];
            row.extend(fleet.stateful.as_ref().map(|_| role(seen)));
            row.push(member.told(seen, self.target));
            row
        };
        lines.extend(table(&plan.members.iter().map(row).collect::<Vec<_>>()));
        lines.extend(self.site.provider.notes().iter().map(|note| format!("  note: {note}")));
        lines.extend(self.copying.map(|copying| format!("  {copying}")));
        let missing = policy.size.saturating_sub(plan.members.len());
        if missing > 0 {
            lines.push(format!("  {missing} missing"));
        }
        if plan.done() {
            lines.push("  nothing to do".to_owned());
            return lines;
        }
        let shown = acts.iter().filter(|act| !matches!(act, Action::Admit { .. }));
        lines.extend((1..).zip(shown).map(|(at, act): (u32, _)| format!("  {at}. {act}{}", self.why(act))));
        // The order says already what waits for its replacement.
        let told = |hold: &&Hold| acts.is_empty() || !matches!(hold, Hold::Floor { .. });
        let holds: Vec<_> = plan.holds.iter().filter(told).cloned().collect();
        lines.extend(waiting(&holds, census.at).iter().map(|text| format!("  waiting: {text}")));
        lines.push(format!("  {}", end.told(census.at)));
        lines.push(format!(
            "  on the way at most {} above the size and at most {} below it",
            policy.surge, policy.unavailable
        ));
        let afresh = plan.holds.iter().any(|hold| matches!(hold, Hold::Halted { .. }));
        let afresh = if afresh { ", which tries this image again; or change what failed" } else { "" };
        lines.push(format!("next: `rekiln roll {name}`{afresh}"));
        lines
    }

    fn why(&self, act: &Action) -> &'static str {
        match act {
            Action::Drain { id, .. } => {
                let stale = |member: &Standing| member.id == *id && matches!(member.kind, Kind::Stale(_));
                if self.plan.members.iter().any(stale) { "" } else { " (one too many)" }
            }
            Action::Launch { .. } => ", wait until it serves",
            Action::Admit { .. }
            | Action::Terminate { .. }
            | Action::HandOver { .. }
            | Action::Deregister { .. } => "",
        }
    }
}

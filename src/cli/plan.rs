//! `rekiln plan`.

use super::Context;
use super::fleet::{Site, names, settled, table};
use crate::catalog::Record;
use crate::error::Result;
use crate::fleet::census::Census;
use crate::fleet::plan::{Expected, Hold, Kind, Plan, outlook, plan};
use crate::provider::Action;

/// Arguments of `rekiln plan`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleet; all fleets when none is named.
    fleet: Option<String>,
}

/// Runs the command and returns the exit code: 0 when nothing is to be done or work can go on, 3 when it is held.
///
/// # Errors
/// What went wrong.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let fleets = args.fleet.map_or_else(|| names(&context.repo), |name| Ok(vec![name]))?;
    let mut code = 0;
    for name in fleets {
        code = code.max(show(context, &name)?);
    }
    Ok(code)
}

fn show(context: &Context, name: &str) -> Result<u8> {
    let site = Site::open(context, name)?;
    let (target, image) = site.target()?;
    let mut look = context.block_on(site.look(context, &target))?;
    look.history = look.history.opened(&target);
    let first = plan(&look.situation(&site, &target));
    let (acts, expected) = outlook(&look.situation(&site, &target), &look.experience);
    context
        .output
        .json(&serde_json::json!({ "fleet": name, "target": target, "exceptions": image.exceptions, "plan": first, "forecast": acts, "end": expected }));
    let plan = settled(&look.situation(&site, &target));
    let lines = told(&site, &image, &look.census, &plan, &acts, &expected);
    for line in lines {
        context.output.line(line);
    }
    Ok(if plan.blocked() { 3 } else { 0 })
}

/// What each instance is, what a roll does in which order and why, and what holds the rest.
fn told(
    site: &Site,
    image: &Record,
    census: &Census,
    plan: &Plan,
    acts: &[Action],
    end: &Expected,
) -> Vec<String> {
    let Site { name, policy, fleet, .. } = site;
    let mut lines =
        vec![format!("fleet {name}: {} instances of {} ({})", policy.size, fleet.image, image.id.short())];
    lines.extend(image.exceptions.iter().map(|exception| {
        let path = exception.path.as_deref().unwrap_or("(anywhere)");
        format!("  the image is excepted from {} {path}: {}", exception.rule, exception.why)
    }));
    lines.extend(census.trouble.iter().map(|trouble| format!("  {trouble}")));
    let rows: Vec<_> = plan.members.iter().map(|m| vec![format!("  {}", m.id), m.kind.to_string()]).collect();
    lines.extend(table(&rows));
    let missing = policy.size.saturating_sub(plan.members.len());
    if missing > 0 {
        lines.push(format!("  {missing} missing"));
    }
    if plan.done() {
        lines.push("  nothing to do".to_owned());
        return lines;
    }
    let shown = acts.iter().filter(|act| !matches!(act, Action::Admit { .. }));
    let why = |act: &Action| match act {
        Action::Drain { id, .. } => {
            let kind = plan.members.iter().find(|member| member.id == *id).map(|member| &member.kind);
            kind.map_or_else(String::new, |kind| match kind {
                Kind::Stale(_) => format!(" ({kind})"),
                _ => " (one too many)".to_owned(),
            })
        }
        Action::Launch { .. } => ", wait until it serves".to_owned(),
        Action::Admit { .. } | Action::Terminate { .. } => String::new(),
    };
    lines.extend((1..).zip(shown).map(|(at, act): (u32, _)| format!("  {at}. {act}{}", why(act))));
    // The order says already what waits for its replacement.
    let holds = plan.holds.iter().filter(|hold| acts.is_empty() || !matches!(hold, Hold::Floor { .. }));
    lines.extend(holds.map(|hold| format!("  waiting: {}", hold.told(census.at))));
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

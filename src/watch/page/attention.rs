//! What a person must know of before anything else.

use jiff::{SignedDuration, Timestamp};

use super::super::view::{Case, Fleet, Lead, View};
use super::text::many;
use crate::table::cut;

/// How long nobody may lead before it is said: a watcher that ends cleanly is followed within seconds, and
/// the one that was killed once its claim is too old.
const LEADERLESS: SignedDuration = SignedDuration::from_mins(2);

/// Columns of a line: what a tool printed may be pages, and is said in full where it belongs.
const WIDTH: usize = 240;

/// Returns what needs somebody's attention, a line each; the most general first.
pub fn attention(view: &View) -> Vec<String> {
    let mut lines = Vec::new();
    if let Lead { leader: None, mine: false, since } = &view.lead
        && since.unwrap_or(view.started) + LEADERLESS < view.at
    {
        lines.push("No watcher leads: nothing is carried out".to_owned());
    }
    let git = &view.git;
    if git.bad {
        lines.push(format!("{}: {}", view.branch, git.state));
    }
    if let Some(trouble) = &git.trouble {
        lines.push(format!("The remote does not answer: {trouble}"));
    }
    if let Some(code) = view.nightly.as_ref().and_then(|nightly| nightly.code).filter(|code| *code != 0) {
        lines.push(format!("The last night ended with exit code {code}"));
    }
    lines.extend(view.fleets.iter().flat_map(|fleet| of_fleet(fleet, view.at)));
    lines.extend(view.cases.iter().filter(|case| case.open && case.held).map(held));
    lines.iter().map(|line| cut(line, WIDTH)).collect()
}

fn of_fleet(fleet: &Fleet, at: Timestamp) -> Vec<String> {
    let name = &fleet.name;
    let mut lines = Vec::new();
    if let Some(trouble) = &fleet.trouble {
        lines.push(format!("Fleet {name} cannot be looked at: {trouble}"));
    }
    if fleet.rollout.as_deref() == Some("halted") {
        lines.push(format!("The rollout of fleet {name} is halted"));
    }
    if let Some(why) = &fleet.paused {
        lines.push(format!("Fleet {name} is paused: {why}"));
    }
    if let Some(lacks) = &fleet.backup {
        lines.push(format!("Fleet {name}: {lacks}"));
    }
    let unhealthy = fleet.instances.iter().filter(|instance| instance.health == "unhealthy").count();
    if unhealthy > 0 {
        lines.push(format!("Fleet {name} has {}", many(unhealthy, "unhealthy instance")));
    }
    // While it rolls, as many serve as the policy wants; what it has never been looked at for cannot be
    // missed.
    let serving = fleet.instances.iter().filter(|instance| instance.in_service).count();
    let looked = fleet.seen.is_some_and(|seen| seen <= at) && fleet.trouble.is_none();
    if looked && serving < fleet.size && fleet.rollout.as_deref() != Some("rolling") {
        lines.push(format!("Fleet {name} serves with {serving} of {}", many(fleet.size, "instance")));
    }
    lines
}

fn held(case: &Case) -> String {
    let instance = case.instance.as_deref().map(|id| format!(" ({id})")).unwrap_or_default();
    format!("Alert {} of fleet {}{instance} waits for a person: {}", case.alert, case.fleet, case.state)
}

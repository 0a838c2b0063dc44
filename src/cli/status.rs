//! `rekiln status`.

mod rollout;

use std::collections::BTreeMap;

use super::Context;
use super::fleet::{Site, meant, role, table};
use super::turn::in_turn;
use crate::error::{Error, Result};
use crate::fleet::census::{Census, Instance};
use crate::fleet::moment::lasting;
use crate::fleet::plan::Standing;
use crate::provider::Provider as _;
use rollout::Rollout;
pub(super) use rollout::state;

/// Arguments of `rekiln status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleet, or the file whose shards are all meant; all fleets when none is named.
    fleet: Option<String>,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// What went wrong.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let Args { fleet } = args;
    let fleets = meant(context, fleet.as_deref())?;
    in_turn(
        context,
        &fleets,
        String::as_str,
        |name| format!("rekiln status {name}"),
        |name| show(context, name),
    )
}

fn show(context: &Context, name: &str) -> Result<u8> {
    let site = Site::open(context, name)?;
    let census = context.block_on(async { site.provider.census().await.map_err(Error::from) })?;
    // A journal that is broken hides no instance.
    let (rollout, lines) = match Rollout::of(context, &site) {
        Ok(rollout) => {
            let lines = rollout.lines(name);
            (Some(rollout), lines)
        }
        Err(error) => (None, vec![format!("how far its rollout is cannot be told: {}", error.chain())]),
    };
    let policy = rollout.as_ref().map_or(&site.policy, |rollout| &rollout.policy);
    let about = lines.into_iter().map(|line| format!("  {line}"));
    let age = |i: &Instance| census.at.duration_since(i.launched_at).as_secs();
    let none = Vec::new();
    let standings = rollout.as_ref().map_or(&none, |rollout| &rollout.standings);
    let is: BTreeMap<_, _> = standings.iter().map(|(member, _)| (&member.id, member)).collect();
    let instances = census.instances.iter().map(|i| {
        let standing = is.get(&i.id).map(|member| &member.kind);
        serde_json::json!({
            "id": i.id, "image": i.image, "generation": i.generation.as_ref().map(|g| g.id), "state": i.state,
            "health": i.health, "in_service": i.in_service, "address": i.address, "age_s": age(i),
            "connections": i.connections, "touched": i.touched,
            "standing": standing,
        })
    });
    let instances: Vec<_> = instances.collect();
    context
        .output
        .json(&serde_json::json!({ "fleet": name, "instances": instances, "trouble": census.trouble, "rollout": rollout }));
    if instances.is_empty() {
        context.output.line(format!("fleet {name} does not run; next: `rekiln roll {name}`"));
        for line in census.trouble.map(|trouble| format!("  {trouble}")).into_iter().chain(about) {
            context.output.line(line);
        }
        return Ok(0);
    }
    context.output.line(format!(
        "fleet {name}: {} of {} on {}",
        instances.len(),
        policy.size,
        site.provider.told(&site.fleet)
    ));
    let mut lines = table(&rows(&census, standings));
    // Without a journal nobody knows what it is; that someone was on it is seen all the same.
    let touched = census.instances.iter().filter(|i| !is.contains_key(&i.id));
    let touched = touched.filter_map(|i| Some((&i.id, i.touched.as_ref()?)));
    lines.extend(touched.map(|(id, why)| format!("  {id} is touched: {why}")));
    lines.extend(census.trouble.map(|trouble| format!("  {trouble}")));
    lines.extend(about);
    for line in lines {
        context.output.line(line);
    }
    Ok(0)
}

/// A row for each instance that is seen or remembered: what was seen, and what it is.
fn rows(census: &Census, standings: &[(Standing, String)]) -> Vec<Vec<String>> {
    let mut head = ["  id", "image", "state", "health", "address", "age", "is"].map(str::to_owned).to_vec();
    let holds = census.instances.iter().any(|seen| seen.membership.is_some());
    if holds {
        head.insert(head.len() - 1, "role".to_owned());
    }
    let mut is: BTreeMap<_, _> = standings.iter().map(|(member, text)| (&member.id, text.clone())).collect();
    let seen: Vec<_> = census
        .instances
        .iter()
        .map(|i| {
            let mut row = vec![
                format!("  {}", i.id),
                i.image.map_or_else(|| "?".to_owned(), |image| image.short()),
                word(i.state),
                word(i.health),
                i.address.map_or_else(String::new, |address| address.to_string()),
                lasting(census.at.duration_since(i.launched_at)),
                is.remove(&i.id).unwrap_or_default(),
            ];
            if holds {
                row.insert(row.len() - 1, role(Some(i)));
            }
            row
        })
        .collect();
    let blank = || vec![String::new(); head.len() - 2];
    let unseen = is.into_iter().map(|(id, text)| [vec![format!("  {id}")], blank(), vec![text]].concat());
    std::iter::once(head.clone()).chain(seen).chain(unseen).collect()
}

/// The word that the JSON has too.
pub(super) fn word(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| Some(value.as_str()?.to_owned())).unwrap_or_default()
}

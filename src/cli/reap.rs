//! `rekiln reap`.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::Context;
use crate::error::{Error, Result};
use crate::fleet::journal::{Journal, Writer, fleets};
use crate::objects::Objects;
use crate::provider::local::{Qemu, reap};
use crate::store::Store;
use crate::vm::machine::all;

/// Arguments of `rekiln reap`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command and returns the exit code.
///
/// # Errors
/// What went wrong.
pub fn run(context: &Context, _args: Args) -> Result<u8> {
    let store = context.store()?;
    let running: Vec<_> = all()?.into_iter().map(|(_, dir)| dir).collect();
    let journals = context.block_on(context.all_journals(&store))?;
    let busy = context.block_on(rolling(&journals))?;
    for fleet in &busy {
        context.output.line(format!("fleet {fleet} is being rolled; what is its is left alone"));
    }
    let mut removed = reap(&store, &Qemu::new(store.clone()), &running, &busy)?;
    let failed = publications(context, &store, &mut removed)?;
    let failed = failed.or(builders(context, &store, &mut removed)?);
    let kept = leases(context, &journals, &busy, &mut removed)?;
    let failed = failed.or(kept).or(super::backup::reap(context, &mut removed));
    context.output.json(&serde_json::json!({ "event": "reaped", "removed": removed, "rolling": busy }));
    for line in &removed {
        context.output.line(format!("removed {line}"));
    }
    if removed.is_empty() && failed.is_none() {
        context.output.line("nothing to remove");
    }
    failed.map_or(Ok(0), Err)
}

/// Removes what unfinished publications made, and says what is left alone. Returns what could not be removed, when all
/// else was.
#[cfg(feature = "aws")]
fn publications(context: &Context, store: &Store, removed: &mut Vec<String>) -> Result<Option<Error>> {
    let work = || context.block_on(crate::publish::reap::reap(store));
    Ok(told(context, crate::interrupt::stoppable(work)?, removed))
}

/// Says what was left alone and all but the last of what could not be removed, which is returned.
#[cfg(feature = "aws")]
fn told(
    context: &Context,
    mut reaped: crate::publish::reap::Reaped,
    removed: &mut Vec<String>,
) -> Option<Error> {
    reaped.left.iter().for_each(|line| context.output.line(line));
    removed.extend(reaped.removed);
    let last = reaped.failed.pop();
    reaped.failed.iter().for_each(|error| context.output.error(error));
    last
}

/// Removes what unfinished bakes made in EC2, and says what is left alone. Returns what could not be removed, when all else
/// was.
#[cfg(all(feature = "aws", feature = "ssh"))]
fn builders(context: &Context, store: &Store, removed: &mut Vec<String>) -> Result<Option<Error>> {
    let reaped = context.block_on(crate::bake::derive::building::reap(store))?;
    Ok(told(context, reaped, removed))
}

/// Gives back what was changed of Auto Scaling groups for the time of rolls that are over.
#[cfg(feature = "aws")]
fn leases(
    context: &Context,
    journals: &[Objects],
    busy: &[String],
    removed: &mut Vec<String>,
) -> Result<Option<Error>> {
    let mut failed = Vec::new();
    for journals in journals {
        let work = || context.block_on(crate::provider::aws::group::give_back(journals, busy));
        let (given, kept) = crate::interrupt::stoppable(work)?;
        removed.extend(given);
        failed.extend(kept);
    }
    let last = failed.pop();
    for error in &failed {
        context.output.error(error);
    }
    Ok(last)
}

/// Without AWS and SSH no bake made anything there; what another rekiln made is said to be left.
#[cfg(not(all(feature = "aws", feature = "ssh")))]
fn builders(context: &Context, store: &Store, _removed: &mut [String]) -> Result<Option<Error>> {
    if !crate::store::directories(&store.root().join("building"))?.is_empty() {
        context
            .output
            .line("unfinished bakes in EC2 are left alone: this rekiln was built without AWS or SSH");
    }
    Ok(None)
}

/// Without AWS nothing can be given back there; nothing is claimed to be.
#[cfg(not(feature = "aws"))]
fn leases(context: &Context, journals: &[Objects], _: &[String], _: &mut [String]) -> Result<Option<Error>> {
    context.block_on(async {
        for groups in journals.iter().map(|journals| journals.under(crate::store::GROUPS)) {
            for fleet in groups.folders().await? {
                if !groups.under(&fleet).under("leases").list().await?.is_empty() {
                    context
                        .output
                        .line(format!("leases of {fleet} are left alone: this rekiln was built without AWS"));
                }
            }
        }
        Ok(None)
    })
}

/// Without AWS nothing can be removed there; nothing is claimed to be.
#[cfg(not(feature = "aws"))]
fn publications(context: &Context, store: &Store, _removed: &mut [String]) -> Result<Option<Error>> {
    let unfinished = crate::publish::ledger::entries(store)?.iter().filter(|e| e.published.is_none()).count();
    if unfinished > 0 {
        context.output.line(format!(
            "{unfinished} unfinished publications are left alone: this rekiln was built without AWS"
        ));
    }
    Ok(None)
}

/// Returns the fleets that a living process rolls: what it makes may have no record for a moment.
async fn rolling(journals: &[Objects]) -> Result<Vec<String>> {
    let mut busy = BTreeSet::new();
    for journals in journals {
        for name in fleets(journals).await? {
            let journal = Journal::open(journals, &name, Writer::this("rekiln reap")).await?;
            if journal.refuse_rival(Timestamp::now()).is_err() {
                busy.insert(name);
            }
        }
    }
    Ok(busy.into_iter().collect())
}

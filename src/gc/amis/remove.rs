//! Do: takes what was decided out of AWS.

use std::collections::BTreeSet;

use super::look::Clouds;
use super::{Decision, Kind};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::interrupt;
use crate::progress::{Event, Progress};
use crate::provider::aws::{Aws, insist};
use crate::publish::ledger::Ledger;
use crate::store::Store;

/// What was done.
#[derive(Debug, Default)]
pub struct Removed {
    /// What is gone.
    pub gone: Vec<Decision>,
    /// A line for each thing that stays, although it was to go.
    pub left: Vec<String>,
    /// What could not be removed; what was removed until then is removed.
    pub failed: Vec<Error>,
}

/// Removes what `agreed` removes, as far as `still`, a plan of this moment, removes it too. One that cannot be removed
/// keeps no other from it.
///
/// # Errors
/// It was interrupted.
pub async fn remove(
    store: &Store,
    clouds: &Clouds,
    agreed: &[Decision],
    still: &[Decision],
    progress: &dyn Progress,
) -> Result<Removed> {
    let still: BTreeSet<_> = still
        .iter()
        .filter(|decision| decision.removes())
        .map(|decision| (&decision.site, &decision.id))
        .collect();
    let going: Vec<&Decision> = agreed.iter().filter(|decision| decision.removes()).collect();
    let mut removed = Removed::default();
    for (number, decision) in going.iter().enumerate() {
        interrupt::check()?;
        let what = format!("{} in {}", decision.id, decision.site);
        let cloud = clouds.get(&decision.site);
        let Some(aws) = cloud.filter(|_| still.contains(&(&decision.site, &decision.id))) else {
            removed.left.push(format!("{what} stays: something reaches it by now"));
            continue;
        };
        match remove_one(store, aws, decision).await {
            Ok(End::Gone) => removed.gone.push((*decision).clone()),
            Ok(End::Without(snapshot, others)) => {
                removed.gone.push((*decision).clone());
                removed.left.push(format!("{snapshot} stays: {others} is made of it, too"));
            }
            Ok(End::Busy) => removed.left.push(format!("{what} stays: it is being published")),
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted) => return Err(error),
            Err(error) => removed.failed.push(error.during(format!("removing {what}"))),
        }
        let (scope, step) = ("gc".to_owned(), "removing AMIs".to_owned());
        let (done, total) = (number as u64 + 1, going.len() as u64);
        progress.tell(Event::Advanced { scope, step, done, total });
    }
    Ok(removed)
}

/// What became of one thing.
enum End {
    /// It is gone.
    Gone,
    /// It is gone without its snapshot, which others need.
    Without(String, String),
    /// A process works on it.
    Busy,
}

async fn remove_one(store: &Store, aws: &Aws, decision: &Decision) -> Result<End> {
    let Decision { kind, site, id, snapshot, protected, image, .. } = decision;
    let Some(ledger) = Ledger::try_take(store, &site.account, &site.region, *image)? else {
        return Ok(End::Busy);
    };
    let region = &site.region;
    let ids: Vec<String> = snapshot.iter().cloned().collect();
    let others = insist(region, || aws.registered(&ids)).await?.into_values().flatten();
    let others: Vec<String> = others.filter(|ami| ami != id).collect();
    if *kind == Kind::Ami {
        if *protected {
            insist(region, || aws.protect(id, false)).await?;
        }
        insist(region, || aws.deregister(id)).await?;
    }
    let mut end = End::Gone;
    if let Some(snapshot) = snapshot {
        if others.is_empty() {
            insist(region, || aws.delete_snapshot(snapshot)).await?;
        } else {
            end = End::Without(snapshot.clone(), others.join(", "));
        }
    }
    // What the entry says is what is gone.
    let own = ledger.entry()?.is_some_and(|entry| {
        entry.published.is_some() && (entry.ami.as_ref() == Some(id) || entry.snapshot.as_ref() == Some(id))
    });
    if own {
        ledger.remove()?;
    }
    Ok(end)
}

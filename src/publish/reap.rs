//! Do: removes what publications made that were never finished.

use super::ledger::{Entry, Ledger, entries};
use super::plan::{RUN_TAG, ami_name};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::provider::aws::{Aws, CallError, Patience};
use crate::store::Store;

/// What was removed, and what was left.
#[derive(Debug, Default)]
pub struct Reaped {
    /// A line for each thing that was removed.
    pub removed: Vec<String>,
    /// A line for each publication or bake that is left alone, and why.
    pub left: Vec<String>,
    /// What could not be removed; what was removed until then is removed.
    pub failed: Vec<Error>,
}

/// Removes everything that unfinished publications of the store made. AWS is asked only when there are any, and one that
/// cannot be removed keeps no other from it.
///
/// # Errors
/// A ledger entry that does not read: what it made may be anything.
pub async fn reap(store: &Store) -> Result<Reaped> {
    let mut reaped = Reaped::default();
    for found in entries(store)?.into_iter().filter(|entry| entry.published.is_none()) {
        interrupt::check()?;
        if let Err(error) = reap_one(store, &found, &mut reaped).await {
            let what = format!("removing what was made of image {} in {}", found.image.short(), found.region);
            reaped.failed.push(error.during(what));
        }
    }
    Ok(reaped)
}

async fn reap_one(store: &Store, found: &Entry, reaped: &mut Reaped) -> Result<()> {
    let place = format!("image {} in {} of account {}", found.image.short(), found.region, found.account);
    let Some(ledger) = Ledger::try_take(store, &found.account, &found.region, found.image)? else {
        reaped.left.push(format!("{place} is being published; what is its is left alone"));
        return Ok(());
    };
    // It may have been finished since it was read.
    let Some(entry) = ledger.entry()?.filter(|entry| entry.published.is_none()) else { return Ok(()) };
    let aws = Aws::connect(&entry.region, entry.role.as_deref()).await?;
    if aws.account != entry.account {
        reaped.left.push(format!("{place} was begun; these credentials are of account {}", aws.account));
        return Ok(());
    }
    let mut patience = Patience::default();
    while let Err(error) = remove(&aws, &entry, &mut reaped.removed).await {
        patience.after(error, &entry.region).await?;
    }
    ledger.remove()
}

async fn remove(aws: &Aws, entry: &Entry, removed: &mut Vec<String>) -> Result<(), CallError> {
    let what = format!("of image {} in {}", entry.image.short(), entry.region);
    let image = aws.image(&ami_name(&entry.recipe, entry.image)).await?;
    // One that another run registered is not this one's to remove.
    if let Some(image) = image.filter(|image| image.tags.get(RUN_TAG) == Some(&entry.run)) {
        if let Some(named) = &entry.named
            && aws.parameter(&named.parameter).await?.as_ref() == Some(&image.id)
        {
            match &named.before {
                Some(before) => aws.name(&named.parameter, before).await?,
                None => aws.delete_parameter(&named.parameter).await?,
            }
            removed.push(format!("the name {} {what}", named.parameter));
        }
        if image.protected {
            aws.protect(&image.id, false).await?;
        }
        aws.deregister(&image.id).await?;
        removed.push(format!("{} {what}", image.id));
    }
    let tagged = aws.snapshots(RUN_TAG, Some(&entry.run)).await?.into_iter().map(|snapshot| snapshot.id);
    let mut snapshots: Vec<String> = tagged.collect();
    // The list may not have it yet.
    if let Some(known) = entry.snapshot.clone().filter(|known| !snapshots.contains(known)) {
        let ours = aws.snapshot(&known).await?;
        snapshots.extend(ours.filter(|seen| seen.tags.get(RUN_TAG) == Some(&entry.run)).map(|seen| seen.id));
    }
    for snapshot in snapshots {
        aws.delete_snapshot(&snapshot).await?;
        removed.push(format!("{snapshot} {what}"));
    }
    Ok(())
}

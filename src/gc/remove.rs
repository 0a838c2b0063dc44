//! Do: takes what was decided out of the store.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::look::Sources;
use super::{Decision, Kind, Plan, Rules, plan};
use crate::claim::Lock;
use crate::digest::Digest;
use crate::error::{Doing as _, Result};
use crate::progress::{Event, Progress};
use crate::scratch::Scratch;
use crate::store::Store;

/// What was done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// What is gone.
    pub gone: BTreeSet<(Kind, Digest)>,
    /// What was to go, and is reached or gone by now.
    pub left: Vec<Decision>,
}

/// Removes what `agreed` removes, as far as it is still not reached. Tells `progress` after each thing that left its
/// place; what is told of is not in the store any more, whatever happens then.
///
/// # Errors
/// As [`Sources::look`], before anything is touched; the disk refuses. What left its place then is gone.
pub async fn remove(
    sources: Sources<'_>,
    rules: Rules,
    agreed: &Plan,
    progress: &dyn Progress,
) -> Result<Removed> {
    let store = sources.store;
    // Made before the lock is taken: what dead processes left is removed with it, and that may take a while.
    let scratch = Scratch::new(store, "gc")?;
    let alone = Lock::exclusive(store)?;
    let still = plan(&sources.look(false).await?, rules, Timestamp::now()).names();
    let (going, left): (Vec<_>, Vec<_>) =
        agreed.removed().partition(|decision| still.contains(&(decision.kind, decision.digest)));
    let mut removed = Removed { left: left.into_iter().cloned().collect(), ..Removed::default() };
    let taken = going.iter().try_for_each(|decision| {
        let (kind, digest) = (decision.kind, decision.digest);
        take_out(store, kind, digest, scratch.dir())?;
        removed.gone.insert((kind, digest));
        let (scope, step) = ("gc".to_owned(), "taking things out".to_owned());
        let (done, total) = (removed.gone.len() as u64, going.len() as u64);
        progress.tell(Event::Advanced { scope, step, done, total });
        Ok(())
    });
    // A crash of the host must not bring back an image whose files are half gone.
    for dir in [&store.images(), &store.layers(), &store.inputs(), scratch.dir()] {
        File::open(dir).and_then(|dir| dir.sync_all()).doing(|| format!("syncing {}", dir.display()))?;
    }
    // The rest is nobody's: bakes need not wait for it.
    drop(alone);
    let dir = scratch.dir();
    fs::remove_dir_all(dir)
        .doing(|| format!("removing {}", dir.display()))
        .map_err(|error| error.hint("nothing needs what is left there; the next run removes it"))?;
    taken.map(|()| removed)
}

/// Takes a thing out of its place in one step.
fn take_out(store: &Store, kind: Kind, digest: Digest, to: &Path) -> Result<()> {
    let (from, name): (PathBuf, _) = match kind {
        Kind::Image => (store.image(digest), "image"),
        Kind::Layer => (store.layer(digest), "layer"),
        // One file; the vault may be a file system of its own.
        Kind::Input => {
            let file = store.vault(digest);
            return fs::remove_file(&file).doing(|| format!("removing {}", file.display()));
        }
    };
    fs::rename(&from, to.join(format!("{name}-{digest}")))
        .doing(|| format!("taking {} out of the store", from.display()))
}

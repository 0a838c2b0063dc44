//! What a process is about to use of the store, said before it looks whether it is there, so that nothing of it is
//! collected under its hands.
//!
//! A claim is a file in the scratch space of its process, and ends with it. One lock orders claims and collections:
//! a claim is written under a shared one, and a collection takes things away under an exclusive one, so that it either
//! sees the claim, or is over before the claimant looks. Both hold it for moments only, and nobody waits for a bake.

use std::collections::BTreeSet;
use std::fs::{self, File};

use rustix::fs::{FlockOperation, flock};
use rustix::io::retry_on_intr;
use serde::{Deserialize, Serialize};

use crate::atomic_write::atomic_write;
use crate::digest::{Digest, ImageId};
use crate::error::{Doing as _, Result};
use crate::scratch::{Scratch, sweep};
use crate::store::Store;

/// The file in the scratch space.
const FILE: &str = "claim.json";

/// What is claimed, and by whom.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// What uses it, in words that go before "uses it", such as `a bake`.
    pub by: String,
    /// Images, whether they are there or not.
    #[serde(default)]
    pub images: BTreeSet<ImageId>,
    /// Layers by key, whether they are there or not.
    #[serde(default)]
    pub layers: BTreeSet<Digest>,
    /// Inputs in the vault, whether they are there or not.
    #[serde(default)]
    pub inputs: BTreeSet<Digest>,
}

/// A claim that holds until it is dropped, or until its process ends.
#[derive(Debug)]
#[must_use]
pub struct Claim {
    _scratch: Scratch,
}

/// The store's lock, held until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Lock {
    _file: File,
}

impl Claimed {
    /// Claims one image.
    #[must_use]
    pub fn image(by: impl Into<String>, image: ImageId) -> Self {
        Self { by: by.into(), images: BTreeSet::from([image]), ..Self::default() }
    }

    /// Writes the claim. Whether something is there must be looked at after it.
    ///
    /// # Errors
    /// The store cannot be locked or written.
    pub fn hold(&self, store: &Store) -> Result<Claim> {
        let _while_nothing_is_collected = Lock::shared(store)?;
        let scratch = Scratch::new(store, "claim")?;
        let text = serde_json::to_vec(self).doing(|| "describing a claim")?;
        atomic_write(&scratch.dir().join(FILE), &text)?;
        Ok(Claim { _scratch: scratch })
    }
}

impl Lock {
    /// Keeps collections out.
    ///
    /// # Errors
    /// The lock's file cannot be made or locked.
    pub fn shared(store: &Store) -> Result<Self> {
        Self::take(store, FlockOperation::LockShared)
    }

    /// Keeps claims and other collections out.
    ///
    /// # Errors
    /// The lock's file cannot be made or locked.
    pub fn exclusive(store: &Store) -> Result<Self> {
        Self::take(store, FlockOperation::LockExclusive)
    }

    fn take(store: &Store, operation: FlockOperation) -> Result<Self> {
        let path = store.root().join("gc.lock");
        let doing = || format!("locking {}", path.display());
        let file = File::options().create(true).append(true).open(&path).doing(doing)?;
        retry_on_intr(|| flock(&file, operation)).doing(doing)?;
        Ok(Self { _file: file })
    }
}

/// Returns every claim of a living process, with its number. It is complete while the caller holds the exclusive lock.
///
/// # Errors
/// A claim that cannot be read: what it is about may be anything.
pub fn all(store: &Store) -> Result<Vec<(String, Claimed)>> {
    // What is there then is of processes that live.
    sweep(store)?;
    let mut claims = Vec::new();
    for process in fs::read_dir(store.tmp()).doing(|| "listing scratch space")?.flatten() {
        let name = process.file_name().to_string_lossy().into_owned();
        let pid = name.split_once('-').map_or(name.as_str(), |(pid, _)| pid);
        for dir in fs::read_dir(process.path()).into_iter().flatten().flatten() {
            let file = dir.path().join(FILE);
            let doing = || format!("reading the claim {}", file.display());
            match fs::read(&file) {
                Ok(text) => claims.push((pid.to_owned(), serde_json::from_slice(&text).doing(doing)?)),
                // Other scratch space, or a claim that has just ended.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).doing(doing),
            }
        }
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_ends_with_who_made_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().display().to_string()).expect("a store");
        let claimed = Claimed::image("a test", Digest::of(b"image"));
        let claim = claimed.hold(&store).expect("held");
        assert_eq!(all(&store).expect("read"), [(std::process::id().to_string(), claimed.clone())]);
        // That of a process that was killed says nothing any more.
        let dead = store.tmp().join("4194304-1/0-claim");
        fs::create_dir_all(&dead).expect("made");
        fs::write(dead.join(FILE), "no claim").expect("written");
        assert_eq!(all(&store).expect("read").len(), 1);
        drop(claim);
        assert_eq!(all(&store).expect("read"), []);
    }

    #[test]
    fn who_collects_is_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().display().to_string()).expect("a store");
        let free = |operation| {
            let file = File::open(dir.path().join("gc.lock")).expect("opened");
            flock(&file, operation).is_ok()
        };
        let (shared, exclusive) =
            (FlockOperation::NonBlockingLockShared, FlockOperation::NonBlockingLockExclusive);
        let claimant = Lock::shared(&store).expect("locked");
        assert!(free(shared) && !free(exclusive));
        drop(claimant);
        let _collector = Lock::exclusive(&store).expect("locked");
        assert!(!free(shared) && !free(exclusive));
    }
}

//! The vault: inputs by digest. A name that is there is whole, and every use checks the bytes.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::digest::Digest;
use crate::error::{Doing as _, Error, Result};
use crate::store::Store;

/// Opens the input with this digest, after checking all of its bytes.
///
/// # Errors
/// An input that is not there, or whose bytes do not match its name.
pub fn open(store: &Store, digest: Digest) -> Result<File> {
    let path = store.vault(digest);
    let what = || format!("opening the input {}", path.display());
    let mut file = File::open(&path).doing(what)?;
    let got = Digest::of_reader(&file).doing(what)?;
    if got != digest {
        return Err(Error::failed(format!("{} is damaged: its bytes have the digest {got}", path.display()))
            .hint(format!("remove it with `rm {}`; the next run fetches it again", path.display())));
    }
    file.seek(SeekFrom::Start(0)).doing(what)?;
    Ok(file)
}

/// Returns the path of the input with this digest, after checking all of its bytes.
///
/// # Errors
/// As [`open`].
pub fn verified(store: &Store, digest: Digest) -> Result<PathBuf> {
    open(store, digest).map(|_| store.vault(digest))
}

/// Tells whether the vault has an input of this digest and size; the bytes are checked when it is used.
#[must_use]
pub fn has(store: &Store, digest: Digest, size: u64) -> bool {
    fs::metadata(store.vault(digest)).is_ok_and(|meta| meta.is_file() && meta.len() == size)
}

/// Moves a file of the store's scratch space, whose bytes the caller has checked, into the vault.
///
/// # Errors
/// Whatever the rename returns.
pub fn keep(store: &Store, checked: &Path, digest: Digest) -> Result<()> {
    let path = store.vault(digest);
    fs::rename(checked, &path).doing(|| format!("moving a fetched file to {}", path.display()))
}

/// A directory for half-written files; removed at the end, or by the next run after a crash.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes an empty directory in the store's scratch space, and removes those of dead processes.
    ///
    /// # Errors
    /// Whatever making the directory returns.
    pub fn new(store: &Store) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        sweep(&store.tmp());
        let pid = std::process::id();
        let own = format!("{pid}-{}", started(pid).unwrap_or_default());
        let path = store.tmp().join(own).join(format!("fetch-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&path).doing(|| format!("creating {}", path.display()))?;
        Ok(Self { path })
    }

    /// Returns the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The process's own directory stays: another thread may be making its scratch in it right now.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes what processes that no longer live left behind; best effort, since nothing depends on it.
fn sweep(tmp: &Path) {
    for entry in fs::read_dir(tmp).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some((pid, start)) = name.to_str().and_then(|name| name.split_once('-')) else { continue };
        let (Ok(pid), Ok(start)) = (pid.parse::<u32>(), start.parse::<u64>()) else { continue };
        if started(pid) != Some(start) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Returns when a process started, in ticks since boot: with the pid, it tells a process from a later one.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the name in parentheses, may hold blanks; `starttime` is the 22nd.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().display().to_string()).expect("a store");
        (dir, store)
    }

    #[test]
    fn damaged_input_is_refused_on_use() {
        let (_dir, store) = store();
        let digest = Digest::of(b"input");
        let scratch = Scratch::new(&store).expect("scratch");
        fs::write(scratch.path().join("x"), b"input").expect("written");
        keep(&store, &scratch.path().join("x"), digest).expect("kept");
        assert!(has(&store, digest, 5) && open(&store, digest).is_ok());
        fs::write(store.vault(digest), b"inpuT").expect("written");
        assert!(has(&store, digest, 5));
        assert!(open(&store, digest).expect_err("refused").chain().contains("damaged"));
    }

    #[test]
    fn only_dead_processes_lose_their_scratch() {
        let (_dir, store) = store();
        // Process 1 lives, but did not start at the end of time.
        let dead = store.tmp().join(format!("1-{}/fetch-0", u64::MAX));
        fs::create_dir_all(&dead).expect("made");
        let other = store.tmp().join("notes");
        fs::create_dir_all(&other).expect("made");
        let first = Scratch::new(&store).expect("scratch");
        let second = Scratch::new(&store).expect("scratch");
        assert!(!dead.exists() && other.exists());
        assert!(first.path().is_dir() && second.path().is_dir() && first.path() != second.path());
        drop(second);
        assert!(first.path().is_dir());
    }
}

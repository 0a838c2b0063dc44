//! Scratch space that cannot outlive its process for long: named after the process, removed when dropped, and
//! removed by the next run when the process was killed.

use std::path::{Path, PathBuf};

use crate::error::{Doing as _, Result};
use crate::process::start_time;
use crate::store::Store;

/// A directory in the store's `tmp/`, removed with everything in it when dropped.
#[derive(Debug)]
pub struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    /// Makes a new directory for `purpose`, after removing those of dead processes.
    ///
    /// # Errors
    /// Whatever making the directory returns.
    pub fn new(store: &Store, purpose: &str) -> Result<Self> {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        sweep(store)?;
        let pid = std::process::id();
        let start = start_time(pid).unwrap_or_default();
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = store.tmp().join(format!("{pid}-{start}")).join(format!("{number}-{purpose}"));
        let mut made = std::fs::create_dir_all(&dir);
        // Another thread may remove the process's own directory, empty at that moment, while this one is made.
        for _ in 0..10 {
            match made {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    made = std::fs::create_dir_all(&dir);
                }
                _ => break,
            }
        }
        made.doing(|| format!("making scratch space {}", dir.display()))?;
        Ok(Self { dir })
    }

    /// Returns the directory; absolute.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes an empty directory in it and returns its path.
    ///
    /// # Errors
    /// Whatever making the directory returns.
    pub fn subdirectory(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        std::fs::create_dir(&path).doing(|| format!("making {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next run.
        let _ = std::fs::remove_dir_all(&self.dir);
        if let Some(parent) = self.dir.parent() {
            let _ = std::fs::remove_dir(parent);
        }
    }
}

/// Removes the scratch space of processes that are gone and returns what was removed.
///
/// # Errors
/// Whatever listing the directory returns.
pub fn sweep(store: &Store) -> Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    let entries = std::fs::read_dir(store.tmp()).doing(|| "listing scratch space")?;
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let alive = name.split_once('-').is_some_and(|(pid, start)| {
            pid.parse().ok().and_then(start_time).is_some_and(|found| found.to_string() == start)
        });
        if !alive && std::fs::remove_dir_all(entry.path()).is_ok() {
            removed.push(entry.path());
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_processes_leave_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().display().to_string()).expect("a store");
        let dead = store.tmp().join("4194304-1/0-disk");
        std::fs::create_dir_all(&dead).expect("made");
        let reused = store.tmp().join(format!("{}-1", std::process::id()));
        std::fs::create_dir_all(&reused).expect("made");
        let scratch = Scratch::new(&store, "disk").expect("made");
        assert!(!dead.exists() && !reused.exists());
        let kept = scratch.dir().to_owned();
        assert!(kept.is_dir());
        assert!(sweep(&store).expect("swept").is_empty());
        drop(scratch);
        assert!(!kept.exists());
    }
}

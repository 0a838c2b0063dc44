//! Files that a reader sees as they were or as they are, never in part.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Doing as _, Result};
use crate::process::start_time;

/// Replaces the file at `path`, whether it is there or not: written beside it, synced, renamed over it, and the
/// directory synced, so that the new name outlives a crash of the host.
///
/// What a writer of the same file left there when it was killed is removed.
///
/// # Errors
/// Whatever writing returns; then the old file is as it was.
pub fn atomic_write(path: &Path, bytes: &[u8]) -> Result<()> {
    let doing = || format!("writing {}", path.display());
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    remove_remains(dir, path);
    let aside = aside(path);
    let write = || {
        let mut file = File::create(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        File::open(dir)?.sync_all()
    };
    write().doing(doing).inspect_err(|_| {
        let _ = fs::remove_file(&aside);
    })
}

/// Hidden, so that nobody who lists the directory takes it for one of its files; another one for each write.
fn aside(path: &Path) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!("{}{}-{number}", prefix(path), std::process::id()))
}

fn prefix(path: &Path) -> String {
    format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy())
}

/// Best effort: what stays is never read.
fn remove_remains(dir: &Path, path: &Path) {
    let prefix = prefix(path);
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let writer =
            name.to_str().and_then(|name| name.strip_prefix(&prefix)?.split_once('-')?.0.parse().ok());
        if writer.is_some_and(|pid: u32| start_time(pid).is_none()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("web.lock");
        // Process numbers end far below this one.
        fs::write(dir.path().join(".web.lock.4194305-0"), "half").expect("written");
        atomic_write(&path, b"one").expect("written");
        atomic_write(&path, b"two").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"two");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
    }

    #[test]
    fn a_failure_changes_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let taken = dir.path().join("taken");
        fs::create_dir(&taken).expect("made");
        let error = atomic_write(&taken, b"x").expect_err("a directory is no file");
        assert!(error.chain().contains("taken"), "{error:?}");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
        assert!(taken.is_dir());
    }
}

//! The lock of an image that is derived from a vendor's disk: the disk and the artifacts by digest, and a moment.
//!
//! What the vendor's archive installs is not known before the machine runs. The moment of locking stands for it, so
//! that a new lock gives a new image id, and the packages found in the image are in its record.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{Lock, LockedFetch, resolve};
use crate::digest::Digest;
use crate::error::{Doing as _, Error, Result};
use crate::recipe::{DiskSource, Recipe};

/// Returns where the vendor's disk lies; `root` is the repository's.
#[must_use]
pub fn path(root: &Path, source: &DiskSource) -> PathBuf {
    // An absolute path replaces the root.
    root.join(&source.path)
}

/// Checks that the vendor's disk is there and is the one that the recipe means. Returns where it lies.
///
/// # Errors
/// No such file, one that cannot be read, and one with another digest.
pub fn check(root: &Path, source: &DiskSource) -> Result<PathBuf> {
    let path = path(root, source);
    let shown = path.display();
    if !path.is_file() {
        return Err(Error::failed(format!("the vendor's disk {shown} is not there")).hint(
            "download it from its vendor, check it against the digests that the vendor signs, and put it there; or \
             change `path` in [source] disk",
        ));
    }
    let found = Digest::of_file(&path).doing(|| format!("reading {shown}"))?;
    if found == source.sha256 {
        return Ok(path);
    }
    Err(Error::failed(format!(
        "{shown} is not the disk that the recipe means\n  expected  {}\n  got       {found}",
        source.sha256
    ))
    .hint(format!("if it is the one you want, write `sha256 = \"{found}\"` into [source] disk of the recipe"))
    .hint("if not, bring the other one: a machine that ran from the file itself has changed it"))
}

/// Makes the lock of `recipe`, whose disk was checked.
///
/// `now` is the moment of locking. When `old` was made later, by another clock, the new lock is one second after it:
/// two locks of an image are never of the same moment, or a refreshed one would give no new image id.
#[must_use]
pub fn lock(recipe: &Recipe, fetches: Vec<LockedFetch>, old: Option<&Lock>, now: Timestamp) -> Lock {
    let after = old.map_or(i64::MIN, |old| old.epoch.saturating_add(1));
    Lock {
        version: 1,
        asked: resolve::asked(recipe, None, architecture()),
        epoch: now.as_second().max(after),
        tools: [].into(),
        suites: Vec::new(),
        packages: Vec::new(),
        fetches,
        layout: None,
    }
}

/// Returns this computer's architecture in Debian's words; machines here run it and no other.
///
/// A host that bakes from vendors' disks alone needs no dpkg to ask.
#[must_use]
pub const fn architecture() -> &'static str {
    match std::env::consts::ARCH.as_bytes() {
        b"x86_64" => "amd64",
        b"aarch64" => "arm64",
        _ => std::env::consts::ARCH,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::stale::stale;

    const DISK: &[u8] = b"a vendor's disk";

    fn recipe(path: &str) -> Recipe {
        let sha256 = Digest::of(DISK);
        toml::from_str(&format!(
            "packages = ['nginx=1.22.1-9']\n[source]\ndisk = {{ path = '{path}', sha256 = '{sha256}' }}"
        ))
        .expect("the test's recipe is one")
    }

    #[test]
    fn a_disk_is_the_one_that_is_meant() {
        let root = tempfile::tempdir().expect("a directory");
        let recipe = recipe("vendor.raw");
        let Some(crate::recipe::Vendor::Disk(source)) = recipe.source.vendor() else { panic!("no disk") };
        let absent = check(root.path(), source).expect_err("it is not there");
        assert!(absent.chain().contains("vendor.raw is not there"), "{absent:?}");
        let file = root.path().join("vendor.raw");
        std::fs::write(&file, b"another").expect("written");
        let other = check(root.path(), source).expect_err("it is another");
        let found = Digest::of(b"another").to_string();
        assert!(other.chain().contains(&found) && other.hints()[0].contains(&found), "{other:?}");
        std::fs::write(&file, DISK).expect("written");
        assert_eq!(check(root.path(), source).expect("it is the one"), file);
        let absolute = DiskSource { path: file.display().to_string(), ..source.clone() };
        assert_eq!(check(Path::new("/nowhere"), &absolute).expect("it is the one"), file);
    }

    #[test]
    fn each_lock_is_of_a_later_moment() {
        let recipe = recipe("vendor.raw");
        let at = |second| Timestamp::from_second(second).expect("a time");
        let first = lock(&recipe, Vec::new(), None, at(100));
        assert_eq!((first.epoch, first.version), (100, 1));
        assert_eq!(first.asked.source, format!("disk:{}", Digest::of(DISK)));
        assert_eq!(stale(&recipe, None, &first), Vec::<String>::new());
        assert_eq!(Lock::parse(&first.to_text()).expect("it parses"), first);
        for (now, expected) in [(200, 200), (100, 101), (50, 101)] {
            assert_eq!(lock(&recipe, Vec::new(), Some(&first), at(now)).epoch, expected);
        }
    }
}

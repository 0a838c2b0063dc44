//! A finished tree becomes a read-only layer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::arrange;
use super::layers::{LayerPlan, Make};
use super::layout::derived_uuid;
use super::owners::owners;
use super::relocate::Made;
use crate::digest::Digest;
use crate::error::{Doing as _, Result};
use crate::lock::{Package, Places};
use crate::process::Run as _;
use crate::store::{Store, directories};

/// A layer in the store: `layers/<key>/{tree,layer.erofs,layer.json}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sealed {
    /// The digest of its inputs.
    pub key: Digest,
    /// The digest of `layer.erofs`.
    pub sha256: Digest,
    /// Bytes of `layer.erofs`; a multiple of 4096.
    pub size: u64,
    /// Wall-clock seconds that making it took, by step.
    pub seconds: BTreeMap<String, f64>,
    /// Where its packages lie, when it is a layer of packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub places: Option<Places>,
    /// The digest of its packages, in their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packages: Option<Digest>,
}

fn packages_digest(packages: &[Package]) -> Digest {
    let digests: String = packages.iter().map(|package| package.sha256.to_string()).collect();
    Digest::of(digests.as_bytes())
}

impl Sealed {
    /// Returns the layer with this key if the store has it whole.
    #[must_use]
    pub fn load(store: &Store, key: Digest) -> Option<Self> {
        let text = std::fs::read(store.layer(key).join("layer.json")).ok()?;
        let sealed: Self = serde_json::from_slice(&text).ok()?;
        (sealed.key == key).then_some(sealed)
    }

    /// Returns where packages lie in the newest layer of just these, if the store has one.
    ///
    /// # Errors
    /// A directory that cannot be listed.
    pub fn places_of(store: &Store, packages: &[Package]) -> Result<Option<Places>> {
        let wanted = packages_digest(packages);
        let layers = directories(&store.layers())?;
        let keys = layers.iter().filter_map(|dir| dir.file_name()?.to_str()?.parse().ok());
        let sealed = keys.filter_map(|key| Self::load(store, key));
        let made =
            |layer: &Self| std::fs::metadata(Self::bytes(store, layer.key)).and_then(|it| it.modified());
        let newest =
            sealed.filter(|layer| layer.packages == Some(wanted)).max_by_key(|layer| made(layer).ok());
        Ok(newest.and_then(|layer| layer.places))
    }

    /// Returns the tree that children are built on.
    #[must_use]
    pub fn tree(store: &Store, key: Digest) -> PathBuf {
        store.layer(key).join("tree")
    }

    /// Returns the file with the layer's bytes.
    #[must_use]
    pub fn bytes(store: &Store, key: Digest) -> PathBuf {
        store.layer(key).join("layer.erofs")
    }
}

/// Seals the tree in `dir/tree`, made as `plan` says, as `dir/layer.erofs`, leaving out what `excluded` (extended regular
/// expressions over paths without the leading slash) matches, and moves `dir` into the store.
///
/// # Errors
/// Whatever walking the tree or `mkfs.erofs` returns.
pub fn seal(
    store: &Store,
    dir: &Path,
    plan: &LayerPlan,
    excluded: &[String],
    mut seconds: BTreeMap<String, f64>,
) -> Result<Sealed> {
    let start = std::time::Instant::now();
    let LayerPlan { key, epoch, ref make, .. } = *plan;
    let tree = dir.join("tree");
    strip_overlay_marks(&tree)?;
    let bytes = dir.join("layer.erofs");
    let mut command = Command::new("mkfs.erofs");
    // mkfs.erofs takes the caller's SOURCE_DATE_EPOCH over its own argument.
    command
        .env("LC_ALL", "C")
        .env("SOURCE_DATE_EPOCH", epoch.to_string())
        // Each file has blocks of its own, which can be placed; inside inodes, tails would move with every name.
        .args(["--quiet", "-x", "1", "-E", "noinline_data"])
        .arg(format!("-T{epoch}"));
    command.arg(format!("-U{}", derived_uuid("layer", key)));
    if !excluded.is_empty() {
        command.arg(format!("--exclude-regex={}", excluded.join("|")));
    }
    let made = dir.join("made.erofs");
    command.arg(&made).arg(&tree).run()?;
    let places =
        place(&made, &bytes, &tree, make).map_err(|error| error.during("placing the layer's files"))?;
    std::fs::remove_file(&made).doing(|| "removing the layer as it was made")?;
    let size = std::fs::metadata(&bytes).doing(|| "measuring the layer")?.len();
    let sha256 = Digest::of_file(&bytes).doing(|| "digesting the layer")?;
    seconds.insert("seal".to_owned(), start.elapsed().as_secs_f64());
    let packages = match make {
        Make::Packages { locked, .. } => Some(packages_digest(locked)),
        Make::Files(_) => None,
    };
    let sealed = Sealed { key, sha256, size, seconds, places, packages };
    let record = serde_json::to_vec_pretty(&sealed).doing(|| "describing the layer")?;
    std::fs::write(dir.join("layer.json"), record).doing(|| "recording the layer")?;
    publish(dir, &store.layer(key))?;
    Ok(sealed)
}

/// Writes the file system in `from` to `to`, with each file where it is to lie. Returns where packages lie.
fn place(from: &Path, to: &Path, tree: &Path, make: &Make) -> Result<Option<Places>> {
    let whole = Made::read(from)?;
    let (metadata, extents) = (whole.metadata(), whole.extents());
    let arranged = match make {
        Make::Packages { basis, .. } => arrange::packages(metadata, extents, &owners(tree)?, basis.as_ref()),
        Make::Files(_) => arrange::files(metadata, extents),
    };
    whole.write(to, &arranged.first, arranged.end)?;
    Ok(arranged.places)
}

/// Moves a finished directory to its place; when another process was faster, its equal is kept.
fn publish(dir: &Path, place: &Path) -> Result<()> {
    if std::fs::rename(dir, place).is_ok() {
        return Ok(());
    }
    if place.join("layer.json").exists() {
        return Ok(());
    }
    // A half one can only be what an older version or a person left there.
    let _ = std::fs::remove_dir_all(place);
    std::fs::rename(dir, place).doing(|| format!("moving a layer to {}", place.display()))
}

/// Removes the notes overlayfs keeps for itself on copied-up files: they name inode numbers of this host.
/// Whiteouts and `trusted.overlay.opaque` stay; they are content.
fn strip_overlay_marks(tree: &Path) -> Result<()> {
    let mut todo = vec![tree.to_owned()];
    while let Some(path) = todo.pop() {
        let found = std::fs::symlink_metadata(&path).doing(|| format!("looking at {}", path.display()))?;
        if found.is_dir() {
            let entries = std::fs::read_dir(&path).doing(|| format!("listing {}", path.display()))?;
            for entry in entries {
                todo.push(entry.doing(|| format!("listing {}", path.display()))?.path());
            }
        } else if !found.is_file() {
            continue;
        }
        for name in xattr::list(&path).doing(|| format!("reading the attributes of {}", path.display()))? {
            let own = name
                .to_str()
                .is_some_and(|name| name.starts_with("trusted.overlay.") && name != "trusted.overlay.opaque");
            if own {
                xattr::remove(&path, &name).doing(|| format!("cleaning {}", path.display()))?;
            }
        }
    }
    Ok(())
}

//! The store: everything rekiln keeps that is not in Git.

use std::path::{Path, PathBuf};

use crate::digest::{Digest, ImageId};
use crate::error::{Doing as _, Error, Result};
use crate::objects::Objects;

/// Where what is under way in Auto Scaling groups lies, one folder a fleet: launches, ends and leases, and names that were
/// given up.
pub const GROUPS: &str = "aws";

/// The store at one URL. Bakes and local fleets need a `file://` store.
///
/// ```text
/// vault/<sha256>            inputs by digest: packages, fetched artifacts
/// layers/<key>/             layers of images by input digest
/// images/<id>/              disk.raw, record.json (written last), kernel, initrd, cmdline, console logs
/// journal/<fleet>/<number>  append-only intents and outcomes
/// local/<fleet>/            the machines of a local fleet
/// watch/<branch>/<number>   what watchers of a branch decided and did
/// quarantine/<id>.json      images that no fleet may launch
/// breaker/                  rollouts that failed
/// pins/<id>.json            images that are kept whatever else reaches them
/// aws/<fleet>/              launches, ends and leases of an Auto Scaling group that are under way, and names given up
/// published/<account>/<region>/<id>/  what was made of an image there, written before it was made
/// gc.lock                   orders claims and collections
/// tmp/<pid>-<start>/        scratch of a living process; anything else in it is removed by the next run
/// ```
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the store at `url` (`file://…` or a path), creating it when it is not there.
    ///
    /// # Errors
    /// Another scheme, and whatever creating the directories returns.
    pub fn open(url: &str) -> Result<Self> {
        let path = match url.split_once("://") {
            None => url,
            Some(("file", path)) => path,
            Some((scheme, _)) => {
                return Err(Error::invalid(format!(
                    "the store `{url}` is not usable here: `{scheme}://` is not a directory"
                ))
                .hint(
                    "use a directory or a file:// URL: bakes need one. A fleet that several computers roll keeps its \
                     journal in a bucket: `journal = \"s3://…\"` in its `[aws]`",
                ));
            }
        };
        let root = std::path::absolute(path).doing(|| format!("finding the store {path}"))?;
        for part in ["vault", "layers", "images", "journal", "local", "tmp"] {
            let dir = root.join(part);
            std::fs::create_dir_all(&dir)
                .doing(|| format!("creating the store directory {}", dir.display()))?;
        }
        Ok(Self { root })
    }

    /// Returns the directory of the store; absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns what lies in the store by its name.
    #[must_use]
    pub fn objects(&self) -> Objects {
        Objects::Directory(self.root.clone())
    }

    /// Returns where is kept what a fleet has to know of others that its journal does not have: here, and beside the
    /// journal where that is shared.
    #[must_use]
    pub fn and(&self, journals: &Objects) -> Vec<Objects> {
        match journals {
            Objects::Directory(_) => vec![self.objects()],
            Objects::Bucket(_) => vec![self.objects(), journals.clone()],
        }
    }

    /// Returns where the input with this digest lies, whether it is there or not.
    #[must_use]
    pub fn vault(&self, digest: Digest) -> PathBuf {
        self.root.join("vault").join(digest.to_string())
    }

    /// Returns the directory of the layer with this key.
    #[must_use]
    pub fn layer(&self, key: Digest) -> PathBuf {
        self.root.join("layers").join(key.to_string())
    }

    /// Returns the directory of the image with this id. Its disk is `disk.raw` in it.
    #[must_use]
    pub fn image(&self, id: ImageId) -> PathBuf {
        self.root.join("images").join(id.to_string())
    }

    /// Returns the directory of all images.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// Returns the directory of all layers.
    #[must_use]
    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// Returns the directory of all inputs.
    #[must_use]
    pub fn inputs(&self) -> PathBuf {
        self.root.join("vault")
    }

    /// Returns the directory of the journals, one directory a fleet.
    #[must_use]
    pub fn journals(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// Returns the directory that holds the machines of a local fleet.
    #[must_use]
    pub fn local(&self, fleet: &str) -> PathBuf {
        self.root.join("local").join(fleet)
    }

    /// Returns the directory of the machines of all local fleets, one directory a fleet.
    #[must_use]
    pub fn locals(&self) -> PathBuf {
        self.root.join("local")
    }

    /// Returns the directory of all that is kept of quarantined instances, one directory a fleet.
    #[must_use]
    pub fn evidences(&self) -> PathBuf {
        self.root.join("evidence")
    }

    /// Returns where what is kept of quarantined instances of a fleet lies; no command removes it.
    #[must_use]
    pub fn evidence(&self, fleet: &str) -> PathBuf {
        self.root().join("evidence").join(fleet)
    }

    /// Returns the directory of scratch space, one directory a process.
    #[must_use]
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }
}

/// Returns the directories in `dir`, in the order of their names; none when it is not there.
///
/// # Errors
/// It cannot be listed.
pub fn directories(dir: &Path) -> Result<Vec<PathBuf>> {
    let doing = || format!("listing {}", dir.display());
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.doing(doing)?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<_> = paths.collect::<std::io::Result<_>>().doing(doing)?;
    paths.retain(|path| path.is_dir());
    paths.sort();
    Ok(paths)
}

//! Images that no fleet may launch until a person clears them: `quarantine/<id>.json` in the store.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::atomic_write::atomic_write;
use crate::digest::ImageId;
use crate::error::{Doing as _, Error, Result};
use crate::store::Store;

/// One quarantined image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The image.
    pub image: ImageId,
    /// Why.
    pub reason: String,
    /// The fleet whose rollout failed, or the person's command.
    pub by: String,
    /// Since when.
    pub at: Timestamp,
}

impl fmt::Display for Quarantined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is quarantined by {} since {}: {}", self.by, self.at, self.reason)
    }
}

/// The quarantine of a store.
#[derive(Debug, Clone)]
pub struct Quarantine {
    dir: PathBuf,
}

impl Quarantine {
    /// Opens the quarantine of a store.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        Self { dir: store.root().join("quarantine") }
    }

    fn file(&self, image: ImageId) -> PathBuf {
        self.dir.join(format!("{image}.json"))
    }

    /// Returns why an image is quarantined; `None` when it is not.
    ///
    /// # Errors
    /// The entry cannot be read: then nobody can say that the image is good.
    pub fn get(&self, image: ImageId) -> Result<Option<Quarantined>> {
        let file = self.file(image);
        let doing = || format!("reading {}", file.display());
        match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).doing(doing).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing(doing),
        }
    }

    /// Quarantines an image. One that is quarantined already keeps its first reason.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn add(&self, entry: &Quarantined) -> Result<()> {
        if self.file(entry.image).exists() {
            return Ok(());
        }
        fs::create_dir_all(&self.dir).doing(|| format!("creating {}", self.dir.display()))?;
        let text = serde_json::to_vec_pretty(entry).doing(|| "describing a quarantine")?;
        atomic_write(&self.file(entry.image), &text)
    }

    /// Lets an image be launched again.
    ///
    /// # Errors
    /// It is not quarantined; the store cannot be written.
    pub fn clear(&self, image: ImageId) -> Result<()> {
        match fs::remove_file(self.file(image)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::failed(format!("image {} is not quarantined", image.short()))
                    .hint("`rekiln quarantine list` lists those that are"))
            }
            other => other.doing(|| format!("clearing image {}", image.short())),
        }
    }

    /// Returns all entries, the newest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(&self) -> Result<Vec<Quarantined>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir).into_iter().flatten() {
            let name = entry.doing(|| "listing the quarantine")?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse().ok());
            if let Some(id) = id {
                all.extend(self.get(id)?);
            }
        }
        all.sort_by(|a, b| b.at.cmp(&a.at).then(a.image.cmp(&b.image)));
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn the_first_reason_stays_until_it_is_cleared() {
        let dir = tempfile::tempdir().expect("a directory");
        let quarantine = Quarantine::new(&Store::open(&dir.path().display().to_string()).expect("a store"));
        let image = Digest::of(b"bad");
        let entry = |reason: &str| Quarantined {
            image,
            reason: reason.to_owned(),
            by: "fleet web".to_owned(),
            at: Timestamp::UNIX_EPOCH,
        };
        assert_eq!(quarantine.list().expect("listed"), []);
        quarantine.add(&entry("first")).expect("added");
        quarantine.add(&entry("second")).expect("added");
        assert_eq!(quarantine.get(image).expect("read"), Some(entry("first")));
        assert_eq!(quarantine.list().expect("listed"), [entry("first")]);
        quarantine.clear(image).expect("cleared");
        assert_eq!(quarantine.get(image).expect("read"), None);
        assert!(quarantine.clear(image).is_err());
        // What cannot be read is not cleared.
        fs::write(quarantine.file(image), "{").expect("written");
        assert!(quarantine.get(image).is_err());
    }
}

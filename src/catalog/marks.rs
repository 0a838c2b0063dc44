//! What a person or a fleet said about single images, and why: one file an image, `<dir>/<id>.json`.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::atomic_write::atomic_write;
use crate::digest::ImageId;
use crate::error::{Doing as _, Error, Result};

/// A mark on one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The image.
    pub image: ImageId,
    /// Why.
    pub reason: String,
    /// The fleet, the person, or the person's command.
    pub by: String,
    /// Since when.
    pub at: Timestamp,
}

impl Mark {
    /// Returns the cells of its row in a list: image, time, who, why.
    #[must_use]
    pub fn row(&self) -> Vec<String> {
        let at = self.at.strftime("%Y-%m-%d %H:%M:%S").to_string();
        vec![self.image.short(), at, self.by.clone(), self.reason.clone()]
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by {} since {}: {}", self.by, self.at, self.reason)
    }
}

/// The marks of one kind in a store.
#[derive(Debug, Clone)]
pub struct Marks {
    dir: PathBuf,
}

impl Marks {
    /// Opens the marks in `dir`, which need not be there.
    #[must_use]
    pub const fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    fn file(&self, image: ImageId) -> PathBuf {
        self.dir.join(format!("{image}.json"))
    }

    /// Returns the mark of an image; `None` when it has none.
    ///
    /// # Errors
    /// The mark cannot be read: then nobody can say that there is none.
    pub fn get(&self, image: ImageId) -> Result<Option<Mark>> {
        let file = self.file(image);
        let doing = || format!("reading {}", file.display());
        match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).doing(doing).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing(doing),
        }
    }

    /// Marks an image. One that is marked already keeps its first reason.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn add(&self, mark: &Mark) -> Result<()> {
        if self.file(mark.image).exists() {
            return Ok(());
        }
        fs::create_dir_all(&self.dir).doing(|| format!("creating {}", self.dir.display()))?;
        let text = serde_json::to_vec_pretty(mark).doing(|| "describing a mark")?;
        atomic_write(&self.file(mark.image), &text)
    }

    /// Removes the mark of an image; tells whether there was one.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn remove(&self, image: ImageId) -> Result<bool> {
        match fs::remove_file(self.file(image)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            other => other.doing(|| format!("removing {}", self.file(image).display())).map(|()| true),
        }
    }

    /// Returns all marks, the newest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(&self) -> Result<Vec<Mark>> {
        let doing = || format!("listing {}", self.dir.display());
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.doing(doing)?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let name = entry.doing(doing)?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse().ok());
            if let Some(id) = id {
                all.extend(self.get(id)?);
            }
        }
        all.sort_by(|a, b| b.at.cmp(&a.at).then(a.image.cmp(&b.image)));
        Ok(all)
    }

    /// Finds the marked image whose id begins so; `None` when none does.
    ///
    /// # Errors
    /// Several do; as [`Marks::list`].
    pub fn find(&self, start: &str) -> Result<Option<ImageId>> {
        // Four digits at least, as in the catalog: a name must not mean an image by chance.
        let begins = |mark: &Mark| start.len() >= 4 && mark.image.to_string().starts_with(start);
        let found: Vec<_> = self.list()?.into_iter().filter(begins).map(|mark| mark.image).collect();
        match found[..] {
            [] => Ok(None),
            [id] => Ok(Some(id)),
            _ => {
                let ids: Vec<_> = found.iter().map(ImageId::short).collect();
                Err(Error::failed(format!("`{start}` means several images: {}", ids.join(", ")))
                    .hint("give more digits of the id"))
            }
        }
    }
}

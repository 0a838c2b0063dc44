//! The records of a store: found by id, by the start of one, or by the recipe's name.

use std::fs;
use std::path::PathBuf;

use super::provenance::{self, Envelope, Trust};
use super::{Record, VERSION, Verdict};
use crate::atomic_write::atomic_write;
use crate::digest::ImageId;
use crate::error::{Doing as _, Error, Result};
use crate::store::Store;

/// The record's file in an image's directory; written after all others, so that it says the image is whole.
const FILE: &str = "record.json";

/// What a catalog holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// The records that read, the newest first.
    pub records: Vec<Record>,
    /// Images whose record does not read, such as one of a newer format, and why; by id.
    pub unreadable: Vec<(ImageId, Error)>,
}

/// The images of a store.
#[derive(Debug, Clone)]
pub struct Catalog {
    store: Store,
}

impl Catalog {
    /// Opens the catalog of a store.
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Returns where an image's disk lies.
    #[must_use]
    pub fn disk(&self, id: ImageId) -> PathBuf {
        self.store.image(id).join("disk.raw")
    }

    /// Returns the ids of all whole images, in order. A directory without a record is half an image and not
    /// counted.
    ///
    /// # Errors
    /// Whatever reading the store returns.
    pub fn ids(&self) -> Result<Vec<ImageId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(self.store.images()).doing(|| "listing the images")? {
            let entry = entry.doing(|| "listing the images")?;
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(id) = id.filter(|_| entry.path().join(FILE).is_file()) {
                ids.push(id);
            }
        }
        ids.sort();
        Ok(ids)
    }

    /// Returns all records, and what keeps those that do not read from it: one of them hides no other.
    ///
    /// # Errors
    /// As [`Catalog::ids`].
    pub fn list(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        for id in self.ids()? {
            match self.load(id) {
                Ok(record) => listing.records.push(record),
                Err(error) => listing.unreadable.push((id, error)),
            }
        }
        listing.records.sort_by(|a, b| b.baked.cmp(&a.baked).then(a.id.cmp(&b.id)));
        Ok(listing)
    }

    /// Returns the record of an image, or nothing when there is no whole image of this id.
    ///
    /// # Errors
    /// As [`Catalog::load`].
    pub fn get(&self, id: ImageId) -> Result<Option<Record>> {
        if self.store.image(id).join(FILE).is_file() { self.load(id).map(Some) } else { Ok(None) }
    }

    /// Loads the record of an image.
    ///
    /// # Errors
    /// None there, one that does not read, and one of a newer format.
    pub fn load(&self, id: ImageId) -> Result<Record> {
        let path = self.store.image(id).join(FILE);
        let doing = || format!("reading {}", path.display());
        let text = fs::read_to_string(&path).doing(doing)?;
        let value: serde_json::Value = serde_json::from_str(&text).doing(doing)?;
        // The version first: what a newer format means is not guessed.
        let version = value.get("version").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if version != u64::from(VERSION) {
            return Err(Error::failed(format!(
                "{} has format {version}, and this rekiln reads format {VERSION}",
                path.display()
            ))
            .hint("use the rekiln that baked the image, or a newer one"));
        }
        let record: Record = serde_json::from_value(value).doing(doing)?;
        if record.id != id {
            return Err(Error::failed(format!("{} is the record of {}", path.display(), record.id)));
        }
        Ok(record)
    }

    /// Returns the bytes of the record of an image.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn bytes(&self, id: ImageId) -> Result<Vec<u8>> {
        let path = self.store.image(id).join(FILE);
        fs::read(&path).doing(|| format!("reading {}", path.display()))
    }

    /// Returns the signed provenance of an image; nothing when nobody has signed it.
    ///
    /// # Errors
    /// It does not read.
    pub fn envelope(&self, id: ImageId) -> Result<Option<Envelope>> {
        let path = self.store.image(id).join(provenance::FILE);
        let doing = || format!("reading {}", path.display());
        match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            text => serde_json::from_slice(&text.doing(doing)?).map(Some).doing(doing),
        }
    }

    /// Refuses an image that nobody vouches for who is trusted.
    ///
    /// # Errors
    /// Why it is not trusted.
    pub fn trusted(&self, record: &Record, trust: &Trust) -> Result<()> {
        let refused = |why: String| {
            let (name, id) = (&record.name, record.id.short());
            Error::invalid(format!("image {id} of {name} is not trusted: {why}"))
        };
        let Some(envelope) = self.envelope(record.id)? else {
            return Err(refused("nobody has signed its provenance".to_owned())
                .hint(format!("whoever may vouch for it: `rekiln sign {} --key FILE`", record.id.short())));
        };
        envelope
            .check(record, &self.bytes(record.id)?, trust)
            .map_err(|why| refused(why).hint("find out who changed what before anybody signs it again"))
    }

    /// Finds the image that `name` means: an id, the start of exactly one, or a recipe's name (its newest image
    /// that is no debug variant).
    ///
    /// # Errors
    /// Nothing found, several images whose ids start so, and an image whose record does not read.
    pub fn find(&self, name: &str) -> Result<Record> {
        let Listing { mut records, unreadable } = self.list()?;
        if let Some(newest) = records.iter().position(|record| record.name == name && !record.debug) {
            return Ok(records.swap_remove(newest));
        }
        // Four digits at least, so that a mistyped name does not find an image by chance.
        let hex = name.len() >= 4 && name.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
        let begins = |id: &ImageId| hex && id.to_string().starts_with(name);
        records.retain(|record| begins(&record.id));
        let mut damaged: Vec<(ImageId, Error)> =
            unreadable.into_iter().filter(|(id, _)| begins(id)).collect();
        if records.len() + damaged.len() > 1 {
            let known = records.iter().map(|record| format!("{} ({})", record.id.short(), record.name));
            let unknown = damaged.iter().map(|(id, _)| format!("{} (unreadable)", id.short()));
            let list: Vec<String> = known.chain(unknown).collect();
            return Err(Error::failed(format!("`{name}` means several images: {}", list.join(", ")))
                .hint("give more digits of the id"));
        }
        match (records.pop(), damaged.pop()) {
            (Some(record), _) => Ok(record),
            (None, Some((_, error))) => Err(error),
            (None, None) => Err(Error::failed(format!("the store has no image `{name}`"))
                .hint("`rekiln images` lists them; `rekiln bake` makes one")),
        }
    }

    /// Saves a record; from then on the image counts.
    ///
    /// # Errors
    /// Whatever writing returns.
    pub fn save(&self, record: &Record) -> Result<()> {
        let text = serde_json::to_string_pretty(record).doing(|| "writing the record as JSON")?;
        self.write(record.id, FILE, text.as_bytes())
    }

    /// Replaces the boot verdict of an image.
    ///
    /// # Errors
    /// As [`Catalog::load`] and [`Catalog::save`].
    pub fn set_verdict(&self, id: ImageId, verdict: Verdict) -> Result<Record> {
        let mut record = self.load(id)?;
        record.verdict = Some(verdict);
        self.save(&record)?;
        Ok(record)
    }

    /// Writes a file of an image, whole or not at all.
    ///
    /// # Errors
    /// Whatever writing returns.
    pub fn write(&self, id: ImageId, name: &str, bytes: &[u8]) -> Result<()> {
        let dir = self.store.image(id);
        fs::create_dir_all(&dir).doing(|| format!("creating {}", dir.display()))?;
        atomic_write(&dir.join(name), bytes)
    }
}

#[cfg(test)]
pub(super) mod tests;

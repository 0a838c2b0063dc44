//! Images that no fleet may launch until a person clears them: `quarantine/<id>.json` in the store.

use super::marks::{Mark, Marks};
use crate::digest::ImageId;
use crate::error::{Error, Result};
use crate::store::Store;

/// One quarantined image: who said so, since when and why.
pub type Quarantined = Mark;

/// The quarantine of a store.
#[derive(Debug, Clone)]
pub struct Quarantine {
    marks: Marks,
}

impl Quarantine {
    /// Opens the quarantine of a store.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        Self { marks: Marks::new(store.root().join("quarantine")) }
    }

    /// Returns why an image is quarantined; `None` when it is not.
    ///
    /// # Errors
    /// The entry cannot be read: then nobody can say that the image is good.
    pub fn get(&self, image: ImageId) -> Result<Option<Quarantined>> {
        self.marks.get(image)
    }

    /// Quarantines an image. One that is quarantined already keeps its first reason.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn add(&self, entry: &Quarantined) -> Result<()> {
        self.marks.add(entry)
    }

    /// Lets an image be launched again.
    ///
    /// # Errors
    /// It is not quarantined; the store cannot be written.
    pub fn clear(&self, image: ImageId) -> Result<()> {
        if self.marks.remove(image)? {
            return Ok(());
        }
        Err(Error::failed(format!("image {} is not quarantined", image.short()))
            .hint("`rekiln quarantine list` lists those that are"))
    }

    /// Returns all entries, the newest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(&self) -> Result<Vec<Quarantined>> {
        self.marks.list()
    }

    /// Finds the quarantined image whose id begins so; `None` when none does.
    ///
    /// # Errors
    /// Several do; the store cannot be read.
    pub fn find(&self, start: &str) -> Result<Option<ImageId>> {
        self.marks.find(start)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use jiff::Timestamp;

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
        fs::write(dir.path().join(format!("quarantine/{image}.json")), "{").expect("written");
        assert!(quarantine.get(image).is_err());
    }
}

//! Images that no fleet may launch until a person clears them: `quarantine/<id>.json` in the store, and beside journals that
//! are shared.

use super::marks::{Mark, Marks};
use crate::digest::ImageId;
use crate::error::{Error, Result};
use crate::objects::Objects;

/// One quarantined image: who said so, since when and why.
pub type Quarantined = Mark;

/// The quarantine.
#[derive(Debug, Clone)]
pub struct Quarantine {
    marks: Marks,
}

impl Quarantine {
    /// Opens the quarantine that is kept in these places: a store, and buckets that several computers share.
    #[must_use]
    pub fn new(places: &[Objects]) -> Self {
        Self { marks: Marks::new(places.iter().map(|place| place.under("quarantine")).collect()) }
    }

    /// Returns why an image is quarantined; `None` when it is not.
    ///
    /// # Errors
    /// The entry cannot be read: then nobody can say that the image is good.
    pub async fn get(&self, image: ImageId) -> Result<Option<Quarantined>> {
        self.marks.get(image).await
    }

    /// Quarantines an image. One that is quarantined already keeps its first reason.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn add(&self, entry: &Quarantined) -> Result<()> {
        self.marks.add(entry).await
    }

    /// Lets an image be launched again.
    ///
    /// # Errors
    /// It is not quarantined; the store cannot be written.
    pub async fn clear(&self, image: ImageId) -> Result<()> {
        if self.marks.remove(image).await? {
            return Ok(());
        }
        Err(Error::failed(format!("image {} is not quarantined", image.short()))
            .hint("`rekiln quarantine list` lists those that are"))
    }

    /// Returns all entries, the newest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn list(&self) -> Result<Vec<Quarantined>> {
        self.marks.list().await
    }

    /// Finds the quarantined image whose id begins so; `None` when none does.
    ///
    /// # Errors
    /// Several do; the store cannot be read.
    pub async fn find(&self, start: &str) -> Result<Option<ImageId>> {
        self.marks.find(start).await
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use jiff::Timestamp;

    use super::*;
    use crate::digest::Digest;

    #[tokio::test]
    async fn the_first_reason_stays_until_it_is_cleared() {
        let (here, there) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("another"));
        let places = [&here, &there].map(|dir| Objects::Directory(dir.path().to_owned()));
        let quarantine = Quarantine::new(&places);
        let image = Digest::of(b"bad");
        let entry = |reason: &str| Quarantined {
            image,
            reason: reason.to_owned(),
            by: "fleet web".to_owned(),
            at: Timestamp::UNIX_EPOCH,
        };
        assert_eq!(quarantine.list().await.expect("listed"), []);
        quarantine.add(&entry("first")).await.expect("added");
        quarantine.add(&entry("second")).await.expect("added");
        assert_eq!(quarantine.get(image).await.expect("read"), Some(entry("first")));
        assert_eq!(quarantine.list().await.expect("listed"), [entry("first")]);
        // Who sees one of the places only knows of it, and who sees both does not need them to agree.
        for place in &places {
            let one = Quarantine::new(std::slice::from_ref(place));
            assert_eq!(one.get(image).await.expect("read"), Some(entry("first")));
        }
        Quarantine::new(&places[..1]).clear(image).await.expect("cleared");
        assert_eq!(quarantine.get(image).await.expect("read"), Some(entry("first")));
        quarantine.clear(image).await.expect("cleared");
        assert_eq!(quarantine.get(image).await.expect("read"), None);
        assert!(quarantine.clear(image).await.is_err());
        // What cannot be read is not cleared.
        fs::write(here.path().join(format!("quarantine/{image}.json")), "{").expect("written");
        assert!(quarantine.get(image).await.is_err());
    }
}

//! What a person or a fleet said about single images, and why: one file an image, `<dir>/<id>.json`.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::ImageId;
use crate::error::{Doing as _, Error, Result};
use crate::objects::Objects;

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

/// The marks of one kind, in one place or in several at once.
#[derive(Debug, Clone)]
pub struct Marks {
    places: Vec<Objects>,
}

impl Marks {
    /// Those that lie in these places: what is in one of them counts, and what is said is said in all.
    #[must_use]
    pub const fn new(places: Vec<Objects>) -> Self {
        Self { places }
    }

    /// Returns the mark of an image; `None` when it has none.
    ///
    /// # Errors
    /// The mark cannot be read: then nobody can say that there is none.
    pub async fn get(&self, image: ImageId) -> Result<Option<Mark>> {
        for place in &self.places {
            if let Some(mark) = read(place, image).await? {
                return Ok(Some(mark));
            }
        }
        Ok(None)
    }

    /// Marks an image. One that is marked already keeps its first reason.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn add(&self, mark: &Mark) -> Result<()> {
        let first = self.get(mark.image).await?;
        let text = serde_json::to_vec_pretty(first.as_ref().unwrap_or(mark)).doing(|| "describing a mark")?;
        for place in &self.places {
            if read(place, mark.image).await?.is_none() {
                place.write(&name(mark.image), &text).await?;
            }
        }
        Ok(())
    }

    /// Removes the mark of an image; tells whether there was one.
    ///
    /// # Errors
    /// It cannot be removed.
    pub async fn remove(&self, image: ImageId) -> Result<bool> {
        let mut removed = false;
        for place in &self.places {
            let name = name(image);
            // What does not read any more is removed too: a person wants it gone.
            removed |= place.read(&name).await?.is_some();
            place.remove(&name).await?;
        }
        Ok(removed)
    }

    /// Returns all marks, the newest first.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn list(&self) -> Result<Vec<Mark>> {
        let mut all = BTreeMap::new();
        for place in &self.places {
            for listed in place.list().await? {
                let Some(id) = listed.name.strip_suffix(".json").and_then(|name| name.parse().ok()) else {
                    continue;
                };
                if let Some(mark) = read(place, id).await? {
                    all.entry(id).or_insert(mark);
                }
            }
        }
        let mut all: Vec<Mark> = all.into_values().collect();
        all.sort_by(|a, b| b.at.cmp(&a.at).then(a.image.cmp(&b.image)));
        Ok(all)
    }

    /// Finds the marked image whose id begins so; `None` when none does.
    ///
    /// # Errors
    /// Several do; as [`Marks::list`].
    pub async fn find(&self, start: &str) -> Result<Option<ImageId>> {
        // Four digits at least, as in the catalog: a name must not mean an image by chance.
        let begins = |mark: &Mark| start.len() >= 4 && mark.image.to_string().starts_with(start);
        let found: Vec<_> = self.list().await?.into_iter().filter(begins).map(|mark| mark.image).collect();
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

fn name(image: ImageId) -> String {
    format!("{image}.json")
}

async fn read(place: &Objects, image: ImageId) -> Result<Option<Mark>> {
    place.read_json(&name(image)).await
}

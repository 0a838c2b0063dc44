//! Do: find which AMIs of a region are which images, and which of them can be launched.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::digest::ImageId;
use crate::error::Result;
use crate::provider::aws::{Aws, insist};
use crate::publish::ledger;
use crate::publish::plan::{IMAGE_TAG, State};
use crate::store::Store;

/// The AMIs of images in a region.
#[derive(Debug)]
pub struct Amis {
    /// Which image an AMI is or was, by its id.
    pub images: BTreeMap<String, ImageId>,
    /// Those that can be launched, with when they were registered.
    ready: BTreeMap<String, Option<Timestamp>>,
}

impl Amis {
    /// Finds this account's AMIs that say which image they are, and those that the store's ledger has published, which may
    /// be another account's that shares them.
    ///
    /// # Errors
    /// The ledger does not read; AWS cannot be asked.
    pub async fn of(aws: &Aws, store: &Store) -> Result<Self> {
        let published = ledger::entries(store)?.into_iter().filter(|entry| entry.region == aws.region);
        let published: BTreeMap<_, _> =
            published.filter_map(|entry| Some((entry.ami?, entry.image))).collect();
        let mut listed = insist(&aws.region, || aws.images(IMAGE_TAG)).await?;
        let known: Vec<&str> = listed.iter().map(|image| image.id.as_str()).collect();
        let others: Vec<_> = published.keys().filter(|ami| !known.contains(&ami.as_str())).cloned().collect();
        if !others.is_empty() {
            listed.extend(insist(&aws.region, || aws.images_of_anyone(&others)).await?);
        }
        let tagged = listed.iter().filter_map(|image| {
            let image_id = image.tags.get(IMAGE_TAG)?.parse().ok()?;
            Some((image.id.clone(), image_id))
        });
        // The ledger knows more than a tag, which others may set.
        let images = tagged.chain(published.clone()).collect();
        let ready = listed.into_iter().filter(|image| image.state == State::Ready);
        Ok(Self { images, ready: ready.map(|image| (image.id, image.created)).collect() })
    }

    /// Tells whether an AMI can be launched.
    #[must_use]
    pub fn can_launch(&self, ami: &str) -> bool {
        self.ready.contains_key(ami)
    }

    /// Returns an AMI of an image that can be launched: `preferred` where that is one, else the newest.
    #[must_use]
    pub fn to_launch(&self, image: ImageId, preferred: Option<&String>) -> Option<&String> {
        let fits = |ami: &String| self.images.get(ami) == Some(&image);
        let ready = self.ready.iter().filter(|(ami, _)| fits(ami));
        ready.max_by_key(|(ami, created)| (Some(*ami) == preferred, **created)).map(|(ami, _)| ami)
    }
}

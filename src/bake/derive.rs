//! An image that is derived from a vendor's disk.

use super::identity::Identity;
use super::image::Bake;
use crate::catalog::Record;
use crate::error::{Error, Result};
use crate::recipe::DiskSource;

impl Bake<'_> {
    /// Derives the image from the vendor's disk.
    ///
    /// # Errors
    /// Always: this is not there yet.
    pub(super) fn derive(&self, image: &Identity, source: &DiskSource) -> Result<Record> {
        let _ = (self.store, source);
        Err(Error::failed(format!("`{}`: an image cannot be derived from a disk yet", image.name)))
    }
}

//! The program that runs inside images: built by `bootstrap/build.rs`, carried by this one.

use std::sync::LazyLock;

use crate::digest::Digest;

/// The guest program: `/init` of the initrd and `/usr/lib/rekiln/guest` in the image.
pub const GUEST: &[u8] = include_bytes!(env!("REKILN_GUEST"));

/// Returns the digest of [`GUEST`], which is part of every image id.
#[must_use]
pub fn digest() -> Digest {
    static DIGEST: LazyLock<Digest> = LazyLock::new(|| Digest::of(GUEST));
    *DIGEST
}

//! A read-only reader of the erofs file system, for what `mkfs.erofs` 1.5 writes. The format is described in
//! the kernel's `fs/erofs/erofs_fs.h` and `Documentation/filesystems/erofs.rst`.
//!
//! The bytes may be hostile: every offset is checked by [`Window`], every loop has a bound, and what is not
//! understood is refused by name.

mod data;
mod directory;
mod inode;
mod lz4;
#[cfg(test)]
mod tests;
mod xattr;

use crate::error::{Error, Result};
use crate::inspect::window::{Window, u16_at, u32_at};

pub use directory::Entry;
pub use inode::Inode;

pub use super::kind::Kind;

/// Where the superblock lies, and the number it starts with (`erofs_fs.h`).
pub(crate) const SUPERBLOCK: u64 = 1024;
const MAGIC: u32 = 0xE0F5_E1E2;

/// Incompatible features that the reader knows (`erofs_fs.h`): LZ4 data right-aligned in its blocks (0x1),
/// compression configurations and large physical clusters (0x2), files in chunks (0x4).
const KNOWN_FEATURES: u32 = 0x1 | 0x2 | 0x4;

/// Names of the features that are refused.
const REFUSED_FEATURES: &[(u32, &str)] = &[
    (0x8, "several devices or a second compression head"),
    (0x10, "compressed tails inside inodes (ztailpacking)"),
    (0x20, "fragments or deduplication"),
    (0x40, "long xattr prefixes"),
];

/// An erofs file system.
#[derive(Clone)]
pub struct Erofs {
    pub(crate) window: Window,
    block_bits: u32,
    root: u64,
    /// Byte offsets from which inodes, and extended attributes that several share, are counted.
    pub(crate) meta: u64,
    pub(crate) xattrs: u64,
    features: u32,
}

impl Erofs {
    /// Opens the file system in `window`.
    ///
    /// # Errors
    /// No erofs, one with features that are not understood, and reads that fail.
    pub fn open(window: Window) -> Result<Self> {
        let block = window.bytes(SUPERBLOCK, 128)?;
        if u32_at(&block, 0) != MAGIC {
            return Err(Error::failed("there is no erofs file system here"));
        }
        let block_bits = u32::from(block[12]);
        // 512 bytes to 64 KiB: what the format allows.
        if !(9..=16).contains(&block_bits) {
            return Err(damaged(format!("its block size is 2^{block_bits}")));
        }
        let features = u32_at(&block, 80);
        if let Some((_, name)) = REFUSED_FEATURES.iter().find(|(bit, _)| features & bit != 0) {
            return Err(Error::failed(format!(
                "this erofs file system uses {name}, which rekiln does not read"
            )));
        }
        if features & !KNOWN_FEATURES != 0 {
            return Err(Error::failed(format!("this erofs file system uses unknown features {features:#x}")));
        }
        Ok(Self {
            root: u64::from(u16_at(&block, 14)),
            meta: u64::from(u32_at(&block, 40)) << block_bits,
            xattrs: u64::from(u32_at(&block, 44)) << block_bits,
            window,
            block_bits,
            features,
        })
    }

    /// Returns the root directory.
    ///
    /// # Errors
    /// As [`Erofs::inode`].
    pub fn root(&self) -> Result<Inode> {
        self.inode(self.root)
    }

    /// Returns how many bytes a block has.
    pub(crate) fn block(&self) -> u64 {
        1 << self.block_bits
    }

    /// Turns the address of a block into a byte offset.
    fn offset(&self, block: u32) -> u64 {
        u64::from(block) << self.block_bits
    }
}

/// The error for bytes that no mkfs writes.
fn damaged(what: impl AsRef<str>) -> Error {
    Error::failed(format!("the erofs file system is damaged: {}", what.as_ref()))
}

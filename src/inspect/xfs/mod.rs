//! A read-only reader of XFS, format 5 (with checksums), which `mkfs.xfs` makes since 2015. The format is described in
//! the kernel's `fs/xfs/libxfs/xfs_format.h`, `xfs_da_format.h` and `xfs_log_format.h`, and in "XFS Algorithms & Data
//! Structures".
//!
//! No crate reads it whole. The bytes may be hostile: every offset is checked by [`Window`], every loop has a bound,
//! checksums are verified, and what is not understood is refused by name.

mod attr;
mod directory;
mod inode;
mod log;
mod map;

use std::io::Write;

use super::kind::Kind;
use super::volume::{Entry, Object, label};
use super::window::{Window, be16_at, be32_at, be64_at};
use crate::error::{Error, Result};
use inode::{Format, Inode};

/// CRC-32C as XFS has it: little-endian in a field that counts as zeros.
const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);

/// What a superblock begins with.
const MAGIC: &[u8] = b"XFSB";

/// Bytes of a superblock that are read and have the checksum: the smallest sector.
const SUPERBLOCK: usize = 512;

/// Incompatible features that the reader knows (`xfs_format.h`): types in directories, sparse inode chunks, a UUID of
/// its own for metadata, large times, large counts of extents, exchanged ranges, parent pointers.
const KNOWN_FEATURES: u32 = 0x1 | SPARSE_AND_IDS | 0x8 | 0x20 | 0x40 | 0x80;
const SPARSE_AND_IDS: u32 = 0x2 | 0x4;
/// `XFS_SB_FEAT_INCOMPAT_FTYPE`.
const FILE_TYPE: u32 = 0x1;
/// `XFS_SB_FEAT_INCOMPAT_NEEDSREPAIR`.
const NEEDS_REPAIR: u32 = 0x10;

/// An XFS file system.
#[derive(Clone)]
pub struct Xfs {
    window: Window,
    /// Its UUID.
    pub uuid: [u8; 16],
    /// Its label; empty when it has none.
    pub label: String,
    /// The root directory's inode.
    pub root: u64,
    block_bits: u32,
    /// Blocks of an allocation group, and the bits that numbers have for them.
    group_blocks: u64,
    group_bits: u32,
    groups: u64,
    inode_bits: u32,
    /// A block of a directory is this many times as large as a block, as a power of two.
    directory_bits: u32,
    file_types: bool,
    /// Whether checksums are verified; only tests do without, to reach what lies behind them.
    verifies: bool,
}

impl Xfs {
    /// Tells whether a superblock begins here.
    #[must_use]
    pub fn is_in(window: &Window) -> bool {
        window.near(0, 4).is_ok_and(|bytes| bytes == MAGIC)
    }

    /// Opens the file system in `window`.
    ///
    /// # Errors
    /// No XFS, one that was not shut down cleanly or has features that are not understood, and reads that fail.
    pub fn open(window: Window) -> Result<Self> {
        Self::open_as(window, true)
    }

    /// Opens it without verifying checksums, so that tests reach what lies behind them.
    #[cfg(test)]
    pub(crate) fn open_unverified(window: Window) -> Result<Self> {
        Self::open_as(window, false)
    }

    fn open_as(window: Window, verifies: bool) -> Result<Self> {
        let block = window.near(0, SUPERBLOCK)?;
        if !block.starts_with(MAGIC) {
            return Err(Error::failed("there is no XFS file system here"));
        }
        let version = be16_at(&block, 100) & 0xf;
        if version != 5 {
            return Err(Error::failed(format!(
                "this XFS file system has format {version}, and rekiln reads format 5 (`mkfs.xfs -m crc=1`)"
            )));
        }
        let bits = |at: usize| u32::from(block[at]);
        let (block_bits, sector_bits, inode_bits) = (bits(120), bits(121), bits(122));
        let (per_block_bits, group_bits, directory_bits) = (bits(123), bits(124), bits(192));
        let (group_blocks, groups) = (u64::from(be32_at(&block, 84)), u64::from(be32_at(&block, 88)));
        // Limits of the format: blocks of 1 to 64 KiB, inodes of 512 to 2048 bytes in whole numbers a block, directory
        // blocks up to 64 KiB.
        if !(10..=16).contains(&block_bits)
            || !(9..=15).contains(&sector_bits)
            || !(9..=11).contains(&inode_bits)
            || inode_bits + per_block_bits != block_bits
            || block_bits + directory_bits > 16
            || group_bits > 31
            || group_blocks == 0
            || group_blocks > 1 << group_bits
        {
            return Err(damaged("the superblock has impossible sizes"));
        }
        if verifies {
            let whole = window.near(0, 1 << sector_bits)?;
            verify(&whole, 224, "the superblock")?;
        }
        let features = be32_at(&block, 216);
        if features & NEEDS_REPAIR != 0 {
            return Err(damaged("it says itself that it needs a repair"));
        }
        if features & !KNOWN_FEATURES != 0 {
            return Err(Error::failed(format!("this XFS file system uses unknown features {features:#x}")));
        }
        let volume = Self {
            uuid: block[32..48].try_into().unwrap_or_default(),
            label: label(&block[108..120]),
            root: be64_at(&block, 56),
            block_bits,
            group_blocks,
            group_bits,
            groups,
            inode_bits,
            directory_bits,
            file_types: features & FILE_TYPE != 0,
            verifies,
            window,
        };
        volume.must_be_clean(be64_at(&block, 48), be32_at(&block, 96))?;
        Ok(volume)
    }

    /// Returns what an inode is.
    ///
    /// # Errors
    /// No such inode, a damaged one, and reads that fail.
    pub fn object(&self, number: u64) -> Result<Object> {
        let inode = self.inode(number)?;
        let during = |error: Error| error.during(format!("reading inode {number}"));
        let xattrs = self.xattrs(&inode).map_err(during)?;
        let target =
            if inode.kind == Kind::Symlink { self.target(&inode).map_err(during)? } else { Vec::new() };
        let Inode { kind, mode, uid, gid, size, .. } = inode;
        Ok(Object { kind, mode, uid, gid, size, target, xattrs })
    }

    /// Returns the names in a directory.
    ///
    /// # Errors
    /// No directory, a damaged one, and reads that fail.
    pub fn entries(&self, directory: u64) -> Result<Vec<Entry>> {
        let inode = self.inode(directory)?;
        if inode.kind != Kind::Directory {
            return Err(damaged(format!("inode {directory} is no directory")));
        }
        let found = if inode.format == Format::Local {
            self.short_entries(&inode)
        } else {
            self.block_entries(&inode)
        };
        found.map_err(|error| error.during(format!("reading directory {directory}")))
    }

    /// Writes the data of a regular file to `to`.
    ///
    /// # Errors
    /// No file, damaged maps, and reads and writes that fail.
    pub fn copy(&self, file: u64, to: &mut dyn Write) -> Result<()> {
        let inode = self.inode(file)?;
        if inode.kind != Kind::File {
            return Err(damaged(format!("inode {file} is no file")));
        }
        if inode.realtime {
            return Err(Error::failed(
                "the file's data lies on a realtime device, which rekiln does not read",
            ));
        }
        self.runs(&inode.data)?.copy(&self.window, inode.size, to)
    }

    /// Turns the number of a block, which has the allocation group in its upper bits, into a byte offset.
    fn offset(&self, block: u64) -> Result<u64> {
        let (group, within) = (block >> self.group_bits, block & ((1 << self.group_bits) - 1));
        if group >= self.groups || within >= self.group_blocks {
            return Err(damaged(format!("block {block:#x} lies in no allocation group")));
        }
        Ok((group * self.group_blocks + within) << self.block_bits)
    }

    /// Reads `len` bytes of metadata at `at` whose checksum is at `crc` in them.
    fn checked(&self, at: u64, len: usize, crc: usize, what: &str) -> Result<Vec<u8>> {
        let bytes = self.window.near(at, len)?;
        if self.verifies {
            verify(&bytes, crc, what)?;
        }
        Ok(bytes)
    }

    fn block(&self) -> usize {
        1 << self.block_bits
    }
}

/// Checks a block whose checksum stands at `at` in it.
fn verify(bytes: &[u8], at: usize, what: &str) -> Result<()> {
    let mut digest = CRC.digest();
    digest.update(bytes.get(..at).unwrap_or_default());
    digest.update(&[0; 4]);
    digest.update(bytes.get(at + 4..).unwrap_or_default());
    // Little-endian, other than everything else of XFS.
    if digest.finalize() == be32_at(bytes, at).swap_bytes() {
        return Ok(());
    }
    Err(damaged(format!("the checksum of {what} is wrong")))
}

/// The error for bytes that no mkfs writes.
fn damaged(what: impl AsRef<str>) -> Error {
    Error::failed(format!("the XFS file system is damaged: {}", what.as_ref()))
        .hint("`xfs_repair -n` on a copy says more")
}

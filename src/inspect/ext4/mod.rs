//! A read-only reader of ext4, and of ext2 and ext3, whose format it extends. The format is described in the kernel's
//! `Documentation/filesystems/ext4/` and `fs/ext4/ext4.h`.
//!
//! The crate `ext4-view` reads ext4 too, but neither extended attributes nor inode numbers, by which attributes are
//! found: a file capability would go unseen. Checksums of metadata are not verified here; whether the structures make
//! sense is.
//!
//! The bytes may be hostile: every offset is checked by [`Window`], every loop has a bound, and what is not understood
//! is refused by name.

mod inode;
mod map;
mod xattr;

use std::io::Write;

use super::volume::{DIRECTORY_MAX, Entry, Object, TARGET_MAX, is_name, label};
use super::window::{Window, u16_at, u32_at};
use crate::error::{Error, Result};
use inode::Inode;

use super::kind::Kind;

/// Where the superblock lies, and its number at 56 (`ext4.h`).
const SUPERBLOCK: u64 = 1024;
const MAGIC: u16 = 0xEF53;

/// The root directory's inode (`EXT4_ROOT_INO`).
pub const ROOT: u64 = 2;

/// `EXT4_FEATURE_INCOMPAT_RECOVER`: the journal has what is not in its place yet.
const RECOVER: u32 = 0x4;
/// `EXT4_FEATURE_INCOMPAT_64BIT`: group descriptors have a size of their own.
const WIDE: u32 = 0x80;
/// `EXT4_FEATURE_INCOMPAT_FILETYPE`: the byte after a name's length is no part of the length.
const FILE_TYPE: u32 = 0x2;

/// Incompatible features that the reader knows (`ext4.h`): types in directories, extents, 64-bit, several mounts'
/// protection, flexible groups, large attributes in inodes, the checksum seed, large directories.
const KNOWN_FEATURES: u32 = FILE_TYPE | 0x40 | WIDE | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000;

/// Names of the features that are refused.
const REFUSED_FEATURES: &[(u32, &str)] = &[
    (0x1, "compression"),
    (0x8, "a journal device"),
    (0x10, "meta block groups"),
    (0x1000, "data in directory entries"),
    (0x8000, "data inside inodes (inline_data)"),
    (0x1_0000, "encryption"),
    (0x2_0000, "names without case (casefold)"),
];

/// An ext4 file system.
#[derive(Clone)]
pub struct Ext4 {
    window: Window,
    /// Its UUID.
    pub uuid: [u8; 16],
    /// Its label; empty when it has none.
    pub label: String,
    block_bits: u32,
    inodes: u64,
    per_group: u64,
    inode_size: u64,
    /// Where the group descriptors begin, in bytes, and how long each is.
    groups: u64,
    group_size: u64,
    file_types: bool,
}

impl Ext4 {
    /// Tells whether the superblock's number is there.
    #[must_use]
    pub fn is_in(window: &Window) -> bool {
        window.near(SUPERBLOCK + 56, 2).is_ok_and(|bytes| u16_at(&bytes, 0) == MAGIC)
    }

    /// Opens the file system in `window`.
    ///
    /// # Errors
    /// No ext4, one that was not shut down cleanly or has features that are not understood, and reads that fail.
    pub fn open(window: Window) -> Result<Self> {
        let block = window.near(SUPERBLOCK, 1024)?;
        if u16_at(&block, 56) != MAGIC {
            return Err(Error::failed("there is no ext4 file system here"));
        }
        let features = u32_at(&block, 96);
        if let Some((_, name)) = REFUSED_FEATURES.iter().find(|(bit, _)| features & bit != 0) {
            return Err(Error::failed(format!(
                "this ext4 file system uses {name}, which rekiln does not read"
            )));
        }
        if features & RECOVER != 0 {
            return Err(Error::failed(
                "the ext4 file system was not shut down cleanly: its journal must be replayed",
            )
            .hint(
                "shut the machine down properly before its disk is taken, or let `e2fsck -fy` replay a copy",
            ));
        }
        if features & !KNOWN_FEATURES != 0 {
            return Err(Error::failed(format!("this ext4 file system uses unknown features {features:#x}")));
        }
        let log = u32_at(&block, 24);
        // 1 to 64 KiB: what the format allows.
        if log > 6 {
            return Err(damaged(format!("its block size is 2^{} KiB", u64::from(log))));
        }
        let block_bits = 10 + log;
        // Revision 0 has inodes of 128 bytes.
        let inode_size = if u32_at(&block, 76) == 0 { 128 } else { u64::from(u16_at(&block, 88)) };
        let group_size = if features & WIDE == 0 { 32 } else { u64::from(u16_at(&block, 254)) };
        let per_group = u64::from(u32_at(&block, 40));
        if !inode_size.is_power_of_two()
            || inode_size < 128
            || inode_size > 1 << block_bits
            || !(32..=1024).contains(&group_size)
            || per_group == 0
        {
            return Err(damaged("its inodes or groups have an impossible size"));
        }
        let uuid = block[104..120].try_into().unwrap_or_default();
        Ok(Self {
            uuid,
            label: label(&block[120..136]),
            block_bits,
            inodes: u64::from(u32_at(&block, 0)),
            per_group,
            inode_size,
            groups: (u64::from(u32_at(&block, 20)) + 1) << block_bits,
            group_size,
            file_types: features & FILE_TYPE != 0,
            window,
        })
    }

    /// Returns what an inode is.
    ///
    /// # Errors
    /// No such inode, a damaged one, and reads that fail.
    pub fn object(&self, number: u64) -> Result<Object> {
        let inode = self.inode(number)?;
        let xattrs = self.xattrs(&inode)?;
        let target = if inode.kind == Kind::Symlink { self.target(&inode)? } else { Vec::new() };
        let Inode { kind, mode, uid, gid, size, .. } = inode;
        Ok(Object { kind, mode, uid, gid, size, target, xattrs })
    }

    fn target(&self, inode: &Inode) -> Result<Vec<u8>> {
        let within = usize::try_from(inode.size).ok().and_then(|len| inode.block.get(..len));
        match within {
            // A short one lies where others have their map, which has 60 bytes.
            Some(target) if target.len() < inode.block.len() => Ok(target.to_owned()),
            _ => self.read(inode, TARGET_MAX),
        }
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
        let bytes = self.read(&inode, DIRECTORY_MAX)?;
        let mut entries = Vec::new();
        // The inner blocks of a tree of hashes look like blocks with nothing in them, so that all can be read in order.
        for block in bytes.chunks(1 << self.block_bits) {
            self.block_entries(block, &mut entries)
                .ok_or_else(|| damaged(format!("directory {directory}")))?;
        }
        Ok(entries)
    }

    fn block_entries(&self, block: &[u8], entries: &mut Vec<Entry>) -> Option<()> {
        let mut at = 0;
        while at < block.len() {
            let head = block.get(at..at + 8)?;
            let len = match u16_at(head, 4) {
                // Blocks of 64 KiB have no other way to say that an entry fills them.
                0 | u16::MAX if block.len() == 1 << 16 => 1 << 16,
                len => usize::from(len),
            };
            if len < 8 || len % 4 != 0 || at + len > block.len() {
                return None;
            }
            let inode = u64::from(u32_at(head, 0));
            let name = if self.file_types { usize::from(head[6]) } else { usize::from(u16_at(head, 6)) };
            if inode != 0 {
                let name = block[at..at + len].get(8..8 + name).filter(|name| is_name(name))?;
                if name != b"." && name != b".." {
                    entries.push(Entry { name: name.to_owned(), inode });
                }
            }
            at += len;
        }
        Some(())
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
        self.runs(&inode)?.copy(&self.window, inode.size, to)
    }

    fn read(&self, inode: &Inode, limit: u64) -> Result<Vec<u8>> {
        if inode.size > limit {
            return Err(damaged(format!(
                "inode {} has {} bytes, more than {limit}",
                inode.number, inode.size
            )));
        }
        let len = usize::try_from(inode.size).map_err(|_| damaged("a size"))?;
        self.runs(inode)?.bytes(&self.window, 0, len)
    }

    /// Turns the number of a block into a byte offset.
    fn offset(&self, block: u64) -> Result<u64> {
        block.checked_mul(1 << self.block_bits).ok_or_else(|| damaged(format!("block {block} lies nowhere")))
    }

    fn group(&self, number: u64) -> Result<u64> {
        let at = self.groups + number * self.group_size;
        let bytes = self.window.near(at, usize::try_from(self.group_size).unwrap_or(32))?;
        let high = if self.group_size >= 64 { u64::from(u32_at(&bytes, 40)) } else { 0 };
        self.offset(u64::from(u32_at(&bytes, 8)) | high << 32)
    }
}

/// The error for bytes that no mkfs writes.
fn damaged(what: impl AsRef<str>) -> Error {
    Error::failed(format!("the ext4 file system is damaged: {}", what.as_ref()))
        .hint("`e2fsck -fn` on a copy says more")
}

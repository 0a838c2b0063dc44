//! Inodes: 128 bytes that every version has, and more behind them.

use super::{Ext4, damaged};
use crate::error::Result;
use crate::inspect::kind::{Kind, device};
use crate::inspect::window::{u16_at, u32_at};

/// `EXT4_EXTENTS_FL`: the map is a tree of extents and no list of blocks.
const EXTENTS: u32 = 0x8_0000;
/// `EXT4_ENCRYPT_FL` and `EXT4_INLINE_DATA_FL`: refused with the features they come with, and here once more.
const REFUSED: u32 = 0x800 | 0x1000_0000;

/// One file, directory or other object.
#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub(super) number: u64,
    pub(super) kind: Kind,
    /// Permissions with setuid, setgid and sticky bits.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Bytes of its data.
    pub(super) size: u64,
    /// The map of its data, a short target, or a device's number.
    pub(super) block: [u8; 60],
    pub(super) extents: bool,
    /// The block with its extended attributes; 0 when there is none.
    pub(super) attributes: u64,
    /// What lies behind the fields that this inode has; attributes may.
    pub(super) rest: Vec<u8>,
}

impl Ext4 {
    /// Returns the inode with this number; they count from 1.
    pub(super) fn inode(&self, number: u64) -> Result<Inode> {
        let index = number.checked_sub(1).filter(|index| *index < self.inodes);
        let index = index.ok_or_else(|| damaged(format!("there is no inode {number}")))?;
        let table = self.group(index / self.per_group)?;
        let at = table.checked_add(index % self.per_group * self.inode_size);
        let at = at.ok_or_else(|| damaged(format!("inode {number} lies nowhere")))?;
        let bytes = self.window.near(at, usize::try_from(self.inode_size).unwrap_or(128))?;
        let flags = u32_at(&bytes, 32);
        if flags & REFUSED != 0 {
            return Err(damaged(format!("inode {number} has flags {flags:#x} without their feature")));
        }
        let wide =
            |low: usize, high: usize| u32::from(u16_at(&bytes, low)) | u32::from(u16_at(&bytes, high)) << 16;
        let mode = u32::from(u16_at(&bytes, 0));
        let block: [u8; 60] = bytes[40..100].try_into().unwrap_or([0; 60]);
        // An old device number is in the first word, in 8 bits each; a large one in the second (`ext4_iget`).
        let number_of_device = match u32_at(&block, 0) {
            0 => device(u32_at(&block, 4)),
            old => ((old >> 8) & 0xff, old & 0xff),
        };
        let kind = Kind::of(mode, number_of_device);
        // An inode longer than 128 bytes says at 128 how many more of them are fields.
        let fields = if bytes.len() > 128 { 128 + usize::from(u16_at(&bytes, 128)) } else { 128 };
        Ok(Inode {
            number,
            kind: kind.ok_or_else(|| damaged(format!("inode {number} has mode {mode:o}")))?,
            mode: mode & 0o7777,
            uid: wide(2, 120),
            gid: wide(24, 122),
            size: u64::from(u32_at(&bytes, 4)) | u64::from(u32_at(&bytes, 108)) << 32,
            block,
            extents: flags & EXTENTS != 0,
            attributes: u64::from(u32_at(&bytes, 104)) | u64::from(u16_at(&bytes, 118)) << 32,
            rest: bytes.get(fields..).unwrap_or_default().to_owned(),
        })
    }
}

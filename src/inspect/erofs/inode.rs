//! Inodes: 32 bytes (compact) or 64 (extended).

use super::{Erofs, damaged};
use crate::error::Result;
use crate::inspect::kind::{Kind, device};
use crate::inspect::window::{u16_at, u32_at, u64_at};

/// Inodes are addressed in units of 32 bytes from the metadata start (`erofs_fs.h`).
const SLOT: u64 = 32;

/// How a file's data lies on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataLayout {
    Plain,
    CompressedFull,
    Inline,
    CompressedCompact,
    Chunks,
}

/// One file, directory or other object.
#[derive(Debug, Clone)]
pub struct Inode {
    /// Its number.
    pub nid: u64,
    /// What it is.
    pub kind: Kind,
    /// Permissions with setuid, setgid and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of its data.
    pub size: u64,
    pub(super) layout: DataLayout,
    /// Where it starts, and how many bytes its head has.
    pub(crate) at: u64,
    pub(super) head: u64,
    /// Bytes of extended attributes after the head.
    pub(super) xattrs: u64,
    /// Block address, chunk format or device number, by layout and kind.
    pub(super) union: u32,
}

impl Erofs {
    /// Returns the inode with this number.
    ///
    /// # Errors
    /// A place outside of the file system, and formats that are not understood.
    pub fn inode(&self, nid: u64) -> Result<Inode> {
        let at = nid.checked_mul(SLOT).and_then(|offset| offset.checked_add(self.meta));
        let at = at.ok_or_else(|| damaged(format!("inode {nid} lies nowhere")))?;
        let compact = self.window.near(at, 32)?;
        let format = u16_at(&compact, 0);
        let extended = format & 1 != 0;
        let layout = match (format >> 1) & 7 {
            0 => DataLayout::Plain,
            1 => DataLayout::CompressedFull,
            2 => DataLayout::Inline,
            3 => DataLayout::CompressedCompact,
            4 => DataLayout::Chunks,
            other => return Err(damaged(format!("inode {nid} has data layout {other}"))),
        };
        let bytes = if extended { self.window.near(at, 64)? } else { compact };
        let (size, uid, gid) = if extended {
            (u64_at(&bytes, 8), u32_at(&bytes, 24), u32_at(&bytes, 28))
        } else {
            (u64::from(u32_at(&bytes, 8)), u16_at(&bytes, 24).into(), u16_at(&bytes, 26).into())
        };
        let mode = u32::from(u16_at(&bytes, 4));
        let union = u32_at(&bytes, 16);
        let count = u64::from(u16_at(&bytes, 2));
        Ok(Inode {
            nid,
            kind: Kind::of(mode, device(union))
                .ok_or_else(|| damaged(format!("inode {nid} has mode {mode:o}")))?,
            mode: mode & 0o7777,
            uid,
            gid,
            size,
            layout,
            at,
            head: if extended { 64 } else { 32 },
            // A header of 12 bytes, then units of 4; the count includes the header as one.
            xattrs: if count == 0 { 0 } else { 12 + 4 * (count - 1) },
            union,
        })
    }
}

//! Inodes: a head of 176 bytes, then the data fork and the attribute fork.

use super::{Xfs, damaged};
use crate::error::Result;
use crate::inspect::extents::Runs;
use crate::inspect::kind::Kind;
use crate::inspect::volume::TARGET_MAX;
use crate::inspect::window::{be16_at, be32_at, be64_at};

/// Bytes of the head of an inode of version 3 (`struct xfs_dinode`).
const HEAD: usize = 176;

/// Bytes before the data of a symbolic link that has blocks of its own, and what they begin with
/// (`struct xfs_dsymlink_hdr`).
const TARGET_HEAD: usize = 56;
const TARGET_MAGIC: &[u8] = b"XSLM";

/// `XFS_DIFLAG_REALTIME`.
const REALTIME: u16 = 1;
/// `XFS_DIFLAG2_NREXT64`: counts of extents are wide and stand elsewhere.
const WIDE_COUNTS: u64 = 1 << 4;

/// How a fork has its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// A device's number.
    Device,
    /// Within the inode.
    Local,
    /// In blocks that a list in the inode names.
    Extents,
    /// In blocks that a tree of lists names, with its root in the inode.
    Tree,
}

/// The contents of an inode, or its attributes.
#[derive(Debug, Clone)]
pub(super) struct Fork {
    pub(super) format: Format,
    /// The part of the inode.
    pub(super) bytes: Vec<u8>,
    /// How many extents there are.
    pub(super) extents: u64,
}

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
    /// How its data lies.
    pub(super) format: Format,
    pub(super) data: Fork,
    /// Its extended attributes, when it has any.
    pub(super) attributes: Option<Fork>,
    /// Whether the data is on another device.
    pub(super) realtime: bool,
}

impl Xfs {
    /// Returns the inode with this number.
    pub(super) fn inode(&self, number: u64) -> Result<Inode> {
        let per_block = self.block_bits - self.inode_bits;
        let block = self.offset(number >> per_block)?;
        let at = block + ((number & ((1 << per_block) - 1)) << self.inode_bits);
        let wrong = |what: String| damaged(format!("inode {number}: {what}"));
        let bytes = self.checked(at, 1 << self.inode_bits, 100, &format!("inode {number}"))?;
        if !bytes.starts_with(b"IN") || bytes[4] != 3 || be64_at(&bytes, 152) != number {
            return Err(wrong("it is none".to_owned()));
        }
        let mode = u32::from(be16_at(&bytes, 2));
        // Where the attribute fork begins, in units of 8 bytes behind the head; 0 when there is none.
        let fork = HEAD + 8 * usize::from(bytes[82]);
        let (data, attributes) = match bytes[82] {
            0 => (bytes.get(HEAD..), None),
            _ => (bytes.get(HEAD..fork), bytes.get(fork..)),
        };
        let data = data.ok_or_else(|| wrong("its forks lie outside".to_owned()))?;
        let wide = be64_at(&bytes, 120) & WIDE_COUNTS != 0;
        let (of_data, of_attributes) = if wide {
            (be64_at(&bytes, 24), u64::from(be32_at(&bytes, 76)))
        } else {
            (u64::from(be32_at(&bytes, 76)), u64::from(be16_at(&bytes, 80)))
        };
        let format = |byte: u8| match byte {
            0 => Ok(Format::Device),
            1 => Ok(Format::Local),
            2 => Ok(Format::Extents),
            3 => Ok(Format::Tree),
            other => Err(wrong(format!("it has format {other}"))),
        };
        let own = format(bytes[5])?;
        let attributes = match attributes {
            Some(part) => {
                Some(Fork { format: format(bytes[83])?, bytes: part.to_owned(), extents: of_attributes })
            }
            None => None,
        };
        // A device number of 14 bits major and 18 bits minor (`sysv_encode_dev`).
        let device = be32_at(data, 0);
        let kind = Kind::of(mode, (device >> 18, device & 0x3_ffff));
        Ok(Inode {
            number,
            kind: kind.ok_or_else(|| wrong(format!("it has mode {mode:o}")))?,
            mode: mode & 0o7777,
            uid: be32_at(&bytes, 8),
            gid: be32_at(&bytes, 12),
            size: be64_at(&bytes, 56),
            format: own,
            data: Fork { format: own, bytes: data.to_owned(), extents: of_data },
            attributes,
            realtime: be16_at(&bytes, 90) & REALTIME != 0,
        })
    }

    /// Returns the target of a symbolic link.
    pub(super) fn target(&self, inode: &Inode) -> Result<Vec<u8>> {
        let wrong = || damaged(format!("the target of inode {}", inode.number));
        let size =
            usize::try_from(inode.size).ok().filter(|size| *size as u64 <= TARGET_MAX).ok_or_else(wrong)?;
        if inode.format == Format::Local {
            return inode.data.bytes.get(..size).map(<[u8]>::to_owned).ok_or_else(wrong);
        }
        let mut target = Vec::new();
        // Each run has a head of its own.
        for run in self.runs(&inode.data)?.iter() {
            let len = usize::try_from(run.len).ok().filter(|len| *len <= 1 << 16).ok_or_else(wrong)?;
            let bytes = self.checked(run.physical.ok_or_else(wrong)?, len, 12, "a symbolic link")?;
            if !bytes.starts_with(TARGET_MAGIC) {
                return Err(wrong());
            }
            let part = &bytes[TARGET_HEAD..];
            target.extend_from_slice(&part[..part.len().min(size - target.len())]);
        }
        if target.len() == size { Ok(target) } else { Err(wrong()) }
    }

    /// Returns where the contents of a fork lie that are not in the inode.
    pub(super) fn runs(&self, fork: &Fork) -> Result<Runs> {
        match fork.format {
            Format::Extents => self.listed(fork),
            Format::Tree => self.tree(fork),
            Format::Local | Format::Device => Err(damaged("a fork without a map is read as if it had one")),
        }
    }
}

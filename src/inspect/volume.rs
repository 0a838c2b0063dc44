//! A file system that a machine writes to, read without mounting it: ext4 or XFS.

use std::collections::BTreeMap;
use std::io::Write;

use super::ext4::Ext4;
use super::kind::Kind;
use super::window::Window;
use super::xfs::Xfs;
use crate::error::Result;

/// The longest name that Linux knows.
pub(super) const NAME_MAX: usize = 255;

/// The largest directory that is read: 64 MiB hold a million names.
pub(super) const DIRECTORY_MAX: u64 = 1 << 26;

/// The longest target of a symbolic link that Linux takes.
pub(super) const TARGET_MAX: u64 = 4096;

/// The largest value of an extended attribute that Linux takes (`XATTR_SIZE_MAX` in `linux/limits.h`).
pub(super) const ATTRIBUTE_MAX: usize = 1 << 16;

/// What a volume says of one inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Permissions with setuid, setgid and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Target of a symbolic link; else empty.
    pub target: Vec<u8>,
    /// Extended attributes by full name.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name, never `.` or `..`, never empty, without `/`.
    pub name: Vec<u8>,
    /// The inode's number.
    pub inode: u64,
}

/// Tells whether a directory may have this name; one with `/` would lead out of it.
pub(super) fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.len() <= NAME_MAX && !name.contains(&0) && !name.contains(&b'/')
}

/// A file system.
#[derive(Clone)]
pub enum Volume {
    /// ext2, ext3 or ext4.
    Ext4(Ext4),
    /// XFS, format 5.
    Xfs(Xfs),
}

impl Volume {
    /// Opens what is in `window`; `None` when it is neither of the two.
    ///
    /// # Errors
    /// One that is damaged, was not shut down cleanly, or has features that are not read.
    pub fn open(window: &Window) -> Result<Option<Self>> {
        if Ext4::is_in(window) {
            return Ext4::open(window.clone()).map(Self::Ext4).map(Some);
        }
        if Xfs::is_in(window) {
            return Xfs::open(window.clone()).map(Self::Xfs).map(Some);
        }
        Ok(None)
    }

    /// Returns what `mount` calls it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ext4(_) => "ext4",
            Self::Xfs(_) => "xfs",
        }
    }

    /// Returns its UUID, in lower case with dashes, as fstab has it.
    #[must_use]
    pub fn uuid(&self) -> String {
        let bytes = match self {
            Self::Ext4(volume) => volume.uuid,
            Self::Xfs(volume) => volume.uuid,
        };
        uuid::Uuid::from_bytes(bytes).to_string()
    }

    /// Returns its label; empty when it has none.
    #[must_use]
    pub fn label(&self) -> &str {
        match self {
            Self::Ext4(volume) => &volume.label,
            Self::Xfs(volume) => &volume.label,
        }
    }

    /// Returns the number of the root directory's inode.
    #[must_use]
    pub const fn root(&self) -> u64 {
        match self {
            Self::Ext4(_) => super::ext4::ROOT,
            Self::Xfs(volume) => volume.root,
        }
    }

    /// Returns what an inode is.
    ///
    /// # Errors
    /// No such inode, a damaged one, and reads that fail.
    pub fn object(&self, inode: u64) -> Result<Object> {
        match self {
            Self::Ext4(volume) => volume.object(inode),
            Self::Xfs(volume) => volume.object(inode),
        }
    }

    /// Returns the names in a directory, in the order in which they lie on the disk.
    ///
    /// # Errors
    /// No directory, a damaged one, and reads that fail.
    pub fn entries(&self, directory: u64) -> Result<Vec<Entry>> {
        match self {
            Self::Ext4(volume) => volume.entries(directory),
            Self::Xfs(volume) => volume.entries(directory),
        }
    }

    /// Writes the data of a regular file to `to`.
    ///
    /// # Errors
    /// Damaged maps, and reads and writes that fail.
    pub fn copy(&self, file: u64, to: &mut dyn Write) -> Result<()> {
        match self {
            Self::Ext4(volume) => volume.copy(file, to),
            Self::Xfs(volume) => volume.copy(file, to),
        }
    }
}

/// Text up to the first zero byte, as superblocks have labels.
pub(super) fn label(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim_end().to_owned()
}

#[cfg(test)]
pub(crate) mod tests;

//! Directories: blocks of entries, each followed by its names.

use super::{Erofs, Inode, Kind, damaged};
use crate::error::Result;
use crate::inspect::window::{u16_at, u64_at};

/// Bytes of one entry (`erofs_fs.h`).
const ENTRY: usize = 12;

/// The longest name that Linux knows.
const NAME_MAX: usize = 255;

/// The largest directory that is read: 16 MiB hold half a million names.
const DIRECTORY_MAX: u64 = 1 << 24;

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name, never `.` or `..`.
    pub name: Vec<u8>,
    /// The inode's number.
    pub nid: u64,
}

impl Erofs {
    /// Returns the entries of a directory.
    ///
    /// # Errors
    /// No directory, damaged blocks, and reads that fail.
    pub fn entries(&self, directory: &Inode) -> Result<Vec<Entry>> {
        if directory.kind != Kind::Directory {
            return Err(damaged(format!("inode {} is no directory", directory.nid)));
        }
        let bytes = self.read(directory, DIRECTORY_MAX)?;
        let mut entries = Vec::new();
        for block in bytes.chunks(1 << self.block_bits) {
            block_entries(block, &mut entries)
                .ok_or_else(|| damaged(format!("directory {}", directory.nid)))?;
        }
        Ok(entries)
    }
}

/// Reads one block: the first entry's name offset says where the entries end.
fn block_entries(block: &[u8], entries: &mut Vec<Entry>) -> Option<()> {
    let names = usize::from(u16_at(block, 8));
    if names < ENTRY || names % ENTRY != 0 || names > block.len() {
        return None;
    }
    for at in (0..names).step_by(ENTRY) {
        let from = usize::from(u16_at(block, at + 8));
        let last = at + ENTRY >= names;
        let to = if last { block.len() } else { usize::from(u16_at(block, at + ENTRY + 8)) };
        let name = block.get(from..to)?;
        // The last name ends at a zero byte where the block is not full.
        let name = if last { name.split(|byte| *byte == 0).next()? } else { name };
        if name.is_empty() || name.len() > NAME_MAX || name.contains(&0) || name.contains(&b'/') {
            return None;
        }
        if name != b"." && name != b".." {
            entries.push(Entry { name: name.to_owned(), nid: u64_at(block, at) });
        }
    }
    Some(())
}

//! Directories: a few names within the inode, or blocks of names. What only finds a name fast (leaves, hashes, free
//! space) lies behind the names and is not read.

use super::inode::Inode;
use super::{Xfs, damaged};
use crate::error::Result;
use crate::inspect::volume::{DIRECTORY_MAX, Entry, is_name};
use crate::inspect::window::{be16_at, be32_at, be64_at};

/// Where in a directory's own address space the names end (`XFS_DIR2_LEAF_OFFSET`): 32 GiB.
const NAMES_END: u64 = 1 << 35;

/// What a block begins with: one that is the whole directory, and one of several (`xfs_da_format.h`).
const WHOLE: &[u8] = b"XDB3";
const PART: &[u8] = b"XDD3";

/// Bytes before the names in a block (`struct xfs_dir3_data_hdr`), and where its checksum is.
const HEAD: usize = 64;
const CHECKSUM: usize = 4;

/// What stands where a free place begins (`XFS_DIR2_DATA_FREE_TAG`).
const FREE: u16 = 0xffff;

impl Xfs {
    /// Reads the names within the inode.
    pub(super) fn short_entries(&self, inode: &Inode) -> Result<Vec<Entry>> {
        let wrong = || damaged(format!("directory {}", inode.number));
        let bytes = &inode.data.bytes;
        let (count, wide) = (bytes.first().copied().unwrap_or(0), bytes.get(1).copied().unwrap_or(0));
        // With one number that needs 8 bytes, all have 8. The first is the parent's.
        let width = if wide > 0 { 8 } else { 4 };
        let number = |at: usize| if wide > 0 { be64_at(bytes, at) } else { u64::from(be32_at(bytes, at)) };
        let mut at = 2 + width;
        let mut entries = Vec::new();
        for _ in 0..count {
            let len = usize::from(*bytes.get(at).ok_or_else(wrong)?);
            let name = bytes.get(at + 3..at + 3 + len).filter(|name| is_name(name)).ok_or_else(wrong)?;
            at += 3 + len + usize::from(self.file_types);
            if at + width > bytes.len() {
                return Err(wrong());
            }
            entries.push(Entry { name: name.to_owned(), inode: number(at) });
            at += width;
        }
        Ok(entries)
    }

    /// Reads the names in blocks.
    pub(super) fn block_entries(&self, inode: &Inode) -> Result<Vec<Entry>> {
        let size = 1_u64 << (self.block_bits + self.directory_bits);
        let runs = self.runs(&inode.data)?;
        let mut blocks: Vec<u64> = Vec::new();
        for run in runs.iter().take_while(|run| run.logical < NAMES_END) {
            let end = (run.logical + run.len).min(NAMES_END);
            // Runs may begin and end within a block of several.
            let last = blocks.last().map_or(0, |last| last + 1);
            for number in last.max(run.logical / size)..end.div_ceil(size) {
                blocks.push(number);
                if blocks.len() as u64 * size > DIRECTORY_MAX {
                    return Err(damaged(format!(
                        "directory {} has more than {DIRECTORY_MAX} bytes",
                        inode.number
                    )));
                }
            }
        }
        let mut entries = Vec::new();
        for number in blocks {
            let block = runs.bytes(&self.window, number * size, usize::try_from(size).unwrap_or(1 << 16))?;
            if self.verifies {
                super::verify(&block, CHECKSUM, "a directory")?;
            }
            self.names(&block, &mut entries).ok_or_else(|| damaged(format!("directory {}", inode.number)))?;
        }
        Ok(entries)
    }

    fn names(&self, block: &[u8], entries: &mut Vec<Entry>) -> Option<()> {
        let end = if block.starts_with(WHOLE) {
            // At the end stand a count and a number of stale ones, and before it an entry of 8 bytes for each name.
            let count = usize::try_from(be32_at(block, block.len() - 8)).ok()?;
            block.len().checked_sub(8)?.checked_sub(count.checked_mul(8)?)?
        } else if block.starts_with(PART) {
            block.len()
        } else {
            return None;
        };
        let mut at = HEAD;
        while at < end {
            if be16_at(block, at) == FREE {
                let len = usize::from(be16_at(block, at + 2));
                if len < 8 || len % 8 != 0 {
                    return None;
                }
                at += len;
                continue;
            }
            let len = usize::from(*block.get(at + 8)?);
            let name = block[..end].get(at + 9..at + 9 + len).filter(|name| is_name(name))?;
            if name != b"." && name != b".." {
                entries.push(Entry { name: name.to_owned(), inode: be64_at(block, at) });
            }
            // The number, the length, the name, its type and the place of the entry, in whole numbers of 8 bytes.
            at += (8 + 1 + len + usize::from(self.file_types) + 2).next_multiple_of(8);
        }
        (at == end).then_some(())
    }
}

//! Where the contents of a fork lie: a list of extents in the inode, or a tree with such lists as its leaves.

use super::inode::Fork;
use super::{Xfs, damaged};
use crate::error::Result;
use crate::inspect::extents::{RUNS_MAX, Run, Runs};
use crate::inspect::window::{be16_at, be64_at};

/// Bytes of one extent, and of a key with its pointer (`xfs_bmbt_rec`, `xfs_bmbt_key`, `xfs_bmbt_ptr`).
const RECORD: usize = 16;

/// What a block of the tree begins with, and the bytes of its head (`struct xfs_btree_block`, long form with checksum).
const MAGIC: &[u8] = b"BMA3";
const HEAD: usize = 72;

/// The highest root (`XFS_BM_MAXLEVELS`).
const LEVELS_MAX: u16 = 9;

/// The most blocks of one tree that are read: each leaf has about 250 extents in blocks of 4 KiB, and one at least.
const NODES_MAX: usize = 1 << 16;

impl Xfs {
    /// Reads the extents within the inode.
    pub(super) fn listed(&self, fork: &Fork) -> Result<Runs> {
        let count = usize::try_from(fork.extents).unwrap_or(usize::MAX);
        let bytes = count.checked_mul(RECORD).and_then(|len| fork.bytes.get(..len));
        let bytes = bytes.ok_or_else(|| damaged(format!("{} extents do not fit an inode", fork.extents)))?;
        let mut runs = Runs::default();
        self.records(bytes, &mut runs)?;
        Ok(runs)
    }

    /// Reads the extents below the root within the inode.
    pub(super) fn tree(&self, fork: &Fork) -> Result<Runs> {
        if fork.extents > RUNS_MAX as u64 {
            return Err(damaged(format!("{} extents are more than any file has", fork.extents)));
        }
        let bytes = &fork.bytes;
        let (level, count) = (be16_at(bytes, 0), usize::from(be16_at(bytes, 2)));
        // Keys first, as many as there is room for, then as many pointers.
        let room = bytes.len().saturating_sub(4) / RECORD;
        if level == 0 || level > LEVELS_MAX || count > room {
            return Err(damaged("the root of a tree of extents"));
        }
        let (mut runs, mut nodes) = (Runs::default(), 0);
        for number in 0..count {
            let pointer = be64_at(bytes, 4 + 8 * room + 8 * number);
            self.node(pointer, level - 1, &mut nodes, &mut runs)?;
        }
        Ok(runs)
    }

    fn node(&self, block: u64, level: u16, nodes: &mut usize, runs: &mut Runs) -> Result<()> {
        *nodes += 1;
        let bytes = self.checked(self.offset(block)?, self.block(), 64, "a tree of extents")?;
        let count = usize::from(be16_at(&bytes, 6));
        let room = (bytes.len() - HEAD) / RECORD;
        // The level falls with each step, so that no block is below itself.
        if *nodes > NODES_MAX || !bytes.starts_with(MAGIC) || be16_at(&bytes, 4) != level || count > room {
            return Err(damaged("a block of a tree of extents"));
        }
        if level == 0 {
            return self.records(&bytes[HEAD..HEAD + RECORD * count], runs);
        }
        for number in 0..count {
            self.node(be64_at(&bytes, HEAD + 8 * room + 8 * number), level - 1, nodes, runs)?;
        }
        Ok(())
    }

    fn records(&self, records: &[u8], runs: &mut Runs) -> Result<()> {
        for record in records.chunks_exact(RECORD) {
            // 1 bit: not written; 54 bits: block in the file; 52 bits: block; 21 bits: blocks (`xfs_bmbt_rec`).
            let (upper, lower) = (be64_at(record, 0), be64_at(record, 8));
            let logical = ((upper & (u64::MAX >> 1)) >> 9).checked_mul(1 << self.block_bits);
            let block = (upper & 0x1ff) << 43 | lower >> 21;
            let count = lower & 0x1f_ffff;
            let end = block.checked_add(count.saturating_sub(1)).ok_or_else(|| damaged("an extent"))?;
            // No extent crosses into another allocation group.
            if count == 0 || block >> self.group_bits != end >> self.group_bits {
                return Err(damaged("an extent"));
            }
            let physical = self.offset(block)?;
            self.offset(end)?;
            runs.push(Run {
                logical: logical.ok_or_else(|| damaged("an extent"))?,
                physical: (upper >> 63 == 0).then_some(physical),
                len: count << self.block_bits,
            })?;
        }
        Ok(())
    }
}

//! Where the data of an inode lies: a tree of extents, or blocks by number in up to three levels.

use super::inode::Inode;
use super::{Ext4, damaged};
use crate::error::Result;
use crate::inspect::extents::{Run, Runs};
use crate::inspect::window::{u16_at, u32_at};

/// Every node of a tree of extents begins with it (`ext4_extents.h`).
const MAGIC: u16 = 0xF30A;

/// The deepest tree that ext4 makes (`EXT4_MAX_EXTENT_DEPTH`).
const DEPTH_MAX: u16 = 5;

/// Extents longer than this were allocated and not written; their length is what is above (`EXT_INIT_MAX_LEN`).
const WRITTEN_MAX: u64 = 32768;

/// Blocks that an inode without extents names itself; then come blocks of numbers in one, two and three levels.
const DIRECT: usize = 12;

/// The most nodes of one tree that are read: the runs of a file are bounded, and nodes that lead to none are damage.
const NODES_MAX: u32 = 1 << 16;

impl Ext4 {
    /// Returns where the data lies.
    pub(super) fn runs(&self, inode: &Inode) -> Result<Runs> {
        let mut runs = Runs::default();
        let wrong = |what: &str| damaged(format!("the map of inode {}: {what}", inode.number));
        if inode.extents {
            let mut nodes = 0;
            self.extents(&inode.block, None, &mut nodes, &mut runs)
                .map_err(|error| error.during(format!("reading the map of inode {}", inode.number)))?;
            return Ok(runs);
        }
        let block = 1_u64 << self.block_bits;
        let needed = inode.size.div_ceil(block);
        let mut next = 0;
        for number in 0..DIRECT {
            self.single(u32_at(&inode.block, 4 * number), &mut next, &mut runs)?;
        }
        for level in 1..=3 {
            if next >= needed {
                break;
            }
            let number = u32_at(&inode.block, 4 * (DIRECT + level - 1));
            let mut nodes = 0;
            self.indirect((number, level), needed, &mut nodes, (&mut next, &mut runs))?;
        }
        if next < needed {
            return Err(wrong("the file is larger than any map"));
        }
        Ok(runs)
    }

    fn extents(&self, node: &[u8], depth: Option<u16>, nodes: &mut u32, runs: &mut Runs) -> Result<()> {
        *nodes += 1;
        let count = usize::from(u16_at(node, 2));
        let own = u16_at(node, 6);
        // A node lies one level below the one that names it, so that no node is below itself.
        let fits = depth.map_or(own <= DEPTH_MAX, |above| own + 1 == above);
        if *nodes > NODES_MAX || u16_at(node, 0) != MAGIC || !fits || 12 + 12 * count > node.len() {
            return Err(damaged("a node of the tree of extents"));
        }
        for entry in node[12..12 + 12 * count].chunks(12) {
            let logical = self.offset(u64::from(u32_at(entry, 0)))?;
            if own > 0 {
                let child = u64::from(u32_at(entry, 4)) | u64::from(u16_at(entry, 8)) << 32;
                let child = self.window.near(self.offset(child)?, 1 << self.block_bits)?;
                self.extents(&child, Some(own), nodes, runs)?;
                continue;
            }
            let len = u64::from(u16_at(entry, 4));
            let (len, written) = if len > WRITTEN_MAX { (len - WRITTEN_MAX, false) } else { (len, true) };
            let physical = u64::from(u32_at(entry, 8)) | u64::from(u16_at(entry, 6)) << 32;
            let physical = if written { Some(self.offset(physical)?) } else { None };
            runs.push(Run { logical, physical, len: self.offset(len)? })?;
        }
        Ok(())
    }

    fn single(&self, number: u32, next: &mut u64, runs: &mut Runs) -> Result<()> {
        let logical = self.offset(*next)?;
        *next += 1;
        if number == 0 {
            return Ok(());
        }
        runs.push(Run { logical, physical: Some(self.offset(u64::from(number))?), len: 1 << self.block_bits })
    }

    fn indirect(
        &self,
        (number, level): (u32, usize),
        needed: u64,
        nodes: &mut u32,
        (next, runs): (&mut u64, &mut Runs),
    ) -> Result<()> {
        if number == 0 {
            // Numbers have 4 bytes, so a block has a quarter as many.
            *next += 1 << ((self.block_bits - 2) * u32::try_from(level).unwrap_or(3));
            return Ok(());
        }
        *nodes += 1;
        if *nodes > NODES_MAX {
            return Err(damaged("a map of more blocks than any file has"));
        }
        let block = self.window.near(self.offset(u64::from(number))?, 1 << self.block_bits)?;
        for entry in block.chunks(4) {
            if *next >= needed {
                break;
            }
            match level {
                1 => self.single(u32_at(entry, 0), next, runs)?,
                _ => self.indirect((u32_at(entry, 0), level - 1), needed, nodes, (&mut *next, &mut *runs))?,
            }
        }
        Ok(())
    }
}

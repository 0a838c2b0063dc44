//! Whether the log has nothing that is not in its place yet: its last record says that it was unmounted.
//!
//! The log is a ring of blocks of 512 bytes. Each block begins with the number of the turn in which it was written
//! (or, the first of a record, has it behind the record's number), so the place where the number changes is where
//! the next record would be written (`xlog_find_head`, `xlog_check_unmount_rec` in `fs/xfs/xfs_log_recover.c`).

use super::{Xfs, damaged};
use crate::error::{Error, Result};
use crate::inspect::window::{Window, be32_at};

/// Bytes of a block of the log, whatever the device.
const BLOCK: u64 = 512;

/// What a record begins with (`XLOG_HEADER_MAGIC_NUM`).
const RECORD: u32 = 0xFEED_BABE;

/// Bytes of a record for which one block of head is enough (`XLOG_HEADER_CYCLE_SIZE`).
const PER_HEAD: u32 = 32 * 1024;

/// How far back a record's head can be: a record has at most 256 KiB (`XLOG_MAX_RECORD_BSIZE`), with 8 blocks of head.
const BACK: u64 = 512 + 8;

/// `XLOG_UNMOUNT_TRANS` in the flags of an operation.
const UNMOUNT: u8 = 0x20;

struct Log {
    window: Window,
    blocks: u64,
}

impl Log {
    fn block(&self, number: u64) -> Result<Vec<u8>> {
        // The log is a ring.
        self.window.near(number % self.blocks * BLOCK, 512)
    }

    fn turn(&self, number: u64) -> Result<u32> {
        let block = self.block(number)?;
        Ok(if be32_at(&block, 0) == RECORD { be32_at(&block, 4) } else { be32_at(&block, 0) })
    }

    /// Returns the first block that was not written in the turn of the first one; the number of blocks when all were.
    fn head(&self) -> Result<u64> {
        let first = self.turn(0)?;
        let (mut low, mut high) = (0, self.blocks);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.turn(middle)? == first { low = middle } else { high = middle }
        }
        Ok(high)
    }

    /// Tells whether the last record before `head` says that the file system was unmounted, and is the last.
    fn ends_with_unmount(&self, head: u64) -> Result<bool> {
        for back in 1..=BACK.min(self.blocks) {
            let at = self.blocks + head - back;
            let block = self.block(at)?;
            if be32_at(&block, 0) != RECORD {
                continue;
            }
            let (len, operations, size) = (be32_at(&block, 12), be32_at(&block, 40), be32_at(&block, 320));
            let heads = u64::from(size.div_ceil(PER_HEAD)).max(1);
            let last = heads + u64::from(len).div_ceil(BLOCK) == back;
            // The flags of the only operation: transaction 4 bytes, length 4, client 1.
            return Ok(last && operations == 1 && self.block(at + heads)?[9] & UNMOUNT != 0);
        }
        Ok(false)
    }
}

impl Xfs {
    /// Makes sure that nothing must be replayed.
    pub(super) fn must_be_clean(&self, start: u64, blocks: u32) -> Result<()> {
        if start == 0 {
            return Err(Error::failed(
                "the XFS file system has its log on another device, which rekiln does not read",
            ));
        }
        let bytes = u64::from(blocks) << self.block_bits;
        let window = self.window.part(self.offset(start)?, bytes)?;
        let log = Log { window, blocks: bytes / BLOCK };
        if log.blocks == 0 {
            return Err(damaged("it has no log"));
        }
        if log.ends_with_unmount(log.head()?)? {
            return Ok(());
        }
        Err(Error::failed("the XFS file system was not shut down cleanly: its log must be replayed")
            .hint("shut the machine down properly before its disk is taken, or mount and unmount a copy"))
    }
}

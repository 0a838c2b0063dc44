//! The data of files that are not compressed: whole blocks, tails beside the inode, chunks.

use std::io::Write;

use super::inode::DataLayout;
use super::{Erofs, Inode, damaged};
use crate::error::{Doing as _, Error, Result};
use crate::inspect::window::{u16_at, u32_at};

/// How much is copied at once: large enough that system calls are lost in the copying.
const COPY: u64 = 1 << 18;

/// A chunk that was never written (`erofs_fs.h`): zeros.
const HOLE: u32 = u32::MAX;

/// Where the data of an inode lies: byte offsets and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pieces {
    /// Blocks of its own, from the beginning of the data; the last one may not be full.
    pub(crate) blocks: (u64, u64),
    /// The rest, beside the inode.
    pub(crate) tail: (u64, u64),
}

impl Erofs {
    /// Returns the data of an inode.
    ///
    /// # Errors
    /// More than `limit` bytes, damaged places, and reads that fail.
    pub fn read(&self, inode: &Inode, limit: u64) -> Result<Vec<u8>> {
        if inode.size > limit {
            return Err(Error::failed(format!("{} bytes are more than {limit}", inode.size)));
        }
        let mut bytes = Vec::new();
        self.copy(inode, &mut bytes)?;
        Ok(bytes)
    }

    /// Writes the data of an inode to `to`.
    ///
    /// # Errors
    /// Damaged places, and reads and writes that fail.
    pub fn copy(&self, inode: &Inode, to: &mut dyn Write) -> Result<()> {
        match inode.layout {
            DataLayout::Plain | DataLayout::Inline => {
                let Pieces { blocks, tail } = self.pieces(inode)?;
                self.copy_range(blocks.0, blocks.1, to)?;
                self.copy_range(tail.0, tail.1, to)
            }
            DataLayout::Chunks => self.copy_chunks(inode, to),
            DataLayout::CompressedFull | DataLayout::CompressedCompact => self.copy_compressed(inode, to),
        }
    }

    /// Returns where the data of an inode lies that is neither compressed nor in chunks.
    pub(crate) fn pieces(&self, inode: &Inode) -> Result<Pieces> {
        let start = self.offset(inode.union);
        match inode.layout {
            DataLayout::Plain => Ok(Pieces { blocks: (start, inode.size), tail: (0, 0) }),
            DataLayout::Inline => {
                let tail = inode.size % self.block();
                let at = inode.at + inode.head + inode.xattrs;
                if at % self.block() + tail > self.block() {
                    return Err(damaged(format!("the tail of inode {} crosses a block", inode.nid)));
                }
                Ok(Pieces { blocks: (start, inode.size - tail), tail: (at, tail) })
            }
            other => Err(Error::failed(format!("the data of inode {} lies as {other:?}", inode.nid))),
        }
    }

    pub(super) fn copy_range(&self, mut at: u64, mut len: u64, to: &mut dyn Write) -> Result<()> {
        while len > 0 {
            let part = len.min(COPY);
            let bytes = self.window.bytes(at, usize::try_from(part).unwrap_or(0))?;
            to.write_all(&bytes).doing(|| "copying a file's data")?;
            at += part;
            len -= part;
        }
        Ok(())
    }

    fn copy_chunks(&self, inode: &Inode, to: &mut dyn Write) -> Result<()> {
        let format = inode.union & 0xffff;
        // Bits 0-4: chunk size in blocks, as a power of two; bit 5: entries of 8 bytes with a device, else of 4.
        let bits = self.block_bits + (format & 0x1f);
        let wide = format & 0x20 != 0;
        if format >> 6 != 0 || bits > 40 {
            return Err(damaged(format!("inode {} has chunk format {format:#x}", inode.nid)));
        }
        let unit = if wide { 8 } else { 4 };
        let index = (inode.at + inode.head + inode.xattrs).next_multiple_of(unit);
        let mut done = 0;
        let mut number = 0;
        while done < inode.size {
            let entry = self.window.near(index + number * unit, if wide { 8 } else { 4 })?;
            if wide && u16_at(&entry, 2) != 0 {
                return Err(Error::failed("this erofs file system keeps chunks on another device"));
            }
            let block = u32_at(&entry, if wide { 4 } else { 0 });
            let len = (inode.size - done).min(1 << bits);
            if block == HOLE {
                zeros(len, to)?;
            } else {
                self.copy_range(self.offset(block), len, to)?;
            }
            done += len;
            number += 1;
        }
        Ok(())
    }
}

fn zeros(mut len: u64, to: &mut dyn Write) -> Result<()> {
    let block = [0; 4096];
    while len > 0 {
        let part = len.min(4096);
        to.write_all(&block[..usize::try_from(part).unwrap_or(0)]).doing(|| "copying a file's data")?;
        len -= part;
    }
    Ok(())
}

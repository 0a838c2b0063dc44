//! The data of files compressed with LZ4: logical clusters of one block, each a head of an extent or not.
//!
//! An index says for each logical cluster whether an extent starts in it, where in it, and in which block
//! of the disk the extent's compressed bytes lie (right-aligned, zeros before them).

use std::io::Write;

use super::inode::DataLayout;
use super::{Erofs, Inode, damaged};
use crate::error::{Doing as _, Error, Result};
use crate::inspect::window::{u16_at, u32_at};

/// `h_advise`: the middle of the compact index has 2 bytes a cluster (`erofs_fs.h`).
const ADVISE_2B: u16 = 0x1;
/// `h_advise`: physical clusters of several blocks.
const ADVISE_BIG: u16 = 0x2 | 0x4;
/// In the first cluster after a head: the low bits are the number of blocks of the physical cluster.
const BLOCK_COUNT: u16 = 0x800;
/// The largest extent that is unpacked: mkfs.erofs writes at most 1 MiB by `-C`; twice that is room enough.
const EXTENT_MAX: u64 = 1 << 21;

/// One logical cluster's entry in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cluster {
    /// An extent starts `at` bytes into it; its bytes start at `block`.
    Head { plain: bool, at: u16, block: u32 },
    /// It continues the extent; `blocks` is known in the one after the head for large physical clusters.
    Rest { blocks: Option<u16> },
}

/// One extent: from where in the file, stored or packed, where on the disk.
struct Extent {
    from: u64,
    plain: bool,
    block: u32,
    blocks: u64,
}

impl Erofs {
    pub(super) fn copy_compressed(&self, inode: &Inode, to: &mut dyn Write) -> Result<()> {
        let extents = self.extents(inode)?;
        if extents.first().is_none_or(|first| first.from != 0) && inode.size != 0 {
            return Err(damaged(format!("the data of inode {} does not start at 0", inode.nid)));
        }
        for (number, extent) in extents.iter().enumerate() {
            let end = extents.get(number + 1).map_or(inode.size, |next| next.from);
            let len = end.checked_sub(extent.from).filter(|len| *len <= EXTENT_MAX);
            let len = len.ok_or_else(|| damaged(format!("an extent of inode {}", inode.nid)))?;
            let at = self.offset(extent.block);
            if extent.plain {
                if len > extent.blocks << self.block_bits {
                    return Err(damaged(format!("a stored extent of inode {}", inode.nid)));
                }
                self.copy_range(at, len, to)?;
                continue;
            }
            let packed =
                self.window.bytes(at, usize::try_from(extent.blocks << self.block_bits).unwrap_or(0))?;
            let start =
                if self.features & 1 != 0 { packed.iter().position(|byte| *byte != 0) } else { Some(0) };
            let packed = start.and_then(|start| packed.get(start..)).unwrap_or_default();
            let bytes = unpack(packed, usize::try_from(len).unwrap_or(0))
                .ok_or_else(|| damaged(format!("the LZ4 data of inode {}", inode.nid)))?;
            to.write_all(&bytes).doing(|| "copying a file's data")?;
        }
        Ok(())
    }

    fn extents(&self, inode: &Inode) -> Result<Vec<Extent>> {
        let start = (inode.at + inode.head + inode.xattrs).next_multiple_of(8);
        let header = self.window.near(start, 8)?;
        let advise = u16_at(&header, 4);
        if advise & !(ADVISE_2B | ADVISE_BIG) != 0 {
            return Err(Error::failed(format!("compressed data with options {advise:#x} is not supported")));
        }
        // The low four bits: 0 is LZ4. The cluster size is that of blocks unless the low bits say otherwise.
        if header[6] & 0xf != 0 || header[7] & 7 != 0 {
            return Err(Error::failed(
                "compressed data that is not LZ4 in clusters of one block is not supported",
            ));
        }
        let count = inode.size.div_ceil(self.block());
        // An index entry has at least 2 bytes, so more clusters than bytes cannot be.
        if count > self.window.len() {
            return Err(damaged(format!("inode {} has {} bytes", inode.nid, inode.size)));
        }
        let big = advise & ADVISE_BIG != 0;
        let clusters = if inode.layout == DataLayout::CompressedFull {
            self.full_index(start + 16, count, inode.nid)?
        } else {
            self.compact_index(start + 8, count, advise & ADVISE_2B != 0, big)?
        };
        Ok(heads(&clusters, self.block_bits))
    }

    /// The legacy index: 8 bytes a cluster.
    fn full_index(&self, at: u64, count: u64, nid: u64) -> Result<Vec<Cluster>> {
        let mut clusters = Vec::new();
        for number in 0..count {
            let entry = self.window.near(at + 8 * number, 8)?;
            clusters.push(match u16_at(&entry, 0) & 3 {
                kind @ (0 | 1) => {
                    Cluster::Head { plain: kind == 0, at: u16_at(&entry, 2), block: u32_at(&entry, 4) }
                }
                2 => {
                    let delta = u16_at(&entry, 4);
                    Cluster::Rest { blocks: (delta & BLOCK_COUNT != 0).then_some(delta & !BLOCK_COUNT) }
                }
                _ => return Err(damaged(format!("the index of inode {nid}"))),
            });
        }
        Ok(clusters)
    }

    /// The compact index: packs of 2 entries in 8 bytes or of 16 in 32, each ending with a block address.
    fn compact_index(&self, mut at: u64, count: u64, two: bool, big: bool) -> Result<Vec<Cluster>> {
        // Packs of 32 bytes are aligned to 32; before and after them are packs of 8.
        let before = ((32 - at % 32) / 4) & 7;
        let middle = if two && before < count { (count - before) / 16 * 16 } else { 0 };
        let mut clusters = Vec::new();
        while (clusters.len() as u64) < count {
            let done = clusters.len() as u64;
            let (entries, bits, bytes) =
                if done >= before && done < before + middle { (16, 14, 32) } else { (2, 16, 8) };
            let pack = self.window.near(at, bytes)?;
            unpack_index(&pack, entries, bits, big, &mut clusters)
                .ok_or_else(|| damaged("a compact index"))?;
            at += bytes as u64;
        }
        clusters.truncate(usize::try_from(count).unwrap_or(usize::MAX));
        Ok(clusters)
    }
}

/// Reads one pack: entries of `bits` bits, 12 of them the value and 2 the kind, then the base address.
fn unpack_index(pack: &[u8], entries: usize, bits: usize, big: bool, to: &mut Vec<Cluster>) -> Option<()> {
    let base = u32_at(pack, pack.len() - 4);
    let mut block = if big { base } else { base.checked_add(1)? };
    // Within a pack the address grows by the blocks of each extent that started or continued in it.
    for entry in 0..entries {
        let at = entry * bits;
        let word = u32_at(pack, at / 8) >> (at % 8);
        let value = u16::try_from(word & 0xfff).ok()?;
        match (word >> 12) & 3 {
            kind @ (0 | 1) => {
                to.push(Cluster::Head { plain: kind == 0, at: value, block });
                block = block.checked_add(1)?;
            }
            2 => {
                let blocks = (big && value & BLOCK_COUNT != 0).then_some(value & !BLOCK_COUNT);
                if let Some(blocks) = blocks {
                    // The head counted one already, when it is in this pack.
                    let counted = u32::from(entry > 0);
                    block = block.checked_add(u32::from(blocks))?.checked_sub(counted)?;
                }
                to.push(Cluster::Rest { blocks });
            }
            _ => return None,
        }
    }
    Some(())
}

fn heads(clusters: &[Cluster], block_bits: u32) -> Vec<Extent> {
    let mut extents = Vec::new();
    for (number, cluster) in clusters.iter().enumerate() {
        if let Cluster::Head { plain, at, block } = *cluster {
            let blocks = match clusters.get(number + 1) {
                Some(Cluster::Rest { blocks: Some(blocks) }) => u64::from(*blocks),
                _ => 1,
            };
            extents.push(Extent {
                from: ((number as u64) << block_bits) + u64::from(at),
                plain,
                block,
                blocks,
            });
        }
    }
    extents
}

/// Unpacks one LZ4 block to exactly `len` bytes. The format is `lz4_Block_format.md`.
fn unpack(mut packed: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(len);
    loop {
        let token = take(&mut packed, 1)?[0];
        let literals = length(token >> 4, &mut packed)?;
        out.extend_from_slice(take(&mut packed, literals)?);
        if out.len() >= len {
            return (out.len() == len).then_some(out);
        }
        let distance = usize::from(u16_at(take(&mut packed, 2)?, 0));
        // Matches have at least 4 bytes.
        let count = length(token & 15, &mut packed)?.checked_add(4)?;
        let from = out.len().checked_sub(distance).filter(|_| distance > 0)?;
        if count > len - out.len() {
            return None;
        }
        // The match may overlap what it writes: a run is copied as it grows.
        for at in from..from + count {
            out.push(*out.get(at)?);
        }
    }
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (part, rest) = input.split_at_checked(count)?;
    *input = rest;
    Some(part)
}

/// Reads a length: 15 says that bytes follow, as long as they are 255.
fn length(nibble: u8, input: &mut &[u8]) -> Option<usize> {
    let mut length = usize::from(nibble);
    if nibble == 15 {
        loop {
            let more = take(input, 1)?[0];
            length = length.checked_add(more.into())?;
            if more != 255 {
                break;
            }
        }
    }
    Some(length)
}

//! Moves the data of a file system's files to where they are to lie.
//!
//! `mkfs.erofs` writes inodes, names and data as it comes to them: one file more moves all that follow. Here the inodes
//! and names stay in its order, at the start, and the data of each regular file goes where it is told to. The format is
//! the kernel's (`fs/erofs/erofs_fs.h`): an inode says in which block its data begins, a name which inode it means.
//! Files are read through the reader that `inspect` has; what that does not understand is refused.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use super::disk::copy_part;
use super::layout::BLOCK;
use crate::error::{Doing as _, Error, Result};
use crate::inspect::erofs::{Entry, Erofs, Inode, Kind, SUPERBLOCK};
use crate::inspect::window::{Window, u16_at, u32_at, u64_at};

/// Inodes are numbered in units of 32 bytes.
const SLOT: u64 = 32;

/// Bytes of one name's entry in a directory, which begins with the inode's number.
const ENTRY: usize = 12;

/// Where an inode says in which block its data begins.
const DATA_AT: usize = 16;

/// Offsets in the superblock: its checksum, compatible features, the root's number (2 bytes), how many blocks there are,
/// and the blocks from which inodes and shared attributes are counted.
const CHECKSUM_AT: usize = 4;
const FEATURES_AT: usize = 8;
const ROOT_AT: usize = 14;
const BLOCKS_AT: usize = 36;
const META_AT: usize = 40;
const XATTRS_AT: usize = 44;

/// The compatible feature that the superblock's block has a checksum.
const HAS_CHECKSUM: u32 = 1;

/// A regular file with blocks of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Its path without the leading slash; of several names, the first in order.
    pub path: String,
    /// How many blocks of 4096 bytes it has.
    pub blocks: u64,
    /// Its inode's offset, and its first block, in the file system as it was made.
    inode: u64,
    first: u64,
}

#[cfg(test)]
impl Extent {
    pub(super) fn test(path: &str, blocks: u64) -> Self {
        Self { path: path.to_owned(), blocks, inode: 0, first: 0 }
    }
}

/// A file system as `mkfs.erofs` made it.
pub struct Made {
    erofs: Erofs,
    source: File,
    /// The files, in the order of their paths.
    extents: Vec<Extent>,
    directories: Vec<Inode>,
    /// Symbolic links, whose targets may have blocks.
    links: Vec<Inode>,
    /// For each block, which one it will be; `None` when it is a file's data.
    moved: Vec<Option<u64>>,
    metadata: u64,
}

impl Made {
    /// Reads all inodes and names.
    ///
    /// # Errors
    /// What is not understood, and reads that fail.
    pub fn read(path: &Path) -> Result<Self> {
        let window = Window::open(path)?;
        let blocks = window.len() / BLOCK;
        let erofs = Erofs::open(window)?;
        if erofs.block() != BLOCK {
            return Err(Error::failed(format!("the layer has blocks of {} bytes", erofs.block())));
        }
        let source = File::open(path).doing(|| format!("opening {}", path.display()))?;
        let mut made = Self {
            erofs,
            source,
            extents: Vec::new(),
            directories: Vec::new(),
            links: Vec::new(),
            moved: Vec::new(),
            metadata: 0,
        };
        made.walk()?;
        made.split(blocks)?;
        Ok(made)
    }

    /// Returns the files that are to be placed, in the order of their paths.
    #[must_use]
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Returns how many blocks everything else has, which comes first.
    #[must_use]
    pub const fn metadata(&self) -> u64 {
        self.metadata
    }

    fn walk(&mut self) -> Result<()> {
        // By inode, so that a file with several names has one place.
        let mut files: BTreeMap<u64, Extent> = BTreeMap::new();
        let mut waiting = vec![(String::new(), self.erofs.root()?)];
        while let Some((directory, inode)) = waiting.pop() {
            for Entry { name, nid } in self.erofs.entries(&inode)? {
                let path = format!("{directory}{}", String::from_utf8_lossy(&name));
                let child = self.erofs.inode(nid).map_err(|error| error.during(format!("reading {path}")))?;
                match child.kind {
                    Kind::Directory => waiting.push((format!("{path}/"), child)),
                    Kind::Symlink => self.links.push(child),
                    Kind::File => self.add(&mut files, path, &child)?,
                    _ => {}
                }
            }
            self.directories.push(inode);
        }
        self.extents = files.into_values().collect();
        self.extents.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(())
    }

    fn add(&self, files: &mut BTreeMap<u64, Extent>, path: String, inode: &Inode) -> Result<()> {
        let (offset, bytes) = self.erofs.pieces(inode)?.blocks;
        if bytes == 0 {
            return Ok(());
        }
        let found = Extent { path, blocks: bytes.div_ceil(BLOCK), inode: inode.at, first: offset / BLOCK };
        let known = files.entry(inode.nid).or_insert_with(|| found.clone());
        if found.path < known.path {
            known.path = found.path;
        }
        Ok(())
    }

    /// Tells the files' blocks from all others, which keep their order: what crosses from one into the next still does.
    fn split(&mut self, blocks: u64) -> Result<()> {
        let count = usize::try_from(blocks).doing(|| "counting the layer's blocks")?;
        let mut data = vec![false; count];
        for Extent { path, blocks, first, .. } in &self.extents {
            for block in *first..first.saturating_add(*blocks) {
                let taken = usize::try_from(block).ok().and_then(|block| data.get_mut(block));
                // Block 0 is the superblock's.
                let taken = taken.filter(|taken| block > 0 && !**taken).ok_or_else(|| {
                    Error::failed(format!("block {block} of {path} is another's, or none of the layer's"))
                })?;
                *taken = true;
            }
        }
        let metadata = &mut self.metadata;
        let moved = data.into_iter().map(|is_data| {
            let next = *metadata;
            *metadata += u64::from(!is_data);
            (!is_data).then_some(next)
        });
        self.moved = moved.collect();
        Ok(())
    }

    /// Returns where the byte at this offset will be, which is no file's data.
    fn offset(&self, offset: u64) -> Result<u64> {
        let block = usize::try_from(offset / BLOCK).ok().and_then(|block| *self.moved.get(block)?);
        let block = block.ok_or_else(|| {
            Error::failed(format!("the layer's metadata at {offset} lies in a file's data"))
        })?;
        Ok(block * BLOCK + offset % BLOCK)
    }

    /// Writes the file system to `to` with each file's data beginning at the block that `places` has for it; `end` is the
    /// first block after all. Places are behind the metadata and do not overlap.
    ///
    /// # Errors
    /// Reads and writes that fail.
    pub fn write(&self, to: &Path, places: &[u64], end: u64) -> Result<()> {
        let doing = || format!("writing {}", to.display());
        let mut file = File::create_new(to).doing(doing)?;
        file.set_len(end * BLOCK).doing(doing)?;
        file.write_all(&self.metadata_for(places, end)?).doing(doing)?;
        // In the order of the disk as it was made: it is read once from front to end.
        let mut order: Vec<_> = self.extents.iter().zip(places).collect();
        order.sort_by_key(|(extent, _)| extent.first);
        for (extent, at) in order {
            let (start, len) = (extent.first * BLOCK, extent.blocks * BLOCK);
            let copied = copy_part(&self.source, start..start + len, &mut file, at * BLOCK).doing(doing)?;
            if copied != len {
                return Err(Error::failed(format!("{} ends within {}", to.display(), extent.path)));
            }
        }
        Ok(())
    }

    /// Returns the metadata as it will be.
    fn metadata_for(&self, places: &[u64], end: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let kept = self.moved.iter().zip(0_u64..).filter(|(moved, _)| moved.is_some());
        for (_, block) in kept {
            let len = usize::try_from(BLOCK).doing(|| "reading a block")?;
            bytes.extend(self.erofs.window.bytes(block * BLOCK, len)?);
        }
        let mut patch = Patch { bytes };
        for (extent, at) in self.extents.iter().zip(places) {
            patch.u32(self.offset(extent.inode)?, DATA_AT, *at)?;
        }
        for inode in self.directories.iter().chain(&self.links) {
            let (offset, bytes) = self.erofs.pieces(inode)?.blocks;
            if bytes > 0 {
                patch.u32(self.offset(inode.at)?, DATA_AT, self.offset(offset)? / BLOCK)?;
            }
        }
        for directory in &self.directories {
            self.renumber(directory, &mut patch)?;
        }
        patch.u16(SUPERBLOCK, ROOT_AT, self.number(self.erofs.root()?.at)?)?;
        patch.u32(SUPERBLOCK, BLOCKS_AT, end)?;
        patch.u32(SUPERBLOCK, META_AT, 0)?;
        patch.u32(SUPERBLOCK, XATTRS_AT, self.offset(self.erofs.xattrs)? / BLOCK)?;
        patch.checksum()?;
        Ok(patch.bytes)
    }

    /// Returns the number that the inode at this offset will have.
    fn number(&self, offset: u64) -> Result<u64> {
        Ok(self.offset(offset)? / SLOT)
    }

    /// Gives the names of a directory their inodes' new numbers.
    fn renumber(&self, directory: &Inode, patch: &mut Patch) -> Result<()> {
        let pieces = self.erofs.pieces(directory)?;
        for (offset, bytes) in [pieces.blocks, pieces.tail] {
            let mut done = 0;
            while done < bytes {
                let len = (bytes - done).min(BLOCK);
                let at = self.offset(offset + done)?;
                let block = patch.part(at, len)?;
                // The first entry's name begins where the entries end.
                let names = usize::from(u16_at(block, 8)).min(block.len());
                for entry in block[..names].chunks_exact_mut(ENTRY) {
                    let nid = u64_at(entry, 0);
                    let old = nid.saturating_mul(SLOT).saturating_add(self.erofs.meta);
                    entry[..8].copy_from_slice(&self.number(old)?.to_le_bytes());
                }
                done += len;
            }
        }
        Ok(())
    }
}

/// Metadata in the making.
struct Patch {
    bytes: Vec<u8>,
}

impl Patch {
    fn part(&mut self, offset: u64, len: u64) -> Result<&mut [u8]> {
        let from = usize::try_from(offset).ok();
        let part = from.zip(usize::try_from(len).ok()).and_then(|(from, len)| {
            let end = from.checked_add(len)?;
            self.bytes.get_mut(from..end)
        });
        part.ok_or_else(|| Error::failed(format!("{len} bytes at {offset} are none of the layer's metadata")))
    }

    fn u16(&mut self, base: u64, at: usize, value: u64) -> Result<()> {
        let value = u16::try_from(value).doing(|| "numbering the layer's root")?;
        self.part(base + at as u64, 2)?.copy_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn u32(&mut self, base: u64, at: usize, value: u64) -> Result<()> {
        let value = u32::try_from(value).doing(|| "placing a file in the layer")?;
        self.part(base + at as u64, 4)?.copy_from_slice(&value.to_le_bytes());
        Ok(())
    }

    /// Computes the superblock's checksum anew where it has one: CRC-32C from the superblock to the end of its block,
    /// with zeros in its own place and without the last inversion.
    fn checksum(&mut self) -> Result<()> {
        let block = self.part(SUPERBLOCK, BLOCK - SUPERBLOCK)?;
        if u32_at(block, FEATURES_AT) & HAS_CHECKSUM == 0 {
            return Ok(());
        }
        block[CHECKSUM_AT..CHECKSUM_AT + 4].fill(0);
        let checksum = !crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(block);
        block[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests;

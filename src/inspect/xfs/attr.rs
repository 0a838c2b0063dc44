//! Extended attributes: a few within the inode, or a tree of blocks whose leaves have them in a chain; large values
//! have blocks of their own.

use std::collections::BTreeMap;

use super::inode::{Fork, Format, Inode};
use super::{Xfs, damaged};
use crate::error::Result;
use crate::inspect::extents::Runs;
use crate::inspect::volume::ATTRIBUTE_MAX;
use crate::inspect::window::{be16_at, be32_at};

/// Where the kinds of blocks have their number, and the numbers (`xfs_da_format.h`).
const MAGIC: usize = 8;
const LEAF: u16 = 0x3bee;
const NODE: u16 = 0x3ebe;
/// Where both have their checksum.
const CHECKSUM: usize = 12;

/// Bytes of a leaf before its entries, and of an entry (`struct xfs_attr3_leaf_hdr`, `struct xfs_attr_leaf_entry`).
const LEAF_HEAD: usize = 80;
const LEAF_ENTRY: usize = 8;

/// Bytes before the part of a value that has blocks of its own, what they begin with, and where the checksum is
/// (`struct xfs_attr3_rmt_hdr`).
const REMOTE_HEAD: usize = 56;
const REMOTE_MAGIC: &[u8] = b"XARM";

/// Flags of an attribute: its value stands beside its name; namespaces; a parent pointer; one half removed.
const LOCAL: u8 = 0x01;
const ROOT: u8 = 0x02;
const SECURE: u8 = 0x04;
const PARENT: u8 = 0x08;
const INCOMPLETE: u8 = 0x80;

/// The deepest tree (`XFS_DA_NODE_MAXDEPTH`), and the most leaves that are read of one inode: 4 MiB in blocks of 4 KiB.
const DEPTH_MAX: usize = 5;
const LEAVES_MAX: usize = 1024;

type Attributes = BTreeMap<String, Vec<u8>>;

impl Xfs {
    /// Returns the extended attributes of an inode by full name.
    pub(super) fn xattrs(&self, inode: &Inode) -> Result<Attributes> {
        let mut found = Attributes::new();
        let Some(fork) = &inode.attributes else { return Ok(found) };
        match fork.format {
            Format::Local => {
                short(&fork.bytes, &mut found).ok_or_else(|| damaged("attributes in an inode"))?;
            }
            Format::Extents if fork.extents == 0 => {}
            Format::Extents | Format::Tree => self.leaves(fork, &mut found)?,
            Format::Device => return Err(damaged("attributes in place of a device")),
        }
        Ok(found)
    }

    fn leaves(&self, fork: &Fork, found: &mut Attributes) -> Result<()> {
        let runs = self.runs(fork)?;
        let mut block = self.attribute_block(&runs, 0)?;
        // The first leaf is below the first entry of each node.
        for depth in 0.. {
            match be16_at(&block, MAGIC) {
                LEAF => break,
                NODE if depth < DEPTH_MAX => block = self.attribute_block(&runs, be32_at(&block, 68))?,
                _ => return Err(damaged("a node of a tree of attributes")),
            }
        }
        for _ in 0..LEAVES_MAX {
            self.leaf(&block, &runs, found)?;
            match be32_at(&block, 0) {
                0 => return Ok(()),
                next => block = self.attribute_block(&runs, next)?,
            }
        }
        Err(damaged(format!("the attributes of one inode have more than {LEAVES_MAX} leaves")))
    }

    fn attribute_block(&self, runs: &Runs, number: u32) -> Result<Vec<u8>> {
        let block = runs.bytes(&self.window, u64::from(number) << self.block_bits, self.block())?;
        if self.verifies {
            super::verify(&block, CHECKSUM, "attributes")?;
        }
        Ok(block)
    }

    fn leaf(&self, block: &[u8], runs: &Runs, found: &mut Attributes) -> Result<()> {
        let wrong = || damaged("a leaf of attributes");
        if be16_at(block, MAGIC) != LEAF {
            return Err(wrong());
        }
        for number in 0..usize::from(be16_at(block, 56)) {
            let at = LEAF_HEAD + LEAF_ENTRY * number;
            let entry = block.get(at..at + LEAF_ENTRY).ok_or_else(wrong)?;
            let (place, flags) = (usize::from(be16_at(entry, 4)), entry[6]);
            let body = block.get(place..).filter(|body| body.len() >= 9).ok_or_else(wrong)?;
            let (name, value) = if flags & LOCAL != 0 {
                let (size, len) = (usize::from(be16_at(body, 0)), usize::from(body[2]));
                let value = body.get(3 + len..3 + len + size).ok_or_else(wrong)?;
                (body.get(3..3 + len).ok_or_else(wrong)?, value.to_owned())
            } else {
                let name = body.get(9..9 + usize::from(body[8])).ok_or_else(wrong)?;
                if flags & INCOMPLETE != 0 {
                    continue;
                }
                (name, self.remote(runs, be32_at(body, 0), be32_at(body, 4))?)
            };
            put(flags, name, value, found);
        }
        Ok(())
    }

    fn remote(&self, runs: &Runs, block: u32, size: u32) -> Result<Vec<u8>> {
        let wrong = || damaged("the value of an attribute");
        let size = usize::try_from(size).ok().filter(|size| *size <= ATTRIBUTE_MAX).ok_or_else(wrong)?;
        let mut value = Vec::new();
        let mut number = block;
        while value.len() < size {
            let bytes = self.attribute_block(runs, number)?;
            if !bytes.starts_with(REMOTE_MAGIC) {
                return Err(wrong());
            }
            let part = &bytes[REMOTE_HEAD..];
            value.extend_from_slice(&part[..part.len().min(size - value.len())]);
            number = number.checked_add(1).ok_or_else(wrong)?;
        }
        Ok(value)
    }
}

/// Reads those within the inode: a size and a count, then lengths, flags, name and value of each.
fn short(bytes: &[u8], found: &mut Attributes) -> Option<()> {
    let mut at = 4;
    for _ in 0..*bytes.get(2)? {
        let head = bytes.get(at..at + 3)?;
        let (len, size) = (usize::from(head[0]), usize::from(head[1]));
        let name = bytes.get(at + 3..at + 3 + len)?;
        let value = bytes.get(at + 3 + len..at + 3 + len + size)?;
        put(head[2], name, value.to_owned(), found);
        at += 3 + len + size;
    }
    Some(())
}

fn put(flags: u8, name: &[u8], value: Vec<u8>, found: &mut Attributes) {
    // A parent pointer is none of the attributes that programs see, and one half removed is none any more.
    if flags & (PARENT | INCOMPLETE) != 0 {
        return;
    }
    let prefix = match flags & (ROOT | SECURE) {
        ROOT => "trusted.",
        SECURE => "security.",
        _ => "user.",
    };
    found.insert(format!("{prefix}{}", String::from_utf8_lossy(name)), value);
}

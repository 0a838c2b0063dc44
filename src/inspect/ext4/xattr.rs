//! Extended attributes: some behind the inode's fields, some in a block of their own, large values in an inode each.

use std::collections::BTreeMap;

use super::inode::Inode;
use super::{Ext4, damaged};
use crate::error::Result;
use crate::inspect::volume::ATTRIBUTE_MAX;
use crate::inspect::window::{u16_at, u32_at};

/// What both places begin with (`fs/ext4/xattr.h`).
const MAGIC: u32 = 0xEA02_0000;

/// Bytes of a block before its entries; behind the inode there is only the number.
const BLOCK_HEADER: usize = 32;

/// Bytes of an entry before its name.
const ENTRY: usize = 16;

/// Prefixes by number (`xattr.h`).
const PREFIXES: &[(u8, &str)] = &[
    (1, "user."),
    (2, "system.posix_acl_access"),
    (3, "system.posix_acl_default"),
    (4, "trusted."),
    (6, "security."),
    (7, "system."),
    (8, "system.richacl"),
];

impl Ext4 {
    /// Returns the extended attributes of an inode by full name.
    pub(super) fn xattrs(&self, inode: &Inode) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut found = BTreeMap::new();
        let wrong = || damaged(format!("attributes of inode {}", inode.number));
        if u32_at(&inode.rest, 0) == MAGIC {
            // Values are counted from the first entry.
            self.list(&inode.rest[4..], 0, &mut found)?.ok_or_else(wrong)?;
        }
        if inode.attributes != 0 {
            let block = self.window.near(self.offset(inode.attributes)?, 1 << self.block_bits)?;
            if u32_at(&block, 0) != MAGIC {
                return Err(wrong());
            }
            self.list(&block, BLOCK_HEADER, &mut found)?.ok_or_else(wrong)?;
        }
        Ok(found)
    }

    /// Reads entries from `at` on; values are counted from the beginning of `area`. `None`: they make no sense.
    fn list(&self, area: &[u8], mut at: usize, found: &mut BTreeMap<String, Vec<u8>>) -> Result<Option<()>> {
        // Four zero bytes end the list, and so does the end of the area.
        while at + 4 <= area.len() && area[at..at + 4] != [0; 4] {
            let Some((entry, name)) = entry(area, at) else { return Ok(None) };
            let size = usize::try_from(u32_at(entry, 8)).unwrap_or(usize::MAX);
            let Some((_, prefix)) = PREFIXES.iter().find(|(number, _)| *number == entry[1]) else {
                return Ok(None);
            };
            if size > ATTRIBUTE_MAX {
                return Ok(None);
            }
            let value = match u32_at(entry, 4) {
                0 => {
                    let from = usize::from(u16_at(entry, 2));
                    // An empty value has no place.
                    let value = if size == 0 { Some(&[][..]) } else { area.get(from..from + size) };
                    let Some(value) = value else { return Ok(None) };
                    value.to_owned()
                }
                inode => {
                    let inode = self.inode(u64::from(inode))?;
                    if inode.size != size as u64 {
                        return Ok(None);
                    }
                    self.read(&inode, ATTRIBUTE_MAX as u64)?
                }
            };
            found.insert(format!("{prefix}{}", String::from_utf8_lossy(name)), value);
            at += (ENTRY + name.len()).next_multiple_of(4);
        }
        Ok(Some(()))
    }
}

fn entry(area: &[u8], at: usize) -> Option<(&[u8], &[u8])> {
    let entry = area.get(at..at + ENTRY)?;
    let name = area.get(at + ENTRY..at + ENTRY + usize::from(entry[0]))?;
    Some((entry, name))
}

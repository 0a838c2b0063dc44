//! Extended attributes: some beside the inode, some shared by number.

use std::collections::BTreeMap;

use super::{Erofs, Inode, damaged};
use crate::error::Result;
use crate::inspect::window::{u16_at, u32_at};

/// Bytes before the shared numbers and the attributes beside an inode (`erofs_fs.h`).
const HEADER: usize = 12;

/// Prefixes by number (`erofs_fs.h`).
const PREFIXES: &[(u8, &str)] = &[
    (1, "user."),
    (2, "system.posix_acl_access"),
    (3, "system.posix_acl_default"),
    (4, "trusted."),
    (6, "security."),
];

impl Erofs {
    /// Returns the extended attributes of an inode by full name.
    ///
    /// # Errors
    /// Damaged attributes, and reads that fail.
    pub fn xattrs(&self, inode: &Inode) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut found = BTreeMap::new();
        if inode.xattrs == 0 {
            return Ok(found);
        }
        let len = usize::try_from(inode.xattrs).unwrap_or(usize::MAX);
        let body = self.window.near(inode.at + inode.head, len)?;
        let shared = usize::from(body[4]);
        let mut at = HEADER + 4 * shared;
        let wrong = || damaged(format!("attributes of inode {}", inode.nid));
        for number in 0..shared {
            if HEADER + 4 * number + 4 > body.len() {
                return Err(wrong());
            }
            let id = u32_at(&body, HEADER + 4 * number);
            let offset = self.xattrs + 4 * u64::from(id);
            let head = self.window.near(offset, 4)?;
            let len = 4 + usize::from(head[0]) + usize::from(u16_at(&head, 2));
            let (name, value, _) = attribute(&self.window.near(offset, len)?).ok_or_else(wrong)?;
            found.insert(name, value);
        }
        while at + 4 <= body.len() {
            let rest = &body[at..];
            // Padding at the end of the body.
            if rest[..4] == [0; 4] {
                break;
            }
            let (name, value, len) = attribute(rest).ok_or_else(wrong)?;
            found.insert(name, value);
            at += len.next_multiple_of(4);
        }
        Ok(found)
    }
}

/// Reads one attribute: full name, value, bytes used.
fn attribute(bytes: &[u8]) -> Option<(String, Vec<u8>, usize)> {
    let name_len = usize::from(*bytes.first()?);
    let value_len = usize::from(u16_at(bytes, 2));
    let (_, prefix) = PREFIXES.iter().find(|(number, _)| Some(number) == bytes.get(1))?;
    let name = bytes.get(4..4 + name_len)?;
    let value = bytes.get(4 + name_len..4 + name_len + value_len)?;
    Some((format!("{prefix}{}", String::from_utf8_lossy(name)), value.to_owned(), 4 + name_len + value_len))
}

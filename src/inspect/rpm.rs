//! The packages in rpm's database, where that is `SQLite`'s format: rpm since 4.16 (RHEL 9, Fedora 33, Amazon Linux 2023).
//!
//! What is needed of `SQLite` is little: find a table, walk its tree, put each row together. The format is described in
//! "Database File Format" (sqlite.org/fileformat2.html), a package's header in rpm's `docs/manual/format_header.md`.
//! The bytes may be hostile: everything is looked up by `get`, and no page is visited twice.

use std::collections::{BTreeMap, BTreeSet};

use super::window::{be16_at, be32_at};

/// What a database begins with.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// Bytes of the database's head, behind which the first page's own begins.
const HEAD: usize = 100;

/// The table in which rpm has a package's header in each row.
const TABLE: &[u8] = b"Packages";

/// Kinds of pages of a table's tree: inner ones, and leaves with rows.
const INNER: u8 = 5;
const LEAF: u8 = 13;

/// Tags of a package's header (`rpmtag.h`).
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;

/// The largest header of a package that is put together: 32 MiB; one with a hundred thousand files has ten.
const HEADER_MAX: usize = 1 << 25;

/// Returns the packages of a database, name to version with epoch and release; several versions of one stand in one
/// text. `None` when it is no such database, or damaged.
#[must_use]
pub fn packages(database: &[u8]) -> Option<BTreeMap<String, String>> {
    let database = Database::open(database)?;
    // The schema is the first page's table: type, name, table, first page, text.
    let schema = database.rows(1)?;
    let root = schema.iter().find_map(|row| {
        let values = values(row)?;
        let first = values.get(3)?.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        (*values.first()? == b"table" && *values.get(1)? == TABLE).then_some(first)
    })?;
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in database.rows(usize::try_from(root).ok()?)? {
        // A number that the tree has already, then the header.
        let (name, version) = package(values(&row)?.get(1)?)?;
        // Keys by which packages are checked are there like packages.
        if name == "gpg-pubkey" {
            continue;
        }
        found.entry(name).or_default().insert(version);
    }
    let joined = |versions: BTreeSet<String>| versions.into_iter().collect::<Vec<_>>().join(" ");
    Some(found.into_iter().map(|(name, versions)| (name, joined(versions))).collect())
}

struct Database<'a> {
    bytes: &'a [u8],
    page: usize,
    /// Bytes of a page that are used.
    usable: usize,
}

impl<'a> Database<'a> {
    fn open(bytes: &'a [u8]) -> Option<Self> {
        let head = bytes.get(..HEAD).filter(|head| head.starts_with(MAGIC))?;
        // 64 KiB does not fit the field, and is written as 1.
        let page = match be16_at(head, 16) {
            1 => 1 << 16,
            size => usize::from(size),
        };
        let usable = page.checked_sub(usize::from(head[20]))?;
        // Limits of the format.
        (page.is_power_of_two() && usable >= 480).then_some(Self { bytes, page, usable })
    }

    /// Returns a page; they count from 1.
    fn page(&self, number: usize) -> Option<&'a [u8]> {
        let start = number.checked_sub(1)?.checked_mul(self.page)?;
        self.bytes.get(start..start.checked_add(self.page)?)
    }

    /// Returns the rows of the table whose tree begins in page `root`.
    fn rows(&self, root: usize) -> Option<Vec<Vec<u8>>> {
        let mut rows = Vec::new();
        let mut waiting = vec![root];
        let mut visited = 0;
        while let Some(number) = waiting.pop() {
            visited += 1;
            if visited > self.bytes.len() / self.page {
                return None;
            }
            let page = self.page(number)?;
            let head = if number == 1 { HEAD } else { 0 };
            let kind = *page.get(head)?;
            let places = head + if kind == INNER { 12 } else { 8 };
            let cells =
                (0..usize::from(be16_at(page, head + 3))).map(|cell| be16_at(page, places + 2 * cell));
            match kind {
                INNER => {
                    waiting.push(be32_at(page, head + 8).try_into().ok()?);
                    for cell in cells {
                        waiting.push(be32_at(page, usize::from(cell)).try_into().ok()?);
                    }
                }
                LEAF => {
                    for cell in cells {
                        rows.push(self.row(page.get(usize::from(cell)..)?)?);
                    }
                }
                _ => return None,
            }
        }
        Some(rows)
    }

    /// Puts a row together: its length, its number, as much as fits the page, and the chain of pages with the rest.
    fn row(&self, cell: &[u8]) -> Option<Vec<u8>> {
        let (len, cell) = varint(cell)?;
        let (_, cell) = varint(cell)?;
        let len = usize::try_from(len).ok().filter(|len| *len <= HEADER_MAX && *len <= self.bytes.len())?;
        let most = self.usable - 35;
        let local = if len <= most {
            len
        } else {
            let least = (self.usable - 12) * 32 / 255 - 23;
            let fits = least + (len - least) % (self.usable - 4);
            if fits <= most { fits } else { least }
        };
        let mut row = cell.get(..local)?.to_owned();
        let mut next = if local < len { be32_at(cell, local) } else { 0 };
        while row.len() < len {
            // Each page adds something, so that a ring of pages ends, too.
            let page = self.page(next.try_into().ok()?)?;
            let part = page.get(4..self.usable)?;
            row.extend_from_slice(&part[..part.len().min(len - row.len())]);
            next = be32_at(page, 0);
        }
        Some(row)
    }
}

/// Reads a number of up to nine bytes, 7 bits in each but the last.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        if at == 8 {
            return Some((number << 8 | u64::from(*byte), &bytes[9..]));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[at + 1..]));
        }
    }
    None
}

/// Returns the values of a row as bytes: kinds first, then the values; numbers are big-endian, and 0 and 1 have none.
fn values(row: &[u8]) -> Option<Vec<&[u8]>> {
    let (head, rest) = varint(row)?;
    let head = usize::try_from(head).ok()?;
    let mut kinds = rest.get(..head.checked_sub(row.len() - rest.len())?)?;
    let mut body = row.get(head..)?;
    let mut values = Vec::new();
    while !kinds.is_empty() {
        let (kind, left) = varint(kinds)?;
        kinds = left;
        let len = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            _ => (kind - 12) / 2,
        };
        let len = usize::try_from(len).ok()?;
        values.push(body.get(..len)?);
        body = &body[len..];
    }
    Some(values)
}

/// Reads name and version off a package's header: counts of entries and of bytes, entries of tag, kind, place and
/// count, then the bytes.
fn package(header: &[u8]) -> Option<(String, String)> {
    let count = usize::try_from(be32_at(header, 0)).ok()?;
    let data = header.get(count.checked_mul(16)?.checked_add(8)?..)?;
    let place = |tag: u32| {
        let entries = header.get(8..8 + 16 * count)?;
        let entry = entries.chunks_exact(16).find(|entry| be32_at(entry, 0) == tag)?;
        data.get(usize::try_from(be32_at(entry, 8)).ok()?..)
    };
    let text = |tag: u32| {
        let bytes = place(tag)?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    };
    let epoch = place(EPOCH).map(|bytes| format!("{}:", be32_at(bytes, 0))).unwrap_or_default();
    let (version, release) = (text(VERSION)?, text(RELEASE)?);
    Some((text(NAME)?, format!("{epoch}{version}-{release}")))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::process::Run as _;

    /// Makes a database as rpm does, by Python's `SQLite`: headers of a package in rows, some longer than a page.
    const MAKE: &str = r"
import sqlite3, struct, sys
db = sqlite3.connect(sys.argv[1])
db.execute('CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)')
db.execute('CREATE TABLE Name (key TEXT NOT NULL, hnum INTEGER NOT NULL, idx INTEGER NOT NULL)')
def header(name, version, release, epoch, size):
    data, entries = b'x' * size, []
    for tag, kind, value in ((1000, 6, name), (1001, 6, version), (1002, 6, release)):
        entries.append(struct.pack('>IIII', tag, kind, len(data), 1))
        data += value.encode() + b'\0'
    if epoch is not None:
        data += b'\0' * (-len(data) % 4)
        entries.append(struct.pack('>IIII', 1003, 4, len(data), 1))
        data += struct.pack('>I', epoch)
    return struct.pack('>II', len(entries), len(data)) + b''.join(entries) + data
for number in range(500):
    epoch = 7 if number % 5 == 0 else None
    blob = header(f'package-{number}', f'1.{number}', '2.el9', epoch, number * 97 % 70000)
    db.execute('INSERT INTO Packages (blob) VALUES (?)', (blob,))
db.execute('INSERT INTO Packages (blob) VALUES (?)', (header('package-1', '2', '3', None, 9),))
db.execute('INSERT INTO Packages (blob) VALUES (?)', (header('gpg-pubkey', '2', '3', None, 9),))
db.execute('DELETE FROM Packages WHERE hnum = 3')
db.commit()
";

    #[test]
    fn packages_are_read_and_damage_is_none() {
        let temp = tempfile::tempdir().expect("a directory");
        let path = temp.path().join("rpmdb.sqlite");
        Command::new("python3").args(["-c", MAKE]).arg(&path).run().expect("python3 has SQLite");
        let bytes = std::fs::read(path).expect("it reads");
        let found = packages(&bytes).expect("a database");
        assert_eq!(found.len(), 499);
        assert_eq!(
            (found["package-5"].as_str(), found["package-499"].as_str()),
            ("7:1.5-2.el9", "1.499-2.el9")
        );
        assert_eq!(found["package-1"], "1.1-2.el9 2-3");
        assert_eq!(packages(b"no database"), None);
        let mut random = crate::inspect::volume::tests::Random(11);
        for _ in 0..300 {
            let mut spoilt = bytes[..bytes.len().min(1 << 18)].to_owned();
            let end = if random.below(2) == 0 { 4096 } else { spoilt.len() as u64 };
            for _ in 0..4 {
                let at = usize::try_from(random.below(end)).expect("small");
                spoilt[at] = random.next().to_le_bytes()[0];
            }
            drop(packages(&spoilt));
        }
    }
}

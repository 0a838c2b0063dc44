//! The blocks of a disk that have to be sent: found without reading holes, each known by its digest.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Doing as _, Error, Result};
use crate::holes;

/// Bytes of a block: what the EBS direct APIs read and write, no more and no less.
/// Source: EBS User Guide, "Use EBS direct APIs to access the contents of an EBS snapshot".
pub const BLOCK: usize = 512 * 1024;

/// Where a bake writes them, beside the disk.
pub const FILE: &str = "blocks.json";

/// The blocks of a disk that are not all zero, by index. All others read as zeros where nothing was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Blocks(pub BTreeMap<u32, Digest>);

impl Blocks {
    /// Finds the blocks of the disk at `path`, on all cores. Holes are not read.
    ///
    /// # Errors
    /// The disk cannot be read, or has more blocks than any volume.
    pub fn of(path: &Path) -> Result<Self> {
        let doing = || format!("reading the blocks of {}", path.display());
        let file = File::open(path).doing(doing)?;
        let size = file.metadata().doing(doing)?.len();
        let candidates = candidates(&file, size).doing(doing)?;
        let next = AtomicU64::new(0);
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let found: Vec<std::io::Result<Vec<(u32, Digest)>>> = std::thread::scope(|scope| {
            let work = || digests(&file, size, &candidates, &next);
            let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
            let lost = |_| Err(std::io::Error::other("a thread ended early"));
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(lost)).collect()
        });
        let mut blocks = BTreeMap::new();
        for part in found {
            blocks.extend(part.doing(doing)?);
        }
        Ok(Self(blocks))
    }

    /// Returns what is written of them; the same for the same blocks.
    ///
    /// # Errors
    /// None that can happen.
    pub fn written(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).doing(|| "writing the blocks' digests")
    }

    /// Reads what a bake has [`written`](Self::written) beside the disk at `path`; `None` when it is not there, or is
    /// not what has the digest `recorded`.
    #[must_use]
    pub fn recorded(path: &Path, recorded: Digest) -> Option<Self> {
        let text = std::fs::read(path.with_file_name(FILE)).ok()?;
        if Digest::of(&text) == recorded { serde_json::from_slice(&text).ok() } else { None }
    }

    /// Returns what has to be written onto `parent` to get this: each block that differs, and those that became
    /// zero, which are written too, as the parent's would show through.
    #[must_use]
    pub fn changes_from(&self, parent: &Self) -> Self {
        let zero = zero();
        let changed = self.0.iter().filter(|(index, digest)| parent.0.get(index) != Some(digest));
        let gone = parent.0.keys().filter(|index| !self.0.contains_key(index));
        Self(
            changed
                .map(|(index, digest)| (*index, *digest))
                .chain(gone.map(|index| (*index, zero)))
                .collect(),
        )
    }

    /// Returns the digest over the digests in the order of the blocks: what the EBS direct APIs call a linear
    /// aggregate.
    #[must_use]
    pub fn aggregate(&self) -> Digest {
        let all: Vec<u8> = self.0.values().flat_map(|digest| *digest.as_bytes()).collect();
        Digest::of(&all)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Returns the bytes of one block; what is beyond the end of the file is zero.
///
/// # Errors
/// Whatever reading returns.
pub fn read_block(file: &File, index: u32) -> std::io::Result<Vec<u8>> {
    let mut block = vec![0; BLOCK];
    let mut filled = 0;
    while filled < BLOCK {
        let n = file.read_at(&mut block[filled..], u64::from(index) * BLOCK as u64 + filled as u64)?;
        if n == 0 {
            break;
        }
        filled += n;
    }
    Ok(block)
}

/// Returns the digest of a block that is all zero.
#[must_use]
pub fn zero() -> Digest {
    Digest::of(&vec![0; BLOCK])
}

/// Refuses a block that is not what is known of it: from the bake, or from when the whole disk was read.
///
/// # Errors
/// It did.
pub fn check_block(index: u32, block: &[u8], expected: Digest, disk: &Path) -> Result<()> {
    if Digest::of(block) == expected {
        return Ok(());
    }
    Err(Error::failed(format!("block {index} of {} is not what was baked", disk.display()))
        .hint("remove the image (`rekiln gc`) and bake it again: the same inputs give the same disk"))
}

/// Returns the indices of all blocks that have data in them, in order.
fn candidates(file: &File, size: u64) -> std::io::Result<Vec<u32>> {
    let block = BLOCK as u64;
    let mut found: Vec<u32> = Vec::new();
    for part in holes::data(file, size)? {
        for index in part.start / block..part.end.div_ceil(block) {
            let index = u32::try_from(index).map_err(|_| std::io::Error::other("the disk is too large"))?;
            if found.last() != Some(&index) {
                found.push(index);
            }
        }
    }
    Ok(found)
}

/// The work of one thread: takes one candidate after the other.
fn digests(
    file: &File,
    size: u64,
    candidates: &[u32],
    next: &AtomicU64,
) -> std::io::Result<Vec<(u32, Digest)>> {
    let (zeros, mut found) = (vec![0; BLOCK], Vec::new());
    loop {
        let at = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
        let Some(index) = candidates.get(at).copied() else { return Ok(found) };
        debug_assert!(u64::from(index) * (BLOCK as u64) < size);
        let block = read_block(file, index)?;
        if block != zeros {
            found.push((index, Digest::of(&block)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::*;

    fn disk(parts: &[(u64, &[u8])], size: u64) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(size).expect("a size");
        for (at, bytes) in parts {
            file.seek(std::io::SeekFrom::Start(*at)).expect("a place");
            file.write_all(bytes).expect("written");
        }
        file
    }

    fn padded(at: usize, bytes: &[u8]) -> Digest {
        let mut block = vec![0; BLOCK];
        block[at..at + bytes.len()].copy_from_slice(bytes);
        Digest::of(&block)
    }

    #[test]
    fn only_what_is_not_zero_counts() {
        let block = BLOCK as u64;
        let size = 10 * block + 100;
        // One across two blocks, zeros that were written, and one in the last block, which is not whole.
        let parts: [(u64, &[u8]); 3] =
            [(3 * block - 2, b"abcd"), (6 * block, &[0; 4096]), (10 * block + 7, b"end")];
        let found = Blocks::of(disk(&parts, size).path()).expect("read");
        let expected = [(2, padded(BLOCK - 2, b"ab")), (3, padded(0, b"cd")), (10, padded(7, b"end"))];
        assert_eq!(found, Blocks(BTreeMap::from(expected)));
        assert!(Blocks::of(disk(&[], size).path()).expect("read").is_empty());
        assert!(Blocks::of(disk(&[], 0).path()).expect("read").is_empty());
    }

    #[test]
    fn what_became_zero_is_a_change() {
        let digest = |word: &str| Digest::of(word.as_bytes());
        let parent = Blocks([(1, digest("a")), (2, digest("b")), (4, digest("c"))].into());
        let child = Blocks([(1, digest("a")), (2, digest("x")), (3, digest("d"))].into());
        let changes = child.changes_from(&parent);
        assert_eq!(changes, Blocks([(2, digest("x")), (3, digest("d")), (4, zero())].into()));
        assert!(child.changes_from(&child).is_empty());
        assert_eq!(child.changes_from(&Blocks::default()), child);
    }

    #[test]
    fn the_aggregate_is_over_raw_digests_in_order() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let both: Vec<u8> = [a.as_bytes().as_slice(), b.as_bytes()].concat();
        assert_eq!(Blocks([(7, b), (2, a)].into()).aggregate(), Digest::of(&both));
    }
}

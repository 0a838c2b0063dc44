//! The dm-verity root hash of a partition, computed anew; the format is that of `veritysetup` (hash type 1).

use sha2::{Digest as _, Sha256};

use super::window::Window;
use crate::digest::Digest;
use crate::error::{Error, Result};

/// Bytes of a data block and of a hash block.
const BLOCK: usize = 4096;

/// Bytes of one digest in a hash block.
const DIGEST: usize = 32;

/// Blocks one thread hashes at a time: 1 MiB.
const BATCH: u64 = 256;

/// The tree over a data device: its root hash and its levels as they lie after the superblock.
pub struct HashTree {
    /// The hash of the top block.
    pub root: Digest,
    /// The levels, the top one first, as `veritysetup` writes them.
    pub levels: Vec<u8>,
}

impl HashTree {
    /// Computes the tree over the first `blocks` blocks of `data`.
    ///
    /// # Errors
    /// Reads that fail, and no blocks.
    pub fn compute(data: &Window, blocks: u64, salt: &[u8]) -> Result<Self> {
        if blocks == 0 || blocks.checked_mul(BLOCK as u64).is_none_or(|len| len > data.len()) {
            return Err(Error::failed(format!("{blocks} blocks do not fit the root partition")));
        }
        let salted = Sha256::new_with_prefix(salt);
        let mut hashes = hash_all(data, blocks, &salted)?;
        let mut levels: Vec<Vec<u8>> = Vec::new();
        while hashes.len() > DIGEST {
            hashes.resize(hashes.len().next_multiple_of(BLOCK), 0);
            let above = hashes.chunks(BLOCK).flat_map(|block| hash(&salted, block)).collect();
            levels.push(std::mem::replace(&mut hashes, above));
        }
        let root = hashes.try_into().map_err(|_| Error::failed("no root hash"))?;
        Ok(Self { root: Digest::from_bytes(root), levels: levels.into_iter().rev().flatten().collect() })
    }

    /// Tells whether the hash partition holds this tree.
    ///
    /// # Errors
    /// Reads that fail.
    pub fn is_stored_in(&self, hashes: &Window) -> Result<bool> {
        // The superblock has the first block.
        Ok(hashes.len() >= (BLOCK + self.levels.len()) as u64
            && hashes.bytes(BLOCK as u64, self.levels.len())? == self.levels)
    }
}

fn hash(salted: &Sha256, block: &[u8]) -> [u8; DIGEST] {
    salted.clone().chain_update(block).finalize().into()
}

fn hash_all(data: &Window, blocks: u64, salted: &Sha256) -> Result<Vec<u8>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let share = blocks.div_ceil(threads);
    let parts: Vec<Result<Vec<u8>>> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|number| (number * share).min(blocks)..((number + 1) * share).min(blocks))
            .map(|range| scope.spawn(move || hash_range(data, range, salted)))
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(Error::failed("hashing ended early"))))
            .collect()
    });
    let mut hashes = Vec::new();
    for part in parts {
        hashes.extend(part?);
    }
    Ok(hashes)
}

fn hash_range(data: &Window, range: std::ops::Range<u64>, salted: &Sha256) -> Result<Vec<u8>> {
    let mut hashes = Vec::new();
    let mut buffer = vec![0; usize::try_from(BATCH).unwrap_or(1) * BLOCK];
    let mut at = range.start;
    while at < range.end {
        let count = (range.end - at).min(BATCH);
        let part = &mut buffer[..usize::try_from(count).unwrap_or(1) * BLOCK];
        data.read(at * BLOCK as u64, part)?;
        hashes.extend(part.chunks(BLOCK).flat_map(|block| hash(salted, block)));
        at += count;
    }
    Ok(hashes)
}

//! A bounded view of bytes on a disk: no read leaves it, whatever an offset on the disk says.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Doing as _, Error, Result};

/// Bytes kept together in the cache of small reads: one read of metadata brings its neighbours with it.
const CHUNK: u64 = 1 << 16;

/// Chunks kept: 32 MiB, several times the metadata of an image, so that a walk reads nothing twice.
const CHUNKS: usize = 512;

/// A range of a file or of memory; offsets count from its start.
#[derive(Clone)]
pub struct Window {
    bytes: Arc<Bytes>,
    start: u64,
    len: u64,
}

struct Bytes {
    origin: Origin,
    cache: Mutex<HashMap<u64, Arc<[u8]>>>,
}

enum Origin {
    File(File, PathBuf),
    Memory(Vec<u8>),
    Source(Box<dyn Source>),
}

/// Bytes that lie neither in a file nor in memory, but are fetched when they are read.
pub trait Source: Send + Sync {
    /// Returns how many bytes there are; always the same number.
    fn size(&self) -> u64;

    /// Fills `buffer` from `offset` on; the range lies inside.
    ///
    /// # Errors
    /// Whatever fetching them returns.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// Returns a file that has the bytes of this range at the same offset, fetched by now; for other programs.
    ///
    /// # Errors
    /// Whatever fetching them returns.
    fn in_file(&self, range: Range<u64>) -> Result<PathBuf>;
}

impl std::fmt::Debug for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Window").field("start", &self.start).field("len", &self.len).finish_non_exhaustive()
    }
}

impl Window {
    /// Opens a whole file.
    ///
    /// # Errors
    /// Whatever opening it returns.
    pub fn open(path: &Path) -> Result<Self> {
        let doing = || format!("opening {}", path.display());
        let file = File::open(path).doing(doing)?;
        let len = file.metadata().doing(doing)?.len();
        Ok(Self::new(Origin::File(file, path.to_owned()), len))
    }

    /// Looks at what is fetched when it is read.
    #[must_use]
    pub fn over(source: Box<dyn Source>) -> Self {
        let len = source.size();
        Self::new(Origin::Source(source), len)
    }

    /// Wraps bytes in memory.
    #[must_use]
    pub fn memory(bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        Self::new(Origin::Memory(bytes), len)
    }

    fn new(origin: Origin, len: u64) -> Self {
        Self { bytes: Arc::new(Bytes { origin, cache: Mutex::default() }), start: 0, len }
    }

    /// Returns a file that has these bytes, and the offset at which they begin there; for programs that read files.
    ///
    /// # Errors
    /// Bytes in memory, and whatever fetching them returns.
    pub fn in_file(&self) -> Result<(PathBuf, u64)> {
        let path = match &self.bytes.origin {
            Origin::File(_, path) => path.clone(),
            Origin::Source(source) => source.in_file(self.start..self.start + self.len)?,
            Origin::Memory(_) => return Err(Error::failed("these bytes lie in no file")),
        };
        Ok((path, self.start))
    }

    /// Returns how many bytes it has.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Tells whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the part of `len` bytes from `offset` on.
    ///
    /// # Errors
    /// A part that does not lie inside.
    pub fn part(&self, offset: u64, len: u64) -> Result<Self> {
        self.check(offset, len)?;
        Ok(Self { bytes: Arc::clone(&self.bytes), start: self.start + offset, len })
    }

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// A range that does not lie inside, and whatever reading returns.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.check(offset, buffer.len() as u64)?;
        self.bytes.read(self.start + offset, buffer)
    }

    /// Returns `len` bytes from `offset` on.
    ///
    /// # Errors
    /// As [`Window::read`].
    pub fn bytes(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        // Before the allocation, so that a hostile length cannot ask for all memory.
        self.check(offset, len as u64)?;
        let mut buffer = vec![0; len];
        self.read(offset, &mut buffer)?;
        Ok(buffer)
    }

    /// Like [`Window::bytes`] through a cache, for many small reads near one another.
    ///
    /// # Errors
    /// As [`Window::read`].
    pub fn near(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.check(offset, len as u64)?;
        let mut found = Vec::with_capacity(len);
        let mut at = self.start + offset;
        while found.len() < len {
            let chunk = self.bytes.chunk(at / CHUNK)?;
            let from = usize::try_from(at % CHUNK).unwrap_or(0);
            let slice = chunk.get(from..).filter(|rest| !rest.is_empty()).ok_or_else(|| outside(at, 1))?;
            let take = slice.len().min(len - found.len());
            found.extend_from_slice(&slice[..take]);
            at += take as u64;
        }
        Ok(found)
    }

    fn check(&self, offset: u64, len: u64) -> Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(outside(offset, len)),
        }
    }
}

fn outside(offset: u64, len: u64) -> Error {
    Error::failed(format!("{len} bytes at {offset} lie outside of what there is"))
}

impl Bytes {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        match &self.origin {
            Origin::File(file, path) => {
                file.read_exact_at(buffer, offset).doing(|| format!("reading {}", path.display()))
            }
            Origin::Source(source) => source.read(offset, buffer),
            Origin::Memory(bytes) => {
                let from = usize::try_from(offset).ok();
                let part = from.and_then(|from| bytes.get(from..)?.get(..buffer.len()));
                buffer.copy_from_slice(part.ok_or_else(|| outside(offset, buffer.len() as u64))?);
                Ok(())
            }
        }
    }

    fn len(&self) -> Result<u64> {
        match &self.origin {
            Origin::File(file, _) => Ok(file.metadata().doing(|| "reading the disk's size")?.len()),
            Origin::Source(source) => Ok(source.size()),
            Origin::Memory(bytes) => Ok(bytes.len() as u64),
        }
    }

    fn chunk(&self, number: u64) -> Result<Arc<[u8]>> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chunk) = cache.get(&number) {
            return Ok(Arc::clone(chunk));
        }
        let offset = number.saturating_mul(CHUNK);
        let len = self.len()?.saturating_sub(offset).min(CHUNK);
        let mut buffer = vec![0; usize::try_from(len).unwrap_or(0)];
        self.read(offset, &mut buffer)?;
        if cache.len() >= CHUNKS {
            cache.clear();
        }
        let chunk: Arc<[u8]> = buffer.into();
        cache.insert(number, Arc::clone(&chunk));
        Ok(chunk)
    }
}

/// Reads a little-endian number of 2 bytes; 0 where there are none.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|part| part.try_into().ok()).map_or(0, u16::from_le_bytes)
}

/// Reads a little-endian number of 4 bytes; 0 where there are none.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// Reads a little-endian number of 8 bytes; 0 where there are none.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|part| part.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Reads a big-endian number of 2 bytes; 0 where there are none.
pub(crate) fn be16_at(bytes: &[u8], at: usize) -> u16 {
    u16_at(bytes, at).swap_bytes()
}

/// Reads a big-endian number of 4 bytes; 0 where there are none.
pub(crate) fn be32_at(bytes: &[u8], at: usize) -> u32 {
    u32_at(bytes, at).swap_bytes()
}

/// Reads a big-endian number of 8 bytes; 0 where there are none.
pub(crate) fn be64_at(bytes: &[u8], at: usize) -> u64 {
    u64_at(bytes, at).swap_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_read_leaves_the_window() {
        let whole = Window::memory((0..200).collect());
        let part = whole.part(100, 50).expect("inside");
        assert_eq!(part.bytes(0, 2).expect("inside"), [100, 101]);
        assert_eq!(part.near(49, 1).expect("inside"), [149]);
        for (offset, len) in [(49, 2), (50, 1), (u64::MAX, 1), (0, 51)] {
            assert!(part.bytes(offset, len).is_err(), "{offset}+{len}");
            assert!(part.near(offset, len).is_err(), "{offset}+{len}");
            assert!(part.part(offset, len as u64).is_err(), "{offset}+{len}");
        }
    }
}

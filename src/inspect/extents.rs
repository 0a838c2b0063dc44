//! The data of a file as runs on a disk: what ext4 and XFS have in common once their maps are read.

use std::io::Write;

use super::window::Window;
use crate::error::{Doing as _, Error, Result};

/// How much is copied at once: large enough that system calls are lost in the copying.
const COPY: u64 = 1 << 18;

/// The most runs of one file: 40 MiB of memory. A file of 100 GiB in pieces of 100 KiB has as many.
pub const RUNS_MAX: usize = 1 << 20;

/// One run of a file's bytes that lie together; all in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Where it begins in the file.
    pub logical: u64,
    /// Where it lies in the file system; `None` when it was allocated and never written, which reads as zeros.
    pub physical: Option<u64>,
    /// How long it is; never 0.
    pub len: u64,
}

/// The runs of one file, in the file's order and without overlap. What no run covers is a hole and reads as zeros.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runs(Vec<Run>);

impl Runs {
    /// Adds the next run.
    ///
    /// # Errors
    /// One that does not begin behind the last one, runs past any file, or is one too many.
    pub fn push(&mut self, run: Run) -> Result<()> {
        let end = run.logical.checked_add(run.len);
        let inside = end.is_some() && run.physical.is_none_or(|at| at.checked_add(run.len).is_some());
        let last = self.0.last_mut();
        if run.len == 0 || !inside || last.as_ref().is_some_and(|last| last.logical + last.len > run.logical)
        {
            return Err(Error::failed("the map of a file's data is out of order"));
        }
        // A map of single blocks, as ext2 has it, becomes short.
        if let (Some(last), Some(at)) = (last, run.physical)
            && last.logical + last.len == run.logical
            && last.physical.is_some_and(|before| before + last.len == at)
        {
            last.len += run.len;
            return Ok(());
        }
        if self.0.len() >= RUNS_MAX {
            return Err(Error::failed(format!("a file's data lies in more than {RUNS_MAX} pieces")));
        }
        self.0.push(run);
        Ok(())
    }

    /// Returns them in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = &Run> {
        self.0.iter()
    }

    /// Writes the first `size` bytes of the file to `to`; no more than a part of it is in memory at once.
    ///
    /// # Errors
    /// Runs outside of `window`, and reads and writes that fail.
    pub fn copy(&self, window: &Window, size: u64, to: &mut dyn Write) -> Result<()> {
        let mut done = 0;
        for run in self.0.iter().take_while(|run| run.logical < size) {
            zeros(run.logical - done, to)?;
            let len = run.len.min(size - run.logical);
            match run.physical {
                Some(at) => copy_range(window, at, len, to)?,
                None => zeros(len, to)?,
            }
            done = run.logical + len;
        }
        zeros(size - done, to)
    }

    /// Returns `len` bytes from `offset` of the file on.
    ///
    /// # Errors
    /// As [`Runs::copy`].
    pub fn bytes(&self, window: &Window, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut found = vec![0; len];
        let end = offset.saturating_add(len as u64);
        let from = self.0.partition_point(|run| run.logical + run.len <= offset);
        for run in self.0[from..].iter().take_while(|run| run.logical < end) {
            let (start, stop) = (run.logical.max(offset), (run.logical + run.len).min(end));
            let Some(at) = run.physical else { continue };
            let into = place(start - offset)?..place(stop - offset)?;
            let part = window.near(at + (start - run.logical), into.len())?;
            found[into].copy_from_slice(&part);
        }
        Ok(found)
    }
}

fn place(offset: u64) -> Result<usize> {
    usize::try_from(offset).doing(|| "finding a place in memory")
}

fn copy_range(window: &Window, mut at: u64, mut len: u64, to: &mut dyn Write) -> Result<()> {
    while len > 0 {
        let part = len.min(COPY);
        let bytes = window.bytes(at, place(part)?)?;
        to.write_all(&bytes).doing(|| "copying a file's data")?;
        at += part;
        len -= part;
    }
    Ok(())
}

fn zeros(mut len: u64, to: &mut dyn Write) -> Result<()> {
    // A hole may be far longer than all data: large writes, so that it takes no longer than it must.
    let block = vec![0; place(len.min(COPY))?];
    while len > 0 {
        let part = len.min(COPY);
        to.write_all(&block[..place(part)?]).doing(|| "copying a file's data")?;
        len -= part;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(logical: u64, physical: Option<u64>, len: u64) -> Run {
        Run { logical, physical, len }
    }

    #[test]
    fn holes_and_what_was_never_written_are_zeros() {
        let window = Window::memory((0..100).collect());
        let mut runs = Runs::default();
        for part in [run(2, Some(10), 2), run(4, Some(12), 1), run(6, None, 2), run(9, Some(50), 9)] {
            runs.push(part).expect("in order");
        }
        assert_eq!(runs.0.len(), 3, "two that touch become one");
        let mut found = Vec::new();
        runs.copy(&window, 12, &mut found).expect("it reads");
        assert_eq!(found, [0, 0, 10, 11, 12, 0, 0, 0, 0, 50, 51, 52]);
        for offset in 0..12 {
            let part = runs.bytes(&window, offset, 3).expect("it reads");
            found.resize(20, 53);
            found[13] = 54;
            let at = usize::try_from(offset).expect("small");
            assert_eq!(part[..2], found[at..at + 2], "{offset}");
        }
    }

    #[test]
    fn what_no_map_says_is_refused() {
        let mut runs = Runs::default();
        runs.push(run(8, Some(0), 8)).expect("the first");
        for wrong in [run(15, None, 1), run(0, None, 1), run(16, None, 0), run(u64::MAX, None, 2)] {
            assert!(runs.push(wrong).is_err(), "{wrong:?}");
        }
        runs.push(run(16, Some(1 << 40), 8)).expect("in order");
        assert!(runs.bytes(&Window::memory(vec![0; 64]), 8, 16).is_err(), "it lies outside");
        assert!(runs.copy(&Window::memory(vec![0; 64]), 24, &mut Vec::new()).is_err(), "it lies outside");
    }
}

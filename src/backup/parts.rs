//! Do: a backup as objects of bounded size, so that none of it is ever whole on this computer, and what a killed process left
//! can be listed.

use std::io::Read;
use std::time::Instant;

use jiff::SignedDuration;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

use super::event::{BackupId, Event, Journal, Taken};
use super::memory::Backups;
use crate::chain::{Says as _, Writer};
use crate::digest::Digest;
use crate::error::{Doing as _, Error, Result};
use crate::objects::Objects;

/// Bytes of one part: this much is in memory, and a terabyte, compressed to half of that, is 32,768 of them.
const PART: usize = 16 << 20;

/// Where the backups of one fleet are: `backups/<fleet>/<id>/<part>` at the target, and the journal beside.
#[derive(Debug, Clone)]
pub struct Place {
    target: Objects,
    fleet: String,
}

impl Place {
    /// Those of `fleet` at a target.
    #[must_use]
    pub fn new(target: Objects, fleet: &str) -> Self {
        Self { target, fleet: fleet.to_owned() }
    }

    /// Reads the journal.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub async fn journal(&self, command: &str) -> Result<Journal> {
        let by = Writer::this(format!("rekiln {command} {}", self.fleet));
        Journal::open(&self.target, &self.fleet, by).await
    }

    fn all(&self) -> Objects {
        self.target.under(Event::FOLDER).under(&self.fleet)
    }

    /// Returns the parts of one.
    #[must_use]
    pub fn parts(&self, id: &BackupId) -> Objects {
        self.all().under(&id.0)
    }

    /// Where one is, for people.
    #[must_use]
    pub fn told(&self, id: &BackupId) -> String {
        self.all().place(&id.0)
    }

    /// Returns those of which something is there, and which are not kept: what a killed process left, or did not remove.
    ///
    /// # Errors
    /// The target does not answer.
    pub async fn leftovers(&self, backups: &Backups) -> Result<Vec<BackupId>> {
        let there = self.all().folders().await?.into_iter().map(BackupId);
        Ok(there.filter(|id| backups.get(id).is_none_or(|backup| !backup.is_kept())).collect())
    }

    /// Removes every part of one.
    ///
    /// # Errors
    /// One cannot be removed; the others are when this is run again.
    pub async fn remove(&self, id: &BackupId) -> Result<()> {
        let parts = self.parts(id);
        for part in parts.list().await? {
            parts.remove(&part.name).await?;
        }
        if let Objects::Directory(dir) = &parts {
            match std::fs::remove_dir_all(dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).doing(|| format!("removing {}", dir.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The name of a part: eight digits hold more than any target, and sort as numbers.
fn name(number: u32) -> String {
    format!("{number:08}")
}

/// Writes all of `from` in parts, one at a time, and returns what it was. `each` hears how many bytes are written after each.
///
/// # Errors
/// It cannot be read or written; what `each` returns. What is written then belongs to nothing.
pub fn write(
    parts: &Objects,
    handle: &Handle,
    mut from: impl Read,
    mut each: impl FnMut(u64) -> Result<()>,
) -> Result<Taken> {
    let start = Instant::now();
    let (mut digest, mut bytes, mut count) = (Sha256::new(), 0, 0);
    let mut part = Vec::with_capacity(PART);
    loop {
        part.clear();
        from.by_ref().take(PART as u64).read_to_end(&mut part).doing(|| "reading what is backed up")?;
        if part.is_empty() {
            break;
        }
        digest.update(&part);
        count += 1;
        bytes += part.len() as u64;
        handle.block_on(parts.write(&name(count), &part))?;
        each(bytes)?;
    }
    let took = SignedDuration::try_from(start.elapsed()).unwrap_or(SignedDuration::MAX);
    Ok(Taken { sha256: Digest::from_bytes(digest.finalize().into()), bytes, parts: count, took })
}

/// Reads one part.
///
/// # Errors
/// It is not there, or cannot be read.
pub fn read(parts: &Objects, handle: &Handle, number: u32) -> Result<Vec<u8>> {
    let name = name(number);
    handle.block_on(parts.read(&name))?.ok_or_else(|| {
        Error::failed(format!("{} is not there: the backup is not whole", parts.place(&name)))
            .hint("somebody removed it; `rekiln backup status` lists the others")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_part_by_part() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let dir = tempfile::tempdir().expect("a directory");
        let place = Place::new(Objects::Directory(dir.path().to_owned()), "db");
        let id = BackupId("20261129T222013Z".to_owned());
        let data: Vec<u8> = (0..PART + 5).map(|at| u8::try_from(at % 251).expect("a byte")).collect();
        let mut heard = Vec::new();
        let taken = write(&place.parts(&id), runtime.handle(), &data[..], |bytes| {
            heard.push(bytes);
            Ok(())
        });
        let taken = taken.expect("written");
        assert_eq!((taken.bytes, taken.parts, taken.sha256), (data.len() as u64, 2, Digest::of(&data)));
        assert_eq!(heard, [PART as u64, PART as u64 + 5]);
        let back = |number| read(&place.parts(&id), runtime.handle(), number);
        let both = [back(1).expect("read"), back(2).expect("read")].concat();
        assert!(both == data && back(3).is_err());
        // Nothing says that it is kept.
        let leftovers =
            |place: &Place| runtime.block_on(place.leftovers(&Backups::default())).expect("listed");
        assert_eq!(leftovers(&place), std::slice::from_ref(&id));
        runtime.block_on(place.remove(&id)).expect("removed");
        assert_eq!(leftovers(&place), []);
        runtime.block_on(place.remove(&id)).expect("nothing to do");
    }
}

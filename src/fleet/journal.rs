//! Do: the append-only, hash-chained journal of one fleet. It is the lock, the memory and the audit log in one.

use std::fs::File;
use std::path::PathBuf;

use jiff::Timestamp;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};
use serde::{Deserialize, Serialize};

use super::history::{Event, History};
use crate::digest::Digest;
use crate::error::{Doing as _, Error, Result};
use crate::process::start_time;
use crate::store::Store;

/// The version of the entry format that this program writes.
const VERSION: u32 = 1;

/// How long a writer on another host counts as alive after its last word, in seconds: longer than any act between
/// two entries. On this host the process itself is looked at.
const LEASE_S: i64 = 120;

/// One entry: `journal/<fleet>/<number>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Format version.
    pub version: u32,
    /// Its number, from 1, without a gap.
    pub number: u64,
    /// The digest of the bytes of the entry before; that of nothing for the first.
    pub previous: Digest,
    /// When it was written.
    pub at: Timestamp,
    /// By whom.
    pub by: Writer,
    /// What it says.
    pub event: Event,
}

/// Who writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    /// Host name.
    pub host: String,
    /// Process number.
    pub pid: u32,
    /// When the process started, in clock ticks since the host's start: a used-again number is no impostor.
    pub started: u64,
    /// The command.
    pub command: String,
}

impl Writer {
    /// Returns this process.
    #[must_use]
    pub fn this(command: impl Into<String>) -> Self {
        let pid = std::process::id();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { host, pid, started: start_time(pid).unwrap_or(0), command: command.into() }
    }

    /// Tells whether it may still write, having last written at `at`.
    fn lives(&self, at: Timestamp, now: Timestamp) -> bool {
        let here = rustix::system::uname().nodename().to_string_lossy().into_owned();
        if self.host == here {
            return start_time(self.pid) == Some(self.started);
        }
        now.duration_since(at).as_secs() < LEASE_S
    }
}

/// A fleet's journal as this process knows it.
///
/// Every append names the number that must not exist yet. When someone else wrote it, this process has lost: the
/// append fails, and so does every later one.
pub struct Journal {
    objects: LocalFileSystem,
    fleet: String,
    /// Where the entries lie.
    dir: PathBuf,
    writer: Writer,
    entries: Vec<Entry>,
    /// The digest of the last entry's bytes.
    tip: Digest,
    lost: bool,
}

impl Journal {
    /// Reads the journal of `fleet`, checking every link of the chain.
    ///
    /// # Errors
    /// It cannot be read; an entry is missing, changed or of a later version (which one is named).
    pub async fn open(store: &Store, fleet: &str, writer: Writer) -> Result<Self> {
        let objects = LocalFileSystem::new_with_prefix(store.journals()).doing(|| "opening the journals")?;
        let mut journal = Self {
            objects,
            fleet: fleet.to_owned(),
            dir: store.journals().join(fleet),
            writer,
            entries: Vec::new(),
            tip: Digest::of(b""),
            lost: false,
        };
        while let Some(bytes) = journal.read(journal.next()).await? {
            let entry = journal.check(&bytes)?;
            journal.tip = Digest::of(&bytes);
            journal.entries.push(entry);
        }
        journal.no_gap()?;
        Ok(journal)
    }

    /// Returns the entries, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Folds the entries.
    #[must_use]
    pub fn history(&self) -> History {
        History::of(self.entries.iter().map(|entry| (entry.at, &entry.event)))
    }

    /// Refuses while the writer of an unfinished roll lives.
    ///
    /// # Errors
    /// Lost journal, saying who has it.
    pub fn refuse_rival(&self, now: Timestamp) -> Result<()> {
        let ends = |event: &Event| {
            matches!(event, Event::Completed | Event::Halted { .. } | Event::Stopped { .. } | Event::Down)
        };
        match self.entries.last() {
            Some(last) if !ends(&last.event) && last.by != self.writer && last.by.lives(last.at, now) => {
                Err(self.rival(last))
            }
            _ => Ok(()),
        }
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// Lost journal when someone else wrote the number first, saying who; a failing disk.
    pub async fn append(&mut self, at: Timestamp, event: Event) -> Result<()> {
        let number = self.next();
        if self.lost {
            return Err(Error::lost_journal(format!("the journal of {} was lost before", self.fleet)));
        }
        let entry =
            Entry { version: VERSION, number, previous: self.tip, at, by: self.writer.clone(), event };
        let bytes = serde_json::to_vec(&entry).doing(|| format!("writing journal entry {number}"))?;
        let tip = Digest::of(&bytes);
        let options = PutOptions::from(PutMode::Create);
        match self.objects.put_opts(&self.path(number), bytes.into(), options).await {
            Ok(_) => {
                // The act that follows must never be older than what the disk remembers of its intent.
                let file = self.dir.join(format!("{number:020}.json"));
                let synced = File::open(&file).and_then(|file| file.sync_all());
                if let Err(error) = synced.and_then(|()| File::open(&self.dir)?.sync_all()) {
                    self.lost = true;
                    return Err(error).doing(|| format!("writing {}", file.display()));
                }
                self.tip = tip;
                self.entries.push(entry);
                Ok(())
            }
            Err(object_store::Error::AlreadyExists { .. }) => {
                self.lost = true;
                let theirs = self.read(number).await?;
                match theirs.and_then(|bytes| serde_json::from_slice::<Entry>(&bytes).ok()) {
                    Some(theirs) => Err(self.rival(&theirs)),
                    None => Err(Error::lost_journal(format!(
                        "someone wrote entry {number} of {} first",
                        self.fleet
                    ))),
                }
            }
            // Whether it was written is unknown, and so is whether we may go on.
            Err(error) => {
                self.lost = true;
                Err(error).doing(|| format!("writing entry {number} of the journal of {}", self.fleet))
            }
        }
    }

    fn next(&self) -> u64 {
        self.entries.len() as u64 + 1
    }

    /// Twenty digits hold every number, so that names sort as numbers.
    fn path(&self, number: u64) -> Path {
        Path::from(format!("{}/{number:020}.json", self.fleet))
    }

    async fn read(&self, number: u64) -> Result<Option<Vec<u8>>> {
        let doing = || format!("reading entry {number} of the journal of {}", self.fleet);
        match self.objects.get(&self.path(number)).await {
            Ok(found) => Ok(Some(found.bytes().await.doing(doing)?.to_vec())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error).doing(doing),
        }
    }

    fn check(&self, bytes: &[u8]) -> Result<Entry> {
        let number = self.next();
        let entry: Entry = serde_json::from_slice(bytes)
            .doing(|| format!("reading entry {number} of the journal of {}", self.fleet))?;
        if entry.version > VERSION {
            return Err(Error::failed(format!(
                "journal entry {number} of {} is of version {}",
                self.fleet, entry.version
            ))
            .hint("a newer rekiln wrote it; use that one"));
        }
        if entry.number != number || entry.previous != self.tip {
            return Err(self.broken(number));
        }
        Ok(entry)
    }

    fn no_gap(&self) -> Result<()> {
        let Ok(files) = std::fs::read_dir(&self.dir) else { return Ok(()) };
        let names = files.flatten().filter_map(|file| file.file_name().into_string().ok());
        let highest =
            names.filter_map(|name| name.strip_suffix(".json")?.parse::<u64>().ok()).max().unwrap_or(0);
        // One that was written since we read is no gap: our next append loses against it.
        if highest > self.next() { Err(self.broken(self.next())) } else { Ok(()) }
    }

    fn broken(&self, number: u64) -> Error {
        Error::failed(format!(
            "the journal of {} is broken at entry {number}: the chain of digests does not fit what is before it",
            self.fleet
        ))
        .hint("an entry was changed or removed; compare with a backup before anything else is rolled")
    }

    fn rival(&self, entry: &Entry) -> Error {
        let Writer { host, pid, command, .. } = &entry.by;
        Error::lost_journal(format!(
            "`{command}` (process {pid} on {host}) has the journal of {}: it wrote entry {} at {}",
            self.fleet, entry.number, entry.at
        ))
        .hint(format!("wait for it, or end process {pid} on {host}; then run this again"))
    }
}

//! Do: append-only, hash-chained journals. Each is the lock, the memory and the audit log of what it is about in one.

mod says;
mod writer;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};
use serde::{Deserialize, Serialize};

pub use self::says::Says;
pub use self::writer::Writer;
use crate::digest::Digest;
use crate::error::{Doing as _, Error, Result};
use crate::objects::{Bucket, Objects, failed, get};
use writer::{HEARTBEAT, Heartbeat};

/// The version of the entry format that this program writes.
const VERSION: u32 = 1;

/// The object beside the entries that says who has it, and when that was last heard of.
const ALIVE: &str = "alive";

/// How many entries are read at once where each takes its time: enough that a journal of thousands is read in seconds, and
/// far below what S3 bears of one name's beginning (5,500 reads a second, S3 user guide, "Optimizing performance").
const AT_ONCE: usize = 32;

/// How often an entry is written or looked for again whose writing was not answered, and how long after the first time;
/// twice as long each further time, so 6 s in all, after all that the client has tried by itself.
const TRIES: u32 = 5;
const WAIT: Duration = Duration::from_millis(200);

/// One entry: `<folder>/<name>/<number>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Entry<E: Says> {
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
    pub event: E,
}

/// A journal as this process knows it.
///
/// Every entry names the number that must not exist yet. When another roller wrote it, this process has lost: the
/// write fails, and so does every later one. A command of a second terminal (pause, cancel …) is no rival: it is taken
/// up, and what was about to be written was decided without it and is not written.
pub struct Chain<E: Says> {
    /// Where the entries are kept; `None` when nobody else may ever read them.
    objects: Option<Arc<dyn ObjectStore>>,
    name: String,
    /// Where the entries lie, when they lie in files.
    dir: Option<PathBuf>,
    /// Whether several computers may share it: then others are told that this process lives, and an entry is looked for
    /// whose writing was not answered.
    shared: bool,
    /// The last heartbeat that was read or written.
    heartbeat: Option<Heartbeat>,
    writer: Writer,
    entries: Vec<Entry<E>>,
    sum: E::Sum,
    /// The digest of the last entry's bytes.
    tip: Digest,
    lost: bool,
}

impl<E: Says> Chain<E> {
    /// Reads the journal `name`, checking every link of the chain.
    ///
    /// # Errors
    /// It cannot be read; an entry is missing, changed or of a later version (which one is named).
    pub async fn open(journals: &Objects, name: &str, writer: Writer) -> Result<Self> {
        match journals.under(E::FOLDER) {
            Objects::Directory(root) => {
                std::fs::create_dir_all(&root).doing(|| format!("creating {}", root.display()))?;
                let objects = LocalFileSystem::new_with_prefix(&root).doing(|| "opening the journals")?;
                let mut journal = Self::over(Arc::new(objects), name, writer).await?;
                journal.dir = Some(root.join(name));
                if E::BEATS {
                    journal.shared = true;
                    journal.hear().await?;
                }
                journal.no_gap()?;
                Ok(journal)
            }
            Objects::Bucket(bucket) => Self::in_bucket(&bucket, name, writer).await,
        }
    }

    /// Reads a journal whose entries take their time, many at once.
    async fn in_bucket(bucket: &Bucket, name: &str, writer: Writer) -> Result<Self> {
        let doing = || format!("reading the journal of {} in {}", E::about(name), bucket.url);
        let objects = bucket.part();
        let mut journal =
            Self { objects: Some(Arc::clone(&objects)), shared: true, ..Self::fleeting(name, writer) };
        let listed = objects.list_with_delimiter(Some(&Path::from(name))).await;
        let listed = listed.map_err(|error| failed(&error, &doing()))?.objects;
        let number =
            |path: &Path| path.filename()?.strip_suffix(".json").and_then(|name| name.parse::<u64>().ok());
        let numbers: Vec<u64> = listed.iter().filter_map(|object| number(&object.location)).collect();
        for some in numbers.chunks(AT_ONCE) {
            let mut reads = tokio::task::JoinSet::new();
            for number in some {
                let (objects, path, number) = (Arc::clone(&objects), journal.path(*number), *number);
                reads.spawn(async move { (number, get(&*objects, &path).await) });
            }
            let mut found = BTreeMap::new();
            while let Some(read) = reads.join_next().await {
                let (number, bytes) = read.doing(doing)?;
                found.insert(number, bytes.map_err(|error| failed(&error, &doing()))?);
            }
            for (number, bytes) in found {
                match bytes {
                    Some(bytes) if number == journal.next() => journal.take(&bytes)?,
                    _ => return Err(journal.broken(journal.next())),
                }
            }
        }
        journal.follow().await?;
        journal.hear().await?;
        Ok(journal)
    }

    /// Reads the journal `name` in any object store.
    ///
    /// # Errors
    /// As [`Chain::open`]; but entries that are missing at the end are not noticed.
    pub async fn over(objects: Arc<dyn ObjectStore>, name: &str, writer: Writer) -> Result<Self> {
        let mut journal = Self { objects: Some(objects), ..Self::fleeting(name, writer) };
        journal.follow().await?;
        Ok(journal)
    }

    /// Starts an empty journal that ends with this process: for simulations. There can be no rival.
    #[must_use]
    pub fn fleeting(name: &str, writer: Writer) -> Self {
        Self {
            objects: None,
            name: name.to_owned(),
            dir: None,
            shared: false,
            heartbeat: None,
            writer,
            entries: Vec::new(),
            sum: E::Sum::default(),
            tip: Digest::of(b""),
            lost: false,
        }
    }

    /// Returns the journal as another process knows it that has read as far, without reading it again.
    #[must_use]
    pub fn as_read_by(&self, writer: Writer) -> Self {
        Self {
            objects: self.objects.clone(),
            name: self.name.clone(),
            dir: self.dir.clone(),
            shared: self.shared,
            heartbeat: self.heartbeat.clone(),
            writer,
            entries: self.entries.clone(),
            sum: self.sum.clone(),
            tip: self.tip,
            lost: false,
        }
    }

    /// Returns the entries, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[Entry<E>] {
        &self.entries
    }

    /// Tells whether another process has it, or may have: then nothing may be done any more.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        self.lost
    }

    /// Returns what the entries add up to.
    #[must_use]
    pub const fn history(&self) -> &E::Sum {
        &self.sum
    }

    /// Refuses while the writer of an unfinished roll lives.
    ///
    /// # Errors
    /// Lost journal, saying who has it.
    pub fn refuse_rival(&self, now: Timestamp) -> Result<()> {
        match self.roller(now) {
            Some(last) => Err(self.rival(last)),
            None => Ok(()),
        }
    }

    /// Returns the last word of another living process that rolls the fleet; `None` when none does.
    #[must_use]
    pub fn roller(&self, now: Timestamp) -> Option<&Entry<E>> {
        let last = self.entries.iter().rev().find(|entry| !entry.event.is_command())?;
        let rolls = !last.event.ends() && last.by != self.writer && last.by.lives(self.heard_of(last), now);
        rolls.then_some(last)
    }

    /// When an entry's writer was last heard of.
    fn heard_of(&self, entry: &Entry<E>) -> Timestamp {
        let heard = self.heartbeat.as_ref().filter(|heartbeat| heartbeat.by == entry.by);
        heard.map_or(entry.at, |heartbeat| heartbeat.at.max(entry.at))
    }

    /// Takes up what commands of other processes said since the last look, and has others know that this process lives.
    ///
    /// # Errors
    /// Lost journal when another roller wrote; it cannot be read.
    pub async fn refresh(&mut self) -> Result<()> {
        self.beat(Timestamp::now()).await;
        while let Some(bytes) = self.read(self.next()).await? {
            self.adopt(&bytes)?;
        }
        Ok(())
    }

    /// Takes up whatever others wrote since the last look; for those who only read.
    ///
    /// # Errors
    /// It cannot be read; the chain of digests is broken.
    pub async fn follow(&mut self) -> Result<()> {
        while let Some(bytes) = self.read(self.next()).await? {
            self.take(&bytes)?;
        }
        Ok(())
    }

    /// Writes a decision, unless a command came since the last look: then nothing is written, the command is taken
    /// up, and the decision must be made anew. Returns whether it was written.
    ///
    /// # Errors
    /// Lost journal when another roller wrote first, saying who; a failing disk.
    pub async fn propose(&mut self, at: Timestamp, event: E) -> Result<bool> {
        match self.write(at, event).await? {
            None => Ok(true),
            Some(theirs) => self.adopt(&theirs).map(|()| false),
        }
    }

    /// Writes what happened, after whatever commands came since the last look.
    ///
    /// # Errors
    /// As [`Chain::propose`].
    pub async fn record(&mut self, at: Timestamp, event: E) -> Result<()> {
        while !self.propose(at, event.clone()).await? {}
        Ok(())
    }

    /// Writes a command, after whatever the roller wrote since the last look: a command takes nothing over.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn command(&mut self, at: Timestamp, event: E) -> Result<()> {
        self.command_unless(at, event, |_, _| None::<Infallible>).await.map(drop)
    }

    /// Writes a command if `objection` has nothing against it, which is asked again whenever the roller wrote in
    /// between: a rollout that has just ended is not cancelled. Returns the objection, when there was one.
    ///
    /// # Errors
    /// As [`Chain::command`].
    pub async fn command_unless<T>(
        &mut self,
        at: Timestamp,
        event: E,
        objection: impl Fn(&E::Sum, &E) -> Option<T>,
    ) -> Result<Option<T>> {
        loop {
            if let Some(objection) = objection(&self.sum, &event) {
                return Ok(Some(objection));
            }
            match self.write(at, event.clone()).await? {
                None => return Ok(None),
                Some(theirs) => self.take(&theirs)?,
            }
        }
    }

    /// Writes an entry. Returns the bytes of the one that another process wrote first.
    async fn write(&mut self, at: Timestamp, event: E) -> Result<Option<Vec<u8>>> {
        let number = self.next();
        if self.lost {
            return Err(Error::lost_journal(format!(
                "the journal of {} was lost before",
                E::about(&self.name)
            )));
        }
        let entry =
            Entry { version: VERSION, number, previous: self.tip, at, by: self.writer.clone(), event };
        let bytes = serde_json::to_vec(&entry).doing(|| format!("writing journal entry {number}"))?;
        let tip = Digest::of(&bytes);
        let Some(objects) = &self.objects else {
            self.push(tip, entry);
            return Ok(None);
        };
        let mut tries = if self.shared { TRIES } else { 0 };
        let mut wait = WAIT;
        loop {
            let options = PutOptions::from(PutMode::Create);
            match objects.put_opts(&self.path(number), bytes.clone().into(), options).await {
                Ok(_) => break,
                Err(object_store::Error::AlreadyExists { .. }) => {
                    let theirs = self.read(number).await?.ok_or_else(|| self.broken(number))?;
                    // Written by ourselves, and asked again by the client whose answer was lost.
                    if theirs == bytes {
                        break;
                    }
                    return Ok(Some(theirs));
                }
                // Whether it was written is unknown: create-only as it is, it may be written again.
                Err(_) if tries > 0 => {
                    tries -= 1;
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                // And so is whether we may go on.
                Err(error) => {
                    self.lost = true;
                    return Err(failed(
                        &error,
                        &format!("writing entry {number} of the journal of {}", E::about(&self.name)),
                    ));
                }
            }
        }
        self.sync(number)?;
        self.push(tip, entry);
        Ok(None)
    }

    /// The act that follows must never be older than what the disk remembers of its intent.
    fn sync(&mut self, number: u64) -> Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let file = dir.join(format!("{number:020}.json"));
        let synced = File::open(&file).and_then(|file| file.sync_all());
        if let Err(error) = synced.and_then(|()| File::open(dir)?.sync_all()) {
            self.lost = true;
            return Err(error).doing(|| format!("writing {}", file.display()));
        }
        Ok(())
    }

    /// Says that this process lives, where it has not for a while and nobody could see it otherwise.
    async fn beat(&mut self, now: Timestamp) {
        let (true, Some(objects)) = (self.shared && !self.lost, &self.objects) else { return };
        let last = self.heartbeat.as_ref().filter(|heartbeat| heartbeat.by == self.writer);
        if last.is_some_and(|heartbeat| now.duration_since(heartbeat.at) < HEARTBEAT) {
            return;
        }
        let heartbeat = Heartbeat { by: self.writer.clone(), at: now };
        // One that is not written makes this process look dead at most; who takes the journal then is noticed.
        if let Ok(bytes) = serde_json::to_vec(&heartbeat)
            && objects.put(&self.alive(), bytes.into()).await.is_ok()
        {
            self.heartbeat = Some(heartbeat);
        }
    }

    /// Reads whether whoever has it lives.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn hear(&mut self) -> Result<()> {
        let Some(objects) = &self.objects else { return Ok(()) };
        let found = get(&**objects, &self.alive()).await;
        let found = found.map_err(|error| {
            failed(&error, &format!("reading who has the journal of {}", E::about(&self.name)))
        })?;
        // What does not read was written by a later version: nobody is known to live, and the journal itself decides.
        self.heartbeat = found.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Ok(())
    }

    fn alive(&self) -> Path {
        Path::from(format!("{}/{ALIVE}.json", self.name))
    }

    fn push(&mut self, tip: Digest, entry: Entry<E>) {
        self.tip = tip;
        entry.event.add(&mut self.sum, entry.at);
        self.entries.push(entry);
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let entry = self.check(bytes)?;
        self.push(Digest::of(bytes), entry);
        Ok(())
    }

    /// Takes up another process's entry if it is a command; anything else means that the journal is lost.
    fn adopt(&mut self, bytes: &[u8]) -> Result<()> {
        let entry = self.check(bytes)?;
        if !entry.event.is_command() {
            self.lost = true;
            return Err(self.rival(&entry));
        }
        self.push(Digest::of(bytes), entry);
        Ok(())
    }

    fn next(&self) -> u64 {
        self.entries.len() as u64 + 1
    }

    /// Twenty digits hold every number, so that names sort as numbers.
    fn path(&self, number: u64) -> Path {
        Path::from(format!("{}/{number:020}.json", self.name))
    }

    async fn read(&self, number: u64) -> Result<Option<Vec<u8>>> {
        let Some(objects) = &self.objects else { return Ok(None) };
        let found = get(&**objects, &self.path(number)).await;
        found.map_err(|error| {
            failed(&error, &format!("reading entry {number} of the journal of {}", E::about(&self.name)))
        })
    }

    fn check(&self, bytes: &[u8]) -> Result<Entry<E>> {
        let number = self.next();
        let entry: Entry<E> = serde_json::from_slice(bytes)
            .doing(|| format!("reading entry {number} of the journal of {}", E::about(&self.name)))?;
        if entry.version > VERSION {
            return Err(Error::failed(format!(
                "journal entry {number} of {} is of version {}",
                E::about(&self.name),
                entry.version
            ))
            .hint("a newer rekiln wrote it; use that one"));
        }
        if entry.number != number || entry.previous != self.tip {
            return Err(self.broken(number));
        }
        Ok(entry)
    }

    fn no_gap(&self) -> Result<()> {
        let Some(Ok(files)) = self.dir.as_ref().map(std::fs::read_dir) else { return Ok(()) };
        let names = files.flatten().filter_map(|file| file.file_name().into_string().ok());
        let highest =
            names.filter_map(|name| name.strip_suffix(".json")?.parse::<u64>().ok()).max().unwrap_or(0);
        // One that was written since we read is no gap: our next append loses against it.
        if highest > self.next() { Err(self.broken(self.next())) } else { Ok(()) }
    }

    fn broken(&self, number: u64) -> Error {
        Error::failed(format!(
            "the journal of {} is broken at entry {number}: the chain of digests does not fit what is before it",
            E::about(&self.name)
        ))
        .hint("an entry was changed or removed; compare with a backup before anything else is rolled")
    }

    fn rival(&self, entry: &Entry<E>) -> Error {
        let Writer { host, pid, command, .. } = &entry.by;
        Error::lost_journal(format!(
            "`{command}` (process {pid} on {host}) has the journal of {}: it wrote entry {} at {}",
            E::about(&self.name), entry.number, entry.at
        ))
        .hint(match entry.by.gone_at(self.heard_of(entry)) {
            None => format!("wait for it, or end process {pid} on {host}; then run this again"),
            Some(gone) => format!(
                "wait for it, or end process {pid} on {host}; unless it is heard of again, it counts as gone as of \
                 {gone:.0}"
            ),
        })
    }
}

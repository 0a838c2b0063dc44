//! What is made of an image in an account and region, written down before it is made.
//!
//! ```text
//! published/<account>/<region>/<image>/entry.json   what is made, and how far it is
//! published/<account>/<region>/<image>/blocks.json  the digests of the disk's blocks: what a later image differs from
//! published/<account>/<region>/<image>/sent         the indices of confirmed blocks, until all are
//! published/<account>/<region>/<image>/lock         held by the process that works on it
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::blocks::Blocks;
use crate::atomic_write::atomic_write;
use crate::digest::{Digest, ImageId};
use crate::error::{Doing as _, Error, Result};
use crate::store::{Store, directories};

/// The version of the format that this program writes.
pub const VERSION: u32 = 1;

/// One image in one account and region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Format version.
    pub version: u32,
    /// The image.
    pub image: ImageId,
    /// Its recipe.
    pub recipe: String,
    /// Digest of its disk.
    pub disk: Digest,
    /// The account it is made in.
    pub account: String,
    /// The region it is made in.
    pub region: String,
    /// The role that was assumed for it, by ARN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// What tells all that was made for this entry from all else: a tag of it.
    pub run: String,
    /// Who began it.
    pub owner: String,
    /// When it was begun.
    pub begun: Timestamp,
    /// How often a snapshot was begun for it, the current one included. With `run` it makes the client token, so that
    /// asking again begins no second one.
    pub attempt: u32,
    /// When the current snapshot was asked for: for a moment after it, it need not be listed.
    pub started: Option<Timestamp>,
    /// The snapshot, once its beginning was confirmed.
    pub snapshot: Option<String>,
    /// What the snapshot is a delta to.
    pub parent: Option<Parent>,
    /// The key that encrypts it, where one was asked for.
    pub kms_key: Option<String>,
    /// Whether its end was confirmed: no block may be written any more.
    pub sealed: bool,
    /// The AMI, once it was confirmed.
    pub ami: Option<String>,
    /// The parameter that was told to name the AMI, and what it said before.
    pub named: Option<Named>,
    /// When everything was done; from then on nothing of it is temporary.
    pub published: Option<Timestamp>,
}

/// What a snapshot is a delta to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The image.
    pub image: ImageId,
    /// Its snapshot.
    pub snapshot: String,
}

/// A parameter that was told to name an AMI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its name.
    pub parameter: String,
    /// What it said before; `None` when it was not there.
    pub before: Option<String>,
}

impl Entry {
    /// Begins an entry: nothing is made yet.
    #[must_use]
    pub fn new(
        (image, recipe, disk): (ImageId, &str, Digest),
        (account, region): (&str, &str),
        owner: &str,
        now: Timestamp,
    ) -> Self {
        // No two processes begin one at the same time with the same number.
        let seed = format!("{image} {account} {region} {now} {}", std::process::id());
        Self {
            version: VERSION,
            image,
            recipe: recipe.to_owned(),
            disk,
            account: account.to_owned(),
            region: region.to_owned(),
            role: None,
            run: Digest::of(seed.as_bytes()).short(),
            owner: owner.to_owned(),
            begun: now,
            attempt: 1,
            started: None,
            snapshot: None,
            parent: None,
            kms_key: None,
            sealed: false,
            ami: None,
            named: None,
            published: None,
        }
    }

    /// Returns the client token of the current snapshot; at most 64 characters, as AWS wants it.
    #[must_use]
    pub fn token(&self) -> String {
        format!("rekiln-{}-{}", self.run, self.attempt)
    }

    /// Gives up the current snapshot; the next one has another token.
    pub fn begin_again(&mut self) {
        self.attempt += 1;
        (self.started, self.snapshot, self.parent, self.kms_key, self.sealed) =
            (None, None, None, None, false);
    }
}

/// The entry of one image in one account and region, held by this process.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    _lock: File,
}

impl Ledger {
    /// Takes the entry of an image, whether there is one or not.
    ///
    /// # Errors
    /// Another process has it; the store cannot be written.
    pub fn take(store: &Store, account: &str, region: &str, image: ImageId) -> Result<Self> {
        Self::try_take(store, account, region, image)?.ok_or_else(|| {
            Error::holding(format!(
                "another process is publishing image {} in {region} of account {account}",
                image.short()
            ))
            .hint("wait for it, and publish again to see what came of it")
        })
    }

    /// Takes the entry of an image as [`Ledger::take`]; `None` when another process has it.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn try_take(store: &Store, account: &str, region: &str, image: ImageId) -> Result<Option<Self>> {
        let dir = published(store).join(account).join(region).join(image.to_string());
        Ok(hold(&dir)?.map(|lock| Self { dir, _lock: lock }))
    }

    /// Returns the entry; `None` when nothing was begun.
    ///
    /// # Errors
    /// It does not read, or is of a newer format.
    pub fn entry(&self) -> Result<Option<Entry>> {
        read(&self.dir)
    }

    /// Writes the entry; before what it speaks of is done.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn write(&self, entry: &Entry) -> Result<()> {
        let text = serde_json::to_vec_pretty(entry).doing(|| "writing a ledger entry as JSON")?;
        atomic_write(&self.dir.join("entry.json"), &text)
    }

    /// Writes the blocks of the disk.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn write_blocks(&self, blocks: &Blocks) -> Result<()> {
        let text = serde_json::to_vec(blocks).doing(|| "writing digests of blocks as JSON")?;
        atomic_write(&self.dir.join("blocks.json"), &text)
    }

    /// Returns the blocks that were confirmed for the current snapshot.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn sent(&self, entry: &Entry) -> Result<BTreeSet<u32>> {
        let path = self.dir.join("sent");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(error).doing(|| format!("reading {}", path.display())),
        };
        let mut lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        // The list of an attempt that was given up says nothing of this one; nor does a line that was not finished.
        if lines.next() != Some(&entry.token()) {
            return Ok(BTreeSet::new());
        }
        Ok(lines.filter_map(|line| line.parse().ok()).collect())
    }

    /// Opens the list of confirmed blocks to add to it, `known` being those in it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn sending(&self, entry: &Entry, known: &BTreeSet<u32>) -> Result<Sending> {
        let path = self.dir.join("sent");
        let lines = known.iter().map(u32::to_string);
        let text: String = std::iter::once(entry.token()).chain(lines).map(|line| line + "\n").collect();
        atomic_write(&path, text.as_bytes())?;
        let file =
            File::options().append(true).open(&path).doing(|| format!("opening {}", path.display()))?;
        Ok(Sending { path, file })
    }

    /// Forgets the list of confirmed blocks.
    pub fn all_sent(&self) {
        // What stays is of an attempt that is over, and is not read.
        let _ = fs::remove_file(self.dir.join("sent"));
    }

    /// Removes the entry, since nothing of it is there any more.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(self) -> Result<()> {
        // The entry first: what is left of one that is not whole means nothing.
        for name in ["entry.json", "blocks.json", "sent"] {
            match fs::remove_file(self.dir.join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).doing(|| format!("removing the ledger {}", self.dir.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Ledger {
    /// Where nothing was begun, nothing is left. The lock is held until after this.
    fn drop(&mut self) {
        if !self.dir.join("entry.json").exists() {
            let _ = fs::remove_file(self.dir.join("lock"));
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

/// Takes a directory of a ledger, making it where it is not there: its file `lock` is held as long as what is returned.
/// `None` when another process has it.
///
/// # Errors
/// The store cannot be written.
pub fn hold(dir: &Path) -> Result<Option<File>> {
    let doing = || format!("taking the ledger {}", dir.display());
    loop {
        fs::create_dir_all(dir).doing(doing)?;
        let path = dir.join("lock");
        let lock = match File::options().create(true).append(true).open(&path) {
            Ok(lock) => lock,
            // Who had it has just removed it.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error).doing(doing),
        };
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error).doing(doing),
        }
        if path.exists() {
            return Ok(Some(lock));
        }
    }
}

/// The list of confirmed blocks, open.
#[derive(Debug)]
pub struct Sending {
    path: PathBuf,
    file: File,
}

impl Sending {
    /// Adds a block. It is not synced: what a crash of the host forgets is sent again, which changes nothing.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn confirm(&mut self, index: u32) -> Result<()> {
        let line = format!("{index}\n");
        self.file.write_all(line.as_bytes()).doing(|| format!("writing {}", self.path.display()))
    }
}

/// Returns every entry of a store, in the order of account, region and image.
///
/// # Errors
/// One that does not read: what it made may be anything.
pub fn entries(store: &Store) -> Result<Vec<Entry>> {
    let mut found = Vec::new();
    for account in directories(&published(store))? {
        for region in directories(&account)? {
            for image in directories(&region)? {
                found.extend(read::<Entry>(&image)?);
            }
        }
    }
    Ok(found)
}

/// Returns the published image of a recipe that a new one can be a delta to, with its blocks: the newest that is known
/// well enough.
///
/// # Errors
/// As [`entries`].
pub fn newest(
    store: &Store,
    (account, region): (&str, &str),
    recipe: &str,
    but: ImageId,
) -> Result<Option<(Entry, Blocks)>> {
    let dir = published(store).join(account).join(region);
    let mut published = Vec::new();
    for image in directories(&dir)? {
        let entry = read::<Entry>(&image)?.filter(|entry| entry.recipe == recipe && entry.image != but);
        if let Some((at, entry)) = entry.and_then(|entry| Some((entry.published?, entry))) {
            published.push((at, image, entry));
        }
    }
    published.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
    // Without its blocks, or with some that do not read, it is passed over: the upload is larger, and right.
    let known = |(_, dir, entry): (Timestamp, PathBuf, Entry)| {
        let text = fs::read(dir.join("blocks.json")).ok()?;
        Some((entry, serde_json::from_slice(&text).ok()?))
    };
    Ok(published.into_iter().find_map(known))
}

/// Returns the blocks of an image that is published.
///
/// # Errors
/// They do not read: a delta to them cannot be made.
pub fn blocks(store: &Store, (account, region): (&str, &str), image: ImageId) -> Result<Blocks> {
    let path = published(store).join(account).join(region).join(image.to_string()).join("blocks.json");
    let doing = || format!("reading {}", path.display());
    serde_json::from_slice(&fs::read(&path).doing(doing)?).doing(doing)
}

fn published(store: &Store) -> PathBuf {
    store.root().join("published")
}

/// Reads the entry in a directory of a ledger; `None` when nothing was begun.
///
/// # Errors
/// It does not read, or is of another format.
pub fn read<T: DeserializeOwned>(dir: &Path) -> Result<Option<T>> {
    let path = dir.join("entry.json");
    let doing = || format!("reading the ledger entry {}", path.display());
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).doing(doing),
    };
    let value: serde_json::Value = serde_json::from_slice(&text).doing(doing)?;
    if value["version"] != VERSION {
        return Err(Error::failed(format!(
            "{} has format {}, and this rekiln reads format {VERSION}",
            path.display(),
            value["version"]
        ))
        .hint("use the rekiln that wrote it, or a newer one"));
    }
    serde_json::from_value(value).map(Some).doing(doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().display().to_string()).expect("a store");
        (dir, store)
    }

    fn entry(name: &str, at: i64) -> Entry {
        let image = Digest::of(name.as_bytes());
        let at = Timestamp::from_second(at).expect("a time");
        Entry { published: Some(at), ..Entry::new((image, "web", image), ("1", "r"), "a test", at) }
    }

    fn take(store: &Store, entry: &Entry) -> Ledger {
        Ledger::take(store, &entry.account, &entry.region, entry.image).expect("taken")
    }

    #[test]
    fn one_process_has_it() {
        let (_dir, store) = store();
        let entry = entry("a", 1);
        let ledger = take(&store, &entry);
        assert_eq!(ledger.entry().expect("read"), None);
        let again = Ledger::take(&store, "1", "r", entry.image).expect_err("it is held");
        assert_eq!(again.exit_code(), 3);
        ledger.write(&entry).expect("written");
        drop(ledger);
        let ledger = take(&store, &entry);
        assert_eq!(ledger.entry().expect("read"), Some(entry));
        ledger.remove().expect("removed");
        assert_eq!(entries(&store).expect("read"), []);
    }

    #[test]
    fn what_was_sent_is_of_one_attempt() {
        let (_dir, store) = store();
        let mut entry = entry("a", 1);
        let ledger = take(&store, &entry);
        let mut sending = ledger.sending(&entry, &BTreeSet::new()).expect("opened");
        for index in [3, 14] {
            sending.confirm(index).expect("written");
        }
        // Cut short in the middle of a line.
        sending.file.write_all(b"15").expect("written");
        let known = ledger.sent(&entry).expect("read");
        assert_eq!(known, BTreeSet::from([3, 14]));
        let mut sending = ledger.sending(&entry, &known).expect("opened");
        sending.confirm(9).expect("written");
        assert_eq!(ledger.sent(&entry).expect("read"), BTreeSet::from([3, 9, 14]));
        entry.begin_again();
        assert_eq!(ledger.sent(&entry).expect("read"), BTreeSet::new());
    }

    #[test]
    fn the_newest_that_is_known_is_the_parent() {
        let (_dir, store) = store();
        let (old, new, newest_one) = (entry("old", 1), entry("new", 2), entry("newest", 3));
        let unfinished = Entry { published: None, ..entry("unfinished", 4) };
        let other = Entry { recipe: "db".to_owned(), ..entry("other", 5) };
        let blocks = Blocks([(1, Digest::of(b"x"))].into());
        for entry in [&old, &new, &newest_one, &unfinished, &other] {
            let ledger = take(&store, entry);
            ledger.write(entry).expect("written");
            if entry.image != newest_one.image {
                ledger.write_blocks(&blocks).expect("written");
            }
        }
        let found = |but: &Entry| newest(&store, ("1", "r"), "web", but.image).expect("read");
        assert_eq!(found(&unfinished), Some((new.clone(), blocks.clone())));
        assert_eq!(found(&new), Some((old, blocks)));
        assert_eq!(newest(&store, ("1", "elsewhere"), "web", new.image).expect("read"), None);
    }

    #[test]
    fn a_newer_format_is_not_guessed() {
        let (_dir, store) = store();
        let entry = Entry { version: VERSION + 1, ..entry("a", 1) };
        take(&store, &entry).write(&entry).expect("written");
        let error = entries(&store).expect_err("newer").chain();
        assert!(error.contains("this rekiln reads format 1"), "{error}");
    }
}

//! A snapshot as a disk: its blocks are fetched (EBS direct APIs) when they are read, and kept in a sparse file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::snapshots::Readable;
use super::{Aws, insist};
use crate::error::{Doing as _, Error, Result};
use crate::inspect::window::{Source, Window};
use crate::interrupt;
use crate::publish::blocks::BLOCK;
use crate::publish::plan::State;
use crate::scratch::Scratch;
use crate::store::Store;

/// How many blocks are fetched at once where it is known that all are needed, as `rekiln verify-ami` does.
const AT_ONCE: usize = 32;

/// How many blocks behind one are fetched with it when those before it were read, too: 4 MiB, which hide the time that a
/// call takes; single reads far apart, as metadata has them, fetch one block each.
const AHEAD: usize = 8;

/// The blocks of a snapshot.
struct SnapshotDisk {
    aws: Aws,
    snapshot: String,
    len: u64,
    /// What was written; everything else is zeros.
    blocks: BTreeMap<u32, Readable>,
    /// The numbers of blocks that are in the file.
    fetched: Mutex<BTreeSet<u32>>,
    file: File,
    path: PathBuf,
    runtime: Handle,
    _scratch: Option<Scratch>,
}

impl Aws {
    /// Returns the snapshot of an AMI's root device, whoever's AMI it is.
    ///
    /// # Errors
    /// No such AMI that this account may launch, and one whose root is not on EBS.
    pub async fn root_snapshot(&self, ami: &str) -> Result<String> {
        let ids = [ami.to_owned()];
        let found = insist(&self.region, || self.images_of_anyone(&ids)).await?;
        let image = found.into_iter().find(|image| image.id == ami).ok_or_else(|| {
            let place = format!("{} for account {}", self.region, self.account);
            Error::failed(format!("there is no AMI {ami} in {place}"))
                .hint("an AMI is in one region only: give its own with `--region`")
        })?;
        image.snapshot.ok_or_else(|| Error::failed(format!("the root device of {ami} is not on EBS")))
    }

    /// Opens a snapshot as a disk. What is read of it is fetched then and kept in the store's scratch space, which is
    /// removed with the last window of the disk. Its windows must not be read by asynchronous work.
    ///
    /// # Errors
    /// No such snapshot, one that is not complete, and what listing its blocks returns.
    pub async fn disk(&self, snapshot: &str, store: &Store) -> Result<Window> {
        let scratch = Scratch::new(store, "snapshot")?;
        let path = scratch.dir().join("disk.raw");
        Ok(Window::over(Box::new(self.open_disk(snapshot, path, Some(scratch)).await?)))
    }

    /// Fetches all of a snapshot into a new file, whose holes are where nothing was written.
    ///
    /// # Errors
    /// As [`Aws::disk`], and what fetching its blocks returns.
    pub async fn download_disk(&self, snapshot: &str, path: PathBuf) -> Result<()> {
        let disk = self.open_disk(snapshot, path, None).await?;
        let all = disk.blocks.values().cloned().collect();
        disk.fetch_all(all, &mut BTreeSet::new())
            .await
            .map_err(|error| error.during(format!("reading the snapshot {snapshot}")))
    }

    async fn open_disk(
        &self,
        snapshot: &str,
        path: PathBuf,
        scratch: Option<Scratch>,
    ) -> Result<SnapshotDisk> {
        let seen = insist(&self.region, || self.snapshot(snapshot)).await?;
        let seen = seen.ok_or_else(|| {
            Error::failed(format!("there is no snapshot {snapshot} in {}", self.region))
                .hint("a snapshot is in one region only, and must be shared with this account to be read")
        })?;
        if seen.state != State::Ready {
            return Err(Error::failed(format!("the snapshot {snapshot} is not complete")));
        }
        let blocks = insist(&self.region, || self.blocks(snapshot)).await?;
        let len = seen.gib.saturating_mul(1 << 30);
        let doing = || format!("making {}", path.display());
        let file = File::options().read(true).write(true).create_new(true).open(&path).doing(doing)?;
        file.set_len(len).doing(doing)?;
        Ok(SnapshotDisk {
            aws: self.clone(),
            snapshot: snapshot.to_owned(),
            len,
            blocks: blocks.into_iter().map(|block| (block.index, block)).collect(),
            fetched: Mutex::default(),
            file,
            path,
            runtime: Handle::current(),
            _scratch: scratch,
        })
    }
}

impl SnapshotDisk {
    /// Fetches the blocks of a range that are not there yet, and some behind them when `ahead` says so.
    fn fetch(&self, range: Range<u64>, ahead: bool) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let number = |at: u64| u32::try_from(at / BLOCK as u64).doing(|| "counting blocks");
        let (first, last) = (number(range.start)?, number(range.end - 1)?);
        // Held while fetching: two readers of one block fetch it once.
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = |fetched: &BTreeSet<u32>, numbers: std::ops::RangeInclusive<u32>, most: usize| {
            let blocks = self.blocks.range(numbers).filter(|(number, _)| !fetched.contains(number));
            blocks.take(most).map(|(_, block)| block.clone()).collect::<Vec<_>>()
        };
        let mut wanted = missing(&fetched, first..=last, usize::MAX);
        if wanted.is_empty() {
            return Ok(());
        }
        let read_before =
            self.blocks.range(..first).next_back().is_some_and(|(before, _)| fetched.contains(before));
        if ahead && read_before && last < u32::MAX {
            wanted.extend(missing(&fetched, last + 1..=u32::MAX, AHEAD));
        }
        self.runtime
            .block_on(self.fetch_all(wanted, &mut fetched))
            .map_err(|error| error.during(format!("reading the snapshot {}", self.snapshot)))
    }

    async fn fetch_all(&self, wanted: Vec<Readable>, fetched: &mut BTreeSet<u32>) -> Result<()> {
        let mut wanted = wanted.into_iter();
        let mut calls = JoinSet::new();
        loop {
            interrupt::check()?;
            while calls.len() < AT_ONCE
                && let Some(block) = wanted.next()
            {
                let (aws, snapshot) = (self.aws.clone(), self.snapshot.clone());
                calls.spawn(async move {
                    let data = insist(&aws.region, || aws.get_checked_block(&snapshot, &block)).await?;
                    Ok::<_, Error>((block.index, data))
                });
            }
            let Some(ended) = calls.join_next().await else { return Ok(()) };
            let (index, data) = ended.doing(|| "reading a block")??;
            if data.len() != BLOCK {
                return Err(Error::failed(format!(
                    "block {index} has {} bytes, and not {BLOCK}",
                    data.len()
                )));
            }
            let at = u64::from(index) * BLOCK as u64;
            // A block behind the volume's end would make the file longer than the disk.
            if at + BLOCK as u64 > self.len {
                return Err(Error::failed(format!("block {index} lies behind the volume's end")));
            }
            self.file.write_all_at(&data, at).doing(|| format!("writing {}", self.path.display()))?;
            fetched.insert(index);
        }
    }
}

impl Source for SnapshotDisk {
    fn size(&self) -> u64 {
        self.len
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.fetch(offset..offset + buffer.len() as u64, true)?;
        self.file.read_exact_at(buffer, offset).doing(|| format!("reading {}", self.path.display()))
    }

    fn in_file(&self, range: Range<u64>) -> Result<PathBuf> {
        self.fetch(range, false)?;
        Ok(self.path.clone())
    }
}

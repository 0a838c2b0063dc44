//! Do: from a member to a backup that counts, each step written down before it is done.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::runtime::Handle;

use super::event::{BackupId, Event, Journal, Proof, Taken};
use super::parts::Place;
use super::prove::{Ground, prove};
use super::take::{Far, Source, take};
use crate::catalog::{Catalog, Record};
use crate::digest::ImageId;
use crate::error::{Error, Result};
use crate::fleet::Fleet;
use crate::fleet::backup::Settings;
use crate::fleet::census::InstanceId;
use crate::progress::{Event as Said, Progress};
use crate::store::Store;

/// How often others are told that this process lives, and it looks whether it still has the journal: well within the time
/// after which another computer takes it for gone.
const BEAT: Duration = Duration::from_secs(10);

/// How often a person sees how far it is.
const SHOWN: Duration = Duration::from_millis(500);

/// Work at the backups of one fleet: who has this has their journal.
pub struct Work<'a> {
    /// The fleet's name.
    pub name: &'a str,
    /// The fleet.
    pub fleet: &'a Fleet,
    /// What it says of backups.
    pub settings: Settings,
    /// The store with the images.
    pub store: Store,
    /// Where the backups are.
    pub place: Place,
    /// Their journal.
    pub journal: Journal,
    /// Whether this process has it.
    pub has: bool,
    /// What asynchronous work runs on.
    pub handle: Handle,
    /// Who hears how far it is.
    pub progress: &'a dyn Progress,
}

/// The member that is copied.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name.
    pub id: InstanceId,
    /// The image that it runs.
    pub image: ImageId,
    /// How its database is reached.
    pub source: Source,
}

impl Work<'_> {
    /// Takes the journal, unless a living process has it, and removes what a killed one left.
    ///
    /// # Errors
    /// Lost journal; the target does not answer.
    pub fn begin(&mut self) -> Result<Vec<String>> {
        self.journal.refuse_rival(Timestamp::now())?;
        let unfinished = self.journal.history().unfinished();
        self.record(Event::Opened)?;
        self.has = true;
        for id in unfinished {
            self.record(Event::Failed { id, why: "its process ended before it did".to_owned() })?;
        }
        self.sweep()
    }

    /// Gives the journal back, unless it was given back or lost before.
    ///
    /// # Errors
    /// It was lost meanwhile.
    pub fn end(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.has) || self.journal.is_lost() {
            return Ok(());
        }
        self.record(Event::Closed)
    }

    fn record(&mut self, event: Event) -> Result<()> {
        self.handle.block_on(self.journal.record(Timestamp::now(), event))
    }

    /// Removes what belongs to no backup that is kept, and returns what that was.
    fn sweep(&mut self) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for id in self.handle.block_on(self.place.leftovers(self.journal.history()))? {
            self.handle.block_on(self.place.remove(&id))?;
            removed.push(format!("backup {} of {}, which is not whole", id, self.name));
        }
        Ok(removed)
    }

    /// Takes a backup of a member, which does not count yet.
    ///
    /// # Errors
    /// It cannot be taken; then that is written down, and nothing of it is left.
    pub fn take(&mut self, member: &Member) -> Result<(BackupId, Taken)> {
        let now = Timestamp::now();
        let id = self.journal.history().name(now);
        let Member { id: source, image, .. } = member;
        let begun = Event::Begun { id: id.clone(), source: source.clone(), image: *image };
        self.handle.block_on(self.journal.record(now, begun))?;
        let parts = self.place.parts(&id);
        let step = format!("copying {source}");
        let (far, over) = (Arc::new(Far::default()), AtomicBool::new(false));
        let (progress, name, handle) = (self.progress, self.name, &self.handle);
        // Not with each part: the server may take minutes before it sends the first one, and a target as long to take it.
        let (beating, stops) = (Mutex::new((Beat::new(), &mut self.journal)), Mutex::new(None));
        let tick = || {
            let mut beating = beating.lock().unwrap_or_else(PoisonError::into_inner);
            let (beat, journal) = &mut *beating;
            beat.tick(journal, handle)
        };
        let stopped = || stops.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = std::thread::scope(|scope| {
            let shown = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    if let Err(error) = tick() {
                        *stopped() = Some(error);
                        return;
                    }
                    let (done, total) = (far.done.load(Ordering::Relaxed), far.total.load(Ordering::Relaxed));
                    if total > 0 {
                        let (scope, step) = (name.to_owned(), step.clone());
                        progress.tell(Said::Advanced { scope, step, done, total });
                    }
                    std::thread::park_timeout(SHOWN);
                }
            });
            let taken = progress.step(name, &step, || {
                take(&member.source, &parts, handle, &far, || stopped().take().map_or_else(&tick, Err))
            });
            over.store(true, Ordering::Relaxed);
            shown.thread().unpark();
            taken
        });
        match taken {
            Ok(taken) => {
                self.record(Event::Taken { id: id.clone(), taken: taken.clone() })?;
                Ok((id, taken))
            }
            Err(error) => Err(self.failed(&id, error)),
        }
    }

    /// Restores a backup into a fresh machine and asks it; from then on it counts, or does not.
    ///
    /// # Errors
    /// It does not answer as it should; then that is written down. It is kept: what was wrong may be the machine.
    pub fn prove(&mut self, id: &BackupId) -> Result<Proof> {
        let backup = self.journal.history().get(id).filter(|backup| backup.is_kept());
        let Some((taken, image)) = backup.and_then(|backup| Some((backup.taken.clone()?, backup.image)))
        else {
            return Err(Error::invalid(format!("backup {id} of {} is not kept", self.name))
                .hint(format!("`rekiln backup status {}` lists those that are", self.name)));
        };
        let image = self.image(image)?;
        self.record(Event::Tried { id: id.clone() })?;
        let ground = Ground {
            store: &self.store,
            name: self.name,
            fleet: self.fleet,
            image: &image,
            handle: &self.handle,
        };
        let (journal, handle, parts) = (&mut self.journal, &self.handle, self.place.parts(id));
        let mut beat = Beat::new();
        let proof = self.progress.step(self.name, &format!("restoring {id} into a fresh machine"), || {
            prove(&ground, &self.settings, parts, &taken, || beat.tick(journal, handle))
        });
        match proof {
            Ok(proof) => {
                self.record(Event::Proved { id: id.clone(), proof: proof.clone() })?;
                Ok(proof)
            }
            Err(error) => Err(self.failed(id, error.during(format!("proving backup {id}")))),
        }
    }

    /// Removes what need not be kept any more, and returns which.
    ///
    /// # Errors
    /// The target does not answer: the next run removes the rest.
    pub fn prune(&mut self) -> Result<Vec<BackupId>> {
        let surplus = self.journal.history().surplus(self.settings.keep);
        for (id, why) in &surplus {
            self.record(Event::Removed { id: id.clone(), why: why.clone() })?;
            self.handle.block_on(self.place.remove(id))?;
        }
        Ok(surplus.into_iter().map(|(id, _)| id).collect())
    }

    /// Writes down that one does not count, removes what belongs to nothing, and returns the error.
    fn failed(&mut self, id: &BackupId, error: Error) -> Error {
        if self.journal.is_lost() {
            return error;
        }
        let failed = self.record(Event::Failed { id: id.clone(), why: error.chain() });
        match failed.and_then(|()| self.sweep()).and_then(|_| self.end()) {
            Ok(()) => error,
            // The next run finds it.
            Err(also) => {
                error.hint(format!("and it could not be written down or cleared away: {}", also.chain()))
            }
        }
    }

    /// Returns the record of the image that members ran when it was taken.
    fn image(&self, id: ImageId) -> Result<Record> {
        Catalog::new(self.store.clone()).get(id)?.ok_or_else(|| {
            Error::failed(format!("image {} is not in the store any more", id.short())).hint(
                "check out its commit and bake it: a backup is restored into a machine of the same image",
            )
        })
    }
}

/// When others were last told that this process lives.
struct Beat(Instant);

impl Beat {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn tick(&mut self, journal: &mut Journal, handle: &Handle) -> Result<()> {
        crate::interrupt::check()?;
        if self.0.elapsed() < BEAT {
            return Ok(());
        }
        self.0 = Instant::now();
        handle.block_on(journal.refresh())
    }
}

/// What others need to know of how long a restore takes: the 30-minute rule is fed by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// How long it took, from the first byte to a database that takes writes.
    pub restore: SignedDuration,
    /// Bytes that were kept.
    pub bytes: u64,
    /// Bytes of the database, where it said so.
    pub data: Option<u64>,
    /// When it was taken.
    pub at: Timestamp,
}

/// Returns what the last proved backup measured; `None` while there is none.
#[must_use]
pub fn measured(backups: &super::Backups) -> Option<Measured> {
    let (_, backup, proof) = backups.proved()?;
    let bytes = backup.taken.as_ref()?.bytes;
    Some(Measured { restore: proof.restore, bytes, data: proof.data, at: backup.begun })
}

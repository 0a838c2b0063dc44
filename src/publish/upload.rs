//! Do: sends the blocks of a snapshot, as many at once as pays, and says when there are no more.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::blocks::{check_block, read_block};
use super::pace::{Pace, Window};
use super::publication::Disk;
use super::run::{Publisher, Stop};
use crate::digest::Digest;
use crate::error::{Doing as _, Error, Result};
use crate::interrupt;
use crate::progress::Event;
use crate::provider::aws::{Aws, CallError, Kind, Patience};

/// How often Ctrl-C is looked for while calls are under way.
const LOOK: Duration = Duration::from_millis(100);

/// What it is called while it goes on.
const STEP: &str = "sending blocks";

impl Publisher {
    pub(super) async fn upload(&mut self, snapshot: &str) -> Result<(), Stop> {
        let changes = self.changes().await?;
        self.ledger.write_blocks(self.publication.disk.blocks().await?)?;
        self.change()?;
        let known = self.ledger.sent(&self.entry)?;
        let mut sending = self.ledger.sending(&self.entry, &known)?;
        let all = changes.0.iter().filter(|(index, _)| !known.contains(index));
        let mut left: VecDeque<(u32, Digest)> = all.map(|(index, digest)| (*index, *digest)).collect();
        let total = changes.len();
        let source = Source::open(self, snapshot)?;
        let (mut pace, mut patience, mut calls) = (Pace::default(), Patience::default(), JoinSet::new());
        let (mut window, mut since) = (Window { sent: 0, refused: 0, time: Duration::ZERO }, Instant::now());
        let mut confirmed = known.len();
        // Of calls that were under way together, many may fail for one reason: that counts once, when all have ended.
        let mut failed: Option<CallError> = None;
        let start = Instant::now();
        self.started();
        self.tell(confirmed, total);
        loop {
            interrupt::check()?;
            while failed.is_none()
                && calls.len() < pace.at_once
                && let Some((index, digest)) = left.pop_front()
            {
                let source = Arc::clone(&source);
                calls.spawn(async move { (index, digest, source.send(index, digest).await) });
            }
            let ended = match tokio::time::timeout(LOOK, calls.join_next()).await {
                Ok(Some(ended)) => ended.doing(|| "sending a block")?,
                Ok(None) => match failed.take() {
                    Some(error) => {
                        patience.after(error, &self.aws.region).await?;
                        continue;
                    }
                    None => break,
                },
                Err(_) => continue,
            };
            match ended {
                (index, _, Ok(())) => {
                    sending.confirm(index)?;
                    patience.renew();
                    (confirmed, self.sent, window.sent) = (confirmed + 1, self.sent + 1, window.sent + 1);
                    self.tell(confirmed, total);
                }
                (_, _, Err(Stop::Error(error))) => return Err(error.into()),
                (index, digest, Err(Stop::Call(error))) => {
                    // Refused, it may be that the snapshot is not written any more: the next look tells.
                    if error.kind == Kind::Refused {
                        return Err(CallError { kind: Kind::Unclear, ..error }.into());
                    }
                    // What will not pass ends it at once.
                    if !error.may_pass() {
                        return Err(error.into());
                    }
                    left.push_back((index, digest));
                    window.refused += 1;
                    failed = Some(error);
                }
            }
            if window.sent + window.refused >= pace.window() {
                pace.after(Window { time: since.elapsed(), ..window });
                (window, since) = (Window { sent: 0, refused: 0, time: Duration::ZERO }, Instant::now());
            }
        }
        match self.aws.complete_snapshot(snapshot, &changes).await {
            Ok(()) => {}
            Err(error) if error.kind == Kind::Refused => {
                return Err(CallError { kind: Kind::Unclear, ..error }.into());
            }
            Err(error) => return Err(error.into()),
        }
        self.entry.sealed = true;
        self.ledger.write(&self.entry)?;
        self.ledger.all_sent();
        let (scope, step) = (self.publication.scope(), STEP.to_owned());
        self.progress.tell(Event::Finished { scope, step, seconds: start.elapsed().as_secs_f64() });
        Ok(())
    }

    fn started(&self) {
        self.progress.tell(Event::Started { scope: self.publication.scope(), step: STEP.to_owned() });
    }

    fn tell(&self, done: usize, total: usize) {
        self.progress.tell(Event::Advanced {
            scope: self.publication.scope(),
            step: STEP.to_owned(),
            done: done as u64,
            total: total as u64,
        });
    }
}

/// Where blocks come from and go to.
struct Source {
    aws: Aws,
    snapshot: String,
    disk: Arc<Disk>,
    file: Arc<File>,
}

impl Source {
    fn open(publisher: &Publisher, snapshot: &str) -> Result<Arc<Self>> {
        let disk = Arc::clone(&publisher.publication.disk);
        let file = File::open(&disk.path).doing(|| format!("opening {}", disk.path.display()))?;
        Ok(Arc::new(Self {
            aws: publisher.aws.clone(),
            snapshot: snapshot.to_owned(),
            disk,
            file: Arc::new(file),
        }))
    }

    async fn send(&self, index: u32, digest: Digest) -> Result<(), Stop> {
        let (file, path) = (Arc::clone(&self.file), self.disk.path.clone());
        let read = move || {
            let block = read_block(&file, index).doing(|| format!("reading {}", path.display()))?;
            check_block(index, &block, digest, &path)?;
            Ok::<_, Error>(block)
        };
        let block = tokio::task::spawn_blocking(read).await.doing(|| "reading a block")??;
        Ok(self.aws.put_block(&self.snapshot, index, block, digest).await?)
    }
}

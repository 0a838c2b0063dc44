//! Do: takes one image to one region, step by step, until it is published.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::blocks::Blocks;
use super::ledger::{Entry, Ledger, Named, Parent, newest};
use super::plan::{DISK_TAG, EXPIRES_TAG, IMAGE_TAG, RECIPE_TAG, RUN_TAG, Seen, State, Step, Wanted, next};
use super::publication::{Publication, Published};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::progress::Progress;
use crate::provider::aws::{Aws, Beginning, CallError, Kind, Patience, Registration};
use crate::store::Store;

/// The shortest and the longest time between two looks while something takes its time.
const LOOK: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(5));

/// How long something may take that only AWS works at. A snapshot of some GiB takes minutes; one that took an hour
/// never ended.
const DEADLINE: Duration = Duration::from_hours(1);

/// How long a parameter may take to say what it was told: AWS looks at the AMI first, which takes seconds.
const NAMING: Duration = Duration::from_secs(20);

/// How many snapshots are begun by one run, at most: what fails three times fails for a reason.
const ATTEMPTS: u32 = 3;

/// How long a snapshot without an AMI is of use to anyone: its tag says so to other tools.
const EXPIRY: SignedDuration = SignedDuration::from_hours(24);

/// Publishes, or goes on where an earlier run was stopped.
///
/// # Errors
/// It cannot be done now; what was begun is kept, to go on from or to be reaped.
pub async fn publish(
    store: &Store,
    publication: Publication,
    progress: Arc<dyn Progress>,
) -> Result<Published> {
    let aws = Aws::connect(&publication.region, publication.role.as_deref()).await?;
    publication.owned_by(&aws.account)?;
    let ledger = Ledger::take(store, &aws.account, &aws.region, publication.image)?;
    let now = Timestamp::now();
    let mut entry = match ledger.entry()? {
        Some(entry) if entry.disk == publication.disk.sha256 => entry,
        Some(_) => {
            return Err(Error::failed(format!(
                "image {} was published in {} with another disk",
                publication.image.short(),
                aws.region
            ))
            .hint("the bake is not reproducible here, or the store was changed by hand: compare with `rekiln verify-ami`"));
        }
        None => {
            let what = (publication.image, publication.recipe.as_str(), publication.disk.sha256);
            Entry::new(what, (&aws.account, &aws.region), &publication.owner, now)
        }
    };
    // Who goes on with it may have come another way.
    entry.role.clone_from(&publication.role);
    let wanted = publication.wanted()?;
    let mut publisher = Publisher {
        aws,
        store: store.clone(),
        ledger,
        entry,
        wanted,
        publication,
        progress,
        sent: 0,
        changed: false,
        attempts: 0,
        delta: true,
        ready: (String::new(), 0),
        named: None,
    };
    publisher.run().await
}

/// Why a step ended the work, or did not end it.
pub(super) enum Stop {
    /// A call failed; whether that ends the work depends on what it means.
    Call(CallError),
    /// The work has ended.
    Error(Error),
}

impl From<CallError> for Stop {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// One image on its way to one region.
pub(super) struct Publisher {
    pub(super) aws: Aws,
    store: Store,
    pub(super) ledger: Ledger,
    pub(super) entry: Entry,
    wanted: Wanted,
    pub(super) publication: Publication,
    pub(super) progress: Arc<dyn Progress>,
    /// Blocks sent by this run.
    pub(super) sent: usize,
    /// Whether this run changed anything.
    pub(super) changed: bool,
    /// Snapshots that this run gave up.
    attempts: u32,
    /// Whether the snapshot may be a delta.
    delta: bool,
    /// What was seen ready last, and how often in a row.
    ready: (String, u32),
    /// When this run told the parameter, or may have.
    named: Option<Instant>,
}

impl Publisher {
    async fn run(&mut self) -> Result<Published> {
        let mut patience = Patience::default();
        let (mut waited_for, mut since, mut wait) = (String::new(), Instant::now(), LOOK.0);
        loop {
            interrupt::check()?;
            let step = match self.advance().await {
                Ok(step) => step,
                Err(Stop::Error(error)) => return Err(error),
                Err(Stop::Call(error)) => {
                    patience.after(error, &self.aws.region).await?;
                    continue;
                }
            };
            patience.renew();
            match step {
                Step::Done { ami, snapshot } => return self.done(ami, snapshot).await,
                Step::Wait(what) => {
                    if waited_for != what {
                        (waited_for, since, wait) = (what, Instant::now(), LOOK.0);
                    }
                    if since.elapsed() > DEADLINE {
                        return Err(Error::failed(format!(
                            "waiting for {waited_for} in {}: AWS has not done it for an hour",
                            self.aws.region
                        ))
                        .hint("publish again to go on waiting, or `rekiln reap` to remove what was made"));
                    }
                    tokio::time::sleep(wait).await;
                    wait = (wait * 3 / 2).min(LOOK.1);
                }
                _ => {}
            }
        }
    }

    /// Looks, decides and does one step; returns it.
    async fn advance(&mut self) -> Result<Step, Stop> {
        let seen = self.look().await?;
        let region = &self.aws.region;
        let step = next(&self.entry, &self.wanted, &seen, Timestamp::now()).map_err(|refusal| {
            Error::failed(format!("publishing {} in {region}: {refusal}", self.publication.recipe)).hint(
                "nothing was changed; remove or enable that AMI, or find out whose it is, then publish again",
            )
        })?;
        match &step {
            Step::Start => self.start().await?,
            Step::Upload(snapshot) => self.upload(snapshot).await?,
            Step::Wait(_) | Step::Done { .. } => {}
            Step::Register(snapshot) => self.register(snapshot).await?,
            Step::BeginAgain { ami, snapshot, why } => {
                self.begin_again(ami.as_deref(), snapshot.as_deref(), why).await?;
            }
            Step::Share { ami, add, remove } => {
                self.change()?;
                self.aws.share(ami, add, remove).await?;
            }
            Step::Deprecate(ami, at) => {
                self.change()?;
                self.aws.deprecate(ami, *at).await?;
            }
            Step::Tag { resources, tags } => {
                self.change()?;
                self.aws.tag(resources, tags).await?;
            }
            Step::Protect(ami, on) => {
                self.change()?;
                self.aws.protect(ami, *on).await?;
            }
            Step::Name(ami) => return self.name(ami, seen.parameter).await.map(|wait| wait.unwrap_or(step)),
        }
        Ok(step)
    }

    async fn look(&mut self) -> Result<Seen, CallError> {
        let mut seen = Seen { image: self.aws.image(&self.publication.ami_name()).await?, ..Seen::default() };
        let mut ready = None;
        match (&seen.image, &self.entry.snapshot) {
            (Some(image), _) if image.state != State::Gone => {
                if image.state == State::Ready {
                    ready = Some(image.id.clone());
                    seen.grantees = self.aws.grantees(&image.id).await?;
                    if self.wanted.uefi_data.is_some() {
                        seen.uefi_data = self.aws.uefi_data(&image.id).await?;
                    }
                    if let Some(parameter) = &self.publication.settings.parameter {
                        seen.parameter = self.aws.parameter(parameter).await?;
                    }
                }
            }
            (_, Some(snapshot)) => {
                seen.snapshot = self.aws.snapshot(snapshot).await?;
                ready =
                    seen.snapshot.as_ref().filter(|found| found.state == State::Ready).map(|s| s.id.clone());
            }
            (_, None) => {}
        }
        self.ready = match ready {
            Some(id) if id == self.ready.0 => (id, self.ready.1 + 1),
            Some(id) => (id, 1),
            None => (String::new(), 0),
        };
        seen.in_a_row = self.ready.1;
        Ok(seen)
    }

    /// Writes down that something is about to be changed.
    pub(super) fn change(&mut self) -> Result<()> {
        self.changed = true;
        self.ledger.write(&self.entry)
    }

    async fn start(&mut self) -> Result<(), Stop> {
        // A disk that is not what was baked begins nothing.
        self.publication.disk.blocks().await?;
        if self.entry.started.is_none() {
            self.entry.kms_key = self.publication.settings.kms.get(&self.aws.region).cloned();
            self.entry.parent = if self.delta { self.parent().await? } else { None };
            self.entry.started = Some(Timestamp::now());
        }
        self.change()?;
        let beginning = Beginning {
            token: self.entry.token(),
            gib: self.publication.gib(),
            description: self.publication.description(),
            tags: self.snapshot_tags(),
            parent: self.entry.parent.as_ref().map(|parent| parent.snapshot.clone()),
            kms_key: self.entry.kms_key.clone(),
        };
        match self.aws.start_snapshot(&beginning).await {
            Ok(id) => {
                self.entry.snapshot = Some(id);
                Ok(self.ledger.write(&self.entry)?)
            }
            // The parent went in this moment, or the tags in Git are others by now: that token is of no use.
            Err(error)
                if matches!(error.kind, Kind::Missing | Kind::Refused)
                    && (beginning.parent.is_some() || error.words.starts_with("ConflictException")) =>
            {
                self.delta = false;
                self.begin_again(None, None, &error.words).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the snapshot that this one can be a delta to.
    async fn parent(&self) -> Result<Option<Parent>, Stop> {
        let place = (self.aws.account.as_str(), self.aws.region.as_str());
        let found = newest(&self.store, place, &self.publication.recipe, self.entry.image)?;
        let Some((entry, _)) = found.filter(|(entry, _)| entry.kms_key == self.entry.kms_key) else {
            return Ok(None);
        };
        let Some(snapshot) = entry.snapshot else { return Ok(None) };
        let seen = self.aws.snapshot(&snapshot).await?.filter(|seen| {
            let ours = seen.tags.get(IMAGE_TAG) == Some(&entry.image.to_string());
            seen.state == State::Ready && ours && seen.gib <= self.publication.gib()
        });
        Ok(seen.map(|_| Parent { image: entry.image, snapshot }))
    }

    /// Returns what has to be written into the snapshot.
    pub(super) async fn changes(&self) -> Result<Blocks, Stop> {
        let own = self.publication.disk.blocks().await?;
        let Some(parent) = &self.entry.parent else { return Ok(own.clone()) };
        let place = (self.aws.account.as_str(), self.aws.region.as_str());
        Ok(own.changes_from(&super::ledger::blocks(&self.store, place, parent.image)?))
    }

    async fn register(&mut self, snapshot: &str) -> Result<(), Stop> {
        self.change()?;
        let registration = Registration {
            name: self.publication.ami_name(),
            description: self.publication.description(),
            snapshot: snapshot.to_owned(),
            tags: self.tags(),
            firmware: self.publication.disk.firmware,
            uefi_data: self.wanted.uefi_data.clone(),
        };
        match self.aws.register(&registration).await {
            Ok(ami) => {
                self.entry.ami = Some(ami);
                Ok(self.ledger.write(&self.entry)?)
            }
            // By this run or another one: the next look tells whose it is.
            Err(CallError { call, kind: Kind::Taken, words }) => {
                Err(CallError { call, kind: Kind::Unclear, words }.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn begin_again(
        &mut self,
        ami: Option<&str>,
        snapshot: Option<&str>,
        why: &str,
    ) -> Result<(), Stop> {
        self.attempts += 1;
        if self.attempts > ATTEMPTS {
            return Err(Error::failed(format!("publishing in {}: {why}", self.aws.region))
                .hint("it failed again and again; `rekiln reap` removes what is left of it")
                .into());
        }
        self.progress.note(&self.publication.scope(), format!("begins again: {why}"));
        self.change()?;
        if let Some(ami) = ami {
            self.aws.deregister(ami).await?;
        }
        if let Some(snapshot) = snapshot {
            self.aws.delete_snapshot(snapshot).await?;
        }
        self.entry.begin_again();
        (self.entry.ami, self.entry.published) = (None, None);
        Ok(self.ledger.write(&self.entry)?)
    }

    /// Has the parameter name the AMI, once; then waits until it does.
    async fn name(&mut self, ami: &str, before: Option<String>) -> Result<Option<Step>, Stop> {
        let Some(parameter) = self.publication.settings.parameter.clone() else { return Ok(None) };
        if self.named.is_some_and(|at| at.elapsed() < NAMING) {
            return Ok(Some(Step::Wait(format!("the parameter {parameter} to name {ami}"))));
        }
        // What was there before the first try is what an undoing needs.
        if self.entry.named.as_ref().is_none_or(|named| named.parameter != parameter) {
            self.entry.named = Some(Named { parameter: parameter.clone(), before });
        }
        self.change()?;
        self.named = Some(Instant::now());
        let told = self.aws.name(&parameter, ami).await;
        // It need not have been told again if only the answer is missing.
        if told.as_ref().is_err_and(|error| error.kind != Kind::Unclear) {
            self.named = None;
        }
        Ok(told.map(|()| None)?)
    }

    async fn done(&mut self, ami: String, snapshot: Option<String>) -> Result<Published> {
        let place = self.aws.region.clone();
        // An answer that was lost may have left a snapshot that another attempt took the place of; and another store
        // may have been faster, with a snapshot of its own.
        let others =
            self.entry.attempt > 1 || self.entry.started.is_some() && self.entry.snapshot != snapshot;
        if others && self.entry.published.is_none() {
            let mut patience = Patience::default();
            while let Err(error) = self.sweep(snapshot.as_deref()).await {
                patience.after(error, &place).await?;
            }
        }
        let before = self.entry.clone();
        self.entry.ami = Some(ami.clone());
        self.entry.snapshot = snapshot.clone().or_else(|| self.entry.snapshot.take());
        self.entry.published = self.entry.published.or_else(|| Some(Timestamp::now()));
        if self.entry != before {
            self.ledger.write(&self.entry)?;
        }
        // Nobody looks for them anew only to count them.
        let known = || super::ledger::blocks(&self.store, (&self.aws.account, &place), self.entry.image).ok();
        let blocks = self.publication.disk.blocks.get().map(Blocks::len).or_else(|| Some(known()?.len()));
        Ok(Published {
            account: self.aws.account.clone(),
            ami,
            snapshot,
            blocks,
            sent: self.sent,
            parent: self.entry.parent.as_ref().map(|parent| parent.snapshot.clone()),
            changed: self.changed,
        })
    }

    async fn sweep(&self, keep: Option<&str>) -> Result<(), CallError> {
        for snapshot in self.aws.snapshots(RUN_TAG, Some(&self.entry.run)).await? {
            if Some(snapshot.id.as_str()) != keep {
                self.aws.delete_snapshot(&snapshot.id).await?;
            }
        }
        Ok(())
    }

    fn tags(&self) -> BTreeMap<String, String> {
        let own = [
            ("Name", self.publication.ami_name()),
            (IMAGE_TAG, self.entry.image.to_string()),
            (DISK_TAG, self.entry.disk.to_string()),
            (RUN_TAG, self.entry.run.clone()),
            (RECIPE_TAG, self.entry.recipe.clone()),
            ("rekiln:owner", self.entry.owner.clone()),
        ];
        let own = own.map(|(key, value)| (key.to_owned(), value));
        // Of two with one name, the last one counts: a recipe may say `Name`.
        own.into_iter().chain(self.publication.settings.tags.clone()).collect()
    }

    fn snapshot_tags(&self) -> BTreeMap<String, String> {
        let begun = self.entry.started.unwrap_or(self.entry.begun);
        let expires = begun.checked_add(EXPIRY).unwrap_or(begun).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut tags = self.tags();
        tags.insert(EXPIRES_TAG.to_owned(), expires);
        tags
    }
}

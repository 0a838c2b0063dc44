//! Locks, bakes, and again without what failed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::message::{Face, Left, Seen, Updated, below_changed, compare};
use super::super::settle::{Family, Held, settle};
use super::super::tree::Tree;
use super::super::vulnerability::Stock;
use super::super::vulnerability::tracker::look;
use super::Nightly;
use crate::atomic_write::atomic_write;
use crate::bake::identity::Identity;
use crate::catalog::{Catalog, Record};
use crate::error::{Doing as _, Error, Result};
use crate::git::Revision;
use crate::interrupt;
use crate::lock::Lock;
use crate::lock::refresh::{Refresh, Scope};
use crate::recipe::Recipe;
use crate::repository::{Repository, lock_file};

/// An image that was baked and is good, and its lock.
pub(super) struct Made {
    pub(super) updated: Updated,
    /// The lock's file, below the repository's root.
    pub(super) file: PathBuf,
    pub(super) text: String,
}

/// The images of one commit, in a checkout in which their locks are refreshed.
pub(super) struct Rounds<'a> {
    night: &'a Nightly<'a>,
    dir: &'a Path,
    revision: Revision,
    /// As it is in the commit.
    before: &'a Repository,
    /// The locks' texts in the commit.
    texts: BTreeMap<String, String>,
    /// Those that an earlier night made from the same commit.
    made: BTreeMap<String, String>,
    /// Images that are looked at, those below before those above.
    images: Vec<String>,
    family: Family,
    /// Images whose own files are wrong, and how.
    broken: Held,
}

/// What became of the images in one round.
#[derive(Default)]
struct Round {
    /// Images with a new lock that did not fail.
    changed: BTreeSet<String>,
    records: BTreeMap<String, Record>,
    failed: Held,
    /// Those of them that failed only because another one did.
    followers: BTreeSet<String>,
}

impl Round {
    fn fail(&mut self, image: &str, why: impl Into<String>) {
        self.failed.insert(image.to_owned(), why.into());
    }

    fn follow(&mut self, image: &str, below: &str) {
        self.followers.insert(image.to_owned());
        self.fail(image, format!("it stands on {below}, which failed"));
    }
}

impl<'a> Rounds<'a> {
    /// Looks at a checkout, in which it works; `earlier` is what an earlier night made of the same commit.
    pub(super) fn new(night: &'a Nightly<'a>, tree: &'a Tree, earlier: Option<&Repository>) -> Result<Self> {
        let (before, dir) = (&tree.repository, tree.dir());
        let (mut images, mut family, mut broken) = (Vec::new(), Family::default(), Held::new());
        for name in before.recipe_names() {
            match before.chain(name) {
                Ok(chain) => {
                    let recipe: Option<&Recipe> = chain.last().map(|(_, recipe)| *recipe);
                    if !night.derived && recipe.is_some_and(|recipe| recipe.source.is_derived()) {
                        continue;
                    }
                    images.push((chain.len(), name.to_owned()));
                    if let Some(parent) = recipe.and_then(|recipe| recipe.source.parent()) {
                        family.parents.insert(name.to_owned(), parent.to_owned());
                    }
                }
                Err(error) => {
                    broken.insert(name.to_owned(), error.line());
                }
            }
            if before.links(name).is_ok() {
                family.fitting.insert(name.to_owned());
            }
        }
        images.sort();
        let images = images.into_iter().map(|(_, name)| name).collect();
        let texts = texts(before)?;
        let made = earlier.map_or_else(|| Ok(BTreeMap::new()), self::texts)?;
        // The locks that images are baked from are in no commit yet.
        let revision = Revision { commit: Some(tree.commit.clone()), clean: false };
        Ok(Self { night, dir, revision, before, texts, made, images, family, broken })
    }

    /// Returns how many images are looked at.
    pub(super) fn count(&self) -> usize {
        self.images.len() + self.broken.len()
    }

    /// Goes on until no image fails that did not fail before, and returns what is good and what is left as it was.
    pub(super) fn run(&self) -> Result<(Vec<Made>, Vec<Left>)> {
        let Nightly { store, settings, progress, repo, .. } = *self.night;
        let mut refresh = Refresh::new(Scope {
            repository: self.before,
            vendors: repo,
            store,
            settings,
            progress,
            update: true,
            made: &self.made,
            tell: &|_, _| {},
        });
        let mut held = Held::new();
        let mut failed: BTreeSet<String> = self.broken.keys().cloned().collect();
        loop {
            let round = self.round(&mut refresh, &held)?;
            let tried: BTreeSet<String> = round.changed.iter().chain(round.failed.keys()).cloned().collect();
            failed.extend(round.failed.keys().filter(|image| !round.followers.contains(*image)).cloned());
            if round.failed.is_empty() {
                let made = round.records.iter().map(|(image, record)| self.made(image, record));
                let mut made = made.collect::<Result<Vec<_>>>()?;
                let place = |made: &Made| self.images.iter().position(|image| *image == made.updated.image);
                made.sort_by_key(place);
                self.check(&made)?;
                held.extend(self.broken.clone());
                let left = held.into_iter().map(|(image, why)| {
                    let failed = failed.contains(&image);
                    Left { image, why, failed }
                });
                return Ok((made, left.collect()));
            }
            held.extend(settle(&round.failed, &tried, &held, &self.family));
        }
    }

    fn round(&self, refresh: &mut Refresh<'_>, held: &Held) -> Result<Round> {
        let mut round = self.refresh(refresh, held)?;
        // What fails here may change what the others stand on: they would be baked in vain.
        if round.failed.is_empty() && !round.changed.is_empty() {
            self.bake(&mut round)?;
        }
        Ok(round)
    }

    /// Brings every lock up to date, but for those that are held.
    fn refresh(&self, refresh: &mut Refresh<'_>, held: &Held) -> Result<Round> {
        self.images.iter().try_for_each(|image| self.restore(image))?;
        refresh.again();
        let mut round = Round::default();
        for image in &self.images {
            interrupt::check()?;
            if held.contains_key(image) {
                // One that has no lock is missed by those that stand on it, below.
                let _ = refresh.keep(image);
                continue;
            }
            if let Some(parent) = self.family.parents.get(image) {
                let lacks = held.contains_key(parent) && !self.texts.contains_key(parent);
                if lacks || round.failed.contains_key(parent) {
                    round.follow(image, parent);
                    continue;
                }
            }
            if let Err(error) = refresh.lock(image) {
                interrupt::check()?;
                self.night.progress.note(image, error.chain());
                round.fail(image, error.line());
            } else if self.text(image)? != *self.texts.get(image).map_or("", String::as_str) {
                round.changed.insert(image.clone());
            }
        }
        Ok(round)
    }

    /// Bakes what changed, those below before those above.
    fn bake(&self, round: &mut Round) -> Result<()> {
        let repository = Repository::open(self.dir)?;
        let mut waiting: Vec<&String> =
            self.images.iter().filter(|image| round.changed.contains(*image)).collect();
        while !waiting.is_empty() {
            interrupt::check()?;
            let (mut now, mut later) = (Vec::new(), Vec::new());
            for &image in &waiting {
                match self.family.parents.get(image) {
                    Some(parent) if round.failed.contains_key(parent) => round.follow(image, parent),
                    Some(parent) if waiting.contains(&parent) => later.push(image),
                    _ => match Identity::of(&repository, image, false) {
                        Ok(identity) => now.push(identity),
                        Err(error) => round.fail(image, error.line()),
                    },
                }
            }
            let results = if now.is_empty() {
                Vec::new()
            } else {
                (self.night.make)(&repository, &self.revision, &now)?
            };
            for (identity, result) in now.iter().zip(results) {
                match result.and_then(|record| self.judged(record)) {
                    Ok(record) => {
                        round.records.insert(identity.name.clone(), record);
                    }
                    Err(error) => {
                        interrupt::check()?;
                        self.night.progress.note(&identity.name, error.chain());
                        round.fail(&identity.name, error.line());
                    }
                }
            }
            waiting = later;
        }
        round.changed.retain(|image| !round.failed.contains_key(image));
        Ok(())
    }

    /// Passes an image on that may be committed.
    fn judged(&self, record: Record) -> Result<Record> {
        match &record.verdict {
            Some(verdict) if verdict.passed => Ok(record),
            Some(verdict) => {
                Err(Error::failed(format!("it did not pass its boot: {}", verdict.reasons.join("; "))))
            }
            None if self.night.unproven => Ok(record),
            None => Err(Error::failed("it was not booted")),
        }
    }

    fn made(&self, image: &str, record: &Record) -> Result<Made> {
        let text = self.text(image)?;
        let new = Lock::parse(&text)?;
        let old = self.texts.get(image).and_then(|text| Lock::parse(text).ok());
        let catalog = Catalog::new(self.night.store.clone());
        let face = |id| {
            let seen = catalog.get(id).ok().flatten();
            Face { id, seen: seen.as_ref().map(Seen::of) }
        };
        let before = Identity::of(self.before, image, false).ok().map(|identity| face(identity.id));
        let (changes, security) = compare(old.as_ref(), &new);
        let below = self.family.parents.get(image).filter(|_| below_changed(old.as_ref(), &new)).cloned();
        let updated = Updated {
            image: image.to_owned(),
            old: before,
            new: Face { id: record.id, seen: Some(Seen::of(record)) },
            changes,
            security,
            below,
            vulnerabilities: None,
        };
        Ok(Made { updated, file: lock_file(image), text })
    }

    /// Adds which vulnerabilities each fixes, by a file of the security tracker.
    pub(super) fn judge(&self, file: &Path, made: &mut [Made]) -> Result<()> {
        let after = Repository::open(self.dir)?;
        let stocks = |Made { updated: Updated { image, .. }, .. }: &Made| {
            (Stock::in_repository(self.before, image), Stock::in_repository(&after, image))
        };
        let found = look(file, &made.iter().map(stocks).collect::<Vec<_>>())?;
        for (made, found) in made.iter_mut().zip(found) {
            made.updated.vulnerabilities = found;
        }
        Ok(())
    }

    /// Checks what is about to be committed: every image has the id that was baked, and no lock that fitted fits no more.
    fn check(&self, made: &[Made]) -> Result<()> {
        let repository = Repository::open(self.dir)?;
        for Made { updated, .. } in made {
            let id = Identity::of(&repository, &updated.image, false)?.id;
            if id != updated.new.id {
                return Err(Error::failed(format!(
                    "{} is {} with the new locks, and {} was baked",
                    updated.image, id, updated.new.id
                )));
            }
        }
        for image in &self.family.fitting {
            repository.links(image).map_err(|error| {
                error.during("the new locks do not fit each other, and were not committed")
            })?;
        }
        Ok(())
    }

    /// Gives an image the lock that it has in the commit.
    fn restore(&self, image: &str) -> Result<()> {
        let path = self.dir.join(lock_file(image));
        match self.texts.get(image) {
            Some(text) => atomic_write(&path, text.as_bytes()),
            None if path.exists() => {
                std::fs::remove_file(&path).doing(|| format!("removing {}", path.display()))
            }
            None => Ok(()),
        }
    }

    fn text(&self, image: &str) -> Result<String> {
        let path = self.dir.join(lock_file(image));
        std::fs::read_to_string(&path).doing(|| format!("reading {}", path.display()))
    }
}

/// Reads the locks of a repository.
fn texts(repository: &Repository) -> Result<BTreeMap<String, String>> {
    let read = |name: &str| {
        let path = repository.root().join(lock_file(name));
        let text = std::fs::read_to_string(&path).doing(|| format!("reading {}", path.display()))?;
        Ok((name.to_owned(), text))
    };
    repository.lock_names().map(read).collect()
}

//! Locks of a repository brought up to date: each after the one of the image that it stands on.
//!
//! Locks are read and written where the repository was read, which may be a checkout elsewhere than the user's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::apt::{Apt, architecture};
use super::change::same_inputs;
use super::places::OTHERS;
use super::settings::Settings;
use super::stale::stale;
use super::{Lock, LockedFetch, Places, derived, fetch, resolve};
use crate::atomic_write::atomic_write;
use crate::bake::seal::Sealed;
use crate::claim::{Claim, Claimed};
use crate::digest::Digest;
use crate::error::{Doing as _, Error, Result};
use crate::progress::Progress;
use crate::recipe::{Recipe, Vendor};
use crate::repository::{Repository, lock_file};
use crate::store::Store;

/// What is refreshed, and with what.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The recipes; their locks lie below its root.
    pub repository: &'a Repository,
    /// The directory that paths of vendors' disks start from.
    pub vendors: &'a Path,
    /// The store.
    pub store: &'a Store,
    /// Where packages come from.
    pub settings: &'a Settings,
    /// Where progress goes.
    pub progress: &'a dyn Progress,
    /// Whether also locks that fit are resolved anew.
    pub update: bool,
    /// Locks that were made from the same ones before and are not there any more, by image. One with the same inputs is taken
    /// instead of one that says the same with newer dates.
    pub made: &'a BTreeMap<String, String>,
    /// Is told of every lock that was looked at.
    pub tell: &'a dyn Fn(&str, &Outcome<'_>),
}

/// What became of one lock.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// It fits its recipe and was left as it is.
    Fits,
    /// It was resolved anew, and nothing but the archive's dates changed: it was left as it is.
    Unchanged,
    /// There is a new one.
    Locked {
        /// The one before.
        old: Option<&'a Lock>,
        /// The one now.
        new: &'a Lock,
        /// What the image is derived from, when a vendor made that.
        vendor: Option<Vendor<'a>>,
    },
}

/// What the locking of several images shares: one apt state a release, and each image locked once.
pub struct Refresh<'a> {
    scope: Scope<'a>,
    /// The host's, asked when an image is resolved by apt.
    architecture: Option<String>,
    /// By release; why not, where the archive could not be read: it is not asked once for each image.
    apt: BTreeMap<String, Result<Apt, String>>,
    done: BTreeMap<String, Locked>,
}

/// An image whose lock fits.
#[derive(Debug, Clone)]
struct Locked {
    lock: Lock,
    digest: Digest,
    parent: Option<String>,
}

impl<'a> Refresh<'a> {
    /// Begins; nothing is asked of the archive yet.
    #[must_use]
    pub const fn new(scope: Scope<'a>) -> Self {
        Self { scope, architecture: None, apt: BTreeMap::new(), done: BTreeMap::new() }
    }

    /// Locks an image after those that it stands on, each once.
    ///
    /// # Errors
    /// A recipe with findings, a cycle, packages that do not exist or do not fit together, an archive that cannot be
    /// reached, and a lock that cannot be read or written.
    pub fn lock(&mut self, image: &str) -> Result<()> {
        self.lock_below(image, &mut Vec::new())
    }

    /// Takes the lock of an image as it is, for those that stand on it.
    ///
    /// # Errors
    /// No lock, and one that cannot be read.
    pub fn keep(&mut self, image: &str) -> Result<()> {
        let parent = self.scope.repository.recipe(image)?.source.parent().map(str::to_owned);
        let Some(text) = self.text(image)? else {
            return Err(Error::failed(format!("{} is missing", lock_file(image).display())));
        };
        let lock = Lock::parse(&text).map_err(|error| unreadable(error, image))?;
        let digest = Digest::of(text.as_bytes());
        self.done.insert(image.to_owned(), Locked { lock, digest, parent });
        Ok(())
    }

    /// Forgets which images were locked, for another round against the same state of the archive.
    pub fn again(&mut self) {
        self.done.clear();
    }

    /// `below` are the images that stand on `image`.
    fn lock_below(&mut self, image: &str, below: &mut Vec<String>) -> Result<()> {
        if self.done.contains_key(image) {
            return Ok(());
        }
        if below.iter().any(|name| name == image) {
            return Err(Error::invalid(format!(
                "`{image}` stands on itself: {} → {image}",
                below.join(" → ")
            )));
        }
        let recipe = self.scope.repository.recipe(image)?.clone();
        let parent = recipe.source.parent().map(str::to_owned);
        if let Some(parent) = &parent {
            below.push(image.to_owned());
            self.lock_below(parent, below)?;
            below.pop();
        }
        // After those below, whose files may be wrong: that is said before anything is asked of this computer.
        let architecture = self.architecture(&recipe)?;
        let parent_lock = parent.as_ref().and_then(|name| self.done.get(name)).map(|locked| locked.digest);
        let old_text = self.text(image)?;
        let old = old_text.as_deref().map(Lock::parse).transpose();
        let update = self.scope.update;
        let old = if update { old.ok().flatten() } else { old.map_err(|error| unreadable(error, image))? };
        let (lock, text) = match old.zip(old_text) {
            Some((old, text)) if !update && fits(&old, &recipe, parent_lock, &architecture) => {
                (self.scope.tell)(image, &Outcome::Fits);
                (old, text)
            }
            old => match recipe.source.vendor() {
                Some(source) => self.derive(image, &recipe, source, old.map(|(lock, _)| lock).as_ref())?,
                None => self.renew(image, &recipe, parent_lock, old)?,
            },
        };
        let digest = Digest::of(text.as_bytes());
        self.done.insert(image.to_owned(), Locked { lock, digest, parent });
        Ok(())
    }

    fn path(&self, image: &str) -> PathBuf {
        self.scope.repository.root().join(lock_file(image))
    }

    fn text(&self, image: &str) -> Result<Option<String>> {
        let path = self.path(image);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing(|| format!("reading {}", path.display())),
        }
    }

    /// Returns the architecture that an image is made for.
    fn architecture(&mut self, recipe: &Recipe) -> Result<String> {
        if recipe.source.is_derived() {
            return Ok(derived::architecture().to_owned());
        }
        match &self.architecture {
            Some(known) => Ok(known.clone()),
            None => Ok(self.architecture.insert(architecture()?).clone()),
        }
    }

    /// Writes a new lock of an image that is derived from what a vendor made. Nothing is resolved, and no apt is asked.
    fn derive(
        &self,
        image: &str,
        recipe: &Recipe,
        vendor: Vendor<'_>,
        old: Option<&Lock>,
    ) -> Result<(Lock, String)> {
        let locking = |error: Error| error.during(format!("locking `{image}`"));
        if let Vendor::Disk(source) = vendor {
            let check = || derived::check(self.scope.vendors, source);
            self.scope.progress.step(image, "checking the vendor's disk", check).map_err(locking)?;
        }
        let (fetches, _until_the_lock_names_them) = self.artifacts(recipe).map_err(locking)?;
        let new = derived::lock(recipe, fetches, old, Timestamp::now());
        (self.scope.tell)(image, &Outcome::Locked { old, new: &new, vendor: Some(vendor) });
        self.write(image, new)
    }

    /// Fetches the recipe's artifacts and keeps them from being collected as long as the claim is held.
    fn artifacts(&self, recipe: &Recipe) -> Result<(Vec<LockedFetch>, Claim)> {
        let inputs = recipe.fetches.iter().map(|fetch| fetch.sha256).collect();
        let claimed = Claimed { by: "`rekiln lock`".to_owned(), inputs, ..Claimed::default() };
        let claim = claimed.hold(self.scope.store)?;
        Ok((fetch::artifacts(self.scope.store, &recipe.fetches, self.scope.progress)?, claim))
    }

    /// Resolves anew and writes the lock, unless nothing but the archive's dates changed.
    fn renew(
        &mut self,
        image: &str,
        recipe: &Recipe,
        parent_lock: Option<Digest>,
        old: Option<(Lock, String)>,
    ) -> Result<(Lock, String)> {
        let parents = self.parents(recipe);
        let parents: Vec<&Lock> = parents.iter().collect();
        let suite = resolve::suite(recipe, &parents)
            .ok_or_else(|| Error::failed(format!("`{image}` stands on no Debian release")))?
            .to_owned();
        let Scope { store, settings, progress, .. } = self.scope;
        let (fetches, _until_the_lock_names_them) = self.artifacts(recipe)?;
        let apt = match self.apt.entry(suite) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(unknown) => {
                match Apt::update(store, settings, unknown.key(), progress) {
                    Ok(apt) => unknown.insert(Ok(apt)),
                    Err(error) => {
                        unknown.insert(Err(error.chain()));
                        return Err(error);
                    }
                }
            }
        };
        let apt = apt.as_ref().map_err(|why| Error::failed(why.as_str()))?;
        let mut new = progress.step(image, "resolving packages", || {
            resolve::resolve(recipe, &parents, parent_lock, fetches, apt, store)
                .map_err(|error| error.during(format!("locking `{image}`")))
        })?;
        if let Some((old, text)) = old {
            if same_inputs(&old, &new) {
                (self.scope.tell)(image, &Outcome::Unchanged);
                return Ok((old, text));
            }
            if let Some((made, text)) = self.made(image, &new) {
                (self.scope.tell)(image, &Outcome::Locked { old: Some(&old), new: &made, vendor: None });
                atomic_write(&self.path(image), text.as_bytes())?;
                return Ok((made, text));
            }
            new.layout = self.layout(&old, &new)?;
            new.version = new.format();
            (self.scope.tell)(image, &Outcome::Locked { old: Some(&old), new: &new, vendor: None });
        } else {
            (self.scope.tell)(image, &Outcome::Locked { old: None, new: &new, vendor: None });
        }
        self.write(image, new)
    }

    /// Returns the lock that was made before, if it has the inputs of `new`.
    fn made(&self, image: &str, new: &Lock) -> Option<(Lock, String)> {
        let text = self.scope.made.get(image)?;
        let made = Lock::parse(text).ok().filter(|made| same_inputs(made, new))?;
        Some((made, text.clone()))
    }

    fn write(&self, image: &str, new: Lock) -> Result<(Lock, String)> {
        let text = new.to_text();
        atomic_write(&self.path(image), text.as_bytes())?;
        Ok((new, text))
    }

    /// Returns where the packages of the new lock lay in the layer of the old one, if that is in the store; else where the
    /// old lock says that they lay before it.
    fn layout(&self, old: &Lock, new: &Lock) -> Result<Option<Places>> {
        let Some(mut layout) =
            Sealed::places_of(self.scope.store, &old.packages)?.or_else(|| old.layout.clone())
        else {
            return Ok(None);
        };
        let names: BTreeSet<_> = new.packages.iter().map(|package| package.name.as_str()).collect();
        layout.places.retain(|name, _| name == OTHERS || names.contains(name.as_str()));
        Ok(Some(layout))
    }

    /// Returns the locks of all images that `recipe` stands on, the nearest first.
    fn parents(&self, recipe: &Recipe) -> Vec<Lock> {
        let mut all = Vec::new();
        let mut next = recipe.source.parent();
        while let Some(locked) = next.and_then(|name| self.done.get(name)) {
            all.push(locked.lock.clone());
            next = locked.parent.as_deref();
        }
        all
    }
}

/// Tells whether `lock` is what was asked for, on this architecture.
fn fits(lock: &Lock, recipe: &Recipe, parent_lock: Option<Digest>, architecture: &str) -> bool {
    lock.asked.architecture == architecture && stale(recipe, parent_lock, lock).is_empty()
}

fn unreadable(error: Error, image: &str) -> Error {
    error
        .during(format!("reading the lock of `{image}`"))
        .hint(format!("make it anew with `rekiln lock --update {image}`"))
}

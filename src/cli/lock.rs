//! `rekiln lock`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use jiff::Timestamp;

use super::Context;
use crate::atomic_write::atomic_write;
use crate::bake::seal::Sealed;
use crate::claim::{Claim, Claimed};
use crate::digest::Digest;
use crate::error::{Doing as _, Error, Result};
use crate::lock::apt::{Apt, architecture};
use crate::lock::change::{changes, same_inputs};
use crate::lock::places::OTHERS;
use crate::lock::settings::Settings;
use crate::lock::stale::stale;
use crate::lock::{Lock, LockedFetch, Places, derived, fetch, resolve};
use crate::recipe::{Recipe, Vendor};
use crate::repository::{Repository, lock_file};
use crate::store::Store;

/// Arguments of `rekiln lock`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Images to lock, with all images they stand on.
    #[arg(required_unless_present = "all", value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Locks every image of the repository.
    #[arg(long, conflicts_with = "images")]
    pub all: bool,
    /// Resolves anew, even where the lock still fits its recipe: this is how updates arrive. An image that is derived
    /// from a vendor's disk always gets a new lock and so a new image id, since only a bake shows what the vendor's archive
    /// has.
    #[arg(long)]
    pub update: bool,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// What went wrong.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let repository = Repository::open(&context.repo)?;
    let images = if args.all { repository.recipe_names().map(str::to_owned).collect() } else { args.images };
    let mut work = Work {
        context,
        repository,
        store: context.store()?,
        settings: Settings::load(&context.repo)?,
        architecture: None,
        update: args.update,
        apt: BTreeMap::new(),
        done: BTreeMap::new(),
    };
    for image in &images {
        work.lock(image, &mut Vec::new())?;
    }
    Ok(0)
}

/// What the locking of several images shares: one apt state a release, and each image locked once.
struct Work<'a> {
    context: &'a Context,
    repository: Repository,
    store: Store,
    settings: Settings,
    /// The host's, asked when an image is resolved by apt.
    architecture: Option<String>,
    update: bool,
    apt: BTreeMap<String, Apt>,
    done: BTreeMap<String, Locked>,
}

/// An image whose lock fits.
#[derive(Clone)]
struct Locked {
    lock: Lock,
    digest: Digest,
    parent: Option<String>,
}

impl Work<'_> {
    /// Locks an image after those that it stands on; `below` are the images that stand on it.
    fn lock(&mut self, image: &str, below: &mut Vec<String>) -> Result<()> {
        if self.done.contains_key(image) {
            return Ok(());
        }
        if below.iter().any(|name| name == image) {
            return Err(Error::invalid(format!(
                "`{image}` stands on itself: {} → {image}",
                below.join(" → ")
            )));
        }
        let recipe = self.repository.recipe(image)?.clone();
        let parent = recipe.source.parent().map(str::to_owned);
        if let Some(parent) = &parent {
            below.push(image.to_owned());
            self.lock(parent, below)?;
            below.pop();
        }
        // After those below, whose files may be wrong: that is said before anything is asked of this computer.
        let architecture = self.architecture(&recipe)?;
        let parent_lock = parent.as_ref().and_then(|name| self.done.get(name)).map(|locked| locked.digest);
        let path = lock_path(self.context, image);
        let old_text = match std::fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).doing(|| format!("reading {}", path.display())),
        };
        let old = old_text.as_deref().map(Lock::parse).transpose();
        let old =
            if self.update { old.ok().flatten() } else { old.map_err(|error| unreadable(error, image))? };
        let (lock, text) = match old.zip(old_text) {
            Some((old, text)) if !self.update && fits(&old, &recipe, parent_lock, &architecture) => {
                self.context.output.line(format!("{image}: the lock fits its recipe"));
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
        let progress = self.context.progress();
        let (named, what) = match vendor {
            Vendor::Disk(source) => {
                let check = || derived::check(&self.context.repo, source);
                progress.step(image, "checking the vendor's disk", check).map_err(locking)?;
                (
                    format!("{} (sha256 {}…)", source.path, source.sha256.short()),
                    ("disk", source.sha256.to_string()),
                )
            }
            Vendor::Ami(source) => (format!("{} of {}", source.id, source.owner), ("ami", source.id.clone())),
        };
        let (fetches, _until_the_lock_names_them) = self.artifacts(recipe).map_err(locking)?;
        let new = derived::lock(recipe, fetches, old, Timestamp::now());
        let changed = old.map(|old| changes(old, &new)).unwrap_or_default();
        let output = &self.context.output;
        output.line(format!("{image}: locked to {named}"));
        for change in &changed {
            output.line(format!("  {change}"));
        }
        if old.is_some() {
            output.line("  a new image id: the next bake installs what the vendor's archive has then");
        }
        output.json(&serde_json::json!({
            "event": "locked",
            "image": image,
            what.0: what.1,
            "packages": 0,
            "changes": changed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }));
        let text = new.to_text();
        atomic_write(&lock_path(self.context, image), text.as_bytes())?;
        Ok((new, text))
    }

    /// Fetches the recipe's artifacts and keeps them from being collected as long as the claim is held.
    fn artifacts(&self, recipe: &Recipe) -> Result<(Vec<LockedFetch>, Claim)> {
        let inputs = recipe.fetches.iter().map(|fetch| fetch.sha256).collect();
        let claimed = Claimed { by: "`rekiln lock`".to_owned(), inputs, ..Claimed::default() };
        let claim = claimed.hold(&self.store)?;
        Ok((fetch::artifacts(&self.store, &recipe.fetches, self.context.progress())?, claim))
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
        let progress = self.context.progress();
        if !self.apt.contains_key(&suite) {
            let apt = Apt::update(&self.store, &self.settings, &suite, progress)?;
            self.apt.insert(suite.clone(), apt);
        }
        let Some(apt) = self.apt.get(&suite) else { return Err(Error::failed("the apt state is not there")) };
        let (fetches, _until_the_lock_names_them) = self.artifacts(recipe)?;
        let mut new = progress.step(image, "resolving packages", || {
            resolve::resolve(recipe, &parents, parent_lock, fetches, apt, &self.store)
                .map_err(|error| error.during(format!("locking `{image}`")))
        })?;
        if let Some((old, text)) = old {
            if same_inputs(&old, &new) {
                self.context.output.line(format!("{image}: the archive has nothing newer for it"));
                return Ok((old, text));
            }
            new.layout = self.layout(&old, &new)?;
            new.version = new.format();
            self.tell(image, Some(&old), &new);
        } else {
            self.tell(image, None, &new);
        }
        let text = new.to_text();
        atomic_write(&lock_path(self.context, image), text.as_bytes())?;
        Ok((new, text))
    }

    /// Returns where the packages of the new lock lay in the layer of the old one, if that is in the store; else where the
    /// old lock says that they lay before it.
    fn layout(&self, old: &Lock, new: &Lock) -> Result<Option<Places>> {
        let Some(mut layout) = Sealed::places_of(&self.store, &old.packages)?.or_else(|| old.layout.clone())
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

    fn tell(&self, image: &str, old: Option<&Lock>, new: &Lock) {
        let output = &self.context.output;
        let bytes: u64 = new.packages.iter().map(|package| package.size).sum();
        // Megabytes with one digit after the point.
        let size = format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000);
        output.line(format!("{image}: locked {} packages, {size}", new.packages.len()));
        let changed = old.map(|old| changes(old, new)).unwrap_or_default();
        for change in &changed {
            output.line(format!("  {change}"));
        }
        output.json(&serde_json::json!({
            "event": "locked",
            "image": image,
            "packages": new.packages.len(),
            "changes": changed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }));
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

fn lock_path(context: &Context, image: &str) -> PathBuf {
    context.repo.join(lock_file(image))
}

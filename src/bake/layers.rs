//! One layer after the other, each only if the store does not have it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::builder::{Builder as _, Tree};
use super::files::{Staging, tidy};
use super::sandbox::Step;
use super::seal::{Sealed, seal};
use super::{deb, packages, trim};
use crate::digest::Digest;
use crate::error::{Doing as _, Result};
use crate::lock::{Package, Places, vault};
use crate::progress::{Event, Progress};
use crate::recipe::render::Rendered;
use crate::recipe::{Fetch, Services};
use crate::scratch::Scratch;
use crate::store::Store;

/// What one layer is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerPlan {
    /// The recipe it belongs to.
    pub image: String,
    /// The digest of everything below that shapes its bytes, the layers it stands on included.
    pub key: Digest,
    /// `SOURCE_DATE_EPOCH`, and the time of every file.
    pub epoch: i64,
    /// The content.
    pub make: Make,
}

/// The content of a layer.
#[derive(Debug, Clone, PartialEq)]
pub enum Make {
    /// Debian packages.
    Packages {
        /// In the order of installation.
        locked: Vec<Package>,
        /// Files that keep their set-user-id bits, by the recipe's exceptions.
        privileged: Vec<String>,
        /// Where packages lay before.
        basis: Option<Places>,
    },
    /// A recipe's own content.
    Files(FilesPlan),
}

/// A recipe's own content, in the order in which it is applied.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FilesPlan {
    /// Files, those of the strict profile first.
    pub contents: Vec<Rendered>,
    /// Steps of the strict profile after its files: links and removals.
    pub profile: Vec<Step>,
    /// Artifacts from outside.
    pub fetches: Vec<Fetch>,
    /// Scripts.
    pub scripts: Vec<Script>,
    /// Units.
    pub services: Services,
}

/// A rendered script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Its name for people.
    pub name: String,
    /// Its text.
    pub text: Vec<u8>,
    /// Whether the machine is restarted after it.
    pub reboot: bool,
    /// Whether it may cut the connection to the machine.
    pub expect_disconnect: bool,
}

impl LayerPlan {
    /// Returns what the layer holds: `packages` or `files`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self.make {
            Make::Packages { .. } => "packages",
            Make::Files(_) => "files",
        }
    }
}

/// Makes layers for the images of one command; a layer that two of them share is made once.
pub struct Layers<'a> {
    /// The store.
    pub store: &'a Store,
    /// This program, which enters the sandbox.
    pub rekiln: &'a Path,
    /// Where progress goes.
    pub progress: &'a dyn Progress,
    /// One lock a key.
    making: Mutex<BTreeMap<Digest, Arc<Mutex<()>>>>,
}

impl<'a> Layers<'a> {
    /// Starts with what the store has.
    #[must_use]
    pub const fn new(store: &'a Store, rekiln: &'a Path, progress: &'a dyn Progress) -> Self {
        Self { store, rekiln, progress, making: Mutex::new(BTreeMap::new()) }
    }

    /// Returns the layers of one image from the ground up, making those that are missing.
    ///
    /// # Errors
    /// The first layer that could not be made.
    pub fn all(&self, plans: &[LayerPlan]) -> Result<Vec<Sealed>> {
        let mut done: Vec<Sealed> = Vec::with_capacity(plans.len());
        for plan in plans {
            let lock = {
                let mut making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(making.entry(plan.key).or_default())
            };
            let _only_one = lock.lock().unwrap_or_else(PoisonError::into_inner);
            let sealed = if let Some(sealed) = Sealed::load(self.store, plan.key) {
                sealed
            } else {
                let below: Vec<Digest> = done.iter().map(|sealed| sealed.key).collect();
                self.make(plan, &below).map_err(|error| {
                    error.during(format!("making the {} layer of image {}", plan.kind(), plan.image))
                })?
            };
            done.push(sealed);
        }
        Ok(done)
    }

    fn make(&self, plan: &LayerPlan, below: &[Digest]) -> Result<Sealed> {
        let scratch = Scratch::new(self.store, "layer")?;
        let dir = scratch.subdirectory("layer")?;
        let tree = dir.join("tree");
        std::fs::create_dir(&tree).doing(|| "making the layer's tree")?;
        let (stage, debs) = (scratch.subdirectory("stage")?, scratch.subdirectory("debs")?);
        let mut seconds = BTreeMap::new();
        let mut timed = |name: &str, start: Instant| {
            seconds.insert(name.to_owned(), start.elapsed().as_secs_f64());
        };
        let mut steps = match &plan.make {
            Make::Packages { locked, privileged, .. } => {
                let rooted = packages::rooted(locked);
                let start = Instant::now();
                let what = format!("unpacking {} packages", rooted.len());
                self.progress.step(&plan.image, &what, || {
                    let unpacked = deb::decompress(self.store, &debs, &rooted)?;
                    if below.is_empty() { packages::bootstrap(&tree, &unpacked) } else { Ok(()) }
                })?;
                timed("unpack", start);
                packages::stage(&stage)?;
                if rooted.is_empty() { Vec::new() } else { packages::steps(&rooted, privileged) }
            }
            Make::Files(files) => {
                files
                    .fetches
                    .iter()
                    .try_for_each(|fetch| vault::verified(self.store, fetch.sha256).map(drop))?;
                files_steps(files, &stage)?
            }
        };
        steps.extend(tidy());
        let mut builder = Tree {
            rekiln: self.rekiln,
            mountpoint: scratch.subdirectory("root")?,
            lowers: below.iter().rev().map(|key| Sealed::tree(self.store, *key)).collect(),
            upper: tree,
            work: scratch.subdirectory("work")?,
            epoch: plan.epoch,
        };
        let stages = [("vault", self.store.root().join("vault")), ("debs", debs), (plan.kind(), stage)]
            .map(|(name, path)| (name.to_owned(), path))
            .into();
        let start = Instant::now();
        self.progress.step(&plan.image, &what(plan), || {
            builder.carry_out(&stages, &steps, &mut |line| {
                let (scope, line) = (plan.image.clone(), line.to_owned());
                self.progress.tell(Event::Output { scope, line });
            })
        })?;
        timed("install", start);
        if let Make::Packages { locked, .. } = &plan.make {
            let rooted = packages::rooted(locked);
            if !rooted.is_empty() {
                let status = builder.download("/var/lib/dpkg/status")?.unwrap_or_default();
                packages::check_installed(&String::from_utf8_lossy(&status), &rooted)?;
            }
        }
        let excluded = trim::excluded_expressions();
        self.progress.step(&plan.image, &format!("sealing the {} layer", plan.kind()), || {
            seal(self.store, &dir, plan, &excluded, seconds)
        })
    }
}

fn what(plan: &LayerPlan) -> String {
    match &plan.make {
        Make::Packages { locked, .. } => format!("installing {} packages", packages::rooted(locked).len()),
        Make::Files(files) => format!(
            "{} files, {} artifacts, {} scripts",
            files.contents.len(),
            files.fetches.len(),
            files.scripts.len()
        ),
    }
}

/// Returns the steps of a recipe's own content; what they read is written into `stage`, which is staged as `files`.
pub(super) fn files_steps(files: &FilesPlan, stage: &Path) -> Result<Vec<Step>> {
    let mut staging = Staging::new(stage);
    files.contents.iter().try_for_each(|file| staging.file(file))?;
    for step in &files.profile {
        staging.step(step.clone());
    }
    files.fetches.iter().try_for_each(|fetch| staging.fetch(fetch))?;
    files.scripts.iter().try_for_each(|script| staging.script(script))?;
    staging.services(&files.services);
    Ok(staging.into_steps())
}

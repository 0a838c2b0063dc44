//! One image, from its identity to its record.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;

use super::accelerator;
use super::disk::{Assembled, DiskInputs, assemble};
use super::identity::Identity;
use super::initrd::{Kernel, kernel};
use super::layers::Layers;
use super::seal::Sealed;
use super::{trial, trim};
use crate::catalog::{self, Catalog, Layer, Record, sbom};
use crate::claim::{Claim, Claimed};
use crate::digest::Digest;
use crate::error::{Doing as _, Error, Result};
use crate::git::{self, Revision};
use crate::inspect::{Expected, Finding, inspect_disk};
use crate::interrupt;
use crate::lock::settings::Settings;
use crate::lock::{Role, fetch, tools};
use crate::progress::Progress;
use crate::publish::blocks;
use crate::recipe::Exception;
use crate::repository::Repository;
use crate::scratch::Scratch;
use crate::store::Store;
use crate::vm::Boot;
use crate::vm::accel;
use crate::vm::verdict::{Trial, judge};

/// Bakes images of one repository into one store.
pub struct Bake<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// The store.
    pub store: &'a Store,
    /// Where inputs come from.
    pub settings: &'a Settings,
    /// This program, which enters the sandbox.
    pub rekiln: &'a Path,
    /// Where progress goes.
    pub progress: &'a dyn Progress,
    /// Whether each image is booted for its verdict.
    pub boot: bool,
    /// Whether the machine of a derived image whose bake failed is kept for a while.
    pub keep: Option<&'a Keep>,
    /// Whose files `repository` has, when it lies elsewhere than the one that they are from.
    pub checkout: Option<&'a Checkout<'a>>,
}

/// Whose files a repository has that was written beside the one that they are from.
#[derive(Debug, Clone)]
pub struct Checkout<'a> {
    /// The root of that one: paths of vendors' disks start there.
    pub of: &'a Path,
    /// What the records of images say.
    pub revision: Revision,
}

/// For how long the machine of a failed bake is kept, and who may look at it.
#[derive(Debug, Clone)]
pub struct Keep {
    /// The machine ends when this time is over.
    pub time: std::time::Duration,
    /// Public keys, as lines of `authorized_keys`.
    pub keys: Vec<String>,
}

/// A baked image.
#[derive(Debug, Clone, PartialEq)]
pub struct Baked {
    /// Its record.
    pub record: Record,
    /// Its disk.
    pub disk: PathBuf,
    /// Whether the store had it already.
    pub cached: bool,
    /// Wall-clock seconds of the bake, without fetching and without the boot verdict.
    pub seconds: f64,
    /// Wall-clock seconds of the boot verdict, when there was one now.
    pub verdict_seconds: Option<f64>,
}

impl Bake<'_> {
    /// Bakes the images, independent ones in parallel, and returns them in the order of `images`.
    ///
    /// # Errors
    /// The first image that failed; the others are baked all the same.
    pub fn all(&self, images: &[Identity]) -> Result<Vec<Baked>> {
        let _until_all_are_done = self.begin(images)?;
        let missing: Vec<&Identity> = images.iter().filter(|image| self.known(image).is_none()).collect();
        self.prepare(&missing)?;
        self.make_each(images).into_iter().collect()
    }

    /// Bakes the images as [`Bake::all`] does, and returns what became of each: one that lacks something keeps no other
    /// from being baked.
    ///
    /// # Errors
    /// The store cannot be used.
    pub fn each(&self, images: &[Identity]) -> Result<Vec<Result<Baked>>> {
        let _until_all_are_done = self.begin(images)?;
        let missing: Vec<&Identity> = images.iter().filter(|image| self.known(image).is_none()).collect();
        if self.prepare(&missing).is_ok() {
            return Ok(self.make_each(images));
        }
        // One of them lacks something, and which one is found by asking for each by itself.
        let prepare = |image: &Identity| match self.known(image) {
            Some(_) => Ok(()),
            None => self.prepare(&[image]).map_err(|error| error.during(format!("baking {}", image.name))),
        };
        let prepared: Vec<Result<()>> = images.iter().map(prepare).collect();
        let ready = images.iter().zip(&prepared).filter(|(_, prepared)| prepared.is_ok());
        let ready: Vec<Identity> = ready.map(|(image, _)| image.clone()).collect();
        let mut made = self.make_each(&ready).into_iter();
        let lost = || Err(Error::failed("an image was not baked"));
        Ok(prepared
            .into_iter()
            .map(|prepared| prepared.and_then(|()| made.next().unwrap_or_else(lost)))
            .collect())
    }

    fn begin(&self, images: &[Identity]) -> Result<Claim> {
        // The permissions of a tree's first directories are bytes of the image. What a stricter umask protects
        // stays protected: the store's own directories were made before.
        rustix::process::umask(rustix::fs::Mode::from_bits_retain(0o022));
        self.claim(images)
    }

    /// Checks this computer's tools and fetches the inputs of images that are to be made.
    fn prepare(&self, missing: &[&Identity]) -> Result<()> {
        check_tools(missing)?;
        let locks: Vec<_> = missing.iter().flat_map(|image| &image.links).map(|link| &link.lock).collect();
        fetch::fetch_all(self.store, self.settings, &locks, self.progress)
    }

    fn make_each(&self, images: &[Identity]) -> Vec<Result<Baked>> {
        let layers = Layers::new(self.store, self.rekiln, self.progress);
        let results: Vec<Result<Baked>> = std::thread::scope(|scope| {
            let tasks: Vec<_> = images.iter().map(|image| scope.spawn(|| self.one(image, &layers))).collect();
            tasks
                .into_iter()
                .map(|task| {
                    task.join().unwrap_or_else(|_| Err(Error::failed("a bake's thread ended in a panic")))
                })
                .collect()
        });
        let named = results.into_iter().zip(images);
        named
            .map(|(result, image)| result.map_err(|error| error.during(format!("baking {}", image.name))))
            .collect()
    }

    /// Returns the directory that paths of vendors' disks start from.
    #[cfg(feature = "ssh")]
    pub(super) fn vendors(&self) -> &Path {
        self.checkout.map_or_else(|| self.repository.root(), |checkout| checkout.of)
    }

    /// Returns at which revision the images are baked; nothing where Git cannot tell.
    pub(super) fn revision(&self) -> Option<Revision> {
        let there = || git::revision(self.repository.root()).ok();
        self.checkout.map_or_else(there, |checkout| Some(checkout.revision.clone()))
    }

    /// Claims all that the images are made from, and themselves.
    fn claim(&self, images: &[Identity]) -> Result<Claim> {
        let names: Vec<_> = images.iter().map(|image| image.name.as_str()).collect();
        let locks = images.iter().flat_map(|image| &image.links).map(|link| &link.lock);
        let claimed = Claimed {
            by: format!("a bake of {}", names.join(", ")),
            images: images.iter().map(|image| image.id).collect(),
            layers: images.iter().flat_map(Identity::layer_keys).collect(),
            inputs: locks.flat_map(crate::lock::Lock::inputs).collect(),
        };
        claimed.hold(self.store)
    }

    fn known(&self, image: &Identity) -> Option<Record> {
        Catalog::new(self.store.clone()).get(image.id).ok().flatten()
    }

    fn one(&self, image: &Identity, layers: &Layers<'_>) -> Result<Baked> {
        let start = Instant::now();
        let known = self.known(image);
        let cached = known.is_some();
        let mut record = match known {
            Some(record) => record,
            None => self.make(image, layers)?,
        };
        let seconds = start.elapsed().as_secs_f64();
        let mut verdict_seconds = None;
        // A bad verdict is not for ever: the host may have been too busy for the checks' times.
        if self.boot && !record.verdict.as_ref().is_some_and(|verdict| verdict.passed) {
            let start = Instant::now();
            self.judge(image, &mut record)?;
            verdict_seconds = Some(start.elapsed().as_secs_f64());
        }
        let disk = self.store.image(image.id).join("disk.raw");
        Ok(Baked { record, disk, cached, seconds, verdict_seconds })
    }

    fn make(&self, image: &Identity, layers: &Layers<'_>) -> Result<Record> {
        #[cfg(feature = "ssh")]
        if let Some(source) = image.derived() {
            return self.derive(image, source);
        }
        #[cfg(not(feature = "ssh"))]
        if image.derived().is_some() {
            return Err(Error::failed("this rekiln was compiled without SSH and derives no images")
                .hint("compile it with its default features"));
        }
        let mut timings = BTreeMap::new();
        let start = Instant::now();
        let plans = image.layers()?;
        let (sealed, kernel) = std::thread::scope(|scope| {
            let kernel = scope.spawn(|| self.kernel(image));
            let sealed = layers.all(&plans);
            let kernel = kernel
                .join()
                .unwrap_or_else(|_| Err(Error::failed("the thread that makes the initrd ended in a panic")));
            (sealed, kernel)
        });
        let (sealed, kernel) = (sealed?, kernel?);
        timings.insert("layers".to_owned(), start.elapsed().as_secs_f64());
        let start = Instant::now();
        let scratch = Scratch::new(self.store, "disk")?;
        let assembled = self.progress.step(&image.name, "assembling the disk", || {
            self.assemble(image, &sealed, &kernel, scratch.dir())
        })?;
        timings.insert("disk".to_owned(), start.elapsed().as_secs_f64());
        let start = Instant::now();
        let findings = self.progress.step(&image.name, "inspecting the sealed disk", || {
            let found = inspect_disk(&assembled.path, &expected(image, &assembled))?.findings;
            // A debug variant breaks the profile by design; it is no fleet's target.
            if !image.debug {
                refuse(&found)?;
            }
            Ok::<_, Error>(found)
        })?;
        timings.insert("inspect".to_owned(), start.elapsed().as_secs_f64());
        let record = self.record(image, &sealed, kernel.key, &assembled, findings, timings)?;
        interrupt::check()?;
        self.publish(&record, image, &kernel, &assembled, &scratch)?;
        Ok(record)
    }

    fn kernel(&self, image: &Identity) -> Result<Kernel> {
        image
            .with_kernel(|inputs| kernel(self.store, inputs))
            .map_err(|error| error.during("making the initrd"))
    }

    fn assemble(
        &self,
        image: &Identity,
        sealed: &[Sealed],
        kernel: &Kernel,
        dir: &Path,
    ) -> Result<Assembled> {
        let layers: Vec<(PathBuf, u64)> =
            sealed.iter().map(|layer| (Sealed::bytes(self.store, layer.key), layer.size)).collect();
        let profile: Vec<String> = trim::KERNEL_ARGS.iter().map(|&arg| arg.to_owned()).collect();
        let inputs = DiskInputs {
            id: image.id,
            layers: &layers,
            kernel,
            profile_args: &profile,
            recipe_args: &image.inputs.kernel_args,
            debug: image.debug,
            epoch: image.inputs.epoch,
        };
        assemble(dir, inputs).map_err(|error| error.during("assembling the disk"))
    }

    fn record(
        &self,
        image: &Identity,
        sealed: &[Sealed],
        kernel: Digest,
        assembled: &Assembled,
        findings: Vec<Finding>,
        timings: BTreeMap<String, f64>,
    ) -> Result<Record> {
        // A repository without Git, or without a commit, still bakes; its record says so.
        let revision = self.revision();
        let owners = image.links.iter().flat_map(|link| [(&link.name, "packages"), (&link.name, "files")]);
        let layers = owners
            .zip(sealed)
            .zip(&assembled.offsets)
            .map(|(((name, kind), layer), offset)| Layer {
                image: name.clone(),
                kind: kind.to_owned(),
                key: layer.key,
                sha256: layer.sha256,
                offset: *offset,
                size: layer.size,
            })
            .collect();
        let below = image.links.iter().rev().skip(1);
        let parents = below
            .map(|link| Ok(Identity::of(self.repository, &link.name, false)?.id))
            .collect::<Result<Vec<_>>>()?;
        let root = |link: &crate::recipe::inputs::Link| {
            let packages = link.lock.packages.iter().filter(|package| package.role != Role::Stub);
            packages.map(|package| (package.name.clone(), package.version.clone())).collect::<Vec<_>>()
        };
        Ok(Record {
            version: catalog::VERSION,
            id: image.id,
            name: image.name.clone(),
            debug: image.debug,
            commit: revision.as_ref().and_then(|revision| revision.commit.clone()),
            clean: revision.is_some_and(|revision| revision.clean),
            lock: image.links.last().map_or_else(|| Digest::of(b""), |link| link.lock_digest),
            parents,
            disk: assembled.disk.clone(),
            root_hash: Some(assembled.root_hash),
            cmdline: assembled.cmdline.clone(),
            layers,
            kernel: Some(kernel),
            ports: ports(image),
            services: services(image),
            exceptions: exceptions(image),
            packages: image.links.iter().flat_map(root).collect(),
            findings,
            verdict: None,
            baked: Timestamp::now(),
            timings,
            derived: None,
        })
    }

    /// Keeps the sealed disk with what boots it directly.
    fn publish(
        &self,
        record: &Record,
        image: &Identity,
        kernel: &Kernel,
        assembled: &Assembled,
        scratch: &Scratch,
    ) -> Result<()> {
        let out = scratch.subdirectory("image")?;
        std::fs::copy(&kernel.vmlinuz, out.join("kernel")).doing(|| "keeping the kernel")?;
        std::fs::copy(&kernel.initrd, out.join("initrd")).doing(|| "keeping the initrd")?;
        std::fs::write(out.join("cmdline"), &assembled.cmdline).doing(|| "keeping the command line")?;
        self.catalogue(record, image, &out, &assembled.path, &assembled.blocks)
    }

    /// Moves the finished image into the catalog, with what `out` has of it already; until then nothing counts as an image.
    pub(super) fn catalogue(
        &self,
        record: &Record,
        image: &Identity,
        out: &Path,
        disk: &Path,
        blocks: &[u8],
    ) -> Result<()> {
        std::fs::rename(disk, out.join("disk.raw")).doing(|| "keeping the disk")?;
        std::fs::write(out.join(blocks::FILE), blocks).doing(|| "keeping the blocks' digests")?;
        let locks: Vec<_> = image.links.iter().map(|link| &link.lock).collect();
        let bill = serde_json::to_vec_pretty(&sbom::bill(record, &locks)?)
            .doing(|| "writing the bill of materials")?;
        std::fs::write(out.join(sbom::FILE), bill).doing(|| "keeping the bill of materials")?;
        let text = serde_json::to_vec_pretty(record).doing(|| "describing the image")?;
        std::fs::write(out.join("record.json"), text).doing(|| "recording the image")?;
        let place = self.store.image(image.id);
        if std::fs::rename(out, &place).is_ok() || self.known(image).is_some() {
            return Ok(());
        }
        // A directory without a readable record is no image.
        std::fs::remove_dir_all(&place).doing(|| format!("removing the remains in {}", place.display()))?;
        std::fs::rename(out, &place).doing(|| format!("moving the image to {}", place.display()))
    }

    /// Returns how machines run on this computer; a kernel that is not there cannot be tried under KVM.
    pub(super) fn accelerator(&self, kernel: &Path) -> Result<accel::Accelerator> {
        if !kernel.is_file() {
            return Ok(accel::Accelerator::Tcg);
        }
        Ok(accel::probe(self.store, kernel)?.accelerator)
    }

    fn judge(&self, image: &Identity, record: &mut Record) -> Result<()> {
        let dir = self.store.image(image.id);
        let boot = match &record.derived {
            Some(derived) => Boot::Firmware(derived.firmware),
            None => Boot::direct(&dir)?,
        };
        let accelerator = match &record.derived {
            Some(_) => accelerator::of_disk(self.store, &dir.join("disk.raw"))?.0,
            None => self.accelerator(&dir.join("kernel"))?,
        };
        let checks: Vec<_> = image.links.iter().flat_map(|link| link.recipe.checks.iter().cloned()).collect();
        let ports = record.ports.iter().cloned().collect();
        let trial_dir = dir.join("verdict");
        std::fs::create_dir_all(&trial_dir).doing(|| format!("making {}", trial_dir.display()))?;
        let machine = trial::machine(image, &trial_dir)?;
        let trial = Trial {
            dir: &trial_dir,
            disk: &dir.join("disk.raw"),
            boot,
            id: image.id,
            root_hash: record.root_hash,
            checks: &checks,
            ports: &ports,
            memory_mib: machine.memory_mib,
            cpus: 1,
            extras: machine.extras,
        };
        let verdict =
            self.progress.step(&image.name, "booting it for the verdict", || judge(&trial, accelerator));
        trial::clear(&trial_dir)?;
        let verdict = verdict?;
        // The machine was ended then, and not by a fault of the image.
        interrupt::check()?;
        record.verdict = Some(verdict);
        Catalog::new(self.store.clone()).save(record)
    }
}

/// Refuses to bake with other tools than those in the locks. No tool of the host writes a derived image's bytes.
fn check_tools(images: &[&Identity]) -> Result<()> {
    let images: Vec<_> = images.iter().filter(|image| image.derived().is_none()).collect();
    if images.is_empty() {
        return Ok(());
    }
    let host = tools::host_tools()?;
    let mut links = images.iter().flat_map(|image| &image.links);
    links.try_for_each(|link| tools::check(&link.name, &link.lock, &host))
}

/// Returns the units that the recipes enable, from the ground up.
#[must_use]
pub fn services(image: &Identity) -> Vec<String> {
    image.inputs.recipes.iter().flat_map(|recipe| recipe.files.enable.iter().cloned()).collect()
}

/// Returns what the recipes accept of what rules find.
#[must_use]
pub fn exceptions(image: &Identity) -> Vec<Exception> {
    image.links.iter().flat_map(|link| link.recipe.harden.allow.iter().cloned()).collect()
}

/// Returns what the sealed disk must be like. Its root hash was computed a moment ago and is not computed again.
fn expected(image: &Identity, assembled: &Assembled) -> Expected {
    Expected {
        root_hash: Some(assembled.root_hash),
        cmdline: Some(assembled.cmdline.clone()),
        services: Some(services(image)),
        ports: ports(image),
        exceptions: exceptions(image),
        verify: false,
    }
}

/// Returns the ports that the recipes open, such as `80/tcp`.
#[must_use]
pub fn ports(image: &Identity) -> Vec<String> {
    image.links.iter().flat_map(|link| link.recipe.services.ports.iter().cloned()).collect()
}

/// Refuses an image with findings that no recipe excepts.
pub(super) fn refuse(found: &[Finding]) -> Result<()> {
    let open: Vec<&Finding> = found.iter().filter(|finding| finding.excepted.is_none()).collect();
    if open.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = open
        .iter()
        .map(|finding| {
            format!(
                "  {:8} {:18} {}: {}",
                finding.severity.as_str(),
                finding.rule,
                finding.path,
                finding.reason
            )
        })
        .collect();
    Err(Error::failed(format!("the sealed disk has {} findings:\n{}", open.len(), lines.join("\n")))
        .hint("remove the cause, or except it with a reason: [harden] allow = [{ rule = \"…\", path = \"…\", why = \"…\" }]"))
}

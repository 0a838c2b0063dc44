//! An image that is derived from a vendor's disk: a copy of it runs as a machine of this computer, is changed over SSH,
//! gives up every way in, switches itself off, and is inspected.
//!
//! How it can fail, and what is then: the machine is a child of this thread and dies with it, its disk lies in scratch space,
//! its keys are in memory: whatever happens, nothing is left but what the next run removes. A step that fails ends the bake
//! with its last lines; with `--keep-builder` the machine stays for a while first. The machine is believed in nothing: what
//! it became is read off its disk.

#[cfg(feature = "aws")]
pub mod building;
mod direct;
mod download;
#[cfg(feature = "aws")]
mod ec2;
mod examine;
#[cfg(feature = "aws")]
mod instance;
mod keep;
mod machine;
#[cfg(feature = "aws")]
mod own_address;
pub mod packages;
mod remote;
mod removed;
mod seal;
mod seed;
mod vendor;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use self::download::{Archives, Downloaded};
use self::examine::Finished;
use self::remote::Remote;
use self::seal::{DONE, FAILED, SAYS, Sealing};
use super::accelerator;
use super::builder::Builder as _;
use super::identity::{Identity, files_plan};
use super::image::{Bake, exceptions, ports, services};
use super::layers::files_steps;
use super::sandbox::{STAGE, Step};
use crate::catalog::{self, Derived, Firmware, Origin, Record};
use crate::digest::Digest;
use crate::error::{Doing as _, Error, Result};
use crate::inspect::foreign::Contents;
use crate::notation;
use crate::progress::Progress;
use crate::recipe::{DiskSource, Vendor};
use crate::scratch::Scratch;
use crate::ssh::{Address, Ended, Keys};
use crate::vm::accel::Accelerator;
use crate::vm::builder::{Direct, Spec, Told};
use crate::vm::verdict::free_ports;

/// How long the vendor's first boot may go on once the machine lets us in. Translated and beside other work, all of cloud-init
/// was seen to take a minute; what takes ten hangs.
const FIRST_BOOT: Duration = Duration::from_mins(10);
/// How long the last step may take: it removes files and discards free space, within a minute on a translated machine.
const SEALING: Duration = Duration::from_mins(15);
/// What no derived image can promise, in its record.
const NOT_REPRODUCIBLE: &[&str] = &[
    "packages came from the vendor's archive as it was at that moment; their versions are in this record",
    "the machine wrote its own times, identifiers of file systems and order of blocks",
    "scripts ran in a machine with a network and a clock",
];

impl Bake<'_> {
    /// Derives the image from what its vendor made.
    ///
    /// # Errors
    /// Another disk or AMI than the recipe's, a step that failed, and findings on the sealed disk that no exception accepts.
    pub(super) fn derive(&self, image: &Identity, vendor: Vendor<'_>) -> Result<Record> {
        match vendor {
            Vendor::Disk(source) => self.derive_disk(image, source),
            #[cfg(feature = "aws")]
            Vendor::Ami(source) => self.derive_ami(image, source),
            #[cfg(not(feature = "aws"))]
            Vendor::Ami(_) => {
                Err(Error::failed("this rekiln was compiled without AWS and derives nothing from an AMI")
                    .hint("compile it with its default features"))
            }
        }
    }

    fn derive_disk(&self, image: &Identity, source: &DiskSource) -> Result<Record> {
        let mut timings = BTreeMap::new();
        let mut timed = |name: &str, start: Instant| {
            timings.insert(name.to_owned(), start.elapsed().as_secs_f64());
        };
        let scratch = Scratch::new(self.store, "derive")?;
        let disk = scratch.dir().join("disk.raw");
        let start = Instant::now();
        self.progress
            .step(&image.name, "copying the vendor's disk", || vendor::copy(self.vendors(), source, &disk))?;
        timed("copy", start);
        let firmware = vendor::firmware(&disk)?;
        let start = Instant::now();
        // Before the machine changes it.
        let contents = vendor::contents(&disk);
        let wanted = packages(image);
        let archives = (!wanted.is_empty()).then(|| Self::archives(&contents, &scratch));
        let direct = self.direct(image, source, &contents, &scratch, firmware)?;
        let (machine, downloaded) = std::thread::scope(|scope| {
            let downloaded = archives
                .map(|archives| scope.spawn(|| archives.and_then(|archives| archives.download(wanted))));
            let machine = self.start(image, source, &scratch, &disk, firmware, direct.as_ref());
            let lost = |_| Err(Error::failed("the thread that downloads packages ended in a panic"));
            (machine, downloaded.map(|thread| thread.join().unwrap_or_else(lost)))
        });
        let mut machine = machine?;
        timed("boot", start);
        let worked = self.work(image, &scratch, &mut machine, downloaded, &mut timed);
        worked.map_err(|error| keep::after(self.keep, &mut machine, self.progress, &image.name, error))?;
        drop(machine);
        timed("machine", start);
        let finished = self.examine(image, &disk, &mut timed)?;
        let origin = Origin::Disk { source: source.sha256, path: source.path.clone() };
        let record = self.derived_record(image, origin, firmware, &finished, timings);
        self.keep_disk(image, &record, &finished, &scratch, &disk)?;
        Ok(record)
    }

    /// Moves the disk into the catalog.
    fn keep_disk(
        &self,
        image: &Identity,
        record: &Record,
        finished: &Finished,
        scratch: &Scratch,
        disk: &Path,
    ) -> Result<()> {
        // What is renamed into the catalog is on the disk.
        std::fs::File::open(disk).and_then(|file| file.sync_all()).doing(|| "writing the disk")?;
        let out = scratch.subdirectory("image")?;
        self.catalogue(record, image, &out, disk, &finished.blocks)
    }

    /// Starts the machine and waits until it lets us in and has done what its vendor has it do at the first boot.
    fn start(
        &self,
        image: &Identity,
        source: &DiskSource,
        scratch: &Scratch,
        disk: &Path,
        firmware: Firmware,
        direct: Option<&Direct>,
    ) -> Result<Remote> {
        let keys = Arc::new(Keys::new()?);
        let told = match direct {
            Some(_) => Told::Credential(direct::credential(&keys)?),
            None => Told::Seed(seed::seed(image.id, &seed::user_data(&keys, None)?)?),
        };
        let port = free_ports(1)?[0];
        let name = format!("derive-{}", image.id.short());
        let patience = patience(image)?;
        let dir = scratch.subdirectory("machine")?;
        let spec = Spec { dir: &dir, disk, firmware, discards: true, told, direct, port, name: &name };
        let address = Address {
            socket: std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port)),
            user: "root".to_owned(),
            keys,
            patience: crate::ssh::ATTEMPT,
        };
        let (accelerator, why) = accelerator::of_disk(self.store, disk)?;
        if accelerator == Accelerator::Tcg {
            self.progress.note(&image.name, format!("without KVM, which takes longer: {why}"));
        }
        self.progress.step(&image.name, "starting the vendor's system", || {
            let mut machine = Remote::new(Box::new(spec.start(accelerator)?), address, image.inputs.epoch);
            if let Some(patience) = patience {
                machine = machine.waiting(patience);
            }
            settle(&mut machine, direct.is_some() && source.size.is_some())?;
            Ok(machine)
        })
    }

    /// Finds what the first boot starts, where that need not be the disk's own boot loader.
    fn direct(
        &self,
        image: &Identity,
        source: &DiskSource,
        contents: &Result<Contents>,
        scratch: &Scratch,
        firmware: Firmware,
    ) -> Result<Option<Direct>> {
        if source.cloud_init {
            return Ok(None);
        }
        let dir = scratch.subdirectory("direct")?;
        let direct = match contents {
            Ok(contents) => direct::prepare(contents, firmware, source.size.is_some(), &dir)?,
            Err(error) => Err(error.chain()),
        };
        if let Err(why) = &direct {
            let text = format!("its boot loader and cloud-init start it, which takes longer: {why}");
            self.progress.note(&image.name, text);
        }
        Ok(direct.ok())
    }

    /// Finds where packages come from, where that can be known on this computer.
    fn archives(contents: &Result<Contents>, scratch: &Scratch) -> Result<Archives> {
        let contents = contents.as_ref().map_err(|error| Error::failed(error.chain()))?;
        Archives::of(&contents.tree, &scratch.subdirectory("apt")?)
    }

    /// Makes the image out of the running machine; afterwards that is switched off.
    fn work(
        &self,
        image: &Identity,
        scratch: &Scratch,
        machine: &mut Remote,
        downloaded: Option<Result<Downloaded>>,
        timed: &mut dyn FnMut(&str, Instant),
    ) -> Result<()> {
        let link = image.links.last().ok_or_else(|| Error::failed("the image has no recipe"))?;
        if !link.recipe.packages.is_empty() {
            let start = Instant::now();
            self.packages(image, &link.recipe.packages, machine, downloaded)?;
            timed("packages", start);
        }
        let start = Instant::now();
        let stage = scratch.subdirectory("files")?;
        let mut plan = files_plan(link, false)?;
        plan.contents.extend(seal::drop_ins(&image.inputs.recipes));
        let steps = files_steps(&plan, &stage)?;
        let stages: BTreeMap<String, PathBuf> =
            [("files".to_owned(), stage), ("vault".to_owned(), self.store.inputs())].into();
        let step = format!(
            "{} files, {} artifacts, {} scripts",
            plan.contents.len(),
            plan.fetches.len(),
            plan.scripts.len()
        );
        self.live(image, &step, |line| machine.carry_out(&stages, &steps, line))?;
        timed("files", start);
        let start = Instant::now();
        self.seal(image, scratch, machine)?;
        timed("seal", start);
        Ok(())
    }

    /// Has the machine's package manager install what was downloaded, or do all of it.
    fn packages(
        &self,
        image: &Identity,
        packages: &BTreeSet<String>,
        machine: &mut Remote,
        downloaded: Option<Result<Downloaded>>,
    ) -> Result<()> {
        let step = format!("installing {} packages", packages.len());
        let downloaded = match downloaded {
            Some(Ok(downloaded)) => downloaded,
            other => {
                if let Some(Err(why)) = other {
                    let text = format!("the machine chooses packages, which takes longer: {}", why.chain());
                    self.progress.note(&image.name, text);
                }
                let Some(script) = packages::install(packages) else { return Ok(()) };
                return self.live(image, &step, |line| machine.must("the package manager", &script, line));
            }
        };
        let files = downloaded.files.iter().map(|name| format!("{STAGE}/packages/{name}"));
        if files.len() == 0 {
            return Ok(());
        }
        let argv = ["sh".to_owned(), "-c".to_owned(), download::install(packages), "sh".to_owned()];
        let steps = [Step::Run { argv: argv.into_iter().chain(files).collect() }];
        let stages: BTreeMap<String, PathBuf> = [("packages".to_owned(), downloaded.dir)].into();
        self.live(image, &step, |line| machine.carry_out(&stages, &steps, line))
    }

    fn seal(&self, image: &Identity, scratch: &Scratch, machine: &mut Remote) -> Result<()> {
        let kept = exceptions(image);
        let sealing = Sealing { id: image.id, kernel_args: &image.inputs.kernel_args, exceptions: &kept };
        let stage = scratch.subdirectory("profile")?;
        for (number, (_, bytes, _)) in seal::profile_files().iter().enumerate() {
            std::fs::write(stage.join(number.to_string()), bytes).doing(|| "staging the profile")?;
        }
        let stages: BTreeMap<String, PathBuf> = [("profile".to_owned(), stage)].into();
        self.live(image, "hardening it", |line| machine.carry_out(&stages, &sealing.steps(), line))?;
        self.live(image, "sealing it", |line| {
            machine.machine().keep_disk()?;
            // In memory: it outlives everything that it removes.
            let program = format!(
                "cat > /run/rekiln-seal <<'END-OF-REKILN-SEAL'\n{}END-OF-REKILN-SEAL\nchmod 700 /run/rekiln-seal\n\
                 systemd-run --quiet --no-block --unit=rekiln-seal --property=DefaultDependencies=no \
                 --property=KillMode=process sh /run/rekiln-seal\n",
                sealing.program(machine.machine().rest())
            );
            let ended = machine.shell(&program, line)?;
            // The last step ends the SSH server: that may be before we hear how it was started.
            if !matches!(ended, Ended::Exit(0) | Ended::Lost(_)) {
                return Err(Error::failed(format!("the last step could not be started: {ended:?}")));
            }
            let machine = machine.machine();
            let rests = machine.wait_at_rest(SEALING, DONE);
            // One that does not come to rest says nothing more.
            let words = if rests.is_ok() { machine.final_words(&[DONE, FAILED]) } else { machine.console() };
            judge_seal(&words)?;
            rests
        })
    }

    /// Runs a step whose output is shown while it comes, with the step before each line.
    fn live<T>(
        &self,
        image: &Identity,
        step: &str,
        work: impl FnOnce(&mut (dyn FnMut(&str) + Send)) -> Result<T>,
    ) -> Result<T> {
        let progress: &dyn Progress = self.progress;
        progress.step(&image.name, step, || {
            work(&mut |line| {
                if !line.is_empty() {
                    progress.note(&image.name, format!("{step} │ {line}"));
                }
            })
            .map_err(|error| error.during(step.to_owned()))
        })
    }

    fn derived_record(
        &self,
        image: &Identity,
        origin: Origin,
        firmware: Firmware,
        finished: &Finished,
        timings: BTreeMap<String, f64>,
    ) -> Record {
        let revision = self.revision();
        Record {
            version: catalog::VERSION,
            id: image.id,
            name: image.name.clone(),
            debug: image.debug,
            commit: revision.as_ref().and_then(|revision| revision.commit.clone()),
            clean: revision.is_some_and(|revision| revision.clean),
            lock: image.links.last().map_or_else(|| Digest::of(b""), |link| link.lock_digest),
            parents: Vec::new(),
            disk: finished.disk.clone(),
            root_hash: None,
            cmdline: finished.inspection.inventory.kernel_args.join(" "),
            layers: Vec::new(),
            kernel: None,
            ports: ports(image),
            services: services(image),
            exceptions: exceptions(image),
            packages: finished.inspection.inventory.packages.clone(),
            findings: finished.inspection.findings.clone(),
            verdict: None,
            baked: Timestamp::now(),
            timings,
            derived: Some(Derived {
                origin,
                firmware,
                not_reproducible: NOT_REPRODUCIBLE.iter().map(|&line| line.to_owned()).collect(),
                distribution: finished.distribution.clone(),
            }),
        }
    }
}

/// Returns the packages that the recipe asks for.
fn packages(image: &Identity) -> &BTreeSet<String> {
    static NONE: BTreeSet<String> = BTreeSet::new();
    image.links.last().map_or(&NONE, |link| &link.recipe.packages)
}

/// Returns how long the machine may take until it lets us in, where the recipe says so.
fn patience(image: &Identity) -> Result<Option<Duration>> {
    let text = match image.derived() {
        Some(Vendor::Disk(source)) => source.ssh_timeout.as_deref(),
        Some(Vendor::Ami(source)) => source.ssh_timeout.as_deref(),
        None => None,
    };
    text.map(notation::duration).transpose().map_err(Error::invalid)
}

/// Waits until the machine lets us in and its first boot is over: packages and files must not be changed by two at once.
fn settle(machine: &mut Remote, grows: bool) -> Result<()> {
    machine.wait_up()?;
    // systemd is asked, and not cloud-init, which starts an interpreter for each answer. What has failed is not waited for:
    // a vendor's own configuration may be at fault, and ours was heard, or we were not in. At a restart, cloud-init would
    // look for its instance all over again.
    machine.must(
        "the system's first boot",
        &format!(
            "{}left={}\n\
             while jobs=$(systemctl list-jobs --no-legend) && echo \"$jobs\" | grep -q ' cloud-[^ ]*[.]service '; do\n\
             left=$((left - 1))\n\
             [ $left -gt 0 ] || {{ echo 'cloud-init did not come to its end:'; echo \"$jobs\"; exit 1; }}\n\
             sleep 1\ndone\n\
             [ ! -d /etc/cloud ] || : > /etc/cloud/cloud-init.disabled\n{}",
            remote::lifetime(),
            FIRST_BOOT.as_secs(),
            if grows { direct::GROW } else { "" },
        ),
        &mut |_| {},
    )
}

/// Reads off the console whether the last step came to its end.
fn judge_seal(console: &str) -> Result<()> {
    let said: Vec<&str> = console.lines().map(str::trim).filter(|line| line.starts_with(SAYS)).collect();
    if said.last() == Some(&DONE) {
        return Ok(());
    }
    let from = console.rfind(SAYS).unwrap_or(console.len());
    // A screenful before its last word, which says what failed.
    let mut before: Vec<&str> = console[..from].lines().rev().take(15).collect();
    before.reverse();
    Err(Error::failed(format!(
        "the last step did not come to its end; the console ends with:\n{}\n{}",
        before.join("\n"),
        &console[from..]
    )))
}

/// The digest of what a derived image gets from this rekiln, for [`super::identity::inputs`].
#[must_use]
pub fn profile() -> Digest {
    let one: BTreeSet<String> = ["x".to_owned()].into();
    let (all, files) = (packages::install(&one).unwrap_or_default(), download::install(&one));
    Digest::of(format!("{} {all} {files}", seal::digest()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_word_counts() {
        assert!(
            judge_seal(
                "boot\nrekiln-seal: ending services\n\nrekiln-seal: done\n[ 1.0] reboot: Power down\n"
            )
            .is_ok()
        );
        let error = judge_seal(
            "boot\nrekiln-seal: removing ways in\ndpkg: error\nrekiln-seal: failed: removing ways in\n",
        );
        let error = error.expect_err("it failed").chain();
        assert!(error.contains("dpkg: error") && error.contains("failed: removing ways in"), "{error}");
        assert!(judge_seal("boot\nrekiln-seal: done\nrekiln-seal: failed: x\n").is_err());
        assert!(judge_seal("").is_err());
    }
}

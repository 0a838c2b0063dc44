//! An image that is derived from a vendor's AMI: an instance of it is changed over SSH in EC2, gives up every way in,
//! switches itself off, becomes an AMI, and is inspected through the snapshot of that.
//!
//! How it can fail, and what is then: everything is in the ledger before it is made ([`super::building`]) and removed on every
//! way out but the good one, by us, by the next bake or by `rekiln reap`. The instance ends itself after a while, whatever
//! becomes of us. An AMI without the tag of its disk's digest was checked by nobody, and is never used.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::runtime::Runtime;

use super::building::{Building, Held, Remains, remove};
use super::instance::{Instance, pause};
use super::own_address::own_address;
use super::remote::{LIFETIME, Remote};
use super::{keep, patience, seed, settle, vendor};
use crate::bake::identity::Identity;
use crate::bake::image::Bake;
use crate::catalog::{Origin, Record};
use crate::error::{Doing as _, Error, Result};
use crate::interrupt;
use crate::notation;
use crate::provider::aws::{Aws, Launched, Launching, Phase, Subnet, VendorImage, insist};
use crate::publish::plan::{DISK_TAG, EXPIRES_TAG, RUN_TAG, State};
use crate::recipe::ami::AmiSource;
use crate::scratch::Scratch;
use crate::ssh::{ATTEMPT, Address, Keys};

/// How long an instance may take to run and have an address: EC2 needs seconds, and a minute where it is busy.
const STARTING: Duration = Duration::from_mins(5);
/// How long an AMI may take to be available: its snapshot of some GiB takes minutes; one that took an hour never ended.
const SNAPSHOT: Duration = Duration::from_hours(1);
/// The first wait between two looks at something that AWS works at; doubled after each, up to the longest.
const LOOK: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// Bytes of a GiB, in which volumes are measured.
const GIB: u64 = 1 << 30;

/// An AMI of the image.
struct Made {
    ami: String,
    snapshot: String,
}

impl Bake<'_> {
    /// Derives the image from the vendor's AMI.
    ///
    /// # Errors
    /// Another AMI than the recipe's, no capacity anywhere, a step that failed, and findings on the sealed disk that no
    /// exception accepts. Nothing stays but what is in the ledger because it could not be removed.
    pub(super) fn derive_ami(&self, image: &Identity, source: &AmiSource) -> Result<Record> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = Arc::new(runtime.doing(|| "starting the asynchronous runtime")?);
        let aws = runtime.block_on(Aws::connect(&source.region, source.assume_role.as_deref()))?;
        if let Some(account) = source.account.as_deref().filter(|account| **account != aws.account) {
            return Err(Error::failed(format!(
                "{} is baked in account {account}, and these credentials are of account {}",
                image.name, aws.account
            ))
            .hint("nothing was changed; choose other credentials, such as with AWS_PROFILE, or let `assume_role` in [source] ami name a role"));
        }
        let vendor = runtime.block_on(vendor_of(&aws, source))?;
        let held = Held::take(self.store, &aws, image.id)?;
        if let Some(left) = held.entry()? {
            let what = "removing what an earlier bake left";
            self.progress
                .step(&image.name, what, || runtime.block_on(remove(&aws, &left, Remains::Unfinished)))?;
            held.clear()?;
        }
        let begin =
            || Building::new(image.id, &image.name, &aws, source.assume_role.as_deref(), Timestamp::now());
        let entry = begin();
        let aws = aws.clone();
        let mut on_ec2 =
            OnEc2 { bake: self, image, source, vendor, aws, runtime, held: &held, entry, spot: source.spot };
        let mut result = on_ec2.derive();
        if let Err(error) = &result
            && on_ec2.spot
            && interrupt::check().is_ok()
            && on_ec2.taken_back()
        {
            self.progress.note(&image.name, error.chain());
            self.progress
                .note(&image.name, "AWS took the spot instance back: begun again on demand".to_owned());
            on_ec2.clean()?;
            (on_ec2.spot, on_ec2.entry) = (false, begin());
            result = on_ec2.derive();
        }
        match result {
            Ok(record) => held.clear().map(|()| record),
            // Whatever it is that failed, nothing of it stays.
            Err(error) => Err(match on_ec2.clean() {
                Ok(()) => error,
                Err(left) => error.hint(format!(
                    "not everything could be removed ({}): `rekiln reap` tries again",
                    left.chain()
                )),
            }),
        }
    }
}

/// One bake.
struct OnEc2<'a, 'b> {
    bake: &'a Bake<'b>,
    image: &'a Identity,
    source: &'a AmiSource,
    vendor: VendorImage,
    aws: Aws,
    runtime: Arc<Runtime>,
    held: &'a Held,
    entry: Building,
    /// Whether a spot instance is asked for first.
    spot: bool,
}

impl OnEc2<'_, '_> {
    /// Removes everything that was made, and forgets it.
    fn clean(&self) -> Result<()> {
        let what = "removing the instance and what is its";
        self.bake.progress.step(&self.image.name, what, || {
            self.runtime.block_on(remove(&self.aws, &self.entry, Remains::Unfinished))
        })?;
        self.held.clear()
    }

    /// Tells whether AWS took the instance back. When it cannot be seen, it is not known, and the error that there is stands.
    fn taken_back(&self) -> bool {
        let Some(id) = &self.entry.instance else { return false };
        let found = self.runtime.block_on(insist(&self.aws.region, || self.aws.builder(id)));
        found.ok().flatten().is_some_and(|found| found.taken_back)
    }

    fn derive(&mut self) -> Result<Record> {
        let mut timings = BTreeMap::new();
        let mut timed = |name: &str, start: Instant| {
            timings.insert(name.to_owned(), start.elapsed().as_secs_f64());
        };
        let (bake, image) = (self.bake, self.image);
        let scratch = Scratch::new(bake.store, "derive")?;
        let start = Instant::now();
        let (made, digest) = match self.finished()? {
            Some((made, digest)) => (made, Some(digest)),
            None => (self.make(&scratch, &mut timed)?, None),
        };
        timed("machine", start);
        let disk = scratch.dir().join("disk.raw");
        let start = Instant::now();
        bake.progress.step(&image.name, &format!("reading {} back", made.snapshot), || {
            self.runtime.block_on(self.aws.download_disk(&made.snapshot, disk.clone()))
        })?;
        timed("read back", start);
        let finished = bake.examine(image, &disk, &mut timed)?;
        let found = finished.disk.sha256.to_string();
        if digest.is_some_and(|digest| digest != found) {
            return Err(Error::failed(format!(
                "{} is of this image, and its disk is not the one that its tag {DISK_TAG} says",
                made.ami
            ))
            .hint("someone changed one of them: deregister it, and bake again"));
        }
        let firmware = match self.vendor.firmware {
            Some(firmware) => firmware,
            None => vendor::firmware(&disk)?,
        };
        let origin = Origin::Ami {
            ami: self.vendor.id.clone(),
            name: self.vendor.name.clone(),
            owner: self.vendor.owner.clone(),
            region: self.aws.region.clone(),
            made: made.ami.clone(),
        };
        let record = bake.derived_record(image, origin, firmware, &finished, timings);
        // From here on it is a finished image: whoever finds it may use it.
        let tags = [(DISK_TAG.to_owned(), found)].into();
        let resources = [made.ami.clone(), made.snapshot.clone()];
        self.runtime.block_on(insist(&self.aws.region, || self.aws.tag(&resources, &tags)))?;
        bake.keep_disk(image, &record, &finished, &scratch, &disk)?;
        Ok(record)
    }

    /// Returns the image's AMI and the digest of its disk when another store, or an earlier bake, made it.
    fn finished(&self) -> Result<Option<(Made, String)>> {
        let name = self.entry.ami_name();
        let found = self.runtime.block_on(insist(&self.aws.region, || self.aws.image(&name)))?;
        let Some(found) = found.filter(|found| found.state != State::Gone) else { return Ok(None) };
        let digest = found.tags.get(DISK_TAG).cloned();
        match (digest, found.snapshot, &found.state) {
            (Some(digest), Some(snapshot), State::Ready) => {
                self.bake.progress.note(&self.image.name, format!("{} is this image already", found.id));
                Ok(Some((Made { ami: found.id, snapshot }, digest)))
            }
            _ => Err(Error::failed(format!(
                "{} has the name of this image, {name}, and is not a finished image of it",
                found.id
            ))
            .hint("another computer is baking it: wait; or it died: run `rekiln reap` there, or deregister the AMI")),
        }
    }

    fn make(&mut self, scratch: &Scratch, timed: &mut dyn FnMut(&str, Instant)) -> Result<Made> {
        let (bake, image) = (self.bake, self.image);
        let keys = Arc::new(Keys::new()?);
        let start = Instant::now();
        let mut instance = bake.progress.step(&image.name, "launching an instance", || self.launch(&keys))?;
        let socket = self.reach(&mut instance)?;
        timed("launch", start);
        let address = Address { socket, user: "root".to_owned(), keys, patience: ATTEMPT };
        let id = self.entry.instance.clone().unwrap_or_default();
        let step = format!("starting the vendor's system on {id} at {}", socket.ip());
        let mut machine = Remote::new(Box::new(instance), address, image.inputs.epoch);
        if let Some(patience) = patience(image)? {
            machine = machine.waiting(patience);
        }
        let worked = bake
            .progress
            .step(&image.name, &step, || settle(&mut machine, false))
            .and_then(|()| bake.work(image, scratch, &mut machine, None, timed));
        worked.map_err(|error| keep::after(bake.keep, &mut machine, bake.progress, &image.name, error))?;
        let start = Instant::now();
        let made = bake.progress.step(&image.name, "making the AMI", || self.capture(&id))?;
        timed("capture", start);
        // It is paid for by the second, and the AMI stands on its own.
        bake.progress.step(&image.name, "ending the instance", || {
            self.runtime.block_on(remove(&self.aws, &self.entry, Remains::Machine))
        })?;
        Ok(made)
    }

    /// Launches the instance where there is room for it.
    fn launch(&mut self, keys: &Keys) -> Result<Instance> {
        let source = self.source;
        let subnets =
            self.runtime.block_on(insist(&self.aws.region, || self.aws.subnets(&source.subnets)))?;
        let gib = self.gib()?;
        self.held.write(&self.entry)?;
        let groups = if source.security_groups.is_empty() {
            vec![self.security_group(&subnets)?]
        } else {
            source.security_groups.clone()
        };
        let user_data = seed::user_data(keys, Some(LIFETIME))?;
        let mut refused = Vec::new();
        let places = source.types.iter().flat_map(|kind| subnets.iter().map(move |subnet| (kind, subnet)));
        let spot = places.clone().filter(|_| self.spot).map(|place| (true, place));
        let all = spot.chain(places.map(|place| (false, place)));
        for (number, (spot, (kind, subnet))) in all.enumerate() {
            let launching = Launching {
                token: format!("rekiln-{}-{number}", self.entry.run),
                ami: source.id.clone(),
                kind: kind.clone(),
                spot,
                subnet: subnet.id.clone(),
                groups: groups.clone(),
                public: !source.private,
                root: self.vendor.root.clone(),
                gib,
                encrypt: source.encrypt,
                kms_key: self.kms_key(),
                user_data: user_data.clone(),
                tags: self.tags(),
            };
            self.entry.asked = Some(Timestamp::now());
            self.held.write(&self.entry)?;
            let launched =
                self.runtime.block_on(insist(&self.aws.region, || self.aws.launch_builder(&launching)))?;
            match launched {
                Launched::Instance(id) => {
                    self.entry.instance = Some(id.clone());
                    self.held.write(&self.entry)?;
                    return Ok(Instance::new(self.aws.clone(), Arc::clone(&self.runtime), id, spot));
                }
                Launched::NoCapacity(words) => {
                    // Nothing was launched, so nothing may come to be listed.
                    self.entry.asked = None;
                    let market = if spot { " for spot" } else { "" };
                    let place = format!("{kind}{market} in {} ({})", subnet.zone, subnet.id);
                    self.bake.progress.note(&self.image.name, format!("no {place}: {words}"));
                    refused.push(format!("{place}: {words}"));
                }
            }
        }
        Err(Error::failed(format!(
            "no instance of any type could be launched in any subnet:\n  {}",
            refused.join("\n  ")
        ))
        .hint("name more `types` or `subnets` in [source] ami, or try again later"))
    }

    fn gib(&self) -> Result<u64> {
        let Some(size) = &self.source.size else { return Ok(self.vendor.gib) };
        let gib = notation::size(size).map_err(Error::invalid)?.div_ceil(GIB);
        if gib < self.vendor.gib {
            return Err(Error::invalid(format!(
                "{} has a disk of {} GiB, which cannot be made smaller: `size` in [source] ami must be more",
                self.vendor.id, self.vendor.gib
            )));
        }
        Ok(gib)
    }

    fn kms_key(&self) -> Option<String> {
        let link = self.image.links.last().filter(|_| self.source.encrypt)?;
        link.recipe.publish.kms.get(&self.aws.region).cloned()
    }

    fn tags(&self) -> BTreeMap<String, String> {
        let expires = self.entry.begun.checked_add(LIFETIME).unwrap_or(self.entry.begun);
        self.entry.tags(expires)
    }

    /// Makes a security group that admits nobody yet.
    fn security_group(&mut self, subnets: &[Subnet]) -> Result<String> {
        let vpcs: BTreeSet<&str> = subnets.iter().map(|subnet| subnet.vpc.as_str()).collect();
        let vpc = match *vpcs.iter().copied().collect::<Vec<_>>().as_slice() {
            [vpc] => vpc.to_owned(),
            [] => {
                return Err(Error::failed(format!("{} has no default VPC", self.aws.region))
                    .hint("name `subnets` in [source] ami"));
            }
            _ => {
                return Err(Error::failed(
                    "the subnets are in more than one VPC, and a security group is of one",
                )
                .hint("name subnets of one VPC, or `security_groups` too"));
            }
        };
        let name = format!("rekiln-{}", self.entry.run);
        let tags = self.tags();
        let made = self
            .runtime
            .block_on(insist(&self.aws.region, || self.aws.make_security_group(&name, &vpc, &tags)))?;
        self.entry.group = Some(made.clone());
        self.held.write(&self.entry)?;
        Ok(made)
    }

    /// Waits until the instance runs, and lets this computer's address in where the group is ours.
    fn reach(&mut self, instance: &mut Instance) -> Result<SocketAddr> {
        let start = Instant::now();
        let id = self.entry.instance.clone().unwrap_or_default();
        let mut look = LOOK.0;
        let ip = loop {
            let found = instance.look()?;
            if let Some(ended) = found.as_ref().filter(|found| found.phase == Phase::Terminated) {
                // A quota or a key that may not be used shows only now.
                return Err(Error::failed(format!(
                    "instance {id} ended as soon as it was launched: {}",
                    ended.reason
                )));
            }
            let ip = found
                .filter(|found| found.phase == Phase::Running)
                .and_then(|found| if self.source.private { found.private } else { found.public });
            if let Some(ip) = ip {
                break ip;
            }
            if start.elapsed() > STARTING {
                let kind = if self.source.private { "private" } else { "public" };
                return Err(Error::failed(format!(
                    "instance {id} does not run or has no {kind} address after {} s",
                    STARTING.as_secs()
                ))
                .hint("a subnet without an internet gateway has only private addresses: `private = true` in [source] ami"));
            }
            pause(look)?;
            look = (look * 2).min(LOOK.1);
        };
        if let Some(group) = self.entry.group.clone() {
            let from = own_address(self.source, ip)?;
            self.runtime.block_on(insist(&self.aws.region, || self.aws.admit_ssh(&group, from)))?;
            self.bake.progress.note(&self.image.name, format!("{group} admits {from} to port 22"));
        }
        Ok(SocketAddr::from((ip, 22)))
    }

    /// Makes the AMI of the instance, whose disk is at rest, and waits until it is available.
    fn capture(&mut self, instance: &str) -> Result<Made> {
        let name = self.entry.ami_name();
        let description = format!("rekiln image {} of {}", self.image.id.short(), self.image.name);
        let mut tags = self.tags();
        tags.insert("Name".to_owned(), name.clone());
        // It stays.
        tags.remove(EXPIRES_TAG);
        if let Some(link) = self.image.links.last() {
            tags.extend(link.recipe.publish.tags.clone());
        }
        let region = self.aws.region.clone();
        let start = Instant::now();
        let made = self.runtime.block_on(insist(&region, || async {
            match self.aws.create_image(instance, &name, &description, &tags).await {
                // An answer was lost: the next look finds it, by its name and run.
                Err(error) if error.kind == crate::provider::aws::Kind::Taken => Ok(None),
                made => made.map(Some),
            }
        }))?;
        self.entry.ami = made;
        self.held.write(&self.entry)?;
        let mut look = LOOK.0 / 2;
        loop {
            look = (look * 2).min(LOOK.1);
            let found = self.runtime.block_on(insist(&region, || self.aws.image(&name)))?;
            let run = Some(&self.entry.run);
            if let Some(other) = found.as_ref().filter(|found| found.tags.get(RUN_TAG) != run) {
                return Err(Error::failed(format!(
                    "another computer made {} of this image at the same time",
                    other.id
                ))
                .hint("bake again: when it is finished, it is used"));
            }
            match found.map(|found| (found.state, found.id, found.snapshot)) {
                Some((State::Ready, ami, Some(snapshot))) => {
                    self.runtime.block_on(insist(&region, || self.aws.require_tokens(&ami)))?;
                    return Ok(Made { ami, snapshot });
                }
                Some((State::Failed(why), ami, _)) => {
                    return Err(Error::failed(format!("{ami} could not be made: {why}")));
                }
                _ if start.elapsed() > SNAPSHOT => {
                    return Err(Error::failed(format!(
                        "the AMI {name} is not available after {} s",
                        SNAPSHOT.as_secs()
                    )));
                }
                _ => pause(look)?,
            }
        }
    }
}

/// Returns the vendor's AMI, which must be what the recipe says.
async fn vendor_of(aws: &Aws, source: &AmiSource) -> Result<VendorImage> {
    let (id, region) = (&source.id, &source.region);
    let found = insist(region, || aws.vendor_image(id)).await?;
    let Some(found) = found else {
        return Err(Error::failed(format!("there is no AMI {id} in {region} that this account may launch"))
            .hint("an AMI is in one region only, and vendors deregister old ones: choose a newer one"));
    };
    let owned = found.owner == source.owner
        || found.alias.as_ref() == Some(&source.owner)
        || source.owner == "self" && found.owner == aws.account;
    if !owned {
        return Err(Error::failed(format!(
            "{id} ({}) is owned by {}, and the recipe says `owner = \"{}\"`",
            found.name, found.owner, source.owner
        ))
        .hint("anyone can publish an AMI under a vendor's name: make sure whose it is before you change the recipe"));
    }
    if !found.available {
        return Err(Error::failed(format!("{id} ({}) is not available: its owner disabled it", found.name)));
    }
    if !found.fits {
        return Err(Error::failed(format!(
            "{id} ({}) is not an x86_64 HVM image with its root on EBS, and others are not derived from",
            found.name
        )));
    }
    Ok(found)
}

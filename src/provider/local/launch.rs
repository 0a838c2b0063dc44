//! Launching: a record, what the machine is told, the machine, and its place behind the load balancer.

use std::fs;
use std::sync::PoisonError;

use jiff::Timestamp;

use super::{Founding, InstanceRecord, Local, Machines, Phase, bootable};
use crate::backup::serve::Serving;
use crate::catalog::Record;
use crate::error::{Doing as _, Error, Result};
use crate::fleet::census::InstanceId;
use crate::fleet::generation::Generation;
use crate::notation;
use crate::provider::Outcome;
use crate::vm::document::{Document, Member, Secret, address, segment};
use crate::vm::verdict::free_ports;
use crate::vm::{Boot, Extras, Forward, Spec, extras};

/// How often a start is tried, each time with other ports: another process may take one in between.
const STARTS: u32 = 3;

impl<M: Machines> Local<M> {
    pub(super) fn launch(
        &self,
        id: &InstanceId,
        generation: &Generation,
        zone: Option<&String>,
        founds: bool,
    ) -> Result<Outcome> {
        let dir = self.dir(id);
        if let Some(record) = InstanceRecord::read(&dir)? {
            if self.machines.alive(&dir)? {
                self.balancer.ensure(&self.fleet, &self.records()?)?;
                return Ok(Outcome::AlreadyDone);
            }
            return self.start(record, founds);
        }
        let Some(image) = generation.image() else {
            return Ok(Outcome::refused("the generation names no image"));
        };
        let files = self.store.image(image);
        let file = files.join("record.json");
        let doing = || format!("reading {}", file.display());
        let image: Record = serde_json::from_slice(&fs::read(&file).doing(doing)?).doing(doing)?;
        if !image.may_be_target() {
            return Ok(Outcome::refused(format!(
                "image {} has no passing verdict or is a debug variant",
                image.id
            )));
        }
        let root_hash = bootable(&image)?;
        let spec = Spec {
            disk: files.join("disk.raw"),
            boot: Boot::direct(&files)?,
            // As the generation says, and not the fleet file of today: a roll may go back to what was before it.
            memory_mib: mebibytes(&part::<String>(generation, "memory")?)?,
            cpus: part(generation, "cpus")?,
            forwards: Vec::new(),
            name: id.0.clone(),
            extras: Extras::default(),
            dir,
        };
        let record = InstanceRecord {
            version: 1,
            id: id.clone(),
            generation: generation.clone(),
            image: image.id,
            root_hash,
            spec,
            port: 0,
            health_port: 0,
            launched_at: Timestamp::now(),
            phase: Phase::Waiting,
            zone: zone.cloned(),
        };
        self.start(record, founds)
    }

    /// Records, then starts, then registers. After a crash in between, the record leads to whatever was begun.
    fn start(&self, mut record: InstanceRecord, founds: bool) -> Result<Outcome> {
        let (port, health) = (part(&record.generation, "port")?, part(&record.generation, "health port")?);
        let guest = guest_ports(&record.generation, port, health)?;
        let mut tried = Ok(());
        for _ in 0..STARTS {
            let hosts = free_ports(guest.len())?;
            record.spec.forwards = hosts
                .iter()
                .zip(&guest)
                .map(|(host, guest)| Forward { host: *host, guest: *guest })
                .collect();
            record.port = record.host_port(port).unwrap_or_default();
            record.health_port = record.host_port(health).unwrap_or_default();
            record.launched_at = Timestamp::now();
            record.phase = Phase::Waiting;
            let names = self.names()?;
            if names.is_ended(&record.id) {
                return Ok(Outcome::refused(format!("{} was ended or given up meanwhile", record.id)));
            }
            let dir = &record.spec.dir;
            fs::create_dir_all(dir).doing(|| format!("creating {}", dir.display()))?;
            record.spec.extras = self.extras(&record, founds)?;
            record.write()?;
            drop(names);
            tried = self.machines.start(&record.spec);
            if tried.is_ok() {
                self.balancer.ensure(&self.fleet, &self.records()?)?;
                return Ok(Outcome::Applied);
            }
            // One that an ended process began may have come up just now, with other ports. It serves nobody yet.
            self.machines.stop(&record.spec.dir)?;
        }
        tried.map(|()| Outcome::Applied)
    }

    /// Makes what the machine of `record` has besides, as its generation says. Who else is there is told anew at each start;
    /// a data disk that is there already is kept.
    fn extras(&self, record: &InstanceRecord, founds: bool) -> Result<Extras> {
        let InstanceRecord { id, generation, spec, .. } = record;
        let mut extras = Extras::default();
        if let Some(data) = generation.parts.get("data") {
            let bytes = notation::size(data).map_err(|why| Error::invalid(format!("`local.data`: {why}")))?;
            let file = spec.dir.join("data.raw");
            extras::blank(&file, bytes)?;
            extras.data = Some(file);
        }
        if generation.parts.contains_key("network") {
            let fleet = self.store.local(&self.name);
            let others = self.records()?.into_iter().filter(|other| other.id != *id);
            let members: Vec<_> = others
                .map(|other| Member { address: address(other.id.number()), instance: other.id.0 })
                .collect();
            let address = address(id.number());
            let mut restore = None;
            if let (true, Some(Founding { parts, taken, handle })) = (founds, self.founding.get()) {
                let serving = Serving::start(parts.clone(), taken, handle)?;
                (restore, extras.fetch) = (Some(serving.told()), Some(serving.address()));
                self.serving.lock().unwrap_or_else(PoisonError::into_inner).push(serving);
            }
            let document = Document {
                fleet: self.name.clone(),
                instance: id.0.clone(),
                address,
                // The plan of a stateful fleet says so. Elsewhere it is who has nobody to join.
                founds: founds || self.fleet.stateful.is_none() && members.is_empty(),
                members,
                restore,
            };
            extras.segment = Some(segment(&fleet, address));
            extras.credentials = vec![document.write(&spec.dir)?, Secret::of(&fleet)?.credential()];
        }
        Ok(extras)
    }
}

/// Returns the guest's ports that this computer reaches, each once, the one for clients first.
fn guest_ports(generation: &Generation, port: u16, health: u16) -> Result<Vec<u16>> {
    let mut ports = vec![port];
    let forward = generation.parts.get("forward").map(String::as_str).unwrap_or_default();
    let forward = forward.split_whitespace().map(str::parse).collect::<Result<Vec<u16>, _>>();
    for further in std::iter::once(health).chain(forward.doing(|| "reading `local.forward`")?) {
        if !ports.contains(&further) {
            ports.push(further);
        }
    }
    Ok(ports)
}

/// Reads a part of a generation.
fn part<T: std::str::FromStr>(generation: &Generation, name: &str) -> Result<T> {
    let read = generation.parts.get(name).and_then(|text| text.parse().ok());
    read.ok_or_else(|| {
        Error::failed(format!("generation {} has no `{name}` that can be read", generation.id.short()))
            .hint("a newer rekiln may have written it; use that one")
    })
}

/// Reads a machine's memory into MiB, in which QEMU takes it.
fn mebibytes(text: &str) -> Result<u32> {
    let bytes = notation::memory(text).map_err(|why| Error::invalid(format!("`local.memory`: {why}")))?;
    u32::try_from(bytes >> 20).doing(|| format!("reading `local.memory`: `{text}`"))
}

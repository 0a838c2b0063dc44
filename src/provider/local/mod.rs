//! A fleet on this computer: machines behind a load balancer, all of which outlive the commands.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use jiff::Timestamp;

use super::names::Names;
use super::{Action, Outcome, Provider, ProviderError};
use crate::backup::Taken;
use crate::backup::serve::Serving;
use crate::catalog::Record;
use crate::digest::Digest;
use crate::error::{Doing as _, Error, Result};
use crate::fleet::Fleet;
use crate::fleet::census::{Census, Health, Instance, InstanceId, State};
use crate::objects::Objects;
use crate::store::Store;
use crate::vm::document::Secret;
use crate::vm::report;

mod haproxy;
mod launch;
mod machines;
mod reap;
mod record;

pub use haproxy::{Haproxy, Server, all as all_balancers};
pub use machines::{Machines, Qemu};
pub use reap::reap;
pub use record::{Evidence, InstanceRecord, Phase};

/// How many lines of a console are shown: a screen.
const TAIL: usize = 20;

/// Returns the root hash that machines of the image report.
///
/// # Errors
/// It is derived from a vendor's disk: no guest program in it reports anything, and it has no kernel to boot directly.
pub fn bootable(image: &Record) -> Result<Digest> {
    image.root_hash.ok_or_else(|| {
        let (id, name) = (image.id.short(), &image.name);
        Error::failed(format!(
            "image {id} of {name} is derived from a vendor's disk, and a local fleet boots rekiln's own images"
        ))
        .hint(format!("publish it (`rekiln publish {id}`), and let a fleet with [aws] run it"))
    })
}

/// A fleet on this computer.
pub struct Local<M> {
    store: Store,
    name: String,
    fleet: Fleet,
    machines: M,
    balancer: Haproxy,
    /// What whoever founds the fleet begins with, where that is not nothing.
    founding: OnceLock<Founding>,
    /// What is handed to those that found; it ends with this process.
    serving: Mutex<Vec<Serving>>,
}

/// A backup that whoever founds a fleet begins with.
#[derive(Debug, Clone)]
pub struct Founding {
    /// Its parts.
    pub parts: Objects,
    /// What it is.
    pub taken: Taken,
    /// What reads them.
    pub handle: tokio::runtime::Handle,
}

impl<M: Machines> Local<M> {
    /// Makes the provider of one fleet; starts nothing.
    #[must_use]
    pub fn new(store: Store, name: &str, fleet: Fleet, machines: M) -> Self {
        let balancer = Haproxy::new(&store, name);
        let (founding, serving) = <(OnceLock<Founding>, Mutex<Vec<Serving>>)>::default();
        Self { store, name: name.to_owned(), fleet, machines, balancer, founding, serving }
    }

    fn dir(&self, id: &InstanceId) -> PathBuf {
        self.store.local(&self.name).join(&id.0)
    }

    fn names(&self) -> Result<Names> {
        Names::of(&self.store.local(&self.name))
    }

    /// Returns the records of all instances, in the order of launch.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn records(&self) -> Result<Vec<InstanceRecord>> {
        let dir = self.store.local(&self.name);
        let Ok(entries) = fs::read_dir(&dir) else { return Ok(Vec::new()) };
        let mut records = Vec::new();
        for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
            records.extend(InstanceRecord::read(&entry.path())?);
        }
        records.sort_by_key(|record| record.id.number());
        Ok(records)
    }

    /// Returns the fleet's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the record of one instance; `None` when it has none, or none any more.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn record(&self, id: &InstanceId) -> Result<Option<InstanceRecord>> {
        InstanceRecord::read(&self.dir(id))
    }

    /// Has whoever founds the fleet from now on begin with a backup; the first that is said counts.
    pub fn begin_with(&self, founding: Founding) {
        let _ = self.founding.set(founding);
    }

    /// Returns the secret from which the members of the fleet make their passwords.
    ///
    /// # Errors
    /// The fleet has none: no machine of it with `local.network` was launched yet.
    pub fn secret(&self) -> Result<Secret> {
        Secret::read(&self.store.local(&self.name))
    }

    /// Returns the instance to which the load balancer leads clients that write; `None` when there is none now.
    ///
    /// # Errors
    /// The load balancer does not answer.
    pub fn leader(&self) -> Result<Option<InstanceId>> {
        Ok(self.balancer.leader()?.map(InstanceId))
    }

    /// Has everything of an instance kept when it ends, whoever ends it and when. Returns where it will lie.
    ///
    /// # Errors
    /// No such instance; the store cannot be written.
    pub fn keep_evidence(&self, evidence: &Evidence) -> Result<PathBuf> {
        let id = &evidence.instance;
        let dir = self.dir(id);
        if InstanceRecord::read(&dir)?.is_none() {
            return Err(Error::failed(format!("instance {id} has no record: it has ended")));
        }
        evidence.write(&dir)?;
        Ok(self.store.evidence(&self.name).join(&id.0))
    }

    /// Ends every machine and the load balancer, and removes their records, logs of failed ones and names given up
    /// included.
    ///
    /// # Errors
    /// One does not end; the others are ended all the same when this is run again.
    pub fn down(&self) -> Result<Vec<InstanceId>> {
        self.balancer.stop()?;
        let mut ended = Vec::new();
        for record in self.records()? {
            self.machines.stop(&record.spec.dir)?;
            self.kept(&record)?;
            ended.push(record.id);
        }
        let dir = self.store.local(&self.name);
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).doing(|| format!("removing {}", dir.display()))
            }
            _ => Ok(ended),
        }
    }

    /// Keeps what is left of an ended instance, when someone wants that. Its directory goes in one step: it is an
    /// instance, or evidence, and never half of both.
    fn kept(&self, record: &InstanceRecord) -> Result<bool> {
        let (from, dir) = (&record.spec.dir, self.store.evidence(&self.name));
        if !Evidence::wanted(from) {
            return Ok(false);
        }
        let to = dir.join(&record.id.0);
        fs::create_dir_all(&dir).doing(|| format!("creating {}", dir.display()))?;
        fs::rename(from, &to).doing(|| format!("keeping {} as {}", from.display(), to.display()))?;
        Ok(true)
    }

    fn look(&self, record: &InstanceRecord, balancer: Option<&Server>) -> Instance {
        let alive = self.machines.alive(&record.spec.dir);
        let report = self.machines.report(&record.spec.dir);
        let wrong = report.as_ref().filter(|report| {
            report.image != record.image.to_string() || report.root_hash != record.root_hash.to_string()
        });
        let touched = match wrong {
            Some(report) => Some(format!("it reports another image: {}", report.image)),
            None => report.as_ref().and_then(|report| report.touched.clone()),
        };
        let state = match (&alive, record.phase) {
            (Ok(false), _) => State::Dead,
            (_, Phase::Waiting) => State::Launching,
            (_, Phase::Serving) => State::Running,
            (_, Phase::Draining) => State::Draining,
        };
        let health = match (alive, balancer) {
            (Ok(false), _) => Health::Unhealthy,
            (Err(_), _) | (_, None) => Health::Unknown,
            (Ok(true), Some(server)) if server.healthy => Health::Healthy,
            (Ok(true), Some(_)) => Health::Unhealthy,
        };
        Instance {
            id: record.id.clone(),
            generation: Some(record.generation.clone()),
            image: Some(record.image),
            state,
            health,
            in_service: state != State::Dead && balancer.is_some_and(|server| server.in_service),
            launched_at: record.launched_at,
            touched,
            connections: balancer.map_or(0, |server| server.connections),
            address: Some(([127, 0, 0, 1], record.health_port).into()),
            zone: record.zone.clone(),
            known_as: None,
            membership: None,
        }
    }

    fn admit(&self, id: &InstanceId) -> Result<Outcome> {
        let Some(mut record) = InstanceRecord::read(&self.dir(id))? else {
            return Ok(Outcome::refused(format!("{id} has no record")));
        };
        match self.balancer.servers()?.get(&id.0) {
            Some(server) if server.healthy && self.machines.alive(&record.spec.dir)? => {
                let done = server.in_service && record.phase == Phase::Serving;
                record.phase = Phase::Serving;
                record.write()?;
                self.balancer.ready(&id.0)?;
                Ok(if done { Outcome::AlreadyDone } else { Outcome::Applied })
            }
            _ => Ok(Outcome::refused(format!("{id} is not healthy"))),
        }
    }

    /// Returns who serves now, as far as the load balancer and the machines say.
    fn serving(&self) -> Result<Vec<InstanceId>> {
        let servers = self.balancer.servers()?;
        let is_one = |record: &InstanceRecord| {
            let up = servers.get(&record.id.0).is_some_and(|server| server.in_service && server.healthy);
            up && self.machines.alive(&record.spec.dir).unwrap_or(false)
        };
        Ok(self.records()?.into_iter().filter(is_one).map(|record| record.id).collect())
    }

    fn drain(&self, id: &InstanceId, others: usize) -> Result<Outcome> {
        let Some(mut record) = InstanceRecord::read(&self.dir(id))? else {
            return Ok(Outcome::refused(format!("{id} has no record")));
        };
        let serving = self.serving()?.iter().filter(|other| *other != id).count();
        if serving < others {
            return Ok(Outcome::refused(format!("{serving} others serve; {others} must")));
        }
        record.phase = Phase::Draining;
        record.write()?;
        self.balancer.drain(&id.0)?;
        Ok(Outcome::Applied)
    }

    fn terminate(&self, id: &InstanceId, healthy: bool) -> Result<Outcome> {
        let dir = self.dir(id);
        let names = self.names()?;
        let Some(record) = InstanceRecord::read(&dir)? else {
            names.end(id)?;
            return Ok(Outcome::AlreadyDone);
        };
        drop(names);
        let alive = self.machines.alive(&dir)?;
        if self.balancer.running().is_some() {
            let serves = self.balancer.servers()?.get(&id.0).is_some_and(|s| s.in_service && s.healthy);
            if alive && serves {
                let why = if healthy { "was not drained" } else { "is healthy again" };
                return Ok(Outcome::refused(format!("{id} serves: it {why}")));
            }
            self.balancer.remove(&id.0)?;
        }
        // From here on no process that is late starts it again.
        self.names()?.end(id)?;
        self.machines.stop(&dir)?;
        if self.kept(&record)? {
            return Ok(Outcome::Applied);
        }
        if !healthy {
            // Kept until `down`: whoever asks why it was ended can still look.
            let kept = self.store.local(&self.name).join("failed");
            fs::create_dir_all(&kept).doing(|| format!("creating {}", kept.display()))?;
            // A machine that never started has no console.
            let _ = fs::copy(dir.join("console.log"), kept.join(format!("{id}.console.log")));
        }
        // The record goes first: a directory without one is nobody's, and `reap` removes it.
        fs::remove_file(record.spec.dir.join("instance.json"))
            .doing(|| format!("removing the record of {id}"))?;
        fs::remove_dir_all(&dir).doing(|| format!("removing {}", dir.display()))?;
        Ok(Outcome::Applied)
    }
}

impl<M: Machines> Provider for Local<M> {
    async fn prepare(&self) -> Result<()> {
        self.balancer.ensure(&self.fleet, &self.records()?)
    }

    async fn census(&self) -> Result<Census, ProviderError> {
        let records = self.records()?;
        // A fleet without instances needs no load balancer.
        let (servers, trouble) = match self.balancer.servers() {
            Ok(servers) => (servers, None),
            Err(_) if records.is_empty() => Default::default(),
            Err(_) if self.balancer.running().is_none() => {
                (BTreeMap::new(), Some("the load balancer does not run; the next roll starts it".to_owned()))
            }
            Err(error) => (BTreeMap::new(), Some(error.chain())),
        };
        let instances = records.iter().map(|record| self.look(record, servers.get(&record.id.0))).collect();
        Ok(Census { at: Timestamp::now(), instances, trouble, group: None, cluster: None })
    }

    async fn apply(&self, action: &Action) -> Result<Outcome, ProviderError> {
        Ok(match action {
            Action::Launch { id, generation, zone, founds } => {
                self.launch(id, generation, zone.as_ref(), *founds)
            }
            Action::Admit { id } => self.admit(id),
            Action::Drain { id, others } => self.drain(id, *others),
            Action::Terminate { id, healthy, .. } => self.terminate(id, *healthy),
            Action::HandOver { .. } | Action::Deregister { .. } => Ok(super::stateless()),
        }?)
    }

    async fn kill(&self, id: &InstanceId, others: usize) -> Result<Outcome, ProviderError> {
        let serving = self.serving()?;
        if !serving.contains(id) {
            return Ok(Outcome::refused(format!("{id} does not serve")));
        }
        let left = serving.len() - 1;
        if left < others {
            return Ok(Outcome::refused(format!("{left} others serve; {others} must")));
        }
        self.machines.kill(&self.dir(id))?;
        Ok(Outcome::Applied)
    }

    async fn console_tail(&self, id: &InstanceId) -> Vec<String> {
        report::console_tail(&self.dir(id), TAIL)
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn wait(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

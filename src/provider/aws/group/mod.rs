//! A fleet that is an EC2 Auto Scaling group: adopted as it is, or made as the fleet's file says, and rolled by adding one
//! instance and taking one away.
//!
//! The group stays its owner's: its size is never set, only changed by what rekiln itself launches (`LaunchInstances`) and
//! ends (`TerminateInstanceInAutoScalingGroup` with decrement). What has to be changed of the group for the time of a roll
//! is a lease ([`Lease`]).

mod act;
mod amis;
mod census;
mod kill;
mod launch;
mod lease;
mod look;
mod make;
mod open;
mod parts;
mod records;
mod release;
mod seen;
mod support;
mod template;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

pub use lease::{Lease, of_fleet as leases_of};
pub use look::{Cloud, Clouds, NAME_TAG};
pub use release::give_back;

use super::CallError;
use super::error::Kind;
use crate::error::{Error, Result};
use crate::fleet::census::{Census, Health, InstanceId};
use crate::fleet::generation::{Generation, Target};
use crate::fleet::specification::Design;
use crate::fleet::{HealthHttp, Share};
use crate::provider::{Action, Outcome, Provider, ProviderError};
use crate::vm::report;
use amis::Amis;
use lease::Leases;
use parts::AMI;
use records::Records;
use seen::{Machine, Member, Seen};
use template::Version;

/// How many lines of a console are shown: a screen.
const TAIL: usize = 20;
/// How many of a group's last activities are shown of an instance that failed.
const ACTIVITIES: usize = 5;
/// How old a look may be that an act is checked against. Acts of one batch follow each other within tenths of a second, and
/// what rekiln itself did since is known.
const FRESH: Duration = Duration::from_secs(5);

/// A fleet that is an Auto Scaling group.
pub struct AutoScalingGroup {
    cloud: Cloud,
    group: String,
    health: Option<HealthHttp>,
    consecutive: u32,
    poll: Duration,
    surge: Share,
    records: Records,
    leases: Leases,
    amis: Amis,
    /// What the group launched when this began, or when it was made; where the fleet's file does not say what is launched, a
    /// new generation differs from it in its AMI.
    base: OnceLock<Version>,
    /// What the fleet's file says of the group, if it does.
    design: Option<Design>,
    /// In what the group was other than that when this began.
    notes: Vec<String>,
    memory: Mutex<Memory>,
}

/// What this process knows beside AWS's lists, which may be older.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is something that was done or not, whatever else was"
)]
struct Memory {
    /// Names of instances that were named by this process, by EC2's id.
    names: BTreeMap<String, InstanceId>,
    /// Instances that were taken out of service, by EC2's id, with when.
    drained: BTreeMap<String, Instant>,
    /// Versions of launch templates by template and number; `None` for those that were deleted.
    versions: BTreeMap<(String, i64), Option<Version>>,
    /// Versions that were made or found for generations.
    made: BTreeMap<crate::digest::Digest, Version>,
    /// What the fleet's own check found: how often in a row it was good or bad, and what follows.
    answers: BTreeMap<String, (bool, u32, Health)>,
    /// When this process launched instances.
    launches: Vec<Instant>,
    /// The bounds of the group that this process set, and when.
    bounds: Option<(Instant, (i32, i32))>,
    /// The version that this process pinned, and when.
    pinned: Option<(Instant, i64)>,
    /// Whether the group says that this process rolls it.
    announced: bool,
    /// Whether this process keeps AWS from putting zones in balance.
    balance_kept: bool,
    /// When something was last changed.
    changed: Option<Instant>,
    /// Whether the group was asked for instance refreshes.
    asked_for_refreshes: bool,
    /// Whether this process made the group.
    made_group: bool,
}

impl AutoScalingGroup {
    /// Returns how many calls were made of AWS so far, by this process in this account and region.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.cloud.aws.calls()
    }

    /// Where the group is, for people.
    #[must_use]
    pub fn place(&self) -> String {
        format!("Auto Scaling group {} in {}", self.group, self.cloud.aws.region)
    }

    /// Says in what the group is other than the fleet's file says and no roll changes, one line each.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What the group launched when this began, or when it was made.
    fn base(&self) -> Result<&Version> {
        self.base.get().ok_or_else(|| self.cloud.aws.no_group(&self.group))
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that something was changed: looks that were begun before are too old.
    fn changed(&self) {
        self.memory().changed = Some(Instant::now());
    }

    /// Returns a look at the group that shows everything that this process did.
    async fn look(&self) -> Result<Arc<Seen>> {
        let since = self.memory().changed;
        let seen = self.cloud.look(&self.group, since).await?;
        seen.ok_or_else(|| self.cloud.aws.no_group(&self.group))
    }

    /// Returns a look that an act may be checked against.
    async fn glance(&self) -> Result<Arc<Seen>> {
        let seen = self.cloud.look_within(&self.group, None, FRESH).await?;
        seen.ok_or_else(|| self.cloud.aws.no_group(&self.group))
    }

    /// Finds out about versions that were not seen before: what the group launches, and what its members were launched from.
    async fn know_versions(&self, seen: &Seen) -> Result<()> {
        let known: BTreeSet<_> = self.memory().versions.keys().cloned().collect();
        let mut new: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
        for (template, number) in seen.group.members.iter().filter_map(|member| member.version.clone()) {
            if !known.contains(&(template.clone(), number)) {
                new.entry(template).or_default().insert(number);
            }
        }
        for (template, numbers) in new {
            let numbers: Vec<i64> = numbers.into_iter().collect();
            let mut found = self.cloud.aws.numbered_versions(&template, &numbers).await?;
            let mut memory = self.memory();
            for number in numbers {
                memory.versions.insert((template.clone(), number), found.remove(&number));
            }
        }
        Ok(())
    }

    /// What an instance was launched with, as it is now.
    fn generation(&self, member: &Member, machine: &Machine) -> Option<Generation> {
        let memory = self.memory();
        let version = memory.versions.get(member.version.as_ref()?)?.as_ref()?;
        let mut parts = if machine.ami.is_empty() {
            version.blueprint.parts.clone()
        } else {
            version.blueprint.of_instance(&machine.ami, &machine.live)
        };
        let image = parts.get(AMI).and_then(|ami| self.amis.images.get(ami));
        if let Some(image) = image.map(ToString::to_string) {
            parts.insert("image".to_owned(), image);
        }
        Some(Generation::from_parts(parts))
    }

    /// What the group launches by itself.
    async fn launches(&self, seen: &Seen) -> Result<Option<Generation>> {
        let Some((template, version)) = &seen.group.template else { return Ok(None) };
        let version = match (template, version.parse::<i64>()) {
            (super::Template::Id(id), Ok(number)) => {
                let key = (id.clone(), number);
                let known = self.memory().versions.get(&key).cloned();
                if let Some(known) = known {
                    known
                } else {
                    let found = self.cloud.aws.numbered_versions(id, &[number]).await?.remove(&number);
                    self.memory().versions.insert(key, found.clone());
                    found
                }
            }
            _ => Some(self.cloud.aws.named_version(template, version).await?),
        };
        let generation = version.map(|version| {
            let mut parts = version.blueprint.parts;
            if let Some(image) =
                parts.get(AMI).and_then(|ami| self.amis.images.get(ami)).map(ToString::to_string)
            {
                parts.insert("image".to_owned(), image);
            }
            Generation::from_parts(parts)
        });
        Ok(generation)
    }

    /// Asks every instance that is in service for its health, where the fleet's file has a check of its own.
    async fn answers(&self, seen: &Seen) -> Option<BTreeMap<String, Health>> {
        let http = self.health.as_ref()?;
        let serving = seen.group.members.iter().filter(|member| member.lifecycle == "InService");
        let mut asked = tokio::task::JoinSet::new();
        for member in serving {
            let Some(address) = seen.machines.get(&member.id).and_then(|machine| machine.address) else {
                continue;
            };
            let (id, address, path) =
                (member.id.clone(), SocketAddr::new(address, http.port), http.path.clone());
            asked.spawn_blocking(move || (id, is_good(address, &path)));
        }
        let mut memory = self.memory_of_answers();
        while let Some(answer) = asked.join_next().await {
            let Ok((id, good)) = answer else { continue };
            let before = memory.get(&id).copied();
            memory.insert(id, judged(before, good, self.consecutive));
        }
        let answers = memory.iter().map(|(id, (.., health))| (id.clone(), *health)).collect();
        self.memory().answers = memory;
        Some(answers)
    }

    fn memory_of_answers(&self) -> BTreeMap<String, (bool, u32, Health)> {
        self.memory().answers.clone()
    }

    async fn take_census(&self) -> Result<Census> {
        if let Some(nothing) = self.nothing_yet() {
            return Ok(nothing);
        }
        let seen = self.look().await?;
        if let Some(refusal) = support::refusal(&self.group, &seen.group) {
            return Err(refusal);
        }
        self.know_versions(&seen).await?;
        let launches = self.launches(&seen).await?;
        let answers = self.answers(&seen).await;
        let (names, drained) = {
            let memory = self.memory();
            (memory.names.clone(), memory.drained.keys().cloned().collect::<BTreeSet<_>>())
        };
        let ended = self.records.ended().await?;
        Ok(census::census(
            &seen,
            &census::Known {
                names: &names,
                ended: &|id| ended.contains(&id.0),
                // A load balancer says itself what it drains.
                drained: if seen.group.target_groups.is_empty() {
                    &drained
                } else {
                    const { &BTreeSet::new() }
                },
                generation: &|member, machine| self.generation(member, machine),
                launches: launches.as_ref(),
                images: &self.amis.images,
                answers: answers.as_ref(),
                port: self.health.as_ref().map_or(0, |http| http.port),
            },
        ))
    }

    async fn end_of_console(&self, id: &InstanceId) -> Result<Vec<String>> {
        let seen = self.glance().await?;
        let names = self.memory().names.clone();
        let is = |machine: &str| census::name(machine, seen.machines.get(machine), &names) == *id;
        let Some(machine) = seen.machines.keys().find(|machine| is(machine)).cloned() else {
            return Ok(Vec::new());
        };
        let mut lines = self.activities_of(&machine).await.unwrap_or_else(|error| vec![error.chain()]);
        let console = self.cloud.aws.console(&machine).await;
        match console {
            Ok(text) => lines.extend(report::last_lines(&text, TAIL)),
            Err(error) => lines.push(format!("its console cannot be read: {}", error.words)),
        }
        Ok(lines)
    }

    /// Returns what the group says that it did with an instance, newest first.
    async fn activities_of(&self, machine: &str) -> Result<Vec<String>> {
        let aws = &self.cloud.aws;
        let all = super::insist(&aws.region, || aws.activities(&self.group)).await?;
        let about = all.into_iter().filter(|activity| activity.text.contains(machine)).take(ACTIVITIES);
        Ok(about.map(|activity| format!("{}: {} {}", activity.text, activity.cause, activity.said)).collect())
    }
}

/// Tells whether an instance answers its health check with a 2xx or 3xx status.
fn is_good(address: SocketAddr, path: &str) -> bool {
    // An instance that takes longer serves nobody.
    const WITHIN: Duration = Duration::from_secs(2);
    crate::vm::http::get(address, path, WITHIN).is_ok_and(|answer| (200..400).contains(&answer.status))
}

/// What follows from an answer: as many in a row as the fleet's file says decide. The first one that this process ever hears
/// decides alone: what served before it began need not prove itself anew.
fn judged(before: Option<(bool, u32, Health)>, good: bool, consecutive: u32) -> (bool, u32, Health) {
    let says = if good { Health::Healthy } else { Health::Unhealthy };
    match before {
        None => (good, 1, says),
        Some((same, times, health)) if same == good => {
            let times = times.saturating_add(1);
            (good, times, if times >= consecutive { says } else { health })
        }
        Some((.., health)) => (good, 1, if consecutive <= 1 { says } else { health }),
    }
}

impl Provider for AutoScalingGroup {
    async fn make(&self, target: &Target) -> Result<()> {
        self.make_group(target).await
    }

    async fn prepare(&self) -> Result<()> {
        self.leases.renew(Timestamp::now()).await?;
        if std::mem::replace(&mut self.memory().asked_for_refreshes, true) {
            return Ok(());
        }
        self.records.forget_ended(Timestamp::now()).await?;
        let aws = &self.cloud.aws;
        match super::insist(&aws.region, || aws.refresh_under_way(&self.group)).await? {
            None => Ok(()),
            Some(refresh) => Err(Error::invalid(format!(
                "Auto Scaling group {} cannot be rolled: instance refresh {refresh} replaces its instances",
                self.group
            ))
            .hint("wait for it, or end it with `aws autoscaling cancel-instance-refresh`")),
        }
    }

    async fn census(&self) -> Result<Census, ProviderError> {
        Ok(self.take_census().await?)
    }

    async fn apply(&self, action: &Action) -> Result<Outcome, ProviderError> {
        let outcome = match action {
            Action::Launch { id, generation, zone, .. } => self.launch(id, generation, zone.as_deref()).await,
            Action::Admit { id } => self.admit(id).await,
            Action::Drain { id, others } => self.drain(id, *others).await,
            Action::Terminate { id, healthy, .. } => self.terminate(id, *healthy).await,
            Action::HandOver { .. } | Action::Deregister { .. } => Ok(crate::provider::stateless()),
        };
        self.changed();
        outcome
    }

    async fn kill(&self, id: &InstanceId, others: usize) -> Result<Outcome, ProviderError> {
        let outcome = self.kill_member(id, others).await;
        self.changed();
        outcome
    }

    async fn console_tail(&self, id: &InstanceId) -> Vec<String> {
        self.end_of_console(id).await.unwrap_or_else(|error| vec![error.chain()])
    }

    async fn release(&self, arrived: Option<&Generation>) -> Result<()> {
        self.give_leases_back(arrived).await
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn wait(&self, time: Duration) {
        // What others do takes minutes, and each look costs calls that all of the account share.
        tokio::time::sleep(time.max(self.poll)).await;
    }
}

impl CallError {
    /// Says what it means for an act of a roll.
    fn of_act(self, region: &str) -> ProviderError {
        match self.kind {
            Kind::Throttled => ProviderError::Throttled(self.words),
            Kind::Unclear => ProviderError::Unclear(format!("AWS {} in {region}: {}", self.call, self.words)),
            _ => ProviderError::Failed(self.in_place(region)),
        }
    }
}

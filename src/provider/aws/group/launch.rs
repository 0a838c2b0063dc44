//! Do: launch one instance into the group, of a version that is pinned, in a zone.

use aws_sdk_autoscaling::types::RetryStrategy;
use aws_sdk_ec2::types::Tag;
use jiff::Timestamp;

use super::lease::{BALANCE, What};
use super::look::{NAME_TAG, ROLL_TAG};
use super::records::Launching;
use super::seen::Seen;
use super::template::Version;
use super::{AutoScalingGroup, census};
use crate::digest::Digest;
use crate::error::Result;
use crate::fleet::census::InstanceId;
use crate::fleet::generation::Generation;
use crate::fleet::journal::Writer;
use crate::provider::aws::error::Kind;
use crate::provider::aws::reach::Template;
use crate::provider::aws::{Aws, CallError, insist};
use crate::provider::{Outcome, ProviderError};

/// What came of asking for an instance.
enum Launched {
    /// EC2 has accepted it: its id.
    Accepted(String),
    /// There is no room for it, in AWS's words.
    NoCapacity(String),
    /// It was refused for another reason, in AWS's words.
    Failed(String),
}

impl AutoScalingGroup {
    pub(super) async fn launch(
        &self,
        id: &InstanceId,
        generation: &Generation,
        zone: Option<&str>,
    ) -> Result<Outcome, ProviderError> {
        if self.records.is_ended(id).await? {
            return Ok(Outcome::refused(format!("the name {id} was given up")));
        }
        let seen = self.glance().await?;
        let names = self.memory().names.clone();
        let mut living = seen.machines.iter().filter(|(_, machine)| !machine.is_ended());
        let found = living.find(|(machine, known)| census::name(machine, Some(known), &names) == *id);
        if let Some((machine, known)) = found {
            if known.name.is_none() {
                self.give_name(machine, id).await?;
            }
            self.records.remove::<Launching>(id).await?;
            return Ok(Outcome::AlreadyDone);
        }
        let version = self.version_of(generation).await?;
        self.announce(&seen).await?;
        self.make_room(&seen).await?;
        self.keep_balance(&seen).await?;
        self.pin(&seen, &version).await?;
        let launching = self.begin(id, &version, zone).await?;
        // Whoever gave the name up since has looked for the record after that, and did not find it.
        if self.records.is_ended(id).await? {
            self.records.remove::<Launching>(id).await?;
            return Ok(Outcome::refused(format!("the name {id} was given up")));
        }
        self.memory().launches.push(std::time::Instant::now());
        let aws = &self.cloud.aws;
        let launched = aws.launch_into(&self.group, &launching).await;
        match launched {
            Ok(Launched::Accepted(machine)) => {
                self.memory().names.insert(machine.clone(), id.clone());
                self.give_name(&machine, id).await?;
                self.records.remove::<Launching>(id).await?;
                Ok(Outcome::Applied)
            }
            Ok(Launched::NoCapacity(words)) => {
                self.give_up(id).await?;
                Ok(Outcome::NoCapacity { words })
            }
            Ok(Launched::Failed(words)) => {
                self.give_up(id).await?;
                let error = CallError { call: "LaunchInstances", kind: Kind::Refused, words };
                Err(error.of_act(&aws.region))
            }
            // The group is busy otherwise: the next look decides anew.
            Err(error) if error.kind == Kind::Used => {
                self.give_up(id).await?;
                Ok(Outcome::refused(format!("AWS does not launch it: {}", error.words)))
            }
            Err(error) if matches!(error.kind, Kind::Refused | Kind::Denied | Kind::Quota) => {
                self.give_up(id).await?;
                Err(error.of_act(&aws.region))
            }
            Err(error) => Err(error.of_act(&aws.region)),
        }
    }

    /// Gives an instance its name: without it, it is a stranger's in the eyes of whoever comes after a crash. One that
    /// cannot be named is ended again, before it ever serves.
    async fn give_name(&self, machine: &str, id: &InstanceId) -> Result<(), ProviderError> {
        let aws = &self.cloud.aws;
        let Err(error) = insist(&aws.region, || aws.tag_name(machine, id)).await else { return Ok(()) };
        self.records.end(id).await?;
        // Whatever keeps it from its end, it was launched.
        let ended = aws.end_member(machine).await;
        ended.map_err(|error| ProviderError::Unclear(error.in_place(&aws.region).chain()))?;
        self.records.remove::<Launching>(id).await?;
        Err(error.during(format!("naming {machine}, which was just launched and is ended again")).into())
    }

    /// Nothing was launched under a name, and nothing will be.
    async fn give_up(&self, id: &InstanceId) -> Result<()> {
        self.records.end(id).await?;
        self.records.remove::<Launching>(id).await
    }

    /// Writes that a launch begins; one that was begun before goes on with its token.
    async fn begin(&self, id: &InstanceId, version: &Version, zone: Option<&str>) -> Result<Launching> {
        if let Some(begun) = self.records.read::<Launching>(id).await? {
            return Ok(begun);
        }
        let at = Timestamp::now();
        let seed = format!("{} {id} {at} {}", self.group, std::process::id());
        let launching = Launching {
            token: Digest::of(seed.as_bytes()).to_string(),
            template: version.template.clone(),
            version: version.number,
            zone: zone.map(str::to_owned),
            at,
        };
        self.records.write(id, &launching).await?;
        Ok(launching)
    }

    /// Returns the version that launches a generation.
    pub(super) async fn version_of(&self, generation: &Generation) -> Result<Version> {
        let known = self.memory().made.get(&generation.id).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let base = self.base()?;
        let version = match &self.design {
            Some(design) if !base.launches(generation) => {
                Box::pin(self.designed_version(&base.template, design, generation)).await?
            }
            _ => self.cloud.aws.version_of(base, generation).await?,
        };
        self.memory().made.insert(generation.id, version.clone());
        Ok(version)
    }

    /// The group's size with what this process launched since a look.
    fn desired(&self, seen: &Seen) -> i32 {
        let since = self.memory().launches.iter().filter(|at| **at > seen.began).count();
        seen.group.desired.saturating_add(i32::try_from(since).unwrap_or(i32::MAX))
    }

    /// Has the group's bounds leave room for one more: raised for all that the surge allows at once, under a lease.
    async fn make_room(&self, seen: &Seen) -> Result<(), ProviderError> {
        let desired = self.desired(seen);
        let (min, max) = self.bounds(seen);
        if desired < max {
            return Ok(());
        }
        self.set_bounds(seen, (min, desired.saturating_add(self.surge(seen)))).await
    }

    /// Has the group's bounds let one be taken away.
    pub(super) async fn make_room_below(&self, seen: &Seen) -> Result<(), ProviderError> {
        let (min, max) = self.bounds(seen);
        // Ends of this batch are not in the look, and each needs room of its own.
        let desired = seen.group.desired.saturating_sub(self.surge(seen));
        if desired > min {
            return Ok(());
        }
        self.set_bounds(seen, ((desired - 1).max(0), max)).await
    }

    /// The bounds as this process knows them.
    fn bounds(&self, seen: &Seen) -> (i32, i32) {
        let set = self.memory().bounds;
        match set {
            Some((at, bounds)) if at > seen.began => bounds,
            _ => (seen.group.min, seen.group.max),
        }
    }

    async fn set_bounds(&self, seen: &Seen, set: (i32, i32)) -> Result<(), ProviderError> {
        let before = self.bounds(seen);
        if before == set {
            return Ok(());
        }
        self.leases.take(What::Bounds { before, set }, Timestamp::now()).await?;
        let aws = &self.cloud.aws;
        aws.bound(&self.group, set.0, set.1).await.map_err(|error| error.of_act(&aws.region))?;
        self.memory().bounds = Some((std::time::Instant::now(), set));
        Ok(())
    }

    /// How many may be added at once.
    fn surge(&self, seen: &Seen) -> i32 {
        let size = u32::try_from(seen.group.desired).unwrap_or(0).max(1);
        let surge = crate::fleet::policy::share("roll.surge", &self.surge, size as usize, true).unwrap_or(1);
        i32::try_from(surge).unwrap_or(i32::MAX).max(1)
    }

    /// Says on the group itself that it is rolled and by whom, to people and to tools that would change it at the same time.
    pub(super) async fn announce(&self, seen: &Seen) -> Result<(), ProviderError> {
        if self.memory().announced {
            return Ok(());
        }
        let Writer { host, pid, .. } = Writer::this("");
        let by = format!("by process {pid} on {host} since ");
        if seen.group.tags.get(ROLL_TAG).is_none_or(|value| !value.starts_with(&by)) {
            let value = format!("{by}{:.0}", Timestamp::now());
            self.leases.take(What::Tag { value: value.clone() }, Timestamp::now()).await?;
            let aws = &self.cloud.aws;
            aws.tag_group(&self.group, &value).await.map_err(|error| error.of_act(&aws.region))?;
        }
        self.memory().announced = true;
        Ok(())
    }

    /// Keeps AWS from launching and ending instances to put zones in balance, which ending one would make it do.
    async fn keep_balance(&self, seen: &Seen) -> Result<(), ProviderError> {
        let suspended = seen.group.suspended.contains(BALANCE) || self.memory().balance_kept;
        if suspended || seen.group.zones.len() < 2 {
            return Ok(());
        }
        self.leases.take(What::Suspended { process: BALANCE.to_owned() }, Timestamp::now()).await?;
        let aws = &self.cloud.aws;
        aws.suspend(&self.group, BALANCE, true).await.map_err(|error| error.of_act(&aws.region))?;
        self.memory().balance_kept = true;
        Ok(())
    }

    /// Has the group launch a version: what it launches by itself from now on is the same.
    async fn pin(&self, seen: &Seen, version: &Version) -> Result<(), ProviderError> {
        let wanted = (Template::Id(version.template.clone()), version.number.to_string());
        let pinned = self.memory().pinned;
        let is = match pinned {
            Some((at, number)) if at > seen.began => number == version.number,
            _ => seen.group.template.as_ref() == Some(&wanted),
        };
        if is {
            return Ok(());
        }
        let held = What::Version {
            template: version.template.clone(),
            before: self.base()?.number,
            set: version.number,
        };
        self.leases.take(held, Timestamp::now()).await?;
        let aws = &self.cloud.aws;
        aws.pin(&self.group, &version.template, version.number)
            .await
            .map_err(|error| error.of_act(&aws.region))?;
        self.memory().pinned = Some((std::time::Instant::now(), version.number));
        Ok(())
    }
}

impl Aws {
    async fn launch_into(&self, group: &str, launching: &Launching) -> Result<Launched, CallError> {
        let call = self
            .autoscaling
            .launch_instances()
            .auto_scaling_group_name(group)
            .requested_capacity(1)
            // What fails is decided here, with the zones that have room in view, and not tried again behind our back.
            .retry_strategy(RetryStrategy::None)
            .client_token(&launching.token)
            .set_availability_zones(launching.zone.clone().map(|zone| vec![zone]));
        let done = call.send().await.map_err(|error| CallError::of("LaunchInstances", &error))?;
        if let Some(machine) = done
            .instances()
            .iter()
            .flat_map(aws_sdk_autoscaling::types::InstanceCollection::instance_ids)
            .next()
        {
            return Ok(Launched::Accepted(machine.clone()));
        }
        let Some(error) = done.errors().first() else {
            return Err(CallError::empty("LaunchInstances", "instance, nor an error"));
        };
        let code = error.error_code().unwrap_or_default();
        let words = format!("{code}: {}", error.error_message().unwrap_or_default());
        // EC2 API reference, "Server error codes" and "Client error codes": capacity is the zone's or the account's.
        let no_room =
            code.contains("Capacity") || code.contains("InstanceLimitExceeded") || code == "Unsupported";
        Ok(if no_room { Launched::NoCapacity(words) } else { Launched::Failed(words) })
    }

    /// Gives an instance its name.
    pub(super) async fn tag_name(&self, machine: &str, id: &InstanceId) -> Result<(), CallError> {
        let tag = Tag::builder().key(NAME_TAG).value(&id.0).build();
        let done = self.ec2.create_tags().resources(machine).tags(tag).send().await;
        done.map(drop).map_err(|error| CallError::of("CreateTags", &error))
    }
}

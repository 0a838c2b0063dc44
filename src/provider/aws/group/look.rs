//! Do: look at Auto Scaling groups and their instances. One look serves all groups of an account and region.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_autoscaling::types::{AutoScalingGroup, TrafficSourceIdentifier};
use aws_sdk_ec2::types::{Filter, Instance, Reservation};
use jiff::Timestamp;
use tokio::sync::Mutex;

use super::parts::Live;
use super::seen::{Features, Group, Machine, Member, Seen, Target};
use crate::error::Result;
use crate::provider::aws::launcher::{Launcher, launcher};
use crate::provider::aws::reach::FILTER;
use crate::provider::aws::{Aws, CallError, insist};

/// The tag that says what an instance is called.
pub const NAME_TAG: &str = "rekiln:name";
/// The tag of a group that says that it is rolled, and by whom.
pub const ROLL_TAG: &str = "rekiln:roll";
/// The tag by which EC2's instances tell their group (EC2 Auto Scaling user guide, "Tag Auto Scaling groups and instances").
const GROUP_TAG: &str = "aws:autoscaling:groupName";

/// How many instances are listed at once: the most that `DescribeInstances` gives.
const PAGE: i32 = 1000;

/// How many groups are asked for by name at once: the most that `DescribeAutoScalingGroups` gives.
const GROUPS: usize = 100;

/// How old a look may be that another fleet of the account and region had, in place of an own one.
const SHARED: Duration = Duration::from_secs(1);

/// An account in a region, and the last look at the groups there that are fleets.
#[derive(Debug, Clone)]
pub struct Cloud {
    /// The account and region.
    pub aws: Aws,
    groups: Arc<std::sync::Mutex<BTreeSet<String>>>,
    last: Arc<Mutex<Option<Arc<Look>>>>,
}

/// The accounts and regions that were reached, each once: what is known of one serves all of its fleets.
#[derive(Debug, Clone, Default)]
pub struct Clouds(Arc<std::sync::Mutex<BTreeMap<Reached, Cloud>>>);

/// A region, and the role that was assumed there.
type Reached = (String, Option<String>);

impl Clouds {
    /// Returns a region as a role sees it, reached for the first time when it was not before.
    ///
    /// # Errors
    /// As [`Aws::connect`].
    pub async fn of(&self, region: &str, role: Option<&str>) -> Result<Cloud> {
        let key = (region.to_owned(), role.map(str::to_owned));
        let known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let cloud = Cloud::new(Aws::connect(region, role).await?);
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(key, cloud.clone());
        Ok(cloud)
    }
}

/// One look at all groups that were asked for.
#[derive(Debug)]
struct Look {
    began: Instant,
    found: BTreeMap<String, Arc<Seen>>,
    asked: BTreeSet<String>,
}

impl Cloud {
    /// Nothing was looked at yet.
    #[must_use]
    pub fn new(aws: Aws) -> Self {
        Self { aws, groups: Arc::default(), last: Arc::default() }
    }

    /// Has a group among those that are looked at.
    pub fn add(&self, group: &str) {
        let mut groups = self.groups.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        groups.insert(group.to_owned());
    }

    /// Returns a look at a group that was begun after `since` and is not too old; `None` when there is no such group.
    ///
    /// # Errors
    /// It cannot be looked at, for too long.
    pub async fn look(&self, group: &str, since: Option<Instant>) -> Result<Option<Arc<Seen>>> {
        self.look_within(group, since, SHARED).await
    }

    /// As [`Cloud::look`], with a look that may be so old.
    ///
    /// # Errors
    /// As [`Cloud::look`].
    pub async fn look_within(
        &self,
        group: &str,
        since: Option<Instant>,
        age: Duration,
    ) -> Result<Option<Arc<Seen>>> {
        // Whoever comes meanwhile waits, and has the same.
        let mut last = self.last.lock().await;
        let serves = |look: &&Arc<Look>| {
            look.began.elapsed() < age
                && since.is_none_or(|since| look.began > since)
                && look.asked.contains(group)
        };
        let look = if let Some(look) = last.as_ref().filter(serves) {
            Arc::clone(look)
        } else {
            let look = Arc::new(self.look_at_all().await?);
            *last = Some(Arc::clone(&look));
            look
        };
        Ok(look.found.get(group).cloned())
    }

    async fn look_at_all(&self) -> Result<Look> {
        let asked = self.groups.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let names: Vec<String> = asked.iter().cloned().collect();
        let (began, at) = (Instant::now(), Timestamp::now());
        let region = &self.aws.region;
        let groups = insist(region, || self.aws.scaling_groups(&names)).await?;
        let targets: BTreeSet<&String> = groups.values().flat_map(|group| &group.target_groups).collect();
        let machines = insist(region, || self.aws.machines(&names));
        let health = async {
            let mut all = BTreeMap::new();
            for arn in targets {
                all.insert(arn.clone(), insist(region, || self.aws.target_health(arn)).await?);
            }
            Ok(all)
        };
        let (mut machines, health) = tokio::try_join!(machines, health)?;
        let found = groups.into_iter().map(|(name, group)| {
            let machines = machines.remove(&name).unwrap_or_default();
            let targets =
                group.target_groups.iter().filter_map(|arn| Some((arn.clone(), health.get(arn)?.clone())));
            let seen = Seen { began, at, machines, targets: targets.collect(), group };
            (name, Arc::new(seen))
        });
        Ok(Look { began, found: found.collect(), asked })
    }
}

impl Aws {
    /// Returns Auto Scaling groups by name, as far as they are there.
    async fn scaling_groups(&self, names: &[String]) -> Result<BTreeMap<String, Group>, CallError> {
        let mut found = BTreeMap::new();
        for names in names.chunks(GROUPS) {
            let call = self.autoscaling.describe_auto_scaling_groups().max_records(100);
            let call = call.set_auto_scaling_group_names(Some(names.to_vec()));
            let groups = call.into_paginator().items().send().try_collect().await;
            let groups = groups.map_err(|error| CallError::of("DescribeAutoScalingGroups", &error))?;
            found.extend(
                groups.iter().filter_map(|one| Some((one.auto_scaling_group_name()?.to_owned(), group(one)))),
            );
        }
        Ok(found)
    }

    /// Returns EC2's instances of groups, by the group's name and the instance's id.
    async fn machines(
        &self,
        groups: &[String],
    ) -> Result<BTreeMap<String, BTreeMap<String, Machine>>, CallError> {
        let mut found: BTreeMap<String, BTreeMap<String, Machine>> = BTreeMap::new();
        for groups in groups.chunks(FILTER) {
            let filter = Filter::builder().name(format!("tag:{GROUP_TAG}"));
            let filter = filter.set_values(Some(groups.to_vec())).build();
            let call = self.ec2.describe_instances().filters(filter).max_results(PAGE);
            let reservations = call.into_paginator().items().send().try_collect().await;
            let reservations = reservations.map_err(|error| CallError::of("DescribeInstances", &error))?;
            for instance in reservations.iter().flat_map(Reservation::instances) {
                let (Some(id), Some(group)) = (instance.instance_id(), tag(instance, GROUP_TAG)) else {
                    continue;
                };
                found.entry(group).or_default().insert(id.to_owned(), machine(instance));
            }
        }
        Ok(found)
    }

    /// Returns the state of each instance in a target group.
    async fn target_health(&self, arn: &str) -> Result<BTreeMap<String, Target>, CallError> {
        let found = self.balancing.describe_target_health().target_group_arn(arn).send().await;
        let found = found.map_err(|error| CallError::of("DescribeTargetHealth", &error))?;
        let target = |one: &aws_sdk_elasticloadbalancingv2::types::TargetHealthDescription| {
            let health = one.target_health()?;
            let text = |word: Option<&str>| word.unwrap_or_default().to_owned();
            let state = text(
                health.state().map(aws_sdk_elasticloadbalancingv2::types::TargetHealthStateEnum::as_str),
            );
            let reason = text(
                health.reason().map(aws_sdk_elasticloadbalancingv2::types::TargetHealthReasonEnum::as_str),
            );
            Some((one.target()?.id()?.to_owned(), Target { state, reason }))
        };
        Ok(found.target_health_descriptions().iter().filter_map(target).collect())
    }
}

fn tag(instance: &Instance, key: &str) -> Option<String> {
    let found = instance.tags().iter().find(|tag| tag.key() == Some(key))?;
    found.value().map(str::to_owned)
}

fn machine(instance: &Instance) -> Machine {
    let state = instance.state().and_then(|state| state.name());
    let reason = instance.state_reason().and_then(|reason| reason.code());
    let launched = instance.launch_time().and_then(|at| Timestamp::from_second(at.secs()).ok());
    Machine {
        name: tag(instance, NAME_TAG),
        ami: instance.image_id().unwrap_or_default().to_owned(),
        launched_at: launched.unwrap_or(Timestamp::UNIX_EPOCH),
        state: state.map(|state| state.as_str().to_owned()).unwrap_or_default(),
        // EC2 API reference, `StateReason`.
        taken_back: reason.is_some_and(|code| code.starts_with("Server.SpotInstance")),
        address: instance.private_ip_address().and_then(|text| text.parse().ok()),
        zone: instance.placement().and_then(|place| place.availability_zone()).unwrap_or_default().to_owned(),
        live: Live::of(instance),
    }
}

fn group(group: &AutoScalingGroup) -> Group {
    let words = |words: &[String]| words.to_vec();
    let template = group.launch_template().and_then(launcher).and_then(|launcher| match launcher {
        Launcher::Template(template, version) => Some((template, version)),
        _ => None,
    });
    let mut zones = words(group.availability_zones());
    zones.sort();
    let subnets = group.vpc_zone_identifier().unwrap_or_default().split(',').filter(|part| !part.is_empty());
    let tags = group.tags().iter();
    let suspended = group.suspended_processes().iter().filter_map(|one| one.process_name());
    // Target groups and classic load balancers are listed here once more.
    let other = |source: &&TrafficSourceIdentifier| !matches!(source.r#type(), Some("elb" | "elbv2") | None);
    let sources = group.traffic_sources().iter().filter(other).filter_map(|one| one.identifier());
    Group {
        arn: group.auto_scaling_group_arn().unwrap_or_default().to_owned(),
        desired: group.desired_capacity().unwrap_or(0),
        min: group.min_size().unwrap_or(0),
        max: group.max_size().unwrap_or(0),
        zones,
        target_groups: words(group.target_group_arns()),
        subnets: subnets.map(|subnet| subnet.trim().to_owned()).collect(),
        health_check: group.health_check_type().unwrap_or_default().to_owned(),
        grace: group.health_check_grace_period().unwrap_or(0),
        tags: tags.filter_map(|tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned()))).collect(),
        template,
        suspended: suspended.map(str::to_owned).collect(),
        members: group.instances().iter().filter_map(member).collect(),
        features: Features {
            launch_configuration: group.launch_configuration_name().map(str::to_owned),
            mixed_instances: group.mixed_instances_policy().is_some(),
            warm_pool: group.warm_pool_configuration().is_some(),
            classic_balancers: words(group.load_balancer_names()),
            other_sources: sources.map(str::to_owned).collect(),
            deleting: group.status().map(str::to_owned),
        },
    }
}

fn member(instance: &aws_sdk_autoscaling::types::Instance) -> Option<Member> {
    let template = instance.launch_template();
    let version =
        template.and_then(|one| Some((one.launch_template_id()?.to_owned(), one.version()?.parse().ok()?)));
    Some(Member {
        id: instance.instance_id()?.to_owned(),
        zone: instance.availability_zone().unwrap_or_default().to_owned(),
        lifecycle: instance.lifecycle_state().map(|state| state.as_str().to_owned()).unwrap_or_default(),
        // AWS's word; anything else is not healthy.
        healthy: instance.health_status().is_some_and(|word| word.eq_ignore_ascii_case("healthy")),
        version,
    })
}

//! What was seen of an Auto Scaling group, in plain values: AWS's own words where they are only compared.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use jiff::Timestamp;

use super::parts::Live;
use crate::provider::aws::reach::Template;

/// One look at a group.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When it was begun: whatever was done before is in it, as far as AWS's lists are not older themselves.
    pub began: Instant,
    /// When it was begun, for people and plans.
    pub at: Timestamp,
    /// The group.
    pub group: Group,
    /// EC2's instances that carry the group's tag, by id; ended ones stay for about an hour.
    pub machines: BTreeMap<String, Machine>,
    /// The state of each instance in each target group, by the target group's ARN and the instance's id.
    pub targets: BTreeMap<String, BTreeMap<String, Target>>,
}

/// The group itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// Its ARN, which no later group of the same name has.
    pub arn: String,
    /// How many instances it is to have.
    pub desired: i32,
    /// The least that it may be told to have.
    pub min: i32,
    /// The most that it may be told to have.
    pub max: i32,
    /// Its zones, in order.
    pub zones: Vec<String>,
    /// ARNs of its target groups.
    pub target_groups: Vec<String>,
    /// The subnets that it launches into.
    pub subnets: BTreeSet<String>,
    /// Whose health checks count: AWS's words.
    pub health_check: String,
    /// How long an instance that serves is not checked, in seconds.
    pub grace: i32,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// What it launches; `None` when that is no launch template of its own.
    pub template: Option<(Template, String)>,
    /// The processes that are suspended.
    pub suspended: BTreeSet<String>,
    /// Its instances, those that come and go included.
    pub members: Vec<Member>,
    /// What of it rekiln cannot roll with, as [`super::support`] has it.
    pub features: Features,
}

/// What a group may have that changes how it can be rolled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Features {
    /// Its launch configuration.
    pub launch_configuration: Option<String>,
    /// Whether it has a mixed instances policy.
    pub mixed_instances: bool,
    /// Whether it has a warm pool.
    pub warm_pool: bool,
    /// Classic load balancers.
    pub classic_balancers: Vec<String>,
    /// Traffic sources that are neither target groups nor classic load balancers.
    pub other_sources: Vec<String>,
    /// What it says while it is being deleted.
    pub deleting: Option<String>,
}

/// One instance as the group has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// EC2's id.
    pub id: String,
    /// Its zone.
    pub zone: String,
    /// Where it is in its life: AWS's word.
    pub lifecycle: String,
    /// Whether the group takes it for healthy.
    pub healthy: bool,
    /// The id of the launch template, and the version, that it was launched from.
    pub version: Option<(String, i64)>,
}

/// One instance as EC2 has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// The name that rekiln gave it.
    pub name: Option<String>,
    /// Its AMI.
    pub ami: String,
    /// When it was launched.
    pub launched_at: Timestamp,
    /// EC2's word for its state.
    pub state: String,
    /// Whether AWS took it back: spot capacity that someone else pays more for.
    pub taken_back: bool,
    /// Its private address.
    pub address: Option<IpAddr>,
    /// Its zone.
    pub zone: String,
    /// What can be changed of an instance that runs.
    pub live: Live,
}

impl Machine {
    /// Tells whether it has ended, or is about to.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.state.as_str(), "shutting-down" | "terminated" | "stopping" | "stopped")
    }
}

/// The state of one instance in one target group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// AWS's word: `initial`, `healthy`, `unhealthy`, `draining`, `unused`, `unavailable` …
    pub state: String,
    /// AWS's word for why.
    pub reason: String,
}

//! What a person wanted of a fleet, what was seen of it, and what to do next.

pub mod alert;
pub mod audit;
pub mod backup;
pub mod breaker;
pub mod census;
pub mod chaos;
pub mod cluster;
pub mod command;
pub mod copying;
pub mod experience;
pub mod gate;
pub mod generation;
pub mod glance;
pub mod guard;
pub mod history;
pub mod hook;
pub mod iam;
pub mod journal;
pub mod local;
pub mod moment;
pub mod notify;
pub mod outside;
pub mod plan;
pub mod playbook;
pub mod policy;
pub mod replay;
pub mod roll;
pub mod selection;
pub mod shard;
pub mod specification;
pub mod stateful;
pub mod statistics;
pub mod story;
pub mod surroundings;
pub mod timeline;
pub mod validate;
pub mod ways_out;
pub mod windows;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use alert::Alert;
pub use chaos::Chaos;
pub use local::{Local, Protocol};
pub use shard::Shard;

use crate::error::{Error, Result};

/// A fleet: `fleets/<name>.toml`, or with `[[shard]]` several, which differ in what their shards say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// The recipe whose image the instances run.
    pub image: String,
    /// How many instances; an Auto Scaling group has a size of its own, and none is given here.
    #[serde(default)]
    pub size: u32,
    /// Virtual machines on this computer; this or `aws`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<Local>,
    /// An EC2 Auto Scaling group; this or `local`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aws: Option<AutoScaling>,
    /// How its members hold data, where they do: then replicas are replaced first and the leader last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stateful: Option<stateful::Stateful>,
    /// How what its members hold is backed up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<backup::Backup>,
    /// Fleets that `rekiln apply` rolls before this one, such as `["db"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// Whose word an image needs before instances run it; without it, nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<crate::catalog::provenance::Trust>,
    /// When an instance is healthy.
    pub health: Health,
    /// How it is rolled.
    #[serde(default)]
    pub roll: Roll,
    /// When an instance is replaced though nothing changed.
    #[serde(default)]
    pub replace: Replace,
    /// Whether instances are killed on purpose, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chaos: Option<Chaos>,
    /// What else must be good before a wave goes on.
    #[serde(default, rename = "gate")]
    pub gates: Vec<Gate>,
    /// What else is done around the steps of a replacement.
    #[serde(default, rename = "hook")]
    pub hooks: Vec<Hook>,
    /// Who is told of what is worth a person's attention.
    #[serde(default, rename = "notify")]
    pub notify: Vec<Notify>,
    /// Which alerts of others are answered, and how; by `rekiln watch` only.
    #[serde(default, rename = "alert", skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<Alert>,
    /// The fleets that the file stands for, each with what is its own, in the order in which they are rolled; without any, the
    /// file is one fleet.
    #[serde(default, rename = "shard", skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<Shard>,
}

impl Fleet {
    /// Returns how its machines run on this computer.
    ///
    /// # Errors
    /// They run elsewhere.
    pub fn local(&self) -> Result<&Local> {
        self.local
            .as_ref()
            .ok_or_else(|| Error::invalid("this fleet is an Auto Scaling group, and not of this computer"))
    }
}

impl Fleet {
    /// Returns the request that tells whether an instance is well.
    ///
    /// # Errors
    /// There is none.
    pub fn health(&self) -> Result<&HealthHttp> {
        self.health.http.as_ref().ok_or_else(|| {
            Error::invalid("`[health]` does not say which request tells whether an instance is well")
                .hint("`http = { port = 80, path = \"/\" }` there")
        })
    }
}

/// An EC2 Auto Scaling group: one that is there already, which is adopted as it is, or one that rekiln makes from `group`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AutoScaling {
    /// The region, such as `eu-west-1`.
    pub region: String,
    /// The group's name; left out where each shard has its own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub auto_scaling_group: String,
    /// The AWS account (12 digits) that it is in: with credentials of another one, nothing is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The role, by ARN, that is assumed to get there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assume_role: Option<String>,
    /// The bucket that has the journal and what is under way, such as `s3://bucket/prefix`, or with its region where that is
    /// another one, `s3://bucket/prefix?region=eu-west-1`: so whichever computer rolls the fleet knows what the others
    /// did. Reached without `assume_role`. Left out: the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<String>,
    /// How long to wait between two looks while instances start and finish, such as `5s`: each look is some calls that all
    /// of the account share.
    #[serde(default = "default_poll")]
    pub poll: String,
    /// What the group is made from where there is none, and what it launches then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<specification::Specification>,
}

fn default_poll() -> String {
    "5s".to_owned()
}

/// When an instance is healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// The request that rekiln makes itself, from where it runs. Machines on this computer need one; in an Auto Scaling group
    /// the target groups have checks of their own, and this comes on top where the instances' addresses can be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HealthHttp>,
    /// Good answers in a row.
    #[serde(default = "default_consecutive")]
    pub consecutive: u32,
    /// Launched and not serving after this long, such as `120s`: failed.
    #[serde(default = "default_deadline")]
    pub deadline: String,
}

/// The request of a health check; any 2xx or 3xx status is good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthHttp {
    /// TCP port in the guest.
    pub port: u16,
    /// Path of the request.
    pub path: String,
}

const fn default_consecutive() -> u32 {
    3
}

fn default_deadline() -> String {
    "120s".to_owned()
}

/// How a fleet is rolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Roll {
    /// How many instances above `size` may exist: a count or `25%` (rounded up).
    pub surge: Share,
    /// How many instances below `size` may be healthy by our own doing: a count or `25%` (rounded down).
    pub unavailable: Share,
    /// How many are replaced first, before the first soak: a count or `5%` (rounded up). 0 means none by itself.
    pub canary: Share,
    /// How many are replaced when each later wave is over, in ascending order: counts or shares (rounded up).
    pub waves: Vec<Share>,
    /// How long all that were replaced must serve after the canary, after each wave, and at the end, such as `10m`.
    pub soak: String,
    /// How long a drained instance may take to finish its requests, such as `10s`.
    pub drain: String,
    /// More than this many failed instances ends the rollout.
    pub failures: u32,
    /// What happens then.
    pub on_failure: OnFailure,
    /// Whether instances of several zones are replaced at the same time.
    pub zones: Zones,
    /// When replacing may begin, such as `Mon-Fri 08:00-18:00 Europe/Berlin`; without any, always.
    pub windows: Vec<String>,
    /// Days on which it may not begin all the same, such as `2026-12-24..2026-12-26 Europe/Berlin`.
    pub except: Vec<String>,
    /// How many instances may be replaced in an hour, such as `20/h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// A change that makes more than this share of all instances of the repository's fleets stale needs `--yes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guard: Option<String>,
    /// When so many rollouts of the store's fleets failed within such a time, nothing voluntary begins until a person
    /// clears it.
    pub breaker: Breaker,
}

impl Default for Roll {
    fn default() -> Self {
        Self {
            surge: Share::Count(1),
            unavailable: Share::Count(0),
            canary: Share::Count(0),
            waves: Vec::new(),
            soak: "0s".to_owned(),
            drain: "10s".to_owned(),
            failures: 1,
            on_failure: OnFailure::Halt,
            zones: Zones::Any,
            windows: Vec::new(),
            except: Vec::new(),
            rate: None,
            guard: None,
            breaker: Breaker::default(),
        }
    }
}

/// A count, or a share of the fleet's size such as `25%`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Share {
    /// So many.
    Count(u32),
    /// So much of the size: `25%`.
    Percent(String),
}

/// What happens when the failure budget is spent or a gate says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Stop; old instances keep serving.
    Halt,
    /// Roll to the last image that completed, the instances already replaced included.
    Rollback,
}

/// Whether instances of several zones are replaced at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Zones {
    /// They may be.
    Any,
    /// One zone is finished before the next begins.
    OneAtATime,
}

/// How many failed rollouts stop all that is voluntary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// So many failed rollouts; 0 means that nothing does.
    pub failures: u32,
    /// Within this time, such as `24h`.
    pub within: String,
}

impl Default for Breaker {
    /// Three in a day: one is an accident, two may be, and three are a cause that nobody has found.
    fn default() -> Self {
        Self { failures: 3, within: "24h".to_owned() }
    }
}

/// When an instance is replaced though nothing changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Replace {
    /// Older instances are replaced, such as `14d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<String>,
}

/// A measurement that must be good before a wave goes on: exactly one of `command`, `http` and `prometheus`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// What it is called in the journal.
    pub name: String,
    /// A program and its arguments; it prints numbers, one a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// An URL whose answer is numbers, one a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// A query to a Prometheus server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<Prometheus>,
    /// The mean may not be above this: a decimal number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
    /// The mean may not be below this: a decimal number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<String>,
    /// New instances may not be worse than old ones: in which direction is worse. The measurement is made once for
    /// each instance, with `{address}` and `{id}` filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare: Option<Worse>,
    /// So many numbers are needed on each side; fewer are "not yet".
    #[serde(default = "default_samples")]
    pub samples: u32,
    /// How long one measurement may take, such as `10s`.
    #[serde(default = "default_timeout")]
    pub timeout: String,
}

const fn default_samples() -> u32 {
    1
}

fn default_timeout() -> String {
    "10s".to_owned()
}

/// A query to a Prometheus server (`/api/v1/query`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prometheus {
    /// The server, such as `http://127.0.0.1:9090`.
    pub server: String,
    /// The query; every value of the answer counts.
    pub query: String,
}

/// In which direction a measurement is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Worse {
    /// More is worse, as with latency or errors.
    Higher,
    /// Less is worse, as with throughput.
    Lower,
}

/// What else is done at a step of each replacement: exactly one of `command` and `http`. It gets a JSON document about
/// the step, on standard input or as the body of a POST.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// At which step.
    pub on: Step,
    /// A program and its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// An URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// How long it may take, such as `30s`.
    #[serde(default = "default_timeout")]
    pub timeout: String,
    /// What happens when it fails.
    #[serde(default)]
    pub on_failure: HookFailure,
}

/// A step of a replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// An instance was launched and serves.
    AfterLaunch,
    /// An instance is about to be drained.
    BeforeDrain,
    /// An instance was drained and is about to be ended.
    AfterDrain,
    /// An instance was ended.
    AfterEnd,
}

/// What a failed hook means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HookFailure {
    /// It is tried again at the next look; three failures in a row stop the roll.
    #[default]
    Retry,
    /// It is written to the journal, and the roll goes on.
    Ignore,
}

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// Where a POST goes.
    pub webhook: String,
    /// What it carries.
    #[serde(default)]
    pub format: NotifyFormat,
}

/// What a notification carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotifyFormat {
    /// `{"fleet", "event", "text", "at", …}`.
    #[default]
    Json,
    /// `{"text"}`, as Slack and what is compatible with it take.
    Slack,
}

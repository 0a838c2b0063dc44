//! What a person wanted of a fleet, what was seen of it, and what to do next.

pub mod census;
pub mod generation;
pub mod history;
pub mod journal;
pub mod plan;
pub mod policy;
pub mod roll;
pub mod validate;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A fleet: `fleets/<name>.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// The recipe whose image the instances run.
    pub image: String,
    /// How many instances.
    pub size: u32,
    /// Virtual machines on this computer.
    pub local: Local,
    /// When an instance is healthy.
    pub health: Health,
    /// How it is rolled.
    #[serde(default)]
    pub roll: Roll,
}

/// Virtual machines on this computer behind HAProxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Local {
    /// Memory of each machine, such as `256M`.
    #[serde(default = "default_memory")]
    pub memory: String,
    /// Virtual processors of each machine.
    #[serde(default = "default_cpus")]
    pub cpus: u32,
    /// Address on which HAProxy listens.
    pub listen: std::net::SocketAddr,
    /// TCP port in the guest that gets the requests.
    pub port: u16,
}

fn default_memory() -> String {
    "256M".to_owned()
}

const fn default_cpus() -> u32 {
    1
}

/// When an instance is healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// The request.
    pub http: HealthHttp,
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
    /// How long a drained instance may take to finish its requests, such as `10s`.
    pub drain: String,
    /// More than this many failed instances ends the rollout.
    pub failures: u32,
    /// What happens then.
    pub on_failure: OnFailure,
}

impl Default for Roll {
    fn default() -> Self {
        Self {
            surge: Share::Count(1),
            unavailable: Share::Count(0),
            drain: "10s".to_owned(),
            failures: 1,
            on_failure: OnFailure::Halt,
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

/// What happens when the failure budget is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Stop; old instances keep serving.
    Halt,
}

//! What a fleet file says of members that hold data.

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Fleet;
use super::policy::duration;
use crate::error::{Error, Result};

/// How the members of a fleet hold data. Exactly one of `patroni`, `http` and `command` says how they are asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stateful {
    /// `PostgreSQL` under Patroni: its REST API is asked, at the port of `[health] http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patroni: Option<Patroni>,
    /// Anything else that answers by HTTP, at the port of `[health] http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// Anything else: a program and its arguments, which asks for rekiln.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// How many members beside the leader must have all data, before and after one is removed.
    #[serde(default = "default_synchronous")]
    pub synchronous: u32,
    /// What an acknowledged write has survived.
    #[serde(default)]
    pub durability: Durability,
    /// How many bytes a member may be behind and still count as one that has caught up, such as `16M`.
    #[serde(default = "default_max_lag")]
    pub max_lag: String,
    /// For how long a leader that does not hand over is asked again, such as `2m`, before the roll ends and says why.
    #[serde(default = "default_switchover")]
    pub switchover: String,
    /// How long a member that falls ill has to recover, such as `1m`, before it is replaced: a database that ended by itself
    /// starts again and looks through what it had written. One whose machine ended is replaced at once.
    #[serde(default = "default_recovery")]
    pub recovery: String,
    /// How long a new member may take to copy the data: with more data than that allows, it is too big to fail.
    #[serde(default = "default_max_copy")]
    pub max_copy: String,
}

/// How Patroni is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Patroni {
    /// The port of etcd's JSON gateway on each member, where etcd runs there and members are to be removed from it when
    /// they end. Left out: what decides who leads is elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd: Option<u16>,
    /// The user that its REST API wants for a switchover.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The file that has the password; for machines on this computer, left out, the one that comes of the fleet's secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<String>,
}

/// What an acknowledged write has survived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// The loss of the leader: as many others as `synchronous` says have it. A fleet that is not set up so is not rolled.
    #[default]
    Quorum,
    /// Nothing but what the leader itself survives: the latest writes may go with it.
    Leader,
}

const fn default_synchronous() -> u32 {
    1
}

fn default_max_lag() -> String {
    "16M".to_owned()
}

fn default_switchover() -> String {
    "2m".to_owned()
}

fn default_recovery() -> String {
    "1m".to_owned()
}

/// As the thinking behind rekiln has it: what cannot be copied in half an hour cannot be replaced in a night that goes wrong.
fn default_max_copy() -> String {
    "30m".to_owned()
}

/// What the planner needs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copies {
    /// How many members beside the leader must have all data, before and after one is removed.
    pub synchronous: usize,
    /// What an acknowledged write has survived.
    pub durability: Durability,
    /// For how long a leader that does not hand over is asked again.
    pub switchover: SignedDuration,
    /// How long one that falls ill has to recover.
    pub recovery: SignedDuration,
    /// How long a new member may copy.
    pub max_copy: SignedDuration,
}

impl Copies {
    /// Reads it from a fleet file; `None` where the fleet holds no data.
    ///
    /// # Errors
    /// Words that cannot be read.
    pub fn of(fleet: &Fleet) -> Result<Option<Self>> {
        let Some(stateful) = &fleet.stateful else { return Ok(None) };
        stateful.check()?;
        Ok(Some(Self {
            synchronous: stateful.synchronous as usize,
            durability: stateful.durability,
            switchover: duration("stateful.switchover", &stateful.switchover)?,
            recovery: duration("stateful.recovery", &stateful.recovery)?,
            max_copy: duration("stateful.max_copy", &stateful.max_copy)?,
        }))
    }
}

impl Stateful {
    /// Checks that exactly one way of asking is given.
    ///
    /// # Errors
    /// None or several are.
    pub fn check(&self) -> Result<()> {
        let ways = [self.patroni.is_some(), self.http.is_some(), self.command.is_some()];
        match ways.into_iter().filter(|given| *given).count() {
            1 => Ok(()),
            0 => Err(Error::invalid("`[stateful]` does not say how members are asked")
                .hint("`patroni = {}`, `http = \"/member\"` or `command = [\"…\"]` there")),
            _ => Err(Error::invalid("`[stateful]` says more than one way to ask members")
                .hint("leave one of `patroni`, `http` and `command`")),
        }
    }
}

//! What a fleet file says of backups.

use std::path::PathBuf;

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Fleet;
use super::policy::duration;
use super::windows::Windows;
use crate::error::{Doing as _, Error, Result};
use crate::notation;
use crate::objects::S3Url;

/// Backups that are taken by themselves and count once they were restored into a fresh machine and answered there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// Where they are kept, such as `s3://bucket/prefix`, or with its region `s3://bucket/prefix?region=eu-west-1`, or
    /// `file:///var/backups`: not on the computer that has the data, where that can be helped.
    pub target: String,
    /// How old the last proved one may become before the next is taken, such as `6h`.
    #[serde(default = "default_every")]
    pub every: String,
    /// How many proved ones are kept.
    #[serde(default = "default_keep")]
    pub keep: u32,
    /// What the restored database is asked, as the application's user, such as `SELECT count(*) FROM orders`: it must return
    /// at least one row.
    pub query: String,
    /// The first value of the answer is a number that is not below this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<i64>,
    /// When `rekiln watch` may begin one, such as `Mon-Sun 00:00-05:00 Europe/Berlin`; without any, always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<String>,
    /// How members in AWS let backups be taken; those on this computer have a role and a password for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// The machine of this computer into which backups of members in AWS are restored; for those on this computer, it is one
    /// of theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
}

/// How the database of a member is reached that is not on this computer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Its port, at the address of the member.
    #[serde(default = "default_port")]
    pub port: u16,
    /// A role that may copy everything (`REPLICATION`).
    #[serde(default = "default_user")]
    pub user: String,
    /// The file that has its password, on the computer that runs rekiln.
    pub password_file: String,
}

/// A machine of this computer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Its memory, such as `2G`.
    pub memory: String,
    /// Its processors.
    #[serde(default = "default_cpus")]
    pub cpus: u32,
    /// Its data disk, such as `100G`: as large as a member's.
    pub data: String,
}

/// The database's own.
const fn default_port() -> u16 {
    5432
}

/// As the members of `images/db.toml` have it.
fn default_user() -> String {
    "backup".to_owned()
}

/// As a machine of a fleet has by default.
const fn default_cpus() -> u32 {
    1
}

/// Four a day: what is lost with everything else is a morning at most.
fn default_every() -> String {
    "6h".to_owned()
}

/// With four a day, three days and a half: a mistake of Friday evening is noticed on Monday.
const fn default_keep() -> u32 {
    14
}

/// Where backups are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A directory of this computer; absolute.
    Directory(PathBuf),
    /// A place in a bucket.
    Bucket(S3Url),
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            Some(("file", path)) if path.starts_with('/') && path.len() > 1 => {
                Ok(Self::Directory(path.into()))
            }
            Some(("file", _)) => {
                Err(format!("`{text}` names no directory from the root: did you mean `file:///…`?"))
            }
            Some(("s3", _)) => text.parse().map(Self::Bucket),
            _ => {
                Err(format!("`{text}` is no place for backups: `s3://bucket/prefix` or `file:///directory`"))
            }
        }
    }
}

/// What `[backup]` says, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where they are kept.
    pub target: Target,
    /// How old the last proved one may become.
    pub every: SignedDuration,
    /// How many proved ones are kept; at least 1.
    pub keep: usize,
    /// What the restored database is asked.
    pub query: String,
    /// The first value is not below this.
    pub at_least: Option<i64>,
    /// When one may begin by itself.
    pub windows: Windows,
    /// What restores.
    pub machine: Restorer,
}

/// The machine that restores, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restorer {
    /// MiB of memory.
    pub memory_mib: u32,
    /// Processors.
    pub cpus: u32,
    /// Bytes of its data disk.
    pub data: u64,
    /// The port of its database.
    pub port: u16,
}

impl Restorer {
    fn of(fleet: &Fleet, backup: &Backup) -> Result<Self> {
        let (memory, cpus, data, port) = match (&fleet.local, &backup.machine, &backup.login) {
            (Some(local), ..) => (&local.memory, local.cpus, local.data.as_deref(), local.port),
            (None, Some(machine), Some(login)) => {
                (&machine.memory, machine.cpus, Some(machine.data.as_str()), login.port)
            }
            _ => return Err(Error::invalid("`[backup.login]` and `[backup.machine]` are missing")),
        };
        let bad = |key: &'static str| move |why| Error::invalid(format!("`{key}` of what restores: {why}"));
        let data = data.ok_or_else(|| Error::invalid("what restores has no data disk"))?;
        let memory = notation::memory(memory).map_err(bad("memory"))?;
        Ok(Self {
            memory_mib: u32::try_from(memory >> 20).doing(|| "reading the memory of what restores")?,
            cpus,
            data: notation::size(data).map_err(bad("data"))?,
            port,
        })
    }
}

impl Settings {
    /// Reads them from a fleet file; `None` where there is no `[backup]`.
    ///
    /// # Errors
    /// Words that cannot be read.
    pub fn of(fleet: &Fleet) -> Result<Option<Self>> {
        let Some(backup) = &fleet.backup else { return Ok(None) };
        let bad = |key: &'static str| move |why| Error::invalid(format!("`backup.{key}`: {why}"));
        Ok(Some(Self {
            target: backup.target.parse().map_err(bad("target"))?,
            every: duration("backup.every", &backup.every)?,
            keep: backup.keep.max(1) as usize,
            query: backup.query.clone(),
            at_least: backup.at_least,
            windows: Windows::parse(&backup.windows, &[]).map_err(bad("windows"))?,
            machine: Restorer::of(fleet, backup)?,
        }))
    }
}

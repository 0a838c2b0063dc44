//! The record of one instance of a local fleet: written before its machine is started, removed after it ended.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::atomic_write::atomic_write;
use crate::digest::{Digest, ImageId};
use crate::error::{Doing as _, Result};
use crate::fleet::census::InstanceId;
use crate::fleet::generation::Generation;
use crate::vm::Spec;

/// `local/<fleet>/<id>/instance.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// Format version: 1.
    pub version: u32,
    /// Which.
    pub id: InstanceId,
    /// What it was launched from.
    pub generation: Generation,
    /// Its image.
    pub image: ImageId,
    /// The root hash its agent must report.
    pub root_hash: Digest,
    /// What its machine is started from.
    pub spec: Spec,
    /// Port on 127.0.0.1 that gets requests.
    pub port: u16,
    /// Port on 127.0.0.1 that gets health checks.
    pub health_port: u16,
    /// When it was launched.
    pub launched_at: Timestamp,
    /// What the load balancer should do with it; a restarted one is told again.
    pub phase: Phase,
    /// The zone that it plays to be in, when the fleet has zones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// That everything of an instance is kept when it ends, and why: `evidence.json` in its directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Which.
    pub instance: InstanceId,
    /// Why.
    pub reason: String,
    /// Since when.
    pub at: Timestamp,
}

impl Evidence {
    const FILE: &str = "evidence.json";

    /// Tells whether the instance in `dir` is to be kept.
    #[must_use]
    pub fn wanted(dir: &Path) -> bool {
        dir.join(Self::FILE).exists()
    }

    /// Writes it. Whoever wanted it first keeps their reason.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write(&self, dir: &Path) -> Result<()> {
        if Self::wanted(dir) {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(self).doing(|| "describing what is kept")?;
        atomic_write(&dir.join(Self::FILE), &text)
    }
}

/// What the load balancer should do with an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Check it, send nothing yet.
    Waiting,
    /// Send requests.
    Serving,
    /// Let it finish, send nothing new.
    Draining,
}

impl InstanceRecord {
    /// Reads the record in `dir`; `None` when there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let file = dir.join("instance.json");
        let doing = || format!("reading {}", file.display());
        match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).doing(doing).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing(doing),
        }
    }

    /// Returns the port on 127.0.0.1 that leads to TCP port `guest` of the machine: those for clients and for health are
    /// there, and what `local.forward` names.
    #[must_use]
    pub fn host_port(&self, guest: u16) -> Option<u16> {
        self.spec.forwards.iter().find(|forward| forward.guest == guest).map(|forward| forward.host)
    }

    /// Writes the record; a reader sees the old one or the new one.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).doing(|| format!("writing the record of {}", self.id))?;
        atomic_write(&self.spec.dir.join("instance.json"), &text)
    }
}

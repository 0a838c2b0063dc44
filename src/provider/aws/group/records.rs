//! Do: which launches and ends of instances were begun, written down before each call: AWS's answer may be lost.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::atomic_write::atomic_write;
use crate::error::{Doing as _, Result};
use crate::fleet::census::InstanceId;

/// A launch that was begun and has not got its name yet: `aws/<fleet>/launching/<name>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launching {
    /// The client token: asking again with it launches no second instance.
    pub token: String,
    /// The launch template's id.
    pub template: String,
    /// The version that was launched.
    pub version: i64,
    /// The zone that was asked for.
    pub zone: Option<String>,
    /// When it was begun.
    pub at: Timestamp,
}

/// An end that was begun: `aws/<fleet>/ending/<name>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// EC2's id.
    pub machine: String,
    /// When it was begun.
    pub at: Timestamp,
}

/// A record of one kind.
pub trait Record: Serialize + DeserializeOwned {
    /// The directory that has records of this kind.
    const DIR: &str;
}

impl Record for Launching {
    const DIR: &str = "launching";
}

impl Record for Ending {
    const DIR: &str = "ending";
}

fn file<R: Record>(fleet: &Path, id: &InstanceId) -> PathBuf {
    fleet.join(R::DIR).join(format!("{id}.json"))
}

/// Returns the record of an instance; `None` when there is none.
///
/// # Errors
/// It cannot be read.
pub fn read<R: Record>(fleet: &Path, id: &InstanceId) -> Result<Option<R>> {
    let file = file::<R>(fleet, id);
    let doing = || format!("reading {}", file.display());
    match fs::read(&file) {
        Ok(bytes) => serde_json::from_slice(&bytes).doing(doing).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing(doing),
    }
}

/// Writes the record of an instance.
///
/// # Errors
/// The store cannot be written.
pub fn write<R: Record>(fleet: &Path, id: &InstanceId, record: &R) -> Result<()> {
    let file = file::<R>(fleet, id);
    let dir = fleet.join(R::DIR);
    fs::create_dir_all(&dir).doing(|| format!("creating {}", dir.display()))?;
    let text = serde_json::to_vec_pretty(record).doing(|| format!("writing {}", file.display()))?;
    atomic_write(&file, &text)
}

/// Removes the record of an instance, whether there is one or not.
///
/// # Errors
/// The store cannot be written.
pub fn remove<R: Record>(fleet: &Path, id: &InstanceId) -> Result<()> {
    let file = file::<R>(fleet, id);
    match fs::remove_file(&file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("removing {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// Removes the records of all instances.
///
/// # Errors
/// The store cannot be written.
pub fn clear<R: Record>(fleet: &Path) -> Result<()> {
    let dir = fleet.join(R::DIR);
    match fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

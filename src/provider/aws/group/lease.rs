//! Do: what is changed of a group for the time of a roll only, written down before it is changed, and given back.
//!
//! A group's bounds, its suspended processes and the version that it launches are one value each, unowned and unversioned:
//! whoever sets one overwrites whoever set it before. So each is a lease in the store that knows what was there before and
//! what was set; it is given back only where it is still as it was set, and by whoever comes after a crash.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::atomic_write::atomic_write;
use crate::error::{Doing as _, Result};
use crate::fleet::journal::Writer;

/// How long a lease lasts after it was last renewed, should nobody be able to tell whether its holder lives.
const LASTS: SignedDuration = SignedDuration::from_hours(1);

/// The process that puts instances of all zones in balance, and would do so when rekiln ends one.
pub const BALANCE: &str = "AZRebalance";

/// What is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// How large the group may be told to be: the least, and the most.
    Bounds {
        /// What it was.
        before: (i32, i32),
        /// What it was set to.
        set: (i32, i32),
    },
    /// A process is suspended that was not.
    Suspended {
        /// Which.
        process: String,
    },
    /// What the group launches by itself.
    Version {
        /// The launch template's id.
        template: String,
        /// The version before, by its number.
        before: i64,
        /// The version that was set.
        set: i64,
    },
}

impl What {
    /// The name of the file, and what it is called in errors.
    const fn name(&self) -> &'static str {
        match self {
            Self::Bounds { .. } => "bounds",
            Self::Suspended { .. } => "suspended",
            Self::Version { .. } => "version",
        }
    }
}

/// Which group it is about, for who comes later and has not read a fleet file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The account.
    pub account: String,
    /// The region.
    pub region: String,
    /// The role that was assumed, by ARN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The group's name.
    pub group: String,
}

/// `aws/<fleet>/leases/<what>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Format version: 1.
    pub version: u32,
    /// Where.
    pub place: Place,
    /// What, and what was before.
    pub held: What,
    /// Who took it.
    pub by: Writer,
    /// When it was taken.
    pub at: Timestamp,
    /// As of when anyone may give it back.
    pub until: Timestamp,
}

/// The leases of one fleet.
#[derive(Debug, Clone)]
pub struct Leases {
    dir: PathBuf,
    place: Place,
}

impl Leases {
    /// Those of a fleet whose records are in `fleet`.
    #[must_use]
    pub fn new(fleet: &Path, place: Place) -> Self {
        Self { dir: fleet.join("leases"), place }
    }

    /// Takes a lease, or changes what one is set to: what was there before the first stays. Written before the change.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn take(&self, mut held: What, now: Timestamp) -> Result<()> {
        let file = self.dir.join(format!("{}.json", held.name()));
        let old = read(&file)?;
        match (&mut held, old.as_ref().map(|old| &old.held)) {
            (What::Bounds { before, .. }, Some(What::Bounds { before: first, .. })) => *before = *first,
            (
                What::Version { before, template, .. },
                Some(What::Version { before: first, template: same, .. }),
            ) if template == same => {
                *before = *first;
            }
            _ => {}
        }
        let lease = Lease {
            version: 1,
            place: self.place.clone(),
            held,
            by: Writer::this("rekiln"),
            at: old.map_or(now, |old| old.at),
            until: now + LASTS,
        };
        fs::create_dir_all(&self.dir).doing(|| format!("creating {}", self.dir.display()))?;
        let text = serde_json::to_vec_pretty(&lease).doing(|| "writing a lease")?;
        atomic_write(&file, &text)
    }

    /// Returns every lease.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn all(&self) -> Result<Vec<Lease>> {
        all(&self.dir)
    }

    /// Has every lease last longer, when half of its time is over.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn renew(&self, now: Timestamp) -> Result<()> {
        for lease in self.all()?.into_iter().filter(|lease| lease.until.duration_since(now) < LASTS / 2) {
            self.take(lease.held, now)?;
        }
        Ok(())
    }

    /// Forgets a lease: it was given back.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn forget(&self, held: &What) -> Result<()> {
        let file = self.dir.join(format!("{}.json", held.name()));
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).doing(|| format!("removing {}", file.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Returns the leases of the fleet whose records are in `fleet`.
///
/// # Errors
/// The store cannot be read.
pub fn of_fleet(fleet: &Path) -> Result<Vec<Lease>> {
    all(&fleet.join("leases"))
}

fn all(dir: &Path) -> Result<Vec<Lease>> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(Vec::new()) };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "json"));
    files.sort();
    files.iter().filter_map(|file| read(file).transpose()).collect()
}

fn read(file: &Path) -> Result<Option<Lease>> {
    let doing = || format!("reading {}", file.display());
    match fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).doing(doing).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing(doing),
    }
}

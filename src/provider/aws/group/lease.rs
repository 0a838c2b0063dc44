//! Do: what is changed of a group for the time of a roll only, written down before it is changed, and given back.
//!
//! A group's bounds, its suspended processes and the version that it launches are one value each, unowned and unversioned:
//! whoever sets one overwrites whoever set it before. So each is a lease in the store that knows what was there before and
//! what was set; it is given back only where it is still as it was set, and by whoever comes after a crash.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::{Doing as _, Result};
use crate::fleet::journal::Writer;
use crate::objects::Objects;

/// How long a lease lasts after it was last renewed, should nobody be able to tell whether its holder lives.
const LASTS: SignedDuration = SignedDuration::from_hours(1);

/// Where leases lie among the records of a fleet.
const DIR: &str = "leases";

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
    /// A tag says that the group is rolled.
    Tag {
        /// Its value.
        value: String,
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
    /// The name of its object.
    const fn name(&self) -> &'static str {
        match self {
            Self::Bounds { .. } => "bounds.json",
            Self::Suspended { .. } => "suspended.json",
            Self::Tag { .. } => "tag.json",
            Self::Version { .. } => "version.json",
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
    objects: Objects,
    place: Place,
}

impl Leases {
    /// Those of a fleet whose records are in `fleet`.
    #[must_use]
    pub fn new(fleet: &Objects, place: Place) -> Self {
        Self { objects: fleet.under(DIR), place }
    }

    /// Takes a lease, or changes what one is set to: what was there before the first stays. Written before the change.
    ///
    /// # Errors
    /// The lease cannot be written.
    pub async fn take(&self, mut held: What, now: Timestamp) -> Result<()> {
        let old: Option<Lease> = self.objects.read_json(held.name()).await?;
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
        let name = held.name();
        let lease = Lease {
            version: 1,
            place: self.place.clone(),
            held,
            by: Writer::this("rekiln"),
            at: old.map_or(now, |old| old.at),
            until: now + LASTS,
        };
        let text = serde_json::to_vec_pretty(&lease).doing(|| "writing a lease")?;
        self.objects.write(name, &text).await
    }

    /// Returns every lease.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn all(&self) -> Result<Vec<Lease>> {
        all(&self.objects).await
    }

    /// Has every lease last longer, when half of its time is over.
    ///
    /// # Errors
    /// They cannot be read or written.
    pub async fn renew(&self, now: Timestamp) -> Result<()> {
        let mut leases = self.all().await?;
        leases.retain(|lease| lease.until.duration_since(now) < LASTS / 2);
        for lease in leases {
            self.take(lease.held, now).await?;
        }
        Ok(())
    }

    /// Forgets a lease: it was given back.
    ///
    /// # Errors
    /// It cannot be removed.
    pub async fn forget(&self, held: &What) -> Result<()> {
        self.objects.remove(held.name()).await
    }
}

/// Returns the leases of the fleet whose records are in `fleet`.
///
/// # Errors
/// They cannot be read.
pub async fn of_fleet(fleet: &Objects) -> Result<Vec<Lease>> {
    all(&fleet.under(DIR)).await
}

async fn all(objects: &Objects) -> Result<Vec<Lease>> {
    let mut leases = Vec::new();
    for listed in objects.list().await? {
        leases.extend(objects.read_json(&listed.name).await?);
    }
    Ok(leases)
}

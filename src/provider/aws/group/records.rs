//! Do: which launches and ends of instances were begun, written down before each call: AWS's answer may be lost.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Doing as _, Result};
use crate::fleet::census::InstanceId;
use crate::objects::Objects;
use crate::provider::names::ENDED;

/// How long a name that was given up is remembered. Names are never used again on purpose; no launch is late by a day.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);

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

/// The records of one fleet.
#[derive(Debug, Clone)]
pub struct Records(Objects);

impl Records {
    /// Those that lie here.
    #[must_use]
    pub const fn new(fleet: Objects) -> Self {
        Self(fleet)
    }

    fn of<R: Record>(&self) -> Objects {
        self.0.under(R::DIR)
    }

    /// Returns the record of an instance; `None` when there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn read<R: Record>(&self, id: &InstanceId) -> Result<Option<R>> {
        self.of::<R>().read_json(&name(id)).await
    }

    /// Writes the record of an instance.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn write<R: Record>(&self, id: &InstanceId, record: &R) -> Result<()> {
        let (objects, name) = (self.of::<R>(), name(id));
        let text = serde_json::to_vec_pretty(record).doing(|| format!("writing {}", objects.place(&name)))?;
        objects.write(&name, &text).await
    }

    /// Removes the record of an instance, whether there is one or not.
    ///
    /// # Errors
    /// It cannot be removed.
    pub async fn remove<R: Record>(&self, id: &InstanceId) -> Result<()> {
        self.of::<R>().remove(&name(id)).await
    }

    /// Removes the records of all instances.
    ///
    /// # Errors
    /// They cannot be removed.
    pub async fn clear<R: Record>(&self) -> Result<()> {
        let objects = self.of::<R>();
        for listed in objects.list().await? {
            objects.remove(&listed.name).await?;
        }
        Ok(())
    }

    /// Tells whether a name was given up: what was ended is not launched any more, however late a launch comes.
    ///
    /// Nothing is locked, as a bucket has no locks. Whoever launches writes its record first and asks this then; whoever
    /// ends gives the name up first and looks for the record then. So at least one of two sees the other.
    ///
    /// # Errors
    /// It cannot be told.
    pub async fn is_ended(&self, id: &InstanceId) -> Result<bool> {
        Ok(self.0.under(ENDED).read(&id.0).await?.is_some())
    }

    /// Returns all names that were given up.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn ended(&self) -> Result<BTreeSet<String>> {
        Ok(self.0.under(ENDED).list().await?.into_iter().map(|listed| listed.name).collect())
    }

    /// Gives a name up.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn end(&self, id: &InstanceId) -> Result<()> {
        self.0.under(ENDED).write(&id.0, b"").await
    }

    /// Forgets the names that were given up a day before.
    ///
    /// # Errors
    /// They cannot be read or removed.
    pub async fn forget_ended(&self, now: Timestamp) -> Result<()> {
        let objects = self.0.under(ENDED);
        for listed in objects.list().await? {
            if now.duration_since(listed.changed) > REMEMBERED {
                objects.remove(&listed.name).await?;
            }
        }
        Ok(())
    }
}

fn name(id: &InstanceId) -> String {
    format!("{id}.json")
}

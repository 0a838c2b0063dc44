//! Decide: the next step towards an image that is published, from what is written down and what is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::ledger::Entry;
use crate::digest::{Digest, ImageId};

/// How long something that was just made may be unknown to those who are asked about it. Coldsnap saw two minutes
/// (its issues 43 and 56).
pub const GRACE: SignedDuration = SignedDuration::from_mins(2);

/// How often in a row something has to be seen ready before it counts: answers come from more than one place.
pub const IN_A_ROW: u32 = 3;

/// The tag that names the image, on everything that is made of it.
pub const IMAGE_TAG: &str = "rekiln:image";
/// The tag with the digest of the disk.
pub const DISK_TAG: &str = "rekiln:disk";
/// The tag that tells what was made for one ledger entry.
pub const RUN_TAG: &str = "rekiln:run";
/// The tag with the recipe's name.
pub const RECIPE_TAG: &str = "rekiln:recipe";
/// The tag of a snapshot that says until when it may have no AMI.
pub const EXPIRES_TAG: &str = "rekiln:expires";

/// Returns the name of an image's AMI: names are unique in an account and region, which is what keeps a registration
/// that is asked for twice from making two.
#[must_use]
pub fn ami_name(recipe: &str, image: ImageId) -> String {
    format!("rekiln/{recipe}/{}", &image.to_string()[..16])
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The image.
    pub image: ImageId,
    /// Digest of its disk.
    pub disk: Digest,
    /// Who may launch it, besides the account it is in.
    pub grantees: BTreeSet<Grantee>,
    /// Tags, besides rekiln's own.
    pub tags: BTreeMap<String, String>,
    /// How long after its registration it is deprecated.
    pub deprecate_after: Option<SignedDuration>,
    /// Whether it is protected from deregistration.
    pub protect: bool,
    /// Whether a parameter is to name it.
    pub parameter: bool,
    /// The firmware's variables, in base64.
    pub uefi_data: Option<String>,
}

/// Who may launch an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grantee {
    /// Everyone: no recipe can say so, but a person may have.
    Everyone,
    /// An account, by its number.
    Account(String),
    /// An organisation, by ARN.
    Organisation(String),
    /// An organisational unit, by ARN.
    Unit(String),
}

impl fmt::Display for Grantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everyone => f.write_str("everyone"),
            Self::Account(number) => write!(f, "account {number}"),
            Self::Organisation(arn) | Self::Unit(arn) => f.write_str(arn),
        }
    }
}

impl Grantee {
    /// Returns whom an ARN of AWS Organizations means.
    #[must_use]
    pub fn of_arn(arn: &str) -> Self {
        let unit = arn.rsplit_once(':').is_some_and(|(_, what)| what.starts_with("ou/"));
        if unit { Self::Unit(arn.to_owned()) } else { Self::Organisation(arn.to_owned()) }
    }
}

/// How far an AMI or a snapshot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It can be used.
    Ready,
    /// It will be.
    Pending,
    /// It never will be; the provider's words.
    Failed(String),
    /// Someone took it out of use.
    Disabled,
    /// It is no more, though still listed.
    Gone,
}

/// An AMI, as seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenImage {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// How far it is.
    pub state: State,
    /// When it was registered.
    pub created: Option<Timestamp>,
    /// The snapshot of its root device.
    pub snapshot: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// When it is deprecated.
    pub deprecation: Option<Timestamp>,
    /// Whether it is protected from deregistration.
    pub protected: bool,
}

/// A snapshot, as seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSnapshot {
    /// Its id.
    pub id: String,
    /// How far it is.
    pub state: State,
    /// GiB of the volume.
    pub gib: u64,
    /// The key that encrypts it, by ARN.
    pub kms_key: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// What is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The AMI with the image's name, of this account.
    pub image: Option<SeenImage>,
    /// Who may launch it; looked at when it is ready.
    pub grantees: BTreeSet<Grantee>,
    /// The snapshot that the entry speaks of.
    pub snapshot: Option<SeenSnapshot>,
    /// The firmware's variables, in base64; looked at when the AMI is ready and some are wanted.
    pub uefi_data: Option<String>,
    /// What the parameter says; looked at when the AMI is ready and one is wanted.
    pub parameter: Option<String>,
    /// How often in a row the same was seen ready, this time included.
    pub in_a_row: u32,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Begin the snapshot, or learn which one was begun.
    Start,
    /// Send the blocks that were not confirmed, and say that there are no more.
    Upload(String),
    /// Nothing but time helps; what for.
    Wait(String),
    /// Register the AMI from the snapshot.
    Register(String),
    /// Remove what failed and begin again.
    BeginAgain {
        /// The AMI to remove first.
        ami: Option<String>,
        /// The snapshot to remove then.
        snapshot: Option<String>,
        /// Why.
        why: String,
    },
    /// Change who may launch it.
    Share {
        /// The AMI.
        ami: String,
        /// Who may from now on.
        add: BTreeSet<Grantee>,
        /// Who may no longer.
        remove: BTreeSet<Grantee>,
    },
    /// Have it deprecated at a time, or never.
    Deprecate(String, Option<Timestamp>),
    /// Give it and its snapshot tags.
    Tag {
        /// The AMI and its snapshot.
        resources: Vec<String>,
        /// The tags that it lacks, or has with another value.
        tags: BTreeMap<String, String>,
    },
    /// Protect it from deregistration, or do not.
    Protect(String, bool),
    /// Have the parameter name it.
    Name(String),
    /// Everything is as it is wanted.
    Done {
        /// The AMI.
        ami: String,
        /// Its snapshot.
        snapshot: Option<String>,
    },
}

/// Why nothing can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// An AMI that is not of this image has its name.
    Taken(String),
    /// Someone took the AMI out of use.
    Disabled(String),
    /// The AMI's firmware begins with other variables.
    Firmware(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken(ami) => write!(f, "{ami} has the name of this image, and is not of its disk"),
            Self::Disabled(ami) => write!(f, "{ami} is of this image, and someone disabled it"),
            Self::Firmware(ami) => {
                write!(f, "{ami} is of this image, but has other `uefi_data`, which nothing can change")
            }
        }
    }
}

/// Returns the next step.
///
/// # Errors
/// Nothing can be done.
pub fn next(entry: &Entry, wanted: &Wanted, seen: &Seen, now: Timestamp) -> Result<Step, Refusal> {
    if let Some(image) = seen.image.as_ref().filter(|image| image.state != State::Gone) {
        return of_image(entry, wanted, seen, image);
    }
    let Some(id) = &entry.snapshot else { return Ok(Step::Start) };
    let new = entry.started.is_some_and(|at| now.duration_since(at) < GRACE);
    let again = |snapshot: Option<&String>, why: String| Step::BeginAgain {
        ami: None,
        snapshot: snapshot.cloned(),
        why,
    };
    Ok(match seen.snapshot.as_ref().map(|snapshot| &snapshot.state) {
        None if !new => again(None, format!("{id} is not there any more")),
        Some(State::Gone) => again(None, format!("{id} is not there any more")),
        Some(State::Failed(why)) => again(Some(id), format!("{id} failed: {why}")),
        Some(State::Disabled) => again(Some(id), format!("{id} is not in use any more")),
        Some(State::Ready) if seen.in_a_row >= IN_A_ROW => Step::Register(id.clone()),
        Some(State::Ready) => Step::Wait(format!("{id} to be completed everywhere")),
        None | Some(State::Pending) if entry.sealed => Step::Wait(format!("{id} to be completed")),
        None | Some(State::Pending) => Step::Upload(id.clone()),
    })
}

/// What is left to do when the AMI is there.
fn of_image(entry: &Entry, wanted: &Wanted, seen: &Seen, image: &SeenImage) -> Result<Step, Refusal> {
    let ami = || image.id.clone();
    let tag = |name: &str| image.tags.get(name).map(String::as_str);
    let ours =
        tag(IMAGE_TAG) == Some(&wanted.image.to_string()) && tag(DISK_TAG) == Some(&wanted.disk.to_string());
    if !ours {
        return Err(Refusal::Taken(ami()));
    }
    let published = entry.published.is_some() && entry.ami.as_ref() == Some(&image.id);
    match &image.state {
        State::Disabled => return Err(Refusal::Disabled(ami())),
        State::Failed(why) => {
            // A snapshot that this entry does not speak of is another's.
            let snapshot = image.snapshot.clone().filter(|found| entry.snapshot.as_ref() == Some(found));
            return Ok(Step::BeginAgain {
                ami: Some(ami()),
                snapshot,
                why: format!("{} failed: {why}", image.id),
            });
        }
        State::Pending => return Ok(Step::Wait(format!("{} to be available", image.id))),
        State::Ready if !published && seen.in_a_row < IN_A_ROW => {
            return Ok(Step::Wait(format!("{} to be available everywhere", image.id)));
        }
        State::Ready | State::Gone => {}
    }
    // What Git no longer says stays, as it does no harm that anybody could undo.
    if wanted.uefi_data.is_some() && wanted.uefi_data != seen.uefi_data {
        return Err(Refusal::Firmware(ami()));
    }
    let add: BTreeSet<_> = wanted.grantees.difference(&seen.grantees).cloned().collect();
    let remove: BTreeSet<_> = seen.grantees.difference(&wanted.grantees).cloned().collect();
    if !add.is_empty() || !remove.is_empty() {
        return Ok(Step::Share { ami: ami(), add, remove });
    }
    let lacks = wanted.tags.iter().filter(|(key, value)| image.tags.get(*key) != Some(value));
    let tags: BTreeMap<_, _> = lacks.map(|(key, value)| (key.clone(), value.clone())).collect();
    if !tags.is_empty() {
        let resources = std::iter::once(ami()).chain(image.snapshot.clone()).collect();
        return Ok(Step::Tag { resources, tags });
    }
    let at = deprecation(wanted, image);
    if image.deprecation != at {
        return Ok(Step::Deprecate(ami(), at));
    }
    if wanted.protect != image.protected {
        return Ok(Step::Protect(ami(), wanted.protect));
    }
    if wanted.parameter && seen.parameter.as_ref() != Some(&image.id) {
        return Ok(Step::Name(ami()));
    }
    Ok(Step::Done { ami: ami(), snapshot: image.snapshot.clone() })
}

/// Returns when it is to be deprecated: a full minute, since AWS keeps no more.
fn deprecation(wanted: &Wanted, image: &SeenImage) -> Option<Timestamp> {
    let at = image.created?.checked_add(wanted.deprecate_after?).ok()?;
    let minute = at.as_second().div_euclid(60) * 60;
    Timestamp::from_second(minute).ok()
}

#[cfg(test)]
mod tests;

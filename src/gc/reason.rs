//! Why something is kept or removed.

use std::fmt;

use jiff::SignedDuration;

use crate::digest::ImageId;
use crate::fleet::moment::lasting;
use crate::publish::plan::Grantee;

/// Where something of Git was read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the work tree.
    WorkTree,
    /// At a revision, as it was named.
    Revision(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WorkTree => f.write_str("in the work tree"),
            Self::Revision(name) => write!(f, "at {name}"),
        }
    }
}

/// What reaches an image, a layer or an input.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Root {
    /// A fleet runs machines of it here.
    Machine(String),
    /// A fleet's unfinished rollout goes there.
    Rolling(String),
    /// A fleet's last rollout went there.
    Rolled(String),
    /// What a fleet goes back to when its rollout fails.
    Proven(String),
    /// What was proven before that.
    Previous(String),
    /// A fleet's journal has instances of it.
    Member(String),
    /// A fleet in Git asks for it, or is baked from it.
    Git(String, Place),
    /// A fleet in Git asks for an image of its recipe; which one cannot be told, for this reason.
    Unclear(String, Place, String),
    /// A recipe's lock names it.
    Lock(String, Place),
    /// It is of an instance of a fleet that is kept as evidence.
    Evidence(String),
    /// A person wants it kept: who, since when and why.
    Pin(String),
    /// A process uses it: what, and its number.
    Claim(String, String),
    /// A launch template names it: the template, the version, and whether that is the default one; else it is the
    /// latest.
    Template(String, i64, bool),
    /// An Auto Scaling group launches it.
    Group(String),
    /// A launch configuration names it.
    Configuration(String),
    /// So many instances were launched from it.
    Instances(usize),
    /// A parameter names it.
    Parameter(String),
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine(fleet) => write!(f, "fleet {fleet} runs it"),
            Self::Rolling(fleet) => write!(f, "fleet {fleet} is being rolled to it"),
            Self::Rolled(fleet) => write!(f, "the last rollout of fleet {fleet} went to it"),
            Self::Proven(fleet) => write!(f, "fleet {fleet} completed with it last"),
            Self::Previous(fleet) => write!(f, "fleet {fleet} completed with it before"),
            Self::Member(fleet) => write!(f, "the journal of fleet {fleet} has instances of it"),
            Self::Git(fleet, place) => write!(f, "fleet {fleet} {place} asks for it"),
            Self::Unclear(fleet, place, why) => {
                write!(f, "fleet {fleet} {place} may ask for it, which cannot be told: {why}")
            }
            Self::Lock(recipe, place) => write!(f, "the lock of {recipe} {place} names it"),
            Self::Evidence(fleet) => write!(f, "evidence of fleet {fleet} is of it"),
            Self::Pin(who) => write!(f, "pinned {who}"),
            Self::Claim(by, pid) => write!(f, "{by} (process {pid}) uses it"),
            Self::Template(name, version, default) => {
                let which = if *default { "default" } else { "latest" };
                write!(f, "launch template {name} has it in its {which} version ({version})")
            }
            Self::Group(name) => write!(f, "Auto Scaling group {name} launches it"),
            Self::Configuration(name) => write!(f, "launch configuration {name} has it"),
            Self::Instances(1) => f.write_str("one instance is of it"),
            Self::Instances(count) => write!(f, "{count} instances are of it"),
            Self::Parameter(name) => write!(f, "parameter {name} names it"),
        }
    }
}

/// Why something is kept or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It is reached.
    Root(Root),
    /// A kept image was made from it.
    Used(ImageId),
    /// Its place among the images of its recipe that a fleet may run, from 1, the newest.
    Newest(usize),
    /// It was made so long ago, which is not long.
    Young(SignedDuration),
    /// Nobody can tell what it is.
    Unreadable(String),
    /// AWS is not done with it.
    Pending,
    /// Somebody disabled it.
    Disabled,
    /// It is protected from deregistration, and Git does not ask for that.
    Protected,
    /// It is shared with somebody whose account was not looked at.
    Shared(Grantee),
    /// Publishing it was begun and is not finished.
    Unfinished,
    /// Nothing reaches it, and there are newer ones.
    Older {
        /// How many images of its recipe that a fleet may run are newer.
        newer: usize,
        /// How long ago it was made.
        age: SignedDuration,
    },
    /// Nothing reaches it, and no fleet may run it.
    Useless {
        /// How long ago it was made.
        age: SignedDuration,
    },
    /// It is no image.
    Half,
    /// Nothing uses the layer or the input.
    Unused {
        /// How long ago it was made or fetched.
        age: SignedDuration,
    },
    /// A snapshot that no AMI was made of in time.
    Expired {
        /// How long ago that time ended.
        ago: SignedDuration,
    },
}

impl Why {
    /// Tells whether it is a reason to remove.
    #[must_use]
    pub const fn removes(&self) -> bool {
        matches!(
            self,
            Self::Older { .. }
                | Self::Useless { .. }
                | Self::Half
                | Self::Unused { .. }
                | Self::Expired { .. }
        )
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(root) => root.fmt(f),
            Self::Used(image) => write!(f, "image {} was made from it", image.short()),
            Self::Newest(1) => f.write_str("the newest of its recipe"),
            Self::Newest(place) => write!(f, "the newest but {} of its recipe", place - 1),
            Self::Young(age) => write!(f, "made {} ago", lasting(*age)),
            Self::Unreadable(why) => write!(f, "its record does not read: {why}"),
            Self::Pending => f.write_str("AWS is not done with it"),
            Self::Disabled => f.write_str("somebody disabled it: enable it, or deregister it by hand"),
            Self::Protected => f.write_str("protected from deregistration, which Git does not ask for"),
            Self::Shared(grantee) => {
                write!(f, "shared with {grantee}, who may need it (`--shared` removes it)")
            }
            Self::Unfinished => {
                f.write_str("publishing it was begun: publish again to go on, or `rekiln reap` to remove it")
            }
            Self::Expired { ago } => write!(f, "no AMI was made of it in time, {} ago", lasting(*ago)),
            Self::Older { newer, age } => {
                write!(f, "nothing reaches it, {newer} of its recipe are newer, made {} ago", lasting(*age))
            }
            Self::Useless { age } => {
                write!(f, "nothing reaches it, no fleet may run it, made {} ago", lasting(*age))
            }
            Self::Half => f.write_str("half an image: it has no record"),
            Self::Unused { age } => write!(f, "nothing that is kept uses it, made {} ago", lasting(*age)),
        }
    }
}

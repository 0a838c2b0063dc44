//! What a person wrote for an image.

pub mod ami;
pub mod document;
pub mod id;
pub mod inputs;
pub mod publish;
pub mod render;
mod shape;
pub mod validate;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::ami::AmiSource;
use self::publish::Publish;
use crate::digest::Digest;

/// A recipe: `images/<name>.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// One line for people; does not change the image.
    #[serde(default)]
    pub description: String,
    /// What the image stands on.
    pub source: Source,
    /// Packages, besides what the source brings. On a vendor's disk they are that distribution's, and one may be
    /// pinned, as in `nginx=1.22.1-9`; else they are Debian's, and the lock has their versions.
    #[serde(default)]
    pub packages: BTreeSet<String>,
    /// Values for templates.
    #[serde(default)]
    pub vars: BTreeMap<String, Var>,
    /// Files made from templates.
    #[serde(default, rename = "file")]
    pub files: Vec<File>,
    /// Artifacts from outside, by digest.
    #[serde(default, rename = "fetch")]
    pub fetches: Vec<Fetch>,
    /// Scripts run in the tree, without a network; on a vendor's disk in the machine that runs it, with one.
    #[serde(default, rename = "run")]
    pub runs: Vec<RunScript>,
    /// Which units start at boot.
    #[serde(default)]
    pub services: Services,
    /// The kernel's command line.
    #[serde(default)]
    pub kernel: Kernel,
    /// Exceptions from the strict profile.
    #[serde(default)]
    pub harden: Harden,
    /// What the booted image must pass; does not change the image.
    #[serde(default, rename = "check")]
    pub checks: Vec<Check>,
    /// What the machine has in which it must pass them; does not change the image.
    #[serde(default)]
    pub trial: Trial,
    /// Where the image is published, and who may use it; does not change the image.
    #[serde(default)]
    pub publish: Publish,
}

/// What an image stands on: exactly one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Source {
    /// Another recipe of this repository; its tree is the ground.
    Image(String),
    /// A Debian suite by code name, from packages.
    Debian(String),
    /// A vendor's disk: a copy of it is booted, changed and sealed; the image is *derived* from it.
    Disk(DiskSource),
    /// A vendor's AMI: an instance of it is changed and sealed in EC2; the image is *derived* from it.
    Ami(AmiSource),
}

/// What a vendor made and an image is derived from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor<'a> {
    /// A disk.
    Disk(&'a DiskSource),
    /// An AMI.
    Ami(&'a AmiSource),
}

impl Source {
    /// Returns what the image is derived from, if it is.
    #[must_use]
    pub const fn vendor(&self) -> Option<Vendor<'_>> {
        match self {
            Self::Disk(disk) => Some(Vendor::Disk(disk)),
            Self::Ami(ami) => Some(Vendor::Ami(ami)),
            Self::Image(_) | Self::Debian(_) => None,
        }
    }

    /// Tells whether the image is derived from what a vendor made.
    #[must_use]
    pub const fn is_derived(&self) -> bool {
        self.vendor().is_some()
    }

    /// Returns the recipe it stands on, if it is one of this repository.
    #[must_use]
    pub fn parent(&self) -> Option<&str> {
        match self {
            Self::Image(name) => Some(name),
            Self::Debian(_) | Self::Disk(_) | Self::Ami(_) => None,
        }
    }
}

/// A disk as its vendor publishes it for clouds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskSource {
    /// The file, qcow2 or raw: absolute, or relative to the repository's root.
    pub path: String,
    /// What the file must be, as it lies there.
    pub sha256: Digest,
    /// What the disk is grown to, such as `8G`; its first boot grows the root file system. Without it, the disk
    /// keeps its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// How long the machine may take from its start, and from a restart, until its SSH server lets rekiln in, such as
    /// `20m`; without it, ten minutes. It shapes no bytes and is in no image id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_timeout: Option<String>,
    /// Whether the disk's own boot loader and cloud-init do the first boot, as for anybody. Without it, rekiln starts the
    /// vendor's kernel itself and tells systemd what cloud-init would have been told, where the disk has what that needs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cloud_init: bool,
}

/// A value for templates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Var {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Text.
    Text(String),
    /// A list of values.
    List(Vec<Var>),
    /// Values by name.
    Table(BTreeMap<String, Var>),
}

/// A file made from a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Absolute path in the image.
    pub path: String,
    /// Template, relative to `bootstrap/`; handlebars in strict mode.
    pub template: String,
    /// Permissions, octal.
    #[serde(default = "default_mode")]
    pub mode: String,
    /// Owner, `user` or `user:group`, by name in the image.
    #[serde(default = "default_owner")]
    pub owner: String,
}

fn default_mode() -> String {
    "0644".to_owned()
}

fn default_owner() -> String {
    "root:root".to_owned()
}

/// An artifact from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fetch {
    /// Where from.
    pub url: String,
    /// What it must be.
    pub sha256: Digest,
    /// Absolute path in the image: the file, or the directory it is unpacked into.
    pub path: String,
    /// Unpack a tar archive (any compression tar knows) into `path`.
    #[serde(default)]
    pub unpack: bool,
    /// Permissions of the file, octal; not used with `unpack`.
    #[serde(default = "default_mode")]
    pub mode: String,
}

/// A script that runs in the tree, sandboxed and without a network; or, where the source is a vendor's disk, in the
/// machine that runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunScript {
    /// Template of the script, relative to `bootstrap/`.
    pub script: String,
    /// Reboot the machine after the script; the next step begins when it is up again. Only on a vendor's disk.
    #[serde(default)]
    pub reboot: bool,
    /// The connection may be lost while the script runs: the script goes on, and its result is waited for. Only on a
    /// vendor's disk.
    #[serde(default)]
    pub expect_disconnect: bool,
}

/// Which units start at boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Services {
    /// Units to start, without `.service` where it is one.
    #[serde(default)]
    pub enable: BTreeSet<String>,
    /// Units that must not start though their package wants it.
    #[serde(default)]
    pub disable: BTreeSet<String>,
    /// Ports that may be reachable from outside, such as `80/tcp`. Any other open port is a finding.
    #[serde(default)]
    pub ports: BTreeSet<String>,
}

/// The kernel's command line and modules. On a vendor's disk only the command line: its initrd is the vendor's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Arguments after those of the strict profile.
    #[serde(default)]
    pub args: Vec<String>,
    /// Modules kept in the image besides those of the strict profile.
    #[serde(default)]
    pub modules: BTreeSet<String>,
}

/// Exceptions from the strict profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Harden {
    /// Findings that are accepted, each with its reason.
    #[serde(default)]
    pub allow: Vec<Exception>,
}

/// An accepted finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// The rule's name as `rekiln inspect` prints it.
    pub rule: String,
    /// The path it is accepted for; without it, any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Why; shown in `plan` and `diff`.
    pub why: String,
}

/// What the booted image must pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// A request and its answer.
    pub http: HttpCheck,
    /// Seconds after the machine starts, such as `60s`.
    #[serde(default = "default_within")]
    pub within: String,
}

fn default_within() -> String {
    "60s".to_owned()
}

/// What the machine of the boot verdict has besides the image: an image that is a member of something shows nothing alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// Memory, such as `512M`; left out, 256M, or 512M where a vendor's disk is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Size of a blank data disk, such as `1G`; left out, there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Whether it is told, as the first machine of a fleet is, that it founds a cluster, with a secret made for this boot.
    #[serde(default)]
    pub founds: bool,
}

/// A request and what its answer must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    /// TCP port in the guest.
    pub port: u16,
    /// Path of the request.
    #[serde(default = "default_path")]
    pub path: String,
    /// Status of the answer.
    #[serde(default = "default_status")]
    pub status: u16,
    /// Text that the answer's body must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
}

fn default_path() -> String {
    "/".to_owned()
}

const fn default_status() -> u16 {
    200
}

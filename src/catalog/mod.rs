//! Records of the images made.

pub mod marks;
pub mod pins;
pub mod provenance;
pub mod quarantine;
pub mod sbom;
pub mod selection;
mod store;

pub use store::{Catalog, Listing};

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, ImageId};
use crate::inspect::Finding;
use crate::recipe::Exception;

/// The version of the record format that this program writes.
pub const VERSION: u32 = 1;

/// What is known of one image: `images/<id>/record.json`, written after everything else of the image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Format version.
    pub version: u32,
    /// The image id.
    pub id: ImageId,
    /// The recipe's name.
    pub name: String,
    /// Whether it is a debug variant (root shell on the console); never a fleet's target.
    pub debug: bool,
    /// The Git commit it was baked at, when the repository has one.
    pub commit: Option<String>,
    /// Whether the work tree had no changes then.
    pub clean: bool,
    /// Digest of the recipe's lock file.
    pub lock: Digest,
    /// Image ids of the recipes it stands on, nearest first.
    pub parents: Vec<ImageId>,
    /// The disk.
    pub disk: Disk,
    /// dm-verity root hash; a derived image has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_hash: Option<Digest>,
    /// The kernel's command line as sealed in the UKI; of a derived image, as found in its boot loader's configuration.
    pub cmdline: String,
    /// Layers from the ground up; a derived image has none.
    pub layers: Vec<Layer>,
    /// The key of the layer with its kernel and initrd; records of older versions do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Digest>,
    /// Ports that may be open, such as `80/tcp`.
    pub ports: Vec<String>,
    /// Units enabled by the recipes.
    pub services: Vec<String>,
    /// Exceptions from the strict profile that hold for this image.
    pub exceptions: Vec<Exception>,
    /// Packages in the image: name to version.
    pub packages: BTreeMap<String, String>,
    /// What `inspect` found on the sealed disk, excepted findings included.
    pub findings: Vec<Finding>,
    /// What booting it said; an image without a passing verdict is no fleet's target.
    pub verdict: Option<Verdict>,
    /// When the bake ended.
    pub baked: Timestamp,
    /// Wall-clock seconds by step.
    pub timings: BTreeMap<String, f64>,
    /// What it is derived from, when a vendor made that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derived: Option<Derived>,
}

/// What an image is derived from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Origin {
    /// A vendor's disk.
    Disk {
        /// Its digest, as it was in its file.
        source: Digest,
        /// Where that file was, as the recipe has it.
        path: String,
    },
    /// A vendor's AMI.
    Ami {
        /// Its id.
        ami: String,
        /// The name that its owner gave it.
        name: String,
        /// The account that owns it.
        owner: String,
        /// The region that it is in.
        region: String,
        /// The image's own AMI, made by `CreateImage` there.
        made: String,
    },
}

/// Where an image comes from that is derived from a vendor's disk or AMI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Derived {
    /// What it is derived from.
    #[serde(flatten)]
    pub origin: Origin,
    /// What the disk boots from.
    pub firmware: Firmware,
    /// What of the image cannot be made again from the same inputs, and why; one line each.
    pub not_reproducible: Vec<String>,
    /// Whose packages it has, as far as that was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<Distribution>,
}

/// What a disk boots from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Firmware {
    /// A boot sector.
    Bios,
    /// An EFI system partition.
    Uefi,
}

impl Firmware {
    /// Returns its name for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bios => "BIOS",
            Self::Uefi => "UEFI",
        }
    }
}

/// Whose packages an image has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution {
    /// `ID` of its os-release(5), such as `debian` or `almalinux`.
    pub id: String,
    /// `VERSION_ID` there, such as `12` or `9.4`; a rolling one has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The kind of its packages.
    pub packages: PackageKind,
}

/// A kind of packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackageKind {
    /// dpkg's.
    Deb,
    /// rpm's.
    Rpm,
}

impl PackageKind {
    /// Returns its word in records and package URLs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deb => "deb",
            Self::Rpm => "rpm",
        }
    }
}

/// The sealed disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Digest of the whole disk.
    pub sha256: Digest,
    /// Digest of `blocks.json` beside the disk, which has the digest of each block; records of older versions do not
    /// say, and are published after reading the whole disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<Digest>,
    /// Bytes of the whole disk.
    pub size: u64,
    /// Partitions in order.
    pub partitions: Vec<Partition>,
}

/// One partition of the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// GPT name: `esp`, `root` or `verity`, prefixed as in [`crate::bake::layout`].
    pub name: String,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// One read-only erofs layer in the root partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The recipe it belongs to.
    pub image: String,
    /// `packages` or `files`.
    pub kind: String,
    /// The digest of its inputs.
    pub key: Digest,
    /// The digest of its bytes.
    pub sha256: Digest,
    /// First byte in the root partition; a multiple of 4096.
    pub offset: u64,
    /// Bytes; a multiple of 4096.
    pub size: u64,
}

/// What booting an image once said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether everything passed.
    pub passed: bool,
    /// What did not, one line each; empty when it passed.
    pub reasons: Vec<String>,
    /// TCP ports found open from outside.
    pub open_ports: Vec<u16>,
    /// Seconds from starting the machine to the guest's report that it is up.
    pub ready_s: Option<f64>,
    /// Seconds from starting the machine to the first passing `[[check]]` answer.
    pub serving_s: Option<f64>,
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// Units that failed in the guest.
    pub failed_units: Vec<String>,
    /// When it was booted.
    pub at: Timestamp,
}

impl Record {
    /// Tells whether a fleet may run it: a passing verdict, and no debug variant.
    #[must_use]
    pub fn may_be_target(&self) -> bool {
        !self.debug && self.verdict.as_ref().is_some_and(|verdict| verdict.passed)
    }
}

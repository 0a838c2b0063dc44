//! Every input of an image by digest. A bake takes a lock, never a recipe's wishes.

pub mod apt;
pub mod archive;
pub mod change;
mod credentials;
pub mod derived;
mod download;
pub mod fetch;
pub mod places;
pub mod refresh;
pub mod resolve;
pub mod settings;
pub mod sources;
pub mod stale;
pub mod stanza;
pub mod text;
pub mod tools;
pub mod vault;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
pub use places::{Place, Places};

/// The newest version of the lock format that this program knows. Readers refuse a higher one.
///
/// 2: [`Lock::layout`]. A lock without one is written as version 1, which every rekiln reads.
pub const VERSION: u32 = 2;

/// The inputs of one recipe: `images/<name>.lock`. Those of the recipe it stands on are in that one's lock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Format version.
    pub version: u32,
    /// What was asked for when the lock was made; compared with the recipe to find a stale lock.
    pub asked: Asked,
    /// Seconds since 1970 to which all times in the image are clamped: the newest archive date; for an image that is
    /// derived from a vendor's disk, when it was locked.
    pub epoch: i64,
    /// The programs of the host whose versions shape bytes, by name; none for a derived image, which is written by the
    /// programs of the vendor's disk.
    pub tools: BTreeMap<String, String>,
    /// The archive states that were resolved against.
    #[serde(default, rename = "suite")]
    pub suites: Vec<Suite>,
    /// Packages in the order in which apt would install them; none for a derived image.
    #[serde(default, rename = "package")]
    pub packages: Vec<Package>,
    /// Artifacts from outside.
    #[serde(default, rename = "fetch")]
    pub fetches: Vec<LockedFetch>,
    /// Where packages lay in this recipe's layer when `rekiln lock` last found the image before in the store.
    #[serde(default)]
    pub layout: Option<Places>,
}

impl Lock {
    /// Returns the oldest format that can say this.
    #[must_use]
    pub const fn format(&self) -> u32 {
        if self.layout.is_some() { VERSION } else { 1 }
    }

    /// Returns the digests of all inputs.
    pub fn inputs(&self) -> impl Iterator<Item = Digest> {
        let packages = self.packages.iter().map(|package| package.sha256);
        packages.chain(self.fetches.iter().map(|fetch| fetch.sha256))
    }
}

/// What a lock was made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// `debian:<suite>`, `image:<name>` or `disk:<sha256>`.
    pub source: String,
    /// The digest of the parent's lock file, when the source is an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_lock: Option<Digest>,
    /// Debian architecture, such as `amd64`.
    pub architecture: String,
    /// Packages that the recipe names.
    pub packages: BTreeSet<String>,
}

/// One suite's signed index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// Such as `bookworm-security`.
    pub name: String,
    /// When the archive signed it.
    pub date: Timestamp,
    /// Digest of the `InRelease` file.
    pub inrelease: Digest,
}

/// One package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Binary package name.
    pub name: String,
    /// Full version with epoch.
    pub version: String,
    /// Debian architecture: `amd64` or `all`.
    pub arch: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Role::is_root")]
    pub role: Role,
    /// Bytes of the .deb.
    pub size: u64,
    /// Digest of the .deb.
    pub sha256: Digest,
    /// Path below a mirror's root, such as `pool/main/n/nginx/nginx_….deb`.
    pub path: String,
    /// Which archive of the mirror has it: `debian` or `debian-security`.
    pub archive: String,
}

/// What a package is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Installed in the root file system.
    #[default]
    Root,
    /// The kernel: its image goes to the UKI, chosen modules to the root and the initrd; never configured by dpkg.
    Kernel,
    /// The UEFI stub: goes into the UKI only.
    Stub,
}

impl Role {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_root(&self) -> bool {
        *self == Self::Root
    }
}

/// One artifact from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedFetch {
    /// Where from.
    pub url: String,
    /// What it must be.
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
}

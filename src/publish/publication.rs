//! What is published where, and what came of it.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::SignedDuration;
use tokio::sync::OnceCell;

use super::blocks::Blocks;
use super::plan::{Grantee, Wanted, ami_name};
use crate::catalog::{self, Firmware, Record};
use crate::digest::{Digest, ImageId};
use crate::error::{Doing as _, Error, Result};
use crate::notation;
use crate::recipe::publish::Publish;

/// An image's disk, with its blocks, which are looked for once and only when something is sent.
#[derive(Debug)]
pub struct Disk {
    /// Where it lies.
    pub path: PathBuf,
    /// Its digest, as recorded.
    pub sha256: Digest,
    /// The digest of what is recorded of its blocks.
    recorded: Option<Digest>,
    /// Bytes.
    pub size: u64,
    /// What it boots from: an AMI says so, and only the disk knows.
    pub firmware: Firmware,
    /// Those that were looked for already.
    pub(super) blocks: OnceCell<Blocks>,
}

impl Disk {
    /// The disk of a recorded image.
    #[must_use]
    pub fn new(path: PathBuf, record: &Record) -> Self {
        let catalog::Disk { sha256, blocks, size, .. } = record.disk;
        // rekiln's own disks have no boot sector.
        let firmware = record.derived.as_ref().map_or(Firmware::Uefi, |derived| derived.firmware);
        Self { path, sha256, recorded: blocks, size, firmware, blocks: OnceCell::new() }
    }

    /// Returns its blocks: as the bake recorded them, or after reading all of it and making sure that it is what was
    /// recorded. Either way each block is compared with this before it is sent.
    ///
    /// # Errors
    /// It cannot be read, or is not what was recorded.
    pub async fn blocks(&self) -> Result<&Blocks> {
        let read = || async {
            if let Some(blocks) = self.recorded.and_then(|digest| Blocks::recorded(&self.path, digest)) {
                return Ok(blocks);
            }
            let (path, path2) = (self.path.clone(), self.path.clone());
            let digest = tokio::task::spawn_blocking(move || Digest::of_file(&path));
            let blocks = tokio::task::spawn_blocking(move || Blocks::of(&path2));
            let doing = || format!("reading {}", self.path.display());
            let digest = digest.await.doing(doing)?.doing(doing)?;
            if digest != self.sha256 {
                return Err(Error::failed(format!("{} is not the disk that was baked", self.path.display()))
                    .hint("remove the image (`rekiln gc`) and bake it again: the same inputs give the same disk"));
            }
            blocks.await.doing(doing)?
        };
        self.blocks.get_or_try_init(read).await
    }
}

/// What is to be published where.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The image.
    pub image: ImageId,
    /// Its recipe.
    pub recipe: String,
    /// Its disk.
    pub disk: Arc<Disk>,
    /// The commit it was baked at.
    pub commit: Option<String>,
    /// What the recipe says.
    pub settings: Publish,
    /// The region.
    pub region: String,
    /// The role to assume, by ARN.
    pub role: Option<String>,
    /// Who publishes it.
    pub owner: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The account it is in.
    pub account: String,
    /// The AMI.
    pub ami: String,
    /// Its snapshot.
    pub snapshot: Option<String>,
    /// Blocks with data in the disk; `None` when nobody looked, since another store published it.
    pub blocks: Option<usize>,
    /// Blocks that were sent by this run.
    pub sent: usize,
    /// The snapshot that it was sent as a delta to.
    pub parent: Option<String>,
    /// Whether anything was changed.
    pub changed: bool,
}

impl Publication {
    /// Makes sure that it comes into the account that the recipe says.
    ///
    /// # Errors
    /// These credentials are of another one.
    pub(super) fn owned_by(&self, account: &str) -> Result<()> {
        match self.settings.account.as_deref().filter(|wanted| *wanted != account) {
            None => Ok(()),
            Some(wanted) => Err(Error::failed(format!(
                "recipe {} is published in account {wanted}, and these credentials are of account {account}",
                self.recipe
            ))
            .hint("nothing was changed; choose other credentials, such as with AWS_PROFILE, or let `roles` in [publish] name one to assume")),
        }
    }

    /// What scope its progress has.
    pub(super) fn scope(&self) -> String {
        let role = self.role.as_ref().map_or_else(String::new, |role| format!(" by {role}"));
        format!("{} in {}{role}", self.recipe, self.region)
    }

    pub(super) fn wanted(&self) -> Result<Wanted> {
        let Publish { accounts, organisations, deprecate_after, protect, parameter, uefi_data, .. } =
            &self.settings;
        let accounts = accounts.iter().cloned().map(Grantee::Account);
        let organisations = organisations.iter().map(|arn| Grantee::of_arn(arn));
        let deprecate_after = match deprecate_after {
            Some(text) => {
                let after = notation::duration(text).map_err(|error| {
                    Error::invalid(format!(
                        "`deprecate_after = \"{text}\"` of recipe {}: {error}",
                        self.recipe
                    ))
                })?;
                Some(SignedDuration::try_from(after).doing(|| "reading `deprecate_after`")?)
            }
            None => None,
        };
        Ok(Wanted {
            image: self.image,
            disk: self.disk.sha256,
            grantees: accounts.chain(organisations).collect(),
            tags: self.settings.tags.clone(),
            deprecate_after,
            protect: *protect,
            parameter: parameter.is_some(),
            uefi_data: uefi_data.clone(),
        })
    }

    pub(super) fn ami_name(&self) -> String {
        ami_name(&self.recipe, self.image)
    }

    pub(super) fn gib(&self) -> u64 {
        self.disk.size.div_ceil(1 << 30).max(1)
    }

    pub(super) fn description(&self) -> String {
        let commit = self.commit.as_deref().map_or_else(String::new, |commit| format!(", commit {commit}"));
        format!("rekiln image {} of {}{commit}", self.image.short(), self.recipe)
    }
}

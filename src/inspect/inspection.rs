//! The whole inspection of a disk.

use std::path::Path;

use serde::Serialize;

use super::disk::{Disk, SealedDisk};
use super::foreign::ForeignDisk;
use super::inventory::Inventory;
use super::rules::{self, Context, DiskKind};
use super::{Finding, Severity};
use crate::catalog::Record;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::recipe::Exception;

/// What is known of a disk before it is opened; everything but `verify` comes from its record.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// The root hash it should have.
    pub root_hash: Option<Digest>,
    /// The command line it should have.
    pub cmdline: Option<String>,
    /// Units that recipes enabled; without a record, whatever `/etc` enables is taken for them.
    pub services: Option<Vec<String>>,
    /// Ports that may be open.
    pub ports: Vec<String>,
    /// Exceptions from the strict profile.
    pub exceptions: Vec<Exception>,
    /// Whether to compute the root hash anew. A bake has just computed it and need not.
    pub verify: bool,
}

impl From<&Record> for Expected {
    fn from(record: &Record) -> Self {
        Self {
            root_hash: record.root_hash,
            cmdline: Some(record.cmdline.clone()),
            services: Some(record.services.clone()),
            ports: record.ports.clone(),
            exceptions: record.exceptions.clone(),
            verify: true,
        }
    }
}

/// What is on a disk and what is wrong with it.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// Violations, excepted ones included; the worst first.
    pub findings: Vec<Finding>,
    /// What there is.
    pub inventory: Inventory,
    /// The root hash: computed anew when asked for, else the sealed one; `None` on a vendor's disk, which has none.
    pub root_hash: Option<Digest>,
}

impl Inspection {
    /// Returns the findings that no exception accepts.
    pub fn unexcepted(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.excepted.is_none())
    }
}

/// Opens the disk in a file and applies all rules.
///
/// # Errors
/// As [`inspect`], and no such file.
pub fn inspect_disk(path: &Path, expected: &Expected) -> Result<Inspection> {
    let during = |error: Error| error.during(format!("reading {}", path.display()));
    inspect(&Disk::open(path)?, expected).map_err(during)
}

/// Applies all rules to a disk.
///
/// # Errors
/// Layers and file systems that are damaged.
pub fn inspect(disk: &Disk, expected: &Expected) -> Result<Inspection> {
    match disk {
        Disk::Sealed(disk) => inspect_sealed(disk, expected),
        Disk::Foreign(disk) => inspect_foreign(disk, expected),
    }
}

fn inspect_sealed(disk: &SealedDisk, expected: &Expected) -> Result<Inspection> {
    let tree = disk.tree()?;
    let context = Context {
        disk: DiskKind::Sealed,
        cmdline: Some(disk.cmdline.clone()),
        services: expected.services.clone(),
        ports: expected.ports.clone(),
    };
    let mut findings = rules::apply(&tree, &context, &expected.exceptions)?;
    let sealed = disk.cmdline.root_hash().ok();
    let mut root_hash = sealed;
    if expected.verify {
        let (computed, stored) = disk.verify()?;
        root_hash = Some(computed);
        if sealed != Some(computed) {
            let text = sealed.map_or_else(|| "none".to_owned(), |hash| hash.to_string());
            findings.push(damage(rules::ROOT_HASH, "rekiln-root", format!(
                "the root partition's hash is {computed} and not {text} as sealed: it was changed after the bake"
            )));
        } else if !stored {
            findings.push(damage(
                rules::ROOT_HASH,
                "rekiln-hash",
                "the hash partition does not hold the tree of the root partition: reading will fail"
                    .to_owned(),
            ));
        }
    }
    if expected.root_hash.is_some() && expected.root_hash != sealed {
        findings.push(damage(
            rules::RECORD,
            "rekiln.roothash",
            "the sealed root hash is not that of the image's record".to_owned(),
        ));
    }
    if expected.cmdline.as_ref().is_some_and(|cmdline| cmdline.trim() != disk.cmdline.0) {
        findings.push(damage(
            rules::RECORD,
            "rekiln-esp",
            "the sealed command line is not that of the image's record".to_owned(),
        ));
    }
    findings.sort();
    let inventory = Inventory::of(&tree, disk, &expected.ports)?;
    Ok(Inspection { findings, inventory, root_hash })
}

/// A vendor's disk has no hash of its root: what is on it now is what is judged, and the record vouches for the disk.
fn inspect_foreign(disk: &ForeignDisk, expected: &Expected) -> Result<Inspection> {
    let contents = disk.contents()?;
    let context = Context {
        disk: DiskKind::Foreign,
        cmdline: contents.cmdline().cloned(),
        services: expected.services.clone(),
        ports: expected.ports.clone(),
    };
    let mut findings = rules::apply(&contents.tree, &context, &expected.exceptions)?;
    if expected.root_hash.is_some() {
        findings.push(damage(
            rules::RECORD,
            "root",
            "the image's record has a root hash, and this disk has no partitions of rekiln's".to_owned(),
        ));
    }
    let own = contents.cmdline().map_or("", |cmdline| cmdline.0.as_str());
    // A record may say nothing of a command line that a boot loader has.
    let recorded =
        expected.cmdline.as_ref().map(|cmdline| cmdline.trim()).filter(|cmdline| !cmdline.is_empty());
    if recorded.is_some_and(|cmdline| cmdline != own) {
        findings.push(damage(
            rules::RECORD,
            "/boot",
            "the boot loader's command line is not that of the image's record".to_owned(),
        ));
    }
    findings.sort();
    let inventory = Inventory::of_foreign(&contents, disk, &expected.ports)?;
    Ok(Inspection { findings, inventory, root_hash: None })
}

fn damage(rule: &str, path: &str, reason: String) -> Finding {
    Finding {
        severity: Severity::Critical,
        rule: rule.to_owned(),
        path: path.to_owned(),
        reason,
        excepted: None,
    }
}

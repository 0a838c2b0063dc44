//! The whole inspection of a sealed disk.

use std::path::Path;

use serde::Serialize;

use super::disk::SealedDisk;
use super::inventory::Inventory;
use super::rules::{self, Context};
use super::{Finding, Severity};
use crate::catalog::Record;
use crate::digest::Digest;
use crate::error::Result;
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
    /// The root hash: computed anew when asked for, else the sealed one.
    pub root_hash: Option<Digest>,
}

impl Inspection {
    /// Returns the findings that no exception accepts.
    pub fn unexcepted(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.excepted.is_none())
    }
}

/// Opens a sealed disk and applies all rules.
///
/// # Errors
/// No disk of rekiln's, and layers that are damaged.
pub fn inspect_disk(path: &Path, expected: &Expected) -> Result<Inspection> {
    let disk = SealedDisk::open(path)?;
    let tree = disk.tree().map_err(|error| error.during(format!("reading {}", path.display())))?;
    let context = Context {
        cmdline: disk.cmdline.clone(),
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
    let inventory = Inventory::of(&tree, &disk, &expected.ports)?;
    Ok(Inspection { findings, inventory, root_hash })
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

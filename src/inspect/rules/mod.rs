//! The strict profile as rules: each looks at the tree and says what violates it.

#![expect(
    clippy::unnecessary_wraps,
    reason = "rules that cannot fail stand in one table with those that can"
)]

mod access;
mod kernel;
mod privilege;
mod profile;
mod remains;
mod secrets;
mod services;
#[cfg(test)]
mod tests;

pub(super) use privilege::names as capability_names;
pub use profile::SETUID;

use super::disk::Cmdline;
use super::tree::Tree;
use super::{Finding, Severity};
use crate::error::Result;
use crate::recipe::Exception;

/// Which kind of disk a tree is on. The profile is the same; a rule looks at it where the disk makes a demand
/// impossible (nothing of rekiln's starts a vendor's disk) or another one necessary (its root is writable).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskKind {
    /// rekiln's own: a read-only root under dm-verity, `/var` and `/tmp` fresh at each boot.
    Sealed,
    /// A vendor's: a root that the machine writes to, started by its own boot loader and initrd.
    Foreign,
}

/// What a rule knows besides the tree.
#[derive(Debug, Clone)]
pub struct Context {
    /// The kind of disk.
    pub disk: DiskKind,
    /// The kernel command line, sealed or GRUB's; `None` when nothing on the disk says so.
    pub cmdline: Option<Cmdline>,
    /// Units that recipes enabled; without a record, whatever `/etc` enables.
    pub services: Option<Vec<String>>,
    /// Ports that may be open, such as `80/tcp`.
    pub ports: Vec<String>,
}

/// One demand of the strict profile.
pub struct Rule {
    /// Its name, as exceptions use it.
    pub name: &'static str,
    /// How bad a violation is.
    pub severity: Severity,
    /// Why a violation is one.
    pub reason: &'static str,
    /// Finds the violations.
    find: fn(&Tree, &Context) -> Result<Vec<Hit>>,
}

/// One violation: where, and what of it when the rule's reason does not say enough.
pub(crate) struct Hit {
    path: String,
    detail: String,
}

impl Hit {
    fn at(path: impl Into<String>) -> Self {
        Self { path: path.into(), detail: String::new() }
    }

    fn with(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { path: path.into(), detail: detail.into() }
    }
}

const fn rule(
    name: &'static str,
    severity: Severity,
    reason: &'static str,
    find: fn(&Tree, &Context) -> Result<Vec<Hit>>,
) -> Rule {
    Rule { name, severity, reason, find }
}

use Severity::{Critical, High, Medium};

/// The rules, by what they protect.
pub const RULES: &[Rule] = &[
    rule(
        "ssh-server",
        Critical,
        "nobody logs in: an SSH server has no place in the image",
        access::ssh_server,
    ),
    rule("getty", Critical, "a console that asks for a login, or gives a shell, can start", access::getty),
    rule("password", Critical, "an account has a password, or needs none", access::password),
    rule("authorized-keys", Critical, "keys or hosts are trusted to log in", access::authorized_keys),
    rule("cloud-agent", Critical, "an agent lets the cloud's operators run commands", access::cloud_agent),
    rule("uid0", Critical, "only root may have the user id 0", access::uid0),
    rule("login-shell", Medium, "an account besides root has a login shell", access::login_shell),
    rule("setuid", High, "a setuid or setgid file is not on the profile's list", privilege::setuid),
    rule("capabilities", High, "a file capability is not on the profile's list", privilege::capabilities),
    rule(
        "privilege-tool",
        High,
        "a program that changes who one is has no use without logins",
        privilege::tools,
    ),
    rule("world-writable", High, "everyone may write here", privilege::world_writable),
    rule(
        "path-owner",
        High,
        "what root runs by name belongs to, or may be changed by, someone else",
        privilege::path_owner,
    ),
    rule("device-node", High, "device nodes are the kernel's to make", privilege::device_nodes),
    rule("kernel-cmdline", High, "the kernel command line is weaker than the profile", kernel::cmdline),
    rule("sysctl", High, "a kernel setting is missing or weaker than the profile", kernel::sysctl),
    rule("module-deny", Medium, "a module that no server needs can be loaded on demand", kernel::module_deny),
    rule("denied-module", Medium, "a module on the deny list is in the image", kernel::denied_modules),
    rule("service-sandbox", High, "a service that a recipe enables is not sandboxed", services::sandbox),
    rule(
        "listening-socket",
        High,
        "a socket unit listens on a port that no recipe declares",
        services::sockets,
    ),
    rule(
        "package-manager",
        Medium,
        "images are replaced, not changed: no package manager, no caches of one",
        remains::package_manager,
    ),
    rule("host-key", Critical, "a host key in an image is the key of every instance", remains::host_keys),
    rule("machine-id", Medium, "a machine id in an image is the id of every instance", remains::machine_id),
    rule(
        "machine-secret",
        High,
        "a seed or secret in an image is shared by every instance",
        remains::machine_secrets,
    ),
    rule("history", Medium, "the history of someone's session", remains::history),
    rule("log", Medium, "a log of the bake, not of an instance", remains::logs),
    rule("cache", Medium, "cached data of the bake", remains::caches),
    rule("credential-file", High, "a file that programs keep credentials in", secrets::credential_files),
    rule("secret", Critical, "a private key or an access key", secrets::secrets),
];

/// Findings that come from the disk as a whole and not from a rule on the tree.
pub(super) const ROOT_HASH: &str = "root-hash";
/// As [`ROOT_HASH`]: the disk is not the one that the record describes.
pub(super) const RECORD: &str = "record";
/// An exception of the recipe that accepts nothing.
pub(super) const UNUSED_EXCEPTION: &str = "unused-exception";

/// Returns the names of all rules.
#[must_use]
pub fn rule_names() -> Vec<&'static str> {
    RULES.iter().map(|rule| rule.name).chain([ROOT_HASH, RECORD, UNUSED_EXCEPTION]).collect()
}

/// Applies all rules to a tree, and the exceptions to what they find.
///
/// # Errors
/// Damaged layers.
pub fn apply(tree: &Tree, context: &Context, exceptions: &[Exception]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for rule in RULES {
        for hit in (rule.find)(tree, context)? {
            let detail = if hit.detail.is_empty() { String::new() } else { format!(": {}", hit.detail) };
            findings.push(Finding {
                severity: rule.severity,
                rule: rule.name.to_owned(),
                path: hit.path,
                reason: format!("{}{detail}", rule.reason),
                excepted: None,
            });
        }
    }
    except(&mut findings, exceptions);
    findings.sort();
    findings.dedup();
    Ok(findings)
}

fn except(findings: &mut Vec<Finding>, exceptions: &[Exception]) {
    for exception in exceptions {
        let mut used = false;
        for finding in findings.iter_mut().filter(|finding| {
            finding.rule == exception.rule && exception.path.as_ref().is_none_or(|path| *path == finding.path)
        }) {
            finding.excepted = Some(exception.why.clone());
            used = true;
        }
        if !used {
            let known = rule_names().contains(&exception.rule.as_str());
            findings.push(Finding {
                severity: Medium,
                rule: UNUSED_EXCEPTION.to_owned(),
                path: exception.path.clone().unwrap_or_default(),
                reason: if known {
                    format!("the exception from `{}` accepts nothing: remove it", exception.rule)
                } else {
                    format!("the exception names `{}`, which is no rule", exception.rule)
                },
                excepted: None,
            });
        }
    }
}

/// The last part of a path.
fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

//! What differs between two locks of an image.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Lock, LockedFetch};

/// One input that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Package, artifact or tool.
    pub what: String,
    /// Its version before; `None` when it is new.
    pub old: Option<String>,
    /// Its version now; `None` when it is gone.
    pub new: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = &self.what;
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => write!(f, "~ {what} {old} → {new}"),
            (None, Some(new)) => write!(f, "+ {what} {new}"),
            (Some(old), None) => write!(f, "- {what} {old}"),
            (None, None) => write!(f, "  {what}"),
        }
    }
}

/// Returns every input that differs, by name: tools, artifacts, packages.
#[must_use]
pub fn changes(old: &Lock, new: &Lock) -> Vec<Change> {
    let mut all = compare(&old.tools, &new.tools);
    all.extend(compare(&artifacts(&old.fetches), &artifacts(&new.fetches)));
    all.extend(compare(&packages(old), &packages(new)));
    all
}

/// Tells whether a new lock has the same inputs as the old one, and only newer dates of the archive or
/// other places in the layer. Such a lock is not worth a commit: it would give every image another id for nothing.
#[must_use]
pub fn same_inputs(old: &Lock, new: &Lock) -> bool {
    let undated =
        |lock: &Lock| Lock { version: 0, epoch: 0, suites: Vec::new(), layout: None, ..lock.clone() };
    undated(old) == undated(new)
}

fn artifacts(fetches: &[LockedFetch]) -> BTreeMap<String, String> {
    fetches.iter().map(|fetch| (fetch.url.clone(), fetch.sha256.short())).collect()
}

/// The version by name; with the digest where a name has the same version and other bytes.
fn packages(lock: &Lock) -> BTreeMap<String, String> {
    lock.packages
        .iter()
        .map(|package| (package.name.clone(), format!("{} ({})", package.version, package.sha256.short())))
        .collect()
}

fn compare(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<Change> {
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name))
        .map(|name| Change { what: name.clone(), old: old.get(name).cloned(), new: new.get(name).cloned() })
        .map(without_digests)
        .collect()
}

/// Drops the digests behind versions that already differ.
fn without_digests(mut change: Change) -> Change {
    let bare =
        |text: &Option<String>| text.as_deref().and_then(|text| text.split(" (").next()).map(str::to_owned);
    if bare(&change.old) != bare(&change.new) {
        (change.old, change.new) = (bare(&change.old), bare(&change.new));
    }
    change
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::lock::Role;
    use crate::lock::text::tests::{lock, package};

    #[test]
    fn changes_by_name() {
        let old = lock();
        assert!(changes(&old, &old).is_empty() && same_inputs(&old, &old));
        let mut new = lock();
        new.epoch += 1;
        new.suites.clear();
        assert!(changes(&old, &new).is_empty() && same_inputs(&old, &new), "dates are no input");
        new.tools.insert("mkfs.erofs".to_owned(), "1.6-1".to_owned());
        new.packages[0].version = "1:3".to_owned();
        new.packages[1].sha256 = Digest::of(b"other");
        new.packages[2] = package("t", "1", Role::Stub);
        assert!(!same_inputs(&old, &new));
        let text: Vec<_> = changes(&old, &new).iter().map(Change::to_string).collect();
        let (before, after) = (Digest::of(b"k").short(), Digest::of(b"other").short());
        assert_eq!(
            text,
            [
                "~ mkfs.erofs 1.5-1 → 1.6-1".to_owned(),
                "~ b 1:2~x → 1:3".to_owned(),
                format!("~ k 6 ({before}) → 6 ({after})"),
                "- s 1".to_owned(),
                "+ t 1".to_owned(),
            ]
        );
    }
}

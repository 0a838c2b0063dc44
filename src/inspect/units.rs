//! systemd's units as the image holds them: what is masked, what is enabled, what a unit says.

use std::collections::{BTreeMap, BTreeSet};

use super::erofs::Kind;
use super::tree::Tree;
use crate::error::Result;

/// Where units lie, the one that wins first (`systemd.unit(5)`).
const DIRECTORIES: &[&str] =
    &["/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"];

/// Tells whether a unit can never start: a link to `/dev/null`, or an empty file, where the first one wins.
#[must_use]
pub fn is_masked(tree: &Tree, unit: &str) -> bool {
    names(unit).iter().any(|name| {
        DIRECTORIES
            .iter()
            .find_map(|dir| tree.get(&format!("{dir}/{name}")))
            .is_some_and(|node| node.target == "/dev/null" || (node.kind == Kind::File && node.size == 0))
    })
}

/// Tells whether the image has a unit of this name, masked or not, aliases included.
#[must_use]
pub fn exists(tree: &Tree, unit: &str) -> bool {
    path(tree, unit).is_some()
}

/// Returns the file of a unit, links followed.
#[must_use]
pub fn path(tree: &Tree, unit: &str) -> Option<String> {
    let found = names(unit).into_iter().find_map(|name| {
        DIRECTORIES.iter().map(|dir| format!("{dir}/{name}")).find(|path| tree.get(path).is_some())
    })?;
    tree.resolve(&found)
}

/// The name itself, then the template of an instance: `a@b.service` comes from `a@.service`.
fn names(unit: &str) -> Vec<String> {
    let mut names = vec![unit.to_owned()];
    if let (Some((stem, _)), Some((_, kind))) = (unit.split_once('@'), unit.rsplit_once('.')) {
        names.push(format!("{stem}@.{kind}"));
    }
    names
}

/// Returns the units that something wants or requires, each with the link that says so, masked ones left out.
#[must_use]
pub fn enabled(tree: &Tree) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for directory in DIRECTORIES {
        for (path, _) in tree.below(directory) {
            let mut parts = path.rsplit('/');
            let (Some(unit), Some(by)) = (parts.next(), parts.next()) else { continue };
            if matches!(by.rsplit_once('.'), Some((_, "wants" | "requires"))) && !is_masked(tree, unit) {
                found.entry(unit.to_owned()).or_insert_with(|| path.to_owned());
            }
        }
    }
    found
}

/// Returns all settings of a unit with its drop-ins: section, key, value; later ones win.
///
/// # Errors
/// Damaged layers.
pub fn settings(tree: &Tree, unit: &str) -> Result<Vec<(String, String, String)>> {
    let mut text = match path(tree, unit) {
        Some(path) => tree.text(&path)?,
        None => String::new(),
    };
    for path in drop_ins(tree, unit) {
        text.push('\n');
        text.push_str(&tree.text(&path)?);
    }
    Ok(parse(&text))
}

/// Drop-ins by file name over all directories; the same name in a winning directory hides the others.
fn drop_ins(tree: &Tree, unit: &str) -> Vec<String> {
    let kind = unit.rsplit_once('.').map_or("service", |(_, kind)| kind);
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let owners: BTreeSet<String> = names(unit).into_iter().chain([kind.to_owned()]).collect();
    for owner in owners {
        for directory in DIRECTORIES {
            let directory = format!("{directory}/{owner}.d");
            for name in tree.names(&directory).into_iter().filter(|name| is_conf(name)) {
                found.entry(name.to_owned()).or_insert_with(|| format!("{directory}/{name}"));
            }
        }
    }
    found.into_values().collect()
}

/// Tells whether systemd reads a file of this name among pieces of configuration.
pub(super) fn is_conf(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, kind)| kind == "conf")
}

fn parse(text: &str) -> Vec<(String, String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in text.replace("\\\n", " ").lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with(['#', ';'])) {
            found.push((section.clone(), key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    found
}

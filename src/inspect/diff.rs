//! What changed between two images.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::disk::Disk;
use super::erofs::Kind;
use super::inventory::Inventory;
use super::tree::{Node, Tree};
use crate::catalog::Record;
use crate::error::Result;
use crate::recipe::Exception;

/// How many changed files the text shows of one kind; all are in the JSON.
const SHOWN: usize = 20;

/// Bytes of a MiB, in which disks are made.
const MIB: u64 = 1 << 20;

/// What one of two things has and the other has not, or has differently.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Only in the second: name to value.
    pub added: BTreeMap<String, String>,
    /// Only in the first.
    pub removed: BTreeMap<String, String>,
    /// In both with different values: old and new.
    pub changed: BTreeMap<String, (String, String)>,
}

impl Changes {
    /// Compares two tables.
    #[must_use]
    pub fn between(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Self {
        let mut changes = Self::default();
        for (name, value) in new {
            match old.get(name) {
                None => drop(changes.added.insert(name.clone(), value.clone())),
                Some(before) if before != value => {
                    changes.changed.insert(name.clone(), (before.clone(), value.clone()));
                }
                Some(_) => {}
            }
        }
        let gone = old.iter().filter(|(name, _)| !new.contains_key(*name));
        changes.removed = gone.map(|(name, value)| (name.clone(), value.clone())).collect();
        changes
    }

    /// Tells whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    fn lines(&self, title: &str, lines: &mut Vec<String>) {
        if self.is_empty() {
            return;
        }
        lines.push(format!(
            "{title}: {} added, {} removed, {} changed",
            self.added.len(),
            self.removed.len(),
            self.changed.len()
        ));
        let width = self.changed.keys().chain(self.added.keys()).chain(self.removed.keys());
        // A column no wider than half a line keeps long paths from pushing everything away.
        let width = width.map(String::len).max().unwrap_or(0).min(40);
        let mut fold = |found: Vec<String>| {
            let more = found.len().saturating_sub(SHOWN);
            lines.extend(found.into_iter().take(SHOWN));
            if more > 0 {
                lines.push(format!("    … and {more} more"));
            }
        };
        let row = |sign: &str, name: &str, value: &str| {
            format!("  {sign} {name:width$}  {value}").trim_end().to_owned()
        };
        fold(self.removed.iter().map(|(name, value)| row("-", name, value)).collect());
        fold(self.added.iter().map(|(name, value)| row("+", name, value)).collect());
        fold(self.changed.iter().map(|(name, (old, new))| row("~", name, &apart(old, new))).collect());
    }
}

/// What changed between two images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Packages by version.
    pub packages: Changes,
    /// Files by kind, mode, owner and the start of their digest.
    pub files: Changes,
    /// Units that start at boot.
    pub services: Changes,
    /// Ports that may be open.
    pub ports: Changes,
    /// Setuid files and file capabilities.
    pub privileges: Changes,
    /// Kernel arguments, those that differ in every image left out.
    pub kernel_args: Changes,
    /// Exceptions from the strict profile.
    pub exceptions: Changes,
    /// Bytes of the disks.
    pub size: (u64, u64),
}

/// One of two images.
struct Side {
    tree: Tree,
    inventory: Inventory,
    exceptions: BTreeMap<String, String>,
    size: u64,
}

impl Side {
    fn open(disk: &Path, record: Option<&Record>) -> Result<Self> {
        let ports = record.map(|record| record.ports.clone()).unwrap_or_default();
        let (tree, inventory) = match Disk::open(disk)? {
            Disk::Sealed(sealed) => {
                let tree = sealed.tree()?;
                let inventory = Inventory::of(&tree, &sealed, &ports)?;
                (tree, inventory)
            }
            Disk::Foreign(foreign) => {
                let contents = foreign.contents()?;
                let inventory = Inventory::of_foreign(&contents, &foreign, &ports)?;
                (contents.tree, inventory)
            }
        };
        let exceptions = record.map(|record| exceptions(&record.exceptions)).unwrap_or_default();
        Ok(Self { tree, inventory, exceptions, size: std::fs::metadata(disk).map_or(0, |meta| meta.len()) })
    }
}

impl Diff {
    /// Compares two disks; what only records know is compared when both are there.
    ///
    /// # Errors
    /// Disks that do not open, and damaged layers.
    pub fn between(old: (&Path, Option<&Record>), new: (&Path, Option<&Record>)) -> Result<Self> {
        let (old, new) = (Side::open(old.0, old.1)?, Side::open(new.0, new.1)?);
        let (a, b) = (&old.inventory, &new.inventory);
        Ok(Self {
            packages: Changes::between(&a.packages, &b.packages),
            files: files(&old.tree, &new.tree)?,
            services: Changes::between(&set(&a.services), &set(&b.services)),
            ports: Changes::between(&set(&a.ports), &set(&b.ports)),
            privileges: Changes::between(&privileges(a), &privileges(b)),
            kernel_args: Changes::between(&arguments(a), &arguments(b)),
            exceptions: Changes::between(&old.exceptions, &new.exceptions),
            size: (old.size, new.size),
        })
    }

    /// Returns the text for people, one line each; empty when nothing changed.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        self.packages.lines("packages", &mut lines);
        self.services.lines("services", &mut lines);
        self.ports.lines("ports", &mut lines);
        self.privileges.lines("setuid and capabilities", &mut lines);
        self.kernel_args.lines("kernel arguments", &mut lines);
        self.exceptions.lines("exceptions", &mut lines);
        self.files.lines("files", &mut lines);
        if self.size.0 != self.size.1 {
            lines.push(match self.size {
                (old, new) if old % MIB == 0 && new % MIB == 0 => {
                    format!("disk: {} -> {} MiB", old / MIB, new / MIB)
                }
                (old, new) => format!("disk: {old} -> {new} bytes"),
            });
        }
        lines
    }
}

/// Shows two values of one thing from the first word on in which they differ.
fn apart(old: &str, new: &str) -> String {
    let same = old.split_inclusive(' ').zip(new.split_inclusive(' ')).take_while(|(a, b)| a == b);
    let from = same.map(|(word, _)| word.len()).sum::<usize>();
    let shown = |text: &str| match text.get(from..) {
        Some(rest) if !rest.is_empty() => rest.to_owned(),
        _ => text.to_owned(),
    };
    format!("{} -> {}", shown(old), shown(new))
}

/// Exceptions by rule and path, with their reasons.
#[must_use]
pub fn exceptions(items: &[Exception]) -> BTreeMap<String, String> {
    let named = |e: &Exception| format!("{} {}", e.rule, e.path.as_deref().unwrap_or("(anywhere)"));
    items.iter().map(|item| (named(item), item.why.clone())).collect()
}

/// Names without a value.
#[must_use]
pub fn set(items: &[String]) -> BTreeMap<String, String> {
    items.iter().map(|item| (item.clone(), String::new())).collect()
}

fn privileges(inventory: &Inventory) -> BTreeMap<String, String> {
    // A file may have both; each is a row of its own.
    let capabilities = inventory.capabilities.iter();
    let capabilities = capabilities.map(|(path, names)| (format!("{path} (capabilities)"), names.clone()));
    inventory.setuid.clone().into_iter().chain(capabilities).collect()
}

fn arguments(inventory: &Inventory) -> BTreeMap<String, String> {
    let pairs = inventory.kernel_args.iter().map(|arg| arg.split_once('=').unwrap_or((arg, "")));
    // Identity and places differ between any two images and say nothing.
    let own = ["rekiln.image", "rekiln.roothash", "rekiln.salt", "rekiln.blocks", "rekiln.layers"];
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in pairs.filter(|(name, _)| !own.contains(name)) {
        let values = found.entry(name.to_owned()).or_default();
        let space = if values.is_empty() { "" } else { " " };
        values.extend([space, value]);
    }
    found
}

/// Compares files by what describes them, the digest of their content included.
fn files(old: &Tree, new: &Tree) -> Result<Changes> {
    let mut changes = Changes::default();
    for (path, node) in new.iter().filter(|(_, node)| node.kind != Kind::Directory) {
        let Some(before) = old.get(path).filter(|node| node.kind != Kind::Directory) else {
            changes.added.insert(path.to_owned(), described(new, node)?);
            continue;
        };
        let (was, is) = (described(old, before)?, described(new, node)?);
        if was != is {
            changes.changed.insert(path.to_owned(), (was, is));
        }
    }
    for (path, node) in old.iter().filter(|(_, node)| node.kind != Kind::Directory) {
        if new.get(path).is_none_or(|node| node.kind == Kind::Directory) {
            changes.removed.insert(path.to_owned(), described(old, node)?);
        }
    }
    Ok(changes)
}

fn described(tree: &Tree, node: &Node) -> Result<String> {
    Ok(match node.kind {
        Kind::Symlink => format!("-> {}", node.target),
        Kind::File => {
            format!(
                "{:04o} {}:{} {} {}",
                node.mode,
                node.uid,
                node.gid,
                node.size,
                tree.digest(node)?.short()
            )
        }
        other => format!("{other:?} {:04o} {}:{}", node.mode, node.uid, node.gid),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[(&str, &str)]) -> BTreeMap<String, String> {
        rows.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn text_shows_what_is_there_gone_and_different() {
        let old =
            table(&[("gone", "1"), ("kept", "1"), ("new-mode", "0644 0:0 4 ab"), ("text", "0644 0:0 4 ab")]);
        let new =
            table(&[("kept", "1"), ("more", "2"), ("new-mode", "0755 0:0 4 ab"), ("text", "0644 0:0 5 cd")]);
        let diff = Diff { files: Changes::between(&old, &new), size: (2 * MIB, 3 * MIB), ..Diff::default() };
        assert_eq!(
            diff.lines(),
            [
                "files: 1 added, 1 removed, 2 changed",
                "  - gone      1",
                "  + more      2",
                "  ~ new-mode  0644 0:0 4 ab -> 0755 0:0 4 ab",
                "  ~ text      4 ab -> 5 cd",
                "disk: 2 -> 3 MiB",
            ]
        );
        assert_eq!(Diff { size: (1, 1), ..Diff::default() }.lines(), Vec::<String>::new());
        assert_eq!(Diff { size: (1, 2), ..Diff::default() }.lines(), ["disk: 1 -> 2 bytes"]);
    }

    #[test]
    fn long_lists_are_cut_with_their_count() {
        let many: BTreeMap<String, String> =
            (0..SHOWN + 3).map(|n| (format!("{n:03}"), String::new())).collect();
        let lines = Diff { services: Changes::between(&BTreeMap::new(), &many), ..Diff::default() }.lines();
        assert_eq!(lines.len(), SHOWN + 2);
        assert_eq!(lines.last().map(String::as_str), Some("    … and 3 more"));
    }

    #[test]
    fn a_file_with_mode_and_capability_keeps_both() {
        let path = || [("/usr/bin/x".to_owned(), "4755".to_owned())].into();
        let capabilities = [("/usr/bin/x".to_owned(), "net_raw".to_owned())].into();
        let inventory = Inventory { setuid: path(), capabilities, ..Inventory::default() };
        assert_eq!(privileges(&inventory).len(), 2);
    }
}

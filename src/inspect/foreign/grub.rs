//! The kernel that GRUB starts, with its initial file systems and its command line, read off its configuration.
//!
//! GRUB's configuration is a program, and this runs none: it follows what `grub-mkconfig` and the Boot Loader
//! Specification write. The entry is the one that `default` names, by number, title or id, `>` leading into submenus;
//! `saved_entry` of `grubenv` when `default` is that; the first one otherwise. Where the configuration calls `blscfg`,
//! or has no entries, those of `/boot/loader/entries` are there, the newest version first. The first `linux` line of
//! the entry counts, and the first `initrd` line behind it.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::error::Result;
use crate::inspect::disk::Cmdline;
use crate::inspect::tree::Tree;

/// Where distributions have GRUB's configuration: Debian's and Red Hat's kind.
const DIRECTORIES: &[&str] = &["/boot/grub", "/boot/grub2"];

/// Where the Boot Loader Specification has entries.
const ENTRIES: &str = "/boot/loader/entries";

/// The commands that start a Linux kernel.
const COMMANDS: &[&str] = &["linux", "linux16", "linuxefi"];

/// The commands that give it initial file systems.
const INITRD: &[&str] = &["initrd", "initrd16", "initrdefi"];

/// The deepest menus that are followed; `grub-mkconfig` makes two levels.
const DEPTH_MAX: usize = 16;

/// What GRUB starts. Paths are as its configuration has them: from the root of the file system with the kernel, which need not
/// be the system's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The kernel's path.
    pub kernel: String,
    /// The paths of its initial file systems, in order.
    pub initrds: Vec<String>,
    /// The kernel's command line.
    pub cmdline: Cmdline,
}

/// One item of a menu.
#[derive(Debug, Default)]
struct Item {
    names: Vec<String>,
    /// What it starts: of several, the first.
    starts: Option<Starts>,
    items: Vec<Item>,
    /// A block that is no item of the menu, such as a function.
    hidden: bool,
}

/// What one item starts, with variables where they are.
#[derive(Debug, Default)]
struct Starts {
    kernel: String,
    arguments: String,
    initrds: Vec<String>,
}

/// Returns what is started by default; `None` when nothing says so.
///
/// # Errors
/// Files that cannot be read.
pub fn entry(tree: &Tree) -> Result<Option<Entry>> {
    let directory = DIRECTORIES.iter().find(|dir| tree.find(&format!("{dir}/grub.cfg")).is_some());
    let (mut text, mut environment) = (String::new(), BTreeMap::new());
    if let Some(directory) = directory {
        text = tree.text(&format!("{directory}/grub.cfg"))?;
        environment = variables(&tree.text(&format!("{directory}/grubenv"))?);
    }
    let mut default = None;
    for line in text.lines().map(str::trim) {
        let Some((name, value)) = line.strip_prefix("set ").and_then(|rest| rest.split_once('=')) else {
            continue;
        };
        let value = value.trim().trim_matches(['"', '\'']);
        if name == "default" && value.contains("saved_entry") {
            default = environment.get("saved_entry").cloned().or(default);
        } else if name == "default" && !value.contains('$') {
            // The first branch that names one is the one taken without a one-time entry.
            default = default.or_else(|| Some(value.to_owned()));
        } else if !value.contains('$') {
            environment.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    let default = default.filter(|name| !name.is_empty()).unwrap_or_else(|| "0".to_owned());
    let mut menu = menu(&text);
    let calls = text.lines().any(|line| line.trim() == "blscfg");
    if calls || menu.items.is_empty() {
        menu.items.splice(0..0, specified(tree)?);
    }
    let starts = chosen(&menu, &default).or_else(|| menu.items.first()).and_then(first_start);
    Ok(starts.map(|starts| Entry {
        kernel: expand(&starts.kernel, &environment),
        initrds: starts.initrds.iter().map(|path| expand(path, &environment)).collect(),
        cmdline: Cmdline(expand(&starts.arguments, &environment)),
    }))
}

/// Lines `name=value`, as `grubenv` has them.
fn variables(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn menu(text: &str) -> Item {
    let mut open = vec![Item::default()];
    for line in text.lines().map(str::trim) {
        let word = line.split_whitespace().next().unwrap_or_default();
        if line.ends_with('{') && open.len() < DEPTH_MAX {
            let is_item = word == "menuentry" || word == "submenu";
            let names = if is_item { names(line) } else { Vec::new() };
            open.push(Item { names, hidden: !is_item, ..Item::default() });
        } else if line == "}" && open.len() > 1 {
            if let (Some(item), Some(above)) = (open.pop(), open.last_mut())
                && !item.hidden
            {
                above.items.push(item);
            }
        } else if COMMANDS.contains(&word)
            && let Some(item) = open.last_mut()
        {
            let mut words = line.split_whitespace().skip(1);
            let kernel = words.next().unwrap_or_default().to_owned();
            let arguments = words.collect::<Vec<_>>().join(" ");
            item.starts.get_or_insert(Starts { kernel, arguments, initrds: Vec::new() });
        } else if INITRD.contains(&word)
            && let Some(starts) = open.last_mut().and_then(|item| item.starts.as_mut())
            && starts.initrds.is_empty()
        {
            starts.initrds = line.split_whitespace().skip(1).map(str::to_owned).collect();
        }
    }
    // What is not closed belongs to no menu that GRUB would show.
    open.swap_remove(0)
}

/// Title and id of an item: the first text in quotes, and what follows `--id` or the variable that holds it.
fn names(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.split_once(char::is_whitespace).map_or("", |(_, rest)| rest).trim();
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '\'' | '"' => rest[1..].split_once(first).unwrap_or((&rest[1..], "")),
            _ => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    let id = words.iter().position(|word| word == "--id" || word.ends_with("menuentry_id_option"));
    let id = id.and_then(|at| words.get(at + 1)).cloned();
    words.into_iter().take(1).chain(id).collect()
}

/// Finds an item by a path of numbers, titles and ids.
fn chosen<'a>(menu: &'a Item, path: &str) -> Option<&'a Item> {
    // A title may have a `>` of its own.
    if let Some(item) = named(menu, path) {
        return Some(item);
    }
    let mut item = menu;
    for name in path.split('>') {
        item = named(item, name)?;
    }
    Some(item)
}

fn named<'a>(menu: &'a Item, name: &str) -> Option<&'a Item> {
    let by_name = menu.items.iter().find(|item| item.names.iter().any(|own| own == name));
    by_name.or_else(|| menu.items.get(name.parse::<usize>().ok()?))
}

/// What an item starts, or the first item of a submenu, which GRUB would show.
fn first_start(item: &Item) -> Option<&Starts> {
    item.starts.as_ref().or_else(|| item.items.first().and_then(first_start))
}

/// Puts variables in; one that is not known is empty, as GRUB has it.
fn expand(line: &str, variables: &BTreeMap<String, String>) -> String {
    let words = line.split_whitespace().filter_map(|word| {
        let Some((before, name)) = word.split_once('$') else { return Some(word.to_owned()) };
        let value = variables.get(name.trim_matches(['{', '}'])).map_or("", String::as_str);
        Some(format!("{before}{value}")).filter(|word| !word.is_empty())
    });
    words.collect::<Vec<_>>().join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The entries of the Boot Loader Specification, the newest version first.
fn specified(tree: &Tree) -> Result<Vec<Item>> {
    let mut names: Vec<String> = tree
        .names(ENTRIES)
        .into_iter()
        .filter_map(|name| name.strip_suffix(".conf").map(str::to_owned))
        .collect();
    names.sort_by(|a, b| by_version(b, a));
    let mut items = Vec::new();
    for name in names {
        let text = tree.text(&format!("{ENTRIES}/{name}.conf"))?;
        let values = |key: &str| {
            let lines = text.lines().filter_map(|line| line.trim().split_once(char::is_whitespace));
            lines
                .filter(|(found, _)| *found == key)
                .map(|(_, value)| value.trim().to_owned())
                .collect::<Vec<_>>()
        };
        let Some(kernel) = values("linux").into_iter().next() else { continue };
        let initrds =
            values("initrd").iter().flat_map(|line| line.split_whitespace()).map(str::to_owned).collect();
        let starts = Some(Starts { kernel, arguments: values("options").join(" "), initrds });
        let names = std::iter::once(name).chain(values("title")).collect();
        items.push(Item { names, starts, ..Item::default() });
    }
    Ok(items)
}

/// Compares by runs of digits as numbers and everything else as text.
fn by_version(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one.as_bytes(), other.as_bytes());
    loop {
        let ((number, rest), (against, others_rest)) = (number(one), number(other));
        if let (Some(number), Some(against)) = (number, against) {
            // Without zeros in front, the longer one is the larger one.
            let order = number.len().cmp(&against.len()).then_with(|| number.cmp(against));
            if order.is_ne() {
                return order;
            }
            (one, other) = (rest, others_rest);
            continue;
        }
        match (one.split_first(), other.split_first()) {
            (Some((byte, rest)), Some((against, others_rest))) if byte == against => {
                (one, other) = (rest, others_rest);
            }
            (byte, against) => return byte.map(|(byte, _)| byte).cmp(&against.map(|(byte, _)| byte)),
        }
    }
}

/// The digits that a text begins with, without zeros in front, and the rest; `None` when it begins with none.
fn number(text: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = text.split_at(digits);
    let zeros = number.iter().take_while(|byte| **byte == b'0').count();
    ((digits > 0).then_some(&number[zeros..]), rest)
}

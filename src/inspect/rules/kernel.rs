//! The kernel: its command line, its settings, its modules.

use std::collections::{BTreeMap, BTreeSet};

use super::{Context, DiskKind, Hit, name_of, profile};
use crate::error::Result;
use crate::inspect::tree::Tree;
use crate::inspect::units::is_conf;

pub(super) fn cmdline(_: &Tree, context: &Context) -> Result<Vec<Hit>> {
    let mut hits = Vec::new();
    let Some(cmdline) = &context.cmdline else {
        return Ok(vec![Hit::with("/boot", "no boot loader's configuration says what it is")]);
    };
    // Without verity nothing reads these: they are missing by design where a boot loader starts the kernel.
    let needless = |name: &str| context.disk == DiskKind::Foreign && profile::SEALED_ARGS.contains(&name);
    for (name, values) in profile::KERNEL_ARGS.iter().filter(|(name, _)| !needless(name)) {
        match cmdline.value(name) {
            None => hits.push(Hit::with(*name, "missing")),
            Some(value) if values.is_empty() || values.contains(&value) => {}
            Some(value) => {
                hits.push(Hit::with(*name, format!("`{value}` instead of `{}`", values.join("` or `"))));
            }
        }
    }
    for argument in cmdline.0.split_whitespace() {
        let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
        let forbidden = profile::FORBIDDEN_ARGS
            .iter()
            .any(|(key, values)| *key == name && (values.is_empty() || values.contains(&value)));
        if forbidden {
            hits.push(Hit::with(name, format!("`{argument}` must not be there")));
        }
    }
    Ok(hits)
}

/// The files of a configuration in pieces, in the order in which they count: by name, `/etc` hiding `/usr`.
fn pieces(tree: &Tree, directory: &str) -> Result<Vec<String>> {
    let mut paths: BTreeMap<String, String> = BTreeMap::new();
    for root in ["/etc", "/usr/local/lib", "/usr/lib"] {
        let directory = format!("{root}/{directory}");
        for name in tree.names(&directory).into_iter().filter(|name| is_conf(name)) {
            paths.entry(name.to_owned()).or_insert_with(|| format!("{directory}/{name}"));
        }
    }
    paths.values().map(|path| tree.text(path)).collect()
}

pub(super) fn sysctl(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let mut set = BTreeMap::new();
    for text in pieces(tree, "sysctl.d")? {
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            if let Some((key, value)) = line.split_once('=') {
                let key = key.trim().trim_start_matches('-').replace('/', ".");
                set.insert(key, value.trim().to_owned());
            }
        }
    }
    let weak = profile::SYSCTL.iter().filter_map(|(key, values)| match set.get(*key) {
        None => Some(Hit::with(*key, "missing")),
        Some(value) if values.contains(&value.as_str()) => None,
        Some(value) => Some(Hit::with(*key, format!("`{value}` instead of `{}`", values.join("` or `")))),
    });
    Ok(weak.collect())
}

/// Module names with one spelling: the kernel takes `-` and `_` for the same.
fn spelled(module: &str) -> String {
    module.replace('-', "_")
}

fn denied(tree: &Tree) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for text in pieces(tree, "modprobe.d")? {
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let ["install", module, command, ..] = words.as_slice()
                && matches!(name_of(command), "false" | "true")
            {
                found.insert(spelled(module));
            }
        }
    }
    Ok(found)
}

pub(super) fn module_deny(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let denied = denied(tree)?;
    let missing = profile::DENIED_MODULES.iter().filter(|module| !denied.contains(&spelled(module)));
    Ok(missing.map(|module| Hit::at(*module)).collect())
}

pub(super) fn denied_modules(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let mut denied = denied(tree)?;
    denied.extend(profile::DENIED_MODULES.iter().map(|module| spelled(module)));
    let is_denied = |path: &str| {
        name_of(path).split_once(".ko").is_some_and(|(module, _)| denied.contains(&spelled(module)))
    };
    let places = ["/usr/lib/modules", "/lib/modules"];
    let modules = places.iter().flat_map(|place| tree.below(place));
    Ok(modules.filter(|(path, _)| is_denied(path)).map(|(path, _)| Hit::at(path)).collect())
}

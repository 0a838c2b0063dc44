//! Services that recipes enable, and sockets that listen.

use super::{Context, DiskKind, Hit, profile};
use crate::error::Result;
use crate::inspect::tree::Tree;
use crate::inspect::units;

pub(super) fn sandbox(tree: &Tree, context: &Context) -> Result<Vec<Hit>> {
    let mut hits = Vec::new();
    let writable = if context.disk == DiskKind::Foreign { profile::WRITABLE_SANDBOX } else { &[] };
    for unit in services(tree, context) {
        if !units::exists(tree, &unit) {
            hits.push(Hit::with(&unit, "there is no such unit in the image"));
            continue;
        }
        let settings = units::settings(tree, &unit)?;
        // A plain list gets longer; these are single values, so the last one counts.
        let last = |name: &str| {
            let of_it = settings.iter().rev().find(|(section, key, _)| section == "Service" && key == name);
            of_it.map_or("", |(_, _, value)| value.as_str())
        };
        let missing: Vec<&str> = profile::SANDBOX
            .iter()
            .chain(writable)
            .filter(|(name, values)| !values.contains(&last(name).to_lowercase().as_str()))
            .map(|(name, _)| *name)
            .collect();
        if !missing.is_empty() {
            hits.push(Hit::with(&unit, format!("{} not set", missing.join(", "))));
        }
    }
    Ok(hits)
}

fn services(tree: &Tree, context: &Context) -> Vec<String> {
    let names: Vec<String> = match &context.services {
        Some(names) => names.clone(),
        None => units::enabled(tree)
            .into_iter()
            .filter(|(unit, link)| link.starts_with("/etc/") && !unit.starts_with("systemd-"))
            .map(|(unit, _)| unit)
            .collect(),
    };
    let full = |name: String| if name.contains('.') { name } else { format!("{name}.service") };
    names.into_iter().map(full).filter(|unit| unit.ends_with(".service")).collect()
}

pub(super) fn sockets(tree: &Tree, context: &Context) -> Result<Vec<Hit>> {
    let mut hits = Vec::new();
    for (unit, _) in units::enabled(tree).into_iter().filter(|(unit, _)| unit.ends_with(".socket")) {
        for (section, key, value) in units::settings(tree, &unit)? {
            let protocol = match key.as_str() {
                "ListenStream" => "tcp",
                "ListenDatagram" => "udp",
                _ => continue,
            };
            if section != "Socket" || value.is_empty() || value.starts_with(['/', '@', '%']) {
                continue;
            }
            // `80`, `[::]:80`, `127.0.0.1:80`; what listens on the loopback alone is not reachable.
            if value.starts_with("127.") || value.starts_with("[::1]") {
                continue;
            }
            let port = format!("{}/{protocol}", value.rsplit(':').next().unwrap_or(&value));
            if !context.ports.contains(&port) {
                hits.push(Hit::with(&unit, format!("{port} is not declared")));
            }
        }
    }
    Ok(hits)
}

//! Removing what no record claims: after kill -9, and after a directory was deleted by hand.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::names::ENDED;
use super::Machines;
use super::haproxy::{Haproxy, all as balancers};
use super::record::InstanceRecord;
use crate::error::{Doing as _, Result};
use crate::scratch::sweep;
use crate::store::Store;

/// Removes orphaned machines and load balancers of this store, directories without a record, and the scratch of
/// processes that ended. Returns what was removed, one line each. `running` lists the directories of all machines;
/// `rolling` names the fleets that are left alone.
///
/// # Errors
/// One does not end, or the store cannot be read.
pub fn reap(
    store: &Store,
    machines: &impl Machines,
    running: &[PathBuf],
    rolling: &[String],
) -> Result<Vec<String>> {
    let local = store.root().join("local");
    let idle = |fleet: &Path| rolling.iter().all(|name| *fleet != *local.join(name));
    let mut removed = Vec::new();
    for dir in running.iter().filter(|dir| dir.starts_with(&local) && dir.parent().is_some_and(idle)) {
        if !dir.join("instance.json").exists() {
            machines.stop(dir)?;
            removed.push(format!("machine {}", dir.display()));
        }
    }
    for fleet in directories(&local).into_iter().filter(|fleet| idle(fleet)) {
        fleet_remains(store, &fleet, &mut removed)?;
    }
    let orphans =
        balancers().into_iter().filter(|(_, config)| config.starts_with(&local) && !config.exists());
    for (pid, config) in orphans {
        let Some(fleet) = config.parent().filter(|fleet| idle(fleet)) else { continue };
        Haproxy::new(store, &name_of(fleet)).stop()?;
        removed.push(format!("load balancer process {pid} of {}", name_of(fleet)));
    }
    removed.extend(sweep(store)?.into_iter().map(|dir| format!("scratch {}", dir.display())));
    Ok(removed)
}

/// Removes what no instance of one fleet needs.
fn fleet_remains(store: &Store, fleet: &Path, removed: &mut Vec<String>) -> Result<()> {
    let mut instances = 0;
    for dir in directories(fleet).into_iter().filter(|dir| !dir.ends_with("failed") && !dir.ends_with(ENDED))
    {
        if InstanceRecord::read(&dir)?.is_some() {
            instances += 1;
        } else {
            fs::remove_dir_all(&dir).doing(|| format!("removing {}", dir.display()))?;
            removed.push(format!("directory {}", dir.display()));
        }
    }
    let balancer = Haproxy::new(store, &name_of(fleet));
    if instances == 0 && balancer.running().is_some() {
        balancer.stop()?;
        removed.push(format!("load balancer of {}", name_of(fleet)));
    }
    Ok(())
}

fn name_of(dir: &Path) -> String {
    dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Returns the directories in `dir`, sorted; none when it is not there.
fn directories(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    found.sort_unstable();
    found
}

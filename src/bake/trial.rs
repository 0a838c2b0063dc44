//! The machine in which an image is tried: what a recipe's `[trial]` asks for.

use std::fs;
use std::path::Path;

use super::identity::Identity;
use crate::error::{Doing as _, Error, Result};
use crate::notation;
use crate::vm::document::{Document, Secret, address, segment};
use crate::vm::{Extras, extras};

/// Memory of the machine an image is tried in: what `fleets/web.toml` gives each of its own, so that a verdict
/// says something about a small machine.
const MEMORY_MIB: u32 = 256;
/// The same for a derived image, whose vendor did not make it for small machines: the least that EC2 has.
const DERIVED_MEMORY_MIB: u32 = 512;
/// What is removed after a trial, by name: a secret of nobody, and a disk that the next trial must not find.
const ITS_OWN: [&str; 3] = ["data.raw", "document.json", "secret"];

/// What the machine is given besides the image.
#[derive(Debug)]
pub struct Machine {
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Its data disk, and what it is told.
    pub extras: Extras,
}

/// Makes in `dir` what the image's own recipe asks for; what it stands on asks for itself.
///
/// # Errors
/// A value that `check` would refuse; the host's disk refuses.
pub fn machine(image: &Identity, dir: &Path) -> Result<Machine> {
    clear(dir)?;
    let asked = image.links.last().map(|link| link.recipe.trial.clone()).unwrap_or_default();
    let bad = |key: &'static str| move |why| Error::invalid(format!("`trial.{key}`: {why}"));
    let memory_mib = match &asked.memory {
        Some(memory) => u32::try_from(notation::memory(memory).map_err(bad("memory"))? >> 20)
            .doing(|| format!("reading `trial.memory`: `{memory}`"))?,
        None if image.derived().is_some() => DERIVED_MEMORY_MIB,
        None => MEMORY_MIB,
    };
    let mut made = Extras::default();
    if let Some(data) = &asked.data {
        let file = dir.join("data.raw");
        extras::blank(&file, notation::size(data).map_err(bad("data"))?)?;
        made.data = Some(file);
    }
    if asked.founds {
        // The first and only member of a fleet that ends with the trial.
        let document = Document {
            fleet: image.name.clone(),
            instance: format!("{}-1", image.name),
            address: address(1),
            founds: true,
            members: Vec::new(),
            restore: None,
        };
        made.segment = Some(segment(dir, document.address));
        made.credentials = vec![document.write(dir)?, Secret::of(dir)?.credential()];
    }
    Ok(Machine { memory_mib, extras: made })
}

/// Removes what was made for a trial; what was seen of it stays.
///
/// # Errors
/// The host's disk refuses.
pub fn clear(dir: &Path) -> Result<()> {
    for name in ITS_OWN {
        match fs::remove_file(dir.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).doing(|| format!("removing {name} of a trial"));
            }
            _ => {}
        }
    }
    Ok(())
}

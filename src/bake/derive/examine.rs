//! What a machine became: read off its disk, which is all that is believed.

use std::path::Path;
use std::time::Instant;

use crate::bake::identity::Identity;
use crate::bake::image::{Bake, exceptions, ports, refuse, services};
use crate::catalog::{Disk, Distribution, PackageKind};
use crate::digest::Digest;
use crate::error::{Doing as _, Error, Result};
use crate::inspect::disk::Disk as OpenDisk;
use crate::inspect::{Expected, Inspection, inspect_disk};
use crate::publish::blocks::Blocks;

/// What a machine became.
pub(super) struct Finished {
    pub(super) disk: Disk,
    pub(super) blocks: Vec<u8>,
    pub(super) inspection: Inspection,
    pub(super) distribution: Option<Distribution>,
}

impl Bake<'_> {
    /// Inspects and digests a sealed disk.
    pub(super) fn examine(
        &self,
        image: &Identity,
        disk: &Path,
        timed: &mut dyn FnMut(&str, Instant),
    ) -> Result<Finished> {
        let start = Instant::now();
        let (inspection, distribution) =
            self.progress.step(&image.name, "inspecting the sealed disk", || {
                let found = inspect_disk(disk, &expected(image))?;
                if !image.debug {
                    refuse(&found.findings)?;
                }
                Ok::<_, Error>((found, distribution(disk)?))
            })?;
        timed("inspect", start);
        let start = Instant::now();
        let (disk_record, blocks) =
            self.progress.step(&image.name, "digesting the disk", || digests(disk, &inspection))?;
        timed("digest", start);
        Ok(Finished { disk: disk_record, blocks, inspection, distribution })
    }
}

/// Reads off a disk whose packages it has.
fn distribution(path: &Path) -> Result<Option<Distribution>> {
    let OpenDisk::Foreign(disk) = OpenDisk::open(path)? else { return Ok(None) };
    let tree = disk.contents()?.tree;
    let text = tree.text("/usr/lib/os-release")?;
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim_matches(['"', '\'']).to_owned())
    };
    let deb = tree.get("/var/lib/dpkg/status").is_some();
    let packages = if deb { PackageKind::Deb } else { PackageKind::Rpm };
    Ok(value("ID").map(|id| Distribution { id, version: value("VERSION_ID"), packages }))
}

fn expected(image: &Identity) -> Expected {
    Expected {
        root_hash: None,
        cmdline: None,
        services: Some(services(image)),
        ports: ports(image),
        exceptions: exceptions(image),
        verify: false,
    }
}

fn digests(path: &Path, inspection: &Inspection) -> Result<(Disk, Vec<u8>)> {
    let (sha256, blocks) = std::thread::scope(|scope| {
        let blocks = scope.spawn(|| Blocks::of(path));
        let sha256 = Digest::of_file(path).doing(|| "digesting the disk");
        let lost = |_| Err(Error::failed("the thread that digests the disk's blocks ended in a panic"));
        (sha256, blocks.join().unwrap_or_else(lost))
    });
    let blocks = blocks?.written()?;
    let size = std::fs::metadata(path).doing(|| "measuring the disk")?.len();
    let partitions = inspection.inventory.partitions.clone();
    Ok((Disk { sha256: sha256?, blocks: Some(Digest::of(&blocks)), size, partitions }, blocks))
}

//! A disk that rekiln did not lay out: a vendor's, with a root file system in ext4 or XFS that the machine writes to.

pub mod grub;
mod mounts;
#[cfg(test)]
mod tests;

use super::disk::Cmdline;
use super::partitions::Slot;
use super::tree::Tree;
use super::uki;
use super::volume::Volume;
use super::window::Window;
use crate::catalog::Partition;
use crate::error::{Error, Result};

/// What is not read, by its number and the place of that: LUKS (`cryptsetup`), LVM (label in the second sector, as
/// `pvcreate` writes it), a Linux RAID member of version 1.2, btrfs, swap on pages of 4 KiB, squashfs, erofs, and FAT in
/// both places where its name stands. From the sources of `blkid` (util-linux, `libblkid/src/superblocks`).
const SIGNATURES: &[(u64, &[u8], &str)] = &[
    (1080, &[0x53, 0xef], "ext4"),
    (0, b"XFSB", "XFS"),
    (0, b"LUKS\xba\xbe", "LUKS"),
    (512, b"LABELONE", "LVM"),
    (4096, &[0xfc, 0x4e, 0x2b, 0xa9], "a RAID member"),
    (0x1_0040, b"_BHRfS_M", "btrfs"),
    (4086, b"SWAPSPACE2", "swap"),
    (0, b"hsqs", "squashfs"),
    (1024, &[0xe2, 0xe1, 0xf5, 0xe0], "erofs"),
    (82, b"FAT32   ", "FAT"),
    (54, b"FAT16   ", "FAT"),
    (54, b"FAT12   ", "FAT"),
];

/// Names what is in a window; `None` when it is nothing known.
#[must_use]
pub fn signature(window: &Window) -> Option<&'static str> {
    let there = |at: u64, bytes: &[u8]| window.near(at, bytes.len()).is_ok_and(|found| found == bytes);
    SIGNATURES.iter().find(|(at, bytes, _)| there(*at, bytes)).map(|(_, _, name)| *name)
}

/// A vendor's disk; nothing of it is mounted.
pub struct ForeignDisk {
    slots: Vec<Slot>,
    volumes: Vec<(u32, Volume)>,
    /// The number of the root's partition, and the place of its volume among them.
    root: (u32, usize),
    /// Whether it has an EFI system partition with the program that firmware starts without a boot entry.
    pub has_fallback_loader: bool,
}

/// What a disk holds when everything on it that its fstab names is put in its place.
pub struct Contents {
    /// The root file system with all others.
    pub tree: Tree,
    /// What is started; `None` when no configuration of GRUB says so.
    pub entry: Option<grub::Entry>,
    /// What could not be seen, a sentence each.
    pub notes: Vec<String>,
}

impl ForeignDisk {
    /// Finds the root file system on the disk.
    ///
    /// # Errors
    /// None or several, one in a format that is not read, and one that is damaged or was not shut down cleanly.
    pub fn open(disk: &Window, slots: Vec<Slot>) -> Result<Self> {
        let (mut volumes, mut roots, mut seen, mut failed) = (Vec::new(), Vec::new(), Vec::new(), None);
        for slot in &slots {
            // A partition outside of the disk is that of a truncated image, and not to be passed over.
            let window = slot.window(disk)?;
            let what = signature(&window).unwrap_or("nothing known");
            seen.push(format!("partition {} has {what}", slot.number));
            match Volume::open(&window).and_then(|volume| {
                let is_root = volume.as_ref().map(is_root).transpose()?.unwrap_or(false);
                Ok(volume.map(|volume| (volume, is_root)))
            }) {
                Ok(Some((volume, is_root))) => {
                    if is_root {
                        roots.push((slot.number, volumes.len()));
                    }
                    volumes.push((slot.number, volume));
                }
                Ok(None) => {}
                Err(error) => {
                    let error = error.during(format!("reading partition {}", slot.number));
                    failed.get_or_insert(error);
                }
            }
        }
        let root = match (roots.as_slice(), failed) {
            ([root], None) => *root,
            // What cannot be read may be what the root mounts, or another root.
            (_, Some(error)) => return Err(error),
            ([], None) => {
                let words = if seen.is_empty() { "it has no partitions".to_owned() } else { seen.join(", ") };
                return Err(Error::failed(format!("there is no root file system on the disk: {words}"))
                    .hint(
                        "rekiln reads ext4 and XFS directly in partitions; not LVM, LUKS, RAID and btrfs",
                    ));
            }
            (several, None) => {
                let numbers: Vec<String> = several.iter().map(|(number, _)| number.to_string()).collect();
                return Err(Error::failed(format!(
                    "there are several root file systems on the disk: in partitions {}",
                    numbers.join(", ")
                ))
                .hint("which one starts is not known; keep one"));
            }
        };
        let mut has_fallback_loader = false;
        for slot in slots.iter().filter(|slot| slot.is_esp) {
            let esp = slot.window(disk)?;
            // One that was never formatted starts nothing.
            has_fallback_loader |= signature(&esp) == Some("FAT") && uki::exists(&esp)?;
        }
        Ok(Self { slots, volumes, root, has_fallback_loader })
    }

    /// Returns its partitions in order.
    #[must_use]
    pub fn partitions(&self) -> Vec<Partition> {
        self.slots.iter().map(|slot| slot.partition.clone()).collect()
    }

    /// Returns what `mount` calls the root file system.
    #[must_use]
    pub fn file_system(&self) -> &'static str {
        self.volumes[self.root.1].1.name()
    }

    /// Reads the metadata of everything.
    ///
    /// # Errors
    /// Damaged file systems, and what fstab says that makes no sense.
    pub fn contents(&self) -> Result<Contents> {
        let mut tree = Tree::of_volume(&self.volumes[self.root.1].1)
            .map_err(|error| error.during(format!("reading partition {}", self.root.0)))?;
        let mut notes = Vec::new();
        for mount in mounts::of(&tree.text("/etc/fstab")?) {
            let named = self.volumes.iter().find(|(number, volume)| {
                let slot = self.slots.iter().find(|slot| slot.number == *number);
                slot.is_some_and(|slot| mount.names(slot, volume))
            });
            match named {
                Some((number, volume)) => tree
                    .mount(&mount.at, volume)
                    .map_err(|error| error.during(format!("reading partition {number}")))?,
                None => notes.push(format!(
                    "{} is mounted from {}, which is not a file system on this disk that rekiln reads: it was not inspected",
                    mount.at, mount.from
                )),
            }
        }
        let entry = grub::entry(&tree)?;
        if entry.is_none() {
            notes.push("no configuration of GRUB says how the kernel is started".to_owned());
        }
        Ok(Contents { tree, entry, notes })
    }
}

impl Contents {
    /// Returns the command line that the kernel is started with.
    #[must_use]
    pub fn cmdline(&self) -> Option<&Cmdline> {
        self.entry.as_ref().map(|entry| &entry.cmdline)
    }
}

/// Tells whether a volume is a root file system: it says what it is and who its users are.
fn is_root(volume: &Volume) -> Result<bool> {
    let entries = volume.entries(volume.root())?;
    let Some(etc) = entries.iter().find(|entry| entry.name == b"etc") else { return Ok(false) };
    // A link leads to another file system's, or away from what was looked for.
    if volume.object(etc.inode)?.kind != super::kind::Kind::Directory {
        return Ok(false);
    }
    let names: Vec<Vec<u8>> = volume.entries(etc.inode)?.into_iter().map(|entry| entry.name).collect();
    let has = |name: &str| names.iter().any(|found| found == name.as_bytes());
    Ok(has("os-release") && has("passwd"))
}

//! A disk: one that rekiln sealed, with its partitions, its command line and the layers that the command line names,
//! or a vendor's ([`super::foreign`]).

use std::path::Path;

use super::erofs::Erofs;
use super::foreign::ForeignDisk;
use super::partitions::{self, Slot};
use super::tree::Tree;
use super::uki;
use super::verity::HashTree;
use super::window::Window;
use crate::catalog::Partition;
use crate::digest::{Digest, ImageId};
use crate::error::{Doing as _, Error, Result};

/// Layer offsets and sizes on the command line count blocks of this size (`bake::layout`).
const BLOCK: u64 = 4096;

/// A disk of either kind.
pub enum Disk {
    /// rekiln's own.
    Sealed(SealedDisk),
    /// A vendor's.
    Foreign(ForeignDisk),
}

impl Disk {
    /// Opens the disk in the file at `path`.
    ///
    /// # Errors
    /// As [`Disk::of`], and no such file.
    pub fn open(path: &Path) -> Result<Self> {
        let opened = Window::open(path).and_then(Self::of);
        opened.map_err(|error| error.during(format!("opening the disk {}", path.display())))
    }

    /// Opens a disk: one with rekiln's partitions is a sealed one, every other a vendor's.
    ///
    /// # Errors
    /// No partitions, and as [`ForeignDisk::open`].
    pub fn of(window: Window) -> Result<Self> {
        let slots = partitions::read(&window)?;
        if slots.iter().any(|slot| slot.partition.name == ESP) {
            return SealedDisk::new(window, &slots).map(Self::Sealed);
        }
        ForeignDisk::open(&window, slots).map(Self::Foreign)
    }

    /// Returns the image id that is sealed in it. A derived one has it in its boot loader's configuration, where anybody
    /// could have written it; a vendor's own disk has none.
    #[must_use]
    pub fn image(&self) -> Option<ImageId> {
        match self {
            Self::Sealed(disk) => disk.cmdline.image().ok(),
            Self::Foreign(disk) => disk.contents().ok()?.cmdline()?.image().ok(),
        }
    }
}

/// The name of the partition that only a disk of rekiln's has.
const ESP: &str = "rekiln-esp";

/// A disk as a bake made it; nothing of it is mounted.
pub struct SealedDisk {
    window: Window,
    /// Its partitions in order.
    pub partitions: Vec<Partition>,
    /// The command line sealed in the unified kernel image.
    pub cmdline: Cmdline,
}

/// The sealed kernel command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cmdline(pub String);

impl Cmdline {
    /// Returns the last value of an argument; the empty text for one without a value.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        let mut found = None;
        for argument in self.0.split_whitespace() {
            let (key, value) = argument.split_once('=').unwrap_or((argument, ""));
            if key == name {
                found = Some(value);
            }
        }
        found
    }

    fn needed(&self, name: &str) -> Result<&str> {
        self.value(name).ok_or_else(|| Error::failed(format!("the sealed command line has no `{name}=`")))
    }

    fn digest(&self, name: &str) -> Result<Digest> {
        self.needed(name)?.parse().map_err(|error| Error::failed(format!("`{name}=`: {error}")))
    }

    /// Returns the image id.
    ///
    /// # Errors
    /// None on the command line, or a wrong one.
    pub fn image(&self) -> Result<ImageId> {
        self.digest("rekiln.image")
    }

    /// Returns the dm-verity root hash.
    ///
    /// # Errors
    /// None on the command line, or a wrong one.
    pub fn root_hash(&self) -> Result<Digest> {
        self.digest("rekiln.roothash")
    }

    /// Returns offset and size of each layer in bytes, the ground first.
    ///
    /// # Errors
    /// None on the command line, or a wrong list.
    pub fn layers(&self) -> Result<Vec<(u64, u64)>> {
        let text = self.needed("rekiln.layers")?;
        let layer = |part: &str| {
            let (offset, size) = part.split_once('+')?;
            let bytes = |text: &str| text.parse::<u64>().ok()?.checked_mul(BLOCK);
            Some((bytes(offset)?, bytes(size)?))
        };
        text.split(',')
            .map(|part| layer(part).ok_or_else(|| Error::failed(format!("`rekiln.layers=`: `{part}`"))))
            .collect()
    }
}

impl SealedDisk {
    /// Opens the disk in the file at `path`: partition table and sealed command line.
    ///
    /// # Errors
    /// No such file, no partition table, and none of rekiln's partitions.
    pub fn open(path: &Path) -> Result<Self> {
        let window = Window::open(path)?;
        let slots = partitions::read(&window)?;
        Self::new(window, &slots)
            .map_err(|error| error.during(format!("opening the disk {}", path.display())))
    }

    fn new(window: Window, slots: &[Slot]) -> Result<Self> {
        let esp = slots.iter().find(|slot| slot.partition.name == ESP);
        let esp =
            esp.ok_or_else(|| Error::failed(format!("there is no partition `{ESP}`: no disk of rekiln's")))?;
        let cmdline = Cmdline(uki::cmdline(&uki::read(&esp.window(&window)?)?)?);
        let partitions = slots.iter().map(|slot| slot.partition.clone()).collect();
        Ok(Self { window, partitions, cmdline })
    }

    fn partition(&self, prefix: &str) -> Result<Window> {
        let found = self.partitions.iter().find(|partition| partition.name.starts_with(prefix));
        let found = found.ok_or_else(|| Error::failed(format!("the disk has no partition `{prefix}…`")))?;
        self.window.part(found.offset, found.size)
    }

    /// Reads the metadata of all layers and stacks them.
    ///
    /// # Errors
    /// Layers that lie nowhere or are damaged.
    pub fn tree(&self) -> Result<Tree> {
        let root = self.partition("rekiln-root")?;
        let layers = self.cmdline.layers()?;
        let opened: Result<Vec<Erofs>> =
            layers.iter().map(|(offset, size)| Erofs::open(root.part(*offset, *size)?)).collect();
        Tree::stack(opened?)
    }

    /// Computes the root hash anew, and tells whether the hash partition holds the tree that leads to it.
    ///
    /// # Errors
    /// Arguments missing on the command line, and reads that fail.
    pub fn verify(&self) -> Result<(Digest, bool)> {
        let salt = match self.cmdline.needed("rekiln.salt")? {
            "-" | "" => Vec::new(),
            text => bytes_of(text).ok_or_else(|| Error::failed("`rekiln.salt=` is not hexadecimal"))?,
        };
        let blocks = self.cmdline.needed("rekiln.blocks")?.parse().doing(|| "reading `rekiln.blocks=`")?;
        let tree = HashTree::compute(&self.partition("rekiln-root")?, blocks, &salt)?;
        let stored = tree.is_stored_in(&self.partition("rekiln-hash")?)?;
        Ok((tree.root, stored))
    }
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

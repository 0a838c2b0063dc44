//! A sealed disk: its partitions, its command line, and the layers that the command line names.

use std::path::Path;

use super::erofs::Erofs;
use super::tree::Tree;
use super::uki;
use super::verity::HashTree;
use super::window::Window;
use crate::catalog::Partition;
use crate::digest::{Digest, ImageId};
use crate::error::{Doing as _, Error, Result};

/// Layer offsets and sizes on the command line count blocks of this size (`bake::layout`).
const BLOCK: u64 = 4096;

/// A disk as it lies in a file; nothing of it is mounted.
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
    /// Opens the disk at `path`: partition table and sealed command line.
    ///
    /// # Errors
    /// No such file, no partition table, and none of rekiln's partitions.
    pub fn open(path: &Path) -> Result<Self> {
        let window = Window::open(path)?;
        let partitions = partitions(path)?;
        let esp = partitions.iter().find(|partition| partition.name == "rekiln-esp");
        let esp = esp.ok_or_else(|| {
            Error::failed(format!("{} has no partition `rekiln-esp`: no disk of rekiln's", path.display()))
        })?;
        let cmdline = Cmdline(uki::cmdline(&uki::read(path, esp.offset)?)?);
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

fn partitions(path: &Path) -> Result<Vec<Partition>> {
    // 512-byte sectors: what the bake writes, and what EC2 and QEMU show.
    let sector = gpt::disk::LogicalBlockSize::Lb512;
    let disk = gpt::GptConfig::new()
        .writable(false)
        .logical_block_size(sector)
        .open(path)
        .doing(|| format!("reading the partition table of {}", path.display()))?;
    let mut found = Vec::new();
    for partition in disk.partitions().values() {
        let doing = || format!("reading the partition `{}`", partition.name);
        found.push(Partition {
            name: partition.name.clone(),
            offset: partition.bytes_start(sector).doing(doing)?,
            size: partition.bytes_len(sector).doing(doing)?,
        });
    }
    Ok(found)
}

//! Layers, hash tree and kernel become one disk file.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use gpt::partition::Partition as GptPartition;
use gpt::partition_types::{EFI, LINUX_ROOT_X64, Type};

use super::initrd::Kernel;
use super::layout::{BLOCK, Layout, SECTOR, Sealing, command_line, derived_uuid, place_layers, salt};
use super::uki;
use crate::catalog::{Disk, Partition};
use crate::digest::{Digest, ImageId};
use crate::error::{Doing as _, Error, Result};
use crate::holes;
use crate::process::Run as _;
use crate::publish::blocks::Blocks;

/// What a disk is made from.
#[derive(Debug, Clone, Copy)]
pub struct DiskInputs<'a> {
    /// The image id; every identifier on the disk comes from it.
    pub id: ImageId,
    /// The files of the layers and their bytes, from the ground up.
    pub layers: &'a [(PathBuf, u64)],
    /// The kernel.
    pub kernel: &'a Kernel,
    /// The kernel arguments of the strict profile.
    pub profile_args: &'a [String],
    /// Those of the recipes.
    pub recipe_args: &'a [String],
    /// Whether it is the debug variant.
    pub debug: bool,
    /// All times on the disk.
    pub epoch: i64,
}

/// A finished disk and what its record says of it.
#[derive(Debug, Clone)]
pub struct Assembled {
    /// The file, in the given directory.
    pub path: PathBuf,
    /// Size, digest, partitions.
    pub disk: Disk,
    /// What `blocks.json` says.
    pub blocks: Vec<u8>,
    /// dm-verity root hash.
    pub root_hash: Digest,
    /// The sealed command line.
    pub cmdline: String,
    /// Offset in the root partition of each layer.
    pub offsets: Vec<u64>,
}

/// Assembles the disk in the scratch directory `dir`.
///
/// # Errors
/// Whatever the tools return, and a full disk.
pub fn assemble(dir: &Path, inputs: DiskInputs<'_>) -> Result<Assembled> {
    let DiskInputs { id, layers, kernel, profile_args, recipe_args, debug, epoch } = inputs;
    let sizes: Vec<u64> = layers.iter().map(|(_, size)| *size).collect();
    let (offsets, root_size) = place_layers(&sizes);
    let root = dir.join("root.img");
    stack(&root, layers, &offsets, root_size)?;
    let hash = dir.join("hash.img");
    let root_hash = hash_tree(&root, &hash, id)?;
    let placed: Vec<(u64, u64)> = offsets.iter().copied().zip(sizes).collect();
    let sealing = Sealing { id, root_hash, root_size, layers: &placed, debug };
    let cmdline = command_line(profile_args, recipe_args, &sealing);
    let esp = uki::esp(dir, id, kernel, &cmdline, epoch)?;
    let hash_size = std::fs::metadata(&hash).doing(|| "measuring the hash tree")?.len();
    let layout = Layout::new(id, root_size, hash_size.next_multiple_of(BLOCK));
    let path = dir.join("disk.raw");
    write(&path, id, &layout, [&esp, &root, &hash])?;
    let (sha256, blocks) = std::thread::scope(|scope| {
        let blocks = scope.spawn(|| Blocks::of(&path));
        let sha256 = Digest::of_file(&path).doing(|| "digesting the disk");
        let lost = |_| Err(Error::failed("the thread that digests the disk's blocks ended in a panic"));
        (sha256, blocks.join().unwrap_or_else(lost))
    });
    let blocks = blocks?.written()?;
    let partitions = vec![layout.esp, layout.root, layout.hash];
    let disk = Disk { sha256: sha256?, blocks: Some(Digest::of(&blocks)), size: layout.size, partitions };
    Ok(Assembled { path, disk, blocks, root_hash, cmdline, offsets })
}

/// Writes the layers at their offsets into one file. Between them are holes, which read as zeros.
fn stack(root: &Path, layers: &[(PathBuf, u64)], offsets: &[u64], size: u64) -> Result<()> {
    let mut file = File::create(root).doing(|| "making the root partition")?;
    file.set_len(size).doing(|| "sizing the root partition")?;
    for ((path, _), offset) in layers.iter().zip(offsets) {
        copy_at(path, &mut file, *offset)?;
    }
    Ok(())
}

/// Copies a whole file to an offset of another, where there is nothing yet. Holes stay holes.
fn copy_at(from: &Path, to: &mut File, offset: u64) -> Result<()> {
    let doing = || format!("copying {} (is the disk full?)", from.display());
    let source = File::open(from).doing(|| format!("opening {}", from.display()))?;
    let size = source.metadata().doing(doing)?.len();
    for part in holes::data(&source, size).doing(doing)? {
        let at = offset + part.start;
        copy_part(&source, part, to, at).doing(doing)?;
    }
    Ok(())
}

/// Copies a part of a file to an offset of another, and returns how many bytes there were; the kernel copies, and no byte
/// passes through us.
pub(super) fn copy_part(mut source: &File, part: Range<u64>, to: &mut File, at: u64) -> std::io::Result<u64> {
    source.seek(SeekFrom::Start(part.start))?;
    to.seek(SeekFrom::Start(at))?;
    std::io::copy(&mut source.take(part.end - part.start), to)
}

fn hash_tree(root: &Path, hash: &Path, id: ImageId) -> Result<Digest> {
    let text = Command::new("veritysetup")
        .args(["format", "--hash", "sha256", "--data-block-size", "4096", "--hash-block-size", "4096"])
        .arg(format!("--salt={}", salt(id)))
        .arg(format!("--uuid={}", derived_uuid("verity", id)))
        .args([root, hash])
        .env("LC_ALL", "C")
        .run_text()?;
    text.lines()
        .find_map(|line| line.strip_prefix("Root hash:"))
        .and_then(|digits| digits.trim().parse().ok())
        .ok_or_else(|| Error::failed(format!("veritysetup printed no root hash:\n{text}")))
}

fn write(path: &Path, id: ImageId, layout: &Layout, contents: [&PathBuf; 3]) -> Result<()> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .doing(|| format!("making {}", path.display()))?;
    file.set_len(layout.size).doing(|| "sizing the disk")?;
    for (partition, content) in [&layout.esp, &layout.root, &layout.hash].into_iter().zip(contents) {
        copy_at(content, &mut file, partition.offset)?;
    }
    file.flush().doing(|| "writing the disk")?;
    partition_table(path, id, layout).doing(|| "writing the partition table")?;
    // Once here, so that what is renamed into the catalog is on the disk.
    file.sync_all().doing(|| "writing the disk")
}

/// Why the partition table could not be written.
#[derive(Debug, thiserror::Error)]
enum TableError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Gpt(#[from] gpt::GptError),
    #[error(transparent)]
    Mbr(#[from] gpt::mbr::MBRError),
    #[error("the disk has more sectors than the format allows")]
    TooLarge,
}

fn partition_table(path: &Path, id: ImageId, layout: &Layout) -> std::result::Result<(), TableError> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let sectors = u32::try_from(layout.size / SECTOR - 1).map_err(|_| TableError::TooLarge)?;
    gpt::mbr::ProtectiveMBR::with_lb_size(sectors).overwrite_lba0(&mut file)?;
    let mut table = gpt::GptConfig::new()
        .writable(true)
        .logical_block_size(gpt::disk::LogicalBlockSize::Lb512)
        .create_from_device(file, Some(derived_uuid("disk", id)))?;
    let verity = Type {
        guid: uuid::uuid!("2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5"),
        os: gpt::partition_types::OperatingSystem::Linux,
    };
    let entries = [(&layout.esp, EFI), (&layout.root, LINUX_ROOT_X64), (&layout.hash, verity)];
    let partitions = entries
        .into_iter()
        .zip(1..)
        .map(|((partition, kind), number)| (number, entry(partition, kind, id)))
        .collect();
    table.update_partitions(partitions)?;
    table.write()?.sync_all()?;
    Ok(())
}

fn entry(partition: &Partition, kind: Type, id: ImageId) -> GptPartition {
    GptPartition {
        part_type_guid: kind,
        part_guid: derived_uuid(&partition.name, id),
        first_lba: partition.offset / SECTOR,
        last_lba: (partition.offset + partition.size).div_ceil(SECTOR) - 1,
        flags: 0,
        name: partition.name.clone(),
    }
}

//! The partition table of a disk: GPT, or the older MBR with extended partitions.

use std::io::{Read, Seek, SeekFrom, Write};

use super::window::{Window, u16_at, u32_at};
use crate::catalog::Partition;
use crate::error::{Doing as _, Error, Result};

/// Sectors of 512 bytes: what a bake writes, and what EC2 and QEMU show.
const SECTOR: u64 = 512;

/// Types of a partition in an MBR: nothing, extended (three ways to reach it), EFI system partition.
const NONE: u8 = 0;
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
const EFI: u8 = 0xef;

/// The most logical partitions that are followed; Linux takes no more than 60 of a disk.
const LOGICAL_MAX: u32 = 60;

/// One entry of a partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its number, as in `/dev/sda1`.
    pub number: u32,
    /// Its GUID in lower case with dashes; in an MBR the disk's number and its own, as fstab has it.
    pub uuid: String,
    /// Whether it is an EFI system partition.
    pub is_esp: bool,
    /// Name and place; the name is empty where a table has none.
    pub partition: Partition,
}

impl Slot {
    /// Returns its bytes.
    ///
    /// # Errors
    /// A place outside of the disk.
    pub fn window(&self, disk: &Window) -> Result<Window> {
        let Partition { offset, size, .. } = self.partition;
        disk.part(offset, size).map_err(|error| error.during(format!("opening partition {}", self.number)))
    }
}

/// Reads the partition table of a disk; a disk without one is a single partition, as some old AMIs have it.
///
/// # Errors
/// A damaged table, and reads that fail.
pub fn read(disk: &Window) -> Result<Vec<Slot>> {
    let sectors = disk.near(0, 1024).map_err(|error| error.during("reading the partition table"))?;
    if sectors[512..].starts_with(b"EFI PART") {
        return of_gpt(disk);
    }
    if super::foreign::signature(disk).is_some() || u16_at(&sectors, 510) != 0xaa55 {
        let partition = Partition { name: String::new(), offset: 0, size: disk.len() };
        return Ok(vec![Slot { number: 0, uuid: String::new(), is_esp: false, partition }]);
    }
    of_mbr(disk, &sectors)
}

fn of_gpt(disk: &Window) -> Result<Vec<Slot>> {
    let sector = gpt::disk::LogicalBlockSize::Lb512;
    let device = Device { window: disk.clone(), at: 0 };
    let table = gpt::GptConfig::new().writable(false).logical_block_size(sector).open_from_device(device);
    let table = table.doing(|| "reading the partition table")?;
    let mut found = Vec::new();
    for (number, partition) in table.partitions() {
        let doing = || format!("reading the partition `{}`", partition.name);
        found.push(Slot {
            number: *number,
            uuid: partition.part_guid.to_string(),
            is_esp: partition.part_type_guid == gpt::partition_types::EFI,
            partition: Partition {
                name: partition.name.clone(),
                offset: partition.bytes_start(sector).doing(doing)?,
                size: partition.bytes_len(sector).doing(doing)?,
            },
        });
    }
    Ok(found)
}

fn of_mbr(disk: &Window, sector: &[u8]) -> Result<Vec<Slot>> {
    let signature = u32_at(sector, 440);
    let slot = |number: u32, kind: u8, start: u64, len: u64| Slot {
        number,
        uuid: format!("{signature:08x}-{number:02x}"),
        is_esp: kind == EFI,
        partition: Partition { name: String::new(), offset: start * SECTOR, size: len * SECTOR },
    };
    let mut found = Vec::new();
    let mut extended = None;
    for number in 0..4 {
        let (kind, start, len) = entry(sector, number);
        if EXTENDED.contains(&kind) {
            extended = Some(start);
        } else if kind != NONE && len > 0 {
            found.push(slot(u32::try_from(number).unwrap_or(0) + 1, kind, start, len));
        }
    }
    // A chain of tables, each with one logical partition and the way to the next, which counts from the first.
    let Some(first) = extended else { return Ok(found) };
    let mut at = first;
    for number in 5..5 + LOGICAL_MAX {
        let table =
            disk.near(at * SECTOR, 512).map_err(|error| error.during("reading an extended partition"))?;
        let ((kind, start, len), (next_kind, next, _)) = (entry(&table, 0), entry(&table, 1));
        if u16_at(&table, 510) != 0xaa55 {
            return Err(Error::failed("the extended partition is damaged"));
        }
        if kind != NONE && len > 0 {
            found.push(slot(number, kind, at + start, len));
        }
        if !EXTENDED.contains(&next_kind) || next == 0 {
            return Ok(found);
        }
        at = first + next;
    }
    Err(Error::failed(format!("the extended partition has more than {LOGICAL_MAX} logical ones")))
}

/// Type, first sector and sectors of an entry of an MBR.
fn entry(sector: &[u8], number: usize) -> (u8, u64, u64) {
    let at = 446 + 16 * number;
    let kind = sector.get(at + 4).copied().unwrap_or(NONE);
    (kind, u64::from(u32_at(sector, at + 8)), u64::from(u32_at(sector, at + 12)))
}

/// A window as the crate `gpt` wants a disk; it is never written.
#[derive(Debug)]
struct Device {
    window: Window,
    at: u64,
}

impl Read for Device {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = self.window.len().saturating_sub(self.at);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let bytes = self.window.near(self.at, len).map_err(|error| std::io::Error::other(error.chain()))?;
        buffer[..len].copy_from_slice(&bytes);
        self.at += len as u64;
        Ok(len)
    }
}

impl Seek for Device {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let (from, by) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::End(by) => (self.window.len(), by),
            SeekFrom::Current(by) => (self.at, by),
        };
        let outside = || std::io::Error::from(std::io::ErrorKind::InvalidInput);
        self.at = from.checked_add_signed(by).ok_or_else(outside)?;
        Ok(self.at)
    }
}

impl Write for Device {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::process::Run as _;

    fn table(script: &str) -> Vec<Slot> {
        let temp = tempfile::tempdir().expect("a directory");
        let path = temp.path().join("disk");
        std::fs::File::create(&path).and_then(|file| file.set_len(64 << 20)).expect("a file");
        Command::new("sfdisk")
            .arg("--quiet")
            .arg(&path)
            .run_with_input(script.as_bytes())
            .expect("sfdisk works");
        read(&Window::open(&path).expect("it opens")).expect("it reads")
    }

    #[test]
    fn both_tables_are_read() {
        let gpt = table(
            "label: gpt\nstart=2048, size=4096, type=U\nstart=8192, size=4096, name=root, uuid=3D4CD5D5-5D6C-4E5B-B1B0-3B6E5E8B1C11\n",
        );
        let places: Vec<_> = gpt
            .iter()
            .map(|slot| (slot.number, slot.is_esp, slot.partition.offset, slot.partition.size))
            .collect();
        assert_eq!(places, [(1, true, 1 << 20, 2 << 20), (2, false, 4 << 20, 2 << 20)]);
        assert_eq!(
            (gpt[1].partition.name.as_str(), gpt[1].uuid.as_str()),
            ("root", "3d4cd5d5-5d6c-4e5b-b1b0-3b6e5e8b1c11")
        );

        let mbr = table(
            "label: dos\nlabel-id: 0x1234abcd\nstart=2048, size=4096, type=ef\nstart=8192, size=40960, type=5\nstart=10240, size=2048, type=83\nstart=16384, size=2048, type=83\n",
        );
        let places: Vec<_> =
            mbr.iter().map(|slot| (slot.number, slot.is_esp, slot.partition.offset)).collect();
        assert_eq!(places, [(1, true, 1 << 20), (5, false, 5 << 20), (6, false, 8 << 20)]);
        assert_eq!(mbr[1].uuid, "1234abcd-05");
    }

    #[test]
    fn a_chain_without_end_is_refused() {
        let mut disk = vec![0; 1 << 20];
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk[446 + 4] = 5;
        disk[446 + 8] = 1;
        disk[512 + 510..1024].copy_from_slice(&[0x55, 0xaa]);
        disk[512 + 462 + 4] = 5;
        disk[512 + 462 + 8] = 0;
        // The way to the next one leads to the second sector after the first, which leads to itself.
        disk[512 + 462 + 8] = 1;
        disk[1024 + 510..1536].copy_from_slice(&[0x55, 0xaa]);
        disk[1024 + 462 + 4] = 5;
        disk[1024 + 462 + 8] = 1;
        assert!(read(&Window::memory(disk)).is_err());
    }
}

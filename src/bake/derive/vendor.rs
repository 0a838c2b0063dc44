//! The vendor's disk: checked, and copied into a raw file that a machine may write to.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::catalog::Firmware;
use crate::error::{Doing as _, Error, Result};
use crate::inspect::disk::Disk;
use crate::inspect::foreign::Contents;
use crate::lock::derived;
use crate::notation;
use crate::process::Run as _;
use crate::recipe::DiskSource;

/// Bytes of a boot sector that are code (the rest is the old partition table): a disk without any has no boot loader for
/// BIOS.
const BOOT_CODE: usize = 440;

/// The formats that a vendor's disk may have, by their first bytes. A raw disk has none of these.
const MAGIC: &[(&[u8], &str)] = &[
    (b"QFI\xfb", "qcow2"),
    (b"conectix", "VHD"),
    (b"vhdxfile", "VHDX"),
    (b"KDMV", "VMDK"),
    (b"# Disk DescriptorFile", "VMDK"),
    (b"<<< ", "VDI"),
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\0", "xz"),
    (b"(\xb5/\xfd", "zstd"),
];

/// What `qemu-img info` says of a disk.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Info {
    virtual_size: u64,
    backing_filename: Option<String>,
    encrypted: Option<bool>,
    format_specific: Option<FormatSpecific>,
}

#[derive(Debug, Deserialize)]
struct FormatSpecific {
    data: Option<FormatData>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct FormatData {
    data_file: Option<String>,
}

/// Copies the vendor's disk to `to` as a raw file, grown to the recipe's size. `repository` is the repository's root.
///
/// # Errors
/// Another file than the recipe's, one that refers to other files, a format that is not understood, and a disk that would
/// have to shrink.
pub fn copy(repository: &Path, source: &DiskSource, to: &Path) -> Result<()> {
    let from = &derived::check(repository, source)?;
    let format = format(from)?;
    let info = Command::new("qemu-img")
        .args(["info", "--output=json", "-f", format])
        .arg(from)
        .run_text()
        .and_then(|text| {
            serde_json::from_str::<Info>(&text).doing(|| "reading what qemu-img says of the disk")
        })?;
    // Such a disk would bring bytes of other files of this computer into the image.
    let data_file = info.format_specific.and_then(|specific| specific.data?.data_file);
    if let Some(other) = info.backing_filename.or(data_file) {
        return Err(Error::failed(format!(
            "{} refers to another file, {other}: only disks that are whole in themselves are derived from",
            from.display()
        ))
        .hint("flatten it with `qemu-img convert -O qcow2`"));
    }
    if info.encrypted == Some(true) {
        return Err(Error::failed(format!("{} is encrypted", from.display())));
    }
    Command::new("qemu-img")
        .args(["convert", "-f", format, "-O", "raw", "-m", "8", "-W"])
        .args([from, to])
        .run()
        .map_err(|error| error.during(format!("copying {} (is the disk full?)", from.display())))?;
    let Some(size) = &source.size else { return Ok(()) };
    let size = notation::size(size).map_err(Error::invalid)?;
    if size < info.virtual_size {
        return Err(Error::invalid(format!(
            "the disk has {} bytes and cannot be made smaller: `size` in [source] disk must be more",
            info.virtual_size
        )));
    }
    let file = File::options().write(true).open(to).doing(|| "growing the disk")?;
    file.set_len(size).doing(|| "growing the disk")
}

/// Returns qemu-img's name of a disk's format. It is never left to guess: a raw disk whose first bytes someone else wrote
/// could pass for a format that refers to other files.
fn format(path: &Path) -> Result<&'static str> {
    let mut first = Vec::new();
    let file = File::open(path).doing(|| format!("opening {}", path.display()))?;
    file.take(64).read_to_end(&mut first).doing(|| format!("reading {}", path.display()))?;
    match MAGIC.iter().find(|(magic, _)| first.starts_with(magic)) {
        None => Ok("raw"),
        Some((_, "qcow2")) => Ok("qcow2"),
        Some((_, other)) => Err(Error::failed(format!("{} is {other}", path.display())).hint(
            "a vendor's disk is qcow2 or raw: unpack it, or convert it with `qemu-img convert -O qcow2`",
        )),
    }
}

/// Reads what is on a vendor's disk, which nothing may change meanwhile.
///
/// # Errors
/// A disk without a file system that rekiln reads.
pub fn contents(disk: &Path) -> Result<Contents> {
    match Disk::open(disk)? {
        Disk::Foreign(disk) => disk.contents(),
        Disk::Sealed(_) => Err(Error::failed("it is a disk of rekiln's")),
    }
}

/// Returns how a raw disk is started: by BIOS where it has code for that, which a translated machine runs much faster.
///
/// # Errors
/// It cannot be read.
pub fn firmware(disk: &Path) -> Result<Firmware> {
    let mut code = [0; BOOT_CODE];
    let mut file = File::open(disk).doing(|| format!("opening {}", disk.display()))?;
    file.read_exact(&mut code).doing(|| format!("reading the boot sector of {}", disk.display()))?;
    Ok(if code.iter().all(|byte| *byte == 0) { Firmware::Uefi } else { Firmware::Bios })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn source(path: &Path, size: Option<&str>) -> DiskSource {
        DiskSource {
            path: path.display().to_string(),
            sha256: Digest::of_file(path).expect("it reads"),
            size: size.map(str::to_owned),
            ssh_timeout: None,
            cloud_init: false,
        }
    }

    #[test]
    fn a_disk_is_copied_grown_and_never_another() {
        let dir = tempfile::tempdir().expect("a directory");
        let (raw, qcow2, to) =
            (dir.path().join("a.raw"), dir.path().join("a.qcow2"), dir.path().join("to.raw"));
        std::fs::write(&raw, vec![7; 1 << 20]).expect("written");
        Command::new("qemu-img")
            .args(["convert", "-O", "qcow2"])
            .args([&raw, &qcow2])
            .run()
            .expect("converted");
        copy(dir.path(), &source(&qcow2, Some("2M")), &to).expect("copied");
        let bytes = std::fs::read(&to).expect("read");
        assert!(bytes.len() == 2 << 20 && bytes[..1 << 20].iter().all(|byte| *byte == 7));
        assert_eq!(firmware(&to).expect("read"), Firmware::Bios);
        let error = copy(dir.path(), &source(&raw, Some("512K")), &to).expect_err("it cannot shrink");
        assert!(error.chain().contains("cannot be made smaller"), "{error:?}");
        let mut other = source(&raw, None);
        other.sha256 = Digest::of(b"other");
        let error = copy(dir.path(), &other, &to).expect_err("another disk");
        assert!(error.chain().contains("is not the disk that"), "{error:?}");
    }

    #[test]
    fn a_disk_that_refers_to_other_files_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let (base, on_top) = (dir.path().join("base.raw"), dir.path().join("top.qcow2"));
        std::fs::write(&base, vec![0; 1 << 20]).expect("written");
        let mut create = Command::new("qemu-img");
        create
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
            .args([&base, &on_top])
            .run()
            .expect("made");
        let error = copy(dir.path(), &source(&on_top, None), &dir.path().join("to")).expect_err("refused");
        assert!(error.chain().contains("refers to another file"), "{error:?}");
        assert_eq!(firmware(&base).expect("read"), Firmware::Uefi);
        std::fs::write(&base, b"conectix").expect("written");
        let error = copy(dir.path(), &source(&base, None), &dir.path().join("to")).expect_err("refused");
        assert!(error.chain().contains("is VHD"), "{error:?}");
    }
}

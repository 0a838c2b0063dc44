//! The EFI system partition with its one file: a unified kernel image.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::initrd::Kernel;
use super::layout::ESP_SIZE;
use crate::digest::ImageId;
use crate::error::{Doing as _, Result};
use crate::process::Run as _;

/// Where the UEFI specification looks for the boot program of a disk without boot entries.
const BOOT_PATH: [&str; 2] = ["EFI", "BOOT"];

/// The name UEFI gives it for `x86_64`.
const BOOT_FILE: &str = "BOOTX64.EFI";

/// The file system's serial number. Nothing looks for it by that; one of each image's own would be a block more that
/// differs from the image before.
const SERIAL: &str = "52454b49";

/// Where the sections lie in memory: above the stub's own, each with room for its largest content. The values
/// are those of systemd's own example for `objcopy` (systemd-stub(7) of version 252).
const SECTIONS: [(&str, &str); 4] =
    [(".osrel", "0x20000"), (".cmdline", "0x30000"), (".linux", "0x2000000"), (".initrd", "0x4000000")];

/// Makes the EFI system partition of image `id` in the scratch directory `dir` and returns its file.
///
/// # Errors
/// Whatever `objcopy`, `mkfs.vfat` or `mcopy` returns.
pub fn esp(dir: &Path, id: ImageId, kernel: &Kernel, cmdline: &str, epoch: i64) -> Result<PathBuf> {
    let tree = dir.join("esp");
    let folder = tree.join(BOOT_PATH[0]).join(BOOT_PATH[1]);
    std::fs::create_dir_all(&folder).doing(|| format!("making {}", folder.display()))?;
    let uki = folder.join(BOOT_FILE);
    unify(dir, id, kernel, cmdline, epoch, &uki)?;
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(epoch).unwrap_or_default());
    for path in [uki.as_path(), folder.as_path(), &tree.join(BOOT_PATH[0])] {
        let file = std::fs::File::open(path).doing(|| format!("opening {}", path.display()))?;
        file.set_modified(time).doing(|| format!("setting the time of {}", path.display()))?;
    }
    let image = dir.join("esp.img");
    let file = std::fs::File::create(&image).doing(|| "making the EFI system partition")?;
    file.set_len(ESP_SIZE).doing(|| "sizing the EFI system partition")?;
    Command::new("mkfs.vfat")
        .args(["--invariant", "-F", "32", "-S", "512", "-s", "1", "-n", "REKILN", "-i", SERIAL])
        .arg(&image)
        .env("SOURCE_DATE_EPOCH", epoch.to_string())
        .run()?;
    Command::new("mcopy")
        .args(["-s", "-m", "-i"])
        .arg(&image)
        .arg(tree.join(BOOT_PATH[0]))
        .arg("::")
        .env("TZ", "UTC")
        .env("LC_ALL", "C")
        .env("MTOOLSRC", "/dev/null")
        .env("SOURCE_DATE_EPOCH", epoch.to_string())
        .run()?;
    Ok(image)
}

fn unify(dir: &Path, id: ImageId, kernel: &Kernel, cmdline: &str, epoch: i64, uki: &Path) -> Result<()> {
    let osrel = dir.join("osrel");
    std::fs::write(&osrel, format!("ID=rekiln\nNAME=rekiln\nVERSION_ID={}\n", id.short()))
        .doing(|| "writing .osrel")?;
    let line = dir.join("cmdline");
    std::fs::write(&line, cmdline).doing(|| "writing .cmdline")?;
    let contents = [&osrel, &line, &kernel.vmlinuz, &kernel.initrd];
    let mut command = Command::new("objcopy");
    // -p keeps the stub's time stamp; without it the time of the bake would be in the file.
    command.arg("-p");
    for ((name, address), content) in SECTIONS.iter().zip(contents) {
        command.arg("--add-section").arg(format!("{name}={}", content.display()));
        command.arg("--change-section-vma").arg(format!("{name}={address}"));
    }
    command
        .arg(&kernel.stub)
        .arg(uki)
        .env("LC_ALL", "C")
        .env("SOURCE_DATE_EPOCH", epoch.to_string())
        .run()?;
    Ok(())
}

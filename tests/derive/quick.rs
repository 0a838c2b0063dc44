//! A vendor's disk whose first boot takes seconds: the same one, with a first process of our own instead of systemd and
//! cloud-init. What bakes do there is what they do anywhere; what the system answers is not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::ground::{ROOT_START, scratch, vendor};
use crate::bake::succeeded;

/// What answers for a systemd that does not run: it has no jobs, and whatever it is told is done.
const SYSTEMCTL: &str = "#!/bin/sh\nexit 0\n";
/// The same for what is to run apart from every connection.
const SYSTEMD_RUN: &str = "#!/bin/sh\nwhile [ \"${1#--}\" != \"$1\" ]; do shift; done\n\
    case $1 in systemctl) ;; *) setsid \"$@\" < /dev/null > /dev/null 2>&1 & ;; esac\n";

/// Returns the disk, raw.
pub fn disk() -> &'static Path {
    static DISK: OnceLock<PathBuf> = OnceLock::new();
    DISK.get_or_init(|| {
        // It stays until the next run: several tests of this run start from it.
        let dir = scratch().keep();
        let disk = dir.join("quick.raw");
        let mut convert = Command::new("qemu-img");
        convert.args(["convert", "-O", "raw"]).arg(vendor()).arg(&disk);
        succeeded(&convert.output().expect("qemu-img runs"));
        let config =
            read(&disk, "/boot/grub/grub.cfg").replace(" ro ", " ro quiet init=/usr/local/sbin/init ");
        assert!(config.contains("init="), "{config}");
        write(&dir, &disk, "/boot/grub/grub.cfg", &config, 0o600);
        write(&dir, &disk, "/usr/local/sbin/init", include_str!("quick_init.sh"), 0o755);
        write(&dir, &disk, "/usr/local/sbin/systemctl", SYSTEMCTL, 0o755);
        write(&dir, &disk, "/usr/local/sbin/systemd-run", SYSTEMD_RUN, 0o755);
        disk
    })
}

/// Runs a command of debugfs on the root file system, which it may change.
fn debugfs(disk: &Path, command: &str) -> String {
    let volume = format!("{}?offset={ROOT_START}", disk.display());
    succeeded(&Command::new("debugfs").args(["-w", "-R", command, &volume]).output().expect("debugfs runs"))
}

fn read(disk: &Path, path: &str) -> String {
    debugfs(disk, &format!("cat {path}"))
}

/// Writes a file in place of the one that is there, if one is.
fn write(dir: &Path, disk: &Path, path: &str, text: &str, mode: u32) {
    let from = dir.join("file");
    fs::write(&from, text).expect("written");
    debugfs(disk, &format!("rm {path}"));
    debugfs(disk, &format!("write {} {path}", from.display()));
    debugfs(disk, &format!("set_inode_field {path} mode 0{:o}", 0o100_000 | mode));
    assert_eq!(read(disk, path), text, "{path}");
}

//! What fstab mounts from this disk (`fstab(5)`).

use crate::inspect::partitions::Slot;
use crate::inspect::volume::Volume;

/// Types that are no file system on a disk of the machine, or hold nothing that is inspected: the kernel's own, the
/// network's, and FAT, which has neither owners nor rights.
const PASSED_OVER: &[&str] = &[
    "swap",
    "tmpfs",
    "proc",
    "sysfs",
    "devpts",
    "devtmpfs",
    "cgroup",
    "cgroup2",
    "nfs",
    "nfs4",
    "cifs",
    "vfat",
    "msdos",
    "iso9660",
    "udf",
    "overlay",
    "bind",
    "efivarfs",
    "debugfs",
    "tracefs",
    "securityfs",
    "hugetlbfs",
    "mqueue",
    "none",
    "9p",
    "virtiofs",
    "fuse",
    "squashfs",
];

/// Names of the first disk's partitions up to the number.
const FIRST_DISK: &[&str] =
    &["/dev/sda", "/dev/vda", "/dev/xvda", "/dev/hda", "/dev/nvme0n1p", "/dev/mmcblk0p"];

/// One line of fstab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) from: String,
    /// Absolute, without `/` at its end.
    pub(super) at: String,
}

/// Returns what is mounted besides the root, outer directories first.
pub(super) fn of(fstab: &str) -> Vec<Mount> {
    let mut found = Vec::new();
    for line in fstab.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [from, at, kind, ..] = fields.as_slice() else { continue };
        let bound = fields
            .get(3)
            .is_some_and(|options| options.split(',').any(|option| option == "bind" || option == "rbind"));
        let at = at.trim_end_matches('/');
        let inside = at.starts_with('/') && !at.split('/').any(|part| part == ".." || part == ".");
        if inside && !bound && !PASSED_OVER.contains(kind) {
            // Spaces are written as octal numbers.
            let at = at.replace("\\040", " ");
            found.push(Mount { from: from.trim_matches('"').replace("=\"", "="), at });
        }
    }
    found.sort_by(|a, b| a.at.cmp(&b.at));
    found
}

impl Mount {
    /// Tells whether this volume in this partition is what the line names.
    pub(super) fn names(&self, slot: &Slot, volume: &Volume) -> bool {
        let by_link = || self.from.strip_prefix("/dev/disk/by-")?.split_once('/');
        let Some((kind, value)) = self.from.split_once('=').or_else(by_link) else {
            let number = FIRST_DISK.iter().find_map(|disk| self.from.strip_prefix(disk));
            return number.is_some_and(|number| number == slot.number.to_string());
        };
        match kind.to_ascii_uppercase().as_str() {
            "UUID" => volume.uuid().eq_ignore_ascii_case(value),
            "LABEL" => volume.label() == value && !value.is_empty(),
            "PARTUUID" => slot.uuid.eq_ignore_ascii_case(value) && !value.is_empty(),
            "PARTLABEL" => slot.partition.name == value && !value.is_empty(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_fstab() {
        let text = "# <file system>\nUUID=a / ext4 errors=remount-ro 0 1\nLABEL=\"x\" /var/log xfs defaults 0 0\n\
            UUID=B /boot ext4 defaults 0 2\nUUID=C /boot/efi vfat umask=0077 0 1\n/dev/sdb none swap sw 0 0\n\
            /srv /mnt none bind 0 0\n/srv /mnt ext4 rw,bind 0 0\n/dev/mapper/a /var/ ext4 defaults\nUUID=d /a/../b ext4 rw\n\n";
        let found: Vec<(String, String)> = of(text).into_iter().map(|mount| (mount.at, mount.from)).collect();
        let expected = [("/boot", "UUID=B"), ("/var", "/dev/mapper/a"), ("/var/log", "LABEL=x")];
        assert_eq!(found, expected.map(|(at, from)| (at.to_owned(), from.to_owned())));
    }
}

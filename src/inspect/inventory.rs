//! What an image holds: packages, services, ports, rights, users, sizes.

use std::collections::BTreeMap;

use serde::Serialize;

use super::disk::{Cmdline, SealedDisk};
use super::foreign::{Contents, ForeignDisk};
use super::kind::Kind;
use super::rpm;
use super::rules;
use super::tree::Tree;
use super::units;
use crate::catalog::Partition;
use crate::error::Result;

/// How many levels of directories sizes are told for: `/usr/lib`, not what is below.
const LEVELS: usize = 2;

/// Where rpm has its database, and where it had it in older formats.
const RPM: &[&str] = &["/usr/lib/sysimage/rpm/rpmdb.sqlite", "/var/lib/rpm/rpmdb.sqlite"];
const OLDER_RPM: &[&str] = &["/var/lib/rpm/Packages.db", "/var/lib/rpm/Packages"];

/// The largest database of rpm's that is read: one of two thousand packages has about 100 MiB.
const RPM_MAX: u64 = 1 << 28;

/// What an image holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Inventory {
    /// Packages: name to version.
    pub packages: BTreeMap<String, String>,
    /// Units that start at boot.
    pub services: Vec<String>,
    /// Ports that the recipes declare.
    pub ports: Vec<String>,
    /// Files that are setuid or setgid: path to mode.
    pub setuid: BTreeMap<String, String>,
    /// Files with capabilities: path to names.
    pub capabilities: BTreeMap<String, String>,
    /// Users: name to `uid shell`.
    pub users: BTreeMap<String, String>,
    /// Arguments of the kernel command line: the sealed one, or the one that GRUB starts by default.
    pub kernel_args: Vec<String>,
    /// Bytes of files by directory.
    pub directories: BTreeMap<String, u64>,
    /// Files, and the bytes in them.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Offset and size in bytes of each layer in the root partition.
    pub layers: Vec<(u64, u64)>,
    /// Partitions of the disk.
    pub partitions: Vec<Partition>,
    /// What `mount` calls the root file system: `erofs` on a sealed disk, else `ext4` or `xfs`.
    pub file_system: String,
    /// Whether firmware finds something to start without a boot entry (`EFI/BOOT/BOOTX64.EFI`).
    pub uefi: bool,
    /// What could not be seen, a sentence each.
    pub notes: Vec<String>,
}

impl Inventory {
    /// Reads it off a sealed disk.
    ///
    /// # Errors
    /// Damaged layers.
    pub fn of(tree: &Tree, disk: &SealedDisk, ports: &[String]) -> Result<Self> {
        let mut inventory = Self::of_tree(tree)?;
        inventory.ports = ports.to_vec();
        inventory.kernel_args = arguments(&disk.cmdline);
        inventory.layers = disk.cmdline.layers()?;
        inventory.partitions.clone_from(&disk.partitions);
        "erofs".clone_into(&mut inventory.file_system);
        // Its command line was just read out of that program.
        inventory.uefi = true;
        Ok(inventory)
    }

    /// Reads it off a vendor's disk.
    ///
    /// # Errors
    /// Damaged file systems.
    pub fn of_foreign(contents: &Contents, disk: &ForeignDisk, ports: &[String]) -> Result<Self> {
        let mut inventory = Self::of_tree(&contents.tree)?;
        inventory.ports = ports.to_vec();
        inventory.kernel_args = contents.cmdline().into_iter().flat_map(arguments).collect();
        inventory.partitions = disk.partitions();
        disk.file_system().clone_into(&mut inventory.file_system);
        inventory.uefi = disk.has_fallback_loader;
        inventory.notes.extend(contents.notes.iter().cloned());
        Ok(inventory)
    }

    /// Reads what a tree alone tells.
    ///
    /// # Errors
    /// Damaged layers.
    pub fn of_tree(tree: &Tree) -> Result<Self> {
        let mut inventory = Self {
            packages: packages(&tree.text("/var/lib/dpkg/status")?),
            services: units::enabled(tree).into_keys().collect(),
            users: users(&tree.text("/etc/passwd")?),
            ..Self::default()
        };
        inventory.read_rpm(tree)?;
        for (path, node) in tree.iter() {
            if let Some(value) = node.xattrs.get("security.capability") {
                inventory.capabilities.insert(path.to_owned(), rules::capability_names(value));
            }
            if node.kind != Kind::File {
                continue;
            }
            if node.mode & 0o6000 != 0 {
                inventory.setuid.insert(path.to_owned(), format!("{:04o}", node.mode));
            }
            inventory.files += 1;
            inventory.bytes += node.size;
            let parts: Vec<&str> = path.split('/').skip(1).collect();
            for level in 1..=LEVELS.min(parts.len().saturating_sub(1)) {
                *inventory.directories.entry(format!("/{}", parts[..level].join("/"))).or_default() +=
                    node.size;
            }
        }
        Ok(inventory)
    }

    /// Adds rpm's packages, or says why there are none.
    fn read_rpm(&mut self, tree: &Tree) -> Result<()> {
        let Some(path) = RPM.iter().find(|path| tree.find(path).is_some()) else {
            if OLDER_RPM.iter().any(|path| tree.find(path).is_some()) {
                let text =
                    "rpm packages are not listed: their database has a format that rekiln does not read";
                self.notes.push(text.to_owned());
            }
            return Ok(());
        };
        match tree.read(path, RPM_MAX)?.as_deref().and_then(rpm::packages) {
            Some(found) => self.packages.extend(found),
            None => self.notes.push(format!("rpm packages are not listed: {path} is damaged")),
        }
        // What was written last stands in the log until someone closes the database.
        if tree.find(&format!("{path}-wal")).is_some_and(|node| node.size > 0) {
            self.notes.push(format!("rpm packages may be incomplete: {path}-wal has changes of them"));
        }
        Ok(())
    }
}

fn arguments(cmdline: &Cmdline) -> Vec<String> {
    cmdline.0.split_whitespace().map(str::to_owned).collect()
}

/// Reads installed packages off dpkg's status file.
fn packages(status: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for paragraph in status.split("\n\n") {
        let field = |name: &str| {
            paragraph.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
        };
        if let (Some(name), Some(version)) = (field("Package"), field("Version"))
            && field("Status")
                .is_none_or(|status| !status.ends_with("config-files") && !status.ends_with("not-installed"))
        {
            found.insert(name.to_owned(), version.to_owned());
        }
    }
    found
}

fn users(passwd: &str) -> BTreeMap<String, String> {
    let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    fields
        .filter(|fields| fields.len() >= 7)
        .map(|fields| (fields[0].to_owned(), format!("{} {}", fields[2], fields[6])))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_tree() {
        let mut tree = Tree::default();
        let status = "Package: a\nStatus: install ok installed\nVersion: 1:2-3\n\nPackage: b\nStatus: deinstall ok config-files\nVersion: 1\n";
        tree.plant("/var/lib/dpkg/status", 0o644, status.as_bytes());
        tree.plant("/etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n");
        tree.plant("/usr/bin/x", 0o4755, b"1234");
        let inventory = Inventory::of_tree(&tree).expect("it reads");
        assert_eq!(inventory.packages, BTreeMap::from([("a".to_owned(), "1:2-3".to_owned())]));
        assert_eq!(inventory.users["root"], "0 /bin/sh");
        assert_eq!(inventory.setuid["/usr/bin/x"], "4755");
        assert_eq!((inventory.directories["/usr"], inventory.directories["/usr/bin"]), (4, 4));
    }
}

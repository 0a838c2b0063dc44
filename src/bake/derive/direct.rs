//! A first boot without the vendor's boot loader and without cloud-init: rekiln starts the kernel that the boot loader would
//! start, and systemd writes the keys, which it finds in a string of the firmware. On a translated machine cloud-init takes two
//! thirds of the first boot, to do what three lines say.
//!
//! How it can fail, and what is then: a disk that lacks something of what this needs is started as its vendor means it, by
//! [`super::seed`]; so is one whose recipe says `cloud_init = true`, for what is not seen here.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::catalog::Firmware;
use crate::error::{Doing as _, Result};
use crate::inspect::foreign::Contents;
use crate::inspect::foreign::grub::Entry;
use crate::inspect::tree::Tree;
use crate::ssh::Keys;
use crate::vm::builder::Direct;

/// The most bytes of a kernel, and of its initial file systems: several times what any distribution has, and with room beside them
/// in the machine's memory.
const FILE_MAX: u64 = 256 << 20;

/// The unit that writes files when systemd starts. It has read more lines for them from a credential since systemd 252.
/// Source: `NEWS` of systemd, and tmpfiles.d(5), "tmpfiles.extra".
const WRITES: &str = "systemd/system/systemd-tmpfiles-setup.service";

/// Prepares a direct start of a disk below `dir`; in place of it, why there is none.
///
/// # Errors
/// Files cannot be written.
pub fn prepare(
    contents: &Contents,
    firmware: Firmware,
    grows: bool,
    dir: &Path,
) -> Result<Result<Direct, String>> {
    let found = match entry(contents, firmware, grows) {
        Ok(entry) => files(&contents.tree, entry),
        Err(why) => Err(why.to_owned()),
    };
    let (kernel, initrd, cmdline) = match found {
        Ok(found) => found,
        Err(why) => return Ok(Err(why)),
    };
    let direct = Direct { kernel: dir.join("vmlinuz"), initrd: dir.join("initrd"), cmdline };
    std::fs::write(&direct.kernel, kernel).doing(|| "writing down the vendor's kernel")?;
    std::fs::write(&direct.initrd, initrd).doing(|| "writing down the vendor's initrd")?;
    Ok(Ok(direct))
}

/// Decides whether a disk can be started so, and by which entry of its boot loader.
fn entry(contents: &Contents, firmware: Firmware, grows: bool) -> Result<&Entry, &'static str> {
    let tree = &contents.tree;
    if firmware == Firmware::Uefi {
        return Err("it boots by UEFI alone");
    }
    let Some(entry) = &contents.entry else { return Err("no configuration of GRUB says what is started") };
    if entry.cmdline.value("root").is_none() {
        return Err("its command line names no root");
    }
    if entry.initrds.is_empty() {
        return Err("it starts without an initrd");
    }
    let units =
        ["/etc", "/usr/lib", "/lib"].map(|place| tree.text(&format!("{place}/{WRITES}")).unwrap_or_default());
    if !units.iter().any(|unit| unit.lines().any(takes_lines)) {
        return Err("its systemd is older than 252");
    }
    if !has_network(tree) {
        return Err("only cloud-init would configure its network");
    }
    if grows && tree.find("/usr/bin/growpart").is_none() {
        return Err("it is to grow, and has no growpart");
    }
    Ok(entry)
}

/// Tells whether a line of a unit has it read more lines from a credential.
fn takes_lines(line: &str) -> bool {
    let value = line.strip_prefix("LoadCredential=").or_else(|| line.strip_prefix("ImportCredential="));
    value.is_some_and(|name| ["tmpfiles.extra", "tmpfiles.*"].contains(&name.trim()))
}

/// Tells whether the vendor has configured the network, or something does that needs no configuration.
fn has_network(tree: &Tree) -> bool {
    let has = |directory: &str, ending: &str| tree.names(directory).iter().any(|name| name.ends_with(ending));
    has("/etc/netplan", ".yaml")
        || has("/usr/lib/netplan", ".yaml")
        || has("/etc/systemd/network", ".network")
        || tree.find("/usr/sbin/NetworkManager").is_some()
}

/// Reads what an entry starts.
fn files(tree: &Tree, entry: &Entry) -> Result<(Vec<u8>, Vec<u8>, String), String> {
    let read = |path: &str| {
        // From the root of the file system with the kernel: the system's, or one that is mounted at /boot.
        let path = if path.starts_with("/boot/") { path.to_owned() } else { format!("/boot{path}") };
        match tree.read(&path, FILE_MAX) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(format!("{path}, which its boot loader starts, is not there")),
            Err(error) => Err(error.chain()),
        }
    };
    let kernel = read(&entry.kernel)?;
    // The kernel takes several as one, in a row.
    let mut initrd = Vec::new();
    for path in &entry.initrds {
        initrd.append(&mut read(path)?);
    }
    // The argument is cloud-init's own (`ds-identify` and its generator read it).
    Ok((kernel, initrd, format!("{} cloud-init=disabled", entry.cmdline.0)))
}

/// Returns the lines that have systemd write the keys.
///
/// # Errors
/// Keys that cannot be written.
fn lines(keys: &Keys) -> Result<String> {
    let public = BASE64.encode(format!("{}\n", keys.client_public()?.trim_end()));
    let host = BASE64.encode(keys.host_private()?.as_bytes());
    let host_public = BASE64.encode(format!("{}\n", keys.host_public()?.trim_end()));
    Ok(format!(
        "d /root/.ssh 0700 root root -\n\
         f+~ /root/.ssh/authorized_keys 0600 root root - {public}\n\
         f+~ /etc/ssh/ssh_host_ed25519_key 0600 root root - {host}\n\
         f+~ /etc/ssh/ssh_host_ed25519_key.pub 0644 root root - {host_public}\n"
    ))
}

/// Returns the firmware's string with the keys, nowhere but in memory.
///
/// # Errors
/// Keys that cannot be written; no memory.
pub fn credential(keys: &Keys) -> Result<OwnedFd> {
    let memory = memfd_create("rekiln-credential", MemfdFlags::CLOEXEC).doing(|| "making the credential")?;
    let mut file = std::fs::File::from(memory);
    write!(file, "io.systemd.credential.binary:tmpfiles.extra={}", BASE64.encode(lines(keys)?))
        .doing(|| "writing the credential")?;
    Ok(file.into())
}

/// Grows the root file system to the disk's end, as cloud-init would; exit code 1 of growpart is that there is nothing to do.
pub const GROW: &str = "root=$(findmnt -nvo SOURCE /)\nname=$(basename \"$(readlink -f \"$root\")\")\n\
    disk=/dev/$(basename \"$(readlink -f \"/sys/class/block/$name/..\")\")\n\
    growpart \"$disk\" \"$(cat \"/sys/class/block/$name/partition\")\" || [ $? -eq 1 ]\n\
    case $(findmnt -no FSTYPE /) in ext4) resize2fs \"$root\" ;; xfs) xfs_growfs / ;; esac\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::disk::Cmdline;

    fn contents() -> Contents {
        let mut tree = Tree::default();
        for (path, text) in [
            (
                "/usr/lib/systemd/system/systemd-tmpfiles-setup.service",
                "[Service]\nLoadCredential=tmpfiles.extra\n",
            ),
            ("/etc/netplan/90-default.yaml", "network:\n"),
            ("/boot/vmlinuz-6.1", "kernel"),
            ("/boot/ucode.img", "one"),
            ("/boot/initrd.img-6.1", "two"),
            ("/usr/bin/growpart", ""),
        ] {
            tree.plant(path, 0o644, text.as_bytes());
        }
        let entry = Entry {
            kernel: "/boot/vmlinuz-6.1".to_owned(),
            initrds: vec!["/ucode.img".to_owned(), "/initrd.img-6.1".to_owned()],
            cmdline: Cmdline("root=UUID=a ro".to_owned()),
        };
        Contents { tree, entry: Some(entry), notes: Vec::new() }
    }

    /// The contents without one file.
    fn without(path: &str) -> Contents {
        let whole = contents();
        let mut tree = Tree::default();
        for (own, node) in whole
            .tree
            .iter()
            .filter(|(own, node)| *own != path && node.kind == crate::inspect::kind::Kind::File)
        {
            tree.plant(own, node.mode, &whole.tree.read(own, FILE_MAX).expect("read").expect("a file"));
        }
        Contents { tree, ..whole }
    }

    #[test]
    fn what_the_boot_loader_would_start_is_started() {
        let contents = contents();
        let entry = entry(&contents, Firmware::Bios, true).expect("it can");
        let (kernel, initrd, cmdline) = files(&contents.tree, entry).expect("they are there");
        assert_eq!((kernel, initrd), (b"kernel".to_vec(), b"onetwo".to_vec()));
        assert_eq!(cmdline, "root=UUID=a ro cloud-init=disabled");
    }

    #[test]
    fn what_lacks_something_is_started_as_its_vendor_means_it() {
        let why = |contents: &Contents| entry(contents, Firmware::Bios, true).err();
        assert_eq!(why(&contents()), None);
        assert_eq!(entry(&contents(), Firmware::Uefi, false).err(), Some("it boots by UEFI alone"));
        let old = without("/usr/lib/systemd/system/systemd-tmpfiles-setup.service");
        assert_eq!(why(&old), Some("its systemd is older than 252"));
        assert_eq!(
            why(&without("/etc/netplan/90-default.yaml")),
            Some("only cloud-init would configure its network")
        );
        let fixed = without("/usr/bin/growpart");
        assert_eq!(why(&fixed), Some("it is to grow, and has no growpart"));
        assert!(entry(&fixed, Firmware::Bios, false).is_ok());
        assert!(why(&Contents { entry: None, ..contents() }).is_some());
        let mut nowhere = contents();
        nowhere.entry.as_mut().expect("one").cmdline = Cmdline("ro".to_owned());
        assert_eq!(why(&nowhere), Some("its command line names no root"));
        let gone = without("/boot/ucode.img");
        let said = files(&gone.tree, gone.entry.as_ref().expect("one")).expect_err("a file is missing");
        assert_eq!(said, "/boot/ucode.img, which its boot loader starts, is not there");
    }

    #[test]
    fn systemd_is_told_the_keys_and_nothing_else() {
        let keys = Keys::new().expect("keys");
        let lines = lines(&keys).expect("written");
        let written: Vec<_> = lines
            .lines()
            .filter_map(|line| {
                let words: Vec<_> = line.split(' ').collect();
                let bytes = BASE64.decode(words.get(6)?).expect("base64");
                Some((words[1].to_owned(), words[2].to_owned(), String::from_utf8(bytes).expect("text")))
            })
            .collect();
        assert_eq!(written.len(), 3);
        assert_eq!(written[0].2.trim_end(), keys.client_public().expect("a key").trim_end());
        assert_eq!((written[1].1.as_str(), &written[1].2), ("0600", &*keys.host_private().expect("a key")));
        assert!(lines.lines().all(|line| line.starts_with("d ") || line.starts_with("f+~ ")));
        let mut file = std::fs::File::from(credential(&keys).expect("made"));
        let mut text = String::new();
        std::io::Seek::rewind(&mut file).expect("its beginning");
        std::io::Read::read_to_string(&mut file, &mut text).expect("read");
        let value = text.strip_prefix("io.systemd.credential.binary:tmpfiles.extra=").expect("its name");
        assert_eq!(BASE64.decode(value).expect("base64"), lines.as_bytes());
    }
}

//! `rekiln inspect` on disks that rekiln did not make: as a vendor lays them out, made by the field's tools.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rekiln::catalog::{Catalog, Record};
use rekiln::digest::Digest;
use rekiln::recipe::Exception;
use rekiln::store::Store;
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// The file system of the boot partition, as fstab names it.
const BOOT: &str = "3d4cd5d5-5d6c-4e5b-b1b0-3b6e5e8b1c11";

fn run(program: &str, args: &[&str], input: &str) {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = command.spawn();
    let mut child = started.unwrap_or_else(|error| {
        panic!("{program}: {error}; `apt-get install e2fsprogs xfsprogs fdisk mtools qemu-utils` brings it")
    });
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// What a vendor's root has after its first boot, and some of what rekiln wants gone from it.
const FILES: &[(&str, u32, &str)] = &[
    ("etc/os-release", 0o644, "ID=debian\n"),
    ("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/bash\nadmin:x:1000:1000::/home/admin:/bin/bash\n"),
    ("etc/shadow", 0o640, "root:*:1::::::\nadmin:!:1::::::\n"),
    ("etc/machine-id", 0o444, "0123456789abcdef0123456789abcdef\n"),
    (
        "etc/netplan/50-cloud-init.yaml",
        0o600,
        "network: {ethernets: {ens5: {match: {macaddress: '06:1a:2b:3c:4d:5e'}}}}\n",
    ),
    ("etc/ssh/ssh_host_ed25519_key", 0o600, "x"),
    ("etc/sudoers.d/90-cloud-init-users", 0o440, "admin ALL=(ALL) NOPASSWD:ALL\n"),
    ("home/admin/.ssh/id_ed25519", 0o600, "-----BEGIN OPENSSH PRIVATE KEY-----\n"),
    ("home/admin/.bash_history", 0o600, "ls\n"),
    ("usr/bin/cloud-init", 0o755, "x"),
    ("usr/bin/sudo", 0o4755, "x"),
    ("var/lib/cloud/instances/i-0123/user-data.txt", 0o600, "x"),
    ("var/lib/dhcp/dhclient.ens5.leases", 0o644, "lease {}\n"),
    ("var/lib/dpkg/status", 0o644, "Package: base\nStatus: install ok installed\nVersion: 1-2\n"),
    ("var/log/journal/0123456789abcdef0123456789abcdef/system.journal", 0o640, "x"),
    ("tmp/left", 0o600, "x"),
];

const GRUB: &str = "set default=\"0\"\nmenuentry 'Debian' {\n\tlinux /vmlinuz root=LABEL=root ro console=ttyS0 lockdown=integrity\n}\n";

const CMDLINE: &str = "root=LABEL=root ro console=ttyS0 lockdown=integrity";

/// What must be found on it.
const FINDINGS: &[(&str, &str)] = &[
    ("authorized-keys", "/home/admin/.ssh/id_ed25519"),
    ("cache", "/tmp/left"),
    ("cloud-agent", "/usr/bin/cloud-init"),
    ("credential-file", "/home/admin/.ssh/id_ed25519"),
    ("history", "/home/admin/.bash_history"),
    ("host-key", "/etc/ssh/ssh_host_ed25519_key"),
    ("kernel-cmdline", "init_on_alloc"),
    ("log", "/var/log/journal/0123456789abcdef0123456789abcdef/system.journal"),
    ("login-shell", "/etc/passwd"),
    ("machine-id", "/etc/machine-id"),
    ("machine-id", "/etc/netplan/50-cloud-init.yaml"),
    ("machine-secret", "/var/lib/cloud/instances/i-0123"),
    ("machine-secret", "/var/lib/dhcp/dhclient.ens5.leases"),
    ("privilege-tool", "/etc/sudoers.d/90-cloud-init-users"),
    ("privilege-tool", "/usr/bin/sudo"),
    ("secret", "/home/admin/.ssh/id_ed25519"),
    ("setuid", "/usr/bin/sudo"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Root {
    Ext4,
    Xfs,
}

/// Makes a disk with an ESP, a boot partition and a root.
pub fn vendor_disk(dir: &Path, root: Root) -> PathBuf {
    fs::create_dir_all(dir).expect("made");
    let tree = dir.join("tree");
    for (path, mode, content) in FILES {
        put(&tree.join(path), *mode, content);
    }
    put(
        &tree.join("etc/fstab"),
        0o644,
        &format!("LABEL=root / auto defaults 0 1\nUUID={BOOT} /boot ext4 defaults 0 2\n"),
    );
    fs::create_dir_all(tree.join("boot")).expect("made");
    symlink("usr/bin", tree.join("bin")).expect("made");
    let boot = dir.join("boot");
    put(&boot.join("grub/grub.cfg"), 0o600, GRUB);
    put(&boot.join("vmlinuz"), 0o644, "x");

    let (esp, boot_image, root_image) = (dir.join("esp.img"), dir.join("boot.img"), dir.join("root.img"));
    File::create(&esp).and_then(|file| file.set_len(4 * MIB)).expect("made");
    run("mformat", &["-i", text(&esp), "::"], "");
    run("mmd", &["-i", text(&esp), "::EFI", "::EFI/BOOT"], "");
    run("mcopy", &["-i", text(&esp), text(&boot.join("vmlinuz")), "::EFI/BOOT/BOOTX64.EFI"], "");
    run("mke2fs", &["-q", "-t", "ext4", "-U", BOOT, "-d", text(&boot), text(&boot_image), "8M"], "");
    let len = match root {
        Root::Ext4 => {
            run(
                "mke2fs",
                &["-q", "-t", "ext4", "-L", "root", "-d", text(&tree), text(&root_image), "32M"],
                "",
            );
            32 * MIB
        }
        Root::Xfs => {
            let list = dir.join("prototype");
            let mut lines = String::from("/boot\n0 0\nd--755 0 0\n");
            descend(&tree, &mut lines);
            fs::write(&list, lines).expect("written");
            let size = format!("file,name={},size=320m", root_image.display());
            run("mkfs.xfs", &["-q", "-L", "root", "-p", text(&list), "-d", &size], "");
            320 * MIB
        }
    };
    let disk = dir.join("disk.raw");
    let file = File::create(&disk).expect("made");
    file.set_len(20 * MIB + len).expect("sized");
    let sectors = len / 512;
    let table = format!(
        "label: gpt\nstart=2048, size=8192, type=U\nstart=10240, size=16384\nstart=26624, size={sectors}, name=root\n"
    );
    run("sfdisk", &["--quiet", text(&disk)], &table);
    for (image, at) in [(&esp, MIB), (&boot_image, 5 * MIB), (&root_image, 13 * MIB)] {
        copy(image, &file, at);
    }
    disk
}

/// Copies what is no zeros.
fn copy(from: &Path, to: &File, at: u64) {
    let bytes = fs::read(from).expect("read");
    for (number, part) in
        bytes.chunks(65536).enumerate().filter(|(_, part)| part.iter().any(|byte| *byte != 0))
    {
        to.write_all_at(part, at + number as u64 * 65536).expect("written");
    }
}

fn put(path: &Path, mode: u32, content: &str) {
    fs::create_dir_all(path.parent().expect("it has one")).expect("made");
    fs::write(path, content).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
}

/// The text by which `mkfs.xfs` copies a directory.
fn descend(dir: &Path, lines: &mut String) {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir).expect("read").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    for path in paths {
        let meta = fs::symlink_metadata(&path).expect("read");
        let name = path.file_name().and_then(|name| name.to_str()).expect("text");
        let mode = meta.permissions().mode();
        let set = if mode & 0o4000 != 0 { 'u' } else { '-' };
        let (kind, what) = if meta.is_symlink() {
            ('l', fs::read_link(&path).expect("a link").display().to_string())
        } else if meta.is_dir() {
            ('d', String::new())
        } else {
            ('-', path.display().to_string())
        };
        writeln!(lines, "{name} {kind}{set}-{:03o} 0 0 {what}", mode & 0o777).expect("text");
        if meta.is_dir() {
            descend(&path, lines);
        }
    }
    lines.push_str("$\n");
}

/// A command on a store of its own: its exit code, standard output and standard error.
fn rekiln(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rekiln"));
    command.arg("--json").arg("--store").arg(dir.join("store")).args(args).current_dir(dir);
    let output = command.output().expect("rekiln starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("a code"), text(output.stdout), text(output.stderr))
}

fn inspect(dir: &Path, what: &str) -> Value {
    let (code, stdout, stderr) = rekiln(dir, &["inspect", what]);
    assert_eq!(code, 1, "{stderr}");
    serde_json::from_str(stdout.lines().last().expect("a line")).expect("JSON")
}

/// What is found and is no exception, as pairs of rule and path.
fn findings(inspection: &Value) -> Vec<(&str, &str)> {
    let all = inspection["findings"].as_array().expect("a list").iter();
    all.map(|finding| (finding["rule"].as_str().expect("text"), finding["path"].as_str().expect("text")))
        .collect()
}

/// Fails unless the inspection is that of [`vendor_disk`].
pub fn must_be_vendors(inspection: &Value, root: Root) {
    let found = findings(inspection);
    for expected in FINDINGS {
        assert!(found.contains(expected), "{expected:?} is missing in {found:?}");
    }
    for (rule, path) in &found {
        assert!(*rule != "root-hash" && !path.starts_with("rekiln."), "nothing of rekiln's: {rule} {path}");
    }
    assert!(!found.contains(&("kernel-cmdline", "lockdown")), "GRUB has it");
    let inventory = &inspection["inventory"];
    assert_eq!(inventory["file_system"], if root == Root::Ext4 { "ext4" } else { "xfs" });
    assert_eq!(
        inventory["kernel_args"],
        serde_json::json!(["root=LABEL=root", "ro", "console=ttyS0", "lockdown=integrity"])
    );
    assert_eq!(inventory["uefi"], true);
    assert_eq!(inventory["packages"], serde_json::json!({ "base": "1-2" }));
    assert_eq!(inventory["partitions"].as_array().map(Vec::len), Some(3));
    assert_eq!(inventory["notes"], serde_json::json!([]));
    assert_eq!(inspection["root_hash"], Value::Null);
    assert_eq!(inspection["verified"], false);
}

#[test]
fn a_vendors_disk_is_inspected_in_either_format() {
    let temp = tempfile::tempdir().expect("made");
    for root in [Root::Ext4, Root::Xfs] {
        let dir = temp.path().join(if root == Root::Ext4 { "ext4" } else { "xfs" });
        let disk = vendor_disk(&dir, root);
        let before = Digest::of_file(&disk).expect("read");
        let raw = inspect(&dir, text(&disk));
        must_be_vendors(&raw, root);
        assert_eq!(Digest::of_file(&disk).expect("read"), before, "it only reads");
        let packed = dir.join("disk.qcow2");
        run("qemu-img", &["convert", "-c", "-O", "qcow2", text(&disk), text(&packed)], "");
        let converted = inspect(&dir, text(&packed));
        assert_eq!(converted["disk"], text(&packed));
        assert_eq!(converted["findings"], raw["findings"]);
        let left = fs::read_dir(dir.join("store/tmp")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "the converted disk is removed");
        let (code, stdout, stderr) = rekiln(&dir, &["diff", text(&disk), text(&packed)]);
        assert_eq!(code, 0, "{stderr}");
        assert!(stdout.contains(r#""update":{"blocks":0,"#), "{stdout}");
    }
}

#[test]
fn exceptions_of_a_record_count_on_a_vendors_disk() {
    let temp = tempfile::tempdir().expect("made");
    let disk = vendor_disk(temp.path(), Root::Ext4);
    let store = Store::open(text(&temp.path().join("store"))).expect("a store");
    let id = Digest::of(b"vendor");
    fs::create_dir_all(store.image(id)).expect("made");
    fs::copy(disk, store.image(id).join("disk.raw")).expect("copied");
    let exception = Exception {
        rule: "setuid".to_owned(),
        path: Some("/usr/bin/sudo".to_owned()),
        why: "the operators' tool".to_owned(),
    };
    let record = Record {
        id,
        exceptions: vec![exception],
        root_hash: None,
        cmdline: CMDLINE.to_owned(),
        ..crate::sbom::record("vendor")
    };
    Catalog::new(store.clone()).save(&record).expect("saved");
    let inspection = inspect(temp.path(), "vendor");
    let all = inspection["findings"].as_array().expect("a list");
    let setuid = all.iter().find(|finding| finding["rule"] == "setuid").expect("it is found");
    assert_eq!(setuid["excepted"], "the operators' tool");
    let of = |rule: &str| all.iter().filter(|finding| finding["rule"] == rule).count();
    assert_eq!((of("unused-exception"), of("record")), (0, 0), "{all:?}");
    // Another command line than the one that was recorded.
    let other = Record { cmdline: "root=/dev/vda1".to_owned(), ..record };
    Catalog::new(store).save(&other).expect("saved");
    let inspection = inspect(temp.path(), "vendor");
    assert!(findings(&inspection).contains(&("record", "/boot")));
}

#[test]
fn what_is_not_read_is_named() {
    let temp = tempfile::tempdir().expect("made");
    let dir = temp.path();
    let disk = dir.join("disk.raw");
    let refused = |says: &str| {
        let (code, _, stderr) = rekiln(dir, &["inspect", text(&disk)]);
        assert!(code == 1 && stderr.contains(says), "{code} {stderr}");
    };
    let file = File::create(&disk).expect("made");
    file.set_len(40 * MIB).expect("sized");
    refused("no root file system");
    run("sfdisk", &["--quiet", text(&disk)], "label: dos\nstart=2048, size=65536, type=83\n");
    for (at, bytes, name) in
        [(0, &b"LUKS\xba\xbe"[..], "LUKS"), (512, b"LABELONE", "LVM"), (0x1_0040, b"_BHRfS_M", "btrfs")]
    {
        file.write_all_at(bytes, MIB + at).expect("written");
        refused(name);
        file.write_all_at(&vec![0; bytes.len()], MIB + at).expect("written");
    }
    // One file system over the whole of an old disk with an MBR.
    for (path, mode, content) in FILES {
        put(&dir.join("tree").join(path), *mode, content);
    }
    let root = dir.join("root.img");
    run("mke2fs", &["-q", "-t", "ext4", "-d", text(&dir.join("tree")), text(&root), "32M"], "");
    copy(&root, &file, MIB);
    let inspection = inspect(dir, text(&disk));
    assert!(findings(&inspection).contains(&("setuid", "/usr/bin/sudo")));
    assert_eq!(inspection["inventory"]["uefi"], false);
    assert!(inspection["inventory"]["notes"][0].as_str().is_some_and(|note| note.contains("GRUB")));
    run("debugfs", &["-w", "-R", "feature needs_recovery", text(&root)], "");
    copy(&root, &file, MIB);
    refused("was not shut down cleanly");
    // A boot partition that is not there.
    run("debugfs", &["-w", "-R", "feature -needs_recovery", text(&root)], "");
    put(&dir.join("fstab"), 0o644, "UUID=0000 /boot ext4 defaults 0 2\n");
    run("debugfs", &["-w", "-R", &format!("write {} etc/fstab", text(&dir.join("fstab"))), text(&root)], "");
    copy(&root, &file, MIB);
    let inspection = inspect(dir, text(&disk));
    assert!(
        inspection["inventory"]["notes"][0].as_str().is_some_and(|note| note.contains("UUID=0000")),
        "{inspection}"
    );
}

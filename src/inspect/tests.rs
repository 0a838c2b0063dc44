//! A whole sealed disk made with the field's tools, and opened as a bake's would be.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::diff::Diff;
use super::{Expected, inspect_disk};
use crate::process::Run as _;
use crate::recipe::Exception;

const MIB: u64 = 1 << 20;
const BLOCK: u64 = 4096;

/// A PE file with nothing but a `.cmdline` section.
fn pe(cmdline: &str) -> Vec<u8> {
    let mut bytes = vec![0; 512];
    bytes[0x3c] = 64;
    bytes[64..68].copy_from_slice(b"PE\0\0");
    bytes[70] = 1;
    bytes[88..96].copy_from_slice(b".cmdline");
    let len = u32::try_from(cmdline.len()).expect("short").to_le_bytes();
    bytes[96..100].copy_from_slice(&len);
    bytes[104..108].copy_from_slice(&len);
    bytes[108..112].copy_from_slice(&512_u32.to_le_bytes());
    bytes.extend(cmdline.as_bytes());
    bytes
}

fn run(program: &str, args: &[&str]) -> String {
    Command::new(program).args(args).run_text().unwrap_or_else(|error| panic!("{error:?}"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Makes a disk of two layers; the upper one hides `/etc/gone` and `/opaque/below` and changes `/etc/hostname`.
fn disk(dir: &Path, hostname: &str) -> PathBuf {
    fs::create_dir_all(dir.join("a/etc")).expect("a directory");
    fs::create_dir_all(dir.join("a/opaque")).expect("a directory");
    fs::create_dir_all(dir.join("b/etc")).expect("a directory");
    fs::create_dir_all(dir.join("b/opaque")).expect("a directory");
    for (path, content) in [
        ("a/etc/gone", "x"),
        ("a/etc/kept", "x"),
        ("a/etc/hostname", "old"),
        ("a/opaque/below", "x"),
        ("b/etc/hostname", hostname),
        ("b/opaque/above", "x"),
    ] {
        fs::write(dir.join(path), content).expect("it is written");
    }
    run("mknod", &[text(&dir.join("b/etc/gone")), "c", "0", "0"]);
    ::xattr::set(dir.join("b/opaque"), "trusted.overlay.opaque", b"y").expect("an attribute");
    seal(dir, &["a", "b"])
}

/// Packs the directories `layers` below `dir` as layers, the ground first, and seals them on a disk.
fn seal(dir: &Path, layers: &[&str]) -> PathBuf {
    let mut root = Vec::new();
    let mut places = Vec::new();
    for layer in layers {
        let image = dir.join(format!("{layer}.erofs"));
        run("mkfs.erofs", &["-zlz4hc", "--quiet", text(&image), text(&dir.join(layer))]);
        let mut bytes = fs::read(&image).expect("it reads");
        bytes.resize(bytes.len().next_multiple_of(4096), 0);
        places.push(format!("{}+{}", root.len() as u64 / BLOCK, bytes.len() as u64 / BLOCK));
        root.extend(bytes);
    }
    // Enough blocks for two levels of hashes.
    root.resize(200 * 4096, 0);
    let (data, hashes) = (dir.join("root"), dir.join("hash"));
    fs::write(&data, &root).expect("it is written");
    fs::write(&hashes, b"").expect("it is written");
    let said = run(
        "veritysetup",
        &[
            "format",
            "--salt",
            "aabb",
            "--uuid",
            "00000000-0000-0000-0000-000000000001",
            text(&data),
            text(&hashes),
        ],
    );
    let hash = said.lines().find_map(|line| line.strip_prefix("Root hash:")).expect("a root hash").trim();
    let cmdline = format!(
        "rekiln.image={hash} rekiln.roothash={hash} rekiln.salt=aabb rekiln.blocks=200 rekiln.layers={}",
        places.join(",")
    );
    let (esp, uki) = (dir.join("esp"), dir.join("uki"));
    fs::write(&uki, pe(&cmdline)).expect("it is written");
    fs::File::create(&esp).and_then(|file| file.set_len(2 * MIB)).expect("a file");
    run("mformat", &["-i", text(&esp), "::"]);
    run("mmd", &["-i", text(&esp), "::EFI", "::EFI/BOOT"]);
    run("mcopy", &["-i", text(&esp), text(&uki), "::EFI/BOOT/BOOTX64.EFI"]);
    let disk = dir.join("disk");
    let file = fs::File::create(&disk).expect("a file");
    file.set_len(8 * MIB).expect("a size");
    let table = "label: gpt\nstart=2048, size=4096, name=rekiln-esp\nstart=6144, size=4096, name=rekiln-root-0\nstart=10240, size=2048, name=rekiln-hash-0\n";
    Command::new("sfdisk")
        .args(["--quiet", text(&disk)])
        .run_with_input(table.as_bytes())
        .expect("sfdisk works");
    for (part, at) in [(&esp, 2048), (&data, 6144), (&hashes, 10240)] {
        file.write_all_at(&fs::read(part).expect("it reads"), at * 512).expect("it is written");
    }
    disk
}

#[test]
fn a_sealed_disk_is_read_stacked_and_checked() {
    let temp = tempfile::tempdir().expect("a directory");
    let path = disk(temp.path(), "new");
    let tree = super::disk::SealedDisk::open(&path).and_then(|disk| disk.tree()).expect("it opens");
    let paths: Vec<&str> = tree.iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["/etc", "/etc/hostname", "/etc/kept", "/opaque", "/opaque/above"]);
    assert_eq!(tree.text("/etc/hostname").expect("it reads"), "new");

    let expected = Expected { verify: true, ..Expected::default() };
    let named =
        |inspection: &super::Inspection| inspection.findings.iter().any(|found| found.rule == "root-hash");
    let good = inspect_disk(&path, &expected).expect("it is inspected");
    assert!(!named(&good), "{:?}", good.findings);
    // One byte of padding, which no file shows.
    let file = fs::File::options().write(true).open(&path).expect("it opens");
    file.write_all_at(&[1], 6144 * 512 + 199 * 4096).expect("it is written");
    let bad = inspect_disk(&path, &expected).expect("it is inspected");
    assert!(named(&bad), "{:?}", bad.findings);
    assert_ne!(bad.root_hash, good.root_hash);
    file.write_all_at(&[0], 6144 * 512 + 199 * 4096).expect("it is written");
    // Flipped, not set: once in 256 trees, any fixed byte is there already.
    let mut byte = [0];
    fs::File::open(&path)
        .and_then(|file| file.read_exact_at(&mut byte, 10240 * 512 + 4096))
        .expect("it reads");
    file.write_all_at(&[!byte[0]], 10240 * 512 + 4096).expect("it is written");
    let bad = inspect_disk(&path, &expected).expect("it is inspected");
    assert!(named(&bad) && bad.root_hash == good.root_hash, "a byte of the hash tree: {:?}", bad.findings);
}

#[test]
fn a_diff_names_what_changed() {
    let temp = tempfile::tempdir().expect("a directory");
    let (a, b) = (disk(&temp.path().join("1"), "one"), disk(&temp.path().join("2"), "two"));
    let diff = Diff::between((&a, None), (&b, None)).expect("they compare");
    assert_eq!(diff.files.changed.keys().collect::<Vec<_>>(), ["/etc/hostname"]);
    assert!(diff.files.added.is_empty() && diff.files.removed.is_empty() && diff.kernel_args.is_empty());
    let same = Diff::between((&a, None), (&a, None)).expect("they compare");
    assert_eq!(same, Diff { size: same.size, ..Diff::default() });
}

#[test]
fn violations_on_a_sealed_disk_are_found() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path();
    let write = |layer: &str, path: &str, mode: u32, content: &str| {
        let path = dir.join(layer).join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
        fs::write(&path, content).expect("it is written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
        path
    };
    // The ground has one violation that the upper layer takes away: it must not be found.
    write("a", "usr/bin/gone", 0o4755, "x");
    write("a", "etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/bash\n");
    write("a", "usr/bin/up", 0o4755, "x");
    let capable = write("a", "usr/bin/raw", 0o755, "x");
    // Version 2 of the attribute, effective; permitted: net_raw, the thirteenth (`linux/capability.h`).
    let value = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    ::xattr::set(&capable, "security.capability", &value).expect("an attribute; needs root");
    write("b", "etc/shadow", 0o640, "root:$y$j9T$abc:1::::::\n");
    write("b", "etc/ssh/ssh_host_ed25519_key", 0o600, "x");
    write("b", "root/.ssh/authorized_keys", 0o600, "ssh-ed25519 A\n");
    write("b", "root/.bash_history", 0o600, "ls\n");
    write("b", "opt/app.pem", 0o600, "-----BEGIN RSA PRIVATE KEY-----\n");
    write("b", "etc/loose", 0o666, "x");
    fs::create_dir_all(dir.join("b/usr/bin")).expect("a directory");
    run("mknod", &[text(&dir.join("b/usr/bin/gone")), "c", "0", "0"]);

    let exceptions = vec![Exception {
        rule: "history".to_owned(),
        path: Some("/root/.bash_history".to_owned()),
        why: "planted".to_owned(),
    }];
    let expected = Expected { verify: true, exceptions, ..Expected::default() };
    let inspection = inspect_disk(&seal(dir, &["a", "b"]), &expected).expect("it is inspected");
    let found = |rule: &str, path: &str| {
        inspection.findings.iter().find(|finding| finding.rule == rule && finding.path == path)
    };
    for (rule, path) in [
        ("setuid", "/usr/bin/up"),
        ("capabilities", "/usr/bin/raw"),
        ("authorized-keys", "/root/.ssh/authorized_keys"),
        ("history", "/root/.bash_history"),
        ("host-key", "/etc/ssh/ssh_host_ed25519_key"),
        ("secret", "/opt/app.pem"),
        ("world-writable", "/etc/loose"),
    ] {
        let excepted = found(rule, path).map(|finding| finding.excepted.as_deref());
        assert_eq!(
            excepted,
            Some((rule == "history").then_some("planted")),
            "{rule} {path}: {:?}",
            inspection.findings
        );
    }
    assert!(
        inspection.findings.iter().any(|finding| finding.rule == "password"),
        "{:?}",
        inspection.findings
    );
    assert!(found("capabilities", "/usr/bin/raw").is_some_and(|finding| finding.reason.contains("net_raw")));
    assert_eq!(found("setuid", "/usr/bin/gone"), None, "the upper layer took it away");
    assert_eq!(inspection.inventory.setuid.keys().collect::<Vec<_>>(), ["/usr/bin/up"]);
    assert_eq!(inspection.inventory.capabilities.keys().collect::<Vec<_>>(), ["/usr/bin/raw"]);
}

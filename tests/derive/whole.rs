//! What comes out, read with other tools than rekiln.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rekiln::catalog::Firmware;
use serde_json::Value;

use super::ground::{Ground, NAME, ROOT_START, ground, scratch};
use super::search::found;
use crate::bake::succeeded;

/// What of the root is copied off the disk to be looked at.
const DUMPED: [&str; 9] =
    ["/etc", "/var", "/root", "/opt", "/home", "/tmp", "/boot", "/usr/sbin", "/usr/lib/systemd"];

/// Returns a part of the root file system as files, as debugfs reads it.
fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        // It stays until the next run: the other tests of this run look at it, too.
        let dir = scratch().keep();
        let debugfs = Command::new("debugfs")
            .args(["-R", &format!("rdump {} {}", DUMPED.join(" "), dir.display())])
            .arg(volume(ground()))
            .output()
            .expect("debugfs runs");
        succeeded(&debugfs);
        assert!(dir.join("etc/os-release").is_symlink(), "{}", String::from_utf8_lossy(&debugfs.stderr));
        dir
    })
}

/// Names the root file system on the disk, as the programs of e2fsprogs take it.
fn volume(ground: &Ground) -> String {
    format!("{}?offset={ROOT_START}", ground.line.disk.display())
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the files below a directory of the root, without directories; none when it is not there.
fn files(path: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(path)];
    while let Some(dir) = open.pop() {
        let entries = fs::read_dir(&dir).into_iter().flatten().map(|entry| entry.expect("listed"));
        for entry in entries {
            if entry.file_type().expect("known").is_dir() {
                open.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found
}

/// The lines that a step showed while it ran.
fn lines<'a>(said: &'a str, step: &str) -> Vec<&'a str> {
    let lines = said.lines().filter_map(|line| line.strip_prefix(NAME)?.trim_start().strip_prefix(step));
    lines.filter_map(|line| line.trim_start().strip_prefix('│')).map(str::trim_start).collect()
}

#[test]
fn what_the_machine_says_is_shown_as_it_comes_and_moves_no_cursor() {
    let said = &ground().said;
    assert!(!said.contains("its boot loader and cloud-init start it"), "it has what that needs: {said}");
    let moves = said.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t'));
    assert_eq!(moves, None, "{said:?}");
    let packages = lines(said, "installing 1 packages");
    assert!(packages.iter().any(|line| line.starts_with("Setting up nginx-light")), "{packages:#?}");
    let scripts = lines(said, "3 files, 0 artifacts, 4 scripts");
    let counted: Vec<&str> = scripts.iter().copied().filter(|line| line.ends_with(" of 200")).collect();
    assert_eq!(counted, (1..=200).map(|number| format!("line {number} of 200")).collect::<Vec<_>>());
    assert!(scripts.contains(&"red"), "{scripts:#?}");
    // What was printed while nobody was connected.
    assert_eq!(scripts.last(), Some(&"nobody was let in"));
    assert!(
        lines(said, "hardening it").iter().any(|line| line.starts_with("GRUB's configuration")),
        "{said}"
    );
    for step in [
        "copying the vendor's disk",
        "starting the vendor's system",
        "sealing it",
        "booting it for the verdict",
    ] {
        assert!(said.contains(&format!("{NAME:12} {step}")), "{step}: {said}");
    }
}

#[test]
fn the_record_says_what_is_on_the_disk() {
    let ground = ground();
    let (record, disk) = (&ground.record, &ground.line.disk);
    assert!(record.verdict.as_ref().is_some_and(|verdict| verdict.passed), "{:?}", record.verdict);
    assert!(record.findings.is_empty(), "{:?}", record.findings);
    let sum = succeeded(&Command::new("sha256sum").arg(disk).output().expect("sha256sum runs"));
    assert_eq!(sum.split(' ').next(), Some(ground.line.sha256.as_str()));
    let derived = record.derived.as_ref().expect("it is derived");
    assert_eq!(derived.firmware, Firmware::Bios);
    let distribution = derived.distribution.as_ref().expect("it says which");
    assert_eq!((distribution.id.as_str(), distribution.version.as_deref()), ("debian", Some("12")));

    let status = text("var/lib/dpkg/status");
    let mut packages = BTreeMap::new();
    for entry in status.split("\n\n") {
        let field = |name: &str| entry.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        if field("Status: ").is_some_and(|status| status.ends_with(" installed")) {
            packages.insert(field("Package: ").expect("a name"), field("Version: ").expect("a version"));
        }
    }
    assert!(packages.contains_key("nginx-light") && packages.len() > 100, "{packages:?}");
    assert_eq!(record.packages, packages);
    let dump = succeeded(&Command::new("sfdisk").arg("--json").arg(disk).output().expect("sfdisk runs"));
    let table: Value = serde_json::from_str(&dump).expect("JSON");
    let partitions = table["partitiontable"]["partitions"].as_array().expect("partitions");
    let start = partitions[0]["start"].as_u64().expect("a number") * 512;
    let size = partitions[0]["size"].as_u64().expect("a number") * 512;
    assert_eq!(start, ROOT_START);
    assert_eq!(disk.metadata().expect("there").len(), 3 << 30);
    assert!(size > (3 << 30) - start - (2 << 20), "the first boot grew the root: {size}");
    // It ends with 1 where there are findings that no exception accepts, and there is none.
    ground.site.done(&["inspect", NAME]);
}

#[test]
fn nothing_of_the_machine_is_on_the_disk() {
    let fsck = Command::new("e2fsck").args(["-f", "-n"]).arg(volume(ground())).output().expect("e2fsck runs");
    succeeded(&fsck);
    for gone in [
        "usr/sbin/sshd",
        "usr/sbin/policy-rc.d",
        "usr/lib/systemd/system/ssh.service",
        "etc/cloud",
        "var/lib/cloud",
        "root/.ssh",
        "etc/netplan/50-cloud-init.yaml",
        "etc/sudoers",
        "etc/sudoers.d",
        "var/lib/rekiln-stage",
        "var/lib/dbus/machine-id",
        "var/lib/systemd/random-seed",
        "root/.bash_history",
        "etc/apt",
        "usr/sbin/update-grub.rekiln-new",
    ] {
        assert!(!root().join(gone).exists() && !root().join(gone).is_symlink(), "/{gone} is there");
    }
    assert_eq!(text("etc/machine-id"), "");
    for empty in [
        "var/log",
        "var/cache",
        "var/tmp",
        "tmp",
        "root",
        "home",
        "var/lib/dhcp",
        "var/backups",
        "var/spool/mail",
    ] {
        assert_eq!(files(empty), Vec::<PathBuf>::new(), "/{empty}");
    }
    let etc: Vec<PathBuf> = files("etc").into_iter().chain(files("var")).collect();
    for part in ["ssh_host_", "authorized_keys", "cloud-init", ".lease", ".rekiln-new", "rekiln-script"] {
        let named: Vec<&PathBuf> =
            etc.iter().filter(|path| path.ends_with(part) || path.to_string_lossy().contains(part)).collect();
        assert!(named.is_empty(), "{named:?}");
    }
    // Nobody has a password, and nobody but root, who has none either, has a shell.
    let shadow = text("etc/shadow");
    assert!(shadow.lines().all(|line| line.split(':').nth(1) == Some("*")), "{shadow}");
    let passwd = text("etc/passwd");
    let shells: Vec<&str> = passwd
        .lines()
        .filter(|line| !line.starts_with("root:"))
        .filter_map(|line| line.rsplit(':').next())
        .collect();
    assert!(!shells.is_empty() && shells.iter().all(|shell| *shell == "/usr/sbin/nologin"), "{passwd}");
}

#[test]
fn what_the_recipe_asks_for_is_on_the_disk() {
    assert_eq!(text("var/www/html/index.html"), "<p>derived from a vendor's disk</p>\n");
    let boots = text("opt/boots");
    let boots: Vec<&str> = boots.lines().collect();
    assert!(
        matches!(boots[..], [before, after] if before != after),
        "the machine was restarted between two scripts: {boots:?}"
    );
    assert_eq!(text("opt/went-on"), "it went on\n");
    assert!(root().join("etc/systemd/system/multi-user.target.wants/nginx.service").is_symlink());
    let grub = text("boot/grub/grub.cfg");
    let entry = grub.lines().map(str::trim).find(|line| line.starts_with("linux")).expect("an entry");
    let id = format!("rekiln.image={}", ground().line.id);
    for arg in ["derived.test=yes", "lockdown=confidentiality", "slab_nomerge", "console=ttyS0,115200", &id] {
        assert!(entry.split(' ').any(|word| word == arg), "{arg}: {entry}");
    }
}

#[test]
fn its_keys_are_nowhere_not_even_in_what_was_deleted() {
    let ground = ground();
    let keys: Vec<&str> = ground
        .said
        .lines()
        .filter_map(|line| line.split_once("│ ssh-ed25519 ")?.1.split(' ').next())
        .collect();
    let [client, host] = keys[..] else { panic!("the script showed two keys: {keys:?}") };
    assert_ne!(client, host);
    // What every private key without a passphrase begins with, in the lines of OpenSSH's format.
    let private = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU";
    // The page is there: what is looked for is found.
    let page = "<p>derived from a vendor's disk</p>";
    assert_eq!(found(&ground.line.disk, &[client, host, private, page]), [page]);
}

#[test]
fn a_second_bake_starts_no_machine() {
    let ground = ground();
    let output = ground.site.command(&["bake", "--json", NAME]).output().expect("rekiln runs");
    let line = crate::bake::baked(&output);
    assert!(line.cached && !ground.line.cached);
    assert_eq!((line.id, &line.disk, &line.sha256), (ground.line.id, &ground.line.disk, &ground.line.sha256));
    let said = String::from_utf8_lossy(&output.stderr);
    for step in ["starting", "copying", "booting"] {
        assert!(!said.contains(step), "{said}");
    }
    ground.site.holds_only(&[line.id]);
}

//! Images that are derived from a vendor's disk, before they are baked: checked, locked, identified; and as records.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use rekiln::catalog::{Catalog, Derived, Distribution, Firmware, Origin, PackageKind, Record};
use rekiln::digest::Digest;
use rekiln::lock::Lock;
use rekiln::store::Store;
use serde_json::Value;
use tempfile::TempDir;

use crate::sbom::record;

/// The start of a qcow2 file, as far as anything before a bake looks at it.
const DISK: &[u8] = b"QFI\xfb\0\0\0\x03 a vendor's disk";

/// Runs rekiln in `dir` on a computer without apt, dpkg, Git or any other program.
fn rekiln(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rekiln"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("PATH", "/nonexistent")
        .env("HOME", dir)
        .output()
        .expect("rekiln starts")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs rekiln and returns everything it said; it must end with `code`.
fn run(dir: &Path, args: &[&str], code: i32) -> String {
    let output = rekiln(dir, args);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}", said(&output));
    said(&output)
}

/// The lines of `[source]` for the disk that is in the repository.
fn source() -> String {
    format!(
        "[source]\ndisk = {{ path = \"disks/vendor.qcow2\", sha256 = \"{}\", size = \"8G\" }}\n",
        Digest::of(DISK)
    )
}

const RECIPE: &str = "packages = [\"nginx-light=1.22.1-9\", \"curl\"]\n";
const STEPS: &str = "[[run]]\nscript = \"setup.sh.hbs\"\nreboot = true\n\n[services]\nports = [\"80/tcp\"]\n\n\
    [kernel]\nargs = [\"quiet\"]\n\n[[check]]\nhttp = { port = 80 }\n";

/// A repository with one recipe, and the disk that it means.
fn repository() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["images", "bootstrap", "disks"] {
        fs::create_dir(dir.path().join(name)).expect("made");
    }
    fs::write(dir.path().join("disks/vendor.qcow2"), DISK).expect("written");
    fs::write(dir.path().join("bootstrap/setup.sh.hbs"), "#!/bin/sh\ntrue\n").expect("written");
    write(&dir, "vendor", &format!("{RECIPE}{}{STEPS}", source()));
    dir
}

fn write(dir: &TempDir, name: &str, text: &str) {
    fs::write(dir.path().join(format!("images/{name}.toml")), text).expect("written");
}

fn lock(dir: &TempDir) -> Lock {
    let text = fs::read_to_string(dir.path().join("images/vendor.lock")).expect("a lock");
    Lock::parse(&text).expect("it parses")
}

#[test]
fn what_is_right_passes_and_what_is_wrong_is_said_at_once() {
    let dir = repository();
    assert_eq!(run(dir.path(), &["check"], 0), "1 recipe, 1 template and 0 fleets are fine\n");
    let wrong = format!(
        "packages = [\"nginx*\"]\n{}size = \"0G\" }}\n\n{}[kernel]\nmodules = [\"loop\"]\n",
        source().replace("sha256", "sha265").replace("size = \"8G\" }\n", ""),
        "[[run]]\nscript = \"setup.sh.hbs\"\nrebot = true\n",
    );
    write(&dir, "vendor", &wrong);
    write(&dir, "app", "[source]\ndisk = { path = \"\", size = \"1T\" }\n");
    let text = run(dir.path(), &["check"], 2);
    for expected in [
        "images/vendor.toml:3:39: unknown key `sha265` in [source.disk]",
        "help: did you mean `sha256`?",
        "missing key `sha256` in [source.disk]",
        "images/vendor.toml:7:1: unknown key `rebot` in [[run]]",
        "help: did you mean `reboot`?",
        "images/app.toml:2:8: missing key `sha256` in [source.disk]",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    // What the parts mean is looked at once they are there.
    write(&dir, "app", "source = { disk = { path = \"\", size = \"1T\", sha256 = \"00\" } }\n");
    let digest = Digest::of(DISK).to_string();
    write(&dir, "vendor", &wrong.replace("sha265", "sha256").replace("rebot", "reboot"));
    let text = run(dir.path(), &["check"], 2);
    for expected in [
        "`00` is not a SHA-256 digest",
        "images/vendor.toml:1:13: `nginx*` is not the exact name of a package",
        "`0G` is not a size such as \"256M\" or \"1G\"",
        "images/vendor.toml:9:12: `loop`: the initrd of a vendor's disk is the vendor's",
        "/etc/modules-load.d/loop.conf",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    assert!(!text.contains(&format!("`{digest}` is not")), "{text}");
}

#[test]
fn nothing_stands_on_a_vendors_disk() {
    let dir = repository();
    write(&dir, "web", "[source]\nimage = \"vendor\"\n");
    write(&dir, "app", "[source]\nimage = \"web\"\n");
    let expected = "images/web.toml:2:9: `web` stands on `vendor`, which is derived from a vendor's disk: nothing is baked on top of such an image; put it into that recipe";
    let text = run(dir.path(), &["check"], 2);
    assert!(text.contains(expected) && text.contains("1 error"), "{text}");
    for image in ["web", "app"] {
        assert!(run(dir.path(), &["lock", image], 2).contains(expected), "{image}");
        assert!(run(dir.path(), &["id", image], 2).contains(expected), "{image}");
    }
    run(dir.path(), &["lock", "vendor"], 0);
}

#[test]
fn only_a_machine_reboots() {
    let dir = repository();
    let own = format!("packages = [\"curl\"]\n[source]\ndebian = \"bookworm\"\n{STEPS}");
    write(&dir, "vendor", &own.replace("reboot = true", "reboot = true\nexpect_disconnect = true"));
    let text = run(dir.path(), &["check"], 2);
    for expected in
        ["6:10: nothing runs there to be rebooted", "7:21: nothing runs there to be disconnected from"]
    {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
}

#[test]
fn a_lock_needs_nothing_but_the_disk_and_an_update_gives_a_new_id() {
    let dir = repository();
    let id = || run(dir.path(), &["id", "vendor"], 0);
    let before = jiff::Timestamp::now().as_second();
    let text = run(dir.path(), &["lock", "vendor"], 0);
    assert!(text.contains("vendor: locked to disks/vendor.qcow2 (sha256 "), "{text}");
    let first = lock(&dir);
    assert_eq!(first.asked.source, format!("disk:{}", Digest::of(DISK)));
    assert_eq!(first.asked.packages, ["curl", "nginx-light=1.22.1-9"].map(str::to_owned).into());
    assert!(first.epoch >= before && first.packages.is_empty() && first.suites.is_empty(), "{first:?}");
    assert!(first.tools.is_empty() && first.layout.is_none() && first.version == 1, "{first:?}");
    let first_id = id();

    // A lock that fits is left as it is, whatever lies where the disk lay.
    fs::rename(dir.path().join("disks"), dir.path().join("elsewhere")).expect("moved");
    assert!(run(dir.path(), &["lock", "--all"], 0).contains("vendor: the lock fits its recipe"));
    assert_eq!((lock(&dir), id()), (first.clone(), first_id.clone()));
    fs::rename(dir.path().join("elsewhere"), dir.path().join("disks")).expect("moved");

    // Each update is another image, twice in a second too.
    let mut seen = vec![(first.epoch, first_id)];
    for _ in 0..2 {
        let text = run(dir.path(), &["lock", "--update", "vendor"], 0);
        assert!(text.contains("a new image id"), "{text}");
        let new = lock(&dir);
        assert!(seen.iter().all(|(epoch, other)| *epoch < new.epoch && *other != id()), "{seen:?}");
        assert_eq!(Lock { epoch: first.epoch, ..new.clone() }, first);
        seen.push((new.epoch, id()));
    }

    // What the recipe asks for is compared with what the lock was made for.
    write(&dir, "vendor", &format!("packages = [\"curl\"]\n{}{STEPS}", source()));
    let text = run(dir.path(), &["id", "vendor"], 2);
    assert!(text.contains("the package nginx-light=1.22.1-9 is in the lock and not in the recipe"), "{text}");
    run(dir.path(), &["lock", "vendor"], 0);
    id();
}

#[test]
fn the_id_covers_the_disk_and_not_its_place() {
    let dir = repository();
    run(dir.path(), &["lock", "vendor"], 0);
    let id = run(dir.path(), &["id", "vendor"], 0);
    let text = run(dir.path(), &["id", "vendor", "--inputs", "--json"], 0);
    let inputs: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    let derived = &inputs["inputs"]["derived"];
    assert_eq!(derived["disk"], Digest::of(DISK).to_string());
    assert_eq!(derived["size"], 8_u64 << 30);
    assert_eq!(derived["scripts"], serde_json::json!([{ "reboot": true, "expect_disconnect": false }]));
    for (from, to, same) in [
        ("disks/vendor.qcow2", "/srv/vendor.qcow2", true),
        ("\"8G\"", "\"8192M\"", true),
        ("\"8G\"", "\"9G\"", false),
        ("reboot = true", "reboot = false", false),
        ("reboot = true", "expect_disconnect = true", false),
        ("\"quiet\"", "\"quiet\", \"panic=1\"", false),
    ] {
        let recipe = format!("{RECIPE}{}{STEPS}", source());
        assert!(recipe.contains(from), "{from}");
        write(&dir, "vendor", &recipe.replace(from, to));
        assert_eq!(run(dir.path(), &["id", "vendor"], 0) == id, same, "{from} → {to}");
    }
}

#[test]
fn a_wrong_or_missing_disk_is_said_with_what_to_do() {
    let dir = repository();
    let disk = dir.path().join("disks/vendor.qcow2");
    fs::write(&disk, b"a machine wrote to it").expect("written");
    let (expected, found) = (Digest::of(DISK), Digest::of(b"a machine wrote to it"));
    let text = run(dir.path(), &["lock", "vendor"], 1);
    for words in [
        "disks/vendor.qcow2 is not the disk that the recipe means".to_owned(),
        format!("expected  {expected}"),
        format!("got       {found}"),
        format!("write `sha256 = \"{found}\"`"),
    ] {
        assert!(text.contains(&words), "{words} is not in\n{text}");
    }
    fs::remove_file(&disk).expect("removed");
    let text = run(dir.path(), &["lock", "vendor"], 1);
    assert!(text.contains("disks/vendor.qcow2 is not there") && text.contains("hint:"), "{text}");
    assert!(!dir.path().join("images/vendor.lock").exists());

    // Any place will do, and raw disks too: the digest decides.
    let elsewhere = tempfile::tempdir().expect("a directory");
    let path = elsewhere.path().join("vendor.raw");
    fs::write(&path, b"raw bytes").expect("written");
    let source = format!(
        "source = {{ disk = {{ path = '{}', sha256 = '{}' }} }}\n",
        path.display(),
        Digest::of(b"raw bytes")
    );
    write(&dir, "vendor", &source);
    run(dir.path(), &["lock", "vendor"], 0);
}

#[test]
fn artifacts_are_locked_as_ever() {
    let dir = repository();
    let app = b"an artifact";
    let sha256 = Digest::of(app);
    let fetch = format!(
        "[[fetch]]\nurl = \"https://example.invalid/app\"\nsha256 = \"{sha256}\"\npath = \"/opt/app\"\n"
    );
    write(&dir, "vendor", &format!("{RECIPE}{}{STEPS}{fetch}", source()));
    let store = Store::open(&dir.path().join(".rekiln").display().to_string()).expect("a store");
    fs::write(store.vault(sha256), app).expect("written");
    run(dir.path(), &["lock", "vendor"], 0);
    let fetches = lock(&dir).fetches;
    assert_eq!(fetches.len(), 1);
    assert_eq!((fetches[0].sha256, fetches[0].size), (sha256, app.len() as u64));
}

/// A record of an image that is derived from a vendor's disk.
pub fn derived(name: &str) -> Record {
    Record {
        root_hash: None,
        packages: [
            ("libstdc++6".to_owned(), "12.2.0-14+deb12u1".to_owned()),
            ("openssl".to_owned(), "1:3.0.17-1".to_owned()),
        ]
        .into(),
        derived: Some(Derived {
            origin: Origin::Disk { source: Digest::of(DISK), path: "disks/vendor.qcow2".to_owned() },
            firmware: Firmware::Bios,
            not_reproducible: vec!["packages: those of the day".to_owned(), "the clock's times".to_owned()],
            distribution: Some(Distribution {
                id: "debian".to_owned(),
                version: Some("12".to_owned()),
                packages: PackageKind::Deb,
            }),
        }),
        ..record(name)
    }
}

#[test]
fn its_record_says_what_it_comes_from() {
    let dir = repository();
    let store = Store::open(&dir.path().join("store").display().to_string()).expect("a store");
    let record = derived("vendor");
    Catalog::new(store).save(&record).expect("saved");
    let text = run(dir.path(), &["--store", "store", "image", "vendor"], 0);
    for expected in [
        "derived     from disks/vendor.qcow2\n".to_owned(),
        format!("            sha256 {}\n", Digest::of(DISK)),
        "            debian 12, deb packages\n".to_owned(),
        "firmware    BIOS\n".to_owned(),
        "not again   packages: those of the day\n            the clock's times\n".to_owned(),
        "packages    2\n".to_owned(),
    ] {
        assert!(text.contains(&expected), "{expected} is not in\n{text}");
    }
    assert!(!text.contains("root hash") && !text.contains("layer"), "{text}");
    let text = run(dir.path(), &["--store", "store", "--json", "image", "vendor"], 0);
    let shown: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    assert_eq!(shown["derived"]["firmware"], "bios");
    assert!(shown.get("root_hash").is_none(), "{shown}");
}

#[test]
fn a_local_fleet_refuses_it_before_anything_is_begun() {
    let dir = repository();
    run(dir.path(), &["lock", "vendor"], 0);
    let id = run(dir.path(), &["id", "vendor"], 0).trim().parse().expect("an id");
    let store = Store::open(&dir.path().join(".rekiln").display().to_string()).expect("a store");
    let verdict = serde_json::json!({ "passed": true, "reasons": [], "open_ports": [], "ready_s": null,
        "serving_s": null, "accelerator": "tcg", "failed_units": [], "at": "1970-01-01T00:00:00Z" });
    let verdict = Some(serde_json::from_value(verdict).expect("a verdict"));
    Catalog::new(store).save(&Record { id, verdict, ..derived("vendor") }).expect("saved");
    fs::create_dir(dir.path().join("fleets")).expect("made");
    let fleet = "image = \"vendor\"\nsize = 1\n[local]\nlisten = \"127.0.0.1:18080\"\nport = 80\nmemory = \"256M\"\n\
        [health]\nhttp = { port = 80, path = \"/\" }\n";
    fs::write(dir.path().join("fleets/vendor.toml"), fleet).expect("written");
    for args in [&["plan", "vendor"][..], &["roll", "vendor"], &["roll", "vendor", "--to", &id.to_string()]] {
        let text = run(dir.path(), args, 1);
        for words in
            ["is derived from a vendor's disk", "a local fleet boots rekiln's own images", "rekiln publish"]
        {
            assert!(text.contains(words), "{args:?}: {words} is not in\n{text}");
        }
    }
}

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::*;
use crate::catalog::{Derived, Disk, Distribution, Firmware, Origin, PackageKind};
use crate::digest::Digest;

pub fn catalog(dir: &tempfile::TempDir) -> Catalog {
    Catalog::new(Store::open(&dir.path().display().to_string()).expect("a store"))
}

/// An id that starts with `start`; zeros follow.
pub fn id(start: &str) -> ImageId {
    format!("{start:0<64}").parse().expect("an id")
}

pub fn record(start: &str, name: &str, baked: i64) -> Record {
    Record {
        version: VERSION,
        id: id(start),
        name: name.to_owned(),
        debug: false,
        commit: None,
        clean: false,
        lock: Digest::of(b"lock"),
        parents: Vec::new(),
        disk: Disk { sha256: Digest::of(b"disk"), blocks: None, size: 1, partitions: Vec::new() },
        root_hash: Some(Digest::of(b"root")),
        cmdline: String::new(),
        layers: Vec::new(),
        kernel: None,
        ports: Vec::new(),
        services: Vec::new(),
        exceptions: Vec::new(),
        packages: BTreeMap::new(),
        findings: Vec::new(),
        verdict: None,
        baked: Timestamp::from_second(baked).expect("a time"),
        timings: BTreeMap::new(),
        derived: None,
    }
}

/// A record of an image that is derived from a vendor's disk.
fn derived() -> Record {
    let distribution = Distribution { id: "debian".to_owned(), version: None, packages: PackageKind::Deb };
    let derived = Derived {
        origin: Origin::Disk { source: Digest::of(b"vendor"), path: "vendor.qcow2".to_owned() },
        firmware: Firmware::Uefi,
        not_reproducible: vec!["the packages are those of the day".to_owned()],
        distribution: Some(distribution),
    };
    Record { root_hash: None, derived: Some(derived), ..record("abcd", "vendor", 1) }
}

#[test]
fn records_of_both_kinds_read_as_they_were_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let catalog = catalog(&dir);
    for record in [record("beef", "web", 1), derived()] {
        catalog.save(&record).expect("saved");
        assert_eq!(catalog.load(record.id).expect("it loads"), record);
    }
    // Others see the fields that they have always seen, and no new one.
    let own = serde_json::to_value(record("beef", "web", 1)).expect("JSON");
    assert_eq!(own["root_hash"], Digest::of(b"root").to_string());
    assert!(own.get("derived").is_none(), "{own}");
    let derived = serde_json::to_value(derived()).expect("JSON");
    assert!(derived.get("root_hash").is_none(), "{derived}");
    assert_eq!(derived["derived"]["firmware"], "uefi");
}

fn refusal(catalog: &Catalog, name: &str) -> String {
    catalog.find(name).expect_err("nothing is found").chain()
}

#[test]
fn names_and_starts_of_ids() {
    let dir = tempfile::tempdir().expect("a directory");
    let catalog = catalog(&dir);
    let debug = Record { debug: true, ..record("abcd3", "web", 9) };
    for record in [record("abcd1", "web", 1), record("abcd2", "web", 3), record("beef", "base", 2), debug] {
        catalog.save(&record).expect("saved");
    }
    for (name, found) in [
        ("web", "abcd2"),
        ("base", "beef"),
        ("abcd1", "abcd1"),
        ("beef", "beef"),
        ("abcd3", "abcd3"),
        (&id("abcd2").to_string(), "abcd2"),
    ] {
        assert_eq!(catalog.find(name).expect(name).id, id(found), "{name}");
    }
    let several = refusal(&catalog, "abcd");
    for name in ["`abcd` means several", "abcd1", "abcd2", "abcd3", "(web)"] {
        assert!(several.contains(name), "{several}");
    }
    // Too short for an id, no hexadecimal number, and longer than any id.
    for name in ["bee", "", "wet", "ABCD1", &format!("{}0", id("abcd2"))] {
        assert!(refusal(&catalog, name).contains("no image"), "{name}");
    }
}

#[test]
fn a_record_that_does_not_read_hides_no_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let catalog = catalog(&dir);
    catalog.save(&record("aaaa1", "web", 1)).expect("saved");
    let newer = serde_json::to_string(&record("aaaa2", "web", 2)).expect("JSON");
    let newer = newer.replace("\"version\":1", "\"version\":2");
    catalog.write(id("aaaa2"), FILE, newer.as_bytes()).expect("written");
    catalog.write(id("bbbb"), FILE, b"{\"version\": 1, \"na").expect("written");
    // The record of another image: copied there by hand.
    let other = serde_json::to_vec(&record("aaaa1", "web", 1)).expect("JSON");
    catalog.write(id("cccc"), FILE, &other).expect("written");

    let listing = catalog.list().expect("it lists");
    assert_eq!(listing.records.iter().map(|record| record.id).collect::<Vec<_>>(), [id("aaaa1")]);
    let why: Vec<String> = listing.unreadable.iter().map(|(_, error)| error.chain()).collect();
    assert_eq!(
        listing.unreadable.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        [id("aaaa2"), id("bbbb"), id("cccc")]
    );
    assert!(why[0].contains("has format 2, and this rekiln reads format 1"), "{why:?}");
    assert!(why[1].contains("record.json") && why[2].contains("is the record of"), "{why:?}");

    assert_eq!(catalog.find("web").expect("the one that reads").id, id("aaaa1"));
    assert_eq!(catalog.find("aaaa1").expect("the one that reads").id, id("aaaa1"));
    assert!(refusal(&catalog, "aaaa").contains("(unreadable)"));
    let refused = catalog.find("aaaa2").expect_err("a newer format");
    assert!(refused.chain().contains("format 2") && refused.hints().len() == 1, "{refused:?}");
    assert!(catalog.get(id("bbbb")).is_err() && catalog.get(id("dddd")).expect("none").is_none());
}

#[test]
fn half_images_do_not_count() {
    let dir = tempfile::tempdir().expect("a directory");
    let catalog = catalog(&dir);
    // Killed after the disk, and killed while the record was written beside its place.
    catalog.write(id("aaaa"), "disk.raw", b"disk").expect("written");
    let whole = serde_json::to_vec(&record("aaaa", "web", 1)).expect("JSON");
    fs::write(dir.path().join(format!("images/{}/.record.json.1", id("aaaa"))), &whole).expect("written");
    fs::create_dir(dir.path().join("images/not-an-id")).expect("made");
    assert_eq!(catalog.ids().expect("it lists"), []);
    assert!(catalog.get(id("aaaa")).expect("none").is_none());
    assert!(refusal(&catalog, "web").contains("no image") && refusal(&catalog, "aaaa").contains("no image"));
    catalog.save(&record("aaaa", "web", 1)).expect("saved");
    assert_eq!(catalog.ids().expect("it lists"), [id("aaaa")]);
    // Killed while the record was replaced: the old one stays.
    fs::write(dir.path().join(format!("images/{}/.record.json.2", id("aaaa"))), b"{").expect("written");
    assert_eq!(catalog.load(id("aaaa")).expect("the old one"), record("aaaa", "web", 1));
}

#[test]
fn a_verdict_replaces_the_last_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let catalog = catalog(&dir);
    catalog.save(&record("aaaa", "web", 1)).expect("saved");
    let verdict = |passed| Verdict {
        passed,
        reasons: Vec::new(),
        open_ports: vec![80],
        ready_s: Some(1.5),
        serving_s: None,
        accelerator: "tcg".to_owned(),
        failed_units: Vec::new(),
        at: Timestamp::UNIX_EPOCH,
    };
    for passed in [false, true] {
        catalog.set_verdict(id("aaaa"), verdict(passed)).expect("saved");
        assert_eq!(catalog.load(id("aaaa")).expect("it loads").may_be_target(), passed);
    }
    // Nothing but the record is left in the directory.
    let names = fs::read_dir(dir.path().join(format!("images/{}", id("aaaa")))).expect("listed");
    assert_eq!(names.count(), 1);
    assert!(catalog.set_verdict(id("bbbb"), verdict(true)).is_err());
}

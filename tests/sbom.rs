//! An image's bill of materials is CycloneDX: an independent tool says so.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use jiff::Timestamp;
use rekiln::catalog::{self, Disk, Origin, PackageKind, Record, sbom};
use rekiln::digest::Digest;
use rekiln::lock::{Asked, Lock, LockedFetch, Package, Role};
use serde_json::Value;

use crate::derived::derived;
use crate::pytools::installed;

/// The tool: the reference implementation of the standard for Python, with the standard's own JSON schema.
const TOOL: &str = "cyclonedx-python-lib[json-validation]";

/// Validates standard input; prints what is wrong and exits with 1.
const VALIDATE: &str = "
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(sys.stdin.read())
if error:
    print(error)
    sys.exit(1)
";

fn python(tools: &Path, script: &str, input: &str) -> Output {
    let mut child = Command::new("python3")
        .args(["-c", script])
        .env("PYTHONPATH", tools)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 starts: apt-get install python3");
    // A script that ends before it has read all closes the pipe; what it printed says why.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("python3 ends")
}

/// Returns where the tool is, with the schemas.
fn tools() -> PathBuf {
    installed("pytools", TOOL, "import cyclonedx.validation.json, jsonschema, referencing")
}

/// What the tool says against a bill; the empty text when nothing.
fn complaint(tools: &Path, bill: &Value) -> String {
    let output = python(tools, VALIDATE, &bill.to_string());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => String::new(),
        Some(1) if !said.trim().is_empty() => said,
        _ => panic!("the validator failed: {failed}"),
    }
}

fn package(name: &str, version: &str, role: Role) -> Package {
    Package {
        name: name.to_owned(),
        version: version.to_owned(),
        arch: "amd64".to_owned(),
        role,
        size: 7,
        sha256: Digest::of(name.as_bytes()),
        path: format!("pool/main/{name}.deb"),
        archive: "debian".to_owned(),
    }
}

/// A lock with what is hard to write: epochs, `+` and `~` in versions and names, every role, artifacts, one of
/// them with a query and a space in its address.
fn lock() -> Lock {
    let fetch = |url: &str| LockedFetch { url: url.to_owned(), sha256: Digest::of(url.as_bytes()), size: 3 };
    Lock {
        version: 1,
        asked: Asked {
            source: "debian:bookworm".to_owned(),
            parent_lock: None,
            architecture: "amd64".to_owned(),
            packages: ["libstdc++6".to_owned()].into(),
        },
        epoch: 1_700_000_000,
        tools: BTreeMap::new(),
        suites: Vec::new(),
        packages: vec![
            package("libstdc++6", "2:12.2.0-14+deb12u1~bpo1", Role::Root),
            package("linux-image-6.1.0-amd64", "6.1.1-1", Role::Kernel),
            package("systemd-boot-efi", "252.39-1~deb12u2", Role::Stub),
        ],
        layout: None,
        fetches: vec![
            fetch("https://example.invalid/a/app.tar.gz"),
            fetch("https://example.invalid/a/?file=my app.tar.gz"),
        ],
    }
}

/// A record with as little in it as there may be; its id is the digest of its name.
pub fn record(name: &str) -> Record {
    let id = Digest::of(name.as_bytes());
    Record {
        version: catalog::VERSION,
        id: id.to_string().parse().expect("an id"),
        name: name.to_owned(),
        debug: false,
        commit: None,
        clean: false,
        lock: id,
        parents: Vec::new(),
        disk: Disk { sha256: id, blocks: None, size: 1, partitions: Vec::new() },
        root_hash: Some(id),
        cmdline: String::new(),
        layers: Vec::new(),
        kernel: None,
        ports: Vec::new(),
        services: Vec::new(),
        exceptions: Vec::new(),
        packages: BTreeMap::new(),
        findings: Vec::new(),
        verdict: None,
        baked: Timestamp::UNIX_EPOCH,
        timings: BTreeMap::new(),
        derived: None,
    }
}

fn committed(name: &str) -> Lock {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("images/{name}.lock"));
    Lock::parse(&std::fs::read_to_string(&path).expect("the repository has it")).expect("a lock")
}

#[test]
fn bills_are_cyclonedx() {
    let tools = tools();
    let (base, web, hard) = (committed("base"), committed("web"), lock());
    for (name, locks) in [("web", vec![&base, &web]), ("hard", vec![&hard]), ("empty", vec![])] {
        let bill = sbom::bill(&record(name), &locks).expect("a bill");
        assert_eq!(complaint(&tools, &bill), "", "{name}: {bill:#}");
        assert_eq!(
            bill,
            sbom::bill(&record(name), &locks).expect("a bill"),
            "the same image, the same bytes"
        );
        let components: usize = locks.iter().map(|lock| lock.packages.len() + lock.fetches.len()).sum();
        assert_eq!(bill["components"].as_array().map(Vec::len), Some(components), "{name}");
    }
}

#[test]
fn a_derived_image_has_what_was_found_in_it() {
    let tools = tools();
    let deb = derived("vendor");
    let mut rpm = deb.clone();
    let distribution = rpm.derived.as_mut().and_then(|derived| derived.distribution.as_mut());
    let distribution = distribution.expect("a distribution");
    (distribution.id, distribution.packages) = ("almalinux".to_owned(), PackageKind::Rpm);
    let mut unknown = deb.clone();
    unknown.derived.as_mut().expect("it is derived").distribution = None;
    let lock = Lock { packages: Vec::new(), ..lock() };
    for (record, expected) in [
        (
            deb,
            vec![
                "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?distro=debian-12",
                "pkg:deb/debian/openssl@1:3.0.17-1?distro=debian-12",
            ],
        ),
        (
            rpm,
            vec![
                "pkg:rpm/almalinux/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?distro=almalinux-12",
                "pkg:rpm/almalinux/openssl@3.0.17-1?distro=almalinux-12&epoch=1",
            ],
        ),
        (unknown, vec![]),
    ] {
        let bill = sbom::bill(&record, &[&lock]).expect("a bill");
        assert_eq!(complaint(&tools, &bill), "", "{bill:#}");
        let components = bill["components"].as_array().expect("a list");
        // Two artifacts, two packages and the vendor's disk.
        assert_eq!(components.len(), 5, "{bill:#}");
        let purls: Vec<&str> = components.iter().filter_map(|component| component["purl"].as_str()).collect();
        assert_eq!(purls, expected);
        written_alike(&tools, &purls);
        let origin = &record.derived.as_ref().expect("it is derived").origin;
        let Origin::Disk { source, .. } = origin else { panic!("no disk: {origin:?}") };
        let disk = components.iter().find(|component| component["name"] == "vendor.qcow2").expect("the disk");
        assert_eq!(disk["hashes"][0]["content"], source.to_string());
    }
}

#[test]
fn the_validator_tells_wrong_bills() {
    let tools = tools();
    let hard = lock();
    let good = sbom::bill(&record("hard"), &[&hard]).expect("a bill");
    let changes: [fn(&mut Value); 4] = [
        |bill| bill["serialNumber"] = "no uuid".into(),
        |bill| bill["components"][0]["hashes"][0]["content"] = "short".into(),
        |bill| bill["components"][0]["type"] = "package".into(),
        |bill| bill["surprise"] = true.into(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut bill = good.clone();
        change(&mut bill);
        assert_ne!(complaint(&tools, &bill), "", "change {number}");
    }
}

#[test]
fn package_urls_are_as_their_standard_writes_them() {
    let tools = tools();
    let hard = lock();
    let bill = sbom::bill(&record("hard"), &[&hard]).expect("a bill");
    let purls: Vec<&str> = bill["components"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|component| component["purl"].as_str())
        .collect();
    assert_eq!(purls.len(), 3);
    written_alike(&tools, &purls);
}

/// Checks that the standard's own library writes what it read in the same way.
fn written_alike(tools: &Path, purls: &[&str]) {
    let script = "
import sys
from packageurl import PackageURL
for line in sys.stdin.read().split():
    print(PackageURL.from_string(line).to_string())
";
    let output = python(tools, script, &purls.join("\n"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>(), purls);
}

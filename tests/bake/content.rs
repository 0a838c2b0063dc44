//! What recipes bring besides templates: packages with privileged files, artifacts, scripts.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rekiln::catalog::Record;
use rekiln::digest::Digest;
use rekiln::lock::{Asked, Lock, LockedFetch, Package, Role};

use super::ground::{Site, ground, scratch, succeeded, turn};
use super::read_back::extract;

/// What a package brings and a script adds to an image on top of `base`.
const RECIPE: &str = r#"
packages = ["rekiln-test"]

[source]
image = "base"

[vars]
word = "by the script"

[[run]]
script = "extra/setup.sh.hbs"

[harden]
allow = [{ rule = "setuid", path = "/usr/bin/kept", why = "the test wants to keep it" }]
"#;

/// Makes a package with two privileged files, and puts it into the vault.
fn package(site: &Site, dir: &Path) -> Package {
    let tree = dir.join("deb");
    for part in ["DEBIAN", "usr/bin"] {
        fs::create_dir_all(tree.join(part)).expect("made");
        fs::set_permissions(tree.join(part), fs::Permissions::from_mode(0o755)).expect("set");
    }
    let control = "Package: rekiln-test\nVersion: 1.0\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: a test\n";
    fs::write(tree.join("DEBIAN/control"), control).expect("written");
    for name in ["kept", "lost"] {
        let path = tree.join("usr/bin").join(name);
        fs::write(&path, "#!/bin/sh\n").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).expect("set");
    }
    let deb = dir.join("rekiln-test.deb");
    let made = Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).args([&tree, &deb]).output();
    succeeded(&made.expect("dpkg-deb runs"));
    let sha256 = Digest::of_file(&deb).expect("digested");
    fs::copy(&deb, site.store().vault(sha256)).expect("copied");
    Package {
        name: "rekiln-test".to_owned(),
        version: "1.0".to_owned(),
        arch: "all".to_owned(),
        role: Role::Root,
        size: fs::metadata(&deb).expect("there").len(),
        sha256,
        path: "pool/main/r/rekiln-test_1.0_all.deb".to_owned(),
        archive: "debian".to_owned(),
    }
}

/// Writes the recipe `extra` with its script and its lock.
fn extra(site: &Site, recipe: &str, script: &str, packages: Vec<Package>, fetches: Vec<LockedFetch>) {
    let base = site.lock("base");
    let asked = Asked {
        source: "image:base".to_owned(),
        parent_lock: Some(Digest::of(site.read("images/base.lock").as_bytes())),
        architecture: base.asked.architecture.clone(),
        packages: packages.iter().map(|package| package.name.clone()).collect::<BTreeSet<_>>(),
    };
    let lock = Lock { asked, packages, fetches, ..base };
    fs::create_dir_all(site.repo.join("bootstrap/extra")).expect("made");
    site.write("bootstrap/extra/setup.sh.hbs", script);
    site.write("images/extra.toml", recipe);
    site.write("images/extra.lock", &lock.to_text());
}

/// Serves `bytes` over HTTP to everyone who asks, until the tests end, and returns where.
fn serve(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let _ = stream.read(&mut [0; 4096]);
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&bytes));
        }
    });
    format!("http://{address}/app.tar.gz")
}

/// Makes an archive with one file, serves it or `others` in its place, and returns it locked, with the table that
/// the recipe needs.
fn artifact(dir: &Path, others: Option<&[u8]>) -> (LockedFetch, String) {
    let tree = dir.join("app/bin");
    fs::create_dir_all(&tree).expect("made");
    fs::write(tree.join("app"), if others.is_some() { "never served\n" } else { "an artifact\n" })
        .expect("written");
    let tar = dir.join("app.tar.gz");
    let made = Command::new("tar").arg("-czf").arg(&tar).arg("-C").arg(dir.join("app")).arg("bin").output();
    succeeded(&made.expect("tar runs"));
    let bytes = fs::read(&tar).expect("read");
    let (sha256, size) = (Digest::of(&bytes), bytes.len() as u64);
    let url = serve(others.map_or(bytes, <[u8]>::to_vec));
    let table =
        format!("\n[[fetch]]\nurl = \"{url}\"\nsha256 = \"{sha256}\"\npath = \"/opt/app\"\nunpack = true\n");
    (LockedFetch { url, sha256, size }, table)
}

/// Takes a layer out of a disk.
fn layer(site: &Site, record: &Record, kind: &str, dir: &Path) -> PathBuf {
    let layer =
        record.layers.iter().find(|layer| layer.image == "extra" && layer.kind == kind).expect("a layer");
    let root = &record.disk.partitions[1];
    let disk = site.store().image(record.id).join("disk.raw");
    extract(&disk, root.offset + layer.offset, layer.size, dir.join(format!("{kind}.erofs")))
}

#[test]
fn packages_artifacts_and_scripts_land_in_the_image() {
    let _turn = turn();
    let dir = scratch();
    let site = ground().warm(dir.path());
    let package = package(&site, dir.path());
    let (fetch, table) = artifact(dir.path(), None);
    let script = "#!/bin/sh\nset -e\numask 022\nmkdir -p /opt/made\necho '{{word}}' >/opt/made/file\n";
    extra(&site, &format!("{RECIPE}{table}"), script, vec![package], vec![fetch]);
    let line = site.bake("extra");
    let record = site.record(line.id);

    // Read back with erofs' own tools; the first does not keep permissions.
    let files = dir.path().join("files");
    let mut unpack = Command::new("fsck.erofs");
    unpack.arg(format!("--extract={}", files.display())).arg(layer(&site, &record, "files", dir.path()));
    succeeded(&unpack.output().expect("fsck.erofs runs"));
    assert_eq!(fs::read_to_string(files.join("opt/app/bin/app")).expect("unpacked"), "an artifact\n");
    assert_eq!(fs::read_to_string(files.join("opt/made/file")).expect("made"), "by the script\n");
    // No erofs tool shows privileged bits: the tree that was sealed, and, below, our own reading of the disk.
    let sealed = record
        .layers
        .iter()
        .find(|layer| layer.image == "extra" && layer.kind == "packages")
        .expect("a layer");
    let tree = site.store().layer(sealed.key).join("tree/usr/bin");
    let mode = |name: &str| fs::metadata(tree.join(name)).expect("there").permissions().mode() & 0o7777;
    assert_eq!((mode("kept"), mode("lost")), (0o4755, 0o755));

    let said = site.done(&["inspect", "--json", &line.id.to_string()]);
    let inspection: serde_json::Value = serde_json::from_str(said.trim()).expect("JSON");
    assert_eq!(inspection["unexcepted"], 0);
    let finding = inspection["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .find(|one| one["rule"] == "setuid")
        .expect("a finding");
    assert_eq!(
        (finding["path"].as_str(), finding["excepted"].as_str()),
        (Some("/usr/bin/kept"), Some("the test wants to keep it"))
    );
    let setuid = &inspection["inventory"]["setuid"];
    assert!(setuid["/usr/bin/kept"].is_string() && setuid["/usr/bin/lost"].is_null(), "{setuid}");
}

#[test]
fn bad_scripts_and_artifacts_make_no_image() {
    let _turn = turn();
    let dir = scratch();
    let site = ground().warm(dir.path());
    let images = || super::ground::names(&site.store.join("images"));
    let before = images();
    let plain = "[source]\nimage = \"base\"\n[[run]]\nscript = \"extra/setup.sh.hbs\"\n";

    let failing = "#!/bin/sh\necho these are my last words\necho and these >&2\nexit 7\n";
    extra(&site, plain, failing, Vec::new(), Vec::new());
    let said = site.refused(&["bake", "--no-boot", "extra"], 1);
    for words in ["these are my last words", "and these", "exit status: 7", "image extra"] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }

    let planting = "#!/bin/sh\ncp /bin/sh /usr/bin/back-door\nchmod 4755 /usr/bin/back-door\n";
    extra(&site, plain, planting, Vec::new(), Vec::new());
    let said = site.refused(&["bake", "--no-boot", "extra"], 1);
    assert!(said.contains("setuid") && said.contains("/usr/bin/back-door"), "{said}");

    let (fetch, table) = artifact(dir.path(), Some(b"other bytes"));
    extra(
        &site,
        &format!("[source]\nimage = \"base\"\n{table}"),
        "#!/bin/sh\n",
        Vec::new(),
        vec![fetch.clone()],
    );
    let said = site.refused(&["bake", "--no-boot", "extra"], 1);
    assert!(said.contains("is not what is locked") && said.contains(&fetch.sha256.to_string()), "{said}");
    assert_eq!(images(), before);
}

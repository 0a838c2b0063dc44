//! Inputs into the vault: from where, checked how, and what is said when they are nowhere.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output};

use rekiln::digest::Digest;
use rekiln::lock::settings::Settings;
use rekiln::lock::{Lock, LockedFetch, fetch, vault};
use rekiln::progress::Silent;
use rekiln::store::Store;

use super::archive::{Archive, names};
use super::{base, fill, lock, recipe, refused, store};

#[test]
fn a_changed_byte_is_refused() {
    let archive = Archive::new();
    let (_dir, store) = store();
    let base = lock(&archive, &store, &base(), &[]).expect("resolved");
    let path = archive.deb("udev");
    let mut bytes = fs::read(&path).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, &bytes).expect("written");
    let udev = base.packages.iter().find(|package| package.name == "udev").expect("udev");
    let got = Digest::of(&bytes).to_string();
    let error = refused(
        fill(&archive, &store, &base),
        &["udev 252 is not what is locked", &udev.sha256.to_string(), &got, "udev_252_amd64.deb"],
    );
    assert!(!fetch::is_gone(&error));
    assert!(!store.vault(udev.sha256).exists());
    for name in names(&store.root().join("vault")) {
        vault::open(&store, name.parse().expect("a digest")).expect("what is kept is whole");
    }
}

#[test]
fn gone_from_the_mirror() {
    let archive = Archive::new();
    let (_dir, store) = store();
    let base = lock(&archive, &store, &base(), &[]).expect("resolved");
    let file = archive.deb("udev");
    let old = archive.path("old/debian/pool/main");
    fs::create_dir_all(&old).expect("made");
    fs::rename(&file, old.join(file.file_name().expect("a name"))).expect("moved");

    let error = refused(
        fill(&archive, &store, &base),
        &["1 of the locked inputs", "udev 252", "rekiln lock --update", "REKILN_SNAPSHOTS"],
    );
    assert!(fetch::is_gone(&error), "{error:?}");
    // Wrapped in what a caller was doing, it is still that.
    assert!(fetch::is_gone(&error.during("baking `web`")));

    // A place that cannot answer is not one that has it no more.
    let dead = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let unreachable = Settings { mirror: Some(format!("http://{dead}/debian")), ..archive.settings() };
    let error = refused(
        fetch::fetch_all(&store, &unreachable, &[&base], &Silent),
        &["could not be fetched", &dead.to_string()],
    );
    assert!(!fetch::is_gone(&error), "{error:?}");

    let snapshots = vec![format!("file:{}/{{archive}}", archive.path("old").display())];
    let settings = Settings { snapshots, ..archive.settings() };
    fetch::fetch_all(&store, &settings, &[&base], &Silent).expect("the archive of old versions has it");
    for package in &base.packages {
        vault::open(&store, package.sha256).expect("in the vault");
    }
}

/// A server that answers every request with one status; it ends with the test process.
fn answers(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let _ = stream.read(&mut [0; 4096]);
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(head.as_bytes());
        }
    });
    format!("http://{address}")
}

#[test]
fn what_a_server_says() {
    let archive = Archive::new();
    let (_dir, store) = store();
    let base = lock(&archive, &store, &base(), &[]).expect("resolved");
    for (status, gone) in [("404 Not Found", true), ("410 Gone", true), ("403 Forbidden", false)] {
        let settings = Settings { mirror: Some(format!("{}/debian", answers(status))), ..archive.settings() };
        let error = fetch::fetch_all(&store, &settings, &[&base], &Silent).expect_err(status);
        assert_eq!(fetch::is_gone(&error), gone, "{status}: {error:?}");
    }
}

#[test]
fn artifacts_are_checked_and_kept() {
    let archive = Archive::new();
    let (_dir, store) = store();
    let path = archive.path("app.tar");
    fs::write(&path, "an artifact").expect("written");
    let sha256 = Digest::of(b"an artifact");
    let url = format!("file://{}", path.display());
    let recipe = |digest: Digest| {
        recipe(&format!(
            "[source]\ndebian = \"bookworm\"\n[[fetch]]\nurl = \"{url}\"\nsha256 = \"{digest}\"\npath = \"/opt/app\"\n"
        ))
    };
    let wrong = recipe(Digest::of(b"another"));
    refused(fetch::artifacts(&store, &wrong.fetches, &Silent), &["is not what is locked"]);
    let found = fetch::artifacts(&store, &recipe(sha256).fetches, &Silent).expect("fetched");
    assert_eq!(found, [LockedFetch { url, sha256, size: 11 }]);
    assert_eq!(names(&store.root().join("vault")), [sha256.to_string()]);
}

#[test]
fn two_at_once_and_nothing_left_over() {
    let archive = Archive::new();
    let (_dir, store) = store();
    let base = lock(&archive, &store, &base(), &[]).expect("resolved");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| fill(&archive, &store, &base).expect("fetched"));
        }
    });
    assert_eq!(names(&store.root().join("vault")).len(), base.packages.len());
    for own in names(&store.tmp()) {
        assert!(names(&store.tmp().join(&own)).is_empty(), "{own} has files");
    }
}

/// What runs inside the network namespace: this test binary again, told by the environment.
const INSIDE: &str = "REKILN_TEST_WITHOUT_NETWORK";

#[test]
fn a_full_vault_needs_no_network() {
    if let Some(root) = std::env::var_os(INSIDE) {
        let store = Store::open(&root.to_string_lossy()).expect("a store");
        let lock =
            Lock::parse(&fs::read_to_string(store.root().join("lock")).expect("read")).expect("a lock");
        let settings =
            Settings { mirror: Some("http://127.0.0.1:9/debian".to_owned()), ..Settings::default() };
        fetch::fetch_all(&store, &settings, &[&lock], &Silent).expect("the vault is full");
        return;
    }
    let archive = Archive::new();
    let (_dir, store) = store();
    let base = lock(&archive, &store, &base(), &[]).expect("resolved");
    fill(&archive, &store, &base).expect("fetched");
    fs::write(store.root().join("lock"), base.to_text()).expect("written");
    let inside = || -> Output {
        let flags = if rustix::process::geteuid().is_root() { "-n" } else { "-rn" };
        Command::new("unshare")
            .arg(flags)
            .arg(std::env::current_exe().expect("this program"))
            .args(["--exact", "lock::fetch::a_full_vault_needs_no_network"])
            .env(INSIDE, store.root())
            .output()
            .expect("unshare runs")
    };
    let full = inside();
    let text = String::from_utf8_lossy(&full.stdout);
    assert!(full.status.success() && text.contains("1 passed"), "{full:?}");
    fs::remove_file(store.vault(base.packages[0].sha256)).expect("removed");
    let lacking = inside();
    assert!(!lacking.status.success(), "without the network, a missing input cannot come: {lacking:?}");
}

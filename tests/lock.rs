//! Locks and the vault against a signed archive on disk.

pub mod archive;
mod fetch;
mod layout;

use std::fs;
use std::path::Path;
use std::process::Command;

use archive::{Archive, names};
use rekiln::digest::Digest;
use rekiln::error::{Error, Result};
use rekiln::lock::apt::Apt;
use rekiln::lock::settings::Settings;
use rekiln::lock::{Lock, Role, resolve};
use rekiln::progress::Silent;
use rekiln::recipe::Recipe;
use rekiln::store::Store;
use tempfile::TempDir;

fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&dir.path().display().to_string()).expect("a store");
    (dir, store)
}

fn recipe(text: &str) -> Recipe {
    toml::from_str(text).expect("a recipe")
}

fn base() -> Recipe {
    recipe("[source]\ndebian = \"bookworm\"\n")
}

fn web() -> Recipe {
    recipe("packages = [\"web\"]\n[source]\nimage = \"base\"\n")
}

fn lock_with(settings: &Settings, store: &Store, recipe: &Recipe, parents: &[&Lock]) -> Result<Lock> {
    let apt = Apt::update(store, settings, "bookworm", &Silent)?;
    resolve::resolve(recipe, parents, None, Vec::new(), &apt, store)
}

fn lock(archive: &Archive, store: &Store, recipe: &Recipe, parents: &[&Lock]) -> Result<Lock> {
    lock_with(&archive.settings(), store, recipe, parents)
}

fn fill(archive: &Archive, store: &Store, lock: &Lock) -> Result<()> {
    rekiln::lock::fetch::fetch_all(store, &archive.settings(), &[lock], &Silent)
}

/// Runs `rekiln lock` in a repository with a store in `store`, and returns what it said.
fn command(archive: &Archive, repo: &Path, args: &[&str], mirror: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_rekiln"))
        .arg("-C")
        .arg(repo)
        .arg("lock")
        .args(args)
        .env("REKILN_MIRROR", mirror)
        .env("REKILN_KEYRING", archive.path("keyring.gpg"))
        .env("REKILN_STORE", repo.join("store"))
        .output()
        .expect("rekiln runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn package_names(lock: &Lock) -> Vec<&str> {
    lock.packages.iter().map(|package| package.name.as_str()).collect()
}

fn refused<T: std::fmt::Debug>(result: Result<T>, words: &[&str]) -> Error {
    let error = result.expect_err("it is refused");
    let text = format!("{}\n{}", error.chain(), error.hints().join("\n"));
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    error
}

#[test]
fn resolves_a_chain_and_leaves_the_host_alone() {
    let host = || (names(Path::new("/var/lib/apt/lists")), names(Path::new("/var/cache/apt/archives")));
    let before = host();
    let mut archive = Archive::new();
    archive.add("debian-security", "libweb", "1.0+deb12u1", "Depends: libc6 (>= 2.36)");
    archive.publish();
    let (_dir, store) = store();
    let base = lock(&archive, &store, &base(), &[]).expect("resolved");
    let roles =
        |role| base.packages.iter().filter(move |package| package.role == role).map(|p| p.name.as_str());
    let mut root: Vec<_> = roles(Role::Root).collect();
    assert_eq!(
        root.iter().position(|&name| name == "libc6"),
        Some(0),
        "pre-dependencies come first: {root:?}"
    );
    root.sort_unstable();
    assert_eq!(root, ["base-files", "libc6", "systemd", "systemd-sysv", "udev", "usr-is-merged"]);
    assert_eq!(roles(Role::Kernel).collect::<Vec<_>>(), ["linux-image-6.1.0-1-cloud-amd64"]);
    assert_eq!(roles(Role::Stub).collect::<Vec<_>>(), ["systemd-boot-efi"]);
    assert_eq!(base.epoch, "2026-11-21T00:53:02Z".parse::<jiff::Timestamp>().expect("a time").as_second());

    let web = lock(&archive, &store, &web(), &[&base]).expect("resolved");
    assert_eq!(package_names(&web), ["libweb", "web"]);
    let [libweb, web_package] = &web.packages[..] else { panic!("two packages") };
    assert_eq!((libweb.version.as_str(), libweb.archive.as_str()), ("1.0+deb12u1", "debian-security"));
    assert_eq!(web_package.version, "1:1.0+b1");
    assert_eq!(web_package.path, "pool/main/web_1.0+b1_amd64.deb");
    let bytes = fs::read(archive.deb("web")).expect("read");
    assert_eq!((web_package.sha256, web_package.size), (Digest::of(&bytes), bytes.len() as u64));
    let suites: Vec<_> = web.suites.iter().map(|suite| suite.name.as_str()).collect();
    assert_eq!(suites, ["bookworm", "bookworm-updates", "bookworm-security"]);
    let signed = fs::read(archive.path("debian/dists/bookworm/InRelease")).expect("read");
    assert_eq!(web.suites[0].inrelease, Digest::of(&signed));
    assert_eq!(Lock::parse(&web.to_text()).expect("it parses"), web);
    assert_eq!(host(), before, "the host's apt state");
}

#[test]
fn only_a_good_signature_is_taken() {
    let archive = Archive::new();
    let (_dir, store) = store();
    lock(&archive, &store, &base(), &[]).expect("the signature is good");

    archive.make_key("other", "other.gpg");
    let wrong = Settings { keyring: Some(archive.path("other.gpg")), ..archive.settings() };
    let fresh = self::store();
    refused(lock_with(&wrong, &fresh.1, &base(), &[]), &["signature is not good"]);
    // The store with indexes that were good: older ones must not be used instead.
    refused(lock_with(&wrong, &store, &base(), &[]), &["signature is not good"]);
    let none = Settings { keyring: Some(archive.path("missing.gpg")), ..archive.settings() };
    refused(lock_with(&none, &store, &base(), &[]), &["missing.gpg", "debian-archive-keyring"]);
    fs::write(archive.path("empty.gpg"), "").expect("written");
    let empty = Settings { keyring: Some(archive.path("empty.gpg")), ..archive.settings() };
    refused(lock_with(&empty, &fresh.1, &base(), &[]), &["updating the indexes"]);

    let signed = archive.path("debian/dists/bookworm/InRelease");
    let text = fs::read_to_string(&signed).expect("read");
    fs::write(&signed, text.replace("Origin: Test", "Origin: Evil")).expect("written");
    refused(lock(&archive, &store, &base(), &[]), &["signature is not good"]);
    fs::remove_file(&signed).expect("removed");
    fs::copy(archive.path("Release"), signed.with_file_name("Release")).expect("copied");
    refused(lock(&archive, &store, &base(), &[]), &["updating the indexes"]);
    archive.publish();
    fs::remove_file(signed.with_file_name("Release")).expect("removed");
    lock(&archive, &store, &base(), &[]).expect("the signature is good again");

    let index = archive.path("debian/dists/bookworm/main/binary-amd64/Packages");
    let text = fs::read_to_string(&index).expect("read").replace("Version: 2.36-9", "Version: 2.36-6");
    fs::write(&index, text).expect("written");
    refused(lock(&archive, &fresh.1, &base(), &[]), &["updating the indexes"]);
}

#[test]
fn a_parents_packages_never_change() {
    let mut archive = Archive::new();
    let (_dir, store) = store();
    let base = lock(&archive, &store, &base(), &[]).expect("resolved");
    let needs_newer = |archive: &mut Archive| {
        archive.add("debian", "libc6", "2.36-10", "");
        archive.publish();
    };
    needs_newer(&mut archive);
    // The archive no longer has the parent's libc6, and the vault never had it.
    refused(lock(&archive, &store, &web(), &[&base]), &["libc6 2.36-9", "rekiln lock --update base"]);

    // With the package in the vault, its own control file says what it is.
    let mut archive = Archive::new();
    let base = lock(&archive, &store, &self::base(), &[]).expect("resolved");
    fill(&archive, &store, &base).expect("fetched");
    needs_newer(&mut archive);
    let web_lock = lock(&archive, &store, &web(), &[&base]).expect("resolved on the vault's libc6");
    assert_eq!(package_names(&web_lock), ["libweb", "web"]);

    archive.add("debian", "libweb", "2.0", "Depends: libc6 (>= 2.36-10)");
    archive.publish();
    refused(
        lock(&archive, &store, &web(), &[&base]),
        &["libc6 2.36-9 → 2.36-10", "rekiln lock --update base"],
    );
    // What a parent's package says about others counts, as if it were installed.
    archive.add("debian", "libweb", "9", "");
    archive.publish();
    refused(
        lock(&archive, &store, &web(), &[&base]),
        &["udev : Breaks: libweb (>= 9)", "rekiln lock --update base"],
    );
    let kernel = recipe("packages = [\"linux-image-cloud-amd64\"]\n[source]\nimage = \"base\"\n");
    refused(lock(&archive, &store, &kernel, &[&base]), &["is a kernel"]);
    let unknown = recipe("packages = [\"no-such\"]\n[source]\nimage = \"base\"\n");
    refused(lock(&archive, &store, &unknown, &[&base]), &["Unable to locate package no-such"]);
}

#[test]
fn the_command_locks_chains_and_says_what_changed() {
    let mut archive = Archive::new();
    let (repo, _) = store();
    let images = repo.path().join("images");
    fs::write(images.join("base.toml"), "[source]\ndebian = \"bookworm\"\n").expect("written");
    fs::write(images.join("web.toml"), "packages = [\"web\"]\n[source]\nimage = \"base\"\n")
        .expect("written");
    let run = |archive: &Archive, args: &[&str], mirror: &str| command(archive, repo.path(), args, mirror);
    let mirror = format!("file:{}", archive.path("debian").display());
    let locks = || {
        ["base", "web"].map(|name| fs::read_to_string(images.join(format!("{name}.lock"))).expect("a lock"))
    };

    let text = run(&archive, &["web"], &mirror);
    assert!(text.find("base: locked").expect("base") < text.find("web: locked").expect("web"), "{text}");
    let first = locks();
    assert!(!first.concat().contains(&mirror), "the mirror is not in the lock");

    archive.add("debian", "libweb", "1.1", "Depends: libc6 (>= 2.36)");
    archive.publish();
    // A lock that fits is left as it is, without asking any mirror.
    let text = run(&archive, &["--all"], "file:/nonexistent/debian");
    assert!(text.contains("web: the lock fits its recipe"), "{text}");
    assert_eq!(locks(), first);

    let text = run(&archive, &["web", "--update"], &mirror);
    assert!(text.contains("base: the archive has nothing newer"), "{text}");
    assert!(text.contains("~ libweb 1.0 → 1.1") && !text.contains("~ web"), "{text}");
    let second = locks();
    assert_eq!(second[0], first[0]);
    assert_ne!(second[1], first[1]);
    run(&archive, &["web", "--update"], &mirror);
    assert_eq!(locks(), second, "nothing new, nothing written");

    // A recipe that asks for more makes its lock, and only that, anew.
    fs::write(images.join("web.toml"), "packages = [\"unwanted\", \"web\"]\n[source]\nimage = \"base\"\n")
        .expect("written");
    let text = run(&archive, &["web"], &mirror);
    assert!(text.contains("base: the lock fits") && text.contains("+ unwanted 1"), "{text}");
    assert_eq!(names(&images), ["base.lock", "base.toml", "web.lock", "web.toml"]);
}

//! A repository in Git, an archive that has updates for it, and bakes that take no time.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rekiln::bake::identity::Identity;
use rekiln::catalog::{Catalog, Disk, Record, VERSION, Verdict};
use rekiln::digest::Digest;
use rekiln::error::{Error, Result};
use rekiln::git::Revision;
use rekiln::lock::{Lock, fetch};
use rekiln::pipeline::nightly::{Delivered, Night, Nightly};
use rekiln::progress::Silent;
use rekiln::repository::Repository;
use rekiln::store::Store;
use tempfile::TempDir;

use crate::lock::archive::Archive;

/// Base, two images on it, and one by itself.
const RECIPES: [(&str, &str); 4] = [
    ("base", "[source]\ndebian = \"bookworm\"\n"),
    ("db", "packages = [\"db\"]\n[source]\nimage = \"base\"\n"),
    ("own", "packages = [\"unwanted\"]\n[source]\ndebian = \"bookworm\"\n"),
    ("web", "packages = [\"web\"]\n[source]\nimage = \"base\"\n"),
];

pub struct Site {
    pub archive: Archive,
    pub repo: PathBuf,
    dir: TempDir,
    /// Images whose bake, or whose boot, fails.
    pub unbaked: BTreeSet<&'static str>,
    pub unbooted: BTreeSet<&'static str>,
    /// The images that were baked, in order.
    pub baked: RefCell<Vec<String>>,
}

/// Runs Git without anyone's configuration but the repository's, and returns what it says.
pub fn git(at: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(at)
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@localhost", "-c", "core.quotePath=false"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .expect("git starts");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").trim_end().to_owned()
}

/// Commits everything in the work tree.
pub fn commit(at: &Path, message: &str) -> String {
    git(at, &["add", "--all"]);
    git(at, &["commit", "--quiet", "--message", message]);
    git(at, &["rev-parse", "HEAD"])
}

impl Site {
    /// Locked to what the archive has, and committed on `main`.
    pub fn new() -> Self {
        let mut archive = Archive::new();
        archive.add("debian", "db", "15", "Depends: libc6 (>= 2.36)");
        archive.publish();
        let dir = tempfile::tempdir().expect("a directory");
        let repo = dir.path().join("repo");
        fs::create_dir_all(repo.join("images")).expect("made");
        fs::create_dir_all(repo.join("bootstrap/mit Leerzeichen")).expect("made");
        for (name, text) in RECIPES {
            fs::write(repo.join(format!("images/{name}.toml")), text).expect("written");
        }
        // What Git quotes when it lists it.
        fs::write(repo.join("bootstrap/mit Leerzeichen/größe \"5\".hbs"), "ü\n").expect("written");
        fs::write(repo.join("README \t.md"), "ours").expect("written");
        let site = Self {
            archive,
            repo,
            dir,
            unbaked: BTreeSet::new(),
            unbooted: BTreeSet::new(),
            baked: RefCell::default(),
        };
        site.done(&["lock", "--all"]);
        // A package that the archive replaced is still known where it was baked from.
        let locks = RECIPES.map(|(name, _)| site.lock_in("images", name));
        let locks: Vec<&Lock> = locks.iter().collect();
        fetch::fetch_all(&site.store(), &site.archive.settings(), &locks, &Silent).expect("fetched");
        git(&site.repo, &["init", "--quiet", "--initial-branch=main"]);
        commit(&site.repo, "as it is");
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn store(&self) -> Store {
        Store::open(&self.path("store").display().to_string()).expect("a store")
    }

    /// The archive has a new version of a package.
    pub fn update(&mut self, archive: &'static str, name: &str, version: &str) {
        let fields = match name {
            "db" | "libweb" => "Depends: libc6 (>= 2.36)",
            _ => "",
        };
        self.archive.add(archive, name, version, fields);
        self.archive.publish();
    }

    /// Runs the program.
    pub fn command(&self, args: &[&str]) -> Output {
        self.command_in(&self.repo, args)
    }

    fn command_in(&self, repo: &Path, args: &[&str]) -> Output {
        self.program(repo, args).output().expect("rekiln runs")
    }

    /// Returns the program with these arguments, the archive and the store.
    pub fn program(&self, repo: &Path, args: &[&str]) -> Command {
        let settings = self.archive.settings();
        let mut program = Command::new(env!("CARGO_BIN_EXE_rekiln"));
        program
            .arg("-C")
            .arg(repo)
            .args(args)
            .env("REKILN_MIRROR", settings.mirror.expect("a mirror"))
            .env("REKILN_KEYRING", settings.keyring.expect("a keyring"))
            .env("REKILN_STORE", self.path("store"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        program
    }

    fn done(&self, args: &[&str]) -> String {
        let output = self.command(args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs the program, which must end with `code` and say `words`.
    pub fn refused(&self, repo: &Path, args: &[&str], code: i32, words: &[&str]) {
        let output = self.command_in(repo, args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        for word in words {
            assert!(text.contains(word), "`{word}` is not in: {text}");
        }
    }

    /// One night in the site's repository, with what `change` makes of it.
    pub fn night(&self, change: impl FnOnce(&mut Nightly<'_>)) -> Result<Night> {
        self.night_in(&self.repo, &|| {}, change)
    }

    /// One night in `repo`; `meanwhile` happens while images are baked.
    pub fn night_in(
        &self,
        repo: &Path,
        meanwhile: &dyn Fn(),
        change: impl FnOnce(&mut Nightly<'_>),
    ) -> Result<Night> {
        let (store, settings) = (self.store(), self.archive.settings());
        let make = |_: &Repository, revision: &Revision, images: &[Identity]| {
            meanwhile();
            Ok(images.iter().map(|image| self.bake(&store, revision, image)).collect())
        };
        let mut nightly = Nightly {
            repo,
            store: &store,
            settings: &settings,
            progress: &Silent,
            base: "HEAD",
            branch: "rekiln/nightly",
            remote: None,
            derived: false,
            unproven: false,
            vulnerabilities: None,
            make: &make,
        };
        change(&mut nightly);
        nightly.run()
    }

    /// A bake that makes nothing but a record.
    fn bake(&self, store: &Store, revision: &Revision, image: &Identity) -> Result<Record> {
        self.baked.borrow_mut().push(image.name.clone());
        if self.unbaked.contains(image.name.as_str()) {
            return Err(Error::failed("the sealed disk has 1 findings"));
        }
        let passed = !self.unbooted.contains(image.name.as_str());
        let lock = image.links.last().expect("it has one").lock_digest;
        let record = record(image, lock, revision, passed);
        Catalog::new(store.clone()).save(&record)?;
        Ok(record)
    }

    fn lock_in(&self, dir: &str, image: &str) -> Lock {
        let text = fs::read_to_string(self.repo.join(dir).join(format!("{image}.lock"))).expect("a lock");
        Lock::parse(&text).expect("it parses")
    }

    /// Checks that every lock in a commit fits, and that it differs from the one before it in these files.
    pub fn assert_changes(&self, repo: &Path, commit: &str, files: &[&str]) {
        let names = git(repo, &["diff", "--name-only", &format!("{commit}^"), commit]);
        assert_eq!(names.lines().collect::<Vec<_>>(), files);
        let modes = git(repo, &["ls-tree", commit, "images/"]);
        assert!(modes.lines().all(|line| line.starts_with("100644 ")), "{modes}");
        let to = tempfile::tempdir_in(self.dir.path()).expect("a directory");
        rekiln::git::export(repo, commit, to.path()).expect("exported");
        let repository = Repository::load(to.path()).expect("no findings");
        for (name, _) in RECIPES {
            repository.links(name).expect("it fits");
        }
    }

    /// Checks that nothing of a night is left in scratch space.
    pub fn assert_swept(&self) {
        assert_eq!(fs::read_dir(self.path("store/tmp")).expect("listed").count(), 0);
    }
}

fn record(image: &Identity, lock: Digest, revision: &Revision, passed: bool) -> Record {
    let at = "2026-11-21T00:53:02Z".parse().expect("a time");
    let verdict = Verdict {
        passed,
        reasons: if passed { Vec::new() } else { vec!["no answer on port 5432".to_owned()] },
        open_ports: Vec::new(),
        ready_s: Some(4.0),
        serving_s: None,
        accelerator: "tcg".to_owned(),
        failed_units: Vec::new(),
        at,
    };
    Record {
        version: VERSION,
        id: image.id,
        name: image.name.clone(),
        debug: false,
        commit: revision.commit.clone(),
        clean: revision.clean,
        lock,
        parents: Vec::new(),
        disk: Disk { sha256: lock, blocks: None, size: 212_400_000, partitions: Vec::new() },
        root_hash: None,
        cmdline: String::new(),
        layers: Vec::new(),
        kernel: None,
        ports: Vec::new(),
        services: Vec::new(),
        exceptions: Vec::new(),
        packages: BTreeMap::new(),
        findings: Vec::new(),
        verdict: Some(verdict),
        baked: at,
        timings: BTreeMap::new(),
        derived: None,
    }
}

/// The commit of a night that made one, or found it made.
pub fn delivered(night: Night) -> Delivered {
    night.delivered.expect("delivered").expect("there is a commit")
}

/// Names of the images that were updated, and of those that were left.
pub fn names(night: &Night) -> (Vec<&str>, Vec<(&str, bool)>) {
    let updated = night.updated.iter().map(|image| image.image.as_str()).collect();
    (updated, night.left.iter().map(|left| (left.image.as_str(), left.failed)).collect())
}

/// Whether a failed operation said all of this.
pub fn assert_says<T: std::fmt::Debug>(result: Result<T>, words: &[&str]) {
    let error = result.expect_err("it is refused");
    let text = format!("{}\n{}", error.chain(), error.hints().join("\n"));
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

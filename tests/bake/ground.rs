//! What the tests of bakes share: one vault over all runs, one store with baked images in a run, scratch copies.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rekiln::catalog::{Catalog, Record};
use rekiln::digest::ImageId;
use rekiln::git;
use rekiln::lock::Lock;
use rekiln::store::Store;
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

/// Where everything of these tests lies: on the file system of the build, so that vaults are hard-linked.
const PLACE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/bake");

/// What keeps every run's fetched inputs.
const VAULT: &str = "vault";

/// A repository, a store, and the program to use them with.
#[derive(Debug, Clone)]
pub struct Site {
    /// A scratch copy of this repository.
    pub repo: PathBuf,
    /// The store.
    pub store: PathBuf,
}

/// What all tests share.
pub struct Ground {
    /// `web` is baked in it, with a verdict; tests may add images, not change or remove them.
    pub site: Site,
    /// The record of `web`.
    pub web: Record,
    /// Only one test binary at a time uses [`PLACE`].
    _only_one: File,
}

/// The last line of `rekiln bake --json`.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Line {
    pub id: ImageId,
    pub disk: PathBuf,
    pub sha256: String,
    pub cached: bool,
}

/// Takes this test's turn: bakes and machines one at a time, as two cores have no room for more.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns what the tests share, making it first.
pub fn ground() -> &'static Ground {
    static GROUND: OnceLock<Ground> = OnceLock::new();
    GROUND.get_or_init(make)
}

fn make() -> Ground {
    assert!(rustix::process::geteuid().is_root(), "bakes need root");
    let place = Path::new(PLACE);
    fs::create_dir_all(place).expect("made");
    let only_one = File::create(place.join("lock")).expect("made");
    flock(&only_one, FlockOperation::LockExclusive).expect("locked");
    // What a run before left there, but for the vault.
    for entry in fs::read_dir(place).expect("listed").map(|entry| entry.expect("listed")) {
        if entry.file_type().expect("known").is_dir() && entry.file_name() != VAULT {
            fs::remove_dir_all(entry.path()).expect("removed");
        }
    }
    fs::create_dir_all(place.join(VAULT)).expect("made");
    let site = Site { repo: place.join("repo"), store: place.join("store") };
    copy_repository(Path::new(env!("CARGO_MANIFEST_DIR")), &site.repo);
    link_vault(place, &site.store);
    let mut output = site.command(&["bake", "--json", "web"]).output().expect("rekiln runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success()
        && (text.contains("nowhere any more") || text.contains("for other tool versions"))
    {
        eprintln!(
            "the committed locks can no longer be baked here and are refreshed in a scratch copy:\n{text}"
        );
        site.done(&["lock", "--all", "--update"]);
        git::commit_all(&site.repo, "locks: as the archive is now").expect("committed");
        output = site.command(&["bake", "--json", "web"]).output().expect("rekiln runs");
    }
    link_vault(&site.store, place);
    let line = baked(&output);
    let web = site.record(line.id);
    Ground { site, web, _only_one: only_one }
}

/// Copies what makes a repository for rekiln, and commits it.
fn copy_repository(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    let parts = ["images", "bootstrap", "fleets"].map(|part| from.join(part));
    let status = Command::new("cp").arg("-a").args(parts).arg(to).status().expect("cp runs");
    assert!(status.success());
    // The databases' packages are four times as many, and a test of their own bakes them.
    for name in names(&to.join("images")).into_iter().filter(|name| name.starts_with("db")) {
        fs::remove_file(to.join("images").join(name)).expect("removed");
    }
    // A copy of a copy has none.
    let _ = fs::remove_file(to.join("fleets/db.toml"));
    git::init(to).expect("a repository");
    git::commit_all(to, "as it is").expect("committed");
}

/// Adds the inputs of one vault to another as hard links: nothing is copied, and nothing is shared but bytes.
fn link_vault(from: &Path, to: &Path) {
    fs::create_dir_all(to.join(VAULT)).expect("made");
    for entry in fs::read_dir(from.join(VAULT)).expect("listed").map(|entry| entry.expect("listed")) {
        let link = to.join(VAULT).join(entry.file_name());
        if !link.exists() {
            fs::hard_link(entry.path(), link).expect("linked");
        }
    }
}

/// Returns an empty directory of one test, on the file system of the vault.
pub fn scratch() -> TempDir {
    fs::create_dir_all(PLACE).expect("made");
    tempfile::Builder::new().prefix("test-").tempdir_in(PLACE).expect("a directory")
}

impl Ground {
    /// Returns a site with an own copy of the repository and a store `store` that has a full vault and nothing
    /// else, in `dir`.
    pub fn empty(&self, dir: &Path, store: &str) -> Site {
        let site = Site { repo: dir.join("repo"), store: dir.join(store) };
        copy_repository(&self.site.repo, &site.repo);
        link_vault(&self.site.store, &site.store);
        site
    }

    /// Returns a site with an own copy of the repository, in `dir`, and the shared store.
    pub fn warm(&self, dir: &Path) -> Site {
        let site = Site { repo: dir.join("repo"), store: self.site.store.clone() };
        copy_repository(&self.site.repo, &site.repo);
        site
    }
}

impl Site {
    /// Returns the program with these arguments, this repository and this store.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rekiln"));
        command.arg("-C").arg(&self.repo).arg("--store").arg(&self.store).args(args);
        command
    }

    /// Runs the program, which must succeed, and returns its output.
    pub fn done(&self, args: &[&str]) -> String {
        succeeded(&self.command(args).output().expect("rekiln runs"))
    }

    /// Runs the program, which must end with `code`, and returns what it said on standard error.
    pub fn refused(&self, args: &[&str], code: i32) -> String {
        let output = self.command(args).output().expect("rekiln runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{text}");
        text
    }

    /// Bakes an image without booting it.
    pub fn bake(&self, image: &str) -> Line {
        baked(&self.command(&["bake", "--json", "--no-boot", image]).output().expect("rekiln runs"))
    }

    pub fn store(&self) -> Store {
        Store::open(&self.store.display().to_string()).expect("a store")
    }

    pub fn record(&self, id: ImageId) -> Record {
        Catalog::new(self.store()).load(id).expect("a record")
    }

    pub fn lock(&self, image: &str) -> Lock {
        Lock::parse(&self.read(&format!("images/{image}.lock"))).expect("a lock")
    }

    /// Reads a file of the repository.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.repo.join(path)).expect("read")
    }

    /// Writes a file of the repository.
    pub fn write(&self, path: &str, text: &str) {
        fs::write(self.repo.join(path), text).expect("written");
    }

    /// Replaces text, which must be there, in a file of the repository.
    pub fn edit(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert!(text.contains(from), "{path} has no {from:?}");
        self.write(path, &text.replace(from, to));
    }

    /// Asserts that the store has no scratch space and no image but `images`, half or whole.
    pub fn holds_only(&self, images: &[ImageId]) {
        assert_eq!(names(&self.store.join("tmp")), [""; 0], "scratch space is left");
        let mut expected: Vec<String> = images.iter().map(ToString::to_string).collect();
        expected.sort();
        assert_eq!(names(&self.store.join("images")), expected);
    }
}

/// Returns the names in a directory, in order; none when it is not there.
pub fn names(dir: &Path) -> Vec<String> {
    if !dir.exists() {
        return Vec::new();
    }
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry.expect("listed").file_name().into_string().expect("UTF-8")
    };
    let mut names: Vec<String> = fs::read_dir(dir).expect("listed").map(name).collect();
    names.sort();
    names
}

/// Returns the standard output of a program that succeeded.
pub fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// Returns what a `bake --json` that succeeded said last.
pub fn baked(output: &Output) -> Line {
    let text = succeeded(output);
    serde_json::from_str(text.lines().last().expect("a line")).expect("the last line of a bake")
}

//! What the tests of publishing play on: a repository, a store with images that nobody baked, and a cloud.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use jiff::Timestamp;
use rekiln::catalog::{Catalog, Disk, Record, Verdict};
use rekiln::digest::Digest;
use rekiln::store::Store;
use serde_json::Value;

use super::cloud::{LOOK, Lease, PATIENCE};
use crate::sbom::record;

/// What EBS direct calls a block.
pub const BLOCK: usize = 512 * 1024;
/// No SDK's default, so that a region that gets lost is seen.
pub const REGION: &str = "eu-central-1";
pub const OTHER_REGION: &str = "eu-west-1";
/// The disk of most tests: 16 blocks, six of them with data, one written with zeros, the rest holes.
pub const SIZE: u64 = 16 * BLOCK as u64;
pub const FILLS: [(u64, u8); 7] = [(0, 1), (1, 2), (3, 3), (5, 0), (7, 4), (10, 5), (15, 6)];
/// How many of them have data.
pub const DATA: u64 = 6;

/// An image in the store.
pub struct Image {
    pub id: Digest,
    /// Of the whole disk.
    pub sha256: Digest,
    /// The digest of each block that is not all zero, filled up with zeros where the disk ends within it.
    pub blocks: BTreeMap<u64, String>,
}

impl Image {
    /// The name that its AMI has.
    pub fn ami_name(&self) -> String {
        format!("rekiln/web/{}", &self.id.to_string()[..16])
    }

    /// What a person types.
    pub fn short(&self) -> String {
        self.id.short()
    }
}

/// What is stored under a block's digest.
pub fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

/// A repository, a store and a cloud.
pub struct Stage {
    dir: tempfile::TempDir,
    /// The recipe `web` without anything about publishing.
    recipe: String,
    pub cloud: Lease,
}

/// A command that has ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The objects of one kind on standard output.
    pub fn events(&self, kind: &str) -> Vec<Value> {
        let lines = self.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON"));
        lines.filter(|event: &Value| event["event"] == kind).collect()
    }

    /// Fails unless it ended with `code`.
    pub fn must(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }
}

impl Stage {
    /// A stage whose recipe is published in one region, with nothing in its store.
    pub fn new() -> Self {
        let cloud = Lease::new();
        let dir = tempfile::tempdir().expect("a directory");
        let mut init = Command::new(env!("CARGO_BIN_EXE_rekiln"));
        let init = init.args(["init", "repo"]).current_dir(dir.path()).output().expect("rekiln starts");
        assert!(init.status.success(), "{init:?}");
        let recipe = fs::read_to_string(dir.path().join("repo/images/web.toml")).expect("a recipe");
        let stage = Self { dir, recipe, cloud };
        stage.clear();
        stage
    }

    /// Makes it as it was in the beginning.
    pub fn clear(&self) {
        self.cloud.reset();
        self.forget_store();
        self.publish_section(&format!("regions = [\"{REGION}\"]"));
    }

    /// Forgets everything in the store.
    pub fn forget_store(&self) {
        let root = self.path("store");
        if root.exists() {
            fs::remove_dir_all(root).expect("removed");
        }
    }

    /// Keeps nothing of the store but its images, as another machine has it that baked the same.
    pub fn keep_images_only(&self) {
        let images = self.path("images");
        fs::rename(self.path("store/images"), &images).expect("moved");
        self.forget_store();
        fs::create_dir(self.path("store")).expect("made");
        fs::rename(images, self.path("store/images")).expect("moved");
    }

    pub fn store(&self) -> Store {
        Store::open(&self.path("store").display().to_string()).expect("a store")
    }

    /// Writes `[publish]` of the recipe.
    pub fn publish_section(&self, lines: &str) {
        let text = format!("{}\n[publish]\n{lines}\n", self.recipe);
        fs::write(self.path("repo/images/web.toml"), text).expect("written");
    }

    /// Writes the recipe without `[publish]`.
    pub fn no_publish_section(&self) {
        fs::write(self.path("repo/images/web.toml"), &self.recipe).expect("written");
    }

    /// The repository.
    pub fn repo(&self) -> PathBuf {
        self.path("repo")
    }

    /// A file of the stage.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts an image of `web` into the store, with the disk that most tests use.
    pub fn usual_image(&self) -> Image {
        self.image("usual", SIZE, &FILLS)
    }

    /// Puts an image of `web` into the store: a disk of so many bytes, its blocks filled with so many marks; what is
    /// not named is a hole.
    pub fn image(&self, name: &str, size: u64, fills: &[(u64, u8)]) -> Image {
        let id = Digest::of(name.as_bytes());
        let dir = self.store().image(id);
        fs::create_dir_all(&dir).expect("made");
        let path = dir.join("disk.raw");
        let file = File::create(&path).expect("made");
        file.set_len(size).expect("sized");
        let mut blocks = BTreeMap::new();
        for (index, fill) in fills {
            let mut block = vec![0; BLOCK];
            let start = index * BLOCK as u64;
            let length = usize::try_from(size - start).expect("a size").min(BLOCK);
            // One byte a page, its last: whoever looks at less than the whole takes the block for zeros.
            block[..length].iter_mut().skip(4095).step_by(4096).for_each(|byte| *byte = *fill);
            file.write_all_at(&block[..length], start).expect("written");
            if *fill != 0 {
                blocks.insert(*index, digest(&block));
            }
        }
        let sha256 = Digest::of_file(&path).expect("read");
        let recorded = serde_json::to_vec(&blocks).expect("JSON");
        fs::write(dir.join("blocks.json"), &recorded).expect("written");
        let record = Record {
            id,
            disk: Disk { sha256, blocks: Some(Digest::of(&recorded)), size, partitions: Vec::new() },
            verdict: Some(verdict(true)),
            baked: Timestamp::now(),
            ..record("web")
        };
        self.save(&record);
        Image { id, sha256, blocks }
    }

    /// Puts a disk that is in a file into the store as an image of `web`.
    pub fn image_of(&self, file: &Path) -> Image {
        let id = Digest::of(b"of a file");
        let dir = self.store().image(id);
        fs::create_dir_all(&dir).expect("made");
        let path = dir.join("disk.raw");
        fs::copy(file, &path).expect("copied");
        let bytes = fs::read(&path).expect("read");
        let mut blocks = BTreeMap::new();
        for (index, part) in
            bytes.chunks(BLOCK).enumerate().filter(|(_, part)| part.iter().any(|byte| *byte != 0))
        {
            let mut block = part.to_owned();
            block.resize(BLOCK, 0);
            blocks.insert(index as u64, digest(&block));
        }
        let sha256 = Digest::of(&bytes);
        let recorded = serde_json::to_vec(&blocks).expect("JSON");
        fs::write(dir.join("blocks.json"), &recorded).expect("written");
        let size = bytes.len() as u64;
        let disk = Disk { sha256, blocks: Some(Digest::of(&recorded)), size, partitions: Vec::new() };
        let record =
            Record { id, disk, verdict: Some(verdict(true)), baked: Timestamp::now(), ..record("web") };
        self.save(&record);
        Image { id, sha256, blocks }
    }

    /// Changes what is recorded of an image.
    pub fn change_record(&self, image: &Image, change: impl FnOnce(&mut Record)) {
        let mut record = Catalog::new(self.store()).load(image.id).expect("a record");
        change(&mut record);
        self.save(&record);
    }

    fn save(&self, record: &Record) {
        Catalog::new(self.store()).save(record).expect("saved");
    }

    /// Where the disk of an image lies.
    pub fn disk(&self, image: &Image) -> PathBuf {
        self.store().image(image.id).join("disk.raw")
    }

    /// `rekiln --json` on this repository, store and cloud, with nothing of this machine's own settings for AWS.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rekiln"));
        for (name, _) in std::env::vars_os() {
            let lower = name.to_string_lossy().to_lowercase();
            if lower.starts_with("aws_") || lower.ends_with("_proxy") || lower == "rekiln_store" {
                command.env_remove(name);
            }
        }
        command
            .env("AWS_ENDPOINT_URL", self.cloud.url())
            .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")])
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs([("AWS_CONFIG_FILE", "/dev/null"), ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")])
            .arg("--json")
            .args(["--store".as_ref(), self.path("store").as_os_str()])
            .args(["-C".as_ref(), self.path("repo").as_os_str()])
            .args(args)
            .stdin(Stdio::null())
            .current_dir(self.dir.path());
        command
    }

    pub fn run(&self, args: &[&str]) -> Ended {
        ended(&mut self.command(args))
    }

    /// Publishes an image, which must work, and returns what is said of each region.
    pub fn publish(&self, image: &Image) -> Vec<Value> {
        self.run(&["publish", &image.short()]).must(0).events("published")
    }

    /// Starts publishing an image.
    pub fn start(&self, image: &Image) -> Started {
        self.begin(&["publish", &image.short()])
    }

    /// Starts a command.
    pub fn begin(&self, args: &[&str]) -> Started {
        self.begin_with(args, &[])
    }

    /// Starts a command in an environment of its own.
    pub fn begin_with(&self, args: &[&str], environment: &[(&str, &str)]) -> Started {
        // Several may run at a time.
        let number = fs::read_dir(self.dir.path()).expect("a directory").count();
        let (out, err) = (self.path(&format!("stdout-{number}")), self.path(&format!("stderr-{number}")));
        let mut command = self.command(args);
        command.envs(environment.iter().copied());
        command.stdout(File::create(&out).expect("made")).stderr(File::create(&err).expect("made"));
        Started { child: command.spawn().expect("rekiln starts"), out, err }
    }

    /// The one AMI and the one snapshot of a region.
    pub fn only(&self, region: &str) -> (Value, Value) {
        let state = self.cloud.state();
        let of_region = |kind: &str| {
            let all = state[kind].as_array().expect("a list").iter();
            let found: Vec<_> = all.filter(|entry| entry["region"] == region).cloned().collect();
            assert_eq!(found.len(), 1, "{kind} of {region}: {state:#}");
            found[0].clone()
        };
        (of_region("images"), of_region("snapshots"))
    }

    /// Fails unless a region has this image, whole and once, and nothing else; returns its AMI and its snapshot.
    pub fn must_have(&self, region: &str, image: &Image) -> (Value, Value) {
        let (ami, snapshot) = self.only(region);
        assert_eq!((&ami["name"], &ami["state"]), (&image.ami_name().into(), &"available".into()));
        assert_eq!(snapshot["state"], "completed");
        assert_eq!(ami["snapshots"], Value::from(vec![snapshot["id"].clone()]));
        assert_eq!(ami["tags"]["rekiln:image"], image.id.to_string());
        assert_eq!(self.cloud.content(snapshot["id"].as_str().expect("an id")), image.blocks);
        (ami, snapshot)
    }

    /// What the cloud has, without what differs between two ways to the same end: ids, times, whose run it was.
    pub fn shape(&self) -> Value {
        let state = self.cloud.state();
        let mut text = state.to_string();
        for (kind, word) in [("snapshots", "snapshot"), ("images", "ami")] {
            for (number, entry) in state[kind].as_array().expect("a list").iter().enumerate() {
                text = text.replace(entry["id"].as_str().expect("an id"), &format!("{word} {number}"));
            }
        }
        let mut state: Value = serde_json::from_str(&text).expect("JSON");
        for kind in ["snapshots", "images"] {
            for entry in state[kind].as_array_mut().expect("a list") {
                for tag in ["rekiln:run", "rekiln:expires"] {
                    if let Some(value) = entry["tags"].get_mut(tag) {
                        *value = "some".into();
                    }
                }
                if entry["deprecation"].is_string() {
                    entry["deprecation"] = "some".into();
                }
            }
        }
        // A put whose answer was lost is put again: what counts is that every version says the same.
        let parameters = state["parameters"].as_array_mut().expect("a list");
        for parameter in &mut *parameters {
            parameter["version"] = Value::Null;
        }
        parameters.dedup();
        state
    }

    /// Fails unless the cloud's shape is this one, and shows what is different only.
    pub fn must_be_as(&self, shape: &Value) {
        let texts = [shape, &self.shape()].map(|shape| format!("{shape:#}"));
        let [wanted, found] = texts.each_ref().map(|text| text.lines().collect::<Vec<_>>());
        let without = |these: &[&str], those: &[&str]| {
            these.iter().filter(|line| !those.contains(line)).copied().collect::<Vec<_>>().join("\n")
        };
        let (missing, new) = (without(&wanted, &found), without(&found, &wanted));
        assert!(texts[0] == texts[1], "missing:\n{missing}\nnew:\n{new}");
    }
}

/// What booting an image said.
pub fn verdict(passed: bool) -> Verdict {
    Verdict {
        passed,
        reasons: Vec::new(),
        open_ports: Vec::new(),
        ready_s: None,
        serving_s: None,
        accelerator: "tcg".to_owned(),
        failed_units: Vec::new(),
        at: Timestamp::UNIX_EPOCH,
    }
}

/// Runs a command to its end.
pub fn ended(command: &mut Command) -> Ended {
    let Output { status, stdout, stderr } = command.output().expect("rekiln starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ended { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// Runs a command on another computer, as far as a process can tell.
pub fn elsewhere(there: &Command) -> Ended {
    let mut command = Command::new("unshare");
    command.args(["--uts", "sh", "-c", "hostname elsewhere && exec \"$@\"", "sh"]);
    command.arg(there.get_program()).args(there.get_args());
    command.current_dir(there.get_current_dir().expect("a directory"));
    for (name, value) in there.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    ended(&mut command)
}

/// A command that runs; it ends with the test.
pub struct Started {
    pub child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Started {
    /// What it has printed so far.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.out).expect("UTF-8")
    }

    pub fn end(&mut self) -> Ended {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(LOOK);
        };
        let text = |path: &Path| fs::read_to_string(path).expect("UTF-8");
        Ended { code: status.code(), stdout: text(&self.out), stderr: text(&self.err) }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes a byte of a disk anew.
pub fn overwrite(path: &Path, offset: u64, byte: u8) {
    let file = File::options().write(true).open(path).expect("a disk");
    file.write_all_at(&[byte], offset).expect("written");
    (&file).flush().expect("written");
}

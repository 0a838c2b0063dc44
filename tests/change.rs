//! What a change does, told from Git before it is merged: real repositories, branches and clones; nothing is baked.

mod signed;
mod vulnerabilities;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use rekiln::digest::Digest;
use rekiln::fleet::history::Event;
use rekiln::fleet::journal::{Journal, Writer};
use rekiln::store::Store;
use serde_json::Value;

/// What Git must not take from whoever runs the tests.
const IDENTITY: [&str; 6] =
    ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "protocol.file.allow=always"];

/// A repository with the images and fleets of this one.
struct Site {
    dir: tempfile::TempDir,
    repo: PathBuf,
}

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Site {
    fn new() -> Self {
        Self::below("")
    }

    /// The repository lies in a folder of a larger one.
    fn below(folder: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let top = dir.path().join("repo");
        let repo = top.join(folder);
        for part in ["images", "fleets", "bootstrap/web"] {
            let to = repo.join(part);
            fs::create_dir_all(&to).expect("a folder");
            for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(part)).expect("listed") {
                let from = entry.expect("an entry").path();
                // The databases have templates of their own, and nothing here is about them.
                let databases =
                    from.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"db"));
                if from.is_file() && !databases {
                    fs::copy(&from, to.join(from.file_name().expect("a name"))).expect("copied");
                }
            }
        }
        git(&top, &["init", "-q", "-b", "main"]);
        let site = Self { dir, repo };
        site.commit("the beginning");
        site
    }

    fn git(&self, args: &[&str]) -> String {
        git(&self.repo, args)
    }

    fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all", "."]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn edit(&self, path: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.repo.join(path)).expect("read");
        assert!(text.contains(from), "{path} has no {from}");
        fs::write(self.repo.join(path), text.replacen(from, to, 1)).expect("written");
    }

    fn plan(&self, args: &[&str]) -> Ended {
        plan(&self.repo, &self.dir.path().join("store"), args)
    }

    fn json(&self, from: &str) -> Value {
        let ended = self.plan(&["--from", from, "--format", "json"]);
        serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|_| panic!("no JSON: {} {}", ended.stdout, ended.stderr))
    }
}

fn plan(repo: &Path, store: &Path, args: &[&str]) -> Ended {
    rekiln(repo, store, &[&["plan"], args].concat())
}

fn rekiln(repo: &Path, store: &Path, args: &[&str]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_rekiln"))
        .args(["-C".as_ref(), repo.as_os_str(), "--store".as_ref(), store.as_os_str()])
        .args(args)
        .env_remove("REKILN_VULNERABILITIES")
        .output()
        .expect("rekiln starts");
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

pub fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git").arg("-C").arg(dir).args(IDENTITY).args(args).output().expect("git runs");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

fn names(list: &Value) -> Vec<(&str, &str)> {
    let list = list.as_array().expect("a list").iter();
    list.map(|one| (one["name"].as_str().expect("a name"), one["effect"].as_str().unwrap_or("image")))
        .collect()
}

#[test]
fn a_group_is_as_large_as_its_journal_says() {
    let site = Site::new();
    let file = "image = 'web'\n[aws]\nregion = 'eu-central-1'\nauto_scaling_group = 'api'\n[health]\n";
    fs::write(site.repo.join("fleets/api.toml"), file).expect("written");
    site.commit("a group");
    site.git(&["checkout", "-q", "-b", "feature"]);
    site.edit("bootstrap/web/index.html.hbs", "<", "<!-- x --><");
    site.commit("another page");
    let api = || {
        let change = site.json("main");
        assert_eq!(names(&change["fleets"]), [("api", "rolls"), ("web", "rolls")]);
        change["fleets"][0].clone()
    };
    // Nobody has rolled it from here.
    let fleet = api();
    assert_eq!((&fleet["size"], &fleet["rehearsal"]), (&Value::Null, &Value::Null));
    let store = Store::open(&site.dir.path().join("store").display().to_string()).expect("a store");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let written = runtime.block_on(async {
        let mut journal = Journal::open(&store.objects(), "api", Writer::this("a roll")).await?;
        journal.record(Timestamp::now(), Event::Sized { size: 4, lost: 0 }).await
    });
    written.expect("written");
    let fleet = api();
    assert_eq!((&fleet["size"], &fleet["rehearsal"]["completed"]), (&4.into(), &true.into()));
    assert!(fleet["rehearsal"]["lowest"].as_u64() >= Some(4), "{fleet:#}");
}

#[test]
fn what_reaches_no_image_changes_none() {
    let site = Site::new();
    fs::write(site.repo.join("README.md"), "more words").expect("written");
    site.commit("words");
    // What is not committed is no part of it, and stays as it is.
    site.edit("bootstrap/web/index.html.hbs", "<", "<!-- not committed --><");
    let before = site.git(&["status", "--porcelain"]);
    let ended = site.plan(&["--from", "HEAD~1"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.trim_end().ends_with(": no image and no fleet changes"), "{}", ended.stdout);
    assert_eq!(site.git(&["status", "--porcelain"]), before);
    assert_eq!(crate::bake::names(&site.dir.path().join("store/tmp")), [""; 0]);
}

#[test]
fn a_template_changes_the_images_that_use_it_and_rolls_their_fleets() {
    // Deep in a repository of something else, where paths are relative to another place.
    let site = Site::below("platform/images repo");
    site.git(&["checkout", "-q", "-b", "feature"]);
    site.edit("bootstrap/web/index.html.hbs", "<", "<!-- x --><");
    let commit = site.commit("another page");
    let change = site.json("main");
    assert_eq!(change["to"], commit);
    assert_eq!(names(&change["images"]), [("web", "image")]);
    let image = &change["images"][0];
    assert_eq!(image["because"], serde_json::json!(["templates of images/web.toml"]));
    assert_eq!((&image["baked"], &image["read"]), (&"no".into(), &false.into()));
    let files = image["diff"]["files"]["changed"].as_object().expect("files");
    assert_eq!(files.keys().collect::<Vec<_>>(), ["/usr/share/rekiln/site/index.html"]);
    assert!(image["diff"]["packages"]["changed"].as_object().expect("a table").is_empty());
    // What git says is what a bake of that commit would give.
    let id =
        Command::new(env!("CARGO_BIN_EXE_rekiln")).arg("-C").arg(&site.repo).args(["id", "web"]).output();
    let id = String::from_utf8(id.expect("it runs").stdout).expect("UTF-8");
    assert_eq!(image["new"]["id"], id.trim());
    assert_eq!(names(&change["fleets"]), [("web", "rolls")]);
    let fleet = &change["fleets"][0];
    assert_eq!((&fleet["size"], &fleet["because"]), (&3.into(), &serde_json::json!(["image web"])));
    // The fleet's file says that one more than three may be there, and never one less.
    let rehearsed = &fleet["rehearsal"];
    assert_eq!(
        (&rehearsed["completed"], &rehearsed["lowest"], &rehearsed["highest"]),
        (&true.into(), &3.into(), &4.into())
    );
    let comment = site.plan(&["--from", "main", "--format", "markdown"]);
    assert_eq!(comment.code, Some(0));
    for words in [
        "### rekiln: 1 image changes, 1 fleet to roll",
        "| `web` | `web` | 3 | replaces 3 instances; about ",
        "<details><summary><b>web</b>: 1 file</summary>",
        "From Git alone",
    ] {
        assert!(comment.stdout.contains(words), "{words}: {}", comment.stdout);
    }
}

#[test]
fn new_packages_of_a_parent_change_what_stands_on_it() {
    let site = Site::new();
    let old = Digest::of(&fs::read(site.repo.join("images/base.lock")).expect("read")).to_string();
    let text = fs::read_to_string(site.repo.join("images/base.lock")).expect("read");
    let version = text
        .lines()
        .skip_while(|line| *line != "name = \"libc6\"")
        .find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"').map(str::to_owned));
    let version = version.expect("libc6's version");
    site.edit("images/base.lock", &format!("version = \"{version}\""), "version = \"2099a-1\"");
    let new = Digest::of(&fs::read(site.repo.join("images/base.lock")).expect("read")).to_string();
    site.edit("images/web.lock", &old, &new);
    site.commit("an update");
    let change = site.json("HEAD~1");
    assert_eq!(
        names(&change["images"]),
        [("base", "image"), ("web", "image")],
        "what stands on another comes later"
    );
    for image in change["images"].as_array().expect("a list") {
        assert_eq!(
            image["diff"]["packages"]["changed"],
            serde_json::json!({ "libc6": [version, "2099a-1"] })
        );
    }
    let because = &change["images"][1]["because"];
    assert_eq!(*because, serde_json::json!(["images/base.lock", "images/web.lock"]));
    let text = site.plan(&["--from", "HEAD~1"]).stdout;
    assert!(text.contains(&format!("~ libc6  {version} -> 2099a-1")), "{text}");
}

#[test]
fn what_a_merge_could_not_bake_is_said_and_refused() {
    let site = Site::new();
    // A recipe whose lock was forgotten.
    site.edit("images/web.toml", "\"nginx-light\"", "\"nginx-light\", \"curl\"");
    site.commit("curl");
    let ended = site.plan(&["--from", "HEAD~1", "--format", "markdown"]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    for words in
        ["not valid: a merge would fail", "images/web.lock does not fit its recipe", "cannot roll it"]
    {
        assert!(ended.stdout.contains(words), "{words}: {}", ended.stdout);
    }
    // A recipe that is none: the comment is there all the same, and the finding has its place.
    site.edit("images/web.toml", "packages = [", "packges = [");
    site.commit("a slip");
    let ended = site.plan(&["--from", "HEAD~2", "--format", "markdown"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stdout.contains("images/web.toml:3:1: unknown key"), "{}", ended.stdout);
    assert!(ended.stderr.contains("did you mean `packages`?"), "{}", ended.stderr);
    // Going back to what is good is a change too.
    site.git(&["revert", "--no-edit", "-n", "HEAD", "HEAD~1"]);
    site.commit("as it was");
    let change = site.json("HEAD~1");
    assert_eq!(change["images"][0]["new"]["state"], "known");
    assert_eq!(change["images"][0]["old"]["state"], "broken");
}

#[test]
fn a_fleets_own_changes_are_told_apart() {
    let site = Site::new();
    let effect = |message: &str| {
        site.commit(message);
        let change = site.json("HEAD~1");
        assert!(change["images"].as_array().expect("a list").is_empty(), "{change}");
        change["fleets"].clone()
    };
    site.edit("fleets/web.toml", "failures = 1", "failures = 2");
    assert_eq!(names(&effect("more patience")), [("web", "settings")]);
    site.edit("fleets/web.toml", "size = 3", "size = 5");
    let resized = effect("more of them");
    assert_eq!(names(&resized), [("web", "resized")]);
    assert_eq!(resized[0]["because"], serde_json::json!(["size 5 instead of 3"]));
    site.edit("fleets/web.toml", "memory = \"256M\"", "memory = \"512M\"");
    let rolled = effect("more memory");
    assert_eq!(names(&rolled), [("web", "rolls")]);
    assert_eq!(rolled[0]["because"], serde_json::json!(["memory 512M instead of 256M"]));
    // In three days: nothing moves when this is merged.
    let text = fs::read_to_string(site.repo.join("fleets/web.toml")).expect("read");
    let (name, port) = ("fleets/edge.toml", "127.0.0.1:8081");
    let day = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(3 * 24)).strftime("%a");
    let shut = text.replace("127.0.0.1:8080", port);
    let shut = shut.replace("[roll]", &format!("[roll]\nwindows = [\"{day} 02:00-03:00\"]"));
    fs::write(site.repo.join(name), shut).expect("written");
    let made = effect("an edge");
    assert_eq!(names(&made), [("edge", "new")], "{made}");
    assert!(made[0]["holds"][0].as_str().expect("a hold").starts_with("its window, which opens "), "{made}");
    fs::remove_file(site.repo.join(name)).expect("removed");
    assert_eq!(names(&effect("no edge")), [("edge", "removed")]);
}

#[test]
fn what_all_shards_share_changes_all_of_them() {
    let site = Site::new();
    let effect = |message: &str| {
        site.commit(message);
        site.json("HEAD~1")["fleets"].clone()
    };
    let shard =
        |name: &str, port: u16| format!("[[shard]]\nname = \"{name}\"\nlisten = \"127.0.0.1:{port}\"\n");
    let text = fs::read_to_string(site.repo.join("fleets/web.toml")).expect("read");
    let file = format!("{text}\n{}{}", shard("b", 1), shard("a", 2));
    fs::write(site.repo.join("fleets/web.toml"), file).expect("written");
    let split = effect("two instead of one");
    assert_eq!(names(&split), [("web", "removed"), ("web-a", "new"), ("web-b", "new")]);
    assert_eq!(split[0]["because"], serde_json::json!(["fleets/web.toml has the shards web-b, web-a now"]));
    assert_eq!(split[1]["because"], serde_json::json!(["shard `a` of fleets/web.toml is new"]));
    site.edit("fleets/web.toml", "memory = \"256M\"", "memory = \"512M\"");
    assert_eq!(names(&effect("more memory")), [("web-a", "rolls"), ("web-b", "rolls")]);
    site.edit("fleets/web.toml", "127.0.0.1:1\"\n", "127.0.0.1:1\"\nsize = 4\n");
    let resized = effect("one is larger");
    assert_eq!(names(&resized), [("web-b", "resized")]);
    assert_eq!(resized[0]["because"], serde_json::json!(["size 4 instead of 3"]));
    let text = fs::read_to_string(site.repo.join("fleets/web.toml")).expect("read");
    fs::write(site.repo.join("fleets/web.toml"), format!("{text}{}", shard("c", 3))).expect("written");
    assert_eq!(names(&effect("a third")), [("web-c", "new")]);
    fs::write(site.repo.join("fleets/web.toml"), text).expect("written");
    let gone = effect("no third");
    assert_eq!(names(&gone), [("web-c", "removed")]);
    assert_eq!(gone[0]["because"], serde_json::json!(["shard `c` of fleets/web.toml is gone"]));
    // A name is what a fleet is.
    site.edit("fleets/web.toml", "name = \"b\"", "name = \"z\"");
    assert_eq!(names(&effect("another name")), [("web-b", "removed"), ("web-z", "new")]);
}

#[test]
fn what_others_merged_meanwhile_is_no_part_of_a_change() {
    let site = Site::new();
    site.git(&["checkout", "-q", "-b", "feature"]);
    site.edit("bootstrap/web/index.html.hbs", "<", "<!-- x --><");
    site.commit("another page");
    site.git(&["checkout", "-q", "main"]);
    site.edit("fleets/web.toml", "memory = \"256M\"", "memory = \"512M\"");
    site.commit("more memory");
    site.git(&["checkout", "-q", "feature"]);
    let change = site.json("main");
    assert_eq!(change["fleets"][0]["because"], serde_json::json!(["image web"]), "its memory is main's");
    assert!(change["note"].as_str().expect("a note").contains("main has gone on"), "{change}");
    // In a clone of the last commit alone, the other end is not there.
    let clone = site.dir.path().join("clone");
    let url = format!("file://{}", site.repo.display());
    git(site.dir.path(), &["clone", "-q", "--depth", "1", "--branch", "feature", &url, "clone"]);
    let ended = plan(&clone, &site.dir.path().join("store"), &["--from", "origin/main"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("a shallow clone knows the newest commits only"), "{}", ended.stderr);
    // With both ends and no history between them, it is said what that means.
    git(&clone, &["fetch", "-q", "--depth", "1", "origin", "main:refs/remotes/origin/main"]);
    let ended = plan(&clone, &site.dir.path().join("store"), &["--from", "origin/main"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("is told as if it were undone"), "{}", ended.stdout);
}

#[test]
fn revisions_that_are_none_and_submodules_are_refused() {
    let site = Site::new();
    for (args, words) in [
        (vec!["--from", "nowhere"], "knows no revision `nowhere`"),
        (vec!["--from=--upload-pack=x"], "knows no revision `--upload-pack=x`"),
        (vec!["--to", "HEAD"], "--from"),
        (vec!["web", "--from", "HEAD"], "cannot be used with"),
    ] {
        let ended = site.plan(&args);
        assert_eq!((ended.code, ended.stderr.contains(words)), (Some(2), true), "{args:?}: {}", ended.stderr);
    }
    // A file's name is data, whatever it is.
    for name in ["a b", "-rf", "ü\"'`|*", "new\nline"] {
        fs::write(site.repo.join("bootstrap").join(format!("{name}.hbs")), "text").expect("written");
    }
    site.commit("odd names");
    let ended = site.plan(&["--from", "HEAD~1"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let other = site.dir.path().join("other");
    fs::create_dir(&other).expect("a folder");
    git(&other, &["init", "-q", "-b", "main"]);
    git(&other, &["commit", "-q", "--allow-empty", "-m", "x"]);
    site.git(&["submodule", "add", "-q", other.to_str().expect("UTF-8"), "bootstrap/shared"]);
    site.commit("a submodule");
    let ended = site.plan(&["--from", "HEAD~1"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("`bootstrap/shared` is a submodule in "), "{}", ended.stderr);
}

//! `rekiln gc` on stores that this test filled: what reaches an image keeps it, what nothing reaches goes, nothing else
//! changes, and wherever it is killed no half image is left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rekiln::catalog::marks::Mark;
use rekiln::catalog::pins::pins;
use rekiln::claim::Claimed;
use rekiln::digest::Digest;
use rekiln::fleet::census::InstanceId;
use rekiln::fleet::history::Event;
use rekiln::fleet::journal::{Journal, Writer};
use rekiln::gc::look::Sources;
use rekiln::gc::remove::remove;
use rekiln::gc::{Kind, Rules, plan};
use rekiln::git;
use rekiln::progress::{Event as Said, Progress, Silent};
use rekiln::provider::Action;
use rekiln::store::Store;
use rustix::process::Signal;
use serde_json::Value;

use super::{Desk, block_on, image, short};
use crate::fleet::stage::{again, signal};

/// Where a process that collects finds its store, and after which removal it kills itself.
const COLLECTING: &str = "REKILN_TEST_COLLECTING";

/// Older than what is kept for its age.
const OLD_DAYS: i64 = 30;

/// Sets when a file or a directory was made.
fn date(path: &Path, days: i64) {
    let then = std::time::SystemTime::now() - Duration::from_secs(days.unsigned_abs() * 86_400);
    fs::File::open(path).expect("opened").set_modified(then).expect("dated");
}

impl Desk {
    /// Makes the desk's directory a repository, its locks real ones, and returns what Git asks for and the commit.
    fn committed(&self) -> (Digest, String) {
        let wanted = self.lock();
        git::init(self.dir.path()).expect("a repository");
        (wanted, git::commit_all(self.dir.path(), "as it is").expect("committed"))
    }

    /// Changes a template, and with it the image that Git asks for; returns that.
    fn change(&self, text: &str) -> Digest {
        fs::write(self.dir.path().join("bootstrap/web/index.html.hbs"), text).expect("written");
        self.json(&["id", "web"])["id"].as_str().expect("an id").parse().expect("an id")
    }

    /// Puts an image of `web`, so many days old and made from a layer, a kernel and an input of its own, into the store.
    fn aged(&self, id: Digest, days: i64) {
        self.catalog(id, "web", true);
        let file = self.store.image(id).join("record.json");
        let mut record: Value = serde_json::from_slice(&fs::read(&file).expect("read")).expect("JSON");
        record["baked"] = (Timestamp::now() - SignedDuration::from_hours(24 * days)).to_string().into();
        let [layer, kernel, input] = made_from(id);
        record["layers"] = serde_json::json!([{ "image": "web", "kind": "files", "key": layer, "sha256": id,
            "offset": 0, "size": 4096 }]);
        record["kernel"] = kernel.to_string().into();
        let bill =
            serde_json::json!({ "components": [{ "hashes": [{ "alg": "SHA-256", "content": input }] }] });
        fs::write(self.store.image(id).join("sbom.cdx.json"), bill.to_string()).expect("written");
        fs::write(self.store.image(id).join("disk.raw"), vec![1; 10_000]).expect("written");
        fs::write(file, record.to_string()).expect("written");
        for key in [layer, kernel] {
            let dir = self.store.layer(key);
            fs::create_dir_all(dir.join("tree/etc")).expect("made");
            fs::write(dir.join("tree/etc/passwd"), "root").expect("written");
            fs::write(dir.join("layer.json"), "{}").expect("written");
            date(&dir, days);
        }
        fs::write(self.store.vault(input), vec![2; 5_000]).expect("written");
        date(&self.store.vault(input), days);
    }

    /// Runs `rekiln gc` and returns its objects.
    fn gc(&self, args: &[&str]) -> Vec<Value> {
        let output = self.run(&[&["--json", "gc"], args].concat());
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Runs `rekiln gc`, which must end with `code` and change nothing, and say `part`.
    fn refused(&self, args: &[&str], code: i32, part: &str) {
        let before = files(self.store.root());
        self.says(&[&["gc"], args].concat(), code, part);
        assert_eq!(files(self.store.root()), before);
    }

    fn images(&self) -> BTreeSet<Digest> {
        names(&self.store.images())
    }
}

/// Returns the layer, the kernel's layer and the input that an image was made from.
fn made_from(id: Digest) -> [Digest; 3] {
    ["layer", "kernel", "input"].map(|what| image(&format!("{what} of {id}")))
}

fn names(dir: &Path) -> BTreeSet<Digest> {
    let names = fs::read_dir(dir).expect("listed").map(|entry| entry.expect("listed").file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).collect()
}

/// Returns every file below a store with its bytes, but for the lock and scratch space.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(fs::read_dir(&path).expect("listed").map(|entry| entry.expect("listed").path()));
        } else {
            files.insert(path.clone(), fs::read(&path).expect("read"));
        }
    }
    files.retain(|path, _| !path.ends_with("gc.lock") && !path.starts_with(dir.join("tmp")));
    files
}

/// Returns why an object of `rekiln gc --json` says that a thing is kept or removed.
fn why(objects: &[Value], id: Digest) -> (String, String) {
    let found: Vec<_> = objects.iter().filter(|object| object["id"] == id.to_string()).collect();
    let [object] = found[..] else { panic!("{id}: {objects:#?}") };
    let why: Vec<_> = object["why"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    (object["event"].as_str().expect("a word").to_owned(), why.join("; "))
}

#[test]
fn whatever_reaches_an_image_keeps_it_and_the_rest_goes() {
    let mut desk = Desk::new();
    let (tagged, tag) = desk.committed();
    let head = desk.change("the second");
    git::commit_all(desk.dir.path(), "second").expect("committed");
    let tree = desk.change("not committed");
    assert_eq!(BTreeSet::from([tagged, head, tree]).len(), 3);
    let kept = [
        (tagged, format!("fleet api at {tag} asks for it; fleet web at {tag} asks for it")),
        (head, "fleet api at HEAD asks for it; fleet web at HEAD asks for it".to_owned()),
        (tree, "fleet api in the work tree asks for it; fleet web in the work tree asks for it".to_owned()),
        (image("target"), "fleet web is being rolled to it".to_owned()),
        (image("proven"), "fleet web completed with it last".to_owned()),
        (image("previous"), "fleet web completed with it before".to_owned()),
        (image("member"), "the journal of fleet web has instances of it".to_owned()),
        (image("machine"), "fleet api runs it".to_owned()),
        (image("evidence"), "evidence of fleet web is of it".to_owned()),
        (image("pinned"), "pinned by a person since 1970-01-01T00:00:00Z: the last of its kind".to_owned()),
        (image("claimed"), format!("a test (process {}) uses it", std::process::id())),
    ];
    // Older than those that nothing reaches, so that none of them is the newest.
    for (id, _) in &kept {
        desk.aged(*id, OLD_DAYS + 10);
    }
    for name in ["old", "quarantined"] {
        desk.aged(image(name), OLD_DAYS);
    }
    desk.aged(image("newest"), 8);
    desk.aged(image("young"), 1);
    desk.says(&["quarantine", "add", &image("quarantined").to_string(), "--reason", "bad"], 0, "no fleet");
    desk.says(&["quarantine", "add", &image("young").to_string(), "--reason", "bad"], 0, "no fleet");
    let half = desk.store.image(image("half"));
    fs::create_dir_all(&half).expect("made");
    fs::write(half.join("disk.raw"), "half").expect("written");
    date(&half, OLD_DAYS);
    let newer = desk.store.image(image("newer"));
    fs::create_dir_all(&newer).expect("made");
    fs::write(newer.join("record.json"), r#"{"version":2}"#).expect("written");
    date(&newer, OLD_DAYS);

    let member = desk.target("member").generation;
    let launch =
        Action::Launch { id: InstanceId::new("web", 7), generation: member, zone: None, founds: false };
    let opened = |name| desk.opened(name);
    desk.journal(vec![opened("previous"), Event::Completed, opened("proven"), Event::Completed], false);
    desk.journal(vec![opened("target"), Event::Intent { action: launch }], false);
    desk.machine("api", 1, image("machine"), 1);
    desk.machine("web", 9, image("evidence"), 1);
    fs::create_dir_all(desk.store.evidence("web")).expect("made");
    fs::rename(desk.store.local("web").join("web-9"), desk.store.evidence("web").join("web-9"))
        .expect("moved");
    let (reason, by) = ("the last of its kind".to_owned(), "a person".to_owned());
    let at = Timestamp::UNIX_EPOCH;
    let pin = Mark { image: image("pinned"), reason, by, at };
    block_on(pins(&desk.store).add(&pin)).expect("pinned");
    let _claim = Claimed::image("a test", image("claimed")).hold(&desk.store).expect("held");
    fs::write(desk.store.images().join("notes.txt"), "a person's").expect("written");
    fs::write(desk.store.inputs().join("notes.txt"), "a person's").expect("written");

    let before = files(desk.store.root());
    let args = ["--ref", &tag, "--keep", "1", "--dry-run"];
    let dry = desk.gc(&args);
    assert_eq!(files(desk.store.root()), before, "a dry run changes nothing");
    let said = desk.gc(&["--ref", &tag, "--keep", "1", "--yes"]);
    for (id, words) in &kept {
        assert_eq!(why(&said, *id), ("keeps".to_owned(), words.clone()));
        for part in made_from(*id) {
            let made = format!("image {} was made from it", id.short());
            assert_eq!(why(&said, part), ("keeps".to_owned(), made));
        }
    }
    for (name, event, words) in [
        ("newest", "keeps", "the newest of its recipe"),
        ("young", "keeps", "made 24 h"),
        ("newer", "keeps", "its record does not read"),
        ("old", "removes", "nothing reaches it, 1 of its recipe are newer"),
        ("quarantined", "removes", "nothing reaches it, no fleet may run it"),
        ("half", "removes", "half an image: it has no record"),
    ] {
        let (did, why) = why(&said, image(name));
        assert!(did == event && why.starts_with(words), "{name}: {did} {why}");
    }

    let gone = ["old", "quarantined", "half"].map(image);
    let after = files(desk.store.root());
    let parts = gone.iter().flat_map(|id| made_from(*id));
    let places = parts.flat_map(|part| [desk.store.layer(part), desk.store.vault(part)]);
    let places: Vec<_> = places.chain(gone.iter().map(|id| desk.store.image(*id))).collect();
    let expected: BTreeMap<_, _> =
        before.into_iter().filter(|(path, _)| !places.iter().any(|place| path.starts_with(place))).collect();
    assert_eq!(after, expected, "nothing else changed");
    // The quarantine outlives the image.
    desk.says(&["quarantine", "list"], 0, &short("quarantined"));

    let last = said.last().expect("an object");
    assert_eq!((&last["images"], &last["layers"], &last["inputs"]), (&3.into(), &4.into(), &2.into()));
    assert_eq!((&last["event"], &last["dry_run"]), (&"collected".into(), &false.into()));
    assert!(last["bytes"].as_u64() >= Some(2 * 15_000), "{last}");
    let dry = dry.last().expect("an object");
    assert_eq!((&dry["bytes"], &dry["dry_run"]), (&last["bytes"], &true.into()));
    let again = desk.gc(&["--ref", &tag, "--keep", "1", "--yes"]);
    assert_eq!(again.last().expect("an object")["images"], 0);

    // Without the revision, and without the instances, what they reached goes.
    desk.says(&["gc", "--keep", "1", "--yes"], 0, "1 image, 2 layers and 1 input");
    assert!(!desk.images().contains(&tagged) && desk.images().contains(&head));
    desk.journal(vec![Event::Down], false);
    desk.says(&["gc", "--keep", "1", "--yes"], 0, "4 images, 8 layers and 4 inputs");
}

#[test]
fn nothing_goes_without_a_yes_or_where_reach_cannot_be_told() {
    let desk = Desk::new();
    let (wanted, _) = desk.committed();
    desk.aged(image("old"), OLD_DAYS);
    desk.aged(image("older"), OLD_DAYS + 1);
    let all = ["--keep", "0", "--yes"];
    desk.refused(&["--keep", "0"], 2, "gc needs a confirmation: it removes 2 images, 4 layers and 2 inputs");
    desk.refused(&["--ref", "nowhere", "--yes"], 2, "Git knows no revision `nowhere`");
    desk.refused(&["--ref=--all", "--yes"], 2, "Git knows no revision `--all`");
    desk.refused(&["--younger", "old"], 2, "is not a duration");
    desk.refused(&["--dry-run"], 0, "would go: 0 images, 0 layers and 0 inputs (0.0 MiB)");

    let spoiled = |file: &Path, text: &str, code, part: &str| {
        let before = fs::read(file).ok();
        fs::create_dir_all(file.parent().expect("a parent")).expect("made");
        fs::write(file, text).expect("written");
        desk.refused(&all, code, part);
        desk.refused(&all, code, "nothing was removed, as this may reach anything");
        match before {
            Some(bytes) => fs::write(file, bytes).expect("written"),
            None => fs::remove_file(file).expect("removed"),
        }
    };
    let (repo, store) = (desk.dir.path().to_owned(), desk.store.root().to_owned());
    let file = |path: &str| store.join(path);
    spoiled(&file(&format!("pins/{}.json", image("pin"))), "{", 1, "pins");
    spoiled(&file("local/web/web-1/instance.json"), "{", 1, "web-1");
    spoiled(&file("evidence/web/web-1/instance.json"), "{", 1, "web-1");
    spoiled(&file("journal/web/00000000000000000001.json"), "{", 1, "journal of web");
    spoiled(&file("journal/web/00000000000000000002.json"), "{}", 1, "journal of web is broken");
    spoiled(&file(&format!("quarantine/{}.json", image("old"))), "{", 1, "quarantine");
    spoiled(&repo.join("fleets/web.toml"), "size = 'many'", 2, "fleets/web.toml");
    spoiled(&repo.join("images/other.lock"), "no lock", 1, "other.lock");
    // Where the image id cannot be computed, all images of the recipe may be meant.
    let lock = repo.join("images/base.lock");
    let text = fs::read_to_string(&lock).expect("read");
    fs::write(&lock, text.clone() + "# changed\n").expect("written");
    desk.refused(&all, 0, "nothing to remove");
    fs::write(&lock, text).expect("written");
    // So may they where the recipe is not valid; one that no fleet has is nobody's reason.
    let recipe = repo.join("images/web.toml");
    let text = fs::read_to_string(&recipe).expect("read");
    fs::write(&recipe, text.clone() + "nonsense = 1\n").expect("written");
    desk.refused(&all, 0, "nothing to remove");
    fs::write(&recipe, text).expect("written");
    let recipe = repo.join("images/unused.toml");
    fs::write(&recipe, "nonsense = 1\n").expect("written");
    desk.refused(&["--keep", "0", "--dry-run"], 0, "would go: 2 images, 4 layers and 2 inputs");
    fs::remove_file(recipe).expect("removed");

    desk.says(&["gc", "--keep", "0", "--yes"], 0, "2 images, 4 layers and 2 inputs");
    assert_eq!(desk.images(), [wanted].into());
    let nowhere = tempfile::tempdir().expect("a directory");
    let path = nowhere.path().display().to_string();
    desk.refused(&["-C", &path, "--yes"], 2, "is no rekiln repository");
}

#[test]
fn a_pin_keeps_an_image_until_it_is_taken_off() {
    let desk = Desk::new();
    desk.committed();
    desk.aged(image("old"), OLD_DAYS);
    let old = short("old");
    desk.says(&["gc", "list"], 0, "no image is pinned");
    desk.says(&["gc", "pin", &old], 2, "--reason");
    desk.says(&["gc", "pin", &old, "--reason", " "], 2, "say why");
    desk.says(&["gc", "pin", "abcdef", "--reason", "why"], 1, "the store has no image `abcdef`");
    desk.says(&["gc", "pin", &old, "--reason", "for the audit"], 0, "is pinned: for the audit");
    desk.says(&["gc", "pin", &old, "--reason", "again"], 0, "is pinned already by ");
    let pinned = desk.json(&["gc", "list"]);
    assert_eq!((&pinned["event"], &pinned["reason"]), (&"pinned".into(), &"for the audit".into()));
    assert!(pinned["by"].as_str().is_some_and(|by| by.contains('@')), "{pinned}");
    desk.refused(&["--keep", "0", "--yes"], 0, "nothing to remove");
    desk.says(&["gc", "unpin", &old], 0, "is pinned no more");
    desk.says(&["gc", "unpin", &old], 1, "is not pinned");
    desk.says(&["gc", "--keep", "0", "--yes"], 0, "1 image, 2 layers and 1 input");
}

/// Everything that nothing reaches, whatever its age.
const ALL: Rules = Rules { keep: 0, younger: SignedDuration::ZERO };

#[test]
fn what_is_reached_after_the_plan_was_shown_stays() {
    let desk = Desk::new();
    desk.committed();
    for name in ["claimed", "rolled", "pinned", "gone", "old"] {
        desk.aged(image(name), OLD_DAYS);
    }
    let journals = [desk.store.objects()];
    let (store, repo) = (&desk.store, desk.dir.path());
    let sources = Sources { store, journals: &journals, repo, revisions: &[] };
    let seen = block_on(sources.look(true)).expect("seen");
    let agreed = plan(&seen, ALL, Timestamp::now());
    let claim =
        Claimed { layers: [made_from(image("old"))[0]].into(), ..Claimed::image("a test", image("claimed")) };
    let _claim = claim.hold(&desk.store).expect("held");
    desk.journal(vec![desk.opened("rolled")], false);
    desk.says(&["gc", "pin", &short("pinned"), "--reason", "why"], 0, "is pinned");
    fs::remove_dir_all(desk.store.image(image("gone"))).expect("removed");
    // What nothing reached either, but was not shown.
    desk.aged(image("new"), OLD_DAYS);

    let removed = block_on(remove(sources, ALL, &agreed, &Silent)).expect("removed");
    let images = removed.left.iter().filter(|decision| decision.kind == Kind::Image);
    let left: BTreeSet<_> = images.map(|decision| decision.digest).collect();
    assert_eq!(left, ["claimed", "rolled", "pinned", "gone"].map(image).into());
    let gone = removed.gone.iter().filter(|(kind, _)| *kind == Kind::Image);
    assert_eq!(gone.map(|(_, id)| *id).collect::<Vec<_>>(), [image("old")]);
    for name in ["claimed", "rolled", "pinned", "new"] {
        assert!(desk.images().contains(&image(name)), "{name}");
    }
    let [layer, kernel, input] = made_from(image("old"));
    assert!(desk.store.layer(layer).exists(), "claimed by itself");
    assert!(!desk.store.layer(kernel).exists() && !desk.store.vault(input).exists());
    assert!(made_from(image("rolled")).iter().any(|part| desk.store.vault(*part).exists()));
}

/// Kills its own process after so many removals.
struct Killer(u64);

impl Progress for Killer {
    fn tell(&self, event: Said) {
        if matches!(event, Said::Advanced { done, .. } if done == self.0) {
            signal(std::process::id(), Signal::KILL);
            std::thread::park();
        }
    }
}

/// Collects everything and dies in the middle. Does nothing in an ordinary test run.
#[test]
fn collecting() {
    let Ok(order) = std::env::var(COLLECTING) else { return };
    let (after, dir) = order.split_once(' ').expect("an order");
    let repo = Path::new(dir);
    let store = Store::open(&repo.join(".rekiln").display().to_string()).expect("a store");
    let journals = [store.objects()];
    let sources = Sources { store: &store, journals: &journals, repo, revisions: &[] };
    let agreed = plan(&block_on(sources.look(true)).expect("seen"), ALL, Timestamp::now());
    let killer = Killer(after.parse().expect("a number"));
    block_on(remove(sources, ALL, &agreed, &killer)).expect("removed");
}

#[test]
fn killed_after_any_removal_leaves_whole_images_only_and_the_next_run_ends_it() {
    let desk = Desk::new();
    let (wanted, _) = desk.committed();
    let old = ["one", "two"].map(image);
    // Two images, each with two layers and an input.
    for after in 1..=8 {
        desk.aged(wanted, OLD_DAYS);
        for id in old {
            desk.aged(id, OLD_DAYS);
        }
        let before = files(desk.store.root());
        let order = format!("{after} {}", desk.dir.path().display());
        let status =
            again("commands::gc::collecting", COLLECTING, order.as_ref()).status().expect("a process");
        assert_eq!(status.signal(), Some(9), "after {after}");
        let now = files(desk.store.root());
        let gone: BTreeSet<_> = before.keys().filter(|path| !now.contains_key(*path)).collect();
        assert!(now.iter().all(|(path, bytes)| before.get(path) == Some(bytes)), "after {after}");
        let parts = old.iter().flat_map(|id| made_from(*id)).map(|part| (part, desk.store.layer(part)));
        let places = parts.chain(old.iter().map(|id| (*id, desk.store.image(*id))));
        let mut away = 0;
        for (_, place) in places {
            let whole = before.keys().filter(|path| path.starts_with(&place)).count();
            let missing = gone.iter().filter(|path| path.starts_with(&place)).count();
            assert!(missing == 0 || missing == whole, "after {after}: {}", place.display());
            away += usize::from(whole > 0 && missing == whole);
        }
        away += gone.iter().filter(|path| path.starts_with(desk.store.inputs())).count();
        assert_eq!(away, after, "it was killed where it should be");
        assert!(fs::read_dir(desk.store.tmp()).expect("listed").count() > 0, "what it had taken out");

        desk.says(
            &["gc", "--keep", "0", "--younger", "0s", "--yes"],
            0,
            if after < 8 { "gone: " } else { "" },
        );
        assert_eq!(desk.images(), [wanted].into(), "after {after}");
        assert_eq!(names(&desk.store.layers()).len(), 2, "those of what Git asks for");
        assert_eq!(names(&desk.store.inputs()).len(), 1);
        assert_eq!(fs::read_dir(desk.store.tmp()).expect("listed").count(), 0, "after {after}");
    }
}

/// A journal of a fleet that is in no file any more still reaches.
#[test]
fn a_fleet_that_was_taken_out_of_git_is_kept_as_long_as_its_journal_runs() {
    let desk = Desk::new();
    desk.committed();
    desk.aged(image("theirs"), OLD_DAYS);
    let event = desk.opened("theirs");
    block_on(async {
        let mut journal = Journal::open(&desk.store.objects(), "gone", Writer::this("rekiln roll gone"))
            .await
            .expect("a journal");
        journal.command(Timestamp::now(), event).await.expect("written");
    });
    desk.refused(&["--keep", "0", "--yes"], 0, "fleet gone is being rolled to it");
}

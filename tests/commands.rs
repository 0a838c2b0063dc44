//! The commands of a second terminal, as people and scripts see them, on journals that this test wrote: nothing boots.

mod gc;
mod rotation;
mod shards;
mod story;

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use jiff::{SignedDuration, Timestamp};
use rekiln::catalog::quarantine::{Quarantine, Quarantined};
use rekiln::digest::Digest;
use rekiln::fleet::Fleet;
use rekiln::fleet::breaker::{Failure, Failures};
use rekiln::fleet::census::InstanceId;
use rekiln::fleet::generation::Target;
use rekiln::fleet::history::{Event, History};
use rekiln::fleet::journal::{Journal, Writer};
use rekiln::provider::local::{InstanceRecord, Phase};
use rekiln::store::Store;
use rekiln::vm::verdict::free_ports;
use rekiln::vm::{Boot, Extras, Spec};
use serde_json::Value;

/// A repository with two fleets, and a store.
struct Desk {
    dir: tempfile::TempDir,
    store: Store,
    /// Processes that look like QEMU; they end with the test.
    machines: Vec<Child>,
}

impl Drop for Desk {
    fn drop(&mut self) {
        for fleet in ["web", "api", "db-a", "db-b"] {
            if self.store.local(fleet).join("haproxy.json").exists() {
                self.run(&["down", fleet]);
            }
        }
        for machine in &mut self.machines {
            let _ = machine.kill();
            let _ = machine.wait();
        }
    }
}

fn image(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn short(name: &str) -> String {
    image(name).short()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(work)
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut init = Command::new(env!("CARGO_BIN_EXE_rekiln"));
        let init = init.args(["init", "."]).current_dir(dir.path()).output().expect("rekiln starts");
        assert!(init.status.success(), "{init:?}");
        let store = dir.path().join(".rekiln").display().to_string();
        let desk = Self { store: Store::open(&store).expect("a store"), dir, machines: Vec::new() };
        let text = fs::read_to_string(desk.dir.path().join("fleets/web.toml")).expect("a fleet");
        // Ports of its own: HAProxy runs in one of the tests.
        for (fleet, port) in ["web", "api"].into_iter().zip(free_ports(2).expect("ports")) {
            let file = desk.dir.path().join(format!("fleets/{fleet}.toml"));
            fs::write(file, text.replace("8080", &port.to_string())).expect("a fleet");
        }
        desk
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rekiln"));
        command.args(args).current_dir(self.dir.path()).env_remove("REKILN_STORE");
        command.stdin(Stdio::null()).output().expect("rekiln starts")
    }

    /// Runs a command that must end with `code` and say `part` somewhere.
    fn says(&self, args: &[&str], code: i32, part: &str) {
        let output = self.run(args);
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text:?}");
        assert!(text.concat().contains(part), "{args:?} must say `{part}`: {text:?}");
    }

    /// Runs a command with `--json` and returns its last object.
    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[&["--json"], args].concat());
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        serde_json::from_str(text.lines().last().unwrap_or_default()).expect("an object")
    }

    fn target(&self, name: &str) -> Target {
        Target::new(&self.fleet(), image(name))
    }

    fn opened(&self, name: &str) -> Event {
        let (target, reason) = (self.target(name), "a test".to_owned());
        Event::Opened { target, reason, emergency: false, fleet: None, commit: None }
    }

    /// Writes into the journal of `web`, as a process that does not live any more or, with `lives`, as this one.
    fn journal(&self, events: Vec<Event>, lives: bool) {
        let mut writer = Writer::this("rekiln roll web");
        if !lives {
            writer.started = 1;
        }
        block_on(async {
            let mut journal = Journal::open(&self.store.objects(), "web", writer).await.expect("a journal");
            for event in events {
                journal.command(Timestamp::now(), event).await.expect("written");
            }
        });
    }

    /// Returns what the journal of `web` adds up to, and how many entries it has.
    fn history(&self) -> (History, usize) {
        block_on(async {
            let journal =
                Journal::open(&self.store.objects(), "web", Writer::this("a look")).await.expect("sound");
            (journal.history().clone(), journal.entries().len())
        })
    }

    /// Replaces the recipes by rekiln's own, which have locks, and puts what Git asks for into the catalog.
    fn lock(&self) -> Digest {
        for folder in ["images", "bootstrap/web", "bootstrap/db"] {
            let (from, to) =
                (Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), self.dir.path().join(folder));
            fs::create_dir_all(&to).expect("a directory");
            for file in fs::read_dir(from).expect("a directory").map(|file| file.expect("a file")) {
                fs::copy(file.path(), to.join(file.file_name())).expect("copied");
            }
        }
        let id = self.json(&["id", "web"])["id"].as_str().expect("an id").parse().expect("an id");
        self.catalog(id, "web", true);
        id
    }

    /// Starts a process that counts as a machine of `web`, launched from `image` so many hours ago.
    fn machine(&mut self, fleet: &str, number: u64, image: Digest, hours: i64) {
        let id = InstanceId::new(fleet, number);
        let dir = self.store.local(fleet).join(&id.0);
        fs::create_dir_all(&dir).expect("a directory");
        let (boot, disk) = (Boot::Uefi, self.store.image(image).join("disk.raw"));
        let (forwards, extras) = (Vec::new(), Extras::default());
        let spec = Spec { dir, disk, boot, memory_mib: 1, cpus: 1, forwards, name: id.0.clone(), extras };
        let mut qemu = Command::new("/bin/sh");
        qemu.arg0("qemu-system-x86_64").args(["-c", "read line", "-pidfile"]).arg(spec.dir.join("qemu.pid"));
        self.machines.push(qemu.stdin(Stdio::piped()).spawn().expect("a process"));
        let generation = Target::new(&self.fleet(), image).generation;
        let launched_at = Timestamp::now() - SignedDuration::from_hours(hours);
        let (port, phase, zone) = (1, Phase::Serving, None);
        let record = InstanceRecord {
            version: 1,
            id,
            generation,
            image,
            root_hash: image,
            spec,
            port,
            health_port: port,
            launched_at,
            phase,
            zone,
        };
        record.write().expect("written");
    }

    fn fleet(&self) -> Fleet {
        let text = fs::read_to_string(self.dir.path().join("fleets/web.toml")).expect("a fleet");
        toml::from_str(&text).expect("a fleet")
    }

    /// Puts an image of a recipe into the catalog.
    fn bake(&self, name: &str, recipe: &str, passed: bool) {
        self.catalog(image(name), recipe, passed);
    }

    fn catalog(&self, id: Digest, recipe: &str, passed: bool) {
        let dir = self.store.image(id);
        fs::create_dir_all(&dir).expect("a directory");
        let record = serde_json::json!({ "version": 1, "id": id, "name": recipe, "debug": false, "commit": null,
            "clean": true, "lock": id, "parents": [], "disk": { "sha256": id, "size": 0, "partitions": [] },
            "root_hash": id, "cmdline": "", "layers": [], "ports": [], "services": [], "exceptions": [],
            "packages": { "openssl": "3.0.16-1" }, "findings": [], "verdict": { "passed": passed, "reasons": [], "open_ports": [],
            "ready_s": null, "serving_s": null, "accelerator": "tcg", "failed_units": [],
            "at": "2026-01-01T00:00:00Z" }, "baked": "2026-01-01T00:00:00Z", "timings": {} });
        fs::write(dir.join("record.json"), record.to_string()).expect("a record");
    }
}

#[test]
fn who_mistypes_is_helped_and_nothing_is_written() {
    let desk = Desk::new();
    for args in [
        &["pause", "wbe", "--reason", "why"][..],
        &["resume", "wbe"],
        &["cancel", "wbe", "--reason", "why"],
        &["retarget", "wbe", "--reason", "why"],
        &["roll", "wbe", "--to", "previous"],
    ] {
        desk.says(args, 2, "did you mean `web`?");
    }
    for args in [
        &["pause", "web"][..],
        &["cancel", "web", "--back"],
        &["retarget", "web"],
        &["quarantine", "add", "web"],
        &["breaker", "clear"],
    ] {
        desk.says(args, 2, "--reason");
        desk.says(&[args, &["--reason", " "]].concat(), 2, "say why");
    }
    assert_eq!(desk.history().1, 0);
}

#[test]
fn a_fleet_is_paused_once_and_resumed_once() {
    let desk = Desk::new();
    desk.says(&["resume", "web"], 0, "fleet web is not paused; nothing to do");
    desk.says(
        &["pause", "web", "--reason", "a look"],
        0,
        "nobody rolls it now; no roll of web begins before that",
    );
    assert_eq!(desk.history().0.paused.as_deref(), Some("a look"));
    desk.says(&["pause", "web", "--reason", "again"], 0, "is paused already: a look; nothing to do");
    assert_eq!(desk.history().1, 1);
    let said = desk.json(&["resume", "web"]);
    assert_eq!((&said["event"], &said["written"]), (&"resumed".into(), &true.into()));
    assert_eq!(desk.history().0.paused, None);
    // A broken file is no reason not to stop.
    fs::write(desk.dir.path().join("fleets/web.toml"), "size = 'many'").expect("written");
    desk.says(&["pause", "web", "--reason", "a look"], 0, "`rekiln resume web` lets it go on");
}

#[test]
fn what_rolls_is_told_and_goes_on_rolling() {
    let desk = Desk::new();
    desk.journal(vec![desk.opened("one"), Event::Completed, desk.opened("two")], true);
    let by = format!("`rekiln roll web` (process {} on ", std::process::id());
    desk.says(&["pause", "web", "--reason", "a look"], 0, &by);
    let said = desk.json(&["resume", "web"]);
    assert_eq!(said["roller"]["pid"], std::process::id());
    desk.says(&["cancel", "web", "--back", "--reason", "slow"], 0, "takes it up before its next act");
    let (history, _) = desk.history();
    assert_eq!(history.target, Some(desk.target("one")));
    assert!(history.retreat.is_some());
    desk.says(&["cancel", "web", "--back", "--reason", "slow"], 0, "goes back already: slow; nothing to do");
    desk.says(&["cancel", "web", "--reason", "enough"], 0, "every instance stays as it is");
    desk.says(&["cancel", "web", "--reason", "enough"], 0, "was cancelled already: enough; nothing to do");
}

#[test]
fn nothing_rolls_and_so_nothing_is_cancelled_or_turned() {
    let desk = Desk::new();
    let cancel = &["cancel", "web", "--reason", "why"];
    let retarget = &["retarget", "web", "--reason", "why"];
    desk.says(cancel, 2, "nothing was ever rolled");
    desk.says(retarget, 2, "`rekiln roll web` begins a rollout");
    desk.journal(vec![desk.opened("one"), Event::Completed], false);
    desk.says(cancel, 2, "`rekiln roll web --to previous` rolls it back");
    desk.says(retarget, 2, "its last rollout completed");
    desk.journal(vec![desk.opened("two"), Event::Halted { reason: "2 failed".to_owned() }], false);
    desk.says(&["cancel", "web", "--back", "--reason", "why"], 2, "its last rollout halted: 2 failed");
    assert_eq!(desk.history().1, 4);
    assert_eq!(desk.json(cancel)["exit_code"], 2);
}

#[test]
fn back_needs_somewhere_to_go() {
    let desk = Desk::new();
    desk.journal(vec![desk.opened("one")], false);
    let back = &["cancel", "web", "--back", "--reason", "why"];
    desk.says(back, 2, "there is nothing to go back to");
    desk.journal(vec![Event::Completed, desk.opened("two")], false);
    desk.says(
        &["quarantine", "add", &image("one").to_string(), "--reason", "old keys"],
        0,
        "no fleet launches it",
    );
    desk.says(back, 2, "must not be launched: it is quarantined by");
    assert_eq!(desk.history().1, 3);
    desk.says(&["quarantine", "clear", &short("one")], 0, "may be launched again");
    desk.says(back, 0, "nobody rolls it now; `rekiln roll web --to previous` carries it out");
}

#[test]
fn a_rollout_goes_elsewhere() {
    let desk = Desk::new();
    desk.journal(vec![desk.opened("one"), Event::Completed, desk.opened("two")], true);
    for (name, recipe, passed) in
        [("two", "web", true), ("three", "web", true), ("four", "web", false), ("other", "base", true)]
    {
        desk.bake(name, recipe, passed);
    }
    let to = |name: &str| ["retarget", "web", "--reason", "why", "--to", name].map(str::to_owned);
    let says = |name: &str, code, part: &str| {
        let args = to(name);
        desk.says(&args.each_ref().map(String::as_str), code, part);
    };
    says(&short("two"), 0, "already; nothing to do");
    says(&short("four"), 2, "it has no passing verdict");
    says(&short("other"), 2, "is one of base, and fleet web runs web");
    says("abcdef", 1, "the store has no image `abcdef`");
    says("previous", 1, "is not in the store");
    assert_eq!(desk.history().1, 3);
    says(&short("three"), 0, "takes it up before its next act");
    assert_eq!(desk.history().0.target, Some(desk.target("three")));
    // What Git asks for is not baked here.
    desk.says(&["retarget", "web", "--reason", "why"], 2, "hint:");
}

#[test]
fn rolling_back_asks_for_what_there_is() {
    let desk = Desk::new();
    desk.says(&["roll", "web", "--to", "previous"], 2, "has no previous image");
    desk.bake("bad", "web", true);
    desk.says(&["quarantine", "add", "web", "--reason", "bad"], 0, &short("bad"));
    desk.says(&["roll", "web", "--to", &short("bad")], 2, "`rekiln quarantine clear");
    desk.says(&["roll", "web", "--to", "abcdef"], 1, "`rekiln images` lists them");
    assert_eq!(desk.history().1, 0);
}

#[test]
fn the_quarantine_is_listed_and_cleared() {
    let desk = Desk::new();
    desk.says(&["quarantine", "list"], 0, "no image is quarantined");
    desk.says(&["quarantine", "add", "web", "--reason", "why"], 1, "the store has no image `web`");
    desk.says(&["quarantine", "clear", "abcdef"], 1, "the store has no image");
    desk.bake("one", "web", true);
    desk.journal(vec![desk.opened("one"), Event::Completed], false);
    desk.says(
        &["quarantine", "add", &short("one"), "--reason", "old keys"],
        0,
        "fleet web runs it, and goes on",
    );
    desk.says(&["quarantine", "add", &short("one"), "--reason", "again"], 0, "quarantined already: old keys");
    assert_eq!(desk.json(&["quarantine", "list"])["reason"], "old keys");
    let quarantine = Quarantine::new(&[desk.store.objects()]);
    let found = block_on(quarantine.get(image("one"))).expect("read").expect("it is");
    assert_eq!((found.reason.as_str(), found.by.as_str()), ("old keys", "`rekiln quarantine add`"));
    // A fleet's own entry of an image that the store lost.
    let (gone, at) = (image("gone"), Timestamp::now());
    let entry = Quarantined { image: gone, reason: "it failed".to_owned(), by: "fleet web".to_owned(), at };
    block_on(quarantine.add(&entry)).expect("added");
    desk.says(&["quarantine", "list"], 0, "fleet web                it failed");
    desk.says(&["quarantine", "clear", &gone.short()], 0, "may be launched again");
    desk.says(&["quarantine", "clear", &gone.to_string()], 1, "is not quarantined");
    assert_eq!(block_on(quarantine.list()).expect("listed").len(), 1);
}

#[test]
fn the_breaker_opens_by_each_fleets_word_and_is_cleared_for_a_reason() {
    let desk = Desk::new();
    desk.says(&["breaker"], 0, "fleet web: closed; it opens after 3 within 24h");
    desk.says(&["breaker", "clear", "--reason", "why"], 0, "nothing to clear");
    let api = desk.dir.path().join("fleets/api.toml");
    let text = fs::read_to_string(&api).expect("a fleet");
    fs::write(&api, format!("{text}breaker = {{ failures = 5 }}\n")).expect("written");
    let failures = Failures::new(&[desk.store.objects()]);
    for rollout in 1..=3 {
        let (fleet, reason) = ("web".to_owned(), format!("failure {rollout}"));
        let failure = Failure { fleet, image: image("bad"), reason, at: Timestamp::now() };
        block_on(failures.add(rollout, &failure)).expect("written");
    }
    desk.says(&["breaker", "show"], 0, "fleet web: open; nothing voluntary begins: 3 rollouts failed");
    desk.says(&["breaker"], 0, "fleet api: closed; it opens after 5");
    let shown = desk.json(&["breaker"]);
    assert_eq!(shown["failures"].as_array().map(Vec::len), Some(3));
    assert_eq!(shown["cleared"], Value::Null);
    desk.says(&["breaker", "clear", "--reason", "a bad mirror"], 0, "3 failed rollouts are forgotten");
    desk.says(&["breaker"], 0, "a bad mirror (3)");
    assert_eq!(block_on(failures.list()).expect("listed"), []);
}

#[test]
fn status_says_how_far_a_rollout_is_and_what_keeps_it() {
    let desk = Desk::new();
    let file = desk.dir.path().join("fleets/web.toml");
    let text = fs::read_to_string(&file).expect("a fleet");
    fs::write(&file, format!("{text}canary = 1\n")).expect("written");
    desk.bake("two", "web", true);
    let status = ["status", "web"];
    desk.journal(vec![desk.opened("one"), Event::Completed, desk.opened("two")], false);
    let said =
        format!("rolls to {}, wave 1 of 2, but nobody works at it; `rekiln roll web` goes on", short("two"));
    desk.says(&status, 0, &said);
    desk.journal(vec![Event::Paused { reason: "a look".to_owned() }], false);
    desk.says(&status, 0, "paused: a look");
    desk.says(&status, 0, "expected end not known: no launch of this fleet is on record");
    desk.says(&status, 0, "next: `rekiln resume web`");
    desk.says(&["quarantine", "add", &short("two"), "--reason", "bad"], 0, "is quarantined");
    desk.says(&status, 0, "it is quarantined by `rekiln quarantine add`");
    let rollout = desk.json(&status)["rollout"].clone();
    assert_eq!((&rollout["wave"], &rollout["waves"]), (&1.into(), &2.into()));
    assert_eq!((&rollout["paused"], &rollout["state"]), (&"a look".into(), &"rolling".into()));
    desk.journal(vec![Event::Resumed, Event::Cancelled { back: true, reason: "slow".to_owned() }], true);
    desk.says(&status, 0, &format!("goes back to {} (slow), but nobody", short("one")));
    desk.journal(vec![Event::Halted { reason: "2 failed".to_owned() }], false);
    desk.says(&status, 0, &format!("the rollout to {} was halted: 2 failed", short("one")));
    fs::remove_file(desk.store.journals().join("web/00000000000000000002.json")).expect("removed");
    desk.says(&status, 0, "how far its rollout is cannot be told");
}

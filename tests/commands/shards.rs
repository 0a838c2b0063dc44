//! What a command does that is given the name of a file with several fleets.

use std::fs;

use rekiln::fleet::history::{Event, History};
use rekiln::fleet::journal::{Journal, Writer};
use rekiln::vm::verdict::free_ports;
use serde_json::Value;

use super::{Desk, block_on, image};

/// A desk with a file of two shards, the one that comes later in the alphabet first.
fn desk() -> Desk {
    let desk = Desk::new();
    let ports = free_ports(2).expect("ports");
    let text = format!(
        "image = \"web\"\nsize = 1\n[local]\nport = 80\n[health]\nhttp = {{ port = 80, path = \"/\" }}\n\
         [[shard]]\nname = \"b\"\nlisten = \"127.0.0.1:{}\"\n[[shard]]\nname = \"a\"\nlisten = \"127.0.0.1:{}\"\n",
        ports[0], ports[1]
    );
    fs::write(desk.dir.path().join("fleets/db.toml"), text).expect("written");
    desk
}

/// What the journal of a fleet adds up to, and how many entries it has.
fn history(desk: &Desk, fleet: &str) -> (History, usize) {
    block_on(async {
        let journal =
            Journal::open(&desk.store.objects(), fleet, Writer::this("a look")).await.expect("sound");
        (journal.history().clone(), journal.entries().len())
    })
}

/// The objects on standard output that have a key, by what it says.
fn said(desk: &Desk, args: &[&str], key: &str) -> Vec<String> {
    let output = desk.run(&[&["--json"], args].concat());
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let objects = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("an object"));
    objects.filter_map(|object| Some(object[key].as_str()?.to_owned())).collect()
}

#[test]
fn all_shards_are_shown_in_the_order_of_the_file() {
    let desk = desk();
    desk.lock();
    assert_eq!(said(&desk, &["status", "db"], "fleet"), ["db-b", "db-a"]);
    assert_eq!(said(&desk, &["plan", "db"], "fleet"), ["db-b", "db-a"]);
    assert_eq!(said(&desk, &["status"], "fleet"), ["api", "db-b", "db-a", "web"]);
    assert_eq!(said(&desk, &["status", "db-a"], "fleet"), ["db-a"]);
    assert_eq!(said(&desk, &["audit", "db", "db-a"], "fleet"), ["db-a", "db-b"]);
    desk.says(&["plan", "db"], 0, "next: `rekiln roll db-a`");
}

#[test]
fn what_is_about_one_fleet_names_them() {
    let desk = desk();
    for args in [
        &["history", "db"][..],
        &["replay", "db"],
        &["simulate", "db"],
        &["chaos", "db"],
        &["cancel", "db", "--reason", "why"],
        &["retarget", "db", "--reason", "why"],
        &["backup", "run", "db"],
        &["backup", "prove", "db"],
        &["backup", "restore", "db"],
    ] {
        desk.says(args, 2, "db has the shards db-b, db-a: name one");
    }
    desk.says(&["history", "db-c"], 2, "there is no fleet `db-c`");
    desk.says(&["history", "db-a"], 0, "fleet db-a has no history");
    desk.says(&["revive", "db"], 2, "fleet db-b holds no data");
    desk.says(&["backup", "status", "db"], 2, "fleet db-b has no backups: fleets/db.toml has no `[backup]`");
}

#[test]
fn all_shards_are_paused_even_if_one_cannot_be() {
    let desk = desk();
    assert_eq!(said(&desk, &["pause", "db", "--reason", "a look"], "event"), ["paused", "paused"]);
    for fleet in ["db-a", "db-b"] {
        assert_eq!(history(&desk, fleet).0.paused.as_deref(), Some("a look"), "{fleet}");
    }
    // With a broken file too.
    let file = desk.dir.path().join("fleets/db.toml");
    let text = fs::read_to_string(&file).expect("a fleet");
    fs::write(&file, text.replace("image =", "imag =")).expect("written");
    assert_eq!(said(&desk, &["resume", "db"], "fleet"), ["db-b", "db-a"]);
    assert_eq!(history(&desk, "db-a").0.paused, None);
    // A journal that does not read.
    let first = fs::read_dir(desk.store.root().join("journal/db-b")).expect("listed").next();
    fs::write(first.expect("an entry").expect("an entry").path(), "no entry").expect("written");
    let pause = ["pause", "db", "--reason", "again"];
    desk.says(&pause, 1, "pausing fleet db-b: ");
    desk.says(&pause, 1, "done: db-a; failed: db-b");
    assert_eq!(history(&desk, "db-a").0.paused.as_deref(), Some("again"));
    // To go on is not so urgent: it ends where it fails.
    desk.says(&["resume", "db"], 1, "failed: db-b; not begun: db-a");
    assert_eq!(history(&desk, "db-a").0.paused.as_deref(), Some("again"));
}

#[test]
fn a_shard_that_fails_is_the_last_that_is_begun() {
    let mut desk = desk();
    let new = desk.lock();
    // A paused one is held, and nothing is done after it.
    desk.says(&["pause", "db-b", "--reason", "a talk"], 0, "fleet db-b is paused");
    let output = desk.run(&["--json", "roll", "db"]);
    let (out, text) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{text}");
    let stopped = out.lines().find(|line| line.contains(r#""event":"stopped""#)).expect("it says where");
    let stopped: Value = serde_json::from_str(stopped).expect("an object");
    let expected = serde_json::json!({ "event": "stopped", "done": [], "failed": "db-b", "not_begun": ["db-a"], "exit_code": 3 });
    assert_eq!(stopped, expected);
    assert!(text.contains("hint:  failed: db-b; not begun: db-a\n"), "{text}");
    assert!(text.contains("to go on from there: `rekiln roll db-b`, then the same for db-a\n"), "{text}");
    assert_eq!(history(&desk, "db-a").1, 0);
    desk.says(&["resume", "db-b"], 0, "fleet db-b is no longer paused");
    // The image's files are not there, so that no launch succeeds.
    desk.says(&["roll", "db"], 1, "failed: db-b; not begun: db-a");
    assert!(history(&desk, "db-b").0.target.is_some_and(|target| target.image == new));
    assert_eq!(history(&desk, "db-a").1, 0);
    // A rotation means them in the same order, and an instance is of one of them.
    desk.machine("db-a", 1, new, 1);
    desk.machine("db-b", 1, new, 1);
    let rotate = ["rotate", "db", "--reason", "leaked keys"];
    desk.says(&rotate, 1, "failed: db-b; not begun: db-a");
    assert_eq!(history(&desk, "db-a").1, 0);
    desk.says(&[&rotate[..], &["--instance", "db-a-1"]].concat(), 1, "fleet db-b is left alone");
    let wished = block_on(async {
        let objects = desk.store.objects();
        let journal = Journal::open(&objects, "db-a", Writer::this("a look")).await.expect("sound");
        journal
            .entries()
            .iter()
            .any(|entry| matches!(&entry.event, Event::Opened { reason, .. } if reason == "leaked keys"))
    });
    assert!(wished);
}

#[test]
fn a_machine_of_each_shard_is_ended() {
    let mut desk = desk();
    desk.machine("db-a", 1, image("one"), 1);
    desk.machine("db-b", 1, image("one"), 1);
    assert_eq!(said(&desk, &["down", "db"], "fleet"), ["db-b", "db-a"]);
    desk.says(&["status", "db"], 0, "fleet db-a does not run; next: `rekiln roll db-a`");
    assert!(matches!(history(&desk, "db-a"), (_, 2)), "it began to end, and ended");
}

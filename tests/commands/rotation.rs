//! Rotations and mass changes on stand-ins for machines: what is meant, what is asked, and what is kept.

use std::fs;

use rekiln::fleet::history::Event;
use rekiln::fleet::journal::{Journal, Writer};
use serde_json::Value;

use super::{Desk, block_on, image};

#[test]
fn a_rotation_says_what_it_means_before_it_does() {
    let mut desk = Desk::new();
    let new = desk.lock();
    desk.bake("old", "web", true);
    desk.says(&["rotate", "web"], 2, "--reason");
    desk.says(&["rotate", "--reason", "why"], 2, "rotate what?");
    desk.says(&["rotate", "--all", "web", "--reason", "why"], 2, "cannot be used with");
    desk.says(&["rotate", "--package", "openssl==3", "--reason", "why"], 2, "compares in no way known here");
    desk.says(&["rotate", "--older-than", "old", "--reason", "why"], 2, "is not a duration");
    desk.says(&["rotate", "web", "wbe", "--reason", "why"], 2, "did you mean `web`?");
    desk.says(&["rotate", "--all", "--reason", "why"], 0, "fleet api is left alone: it does not run");
    desk.machine("web", 1, image("old"), 50);
    desk.machine("web", 2, new, 1);
    desk.machine("api", 1, image("lost"), 1);
    desk.says(&["rotate", "web", "--instance", "web-3", "--reason", "why"], 2, "did you mean `web-1`?");
    desk.says(&["rotate", "--instance", "db-9", "--reason", "why"], 2, "no fleet has an instance db-9");
    let leaves = |select: &[&str], part: &str| {
        desk.says(&[&["rotate", "--reason", "why"], select].concat(), 0, part);
    };
    leaves(&["--touched"], "fleet web is left alone: nothing of it is meant");
    leaves(&["--older-than", "51h"], "nothing to do");
    leaves(&["--package", "openssl<3.0.16"], "fleet api: what the image of api-1 has cannot be told");
    let emergency = |select: &[&str]| {
        let args = [&["rotate", "--emergency", "--reason", "why"], select].concat();
        let output = desk.run(&[&["--json"], &args[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("needs a confirmation") && text.contains("--yes"), "{text}");
        assert!(text.contains("it never skips: floor of serving instances, drain, quarantine"), "{text}");
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let event = events.into_iter().find(|event| event["event"] == "emergency").expect("one");
        (event["fleets"].clone(), text)
    };
    let (fleets, _) = emergency(&["--older-than", "48h"]);
    assert_eq!(fleets, serde_json::json!([{ "fleet": "web", "instances": ["web-1"], "target": new }]));
    let (fleets, text) = emergency(&["--package", "openssl<3.0.17"]);
    assert_eq!(fleets[0]["instances"], serde_json::json!(["web-1", "web-2"]));
    assert!(text.contains("has openssl 3.0.16-1 too: rotating does not remove it"), "{text}");
    assert!(text.contains("`rekiln lock web --update`"), "{text}");
    assert_eq!(emergency(&["--all"]).0.as_array().map(Vec::len), Some(2));
    assert_eq!(emergency(&["web", "--instance", "web-2"]).0[0]["instances"], serde_json::json!(["web-2"]));
    assert_eq!(desk.history().1, 0);
}

#[test]
fn a_mass_change_needs_a_yes() {
    let mut desk = Desk::new();
    let new = desk.lock();
    let file = desk.dir.path().join("fleets/web.toml");
    let text = fs::read_to_string(&file).expect("a fleet");
    fs::write(&file, format!("{text}guard = '20%'\n")).expect("written");
    desk.machine("web", 1, image("old"), 1);
    desk.machine("web", 2, new, 1);
    desk.machine("web", 3, image("old"), 1);
    // Two of the six that both fleets are to have.
    let said = "rolling web needs a confirmation: it replaces 2 of the 6 instances of all fleets, and `roll.guard` is 20%";
    desk.says(&["roll", "web"], 2, said);
    desk.says(&["rotate", "web", "--reason", "why"], 2, said);
    desk.says(&["roll", "web", "--to", &new.short()], 2, said);
    assert_eq!(desk.history().1, 0);
}

#[test]
fn an_emergency_begins_in_all_fleets_and_one_that_fails_stops_no_other() {
    let mut desk = Desk::new();
    let new = desk.lock();
    desk.machine("web", 1, new, 1);
    desk.machine("api", 1, new, 1);
    // Another process rolls web, and is taken over; the image's files are not there, so that no launch succeeds.
    desk.journal(vec![desk.opened("one")], true);
    desk.says(&["rotate", "web", "--reason", "leaked keys"], 4, "has the journal");
    desk.says(&["rotate", "--all", "--reason", "leaked keys"], 1, "not begun: web");
    desk.machine("api", 5, new, 1);
    let output = desk.run(&["--json", "rotate", "--all", "--emergency", "--yes", "--reason", "leaked keys"]);
    let (out, text) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(out.lines().filter(|line| line.contains(r#""event":"error""#)).count(), 2, "{out}");
    for fleet in ["web", "api"] {
        let objects = desk.store.objects();
        let journal = Journal::open(&objects, fleet, Writer::this("a look"));
        let journal = block_on(journal).expect("sound");
        let opened = journal.entries().iter().rev().find_map(|entry| match &entry.event {
            Event::Opened { emergency, reason, .. } => Some((*emergency, reason.clone())),
            _ => None,
        });
        assert_eq!(opened, Some((true, "leaked keys".to_owned())), "{fleet}: {text}");
    }
}

#[test]
fn what_is_left_of_a_quarantined_instance_is_kept_whoever_ends_it() {
    let mut desk = Desk::new();
    let new = desk.lock();
    desk.machine("web", 1, new, 1);
    desk.machine("web", 2, new, 1);
    let args = ["rotate", "web", "--reason", "a session", "--quarantine-instance"];
    desk.says(&[&args[..], &["web-1", "--touched"]].concat(), 2, "cannot be used with");
    desk.says(&[&args[..], &["web-3"]].concat(), 2, "fleet web has no instance web-3");
    // The image's files are not there, so that nothing can take its place.
    desk.says(&[&args[..], &["web-1"]].concat(), 1, "what is left of web-1 when it ends is kept in ");
    desk.says(&["down", "web"], 0, "fleet web is down");
    let evidence = desk.store.evidence("web");
    for file in ["instance.json", "evidence.json"] {
        assert!(evidence.join("web-1").join(file).exists(), "{file}");
    }
    assert!(fs::read_to_string(evidence.join("web-1/evidence.json")).expect("read").contains("a session"));
    assert!(!evidence.join("web-2").exists());
}

#[test]
fn status_says_what_each_instance_is() {
    let mut desk = Desk::new();
    let new = desk.lock();
    desk.machine("web", 1, new, 50);
    let status = desk.json(&["status", "web"]);
    // No load balancer runs that could tell its health.
    assert_eq!(status["instances"][0]["standing"]["is"], "unknown", "{status}");
    assert_eq!((&status["rollout"]["behind"], &status["rollout"]["end"]), (&1.into(), &Value::Null));
    desk.says(&["status", "web"], 0, "2 d 2 h  unknown\n");
    desk.says(&["status", "web"], 0, "1 is not as Git asks; `rekiln plan web` says what a roll would do");
    assert_eq!(desk.json(&["plan", "web"])["end"]["expected"], "no_record");
}

//! `rekiln chaos`: instances are killed past their group, and the fleet gets over it, watched or not.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};

use super::merged::commit;
use super::stage::{Group, NAME, Setup, instance, members, objects};
use super::watched::Watched;
use crate::publish::stage::{REGION, Stage};

/// Everything that a fleet's journal says.
fn journal(group: &Group<'_>) -> Vec<Value> {
    objects(&group.run(&["history", NAME, "--entries"]).must(0))
        .into_iter()
        .filter(|entry| entry["number"].is_u64())
        .collect()
}

fn kinds(group: &Group<'_>) -> Vec<String> {
    journal(group).iter().map(|entry| entry["event"]["kind"].as_str().expect("a kind").to_owned()).collect()
}

/// What the first kill of a run came to.
fn killed(said: &[Value]) -> Vec<&Value> {
    said.iter().filter(|event| event["event"] == "killed").map(|event| &event["kill"]).collect()
}

#[test]
fn what_nobody_watches_heals_by_chaos_itself() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup::default());
    group.run(&["roll", NAME]).must(0);
    let before: Vec<String> = members(&group.state()).into_iter().map(instance).collect();
    stage.cloud.forget_calls();
    // Somebody who is always there, whom clients ask.
    let door = TcpListener::bind("127.0.0.1:0").expect("a port");
    let probe = format!("tcp://{}", door.local_addr().expect("its number"));
    std::thread::spawn(move || door.incoming().collect::<Vec<_>>());
    let ended = group.run(&["chaos", NAME, "--seed", "7", "--probe", &probe, "--reason", "a drill"]).must(0);
    let said = objects(&ended);
    let [kill] = killed(&said)[..] else { panic!("one: {said:#?}") };
    assert_eq!((&kill["healed"], &kill["healer"]), (&json!(true), &json!("rekiln chaos web")));
    for time in ["detected_s", "serving_s", "whole_s"] {
        assert!(kill[time].as_f64().is_some_and(|time| time > 0.0), "{time}: {kill:#}");
    }
    assert!(kill["clients"]["asked"].as_u64() > Some(3) && kill["clients"]["failed"] == 0, "{kill:#}");
    assert!(ended.stderr.contains("noticed  launched  serving"), "{}", ended.stderr);
    assert_eq!(group.called("TerminateInstances"), 1);
    // One of three is another one, and the group is as large as it was.
    let settled = group.settled();
    let now: Vec<String> = members(&settled).into_iter().map(instance).collect();
    assert_eq!(now.iter().filter(|id| before.contains(id)).count(), 2);
    assert_eq!(settled["desired"], group.before["desired"]);
    let kinds = kinds(&group);
    assert!(kinds.contains(&"chaos".to_owned()) && kinds.contains(&"killed".to_owned()), "{kinds:?}");
    assert!(!kinds.contains(&"failed".to_owned()), "it counts against nothing: {kinds:?}");
    let told = group.run(&["history", NAME, "--entries"]).must(0).stderr;
    assert!(told.contains(": a drill, by `rekiln chaos web`"), "{told}");
}

#[test]
fn what_may_not_be_killed_is_not() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup { size: 2, zones: 2, ..Setup::default() });
    let refused = |code: i32, args: &[&str], words: &str| {
        let ended = group.run(&[&["chaos", NAME], args].concat()).must(code);
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
        assert_eq!(group.called("TerminateInstances"), 0);
    };
    refused(2, &[], "it was never rolled");
    group.run(&["roll", NAME]).must(0);
    stage.cloud.forget_calls();
    refused(2, &["--leader"], "it has no leader");
    refused(2, &["--zone", "nowhere"], "no instance in zone nowhere");
    refused(2, &["--instance", "web-99"], "no instance web-99");
    refused(3, &["--probe", "tcp://127.0.0.1:9"], "clients get no good answer already");
    // A floor that leaves none.
    let file = stage.repo().join("fleets/web.toml");
    let text = fs::read_to_string(&file).expect("a file");
    fs::write(&file, format!("{text}[chaos]\nfloor = 2\n")).expect("written");
    refused(2, &[], "with 2 of 2 that must serve, none may be killed");
    fs::write(&file, &text).expect("written");
    // Paused, from wherever; a series waits for as long as it may.
    group.run(&["pause", NAME, "--reason", "not today"]).must(0);
    refused(3, &[], "it is paused: not today");
    refused(3, &["--every", "1s", "--for", "3s"], "it is paused: not today");
    group.run(&["resume", NAME]).must(0);
    // One that does not serve is one less already.
    let sick = members(&group.state()).into_iter().map(instance).next().expect("a member");
    drop(stage.cloud.ec2(REGION, &format!("Action=TerminateInstances&InstanceId.1={sick}")));
    stage.cloud.forget_calls();
    // Its group may have another one already: what died is not known to be gone, all the same.
    refused(3, &[], "nothing is killed: ");
    assert!(!kinds(&group).contains(&"chaos".to_owned()));
}

#[test]
fn a_series_stops_while_it_is_paused_and_ends_with_the_medians() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup { size: 2, zones: 2, ..Setup::default() });
    group.run(&["roll", NAME]).must(0);
    let mut running = stage.begin(&["chaos", NAME, "--every", "1s", "--seed", "1"]);
    let count = |group: &Group<'_>| kinds(group).iter().filter(|kind| *kind == "killed").count();
    assert!(group.comes(&mut running, || count(&group) >= 1), "it kills none");
    group.run(&["pause", NAME, "--reason", "enough"]).must(0);
    // What is under way is not ended by that; nothing new begins.
    let said = |running: &crate::publish::stage::Started| running.said();
    group.waits_until(|| said(&running).contains("waits: it is paused: enough"));
    let paused = count(&group);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(count(&group), paused);
    group.run(&["resume", NAME]).must(0);
    assert!(group.comes(&mut running, || count(&group) > paused), "it does not go on");
    // Ctrl-C lets the fleet get over what is under way.
    let pid = running.child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
    let ended = running.end().must(130);
    let said = objects(&ended);
    assert!(killed(&said).iter().all(|kill| kill["healed"] == true), "{said:#?}");
    let sum = said.iter().find(|event| event["event"] == "chaos").expect("a sum");
    assert_eq!((&sum["seed"], &sum["killed"]), (&json!(1), &json!(count(&group))));
    assert!(sum["medians"]["whole_s"].as_f64().is_some_and(|time| time > 0.0), "{sum:#}");
    assert!(ended.stderr.contains("  median"), "{}", ended.stderr);
    group.settled();
}

/// The schedule of a fleet's file: a watcher kills, and replaces what it killed as it replaces anything that died.
#[test]
fn a_watcher_carries_a_schedule_out_and_keeps_the_fleet() {
    let stage = Stage::new();
    let place = Watched::on(&stage);
    let group = &place.site.group;
    place.push(&place.site.old);
    let watcher = place.watch(&[]);
    watcher.applied(&place.site.old);
    // One is never killed; of two, one is.
    group.autoscaling(&format!("Action=SetDesiredCapacity&AutoScalingGroupName={NAME}&DesiredCapacity=2"));
    let file = stage.repo().join("fleets/web.toml");
    let text = fs::read_to_string(&file).expect("a file");
    fs::write(&file, format!("{text}[chaos]\nevery = '2s'\n")).expect("written");
    let scheduled = commit(&stage, "a schedule");
    place.push(&scheduled);
    watcher.pushed();
    watcher.applied(&scheduled);
    let chaos = |job: &str| {
        let done = |entry: &&Value| entry["event"]["kind"] == "ended" && entry["event"]["job"]["do"] == job;
        place.journal().iter().filter(done).filter(|entry| entry["event"]["code"] == 0).count()
    };
    watcher.until("two kills, and what was killed replaced", |_| {
        (chaos("chaos") >= 2 && chaos("keep") >= 2).then_some(())
    });
    group.run(&["pause", NAME, "--reason", "enough"]).must(0);
    watcher.until_view("nothing is done", |view| view["jobs"] == json!([]));
    let before = kinds(group).iter().filter(|kind| *kind == "chaos").count();
    std::thread::sleep(Duration::from_secs(5));
    let entries = journal(group);
    let of = |kind: &str| entries.iter().filter(|entry| entry["event"]["kind"] == kind).collect::<Vec<_>>();
    assert_eq!(of("chaos").len(), before);
    // Chaos killed, and the watcher's own command replaced.
    assert!(of("chaos").iter().all(|entry| entry["by"]["command"] == "rekiln chaos web"));
    let kept = of("opened").into_iter().filter(|entry| {
        let reason = entry["event"]["reason"].as_str().expect("a reason");
        reason.starts_with("kept: ") && entry["by"]["command"] == "rekiln roll web"
    });
    assert!(kept.count() >= 2, "{entries:#?}");
    assert!(of("opened").iter().all(|entry| entry["by"]["command"] != "rekiln chaos web"), "it fought");
    assert!(of("failed").is_empty());
    watcher.stop().must(0);
}

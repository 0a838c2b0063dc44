//! Rolls that nobody disturbs: what they change, what they leave as it was, what they cost, and where a bad image ends.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::stage::{Group, NAME, Setup, instance, members, objects, publish};
use crate::fleet::stage::signal;
use crate::publish::stage::{Ended, Stage};

/// What a bad image writes on its console.
const PANIC: &str = "Kernel panic - not syncing: no such page";

/// What needs no permission.
const FREE: [&str; 1] = ["GetCallerIdentity"];

/// The one object that says what a roll did.
fn rolled(ended: &Ended) -> Value {
    let events = ended.events("rolled");
    assert_eq!(events.len(), 1, "{}", ended.stdout);
    events[0].clone()
}

/// How many instances a summary has in one of its lists.
fn count(rolled: &Value, list: &str) -> usize {
    rolled["summary"][list].as_array().unwrap_or_else(|| panic!("no {list}: {rolled}")).len()
}

/// How many calls a roll says that it made, which must not be more than the proxy has seen.
fn calls(stage: &Stage, rolled: &Value) -> u64 {
    let seen = stage.cloud.calls().len() as u64;
    let told = rolled["summary"]["calls"].as_u64().or_else(|| rolled["calls"].as_u64());
    let told = told.unwrap_or_else(|| panic!("it does not say how many calls it made: {rolled}"));
    assert!(0 < told && told <= seen, "it says {told} calls, and {seen} were seen");
    seen
}

/// Nothing is replaced where nothing is, and what an autoscaler adds later is of the new image all the same.
#[test]
fn a_group_of_none_launches_what_is_new() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup { size: 0, ..Setup::default() });
    group.run(&["roll", NAME]).must(0);
    assert_eq!(group.called("LaunchInstances"), 0);
    group.judge(&group.wanted.id);
    group.autoscaling(&format!("Action=SetDesiredCapacity&AutoScalingGroupName={NAME}&DesiredCapacity=2"));
    group.judge(&group.wanted.id);
    let before = stage.cloud.log(0).len();
    group.run(&["roll", NAME]).must(0);
    assert_eq!(stage.cloud.log(0).len(), before, "there was nothing to do");
}

#[test]
fn a_group_of_six_in_three_zones_rolls() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup { size: 6, target_groups: 2, ..Setup::default() });
    // What there is to do is known before, and nothing is done.
    let plan = &objects(&group.run(&["plan", NAME]).must(0))[0]["plan"];
    let standings = plan["members"].as_array().expect("a list");
    assert_eq!(standings.len(), 6, "{plan:#}");
    for standing in standings {
        let reasons = standing["because"]["reasons"].as_array().expect("reasons").iter();
        let reasons: Vec<&str> = reasons.map(|reason| reason.as_str().expect("text")).collect();
        assert_eq!(standing["is"], "stale", "{standing}");
        assert!(reasons.contains(&"image"), "{reasons:?}");
    }
    assert_eq!(stage.cloud.changes(), [""; 0]);
    stage.cloud.forget_calls();

    let done = rolled(&group.run(&["roll", NAME]).must(0));
    assert_eq!([count(&done, "launched"), count(&done, "ended")], [6, 6], "{done}");
    let calls = calls(&stage, &done);
    eprintln!("6 instances of 3 zones and 2 target groups: {calls} calls");
    // Of an instance: launched, named, out of two target groups, ended. Of the group: a version, pinned, its balance, and its tag.
    let changes = stage.cloud.changes().len();
    assert!(changes <= 5 * 6 + 6, "{changes} calls that change something for 6 instances");
    group.judge(&group.wanted.id);
    // None that the policy which rekiln prints does not allow.
    let policy = &objects(&group.run(&["aws", "policy", "--roll"]).must(0))[0];
    let statements = policy["Statement"].as_array().expect("a list").iter();
    let actions = statements.flat_map(|one| one["Action"].as_array().expect("a list"));
    let allowed: BTreeSet<&str> =
        actions.filter_map(|action| Some(action.as_str()?.split_once(':')?.1)).chain(FREE).collect();
    let called = stage.cloud.calls();
    let called: BTreeSet<&str> = called.iter().map(|call| call.operation.as_str()).collect();
    assert_eq!(called.difference(&allowed).collect::<Vec<_>>(), [&""; 0]);
    let now = group.state();
    let in_zone = |letter: char| {
        let zones = members(&now).into_iter().filter_map(|one| one["zone"].as_str());
        zones.filter(|zone| zone.ends_with(letter)).count()
    };
    let zones = ['a', 'b', 'c'].map(in_zone);
    assert_eq!(zones, [2; 3], "{now:#}");
    // Each has a name and all that the template gave the old ones.
    let world = stage.cloud.state();
    let all = world["instances"].as_array().expect("a list").iter().filter(|one| one["state"] == "running");
    let tags: Vec<_> =
        all.map(|one| (one["tags"]["rekiln:name"].clone(), one["tags"]["team"].clone())).collect();
    let named = tags.iter().filter(|(name, _)| name.as_str().is_some_and(|name| name.starts_with("web-")));
    assert_eq!(named.count(), 6, "{tags:?}");
    assert!(tags.iter().all(|(_, team)| team == "edge"), "{tags:?}");

    // Once more there is nothing to do, and nothing happens in AWS.
    let seen = stage.cloud.log(0).len();
    stage.cloud.forget_calls();
    let again = rolled(&group.run(&["roll", NAME]).must(0));
    assert_eq!([count(&again, "launched"), count(&again, "ended")], [0, 0], "{again}");
    assert_eq!(stage.cloud.changes(), [""; 0]);
    assert_eq!(stage.cloud.log(seen), Vec::<Value>::new());

    let told = group.run(&["history", NAME]).must(0).events("rollout");
    assert_eq!(told.len(), 2, "{told:?}");
    let first = &told[0]["rollout"];
    assert_eq!((&first["launched"], &first["ended"], &first["failed"]), (&json!(6), &json!(6), &json!(0)));
    assert_eq!(first["end"]["how"], "completed");
    let replayed = group.run(&["replay", NAME]).must(0).events("replayed");
    assert_eq!(replayed.len(), 2, "{replayed:?}");
    assert!(replayed.iter().all(|one| one["identical"] == true), "{replayed:?}");
    let status = &objects(&group.run(&["status", NAME]).must(0))[0];
    let shown = status["instances"].as_array().expect("a list");
    assert_eq!(shown.len(), 6, "{status:#}");
    assert!(shown.iter().all(|one| one["standing"]["is"] == "current"), "{status:#}");
}

#[test]
fn two_hundred_instances_roll() {
    // More take the endpoint minutes: `REKILN_GROUP=1000 cargo test --test integration -- rolls::whole::two_hundred`.
    let size = std::env::var("REKILN_GROUP").map_or(200, |size| size.parse().expect("a number"));
    let stage = Stage::new();
    let setup = Setup {
        size,
        max: 2 * size,
        surge: size / 4,
        share: "25%",
        // None of it fails here, however long the endpoint takes.
        deadline: "60m",
        ..Setup::default()
    };
    let group = Group::on(&stage, setup);
    let done = rolled(&group.run(&["roll", NAME]).must(0));
    let replaced = usize::try_from(size).expect("a small number");
    assert_eq!([count(&done, "launched"), count(&done, "ended")], [replaced; 2], "{done}");
    let calls = calls(&stage, &done);
    eprintln!("{size} instances: {calls} calls");
    assert!(calls <= 6 * size, "{calls} calls for {size} instances");
    group.judge(&group.wanted.id);
}

#[test]
fn a_bad_image_goes_back() {
    let stage = Stage::new();
    let setup = Setup {
        surge: 1,
        // Long beside a boot of these machines, and all that this test waits for.
        deadline: "8s",
        roll: "failures = 0\non_failure = \"rollback\"",
        ..Setup::default()
    };
    let group = Group::on(&stage, setup);
    group.run(&["roll", NAME]).must(0);
    group.judge(&group.wanted.id);
    let bad = publish(&stage, "no such page", 9);
    stage.cloud.control("boot", &json!({ "image": bad.id, "bad": true }));
    let mut rolling = group.start();
    let mut written = BTreeSet::new();
    group.comes(&mut rolling, || {
        for member in members(&group.state()).into_iter().filter(|member| member["image"] == bad.id.as_str())
        {
            if written.insert(instance(member)) {
                let text = format!("[    0.1] Linux\r\n[    0.9] {PANIC}\r\n");
                stage.cloud.control("console", &json!({ "instance": instance(member), "text": text }));
            }
        }
        false
    });
    let ended = rolling.end().must(3);
    // One was enough, and what kept it from serving is told: its console, and what AWS did with it.
    assert_eq!(written.len(), 1, "{written:?}");
    assert!(ended.stderr.contains(PANIC), "{}", ended.stderr);
    assert!(ended.stderr.contains("Launching a new EC2 instance"), "{}", ended.stderr);
    group.judge(&group.wanted.id);
    let listed = group.run(&["quarantine", "list"]).must(0).events("quarantined");
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["image"], bad.image.id.to_string());
    // It is not tried again.
    stage.cloud.forget_calls();
    let refused = group.run(&["roll", NAME]);
    assert!(matches!(refused.code, Some(1..=3)), "{}", refused.stderr);
    assert_eq!(group.called("LaunchInstances"), 0);
    group.judge(&group.wanted.id);
}

#[test]
fn a_group_without_a_load_balancer() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup { target_groups: 0, ..Setup::default() });
    let done = rolled(&group.run(&["roll", NAME]).must(0));
    assert_eq!([count(&done, "launched"), count(&done, "ended")], [3, 3], "{done}");
    assert_eq!(group.called("DeregisterTargets"), 0);
    group.judge(&group.wanted.id);
}

#[test]
fn one_fewer_may_serve_where_none_may_be_too_many() {
    let stage = Stage::new();
    let setup = Setup { surge: 0, unavailable: 1, ..Setup::default() };
    let group = Group::on(&stage, setup);
    group.run(&["roll", NAME]).must(0);
    group.judge(&group.wanted.id);
}

#[test]
fn the_max_size_is_given_back() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup::without_room());
    group.run(&["roll", NAME]).must(0);
    // Raised, so that there was room, and given back, beside what pins the version.
    assert!(group.called("UpdateAutoScalingGroup") >= 3, "{:?}", stage.cloud.changes());
    assert_eq!((group.called("SuspendProcesses"), group.called("ResumeProcesses")), (1, 1));
    group.judge(&group.wanted.id);
}

#[test]
fn what_its_owner_had_suspended_stays_suspended() {
    let stage = Stage::new();
    let mut group = Group::on(&stage, Setup::without_room());
    let balance = "AutoScalingGroupName=web&ScalingProcesses.member.1=AZRebalance";
    group.autoscaling(&format!("Action=SuspendProcesses&{balance}"));
    group.before = group.state();
    group.run(&["roll", NAME]).must(0);
    assert_eq!(group.state()["suspended"], json!(["AZRebalance"]));
    group.judge(&group.wanted.id);
}

#[test]
fn an_interrupted_roll() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup::without_room());
    let mut rolling = group.start();
    assert!(group.comes(&mut rolling, || group.called("LaunchInstances") > 0), "it launched nothing");
    signal(rolling.child.id(), Signal::INT);
    rolling.end().must(130);
    // Room for what was launched already cannot be taken away; all else can be given back.
    let left = group.state();
    assert_eq!(left["suspended"], group.before["suspended"], "{left:#}");
    assert!(left["max"].as_u64() >= left["desired"].as_u64(), "{left:#}");
    group.watch();
    group.run(&["roll", NAME]).must(0);
    group.judge(&group.wanted.id);
}

#[test]
fn a_rotation_replaces_all_though_nothing_changed() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup::default());
    group.run(&["roll", NAME]).must(0);
    let ids = || members(&group.settled()).into_iter().map(instance).collect::<BTreeSet<_>>();
    let before = ids();
    let ended = group.run(&["rotate", NAME, "--reason", "x", "--emergency", "--yes"]).must(0);
    let done = ended.events("rotated");
    assert_eq!([count(&done[0], "launched"), count(&done[0], "ended")], [3, 3], "{done:?}");
    group.judge(&group.wanted.id);
    assert!(before.is_disjoint(&ids()), "all are others now");
    // The version that is there already is launched again.
    let template = &stage.cloud.state()["templates"][0];
    assert_eq!(template["versions"].as_array().map(Vec::len), Some(2), "{template:#}");
}

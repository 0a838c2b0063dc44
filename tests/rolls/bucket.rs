//! Fleets whose journal and records are in a bucket: whichever computer rolls them goes on where another one was.

use serde_json::json;

use super::rivals::at_the_first_launch;
use super::stage::{Group, NAME, Setup, objects};
use crate::publish::lanes::every;
use crate::publish::stage::{REGION, Stage, elsewhere};

/// The bucket, and where in it.
const BUCKET: &str = "journals";
const URL: &str = "s3://journals/prod/eu";

/// A group of three without room, whose file names the bucket.
fn group(stage: &Stage) -> Group<'_> {
    stage.cloud.bucket(REGION, BUCKET);
    let group = Group::on(stage, Setup::without_room());
    group.file(NAME, &format!("journal = \"{URL}\""));
    group
}

/// What is in the bucket of one kind.
fn kept(stage: &Stage, part: &str) -> Vec<String> {
    let mut names = stage.cloud.objects(REGION, BUCKET);
    names.retain(|name| name.starts_with(&format!("prod/eu/{part}")));
    names
}

/// Whether the journal is whole, and each decision of it is made again from what it was made from.
fn is_sound(group: &Group<'_>) {
    let ended = group.run(&["replay", NAME]).must(0);
    let replayed = ended.events("replayed");
    assert!(!replayed.is_empty() && replayed.iter().all(|one| one["identical"] == true), "{}", ended.stdout);
}

#[test]
fn another_computer_goes_on_where_one_was_killed() {
    let calls = ["UpdateAutoScalingGroup", "LaunchInstances", "TerminateInstanceInAutoScalingGroup"];
    every(calls, |stage, call| {
        let group = group(stage);
        stage.cloud.rules(&json!([{ "operation": call, "do": "hold_after" }]));
        let mut rolling = group.start();
        assert!(group.comes(&mut rolling, || stage.cloud.calls().iter().any(|call| call.fault.is_some())));
        stage.cloud.wait_for_held(&mut rolling.child);
        rolling.child.kill().expect("killed");
        assert_eq!(rolling.end().code, None, "it was killed");
        stage.cloud.forget_calls();
        // All that this one knew is gone, but for its images.
        assert!(!stage.store().root().join("aws").exists(), "records are in the store");
        assert_eq!(std::fs::read_dir(stage.store().journals()).expect("a directory").count(), 0);
        stage.keep_images_only();
        assert!(!kept(stage, "aws/web/leases/").is_empty(), "{:?}", stage.cloud.objects(REGION, BUCKET));
        group.watch();
        group.run(&["roll", NAME]).must(0);
        group.judge(&group.wanted.id);
        assert_eq!(kept(stage, "aws/web/leases/"), Vec::<String>::new(), "all leases are given back");
        assert_eq!(kept(stage, "aws/web/launching/"), Vec::<String>::new());
        // A third one sees all of it, and has nothing to do.
        stage.keep_images_only();
        is_sound(&group);
        let entries = kept(stage, "journal/web/0").len();
        let history = objects(&group.run(&["history", NAME]).must(0));
        assert!(!history.is_empty());
        stage.cloud.forget_calls();
        group.run(&["roll", NAME]).must(0);
        assert_eq!(stage.cloud.changes(), Vec::<String>::new());
        assert!(kept(stage, "journal/web/0").len() >= entries);
    });
}

#[test]
fn what_a_killed_roll_left_in_a_bucket_is_given_back_by_another_computer() {
    let stage = Stage::new();
    let group = group(&stage);
    stage.cloud.rules(&json!([{ "operation": "LaunchInstances", "do": "hold_before" }]));
    let mut rolling = group.start();
    stage.cloud.wait_for_held(&mut rolling.child);
    rolling.child.kill().expect("killed");
    rolling.end();
    stage.cloud.forget_calls();
    stage.keep_images_only();
    let ended = group.run(&["reap"]).must(0);
    assert_eq!(kept(&stage, "aws/web/leases/"), Vec::<String>::new(), "{}", ended.stdout);
    assert!(ended.stdout.contains("lease of web"), "{}", ended.stdout);
    let now = group.state();
    for value in ["min", "max", "template"] {
        assert_eq!(now[value], group.before[value], "{value}");
    }
}

/// Nobody on another computer can look whether a process lives: it is heard of.
#[test]
fn of_two_computers_one_rolls_and_an_emergency_takes_over() {
    let stage = Stage::new();
    let group = group(&stage);
    let mut rolling = at_the_first_launch(&group);
    let refused = elsewhere(&stage.command(&["roll", NAME])).must(4);
    assert!(refused.stderr.contains("it counts as gone as of"), "{}", refused.stderr);
    let reaped = elsewhere(&stage.command(&["reap"])).must(0);
    assert!(reaped.stdout.contains("\"rolling\":[\"web\"]"), "{}", reaped.stdout);
    elsewhere(&stage.command(&["rotate", NAME, "--reason", "x", "--emergency", "--yes"])).must(0);
    rolling.end().must(4);
    group.judge(&group.wanted.id);
    assert_eq!(kept(&stage, "aws/web/leases/"), Vec::<String>::new());
    is_sound(&group);
}

/// An image that failed on one computer is not launched by another.
#[test]
fn what_failed_on_one_computer_is_quarantined_on_all() {
    let stage = Stage::new();
    stage.cloud.bucket(REGION, BUCKET);
    let setup = Setup { deadline: "6s", roll: "failures = 0", surge: 1, ..Setup::default() };
    let group = Group::on(&stage, setup);
    group.file(NAME, &format!("journal = \"{URL}\""));
    stage.cloud.control("boot", &json!({ "image": group.wanted.id, "bad": true }));
    group.run(&["roll", NAME]).must(3);
    stage.keep_images_only();
    stage.cloud.forget_calls();
    let ended = group.run(&["roll", NAME]).must(3);
    assert!(ended.stderr.contains("it is quarantined"), "{}", ended.stderr);
    assert_eq!(stage.cloud.changes(), Vec::<String>::new());
    let shown = group.run(&["breaker", "show"]).must(0);
    assert_eq!(shown.events("breaker")[0]["failures"].as_array().map(Vec::len), Some(1), "{}", shown.stdout);
    let image = group.wanted.image.short();
    group.run(&["quarantine", "clear", &image]).must(0);
    assert_eq!(kept(&stage, "quarantine/"), Vec::<String>::new());
}

#[test]
fn no_fault_of_the_bucket_keeps_a_roll_from_its_end() {
    let faults = ["500", "503", "throttle", "reset", "lost", "truncate"];
    let cases = faults.into_iter().flat_map(|fault| ["s3:PUT", "s3:GET"].map(|call| (call, fault)));
    every(cases, |stage, (call, fault)| {
        let group = group(stage);
        // Each of the first, the third and the eighth, so that it strikes entries, records and leases.
        let rule = |nth: u32| json!({ "operation": call, "do": fault, "nth": nth });
        stage.cloud.rules(&json!([rule(1), rule(3), rule(8)]));
        group.run(&["roll", NAME]).must(0);
        let struck = stage.cloud.calls().into_iter().filter(|call| call.fault.as_deref() == Some(fault));
        assert!(struck.count() > 1, "nothing was spoiled");
        group.judge(&group.wanted.id);
        stage.cloud.rules(&json!([]));
        is_sound(&group);
    });
}

#[test]
fn a_bucket_that_cannot_be_used_stops_everything_before_it_begins() {
    let stage = Stage::new();
    let group = group(&stage);
    group.file(NAME, "journal = \"s3://elsewhere/prod\"");
    for command in
        [&["roll", NAME][..], &["pause", NAME, "--reason", "x"], &["status", NAME], &["reap"], &["gc"]]
    {
        let ended = group.run(command).must(1);
        assert!(ended.stderr.contains("elsewhere"), "{command:?}: {}", ended.stderr);
    }
    group.file(NAME, &format!("journal = \"{URL}\""));
    let denied = json!([{ "operation": "s3:GET", "do": "error", "times": -1, "code": "AccessDenied", "status": 403,
        "message": "Access Denied" }]);
    stage.cloud.rules(&denied);
    let ended = group.run(&["roll", NAME]).must(1);
    assert!(ended.stderr.contains("s3:ListBucket"), "{}", ended.stderr);
    assert_eq!(stage.cloud.changes(), Vec::<String>::new());
    // A file that does not say where its journal is says nothing into another one.
    group.file(NAME, "journal = \"s3://Journals\"");
    let ended = group.run(&["pause", NAME, "--reason", "x"]).must(2);
    assert!(ended.stderr.contains("fleets/web.toml"), "{}", ended.stderr);
    assert_eq!(std::fs::read_dir(stage.store().journals()).expect("a directory").count(), 0);
}

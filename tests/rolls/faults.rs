//! What AWS does to calls: too many of them, errors of its own, answers that get lost, no capacity, lists that are old, and
//! calls that these credentials may not make.

use std::fmt;

use serde_json::{Value, json};

use super::stage::{Group, NAME, Setup};
use crate::publish::cloud::Call;
use crate::publish::lanes::every;
use crate::publish::stage::{REGION, Stage};

/// Faults that any call can meet.
const FAULTS: [&str; 6] = ["throttle", "500", "503", "reset", "lost", "truncate"];

/// The first call of each operation of a roll without faults.
fn operations() -> Vec<Call> {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup::without_room());
    group.run(&["roll", NAME]).must(0);
    let mut seen: Vec<Call> = Vec::new();
    for call in stage.cloud.calls() {
        if seen.iter().all(|known| known.operation != call.operation) {
            seen.push(call);
        }
    }
    group.judge(&group.wanted.id);
    seen
}

/// Rules, and what they are about.
struct Case {
    about: String,
    fault: &'static str,
    rules: Vec<Value>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.fault, self.about)
    }
}

/// Every fault once at everything that changes something, and at each look in turn; and each answer lost by itself: what
/// was done although nobody heard of it is where things come to be there twice.
fn cases(operations: &[Call]) -> Vec<Case> {
    let (changes, looks): (Vec<&Call>, Vec<&Call>) =
        operations.iter().partition(|call| call.mutating.is_some());
    let rule = |call: &Call, fault: &str, nth: usize| json!({ "operation": call.operation, "nth": nth, "do": fault });
    let mut cases = Vec::new();
    for fault in FAULTS {
        let rules = changes.iter().map(|call| rule(call, fault, 1)).collect();
        cases.push(Case { about: "each change".to_owned(), fault, rules });
        // Not all at the same look, so that what fails three times in a row is not what this is about.
        let rules = looks.iter().enumerate().map(|(at, call)| rule(call, fault, 1 + 2 * at)).collect();
        cases.push(Case { about: "each look".to_owned(), fault, rules });
    }
    for call in &changes {
        let rules = vec![rule(call, "lost", 1)];
        cases.push(Case { about: call.operation.clone(), fault: "lost", rules });
    }
    cases
}

#[test]
fn no_fault_keeps_a_roll_from_its_end() {
    every(cases(&operations()), |stage, case| {
        let group = Group::on(stage, Setup::without_room());
        stage.cloud.rules(&json!(case.rules));
        group.run(&["roll", NAME]).must(0);
        let struck = stage.cloud.calls().into_iter().filter(|call| call.fault.as_deref() == Some(case.fault));
        assert!(struck.count() > 0, "nothing was spoiled");
        group.judge(&group.wanted.id);
    });
}

/// What a service says to whom it does not let.
fn refusal(call: &Call) -> Value {
    let code = if call.service == "ec2" { "UnauthorizedOperation" } else { "AccessDenied" };
    json!([{ "operation": call.operation, "do": "error", "times": -1, "code": code, "status": 403,
        "message": "You are not authorized to perform this operation." }])
}

#[test]
fn who_may_not_is_told_what() {
    every(operations(), |stage, call| {
        // Were it only waited for, this test would wait for it.
        let group = Group::on(stage, Setup { deadline: "10s", ..Setup::without_room() });
        stage.cloud.rules(&refusal(call));
        let ended = group.run(&["roll", NAME]);
        assert!(matches!(ended.code, Some(1 | 3)), "{:?}: {}", ended.code, ended.stderr);
        assert!(ended.stderr.contains(&call.operation), "{} is not named: {}", call.operation, ended.stderr);
        group.watch();
        // Whoever is let in later goes on.
        stage.cloud.rules(&json!([]));
        group.run(&["roll", NAME]).must(0);
        group.judge(&group.wanted.id);
    });
}

/// Not a launch after the other for ever, and nothing is ended in the meantime.
#[test]
fn a_launch_that_aws_refuses_ends_the_roll() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup::without_room());
    let words = "The parameter is not valid.";
    stage.cloud.rules(&json!([{ "operation": "LaunchInstances", "do": "error", "times": -1,
        "code": "ValidationError", "status": 400, "message": words }]));
    let ended = group.run(&["roll", NAME]).must(1);
    assert!(ended.stderr.contains("LaunchInstances") && ended.stderr.contains(words), "{}", ended.stderr);
    assert_eq!(group.called("DeregisterTargets"), 0);
    assert_eq!(group.called("TerminateInstanceInAutoScalingGroup"), 0);
    assert_eq!(group.leases(), Vec::<std::path::PathBuf>::new());
    stage.cloud.rules(&json!([]));
    group.run(&["roll", NAME]).must(0);
    group.judge(&group.wanted.id);
}

#[test]
fn a_zone_without_capacity_is_waited_for_or_passed_over() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup { size: 6, ..Setup::default() });
    stage.cloud.control("capacity", &json!({ "zone": format!("{REGION}b"), "until": 5 }));
    group.run(&["roll", NAME]).must(0);
    let failed = stage.cloud.log(group.from).into_iter().filter(|entry| entry["event"] == "launch failed");
    assert!(failed.count() > 0, "no launch met the shortage");
    group.judge(&group.wanted.id);
}

#[test]
fn a_launch_without_capacity_anywhere_ends_nothing_that_serves() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup { zones: 1, ..Setup::default() });
    let capacity = |seconds: u32| {
        stage.cloud.control("capacity", &json!({ "zone": format!("{REGION}a"), "until": seconds }));
    };
    capacity(3600);
    let mut rolling = group.start();
    let failed = || stage.cloud.log(group.from).iter().any(|entry| entry["event"] == "launch failed");
    assert!(group.comes(&mut rolling, failed), "it ended without having tried");
    for removes in ["DeregisterTargets", "TerminateInstanceInAutoScalingGroup"] {
        assert_eq!(group.called(removes), 0, "{removes}: nothing is there instead of what serves");
    }
    capacity(0);
    rolling.end().must(0);
    group.judge(&group.wanted.id);
}

#[test]
fn lists_that_are_old_mislead_nobody() {
    let cases = [("room", Setup::default()), ("no room", Setup::without_room())];
    every(cases, |stage, (_, setup)| {
        let group = Group::on(stage, setup.clone());
        stage.cloud.control("stale", &json!({ "seconds": 2 }));
        group.run(&["roll", NAME]).must(0);
        stage.cloud.control("stale", &json!({ "seconds": 0 }));
        group.judge(&group.wanted.id);
    });
}

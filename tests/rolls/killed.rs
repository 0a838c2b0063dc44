//! `kill -9` before and after every call of a roll that changes something: the next roll finishes it, and nothing is there
//! twice, missing, or left as it was for the time of a roll only.

use serde_json::json;

use super::stage::{Group, NAME, Setup};
use crate::publish::lanes::every;
use crate::publish::stage::{Stage, Started};

/// How many calls less than the first one a roll may need: what is launched and ended at the same time differs.
const SPARE: u64 = 3;

/// Which call is held, and whether the endpoint has got it then.
#[derive(Debug)]
struct Case {
    mutating: u64,
    hold: &'static str,
}

/// Begins to roll and kills that once a call is held; tells whether one was.
pub fn killed(group: &Group<'_>) -> bool {
    let mut rolling = group.start();
    let cloud = &group.stage.cloud;
    let held = group.comes(&mut rolling, || cloud.calls().iter().any(|call| call.fault.is_some()));
    if held {
        // The rule has struck; now the endpoint has its part of it, or never will.
        cloud.wait_for_held(&mut rolling.child);
        kill(&mut rolling);
    } else {
        rolling.end().must(0);
    }
    cloud.forget_calls();
    held
}

fn kill(rolling: &mut Started) {
    rolling.child.kill().expect("killed");
    assert_eq!(rolling.end().code, None, "it was killed");
}

#[test]
fn killed_at_any_call_it_is_finished() {
    let calls = {
        let stage = Stage::new();
        let group = Group::on(&stage, Setup::without_room());
        group.run(&["roll", NAME]).must(0);
        let changes = stage.cloud.changes();
        eprintln!("a roll of three: {changes:?}");
        group.judge(&group.wanted.id);
        changes.len() as u64
    };
    // A version, the pin, room, the balance; three launches, names, drains, ends; and what is given back.
    assert!(calls > 10, "{calls}");
    let cases =
        (1..=calls).flat_map(|mutating| ["hold_before", "hold_after"].map(|hold| Case { mutating, hold }));
    every(cases, |stage, case| {
        let group = Group::on(stage, Setup::without_room());
        stage.cloud.rules(&json!([{ "mutating": case.mutating, "do": case.hold }]));
        let held = killed(&group);
        assert!(held || case.mutating + SPARE > calls, "there was no such call");
        group.watch();
        group.run(&["roll", NAME]).must(0);
        group.judge(&group.wanted.id);
        // A version is made once, whoever asks for it how often.
        let template = &stage.cloud.state()["templates"][0];
        assert_eq!(template["versions"].as_array().map(Vec::len), Some(2), "{template:#}");
    });
}

/// Twice in a row, at the same kind of call.
#[test]
fn killed_again_and_again_it_is_finished() {
    let calls = ["LaunchInstances", "CreateTags", "DeregisterTargets", "TerminateInstanceInAutoScalingGroup"];
    every(calls, |stage, call| {
        let group = Group::on(stage, Setup::without_room());
        for hold in ["hold_after", "hold_before", "hold_after"] {
            stage.cloud.rules(&json!([{ "operation": call, "do": hold }]));
            killed(&group);
            group.watch();
        }
        group.run(&["roll", NAME]).must(0);
        group.judge(&group.wanted.id);
    });
}

#[test]
fn what_a_killed_roll_left_is_given_back_by_reap() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup::without_room());
    stage.cloud.rules(&json!([{ "operation": "LaunchInstances", "do": "hold_before" }]));
    assert!(killed(&group), "it launches something");
    let left = group.state();
    assert_eq!(left["suspended"], json!(["AZRebalance"]), "{left:#}");
    assert!(left["max"].as_u64() > Some(3) && !group.leases().is_empty(), "{left:#}");
    group.run(&["reap"]).must(0);
    let now = group.state();
    for what in ["min", "max", "desired", "suspended"] {
        assert_eq!(now[what], group.before[what], "{what}: {now:#}");
    }
    assert_eq!(group.leases(), Vec::<std::path::PathBuf>::new());
    // There is nothing to give back any more.
    stage.cloud.forget_calls();
    group.run(&["reap"]).must(0);
    assert_eq!(stage.cloud.changes(), [""; 0]);
    group.run(&["roll", NAME]).must(0);
    group.judge(&group.wanted.id);
}

#[test]
fn what_is_being_rolled_is_not_given_back_by_reap() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup::without_room());
    stage.cloud.rules(&json!([{ "operation": "LaunchInstances", "do": "hold_before" }]));
    let mut rolling = group.start();
    stage.cloud.wait_for_held(&mut rolling.child);
    let leases = group.leases().len();
    let reaped = group.run(&["reap"]).must(0).events("reaped");
    assert_eq!(reaped[0]["rolling"], json!([NAME]));
    assert_eq!(group.leases().len(), leases);
    assert_eq!(group.state()["suspended"], json!(["AZRebalance"]));
    // The held connection breaks, and the roll goes on.
    stage.cloud.rules(&json!([]));
    stage.cloud.release();
    rolling.end().must(0);
    group.judge(&group.wanted.id);
}

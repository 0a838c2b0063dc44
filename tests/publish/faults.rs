//! Every fault on every operation: the result is the same, and nothing is there twice.

use std::fmt;

use serde_json::{Value, json};

use super::EVERYTHING;
use super::cloud::Call;
use super::lanes::every;
use super::operations;
use super::stage::{REGION, Stage};

/// Faults that any call can meet.
const FAULTS: [&str; 7] = ["throttle", "500", "503", "reset", "lost", "truncate", "slow"];
/// Calls that name nothing which was just made: AWS does not say "not found" to them.
const NAMES_NOTHING: [&str; 3] = ["GetCallerIdentity", "PutParameter", "StartSnapshot"];

/// What a publish without faults calls, and what it leaves.
fn clean() -> (Vec<Call>, Value) {
    let stage = Stage::new();
    stage.publish_section(EVERYTHING);
    let image = stage.usual_image();
    stage.publish(&image);
    stage.must_have(REGION, &image);
    (stage.cloud.calls(), stage.shape())
}

/// Rules, how many of them must strike, and the fault.
struct Case {
    fault: &'static str,
    rules: Vec<Value>,
    strikes: usize,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = self.rules.iter().map(|rule| format!("{} {}", rule["operation"], rule["nth"]));
        write!(f, "{} at {}", self.fault, calls.collect::<Vec<_>>().join(", "))
    }
}

fn cases(calls: &[Call]) -> Vec<Case> {
    let mut cases = Vec::new();
    let count = |call: &Call| calls.iter().filter(|other| other.operation == call.operation).count();
    let rule = |call: &Call, fault: &str, nth: usize| json!({ "operation": call.operation, "nth": nth, "do": fault, "seconds": 0.5 });
    let all = operations(calls);
    let named: Vec<&Call> =
        all.iter().copied().filter(|call| !NAMES_NOTHING.contains(&call.operation.as_str())).collect();
    for (fault, met) in FAULTS.into_iter().map(|fault| (fault, &all)).chain([("not_found", &named)]) {
        // "Not found" to the first look is the truth, and not to be tried again.
        if fault != "not_found" {
            let rules: Vec<Value> = met.iter().map(|call| rule(call, fault, 1)).collect();
            cases.push(Case { fault, strikes: rules.len(), rules });
        }
        let rules: Vec<Value> = met.iter().map(|call| rule(call, fault, count(call))).collect();
        cases.push(Case { fault, strikes: 1, rules });
    }
    // What was done although nobody heard of it is where things come to be there twice: each for itself.
    for call in all.iter().filter(|call| call.mutating.is_some()) {
        for fault in ["lost", "truncate"] {
            cases.push(Case { fault, rules: vec![rule(call, fault, 1)], strikes: 1 });
        }
    }
    cases
}

#[test]
fn no_fault_changes_the_result() {
    let (calls, shape) = clean();
    every(cases(&calls), |stage, case| {
        stage.publish_section(EVERYTHING);
        let image = stage.usual_image();
        stage.cloud.rules(&json!(case.rules));
        let events = stage.publish(&image);
        let struck =
            stage.cloud.calls().iter().filter(|call| call.fault.as_deref() == Some(case.fault)).count();
        assert!(struck >= case.strikes, "{struck} of {} rules struck", case.strikes);
        assert_eq!(events.len(), 1, "{events:?}");
        stage.must_have(REGION, &image);
        stage.must_be_as(&shape);
    });
}

#[test]
fn a_snapshot_that_aws_gave_up_is_made_anew() {
    let stage = Stage::new();
    let image = stage.usual_image();
    stage.cloud.rules(&json!([{ "operation": "CompleteSnapshot", "do": "hold_before" }]));
    let mut started = stage.start(&image);
    stage.cloud.wait_for_held(&mut started.child);
    started.child.kill().expect("killed");
    started.end();
    stage.cloud.forget_calls();
    // Longer than any time-out of a snapshot.
    stage.cloud.clock(4321 * 60);
    stage.publish(&image);
    stage.run(&["reap"]).must(0);
    stage.must_have(REGION, &image);
}

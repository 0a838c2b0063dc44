//! `kill -9` before and after every call that changes something until the instance is up, and Ctrl-C: `rekiln reap`, the next
//! bake, or the bake itself leaves nothing.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::site::Site;

/// The calls of a bake that nobody gets into.
const CALLS: [&str; 5] = [
    "CreateSecurityGroup",
    "RunInstances",
    "AuthorizeSecurityGroupIngress",
    "TerminateInstances",
    "DeleteSecurityGroup",
];

/// Makes the last launch older than the time in which AWS may not list it: two minutes are long in a test.
fn later(site: &Site) {
    let path = site.ledger().join("entry.json");
    let mut entry: Value = serde_json::from_slice(&fs::read(&path).expect("an entry")).expect("JSON");
    if entry["asked"].is_string() {
        entry["asked"] = json!("2026-01-01T00:00:00Z");
    }
    fs::write(&path, entry.to_string()).expect("written");
}

#[test]
fn killed_at_any_call_nothing_stays() {
    let site = Site::new("127.38");
    site.recipe("ssh_timeout = \"1s\"\n", "");
    for (number, call) in CALLS.iter().enumerate() {
        for hold in ["hold_before", "hold_after"] {
            site.stage.cloud.rules(&json!([{ "operation": call, "do": hold }]));
            let mut baking = site.stage.begin(&["bake", "--no-boot", "vendor"]);
            site.stage.cloud.wait_for_held(&mut baking.child);
            baking.child.kill().expect("killed");
            assert_eq!(baking.end().code, None, "it was killed");
            site.stage.cloud.forget_calls();
            later(&site);
            if number % 2 == 0 {
                site.stage.run(&["reap"]).must(0);
                site.stage.cloud.forget_calls();
                site.stage.run(&["reap"]).must(0);
                assert_eq!(site.stage.cloud.changes(), [""; 0], "nothing is left to reap");
            } else {
                // The next bake begins by removing it; its own end is the same as ever.
                let ended = site.bake().must(1);
                assert!(ended.stderr.contains("did not let us in"), "{call} {hold}: {}", ended.stderr);
            }
            site.nothing_is_left();
        }
    }
}

#[test]
fn a_bake_that_goes_on_is_not_reaped_and_ctrl_c_leaves_nothing() {
    let site = Site::new("127.39");
    site.recipe("ssh_timeout = \"10m\"\n", "");
    let mut baking = site.stage.begin(&["bake", "--no-boot", "vendor"]);
    let admitted = || site.stage.cloud.changes().iter().any(|call| call == "AuthorizeSecurityGroupIngress");
    while !admitted() {
        assert!(baking.child.try_wait().expect("its state").is_none(), "{}", baking.end().stderr);
        std::thread::sleep(crate::publish::cloud::LOOK);
    }
    let reaped = site.stage.run(&["reap"]).must(0);
    assert!(reaped.stdout.contains("\"removed\":[]"), "{}", reaped.stdout);
    let rival = site.bake().must(3);
    assert!(rival.stderr.contains("another process is baking"), "{}", rival.stderr);
    let pid = Pid::from_child(&baking.child);
    kill_process(pid, Signal::INT).expect("sent");
    let ended = baking.end();
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert_eq!(site.nothing_is_left().len(), 1);
}

//! Ctrl-C, and what `rekiln reap` leaves alone.

use rustix::process::Signal;
use serde_json::json;

use super::lanes::every;
use super::stage::{REGION, Stage};
use crate::fleet::stage::signal;

#[test]
fn after_ctrl_c_it_is_finished_or_removed() {
    let calls = ["StartSnapshot", "PutSnapshotBlock", "CompleteSnapshot", "RegisterImage"];
    every(calls.into_iter().flat_map(|call| [(call, "publish"), (call, "reap")]), |stage, (call, then)| {
        let image = stage.usual_image();
        let nth = if *call == "PutSnapshotBlock" { 3 } else { 1 };
        stage.cloud.rules(&json!([{ "operation": call, "nth": nth, "do": "hold_after" }]));
        let mut started = stage.start(&image);
        stage.cloud.wait_for_held(&mut started.child);
        signal(started.child.id(), Signal::INT);
        let ended = started.end().must(130);
        assert_eq!(ended.events("published").len(), 0, "{}", ended.stdout);
        stage.cloud.forget_calls();
        if *then == "reap" {
            stage.run(&["reap"]).must(0);
            let world = stage.cloud.state();
            assert_eq!((&world["images"], &world["snapshots"]), (&json!([]), &json!([])));
        }
        let said = &stage.publish(&image)[0];
        stage.must_have(REGION, &image);
        if *then == "publish" && ["CompleteSnapshot", "RegisterImage"].contains(call) {
            assert_eq!(said["sent"], 0, "{said}");
        }
    });
}

#[test]
fn what_is_being_published_is_not_left_over() {
    let stage = Stage::new();
    for call in ["PutSnapshotBlock", "RegisterImage"] {
        stage.clear();
        let image = stage.usual_image();
        stage.cloud.rules(&json!([{ "operation": call, "do": "hold_after" }]));
        let mut started = stage.start(&image);
        stage.cloud.wait_for_held(&mut started.child);
        stage.cloud.wait_for_quiet(started.child.id());
        let world = stage.cloud.state();
        stage.run(&["reap"]).must(0);
        assert_eq!(stage.cloud.state(), world, "{call}");
        // The held connection breaks, and the command goes on.
        stage.cloud.rules(&json!([]));
        stage.cloud.release();
        let said = started.end().must(0).events("published");
        assert_eq!(said.len(), 1, "{said:?}");
        stage.must_have(REGION, &image);
    }
}

#[test]
fn two_at_a_time_make_one() {
    let stage = Stage::new();
    let image = stage.usual_image();
    stage.cloud.rules(&json!([{ "operation": "PutSnapshotBlock", "do": "hold_after" }]));
    let mut started = stage.start(&image);
    stage.cloud.wait_for_held(&mut started.child);
    // Whether the second one waits, takes part or refuses is its own affair.
    let mut second = stage.start(&image);
    stage.cloud.rules(&json!([]));
    stage.cloud.release();
    started.end().must(0);
    second.end();
    stage.must_have(REGION, &image);
}

#[test]
fn what_others_made_is_not_reaped() {
    let stage = Stage::new();
    let image = stage.usual_image();
    stage.cloud.foreign_image(REGION, "somebody's");
    stage.cloud.foreign_image(REGION, "rekiln/web/by hand");
    let world = stage.cloud.state();
    stage.cloud.rules(&json!([{ "operation": "RegisterImage", "do": "hold_after" }]));
    let mut started = stage.start(&image);
    stage.cloud.wait_for_held(&mut started.child);
    started.child.kill().expect("killed");
    started.end();
    stage.cloud.forget_calls();
    stage.run(&["reap"]).must(0);
    assert_eq!(stage.cloud.state(), world);
}

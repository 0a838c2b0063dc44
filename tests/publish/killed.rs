//! `kill -9` before and after every call that changes something: the next publish finishes what there is and sends
//! nothing again that was confirmed, and `rekiln reap` leaves nothing.

use serde_json::{Value, json};

use super::EVERYTHING;
use super::lanes::every;
use super::stage::{DATA, Image, REGION, Stage};

/// What comes after the kill.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Then {
    Publish,
    Reap,
}

/// Which call is held, and whether the endpoint has got it then.
#[derive(Debug)]
struct Case {
    mutating: u64,
    hold: &'static str,
    then: Then,
}

fn prepared(stage: &Stage) -> Image {
    stage.publish_section(EVERYTHING);
    stage.cloud.looks(0);
    stage.usual_image()
}

/// Publishes, and kills that at the call; returns how many blocks were confirmed.
fn killed(stage: &Stage, image: &Image, case: &Case) -> u64 {
    stage.cloud.rules(&json!([{ "mutating": case.mutating, "do": case.hold }]));
    let mut started = stage.start(image);
    stage.cloud.wait_for_held(&mut started.child);
    // Once among other calls under way, once when what was confirmed is noted.
    if case.hold == "hold_after" {
        stage.cloud.wait_for_quiet(started.child.id());
    }
    started.child.kill().expect("killed");
    assert_eq!(started.end().code, None, "it was killed");
    let calls = stage.cloud.calls();
    let confirmed =
        calls.iter().filter(|call| call.operation == "PutSnapshotBlock" && call.status == Some(201));
    let confirmed = confirmed.count() as u64;
    stage.cloud.forget_calls();
    confirmed
}

fn publish_again(stage: &Stage, image: &Image, case: &Case, confirmed: u64) {
    let events = stage.publish(image);
    let sent = events[0]["sent"].as_u64().expect("a number");
    if case.hold == "hold_after" {
        let puts = stage.cloud.changes().iter().filter(|name| *name == "PutSnapshotBlock").count() as u64;
        assert_eq!(sent, puts, "what it says it sent");
        assert!(sent + confirmed <= DATA, "{sent} blocks sent after {confirmed} of {DATA} were confirmed");
    }
}

fn reap(stage: &Stage) {
    stage.run(&["reap"]).must(0);
    let world = stage.cloud.state();
    for kind in ["images", "snapshots"] {
        assert_eq!(world[kind], json!([]), "{kind} after reap");
    }
    stage.cloud.forget_calls();
    stage.run(&["reap"]).must(0);
    assert_eq!(stage.cloud.changes(), Vec::<String>::new(), "there is nothing to reap any more");
}

#[test]
fn killed_at_any_call_it_is_finished_or_removed() {
    let (calls, shape) = {
        let stage = Stage::new();
        let image = prepared(&stage);
        stage.publish(&image);
        (stage.cloud.changes().len() as u64, stage.shape())
    };
    assert!(calls > DATA + 3, "a start, the blocks, a completion, a registration and what follows: {calls}");
    let cases = (1..=calls).flat_map(|mutating| {
        ["hold_before", "hold_after"]
            .into_iter()
            .flat_map(move |hold| [Then::Publish, Then::Reap].map(|then| Case { mutating, hold, then }))
    });
    every(cases, |stage, case| {
        let image = prepared(stage);
        let confirmed = killed(stage, &image, case);
        match case.then {
            Then::Publish => publish_again(stage, &image, case, confirmed),
            Then::Reap => {
                reap(stage);
                // AWS answers a client token for ever, also when what it made is gone.
                stage.publish(&image);
            }
        }
        stage.must_have(REGION, &image);
        stage.must_be_as(&shape);
    });
}

#[test]
fn killed_in_a_delta_it_is_finished() {
    let cases = [2, 3, 4].map(|mutating| Case { mutating, hold: "hold_after", then: Then::Publish });
    every(cases, |stage, case| {
        stage.cloud.looks(0);
        let first = stage.publish(&stage.usual_image());
        stage.cloud.forget_calls();
        let later = stage.image("later", super::stage::SIZE, &[(0, 9), (1, 2), (3, 8), (15, 6)]);
        let confirmed = killed(stage, &later, case);
        let said = &stage.publish(&later)[0];
        // Of the changes, two blocks are other ones and two became zero.
        assert!(said["sent"].as_u64().expect("a number") + confirmed <= 4, "{said} after {confirmed}");
        assert_eq!(said["parent"], first[0]["snapshot"]);
        let world = stage.cloud.state();
        assert_eq!(["images", "snapshots"].map(|kind| world[kind].as_array().map(Vec::len)), [Some(2); 2]);
        let snapshot = said["snapshot"].as_str().expect("an id");
        assert_eq!(stage.cloud.content(snapshot), later.blocks);
        assert_eq!(snapshot_of(&world, snapshot)["own_blocks"], 4);
    });
}

fn snapshot_of<'a>(world: &'a Value, id: &str) -> &'a Value {
    let mut all = world["snapshots"].as_array().expect("a list").iter();
    all.find(|entry| entry["id"] == id).expect("a snapshot")
}

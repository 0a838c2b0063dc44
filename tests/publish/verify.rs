//! `rekiln verify-ami` reads back what was published, and finds what is not as it was sent.

use serde_json::{Value, json};

use super::stage::{DATA, REGION, Stage};

#[test]
fn one_wrong_byte_is_found() {
    let stage = Stage::new();
    let image = stage.usual_image();
    let snapshot = stage.publish(&image)[0]["snapshot"].as_str().expect("an id").to_owned();
    let verify = |code| {
        let verified = stage.run(&["verify-ami", &image.short()]).must(code).events("verified");
        assert_eq!(verified.len(), 1, "{verified:?}");
        verified[0]["differences"].as_array().expect("a list").len()
    };
    assert_eq!(verify(0), 0);
    for (number, (block, missing)) in [(10, false), (4, false), (5, false), (3, true)].into_iter().enumerate()
    {
        // A block with data, a hole, one of zeros, and one that is gone.
        stage.cloud.spoil(&snapshot, block, missing);
        assert_eq!(verify(1), number + 1, "block {block}");
    }
}

/// As an older version recorded it, without its blocks; or with something in a hole, where the bake had nothing.
#[test]
fn what_is_sent_is_what_was_baked_whatever_is_recorded_of_it() {
    let stage = Stage::new();
    for what in ["no blocks are recorded", "what is recorded is gone", "something is in a hole"] {
        stage.clear();
        let image = stage.usual_image();
        match what {
            "no blocks are recorded" => stage.change_record(&image, |record| record.disk.blocks = None),
            "what is recorded is gone" => {
                std::fs::remove_file(stage.disk(&image).with_file_name("blocks.json")).expect("removed");
            }
            _ => super::stage::overwrite(&stage.disk(&image), 4 * 524_288 + 9, 77),
        }
        stage.publish(&image);
        stage.must_have(REGION, &image);
        assert_eq!(stage.run(&["verify-ami", &image.short()]).must(0).events("verified").len(), 1, "{what}");
    }
}

#[test]
fn a_broken_line_is_no_difference() {
    let stage = Stage::new();
    let image = stage.usual_image();
    stage.publish(&image);
    stage.cloud.forget_calls();
    let verify = || stage.run(&["verify-ami", &image.short()]).must(0).events("verified");
    verify();
    let calls = stage.cloud.calls();
    assert_eq!(calls.iter().filter(|call| call.mutating.is_some()).count(), 0, "it only reads");
    assert_eq!(calls.iter().filter(|call| call.operation == "GetSnapshotBlock").count() as u64, DATA);
    for fault in ["throttle", "500", "503", "reset", "lost", "truncate"] {
        let rules: Vec<Value> = super::operations(&calls)
            .into_iter()
            .map(|call| json!({ "operation": call.operation, "do": fault }))
            .collect();
        stage.cloud.forget_calls();
        stage.cloud.rules(&json!(rules));
        assert_eq!(verify()[0]["differences"], json!([]), "{fault}");
        let struck = stage.cloud.calls().iter().filter(|call| call.fault.is_some()).count();
        assert_eq!(struck, rules.len(), "{fault}");
    }
}

#[test]
fn what_is_not_published_is_not_verified() {
    let stage = Stage::new();
    let image = stage.usual_image();
    let ended = stage.run(&["verify-ami", &image.short()]).must(1);
    assert!(ended.stderr.contains(REGION), "{}", ended.stderr);
    // Neither is somebody else's AMI.
    stage.cloud.foreign_image(REGION, &image.ami_name());
    stage.run(&["verify-ami", &image.short()]).must(1);
}

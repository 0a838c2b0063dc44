//! What is not published, and why: nothing changes then.

use jiff::Timestamp;
use rekiln::catalog::marks::Mark;
use rekiln::catalog::quarantine::Quarantine;
use rekiln::publish::blocks::Blocks;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::EVERYTHING;
use super::cloud::Call;
use super::lanes::every;
use super::operations;
use super::stage::{REGION, Stage, ended, verdict};

#[test]
fn only_what_a_fleet_may_run_is_published() {
    let stage = Stage::new();
    for (what, part) in [
        ("failed", "boot"),
        ("not booted", "booted"),
        ("debug", "debug"),
        ("quarantined", "quarantine"),
        ("another disk", "disk"),
        ("an older record's other disk", "disk"),
        ("the blocks of another disk", "disk"),
        ("no disk", "disk"),
    ] {
        stage.clear();
        let image = stage.usual_image();
        match what {
            "failed" => stage.change_record(&image, |record| record.verdict = Some(verdict(false))),
            "not booted" => stage.change_record(&image, |record| record.verdict = None),
            "debug" => stage.change_record(&image, |record| record.debug = true),
            "quarantined" => {
                let (reason, by) = ("a test".to_owned(), "a person".to_owned());
                let entry = Mark { image: image.id, reason, by, at: Timestamp::UNIX_EPOCH };
                let quarantine = Quarantine::new(&[stage.store().objects()]);
                Runtime::new().expect("a runtime").block_on(quarantine.add(&entry)).expect("added");
            }
            _ if what.contains("other disk") => {
                super::stage::overwrite(&stage.disk(&image), 3 * 524_288 + 4095, 77);
                if what.starts_with("an older") {
                    stage.change_record(&image, |record| record.disk.blocks = None);
                }
                if what.starts_with("the blocks") {
                    // They fit the disk, and not the record.
                    let blocks = Blocks::of(&stage.disk(&image)).expect("read").written().expect("JSON");
                    std::fs::write(stage.disk(&image).with_file_name("blocks.json"), blocks)
                        .expect("written");
                }
            }
            _ => std::fs::remove_file(stage.disk(&image)).expect("removed"),
        }
        let ended = stage.run(&["publish", &image.short()]).must(1);
        assert!(ended.stderr.contains(part), "{what}: {}", ended.stderr);
        assert_eq!(ended.events("published"), Vec::<Value>::new(), "{what}");
        // What the disk is, is known when it was read; all else is known before.
        if what.ends_with("disk") {
            stage.run(&["reap"]).must(0);
        } else {
            assert_eq!(stage.cloud.changes(), Vec::<String>::new(), "{what}");
        }
        let world = stage.cloud.state();
        assert_eq!((&world["images"], &world["snapshots"]), (&json!([]), &json!([])), "{what}");
    }
}

#[test]
fn whoever_asks_for_nonsense_is_told() {
    let stage = Stage::new();
    let image = stage.usual_image();
    for (args, code, part) in [
        (&["publish"][..], 2, "IMAGE"),
        (&["publish", "nothing"], 1, "no image `nothing`"),
        (&["publish", "abcdef"], 1, "no image `abcdef`"),
        (&["verify-ami", "nothing"], 1, "no image `nothing`"),
        (&["publish", "web", "--region"], 2, "--region"),
    ] {
        let ended = stage.run(args).must(code);
        assert!(ended.stderr.contains(part), "{args:?}: {}", ended.stderr);
    }
    stage.no_publish_section();
    for command in ["publish", "verify-ami"] {
        let ended = stage.run(&[command, &image.short()]).must(2);
        assert!(ended.stderr.contains("region"), "{}", ended.stderr);
    }
    let mut nobody = stage.command(&["publish", &image.short(), "--region", REGION]);
    nobody.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let ended = ended(&mut nobody).must(1);
    assert!(ended.stderr.contains("credentials"), "{}", ended.stderr);
    assert_eq!(stage.cloud.changes(), Vec::<String>::new());
}

#[test]
fn a_name_that_is_taken_stays_with_whom_it_belongs_to() {
    let stage = Stage::new();
    let image = stage.usual_image();
    let taken = stage.cloud.foreign_image(REGION, &image.ami_name());
    let world = stage.cloud.state();
    let ended = stage.run(&["publish", &image.short()]).must(1);
    assert!(ended.stderr.contains(&taken) || ended.stderr.contains(&image.ami_name()), "{}", ended.stderr);
    assert_eq!(stage.cloud.state(), world, "nothing is changed and nothing left");
    // The same when it is taken after the first look.
    stage.cloud.reset();
    stage.cloud.rules(&json!([{ "operation": "RegisterImage", "do": "hold_before" }]));
    let mut started = stage.start(&image);
    stage.cloud.wait_for_held(&mut started.child);
    let taken = stage.cloud.foreign_image(REGION, &image.ami_name());
    stage.cloud.release();
    started.end().must(1);
    stage.run(&["reap"]).must(0);
    let (ami, snapshot) = stage.only(REGION);
    assert_eq!((&ami["id"], &ami["snapshots"][0]), (&taken.into(), &snapshot["id"]));
}

/// What a service says to whom it does not let.
pub fn refusal(service: &str, operation: &str) -> Value {
    let (code, status) = match service {
        "ec2" => ("UnauthorizedOperation", 403),
        "ebs" => ("AccessDeniedException", 403),
        "ssm" => ("AccessDeniedException", 400),
        _ => ("AccessDenied", 403),
    };
    json!([{ "operation": operation, "do": "error", "times": -1, "code": code, "status": status,
        "message": "You are not authorized to perform this operation." }])
}

#[test]
fn who_may_not_is_told_at_once_what_and_where() {
    let (calls, shape) = {
        let stage = Stage::new();
        stage.publish_section(EVERYTHING);
        stage.publish(&stage.usual_image());
        (stage.cloud.calls(), stage.shape())
    };
    let calls: Vec<Call> = operations(&calls).into_iter().cloned().collect();
    assert!(calls.len() > 6, "{calls:?}");
    every(calls, |stage, call| {
        stage.publish_section(EVERYTHING);
        let image = stage.usual_image();
        stage.cloud.rules(&refusal(&call.service, &call.operation));
        let ended = stage.run(&["publish", &image.short()]).must(1);
        assert!(ended.stderr.contains(&call.operation) && ended.stderr.contains(REGION), "{}", ended.stderr);
        let mut refused: Vec<String> = stage
            .cloud
            .calls()
            .into_iter()
            .filter(|call| call.fault.is_some())
            .map(|call| call.path)
            .collect();
        let all = refused.len();
        refused.sort_unstable();
        refused.dedup();
        assert!(all > 0 && all == refused.len(), "{all} calls of {refused:?}");
        // Whoever is let in later goes on.
        stage.cloud.rules(&json!([]));
        stage.publish(&image);
        stage.must_have(REGION, &image);
        stage.must_be_as(&shape);
    });
}

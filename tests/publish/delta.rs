//! A later image of a recipe is sent as what is different; when that is not possible, as a whole.

use serde_json::{Value, json};

use super::stage::{BLOCK, FILLS, Image, REGION, SIZE, Stage};

/// The usual disk with one block changed, one that became zero, and one that appeared.
const LATER: [(u64, u8); 7] = [(0, 1), (1, 9), (3, 0), (7, 4), (10, 5), (12, 8), (15, 6)];

/// What there is of an image: its AMI and its snapshot.
fn of(stage: &Stage, image: &Image) -> (Value, Value) {
    let world = stage.cloud.state();
    let find = |kind: &str| {
        let mut all = world[kind].as_array().expect("a list").iter();
        let found = all.find(|entry| entry["tags"]["rekiln:image"] == image.id.to_string());
        found.unwrap_or_else(|| panic!("{kind}: {world:#}")).clone()
    };
    let (ami, snapshot) = (find("images"), find("snapshots"));
    assert_eq!(ami["snapshots"], json!([snapshot["id"]]));
    assert_eq!(stage.cloud.content(snapshot["id"].as_str().expect("an id")), image.blocks);
    (ami, snapshot)
}

#[test]
fn only_what_is_different_is_sent() {
    let stage = Stage::new();
    let image = stage.usual_image();
    let first = stage.publish(&image);
    let later = stage.image("later", SIZE, &LATER);
    let said = &stage.publish(&later)[0];
    let (ami, snapshot) = of(&stage, &later);
    assert_eq!((&said["ami"], &said["snapshot"]), (&ami["id"], &snapshot["id"]));
    assert_eq!((&said["parent"], &snapshot["parent"]), (&first[0]["snapshot"], &first[0]["snapshot"]));
    assert_eq!((&said["blocks"], &said["sent"]), (&json!(6), &json!(3)));
    assert_eq!((&said["bytes"], &snapshot["own_blocks"]), (&json!(3 * BLOCK), &json!(3)));
    assert_eq!(said["changed"], true);
    // What it stands on is as it was, and nothing is sent twice.
    of(&stage, &image);
    stage.cloud.forget_calls();
    stage.publish(&later);
    assert_eq!(stage.cloud.changes(), Vec::<String>::new());
    let verified = stage.run(&["verify-ami", &later.short()]).must(0).events("verified");
    assert_eq!(verified[0]["differences"], json!([]));
}

#[test]
fn the_newest_is_what_a_third_one_stands_on() {
    let stage = Stage::new();
    for (name, fills) in [("first", &FILLS[..]), ("second", &LATER)] {
        let image = stage.image(name, SIZE, fills);
        stage.publish(&image);
    }
    // Back to what the first one was, on a larger volume.
    let third = stage.image("third", (1 << 30) + SIZE, &FILLS);
    let said = &stage.publish(&third)[0];
    let (_, snapshot) = of(&stage, &third);
    assert_eq!((&said["sent"], &snapshot["volume_size"]), (&json!(3), &json!(2)));
    let world = stage.cloud.state();
    let mut second = world["snapshots"].as_array().expect("a list").iter();
    let second = second.find(|entry| entry["id"] == said["parent"]).expect("the parent");
    assert_eq!(second["own_blocks"], 3);
}

#[test]
fn the_same_disk_under_another_id_is_sent_as_nothing() {
    let stage = Stage::new();
    stage.publish(&stage.usual_image());
    let same = stage.image("same", SIZE, &FILLS);
    let said = &stage.publish(&same)[0];
    of(&stage, &same);
    assert_eq!(said["sent"], 0, "{said}");
}

#[test]
fn what_a_later_one_would_stand_on_may_be_gone() {
    let stage = Stage::new();
    for what in ["in the cloud", "the snapshot's data as it was", "the disk here"] {
        stage.clear();
        let image = stage.usual_image();
        let first = stage.publish(&image);
        let later = stage.image("later", SIZE, &LATER);
        match what {
            "in the cloud" => {
                for (action, id) in
                    [("DeregisterImage&ImageId", "ami"), ("DeleteSnapshot&SnapshotId", "snapshot")]
                {
                    let id = first[0][id].as_str().expect("an id");
                    stage.cloud.ec2(REGION, &format!("Action={action}={id}"));
                }
            }
            "the disk here" => std::fs::remove_file(stage.disk(&image)).expect("removed"),
            // A disk that was changed here is no witness of what was sent.
            _ => super::stage::overwrite(&stage.disk(&image), 4095, 77),
        }
        stage.publish(&later);
        of(&stage, &later);
    }
}

#[test]
fn another_key_cannot_be_had_by_a_delta() {
    let stage = Stage::new();
    let key = |number: u8| format!("arn:aws:kms:{REGION}:123456789012:key/{number}{}", "1".repeat(35));
    let section = |number| format!("regions = [\"{REGION}\"]\nkms = {{ {REGION} = \"{}\" }}", key(number));
    stage.publish_section(&section(1));
    stage.publish(&stage.usual_image());
    let same_key = stage.image("same key", SIZE, &LATER);
    let said = &stage.publish(&same_key)[0];
    assert_eq!((&said["sent"], &of(&stage, &same_key).1["kms_key"]), (&json!(3), &json!(key(1))));
    stage.publish_section(&section(2));
    let other_key = stage.image("other key", SIZE, &FILLS);
    let said = &stage.publish(&other_key)[0];
    assert_eq!((&said["parent"], &of(&stage, &other_key).1["kms_key"]), (&Value::Null, &json!(key(2))));
}

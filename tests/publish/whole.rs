//! An image that nobody published before: what is made of it, where, and that it is made once.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::stage::{BLOCK, DATA, Image, OTHER_REGION, REGION, SIZE, Stage};

/// What a command says of an image and a region that was published as a whole.
fn must_say(event: &Value, image: &Image, region: &str, ami: &Value, snapshot: &Value) {
    let expected = json!({ "event": "published", "image": image.id, "name": "web", "account": "123456789012",
        "region": region, "ami": ami["id"], "snapshot": snapshot["id"], "blocks": DATA, "sent": DATA,
        "bytes": DATA * BLOCK as u64, "parent": null, "changed": true });
    assert_eq!(*event, expected);
}

#[test]
fn an_image_is_published_from_nothing_and_then_it_is_there() {
    let stage = Stage::new();
    let image = stage.usual_image();
    let events = stage.publish(&image);
    let (ami, snapshot) = stage.must_have(REGION, &image);
    assert_eq!(events.len(), 1, "{events:?}");
    must_say(&events[0], &image, REGION, &ami, &snapshot);

    for (member, expected) in [
        ("architecture", json!("x86_64")),
        ("virtualization", json!("hvm")),
        ("ena", json!(true)),
        ("sriov", json!("simple")),
        ("boot_mode", json!("uefi")),
        ("imds", json!("v2.0")),
        ("tpm", json!("v2.0")),
        ("root_device", json!("/dev/xvda")),
        ("launch_permissions", json!([])),
        ("protection", json!("disabled")),
        ("deprecation", json!(null)),
    ] {
        assert_eq!(ami[member], expected, "{member}");
    }
    let root = &ami["mappings"][0];
    assert_eq!(ami["mappings"].as_array().map(Vec::len), Some(1));
    assert_eq!(root["DeviceName"], "/dev/xvda");
    for (member, expected) in [
        ("SnapshotId", snapshot["id"].clone()),
        ("VolumeType", json!("gp3")),
        ("DeleteOnTermination", json!(true)),
    ] {
        assert_eq!(root["Ebs"][member], expected, "{member}");
    }
    // Zeros are sent no more than holes are.
    assert_eq!((&snapshot["own_blocks"], &snapshot["volume_size"]), (&json!(DATA), &json!(1)));
    assert_eq!(snapshot["parent"], Value::Null);
    for resource in [&ami, &snapshot] {
        let tags = &resource["tags"];
        assert_eq!(tags["rekiln:image"], image.id.to_string());
        assert_eq!(tags["rekiln:recipe"], "web");
        assert_eq!(tags["rekiln:disk"], image.sha256.to_string());
        for name in ["rekiln:run", "rekiln:owner", "Name"] {
            assert!(tags[name].as_str().is_some_and(|value| !value.is_empty()), "{name} of {tags}");
        }
    }
    assert!(snapshot["tags"]["rekiln:expires"].is_string(), "{snapshot:#}");

    let verified = stage.run(&["verify-ami", &image.short()]).must(0).events("verified");
    assert_eq!(verified.len(), 1, "{verified:?}");
    let expected = [("image", json!(image.id)), ("region", json!(REGION)), ("ami", ami["id"].clone())];
    for (member, expected) in expected.into_iter().chain([("differences", json!([]))]) {
        assert_eq!(verified[0][member], expected, "{member}");
    }
    assert!(verified[0]["blocks"].as_u64() >= Some(DATA), "{verified:?}");
}

#[test]
fn a_vendors_disk_with_a_boot_sector_is_started_by_a_bios() {
    let stage = Stage::new();
    let image = stage.usual_image();
    let derived = crate::derived::derived("web");
    stage.change_record(&image, |record| {
        (record.root_hash, record.derived) = (None, derived.derived);
    });
    stage.publish(&image);
    let (ami, _) = stage.must_have(REGION, &image);
    for (member, expected) in
        [("boot_mode", json!("legacy-bios")), ("tpm", json!(null)), ("imds", json!("v2.0"))]
    {
        assert_eq!(ami[member], expected, "{member}");
    }
}

#[test]
fn what_is_there_is_not_touched() {
    let stage = Stage::new();
    stage.publish_section(super::EVERYTHING);
    let image = stage.usual_image();
    let first = stage.publish(&image);
    let world = stage.cloud.state();
    let again = |what: &str| {
        stage.cloud.forget_calls();
        let events = stage.publish(&image);
        assert_eq!(stage.cloud.changes(), Vec::<String>::new(), "{what}");
        assert_eq!(stage.cloud.state(), world, "{what}");
        for (member, expected) in [
            ("ami", first[0]["ami"].clone()),
            ("snapshot", first[0]["snapshot"].clone()),
            ("sent", json!(0)),
            ("bytes", json!(0)),
            ("changed", json!(false)),
        ] {
            assert_eq!(events[0][member], expected, "{what}: {member}");
        }
        // Nobody has to read the disk to see that its AMI is there.
        assert!([json!(DATA), Value::Null].contains(&events[0]["blocks"]), "{what}: {events:?}");
    };
    again("the same store");
    stage.keep_images_only();
    again("another store with the same image");
    // What is published is not left over.
    stage.cloud.forget_calls();
    stage.run(&["reap"]).must(0);
    assert_eq!(stage.cloud.changes(), Vec::<String>::new());
    assert_eq!(stage.cloud.state(), world);
}

#[test]
fn two_regions_get_the_same_at_once() {
    let stage = Stage::new();
    stage.publish_section(&format!("regions = [\"{REGION}\", \"{OTHER_REGION}\"]"));
    let image = stage.usual_image();
    let events = stage.publish(&image);
    assert_eq!(events.len(), 2, "{events:?}");
    for region in [REGION, OTHER_REGION] {
        let (ami, snapshot) = stage.must_have(region, &image);
        let event = events.iter().find(|event| event["region"] == region).expect("said");
        must_say(event, &image, region, &ami, &snapshot);
    }
    let regions: BTreeSet<_> = stage.cloud.calls().into_iter().map(|call| call.region).collect();
    assert!(regions.is_subset(&[REGION, OTHER_REGION].map(str::to_owned).into()), "{regions:?}");
}

#[test]
fn a_region_of_the_command_line_counts_instead_of_those_of_the_recipe() {
    let stage = Stage::new();
    let image = stage.usual_image();
    let events =
        stage.run(&["publish", &image.short(), "--region", OTHER_REGION]).must(0).events("published");
    assert_eq!(events.len(), 1, "{events:?}");
    stage.must_have(OTHER_REGION, &image);
    assert_eq!(stage.cloud.state()["images"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_region_that_fails_keeps_no_other_from_being_published() {
    let stage = Stage::new();
    let image = stage.usual_image();
    // The name is taken there.
    stage.cloud.foreign_image(OTHER_REGION, &image.ami_name());
    stage.run(&["publish", &image.short(), "--region", OTHER_REGION, "--region", REGION]).must(1);
    stage.publish(&image);
    stage.must_have(REGION, &image);
}

#[test]
fn disks_end_where_they_end() {
    let stage = Stage::new();
    let block = BLOCK as u64;
    let gib = 1 << 30;
    for (name, size, fills, volume) in [
        // A page more than 16 blocks: the last one is filled up with zeros.
        ("partial", SIZE + 4096, &[(2, 1), (16, 2)][..], 1),
        ("full", gib, &[(0, 1), (gib / block - 1, 2)], 1),
        // One block more than a volume of 1 GiB has.
        ("over", gib + block, &[(0, 1), (gib / block, 2)], 2),
        ("empty", SIZE, &[], 1),
    ] {
        stage.clear();
        let image = stage.image(name, size, fills);
        let events = stage.publish(&image);
        let (_, snapshot) = stage.must_have(REGION, &image);
        assert_eq!((&snapshot["volume_size"], &events[0]["blocks"]), (&json!(volume), &json!(fills.len())));
        let verified = stage.run(&["verify-ami", &image.short()]).must(0).events("verified");
        assert_eq!(verified[0]["differences"], json!([]), "{name}");
    }
}

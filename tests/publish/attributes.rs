//! What `[publish]` says of an AMI: with whom it is shared, its key, its end, its protection, its parameter and tags.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::EVERYTHING;
use super::stage::{REGION, Stage};

fn parameters(stage: &Stage) -> Vec<Value> {
    stage.cloud.state()["parameters"].as_array().expect("a list").clone()
}

/// Fails unless the AMI is deprecated so many days after it was made, give or take one.
fn must_end_after(ami: &Value, days: i64) {
    let at: Timestamp = ami["deprecation"].as_str().expect("a time").parse().expect("a time");
    let off = at.duration_since(Timestamp::now()) - SignedDuration::from_hours(24 * days);
    assert!(off.abs() < SignedDuration::from_hours(24), "{at} is not in {days} days");
}

#[test]
fn everything_that_is_asked_for_is_so() {
    let stage = Stage::new();
    stage.publish_section(EVERYTHING);
    let image = stage.usual_image();
    stage.publish(&image);
    let (ami, snapshot) = stage.must_have(REGION, &image);
    let permissions = ami["launch_permissions"].as_array().expect("a list");
    for expected in [
        json!({ "UserId": "210987654321" }),
        json!({ "OrganizationArn": "arn:aws:organizations::123456789012:organization/o-exampleorgid" }),
    ] {
        assert!(permissions.contains(&expected), "{permissions:?}");
    }
    assert_eq!(permissions.len(), 2, "{permissions:?}");
    assert_eq!(snapshot["encrypted"], true);
    let key = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-4333-8444-555555555555";
    assert_eq!(snapshot["kms_key"], key);
    for resource in [&ami, &snapshot] {
        assert_eq!((&resource["tags"]["team"], &resource["tags"]["stage"]), (&json!("web"), &json!("test")));
    }
    must_end_after(&ami, 90);
    assert_ne!(ami["protection"], "disabled");
    let named = parameters(&stage);
    assert_eq!(named.len(), 1, "{named:?}");
    for (member, expected) in [
        ("name", json!("/images/web")),
        ("value", ami["id"].clone()),
        ("data_type", json!("aws:ec2:image")),
        ("version", json!(1)),
        // It was waited for until it could be read.
        ("pending", json!(false)),
    ] {
        assert_eq!(named[0][member], expected, "{member}");
    }
}

#[test]
fn what_changes_in_the_recipe_changes_and_nothing_else() {
    let stage = Stage::new();
    stage.publish_section(EVERYTHING);
    let image = stage.usual_image();
    stage.publish(&image);
    let mut section = EVERYTHING.to_owned();
    for (from, to, allowed) in [
        ("[\"210987654321\"]", "[\"111122223333\"]", &["ModifyImageAttribute"][..]),
        ("o-exampleorgid", "o-otherorgid00", &["ModifyImageAttribute"]),
        ("\"90d\"", "\"30d\"", &["EnableImageDeprecation"]),
        ("/images/web", "/images/other", &["PutParameter"]),
        ("protect = true", "protect = false", &["DisableImageDeregistrationProtection"]),
    ] {
        assert!(section.contains(from), "{from} is in {section}");
        section = section.replace(from, to);
        stage.publish_section(&section);
        stage.cloud.forget_calls();
        let said = &stage.publish(&image)[0];
        assert_eq!((&said["changed"], &said["sent"]), (&json!(true), &json!(0)), "{to}");
        let changes: BTreeSet<String> = stage.cloud.changes().into_iter().collect();
        assert!(!changes.is_empty(), "{to}");
        assert!(changes.iter().all(|name| allowed.contains(&name.as_str())), "{to}: {changes:?}");
        stage.cloud.forget_calls();
        assert_eq!(stage.publish(&image)[0]["changed"], false, "{to}");
        assert_eq!(stage.cloud.changes(), Vec::<String>::new(), "{to}");
        if to == "\"30d\"" {
            must_end_after(&stage.only(REGION).0, 30);
        }
    }
    let (ami, _) = stage.must_have(REGION, &image);
    let mut permissions: Vec<String> =
        ami["launch_permissions"].as_array().expect("a list").iter().map(Value::to_string).collect();
    permissions.sort();
    assert_eq!(permissions.len(), 2, "{permissions:?}");
    assert!(permissions[0].contains("o-otherorgid00") && permissions[1].contains("111122223333"));
    assert_eq!(ami["protection"], "disabled");
    let named = parameters(&stage);
    let other = named.iter().find(|parameter| parameter["name"] == "/images/other").expect("the new one");
    assert_eq!((&other["value"], &other["pending"]), (&ami["id"], &json!(false)));
}

#[test]
fn an_end_that_the_recipe_does_not_say_any_more_is_none() {
    let stage = Stage::new();
    stage.publish_section(EVERYTHING);
    let image = stage.usual_image();
    stage.publish(&image);
    stage.publish_section(&EVERYTHING.replace("deprecate_after = \"90d\"\n", ""));
    stage.cloud.forget_calls();
    assert_eq!(stage.publish(&image)[0]["changed"], true);
    assert_eq!(stage.cloud.changes(), ["DisableImageDeprecation"]);
    assert_eq!(stage.only(REGION).0["deprecation"], Value::Null);
}

#[test]
fn tags_that_change_in_the_recipe_change() {
    let stage = Stage::new();
    stage.publish_section(EVERYTHING);
    let image = stage.usual_image();
    stage.publish(&image);
    stage.publish_section(&EVERYTHING.replace("team = \"web\"", "team = \"other\", more = \"yes\""));
    stage.cloud.forget_calls();
    let said = &stage.publish(&image)[0];
    assert_eq!((&said["changed"], &said["sent"]), (&json!(true), &json!(0)));
    let changes = stage.cloud.changes();
    assert!(changes.iter().all(|name| name == "CreateTags"), "{changes:?}");
    let (ami, snapshot) = stage.must_have(REGION, &image);
    for resource in [&ami, &snapshot] {
        assert_eq!((&resource["tags"]["team"], &resource["tags"]["more"]), (&json!("other"), &json!("yes")));
    }
}

#[test]
fn a_parameter_follows_the_newest_image() {
    let stage = Stage::new();
    stage.publish_section(EVERYTHING);
    stage.publish(&stage.usual_image());
    let later = stage.image("later", super::stage::SIZE, &[(0, 7)]);
    let said = &stage.publish(&later)[0];
    let named = parameters(&stage);
    let newest = named.iter().max_by_key(|parameter| parameter["version"].as_u64()).expect("a parameter");
    assert_eq!((&newest["value"], &newest["pending"]), (&said["ami"], &json!(false)));
}

#[test]
fn what_the_account_cannot_do_is_told() {
    let stage = Stage::new();
    // A key of another region: AWS refuses it.
    let key = "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-4333-8444-555555555555";
    stage.publish_section(&format!("regions = [\"{REGION}\"]\nkms = {{ {REGION} = \"{key}\" }}"));
    let image = stage.usual_image();
    let ended = stage.run(&["publish", &image.short()]);
    assert!(matches!(ended.code, Some(1 | 2)), "{:?} {}", ended.code, ended.stderr);
    let world = stage.cloud.state();
    assert_eq!((&world["images"], &world["snapshots"]), (&json!([]), &json!([])));
}

#[test]
fn what_somebody_made_public_is_not_public_for_long() {
    let stage = Stage::new();
    let image = stage.usual_image();
    stage.publish(&image);
    let (ami, _) = stage.must_have(REGION, &image);
    let id = ami["id"].as_str().expect("an id");
    let everyone = "LaunchPermission.Add.1.Group=all";
    stage.cloud.ec2(REGION, &format!("Action=ModifyImageAttribute&ImageId={id}&{everyone}"));
    assert_eq!(stage.only(REGION).0["launch_permissions"], json!([{ "Group": "all" }]));
    assert_eq!(stage.publish(&image)[0]["changed"], true);
    assert_eq!(stage.only(REGION).0["launch_permissions"], json!([]));
}

#[test]
fn the_firmwares_variables_are_given_once_and_for_all() {
    let stage = Stage::new();
    let image = stage.usual_image();
    let section =
        |data: &str| stage.publish_section(&format!("regions = [\"{REGION}\"]\nuefi_data = \"{data}\""));
    section("QU1aTlVFRkk=");
    stage.publish(&image);
    let (ami, _) = stage.must_have(REGION, &image);
    assert_eq!(ami["uefi_data"], "QU1aTlVFRkk=");
    assert_eq!(stage.publish(&image)[0]["changed"], false);
    section("QUJD");
    let world = stage.cloud.state();
    let ended = stage.run(&["publish", &image.short()]).must(1);
    for words in [ami["id"].as_str().expect("an id"), "uefi_data"] {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
    assert_eq!(stage.cloud.state(), world);
    stage.publish_section(&format!("regions = [\"{REGION}\"]"));
    assert_eq!(stage.publish(&image)[0]["changed"], false);
}

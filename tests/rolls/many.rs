//! Several groups of an account and region at the same time: what one look shows serves all of them.

use std::fs;

use serde_json::json;

use super::stage::{Group, NAME, Setup, members, network, objects};
use crate::publish::roles::{OTHER, role};
use crate::publish::stage::{REGION, Stage};

/// The groups beside the first, with their sizes: they end at different times.
const OTHERS: [(&str, u64); 3] = [("api", 1), ("jobs", 2), ("edge", 5)];

/// Whether a group is whole.
fn is_whole(state: &serde_json::Value, name: &str, size: u64) -> bool {
    let mut groups = state["groups"].as_array().expect("a list").iter();
    let group = groups.find(|group| group["name"] == name).expect("the group");
    group["in_service"] == size && group["members"].as_array().is_some_and(|all| all.len() as u64 == size)
}

#[test]
fn an_emergency_rotates_all_groups_at_once() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup { size: 4, ..Setup::default() });
    let launches = "LaunchTemplate.LaunchTemplateName=web&LaunchTemplate.Version=1";
    for (name, size) in OTHERS {
        group.make(name, &format!("MinSize=0&MaxSize=20&DesiredCapacity={size}&{launches}"));
        let file = stage.repo().join("fleets/web.toml");
        let text = fs::read_to_string(&file).expect("a file");
        let text = text.replace("auto_scaling_group = \"web\"", &format!("auto_scaling_group = \"{name}\""));
        fs::write(file.with_file_name(format!("{name}.toml")), text).expect("written");
    }
    let whole = || {
        let world = stage.cloud.state();
        OTHERS.iter().all(|(name, size)| is_whole(&world, name, *size))
    };
    group.waits_until(whole);
    stage.cloud.forget_calls();

    let before = stage.cloud.state();
    let old: Vec<_> = before["instances"].as_array().expect("a list").iter().map(|one| &one["id"]).collect();
    let args = ["rotate", "--all", "--reason", "a key leaked", "--emergency", "--yes"];
    let ended = group.run(&args).must(0);
    assert_eq!(ended.events("rotated").len(), 1 + OTHERS.len(), "{}", ended.stdout);
    let calls = stage.cloud.calls();
    let count = |name: &str| calls.iter().filter(|call| call.operation == name).count();
    let looks = ["DescribeAutoScalingGroups", "DescribeInstances"].map(count);
    let changes = stage.cloud.changes().len();
    eprintln!("12 instances of 4 groups at once: {looks:?} looks, {changes} changes, {} calls", calls.len());
    group.judge(&group.wanted.id);
    let world = stage.cloud.state();
    for (name, size) in OTHERS {
        assert!(is_whole(&world, name, size), "{name}: {world:#}");
        let mut groups = world["groups"].as_array().expect("a list").iter();
        let group_now = groups.find(|one| one["name"] == name).expect("the group");
        assert_eq!(group_now["desired"], json!(size));
        for member in members(group_now) {
            assert_eq!(member["image"], json!(group.wanted.id), "{name}: {member}");
            assert!(!old.contains(&&member["instance"]), "{name}: {member} was there before");
        }
    }
    // Four groups are looked at with one call each of these, whoever looks; `open` adds none.
    assert_eq!(looks[0], looks[1], "{looks:?}");
}

/// Another region than the tests' own.
const FAR: &str = "us-west-2";

/// A group of two in another region and the account of a role, launched from an AMI there.
fn group_elsewhere(stage: &Stage, ami: &str) {
    let setup = Setup { size: 2, zones: 2, ..Setup::default() };
    stage.cloud.elsewhere(FAR, &role(OTHER));
    let (subnets, _) = network(stage, &setup, ami, "10.2");
    stage.cloud.autoscaling(
        REGION,
        &format!(
            "Action=CreateAutoScalingGroup&AutoScalingGroupName=there&VPCZoneIdentifier={subnets}&MinSize=0&MaxSize=4&\
             DesiredCapacity=2&LaunchTemplate.LaunchTemplateName=web&LaunchTemplate.Version=1"
        ),
    );
    stage.cloud.here();
}

/// Each account and region has its own AMIs of an image, looks and changes; a fleet's file says whose it is.
#[test]
fn an_emergency_rotates_groups_of_two_accounts_and_regions_at_once() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup { size: 2, zones: 2, ..Setup::default() });
    // What is wanted, in the other account too.
    stage.publish_section(&format!("regions = [\"{FAR}\"]\nroles = [\"{}\"]", role(OTHER)));
    let there = stage.publish(&group.wanted.image)[0]["ami"].as_str().expect("an id").to_owned();
    assert_ne!(there, group.wanted.id);
    group_elsewhere(&stage, &there);
    let file = stage.repo().join("fleets/web.toml");
    let text = fs::read_to_string(&file).expect("a file");
    let other = format!("\"there\"\naccount = \"{OTHER}\"\nassume_role = \"{}\"", role(OTHER));
    let text = text.replace("auto_scaling_group = \"web\"", &format!("auto_scaling_group = {other}"));
    let text = text.replace(REGION, FAR);
    fs::write(file.with_file_name("there.toml"), text).expect("written");
    group.waits_until(|| is_whole(&stage.cloud.state(), "there", 2));
    let before = stage.cloud.state();
    let old: Vec<_> = before["instances"].as_array().expect("a list").iter().map(|one| &one["id"]).collect();
    // With credentials of another account nothing is done.
    let wrong = fs::read_to_string(file.with_file_name("there.toml")).expect("a file");
    fs::write(
        file.with_file_name("there.toml"),
        wrong.replace(&format!("account = \"{OTHER}\""), "account = \"333333333333\""),
    )
    .expect("written");
    stage.cloud.forget_calls();
    group.run(&["rotate", "there", "--reason", "x", "--emergency", "--yes"]).must(1);
    assert_eq!(stage.cloud.changes(), Vec::<String>::new());
    fs::write(file.with_file_name("there.toml"), wrong).expect("written");

    let ended = group.run(&["rotate", "--all", "--reason", "a key leaked", "--emergency", "--yes"]).must(0);
    let rotated: Vec<_> = ended.events("rotated").iter().map(|event| event["fleet"].clone()).collect();
    assert_eq!(rotated.len(), 2, "{:#?}", objects(&ended));
    group.judge(&group.wanted.id);
    let world = stage.cloud.state();
    assert!(is_whole(&world, "there", 2), "{:#}", world["groups"]);
    let all = world["groups"].as_array().expect("a list");
    for found in all {
        let ami = if found["name"] == NAME { &group.wanted.id } else { &there };
        for member in members(found) {
            assert_eq!(member["image"], json!(ami), "{member}");
            assert!(!old.contains(&&member["instance"]), "{member} was there before");
        }
    }
}

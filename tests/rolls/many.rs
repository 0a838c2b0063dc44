//! Several groups of an account and region at the same time: what one look shows serves all of them.

use std::fs;

use serde_json::json;

use super::stage::{Group, Setup, members};
use crate::publish::stage::Stage;

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

//! Shards of one file, each a group of its own: one is rolled after the other, and none after one that fails.

use std::fs;

use serde_json::json;

use super::merged::{commit, images, page, rolled};
use super::stage::{Group, Setup};
use crate::change::git;
use crate::publish::stage::{Ended, Stage};

/// In the order of the file, which is not that of the alphabet.
const ORDER: [&str; 3] = ["db-z", "db-a", "db-m"];

/// Three groups of one file, beside the stage's own, which nothing here is about.
fn groups(stage: &Stage) -> Group<'_> {
    let group = Group::on(stage, Setup { size: 1, zones: 1, ..Setup::default() });
    let launches = "LaunchTemplate.LaunchTemplateName=web&LaunchTemplate.Version=1";
    for name in ORDER {
        group.make(name, &format!("MinSize=0&MaxSize=20&DesiredCapacity=1&{launches}"));
    }
    let file = stage.repo().join("fleets/web.toml");
    let text = fs::read_to_string(&file).expect("a file").replace("auto_scaling_group = \"web\"\n", "");
    let shard = |name: &str| {
        let own = name.strip_prefix("db-").expect("a shard");
        format!("[[shard]]\nname = \"{own}\"\nauto_scaling_group = \"{name}\"\n")
    };
    fs::write(file.with_file_name("db.toml"), format!("{text}{}", ORDER.map(shard).concat()))
        .expect("written");
    fs::remove_file(file).expect("removed");
    let whole = || ORDER.iter().all(|name| images(&stage.cloud.state(), name) == [group.old.id.clone()]);
    group.waits_until(whole);
    stage.cloud.forget_calls();
    group
}

/// The AMIs that the members of the groups run, in the order of the file.
fn run(stage: &Stage) -> Vec<Vec<String>> {
    let world = stage.cloud.state();
    ORDER.iter().map(|name| images(&world, name)).collect()
}

fn stopped(ended: &Ended) -> serde_json::Value {
    ended.events("stopped").first().unwrap_or_else(|| panic!("it says where: {}", ended.stdout)).clone()
}

#[test]
fn shards_are_rolled_one_after_the_other_until_one_fails() {
    let stage = Stage::new();
    let group = groups(&stage);
    let (old, new) = ([group.old.id.clone()], [group.wanted.id.clone()]);
    // The second is held: the first is done, and the third is not begun.
    group.run(&["pause", "db-a", "--reason", "a talk"]).must(0);
    let held = group.run(&["roll", "db"]).must(3);
    assert_eq!(rolled(&held), ["db-z"], "{}", held.stderr);
    let stop = json!({ "event": "stopped", "done": ["db-z"], "failed": "db-a", "not_begun": ["db-m"], "exit_code": 3 });
    assert_eq!(stopped(&held), stop);
    for said in [
        "fleet db-a is paused: a talk",
        "done: db-z; failed: db-a; not begun: db-m",
        "to go on from there: `rekiln roll db-a`, then the same for db-m",
    ] {
        assert!(held.stderr.contains(said), "{said}: {}", held.stderr);
    }
    assert_eq!(run(&stage), [&new, &old, &old]);
    // The first is as it should be: only the others are rolled.
    group.run(&["resume", "db"]).must(0);
    stage.cloud.forget_calls();
    let ended = group.run(&["roll", "db"]).must(0);
    assert_eq!(rolled(&ended), ORDER, "{}", ended.stderr);
    let replaced = ended.events("rolled");
    let replaced: Vec<_> =
        replaced.iter().map(|event| event["summary"]["ended"].as_array().map(Vec::len)).collect();
    assert_eq!(replaced, [Some(0), Some(1), Some(1)]);
    assert_eq!(run(&stage), [&new; 3]);
    // A merge has the same order.
    git(&stage.repo(), &["init", "-q", "-b", "main"]);
    let new_page = commit(&stage, "the page that is asked for");
    page(&stage, "an old page");
    commit(&stage, "another page");
    let ended = group.run(&["apply", "--from", &new_page]).must(0);
    assert_eq!(ended.events("applied")[0]["waves"], json!([["db-z"], ["db-a"], ["db-m"]]));
    assert_eq!(rolled(&ended), ORDER);
    assert_eq!(run(&stage), [&old; 3]);
    // To go back is to swing: those that are back already must not be named again.
    group.run(&["pause", "db-a", "--reason", "a talk"]).must(0);
    let held = group.run(&["roll", "db", "--to", "previous"]).must(3);
    let said = "to go on from there: `rekiln roll db-a --to previous`, then the same for db-m";
    assert!(held.stderr.contains(said), "{}", held.stderr);
    assert_eq!(run(&stage), [&new, &old, &old]);
}

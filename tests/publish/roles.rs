//! In whose account an image is published, and by which role.

use std::collections::BTreeSet;

use serde_json::json;

use super::refused::refusal;
use super::stage::{REGION, Stage};

/// Whose the tests' credentials are, and somebody else's.
pub const OWN: &str = "123456789012";
pub const OTHER: &str = "210987654321";

pub fn role(account: &str) -> String {
    format!("arn:aws:iam::{account}:role/publisher")
}

/// Publishes in these accounts, by a role in each; `lines` is what else the section says.
pub fn by_roles(stage: &Stage, accounts: &[&str], lines: &str) {
    let roles: Vec<String> = accounts.iter().map(|account| role(account)).collect();
    stage.publish_section(&format!("regions = [\"{REGION}\"]\nroles = {roles:?}\n{lines}"));
}

/// The accounts that have one of a kind of thing.
fn accounts(stage: &Stage, kind: &str) -> Vec<String> {
    let world = stage.cloud.state();
    let all = world[kind].as_array().expect("a list").iter();
    let mut accounts: Vec<String> =
        all.map(|entry| entry["account"].as_str().expect("an account").to_owned()).collect();
    accounts.sort();
    accounts
}

#[test]
fn each_role_gets_it_in_its_account() {
    let stage = Stage::new();
    by_roles(&stage, &[OTHER, OWN], "");
    let image = stage.usual_image();
    let published = stage.publish(&image);
    let said: BTreeSet<_> =
        published.iter().map(|event| event["account"].as_str().expect("an account")).collect();
    assert_eq!(said, BTreeSet::from([OTHER, OWN]));
    assert_eq!(accounts(&stage, "images"), [OWN, OTHER]);
    assert_eq!(accounts(&stage, "snapshots"), [OWN, OTHER]);
    assert!(stage.publish(&image).iter().all(|event| event["changed"] == false), "it is there");
    let verified = stage.run(&["verify-ami", &image.short()]).must(0).events("verified");
    assert!(
        verified.len() == 2 && verified.iter().all(|event| event["differences"] == json!([])),
        "{verified:?}"
    );
}

#[test]
fn a_reap_takes_the_role_that_began_it() {
    let stage = Stage::new();
    by_roles(&stage, &[OTHER], "");
    let image = stage.usual_image();
    stage.cloud.rules(&refusal("ec2", "RegisterImage"));
    stage.run(&["publish", &image.short()]).must(1);
    stage.cloud.rules(&json!([]));
    assert_eq!(accounts(&stage, "snapshots"), [OTHER]);
    // The recipe may say something else by then.
    by_roles(&stage, &[OWN], "");
    stage.run(&["reap"]).must(0);
    assert!(accounts(&stage, "snapshots").is_empty() && accounts(&stage, "images").is_empty());
}

#[test]
fn a_role_that_may_not_be_assumed_is_named_and_nothing_is_made() {
    let stage = Stage::new();
    by_roles(&stage, &[OTHER], "");
    let image = stage.usual_image();
    stage.cloud.rules(&refusal("sts", "AssumeRole"));
    let ended = stage.run(&["publish", &image.short()]).must(1);
    for words in ["AssumeRole", &role(OTHER), "not authorized", REGION] {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
    assert_eq!(stage.cloud.changes(), [""; 0]);
}

#[test]
fn another_account_than_the_recipes_gets_nothing() {
    let stage = Stage::new();
    let image = stage.usual_image();
    let section = |account: &str| {
        stage.publish_section(&format!("regions = [\"{REGION}\"]\naccount = \"{account}\""));
    };
    section(OTHER);
    let ended = stage.run(&["publish", &image.short()]).must(1);
    assert!(ended.stderr.contains(OWN) && ended.stderr.contains(OTHER), "{}", ended.stderr);
    assert_eq!(stage.cloud.changes(), [""; 0]);
    section(OWN);
    stage.publish(&image);
    stage.must_have(REGION, &image);
}

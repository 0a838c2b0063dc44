//! Others who change the group in the middle of a roll: an autoscaler, a person, AWS, and a second rekiln.

use serde_json::{Value, json};

use super::stage::{Group, NAME, Setup, instance, members};
use crate::publish::lanes::every;
use crate::publish::stage::{REGION, Stage, Started};

/// How many seconds the first launch takes on its way to AWS: a moment at which nothing else is going on.
const MOMENT: u32 = 2;

/// Begins to roll, and waits until its first launch is on the way, and takes its time.
pub fn at_the_first_launch(group: &Group<'_>) -> Started {
    let slow = json!([{ "operation": "LaunchInstances", "do": "slow", "seconds": MOMENT }]);
    group.stage.cloud.rules(&slow);
    let mut rolling = group.start();
    assert!(group.comes(&mut rolling, || group.called("LaunchInstances") > 0), "it launched nothing");
    rolling
}

/// The last member of the group that is of the old image: whatever is replaced first, it is not yet.
fn last(group: &Group<'_>) -> String {
    let state = group.state();
    let old = members(&state).into_iter().rev().find(|member| member["image"] == group.old.id.as_str());
    instance(old.expect("an old member"))
}

/// A size by somebody who looks at the size that there is, as every autoscaler does.
fn resize(group: &Group<'_>, change: i64) {
    let desired = group.state()["desired"].as_i64().expect("a number") + change;
    group.autoscaling(&format!(
        "Action=SetDesiredCapacity&AutoScalingGroupName={NAME}&DesiredCapacity={desired}"
    ));
}

fn stand_by(group: &Group<'_>, id: &str) {
    group.autoscaling(&format!(
        "Action=EnterStandby&AutoScalingGroupName={NAME}&InstanceIds.member.1={id}&\
         ShouldDecrementDesiredCapacity=true"
    ));
}

#[test]
fn an_autoscaler_has_the_last_word() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup { size: 6, ..Setup::default() });
    let mut rolling = group.start();
    let mut sum = 0;
    for (entries, change) in [(8, 1), (24, 2), (48, -1)] {
        group.comes(&mut rolling, || stage.cloud.log(group.from).len() >= entries);
        resize(&group, change);
        sum += change;
    }
    rolling.end().must(0);
    // The judge finds in the log what the autoscaler changed, which is less than it meant to where rekiln launched or
    // ended something between its look and its word.
    let size = group.watch();
    eprintln!("an autoscaler meant to change 6 by {sum}, and made it {size}");
    // What came after the last look of the roll is of the new image too.
    group.run(&["roll", NAME]).must(0);
    group.judge(&group.wanted.id);
    assert_eq!(group.state()["desired"], json!(size));
}

#[test]
fn an_autoscaler_that_shrinks_the_group_to_its_floor() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup { size: 6, min: 2, ..Setup::default() });
    let mut rolling = at_the_first_launch(&group);
    resize(&group, -4);
    rolling.end().must(0);
    group.judge(&group.wanted.id);
    assert_eq!(group.state()["desired"], json!(2));
}

#[test]
fn what_ends_meanwhile_is_replaced_by_what_is_new() {
    every(["a person", "a crash", "spot"], |stage, how| {
        let group = Group::on(stage, Setup::default());
        let mut rolling = at_the_first_launch(&group);
        let id = last(&group);
        match *how {
            "a person" => {
                drop(stage.cloud.ec2(REGION, &format!("Action=TerminateInstances&InstanceId.1={id}")));
            }
            "a crash" => drop(stage.cloud.control("instances", &json!({ "instance": id, "kill": "crash" }))),
            _ => drop(stage.cloud.control("instances", &json!({ "instance": id, "kill": "spot" }))),
        }
        rolling.end().must(0);
        group.judge(&group.wanted.id);
        assert_eq!(group.state()["desired"], group.before["desired"]);
    });
}

/// A new one that dies before it ever served is no reason to end an old one.
#[test]
fn a_new_one_that_is_killed_on_its_way_is_launched_again() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup { surge: 1, ..Setup::default() });
    stage.cloud.control("times", &json!({ "boot": 1 }));
    let mut rolling = group.start();
    let new = || {
        let now = group.state();
        members(&now).into_iter().find(|member| member["image"] == group.wanted.id.as_str()).map(instance)
    };
    assert!(group.comes(&mut rolling, || new().is_some()), "it launched nothing");
    let id = new().expect("a new member");
    stage.cloud.control("instances", &json!({ "instance": id, "kill": "crash" }));
    rolling.end().must(0);
    group.judge(&group.wanted.id);
}

#[test]
fn what_a_person_put_in_standby_is_left_alone() {
    every(["before", "during"], |stage, when| {
        let group = Group::on(stage, Setup::default());
        let id = last(&group);
        let aside = || {
            let now = group.state();
            let found = members(&now).into_iter().find(|member| member["instance"] == id.as_str());
            found.cloned().unwrap_or(Value::Null)
        };
        if *when == "before" {
            stand_by(&group, &id);
            group.settled();
            group.run(&["roll", NAME]).must(0);
        } else {
            let mut rolling = at_the_first_launch(&group);
            stand_by(&group, &id);
            rolling.end().must(0);
        }
        group.judge(&group.wanted.id);
        let member = aside();
        assert_eq!((&member["state"], &member["image"]), (&json!("Standby"), &json!(group.old.id)));
        assert_eq!(group.state()["desired"], json!(2));
        // It is named, wherever the group is looked at.
        for command in ["plan", "status"] {
            let ended = group.run(&[command, NAME]).must(0);
            let said = format!("{}{}", ended.stdout, ended.stderr);
            assert!(said.contains(&id) && said.contains("standby"), "{command}: {said}");
        }
    });
}

#[test]
fn of_two_rolls_one_wins() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup::without_room());
    let (mut one, mut two) = (group.start(), group.start());
    let (one, two) = (one.end(), two.end());
    let lost = if one.code == Some(0) { &two } else { &one };
    let mut codes = [one.code, two.code];
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(4)], "{}\n{}", one.stderr, two.stderr);
    assert!(lost.stderr.contains("has the journal"), "{}", lost.stderr);
    group.judge(&group.wanted.id);
}

#[test]
fn an_emergency_takes_over() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup::without_room());
    let mut rolling = at_the_first_launch(&group);
    let emergency = ["rotate", NAME, "--reason", "x", "--emergency", "--yes"];
    group.run(&emergency).must(0);
    // Whoever lost the journal gives back nothing that is another's now.
    rolling.end().must(4);
    group.judge(&group.wanted.id);
}

/// Its owner says what the group launches and how large it may be told to be: what a roll had set for its own time only is
/// not put over that.
#[test]
fn bounds_that_its_owner_changed_meanwhile_are_the_owners() {
    let stage = Stage::new();
    let mut group = Group::on(&stage, Setup::without_room());
    let mut rolling = at_the_first_launch(&group);
    group.autoscaling(&format!(
        "Action=UpdateAutoScalingGroup&AutoScalingGroupName={NAME}&MinSize=1&MaxSize=17"
    ));
    rolling.end().must(0);
    group.before["min"] = json!(1);
    group.before["max"] = json!(17);
    group.judge(&group.wanted.id);
}

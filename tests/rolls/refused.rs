//! Groups that are not rolled: each is refused before anything is changed, with its reason.

use serde_json::json;

use super::stage::{Group, NAME, Setup, bake};
use crate::publish::stage::{REGION, Stage};

/// What a group that can be rolled launches.
const LAUNCHES: &str = "LaunchTemplate.LaunchTemplateName=web&LaunchTemplate.Version=1";
/// Its sizes; nothing of it has to run.
const SIZES: &str = "MinSize=0&MaxSize=4&DesiredCapacity=0";

/// Rolls what the file names, which must be refused with these words, and must change nothing.
fn must_refuse(group: &Group<'_>, words: &[&str]) {
    let world = group.stage.cloud.state();
    group.stage.cloud.forget_calls();
    let ended = group.run(&["roll", NAME]);
    assert!(matches!(ended.code, Some(1 | 2)), "{words:?}: {:?} {}", ended.code, ended.stderr);
    let said = ended.stderr.to_lowercase();
    for word in words {
        assert!(said.contains(&word.to_lowercase()), "`{word}` is not said: {}", ended.stderr);
    }
    assert_eq!(group.stage.cloud.changes(), [""; 0], "{words:?}");
    assert_eq!(group.stage.cloud.state(), world, "{words:?}");
    assert_eq!(group.leases(), Vec::<std::path::PathBuf>::new(), "{words:?}");
}

#[test]
fn a_group_that_cannot_be_rolled_is_left_as_it_is() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup { size: 1, ..Setup::default() });
    let make = |name: &str, launches: &str| {
        group.make(name, &format!("{SIZES}&{launches}"));
        group.file(name, "");
    };
    let do_to = |name: &str, action: &str| {
        group.autoscaling(&format!("Action={action}&AutoScalingGroupName={name}"));
    };

    let ami = &group.old.id;
    group.autoscaling(&format!(
        "Action=CreateLaunchConfiguration&LaunchConfigurationName=old&ImageId={ami}&InstanceType=t3.micro"
    ));
    make("configured", "LaunchConfigurationName=old");
    must_refuse(&group, &["configured", "launch configuration"]);

    let policy = "MixedInstancesPolicy.LaunchTemplate";
    make(
        "mixed",
        &format!(
            "{policy}.LaunchTemplateSpecification.LaunchTemplateName=web&{policy}.LaunchTemplateSpecification.Version=1&\
             {policy}.Overrides.member.1.InstanceType=t3.large&{policy}.Overrides.member.1.WeightedCapacity=2"
        ),
    );
    must_refuse(&group, &["mixed instances policy", "weight"]);

    make("warm", LAUNCHES);
    do_to("warm", "PutWarmPool&MinSize=0&MaxGroupPreparedCapacity=0");
    must_refuse(&group, &["warm pool"]);

    for process in ["Launch", "Terminate", "AddToLoadBalancer"] {
        let name = format!("no-{process}");
        make(&name, LAUNCHES);
        do_to(&name, &format!("SuspendProcesses&ScalingProcesses.member.1={process}"));
        must_refuse(&group, &[process, "suspended"]);
    }

    make("refreshed", LAUNCHES);
    do_to("refreshed", "StartInstanceRefresh");
    must_refuse(&group, &["instance refresh"]);
}

#[test]
fn a_file_that_does_not_fit_is_said() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup { size: 1, ..Setup::default() });
    group.file("wbe", "");
    must_refuse(&group, &["no Auto Scaling group", "wbe"]);
    group.file(NAME, "account = \"999999999999\"");
    must_refuse(&group, &["999999999999", "123456789012"]);
    // The same file with the right account is rolled.
    group.file(NAME, "account = \"123456789012\"");
    group.run(&["roll", NAME]).must(0);
    group.judge(&group.wanted.id);
}

#[test]
fn an_image_that_is_not_published_is_not_launched() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup { size: 1, ..Setup::default() });
    let image = bake(&stage, "a page that is not published", 9);
    must_refuse(&group, &["rekiln publish"]);
    // Once it is, it is.
    let ami = stage.publish(&image)[0]["ami"].as_str().expect("an id").to_owned();
    group.run(&["roll", NAME]).must(0);
    group.judge(&ami);
}

#[test]
fn an_ami_that_is_gone_is_not_launched() {
    let stage = Stage::new();
    let group = Group::on(&stage, Setup { size: 1, ..Setup::default() });
    // The AMI of the image is gone, and the store still says that it was published.
    let ami = &group.wanted.id;
    stage.cloud.ec2(REGION, &format!("Action=DeregisterImage&ImageId={ami}"));
    must_refuse(&group, &["rekiln publish"]);
    assert_eq!(group.state()["desired"], json!(1));
}

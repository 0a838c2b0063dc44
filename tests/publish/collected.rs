//! `rekiln gc` where images are published: what reaches an AMI keeps it, what nothing reaches goes with its snapshot.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::cloud::Call;
use super::lanes::every;
use super::refused::refusal;
use super::roles::{OTHER, OWN, by_roles};
use super::stage::{DATA, Ended, FILLS, Image, REGION, SIZE, Stage};

/// Seconds between two registrations, so that it is clear which is newer.
const LATER: u32 = 3600;

/// What a collection calls to see what reaches AMIs.
const LOOKS: [(&str, &str); 11] = [
    ("sts", "GetCallerIdentity"),
    ("ec2", "DescribeImages"),
    ("ec2", "DescribeSnapshots"),
    ("ec2", "DescribeLaunchTemplateVersions"),
    ("ec2", "DescribeInstances"),
    ("ec2", "DescribeImageAttribute"),
    ("autoscaling", "DescribeAutoScalingGroups"),
    ("autoscaling", "DescribeLaunchConfigurations"),
    ("ssm", "DescribeParameters"),
    ("ssm", "GetParameters"),
    ("ssm", "GetParameter"),
];

impl Stage {
    /// Publishes an image of this name and returns its AMI.
    fn ami(&self, name: &str) -> String {
        let image = self.image(name, SIZE, &FILLS);
        // How it becomes available is tested elsewhere.
        self.cloud.looks(0);
        self.publish(&image)[0]["ami"].as_str().expect("an id").to_owned()
    }

    /// Publishes one that is kept as the newest.
    fn newest(&self) -> String {
        self.cloud.clock(LATER);
        self.ami("newest")
    }

    /// Collects: one of each recipe is kept for its age.
    fn gc(&self, args: &[&str]) -> Ended {
        self.run(&[&["gc", "--keep", "1", "--younger", "0s"], args].concat())
    }

    /// No fleet asks for anything.
    fn no_fleet(&self) {
        let fleet = self.repo().join("fleets/web.toml");
        if fleet.exists() {
            std::fs::remove_file(fleet).expect("removed");
        }
    }

    /// The ids of what the cloud has of a kind, in order.
    fn ids(&self, kind: &str) -> Vec<String> {
        let state = self.cloud.state();
        let all = state[kind].as_array().expect("a list").iter();
        let mut ids: Vec<_> = all.map(|entry| entry["id"].as_str().expect("an id").to_owned()).collect();
        ids.sort();
        ids
    }
}

/// Why each AMI or snapshot goes (`true`) or stays, by id.
fn reasons(ended: &Ended) -> BTreeMap<String, (bool, String)> {
    let of = |kind: &str, goes: bool| {
        let events = ended.events(kind).into_iter().filter(|event| event["account"].is_string());
        let reason = move |event: Value| {
            let why = event["why"].as_array().expect("reasons").iter();
            let why: Vec<&str> = why.map(|why| why.as_str().expect("text")).collect();
            (event["id"].as_str().expect("an id").to_owned(), (goes, why.join("; ")))
        };
        events.map(reason).collect::<Vec<_>>()
    };
    of("removes", true).into_iter().chain(of("keeps", false)).collect()
}

/// Makes everything that AWS has to launch an AMI from, one AMI each, and returns what each reason has to say.
fn reached_in_every_way(stage: &Stage) -> BTreeMap<String, &'static str> {
    let cloud = &stage.cloud;
    let data =
        |ami: &str| format!("LaunchTemplateData.ImageId={ami}&LaunchTemplateData.InstanceType=t3.micro");
    let mut expected = BTreeMap::new();
    let mut versions = Vec::new();
    for (name, why) in [
        ("first", "Auto Scaling group one launches it"),
        ("default", "launch template web has it in its default version (2)"),
        ("between", "Auto Scaling group many launches it"),
        ("latest", "launch template web has it in its latest version (4)"),
    ] {
        let ami = stage.ami(name);
        let action = if versions.is_empty() { "CreateLaunchTemplate" } else { "CreateLaunchTemplateVersion" };
        cloud.ec2(REGION, &format!("Action={action}&LaunchTemplateName=web&{}", data(&ami)));
        versions.push(ami.clone());
        expected.insert(ami, why);
    }
    cloud.ec2(REGION, "Action=ModifyLaunchTemplate&LaunchTemplateName=web&SetDefaultVersion=2");
    let zone = format!("MinSize=0&MaxSize=0&DesiredCapacity=0&AvailabilityZones.member.1={REGION}a");
    let group = |name: &str, launches: &str| {
        let action = format!("Action=CreateAutoScalingGroup&AutoScalingGroupName={name}&{zone}&{launches}");
        cloud.autoscaling(REGION, &action);
    };
    group("one", "LaunchTemplate.LaunchTemplateName=web&LaunchTemplate.Version=1");
    group(
        "many",
        "MixedInstancesPolicy.LaunchTemplate.LaunchTemplateSpecification.LaunchTemplateName=web&\
         MixedInstancesPolicy.LaunchTemplate.LaunchTemplateSpecification.Version=3",
    );
    // More templates than fit on a page.
    for number in 0..3 {
        let name = format!("other-{number}");
        cloud
            .ec2(REGION, &format!("Action=CreateLaunchTemplate&LaunchTemplateName={name}&{}", data("ami-0")));
    }
    let named = stage.ami("by a parameter");
    cloud.parameter(REGION, "/web/chosen", &named);
    let resolve = data("resolve:ssm:/web/chosen");
    cloud.ec2(REGION, &format!("Action=CreateLaunchTemplate&LaunchTemplateName=named&{resolve}"));
    expected.insert(named, "launch template named has it in its default version (1)");
    let configured = stage.ami("configured");
    cloud.autoscaling(
        REGION,
        &format!(
            "Action=CreateLaunchConfiguration&LaunchConfigurationName=old&ImageId={configured}&InstanceType=t3.micro"
        ),
    );
    expected.insert(configured, "launch configuration old has it");
    let running = stage.ami("running");
    let run = format!("Action=RunInstances&ImageId={running}&MinCount=2&MaxCount=2&InstanceType=t3.micro");
    cloud.ec2(REGION, &run);
    expected.insert(running, "2 instances are of it");
    stage.publish_section(&format!("regions = [\"{REGION}\"]\nparameter = \"/images/web\""));
    expected.insert(stage.ami("a parameter's"), "parameter /images/web names it");
    stage.publish_section(&format!("regions = [\"{REGION}\"]"));
    expected
}

#[test]
fn what_reaches_an_ami_keeps_it_and_nothing_else_stays() {
    let stage = Stage::new();
    stage.no_fleet();
    let unreached = [stage.ami("unreached"), stage.ami("nobody's")];
    let expected = reached_in_every_way(&stage);
    let newest = stage.newest();
    let world = stage.cloud.state();
    let planned = stage.gc(&["--dry-run"]).must(0);
    assert_eq!(stage.cloud.state(), world, "a dry run changes nothing");
    let ended = stage.gc(&["--yes"]).must(0);
    let said = reasons(&ended);
    let goes = |reasons: &BTreeMap<String, (bool, String)>| -> Vec<(String, bool)> {
        reasons.iter().map(|(id, (goes, _))| (id.clone(), *goes)).collect()
    };
    assert_eq!(goes(&said), goes(&reasons(&planned)));
    for (ami, why) in &expected {
        assert_eq!(said[ami], (false, (*why).to_owned()), "{ami}");
    }
    for ami in &unreached {
        assert!(said[ami].0, "{ami}: {}", said[ami].1);
    }
    assert!(said[&newest].1.starts_with("the newest"), "{}", said[&newest].1);
    let mut left: Vec<String> = expected.into_keys().chain([newest]).collect();
    left.sort();
    assert_eq!(stage.ids("images"), left);
    assert_eq!(stage.ids("snapshots").len(), left.len(), "snapshots go with their AMIs");
    let collected = &ended.events("collected")[0];
    assert_eq!((&collected["amis"], &collected["snapshots"]), (&json!(2), &json!(0)));
    // Twice is once.
    let again = stage.gc(&["--yes"]).must(0);
    assert!(reasons(&again).values().all(|(goes, _)| !goes));
    // What went can be published again, from nothing.
    let image = stage.image("unreached", SIZE, &FILLS);
    let published = &stage.publish(&image)[0];
    assert!(published["changed"] == true && !unreached.contains(&published["ami"].to_string()));
}

#[test]
fn what_cannot_be_looked_at_may_reach_anything() {
    every(LOOKS, |stage, (service, operation)| {
        stage.no_fleet();
        stage.ami("old");
        // There is one of all that is read by its name.
        stage.publish_section(&format!("regions = [\"{REGION}\"]\nparameter = \"/images/web\""));
        let newest = stage.newest();
        stage.cloud.parameter(REGION, "/web/chosen", &newest);
        let data = "LaunchTemplateData.ImageId=resolve:ssm:/web/chosen";
        stage.cloud.ec2(REGION, &format!("Action=CreateLaunchTemplate&LaunchTemplateName=named&{data}"));
        let (world, images) =
            (stage.cloud.state(), std::fs::read_dir(stage.store().images()).expect("images").count());
        stage.cloud.rules(&refusal(service, operation));
        let ended = stage.gc(&["--yes"]).must(1);
        for words in [operation, REGION, "nothing was removed", "--local"] {
            assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
        }
        assert_eq!(stage.cloud.state(), world);
        assert_eq!(std::fs::read_dir(stage.store().images()).expect("images").count(), images);
        // Without what is published, the store can still be collected.
        let local = stage.gc(&["--local", "--dry-run"]).must(0);
        assert!(reasons(&local).is_empty() && !local.events("removes").is_empty());
        // And with everything that may be looked at, it goes.
        stage.cloud.rules(&json!([]));
        assert_eq!(stage.gc(&["--yes"]).must(0).events("collected")[0]["amis"], 1);
    });
}

#[test]
fn every_look_is_one_that_is_tested_above() {
    let stage = Stage::new();
    stage.no_fleet();
    stage.ami("old");
    reached_in_every_way(&stage);
    stage.newest();
    stage.cloud.forget_calls();
    stage.gc(&["--dry-run"]).must(0);
    let calls = stage.cloud.calls();
    assert!(calls.iter().all(|call| call.mutating.is_none()));
    let known = |call: &Call| LOOKS.contains(&(&*call.service, &*call.operation));
    let unknown: Vec<&Call> = calls.iter().filter(|call| !known(call)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn other_accounts_count() {
    let stage = Stage::new();
    stage.no_fleet();
    // Shared with an account that is published in as well, and with one that nobody here looks at.
    by_roles(&stage, &[OWN, OTHER], &format!("accounts = [\"{OTHER}\"]"));
    let old = stage.image("old", SIZE, &FILLS);
    let of = |events: &[Value], account: &str| {
        let event = events.iter().find(|event| event["account"] == account).expect("published there");
        event["ami"].as_str().expect("an id").to_owned()
    };
    let events = stage.publish(&old);
    let (own, other) = (of(&events, OWN), of(&events, OTHER));
    stage.cloud.clock(LATER);
    stage.publish(&stage.image("newest", SIZE, &FILLS));
    let said = reasons(&stage.gc(&["--dry-run"]).must(0));
    assert!(said[&own].0 && said[&other].0, "who was looked at does not need it: {said:?}");
    by_roles(&stage, &[OWN], "");
    // What this store published is known, whatever Git says now.
    let said = reasons(&stage.gc(&["--dry-run"]).must(0));
    assert!(said[&own].0 && said[&other].0, "{said:?}");
    stage.forget_store();
    let said = reasons(&stage.gc(&["--dry-run"]).must(0));
    assert!(!said.contains_key(&other), "another account is not looked at");
    assert_eq!(
        said[&own],
        (false, format!("shared with account {OTHER}, who may need it (`--shared` removes it)"))
    );
    assert!(reasons(&stage.gc(&["--dry-run", "--shared"]).must(0))[&own].0);
    stage.gc(&["--yes", "--shared"]).must(0);
    assert!(!stage.ids("images").contains(&own) && stage.ids("images").contains(&other));
}

#[test]
fn protection_is_lifted_only_where_git_asked_for_it() {
    let stage = Stage::new();
    stage.no_fleet();
    let by_hand = stage.ami("by hand");
    stage.cloud.ec2(REGION, &format!("Action=EnableImageDeregistrationProtection&ImageId={by_hand}"));
    stage.newest();
    let ended = stage.gc(&["--yes"]).must(0);
    assert_eq!(reasons(&ended)[&by_hand].1, "protected from deregistration, which Git does not ask for");
    assert!(stage.ids("images").contains(&by_hand));
    stage.publish_section(&format!("regions = [\"{REGION}\"]\nprotect = true"));
    stage.gc(&["--yes"]).must(0);
    assert!(!stage.ids("images").contains(&by_hand));
}

#[test]
fn a_snapshot_that_another_ami_is_made_of_stays() {
    let stage = Stage::new();
    stage.no_fleet();
    let image = stage.usual_image();
    let published = &stage.publish(&image)[0];
    let (old, snapshot) =
        (published["ami"].as_str().expect("an id"), published["snapshot"].as_str().expect("an id"));
    stage.publish(&image);
    let mapping =
        format!("BlockDeviceMapping.1.DeviceName=/dev/xvda&BlockDeviceMapping.1.Ebs.SnapshotId={snapshot}");
    let names = "Name=somebodys&RootDeviceName=/dev/xvda&VirtualizationType=hvm";
    stage.cloud.ec2(REGION, &format!("Action=RegisterImage&{names}&{mapping}"));
    stage.newest();
    let ended = stage.gc(&["--yes"]).must(0);
    assert!(ended.stderr.contains("is made of it, too"), "{}", ended.stderr);
    assert_eq!(ended.events("collected")[0]["amis"], 1);
    assert!(
        !stage.ids("images").contains(&old.to_owned())
            && stage.ids("snapshots").contains(&snapshot.to_owned())
    );
    assert!(reasons(&stage.gc(&["--yes"]).must(0)).values().all(|(goes, _)| !goes));
}

/// Says of a snapshot that it should have had an AMI long ago, as time does.
fn expire(stage: &Stage, snapshot: &str) {
    let tag = "Tag.1.Key=rekiln:expires&Tag.1.Value=2020-01-01T00:00:00Z";
    stage.cloud.ec2(REGION, &format!("Action=CreateTags&ResourceId.1={snapshot}&{tag}"));
}

#[test]
fn what_fails_or_is_killed_between_an_ami_and_its_snapshot_is_found_again() {
    let stage = Stage::new();
    stage.no_fleet();
    let image = stage.usual_image();
    let snapshot = stage.publish(&image)[0]["snapshot"].as_str().expect("an id").to_owned();
    stage.publish(&image);
    expire(&stage, &snapshot);
    stage.newest();
    stage.cloud.rules(&refusal("ec2", "DeleteSnapshot"));
    let ended = stage.gc(&["--yes"]).must(1);
    for words in ["DeleteSnapshot", "removing ami-"] {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
    assert!(stage.ids("images").len() == 1 && stage.ids("snapshots").contains(&snapshot));
    stage.cloud.rules(&json!([]));
    let ended = stage.gc(&["--yes"]).must(0);
    let (goes, why) = &reasons(&ended)[&snapshot];
    assert!(*goes && why.starts_with("no AMI was made of it in time"), "{why}");
    assert_eq!(ended.events("collected")[0]["snapshots"], 1);
    assert!(!stage.ids("snapshots").contains(&snapshot));
}

#[test]
fn what_another_store_left_goes_when_its_time_is_over() {
    let stage = Stage::new();
    stage.no_fleet();
    let image: Image = stage.usual_image();
    assert_eq!(image.blocks.len() as u64, DATA);
    stage.cloud.rules(&refusal("ec2", "RegisterImage"));
    stage.run(&["publish", &image.short()]).must(1);
    stage.cloud.rules(&json!([]));
    let snapshot = stage.ids("snapshots")[0].clone();
    assert!(reasons(&stage.gc(&["--yes"]).must(0)).is_empty(), "it may get its AMI yet");
    expire(&stage, &snapshot);
    let said = reasons(&stage.gc(&["--yes"]).must(0));
    assert!(!said[&snapshot].0 && said[&snapshot].1.contains("rekiln reap"), "{said:?}");
    stage.forget_store();
    stage.gc(&["--yes"]).must(0);
    assert_eq!(stage.ids("snapshots"), Vec::<String>::new());
}

#[test]
fn a_pin_keeps_an_ami_whose_image_the_store_does_not_have() {
    let stage = Stage::new();
    stage.no_fleet();
    let image = stage.usual_image();
    let old = stage.ami("usual");
    stage.newest();
    stage.forget_store();
    assert!(reasons(&stage.gc(&["--dry-run"]).must(0))[&old].0);
    stage.run(&["gc", "pin", &image.id.to_string(), "--reason", "a customer's"]).must(0);
    let (goes, why) = reasons(&stage.gc(&["--yes"]).must(0))[&old].clone();
    assert!(!goes && why.starts_with("pinned") && why.contains("a customer's"), "{why}");
    stage.run(&["gc", "unpin", &image.short()]).must(0);
    assert_eq!(stage.gc(&["--yes"]).must(0).events("collected")[0]["amis"], 1);
}

#[test]
fn an_account_that_lets_nobody_in_any_more_is_left_alone() {
    let stage = Stage::new();
    stage.no_fleet();
    by_roles(&stage, &[OTHER], "");
    let left = stage.ami("old");
    // Git publishes in another account by now, and shares with the former one.
    stage.publish_section(&format!("regions = [\"{REGION}\"]\naccounts = [\"{OTHER}\"]"));
    let old = stage.ami("old");
    stage.newest();
    stage.cloud.rules(&refusal("sts", "AssumeRole"));
    let ended = stage.gc(&["--dry-run"]).must(0);
    assert!(ended.stderr.contains("left alone") && ended.stderr.contains(OTHER), "{}", ended.stderr);
    let said = reasons(&ended);
    assert!(!said.contains_key(&left) && !said[&old].0 && said[&old].1.contains("shared"), "{said:?}");
    // Where Git says that something is published there, it counts.
    by_roles(&stage, &[OTHER], "");
    stage.gc(&["--dry-run"]).must(1);
    stage.cloud.rules(&json!([]));
    assert!(reasons(&stage.gc(&["--dry-run"]).must(0))[&old].0, "both accounts were looked at");
}

//! Groups that rekiln makes from a fleet's file, and what they launch after that file has changed.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use super::killed::killed;
use super::stage::{Group, NAME, Setup, ground, members, objects, publish, repository, target_group, text};
use crate::publish::lanes::every;
use crate::publish::stage::{Ended, REGION, Stage};

/// How many instances a group is made with.
const SIZE: u64 = 2;
/// User data that say where they are.
const USER_DATA: &str = "#!/bin/sh\necho {{greeting}} from {{fleet}} in {{region}}: {{image}} {{image_id}}\n";
/// What needs no permission.
const FREE: [&str; 1] = ["GetCallerIdentity"];

/// A published image, where a group can be, and a file that says what to make there; no group.
struct Site<'a> {
    group: Group<'a>,
    target_group: String,
    secured: String,
}

impl<'a> Site<'a> {
    fn on(stage: &'a Stage) -> Self {
        stage.cloud.looks(0);
        repository(stage, std::path::Path::new(env!("CARGO_MANIFEST_DIR")));
        let old = publish(stage, "an old page", 7);
        let wanted = publish(stage, "the page that is asked for", 8);
        let ground = ground(stage, 2, "10.1");
        let target_group = target_group(stage, 0, &ground.vpc, 1);
        let setup = Setup { size: SIZE, min: 1, max: 6, ..Setup::default() };
        let subnets = ground.subnets.join(",");
        let group = Group { stage, setup, old, wanted, subnets, before: Value::Null, from: 0 };
        let site = Self { group, target_group, secured: ground.secured };
        site.template(USER_DATA);
        site.file("");
        stage.cloud.forget_calls();
        site
    }

    /// Makes the group, and keeps what it is then.
    fn made(stage: &'a Stage) -> Self {
        let mut site = Self::on(stage);
        site.group.run(&["roll", NAME]).must(0);
        site.remember();
        site
    }

    /// What was so far is not judged any more.
    fn remember(&mut self) {
        self.group.before = self.group.settled();
        self.group.from = self.group.stage.cloud.log(0).len();
        self.group.stage.cloud.forget_calls();
    }

    /// Writes the template of the user data.
    fn template(&self, text: &str) {
        fs::write(self.group.stage.repo().join("bootstrap/web/user-data.hbs"), text).expect("written");
    }

    /// Writes the fleet's file, with more in `[roll]`.
    fn file(&self, roll: &str) {
        let subnets: Vec<_> = self.group.subnets.split(',').map(|subnet| format!("\"{subnet}\"")).collect();
        let Setup { min, max, .. } = self.group.setup;
        let (subnets, secured, target_group) = (subnets.join(", "), &self.secured, &self.target_group);
        let text = format!(
            "image = \"web\"\n[aws]\nregion = \"{REGION}\"\nauto_scaling_group = \"{NAME}\"\npoll = \"200ms\"\n\
             [aws.group]\nmin = {min}\nmax = {max}\ndesired = {SIZE}\nsubnets = [{subnets}]\n\
             security_groups = [\"{secured}\"]\ninstance_type = \"t3.micro\"\ninstance_profile = \"web\"\n\
             user_data = \"web/user-data.hbs\"\nvars = {{ greeting = \"hello\" }}\n\
             target_groups = [\"{target_group}\"]\nhealth_check_grace = \"60s\"\ntags = {{ team = \"edge\" }}\n\
             [health]\ndeadline = \"60s\"\n[roll]\nsurge = 2\n{roll}\n"
        );
        fs::write(self.file_path(), text).expect("written");
    }

    fn file_path(&self) -> std::path::PathBuf {
        self.group.stage.repo().join("fleets/web.toml")
    }

    /// Changes the fleet's file.
    fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.file_path()).expect("the file");
        assert!(text.contains(from), "{from}: {text}");
        fs::write(self.file_path(), text.replacen(from, to, 1)).expect("written");
    }

    fn ec2(&self, parameters: &str) -> String {
        self.group.stage.cloud.ec2(REGION, parameters)
    }

    /// One version of the launch template as EC2 shows it.
    fn version(&self, number: u64) -> String {
        self.ec2(&format!(
            "Action=DescribeLaunchTemplateVersions&LaunchTemplateName={NAME}&LaunchTemplateVersion.1={number}"
        ))
    }

    /// How many versions the only launch template has.
    fn versions(&self) -> usize {
        let state = self.group.stage.cloud.state();
        let templates = state["templates"].as_array().expect("a list");
        assert_eq!(templates.len(), 1, "{templates:#?}");
        templates[0]["versions"].as_array().expect("a list").len()
    }

    /// What each instance that is not as it should be differs in, from `plan`.
    fn reasons(&self) -> Vec<BTreeSet<String>> {
        let plan = &objects(&self.group.run(&["plan", NAME]).must(0))[0]["plan"];
        let stale = plan["members"].as_array().expect("a list").iter().filter(|one| one["is"] == "stale");
        let reasons = |one: &Value| {
            let reasons = one["because"]["reasons"].as_array().expect("reasons").iter();
            reasons.map(|reason| reason.as_str().expect("text").to_owned()).collect()
        };
        stale.map(reasons).collect()
    }

    /// Fails unless there is one group, one template, and `SIZE` instances of the file's type that serve.
    fn must_serve(&self, kind: &str) {
        self.group.judge(&self.group.wanted.id);
        let state = self.group.stage.cloud.state();
        assert_eq!(state["groups"].as_array().map(Vec::len), Some(1), "{:#}", state["groups"]);
        assert_eq!(state["templates"].as_array().map(Vec::len), Some(1), "{:#}", state["templates"]);
        let running = state["instances"].as_array().expect("a list").iter();
        let running: Vec<_> = running.filter(|one| one["state"] == "running").collect();
        assert_eq!(running.len() as u64, SIZE, "{running:#?}");
        assert!(running.iter().all(|one| one["type"] == kind), "{running:#?}");
    }
}

/// Fails unless a command was refused for what its user wrote, with these words, and has asked AWS for nothing.
fn must_be_a_mistake(site: &Site<'_>, command: &str, words: &[&str]) {
    site.group.stage.cloud.forget_calls();
    let ended = site.group.run(&[command, NAME]).must(2);
    must_say(&ended, words);
    must_say(&site.group.run(&["check"]).must(2), words);
    let calls: Vec<_> = site.group.stage.cloud.calls().into_iter().map(|call| call.operation).collect();
    assert_eq!(calls, [""; 0]);
}

fn must_say(ended: &Ended, words: &[&str]) {
    for word in words {
        assert!(ended.stderr.contains(word), "`{word}` is not said: {}", ended.stderr);
    }
}

#[test]
fn a_group_is_made_as_its_file_says_and_serves() {
    let stage = Stage::new();
    let mut site = Site::on(&stage);
    // Who only looks is told what would be made, and makes nothing.
    let plan = &objects(&site.group.run(&["plan", NAME]).must(0))[0];
    let told = plan["unmade"].as_str().expect("what would be made");
    assert!(told.contains("rekiln roll web") && told.contains("2 instances"), "{told}");
    let status = &objects(&site.group.run(&["status", NAME]).must(0))[0];
    assert_eq!((&status["instances"], status["trouble"].as_str()), (&json!([]), Some(told)), "{status:#}");
    must_say(&site.group.run(&["audit", NAME]).must(2), &["no Auto Scaling group", "rekiln roll web"]);
    site.group.run(&["rotate", NAME, "--reason", "x", "--yes"]).must(0);
    assert_eq!(stage.cloud.changes(), [""; 0]);

    stage.cloud.forget_calls();
    let done = site.group.run(&["roll", NAME]).must(0).events("rolled");
    assert_eq!((&done[0]["made"], &done[0]["notes"]), (&json!(true), &json!([])), "{done:?}");
    assert_eq!(stage.cloud.changes(), ["CreateLaunchTemplate", "CreateAutoScalingGroup"]);
    // None that the policy which rekiln prints does not allow.
    let called = stage.cloud.calls();
    let called: BTreeSet<&str> = called.iter().map(|call| call.operation.as_str()).collect();
    let policy = &objects(&site.group.run(&["aws", "policy", "--roll"]).must(0))[0];
    let statements = policy["Statement"].as_array().expect("a list").iter();
    let actions = statements.flat_map(|one| one["Action"].as_array().expect("a list"));
    let allowed: BTreeSet<&str> =
        actions.filter_map(|action| Some(action.as_str()?.split_once(':')?.1)).chain(FREE).collect();
    assert_eq!(called.difference(&allowed).collect::<Vec<_>>(), [&""; 0]);
    let replayed = site.group.run(&["replay", NAME]).must(0).events("replayed");
    assert!(replayed.iter().all(|one| one["identical"] == true), "{replayed:?}");

    let group = site.group.settled();
    assert_eq!((&group["min"], &group["max"], &group["desired"]), (&json!(1), &json!(6), &json!(SIZE)));
    assert_eq!(group["tags"], json!({ "team": "edge", "rekiln:fleet": NAME }));
    assert_eq!(group["template"]["Version"], "1", "{group:#}");
    let shown = site.group.autoscaling("Action=DescribeAutoScalingGroups&AutoScalingGroupNames.member.1=web");
    for (element, value) in [
        ("HealthCheckType", "ELB"),
        ("HealthCheckGracePeriod", "60"),
        ("VPCZoneIdentifier", &site.group.subnets),
    ] {
        assert_eq!(text(&shown, element), value, "{shown}");
    }
    // Nobody can log in, and nobody gets credentials by a request that is forwarded.
    let version = site.version(1);
    for (element, value) in [
        ("httpTokens", "required"),
        ("httpPutResponseHopLimit", "1"),
        ("httpEndpoint", "enabled"),
        ("name", "web"),
    ] {
        assert_eq!(text(&version, element), value, "{version}");
    }
    assert!(!version.contains("keyName") && !version.contains("networkInterface"), "{version}");
    let id = site.group.wanted.image.id;
    let user_data = aws_smithy_types::base64::decode(text(&version, "userData")).expect("base 64");
    assert_eq!(
        String::from_utf8_lossy(&user_data),
        format!("#!/bin/sh\necho hello from web in {REGION}: web {id}\n")
    );
    let described = text(&version, "versionDescription");
    assert!(described.strip_prefix("rekiln ").is_some_and(|id| id.len() == 64), "{described}");
    let template = site.ec2(&format!("Action=DescribeLaunchTemplates&LaunchTemplateName.1={NAME}"));
    assert_eq!(
        (text(&template, "key"), text(&template, "value")),
        ("rekiln:fleet".to_owned(), NAME.to_owned())
    );
    let world = stage.cloud.state();
    let instances = world["instances"].as_array().expect("a list");
    assert!(instances.iter().all(|one| one["tags"]["team"] == "edge"), "{instances:#?}");
    assert!(instances.iter().all(|one| one["tags"]["rekiln:fleet"].is_null()), "{instances:#?}");
    let audited = site.group.run(&["audit", NAME]).must(0);
    assert_eq!(audited.events("audit")[0]["findings"], json!([]));

    // What is read back is what was wanted: nothing is to be done.
    site.remember();
    site.group.run(&["roll", NAME]).must(0);
    assert_eq!(stage.cloud.changes(), [""; 0]);
    assert_eq!(site.reasons(), Vec::<BTreeSet<String>>::new());
    site.must_serve("t3.micro");
    assert_eq!(site.versions(), 1);
}

/// Which call of the making is spoilt, and how.
#[derive(Debug)]
struct Case {
    mutating: u64,
    fault: &'static str,
}

#[test]
fn killed_while_it_is_made_it_is_made_once() {
    let cases = [1, 2]
        .into_iter()
        .flat_map(|mutating| ["hold_before", "hold_after"].map(|fault| Case { mutating, fault }));
    every(cases, |stage, case| {
        let mut site = Site::on(stage);
        stage.cloud.rules(&json!([{ "mutating": case.mutating, "do": case.fault }]));
        assert!(killed(&site.group), "there was no such call");
        site.group.run(&["roll", NAME]).must(0);
        site.remember();
        site.must_serve("t3.micro");
        assert_eq!(site.versions(), 1);
    });
}

/// Nobody hears of what was done, or AWS fails before it does anything.
#[test]
fn an_answer_that_is_lost_makes_nothing_twice() {
    let cases = [1, 2]
        .into_iter()
        .flat_map(|mutating| ["lost", "503"].map(|fault| Case { mutating, fault }))
        .chain([Case { mutating: 1, fault: "stale" }]);
    every(cases, |stage, case| {
        let mut site = Site::on(stage);
        if case.fault == "stale" {
            stage.cloud.control("stale", &json!({ "seconds": 1 }));
        } else {
            stage.cloud.rules(&json!([{ "mutating": case.mutating, "do": case.fault }]));
        }
        site.group.run(&["roll", NAME]).must(0);
        site.remember();
        site.must_serve("t3.micro");
        assert_eq!(site.versions(), 1);
    });
}

#[test]
fn what_the_file_says_otherwise_is_named_and_rolled() {
    let stage = Stage::new();
    let mut site = Site::made(&stage);
    let first = text(&site.version(1), "userData");
    site.edit("t3.micro", "t3.small");
    let named = |parts: &[&str]| vec![parts.iter().map(|part| (*part).to_owned()).collect(); 2];
    assert_eq!(site.reasons(), named(&["instance type"]));
    assert_eq!(stage.cloud.changes(), [""; 0]);
    site.group.run(&["roll", NAME]).must(0);
    site.must_serve("t3.small");
    assert_eq!(site.versions(), 2);

    site.template("#!/bin/sh\necho another\n");
    site.edit("instance_profile = \"web\"\n", "");
    assert_eq!(site.reasons(), named(&["instance profile", "user data"]));
    site.group.run(&["roll", NAME]).must(0);
    site.must_serve("t3.small");
    assert_eq!(site.versions(), 3);
    let third = site.version(3);
    assert!(text(&third, "userData") != first && !third.contains("iamInstanceProfile"), "{third}");
    // What was before is launched as it was, from the version that was made for it; and Git's is gone back to.
    stage.cloud.forget_calls();
    let back = site.group.run(&["roll", NAME, "--to", "previous"]).must(0);
    must_say(&back, &["[aws.group] asks for something else"]);
    assert_eq!(site.group.state()["template"]["Version"], "2");
    assert_eq!(site.reasons(), named(&["instance profile", "user data"]));
    site.group.run(&["roll", NAME]).must(0);
    assert_eq!(site.group.state()["template"]["Version"], "3");
    assert_eq!(site.group.called("CreateLaunchTemplateVersion"), 0);
    site.must_serve("t3.small");

    // What is the group's own is said and left.
    site.edit("max = 6", "max = 7");
    site.edit("team = \"edge\"", "team = \"core\"");
    site.remember();
    let notes = objects(&site.group.run(&["plan", NAME]).must(0))[0]["notes"].clone();
    let notes: Vec<&str> = notes.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(
        notes.len() == 2 && notes[0].contains("largest size: 6, and 7") && notes[1].contains("`team`"),
        "{notes:?}"
    );
    site.group.run(&["roll", NAME]).must(0);
    assert_eq!(stage.cloud.changes(), [""; 0]);
    // Without a specification it is rolled as any other.
    let text = fs::read_to_string(site.file_path()).expect("the file");
    let (before, rest) = text.split_once("[aws.group]").expect("a specification");
    let (_, after) = rest.split_once("[health]").expect("more");
    fs::write(site.file_path(), format!("{before}[health]{after}")).expect("written");
    site.group.run(&["roll", NAME]).must(0);
    assert_eq!(stage.cloud.changes(), [""; 0]);
}

/// A change that does not serve goes back to what did, which is no more what the file says: with another image that is at
/// fault, and with the same one that is not.
#[test]
fn a_bad_change_of_the_file_goes_back() {
    let stage = Stage::new();
    let mut site = Site::made(&stage);
    site.file("failures = 0\non_failure = \"rollback\"");
    site.edit("deadline = \"60s\"", "deadline = \"8s\"");
    site.edit("t3.micro", "t3.large");
    stage.cloud.control("boot", &json!({ "type": "t3.large", "bad": true }));
    site.remember();
    let back = site.group.run(&["roll", NAME]).must(3);
    must_say(&back, &["was rolled back to", "the image serves as it was launched before"]);
    site.must_serve("t3.micro");
    assert_eq!(site.group.state()["template"]["Version"], "1");
    assert_eq!(site.group.run(&["quarantine", "list"]).must(0).events("quarantined"), Vec::<Value>::new());

    site.edit("t3.large", "t3.medium");
    let bad = publish(&stage, "no such page", 9);
    stage.cloud.control("boot", &json!({ "image": bad.id, "bad": true }));
    site.group.run(&["roll", NAME]).must(3);
    site.must_serve("t3.micro");
    assert_eq!(site.group.state()["template"]["Version"], "1");
    let listed = site.group.run(&["quarantine", "list"]).must(0).events("quarantined");
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["image"], bad.image.id.to_string());
}

/// What AWS does not take can be put right; and what never serves ends the roll, and is not begun again for ever.
#[test]
fn a_group_that_cannot_serve_is_said() {
    let stage = Stage::new();
    let mut site = Site::on(&stage);
    let subnet = site.group.subnets.split(',').next().expect("a subnet").to_owned();
    site.edit(&subnet, "subnet-00");
    let refused = site.group.run(&["roll", NAME]).must(1);
    must_say(&refused, &["making Auto Scaling group web", "CreateAutoScalingGroup", "subnet-00"]);
    site.edit("subnet-00", &subnet);
    site.file("failures = 0");
    site.edit("deadline = \"60s\"", "deadline = \"5s\"");
    stage.cloud.control("boot", &json!({ "image": site.group.wanted.id, "bad": true }));
    let held = site.group.run(&["roll", NAME]).must(3);
    assert!(held.events("rolled").is_empty(), "{}", held.stdout);
    // Once it is mended, there is still one of each.
    stage.cloud.control("boot", &json!({ "image": site.group.wanted.id, "bad": false }));
    let image = site.group.wanted.image.id.to_string();
    site.group.run(&["quarantine", "clear", &image]).must(0);
    site.remember();
    site.group.run(&["roll", NAME]).must(0);
    // What its minimum was lowered to, so that what never served could be ended, is given back.
    site.group.before["min"] = json!(1);
    site.must_serve("t3.micro");
    assert_eq!(site.versions(), 1);
}

#[test]
fn what_is_another_s_is_left_alone() {
    let stage = Stage::new();
    let site = Site::on(&stage);
    site.ec2(&format!(
        "Action=CreateLaunchTemplate&LaunchTemplateName={NAME}&LaunchTemplateData.InstanceType=t3.micro&\
         LaunchTemplateData.ImageId={}",
        site.group.old.id
    ));
    let refused = |words: &[&str]| {
        let world = stage.cloud.state();
        stage.cloud.forget_calls();
        must_say(&site.group.run(&["roll", NAME]).must(2), words);
        assert_eq!(stage.cloud.changes(), [""; 0]);
        assert_eq!(stage.cloud.state(), world);
    };
    refused(&["launch template web", "no tag `rekiln:fleet`", "another name"]);
    must_say(&site.group.run(&["plan", NAME]).must(2), &["launch template web"]);
    // A group of the name, too: with the specification it would be held to what it never was.
    let launches = "LaunchTemplate.LaunchTemplateName=web&LaunchTemplate.Version=1";
    site.group.make(NAME, &format!("MinSize=0&MaxSize=4&DesiredCapacity=0&{launches}"));
    refused(&["Auto Scaling group web is there", "remove [aws.group]"]);
    must_say(&site.group.run(&["plan", NAME]).must(2), &["remove [aws.group]"]);
    let tag = |value: &str| {
        let tags = format!(
            "Tags.member.1.Key=rekiln:fleet&Tags.member.1.Value={value}&Tags.member.1.PropagateAtLaunch=false&\
             Tags.member.1.ResourceId={NAME}&Tags.member.1.ResourceType=auto-scaling-group"
        );
        site.group.autoscaling(&format!("Action=CreateOrUpdateTags&{tags}"));
    };
    tag("api");
    refused(&["says `api`"]);
    // Once it is tagged as the fleet's it is taken over.
    tag(NAME);
    site.group.run(&["roll", NAME]).must(0);
    assert_eq!(members(&site.group.settled()).len(), 0);
    assert_eq!(text(&site.version(2), "httpTokens"), "required");
}

#[test]
fn user_data_that_cannot_be_are_a_mistake() {
    let stage = Stage::new();
    let site = Site::on(&stage);
    let place = "fleets/web.toml:14:13";
    site.template(&"x".repeat(16 * 1024 + 1));
    must_be_a_mistake(&site, "roll", &[place, "16385 bytes", "16384"]);
    site.template("#!/bin/sh\necho {{greting}}\n");
    must_be_a_mistake(
        &site,
        "plan",
        &["bootstrap/web/user-data.hbs:2:8", "`greting`", "did you mean `greeting`?"],
    );
    // The same in what it includes.
    fs::write(stage.repo().join("bootstrap/web/part.hbs"), "{{nothing}}").expect("written");
    site.template("{{> web/part.hbs}}");
    must_be_a_mistake(&site, "roll", &["bootstrap/web/part.hbs:1:3", "`nothing`"]);
    site.template("#!/bin/sh\n");
    site.edit("web/user-data.hbs", "web/user-dta.hbs");
    must_be_a_mistake(&site, "status", &[place, "did you mean `web/user-data.hbs`?"]);
    site.edit("web/user-dta.hbs", "web/user-data.hbs");
    site.edit("min = 1", "min = 7");
    must_be_a_mistake(&site, "roll", &["fleets/web.toml:7:7", "`min` is above `max`"]);
}

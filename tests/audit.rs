//! `rekiln audit` against an AWS on this machine: each way in is found, and what cannot be looked at is never passed over.

use std::fs;

use serde_json::{Value, json};

use crate::publish::stage::{Ended, REGION, Stage};

/// What an audit calls besides what finds the group and its instances, each with what is not seen without it.
const LOOKS: [(&str, &str); 10] = [
    ("DescribeLaunchTemplateVersions", "launch template lt-"),
    ("DescribeImages", "the AMIs"),
    ("DescribeSubnets", "the subnets"),
    ("DescribeSecurityGroups", "the security groups"),
    ("GetInstanceProfile", "what the instance profile web allows"),
    ("SimulatePrincipalPolicy", "what the instance profile web allows"),
    ("GetSerialConsoleAccessStatus", "whether serial consoles can be opened"),
    ("DescribeInstanceInformation", "what Systems Manager runs commands on"),
    ("GetConsoleOutput", "the console of INSTANCE"),
    ("DescribeSessions", "the sessions of INSTANCE"),
];

/// How a group is launched.
#[derive(Default)]
struct Launch<'a> {
    ami: &'a str,
    /// Further parameters of the template's data.
    more: &'a str,
    /// What the profile's role may do.
    allows: &'a str,
    /// From where port 22 can be reached.
    ssh: &'a str,
    /// Whether the subnet gives public addresses.
    public: bool,
}

impl Stage {
    /// An image that is published, and its AMI.
    fn published(&self) -> String {
        self.cloud.looks(0);
        let image = self.usual_image();
        self.publish(&image)[0]["ami"].as_str().expect("an id").to_owned()
    }

    /// A fleet that is a group of three, and the ids of its instances in order.
    fn group(&self, launch: &Launch) -> Vec<String> {
        let cloud = &self.cloud;
        let id = |xml: &str, name: &str| {
            let (_, rest) = xml.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("{name}: {xml}"));
            rest.split_once('<').expect("an end").0.to_owned()
        };
        let ec2 = |parameters: &str| cloud.ec2(REGION, parameters);
        let vpc = id(&ec2("Action=CreateVpc&CidrBlock=10.1.0.0/16"), "vpcId");
        let subnet = ec2(&format!("Action=CreateSubnet&VpcId={vpc}&CidrBlock=10.1.1.0/24"));
        let subnet = id(&subnet, "subnetId");
        let public = launch.public;
        ec2(&format!("Action=ModifySubnetAttribute&SubnetId={subnet}&MapPublicIpOnLaunch.Value={public}"));
        let group =
            ec2(&format!("Action=CreateSecurityGroup&GroupName=web&GroupDescription=web&VpcId={vpc}"));
        let group = id(&group, "groupId");
        for (port, from) in
            [(80, "0.0.0.0/0"), (22, launch.ssh)].into_iter().filter(|(_, from)| !from.is_empty())
        {
            ec2(&format!(
                "Action=AuthorizeSecurityGroupIngress&GroupId={group}&IpPermissions.1.IpProtocol=tcp&\
                 IpPermissions.1.FromPort={port}&IpPermissions.1.ToPort={port}&IpPermissions.1.IpRanges.1.CidrIp={from}"
            ));
        }
        cloud.iam("Action=CreateRole&RoleName=web&AssumeRolePolicyDocument=%7B%7D");
        cloud.iam("Action=CreateInstanceProfile&InstanceProfileName=web");
        cloud.iam("Action=AddRoleToInstanceProfile&InstanceProfileName=web&RoleName=web");
        let policy = format!(
            "%7B%22Version%22:%222012-10-17%22,%22Statement%22:[%7B%22Effect%22:%22Allow%22,\
             %22Action%22:[{}],%22Resource%22:%22*%22%7D]%7D",
            launch.allows
        );
        cloud.iam(&format!("Action=PutRolePolicy&RoleName=web&PolicyName=web&PolicyDocument={policy}"));
        ec2(&format!(
            "Action=CreateLaunchTemplate&LaunchTemplateName=web&LaunchTemplateData.ImageId={}&\
             LaunchTemplateData.InstanceType=t3.micro&LaunchTemplateData.SecurityGroupId.1={group}&\
             LaunchTemplateData.IamInstanceProfile.Name=web{}",
            launch.ami, launch.more
        ));
        cloud.autoscaling(
            REGION,
            &format!(
                "Action=CreateAutoScalingGroup&AutoScalingGroupName=web&MinSize=0&MaxSize=5&DesiredCapacity=3&\
                 VPCZoneIdentifier={subnet}&LaunchTemplate.LaunchTemplateName=web&LaunchTemplate.Version=1"
            ),
        );
        self.fleet_file("");
        let instances = ec2("Action=DescribeInstances");
        let mut ids: Vec<_> = instances
            .split("<instanceId>")
            .skip(1)
            .map(|rest| rest.split_once('<').expect("an end").0.to_owned())
            .collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 3, "{instances}");
        ids
    }

    /// Writes the fleet's file.
    fn fleet_file(&self, more: &str) {
        let text = format!(
            "image = \"web\"\n[aws]\nregion = \"{REGION}\"\nauto_scaling_group = \"web\"\n{more}\n\
             [health]\nhttp = {{ port = 80, path = \"/\" }}\n"
        );
        fs::write(self.repo().join("fleets/web.toml"), text).expect("written");
    }
}

/// The findings of the one fleet, each as `rule: what: where`.
fn found(ended: &Ended) -> Vec<String> {
    let events = ended.events("audit");
    assert_eq!(events.len(), 1, "{}", ended.stdout);
    let findings = events[0]["findings"].as_array().expect("a list").iter();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let on = |finding: &Value| {
        finding["on"].as_array().expect("a list").iter().map(text).collect::<Vec<_>>().join(", ")
    };
    findings.map(|one| format!("{}: {}: {}", text(&one["rule"]), text(&one["what"]), on(one))).collect()
}

/// What the agent writes to a console.
fn console(touched: &Value) -> String {
    let report = json!({
        "image": "i", "root_hash": "r", "ready": true, "uptime_s": 6.5, "failed_units": [], "listening": [],
        "touched": touched,
    });
    format!("[    0.1] Linux\r\nrekiln-agent: {report}\r\n[    9.9] more\r\n")
}

const CLOSED: &str = "&LaunchTemplateData.MetadataOptions.HttpTokens=required";

#[test]
fn a_group_that_nobody_gets_into_has_no_findings_and_is_only_looked_at() {
    let stage = Stage::new();
    let ami = stage.published();
    let ids =
        stage.group(&Launch { ami: &ami, more: CLOSED, allows: "%22s3:GetObject%22", ..Launch::default() });
    stage.cloud.access(&json!({ "consoles": { &ids[0]: console(&Value::Null) } }));
    stage.cloud.forget_calls();
    let ended = stage.run(&["audit"]).must(0);
    assert_eq!(found(&ended), [""; 0]);
    assert!(
        ended.stderr.contains("fleet web: 3 instances; nobody could log in, and nobody did"),
        "{}",
        ended.stderr
    );
    assert_eq!(stage.cloud.changes(), [""; 0]);
}

#[test]
fn each_way_in_is_found_with_where_it_is() {
    let stage = Stage::new();
    let ami = stage.published();
    let key = "Action=CreateKeyPair&KeyName=ops";
    stage.cloud.ec2(REGION, key);
    let ids = stage.group(&Launch {
        ami: &ami,
        more: "&LaunchTemplateData.KeyName=ops&LaunchTemplateData.MetadataOptions.HttpTokens=optional",
        allows: "%22ssm:*%22,%22ec2messages:GetMessages%22",
        ssh: "10.0.0.0/8",
        public: true,
    });
    let sessions: Vec<Value> = (0..3)
        .map(|n| json!({ "target": ids[2], "owner": format!("arn:aws:iam::123456789012:user/o{n}"), "start": 0, "active": n == 0 }))
        .collect();
    stage.cloud.access(&json!({
        "serial": true,
        "managed": ids,
        "sessions": sessions,
        "consoles": { &ids[1]: console(&json!("a shell on ttyS0")) },
    }));
    let report = stage.repo().join("report.sarif");
    let ended = stage.run(&["audit", "web", "--sarif", report.to_str().expect("a path")]).must(3);
    let (all, last) = (ids.join(", "), &ids[2]);
    let everywhere = format!("{all}, launch template web version 1");
    let group = stage
        .cloud
        .ec2(REGION, "Action=DescribeSecurityGroups&Filter.1.Name=group-name&Filter.1.Value.1=web");
    let (_, group) = group.split_once("<groupId>").expect("a group");
    let group = group.split_once('<').expect("an end").0;
    let sessions = (0..3)
        .map(|n| format!("session: arn:aws:iam::123456789012:user/o{n} from 1970-01-01T00:00:00Z: {last}"));
    let mut expected = vec![format!("touched: a shell on ttyS0: {}", ids[1])];
    expected.extend(sessions);
    expected.extend([
        format!("managed: Systems Manager's agent answers: {all}"),
        format!(
            "remote-access: web allows ssm:UpdateInstanceInformation, ec2messages:GetMessages, ssm:StartSession, \
             ssm:SendCommand: {everywhere}"
        ),
        format!("open-port: {group} opens port 22 (SSH) to 10.0.0.0/8: {everywhere}"),
        format!("key-pair: key pair ops: {everywhere}"),
        "serial-console: serial consoles can be opened in this region: ".to_owned(),
        format!("metadata-v1: metadata is given without a token: {everywhere}"),
    ]);
    let found = found(&ended);
    let (public, rest): (Vec<_>, Vec<_>) =
        found.iter().cloned().partition(|finding| finding.starts_with("public-address: "));
    assert_eq!(rest, expected);
    // One for each instance, and one for what comes.
    assert_eq!(public.len(), 4, "{public:?}");
    let report: Value = serde_json::from_slice(&fs::read(report).expect("a report")).expect("JSON");
    let results = report["runs"][0]["results"].as_array().expect("a list");
    assert_eq!(results.len(), found.len());
    assert!(ended.stderr.contains("rekiln rotate FLEET --touched"), "{}", ended.stderr);
}

#[test]
fn what_is_not_of_rekiln_is_found() {
    let stage = Stage::new();
    let ami = stage.cloud.foreign_image(REGION, "somebody's");
    let ids =
        stage.group(&Launch { ami: &ami, more: CLOSED, allows: "%22s3:GetObject%22", ..Launch::default() });
    let everywhere = format!("{}, launch template web version 1", ids.join(", "));
    let ended = stage.run(&["audit"]).must(3);
    assert_eq!(found(&ended), [format!("foreign-image: {ami} is no image of rekiln: {everywhere}")]);
    // The same that was published from another store: its tag says which image it is, and nobody here knows that.
    let stage = Stage::new();
    let ami = stage.published();
    let image = stage.usual_image();
    let ids =
        stage.group(&Launch { ami: &ami, more: CLOSED, allows: "%22s3:GetObject%22", ..Launch::default() });
    stage.forget_store();
    let everywhere = format!("{}, launch template web version 1", ids.join(", "));
    let what = format!("{ami} says it is image {}, which this store does not have", image.short());
    assert_eq!(found(&stage.run(&["audit"]).must(3)), [format!("foreign-image: {what}: {everywhere}")]);
}

#[test]
fn what_may_not_be_looked_at_is_a_finding_and_what_fails_for_a_moment_is_not() {
    let stage = Stage::new();
    let ami = stage.published();
    let ids =
        stage.group(&Launch { ami: &ami, more: CLOSED, allows: "%22s3:GetObject%22", ..Launch::default() });
    stage.cloud.access(&json!({ "managed": [ids[0]] }));
    let whole = found(&stage.run(&["audit"]).must(3));
    for (operation, what) in LOOKS {
        let denied = json!([{ "operation": operation, "do": "error", "code": "AccessDenied", "status": 403, "times": -1 }]);
        stage.cloud.rules(&denied);
        let found = found(&stage.run(&["audit"]).must(3));
        let what = format!("unseen: {}", what.replace("INSTANCE", &ids[0]));
        assert!(
            found.iter().any(|finding| finding.starts_with(&what) && finding.contains("AccessDenied")),
            "{operation}: {found:?}"
        );
        stage.cloud.rules(
            &json!([{ "operation": operation, "do": "500" }, { "operation": operation, "do": "throttle" }]),
        );
        assert_eq!(self::found(&stage.run(&["audit"]).must(3)), whole, "{operation}");
        stage.cloud.forget_calls();
    }
    for operation in ["DescribeAutoScalingGroups", "DescribeInstances"] {
        let denied = json!([{ "operation": operation, "do": "error", "code": "AccessDenied", "status": 403, "times": -1 }]);
        stage.cloud.rules(&denied);
        let ended = stage.run(&["audit"]).must(1);
        assert!(
            ended.stderr.contains(operation) && ended.stderr.contains("AccessDenied"),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn a_file_that_does_not_fit_is_said_before_anything_is_believed() {
    let stage = Stage::new();
    let ami = stage.published();
    stage.group(&Launch { ami: &ami, more: CLOSED, allows: "%22s3:GetObject%22", ..Launch::default() });
    stage.fleet_file("account = \"999999999999\"");
    let ended = stage.run(&["audit"]).must(1);
    assert!(ended.stderr.contains("the fleet is in account 999999999999"), "{}", ended.stderr);
    stage.fleet_file("");
    let file = stage.repo().join("fleets/web.toml");
    let text = fs::read_to_string(&file).expect("a file");
    fs::write(&file, text.replace("group = \"web\"", "group = \"wbe\"")).expect("written");
    let ended = stage.run(&["audit", "web"]).must(2);
    assert!(ended.stderr.contains("there is no Auto Scaling group `wbe`"), "{}", ended.stderr);
    // It is not taken for a fleet of this computer either.
    for command in [&["plan", "web"][..], &["roll", "web"], &["status", "web"]] {
        let ended = stage.run(command).must(2);
        assert!(
            ended.stderr.contains("there is no Auto Scaling group `wbe`"),
            "{command:?} {}",
            ended.stderr
        );
    }
    let policy = stage.run(&["aws", "policy", "--audit"]).must(0);
    let policy: Value = serde_json::from_str(&policy.stdout).expect("JSON");
    let allowed: Vec<&str> = policy["Statement"]
        .as_array()
        .expect("a list")
        .iter()
        .flat_map(|one| one["Action"].as_array().expect("a list"))
        .filter_map(|action| action.as_str()?.split_once(':').map(|(_, name)| name))
        .collect();
    for (operation, _) in LOOKS {
        assert!(allowed.contains(&operation), "{operation}: {allowed:?}");
    }
}

#[test]
fn a_fleet_of_this_computer_that_does_not_run_has_no_way_in() {
    let stage = Stage::new();
    let ended = stage.run(&["audit"]).must(0);
    assert!(ended.stderr.contains("fleet web: 0 instances; nobody could log in"), "{}", ended.stderr);
}

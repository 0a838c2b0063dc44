//! What the tests of rolling groups play on: a group that serves an old image, and the image that Git asks for, published.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Instant;

use rekiln::catalog::{Catalog, Record};
use rekiln::digest::Digest;
use serde_json::{Value, json};

use crate::publish::cloud::{LOOK, PATIENCE};
use crate::publish::stage::{Ended, FILLS, Image, REGION, SIZE, Stage, Started};

/// The group, and its fleet.
pub const NAME: &str = "web";
/// How the group's addresses begin.
const NET: &str = "10.1";
/// The last letters of the zones.
const ZONES: [&str; 3] = ["a", "b", "c"];

/// How a group is made, and how its file says that it is rolled.
#[derive(Debug, Clone)]
pub struct Setup {
    pub size: u64,
    pub min: u64,
    pub max: u64,
    pub zones: usize,
    pub target_groups: usize,
    /// How many may exist above the size.
    pub surge: u64,
    /// The same as a share, such as `25%`, where the file says it so.
    pub share: &'static str,
    /// How many below the size may serve.
    pub unavailable: u64,
    /// When what does not serve is given up.
    pub deadline: &'static str,
    /// What else is said in `[roll]`.
    pub roll: &'static str,
}

impl Default for Setup {
    /// Three, one in each zone, behind one target group, with room to spare.
    fn default() -> Self {
        Self {
            size: 3,
            min: 0,
            max: 20,
            zones: ZONES.len(),
            target_groups: 1,
            surge: 2,
            share: "",
            unavailable: 0,
            deadline: "60s",
            roll: "",
        }
    }
}

impl Setup {
    /// A group of three whose owner left no room at all: with it, everything that a roll can change is changed.
    pub fn without_room() -> Self {
        Self { min: 3, max: 3, ..Self::default() }
    }
}

/// A published image.
pub struct Ami {
    pub image: Image,
    pub id: String,
}

/// An Auto Scaling group that serves.
pub struct Group<'a> {
    pub stage: &'a Stage,
    pub setup: Setup,
    /// What it was launched from, which nobody asks for any more.
    pub old: Ami,
    /// What Git asks for.
    pub wanted: Ami,
    /// Its subnets, as a group is given them.
    pub subnets: String,
    /// As it was before anything was done to it.
    pub before: Value,
    /// How many entries the endpoint's log had then.
    pub from: usize,
}

impl<'a> Group<'a> {
    /// Makes a group, and waits until all of it serves.
    pub fn on(stage: &'a Stage, setup: Setup) -> Self {
        Self::at(stage, setup, NET)
    }

    /// The same, with addresses that begin so.
    pub fn at(stage: &'a Stage, setup: Setup, net: &str) -> Self {
        stage.cloud.looks(0);
        repository(stage, Path::new(env!("CARGO_MANIFEST_DIR")));
        let old = publish(stage, "an old page", 7);
        let wanted = publish(stage, "the page that is asked for", 8);
        let (subnets, vpc) = network(stage, &setup, &old.id, net);
        let source = |number: usize| {
            let arn = target_group(stage, number, &vpc, 1);
            format!("&TargetGroupARNs.member.{}={arn}", number + 1)
        };
        let sources: Vec<String> = (0..setup.target_groups).map(source).collect();
        let sources = sources.concat();
        let Setup { size, min, max, .. } = setup;
        let mut group = Self { stage, setup, old, wanted, subnets, before: Value::Null, from: 0 };
        group.make(
            NAME,
            &format!(
                "MinSize={min}&MaxSize={max}&DesiredCapacity={size}&LaunchTemplate.LaunchTemplateName=web&\
                 LaunchTemplate.Version=1{sources}"
            ),
        );
        group.file(NAME, "");
        group.before = group.settled();
        group.from = stage.cloud.log(0).len();
        stage.cloud.forget_calls();
        group
    }

    /// Makes a group in the same network; `given` has its sizes and what it launches.
    pub fn make(&self, name: &str, given: &str) {
        let subnets = &self.subnets;
        self.autoscaling(&format!(
            "Action=CreateAutoScalingGroup&AutoScalingGroupName={name}&VPCZoneIdentifier={subnets}&{given}"
        ));
    }

    /// Writes the fleet's file: for a group, and with more in `[aws]`.
    pub fn file(&self, group: &str, aws: &str) {
        let Setup { surge, share, unavailable, deadline, roll, .. } = &self.setup;
        let surge = if share.is_empty() { surge.to_string() } else { format!("\"{share}\"") };
        let text = format!(
            "image = \"web\"\n[aws]\nregion = \"{REGION}\"\nauto_scaling_group = \"{group}\"\npoll = \"200ms\"\n{aws}\n\
             [health]\ndeadline = \"{deadline}\"\n\
             [roll]\nsurge = {surge}\nunavailable = {unavailable}\n{roll}\n"
        );
        fs::write(self.stage.repo().join("fleets/web.toml"), text).expect("written");
    }

    /// Calls EC2 Auto Scaling as somebody else, past the proxy.
    pub fn autoscaling(&self, parameters: &str) -> String {
        self.stage.cloud.autoscaling(REGION, parameters)
    }

    /// The group as the endpoint has it.
    pub fn state(&self) -> Value {
        let state = self.stage.cloud.state();
        let mut all = state["groups"].as_array().expect("a list").iter();
        all.find(|group| group["name"] == NAME).expect("the group").clone()
    }

    /// Waits until every member serves and none is missing or too much; members in standby are left out of it.
    pub fn settled(&self) -> Value {
        let begun = Instant::now();
        loop {
            let group = self.state();
            if is_settled(&group) {
                return group;
            }
            assert!(begun.elapsed() < PATIENCE, "the group never comes to rest: {group:#}");
            sleep(LOOK);
        }
    }

    /// Waits until something is so, with nothing of rekiln running.
    pub fn waits_until(&self, mut so: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !so() {
            assert!(
                begun.elapsed() < PATIENCE,
                "it never comes to that: {:#}",
                self.stage.cloud.state()["groups"]
            );
            sleep(LOOK);
        }
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Ended {
        self.stage.run(args)
    }

    /// Begins to roll.
    pub fn start(&self) -> Started {
        self.stage.begin(&["roll", NAME])
    }

    /// Waits until something is so; tells whether it was before the process ended.
    pub fn comes(&self, running: &mut Started, mut so: impl FnMut() -> bool) -> bool {
        let begun = Instant::now();
        loop {
            if so() {
                return true;
            }
            if running.child.try_wait().expect("its state").is_some() {
                return so();
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "it never comes to that, and never ends; calls: {:?}",
                self.stage.cloud.changes()
            );
            sleep(LOOK);
        }
    }

    /// How often rekiln has called an operation that changes something.
    pub fn called(&self, operation: &str) -> usize {
        self.stage.cloud.changes().iter().filter(|name| *name == operation).count()
    }

    /// The leases that are not given back.
    pub fn leases(&self) -> Vec<PathBuf> {
        let dir = self.stage.store().root().join("aws").join(NAME).join("leases");
        let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }
}

fn is_settled(group: &Value) -> bool {
    let mut counted = members(group);
    counted.retain(|member| member["state"] != "Standby");
    let serve = counted.iter().all(|member| member["state"] == "InService");
    serve && group["desired"] == counted.len() && group["healthy_targets"] == group["desired"]
}

/// The members of a group.
pub fn members(group: &Value) -> Vec<&Value> {
    group["members"].as_array().expect("a list").iter().collect()
}

/// The id of a member.
pub fn instance(member: &Value) -> String {
    member["instance"].as_str().expect("an id").to_owned()
}

/// Every object on standard output, whatever it is about.
pub fn objects(ended: &Ended) -> Vec<Value> {
    ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Rekiln's own recipes from `origin`, which have locks: so it is known what Git asks for.
pub fn repository(stage: &Stage, origin: &Path) {
    for folder in ["images", "bootstrap/web"] {
        let from = origin.join(folder);
        for file in fs::read_dir(from).expect("a directory") {
            let file = file.expect("a file");
            // The databases have templates of their own, and are no fleet of a group.
            if file.file_name().as_encoded_bytes().starts_with(b"db") {
                continue;
            }
            fs::copy(file.path(), stage.repo().join(folder).join(file.file_name())).expect("copied");
        }
    }
    stage.publish_section(&format!("regions = [\"{REGION}\"]"));
}

/// Changes the page that the recipe has, and with it the image that Git asks for; puts that into the store as if it were
/// baked. Its first block is filled with the mark.
pub fn bake(stage: &Stage, page: &str, mark: u8) -> Image {
    fs::write(stage.repo().join("bootstrap/web/index.html.hbs"), page).expect("written");
    let said = objects(&stage.run(&["id", "web"]).must(0));
    let id: Digest = said[0]["id"].as_str().expect("an id").parse().expect("an id");
    let mut fills = FILLS;
    fills[0].1 = mark;
    // Images of these stages are called as it pleases a test; this one has to be called as Git does.
    let made = stage.image(page, SIZE, &fills);
    let catalog = Catalog::new(stage.store());
    let record = catalog.load(made.id).expect("a record");
    fs::rename(stage.store().image(made.id), stage.store().image(id)).expect("moved");
    catalog.save(&Record { id, ..record }).expect("saved");
    Image { id, ..made }
}

/// The same, and published.
pub fn publish(stage: &Stage, page: &str, mark: u8) -> Ami {
    let image = bake(stage, page, mark);
    let id = stage.publish(&image)[0]["ami"].as_str().expect("an id").to_owned();
    Ami { image, id }
}

/// Where a group can be: a VPC, subnets in it, one in each zone, a security group; and an instance profile.
pub struct Ground {
    pub vpc: String,
    pub subnets: Vec<String>,
    pub secured: String,
}

/// Makes where a group can be; the addresses of the VPC begin with `net`.
pub fn ground(stage: &Stage, zones: usize, net: &str) -> Ground {
    let cloud = &stage.cloud;
    let ec2 = |parameters: &str| cloud.ec2(REGION, parameters);
    let region = cloud.region(REGION);
    let vpc = text(&ec2(&format!("Action=CreateVpc&CidrBlock={net}.0.0/16")), "vpcId");
    let subnet = |(number, zone): (usize, &&str)| {
        let block = 16 * number;
        let made = ec2(&format!(
            "Action=CreateSubnet&VpcId={vpc}&CidrBlock={net}.{block}.0/20&AvailabilityZone={region}{zone}"
        ));
        text(&made, "subnetId")
    };
    let subnets: Vec<String> = ZONES[..zones].iter().enumerate().map(subnet).collect();
    let secured = ec2(&format!("Action=CreateSecurityGroup&GroupName=web&GroupDescription=web&VpcId={vpc}"));
    let secured = text(&secured, "groupId");
    cloud.iam("Action=CreateInstanceProfile&InstanceProfileName=web");
    Ground { vpc, subnets, secured }
}

/// Makes the subnets and the launch template of an AMI; returns the subnets, as a group is given them, and the VPC,
/// whose addresses begin with `net`.
pub fn network(stage: &Stage, setup: &Setup, ami: &str, net: &str) -> (String, String) {
    let Ground { vpc, subnets, secured } = ground(stage, setup.zones, net);
    let ec2 = |parameters: &str| stage.cloud.ec2(REGION, parameters);
    ec2(&format!(
        "Action=CreateLaunchTemplate&LaunchTemplateName=web&LaunchTemplateData.ImageId={ami}&\
         LaunchTemplateData.InstanceType=t3.micro&LaunchTemplateData.SecurityGroupId.1={secured}&\
         LaunchTemplateData.IamInstanceProfile.Name=web&\
         LaunchTemplateData.TagSpecification.1.ResourceType=instance&\
         LaunchTemplateData.TagSpecification.1.Tag.1.Key=team&\
         LaunchTemplateData.TagSpecification.1.Tag.1.Value=edge"
    ));
    (subnets.join(","), vpc)
}

/// Makes a target group that gets requests and waits some seconds for those that are under way; returns its ARN.
pub fn target_group(stage: &Stage, number: usize, vpc: &str, wait: u32) -> String {
    let name = format!("web-{number}");
    let made = stage.cloud.elb(
        REGION,
        &format!("Action=CreateTargetGroup&Name={name}&Protocol=HTTP&Port=80&VpcId={vpc}&HealthCheckPath=/"),
    );
    let arn = text(&made, "TargetGroupArn");
    stage.cloud.elb(
        REGION,
        &format!(
            "Action=ModifyTargetGroupAttributes&TargetGroupArn={arn}&\
             Attributes.member.1.Key=deregistration_delay.timeout_seconds&Attributes.member.1.Value={wait}"
        ),
    );
    stage.cloud.control("target_groups", &json!({ "target_group": name, "in_use": true }));
    arn
}

/// What an element of an answer says, the first of its name.
pub fn text(xml: &str, name: &str) -> String {
    let found = xml.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once('<'));
    found.unwrap_or_else(|| panic!("{name}: {xml}")).0.to_owned()
}

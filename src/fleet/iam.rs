//! Decide: what credentials must be allowed to do to roll Auto Scaling groups, and nothing else.
//!
//! The actions and what they can be restricted by are those of AWS's Service Authorization Reference; what AWS asks for
//! beside the calls themselves is in the EC2 Auto Scaling user guide, "Amazon EC2 Auto Scaling API permissions" and "Launching
//! instances with synchronous provisioning". That AWS takes the policy as it is meant could not be tried here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::backup::Target;
use super::{AutoScaling, Fleet};
use crate::objects::S3Url;
use crate::publish::policy::partition;

/// What only looks. None of it can be restricted to one group.
const LOOK: [&str; 8] = [
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeInstanceRefreshes",
    "autoscaling:DescribeScalingActivities",
    "ec2:DescribeImages",
    "ec2:DescribeInstances",
    "ec2:DescribeLaunchTemplateVersions",
    "ec2:GetConsoleOutput",
    "elasticloadbalancing:DescribeTargetHealth",
];

/// What changes a group: these groups only.
const ROLL: [&str; 7] = [
    "autoscaling:CreateOrUpdateTags",
    "autoscaling:DeleteTags",
    "autoscaling:LaunchInstances",
    "autoscaling:ResumeProcesses",
    "autoscaling:SuspendProcesses",
    "autoscaling:TerminateInstanceInAutoScalingGroup",
    "autoscaling:UpdateAutoScalingGroup",
];

/// What gives instances requests, and takes them away. Which target groups a group has is not in Git.
const SERVE: [&str; 2] = ["elasticloadbalancing:DeregisterTargets", "elasticloadbalancing:RegisterTargets"];

/// What chaos kills instances with: those of these groups only, by the tag that Auto Scaling gives them.
const KILL: &str = "ec2:TerminateInstances";

/// What nobody calls, and AWS wants its caller to be allowed: whoever has a group launch a version of a template launches
/// its instances.
const LAUNCH: [&str; 2] = ["ec2:CreateFleet", "ec2:RunInstances"];

/// What journals, records and backups in a bucket are read and written with; create-only writing asks for no more.
const OBJECTS: [&str; 3] = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"];
/// What makes a group that is not there, tagged as the fleet's: these groups only, and only where a fleet's file has what to
/// make it from.
const MAKE: [&str; 2] = ["autoscaling:CreateAutoScalingGroup", "autoscaling:CreateOrUpdateTags"];

/// The name of the action that makes a launch template, as it is called and as it tags.
const TEMPLATE: &str = "CreateLaunchTemplate";

/// The tag that rekiln gives instances, as the provider has it.
const TAG: &str = "rekiln:name";

/// Places in buckets, by partition, name and prefix.
type Places = BTreeSet<(&'static str, String, String)>;

/// Returns the policy for these fleets; nothing where none of them has anything in AWS.
#[must_use]
pub fn policy(fleets: &[&Fleet]) -> Option<Value> {
    let groups = || fleets.iter().filter_map(|fleet| fleet.aws.as_ref());
    let mut statements = if groups().next().is_some() { of_groups(groups()) } else { Vec::new() };
    let journal = |group: &AutoScaling| place(group.journal.as_deref()?.parse().ok()?, Some(&group.region));
    statements.extend(of_buckets(["Journal", "ListJournal"], &groups().filter_map(journal).collect()));
    let backup = |fleet: &&Fleet| match fleet.backup.as_ref()?.target.parse() {
        Ok(Target::Bucket(url)) => place(url, fleet.aws.as_ref().map(|aws| aws.region.as_str())),
        _ => None,
    };
    let backups = fleets.iter().filter_map(backup).collect();
    statements.extend(of_buckets(["Backup", "ListBackup"], &backups));
    (!statements.is_empty()).then(|| json!({ "Version": "2012-10-17", "Statement": statements }))
}

/// Returns where a URL leads; one that does not say its region is in `region`. What does not read is `check`'s to tell.
fn place(url: S3Url, region: Option<&str>) -> Option<(&'static str, String, String)> {
    let partition = partition(url.region.as_deref().or(region)?);
    Some((partition, url.bucket, url.prefix))
}

/// What these groups are rolled with.
fn of_groups<'a>(groups: impl IntoIterator<Item = &'a AutoScaling>) -> Vec<Value> {
    let mut arns: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let (mut regions, mut names, mut makes) = (BTreeSet::new(), BTreeSet::new(), false);
    for group in groups {
        let region = group.region.as_str();
        let (name, partition) = (group.auto_scaling_group.as_str(), partition(region));
        let account = group.account.as_deref().unwrap_or("*");
        let mut arn = |what: &'static str, arn: String| arns.entry(what).or_default().insert(arn);
        let itself = format!(
            "arn:{partition}:autoscaling:{region}:{account}:autoScalingGroup:*:autoScalingGroupName/{name}"
        );
        if group.group.is_some() {
            makes = true;
            arn("made", itself.clone());
            arn("new templates", format!("arn:{partition}:ec2:{region}:{account}:launch-template/*"));
            // EC2 Auto Scaling user guide, "Service-linked roles": the first group of an account makes it.
            let service = "aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling";
            arn("service", format!("arn:{partition}:iam::{account}:role/{service}"));
        }
        arn("groups", itself);
        arn("targets", format!("arn:{partition}:elasticloadbalancing:{region}:{account}:targetgroup/*"));
        arn("templates", format!("arn:{partition}:ec2:{region}:{account}:launch-template/*"));
        arn("instances", format!("arn:{partition}:ec2:{region}:{account}:instance/*"));
        arn("roles", format!("arn:{partition}:iam::{account}:role/*"));
        regions.insert(region);
        names.insert(name);
    }
    let there = json!({ "StringEquals": { "aws:RequestedRegion": regions } });
    let allow = |name: &str, actions: &[&str], resources: Value, condition: Value| {
        json!({
            "Sid": name, "Effect": "Allow", "Action": actions, "Resource": resources, "Condition": condition,
        })
    };
    let of_these = json!({
        "StringEquals": { "aws:ResourceTag/aws:autoscaling:groupName": names },
        "ForAllValues:StringEquals": { "aws:TagKeys": [TAG] },
    });
    let any_of_these = json!({ "StringEquals": { "aws:ResourceTag/aws:autoscaling:groupName": names } });
    // What a template says that instances are tagged with, they get as they are launched, and not later.
    let at_launch = json!({ "StringEquals": {
        "aws:RequestedRegion": regions, "ec2:CreateAction": ["CreateFleet", "RunInstances"],
    } });
    let to_instances = json!({ "StringLike": { "iam:PassedToService": "ec2.amazonaws.com*" } });
    let mut statements = vec![
        allow("Look", &LOOK, json!("*"), there.clone()),
        allow("Roll", &ROLL, json!(arns.get("groups")), there.clone()),
        allow("Serve", &SERVE, json!(arns.get("targets")), there.clone()),
        allow("Describe", &["ec2:CreateLaunchTemplateVersion"], json!(arns.get("templates")), there.clone()),
        allow("Launch", &LAUNCH, json!("*"), there),
        allow("TagAtLaunch", &["ec2:CreateTags"], json!("*"), at_launch),
        allow("Name", &["ec2:CreateTags"], json!(arns.get("instances")), of_these),
        allow("Profile", &["iam:PassRole"], json!(arns.get("roles")), to_instances),
        allow("Chaos", &[KILL], json!(arns.get("instances")), any_of_these),
    ];
    if makes {
        let there = json!({ "StringEquals": { "aws:RequestedRegion": regions } });
        let with_it =
            json!({ "StringEquals": { "aws:RequestedRegion": regions, "ec2:CreateAction": TEMPLATE } });
        let of_groups = json!({ "StringEquals": { "iam:AWSServiceName": "autoscaling.amazonaws.com" } });
        let templates = json!(arns.get("new templates"));
        let template = format!("ec2:{TEMPLATE}");
        statements.extend([
            allow("Find", &["ec2:DescribeLaunchTemplates"], json!("*"), there.clone()),
            allow("Make", &MAKE, json!(arns.get("made")), there.clone()),
            allow("Template", &[&template], templates.clone(), there),
            allow("TagTemplate", &["ec2:CreateTags"], templates, with_it),
            allow("Service", &["iam:CreateServiceLinkedRole"], json!(arns.get("service")), of_groups),
        ]);
    }
    statements
}

/// What these places are read and written with, and listed.
fn of_buckets([objects_sid, list_sid]: [&str; 2], places: &Places) -> Vec<Value> {
    if places.is_empty() {
        return Vec::new();
    }
    let below = |prefix: &str| if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    let objects: BTreeSet<_> = places
        .iter()
        .map(|(partition, bucket, prefix)| format!("arn:{partition}:s3:::{bucket}/{}*", below(prefix)))
        .collect();
    let buckets: BTreeSet<_> =
        places.iter().map(|(partition, bucket, _)| format!("arn:{partition}:s3:::{bucket}")).collect();
    let mut list = json!({
        "Sid": list_sid, "Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": buckets,
    });
    // Where a whole bucket is listed, no prefix is said that a condition could look at.
    if places.iter().all(|(.., prefix)| !prefix.is_empty()) {
        let prefixes: BTreeSet<_> = places.iter().map(|(.., prefix)| format!("{}*", below(prefix))).collect();
        list["Condition"] = json!({ "StringLike": { "s3:prefix": prefixes } });
    }
    vec![json!({ "Sid": objects_sid, "Effect": "Allow", "Action": OBJECTS, "Resource": objects }), list]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(text: &str) -> Fleet {
        let aws = text.replacen("[group]", "[aws.group]", 1);
        toml::from_str(&format!("image = 'web'\nhealth = {{}}\n[aws]\n{aws}")).expect("a fleet")
    }

    fn policy<const N: usize>(fleets: [&Fleet; N]) -> Value {
        super::policy(&fleets).expect("there is something")
    }

    #[test]
    fn only_the_groups_of_the_fleets_are_changed() {
        let one = group("region = 'eu-west-1'\nauto_scaling_group = 'web'\naccount = '123456789012'");
        let other = group("region = 'cn-north-1'\nauto_scaling_group = 'api'");
        let policy = self::policy([&one, &other]);
        let roll = &policy["Statement"][1];
        assert_eq!(roll["Action"], json!(ROLL));
        let named = "autoScalingGroup:*:autoScalingGroupName";
        assert_eq!(
            roll["Resource"],
            json!([
                format!("arn:aws-cn:autoscaling:cn-north-1:*:{named}/api"),
                format!("arn:aws:autoscaling:eu-west-1:123456789012:{named}/web")
            ])
        );
        assert_eq!(
            policy["Statement"][6]["Condition"]["StringEquals"],
            json!({
                "aws:ResourceTag/aws:autoscaling:groupName": ["api", "web"],
            })
        );
        let chaos = &policy["Statement"][8];
        assert_eq!(
            (&chaos["Action"], chaos["Condition"].to_string().contains("groupName")),
            (&json!([KILL]), true)
        );
        // A managed policy may have 6,144 characters, blanks not counted (IAM's quotas).
        assert!(policy.to_string().len() < 6144);
    }

    #[test]
    fn a_bucket_is_read_and_written_below_its_prefix_only() {
        let section = "region = 'eu-west-1'\nauto_scaling_group = 'web'\n";
        let policy = self::policy([&group(&format!("{section}journal = 's3://journals/prod'"))]);
        let statements = policy["Statement"].as_array().expect("a list");
        let [objects, list] = &statements[statements.len() - 2..] else { panic!("two") };
        assert_eq!(objects["Resource"], json!(["arn:aws:s3:::journals/prod/*"]));
        assert_eq!(list["Resource"], json!(["arn:aws:s3:::journals"]));
        assert_eq!(list["Condition"]["StringLike"]["s3:prefix"], json!(["prod/*"]));
        let whole = self::policy([&group(&format!("{section}journal = 's3://journals'"))]);
        assert!(whole.to_string().contains("arn:aws:s3:::journals/*"), "{whole}");
        assert!(!whole.to_string().contains("s3:prefix"), "{whole}");
        assert!(!self::policy([&group(section)]).to_string().contains("s3:"));
    }

    /// Also of fleets whose members are elsewhere.
    #[test]
    fn backups_are_read_and_written_where_they_are_kept() {
        let of = |target: &str| -> Fleet {
            toml::from_str(&format!(
                "image = 'db'\nhealth = {{}}\n[local]\nlisten = '127.0.0.1:1'\nport = 1\n[backup]\ntarget = '{target}'\nquery = 'SELECT 1'"
            ))
            .expect("a fleet")
        };
        let policy = self::policy([&of("s3://backups/prod?region=cn-north-1"), &of("file:///backups")]);
        let statements = policy["Statement"].as_array().expect("a list");
        let [objects, list] = &statements[..] else { panic!("two: {policy:#}") };
        assert_eq!((&objects["Sid"], &objects["Action"]), (&json!("Backup"), &json!(OBJECTS)));
        assert_eq!(objects["Resource"], json!(["arn:aws-cn:s3:::backups/prod/*"]));
        assert_eq!(list["Condition"]["StringLike"]["s3:prefix"], json!(["prod/*"]));
        assert_eq!(super::policy(&[&of("file:///backups")]), None);
    }

    #[test]
    fn what_makes_groups_is_allowed_where_one_is_to_be_made() {
        let adopted = group("region = 'eu-west-1'\nauto_scaling_group = 'api'");
        let designed = group(
            "region = 'eu-west-1'\nauto_scaling_group = 'web'\n[group]\nmin = 1\nmax = 2\nsubnets = ['subnet-1']\n\
             security_groups = ['sg-1']\ninstance_type = 't3.micro'",
        );
        let actions = |policy: &Value| {
            let all = policy["Statement"].as_array().expect("a list").iter();
            let all = all.flat_map(|one| one["Action"].as_array().expect("a list"));
            all.map(|action| action.as_str().expect("text").to_owned()).collect::<BTreeSet<String>>()
        };
        let without = policy([&adopted]);
        let with = policy([&adopted, &designed]);
        let more: Vec<String> = actions(&with).difference(&actions(&without)).cloned().collect();
        assert_eq!(
            more,
            [
                "autoscaling:CreateAutoScalingGroup",
                "ec2:CreateLaunchTemplate",
                "ec2:DescribeLaunchTemplates",
                "iam:CreateServiceLinkedRole",
            ]
        );
        let mut statements = with["Statement"].as_array().expect("a list").iter();
        let making = statements.find(|one| one["Sid"] == "Make").expect("a statement");
        // The group that is adopted is not among those that may be made.
        let named = "arn:aws:autoscaling:eu-west-1:*:autoScalingGroup:*:autoScalingGroupName/web";
        assert_eq!(making["Resource"], json!([named]));
        assert!(with.to_string().len() < 6144);
    }

    /// What is called is allowed, and what is allowed is called or asked for by what is called: by the names in the code
    /// that calls.
    #[test]
    #[cfg(feature = "aws")]
    fn every_call_of_a_roll_is_in_it() {
        let mut called: BTreeSet<String> =
            ["DescribeImages", "DescribeLaunchTemplateVersions", "GetConsoleOutput"]
                .map(str::to_owned)
                .into();
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/provider/aws/group"));
        for file in files.expect("the sources").map(|file| file.expect("a source").path()) {
            if file.is_dir() {
                continue;
            }
            let text = std::fs::read_to_string(file).expect("the source");
            let calls = text.split("CallError::of(\"").skip(1).filter_map(|rest| rest.split('"').next());
            called.extend(calls.map(str::to_owned));
        }
        let allowed = LOOK.iter().chain(&ROLL).chain(&SERVE).chain(&["ec2:CreateLaunchTemplateVersion"]);
        let allowed = allowed.chain(&["ec2:CreateTags", "ec2:DescribeLaunchTemplates", KILL]);
        // AWS asks for the tags of a group by the name of a call of their own.
        let allowed = allowed.chain(MAKE.iter().take(1)).chain(&["ec2:CreateLaunchTemplate"]);
        let name = |action: &&str| action.split_once(':').map(|(_, name)| name.to_owned());
        assert_eq!(allowed.filter_map(name).collect::<BTreeSet<_>>(), called);
        assert_eq!(TAG, crate::provider::aws::group::NAME_TAG);
    }
}

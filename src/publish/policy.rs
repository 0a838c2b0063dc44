//! Decide: what credentials must be allowed to do for what the recipes publish, and nothing else.
//!
//! The actions and what they can be restricted by are those of AWS's Service Authorization Reference (EC2, EBS, Systems
//! Manager); those for keys are in the EBS user guide, "Requirements for Amazon EBS encryption". `GetCallerIdentity`
//! needs no permission. That AWS takes the policy as it is meant could not be tried here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::recipe::publish::Publish;

/// What only reads, and knows no resources.
const LOOK: [&str; 3] = ["ec2:DescribeImages", "ec2:DescribeImageAttribute", "ec2:DescribeSnapshots"];

/// What is done with a snapshot that has our tag.
const SEND: [&str; 4] =
    ["ebs:PutSnapshotBlock", "ebs:CompleteSnapshot", "ebs:ListSnapshotBlocks", "ebs:GetSnapshotBlock"];

/// What changes or removes an image or a snapshot that has our tag. Also where no recipe asks for it now: what one no
/// longer asks for is taken back.
const CHANGE: [&str; 7] = [
    "ec2:ModifyImageAttribute",
    "ec2:EnableImageDeprecation",
    "ec2:DisableImageDeprecation",
    "ec2:EnableImageDeregistrationProtection",
    "ec2:DisableImageDeregistrationProtection",
    "ec2:DeregisterImage",
    "ec2:DeleteSnapshot",
];

/// What is done with the parameter.
const NAME: [&str; 3] = ["ssm:GetParameter", "ssm:PutParameter", "ssm:DeleteParameter"];

/// What snapshots under a key need of it.
const KEY: [&str; 4] =
    ["kms:DescribeKey", "kms:Decrypt", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncrypt*"];

/// What a collection looks at to see what reaches an image: none of it knows resources.
const REACH: [&str; 5] = [
    "ec2:DescribeInstances",
    "ec2:DescribeLaunchTemplateVersions",
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeLaunchConfigurations",
    "ssm:DescribeParameters",
];

/// What a collection reads: of every parameter, since any may name an image. Those that are encrypted stay closed.
const READ: [&str; 2] = ["ssm:GetParameter", "ssm:GetParameters"];

/// Returns the policy for these recipes by name, or nothing when none names a region; `collect` says whether AMIs that
/// nothing reaches are to be removed with it too.
#[must_use]
pub fn policy(recipes: &BTreeMap<&str, &Publish>, collect: bool) -> Option<Value> {
    let regions: BTreeSet<&str> =
        recipes.values().flat_map(|publish| &publish.regions).map(String::as_str).collect();
    let partitions: BTreeSet<&str> = regions.iter().map(|region| partition(region)).collect();
    let names: Vec<&str> =
        recipes.iter().filter(|(_, publish)| !publish.regions.is_empty()).map(|(name, _)| *name).collect();
    if names.is_empty() {
        return None;
    }
    let of = |kinds: &[&str]| -> Vec<String> {
        partitions
            .iter()
            .flat_map(|partition| kinds.iter().map(move |kind| format!("arn:{partition}:ec2:*::{kind}/*")))
            .collect()
    };
    let there = json!({ "aws:RequestedRegion": regions });
    let tagged =
        |key: &str| json!({ "aws:RequestedRegion": regions, format!("aws:{key}/rekiln:recipe"): names });
    let mut statements = vec![
        statement("Look", &LOOK, &["*".to_owned()], &there),
        statement("Begin", &["ebs:StartSnapshot"], &of(&["snapshot"]), &tagged("RequestTag")),
        statement("Register", &["ec2:RegisterImage", "ec2:CreateTags"], &of(&["image", "snapshot"]), &there),
        statement("Send", &SEND, &of(&["snapshot"]), &tagged("ResourceTag")),
        statement("Change", &CHANGE, &of(&["image", "snapshot"]), &tagged("ResourceTag")),
    ];
    if collect {
        let all = partitions.iter().map(|partition| format!("arn:{partition}:ssm:*:*:parameter/*"));
        statements.push(statement("Reach", &REACH, &["*".to_owned()], &there));
        statements.push(statement("ReadNames", &READ, &all.collect::<Vec<_>>(), &there));
    }
    let parameters = parameters(recipes);
    if !parameters.is_empty() {
        statements.push(statement("Name", &NAME, &parameters, &there));
    }
    let keys: BTreeSet<String> = recipes.values().flat_map(|publish| publish.kms.values().cloned()).collect();
    let keys: Vec<String> = keys.into_iter().collect();
    if !keys.is_empty() {
        statements.push(statement("UseKeys", &KEY, &keys, &there));
        let mut grant = statement("LendKeys", &["kms:CreateGrant"], &keys, &there);
        // A grant for AWS's own services, which is what the user guide advises.
        grant["Condition"]["Bool"] = json!({ "kms:GrantIsForAWSResource": "true" });
        statements.push(grant);
    }
    Some(json!({ "Version": "2012-10-17", "Statement": statements }))
}

/// What an inspection of an AMI or a snapshot looks at, and reads.
const INSPECT: [&str; 4] =
    ["ec2:DescribeImages", "ec2:DescribeSnapshots", "ebs:ListSnapshotBlocks", "ebs:GetSnapshotBlock"];

/// Returns the policy for `rekiln inspect` of AMIs and snapshots, whoever made them: it follows from no recipe, so nothing
/// narrows it. A snapshot under a key needs `kms:Decrypt` of that key, which is not known here, besides.
#[must_use]
pub fn inspecting() -> Value {
    let statement = json!({ "Sid": "Inspect", "Effect": "Allow", "Action": INSPECT, "Resource": ["*"] });
    json!({ "Version": "2012-10-17", "Statement": [statement] })
}

fn statement(name: &str, actions: &[&str], resources: &[String], equals: &Value) -> Value {
    json!({
        "Sid": name,
        "Effect": "Allow",
        "Action": actions,
        "Resource": resources,
        "Condition": { "StringEquals": equals },
    })
}

/// The ARNs of all parameters in the regions of their recipes, whatever the account.
fn parameters(recipes: &BTreeMap<&str, &Publish>) -> Vec<String> {
    let mut all = BTreeSet::new();
    for publish in recipes.values() {
        for region in &publish.regions {
            all.extend(publish.parameter.as_ref().map(|name| {
                let partition = partition(region);
                format!("arn:{partition}:ssm:{region}:*:parameter/{}", name.trim_start_matches('/'))
            }));
        }
    }
    all.into_iter().collect()
}

/// The part of AWS's world that a region belongs to, as ARNs have it (AWS's SDKs, `partitions.json`).
#[must_use]
pub fn partition(region: &str) -> &'static str {
    let known = [
        ("cn-", "aws-cn"),
        ("us-gov-", "aws-us-gov"),
        ("us-iso-", "aws-iso"),
        ("us-isob-", "aws-iso-b"),
        ("eu-isoe-", "aws-iso-e"),
        ("us-isof-", "aws-iso-f"),
        ("eusc-", "aws-eusc"),
    ];
    known.iter().find(|(prefix, _)| region.starts_with(prefix)).map_or("aws", |(_, partition)| partition)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(text: &str) -> Publish {
        toml::from_str(text).expect("a section")
    }

    /// Every action of a policy with its resources and conditions.
    fn actions(policy: &Value) -> BTreeMap<String, Value> {
        let statements = policy["Statement"].as_array().expect("statements").iter();
        let named = |statement: &Value| {
            let actions = statement["Action"].as_array().expect("actions").clone();
            let what = json!([statement["Resource"], statement["Condition"]]);
            actions.into_iter().map(move |action| (action.as_str().expect("text").to_owned(), what.clone()))
        };
        statements.flat_map(named).collect()
    }

    #[test]
    fn what_each_recipe_needs_and_nothing_else() {
        let web = publish("regions = ['eu-west-1', 'us-east-1']\nparameter = '/images/web'\n");
        let base = publish("");
        let recipes = BTreeMap::from([("web", &web), ("base", &base)]);
        let all = actions(&policy(&recipes, false).expect("a policy"));
        let regions = json!(["eu-west-1", "us-east-1"]);
        assert_eq!(
            all["ec2:DescribeImages"],
            json!([["*"], { "StringEquals": { "aws:RequestedRegion": regions } }])
        );
        assert_eq!(
            all["ec2:DeleteSnapshot"],
            json!([["arn:aws:ec2:*::image/*", "arn:aws:ec2:*::snapshot/*"], { "StringEquals": {
                "aws:RequestedRegion": regions, "aws:ResourceTag/rekiln:recipe": ["web"],
            } }])
        );
        assert_eq!(
            all["ssm:PutParameter"][0],
            json!([
                "arn:aws:ssm:eu-west-1:*:parameter/images/web",
                "arn:aws:ssm:us-east-1:*:parameter/images/web"
            ])
        );
        assert!(!all.keys().any(|action| action.starts_with("kms:")), "no recipe has a key");
        assert_eq!(policy(&BTreeMap::from([("base", &base)]), false), None);

        let key = "arn:aws-cn:kms:cn-north-1:123456789012:key/1";
        let china = publish(&format!("regions = ['cn-north-1']\nkms = {{ cn-north-1 = '{key}' }}\n"));
        let all = actions(&policy(&BTreeMap::from([("web", &china)]), false).expect("a policy"));
        assert_eq!(all["ebs:StartSnapshot"][0], json!(["arn:aws-cn:ec2:*::snapshot/*"]));
        assert_eq!(all["kms:Decrypt"][0], json!([key]));
        assert_eq!(all["kms:CreateGrant"][1]["Bool"], json!({ "kms:GrantIsForAWSResource": "true" }));
        assert!(!all.contains_key("ssm:PutParameter"));
    }

    /// What is called is allowed, and what is allowed is called: by the names in the code that calls.
    #[test]
    fn every_call_is_in_it() {
        let mut called = BTreeSet::new();
        // What rolls groups has a policy of its own.
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/provider/aws"));
        for file in files.expect("the sources").map(|file| file.expect("a source").path()) {
            // Nor has what bakes in EC2.
            if file.is_dir() || file.ends_with("builder.rs") {
                continue;
            }
            let text = std::fs::read_to_string(file).expect("the source");
            let calls = text.split("CallError::of(\"").skip(1).filter_map(|rest| rest.split('"').next());
            called.extend(calls.map(str::to_owned));
        }
        assert!(called.contains("StartSnapshot"), "{called:?}");
        let all =
            publish("regions = ['eu-west-1']\nparameter = 'x'\nkms = { eu-west-1 = 'arn:aws:kms:x' }\n");
        let policy = policy(&BTreeMap::from([("web", &all)]), true).expect("a policy");
        let named = |action: &String| action.split_once(':').map(|(_, name)| name.to_owned());
        let mut allowed: BTreeSet<String> =
            actions(&policy).keys().filter(|action| !action.starts_with("kms:")).filter_map(named).collect();
        let audit = crate::fleet::audit::policy(&["eu-west-1"].into());
        allowed.extend(actions(&audit).keys().filter_map(named));
        // The first needs no permission; the second is done by whoever takes a role on, and not by the role.
        allowed.extend(["GetCallerIdentity", "AssumeRole"].map(str::to_owned));
        assert_eq!(allowed, called);
        // A managed policy may have 6,144 characters, blanks not counted (IAM's quotas).
        assert!(policy.to_string().len() < 6144);
    }

    #[test]
    fn an_inspection_only_reads() {
        let all = actions(&inspecting());
        assert!(
            all.keys().all(|action| ["Describe", "List", "Get"].iter().any(|word| action.contains(word)))
        );
        assert_eq!(all["ebs:GetSnapshotBlock"][0], json!(["*"]));
    }

    #[test]
    fn partitions() {
        for (region, expected) in [
            ("eu-west-1", "aws"),
            ("us-gov-west-1", "aws-us-gov"),
            ("cn-northwest-1", "aws-cn"),
            ("us-isob-east-1", "aws-iso-b"),
            ("us-iso-east-1", "aws-iso"),
            ("eusc-de-east-1", "aws-eusc"),
        ] {
            assert_eq!(partition(region), expected, "{region}");
        }
    }
}

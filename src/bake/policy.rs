//! Decide: what credentials must be allowed to do to derive the recipes' images from AMIs, and nothing else.
//!
//! The actions and what they can be restricted by are those of AWS's Service Authorization Reference (EC2, EBS). That AWS
//! takes the policy as it is meant could not be tried here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::publish::plan::RECIPE_TAG;
use crate::publish::policy::partition;
use crate::recipe::ami::AmiSource;

/// What only looks, at AMIs and subnets of anyone and at what is ours.
const LOOK: [&str; 6] = [
    "ec2:DescribeImages",
    "ec2:DescribeInstances",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSnapshots",
    "ec2:DescribeSubnets",
    "ec2:GetConsoleOutput",
];

/// What is made, with the recipe's tag on it.
const MAKE: [&str; 3] = ["ec2:RunInstances", "ec2:CreateSecurityGroup", "ec2:CreateImage"];

/// What is done with what has the recipe's tag.
const CHANGE: [&str; 11] = [
    "ec2:AuthorizeSecurityGroupIngress",
    "ec2:CreateImage",
    "ec2:CreateTags",
    "ec2:DeleteSecurityGroup",
    "ec2:DeleteSnapshot",
    "ec2:DeregisterImage",
    "ec2:ModifyImageAttribute",
    "ec2:ModifyInstanceAttribute",
    "ec2:TerminateInstances",
    "ebs:GetSnapshotBlock",
    "ebs:ListSnapshotBlocks",
];

/// What an encrypted volume under a key of one's own needs of it (EBS user guide, "Requirements for Amazon EBS
/// encryption").
const KEY: [&str; 5] = [
    "kms:CreateGrant",
    "kms:Decrypt",
    "kms:DescribeKey",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncrypt*",
];

/// Returns the policy for these recipes by name, each with the key for its region; nothing when there are none.
#[must_use]
pub fn policy(recipes: &BTreeMap<&str, (&AmiSource, Option<&str>)>) -> Option<Value> {
    let regions: BTreeSet<&str> = recipes.values().map(|(source, _)| source.region.as_str()).collect();
    let partitions: BTreeSet<&str> = regions.iter().map(|region| partition(region)).collect();
    let names: Vec<&str> = recipes.keys().copied().collect();
    if names.is_empty() {
        return None;
    }
    let arns = |kinds: &[&str]| -> Vec<String> {
        let of = |partition: &&str| {
            kinds.iter().map(|kind| format!("arn:{partition}:ec2:*:*:{kind}/*")).collect::<Vec<_>>()
        };
        partitions.iter().flat_map(of).collect()
    };
    let tagged =
        |how: &str| json!({ "aws:RequestedRegion": regions, (format!("aws:{how}Tag/{RECIPE_TAG}")): names });
    let statement = |name: &str, actions: &[&str], resources: Vec<String>, equals: Value| {
        json!({
            "Sid": name,
            "Effect": "Allow",
            "Action": actions,
            "Resource": resources,
            "Condition": { "StringEquals": equals },
        })
    };
    let here = || json!({ "aws:RequestedRegion": regions });
    let made = ["instance", "volume", "network-interface", "security-group", "image", "snapshot"];
    let spot = recipes.values().any(|(source, _)| source.spot);
    // What is not ours: an AMI of a vendor's, a subnet, a group that a recipe names; and a request that has no tags.
    let mut from = vec!["image", "security-group", "subnet"];
    from.extend(spot.then_some("spot-instances-request"));
    let mut tag_at_once = tagged("Request");
    tag_at_once["ec2:CreateAction"] = json!(["RunInstances", "CreateSecurityGroup", "CreateImage"]);
    let mut statements = vec![
        statement("Look", &LOOK, vec!["*".to_owned()], here()),
        statement("Make", &MAKE, arns(&made), tagged("Request")),
        statement("From", &["ec2:RunInstances"], arns(&from), here()),
        statement("In", &["ec2:CreateSecurityGroup"], arns(&["vpc"]), here()),
        statement("TagAtOnce", &["ec2:CreateTags"], arns(&made), tag_at_once),
        statement("Change", &CHANGE, arns(&made), tagged("Resource")),
    ];
    let keys: BTreeSet<&str> = recipes.values().filter_map(|(_, key)| *key).collect();
    if !keys.is_empty() {
        statements.push(json!({
            "Sid": "Encrypt",
            "Effect": "Allow",
            "Action": KEY,
            "Resource": keys,
        }));
    }
    if spot {
        // AWS makes this role for an account's first spot instance, in the name of who asks for that (EC2 user guide,
        // "Service-linked role for Spot Instance requests").
        statements.push(json!({
            "Sid": "FirstSpot",
            "Effect": "Allow",
            "Action": ["iam:CreateServiceLinkedRole"],
            "Resource": partitions.iter().map(|partition| {
                format!("arn:{partition}:iam::*:role/aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot")
            }).collect::<Vec<_>>(),
            "Condition": { "StringEquals": { "iam:AWSServiceName": "spot.amazonaws.com" } },
        }));
    }
    Some(json!({ "Version": "2012-10-17", "Statement": statements }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(key: Option<&str>) -> Value {
        let source: AmiSource =
            toml::from_str("id = 'ami-0123456789abcdef0'\nowner = 'amazon'\nregion = 'eu-west-1'\n")
                .expect("a source");
        policy(&BTreeMap::from([("web", (&source, key))])).expect("a policy")
    }

    fn actions(policy: &Value) -> BTreeSet<String> {
        let statements = policy["Statement"].as_array().expect("statements").iter();
        statements
            .flat_map(|statement| statement["Action"].as_array().expect("actions").clone())
            .map(|action| action.as_str().expect("text").to_owned())
            .collect()
    }

    /// What is called is allowed, and what is allowed is called: by the names in the code that calls.
    #[test]
    fn every_call_is_in_it() {
        let calls = |text: &str| -> BTreeSet<String> {
            text.split("CallError::of(\"")
                .skip(1)
                .filter_map(|rest| rest.split('"').next())
                .map(str::to_owned)
                .collect()
        };
        let mut called = calls(include_str!("../provider/aws/builder.rs"));
        assert!(called.contains("RunInstances"), "{called:?}");
        // Shared with publishing and the audit: looking at the AMI, tagging and removing it, its snapshots, and the console.
        let shared = [
            "DescribeSnapshots",
            "DeregisterImage",
            "DeleteSnapshot",
            "CreateTags",
            "ListSnapshotBlocks",
            "GetSnapshotBlock",
            "GetConsoleOutput",
        ];
        called.extend(shared.map(str::to_owned));
        let allowed: BTreeSet<String> = actions(&made(None))
            .iter()
            .filter_map(|action| action.split_once(':').map(|(_, name)| name.to_owned()))
            .collect();
        assert_eq!(allowed, called);
    }

    #[test]
    fn nothing_is_made_or_changed_without_the_recipes_tag() {
        let policy = made(Some("arn:aws:kms:eu-west-1:111122223333:key/1"));
        assert!(
            actions(&policy).contains("kms:CreateGrant") && !actions(&made(None)).contains("kms:CreateGrant")
        );
        let statements = policy["Statement"].as_array().expect("statements");
        for statement in statements {
            let resources = statement["Resource"].to_string();
            let equals = &statement["Condition"]["StringEquals"];
            if resources.contains(":instance/") || resources.contains(":volume/") {
                let tag = |how: &str| equals[format!("aws:{how}Tag/rekiln:recipe")] == json!(["web"]);
                assert!(tag("Request") || tag("Resource"), "{statement}");
            }
        }
        assert!(!policy.to_string().contains("spot"), "{policy}");
        assert_eq!(super::policy(&BTreeMap::new()), None);
        // A managed policy may have 6,144 characters, blanks not counted (IAM's quotas).
        assert!(policy.to_string().len() < 6144);
    }
}

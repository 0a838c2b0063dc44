//! What credentials must be allowed to look at for an audit, and nothing else.
//!
//! The actions and what they can be restricted by are those of AWS's Service Authorization Reference; that AWS takes the
//! policy as it is meant could not be tried here.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// What is looked at in a region. None of it can be restricted to one group.
const LOOK: [&str; 13] = [
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeLaunchConfigurations",
    "autoscaling:DescribeWarmPool",
    "ec2:DescribeImages",
    "ec2:DescribeInstances",
    "ec2:DescribeLaunchTemplateVersions",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:GetConsoleOutput",
    "ec2:GetSerialConsoleAccessStatus",
    "ssm:DescribeInstanceInformation",
    "ssm:DescribeSessions",
    "ssm:GetParameter",
];

/// What is looked at of roles: IAM is in no region.
const ROLES: [&str; 2] = ["iam:GetInstanceProfile", "iam:SimulatePrincipalPolicy"];

/// Returns the policy for groups in these regions. Parameters are read since a launch template may name an AMI by one.
#[must_use]
pub fn policy(regions: &BTreeSet<&str>) -> Value {
    let there = json!({ "StringEquals": { "aws:RequestedRegion": regions } });
    json!({
        "Version": "2012-10-17",
        "Statement": [
            { "Sid": "Look", "Effect": "Allow", "Action": LOOK, "Resource": "*", "Condition": there },
            { "Sid": "Roles", "Effect": "Allow", "Action": ROLES, "Resource": "*" },
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is called is allowed, and what is allowed is called: by the names in the code that calls.
    #[test]
    fn every_call_of_an_audit_is_in_it() {
        let mut called: BTreeSet<&str> = ["DescribeLaunchTemplateVersions", "GetParameter"].into();
        for text in
            [include_str!("../../provider/aws/doors.rs"), include_str!("../../provider/aws/launcher.rs")]
        {
            called.extend(text.split("CallError::of(\"").skip(1).filter_map(|rest| rest.split('"').next()));
        }
        let name = |action: &&'static str| action.split_once(':').map(|(_, name)| name);
        assert_eq!(LOOK.iter().chain(&ROLES).filter_map(name).collect::<BTreeSet<_>>(), called);
        let policy = policy(&["eu-west-1"].into());
        assert_eq!(
            policy["Statement"][0]["Condition"]["StringEquals"]["aws:RequestedRegion"][0],
            "eu-west-1"
        );
    }
}

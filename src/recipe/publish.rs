//! Where an image is published.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a baked, passing image is published, and who may use it; does not change the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Publish {
    /// AWS regions that get the image, such as `eu-west-1`.
    pub regions: BTreeSet<String>,
    /// The AWS account (12 digits) that it is published in: with credentials of another one, nothing is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Roles, by ARN, that are assumed to publish it, one after the other: it is published in the account of each.
    pub roles: BTreeSet<String>,
    /// AWS accounts (12 digits) that may launch it.
    pub accounts: BTreeSet<String>,
    /// ARNs of AWS organisations or organisational units whose accounts may launch it.
    pub organisations: BTreeSet<String>,
    /// The KMS key, by ARN, that encrypts the image, by region; regions without one follow the account's default.
    pub kms: BTreeMap<String, String>,
    /// Tags of the AMI and its snapshot, besides rekiln's own.
    pub tags: BTreeMap<String, String>,
    /// How long after its registration the AMI is marked deprecated, such as `90d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deprecate_after: Option<String>,
    /// The SSM parameter that names the AMI published last, such as `/images/web`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// The variables that its instances' firmware begins with, among them Secure Boot's keys, as `aws ec2
    /// get-instance-uefi-data` and python-uefivars write them (base64). It does not change the image, and an AMI that
    /// is there cannot be given another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uefi_data: Option<String>,
    /// Whether the AMI is protected from deregistration.
    pub protect: bool,
}

impl Publish {
    /// Returns each role to assume; `None` alone is whoever publishes.
    pub fn publishers(&self) -> impl Iterator<Item = Option<&str>> {
        let own = self.roles.is_empty().then_some(None);
        self.roles.iter().map(|role| Some(role.as_str())).chain(own)
    }
}

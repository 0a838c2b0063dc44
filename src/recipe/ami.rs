//! A vendor's AMI, and the short-lived instance on which an image is derived from it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// An AMI as its vendor publishes it, and where an instance of it may run for the time of a bake. Only `id` and `size`
/// shape the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AmiSource {
    /// The AMI, such as `ami-0123456789abcdef0`: one id means the same bytes for ever.
    pub id: String,
    /// Whose it must be: an account (12 digits), or `amazon`, `aws-marketplace` or `self`. Anyone can give an AMI a
    /// vendor's name.
    pub owner: String,
    /// The region that it is in, such as `eu-west-1`; the bake runs there.
    pub region: String,
    /// What the disk is grown to, such as `16G`. Without it, the disk has the AMI's size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Types of instances, the best first; where there is no capacity for one, the next is tried.
    #[serde(default = "default_types")]
    pub types: Vec<String>,
    /// Whether a spot instance is asked for first. Where there is none anywhere, or AWS takes it back, an ordinary one does
    /// the work. Its types must be of AWS's Nitro system: the console of others is not shown while they run.
    #[serde(default)]
    pub spot: bool,
    /// Subnets, the best first; for each type, all are tried. Without any: those of the default VPC.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<String>,
    /// Security groups that let this computer reach port 22. Without any, one is made for each bake that admits this
    /// computer's address alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security_groups: Vec<String>,
    /// The address that this computer's connections come from, such as `203.0.113.7`, for a security group that is made.
    /// Without it, it is found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<std::net::Ipv4Addr>,
    /// Whether the instance is reached at its private address, as from a runner in the same network; it gets no public one.
    #[serde(default)]
    pub private: bool,
    /// Whether the instance's disk, and with it the image's snapshot, is encrypted: with the key that `[publish] kms`
    /// has for the region, or the account's default key.
    #[serde(default)]
    pub encrypt: bool,
    /// How long the instance may take from its start until it lets us in, such as `30m`; else ten minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_timeout: Option<String>,
    /// The AWS account (12 digits) that the bake must run in: with credentials of another one, nothing is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The role, by ARN, that is assumed for the bake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assume_role: Option<String>,
}

/// The generations that most zones have, new ones first, with enough memory for any package manager.
fn default_types() -> Vec<String> {
    ["m7i.large", "m6i.large", "m5.large", "t3.large"].map(str::to_owned).to_vec()
}

impl AmiSource {
    /// Returns what stands for the AMI's bytes in an image's id.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(format!("ami:{}", self.id).as_bytes())
    }
}

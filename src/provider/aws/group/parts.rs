//! Decide: what of a launch template reaches an instance: the parts of a generation.
//!
//! Each part is written out by hand, and none of them by what an SDK prints: a newer SDK must not make all instances differ.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{
    Instance, LaunchTemplateBlockDeviceMapping, LaunchTemplateInstanceNetworkInterfaceSpecification,
    ResponseLaunchTemplateData,
};

use crate::digest::Digest;
use crate::provider::aws::doors::{named, profile};

/// The name of the part that is the AMI.
pub const AMI: &str = "ami";
/// The name of the part that is the instance type.
const TYPE: &str = "instance type";
/// The name of the part that is the instance profile.
const PROFILE: &str = "instance profile";
/// The name of the part that is the security groups.
const GROUPS: &str = "security groups";
/// The name of the part that is how metadata are served.
const METADATA: &str = "metadata options";

/// How metadata are served, as far as it is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    tokens: Option<String>,
    endpoint: Option<String>,
    hops: Option<i32>,
}

impl Metadata {
    /// What is said in `self`, as it is in `live`.
    fn as_in(&self, live: &Self) -> Self {
        Self {
            tokens: self.tokens.as_ref().and(live.tokens.clone()),
            endpoint: self.endpoint.as_ref().and(live.endpoint.clone()),
            hops: self.hops.and(live.hops),
        }
    }

    fn text(&self) -> Option<String> {
        let Self { tokens, endpoint, hops } = self;
        let said = [
            tokens.as_ref().map(|tokens| format!("tokens {tokens}")),
            endpoint.as_ref().map(|endpoint| format!("endpoint {endpoint}")),
            hops.map(|hops| format!("{hops} hops")),
        ];
        let said: Vec<_> = said.into_iter().flatten().collect();
        (!said.is_empty()).then(|| said.join(", "))
    }
}

/// What can be changed of an instance that runs, or was stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Live {
    kind: Option<String>,
    profile: Option<String>,
    security_groups: BTreeSet<String>,
    metadata: Metadata,
}

impl Live {
    /// Reads what EC2 says of an instance.
    pub fn of(instance: &Instance) -> Self {
        let options = instance.metadata_options();
        Self {
            kind: instance.instance_type().map(|kind| kind.as_str().to_owned()),
            profile: instance.iam_instance_profile().and_then(|one| one.arn()).map(profile),
            security_groups: instance
                .security_groups()
                .iter()
                .filter_map(|one| one.group_id().map(str::to_owned))
                .collect(),
            metadata: Metadata {
                tokens: options.and_then(|one| one.http_tokens()).map(|one| one.as_str().to_owned()),
                endpoint: options.and_then(|one| one.http_endpoint()).map(|one| one.as_str().to_owned()),
                hops: options.and_then(
                    aws_sdk_ec2::types::InstanceMetadataOptionsResponse::http_put_response_hop_limit,
                ),
            },
        }
    }
}

/// What a version of a launch template launches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blueprint {
    /// Every part by name; without the image, which only its AMI tells.
    pub parts: BTreeMap<String, String>,
    metadata: Metadata,
    /// Whether its security groups are given by their ids.
    groups_by_id: bool,
}

impl Blueprint {
    /// Reads the data of a version.
    pub fn of(data: &ResponseLaunchTemplateData) -> Self {
        let interfaces = data.network_interfaces();
        let groups = data.security_group_ids().iter();
        let groups = groups
            .chain(interfaces.iter().flat_map(LaunchTemplateInstanceNetworkInterfaceSpecification::groups));
        let by_id: BTreeSet<&String> = groups.collect();
        let names: BTreeSet<&String> = data.security_groups().iter().collect();
        let options = data.metadata_options();
        let metadata = Metadata {
            tokens: options.and_then(|one| one.http_tokens()).map(|one| one.as_str().to_owned()),
            endpoint: options.and_then(|one| one.http_endpoint()).map(|one| one.as_str().to_owned()),
            hops: options.and_then(
                aws_sdk_ec2::types::LaunchTemplateInstanceMetadataOptions::http_put_response_hop_limit,
            ),
        };
        let of_profile = data.iam_instance_profile();
        let public = interfaces
            .iter()
            .find_map(LaunchTemplateInstanceNetworkInterfaceSpecification::associate_public_ip_address);
        let placement = data.placement();
        let said = [
            (AMI, named(data.image_id())),
            (TYPE, data.instance_type().map(|kind| kind.as_str().to_owned())),
            ("key pair", named(data.key_name())),
            // Only its digest: what is in it may be a secret.
            ("user data", named(data.user_data()).map(|text| Digest::of(text.as_bytes()).short())),
            (PROFILE, of_profile.and_then(|one| one.arn().or(one.name())).map(profile)),
            (GROUPS, joined(by_id.iter().chain(&names))),
            (METADATA, metadata.text()),
            ("public address", public.map(|public| public.to_string())),
            ("disks", joined(data.block_device_mappings().iter().map(disk))),
            (
                "market",
                data.instance_market_options()
                    .and_then(|one| one.market_type())
                    .map(|one| one.as_str().to_owned()),
            ),
            ("tenancy", placement.and_then(|one| one.tenancy()).map(|one| one.as_str().to_owned())),
            ("placement group", placement.and_then(|one| named(one.group_name()))),
            ("EBS optimized", data.ebs_optimized().map(|yes| yes.to_string())),
            (
                "detailed monitoring",
                data.monitoring()
                    .and_then(aws_sdk_ec2::types::LaunchTemplatesMonitoring::enabled)
                    .map(|yes| yes.to_string()),
            ),
            ("credits", data.credit_specification().and_then(|one| named(one.cpu_credits()))),
        ];
        let said = said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Self { parts: said.collect(), metadata, groups_by_id: !by_id.is_empty() && names.is_empty() }
    }

    /// The parts of an instance that was launched so, as it is now.
    pub fn of_instance(&self, ami: &str, live: &Live) -> BTreeMap<String, String> {
        let mut parts = self.parts.clone();
        // Of what is not said in the template nobody knows what it should be.
        let mut set = |name: &str, value: Option<String>| {
            if let (Some(part), Some(value)) = (parts.get_mut(name), value) {
                *part = value;
            }
        };
        set(AMI, Some(ami.to_owned()));
        set(TYPE, live.kind.clone());
        set(PROFILE, Some(live.profile.clone().unwrap_or_else(|| "none".to_owned())));
        set(GROUPS, joined(&live.security_groups).filter(|_| self.groups_by_id));
        set(METADATA, self.metadata.as_in(&live.metadata).text());
        parts
    }
}

/// Words in order, or `None` where there are none.
fn joined<T: ToString>(words: impl IntoIterator<Item = T>) -> Option<String> {
    let mut words: Vec<String> = words.into_iter().map(|word| word.to_string()).collect();
    words.sort_unstable();
    (!words.is_empty()).then(|| words.join(", "))
}

fn disk(mapping: &LaunchTemplateBlockDeviceMapping) -> String {
    let ebs = mapping.ebs();
    let said = [
        ebs.and_then(aws_sdk_ec2::types::LaunchTemplateEbsBlockDevice::volume_size)
            .map(|size| format!("{size} GiB")),
        ebs.and_then(|one| one.volume_type()).map(|kind| kind.as_str().to_owned()),
        ebs.and_then(aws_sdk_ec2::types::LaunchTemplateEbsBlockDevice::iops)
            .map(|iops| format!("{iops} IOPS")),
        ebs.and_then(aws_sdk_ec2::types::LaunchTemplateEbsBlockDevice::throughput)
            .map(|rate| format!("{rate} MiB/s")),
        ebs.and_then(aws_sdk_ec2::types::LaunchTemplateEbsBlockDevice::encrypted)
            .filter(|yes| *yes)
            .map(|_| "encrypted".to_owned()),
        ebs.and_then(|one| named(one.kms_key_id())),
        ebs.and_then(|one| named(one.snapshot_id())),
    ];
    let said: Vec<_> = said.into_iter().flatten().collect();
    format!("{} ({})", mapping.device_name().unwrap_or("?"), said.join(" "))
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{
        InstanceType, LaunchTemplateHttpTokensState, LaunchTemplateIamInstanceProfileSpecification,
        LaunchTemplateInstanceMetadataOptions,
    };

    use super::*;

    fn data() -> ResponseLaunchTemplateData {
        let tokens = LaunchTemplateHttpTokensState::Required;
        let profile = LaunchTemplateIamInstanceProfileSpecification::builder();
        ResponseLaunchTemplateData::builder()
            .image_id("ami-1")
            .instance_type(InstanceType::T3Micro)
            .user_data("c2VjcmV0")
            .security_group_ids("sg-2")
            .security_group_ids("sg-1")
            .iam_instance_profile(profile.arn("arn:aws:iam::111122223333:instance-profile/a/web").build())
            .metadata_options(LaunchTemplateInstanceMetadataOptions::builder().http_tokens(tokens).build())
            .build()
    }

    fn live() -> Live {
        Live {
            kind: Some("t3.micro".to_owned()),
            profile: Some("web".to_owned()),
            security_groups: ["sg-1", "sg-2"].map(str::to_owned).into(),
            metadata: Metadata {
                tokens: Some("required".to_owned()),
                endpoint: Some("enabled".to_owned()),
                hops: Some(2),
            },
        }
    }

    #[test]
    fn what_is_launched_as_it_is_written_does_not_differ() {
        let blueprint = Blueprint::of(&data());
        assert_eq!(blueprint.of_instance("ami-1", &live()), blueprint.parts);
        assert!(!blueprint.parts["user data"].contains("c2VjcmV0"), "{blueprint:?}");
    }

    /// What somebody does to an instance.
    type Change = fn(&mut Live);

    #[test]
    fn what_was_changed_at_the_instance_differs_by_name() {
        let blueprint = Blueprint::of(&data());
        let cases: [(&str, &str, Change); 5] = [
            ("ami-2", "ami", |_| ()),
            ("ami-1", "instance type", |live| live.kind = Some("m5.large".to_owned())),
            ("ami-1", "instance profile", |live| live.profile = None),
            ("ami-1", "security groups", |live| live.security_groups.extend(["sg-3".to_owned()])),
            ("ami-1", "metadata options", |live| live.metadata.tokens = Some("optional".to_owned())),
        ];
        for (ami, part, change) in cases {
            let mut live = live();
            change(&mut live);
            let parts = blueprint.of_instance(ami, &live);
            let differ = parts.iter().filter(|(name, value)| blueprint.parts.get(*name) != Some(*value));
            assert_eq!(differ.map(|(name, _)| name.as_str()).collect::<Vec<_>>(), [part]);
        }
    }
}

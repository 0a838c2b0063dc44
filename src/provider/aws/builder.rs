//! The short-lived instance on which an image is derived, with its security group, and the AMI that is made of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use aws_sdk_ec2::types::{
    ArchitectureValues, AttributeValue, BlockDeviceMapping, BootModeValues, DeviceType, EbsBlockDevice,
    Filter, HttpTokensState, Image, ImdsSupportValues, InstanceInterruptionBehavior,
    InstanceMarketOptionsRequest, InstanceMetadataEndpointState, InstanceMetadataOptionsRequest,
    InstanceNetworkInterfaceSpecification, InstanceStateName, InstanceType, IpPermission, IpRange,
    MarketType, ResourceType, ShutdownBehavior, SpotInstanceType, SpotMarketOptions, Tag, TagSpecification,
    VolumeType,
};

use super::error::Kind;
use super::{Aws, CallError};
use crate::catalog::Firmware;
use crate::publish::plan::RUN_TAG;

/// SSH's port.
const SSH: i32 = 22;

/// What a launch fails with where there is no room, in this zone or for this type; the next may have some (EC2 API
/// reference, "Error codes").
const NO_CAPACITY: [&str; 7] = [
    "InsufficientInstanceCapacity",
    "InsufficientHostCapacity",
    "InsufficientFreeAddressesInSubnet",
    // The zone does not have the type at all.
    "Unsupported",
    // Of the type's family; another one has a quota of its own.
    "VcpuLimitExceeded",
    // Spot's: it costs more than on demand, which is the most that is paid; and its own quota.
    "SpotMaxPriceTooLow",
    "MaxSpotInstanceCountExceeded",
];

/// A vendor's AMI, as far as a bake needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VendorImage {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The account that owns it.
    pub owner: String,
    /// What AWS calls that account, such as `amazon`.
    pub alias: Option<String>,
    /// Whether instances can be launched from it.
    pub available: bool,
    /// Whether it is for this product's architecture, `x86_64`, with hardware virtualisation and its root on EBS.
    pub fits: bool,
    /// The name of its root device.
    pub root: String,
    /// GiB of its root.
    pub gib: u64,
    /// What its instances boot from, where it says so.
    pub firmware: Option<Firmware>,
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// Its id.
    pub id: String,
    /// Its VPC.
    pub vpc: String,
    /// Its zone.
    pub zone: String,
}

/// What an instance is launched as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launching {
    /// The client token: asked for twice with the same values, it is launched once.
    pub token: String,
    /// The AMI.
    pub ami: String,
    /// The type.
    pub kind: String,
    /// Whether it is a spot instance, of a request that ends with it.
    pub spot: bool,
    /// The subnet.
    pub subnet: String,
    /// Its security groups.
    pub groups: Vec<String>,
    /// Whether it gets a public address.
    pub public: bool,
    /// The name of its root device.
    pub root: String,
    /// GiB of its root.
    pub gib: u64,
    /// Whether its root is encrypted.
    pub encrypt: bool,
    /// The key that encrypts it; the account's default without one.
    pub kms_key: Option<String>,
    /// Its user data.
    pub user_data: String,
    /// Tags of it, its volume and its interface.
    pub tags: BTreeMap<String, String>,
}

/// What came of a launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Launched {
    /// The instance.
    Instance(String),
    /// There is no room for it; AWS's words.
    NoCapacity(String),
}

/// How far an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It starts.
    Pending,
    /// It runs.
    Running,
    /// It is being stopped.
    Stopping,
    /// It is stopped, and its disks are there.
    Stopped,
    /// It is ending or has ended for good.
    Terminated,
}

/// An instance, as seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub id: String,
    /// How far it is.
    pub phase: Phase,
    /// Its private address.
    pub private: Option<IpAddr>,
    /// Its public address.
    pub public: Option<IpAddr>,
    /// Why it is in this state, in AWS's words.
    pub reason: String,
    /// Whether AWS took it back: it was a spot instance.
    pub taken_back: bool,
}

impl Aws {
    /// Returns a vendor's AMI; `None` when this account may not see one.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub async fn vendor_image(&self, id: &str) -> Result<Option<VendorImage>, CallError> {
        // By a filter: an id that is not there would be an error.
        let filter = Filter::builder().name("image-id").values(id).build();
        let call = self.ec2.describe_images().filters(filter).include_deprecated(true);
        let found = call.send().await.map_err(|error| CallError::of("DescribeImages", &error))?;
        Ok(found.images().iter().find_map(vendor))
    }

    /// Returns subnets by their ids, in that order; those of the default VPC when none is named.
    ///
    /// # Errors
    /// One is not there, or they cannot be looked at.
    pub async fn subnets(&self, ids: &[String]) -> Result<Vec<Subnet>, CallError> {
        let mut call = self.ec2.describe_subnets();
        if ids.is_empty() {
            call = call.filters(Filter::builder().name("default-for-az").values("true").build());
        } else {
            call = call.set_subnet_ids(Some(ids.to_vec()));
        }
        let found = call.into_paginator().items().send().try_collect().await;
        let found = found.map_err(|error| CallError::of("DescribeSubnets", &error))?;
        let mut subnets: Vec<Subnet> = found
            .iter()
            .filter_map(|one| {
                Some(Subnet {
                    id: one.subnet_id()?.to_owned(),
                    vpc: one.vpc_id()?.to_owned(),
                    zone: one.availability_zone()?.to_owned(),
                })
            })
            .collect();
        let place = |subnet: &Subnet| ids.iter().position(|id| *id == subnet.id);
        subnets.sort_by(|one, other| (place(one), &one.zone).cmp(&(place(other), &other.zone)));
        Ok(subnets)
    }

    /// Makes a security group that admits nobody, and returns its id.
    ///
    /// # Errors
    /// It was not made, or whether it was cannot be told.
    pub async fn make_security_group(
        &self,
        name: &str,
        vpc: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<String, CallError> {
        let call = self.ec2.create_security_group().group_name(name).vpc_id(vpc);
        let call = call.description("rekiln: SSH from whoever bakes, for the time of the bake");
        let made = call.tag_specifications(specification(ResourceType::SecurityGroup, tags)).send().await;
        let made = match made.map_err(|error| CallError::of("CreateSecurityGroup", &error)) {
            Ok(made) => made.group_id,
            // An answer was lost: its name has the run in it, so it is ours.
            Err(error) if error.kind == Kind::Taken => {
                self.security_groups(tags.get(RUN_TAG).map_or("", String::as_str)).await?.into_iter().next()
            }
            Err(error) => return Err(error),
        };
        made.ok_or_else(|| CallError::empty("CreateSecurityGroup", "id of the group"))
    }

    /// Has a security group admit SSH from one address.
    ///
    /// # Errors
    /// It was not changed, or whether it was cannot be told.
    pub async fn admit_ssh(&self, id: &str, from: Ipv4Addr) -> Result<(), CallError> {
        let range = IpRange::builder().cidr_ip(format!("{from}/32")).description("whoever bakes").build();
        let ssh = IpPermission::builder().ip_protocol("tcp").from_port(SSH).to_port(SSH).ip_ranges(range);
        let call = self.ec2.authorize_security_group_ingress().group_id(id).ip_permissions(ssh.build());
        match call.send().await.map_err(|error| CallError::of("AuthorizeSecurityGroupIngress", &error)) {
            Err(error) if !error.words.starts_with("InvalidPermission.Duplicate") => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns the security groups of a run.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub async fn security_groups(&self, run: &str) -> Result<Vec<String>, CallError> {
        let filter = Filter::builder().name(format!("tag:{RUN_TAG}")).values(run).build();
        let found = self.ec2.describe_security_groups().filters(filter);
        let found = found.into_paginator().items().send().try_collect().await;
        let found = found.map_err(|error| CallError::of("DescribeSecurityGroups", &error))?;
        Ok(found.iter().filter_map(|group| group.group_id().map(str::to_owned)).collect())
    }

    /// Removes a security group; one that is gone is removed.
    ///
    /// # Errors
    /// Something still uses it, or whether it was removed cannot be told.
    pub async fn delete_security_group(&self, id: &str) -> Result<(), CallError> {
        let answer = self.ec2.delete_security_group().group_id(id).send().await;
        match answer.map_err(|error| CallError::of("DeleteSecurityGroup", &error)) {
            Err(error) if error.kind != Kind::Missing => Err(error),
            _ => Ok(()),
        }
    }

    /// Launches an instance that ends for good when it is shut down from within, answers for metadata only to who has a
    /// token, and has no key pair and no profile.
    ///
    /// # Errors
    /// It was not launched, or whether it was cannot be told.
    pub async fn launch_builder(&self, launching: &Launching) -> Result<Launched, CallError> {
        let disk = EbsBlockDevice::builder()
            .volume_size(i32::try_from(launching.gib).unwrap_or(i32::MAX))
            .volume_type(VolumeType::Gp3)
            .delete_on_termination(true)
            // Left out where it is not asked for: the account's default may be to encrypt everything.
            .set_encrypted(launching.encrypt.then_some(true))
            .set_kms_key_id(launching.kms_key.clone())
            .build();
        let interface = InstanceNetworkInterfaceSpecification::builder()
            .device_index(0)
            .subnet_id(&launching.subnet)
            .set_groups(Some(launching.groups.clone()))
            .associate_public_ip_address(launching.public)
            .delete_on_termination(true);
        let metadata = InstanceMetadataOptionsRequest::builder()
            .http_tokens(HttpTokensState::Required)
            .http_endpoint(InstanceMetadataEndpointState::Enabled)
            .http_put_response_hop_limit(1);
        let mut call = self
            .ec2
            .run_instances()
            .client_token(&launching.token)
            .image_id(&launching.ami)
            .instance_type(InstanceType::from(launching.kind.as_str()))
            .min_count(1)
            .max_count(1)
            .instance_initiated_shutdown_behavior(ShutdownBehavior::Terminate)
            .set_instance_market_options(launching.spot.then(spot))
            .metadata_options(metadata.build())
            .block_device_mappings(
                BlockDeviceMapping::builder().device_name(&launching.root).ebs(disk).build(),
            )
            .network_interfaces(interface.build())
            .user_data(aws_smithy_types::base64::encode(&launching.user_data));
        for kind in [ResourceType::Instance, ResourceType::Volume, ResourceType::NetworkInterface] {
            call = call.tag_specifications(specification(kind, &launching.tags));
        }
        match call.send().await.map_err(|error| CallError::of("RunInstances", &error)) {
            Ok(answer) => {
                let id = answer.instances().first().and_then(|instance| instance.instance_id());
                let id = id.ok_or_else(|| CallError::empty("RunInstances", "instance"))?;
                Ok(Launched::Instance(id.to_owned()))
            }
            Err(error) if NO_CAPACITY.iter().any(|code| error.words.starts_with(code)) => {
                Ok(Launched::NoCapacity(error.words))
            }
            Err(error) => Err(error),
        }
    }

    /// Returns an instance; `None` when it is not there, or not yet.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub async fn builder(&self, id: &str) -> Result<Option<Found>, CallError> {
        let filter = Filter::builder().name("instance-id").values(id).build();
        Ok(self.builders_by(filter).await?.into_iter().next())
    }

    /// Returns the instances of a run.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub async fn builders(&self, run: &str) -> Result<Vec<Found>, CallError> {
        self.builders_by(Filter::builder().name(format!("tag:{RUN_TAG}")).values(run).build()).await
    }

    async fn builders_by(&self, filter: Filter) -> Result<Vec<Found>, CallError> {
        let found = self.ec2.describe_instances().filters(filter).into_paginator().items().send();
        let found = found.try_collect().await.map_err(|error| CallError::of("DescribeInstances", &error))?;
        Ok(found.iter().flat_map(aws_sdk_ec2::types::Reservation::instances).filter_map(instance).collect())
    }

    /// Has an instance be stopped, and keep its disks, when it is shut down from within.
    ///
    /// # Errors
    /// It was not changed, or whether it was cannot be told.
    pub async fn stop_on_shutdown(&self, id: &str) -> Result<(), CallError> {
        let stop = AttributeValue::builder().value("stop").build();
        let call =
            self.ec2.modify_instance_attribute().instance_id(id).instance_initiated_shutdown_behavior(stop);
        call.send().await.map(drop).map_err(|error| CallError::of("ModifyInstanceAttribute", &error))
    }

    /// Ends an instance for good; one that is gone has ended.
    ///
    /// # Errors
    /// It was not, or whether it was cannot be told.
    pub async fn terminate_builder(&self, id: &str) -> Result<(), CallError> {
        let answer = self.ec2.terminate_instances().instance_ids(id).send().await;
        match answer.map_err(|error| CallError::of("TerminateInstances", &error)) {
            Err(error) if error.kind != Kind::Missing => Err(error),
            _ => Ok(()),
        }
    }

    /// Makes an AMI of an instance that is stopped or whose disk is at rest, with tags on it and its snapshots, and returns
    /// its id.
    ///
    /// # Errors
    /// It was not made, or whether it was cannot be told; its name keeps a second one from being made.
    pub async fn create_image(
        &self,
        instance: &str,
        name: &str,
        description: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<String, CallError> {
        // One whose disk is at rest must not be restarted: it would begin a life of its own on it.
        let call = self.ec2.create_image().instance_id(instance).no_reboot(true);
        let mut call = call.name(name).description(description);
        for kind in [ResourceType::Image, ResourceType::Snapshot] {
            call = call.tag_specifications(specification(kind, tags));
        }
        let answer = call.send().await.map_err(|error| CallError::of("CreateImage", &error))?;
        answer.image_id.ok_or_else(|| CallError::empty("CreateImage", "image id"))
    }

    /// Has the instances of an AMI answer for metadata only to who has a token. It cannot be undone.
    ///
    /// # Errors
    /// It was not changed, or whether it was cannot be told.
    pub async fn require_tokens(&self, ami: &str) -> Result<(), CallError> {
        let value = AttributeValue::builder().value(ImdsSupportValues::V20.as_str()).build();
        let call = self.ec2.modify_image_attribute().image_id(ami).imds_support(value);
        call.send().await.map(drop).map_err(|error| CallError::of("ModifyImageAttribute", &error))
    }
}

/// A spot instance that ends for good when it is taken back, at no more than it costs on demand.
fn spot() -> InstanceMarketOptionsRequest {
    let options = SpotMarketOptions::builder()
        .spot_instance_type(SpotInstanceType::OneTime)
        .instance_interruption_behavior(InstanceInterruptionBehavior::Terminate);
    InstanceMarketOptionsRequest::builder()
        .market_type(MarketType::Spot)
        .spot_options(options.build())
        .build()
}

fn specification(kind: ResourceType, tags: &BTreeMap<String, String>) -> TagSpecification {
    let tags = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build());
    TagSpecification::builder().resource_type(kind).set_tags(Some(tags.collect())).build()
}

fn vendor(image: &Image) -> Option<VendorImage> {
    let root = image.root_device_name()?;
    let disk =
        image.block_device_mappings().iter().find(|mapping| mapping.device_name() == Some(root))?.ebs();
    let gib = disk.and_then(|disk| u64::try_from(disk.volume_size()?).ok());
    let ebs = image.root_device_type() == Some(&DeviceType::Ebs);
    let hvm = image.virtualization_type().is_some_and(|kind| kind.as_str() == "hvm");
    Some(VendorImage {
        id: image.image_id()?.to_owned(),
        name: image.name().unwrap_or_default().to_owned(),
        owner: image.owner_id().unwrap_or_default().to_owned(),
        alias: image.image_owner_alias().map(str::to_owned),
        available: image.state().is_some_and(|state| state.as_str() == "available"),
        fits: ebs && hvm && image.architecture() == Some(&ArchitectureValues::X8664),
        root: root.to_owned(),
        gib: gib.unwrap_or(0),
        firmware: match image.boot_mode() {
            Some(BootModeValues::LegacyBios) => Some(Firmware::Bios),
            Some(BootModeValues::Uefi) => Some(Firmware::Uefi),
            // Either; what the disk has decides.
            _ => None,
        },
    })
}

fn instance(instance: &aws_sdk_ec2::types::Instance) -> Option<Found> {
    let address = |text: Option<&str>| text.and_then(|text| text.parse().ok());
    let why = instance.state_reason();
    let reason = why.and_then(|reason| reason.message());
    Some(Found {
        id: instance.instance_id()?.to_owned(),
        phase: match instance.state().and_then(|state| state.name()) {
            Some(InstanceStateName::Running) => Phase::Running,
            Some(InstanceStateName::Stopping) => Phase::Stopping,
            Some(InstanceStateName::Stopped) => Phase::Stopped,
            Some(InstanceStateName::ShuttingDown | InstanceStateName::Terminated) => Phase::Terminated,
            _ => Phase::Pending,
        },
        private: address(instance.private_ip_address()),
        public: address(instance.public_ip_address()),
        reason: reason.or(instance.state_transition_reason()).unwrap_or_default().to_owned(),
        // EC2 API reference, `StateReason`: one code for each behaviour.
        taken_back: why
            .and_then(|reason| reason.code())
            .is_some_and(|code| code.starts_with("Server.SpotInstance")),
    })
}

//! AMIs and what belongs to them: looked at, registered, shared, named by a parameter, removed.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{
    ArchitectureValues, BlockDeviceMapping, BootModeValues, EbsBlockDevice, Filter, Image,
    ImageAttributeName, ImageState, ImdsSupportValues, LaunchPermission, LaunchPermissionModifications,
    PermissionGroup, ResourceType, Tag, TagSpecification, TpmSupportValues, VolumeType,
};
use aws_sdk_ssm::types::ParameterType;
use jiff::Timestamp;

use super::error::Kind;
use super::reach::FILTER;
use super::{Aws, CallError};
use crate::catalog::Firmware;
use crate::publish::plan::{Grantee, SeenImage, State};

/// The root device: any name serves a UEFI image on Nitro, and this is what Amazon Linux and most tools use.
const ROOT: &str = "/dev/xvda";

/// What an AMI is registered as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Its name, unique in account and region.
    pub name: String,
    /// For people.
    pub description: String,
    /// The snapshot of its root device.
    pub snapshot: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// What its instances boot from.
    pub firmware: Firmware,
    /// The variables that its instances' firmware begins with, in base64.
    pub uefi_data: Option<String>,
}

impl Aws {
    /// Returns this account's AMI of a name; `None` when there is none, or none yet.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub async fn image(&self, name: &str) -> Result<Option<SeenImage>, CallError> {
        let filter = Filter::builder().name("name").values(name).build();
        // One that is gone may be listed for a while beside its successor.
        let mut images: Vec<_> = self.list_images(filter).await?.iter().filter_map(seen).collect();
        images.sort_by_key(|image| image.state == State::Gone);
        Ok(images.into_iter().next())
    }

    /// Returns this account's AMIs that have a tag, those that are gone left out.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub async fn images(&self, tag: &str) -> Result<Vec<SeenImage>, CallError> {
        let filter = Filter::builder().name("tag-key").values(tag).build();
        let images = self.list_images(filter).await?;
        Ok(images.iter().filter_map(seen).filter(|image| image.state != State::Gone).collect())
    }

    /// Returns AMIs by their ids, whoever's they are, as far as this account may launch them.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub async fn images_of_anyone(&self, ids: &[String]) -> Result<Vec<SeenImage>, CallError> {
        let mut found = Vec::new();
        for ids in ids.chunks(FILTER) {
            // By a filter: a list with an id that is gone is refused as a whole.
            let filter = Filter::builder().name("image-id").set_values(Some(ids.to_vec())).build();
            let call = self.ec2.describe_images().filters(filter).include_deprecated(true);
            let images = call.into_paginator().items().send().try_collect().await;
            let images = images.map_err(|error| CallError::of("DescribeImages", &error))?;
            found.extend(images.iter().filter_map(seen));
        }
        Ok(found)
    }

    /// Returns this account's AMIs that are made of these snapshots, whoever registered them, by snapshot.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub async fn registered(
        &self,
        snapshots: &[String],
    ) -> Result<BTreeMap<String, BTreeSet<String>>, CallError> {
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for snapshots in snapshots.chunks(FILTER) {
            let filter = Filter::builder().name("block-device-mapping.snapshot-id");
            for image in self.list_images(filter.set_values(Some(snapshots.to_vec())).build()).await? {
                let Some(ami) = image.image_id() else { continue };
                if image.state() == Some(&ImageState::Deregistered) {
                    continue;
                }
                for disk in image.block_device_mappings().iter().filter_map(|disk| disk.ebs()?.snapshot_id())
                {
                    found.entry(disk.to_owned()).or_default().insert(ami.to_owned());
                }
            }
        }
        Ok(found)
    }

    async fn list_images(&self, filter: Filter) -> Result<Vec<Image>, CallError> {
        let call = self.ec2.describe_images().owners("self").filters(filter);
        let call = call.include_deprecated(true).include_disabled(true);
        let found = call.into_paginator().items().send().try_collect().await;
        found.map_err(|error| CallError::of("DescribeImages", &error))
    }

    /// Registers an AMI and returns its id.
    ///
    /// # Errors
    /// It was not registered, or whether it was cannot be told.
    pub async fn register(&self, registration: &Registration) -> Result<String, CallError> {
        let disk = EbsBlockDevice::builder()
            .snapshot_id(&registration.snapshot)
            .volume_type(VolumeType::Gp3)
            .delete_on_termination(true)
            .build();
        let root = BlockDeviceMapping::builder().device_name(ROOT).ebs(disk).build();
        let tags = registration.tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build());
        let tags =
            TagSpecification::builder().resource_type(ResourceType::Image).set_tags(Some(tags.collect()));
        // EC2's TPM is the firmware's, and there is none with a BIOS.
        let (mode, tpm) = match registration.firmware {
            Firmware::Uefi => (BootModeValues::Uefi, Some(TpmSupportValues::V20)),
            Firmware::Bios => (BootModeValues::LegacyBios, None),
        };
        // The API's own defaults are an i386 paravirtual machine without anything.
        let call = self
            .ec2
            .register_image()
            .name(&registration.name)
            .description(&registration.description)
            .architecture(ArchitectureValues::X8664)
            .virtualization_type("hvm")
            .ena_support(true)
            .sriov_net_support("simple")
            .boot_mode(mode)
            .set_tpm_support(tpm)
            .imds_support(ImdsSupportValues::V20)
            .set_uefi_data(registration.uefi_data.clone())
            .root_device_name(ROOT)
            .block_device_mappings(root)
            .tag_specifications(tags.build());
        let answer = call.send().await.map_err(|error| CallError::of("RegisterImage", &error))?;
        answer.image_id.ok_or_else(|| CallError::empty("RegisterImage", "image id"))
    }

    /// Returns who may launch an AMI besides its account.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub async fn grantees(&self, ami: &str) -> Result<BTreeSet<Grantee>, CallError> {
        let call = self.ec2.describe_image_attribute().image_id(ami);
        let answer = call.attribute(ImageAttributeName::LaunchPermission).send().await;
        let answer = answer.map_err(|error| CallError::of("DescribeImageAttribute", &error))?;
        let grantee = |permission: &LaunchPermission| {
            let everyone = permission.group.is_some().then_some(Grantee::Everyone);
            let account = || permission.user_id.clone().map(Grantee::Account);
            let organisation = || permission.organization_arn.clone().map(Grantee::Organisation);
            let unit = || permission.organizational_unit_arn.clone().map(Grantee::Unit);
            everyone.or_else(account).or_else(organisation).or_else(unit)
        };
        Ok(answer.launch_permissions().iter().filter_map(grantee).collect())
    }

    /// Returns the variables that the firmware of an AMI's instances begins with, in base64.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub async fn uefi_data(&self, ami: &str) -> Result<Option<String>, CallError> {
        let call = self.ec2.describe_image_attribute().image_id(ami);
        let answer = call.attribute(ImageAttributeName::UefiData).send().await;
        let answer = answer.map_err(|error| CallError::of("DescribeImageAttribute", &error))?;
        Ok(answer.uefi_data.and_then(|data| data.value).filter(|data| !data.is_empty()))
    }

    /// Changes who may launch an AMI.
    ///
    /// # Errors
    /// It was not changed, or whether it was cannot be told.
    pub async fn share(
        &self,
        ami: &str,
        add: &BTreeSet<Grantee>,
        remove: &BTreeSet<Grantee>,
    ) -> Result<(), CallError> {
        let permission = |grantee: &Grantee| {
            let builder = LaunchPermission::builder();
            match grantee {
                Grantee::Everyone => builder.group(PermissionGroup::All),
                Grantee::Account(number) => builder.user_id(number),
                Grantee::Organisation(arn) => builder.organization_arn(arn),
                Grantee::Unit(arn) => builder.organizational_unit_arn(arn),
            }
            .build()
        };
        let all = |grantees: &BTreeSet<Grantee>| {
            Some(grantees.iter().map(permission).collect::<Vec<_>>()).filter(|all| !all.is_empty())
        };
        let changes =
            LaunchPermissionModifications::builder().set_add(all(add)).set_remove(all(remove)).build();
        let call = self.ec2.modify_image_attribute().image_id(ami).launch_permission(changes);
        call.send().await.map(drop).map_err(|error| CallError::of("ModifyImageAttribute", &error))
    }

    /// Gives AMIs and snapshots tags; others that they have stay.
    ///
    /// # Errors
    /// As [`Aws::share`].
    pub async fn tag(&self, resources: &[String], tags: &BTreeMap<String, String>) -> Result<(), CallError> {
        let tags = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build());
        let call =
            self.ec2.create_tags().set_resources(Some(resources.to_vec())).set_tags(Some(tags.collect()));
        call.send().await.map(drop).map_err(|error| CallError::of("CreateTags", &error))
    }

    /// Has an AMI deprecated from a time on, or never.
    ///
    /// # Errors
    /// As [`Aws::share`].
    pub async fn deprecate(&self, ami: &str, at: Option<Timestamp>) -> Result<(), CallError> {
        let Some(at) = at else {
            let answer = self.ec2.disable_image_deprecation().image_id(ami).send().await;
            return answer.map(drop).map_err(|error| CallError::of("DisableImageDeprecation", &error));
        };
        let at = aws_smithy_types::DateTime::from_secs(at.as_second());
        let call = self.ec2.enable_image_deprecation().image_id(ami).deprecate_at(at);
        call.send().await.map(drop).map_err(|error| CallError::of("EnableImageDeprecation", &error))
    }

    /// Protects an AMI from deregistration, or no longer.
    ///
    /// # Errors
    /// As [`Aws::share`].
    pub async fn protect(&self, ami: &str, on: bool) -> Result<(), CallError> {
        if on {
            let call = self.ec2.enable_image_deregistration_protection().image_id(ami);
            let answer = call.send().await;
            return answer
                .map(drop)
                .map_err(|error| CallError::of("EnableImageDeregistrationProtection", &error));
        }
        let call = self.ec2.disable_image_deregistration_protection().image_id(ami);
        call.send()
            .await
            .map(drop)
            .map_err(|error| CallError::of("DisableImageDeregistrationProtection", &error))
    }

    /// Removes an AMI; one that is gone is removed. Its snapshots stay.
    ///
    /// # Errors
    /// As [`Aws::share`].
    pub async fn deregister(&self, ami: &str) -> Result<(), CallError> {
        let answer = self.ec2.deregister_image().image_id(ami).send().await;
        match answer.map_err(|error| CallError::of("DeregisterImage", &error)) {
            Err(error) if error.kind != Kind::Missing => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns what a parameter says; `None` when there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn parameter(&self, name: &str) -> Result<Option<String>, CallError> {
        let answer = self.ssm.get_parameter().name(name).send().await;
        match answer.map_err(|error| CallError::of("GetParameter", &error)) {
            Ok(answer) => Ok(answer.parameter.and_then(|parameter| parameter.value)),
            Err(error) if error.kind == Kind::Missing => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has a parameter name an AMI. AWS looks at the AMI only after it has answered: the new value counts when it can
    /// be read.
    ///
    /// # Errors
    /// It was not written, or whether it was cannot be told.
    pub async fn name(&self, parameter: &str, ami: &str) -> Result<(), CallError> {
        let call = self.ssm.put_parameter().name(parameter).value(ami).overwrite(true);
        let call = call.r#type(ParameterType::String).data_type("aws:ec2:image");
        call.send().await.map(drop).map_err(|error| CallError::of("PutParameter", &error))
    }

    /// Removes a parameter; one that is gone is removed.
    ///
    /// # Errors
    /// It was not removed, or whether it was cannot be told.
    pub async fn delete_parameter(&self, name: &str) -> Result<(), CallError> {
        let answer = self.ssm.delete_parameter().name(name).send().await;
        match answer.map_err(|error| CallError::of("DeleteParameter", &error)) {
            Err(error) if error.kind != Kind::Missing => Err(error),
            _ => Ok(()),
        }
    }
}

fn seen(image: &Image) -> Option<SeenImage> {
    let reason = image.state_reason().and_then(|reason| reason.message());
    let failed = || State::Failed(reason.unwrap_or("no reason given").to_owned());
    let root = image.root_device_name();
    let root = image.block_device_mappings().iter().find(|mapping| mapping.device_name() == root);
    let time = |text: Option<&str>| text.and_then(|text| text.parse().ok());
    let tags = image.tags().iter();
    Some(SeenImage {
        id: image.image_id()?.to_owned(),
        name: image.name().unwrap_or_default().to_owned(),
        state: match image.state() {
            Some(ImageState::Available) => State::Ready,
            Some(ImageState::Failed | ImageState::Error | ImageState::Invalid) => failed(),
            Some(ImageState::Deregistered) => State::Gone,
            Some(ImageState::Disabled) => State::Disabled,
            _ => State::Pending,
        },
        created: time(image.creation_date()),
        snapshot: root.and_then(|root| root.ebs()?.snapshot_id()).map(str::to_owned),
        tags: tags.filter_map(|tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned()))).collect(),
        deprecation: time(image.deprecation_time()),
        // `enabled`, `enabled-with-cooldown`, `disabled`.
        protected: image.deregistration_protection().is_some_and(|word| word.starts_with("enabled")),
    })
}

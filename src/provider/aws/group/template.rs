//! Do: versions of a launch template: found, made once for each generation, and pinned by number.
//!
//! A version carries the generation's id in its description, so that one that was made before is found again, whatever
//! became of the process that made it. It is never a temporary thing: a rollback launches from it long afterwards.

use std::collections::BTreeMap;

use aws_sdk_autoscaling::types::builders::TagBuilder;
use aws_sdk_ec2::types::{LaunchTemplateVersion, RequestLaunchTemplateData};

use super::look::ROLL_TAG;
use super::parts::{AMI, Blueprint};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::fleet::generation::Generation;
use crate::provider::aws::reach::Template;
use crate::provider::aws::{Aws, CallError, insist};

/// What the description of a version begins with that rekiln made; the generation's id follows.
pub(super) const DESCRIPTION: &str = "rekiln ";

/// A version of a launch template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The template's id.
    pub template: String,
    /// Its number.
    pub number: i64,
    /// What it launches.
    pub blueprint: Blueprint,
    /// The generation that rekiln made it for.
    pub made_for: Option<Digest>,
}

impl Version {
    /// Reads what EC2 says of a version; `None` when it says too little.
    pub(super) fn of(found: &LaunchTemplateVersion) -> Option<Self> {
        let description = found.version_description().and_then(|text| text.strip_prefix(DESCRIPTION));
        Some(Self {
            template: found.launch_template_id()?.to_owned(),
            number: found.version_number()?,
            blueprint: Blueprint::of(found.launch_template_data()?),
            made_for: description.and_then(|id| id.parse().ok()),
        })
    }

    /// Tells whether it launches a generation.
    pub(super) fn launches(&self, generation: &Generation) -> bool {
        // Which image it is, only the AMI tells.
        let parts = generation.parts.iter().filter(|(name, _)| *name != "image");
        parts.eq(self.blueprint.parts.iter())
    }
}

impl Aws {
    /// Returns the version that a group names, which may be `$Latest` or `$Default`.
    ///
    /// # Errors
    /// There is none; it cannot be looked at.
    pub(super) async fn named_version(&self, template: &Template, version: &str) -> Result<Version> {
        let found = insist(&self.region, || self.template_version(template, version)).await?;
        found.as_ref().and_then(Version::of).ok_or_else(|| {
            let (Template::Id(name) | Template::Name(name)) = template;
            Error::failed(format!("launch template {name} has no version {version} in {}", self.region))
                .hint("the group names it: give the group another version, or roll it to an image by its id")
        })
    }

    /// Returns these versions of a template, by number; those that were deleted are left out.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub(super) async fn numbered_versions(
        &self,
        template: &str,
        numbers: &[i64],
    ) -> Result<BTreeMap<i64, Version>> {
        let mut found = BTreeMap::new();
        for number in numbers {
            // One after the other: a list with one that is gone is refused as a whole, and few are ever asked for.
            let (template, text) = (Template::Id(template.to_owned()), number.to_string());
            let version = insist(&self.region, || self.template_version(&template, &text)).await?;
            found.extend(version.as_ref().and_then(Version::of).map(|version| (*number, version)));
        }
        Ok(found)
    }

    /// Returns the version of a template that was made for a generation; of several the newest.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub(super) async fn version_for(&self, template: &str, generation: Digest) -> Result<Option<Version>> {
        let all = insist(&self.region, || async {
            let call = self.ec2.describe_launch_template_versions().launch_template_id(template);
            let found = call.into_paginator().items().send().try_collect().await;
            found.map_err(|error| CallError::of("DescribeLaunchTemplateVersions", &error))
        });
        let all = all.await?;
        let made = all.iter().filter_map(Version::of).filter(|one| one.made_for == Some(generation));
        Ok(made.max_by_key(|one| one.number))
    }

    /// Returns the version that launches a generation, made when there is none: as `base`, with another AMI.
    ///
    /// # Errors
    /// It is none of this template's, and cannot be made from `base`.
    pub(super) async fn version_of(&self, base: &Version, generation: &Generation) -> Result<Version> {
        if base.launches(generation) {
            return Ok(base.clone());
        }
        if let Some(found) = self.version_for(&base.template, generation.id).await? {
            return Ok(found);
        }
        let ami = generation.parts.get(AMI).cloned().unwrap_or_default();
        let mut wanted = base.blueprint.parts.clone();
        wanted.insert(AMI.to_owned(), ami.clone());
        let mut parts = (*generation.parts).clone();
        parts.remove("image");
        if wanted != parts {
            return Err(Error::failed(format!(
                "launch template {} has no version for generation {} any more, and version {} differs in more than its AMI",
                base.template,
                generation.id.short(),
                base.number
            ))
            .hint("`rekiln roll` to what Git asks for makes a new version; a deleted one cannot be gone back to"));
        }
        // The same for each attempt, so that no answer that was lost makes a second version.
        let token = Digest::of(format!("{} {} {}", base.template, base.number, generation.id).as_bytes());
        insist(&self.region, || async {
            let data = RequestLaunchTemplateData::builder().image_id(&ami).build();
            let made = self
                .ec2
                .create_launch_template_version()
                .launch_template_id(&base.template)
                .source_version(base.number.to_string())
                .version_description(format!("{DESCRIPTION}{}", generation.id))
                .launch_template_data(data)
                .client_token(token.to_string())
                .send();
            let made = made.await.map_err(|error| CallError::of("CreateLaunchTemplateVersion", &error))?;
            made.launch_template_version()
                .and_then(Version::of)
                .ok_or_else(|| CallError::empty("CreateLaunchTemplateVersion", "version"))
        })
        .await
    }

    /// Has a group launch a version, by its number.
    ///
    /// # Errors
    /// It does not, or whether it does cannot be told.
    pub(super) async fn pin(&self, group: &str, template: &str, version: i64) -> Result<(), CallError> {
        let specification = aws_sdk_autoscaling::types::LaunchTemplateSpecification::builder()
            .launch_template_id(template)
            .version(version.to_string())
            .build();
        let call = self.autoscaling.update_auto_scaling_group().auto_scaling_group_name(group);
        let done = call.launch_template(specification).send().await;
        done.map(drop).map_err(|error| CallError::of("UpdateAutoScalingGroup", &error))
    }

    /// Sets how large a group may be told to be.
    ///
    /// # Errors
    /// It is not set, or whether it is cannot be told.
    pub(super) async fn bound(&self, group: &str, min: i32, max: i32) -> Result<(), CallError> {
        let call = self.autoscaling.update_auto_scaling_group().auto_scaling_group_name(group);
        let done = call.min_size(min).max_size(max).send().await;
        done.map(drop).map_err(|error| CallError::of("UpdateAutoScalingGroup", &error))
    }

    /// Has a group say that it is rolled.
    ///
    /// # Errors
    /// It does not, or whether it does cannot be told.
    pub(super) async fn tag_group(&self, group: &str, value: &str) -> Result<(), CallError> {
        let tag = of_roll(group).value(value).propagate_at_launch(false).build();
        let done = self.autoscaling.create_or_update_tags().tags(tag).send().await;
        done.map(drop).map_err(|error| CallError::of("CreateOrUpdateTags", &error))
    }

    /// Has it say so no more, where it still has this value.
    ///
    /// # Errors
    /// It does still, or whether it does cannot be told.
    pub(super) async fn untag_group(&self, group: &str, value: &str) -> Result<(), CallError> {
        let done = self.autoscaling.delete_tags().tags(of_roll(group).value(value).build()).send().await;
        done.map(drop).map_err(|error| CallError::of("DeleteTags", &error))
    }

    /// Suspends a process of a group, or lets it go on.
    ///
    /// # Errors
    /// It is not done, or whether it is cannot be told.
    pub(super) async fn suspend(&self, group: &str, process: &str, suspend: bool) -> Result<(), CallError> {
        if suspend {
            let call = self.autoscaling.suspend_processes().auto_scaling_group_name(group);
            let done = call.scaling_processes(process).send().await;
            return done.map(drop).map_err(|error| CallError::of("SuspendProcesses", &error));
        }
        let call = self.autoscaling.resume_processes().auto_scaling_group_name(group);
        let done = call.scaling_processes(process).send().await;
        done.map(drop).map_err(|error| CallError::of("ResumeProcesses", &error))
    }
}

fn of_roll(group: &str) -> TagBuilder {
    aws_sdk_autoscaling::types::Tag::builder()
        .resource_id(group)
        .resource_type("auto-scaling-group")
        .key(ROLL_TAG)
}

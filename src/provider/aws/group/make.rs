//! Do: make a group that is not there, and versions of its launch template, as a fleet's file says.
//!
//! Two calls make a group, and each is safe to repeat: names are taken once, so what a lost answer or a killed process
//! left is found by its name, and known for ours by its tag. What is somebody else's is never touched.

use std::collections::BTreeMap;

use aws_sdk_autoscaling::types::{LaunchTemplateSpecification, Tag as GroupTag};
use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification};
use jiff::Timestamp;

use super::lease::What;
use super::parts::AMI;
use super::seen::{Group, Seen};
use super::template::{DESCRIPTION, Version};
use super::written::{Found, Written, differences, foreign, foreign_template};
use super::{AutoScalingGroup, support};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::fleet::census::{self, Census};
use crate::fleet::generation::{Generation, Target};
use crate::fleet::specification::{Design, FLEET_TAG};
use crate::provider::aws::error::Kind;
use crate::provider::aws::reach::Template;
use crate::provider::aws::{Aws, CallError, Patience, insist};

impl AutoScalingGroup {
    /// Makes the group, if there was none when this began and the fleet's file has a specification.
    pub(super) async fn make_group(&self, target: &Target) -> Result<()> {
        let (Some(design), None) = (&self.design, self.base.get()) else { return Ok(()) };
        // Once in a group's life, and kept apart from what each turn of a roll carries along.
        let launches = Box::pin(self.make_as(design, &target.generation)).await;
        let launches = launches.map_err(|error| {
            error.during(format!("making Auto Scaling group {} for fleet {}", self.group, design.fleet))
        })?;
        // Nobody else has set it: who makes groups has the journal.
        drop(self.base.set(launches));
        self.memory().made_group = true;
        Ok(())
    }

    /// Makes the group to launch a generation; returns what it launches, which is another version where an earlier attempt
    /// has made it.
    async fn make_as(&self, design: &Design, generation: &Generation) -> Result<Version> {
        let (aws, name) = (&self.cloud.aws, &self.group);
        let version = Box::pin(self.first_version(design, generation)).await?;
        insist(&aws.region, || aws.create_group(name, design, &version)).await?;
        self.changed();
        let seen = self.listed().await?;
        match foreign(name, &seen.group, &design.fleet) {
            Some(refusal) => Err(refusal),
            None => self.launched_by(&seen.group).await,
        }
    }

    /// What a group that can be rolled launches.
    pub(super) async fn launched_by(&self, group: &Group) -> Result<Version> {
        let name = &self.group;
        if let Some(refusal) = support::refusal(name, group) {
            return Err(refusal);
        }
        let Some((template, version)) = &group.template else {
            return Err(Error::failed(format!("group {name} names no launch template")));
        };
        self.cloud.aws.named_version(template, version).await
    }

    /// Looks until the group is listed: lists may be older than what made it.
    async fn listed(&self) -> Result<std::sync::Arc<Seen>> {
        let mut patience = Patience::default();
        loop {
            let since = self.memory().changed;
            if let Some(seen) = self.cloud.look(&self.group, since).await? {
                return Ok(seen);
            }
            let words = format!("group {} was made, and is not listed yet", self.group);
            let error = CallError { call: "DescribeAutoScalingGroups", kind: Kind::Missing, words };
            patience.after(error, &self.cloud.aws.region).await?;
            self.changed();
        }
    }

    /// Returns the version that the group is made with: the first of a new template, or one of a template that was made
    /// before for this fleet.
    async fn first_version(&self, design: &Design, generation: &Generation) -> Result<Version> {
        let (aws, name) = (&self.cloud.aws, &self.group);
        let found = if let Some(found) = insist(&aws.region, || aws.template_of(name)).await? {
            found
        } else {
            let written = Written::for_generation(design, generation)?;
            let made =
                insist(&aws.region, || aws.create_template(name, design, generation, &written)).await?;
            if let Some(id) = made {
                return must_be(aws.first_of(&id).await?, &written.parts);
            }
            // By an attempt whose answer was lost, or by somebody else a moment ago.
            insist(&aws.region, || aws.template_that_is(name)).await?
        };
        if let Some(refusal) = foreign_template(name, &found, &design.fleet) {
            return Err(refusal);
        }
        self.designed_version(&found.id, design, generation).await
    }

    /// Makes sure that nothing of the group's name is in the way of what a roll would make.
    pub(super) async fn refuse_foreign_template(&self, design: &Design) -> Result<()> {
        let (aws, name) = (&self.cloud.aws, &self.group);
        let found = insist(&aws.region, || aws.template_of(name)).await?;
        found.and_then(|found| foreign_template(name, &found, &design.fleet)).map_or(Ok(()), Err)
    }

    /// Returns the version of a template that launches a generation: found, or made as the fleet's file says.
    pub(super) async fn designed_version(
        &self,
        template: &str,
        design: &Design,
        generation: &Generation,
    ) -> Result<Version> {
        let aws = &self.cloud.aws;
        let mut parts = (*generation.parts).clone();
        parts.remove("image");
        if let Some(found) = aws.version_for(template, generation.id).await? {
            return must_be(found, &parts);
        }
        let written = Written::for_generation(design, generation)?;
        if written.parts != parts {
            return Err(Error::failed(format!(
                "launch template {template} has no version for generation {} any more, and the file of fleet {} asks for another one",
                generation.id.short(),
                design.fleet
            ))
            .hint("`rekiln roll` to what Git asks for makes a new version; a deleted one cannot be gone back to"));
        }
        let made = insist(&aws.region, || aws.create_designed(template, generation, &written)).await?;
        must_be(made, &parts)
    }

    /// Returns a target that completed before as it was then, where the fleet's file says what is launched: that may be other
    /// than it was. `None` where the file does not, or the AMI cannot be launched any more.
    #[must_use]
    pub fn as_it_was(&self, before: &Target) -> Option<Target> {
        self.design.as_ref()?;
        let ami = before.generation.parts.get(AMI)?;
        self.amis.can_launch(ami).then(|| before.clone())
    }

    /// Says what a roll would make; `None` where the group is there.
    #[must_use]
    pub fn unmade(&self) -> Option<String> {
        let (Some(design), None) = (&self.design, self.base.get()) else { return None };
        let (aws, size) = (&self.cloud.aws, design.specification.size());
        Some(format!(
            "there is no Auto Scaling group {} in {} of account {} yet: `rekiln roll {}` makes it, of {size} instances",
            self.group, aws.region, aws.account, design.fleet
        ))
    }

    /// Tells whether the fleet's file says what is launched.
    #[must_use]
    pub const fn is_designed(&self) -> bool {
        self.design.is_some()
    }

    /// Tells whether this process has made the group.
    #[must_use]
    pub fn is_made(&self) -> bool {
        self.memory().made_group
    }

    /// What is seen of a group that is not there yet.
    pub(super) fn nothing_yet(&self) -> Option<Census> {
        let told = self.unmade()?;
        let desired = self.design.as_ref()?.specification.size();
        let group = Some(census::Group { desired, zones: Vec::new() });
        Some(Census {
            at: Timestamp::now(),
            instances: Vec::new(),
            trouble: Some(told),
            group,
            cluster: None,
        })
    }

    /// Says in what the group is other than the fleet's file says, one line each.
    pub(super) async fn compared(&self, design: &Design, group: &Group) -> Result<Vec<String>> {
        let bounds = self.leases.all().await?.into_iter().find_map(|lease| match lease.held {
            // Only what is still as it was set for a roll is not the owner's.
            What::Bounds { before, set } if set == (group.min, group.max) => Some(before),
            _ => None,
        });
        Ok(differences(design, group, bounds.unwrap_or((group.min, group.max))))
    }
}

/// Makes sure that AWS shows a version as it was asked for: whatever is launched from it would differ from what is wanted, and
/// be replaced for ever.
fn must_be(version: Version, parts: &BTreeMap<String, String>) -> Result<Version> {
    let (is, wanted) =
        (Generation::from_parts(version.blueprint.parts.clone()), Generation::from_parts(parts.clone()));
    let differ = is.drift(&wanted);
    if differ.is_empty() {
        return Ok(version);
    }
    let told: Vec<_> = differ.iter().filter_map(|part| is.difference(&wanted, part)).collect();
    Err(Error::failed(format!(
        "version {} of launch template {} is not as it was asked for: {}",
        version.number,
        version.template,
        told.join("; ")
    ))
    .hint("nothing was launched from it; write it in the fleet's file as EC2 shows it: `aws ec2 describe-launch-template-versions`"))
}

impl Aws {
    /// Returns the launch template of a name; `None` when there is none.
    async fn template_of(&self, name: &str) -> Result<Option<Found>, CallError> {
        let found = self.ec2.describe_launch_templates().launch_template_names(name).send().await;
        let found = match found.map_err(|error| CallError::of("DescribeLaunchTemplates", &error)) {
            Err(error) if error.kind == Kind::Missing => return Ok(None),
            other => other?,
        };
        let template = found.launch_templates().first();
        Ok(template.and_then(|template| {
            let tags = template.tags().iter();
            let tags = tags.filter_map(|tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned())));
            Some(Found { id: template.launch_template_id()?.to_owned(), tags: tags.collect() })
        }))
    }

    /// The same of one whose name is taken.
    async fn template_that_is(&self, name: &str) -> Result<Found, CallError> {
        self.template_of(name).await?.ok_or_else(|| CallError {
            call: "DescribeLaunchTemplates",
            kind: Kind::Missing,
            words: format!("the name {name} is taken, and no launch template of it is listed"),
        })
    }

    /// Makes a launch template; returns its id, or `None` when the name is taken.
    async fn create_template(
        &self,
        name: &str,
        design: &Design,
        generation: &Generation,
        written: &Written,
    ) -> Result<Option<String>, CallError> {
        let tag = Tag::builder().key(FLEET_TAG).value(&design.fleet).build();
        let tags = TagSpecification::builder().resource_type(ResourceType::LaunchTemplate).tags(tag).build();
        let made = self
            .ec2
            .create_launch_template()
            .launch_template_name(name)
            .version_description(format!("{DESCRIPTION}{}", generation.id))
            .launch_template_data(written.request.clone())
            .tag_specifications(tags)
            .send()
            .await;
        match made.map_err(|error| CallError::of("CreateLaunchTemplate", &error)) {
            Err(error) if error.kind == Kind::Taken => Ok(None),
            Err(error) => Err(error),
            Ok(made) => {
                let id = made.launch_template().and_then(|template| template.launch_template_id());
                let id = id.ok_or_else(|| CallError::empty("CreateLaunchTemplate", "launch template"))?;
                Ok(Some(id.to_owned()))
            }
        }
    }

    /// Reads the first version of a template back, which was made a moment ago.
    async fn first_of(&self, template: &str) -> Result<Version> {
        let by_id = Template::Id(template.to_owned());
        insist(&self.region, || async {
            let found = self.template_version(&by_id, "1").await?;
            found.as_ref().and_then(Version::of).ok_or_else(|| CallError {
                call: "DescribeLaunchTemplateVersions",
                kind: Kind::Missing,
                words: format!("launch template {template} was made, and its version is not listed yet"),
            })
        })
        .await
    }

    /// Makes a version of a template from nothing but what the fleet's file says.
    async fn create_designed(
        &self,
        template: &str,
        generation: &Generation,
        written: &Written,
    ) -> Result<Version, CallError> {
        // The same for each attempt, so that no answer that was lost makes a second version.
        let token = Digest::of(format!("{template} {}", generation.id).as_bytes());
        let made = self
            .ec2
            .create_launch_template_version()
            .launch_template_id(template)
            .version_description(format!("{DESCRIPTION}{}", generation.id))
            .launch_template_data(written.request.clone())
            .client_token(token.to_string())
            .send()
            .await;
        let made = made.map_err(|error| CallError::of("CreateLaunchTemplateVersion", &error))?;
        let made = made.launch_template_version().and_then(Version::of);
        made.ok_or_else(|| CallError::empty("CreateLaunchTemplateVersion", "version"))
    }

    /// Makes a group that launches a version, where there is none of the name.
    async fn create_group(&self, name: &str, design: &Design, version: &Version) -> Result<(), CallError> {
        let group = &design.specification;
        let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let launches = LaunchTemplateSpecification::builder()
            .launch_template_id(&version.template)
            .version(version.number.to_string())
            .build();
        let tag = |key: &str, value: &str, propagated: bool| {
            GroupTag::builder().key(key).value(value).propagate_at_launch(propagated).build()
        };
        let tags = group.tags.iter().map(|(key, value)| tag(key, value, true));
        let target_groups = Some(group.target_groups.clone()).filter(|arns| !arns.is_empty());
        let made = self
            .autoscaling
            .create_auto_scaling_group()
            .auto_scaling_group_name(name)
            .launch_template(launches)
            .min_size(number(group.min))
            .max_size(number(group.max))
            .desired_capacity(number(group.size()))
            .vpc_zone_identifier(group.subnets.join(","))
            .set_target_group_arns(target_groups)
            .health_check_type(group.health_check())
            .health_check_grace_period(design.grace)
            // That the group is the fleet's is no instance's affair.
            .set_tags(Some(tags.chain([tag(FLEET_TAG, &design.fleet, false)]).collect()))
            .send()
            .await;
        match made.map_err(|error| CallError::of("CreateAutoScalingGroup", &error)) {
            // By an attempt whose answer was lost, or by somebody else: its tag tells.
            Err(error) if error.kind == Kind::Taken => Ok(()),
            other => other.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::aws::group::parts::Blueprint;

    #[test]
    fn a_version_that_is_shown_otherwise_launches_nothing() {
        let parts = |tokens: &str| -> BTreeMap<String, String> {
            [(AMI, "ami-1"), ("metadata options", tokens)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into()
        };
        let mut blueprint = Blueprint::default();
        blueprint.parts = parts("tokens optional");
        let shown = Version { template: "lt-1".to_owned(), number: 3, blueprint, made_for: None };
        assert!(must_be(shown.clone(), &parts("tokens optional")).is_ok());
        let error = must_be(shown, &parts("tokens required")).expect_err("it differs");
        let said = error.chain();
        assert!(
            said.contains("version 3") && said.contains("tokens optional instead of tokens required"),
            "{said}"
        );
    }
}

//! What instances are launched from: launch templates, Auto Scaling groups, launch configurations, parameters; and the
//! instances themselves. Only looked at.

use std::collections::BTreeMap;

use aws_sdk_autoscaling::types::{
    AutoScalingGroup, LaunchConfiguration, LaunchTemplate, LaunchTemplateSpecification,
};
use aws_sdk_ec2::types::{Filter, InstanceStateName, LaunchTemplateVersion, Reservation};
use aws_sdk_ssm::types::ParameterStringFilter;

use super::error::Kind;
use super::{Aws, CallError};

/// How many values a filter may have (EC2 API reference, "Filtering").
pub(super) const FILTER: usize = 200;

/// How many parameters can be read at once (`GetParameters`).
const NAMES: usize = 10;

/// A launch template, as its user names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Template {
    /// By its id.
    Id(String),
    /// By its name.
    Name(String),
}

/// A version of a launch template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The template's name.
    pub template: String,
    /// The version's number.
    pub number: i64,
    /// Whether it is the template's default.
    pub default: bool,
    /// The AMI, or `resolve:ssm:` and the parameter that names it.
    pub image: Option<String>,
}

/// What an Auto Scaling group launches instances from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// The group's name.
    pub name: String,
    /// Launch templates and versions, as numbers.
    pub versions: Vec<(Template, String)>,
    /// AMIs that it names itself.
    pub images: Vec<String>,
}

impl Aws {
    /// Returns the default and the latest version of every launch template.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub async fn current_versions(&self) -> Result<Vec<Version>, CallError> {
        let call = self.ec2.describe_launch_template_versions().versions("$Default").versions("$Latest");
        let found = call.into_paginator().items().send().try_collect().await;
        let found = found.map_err(|error| CallError::of("DescribeLaunchTemplateVersions", &error))?;
        Ok(found.iter().filter_map(version).collect())
    }

    /// Returns a version of a launch template; `None` when there is none, so that nothing can be launched from it.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub async fn version(&self, template: &Template, number: &str) -> Result<Option<Version>, CallError> {
        Ok(self.template_version(template, number).await?.as_ref().and_then(version))
    }

    /// As [`Aws::version`], with everything that it launches.
    pub(super) async fn template_version(
        &self,
        template: &Template,
        number: &str,
    ) -> Result<Option<LaunchTemplateVersion>, CallError> {
        let call = self.ec2.describe_launch_template_versions().versions(number);
        let call = match template {
            Template::Id(id) => call.launch_template_id(id),
            Template::Name(name) => call.launch_template_name(name),
        };
        match call.send().await.map_err(|error| CallError::of("DescribeLaunchTemplateVersions", &error)) {
            Ok(found) => Ok(found.launch_template_versions.unwrap_or_default().into_iter().next()),
            Err(error) if error.kind == Kind::Missing => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns what every Auto Scaling group launches. `$Default` and `$Latest` are left out: they are among
    /// [`Aws::current_versions`].
    ///
    /// # Errors
    /// They cannot be looked at.
    pub async fn groups(&self) -> Result<Vec<Group>, CallError> {
        let call = self.autoscaling.describe_auto_scaling_groups().include_instances(false);
        let found = call.into_paginator().items().send().try_collect().await;
        let found = found.map_err(|error| CallError::of("DescribeAutoScalingGroups", &error))?;
        Ok(found.iter().map(group).collect())
    }

    /// Returns the name and the AMI of every launch configuration.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub async fn configurations(&self) -> Result<Vec<(String, String)>, CallError> {
        let call = self.autoscaling.describe_launch_configurations();
        let found = call.into_paginator().items().send().try_collect().await;
        let found = found.map_err(|error| CallError::of("DescribeLaunchConfigurations", &error))?;
        let named = |one: LaunchConfiguration| Some((one.launch_configuration_name?, one.image_id?));
        Ok(found.into_iter().filter_map(named).collect())
    }

    /// Returns how many instances there are of each of these AMIs, stopped ones included.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub async fn instances(&self, amis: &[String]) -> Result<BTreeMap<String, usize>, CallError> {
        let mut found = BTreeMap::new();
        for amis in amis.chunks(FILTER) {
            let filter = Filter::builder().name("image-id").set_values(Some(amis.to_vec())).build();
            let call = self.ec2.describe_instances().filters(filter);
            let reservations = call.into_paginator().items().send().try_collect().await;
            let reservations = reservations.map_err(|error| CallError::of("DescribeInstances", &error))?;
            for instance in reservations.iter().flat_map(Reservation::instances) {
                let state = instance.state().and_then(|state| state.name());
                if let Some(ami) = instance.image_id()
                    && state != Some(&InstanceStateName::Terminated)
                {
                    *found.entry(ami.to_owned()).or_default() += 1;
                }
            }
        }
        Ok(found)
    }

    /// Returns the names of all parameters that AWS knows to name an AMI (their data type says so).
    ///
    /// # Errors
    /// They cannot be looked at.
    pub async fn image_parameters(&self) -> Result<Vec<String>, CallError> {
        let filter = ParameterStringFilter::builder().key("DataType").values("aws:ec2:image").build();
        let filter = filter.map_err(|_| CallError::empty("DescribeParameters", "filter"))?;
        let call = self.ssm.describe_parameters().parameter_filters(filter);
        let mut pages = call.into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| CallError::of("DescribeParameters", &error))?;
            found.extend(page.parameters().iter().filter_map(|one| one.name().map(str::to_owned)));
        }
        Ok(found)
    }

    /// Returns what these parameters say, by name, as far as they are there.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn parameters(&self, names: &[String]) -> Result<Vec<(String, String)>, CallError> {
        let mut found = Vec::new();
        for names in names.chunks(NAMES) {
            let answer = self.ssm.get_parameters().set_names(Some(names.to_vec())).send().await;
            let answer = answer.map_err(|error| CallError::of("GetParameters", &error))?;
            let parameters = answer.parameters.unwrap_or_default().into_iter();
            found.extend(parameters.filter_map(|one| Some((one.name?, one.value?))));
        }
        Ok(found)
    }
}

fn version(version: &LaunchTemplateVersion) -> Option<Version> {
    Some(Version {
        template: version.launch_template_name()?.to_owned(),
        number: version.version_number()?,
        default: version.default_version().unwrap_or(false),
        image: version.launch_template_data().and_then(|data| data.image_id()).map(str::to_owned),
    })
}

fn group(group: &AutoScalingGroup) -> Group {
    let policy = group.mixed_instances_policy().and_then(|policy| policy.launch_template());
    let overrides = policy.map(LaunchTemplate::overrides).unwrap_or_default();
    let own = group.launch_template().into_iter();
    let mixed = policy.and_then(|template| template.launch_template_specification());
    let overriding = overrides.iter().filter_map(|one| one.launch_template_specification());
    Group {
        name: group.auto_scaling_group_name().unwrap_or_default().to_owned(),
        versions: own.chain(mixed).chain(overriding).filter_map(numbered).collect(),
        images: overrides.iter().filter_map(|one| one.image_id()).map(str::to_owned).collect(),
    }
}

fn numbered(specification: &LaunchTemplateSpecification) -> Option<(Template, String)> {
    let version = specification.version().filter(|version| !version.starts_with('$'))?.to_owned();
    let id = specification.launch_template_id().map(|id| Template::Id(id.to_owned()));
    let name = || specification.launch_template_name().map(|name| Template::Name(name.to_owned()));
    Some((id.or_else(name)?, version))
}

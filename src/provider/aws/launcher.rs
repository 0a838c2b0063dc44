//! What an Auto Scaling group launches instances from. Only looked at.

use std::fmt;

use aws_sdk_autoscaling::types::{
    InstanceMetadataHttpTokensState, LaunchConfiguration, LaunchTemplateSpecification,
};
use aws_sdk_ec2::types::{
    LaunchTemplateHttpTokensState, LaunchTemplateInstanceNetworkInterfaceSpecification,
    ResponseLaunchTemplateData,
};

use super::doors::{named, profile};
use super::reach::Template;
use super::{Aws, CallError};
use crate::fleet::audit::Doors;

/// What an Auto Scaling group launches instances from, as it names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Launcher {
    /// A version of a launch template; it may be `$Default` or `$Latest`.
    Template(Template, String),
    /// A launch configuration.
    Configuration(String),
    /// An AMI that a mixed instances policy names itself.
    Ami(String),
}

impl fmt::Display for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Template(Template::Id(name) | Template::Name(name), version) => {
                write!(f, "launch template {name} version {version}")
            }
            Self::Configuration(name) => write!(f, "launch configuration {name}"),
            Self::Ami(ami) => write!(f, "the mixed instances policy's {ami}"),
        }
    }
}

/// What is launched: the AMI as it is written there, and how one could get in. Metadata are `None` when nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blueprint {
    /// The AMI's id, or `resolve:ssm:` and a parameter.
    pub ami: Option<String>,
    /// How one could get in.
    pub doors: Doors,
    /// Whether a token is required to get metadata.
    pub token: Option<bool>,
    /// Whether there will be a public address; when nothing is said, the subnet decides.
    pub public: Option<bool>,
}

impl Aws {
    /// Returns what a launcher launches, and what that is called; `None` when it is not there. An AMI that a mixed
    /// instances policy names itself is launched as one of the policy's templates says.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub async fn blueprint(&self, launcher: &Launcher) -> Result<Option<(String, Blueprint)>, CallError> {
        let name = match launcher {
            Launcher::Template(template, version) => {
                return Ok(self.template_version(template, version).await?.map(|found| {
                    let name = found.launch_template_name().unwrap_or("?");
                    let number = found.version_number().unwrap_or(0);
                    let doors = found.launch_template_data().map(blueprint).unwrap_or_default();
                    (format!("launch template {name} version {number}"), doors)
                }));
            }
            Launcher::Ami(ami) => {
                let (ami, token, public) = (Some(ami.clone()), Some(true), Some(false));
                return Ok(Some((
                    launcher.to_string(),
                    Blueprint { ami, token, public, ..Blueprint::default() },
                )));
            }
            Launcher::Configuration(name) => name,
        };
        let call = self.autoscaling.describe_launch_configurations().launch_configuration_names(name);
        let found = call.send().await;
        let found = found.map_err(|error| CallError::of("DescribeLaunchConfigurations", &error))?;
        let found = found.launch_configurations().first();
        Ok(found.map(|found| (launcher.to_string(), configured(found))))
    }
}

pub(super) fn launcher(specification: &LaunchTemplateSpecification) -> Option<Launcher> {
    let id = specification.launch_template_id().map(|id| Template::Id(id.to_owned()));
    let name = || specification.launch_template_name().map(|name| Template::Name(name.to_owned()));
    // Nothing said means the default (EC2 Auto Scaling API reference, `LaunchTemplateSpecification`).
    let version = specification.version().unwrap_or("$Default").to_owned();
    Some(Launcher::Template(id.or_else(name)?, version))
}

fn blueprint(data: &ResponseLaunchTemplateData) -> Blueprint {
    let interfaces = data.network_interfaces();
    let groups = data.security_group_ids().iter();
    let groups =
        groups.chain(interfaces.iter().flat_map(LaunchTemplateInstanceNetworkInterfaceSpecification::groups));
    let of_profile = data.iam_instance_profile();
    let tokens = data.metadata_options().and_then(|options| options.http_tokens());
    Blueprint {
        ami: data.image_id().map(str::to_owned),
        doors: Doors {
            key_pair: named(data.key_name()),
            security_groups: groups.cloned().collect(),
            profile: of_profile.and_then(|one| one.arn().or(one.name())).map(profile),
            ..Doors::default()
        },
        token: tokens.map(|tokens| *tokens == LaunchTemplateHttpTokensState::Required),
        public: interfaces
            .iter()
            .find_map(LaunchTemplateInstanceNetworkInterfaceSpecification::associate_public_ip_address),
    }
}

fn configured(found: &LaunchConfiguration) -> Blueprint {
    let tokens = found.metadata_options().and_then(|options| options.http_tokens());
    Blueprint {
        ami: named(found.image_id()),
        doors: Doors {
            key_pair: named(found.key_name()),
            security_groups: found.security_groups().iter().cloned().collect(),
            profile: named(found.iam_instance_profile()).as_deref().map(profile),
            ..Doors::default()
        },
        token: tokens.map(|tokens| *tokens == InstanceMetadataHttpTokensState::Required),
        public: found.associate_public_ip_address(),
    }
}

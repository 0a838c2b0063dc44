//! How one could get into instances: what AWS says of them, of what they are launched from, and of the account. Only
//! looked at.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_autoscaling::types::{AutoScalingGroup, LaunchTemplate};
use aws_sdk_ec2::types::{
    Filter, HttpTokensState, Instance, InstanceNetworkInterface, InstanceStateName, IpPermission, Reservation,
};
use aws_sdk_ssm::types::{InstanceInformationStringFilter, SessionFilter, SessionFilterKey, SessionState};

use super::error::Kind;
use super::launcher::{Launcher, launcher};
use super::reach::FILTER;
use super::{Aws, CallError};
use crate::fleet::audit::{Doors, Ingress};

/// How many instances can be asked about at once (`DescribeInstanceInformation`: 100 values of a filter, 50 answers).
const MANAGED: usize = 50;

/// An Auto Scaling group as far as its instances' ways in go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    /// Ids of its instances, in whatever state, those of its warm pool included.
    pub instances: BTreeSet<String>,
    /// What it launches.
    pub launchers: BTreeSet<Launcher>,
    /// The subnets it launches into.
    pub subnets: Vec<String>,
    warm_pool: bool,
}

/// An instance: its id, its AMI, and how one could get in.
pub type Exposed = (String, String, Doors);

impl Aws {
    /// Returns an Auto Scaling group; `None` when there is none of this name.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub async fn membership(&self, name: &str) -> Result<Option<Membership>, CallError> {
        let call = self.autoscaling.describe_auto_scaling_groups().auto_scaling_group_names(name);
        let found = call.into_paginator().items().send().try_collect().await;
        let found = found.map_err(|error| CallError::of("DescribeAutoScalingGroups", &error))?;
        let Some(mut group) = found.first().map(membership) else { return Ok(None) };
        if group.warm_pool {
            let call = self.autoscaling.describe_warm_pool().auto_scaling_group_name(name);
            let warm = call.into_paginator().items().send().try_collect().await;
            let warm = warm.map_err(|error| CallError::of("DescribeWarmPool", &error))?;
            group.instances.extend(warm.into_iter().filter_map(|one| one.instance_id));
        }
        Ok(Some(group))
    }

    /// Returns how one could get into these instances, those that have ended left out.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub async fn exposed(&self, ids: &[String]) -> Result<Vec<Exposed>, CallError> {
        let mut found = Vec::new();
        for ids in ids.chunks(FILTER) {
            let filter = Filter::builder().name("instance-id").set_values(Some(ids.to_vec())).build();
            let call = self.ec2.describe_instances().filters(filter);
            let reservations = call.into_paginator().items().send().try_collect().await;
            let reservations = reservations.map_err(|error| CallError::of("DescribeInstances", &error))?;
            found.extend(reservations.iter().flat_map(Reservation::instances).filter_map(exposed));
        }
        found.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(found)
    }

    /// Returns those of the subnets that give public addresses unless the launch says otherwise.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub async fn public_subnets(&self, ids: &[String]) -> Result<BTreeSet<String>, CallError> {
        if ids.is_empty() {
            return Ok(BTreeSet::new());
        }
        let filter = Filter::builder().name("subnet-id").set_values(Some(ids.to_vec())).build();
        let found = self.ec2.describe_subnets().filters(filter).into_paginator().items().send();
        let found = found.try_collect().await.map_err(|error| CallError::of("DescribeSubnets", &error))?;
        let public = found.into_iter().filter(|one| one.map_public_ip_on_launch() == Some(true));
        Ok(public.filter_map(|one| one.subnet_id).collect())
    }

    /// Returns what security groups let in.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub async fn ingress(&self, groups: &[String]) -> Result<BTreeMap<String, Vec<Ingress>>, CallError> {
        let mut all = BTreeMap::new();
        for groups in groups.chunks(FILTER) {
            let filter = Filter::builder().name("group-id").set_values(Some(groups.to_vec())).build();
            let found = self.ec2.describe_security_groups().filters(filter).into_paginator().items().send();
            let found = found.try_collect().await;
            for group in found.map_err(|error| CallError::of("DescribeSecurityGroups", &error))? {
                let rules = group.ip_permissions().iter().filter_map(ingress).collect();
                all.insert(group.group_id.unwrap_or_default(), rules);
            }
        }
        Ok(all)
    }

    /// Returns the tag of AMIs of this account, and whether they require a token for metadata by themselves.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub async fn origins(
        &self,
        amis: &[String],
        tag: &str,
    ) -> Result<BTreeMap<String, (Option<String>, bool)>, CallError> {
        let mut all = BTreeMap::new();
        for amis in amis.chunks(FILTER) {
            let filter = Filter::builder().name("image-id").set_values(Some(amis.to_vec())).build();
            let call =
                self.ec2.describe_images().filters(filter).include_deprecated(true).include_disabled(true);
            let found = call.into_paginator().items().send().try_collect().await;
            for image in found.map_err(|error| CallError::of("DescribeImages", &error))? {
                // What somebody else's AMI says of itself proves nothing.
                let own = image.owner_id() == Some(self.account.as_str());
                let tag = image.tags().iter().find(|one| own && one.key() == Some(tag));
                let tag = tag.and_then(|tag| tag.value()).map(str::to_owned);
                let token = image.imds_support().is_some_and(|support| support.as_str() == "v2.0");
                all.insert(image.image_id.unwrap_or_default(), (tag, token));
            }
        }
        Ok(all)
    }

    /// Returns which of these actions an instance profile's roles allow, as IAM itself works it out, for any resource.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub async fn allowed(&self, profile: &str, actions: &[&str]) -> Result<Vec<String>, CallError> {
        let found = self.iam.get_instance_profile().instance_profile_name(profile).send().await;
        let found = found.map_err(|error| CallError::of("GetInstanceProfile", &error))?;
        let roles = found.instance_profile().map(|profile| profile.roles().to_vec()).unwrap_or_default();
        let mut allowed = BTreeSet::new();
        for role in roles {
            let call = self.iam.simulate_principal_policy().policy_source_arn(role.arn());
            let actions = actions.iter().map(ToString::to_string).collect();
            let answers = call.set_action_names(Some(actions)).into_paginator().items().send();
            let answers = answers.try_collect().await;
            let answers = answers.map_err(|error| CallError::of("SimulatePrincipalPolicy", &error))?;
            let yes = answers.into_iter().filter(|answer| answer.eval_decision().as_str() == "allowed");
            allowed.extend(yes.map(|answer| answer.eval_action_name));
        }
        Ok(actions.iter().filter(|one| allowed.contains(**one)).map(ToString::to_string).collect())
    }

    /// Tells whether serial consoles can be opened in this region.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub async fn serial_consoles(&self) -> Result<bool, CallError> {
        let found = self.ec2.get_serial_console_access_status().send().await;
        let found = found.map_err(|error| CallError::of("GetSerialConsoleAccessStatus", &error))?;
        Ok(found.serial_console_access_enabled().unwrap_or(false))
    }

    /// Returns those of the instances that Systems Manager knows, whether its agent answers at the moment or not.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub async fn managed(&self, ids: &[String]) -> Result<BTreeSet<String>, CallError> {
        let mut all = BTreeSet::new();
        for ids in ids.chunks(MANAGED) {
            let filter = InstanceInformationStringFilter::builder().key("InstanceIds");
            let filter = filter.set_values(Some(ids.to_vec())).build();
            let filter = filter.map_err(|_| CallError::empty("DescribeInstanceInformation", "filter"))?;
            let found = self.ssm.describe_instance_information().filters(filter);
            let found = found.into_paginator().items().send().try_collect().await;
            let found = found.map_err(|error| CallError::of("DescribeInstanceInformation", &error))?;
            all.extend(found.into_iter().filter_map(|one| one.instance_id));
        }
        Ok(all)
    }

    /// Returns who has a session on an instance, or had one in the last 30 days, which is as long as AWS tells.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub async fn sessions(&self, id: &str) -> Result<BTreeSet<String>, CallError> {
        let mut all = BTreeSet::new();
        for state in [SessionState::Active, SessionState::History] {
            let filter = SessionFilter::builder().key(SessionFilterKey::TargetId).value(id).build();
            let filter = filter.map_err(|_| CallError::empty("DescribeSessions", "filter"))?;
            let found = self.ssm.describe_sessions().state(state).filters(filter);
            let found = found.into_paginator().items().send().try_collect().await;
            let found = found.map_err(|error| CallError::of("DescribeSessions", &error))?;
            all.extend(found.iter().map(|session| {
                let start =
                    session.start_date().map_or_else(|| "at some time".to_owned(), ToString::to_string);
                format!("{} from {start}", session.owner().unwrap_or("somebody"))
            }));
        }
        Ok(all)
    }

    /// Returns the end of an instance's console, as far as AWS has it; empty when it has none.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub async fn console(&self, id: &str) -> Result<String, CallError> {
        let ask = |latest: bool| async move {
            let found = self.ec2.get_console_output().instance_id(id).latest(latest).send().await;
            found.map_err(|error| CallError::of("GetConsoleOutput", &error))
        };
        let found = match ask(true).await {
            // Instances that are not on Nitro have no latest output, only that of their start.
            Err(error) if error.kind == Kind::Refused => ask(false).await,
            found => found,
        }?;
        let bytes = aws_smithy_types::base64::decode(found.output().unwrap_or_default());
        let bytes = bytes.map_err(|_| CallError::empty("GetConsoleOutput", "text in base 64"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn membership(group: &AutoScalingGroup) -> Membership {
    let policy = group.mixed_instances_policy().and_then(|policy| policy.launch_template());
    let overrides = policy.map(LaunchTemplate::overrides).unwrap_or_default();
    let versions = group.launch_template().into_iter();
    let versions = versions.chain(policy.and_then(|policy| policy.launch_template_specification()));
    let versions = versions.chain(overrides.iter().filter_map(|one| one.launch_template_specification()));
    let configuration =
        group.launch_configuration_name().map(|name| Launcher::Configuration(name.to_owned()));
    let amis = overrides.iter().filter_map(|one| Some(Launcher::Ami(one.image_id()?.to_owned())));
    let subnets = group.vpc_zone_identifier().unwrap_or_default().split(',').filter(|id| !id.is_empty());
    Membership {
        instances: group.instances().iter().filter_map(|one| one.instance_id().map(str::to_owned)).collect(),
        launchers: versions.filter_map(launcher).chain(configuration).chain(amis).collect(),
        subnets: subnets.map(|id| id.trim().to_owned()).collect(),
        warm_pool: group.warm_pool_configuration().is_some(),
    }
}

fn exposed(instance: &Instance) -> Option<Exposed> {
    let state = instance.state().and_then(|state| state.name());
    if matches!(state, Some(InstanceStateName::Terminated | InstanceStateName::ShuttingDown)) {
        return None;
    }
    let tokens = instance.metadata_options().and_then(|options| options.http_tokens());
    let interfaces = instance.network_interfaces().iter().flat_map(InstanceNetworkInterface::groups);
    let groups = instance.security_groups().iter().chain(interfaces);
    let doors = Doors {
        key_pair: named(instance.key_name()),
        security_groups: groups.filter_map(|group| group.group_id().map(str::to_owned)).collect(),
        profile: instance.iam_instance_profile().and_then(|one| one.arn()).map(profile),
        metadata_v1: tokens != Some(&HttpTokensState::Required),
        public_address: named(instance.public_ip_address()),
    };
    Some((instance.instance_id()?.to_owned(), instance.image_id().unwrap_or("?").to_owned(), doors))
}

/// Reads a rule; `None` for one that cannot carry a login: those are all over TCP.
fn ingress(rule: &IpPermission) -> Option<Ingress> {
    // `-1` is every protocol, which has no ports; 6 is TCP's number.
    let all = match rule.ip_protocol() {
        Some("tcp" | "6") => false,
        Some("-1") => true,
        _ => return None,
    };
    let port = |port: Option<i32>, otherwise: u16| {
        port.filter(|_| !all).and_then(|port| u16::try_from(port).ok()).unwrap_or(otherwise)
    };
    let v4 = rule.ip_ranges().iter().filter_map(|range| range.cidr_ip());
    let v6 = rule.ipv6_ranges().iter().filter_map(|range| range.cidr_ipv6());
    let groups = rule.user_id_group_pairs().iter().filter_map(|pair| pair.group_id());
    let lists = rule.prefix_list_ids().iter().filter_map(|list| list.prefix_list_id());
    Some(Ingress {
        ports: (port(rule.from_port(), 0), port(rule.to_port(), u16::MAX)),
        sources: v4.chain(v6).chain(groups).chain(lists).map(str::to_owned).collect(),
    })
}

/// A name that is there: AWS answers an empty one for none.
pub(super) fn named(name: Option<&str>) -> Option<String> {
    name.filter(|name| !name.is_empty()).map(str::to_owned)
}

/// The name of an instance profile, which may be given by its ARN, with a path.
pub(super) fn profile(text: &str) -> String {
    text.rsplit('/').next().unwrap_or(text).to_owned()
}

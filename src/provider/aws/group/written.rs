//! Decide: what a design says for AWS: the data of a launch template, the parts that these are read back as, and in what a
//! group is other than it was made.
//!
//! The data and the parts come from the same words, and the parts by the same reading as those of any version: what was
//! made and is read back must not differ from what was wanted, or every instance would for ever.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{
    InstanceType, LaunchTemplateHttpTokensState, LaunchTemplateIamInstanceProfileSpecification,
    LaunchTemplateIamInstanceProfileSpecificationRequest, LaunchTemplateInstanceMetadataEndpointState,
    LaunchTemplateInstanceMetadataOptions, LaunchTemplateInstanceMetadataOptionsRequest,
    RequestLaunchTemplateData, ResponseLaunchTemplateData,
};

use super::parts::{AMI, Blueprint};
use super::seen::Group;
use crate::error::{Error, Result};
use crate::fleet::generation::Generation;
use crate::fleet::specification::{Design, FLEET_TAG, Specification};

/// How far metadata go: not beyond the instance itself, into what it forwards for.
const HOPS: i32 = 1;

/// The data of a version of a launch template.
pub struct Written {
    /// As EC2 is given them.
    pub request: RequestLaunchTemplateData,
    /// The parts that EC2's answer has; without the image, which only its AMI tells.
    pub parts: BTreeMap<String, String>,
}

impl Written {
    /// What a specification launches from an AMI, with these user data.
    #[must_use]
    pub fn of(group: &Specification, ami: &str, user_data: Option<&[u8]>) -> Self {
        let kind = InstanceType::from(group.instance_type.as_str());
        let tokens = LaunchTemplateHttpTokensState::Required;
        let endpoint = LaunchTemplateInstanceMetadataEndpointState::Enabled;
        let text = user_data.map(aws_smithy_types::base64::encode);
        let secured = Some(group.security_groups.clone());
        let asked = LaunchTemplateInstanceMetadataOptionsRequest::builder();
        let asked_profile = LaunchTemplateIamInstanceProfileSpecificationRequest::builder();
        let request = RequestLaunchTemplateData::builder()
            .image_id(ami)
            .instance_type(kind.clone())
            .set_security_group_ids(secured.clone())
            .set_user_data(text.clone())
            .set_iam_instance_profile(
                group.instance_profile.as_ref().map(|name| asked_profile.name(name).build()),
            )
            .metadata_options(
                asked
                    .http_tokens(tokens.clone())
                    .http_endpoint(endpoint.clone())
                    .http_put_response_hop_limit(HOPS)
                    .build(),
            );
        let shown = LaunchTemplateInstanceMetadataOptions::builder();
        let shown_profile = LaunchTemplateIamInstanceProfileSpecification::builder();
        let answer = ResponseLaunchTemplateData::builder()
            .image_id(ami)
            .instance_type(kind)
            .set_security_group_ids(secured)
            .set_user_data(text)
            .set_iam_instance_profile(
                group.instance_profile.as_ref().map(|name| shown_profile.name(name).build()),
            )
            .metadata_options(
                shown.http_tokens(tokens).http_endpoint(endpoint).http_put_response_hop_limit(HOPS).build(),
            );
        Self { request: request.build(), parts: Blueprint::of(&answer.build()).parts }
    }

    /// What a fleet's file says of the instances of a generation's image, from its AMI.
    ///
    /// # Errors
    /// The user data do not render; the generation is none of a group's.
    pub fn for_generation(design: &Design, generation: &Generation) -> Result<Self> {
        let (Some(image), Some(ami)) = (generation.image(), generation.parts.get(AMI)) else {
            return Err(Error::failed(format!(
                "generation {} names no image and AMI",
                generation.id.short()
            )));
        };
        let user_data = design.user_data(image)?;
        Ok(Self::of(&design.specification, ami, user_data.as_deref()))
    }
}

/// A launch template, as far as it matters whose it is.
pub struct Found {
    /// EC2's id.
    pub id: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// Says whose tags these are, when they are not those of what was made for a fleet.
fn another_s(tags: &BTreeMap<String, String>, fleet: &str) -> Option<String> {
    match tags.get(FLEET_TAG) {
        Some(tagged) if tagged == fleet => None,
        Some(other) => Some(format!("its tag `{FLEET_TAG}` says `{other}`")),
        None => Some(format!("it has no tag `{FLEET_TAG}`")),
    }
}

/// Returns why a launch template is not one that was made for a fleet; `None` when it was.
#[must_use]
pub fn foreign_template(name: &str, found: &Found, fleet: &str) -> Option<Error> {
    let (why, id) = (another_s(&found.tags, fleet)?, &found.id);
    let error = format!(
        "launch template {name} ({id}) is there, and was not made by rekiln for fleet {fleet}: {why}; \
         the group of that fleet cannot be made"
    );
    Some(
        Error::invalid(error)
            .hint("give the group another name: its launch template is called as the group is")
            .hint(format!("or tag the template with `{FLEET_TAG}` = `{fleet}`, if it is to be used")),
    )
}

/// Returns why a group is not one that was made for a fleet; `None` when it was.
#[must_use]
pub fn foreign(name: &str, group: &Group, fleet: &str) -> Option<Error> {
    let why = another_s(&group.tags, fleet)?;
    let error = format!(
        "Auto Scaling group {name} is there, and was not made by rekiln for fleet {fleet}: {why}; \
         [aws.group] in that fleet's file is not applied to it"
    );
    Some(Error::invalid(error).hint("remove [aws.group] to roll the group as it is").hint(format!(
        "or tag the group with `{FLEET_TAG}` = `{fleet}`, and its instances are launched as [aws.group] says"
    )))
}

/// Says in what a group is other than its specification, one line each. `bounds` are its owner's: without what is changed
/// of them for the time of a roll.
#[must_use]
pub fn differences(design: &Design, group: &Group, bounds: (i32, i32)) -> Vec<String> {
    let wanted = &design.specification;
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let words = |words: &[String]| words.iter().cloned().collect::<BTreeSet<String>>();
    let joined = |words: &BTreeSet<String>| match words.len() {
        0 => "none".to_owned(),
        _ => words.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
    };
    let mut said = Vec::new();
    let mut say = |what: &str, is: String, should: String| {
        if is != should {
            said.push(format!(
                "the group's {what}: {is}, and {should} in the file; that is not changed by a roll"
            ));
        }
    };
    say("least size", bounds.0.to_string(), number(wanted.min).to_string());
    say("largest size", bounds.1.to_string(), number(wanted.max).to_string());
    say("subnets", joined(&group.subnets), joined(&words(&wanted.subnets)));
    say("target groups", joined(&words(&group.target_groups)), joined(&words(&wanted.target_groups)));
    say("health check", group.health_check.clone(), wanted.health_check().to_owned());
    say("health check grace", format!("{} s", group.grace), format!("{} s", design.grace));
    for (key, value) in &wanted.tags {
        let is = group.tags.get(key).map_or_else(|| "none".to_owned(), |value| format!("`{value}`"));
        say(&format!("tag `{key}`"), is, format!("`{value}`"));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Fleet;
    use crate::recipe::render::Templates;

    const FILE: &str = "image = 'web'\n[health]\n[aws]\nregion = 'eu-west-1'\nauto_scaling_group = 'web'\n\
        [aws.group]\nmin = 1\nmax = 4\nsubnets = ['subnet-2', 'subnet-1']\nsecurity_groups = ['sg-2', 'sg-1']\n\
        instance_type = 't3.micro'\ninstance_profile = 'web'\ntags = { team = 'edge' }";

    fn design() -> Design {
        let fleet: Fleet = toml::from_str(FILE).expect("a fleet");
        Design::of("web", &fleet, &Templates::default()).expect("a design").expect("a specification")
    }

    #[test]
    fn everything_that_is_asked_for_is_a_part() {
        let Written { request, parts } = Written::of(&design().specification, "ami-1", Some(b"#!/bin/sh\n"));
        assert_eq!(request.user_data.as_deref(), Some("IyEvYmluL3NoCg=="));
        assert_eq!(request.key_name, None);
        assert_eq!(request.network_interfaces, None);
        let mut said: Vec<_> = parts.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        said.retain(|(name, value)| *name != "user data" || value.len() != 12);
        assert_eq!(
            said,
            [
                ("ami", "ami-1"),
                ("instance profile", "web"),
                ("instance type", "t3.micro"),
                ("metadata options", "tokens required, endpoint enabled, 1 hops"),
                ("security groups", "sg-1, sg-2"),
            ]
        );
        assert!(parts.contains_key("user data"));
    }

    #[test]
    fn a_group_is_compared_with_what_it_was_made_from() {
        let design = design();
        let group = Group {
            subnets: ["subnet-1".to_owned(), "subnet-2".to_owned()].into(),
            health_check: "EC2".to_owned(),
            grace: 120,
            tags: [("team", "edge"), ("other", "x"), (FLEET_TAG, "web")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..Group::default()
        };
        assert!(foreign("web", &group, "web").is_none());
        assert_eq!(differences(&design, &group, (1, 4)), Vec::<String>::new());
        let other = Group {
            subnets: ["subnet-1".to_owned()].into(),
            target_groups: vec!["arn".to_owned()],
            health_check: "ELB".to_owned(),
            grace: 0,
            tags: [(FLEET_TAG.to_owned(), "api".to_owned())].into(),
            ..Group::default()
        };
        let error = foreign("web", &other, "web").expect("another's");
        assert_eq!(error.exit_code(), 2);
        assert!(error.chain().contains("says `api`"), "{}", error.chain());
        let said = differences(&design, &other, (0, 5));
        let about =
            ["least size", "largest size", "subnets", "target groups", "health check:", "grace", "`team`"];
        assert_eq!(said.len(), about.len(), "{said:?}");
        for (line, what) in said.iter().zip(about) {
            assert!(line.contains(what), "{what}: {line}");
        }
    }
}

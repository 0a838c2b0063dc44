//! Decide: an Auto Scaling group as Git has it: `[aws.group]` of a fleet file, and the user data that follow from it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Fleet;
use crate::digest::{Digest, ImageId};
use crate::error::{Error, Result};
use crate::notation;
use crate::recipe::Var;
use crate::recipe::render::{Templates, Vars};

/// The tag on what was made for a fleet; its value is the fleet's name. Only what has it is held to a specification.
pub const FLEET_TAG: &str = "rekiln:fleet";

/// The most bytes that user data may have before they are base 64 (EC2 user guide, "Instance user data": 16 KB).
pub const LARGEST: usize = 16 * 1024;

/// Variables that every template of user data has: a file may not set others of the same names.
pub const GIVEN: [&str; 4] = ["fleet", "image", "image_id", "region"];

/// What rekiln makes a group from, and keeps what that launches as it says.
///
/// Metadata are always served to holders of a token only, one hop far; there is no key pair, and no public address but what
/// a subnet gives. No key changes that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Specification {
    /// The least instances that the group may be told to have.
    pub min: u32,
    /// The most instances that the group may be told to have.
    pub max: u32,
    /// How many it has when it is made; `min` when nothing is said. Afterwards its size is its owner's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<u32>,
    /// The subnets that it launches into, by id; their zones are its zones.
    pub subnets: Vec<String>,
    /// The security groups of its instances, by id.
    pub security_groups: Vec<String>,
    /// The type of its instances, such as `t3.micro`: one, since a group that launches several cannot be rolled.
    pub instance_type: String,
    /// The name of its instances' profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_profile: Option<String>,
    /// The template of its instances' user data, relative to `bootstrap/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<String>,
    /// Variables of that template, beside `fleet`, `image`, `image_id` and `region`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, Var>,
    /// Its target groups, by ARN. With any, its health checks are theirs too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_groups: Vec<String>,
    /// How long an instance is not checked after it serves, such as `60s`; `health.deadline` when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_grace: Option<String>,
    /// Tags of the group and of its instances.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

impl Specification {
    /// How many instances the group has when it is made.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.desired.unwrap_or(self.min)
    }

    /// AWS's word for whose health checks count.
    #[must_use]
    pub fn health_check(&self) -> &'static str {
        if self.target_groups.is_empty() { "EC2" } else { "ELB" }
    }
}

/// The variables of user data. `image` is the recipe's name, `image_id` the image's whole id.
#[must_use]
pub fn vars(fleet: &str, image: &str, image_id: ImageId, region: &str, own: &Vars) -> Vars {
    let given = [fleet, image, &image_id.to_string(), region].map(|text| Var::Text(text.to_owned()));
    own.clone().into_iter().chain(GIVEN.map(str::to_owned).into_iter().zip(given)).collect()
}

/// An image's id that stands for any: all have the same length.
#[must_use]
pub fn any_image() -> ImageId {
    Digest::of(b"")
}

/// Says that user data are too large; `None` when they are not.
#[must_use]
pub fn too_large(user_data: &[u8]) -> Option<String> {
    let size = user_data.len();
    (size > LARGEST).then(|| format!("the user data have {size} bytes, and EC2 takes at most {LARGEST}"))
}

/// A specification with everything that what it makes depends on.
#[derive(Debug, Clone)]
pub struct Design {
    /// The fleet's name.
    pub fleet: String,
    /// What the file says of the group.
    pub specification: Specification,
    /// How long an instance is not checked after it serves, in whole seconds.
    pub grace: i32,
    image: String,
    region: String,
    templates: Templates,
}

impl Design {
    /// Returns the design of a fleet's group; `None` where its file has no specification.
    ///
    /// # Errors
    /// The user data do not render or are too large, whatever the image; a duration that is none.
    pub fn of(name: &str, fleet: &Fleet, templates: &Templates) -> Result<Option<Self>> {
        let Some(aws) = &fleet.aws else { return Ok(None) };
        let Some(specification) = &aws.group else { return Ok(None) };
        let grace = specification.health_check_grace.as_ref().unwrap_or(&fleet.health.deadline);
        let grace = notation::duration(grace).map_err(|why| Error::invalid(format!("`aws.group`: {why}")))?;
        let design = Self {
            fleet: name.to_owned(),
            specification: specification.clone(),
            grace: i32::try_from(grace.as_secs()).unwrap_or(i32::MAX),
            image: fleet.image.clone(),
            region: aws.region.clone(),
            templates: templates.clone(),
        };
        design.user_data(any_image())?;
        Ok(Some(design))
    }

    /// Returns the user data of an image's instances, as they are before they are base 64.
    ///
    /// # Errors
    /// They do not render, or are too large.
    pub fn user_data(&self, image: ImageId) -> Result<Option<Vec<u8>>> {
        let Some(template) = &self.specification.user_data else { return Ok(None) };
        let vars = vars(&self.fleet, &self.image, image, &self.region, &self.specification.vars);
        let text = self.templates.render(template, &vars);
        let text = text.map_err(|diagnostic| Error::diagnostics(vec![diagnostic]))?;
        match too_large(&text) {
            None => Ok(Some(text)),
            Some(why) => Err(Error::invalid(format!("bootstrap/{template} for fleet {}: {why}", self.fleet))
                .hint("have them fetch what is large, or bake it into the image")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn design(template: &str) -> Result<Option<Design>> {
        let fleet = "image = 'web'\n[health]\ndeadline = '90s'\n[aws]\nregion = 'eu-west-1'\nauto_scaling_group = 'web'\n\
            [aws.group]\nmin = 2\nmax = 3\nsubnets = ['subnet-1']\nsecurity_groups = ['sg-1']\n\
            instance_type = 't3.micro'\nuser_data = 'web/user-data.hbs'\nvars = { greeting = 'hello' }";
        let fleet: Fleet = toml::from_str(fleet).expect("a fleet");
        let templates = [("web/user-data.hbs".to_owned(), template.to_owned())];
        Design::of("front", &fleet, &Templates::new(templates.into()))
    }

    #[test]
    fn user_data_know_where_they_are() {
        let made = design("{{fleet}} {{image}} {{image_id}} {{region}} {{greeting}}").expect("it renders");
        let made = made.expect("a specification");
        let id = Digest::of(b"an image");
        let text = made.user_data(id).expect("it renders").expect("user data");
        assert_eq!(String::from_utf8_lossy(&text), format!("front web {id} eu-west-1 hello"));
        assert_eq!(
            (made.specification.size(), made.specification.health_check(), made.grace),
            (2, "EC2", 90)
        );
    }

    #[test]
    fn user_data_that_cannot_be_are_refused() {
        let error = design("{{greting}}").expect_err("an unknown variable");
        assert_eq!(error.exit_code(), 2);
        assert!(design(&"x".repeat(LARGEST)).is_ok());
        let error = design(&"x".repeat(LARGEST + 1)).expect_err("too large");
        assert_eq!(error.exit_code(), 2);
        assert!(error.chain().contains("16385 bytes"), "{}", error.chain());
    }
}

//! Do: find a fleet's group, what it launches, and what an image is launched as.

use std::sync::{Mutex, OnceLock};

use super::AutoScalingGroup;
use super::amis::Amis;
use super::lease::{Leases, Place};
use super::look::Cloud;
use super::parts::AMI;
use super::records::Records;
use super::written::{Written, foreign};
use crate::digest::ImageId;
use crate::error::{Error, Result};
use crate::fleet::generation::{Generation, Target};
use crate::fleet::specification::Design;
use crate::fleet::{AutoScaling, Fleet};
use crate::notation;
use crate::objects::Objects;
use crate::store::{GROUPS, Store};

impl AutoScalingGroup {
    /// Finds a fleet's group, and what it launches. Where the fleet's file has a specification, `design`, it need not be there
    /// yet.
    ///
    /// # Errors
    /// It is not there, cannot be looked at, or cannot be rolled; it, or a launch template of its name, was not made for
    /// this fleet, and there is a design.
    pub async fn open(
        cloud: Cloud,
        store: &Store,
        journals: &Objects,
        name: &str,
        fleet: &Fleet,
        group: &AutoScaling,
        design: Option<Design>,
    ) -> Result<Self> {
        let aws = &cloud.aws;
        aws.must_be(group.account.as_deref())?;
        cloud.add(&group.auto_scaling_group);
        let seen = cloud.look(&group.auto_scaling_group, None).await?;
        let refusal = match (&seen, &design) {
            (None, None) => Some(aws.no_group(&group.auto_scaling_group)),
            (Some(seen), Some(design)) => foreign(&group.auto_scaling_group, &seen.group, &design.fleet),
            _ => None,
        };
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let amis = Amis::of(aws, store).await?;
        let objects = journals.under(GROUPS).under(name);
        let place = Place {
            account: aws.account.clone(),
            region: aws.region.clone(),
            role: group.assume_role.clone(),
            group: group.auto_scaling_group.clone(),
        };
        let poll =
            notation::duration(&group.poll).map_err(|why| Error::invalid(format!("`aws.poll`: {why}")))?;
        let mut opened = Self {
            group: group.auto_scaling_group.clone(),
            health: fleet.health.http.clone(),
            consecutive: fleet.health.consecutive.max(1),
            poll,
            surge: fleet.roll.surge.clone(),
            leases: Leases::new(&objects, place),
            records: Records::new(objects),
            amis,
            base: OnceLock::new(),
            design,
            notes: Vec::new(),
            cloud,
            memory: Mutex::default(),
        };
        if let Some(seen) = seen {
            opened.base = OnceLock::from(opened.launched_by(&seen.group).await?);
            if let Some(design) = &opened.design {
                opened.notes = opened.compared(design, &seen.group).await?;
            }
        } else if let Some(design) = &opened.design {
            opened.refuse_foreign_template(design).await?;
        }
        Ok(opened)
    }

    /// Returns what `image` is launched as, from its AMI: as the fleet's file says, or else as the group launches now.
    ///
    /// # Errors
    /// The image has no AMI in the region; its user data do not render.
    pub fn target(&self, image: ImageId, recipe: &str) -> Result<Target> {
        // What the group launches already is as good as any other AMI of the image.
        let preferred = self.base.get().and_then(|base| base.blueprint.parts.get(AMI));
        let Some(ami) = self.amis.to_launch(image, preferred) else {
            let aws = &self.cloud.aws;
            return Err(Error::failed(format!(
                "image {} has no AMI that can be launched in {} by account {}",
                image.short(),
                aws.region,
                aws.account
            ))
            .hint(format!("`rekiln publish {recipe}` makes it")));
        };
        let mut parts = match &self.design {
            Some(design) => {
                Written::of(&design.specification, ami, design.user_data(image)?.as_deref()).parts
            }
            None => self.base()?.blueprint.parts.clone(),
        };
        parts.insert(AMI.to_owned(), ami.clone());
        parts.insert("image".to_owned(), image.to_string());
        Ok(Target { image, generation: Generation::from_parts(parts) })
    }
}

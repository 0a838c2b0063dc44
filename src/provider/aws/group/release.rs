//! Do: give back what was changed of a group for the time of a roll only.

use jiff::Timestamp;

use super::AutoScalingGroup;
use super::lease::{Lease, Leases, Place, What};
use super::look::{Cloud, ROLL_TAG};
use super::records::Ending;
use super::seen::Group;
use super::template::Version;
use crate::error::Result;
use crate::fleet::generation::Generation;
use crate::fleet::journal::Writer;
use crate::objects::Objects;
use crate::provider::aws::reach::Template;
use crate::provider::aws::{Aws, insist};
use crate::store::GROUPS;

impl AutoScalingGroup {
    pub(super) async fn give_leases_back(&self, arrived: Option<&Generation>) -> Result<()> {
        if let Some(arrived) = arrived {
            self.launch_what_arrived(arrived).await?;
            // The journal has what came of every end, or it would not say that this one is over.
            self.records.clear::<Ending>().await?;
        }
        if self.leases.all().await?.is_empty() {
            return Ok(());
        }
        // What a rollout went back to may not be what was launched last, nor what the group launched when it began.
        let arrived = match arrived {
            Some(generation) => Some(self.version_of(generation).await?.number),
            None => None,
        };
        self.changed();
        let seen = self.look().await?;
        let mut left = Vec::new();
        for lease in self.leases.all().await? {
            left.extend(give(&self.cloud.aws, &self.leases, &lease, &seen.group, arrived).await?);
        }
        let mut memory = self.memory();
        (memory.bounds, memory.pinned) = (None, None);
        (memory.announced, memory.balance_kept) = (false, false);
        Ok(())
    }

    /// Has the group launch by itself what all of it is of now, by a version's number: nothing was launched where nothing
    /// was old, or nothing was there.
    async fn launch_what_arrived(&self, arrived: &Generation) -> Result<()> {
        let seen = self.look().await?;
        let pinned = seen.group.template.as_ref().is_some_and(|(_, version)| version.parse::<i64>().is_ok());
        let launches = self.launches(&seen).await?;
        if pinned && launches.is_some_and(|launches| launches.id == arrived.id) {
            return Ok(());
        }
        let Version { template, number, .. } = self.version_of(arrived).await?;
        let wanted = (Template::Id(template.clone()), number.to_string());
        if seen.group.template.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let aws = &self.cloud.aws;
        insist(&aws.region, || aws.pin(&self.group, &template, number)).await
    }
}

/// Gives one lease back; where that is not possible yet, says why.
async fn give(
    aws: &Aws,
    leases: &Leases,
    lease: &Lease,
    group: &Group,
    arrived: Option<i64>,
) -> Result<Option<String>> {
    let name = &lease.place.group;
    match &lease.held {
        What::Bounds { before, set } => {
            let now = (group.min, group.max);
            let back = bounds_to_set(*before, *set, now, group.desired);
            if back != now {
                insist(&aws.region, || aws.bound(name, back.0, back.1)).await?;
            }
            let owed = (now.0 == set.0 && back.0 != before.0) || (now.1 == set.1 && back.1 != before.1);
            if owed {
                // The group is larger than it may be, or smaller: its instances would be ended, whichever they are.
                leases.take(What::Bounds { before: *before, set: back }, Timestamp::now()).await?;
                return Ok(Some(format!("the bounds of {name}, which has {} instances", group.desired)));
            }
        }
        What::Suspended { process } if group.suspended.contains(process) => {
            insist(&aws.region, || aws.suspend(name, process, false)).await?;
        }
        What::Version { template, before, set } => {
            let pinned = (Template::Id(template.clone()), set.to_string());
            // What every instance is of now stays; what is not rolled out is not launched by the group itself either.
            let wanted = arrived.unwrap_or(*before);
            if wanted != *set && group.template.as_ref() == Some(&pinned) {
                insist(&aws.region, || aws.pin(name, template, wanted)).await?;
            }
        }
        What::Tag { value } if group.tags.get(ROLL_TAG) == Some(value) => {
            insist(&aws.region, || aws.untag_group(name, value)).await?;
        }
        // Somebody else has changed it meanwhile, and theirs it is.
        What::Suspended { .. } | What::Tag { .. } => {}
    }
    leases.forget(&lease.held).await?;
    Ok(None)
}

/// The bounds to go back to: as they were, where they are still as they were set, and as far as the size allows: a group
/// whose maximum is set below its size ends instances of its own choice.
fn bounds_to_set(before: (i32, i32), set: (i32, i32), now: (i32, i32), desired: i32) -> (i32, i32) {
    let min = if now.0 == set.0 { before.0.min(desired) } else { now.0 };
    let max = if now.1 == set.1 { before.1.max(desired) } else { now.1 };
    (min, max)
}

/// Gives back the leases of all fleets that nobody rolls, which a process left that is gone. Returns what was given back,
/// and what could not be, one line each.
///
/// # Errors
/// They cannot be read.
pub async fn give_back(
    journals: &Objects,
    rolling: &[String],
) -> Result<(Vec<String>, Vec<crate::error::Error>)> {
    let (mut given, mut failed) = (Vec::new(), Vec::new());
    let groups = journals.under(GROUPS);
    for fleet in groups.folders().await? {
        let (now, objects) = (Timestamp::now(), groups.under(&fleet));
        for lease in super::leases_of(&objects).await? {
            if rolling.contains(&fleet) && now < lease.until {
                continue;
            }
            match give_back_one(&objects, &lease).await {
                Ok(None) => given.push(format!("lease of {fleet}: {}", told(&lease))),
                Ok(Some(left)) => given.push(format!("part of a lease of {fleet}; left: {left}")),
                Err(error) => {
                    failed.push(error.during(format!("giving back the {} of {fleet}", told(&lease))));
                }
            }
        }
    }
    Ok((given, failed))
}

async fn give_back_one(fleet: &Objects, lease: &Lease) -> Result<Option<String>> {
    let Place { account, region, role, group } = &lease.place;
    let cloud = Cloud::new(Aws::connect(region, role.as_deref()).await?);
    cloud.aws.must_be(Some(account))?;
    cloud.add(group);
    let leases = Leases::new(fleet, lease.place.clone());
    match cloud.look(group, None).await? {
        Some(seen) => give(&cloud.aws, &leases, lease, &seen.group, None).await,
        // With the group everything of it is gone.
        None => leases.forget(&lease.held).await.map(|()| None),
    }
}

fn told(lease: &Lease) -> String {
    let Writer { host, pid, .. } = &lease.by;
    let what = match &lease.held {
        What::Bounds { before: (min, max), .. } => format!("bounds (from {min} to {max} instances before)"),
        What::Suspended { process } => format!("suspended process {process}"),
        What::Tag { value } => format!("tag that it is rolled {value}"),
        What::Version { before, .. } => format!("launch template version ({before} before)"),
    };
    format!("{what}, by process {pid} on {host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_go_back_as_far_as_the_size_allows_and_nobody_else_set_them() {
        let before = (3, 6);
        for (set, now, desired, wanted) in [
            ((3, 8), (3, 8), 6, (3, 6)),
            // A surge is still there: lowering the maximum would end instances.
            ((3, 8), (3, 8), 8, (3, 8)),
            ((3, 8), (3, 8), 7, (3, 7)),
            // Somebody has set another maximum meanwhile.
            ((3, 8), (3, 20), 6, (3, 20)),
            ((1, 6), (1, 6), 5, (3, 6)),
            // Fewer than the minimum: raising it would launch what nobody decided.
            ((1, 6), (1, 6), 2, (2, 6)),
            ((1, 8), (2, 8), 6, (2, 6)),
        ] {
            assert_eq!(bounds_to_set(before, set, now, desired), wanted, "{set:?} {now:?} {desired}");
        }
    }
}

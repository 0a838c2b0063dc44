//! Do: give an instance requests, give it none any more, end it.

use std::sync::Arc;
use std::time::Instant;

use aws_sdk_autoscaling::types::Activity as Reported;
use aws_sdk_autoscaling::types::InstanceRefreshStatus;
use aws_sdk_elasticloadbalancingv2::types::TargetDescription;
use jiff::{SignedDuration, Timestamp};

use super::census::{is_aside, leaves, name};
use super::records::{Ending, Launching};
use super::seen::{Member, Seen};
use super::{AutoScalingGroup, census};
use crate::error::{Error, Result};
use crate::fleet::census::{Health, InstanceId};
use crate::provider::aws::error::Kind;
use crate::provider::aws::{Aws, CallError, insist};
use crate::provider::{Outcome, ProviderError};

/// How long a launch whose answer was lost may not be listed yet. Lists of AWS lag behind by seconds; a minute is beyond all
/// that was reported.
const LISTED: SignedDuration = SignedDuration::from_mins(1);

/// How much earlier than our call AWS's clock may say that an instance was launched.
const CLOCKS: SignedDuration = SignedDuration::from_secs(5);

/// What a group did, in its own words.
pub(super) struct Activity {
    /// What.
    pub(super) text: String,
    /// Why.
    pub(super) cause: String,
    /// What came of it.
    pub(super) said: String,
}

impl AutoScalingGroup {
    /// Finds an instance: EC2's id, and the group's member if it is one still.
    pub(super) fn find<'a>(&self, seen: &'a Seen, id: &InstanceId) -> Option<(String, Option<&'a Member>)> {
        let names = self.memory().names.clone();
        let is = |machine: &str| name(machine, seen.machines.get(machine), &names) == *id;
        let member = seen.group.members.iter().find(|member| is(&member.id));
        let machine = member.map(|member| member.id.clone());
        let machine = machine.or_else(|| seen.machines.keys().find(|machine| is(machine)).cloned());
        machine.map(|machine| (machine, member))
    }

    /// Tells whether a member serves, as far as a look and this process know.
    pub(super) fn serves(&self, seen: &Seen, member: &Member) -> bool {
        if member.lifecycle != "InService" || self.memory().drained.contains_key(&member.id) {
            return false;
        }
        let everywhere = seen.group.target_groups.iter().all(|arn| {
            let target = seen.targets.get(arn).and_then(|targets| targets.get(&member.id));
            target.is_some_and(|target| target.state == "healthy" || target.reason == "Target.NotInUse")
        });
        let answers = self.health.is_none()
            || self.memory().answers.get(&member.id).is_some_and(|(.., health)| *health == Health::Healthy);
        let running = seen.machines.get(&member.id).is_none_or(|machine| !machine.is_ended());
        everywhere && answers && member.healthy && running
    }

    pub(super) async fn admit(&self, id: &InstanceId) -> Result<Outcome, ProviderError> {
        let seen = self.glance().await?;
        let Some((machine, Some(member))) = self.find(&seen, id) else {
            return Ok(Outcome::refused(format!("{id} is not in the group")));
        };
        if member.lifecycle != "InService" || !member.healthy {
            return Ok(Outcome::refused(format!("{id} is {} in the group", member.lifecycle)));
        }
        for arn in &seen.group.target_groups {
            let aws = &self.cloud.aws;
            aws.register_target(arn, &machine).await.map_err(|error| error.of_act(&aws.region))?;
        }
        self.memory().drained.remove(&machine);
        Ok(Outcome::Applied)
    }

    pub(super) async fn drain(&self, id: &InstanceId, others: usize) -> Result<Outcome, ProviderError> {
        let seen = self.glance().await?;
        let Some((machine, Some(member))) = self.find(&seen, id) else {
            return Ok(Outcome::refused(format!("{id} is not in the group")));
        };
        if member.lifecycle != "InService" {
            return Ok(Outcome::refused(format!("{id} is {} in the group", member.lifecycle)));
        }
        let serving = seen.group.members.iter().filter(|other| other.id != machine);
        let serving = serving.filter(|other| self.serves(&seen, other)).count();
        if serving < others {
            return Ok(Outcome::refused(format!("{serving} others serve; {others} must")));
        }
        self.announce(&seen).await?;
        for arn in &seen.group.target_groups {
            let aws = &self.cloud.aws;
            // From the first of them on it may get fewer requests, answer or not.
            self.memory().drained.insert(machine.clone(), Instant::now());
            aws.deregister_target(arn, &machine).await.map_err(|error| error.of_act(&aws.region))?;
        }
        self.memory().drained.insert(machine, Instant::now());
        Ok(Outcome::Applied)
    }

    pub(super) async fn terminate(&self, id: &InstanceId, healthy: bool) -> Result<Outcome, ProviderError> {
        if id.is_coming() {
            return Ok(Outcome::refused("the group is about to launch it by itself"));
        }
        let seen = self.glance().await?;
        let Some((machine, member)) = self.find(&seen, id) else {
            let Some(launching) = self.begun_or_given_up(id).await? else {
                return self.gone(id, Outcome::AlreadyDone).await;
            };
            return match self.unnamed(&launching).await? {
                Ok(None) => self.gone(id, Outcome::AlreadyDone).await,
                Ok(Some(machine)) => {
                    let aws = &self.cloud.aws;
                    insist(&aws.region, || aws.tag_name(&machine, id)).await?;
                    self.memory().names.insert(machine.clone(), id.clone());
                    self.records.remove::<Launching>(id).await?;
                    // Whether it is to be ended is decided anew, now that it is seen.
                    Ok(Outcome::refused(format!("{id} is there: it is {machine}, and has its name only now")))
                }
                Err(why) => Ok(Outcome::refused(why)),
            };
        };
        let member = member.cloned();
        if member.as_ref().is_some_and(is_aside) {
            // Whoever put it aside has it now, and the fleet has one less by their doing. Its name is not given up: it
            // may come back.
            self.forget(id, &machine).await?;
            return Ok(Outcome::Ended);
        }
        let ended = seen.machines.get(&machine).is_some_and(super::Machine::is_ended);
        let Some(member) = member.filter(|member| !leaves(member) && !ended) else {
            return self.gone(id, Outcome::Ended).await;
        };
        if self.serves(&seen, &member) {
            let why = if healthy { "was not drained" } else { "is healthy again" };
            return Ok(Outcome::refused(format!("{id} serves: it {why}")));
        }
        self.announce(&seen).await?;
        self.make_room_below(&seen).await?;
        self.records.write(id, &Ending { machine: machine.clone(), at: Timestamp::now() }).await?;
        self.records.end(id).await?;
        let aws = &self.cloud.aws;
        match aws.end_member(&machine).await {
            Ok(()) => {
                self.forget(id, &machine).await?;
                Ok(Outcome::Applied)
            }
            // It is on its way out already, or not the group's any more: whose doing that is, its activities say.
            Err(error) if matches!(error.kind, Kind::Used | Kind::Missing | Kind::Refused) => {
                let now = self.look_again().await?;
                match self.find(&now, id) {
                    Some((_, Some(member))) if !leaves(member) => {
                        Ok(Outcome::refused(format!("AWS does not end it: {}", error.words)))
                    }
                    _ => self.gone(id, Outcome::Ended).await,
                }
            }
            Err(error) => Err(error.of_act(&aws.region)),
        }
    }

    /// Returns the launch that was begun under a name that no instance has. Where there is none, the name is given up,
    /// before the last look for it: a launch that comes after that finds the name given up.
    async fn begun_or_given_up(&self, id: &InstanceId) -> Result<Option<Launching>> {
        if let Some(begun) = self.records.read(id).await? {
            return Ok(Some(begun));
        }
        self.records.end(id).await?;
        self.records.read(id).await
    }

    /// Looks anew, whatever was looked at before.
    pub(super) async fn look_again(&self) -> Result<Arc<Seen>> {
        self.changed();
        self.look().await
    }

    /// An instance is not there any more, or about to go. Its end is this fleet's doing when one was begun and the group
    /// says that somebody asked for it; all else that ends members has other causes, and is `otherwise`.
    async fn gone(&self, id: &InstanceId, otherwise: Outcome) -> Result<Outcome, ProviderError> {
        self.records.end(id).await?;
        let ours = match self.records.read::<Ending>(id).await? {
            None => false,
            Some(ending) => {
                let aws = &self.cloud.aws;
                let all = insist(&aws.region, || aws.activities(&self.group)).await?;
                all.iter().any(|activity| {
                    activity.text.starts_with("Terminating")
                        && activity.text.contains(&ending.machine)
                        && activity.cause.contains("user request")
                })
            }
        };
        self.forget(id, "").await?;
        Ok(if ours { Outcome::Applied } else { otherwise })
    }

    /// Forgets an instance, but for the record that its end was begun: until the journal has what came of it, whoever comes
    /// after a crash has to be able to tell whose doing it was.
    async fn forget(&self, id: &InstanceId, machine: &str) -> Result<()> {
        self.records.remove::<Launching>(id).await?;
        let mut memory = self.memory();
        memory.drained.remove(machine);
        memory.answers.remove(machine);
        Ok(())
    }

    /// Finds the instance of a launch whose answer was lost: it is in the group, was launched so and since then, and nobody
    /// has named it. Of several any will do: one is left for whoever else launched one. Returns EC2's id;
    /// `Err` has why that cannot be told yet.
    async fn unnamed(&self, launching: &Launching) -> Result<Result<Option<String>, String>> {
        let seen = self.look_again().await?;
        let names = self.memory().names.clone();
        let fits = |member: &&Member| {
            let version = member.version.as_ref().map(|(template, number)| (template.as_str(), *number));
            let machine = seen.machines.get(&member.id);
            let unnamed = census::name(&member.id, machine, &names).0 == member.id;
            let since = machine.is_some_and(|machine| machine.launched_at >= launching.at - CLOCKS);
            let here = launching.zone.as_ref().is_none_or(|zone| *zone == member.zone);
            let same = version == Some((launching.template.as_str(), launching.version));
            !leaves(member) && unnamed && since && here && same
        };
        let found = seen.group.members.iter().find(fits).map(|member| member.id.clone());
        let settled = seen.at.duration_since(launching.at) >= LISTED;
        if found.is_none() && !settled {
            return Ok(Err("its launch was begun just now, and may not be listed yet".to_owned()));
        }
        Ok(Ok(found))
    }
}

impl Aws {
    /// There is no group of a name.
    pub(in crate::provider::aws) fn no_group(&self, group: &str) -> Error {
        let Self { region, account, .. } = self;
        Error::invalid(format!("there is no Auto Scaling group `{group}` in {region} of account {account}"))
            .hint("`[aws] auto_scaling_group` in the fleet's file names it")
    }

    async fn register_target(&self, arn: &str, machine: &str) -> Result<(), CallError> {
        let target = TargetDescription::builder().id(machine).build();
        let done = self.balancing.register_targets().target_group_arn(arn).targets(target).send().await;
        done.map(drop).map_err(|error| CallError::of("RegisterTargets", &error))
    }

    async fn deregister_target(&self, arn: &str, machine: &str) -> Result<(), CallError> {
        let target = TargetDescription::builder().id(machine).build();
        let done = self.balancing.deregister_targets().target_group_arn(arn).targets(target).send().await;
        done.map(drop).map_err(|error| CallError::of("DeregisterTargets", &error))
    }

    /// Ends a member, and takes it from the group's size.
    pub(super) async fn end_member(&self, machine: &str) -> Result<(), CallError> {
        let call = self.autoscaling.terminate_instance_in_auto_scaling_group().instance_id(machine);
        let done = call.should_decrement_desired_capacity(true).send().await;
        done.map(drop).map_err(|error| CallError::of("TerminateInstanceInAutoScalingGroup", &error))
    }

    /// Returns what a group did last, newest first: one page of up to 100.
    pub(super) async fn activities(&self, group: &str) -> Result<Vec<Activity>, CallError> {
        let found = self.autoscaling.describe_scaling_activities().auto_scaling_group_name(group);
        let found = found.max_records(100).send().await;
        let found = found.map_err(|error| CallError::of("DescribeScalingActivities", &error))?;
        let activity = |one: &Reported| Activity {
            text: one.description().unwrap_or_default().to_owned(),
            cause: one.cause().unwrap_or_default().to_owned(),
            said: one.status_message().unwrap_or_default().to_owned(),
        };
        Ok(found.activities().iter().map(activity).collect())
    }

    /// Returns the instance refresh that replaces a group's instances at the moment, if one does.
    pub(super) async fn refresh_under_way(&self, group: &str) -> Result<Option<String>, CallError> {
        let found = self.autoscaling.describe_instance_refreshes().auto_scaling_group_name(group);
        let found = found.send().await;
        let found = found.map_err(|error| CallError::of("DescribeInstanceRefreshes", &error))?;
        let over = |status: &InstanceRefreshStatus| {
            use InstanceRefreshStatus as Is;
            matches!(
                status,
                Is::Successful | Is::Failed | Is::Cancelled | Is::RollbackFailed | Is::RollbackSuccessful
            )
        };
        let under_way =
            found.instance_refreshes().iter().find(|one| one.status().is_some_and(|one| !over(one)));
        Ok(under_way.map(|one| one.instance_refresh_id().unwrap_or("?").to_owned()))
    }
}

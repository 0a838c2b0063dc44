//! Do: kill a member as a failure would: EC2 ends its machine, and nobody tells the group.

use super::AutoScalingGroup;
use crate::fleet::census::InstanceId;
use crate::provider::aws::{Aws, CallError};
use crate::provider::{Outcome, ProviderError};

impl AutoScalingGroup {
    /// Kills a member that serves while `others` besides it do. Neither the group's size nor its target groups are touched: the
    /// group finds out as it finds out about any machine that broke.
    pub(super) async fn kill_member(&self, id: &InstanceId, others: usize) -> Result<Outcome, ProviderError> {
        // What this process saw before may be as old as its last look.
        let seen = self.look_again().await?;
        let Some((machine, Some(member))) = self.find(&seen, id) else {
            return Ok(Outcome::refused(format!("{id} is not in the group")));
        };
        if !self.serves(&seen, member) {
            return Ok(Outcome::refused(format!("{id} does not serve")));
        }
        let serving = seen.group.members.iter().filter(|other| other.id != machine);
        let serving = serving.filter(|other| self.serves(&seen, other)).count();
        if serving < others {
            return Ok(Outcome::refused(format!("{serving} others serve; {others} must")));
        }
        let aws = &self.cloud.aws;
        aws.kill_machine(&machine).await.map_err(|error| error.of_act(&aws.region))?;
        Ok(Outcome::Applied)
    }
}

impl Aws {
    /// Ends a machine, whatever group it is in.
    async fn kill_machine(&self, machine: &str) -> Result<(), CallError> {
        let done = self.ec2.terminate_instances().instance_ids(machine).send().await;
        done.map(drop).map_err(|error| CallError::of("TerminateInstances", &error))
    }
}

//! What must never be done to members that hold data.

use super::super::world::World;
use super::Law;
use crate::fleet::census::{Health, InstanceId, State};
use crate::fleet::cluster::majority;
use crate::fleet::policy::Policy;
use crate::provider::Action;

/// What members were like before an act.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is so or not without the others")]
pub(in crate::provider::sim) struct Standing {
    /// Whether the act is about who leads, and lives.
    leads: bool,
    /// Whether it is about one that has a vote.
    votes: bool,
    /// Whether its machine runs.
    runs: bool,
    /// Whether the votes decided.
    decided: bool,
    /// Whether someone led.
    led: bool,
    /// Whether everything that was acknowledged was somewhere.
    whole: bool,
}

impl Standing {
    pub(super) fn of(world: &World, id: &InstanceId) -> Self {
        let Some(members) = &world.members else { return Self::default() };
        let well = |id: &InstanceId| {
            let found = world.instances.get(id).map(|found| &found.seen);
            found.is_some_and(|seen| seen.state != State::Dead && seen.health == Health::Healthy)
        };
        let voting = members.voters.iter().filter(|id| well(id)).count();
        Self {
            leads: members.leader.as_ref() == Some(id) && well(id),
            votes: members.voters.contains(id),
            runs: world.instances.get(id).is_some_and(|found| found.seen.state != State::Dead),
            decided: voting >= majority(members.voters.len()),
            led: members.leader.as_ref().is_some_and(well),
            whole: members.holders.iter().any(|id| world.instances.get(id).is_some()),
        }
    }
}

impl Law {
    pub(super) fn judge_members(
        &mut self,
        world: &World,
        policy: &Policy,
        action: &Action,
        before: Standing,
    ) {
        let (Some(members), Some(copies)) = (&world.members, &policy.copies) else { return };
        let id = action.id();
        if members.founded.len() > 1 {
            self.accuse(world, &format!("founders: {:?} each founded", members.founded));
        }
        let leaves = matches!(action, Action::Drain { .. } | Action::Terminate { .. });
        if !leaves && !matches!(action, Action::Deregister { .. }) || members.founded.is_empty() {
            return;
        }
        let after = Standing::of(world, id);
        if leaves && before.leads {
            self.accuse(world, &format!("leader: `{action}`, and it led"));
        }
        if before.votes && !(before.decided && after.decided) {
            self.accuse(world, &format!("votes: `{action}`, and they do not decide"));
        }
        if before.votes && !before.led && !matches!(action, Action::Drain { .. }) {
            self.accuse(world, &format!("leaderless: `{action}`, and nobody led"));
        }
        if before.whole && !after.whole {
            self.accuse(world, &format!("data: `{action}`, and nobody has all that was acknowledged"));
        }
        if leaves && before.votes && before.runs {
            let stays = |found: &&InstanceId| {
                *found != id && members.leader.as_ref() != Some(*found) && Self::stays(world, found)
            };
            let have = members.having().filter(stays).count();
            if have < copies.synchronous {
                self.accuse(
                    world,
                    &format!(
                        "copies: after `{action}` {have} others have all data, {} must",
                        copies.synchronous
                    ),
                );
            }
        }
    }

    fn stays(world: &World, id: &InstanceId) -> bool {
        let found = world.instances.get(id).map(|found| &found.seen);
        found.is_some_and(|seen| {
            seen.health == Health::Healthy && matches!(seen.state, State::Running | State::Launching)
        })
    }
}

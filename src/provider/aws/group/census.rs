//! Decide: what a look at an Auto Scaling group says of each instance.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::seen::{Machine, Member, Seen};
use crate::digest::ImageId;
use crate::fleet::census::{Census, Group, Health, Instance, InstanceId, State};
use crate::fleet::generation::Generation;

/// What is known beside a look.
pub struct Known<'a> {
    /// The names of instances that were named a moment ago, by EC2's id: lists of tags may be older.
    pub names: &'a BTreeMap<String, InstanceId>,
    /// Names that were given up: what is left of them is on its way out.
    pub ended: &'a dyn Fn(&InstanceId) -> bool,
    /// Instances, by EC2's id, that were taken out of service where no load balancer knows that.
    pub drained: &'a BTreeSet<String>,
    /// What an instance was launched with, as it is now.
    pub generation: &'a dyn Fn(&Member, &Machine) -> Option<Generation>,
    /// What the group launches by itself.
    pub launches: Option<&'a Generation>,
    /// Which image an AMI is.
    pub images: &'a BTreeMap<String, ImageId>,
    /// What the fleet's own health check says, by EC2's id; `None` where the fleet has none.
    pub answers: Option<&'a BTreeMap<String, Health>>,
    /// The port of that check, which is shown beside the address.
    pub port: u16,
}

/// What a look at a group adds up to.
#[must_use]
pub fn census(seen: &Seen, known: &Known<'_>) -> Census {
    let group = &seen.group;
    let mut instances: Vec<Instance> =
        group.members.iter().filter_map(|member| instance(seen, member, known)).collect();
    instances.extend(fallen(seen, known));
    instances.extend(coming(seen, known));
    instances.sort_by(|one, other| one.id.cmp(&other.id));
    let aside = group.members.iter().filter(|member| is_aside(member));
    let aside: Vec<_> = aside.map(|member| member.id.as_str()).collect();
    let retained = group.members.iter().filter(|member| member.lifecycle.ends_with("Retained"));
    let retained: Vec<_> = retained.map(|member| member.id.as_str()).collect();
    let named = [
        (
            aside,
            "in standby or being detached: left alone, whatever it runs; whoever put it there takes it back",
        ),
        (
            retained,
            "kept by a lifecycle hook after its end, and paid for: `aws ec2 terminate-instances` ends it",
        ),
    ];
    let named = named.into_iter().filter(|(ids, _)| !ids.is_empty());
    let trouble: Vec<_> = named.map(|(ids, what)| format!("{} {what}", ids.join(", "))).collect();
    let trouble = (!trouble.is_empty()).then(|| trouble.join("; "));
    let desired = u32::try_from(group.desired).unwrap_or(0);
    Census {
        at: seen.at,
        instances,
        trouble,
        group: Some(Group { desired, zones: group.zones.clone() }),
        cluster: None,
    }
}

/// Returns what an instance is called: by rekiln, or by EC2.
#[must_use]
pub fn name(id: &str, machine: Option<&Machine>, names: &BTreeMap<String, InstanceId>) -> InstanceId {
    let given = names.get(id).cloned().or_else(|| machine?.name.clone().map(InstanceId));
    given.unwrap_or_else(|| InstanceId(id.to_owned()))
}

/// Tells whether a group's member is on its way out.
#[must_use]
pub fn leaves(member: &Member) -> bool {
    member.lifecycle.starts_with("Terminat")
}

/// Tells whether somebody has put a group's member aside, or taken it out: it is not the fleet's while it is.
#[must_use]
pub fn is_aside(member: &Member) -> bool {
    member.lifecycle.contains("Standby") || member.lifecycle.starts_with("Detach")
}

/// One instance that the group has; `None` for what is left alone: in standby, detached, or ended by rekiln.
fn instance(seen: &Seen, member: &Member, known: &Known<'_>) -> Option<Instance> {
    let machine = seen.machines.get(&member.id);
    let id = name(&member.id, machine, known.names);
    let gone = leaves(member) || machine.is_some_and(Machine::is_ended);
    if gone && ((known.ended)(&id) || machine.is_some_and(|machine| machine.taken_back)) {
        return None;
    }
    let waits = member.lifecycle.starts_with("Pending");
    if is_aside(member) || !(gone || waits || member.lifecycle == "InService") {
        return None;
    }
    let (health, in_service, connections) =
        if gone || waits { (Health::Unhealthy, false, 0) } else { serves(seen, member, known) };
    let state = match (gone, waits) {
        (true, _) => State::Dead,
        (_, true) => State::Launching,
        _ => State::Running,
    };
    let Some(machine) = machine else {
        // EC2 does not list it yet: it is there, and that is all.
        let plain = plain(id, member, &Machine { launched_at: seen.at, ..Machine::default() }, known);
        return Some(Instance { state: State::Launching, health: Health::Unknown, ..plain });
    };
    Some(Instance { state, health, in_service, connections, ..plain(id, member, machine, known) })
}

/// An instance without what it does.
fn plain(id: InstanceId, member: &Member, machine: &Machine, known: &Known<'_>) -> Instance {
    let known_as = (id.0 != member.id).then(|| member.id.clone());
    Instance {
        id,
        generation: (known.generation)(member, machine),
        image: known.images.get(&machine.ami).copied(),
        state: State::Dead,
        health: Health::Unhealthy,
        in_service: false,
        launched_at: machine.launched_at,
        touched: None,
        connections: 0,
        address: machine.address.map(|address| SocketAddr::new(address, known.port)),
        zone: Some(if member.zone.is_empty() { machine.zone.clone() } else { member.zone.clone() }),
        known_as,
        membership: None,
    }
}

/// What the group, every target group and the fleet's own check say of a member that is in service: its health, whether
/// it gets requests everywhere, and whether some are still under way.
fn serves(seen: &Seen, member: &Member, known: &Known<'_>) -> (Health, bool, u32) {
    let mut health = if member.healthy { Health::Healthy } else { Health::Unhealthy };
    let worse = |one: Health, other: Health| match (one, other) {
        (Health::Unhealthy, _) | (_, Health::Unhealthy) => Health::Unhealthy,
        (Health::Unknown, _) | (_, Health::Unknown) => Health::Unknown,
        _ => Health::Healthy,
    };
    let (mut everywhere, mut draining) = (true, false);
    for arn in &seen.group.target_groups {
        let target = seen.targets.get(arn).and_then(|targets| targets.get(&member.id));
        match target.map(|target| (target.state.as_str(), target.reason.as_str())) {
            // No load balancer sends requests to the target group, and none checks its targets.
            Some(("healthy", _) | ("unused", "Target.NotInUse")) => {}
            Some(("draining", _)) => (everywhere, draining) = (false, true),
            // Not registered, or not any more: whether it is well is the group's word alone.
            None | Some(("unused", _)) => everywhere = false,
            Some(("unhealthy" | "unhealthy.draining" | "initial", _)) => {
                (everywhere, health) = (false, worse(health, Health::Unhealthy));
            }
            Some(_) => (everywhere, health) = (false, worse(health, Health::Unknown)),
        }
    }
    if let Some(answers) = known.answers {
        let own = answers.get(&member.id).copied().unwrap_or(Health::Unknown);
        health = worse(health, own);
        // A load balancer may find it well before the fleet's own check does; until both do, it has not served yet.
        everywhere &= own == Health::Healthy;
    }
    let in_service = everywhere && !known.drained.contains(&member.id);
    (health, in_service, u32::from(draining))
}

/// What rekiln launched and the group has lost: it ended by itself.
fn fallen(seen: &Seen, known: &Known<'_>) -> Vec<Instance> {
    let members: BTreeSet<&str> = seen.group.members.iter().map(|member| member.id.as_str()).collect();
    let fallen = |(id, machine): (&String, &Machine)| {
        let named = machine.name.is_some() || known.names.contains_key(id);
        let id_of = name(id, Some(machine), known.names);
        let lost = named
            && machine.is_ended()
            && !machine.taken_back
            && !members.contains(id.as_str())
            && !(known.ended)(&id_of);
        let member = || Member { id: id.clone(), ..Member::default() };
        lost.then(|| plain(id_of, &member(), machine, known))
    };
    seen.machines.iter().filter_map(fallen).collect()
}

/// What the group is about to launch by itself: whoever counts instances counts it.
fn coming(seen: &Seen, known: &Known<'_>) -> Vec<Instance> {
    // One whose machine has ended is replaced, whether the group has noticed yet or not.
    let stays = |member: &&Member| {
        let ended = seen.machines.get(&member.id).is_some_and(Machine::is_ended);
        !ended && (member.lifecycle.starts_with("Pending") || member.lifecycle == "InService")
    };
    let missing = usize::try_from(seen.group.desired)
        .unwrap_or(0)
        .saturating_sub(seen.group.members.iter().filter(stays).count());
    let coming = |number: usize| Instance {
        id: InstanceId::coming(number),
        generation: known.launches.cloned(),
        image: known.launches.and_then(Generation::image),
        state: State::Launching,
        health: Health::Unhealthy,
        in_service: false,
        launched_at: seen.at,
        touched: None,
        connections: 0,
        address: None,
        zone: None,
        known_as: None,
        membership: None,
    };
    (1..=missing).map(coming).collect()
}

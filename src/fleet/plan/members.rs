//! Decide: what each instance is, and what must be remembered of it.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::{Kind, Standing};
use crate::fleet::census::{Census, Health, Instance, InstanceId, State};
use crate::fleet::generation::Target;
use crate::fleet::history::{Event, History, Member};
use crate::fleet::policy::Policy;

/// How long an instance must stay unseen to count as gone. Absent once is not gone: a provider's list may be
/// older than the instance. Ten seconds are many looks, and short beside a boot.
pub(super) const GONE: SignedDuration = SignedDuration::from_secs(10);

/// Returns what each instance is, seen or remembered, in the order of ids.
pub(super) fn standings(
    policy: &Policy,
    target: &Target,
    census: &Census,
    history: &History,
    now: Timestamp,
) -> Vec<Standing> {
    let ids: BTreeSet<_> = census.instances.iter().map(|i| &i.id).chain(history.members.keys()).collect();
    let standing = |id: &InstanceId| {
        let seen: Vec<_> = census.instances.iter().filter(|instance| instance.id == *id).collect();
        let member = history.members.get(id);
        let kind = match seen[..] {
            [] => absent(member, now),
            [instance] => kind(policy, target, instance, member, history.rotate.get(id), now),
            // Two answers about one instance: neither is to be trusted.
            _ => Kind::Unknown,
        };
        Standing { id: id.clone(), kind }
    };
    ids.into_iter().map(standing).collect()
}

/// A launch that was never finished may begin again under its name. All else unseen waits.
fn absent(member: Option<&Member>, now: Timestamp) -> Kind {
    match member {
        Some(member) if !member.launched && member.draining.is_none() && member.failed.is_none() => {
            Kind::Unfinished
        }
        Some(Member { absent: Some(since), .. }) if now.duration_since(*since) >= GONE => Kind::Gone,
        _ => Kind::Absent,
    }
}

fn kind(
    policy: &Policy,
    target: &Target,
    seen: &Instance,
    member: Option<&Member>,
    rotate: Option<&String>,
    now: Timestamp,
) -> Kind {
    let served = seen.in_service || member.is_some_and(|member| member.served);
    if let Some(reason) = member.and_then(|member| member.failed.clone()) {
        return Kind::Failed(reason);
    }
    if seen.state == State::Dead {
        return match member {
            Some(member) if !member.launched && !served => Kind::Unfinished,
            Some(_) if !served => Kind::Failed("its machine ended before it served".to_owned()),
            _ => Kind::Dead,
        };
    }
    if seen.state == State::Draining || member.is_some_and(|member| member.draining.is_some()) {
        return Kind::Draining;
    }
    let why = staleness(target, seen, rotate);
    match seen.health {
        Health::Unknown => Kind::Unknown,
        _ if !served && !why.is_empty() => Kind::Outdated,
        Health::Unhealthy if served => Kind::Unhealthy,
        Health::Unhealthy if now.duration_since(seen.launched_at) >= policy.deadline => {
            Kind::Failed(format!("it did not serve within {:#}", policy.deadline))
        }
        Health::Unhealthy => Kind::Starting,
        Health::Healthy if !seen.in_service => Kind::Starting,
        Health::Healthy if why.is_empty() => Kind::Current,
        Health::Healthy => Kind::Stale(why),
    }
}

fn staleness(target: &Target, seen: &Instance, rotate: Option<&String>) -> Vec<String> {
    let mut why = match &seen.generation {
        Some(generation) => generation.drift(&target.generation),
        None => vec!["no record of its generation".to_owned()],
    };
    why.extend(seen.touched.iter().map(|touched| format!("touched ({touched})")));
    why.extend(rotate.map(|reason| format!("rotation ({reason})")));
    why
}

/// What must be in the journal before the next act relies on it.
pub(super) fn notes(census: &Census, history: &History, members: &[Standing]) -> Vec<Event> {
    let mut notes = Vec::new();
    for Standing { id, kind } in members {
        let member = history.members.get(id);
        let seen = census.instances.iter().find(|instance| instance.id == *id);
        let instance = id.clone();
        match kind {
            Kind::Failed(reason) if member.is_none_or(|member| member.failed.is_none()) => {
                notes.push(Event::Failed { instance, reason: reason.clone(), console: Vec::new() });
            }
            Kind::Absent if member.is_some_and(|member| member.absent.is_none()) => {
                notes.push(Event::Absent { instance });
            }
            _ if seen.is_some() && member.is_some_and(|member| member.absent.is_some()) => {
                notes.push(Event::Returned { instance });
            }
            _ if seen.is_some_and(Instance::serves) && member.is_none_or(|member| !member.served) => {
                notes.push(Event::Serving { instance });
            }
            _ => {}
        }
    }
    notes
}

//! Decide: what each instance is, and what must be remembered of it.

use std::cmp::Ordering;

use jiff::{SignedDuration, Timestamp};

use super::{Kind, Situation, Standing, Urgency, Why};
use crate::fleet::census::{Health, Instance, InstanceId, State};
use crate::fleet::history::{Event, Member};

/// How long an instance must stay unseen to count as gone. Absent once is not gone: a provider's list may be
/// older than the instance. Ten seconds are many looks, and short beside a boot.
pub(super) const GONE: SignedDuration = SignedDuration::from_secs(10);

/// What is known of one id: how often it was seen, and the last look.
type Seen<'a> = (usize, &'a Instance);

/// Each seen instance once, by id: sorted once and then walked, since maps of ten thousand names would be most of a
/// plan's cost.
pub(super) struct Looked<'a>(Vec<(&'a InstanceId, Seen<'a>)>);

impl<'a> Looked<'a> {
    pub(super) fn new(situation: &Situation<'a>) -> Self {
        let mut all: Vec<_> = situation.census.instances.iter().map(|seen| (&seen.id, (1, seen))).collect();
        all.sort_by_key(|(id, _)| *id);
        all.dedup_by(|(later, _), (first, (times, _))| {
            let same = later == first;
            *times += usize::from(same);
            same
        });
        Self(all)
    }

    pub(super) fn get(&self, id: &InstanceId) -> Option<&'a Instance> {
        let found = self.0.binary_search_by(|(other, _)| (*other).cmp(id)).ok()?;
        self.0.get(found).map(|(_, (_, instance))| *instance)
    }
}

/// Everything seen or remembered, in the order of ids.
fn known<'a>(
    situation: &Situation<'a>,
    looked: &Looked<'a>,
) -> impl Iterator<Item = (&'a InstanceId, (Option<Seen<'a>>, Option<&'a Member>))> {
    let mut seen = looked.0.iter().copied().peekable();
    let mut members = situation.history.members.iter().peekable();
    std::iter::from_fn(move || {
        let order = match (seen.peek(), members.peek()) {
            (Some((a, _)), Some((b, _))) => (*a).cmp(*b),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        let found = if order.is_le() { seen.next() } else { None };
        let member = if order.is_ge() { members.next() } else { None };
        let id = found.map(|(id, _)| id).or_else(|| member.map(|(id, _)| id))?;
        Some((id, (found.map(|(_, seen)| seen), member.map(|(_, member)| member))))
    })
}

/// Returns what each instance is, seen or remembered, in the order of ids.
pub(super) fn standings<'a>(situation: &Situation<'a>, looked: &Looked<'a>) -> Vec<Standing> {
    let Situation { target, now, .. } = *situation;
    let standing = |(id, (seen, member)): (&InstanceId, (Option<Seen<'_>>, Option<&Member>))| {
        let kind = match seen {
            None => absent(member, now),
            Some((1, instance)) => kind(situation, instance, member),
            // Two answers about one instance: neither is to be trusted.
            Some(_) => Kind::Unknown,
        };
        let seen = seen.map(|(_, instance)| instance);
        let generation = seen.and_then(|seen| seen.generation.as_ref()).map(|generation| generation.id);
        let generation = generation.or_else(|| member.and_then(|member| member.generation));
        let zone = seen.and_then(|seen| seen.zone.clone());
        Standing {
            id: id.clone(),
            kind,
            zone: zone.or_else(|| member.and_then(|member| member.zone.clone())),
            new: generation == Some(target.generation.id),
            launched_at: seen.map(|seen| seen.launched_at),
        }
    };
    known(situation, looked).map(standing).collect()
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

fn kind(situation: &Situation<'_>, seen: &Instance, member: Option<&Member>) -> Kind {
    let Situation { policy, history, now, .. } = *situation;
    let served = seen.in_service || member.is_some_and(|member| member.served);
    // Until it has completed once, an image is on trial: what served for a while and fell ill counts against it.
    let own = seen.generation.as_ref().map(|generation| generation.id);
    let proven = history.proven.as_ref().map(|proven| proven.generation.id);
    let trial = own == Some(situation.target.generation.id) && own != proven;
    let given_up = member.and_then(|member| member.failed.as_ref());
    // One that was given up and serves all the same, or may, is drained like any other before it is ended.
    let may_serve = seen.in_service && seen.health != Health::Unhealthy;
    if let Some(reason) = given_up.filter(|_| !may_serve && seen.state != State::Draining) {
        return Kind::Failed(reason.clone());
    }
    if seen.state == State::Dead {
        return match member {
            Some(member) if !member.launched && !served => Kind::Unfinished,
            Some(_) if !served => Kind::Failed("its machine ended before it served".to_owned()),
            Some(_) if trial => Kind::Failed("its machine ended after it had served".to_owned()),
            _ => Kind::Dead,
        };
    }
    // A drain that no answer confirmed, or after which it was given requests again, is decided anew while it serves.
    let drained = |member: &Member| member.draining.is_some() && (member.drained || !seen.in_service);
    if seen.state == State::Draining || member.is_some_and(drained) {
        return Kind::Draining;
    }
    let why = why(situation, seen, given_up);
    // What completed before may be launched to fill a gap while a wave of the new one soaks.
    let fills = proven.is_some() && own == proven;
    match (seen.health, why) {
        (Health::Unknown, _) => Kind::Unknown,
        (_, Some(why)) if !served && (!fills || why.urgency != Urgency::Differs) => Kind::Outdated,
        (Health::Unhealthy, _) if served && trial => {
            Kind::Failed("it served, and does not any more".to_owned())
        }
        (Health::Unhealthy, _) if served => Kind::Unhealthy,
        (Health::Unhealthy, _) if now.duration_since(seen.launched_at) >= policy.deadline => {
            Kind::Failed(format!("it did not serve within {:#}", policy.deadline))
        }
        (Health::Unhealthy, _) => Kind::Starting,
        (Health::Healthy, _) if !seen.in_service => Kind::Starting,
        (Health::Healthy, None) => Kind::Current,
        (Health::Healthy, Some(why)) => Kind::Stale(why),
    }
}

fn why(situation: &Situation<'_>, seen: &Instance, given_up: Option<&String>) -> Option<Why> {
    let Situation { policy, target, history, now, .. } = *situation;
    let mut found: Vec<(Urgency, String)> = Vec::new();
    match &seen.generation {
        Some(generation) if generation.id == target.generation.id => {}
        Some(generation) => {
            let parts = generation.drift(&target.generation);
            found.extend(parts.into_iter().map(|part| (Urgency::Differs, part)));
        }
        None => found.push((Urgency::Differs, "no record of its generation".to_owned())),
    }
    if let Some(most) = policy.max_age.filter(|most| now.duration_since(seen.launched_at) >= *most) {
        found.push((Urgency::TooOld, format!("older than {most:#}")));
    }
    found.extend(given_up.map(|reason| (Urgency::Failed, format!("failed ({reason})"))));
    found.extend(seen.touched.iter().map(|touched| (Urgency::Touched, format!("touched ({touched})"))));
    found
        .extend(history.rotate.get(&seen.id).map(|reason| (Urgency::Wanted, format!("rotation ({reason})"))));
    let urgency = found.iter().map(|(urgency, _)| *urgency).min()?;
    Some(Why { urgency, reasons: found.into_iter().map(|(_, reason)| reason).collect() })
}

/// What must be in the journal of each instance before the next act relies on it.
pub(super) fn notes<'a>(situation: &Situation<'a>, looked: &Looked<'a>, members: &[Standing]) -> Vec<Event> {
    let mut notes = Vec::new();
    // Both go through the same ids in the same order.
    for (Standing { id, kind, new, .. }, (_, (seen, member))) in members.iter().zip(known(situation, looked))
    {
        let seen = seen.map(|(_, instance)| instance);
        let instance = || id.clone();
        match kind {
            Kind::Failed(reason) if member.is_none_or(|member| member.failed.is_none()) => {
                notes.push(Event::Failed {
                    instance: instance(),
                    reason: reason.clone(),
                    console: Vec::new(),
                    counts: *new,
                });
            }
            // A time that is still to come is that of a clock that went back since: it is counted anew.
            Kind::Absent
                if member.is_some_and(|member| member.absent.is_none_or(|at| at > situation.now)) =>
            {
                notes.push(Event::Absent { instance: instance() });
            }
            _ if seen.is_some() && member.is_some_and(|member| member.absent.is_some()) => {
                notes.push(Event::Returned { instance: instance() });
            }
            _ if seen.is_some_and(Instance::serves) && member.is_none_or(|member| !member.served) => {
                notes.push(Event::Serving { instance: instance() });
            }
            _ => {}
        }
    }
    notes
}

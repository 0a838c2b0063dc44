//! Decide: what each instance is, and what must be remembered of it.

use std::cmp::Ordering;

use jiff::{SignedDuration, Timestamp};

use super::{Kind, Situation, Standing, Urgency, Why};
use crate::fleet::census::{Health, Instance, InstanceId, State};
use crate::fleet::history::{Event, Member};
use crate::fleet::policy::Policy;

/// How long an instance must stay unseen to count as gone. Absent once is not gone: a provider's list may be
/// older than the instance. Ten seconds are many looks, and short beside a boot.
pub(super) const GONE: SignedDuration = SignedDuration::from_secs(10);

/// How long a load balancer has to send requests to what was given some, before it is told again.
const ADMIT_AGAIN: SignedDuration = SignedDuration::from_secs(10);

fn just(at: Option<Timestamp>, now: Timestamp) -> bool {
    at.is_some_and(|at| now.duration_since(at).abs() < ADMIT_AGAIN)
}

/// Tells whether a load balancer was told so lately to send it requests that it need not be told again.
pub(super) fn just_admitted(member: Option<&Member>, now: Timestamp) -> bool {
    just(member.and_then(|member| member.admitted), now)
}

/// Tells whether giving it requests was begun so lately that it may serve although the list, which may be older, says
/// no; with or without an answer.
pub(super) fn may_begin(member: Option<&Member>, now: Timestamp) -> bool {
    just(member.and_then(|member| member.given), now)
}

/// One instance that was seen, is remembered, or both.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    id: &'a InstanceId,
    /// The last look at it; `None` when it was not seen.
    pub(super) seen: Option<&'a Instance>,
    /// Whether there is more than one answer about it.
    doubtful: bool,
    /// What is remembered of it.
    pub(super) member: Option<&'a Member>,
    /// Why someone wants it replaced.
    rotate: Option<&'a String>,
}

/// Returns everything seen or remembered, in the order of ids: three lists in one order are walked once, so that
/// nothing is searched for afterwards. Searching in maps of ten thousand names would be most of a plan's cost.
pub(super) fn known<'a>(situation: &Situation<'a>) -> Vec<Known<'a>> {
    let Situation { census, history, .. } = *situation;
    let mut seen: Vec<(&Instance, bool)> = census.instances.iter().map(|seen| (seen, false)).collect();
    // As good as free where the provider lists them in order, as most do.
    seen.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
    seen.dedup_by(|(later, _), (first, doubtful)| {
        let same = later.id == first.id;
        *doubtful |= same;
        same
    });
    let mut all = Vec::with_capacity(seen.len().max(history.members.len()));
    let mut seen = seen.into_iter().peekable();
    let mut members = history.members.iter().peekable();
    let mut rotate = history.rotate.iter().peekable();
    loop {
        let order = match (seen.peek(), members.peek()) {
            (None, None) => return all,
            (Some((seen, _)), Some((id, _))) => seen.id.cmp(id),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
        };
        let found = if order.is_le() { seen.next() } else { None };
        let member = if order.is_ge() { members.next() } else { None };
        let Some(id) = found.map(|(seen, _)| &seen.id).or(member.map(|(id, _)| id)) else { return all };
        while rotate.next_if(|(other, _)| *other < id).is_some() {}
        all.push(Known {
            id,
            seen: found.map(|(seen, _)| seen),
            doubtful: found.is_some_and(|(_, doubtful)| doubtful),
            member: member.map(|(_, member)| member),
            rotate: rotate.next_if(|(other, _)| *other == id).map(|(_, reason)| reason),
        });
    }
}

/// Returns what each instance is.
pub(super) fn standings(situation: &Situation<'_>, known: &[Known<'_>]) -> Vec<Standing> {
    let Situation { target, now, .. } = *situation;
    let standing = |known: &Known<'_>| {
        let Known { id, seen, doubtful, member, .. } = *known;
        let kind = match seen {
            None => absent(member, now),
            // Two answers about one instance: neither is to be trusted.
            Some(_) if doubtful => Kind::Unknown,
            Some(instance) => kind(situation, instance, known),
        };
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
    known.iter().map(standing).collect()
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

fn kind(situation: &Situation<'_>, seen: &Instance, known: &Known<'_>) -> Kind {
    let Situation { policy, history, now, .. } = *situation;
    if seen.id.is_coming() {
        return Kind::Starting;
    }
    let member = known.member;
    // One that holds data serves once it has all of it: a load balancer may send it requests before.
    let holds = policy.copies.is_none() || seen.has_all();
    // And whoever leads others is one to be replaced like any, whether requests reach it yet or not.
    let leads = policy.copies.is_some() && history.founded && seen.leads();
    let served = seen.in_service && holds || leads || member.is_some_and(|member| member.served);
    // Until it has completed once, an image is on trial: what served for a while and fell ill counts against it.
    let own = seen.generation.as_ref().map(|generation| generation.id);
    let proven = history.proven.as_ref().map(|proven| proven.generation.id);
    // What chaos killed says nothing about its image.
    let killed = history.killed(&seen.id);
    let trial = own == Some(situation.target.generation.id) && own != proven && !killed;
    let given_up = member.and_then(|member| member.failed.as_ref());
    // One that was given up and serves all the same, or may, is drained like any other before it is ended.
    // So is one that was drained, and was needed again: its requests may begin at any moment.
    let well = seen.health == Health::Healthy && seen.state != State::Dead;
    let may_begin = well && may_begin(member, now);
    let may_serve = may_begin || seen.in_service && seen.health != Health::Unhealthy;
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
    // A list that has it well may be older than its kill: nothing is drained on its account.
    if killed && seen.health != Health::Unhealthy && history.dying(&seen.id, now) {
        return Kind::Unknown;
    }
    // A drain that no answer confirmed, or after which it was given requests again, is decided anew while it serves.
    let drained = |member: &Member| member.draining.is_some() && (member.drained || !seen.in_service);
    // Nor is one done with draining that may be given requests at this moment.
    if (seen.state == State::Draining || member.is_some_and(drained)) && !may_begin {
        return Kind::Draining;
    }
    let why = why(situation, seen, known, given_up);
    // What completed before may be launched to fill a gap while a wave of the new one soaks.
    let fills = proven.is_some() && own == proven;
    match (seen.health, why) {
        (Health::Unknown, _) => Kind::Unknown,
        // What may serve by now is drained before it is ended; and it is no gap that a launch would have to cure.
        _ if !served && may_begin => Kind::Starting,
        (_, Some(why)) if !served && (!fills || why.urgency != Urgency::Differs) => Kind::Outdated,
        (Health::Unhealthy, _) if served && recovers(policy, known, now) => Kind::Unknown,
        (Health::Unhealthy, _) if served && trial => {
            Kind::Failed("it served, and does not any more".to_owned())
        }
        (Health::Unhealthy, _) if served => Kind::Unhealthy,
        (Health::Unhealthy, _) if now.duration_since(seen.launched_at) >= deadline(policy, known) => {
            Kind::Failed(format!("it did not serve within {:#}", deadline(policy, known)))
        }
        (Health::Unhealthy, _) => Kind::Starting,
        _ if !served && !holds && now.duration_since(seen.launched_at) >= deadline(policy, known) => {
            Kind::Failed(format!("it did not have all data within {:#}", deadline(policy, known)))
        }
        _ if !served && !holds => Kind::Starting,
        (Health::Healthy, _) if !seen.in_service => Kind::Starting,
        (Health::Healthy, None) => Kind::Current,
        (Health::Healthy, Some(why)) => Kind::Stale(why),
    }
}

/// Tells whether one that holds data, and is ill, may recover by itself: it has some time for that.
fn recovers(policy: &Policy, known: &Known<'_>, now: Timestamp) -> bool {
    let (Some(copies), Some(member)) = (&policy.copies, known.member) else { return false };
    // A time that is still to come is that of a clock that went back since.
    member.ill.is_none_or(|since| since > now || now.duration_since(since) < copies.recovery)
}

/// How long after its launch an instance may begin to serve. One that has said that it copies data has time for that too;
/// one that never said anything has none.
fn deadline(policy: &Policy, known: &Known<'_>) -> SignedDuration {
    let joined = known.member.is_some_and(|member| member.joined)
        || known.seen.is_some_and(|seen| seen.membership.is_some());
    let copies = policy.copies.as_ref().filter(|_| joined);
    policy.deadline.saturating_add(copies.map_or(SignedDuration::ZERO, |copies| copies.max_copy))
}

fn why(
    situation: &Situation<'_>,
    seen: &Instance,
    known: &Known<'_>,
    given_up: Option<&String>,
) -> Option<Why> {
    let Situation { policy, target, now, .. } = *situation;
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
    found.extend(known.rotate.map(|reason| (Urgency::Wanted, format!("rotation ({reason})"))));
    let urgency = found.iter().map(|(urgency, _)| *urgency).min()?;
    Some(Why { urgency, reasons: found.into_iter().map(|(_, reason)| reason).collect() })
}

/// What must be remembered of how well one is that holds data.
fn illness(
    situation: &Situation<'_>,
    id: &InstanceId,
    seen: Option<&Instance>,
    member: Option<&Member>,
) -> Option<Event> {
    situation.policy.copies.as_ref()?;
    let (seen, member) = (seen?, member?);
    let ill = member.ill.is_some_and(|since| since <= situation.now);
    let instance = || id.clone();
    match seen.health {
        Health::Healthy if member.ill.is_some() => Some(Event::Recovered { instance: instance() }),
        Health::Unhealthy if !ill && member.served && seen.state == State::Running => {
            Some(Event::Ill { instance: instance() })
        }
        _ => None,
    }
}

/// What must be in the journal of each instance before the next act relies on it.
pub(super) fn notes(situation: &Situation<'_>, known: &[Known<'_>], members: &[Standing]) -> Vec<Event> {
    let mut notes = Vec::new();
    for (Standing { id, kind, new, .. }, Known { seen, member, .. }) in members.iter().zip(known) {
        let instance = || id.clone();
        notes.extend(illness(situation, id, *seen, *member));
        let says = situation.policy.copies.is_some() && seen.is_some_and(|seen| seen.membership.is_some());
        if *kind == Kind::Starting && says && member.is_none_or(|member| !member.joined) {
            notes.push(Event::Joined { instance: instance() });
        }
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
            _ if seen.is_some_and(|seen| {
                seen.serves() && (situation.policy.copies.is_none() || seen.has_all())
            }) && member.is_none_or(|member| !member.served) =>
            {
                notes.push(Event::Serving { instance: instance() });
            }
            _ => {}
        }
    }
    notes
}

//! Decide: how many instances a fleet has whose size its owner changes at will, an autoscaler or a person.
//!
//! Rekiln only ever adds and takes away, one at a time, and its own share of the size is in the journal. What is left is the
//! owner's word. A list that is older than rekiln's last acts looks like another word; so it counts when it is seen for a
//! while, and nothing but what settles begun acts is done until then.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::room::Batch;
use super::{Hold, Situation};
use crate::fleet::census::{InstanceId, State};
use crate::fleet::history::{Event, Member};
use crate::fleet::policy::own_size;
use crate::provider::Action;

/// How long another size must be seen to count. Lists of AWS lag behind by seconds; an autoscaler waits for minutes between
/// two changes.
const SETTLED: SignedDuration = SignedDuration::from_secs(10);

/// What is not known of the size: acts that were begun, and whose answers nobody heard.
struct Doubts<'a> {
    /// Launches: each may have made the group larger.
    launches: BTreeSet<&'a InstanceId>,
    /// Ends: each may have made it smaller.
    ends: BTreeSet<&'a InstanceId>,
    /// How many launches are seen to have been made, and are not in the journal yet.
    found: i64,
    /// One whose end was begun, and that lives on for longer than a list may be old.
    spared: Option<&'a InstanceId>,
}

impl<'a> Doubts<'a> {
    fn of(situation: &Situation<'a>) -> Self {
        let Situation { census, history, now, .. } = *situation;
        let mut doubts = Self { launches: BTreeSet::new(), ends: BTreeSet::new(), found: 0, spared: None };
        let doubtful = |member: &Member| member.may_enlarge() || member.ending.is_some();
        if !history.members.values().any(doubtful) {
            return doubts;
        }
        let seen: BTreeSet<_> = census.instances.iter().map(|seen| &seen.id).collect();
        let living = census.instances.iter().filter(|seen| seen.state != State::Dead);
        let living: BTreeSet<_> = living.map(|seen| &seen.id).collect();
        for (id, member) in &history.members {
            if member.may_enlarge() && seen.contains(id) {
                doubts.found += 1;
            } else if member.may_enlarge() {
                doubts.launches.insert(id);
            }
            let lives_on = |at: Timestamp| living.contains(id) && now.duration_since(at).abs() >= SETTLED;
            match member.ending {
                Some(at) if lives_on(at) => doubts.spared = Some(id),
                Some(_) if !doubts.launches.contains(id) => drop(doubts.ends.insert(id)),
                _ => {}
            }
        }
        doubts
    }

    fn are_settled(&self) -> bool {
        self.launches.is_empty() && self.ends.is_empty()
    }
}

/// A size that is seen, and is not the one that is planned with.
struct Other {
    /// Which.
    size: u32,
    /// How many of those that rekiln added its owner took away with all of their own.
    lost: u32,
    /// Since when; `None` when that must be remembered first.
    since: Option<Timestamp>,
}

/// Returns the size that is seen where it is another one, whatever came of acts whose answers nobody heard.
fn other(situation: &Situation<'_>, doubts: &Doubts<'_>) -> Option<Other> {
    let Situation { census, history, now, .. } = *situation;
    let (group, known) = (census.group.as_ref()?, history.size?);
    let seen = own_size(group, history) - doubts.found;
    let count = |doubts: &BTreeSet<_>| i64::try_from(doubts.len()).unwrap_or(i64::MAX);
    let least = seen.saturating_sub(count(&doubts.launches));
    if (least..=seen.saturating_add(count(&doubts.ends))).contains(&i64::from(known)) {
        return None;
    }
    let size = u32::try_from(seen.max(0)).unwrap_or(u32::MAX);
    let lost = u32::try_from(seen.min(0).unsigned_abs()).unwrap_or(u32::MAX);
    // A time that is still to come is that of a clock that went back since.
    let since = history.other_size.filter(|(other, at)| *other == size && *at <= now).map(|(_, at)| at);
    Some(Other { size, lost, since })
}

/// What must be remembered of the size before anything else.
pub(super) fn note(situation: &Situation<'_>) -> Option<Event> {
    let Situation { census, history, now, .. } = *situation;
    let group = census.group.as_ref()?;
    let Some(known) = history.size else {
        let size = u32::try_from(own_size(group, history).max(0)).unwrap_or(u32::MAX);
        return Some(Event::Sized { size, lost: 0 });
    };
    let doubts = Doubts::of(situation);
    // Before it dies for another reason, and nobody can tell any more.
    if let Some(instance) = doubts.spared {
        return Some(Event::Spared { instance: instance.clone() });
    }
    match other(situation, &doubts) {
        None if history.other_size.is_some() => Some(Event::Sized { size: known, lost: 0 }),
        None => None,
        Some(Other { size, since: None, .. }) => Some(Event::SizeDiffers { size }),
        Some(Other { size, lost, since: Some(since) }) => {
            let counts = doubts.are_settled() && now.duration_since(since) >= SETTLED;
            counts.then_some(Event::Sized { size, lost })
        }
    }
}

impl Batch<'_> {
    /// While another size is seen that does not count yet, does only what settles acts that were begun. While fewer are
    /// seen because an end may have taken one away, and may not, nothing is launched in its place: it may be the owner's
    /// word.
    pub(super) fn wait_for_size(&mut self) {
        let Situation { census, history, now, .. } = *self.situation;
        let doubts = Doubts::of(self.situation);
        let settles = |action: &Action| match action {
            Action::Launch { id, .. } => doubts.launches.contains(id),
            Action::Terminate { id, .. } => doubts.launches.contains(id) || doubts.ends.contains(id),
            Action::Admit { .. }
            | Action::Drain { .. }
            | Action::HandOver { .. }
            | Action::Deregister { .. } => false,
        };
        if let Some(Other { size, since, .. }) = other(self.situation, &doubts) {
            self.actions.retain(settles);
            let until = since.unwrap_or(now) + SETTLED;
            self.holds.push(Hold::Resizing { from: history.size.unwrap_or(size), to: size, until });
            return;
        }
        let (Some(group), Some(known)) = (&census.group, history.size) else { return };
        let seen = own_size(group, history) - doubts.found;
        if doubts.ends.is_empty() || seen >= i64::from(known) {
            return;
        }
        let before = self.actions.len();
        self.actions.retain(|action| !matches!(action, Action::Launch { .. }) || settles(action));
        if self.actions.len() < before {
            let to = u32::try_from(seen.max(0)).unwrap_or(u32::MAX);
            self.holds.push(Hold::Resizing { from: known, to, until: now + SETTLED });
        }
    }
}

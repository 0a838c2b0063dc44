//! Decide: how many instances a fleet has whose size its owner changes at will, an autoscaler or a person.
//!
//! Rekiln only ever adds and takes away, one at a time, and its own share of the size is in the journal. What is left is the
//! owner's word. A list that is older than rekiln's last acts looks like another word; so it counts when it is seen for a
//! while, and nothing but what settles begun acts is done until then.

use jiff::{SignedDuration, Timestamp};

use super::room::Batch;
use super::{Hold, Situation};
use crate::fleet::history::{Event, Member};
use crate::fleet::policy::own_size;
use crate::provider::Action;

/// How long another size must be seen to count. Lists of AWS lag behind by seconds; an autoscaler waits for minutes between
/// two changes.
const SETTLED: SignedDuration = SignedDuration::from_secs(10);

/// Its end was begun, and its size may be taken away or not.
const fn may_take_away(member: &Member) -> bool {
    member.ending && !member.may_enlarge()
}

/// A size that is seen, and is not the one that is planned with.
struct Other {
    /// Which.
    size: u32,
    /// Since when; `None` when that must be remembered first.
    since: Option<Timestamp>,
}

/// Returns the size that is seen where it is another one, whatever came of acts whose answers nobody heard.
fn other(situation: &Situation<'_>) -> Option<Other> {
    let Situation { census, history, now, .. } = *situation;
    let (seen, known) = (own_size(census.group.as_ref()?, history), history.size?);
    let count = |is: fn(&Member) -> bool| history.members.values().filter(|member| is(member)).count();
    let more = u32::try_from(count(Member::may_enlarge)).unwrap_or(u32::MAX);
    let fewer = u32::try_from(count(may_take_away)).unwrap_or(u32::MAX);
    if (seen.saturating_sub(more)..=seen.saturating_add(fewer)).contains(&known) {
        return None;
    }
    // A time that is still to come is that of a clock that went back since.
    let since = history.other_size.filter(|(size, at)| *size == seen && *at <= now).map(|(_, at)| at);
    Some(Other { size: seen, since })
}

/// What must be remembered of the size before anything else.
pub(super) fn note(situation: &Situation<'_>) -> Option<Event> {
    let Situation { census, history, now, .. } = *situation;
    let group = census.group.as_ref()?;
    let Some(known) = history.size else { return Some(Event::Sized { size: own_size(group, history) }) };
    match other(situation) {
        None if history.other_size.is_some() => Some(Event::Sized { size: known }),
        None => None,
        Some(Other { size, since: None }) => Some(Event::SizeDiffers { size }),
        Some(Other { size, since: Some(since) }) => {
            let settles = |member: &Member| member.may_enlarge() || may_take_away(member);
            let settled = history.members.values().all(|member| !settles(member));
            (settled && now.duration_since(since) >= SETTLED).then_some(Event::Sized { size })
        }
    }
}

impl Batch<'_> {
    /// While another size is seen that does not count yet, does only what settles acts that were begun.
    pub(super) fn wait_for_size(&mut self) {
        let Situation { history, now, .. } = *self.situation;
        let Some(Other { size, since }) = other(self.situation) else { return };
        let settles = |action: &Action| {
            let member = history.members.get(action.id());
            member.is_some_and(|member| match action {
                Action::Launch { .. } => member.may_enlarge(),
                Action::Terminate { .. } => member.may_enlarge() || may_take_away(member),
                Action::Admit { .. } | Action::Drain { .. } => false,
            })
        };
        self.actions.retain(settles);
        let until = since.unwrap_or(now) + SETTLED;
        self.holds.push(Hold::Resizing { from: history.size.unwrap_or(size), to: size, until });
    }
}

//! Decide: what is remembered of an instance that chaos killed.

use jiff::{SignedDuration, Timestamp};

use serde::Serialize;

use super::History;
use crate::fleet::census::InstanceId;
use crate::fleet::moment::lasting;
use crate::provider::Outcome;

/// How long a killed instance may still be listed as if nothing had happened. Lists of AWS lag behind by seconds, and a kill
/// that was begun is done or refused within seconds; a minute is beyond all that was reported.
const LISTED: SignedDuration = SignedDuration::from_mins(1);

/// An instance that chaos killed, or was about to when nobody heard of it any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kill {
    /// Which.
    pub instance: InstanceId,
    /// When it was begun.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
    /// When chaos killed one before that.
    #[serde(skip)]
    before: Option<Timestamp>,
}

impl Kill {
    /// Says it to who reads at `now`.
    #[must_use]
    pub fn told(&self, now: Timestamp) -> String {
        let Self { instance, at, reason, .. } = self;
        let ago = lasting(now.duration_since(*at));
        format!("chaos killed {instance} {ago} ago ({reason}); it is not replaced yet")
    }
}

impl History {
    /// From its intent on, a kill counts as done: whoever plans now must not rely on the instance. It was seen to serve.
    pub(super) fn strike(&mut self, at: Timestamp, instance: &InstanceId, reason: &str) {
        let before = self.chaos.replace(at);
        self.kill = Some(Kill { instance: instance.clone(), at, reason: reason.to_owned(), before });
        let member = self.members.entry(instance.clone()).or_default();
        (member.launched, member.served) = (true, true);
    }

    /// What was refused was not done. All else was, or may have been.
    pub(super) fn struck(&mut self, instance: &InstanceId, result: &Result<Outcome, String>) {
        if !matches!(result, Ok(Outcome::Refused { .. } | Outcome::Throttled { .. })) {
            return;
        }
        if let Some(kill) = self.kill.take_if(|kill| kill.instance == *instance) {
            self.chaos = kill.before;
        }
    }

    /// A rollout completed: all that is there serves, and what was to be killed was not.
    pub(super) fn spare(&mut self) {
        let members = &self.members;
        self.kill.take_if(|kill| members.contains_key(&kill.instance));
    }

    /// Tells whether chaos killed an instance: its end says nothing against what it was launched from.
    #[must_use]
    pub fn killed(&self, id: &InstanceId) -> bool {
        self.kill.as_ref().is_some_and(|kill| kill.instance == *id)
    }

    /// Tells whether chaos killed an instance so lately that a list which has it serving may be older than that: it must not
    /// be counted on.
    #[must_use]
    pub fn dying(&self, id: &InstanceId, now: Timestamp) -> bool {
        let kill = self.kill.as_ref().filter(|kill| kill.instance == *id);
        kill.is_some_and(|kill| now.duration_since(kill.at) < LISTED)
    }

    /// Returns the kill whose instance is not known to be gone. `serves` tells whether one is seen to serve now: what does so
    /// long after its kill was begun was never killed, since the process that was to do it died.
    #[must_use]
    pub fn uncured(&self, now: Timestamp, serves: impl Fn(&InstanceId) -> bool) -> Option<&Kill> {
        let kill = self.kill.as_ref().filter(|kill| self.members.contains_key(&kill.instance))?;
        let spared = !self.dying(&kill.instance, now) && serves(&kill.instance);
        (!spared).then_some(kill)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::history::Event;
    use crate::provider::Action;

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
    }

    fn id(number: u64) -> InstanceId {
        InstanceId::new("web", number)
    }

    fn chaos(number: u64) -> Event {
        Event::Chaos { instance: id(number), reason: "a test".to_owned(), others: 2 }
    }

    #[test]
    fn a_kill_counts_from_its_intent_until_its_instance_is_known_to_be_gone() {
        let mut history = History::default();
        history.add(at(0), &chaos(1));
        assert!(history.killed(&id(1)) && !history.killed(&id(2)));
        assert!(history.dying(&id(1), at(59)) && !history.dying(&id(1), at(60)));
        assert!(history.uncured(at(59), |_| true).is_some());
        // Whoever was to do it died, and it lives on.
        assert!(history.uncured(at(60), |_| true).is_none());
        assert!(history.uncured(at(60), |_| false).is_some());
        history.add(at(1), &Event::Killed { instance: id(1), result: Ok(Outcome::Applied) });
        let action = Action::Terminate { id: id(1), healthy: false, reason: String::new() };
        history.add(at(5), &Event::Outcome { action, result: Ok(Outcome::Applied) });
        assert!(history.uncured(at(5), |_| false).is_none());
        assert!(history.killed(&id(1)));
        assert_eq!(history.chaos, Some(at(0)));
    }

    #[test]
    fn what_lives_when_a_rollout_completes_was_never_killed() {
        let mut history = History::default();
        history.add(at(0), &chaos(1));
        history.add(at(100), &Event::Completed);
        assert!(!history.killed(&id(1)) && history.uncured(at(100), |_| false).is_none());
        assert_eq!(history.chaos, Some(at(0)));
    }

    #[test]
    fn what_was_refused_was_not_done() {
        let mut history = History::default();
        history.add(at(0), &chaos(1));
        history.add(at(100), &chaos(2));
        history
            .add(at(101), &Event::Killed { instance: id(2), result: Ok(Outcome::refused("too few others")) });
        assert!(!history.killed(&id(2)) && history.kill.is_none());
        assert_eq!(history.chaos, Some(at(0)));
        // What nobody can tell may have been done.
        history.add(at(200), &chaos(3));
        history.add(at(201), &Event::Killed { instance: id(3), result: Err("no answer".to_owned()) });
        assert!(history.killed(&id(3)));
        assert_eq!(history.chaos, Some(at(200)));
    }
}

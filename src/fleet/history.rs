//! Decide: what a fleet's journal adds up to.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::census::InstanceId;
use super::generation::Target;
use crate::digest::Digest;
use crate::provider::{Action, Outcome};

/// One thing that a journal says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// A roll began.
    Opened {
        /// Where it goes.
        target: Target,
        /// Why.
        reason: String,
    },
    /// This will be done next.
    Intent {
        /// What.
        action: Action,
    },
    /// This came of it.
    Outcome {
        /// What was tried.
        action: Action,
        /// What came of it; `Err` has the provider's words.
        result: Result<Outcome, String>,
    },
    /// An instance served for the first time.
    Serving {
        /// Which.
        instance: InstanceId,
    },
    /// An instance that never served is given up.
    Failed {
        /// Which.
        instance: InstanceId,
        /// Why.
        reason: String,
        /// The end of its console.
        console: Vec<String>,
    },
    /// An instance is no longer seen.
    Absent {
        /// Which.
        instance: InstanceId,
    },
    /// An absent instance is seen again.
    Returned {
        /// Which.
        instance: InstanceId,
    },
    /// Someone wants these replaced although nothing changed.
    Rotate {
        /// Which.
        instances: Vec<InstanceId>,
        /// Why.
        reason: String,
    },
    /// The failure budget is spent.
    Halted {
        /// Why.
        reason: String,
    },
    /// The roll stopped before its end, between two acts, and left things as they are.
    Stopped {
        /// Why.
        reason: String,
    },
    /// Every instance is what it should be.
    Completed,
    /// The fleet is about to be ended.
    Ending,
    /// The fleet was ended.
    Down,
}

/// What is remembered of one instance between its launch and its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// Whether the outcome of its launch is known.
    pub launched: bool,
    /// The generation it was launched with.
    pub generation: Option<Digest>,
    /// Since when it drains.
    pub draining: Option<Timestamp>,
    /// Whether it has ever served.
    pub served: bool,
    /// Why it was given up.
    pub failed: Option<String>,
    /// Since when it is not seen.
    pub absent: Option<Timestamp>,
}

/// The fold of a journal. Equal journals give equal histories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// The highest launch number ever used.
    pub launches: u64,
    /// Everything launched, or about to be, and not ended.
    pub members: BTreeMap<InstanceId, Member>,
    /// Instances someone wants replaced, and why.
    pub rotate: BTreeMap<InstanceId, String>,
    /// Failed instances that count against the budget of the current rollout.
    pub failures: BTreeSet<InstanceId>,
    /// The generation of the current or last rollout.
    pub generation: Option<Digest>,
    /// Why the current rollout ended early.
    pub halted: Option<String>,
    /// Whether the last rollout reached its end.
    pub completed: bool,
}

impl History {
    /// Folds events, oldest first.
    #[must_use]
    pub fn of<'a>(events: impl IntoIterator<Item = (Timestamp, &'a Event)>) -> Self {
        let mut history = Self::default();
        for (at, event) in events {
            history.add(at, event);
        }
        history
    }

    /// Adds the next event.
    ///
    /// The failure budget is that of one rollout: a run that follows a crash goes on counting; a new target, or
    /// a person who rolls again after a halt or an end, starts afresh.
    pub fn add(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::Opened { target, .. } => {
                if self.generation != Some(target.generation.id) || self.halted.is_some() || self.completed {
                    self.failures.clear();
                }
                self.generation = Some(target.generation.id);
                self.halted = None;
                self.completed = false;
            }
            Event::Intent { action } => self.intend(at, action),
            Event::Outcome { action, result: Ok(outcome) } => self.conclude(action, outcome),
            Event::Outcome { result: Err(_), .. } | Event::Stopped { .. } | Event::Ending => {}
            Event::Serving { instance } => self.members.entry(instance.clone()).or_default().served = true,
            Event::Failed { instance, reason, .. } => {
                self.failures.insert(instance.clone());
                self.members.entry(instance.clone()).or_default().failed = Some(reason.clone());
            }
            Event::Absent { instance } => {
                self.members.entry(instance.clone()).or_default().absent = Some(at);
            }
            Event::Returned { instance } => self.members.entry(instance.clone()).or_default().absent = None,
            Event::Rotate { instances, reason } => {
                self.rotate.extend(instances.iter().map(|id| (id.clone(), reason.clone())));
                self.completed = false;
            }
            Event::Halted { reason } => self.halted = Some(reason.clone()),
            Event::Completed => self.completed = true,
            Event::Down => {
                *self = Self { launches: self.launches, ..Self::default() };
            }
        }
    }

    fn intend(&mut self, at: Timestamp, action: &Action) {
        match action {
            Action::Launch { id, generation } => {
                self.launches = self.launches.max(id.number());
                let member = self.members.entry(id.clone()).or_default();
                member.generation = Some(generation.id);
            }
            Action::Drain { id, .. } => {
                self.members.entry(id.clone()).or_default().draining.get_or_insert(at);
            }
            Action::Admit { id, .. } | Action::Terminate { id, .. } => {
                self.members.entry(id.clone()).or_default();
            }
        }
    }

    fn conclude(&mut self, action: &Action, outcome: &Outcome) {
        let id = action.id();
        if let Outcome::Refused { .. } = outcome {
            if matches!(action, Action::Drain { .. })
                && let Some(member) = self.members.get_mut(id)
            {
                member.draining = None;
            }
            return;
        }
        match action {
            Action::Launch { .. } => self.members.entry(id.clone()).or_default().launched = true,
            Action::Admit { .. } => self.members.entry(id.clone()).or_default().draining = None,
            Action::Drain { .. } => {}
            Action::Terminate { .. } => {
                self.members.remove(id);
                self.rotate.remove(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::generation::Generation;

    const AT: Timestamp = Timestamp::UNIX_EPOCH;

    fn id(number: u64) -> InstanceId {
        InstanceId::new("web", number)
    }

    fn opened(name: &str) -> Event {
        let (image, parts) = (Digest::of(name.as_bytes()), BTreeMap::new());
        let target = Target { image, generation: Generation { id: image, parts }, refused: None };
        Event::Opened { target, reason: "a test".to_owned() }
    }

    fn launch(number: u64) -> Action {
        Action::Launch {
            id: id(number),
            generation: Generation { id: Digest::of(b"one"), parts: BTreeMap::new() },
        }
    }

    fn intent(action: Action) -> Event {
        Event::Intent { action }
    }

    fn outcome(action: Action, outcome: Outcome) -> Event {
        Event::Outcome { action, result: Ok(outcome) }
    }

    fn failed(number: u64) -> Event {
        Event::Failed { instance: id(number), reason: "a test".to_owned(), console: Vec::new() }
    }

    fn terminate(number: u64) -> Action {
        Action::Terminate { id: id(number), healthy: false, reason: "a test".to_owned() }
    }

    fn fold(events: &[Event]) -> History {
        History::of(events.iter().map(|event| (AT, event)))
    }

    #[test]
    fn a_launch_is_known_from_its_intent_and_its_number_is_never_used_again() {
        let begun = fold(&[opened("one"), intent(launch(7))]);
        assert_eq!((begun.launches, begun.members[&id(7)].launched), (7, false));
        let over = fold(&[
            intent(launch(7)),
            outcome(launch(7), Outcome::Applied),
            intent(terminate(7)),
            outcome(terminate(7), Outcome::Applied),
            Event::Down,
        ]);
        assert_eq!(over, History { launches: 7, ..History::default() });
    }

    #[test]
    fn an_act_without_an_answer_is_remembered_and_a_refused_one_is_not() {
        let drain = Action::Drain { id: id(1), others: 3 };
        let lost = Event::Outcome { action: drain.clone(), result: Err("no answer".to_owned()) };
        let unclear = fold(&[intent(drain.clone()), lost]);
        assert_eq!(unclear.members[&id(1)].draining, Some(AT));
        let refused = fold(&[intent(drain.clone()), outcome(drain.clone(), Outcome::refused("too few"))]);
        assert_eq!(refused.members[&id(1)].draining, None);
        let admit = Action::Admit { id: id(1) };
        let back = fold(&[intent(drain), intent(admit.clone()), outcome(admit, Outcome::Applied)]);
        assert_eq!(back.members[&id(1)].draining, None);
        let ending = fold(&[intent(terminate(1)), outcome(terminate(1), Outcome::refused("it serves"))]);
        assert!(ending.members.contains_key(&id(1)));
    }

    #[test]
    fn the_failure_budget_is_that_of_one_rollout() {
        let table = [
            ("a crash goes on counting", vec![opened("one"), failed(1), opened("one")], 1),
            ("a new target starts afresh", vec![opened("one"), failed(1), opened("two")], 0),
            (
                "its failed instance ended",
                vec![opened("one"), failed(1), intent(terminate(1)), outcome(terminate(1), Outcome::Applied)],
                1,
            ),
            (
                "a person after a halt",
                vec![opened("one"), failed(1), Event::Halted { reason: String::new() }, opened("one")],
                0,
            ),
            ("a person after the end", vec![opened("one"), failed(1), Event::Completed, opened("one")], 0),
            (
                "a stop is no end",
                vec![opened("one"), failed(1), Event::Stopped { reason: String::new() }, opened("one")],
                1,
            ),
        ];
        for (why, events, wanted) in table {
            assert_eq!(fold(&events).failures.len(), wanted, "{why}");
        }
    }

    #[test]
    fn a_wish_lasts_until_its_instance_ended() {
        let wish = Event::Rotate { instances: vec![id(1), id(2)], reason: "leaked key".to_owned() };
        let half = fold(&[wish, intent(terminate(1)), outcome(terminate(1), Outcome::AlreadyDone)]);
        assert_eq!(half.rotate, BTreeMap::from([(id(2), "leaked key".to_owned())]));
    }
}

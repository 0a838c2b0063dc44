//! Decide: what a second terminal may say to a rollout, given what its journal adds up to.

use std::fmt;

use super::generation::Target;
use super::history::{Event, History};

/// Why a command is not written to the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objection {
    /// It is so already; saying it again would say nothing.
    AlreadySo(String),
    /// It has no meaning now.
    Refused {
        /// Why.
        why: String,
        /// What would have one.
        next: Next,
    },
}

/// What a person may want instead of a command that has no meaning now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// To begin a rollout.
    Roll,
    /// To begin a rollout to what was proven before.
    RollBack,
    /// To end the rollout and leave everything as it is.
    Cancel,
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadySo(why) | Self::Refused { why, .. } => f.write_str(why),
        }
    }
}

/// Says why `event` must not be written; `None` when it may be. Only commands are asked about.
///
/// Pausing does not need a rollout: it also keeps the next one from beginning. Ending or turning a rollout needs one
/// that has begun and not ended, whether a process works at it or none does any more.
#[must_use]
pub fn objection(history: &History, event: &Event) -> Option<Objection> {
    match event {
        Event::Paused { .. } => {
            history.paused.as_ref().map(|reason| already(format!("is paused already: {reason}")))
        }
        Event::Resumed => history.paused.is_none().then(|| already("is not paused")),
        Event::Cancelled { back, .. } => cancel(history, *back),
        Event::Retargeted { target, .. } => retarget(history, target),
        _ => None,
    }
}

fn already(why: impl Into<String>) -> Objection {
    Objection::AlreadySo(why.into())
}

fn refused(why: impl Into<String>, next: Next) -> Objection {
    Objection::Refused { why: why.into(), next }
}

fn cancel(history: &History, back: bool) -> Option<Objection> {
    if let Some(reason) = &history.cancelled {
        return Some(already(format!("was cancelled already: {reason}")));
    }
    if let Some(objection) = over(history, Next::RollBack) {
        return Some(objection);
    }
    if !back {
        return None;
    }
    if let Some(retreat) = &history.retreat {
        return Some(already(format!("goes back already: {}", retreat.reason)));
    }
    match &history.proven {
        None => Some(refused("has never completed a rollout: there is nothing to go back to", Next::Cancel)),
        Some(proven) if Some(proven.generation.id) == history.generation() => Some(refused(
            format!("is being rolled to {}, which completed last: there is no back", proven.image.short()),
            Next::Cancel,
        )),
        Some(_) => None,
    }
}

fn retarget(history: &History, target: &Target) -> Option<Objection> {
    over(history, Next::Roll).or_else(|| {
        let same = history.generation() == Some(target.generation.id);
        (same && history.retreat.is_none())
            .then(|| already(format!("goes to {} already", target.image.short())))
    })
}

/// Objects when no rollout has begun, or the last one has ended; `next` is what to do then.
#[must_use]
pub fn over(history: &History, next: Next) -> Option<Objection> {
    if history.target.is_none() {
        return Some(refused("does not roll: nothing was ever rolled", Next::Roll));
    }
    if history.completed {
        return Some(refused("does not roll: its last rollout completed", next));
    }
    if let Some(reason) = &history.cancelled {
        return Some(refused(format!("does not roll: its last rollout was cancelled: {reason}"), next));
    }
    let reason = history.halted.as_ref()?;
    Some(refused(format!("does not roll: its last rollout halted: {reason}"), next))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::digest::Digest;
    use crate::fleet::Fleet;

    fn target(image: &str) -> Target {
        let text = "image = 'web'\nsize = 1\n[local]\nlisten = '127.0.0.1:1'\nport = 80\n\
                    [health]\nhttp = { port = 80, path = '/' }\n";
        let fleet: Fleet = toml::from_str(text).expect("a fleet file");
        Target::new(&fleet, Digest::of(image.as_bytes()))
    }

    fn opened(image: &str) -> Event {
        Event::Opened {
            target: target(image),
            reason: String::new(),
            emergency: false,
            fleet: None,
            commit: None,
        }
    }

    fn why() -> String {
        "why".to_owned()
    }

    fn cancelled(back: bool) -> Event {
        Event::Cancelled { back, reason: why() }
    }

    fn retargeted(image: &str) -> Event {
        Event::Retargeted { target: target(image), reason: why() }
    }

    #[test]
    fn what_may_be_said_when() {
        let paused = || Event::Paused { reason: why() };
        let halted = || Event::Halted { reason: why() };
        let failed = || Event::RolledBack { target: target("a"), reason: why() };
        let one = || vec![opened("a"), Event::Completed];
        let two = || vec![opened("a"), Event::Completed, opened("b")];
        let and = |mut events: Vec<Event>, event| {
            events.push(event);
            events
        };
        let so = "so";
        let no = Some;
        let table = [
            // Pausing does not need a rollout.
            (vec![], paused(), None),
            (two(), paused(), None),
            (vec![paused()], paused(), no((so, "is paused already: why"))),
            (vec![], Event::Resumed, no((so, "is not paused"))),
            (vec![paused()], Event::Resumed, None),
            (vec![paused(), Event::Resumed], Event::Resumed, no((so, "is not paused"))),
            // Ending a rollout does.
            (vec![], cancelled(false), no(("roll", "nothing was ever rolled"))),
            (one(), cancelled(false), no(("back", "its last rollout completed"))),
            (two(), cancelled(false), None),
            (and(two(), paused()), cancelled(false), None),
            (and(two(), Event::Stopped { reason: why() }), cancelled(false), None),
            (and(two(), halted()), cancelled(true), no(("back", "its last rollout halted: why"))),
            (and(two(), cancelled(false)), cancelled(false), no((so, "was cancelled already: why"))),
            // Going back needs somewhere to go.
            (two(), cancelled(true), None),
            (vec![opened("a")], cancelled(false), None),
            (vec![opened("a")], cancelled(true), no(("cancel", "nothing to go back to"))),
            (and(one(), opened("a")), cancelled(true), no(("cancel", "there is no back"))),
            (and(two(), failed()), cancelled(true), no((so, "goes back already: why"))),
            (and(two(), failed()), cancelled(false), None),
            // Another target needs a rollout that goes elsewhere.
            (vec![], retargeted("c"), no(("roll", "nothing was ever rolled"))),
            (one(), retargeted("c"), no(("roll", "its last rollout completed"))),
            (and(two(), halted()), retargeted("c"), no(("roll", "halted"))),
            (and(two(), cancelled(false)), retargeted("c"), no(("roll", "was cancelled: why"))),
            (two(), retargeted("c"), None),
            (two(), retargeted("a"), None),
            (two(), retargeted("b"), no((so, "goes to "))),
            (and(two(), failed()), retargeted("b"), None),
            (and(two(), failed()), retargeted("a"), None),
        ];
        for (events, event, wanted) in table {
            let history = History::of(events.iter().map(|event| (Timestamp::UNIX_EPOCH, event)));
            let found = objection(&history, &event);
            let next = found.as_ref().map(|objection| match objection {
                Objection::AlreadySo(_) => "so",
                Objection::Refused { next: Next::Roll, .. } => "roll",
                Objection::Refused { next: Next::RollBack, .. } => "back",
                Objection::Refused { next: Next::Cancel, .. } => "cancel",
            });
            assert_eq!(next, wanted.map(|(next, _)| next), "{events:?} {event:?}: {found:?}");
            let (said, part) = (found.map(|found| found.to_string()), wanted.map(|(_, part)| part));
            assert!(said.unwrap_or_default().contains(part.unwrap_or_default()), "{events:?} {event:?}");
        }
    }
}

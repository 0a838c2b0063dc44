//! Tells a person what happens.

use rekiln::fleet::history::Event;
use rekiln::fleet::journal::Entry;

use super::process::Request;
use super::scene::Step;
use super::state::State;

impl State {
    /// Says what a step is, for a person.
    pub fn describe(&self, step: Step) -> String {
        let who = |at: usize| format!("roller {}", self.rollers[at].process.who);
        let asks = |at: usize| match &self.rollers[at].process.pending {
            Request::Read(number) => format!("looks for entry {number}"),
            Request::Write(number, bytes) => match serde_json::from_slice::<Entry>(bytes) {
                Ok(entry) => format!("writes entry {number}: {}", words(&entry.event)),
                Err(error) => format!("writes entry {number}: {error}"),
            },
            Request::Look => "looks".to_owned(),
            Request::Act(action) => format!("acts: {action}"),
            Request::Wait => "waits".to_owned(),
            Request::Condemn(target) => format!("condemns {}", target.image.short()),
        };
        let world = || {
            let one = |found: &rekiln::fleet::census::Instance| {
                let image = found.image.map_or_else(String::new, |image| image.short());
                let serves = if found.serves() { "serves" } else { "" };
                format!("{} {image} {:?} {:?} {serves}", found.id, found.state, found.health)
            };
            self.sim.truth().iter().map(one).collect::<Vec<_>>().join(", ")
        };
        match step {
            Step::Go(at) if self.rollers[at].process.pending == Request::Look => {
                format!("{} looks: {}", who(at), world())
            }
            Step::Go(at) => format!("{} {}", who(at), asks(at)),
            Step::Slow(at) => format!("{} {} (slow)", who(at), asks(at)),
            Step::Wrong(at, fault) => format!("{} {}: {fault:?}", who(at), asks(at)),
            Step::Crash(at) => format!("{} crashes where it {}", who(at), asks(at)),
            Step::Stall => "no process runs for longer than a lease".to_owned(),
            Step::Start => "someone goes on with what was begun".to_owned(),
            Step::Again => "someone rolls again".to_owned(),
            Step::Rival => "a second process begins".to_owned(),
            Step::Emergency => "a second process begins, in an emergency".to_owned(),
            Step::Say(what) => format!("a second terminal says: {what:?}"),
            Step::Resume => "a second terminal says: Resume".to_owned(),
            Step::Tick => format!("10 s pass: {}", world()),
            Step::Harm(at, harm) => format!("{harm:?} {}", self.sim.ids()[at]),
        }
    }
}

fn words(event: &Event) -> String {
    match event {
        Event::Seen { .. } => "seen".to_owned(),
        Event::Opened { target, emergency, .. } => {
            format!("opened {}{}", target.image.short(), if *emergency { " in an emergency" } else { "" })
        }
        Event::Intent { action } => format!("intends {action}"),
        Event::Outcome { action, result } => format!("{action}: {result:?}"),
        Event::RolledBack { target, reason } => format!("rolls back to {}: {reason}", target.image.short()),
        other => format!("{other:?}"),
    }
}

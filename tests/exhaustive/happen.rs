//! Lets one step happen to a state.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use rekiln::fleet::census::Census;
use rekiln::fleet::generation::Target;
use rekiln::fleet::history::Event;
use rekiln::fleet::journal::Entry;
use rekiln::provider::sim::{Faults, Times};
use rekiln::provider::{Action, Outcome, Provider as _};

use super::process::{End, Memory, Process, Request, Told, begin, command, read_on, writer};
use super::scene::{Budget, Fault, Harm, Scene, Step, Word};
use super::state::{Roller, State};
use crate::simulation::harness::now_or_never;

/// One step of time, as `Sim::wait` passes it: all durations of the fleets here are multiples of it.
const TICK: SignedDuration = SignedDuration::from_secs(10);
/// The wait of which `Sim` makes a tick.
const WAIT: Duration = Duration::from_secs(2);
/// So many ticks are longer than any lease.
const STALL: u32 = 13;

/// What was reached, for the counters.
pub type Reached = Vec<&'static str>;

impl State {
    /// Lets a step happen. Returns what comes of it and what was reached by it.
    ///
    /// # Errors
    /// What must not have happened.
    pub fn step(&self, scene: &Scene, step: Step) -> Result<(Self, Reached), String> {
        let mut next = self.clone();
        let mut reached = Reached::new();
        next.happen(scene, step, &mut reached)?;
        next.finish_losers(scene, &mut reached)?;
        match next.sim.violations().first() {
            Some(broken) => Err(broken.clone()),
            None => Ok((next, reached)),
        }
    }

    fn happen(&mut self, scene: &Scene, step: Step, reached: &mut Reached) -> Result<(), String> {
        match step {
            Step::Go(at) => self.go(scene, at, None, false, reached)?,
            Step::Slow(at) => self.go(scene, at, None, true, reached)?,
            Step::Wrong(at, fault) => {
                self.budget.fault -= 1;
                self.go(scene, at, Some(fault), false, reached)?;
            }
            Step::Crash(at) => {
                self.budget.crash -= 1;
                let roller = self.rollers.remove(at);
                reached.push(match (&roller.process.pending, &roller.intent) {
                    (Request::Act(_), _) => "crash between intent and act",
                    (Request::Write(..), Some(_)) => "crash between act and outcome",
                    (Request::Write(..), None) => "crash before a note or an intent",
                    _ => "crash at a look or a wait",
                });
            }
            Step::Tick => self.tick(scene, reached)?,
            Step::Stall => {
                self.budget.stall -= 1;
                self.stall();
                reached.push("stalled for longer than a lease");
            }
            Step::Start => {
                // Whoever is called goes on with what was begun.
                if scene.host.is_some() {
                    self.stall();
                }
                let target = self.history.target.clone().unwrap_or_else(|| scene.goal.clone());
                self.start(scene, &target, false, reached)?;
            }
            Step::Again => {
                self.budget.again -= 1;
                self.start(scene, &scene.goal, false, reached)?;
            }
            Step::Rival => {
                self.budget.rival -= 1;
                reached.push("a rival begins");
                self.start(scene, &scene.rival, false, reached)?;
            }
            Step::Emergency => {
                self.budget.emergency -= 1;
                self.start(scene, &scene.rival, true, reached)?;
            }
            Step::Harm(at, harm) => {
                self.budget.harm -= 1;
                self.harmed = true;
                let id = self.sim.ids()[at].clone();
                match harm {
                    Harm::Kill => self.sim.kill(&id),
                    Harm::Sicken => self.sim.sicken(&id),
                    Harm::Touch => self.sim.touch(&id, "an interactive session"),
                }
                reached.push("an instance is harmed");
            }
            Step::Say(word) => {
                self.budget.word -= 1;
                let reason = "a second terminal".to_owned();
                let event = match word {
                    Word::Pause => Event::Paused { reason },
                    Word::Cancel => Event::Cancelled { back: false, reason },
                    Word::GoBack => Event::Cancelled { back: true, reason },
                };
                self.say(scene, event, reached)?;
            }
            Step::Resume => self.say(scene, Event::Resumed, reached)?,
        }
        Ok(())
    }

    /// Time passes, longer than any lease, and nobody does anything.
    fn stall(&mut self) {
        self.hidden = None;
        for _ in 0..STALL {
            now_or_never(self.sim.wait(WAIT)).expect("virtual time");
        }
    }

    fn tick(&mut self, scene: &Scene, reached: &mut Reached) -> Result<(), String> {
        self.hidden = None;
        now_or_never(self.sim.wait(WAIT)).expect("virtual time");
        debug_assert_eq!(WAIT * 5, TICK.unsigned_abs());
        let mut at = 0;
        while at < self.rollers.len() {
            let ended = self.rollers[at].process.pending == Request::Wait
                && self.tell(scene, at, Told::Went, reached)?;
            at += usize::from(!ended);
        }
        Ok(())
    }

    fn say(&mut self, scene: &Scene, event: Event, reached: &mut Reached) -> Result<(), String> {
        let mut journal = self.known.journal.as_read_by(writer(scene.host, 99));
        read_on(&mut journal, &self.entries, self.now());
        match command(&mut journal, event, self.now()) {
            Some(bytes) => self.wrote(99, bytes, reached),
            None => Ok(()),
        }
    }

    pub fn start(
        &mut self,
        scene: &Scene,
        target: &Target,
        emergency: bool,
        reached: &mut Reached,
    ) -> Result<(), String> {
        self.count += 1;
        let who = self.count;
        let mut journal = self.known.journal.as_read_by(writer(scene.host, who));
        read_on(&mut journal, &self.entries, self.now());
        let memory = Arc::new(Memory { journal, running: None, at: self.now() });
        let process = Process {
            who,
            host: scene.host,
            target: target.clone(),
            emergency,
            memory,
            answers: Vec::new(),
            pending: Request::Wait,
        };
        let alone = self.rollers.is_empty() && self.is_alone();
        let sure = |request: &Request| alone.then(|| found(&self.entries, request)).flatten();
        match begin(&scene.fleet, process, &self.outlook, sure) {
            Ok(process) => {
                self.rollers.push(Roller { process, lost: false, intent: None });
                Ok(())
            }
            Err(End { code: 4, .. }) if scene.host.is_some() => {
                reached.push("refused by the lease");
                Ok(())
            }
            Err(end) => self.ended(&end, reached),
        }
    }

    /// A process ended: was that to be expected?
    fn ended(&self, end: &End, reached: &mut Reached) -> Result<(), String> {
        reached.push(match (end.code, end.words.as_str()) {
            (0, _) => "completed",
            (3, words) if words.contains("rolled back") => "rolled back",
            (3, words) if words.contains("halted") => "halted",
            (3, words) if words.contains("cancelled") => "cancelled",
            (3, words) if words.contains("is paused") => "paused before it began",
            (3, _) => "held",
            (4, _) if self.count > 2 => "refused by the fence",
            (1, words) if words.contains("no answer") => "an entry of which nobody knows",
            (code, words) => return Err(format!("a process ends with {code}: {words}")),
        });
        Ok(())
    }

    /// Answers the request of a process.
    fn go(
        &mut self,
        scene: &Scene,
        at: usize,
        fault: Option<Fault>,
        slow: bool,
        reached: &mut Reached,
    ) -> Result<(), String> {
        let told = match self.rollers[at].process.pending.clone() {
            Request::Wait => Told::Went,
            Request::Condemn(target) => {
                let proven = self.history.proven.as_ref().map(|proven| proven.generation.id);
                if proven != Some(target.generation.id) && self.outlook.refusal(target.image).is_none() {
                    self.outlook.refused.push((target.image, "it is quarantined".to_owned()));
                }
                Told::Went
            }
            read @ Request::Read(_) => found(&self.entries, &read).expect("a read"),
            Request::Write(number, bytes) if number == self.entries.len() as u64 + 1 => {
                let who = self.rollers[at].process.who;
                self.wrote(who, bytes, reached)?;
                if fault.is_some() { Told::Unsure } else { Told::Written }
            }
            Request::Write(..) => Told::Taken,
            Request::Look => {
                now_or_never(self.sim.wait(Duration::ZERO)).expect("virtual time");
                if let Some(Fault::Partial(lacks)) = fault {
                    reached.push("partial look");
                    self.hidden = self.sim.ids().get(lacks).cloned();
                }
                let mut instances = self.sim.truth();
                instances.retain(|found| Some(&found.id) != self.hidden.as_ref());
                let now = Census { at: self.now(), instances, trouble: None, group: None, cluster: None };
                let (at, before) = (now.at, self.looked.replace(Arc::new(now.clone())));
                let seen = match (fault, before) {
                    (Some(Fault::Stale), Some(before)) => {
                        reached.push("stale look");
                        Census { at, ..(*before).clone() }
                    }
                    _ => now,
                };
                Told::Saw(Arc::new(seen))
            }
            Request::Act(action) => self.act(at, &action, fault, slow, reached)?,
        };
        self.tell(scene, at, told, reached).map(drop)
    }

    /// Tells a process what it waits for. Returns whether it ended.
    fn tell(&mut self, scene: &Scene, at: usize, told: Told, reached: &mut Reached) -> Result<bool, String> {
        let now = self.now();
        let alone = self.is_alone();
        let Roller { process, lost, .. } = &mut self.rollers[at];
        let before = Arc::as_ptr(&process.memory);
        let sure = |request: &Request| match request {
            Request::Write(number, _) if *lost && *number <= self.entries.len() as u64 => Some(Told::Taken),
            Request::Read(_) if *lost || alone => found(&self.entries, request),
            _ => None,
        };
        if let Some(end) = process.answer(&scene.fleet, &self.outlook, (now, told), sure) {
            self.rollers.remove(at);
            return self.ended(&end, reached).map(|()| true);
        }
        let memory = &process.memory;
        if Arc::as_ptr(memory) != before && memory.journal.entries().len() == self.entries.len() {
            self.known = Arc::clone(memory);
        }
        Ok(false)
    }

    /// Tells whether nobody else will ever write to the journal while the only process runs: then it does not matter when
    /// that looks into it.
    fn is_alone(&self) -> bool {
        let Budget { rival, emergency, word, .. } = self.budget;
        self.rollers.len() <= 1 && rival + emergency + word == 0 && !self.is_paused()
    }

    fn act(
        &mut self,
        at: usize,
        action: &Action,
        fault: Option<Fault>,
        slow: bool,
        reached: &mut Reached,
    ) -> Result<Told, String> {
        let roller = &self.rollers[at];
        let Some((_, orders)) = roller.intent.as_ref().filter(|(intent, _)| intent == action) else {
            return Err(format!("intent: `{action}` is done, and the journal does not say that it will be"));
        };
        if roller.lost {
            reached.push("an act after the journal was lost");
        }
        let (orders, lost) = (orders.clone(), roller.lost);
        self.sim.order(|current| *current = orders);
        let ticks = |ticks: i32| (TICK * ticks, TICK * ticks);
        let slower = i32::from(slow);
        self.sim.set_times(Times { boot: ticks(1 + slower), register: ticks(slower), drain: ticks(slower) });
        let never = if fault == Some(Fault::Never) { 1000 } else { 0 };
        self.sim.set_faults(Faults { bad_boot: never, endless: never, ..Faults::default() });
        let apply = || now_or_never(self.sim.apply(action)).expect("virtual time").expect("no fault");
        let told = match fault {
            Some(Fault::Failed) => {
                reached.push("failed act");
                Told::Failed
            }
            // Where it is there already, there was room.
            Some(Fault::NoCapacity) if !self.sim.ids().contains(action.id()) => {
                reached.push("no capacity");
                // The name is given up with it, as every provider does.
                let (id, reason) = (action.id().clone(), "no capacity".to_owned());
                let end = Action::Terminate { id, healthy: false, reason };
                let _ = now_or_never(self.sim.apply(&end)).expect("virtual time");
                Told::Came(Outcome::NoCapacity { words: "none".to_owned() })
            }
            Some(Fault::NoAnswer) => {
                reached.push("lost answer");
                let _ = apply();
                Told::NoAnswer
            }
            Some(Fault::Twice) => {
                reached.push("act twice");
                let outcome = apply();
                let _ = apply();
                Told::Came(outcome)
            }
            _ => Told::Came(apply()),
        };
        if lost && matches!((action, &told), (Action::Launch { .. }, Told::Came(Outcome::Refused { .. }))) {
            reached.push("a late launch of what was given up");
        }
        if matches!(told, Told::Came(Outcome::Refused { .. })) {
            reached.push("refused act");
        }
        if never > 0 {
            reached.push("never healthy, or never drained");
        }
        self.sim.set_faults(Faults::default());
        Ok(told)
    }

    /// An entry was written: it is everybody's now.
    fn wrote(&mut self, who: u32, bytes: Arc<[u8]>, reached: &mut Reached) -> Result<(), String> {
        let entry: Entry = serde_json::from_slice(&bytes).expect("an entry");
        self.entries.push(bytes);
        Arc::make_mut(&mut self.history).add(entry.at, &entry.event);
        reached.extend(told(&entry.event));
        if entry.event.is_command() {
            return Ok(());
        }
        if matches!(entry.event, Event::Opened { .. }) {
            if !self.last.ends() && self.rollers.len() > 1 {
                reached.push("taken over");
            }
            self.owner = who;
            for other in &mut self.rollers {
                let opens = other.process.memory.running.is_none() && other.process.emergency;
                other.lost |= other.process.who != who && !opens;
            }
        } else if self.owner != who {
            return Err(format!(
                "one writer: {who} writes {:?}, and {} has the journal",
                entry.event, self.owner
            ));
        }
        let orders = self.orders();
        if let Some(own) = self.rollers.iter_mut().find(|roller| roller.process.who == who) {
            own.intent = match &entry.event {
                Event::Intent { action } => Some((action.clone(), orders)),
                _ => None,
            };
        }
        if entry.event == Event::Completed && !self.harmed {
            self.is_whole()?;
        }
        self.last = Arc::new(entry.event);
        Ok(())
    }

    /// Lets those that have lost the journal run until they would act: nothing that they do before can be seen.
    fn finish_losers(&mut self, scene: &Scene, reached: &mut Reached) -> Result<(), String> {
        let mut at = 0;
        while at < self.rollers.len() {
            let Roller { process, lost, .. } = &self.rollers[at];
            if !lost || matches!(process.pending, Request::Act(_) | Request::Condemn(_)) {
                at += 1;
                continue;
            }
            self.go(scene, at, None, false, reached)?;
        }
        Ok(())
    }
}

/// The answer to a look into the journal.
fn found(entries: &[Arc<[u8]>], request: &Request) -> Option<Told> {
    let Request::Read(number) = request else { return None };
    let index = usize::try_from(number - 1).expect("a small number");
    Some(Told::Entry(entries.get(index).cloned()))
}

fn told(event: &Event) -> Option<&'static str> {
    Some(match event {
        Event::RolledBack { .. } => "rollback",
        Event::Failed { .. } => "failed instance",
        Event::Absent { .. } => "absent instance",
        Event::Returned { .. } => "returned instance",
        Event::WavePassed { .. } => "wave passed",
        Event::WaveLost { .. } => "wave lost",
        Event::Paused { .. } => "pause",
        Event::Resumed => "resume",
        Event::Cancelled { back: false, .. } => "cancel and keep",
        Event::Cancelled { back: true, .. } => "cancel and go back",
        Event::Opened { emergency: true, .. } => "emergency",
        _ => return None,
    })
}

//! A fleet file tried out: a real roll over a simulated fleet, from an image that served to another one.
//!
//! The loop, the planner and the journal are those of a real roll; only the machines, the load balancer and the clock
//! are not. The same fleet file, faults and seed give the same report on every machine.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Chance, Faults, GateFaults, Sim, SimStore, SimSurroundings};
use crate::digest::Digest;
use crate::error::{Error, Kind, Result};
use crate::fleet::Fleet;
use crate::fleet::breaker::within;
use crate::fleet::census::{Census, InstanceId};
use crate::fleet::generation::Target;
use crate::fleet::history::Event;
use crate::fleet::journal::{Journal, Writer};
use crate::fleet::policy::Policy;
use crate::fleet::roll::{Order, Roll};
use crate::fleet::timeline::{Sample, Timeline};
use crate::progress::Silent;
use crate::provider::{Action, Outcome, Provider, ProviderError};

/// How much virtual time a rollout may take before the rehearsal ends: longer than a year of windows.
const LONGEST: SignedDuration = SignedDuration::from_hours(400 * 24);

/// How many looks a rollout may take before the rehearsal ends: a hundred for each of ten thousand instances.
const LOOKS: u64 = 1_000_000;

/// How often a roll that ended on an error of the provider or at the end of a window is begun again, as a nightly job
/// would.
const RUNS: u32 = 500;

/// How much longer a look takes for each instance: a provider answers in pages.
const PAGE: SignedDuration = SignedDuration::from_millis(1);

/// The longest time between two looks while nothing happens: little beside a soak.
const DOZE: SignedDuration = SignedDuration::from_secs(30);

/// What goes wrong besides bad boots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// Nothing.
    #[default]
    None,
    /// What a good cloud does in a year.
    Some,
    /// What a bad one does in an hour.
    Many,
}

impl Trouble {
    fn faults(self) -> Faults {
        match self {
            Self::None => Faults::default(),
            Self::Some => Faults {
                failure: 2,
                lost_reply: 5,
                duplicate: 2,
                throttle: 5,
                no_capacity: 2,
                stale: 10,
                reordered: 10,
                endless: 10,
                ..Faults::default()
            },
            Self::Many => Faults {
                failure: 20,
                lost_reply: 30,
                duplicate: 20,
                throttle: 20,
                no_capacity: 20,
                stale: 50,
                partial: 5,
                reordered: 50,
                endless: 50,
                ..Faults::default()
            },
        }
    }

    /// In how many of a thousand looks an instance dies, answers no more, or is touched: of the fleet and not of each
    /// instance, so that a large one is not worse off.
    const fn mishaps(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Some => 5,
            Self::Many => 50,
        }
    }

    const fn gates(self) -> GateFaults {
        match self {
            Self::None => GateFaults { fail: 0, not_yet: 0 },
            Self::Some => GateFaults { fail: 0, not_yet: 100 },
            Self::Many => GateFaults { fail: 20, not_yet: 300 },
        }
    }
}

/// What is rehearsed.
#[derive(Debug, Clone)]
pub struct Rehearsal<'a> {
    /// The fleet's name.
    pub name: &'a str,
    /// The fleet file.
    pub fleet: &'a Fleet,
    /// Where all chance comes from.
    pub seed: u64,
    /// How many of a thousand launches of the new image never serve.
    pub bad_boots: u64,
    /// What else goes wrong.
    pub trouble: Trouble,
}

/// How a rehearsed rollout ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "end", content = "because", rename_all = "snake_case")]
pub enum Ending {
    /// Every instance is new.
    Completed,
    /// Every instance is as before.
    RolledBack(String),
    /// It stopped, and what served serves.
    Held(String),
    /// It went on for longer than a rehearsal does.
    Endless(String),
}

/// How many acts of each kind were asked of the provider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Acts {
    /// Launches.
    pub launch: u64,
    /// Times an instance was given requests.
    pub admit: u64,
    /// Drains.
    pub drain: u64,
    /// Ends.
    pub end: u64,
    /// Times that leadership was handed over.
    pub hand_over: u64,
    /// Times that a member that ended was taken out.
    pub deregister: u64,
}

impl Acts {
    /// Returns how many there were.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.launch + self.admit + self.drain + self.end + self.hand_over + self.deregister
    }
}

/// What came of a rehearsal.
#[derive(Debug, Clone)]
pub struct Report {
    /// How it ended.
    pub ending: Ending,
    /// How long it took, in virtual time.
    pub lasted: SignedDuration,
    /// The fewest that served at any time.
    pub lowest: usize,
    /// How many must.
    pub floor: usize,
    /// The most that existed at any time.
    pub highest: usize,
    /// How many may.
    pub ceiling: usize,
    /// What was asked of the provider.
    pub acts: Acts,
    /// How often it was looked at.
    pub looks: u64,
    /// Instances that never served.
    pub failed: usize,
    /// How often a roll was begun: after an error of the provider, or when a window opened again.
    pub runs: u32,
    /// What was done that must never be done.
    pub broken: Vec<String>,
    /// The picture.
    pub timeline: Timeline,
}

impl Rehearsal<'_> {
    /// Brings a fleet up without faults, rolls it to another image with them, and reports.
    ///
    /// # Errors
    /// A fleet file that cannot be read; a fleet that cannot be brought up.
    pub async fn run(&self) -> Result<Report> {
        let policy = Policy::of(self.fleet)?;
        let breaker = &self.fleet.roll.breaker;
        let store = SimStore::new(self.seed, breaker.failures as usize, within(breaker)?);
        let stage = Stage {
            rehearsal: self,
            sim: Sim::new(policy.clone(), self.seed),
            store,
            policy,
            stop: AtomicBool::new(false),
        };
        let mut journal = Journal::fleeting(self.name, Writer::this("rekiln simulate"));
        let before = Target::new(self.fleet, Digest::of(b"the image before"));
        let after = Target::new(self.fleet, Digest::of(b"the image after"));
        stage.roll(&stage.watch(None), &before, &mut journal).await.map_err(|error| {
            error.during(format!("bringing up {} simulated instances without faults", stage.policy.size))
        })?;
        stage.rehearse(&after, &mut journal).await
    }
}

/// What a rehearsal is played on.
struct Stage<'a> {
    rehearsal: &'a Rehearsal<'a>,
    sim: Sim,
    store: SimStore,
    policy: Policy,
    stop: AtomicBool,
}

impl Stage<'_> {
    fn watch(&self, target: Option<&Target>) -> Watched<'_> {
        let start = self.sim.now();
        let mishaps = if target.is_some() { self.rehearsal.trouble.mishaps() } else { 0 };
        Watched {
            sim: &self.sim,
            stop: &self.stop,
            target: target.map(|target| target.generation.id),
            start,
            mishaps,
            chance: RefCell::new(Chance::new(self.rehearsal.seed ^ 1)),
            idle: Cell::new(0),
            seen: RefCell::new(Seen { lowest: usize::MAX, ..Seen::default() }),
        }
    }

    async fn roll(&self, provider: &Watched<'_>, target: &Target, journal: &mut Journal) -> Result<()> {
        let Rehearsal { name, fleet, trouble, .. } = *self.rehearsal;
        let surroundings = SimSurroundings {
            store: &self.store,
            sim: &self.sim,
            fleet: name,
            gates: trouble.gates(),
            bad_hooks: 0,
        };
        let proven = journal.history().proven.as_ref().map(|proven| proven.generation.id);
        self.sim.order(|orders| orders.proven = proven);
        let roll = Roll {
            name,
            fleet,
            target: target.clone(),
            provider,
            surroundings: &surroundings,
            journal,
            progress: &Silent,
            stop: &self.stop,
        };
        let order = Order { reason: "a rehearsal".to_owned(), ..Order::default() };
        roll.run(order).await.map(drop)
    }

    async fn rehearse(&self, target: &Target, journal: &mut Journal) -> Result<Report> {
        let Rehearsal { trouble, bad_boots, .. } = *self.rehearsal;
        self.wait_for_window();
        self.sim.set_faults(Faults { bad_boot: bad_boots, ..trouble.faults() });
        let first = journal.entries().len();
        let watched = self.watch(Some(target));
        watched.look();
        let mut runs = 0;
        let ending = loop {
            runs += 1;
            let error = match self.roll(&watched, target, journal).await {
                Ok(()) => break Ending::Completed,
                Err(error) => error,
            };
            if let Some(end) = self.ended(&error, journal) {
                break end;
            }
            if runs == RUNS {
                break Ending::Endless(format!("it was begun {RUNS} times, and then: {}", error.chain()));
            }
            self.wait_for_window();
        };
        let entries = &journal.entries()[first..];
        let marks = entries.iter().filter_map(|entry| {
            Some((entry.at.duration_since(watched.start), marked(&entry.event, &self.policy)?))
        });
        let failed = entries.iter().filter(|entry| matches!(entry.event, Event::Failed { .. })).count();
        let lasted = self.sim.now().duration_since(watched.start);
        watched.look();
        let marks = marks.collect();
        let Seen { mut samples, lowest, highest, acts, looks } = watched.seen.into_inner();
        // What was seen last lasts until the end.
        samples.extend(samples.last().map(|last| Sample { at: lasted, ..*last }));
        Ok(Report {
            ending,
            lasted,
            lowest,
            floor: self.policy.floor(),
            highest,
            ceiling: self.policy.ceiling(),
            acts,
            looks,
            failed,
            runs,
            broken: self.sim.violations(),
            timeline: Timeline { size: self.policy.size, floor: self.policy.floor(), samples, marks },
        })
    }

    /// Says how it ended; `None` when whoever began it would begin it again.
    fn ended(&self, error: &Error, journal: &Journal) -> Option<Ending> {
        let history = journal.history();
        if let Some(retreat) = history.retreat.as_ref().filter(|_| history.completed) {
            return Some(Ending::RolledBack(retreat.reason.clone()));
        }
        if let Some(reason) = &history.halted {
            return Some(Ending::Held(reason.clone()));
        }
        let stopped = journal.entries().iter().rev().find_map(|entry| match &entry.event {
            Event::Stopped { reason } => Some(reason.clone()),
            _ => None,
        });
        let why = || stopped.unwrap_or_else(|| error.chain());
        match error.kind() {
            Kind::Interrupted => Some(Ending::Endless("it made no end of it".to_owned())),
            Kind::Failed => None,
            // Another day, it goes on.
            Kind::Holding if !self.policy.windows.is_open(self.sim.now()) => None,
            _ => Some(Ending::Held(why())),
        }
    }

    fn wait_for_window(&self) {
        let now = self.sim.now();
        if let Some(opens) = self.policy.windows.opens_at(now).filter(|opens| *opens > now) {
            self.sim.pass(opens.duration_since(now));
        }
    }
}

/// What of the journal is worth a mark in the picture.
fn marked(event: &Event, policy: &Policy) -> Option<String> {
    Some(match event {
        Event::WavePassed { wave } if *wave + 1 == policy.waves.len() => "the last wave passed".to_owned(),
        Event::WavePassed { wave: 0 } => format!("the first wave of {} passed", policy.waves.first()?),
        Event::WavePassed { wave } => format!("wave {} of {} passed", wave + 1, policy.waves.get(*wave)?),
        Event::RolledBack { reason, .. } => format!("rolls back: {}", short(reason)),
        Event::Halted { reason } => format!("halted: {}", short(reason)),
        Event::Stopped { reason } => format!("stopped: {}", short(reason)),
        Event::Chaos { instance, .. } => format!("chaos kills {instance}"),
        Event::Completed => "completed".to_owned(),
        _ => return None,
    })
}

/// A hundred names of failed instances are no mark.
fn short(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What was seen so far.
#[derive(Default)]
struct Seen {
    samples: Vec<Sample>,
    lowest: usize,
    highest: usize,
    acts: Acts,
    looks: u64,
}

/// The simulated cloud with someone who counts; and while nothing can be done, time goes faster.
struct Watched<'a> {
    sim: &'a Sim,
    stop: &'a AtomicBool,
    /// What is new; `None` while the fleet is brought up and nobody counts.
    target: Option<Digest>,
    start: Timestamp,
    mishaps: u64,
    chance: RefCell<Chance>,
    /// How often in a row nothing could be done.
    idle: Cell<u32>,
    seen: RefCell<Seen>,
}

impl Watched<'_> {
    fn look(&self) {
        let Some(target) = self.target else { return };
        let tally = self.sim.tally();
        let current = tally.serving_of.get(&target).copied().unwrap_or(0);
        let sample = Sample {
            at: self.sim.now().duration_since(self.start),
            current,
            old: tally.serving - current,
            starting: tally.starting,
            draining: tally.draining,
            unhealthy: tally.unhealthy,
        };
        let mut seen = self.seen.borrow_mut();
        seen.lowest = seen.lowest.min(tally.serving);
        seen.highest = seen.highest.max(tally.ours);
        if seen.samples.last().is_none_or(|last| Sample { at: last.at, ..sample } != *last) {
            seen.samples.push(sample);
        }
    }

    /// Lets one instance die, answer no more, or be touched, now and then.
    fn mishap(&self) {
        let mut chance = self.chance.borrow_mut();
        if !chance.happens(self.mishaps, &mut 0) {
            return;
        }
        let ids = self.sim.ids();
        let id = usize::try_from(chance.below(ids.len() as u64)).ok().and_then(|at| ids.get(at));
        let Some(id) = id else { return };
        match chance.below(3) {
            0 => self.sim.kill(id),
            1 => self.sim.sicken(id),
            _ => self.sim.touch(id, "an interactive session"),
        }
    }
}

impl Provider for Watched<'_> {
    async fn prepare(&self) -> Result<()> {
        Ok(())
    }

    async fn census(&self) -> Result<Census, ProviderError> {
        self.mishap();
        self.seen.borrow_mut().looks += 1;
        let lasted = self.sim.now().duration_since(self.start);
        if lasted > LONGEST || self.seen.borrow().looks > LOOKS {
            self.stop.store(true, Ordering::Relaxed);
        }
        let ours = self.sim.tally().ours;
        self.sim.pass(PAGE * i32::try_from(ours).unwrap_or(i32::MAX));
        let census = self.sim.census().await;
        self.look();
        census
    }

    async fn apply(&self, action: &Action) -> Result<Outcome, ProviderError> {
        self.idle.set(0);
        {
            let acts = &mut self.seen.borrow_mut().acts;
            match action {
                Action::Launch { .. } => acts.launch += 1,
                Action::Admit { .. } => acts.admit += 1,
                Action::Drain { .. } => acts.drain += 1,
                Action::Terminate { .. } => acts.end += 1,
                Action::HandOver { .. } => acts.hand_over += 1,
                Action::Deregister { .. } => acts.deregister += 1,
            }
        }
        let outcome = self.sim.apply(action).await;
        self.look();
        outcome
    }

    async fn console_tail(&self, id: &InstanceId) -> Vec<String> {
        self.sim.console_tail(id).await
    }

    fn now(&self) -> Timestamp {
        self.sim.now()
    }

    /// Waits until something changes by itself, else twice as long each time, but never for long.
    async fn wait(&self, time: Duration) {
        self.sim.wait(time).await;
        let idle = self.idle.get();
        self.idle.set(idle + 1);
        let calm = self.sim.calm().unwrap_or(DOZE);
        let more = calm.min(SignedDuration::from_secs(1 << idle.min(5))).min(DOZE);
        if more > SignedDuration::ZERO {
            self.sim.pass(more);
        }
    }
}

//! One simulated fleet with its journal in memory, rolled by processes that crash, are rivalled, and get commands from a
//! second terminal.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use jiff::Timestamp;
use object_store::memory::InMemory;
use rekiln::digest::Digest;
use rekiln::error::Result;
use rekiln::fleet::Fleet;
use rekiln::fleet::census::{Census, InstanceId};
use rekiln::fleet::generation::Target;
use rekiln::fleet::history::Event;
use rekiln::fleet::journal::{Journal, Writer};
use rekiln::fleet::policy::Policy;
use rekiln::fleet::roll::{Order, Roll, Summary};
use rekiln::progress::Silent;
use rekiln::provider::sim::{GateFaults, Sim, SimStore, SimSurroundings};
use rekiln::provider::{Action, Outcome, Provider, ProviderError};

/// Where a process is killed: before or after one of its acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    /// Before or after which act, from 0.
    pub act: u64,
    pub after: bool,
}

/// What a second terminal does to a running roll at one of its looks.
#[derive(Debug, Clone)]
pub enum Meanwhile {
    Pause,
    Resume,
    Cancel {
        back: bool,
    },
    Retarget(Target),
    /// An emergency takes the journal over.
    TakeOver(Target),
    /// An operator ends the machine of the nth instance.
    Kill(usize),
    /// An operator logs in to the nth instance.
    Touch(usize),
    /// An autoscaler that knows nothing of rekiln ends the machines of all but so many instances.
    ScaleIn(usize),
    /// The owner of a group writes its size.
    Resize(u32),
}

/// A fleet in a simulated world.
pub struct Simulated<'a> {
    pub name: &'a str,
    pub fleet: Fleet,
    pub sim: Sim,
    pub store: &'a SimStore,
    pub gates: GateFaults,
    pub bad_hooks: u64,
    pub journal: Arc<InMemory>,
    /// What happens at which look of the next roll.
    pub meanwhile: RefCell<Vec<(u64, Meanwhile)>>,
    /// What a reader who follows the journal knows.
    reader: RefCell<Option<Journal>>,
    /// After so many looks the process gives up, as when the power fails: a roll must not hang.
    pub patience: u64,
}

/// How a roll ended.
#[derive(Debug)]
pub enum End {
    Done(Summary),
    Failed(rekiln::error::Error),
    Crashed,
    /// It went on for longer than [`Simulated::patience`].
    Endless,
}

/// A provider that dies, as kill -9 does, and lets things happen meanwhile.
struct Fragile<'a> {
    fleet: &'a str,
    sim: &'a Sim,
    crash: Option<Crash>,
    acts: Cell<u64>,
    looks: Cell<u64>,
    patience: u64,
    journal: Arc<InMemory>,
    meanwhile: RefCell<Vec<(u64, Meanwhile)>>,
    /// Whether another process has taken the journal over: nothing may be done any more.
    lost: Cell<bool>,
    /// Whether the fleet was paused when that was last looked at.
    paused: Cell<bool>,
    /// How many entries the journal had before this process.
    before: usize,
}

impl Fragile<'_> {
    /// Does to the instances what does not go through the journal. Returns the rest.
    fn interfere(&self, what: Meanwhile) -> Option<Meanwhile> {
        let ids: Vec<InstanceId> = self.sim.truth().into_iter().map(|instance| instance.id).collect();
        match what {
            Meanwhile::Kill(nth) => ids.get(nth % ids.len().max(1)).map(|id| self.sim.kill(id))?,
            Meanwhile::Touch(nth) => {
                ids.get(nth % ids.len().max(1)).map(|id| self.sim.touch(id, "an interactive session"))?;
            }
            Meanwhile::ScaleIn(keep) => ids.iter().skip(keep).for_each(|id| self.sim.kill(id)),
            Meanwhile::Resize(_) if !self.sim.may_resize() => {}
            Meanwhile::Resize(size) => self.sim.resize(size).expect("a policy"),
            command => return Some(command),
        }
        None
    }

    async fn happen(&self, what: Meanwhile) {
        let Some(what) = self.interfere(what) else { return };
        let mut other = journal(&self.journal, self.fleet, "another terminal").await;
        let now = self.sim.now();
        let reason = || "a test".to_owned();
        let event = match what {
            Meanwhile::Pause => Event::Paused { reason: reason() },
            Meanwhile::Resume => Event::Resumed,
            Meanwhile::Cancel { back } => Event::Cancelled { back, reason: reason() },
            Meanwhile::Retarget(target) => Event::Retargeted { target, reason: reason() },
            Meanwhile::TakeOver(target) => {
                // Who has not opened its rollout yet does so after this, and then has the journal.
                let mut since = other.entries().iter().skip(self.before);
                self.lost.set(since.any(|entry| matches!(entry.event, Event::Opened { .. })));
                self.sim.order(|orders| orders.emergency = true);
                Event::Opened { target, reason: reason(), emergency: true, fleet: None, commit: None }
            }
            Meanwhile::Kill(_) | Meanwhile::Touch(_) | Meanwhile::ScaleIn(_) | Meanwhile::Resize(_) => return,
        };
        other.command(now, event).await.expect("a command is written");
        self.heed(&other);
    }

    /// Finds out whether the fleet is paused, with the simulation's own eyes: who calls an emergency knows better than
    /// who paused before.
    fn heed(&self, journal: &Journal) {
        let paused = journal.entries().iter().rev().find_map(|entry| match entry.event {
            Event::Paused { .. } => Some(true),
            Event::Resumed | Event::Opened { emergency: true, .. } => Some(false),
            _ => None,
        });
        self.paused.set(paused.unwrap_or(false));
        self.sim.order(|orders| orders.paused = self.paused.get());
    }
}

impl Provider for Fragile<'_> {
    fn prepare(&self) -> impl Future<Output = Result<()>> {
        self.sim.prepare()
    }

    async fn census(&self) -> Result<Census, ProviderError> {
        let look = self.looks.get();
        self.looks.set(look + 1);
        if look > self.patience {
            std::future::pending::<()>().await;
        }
        let due: Vec<_> = self.meanwhile.borrow_mut().extract_if(.., |(at, _)| *at <= look).collect();
        for (_, what) in due {
            self.happen(what).await;
        }
        self.sim.census().await
    }

    async fn apply(&self, action: &Action) -> Result<Outcome, ProviderError> {
        let act = self.acts.get();
        self.acts.set(act + 1);
        if self.lost.get() {
            self.sim.accuse(&format!("fence: `{action}` by a process that had lost the journal"));
        }
        if self.paused.get() {
            // This process may have opened an emergency since.
            self.heed(&journal(&self.journal, self.fleet, "a look").await);
        }
        if let Some(crash) = self.crash.filter(|crash| crash.act == act) {
            if crash.after {
                let _ = self.sim.apply(action).await;
            }
            std::future::pending::<()>().await;
        }
        self.sim.apply(action).await
    }

    async fn console_tail(&self, id: &InstanceId) -> Vec<String> {
        self.sim.console_tail(id).await
    }

    fn now(&self) -> Timestamp {
        self.sim.now()
    }

    fn wait(&self, time: Duration) -> impl Future<Output = ()> {
        self.sim.wait(time)
    }
}

/// Opens a journal as a process that is dead when the next one looks.
pub async fn journal(objects: &Arc<InMemory>, fleet: &str, command: &str) -> Journal {
    let writer = Writer { pid: 0, started: 0, ..Writer::this(command) };
    Journal::over(Arc::clone(objects) as _, fleet, writer).await.expect("a sound journal")
}

/// Runs what is ready at once: everything here is in memory. `None` when it waits for what never comes.
pub fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

impl<'a> Simulated<'a> {
    pub fn new(fleet: Fleet, store: &'a SimStore, name: &'a str, seed: u64) -> Self {
        let sim = Sim::new(Policy::of(&fleet).expect("a policy"), seed);
        Self::over(fleet, store, name, sim)
    }

    /// A fleet whose size is its owner's to change: a group that has instances already, of an image that rekiln never saw.
    pub fn group(fleet: Fleet, store: &'a SimStore, name: &'a str, seed: u64) -> Self {
        let before = Target::new(&fleet, Digest::of(b"what the group launched"));
        let sim = Sim::group(&fleet, fleet.size, before.generation, seed).expect("a policy");
        Self::over(fleet, store, name, sim)
    }

    fn over(fleet: Fleet, store: &'a SimStore, name: &'a str, sim: Sim) -> Self {
        Self {
            name,
            fleet,
            sim,
            store,
            gates: GateFaults::default(),
            bad_hooks: 0,
            journal: Arc::new(InMemory::new()),
            meanwhile: RefCell::default(),
            reader: RefCell::default(),
            patience: 20_000,
        }
    }

    pub fn target(&self, name: &str) -> Target {
        Target::new(&self.fleet, Digest::of(name.as_bytes()))
    }

    pub fn surroundings(&self) -> SimSurroundings<'_> {
        let Self { store, sim, gates, bad_hooks, .. } = self;
        SimSurroundings { store, sim, fleet: self.name, gates: *gates, bad_hooks: *bad_hooks }
    }

    /// Shows the journal as it is.
    pub fn read<T>(&self, look: impl FnOnce(&Journal) -> T) -> T {
        let mut reader = self.reader.borrow_mut();
        let following = async {
            let mut known = match reader.take() {
                Some(known) => known,
                None => journal(&self.journal, self.name, "a look").await,
            };
            known.follow().await.expect("a sound journal");
            known
        };
        let known = now_or_never(following).expect("it is in memory");
        let seen = look(&known);
        *reader = Some(known);
        seen
    }

    /// Rolls, in a process of its own that may crash.
    pub fn roll(&self, target: &Target, order: Order, crash: Option<Crash>) -> End {
        let (before, entries) = self.read(|journal| (journal.history().clone(), journal.entries().len()));
        let proven = before.proven.as_ref().map(|proven| proven.generation.id);
        let paused = before.paused.is_some();
        self.sim.order(|orders| {
            (orders.emergency, orders.paused, orders.proven) = (order.emergency, paused, proven);
            orders.rotated = before.rotate.keys().cloned().collect();
            if order.wish.is_some() {
                orders.rotated.extend(self.sim.truth().into_iter().map(|instance| instance.id));
            }
        });
        let provider = Fragile {
            fleet: self.name,
            sim: &self.sim,
            crash,
            acts: Cell::new(0),
            looks: Cell::new(0),
            patience: self.patience,
            journal: Arc::clone(&self.journal),
            meanwhile: RefCell::new(self.meanwhile.take()),
            lost: Cell::new(false),
            paused: Cell::new(paused),
            before: entries,
        };
        let rolling = async {
            let mut journal = journal(&self.journal, self.name, "roll").await;
            let roll = Roll {
                name: self.name,
                fleet: &self.fleet,
                target: target.clone(),
                provider: &provider,
                surroundings: &self.surroundings(),
                journal: &mut journal,
                progress: &Silent,
                stop: &AtomicBool::new(false),
            };
            roll.run(order).await
        };
        match now_or_never(rolling) {
            Some(Ok(summary)) => End::Done(summary),
            Some(Err(error)) => End::Failed(error),
            None if provider.looks.get() > self.patience => End::Endless,
            None => End::Crashed,
        }
    }

    pub fn plain(&self, target: &Target) -> End {
        self.roll(target, Order { reason: "a test".to_owned(), ..Order::default() }, None)
    }

    pub fn assert_sound(&self, what: &str) {
        assert_eq!(self.sim.violations(), Vec::<String>::new(), "{what}");
    }

    /// Says what is there when that is not the whole fleet, as the target asks, and nothing else.
    pub fn converged(&self, target: &Target) -> Result<(), String> {
        let truth = self.sim.truth();
        let serves = truth.iter().filter(|i| i.serves() && i.generation.as_ref() == Some(&target.generation));
        let (desired, size) = self.sim.sizes().unwrap_or((self.fleet.size, self.fleet.size));
        if desired != size {
            return Err(format!("the group's size is {desired}, and its owner wants {size}"));
        }
        let size = size as usize;
        if (serves.count(), truth.len()) == (size, size) {
            return Ok(());
        }
        Err(format!("{size} instances of the target are not all there is: {truth:#?}"))
    }

    pub fn assert_converged(&self, target: &Target, what: &str) {
        assert_eq!(self.converged(target), Ok(()), "{what}");
    }
}

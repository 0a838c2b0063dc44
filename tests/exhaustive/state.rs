//! The whole world at one moment: the cloud, the journal, and the processes that roll, each stopped at its next word.

use std::hash::Hasher as _;
use std::sync::Arc;

use jiff::Timestamp;
use rekiln::digest::Digest;
use rekiln::fleet::census::{Census, InstanceId, State as Life};
use rekiln::fleet::history::{Event, History};
use rekiln::fleet::surroundings::Outlook;
use rekiln::provider::sim::{Orders, Sim};
use rekiln::provider::{Action, Provider as _};

use super::alike::Alike;
use super::process::{Memory, Process, Request, empty, writer};
use super::scene::{Budget, Fault, Harm, Scene, Step, Word};

/// A process, and what others know of it.
#[derive(Clone)]
pub struct Roller {
    pub process: Process,
    /// Whether another one has opened the journal since.
    pub lost: bool,
    /// The act that it wrote last that it will do, and what was forbidden when it did.
    pub intent: Option<(Action, Orders)>,
}

/// The whole world.
#[derive(Clone)]
pub struct State {
    pub sim: Sim,
    pub entries: Vec<Arc<[u8]>>,
    pub history: Arc<History>,
    /// The last entry that is no command.
    pub last: Arc<Event>,
    /// Who has the journal.
    pub owner: u32,
    /// A journal as far as someone has read it.
    pub known: Arc<Memory>,
    pub outlook: Outlook,
    pub rollers: Vec<Roller>,
    /// How many processes there ever were: one that lives twice is two.
    pub count: u32,
    pub looked: Option<Arc<Census>>,
    /// What looks do not show until time has passed.
    pub hidden: Option<InstanceId>,
    pub budget: Budget,
    /// Whether the world was changed behind the processes' backs.
    pub harmed: bool,
}

impl State {
    /// The fleet runs what was proven before, and a process is about to roll out the goal.
    pub fn first(scene: &Scene) -> Self {
        let sim = Sim::new(scene.policy.clone(), 0);
        let journal = empty(writer(scene.host, 0));
        let known = Arc::new(Memory { journal, running: None, at: Timestamp::UNIX_EPOCH });
        let mut state = Self {
            sim,
            entries: Vec::new(),
            history: Arc::default(),
            last: Arc::new(Event::Down),
            owner: 0,
            known,
            outlook: Outlook::default(),
            rollers: Vec::new(),
            count: 0,
            looked: None,
            hidden: None,
            budget: Budget::default(),
            harmed: false,
        };
        state.start(scene, &scene.old, false, &mut Vec::new()).expect("a first roll");
        while let Some(step) = state.steps().first().copied() {
            state = state.step(scene, step).expect("a first roll").0;
        }
        assert_eq!(*state.last, Event::Completed, "the first roll ends");
        if scene.is_bad {
            state.sim.spoil(scene.goal.image);
        }
        state.start(scene, &scene.goal, false, &mut Vec::new()).expect("a roll");
        state.budget = scene.budget;
        state
    }

    pub fn now(&self) -> Timestamp {
        self.sim.now()
    }

    /// States of the same key have the same future.
    pub fn key(&self, scene: &Scene) -> u64 {
        let mut alike = Alike::new(&scene.policy, self.now());
        self.sim.tell_apart(&mut alike.hasher);
        alike.history(&self.history);
        alike.add((self.budget, self.harmed, self.outlook.refused.len(), &self.hidden));
        alike.add((self.last.ends(), matches!(*self.last, Event::Stopped { .. })));
        for roller in &self.rollers {
            let owns = roller.process.who == self.owner;
            alike.process(&roller.process, owns, roller.lost);
        }
        if let Some(looked) = self.looked.as_ref().filter(|_| self.budget.fault > 0) {
            alike.census(looked);
        }
        alike.hasher.finish()
    }

    /// Tells whether all is over: no process runs, and the journal says how it ended.
    pub fn is_over(&self) -> bool {
        self.rollers.is_empty() && self.last.ends()
    }

    /// Says what is wrong with the end: a roll of a good image stops because someone said so, or because instances are not
    /// what they were; and who then rolls again gets there.
    pub fn wrong_end(&self, scene: &Scene) -> Option<String> {
        let Event::Stopped { reason } = &*self.last else { return None };
        let cancelled = self.history.cancelled.is_some();
        let again = self.budget.again < scene.budget.again;
        let wrong = !scene.is_bad && !cancelled && (again || !self.harmed);
        wrong.then(|| format!("end: it stops: {reason}"))
    }

    /// Tells whether it waits for a person, as it was told to.
    pub fn is_paused(&self) -> bool {
        self.history.paused.is_some()
    }

    /// How it ended, for the counters.
    pub fn ending(&self) -> String {
        match &*self.last {
            Event::Stopped { reason } => format!("ends stopped: {reason}"),
            Event::Halted { .. } => "ends halted".to_owned(),
            other => format!("ends {other:?}"),
        }
    }

    /// Everything that can happen.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let Budget { crash, rival, emergency, fault, harm, word, stall, again } = self.budget;
        for (at, Roller { process, lost, .. }) in self.rollers.iter().enumerate() {
            if process.pending != Request::Wait {
                steps.push(Step::Go(at));
            }
            if matches!(
                process.pending,
                Request::Act(Action::Launch { .. } | Action::Admit { .. } | Action::Drain { .. })
            ) {
                steps.push(Step::Slow(at));
            }
            if fault > 0 {
                steps.extend(self.faults(&process.pending).into_iter().map(|fault| Step::Wrong(at, fault)));
            }
            if crash > 0 && !lost {
                steps.push(Step::Crash(at));
            }
        }
        let waits = |roller: &Roller| roller.process.pending == Request::Wait;
        let idle = self.rollers.iter().all(|roller| waits(roller) || roller.lost);
        if idle && self.rollers.iter().any(waits) {
            steps.push(Step::Tick);
        }
        if self.rollers.is_empty() && !self.last.ends() && !self.is_paused() {
            steps.push(Step::Start);
        }
        if self.is_over() && again > 0 && matches!(&*self.last, Event::Stopped { .. }) && !self.is_paused() {
            steps.push(Step::Again);
        }
        if let [alone] = self.rollers.as_slice() {
            if rival > 0 {
                steps.push(Step::Rival);
            }
            if emergency > 0 {
                steps.push(Step::Emergency);
            }
            if stall > 0 && !waits(alone) {
                steps.push(Step::Stall);
            }
        }
        if harm > 0 && !self.rollers.is_empty() {
            for (at, found) in self.sim.truth().iter().enumerate() {
                if found.state != Life::Dead {
                    steps.extend([Harm::Kill, Harm::Sicken, Harm::Touch].map(|harm| Step::Harm(at, harm)));
                }
            }
        }
        if word > 0 && !self.rollers.is_empty() {
            steps.extend([Word::Pause, Word::Cancel, Word::GoBack].map(Step::Say));
        }
        if self.is_paused() {
            steps.push(Step::Resume);
        }
        steps
    }

    fn faults(&self, pending: &Request) -> Vec<Fault> {
        match pending {
            Request::Act(action) => {
                let mut faults = vec![Fault::NoAnswer, Fault::Failed, Fault::Twice];
                match action {
                    Action::Launch { .. } => faults.extend([Fault::Never, Fault::NoCapacity]),
                    Action::Drain { .. } => faults.push(Fault::Never),
                    _ => {}
                }
                faults
            }
            Request::Look => {
                let partial = (0..self.sim.ids().len()).map(Fault::Partial);
                self.looked.iter().map(|_| Fault::Stale).chain(partial).collect()
            }
            Request::Write(number, _) if *number == self.entries.len() as u64 + 1 => vec![Fault::Unsure],
            _ => Vec::new(),
        }
    }

    /// What is forbidden now. An act is judged by what was when its intent was written: later words come too late.
    pub fn orders(&self) -> Orders {
        let History { emergency, paused, proven, rotate, .. } = &*self.history;
        Orders {
            emergency: *emergency,
            paused: paused.is_some(),
            rotated: rotate.keys().cloned().collect(),
            quarantined: self.outlook.refused.iter().map(|(image, _)| *image).collect(),
            proven: proven.as_ref().map(|proven| proven.generation.id),
            ..Orders::default()
        }
    }

    /// Every instance is what the journal says that it should be, and nothing else is there.
    pub fn is_whole(&self) -> Result<(), String> {
        let wanted: Option<Digest> = self.history.generation();
        let truth = self.sim.truth();
        let right = truth.iter().filter(|found| {
            found.serves() && found.generation.as_ref().map(|generation| generation.id) == wanted
        });
        let (right, all) = (right.count(), truth.len());
        if (right, all) == (3, 3) {
            return Ok(());
        }
        Err(format!("completed: {right} of {all} instances are what they should be, and 3 should"))
    }
}

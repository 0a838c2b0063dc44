//! Do: census, plan, intent, act, outcome, and again. No choices are made here.

mod end;
mod order;
mod patience;
mod steps;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;

use super::census::{Census, Instance, InstanceId, State};
use super::generation::Target;
use super::history::Event;
use super::journal::Journal;
use super::plan::{Expected, Hold, Plan, Situation, plan};
use super::policy::Policy;
use super::surroundings::{News, Outlook, Surroundings};
use super::{Fleet, Step};
use crate::diagnostic::nearest;
use crate::error::{Error, Result};
use crate::progress::{self, Progress};
use crate::provider::{Action, Outcome, Provider, ProviderError};
use steps::{Steps, told};

pub use self::order::{Order, Wish};

/// One roll of one fleet.
pub struct Roll<'a, P, S> {
    /// The fleet's name.
    pub name: &'a str,
    /// The fleet file.
    pub fleet: &'a Fleet,
    /// Where to.
    pub target: Target,
    /// Where the instances live.
    pub provider: &'a P,
    /// What is neither the fleet nor its journal.
    pub surroundings: &'a S,
    /// The journal; whoever opens a rollout in it has it.
    pub journal: &'a mut Journal,
    /// Where progress goes.
    pub progress: &'a dyn Progress,
    /// Set when the roll should stop after the act at hand.
    pub stop: &'a AtomicBool,
}

/// What a roll did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Instances launched.
    pub launched: Vec<InstanceId>,
    /// Instances ended.
    pub ended: Vec<InstanceId>,
}

/// What a running roll keeps in memory between two looks; none of it is needed after a crash.
#[derive(Clone)]
pub struct Running {
    policy: Policy,
    /// What it did so far.
    pub summary: Summary,
    /// How often in a row each act failed.
    pub failing: BTreeMap<String, u32>,
    /// How often in a row too much was asked.
    pub throttled: u32,
    /// How many plans in a row had acts, and none of them was done.
    pub vain: u32,
    /// How many acts were done.
    pub done: u64,
    /// Since when nothing moves, and what holds it.
    pub still: (Timestamp, Vec<Hold>),
    steps: Steps,
    /// The last census that the journal knows.
    pub seen: Census,
    /// When this process began.
    begun: Timestamp,
    /// When it ends, and when that was found; `None` while nobody watches.
    expected: Option<(Timestamp, Expected)>,
}

/// One look: what was seen, and what follows.
struct Look {
    census: Census,
    outlook: Outlook,
    plan: Plan,
}

impl<P: Provider, S: Surroundings> Roll<'_, P, S> {
    /// Rolls until every instance is what it should be.
    ///
    /// Safe to end at any moment and to run again: what was begun is found in the journal and the census.
    ///
    /// # Errors
    /// Lost journal when another process has it; holding when work remains and something blocks it, or when the
    /// rollout went back to what completed before; whatever the provider cannot do three times in a row.
    pub async fn run(mut self, order: Order) -> Result<Summary> {
        let result = self.go(order).await;
        let result = self.give_back(result).await;
        self.progress.tell(progress::Event::Ended { scope: self.name.to_owned() });
        result
    }

    /// Gives back what was changed for the time of the roll, unless that is another process's now.
    async fn give_back(&self, result: Result<Summary>) -> Result<Summary> {
        if self.journal.is_lost() {
            return result;
        }
        let history = self.journal.history();
        let arrived = history.target.as_ref().filter(|_| history.completed);
        match (self.provider.release(arrived.map(|target| &target.generation)).await, result) {
            (Ok(()), result) => result,
            (Err(left), Ok(_)) => Err(left.during(format!("ending the roll of {}", self.name))),
            (Err(left), Err(error)) => {
                self.progress.note(self.name, left.chain());
                Err(error)
            }
        }
    }

    async fn go(&mut self, order: Order) -> Result<Summary> {
        let mut running = self.begin(order).await?;
        while !self.turn(&mut running).await? {}
        Ok(running.summary)
    }

    /// Begins: who gets this far has the journal.
    ///
    /// # Errors
    /// As [`Roll::run`].
    pub async fn begin(&mut self, order: Order) -> Result<Running> {
        let now = self.provider.now();
        let mut running = Running {
            policy: Policy::of(self.fleet)?,
            summary: Summary::default(),
            failing: BTreeMap::new(),
            throttled: 0,
            vain: 0,
            done: 0,
            still: (now, Vec::new()),
            steps: Steps::default(),
            seen: last_seen(self.journal),
            begun: now,
            expected: None,
        };
        self.open(order, &mut running, now).await?;
        Ok(running)
    }

    /// Looks once, and does what follows. Returns true when every instance is what it should be.
    ///
    /// # Errors
    /// As [`Roll::run`].
    pub async fn turn(&mut self, running: &mut Running) -> Result<bool> {
        self.journal.refresh().await?;
        self.end_if_asked().await?;
        self.provider.make(self.journal.history().target.as_ref().unwrap_or(&self.target)).await?;
        self.provider.prepare().await?;
        let Some(look) = self.look(running).await? else { return Ok(false) };
        self.show(running, &look);
        running.steps.follow(self.progress, &look.plan);
        if self.conclude(running, &look).await? {
            return Ok(true);
        }
        if !look.plan.moves() {
            self.rest(&look.plan).await;
        } else if self.saw(running, &look).await? {
            let before = running.done;
            self.carry_out(running, &look).await?;
            self.rest_when_refused(running, &look.plan, before).await;
        }
        Ok(false)
    }

    /// Writes that a roll begins; whoever does has the journal.
    async fn open(&mut self, order: Order, running: &mut Running, now: Timestamp) -> Result<()> {
        if !order.emergency {
            self.journal.refuse_rival(now)?;
            let history = self.journal.history();
            // What chaos killed is cured as what is sick is: nobody who pauses a fleet means to leave it with one less.
            let cures = history.generation() == Some(self.target.generation.id)
                && history.uncured(now, |_| false).is_some();
            if let Some(reason) = history.paused.as_ref().filter(|_| !cures) {
                return Err(Error::holding(format!("fleet {} is paused: {reason}", self.name))
                    .hint(format!("`rekiln resume {}` lets it go on", self.name)));
            }
        }
        let wish = match order.wish {
            Some(wish) => {
                let census = loop {
                    match self.provider.census().await {
                        Err(ProviderError::Throttled(_)) => self.back_off(running).await,
                        other => break other.map_err(Error::from)?,
                    }
                };
                Some(self.wanted(&census, wish)?)
            }
            None => None,
        };
        let opened = Event::Opened {
            target: self.target.clone(),
            reason: order.reason.clone(),
            emergency: order.emergency,
            fleet: Some(Box::new(self.fleet.clone())),
            commit: order.commit.clone(),
        };
        if order.emergency {
            // Whoever rolls finds this in its way at its next word, and stops.
            self.journal.command(now, opened).await?;
        } else {
            self.journal.record(now, opened).await?;
        }
        if let Some(wish) = wish {
            self.journal.record(now, wish).await?;
        }
        self.news(
            "opened",
            format!("fleet {} rolls to {}: {}", self.name, self.target.image.short(), order.reason),
        )
        .await;
        Ok(())
    }

    /// Finds what a wish is about, before anything is written.
    fn wanted(&self, census: &Census, wish: Wish) -> Result<Event> {
        let there = |instance: &&Instance| instance.state != State::Dead && !instance.id.is_coming();
        let living = census.instances.iter().filter(there);
        let known: Vec<_> = living.map(|instance| instance.id.clone()).collect();
        if let Some(id) = wish.instances.iter().find(|id| !known.contains(id)) {
            let error = Error::invalid(format!("fleet {} has no instance {id}", self.name));
            return Err(match nearest(&id.0, known.iter().map(|id| id.0.as_str())) {
                Some(meant) => error.hint(format!("did you mean `{meant}`?")),
                None => error,
            }
            .hint(format!("`rekiln status {}` lists them", self.name)));
        }
        let instances = if wish.instances.is_empty() { known } else { wish.instances };
        Ok(Event::Rotate { instances, reason: wish.reason })
    }

    /// Ends between two acts: this process was asked to, or the rollout was.
    async fn end_if_asked(&mut self) -> Result<()> {
        let now = self.provider.now();
        if self.stop.load(Ordering::Relaxed) {
            self.journal.record(now, Event::Stopped { reason: "it was interrupted".to_owned() }).await?;
            return Err(Error::interrupted(format!(
                "the roll of {} was interrupted; nothing is half done",
                self.name
            ))
            .hint(format!("`rekiln roll {}` goes on where it stopped", self.name)));
        }
        if let Some(reason) = self.journal.history().cancelled.clone() {
            self.journal.record(now, Event::Stopped { reason: format!("cancelled: {reason}") }).await?;
            return Err(Error::holding(format!("the roll of {} was cancelled: {reason}", self.name))
                .hint("every instance was left as it is"));
        }
        Ok(())
    }

    /// Looks and plans. `None` when the look failed, and may be tried again.
    async fn look(&mut self, running: &mut Running) -> Result<Option<Look>> {
        let census = match self.provider.census().await {
            Ok(census) => census,
            Err(ProviderError::Throttled(_)) => {
                self.back_off(running).await;
                return Ok(None);
            }
            Err(error) => {
                self.failed(running, "look", Error::from(error)).await?;
                return Ok(None);
            }
        };
        running.failing.remove("look");
        running.throttled = 0;
        let history = self.journal.history();
        let target = history.target.as_ref().unwrap_or(&self.target);
        let targets: Vec<&Target> = std::iter::once(target).chain(&history.proven).collect();
        let outlook = self.surroundings.outlook(&targets, census.at).await?;
        if let Some(policy) = Policy::seen(self.fleet, &census, self.journal.history())? {
            running.policy = policy;
        }
        let plan = plan(&self.situation(running, &census, &outlook));
        Ok(Some(Look { census, outlook, plan }))
    }

    /// What is planned from, and shown.
    fn situation<'a>(
        &'a self,
        running: &'a Running,
        census: &'a Census,
        outlook: &'a Outlook,
    ) -> Situation<'a> {
        let history = self.journal.history();
        let target = history.target.as_ref().unwrap_or(&self.target);
        let (policy, fleet, now) = (&running.policy, self.name, census.at);
        Situation { policy, fleet, target, census, history, outlook, now }
    }

    /// Writes down what the decisions that follow were made from. Returns false when a command came instead.
    async fn saw(&mut self, running: &mut Running, look: &Look) -> Result<bool> {
        let (changed, gone) = look.census.since(&running.seen);
        let (outlook, group) = (look.outlook.clone(), look.census.group.clone());
        let seen = Event::Seen { changed, gone, outlook, group, cluster: look.census.cluster.clone() };
        let written = self.journal.propose(look.census.at, seen).await?;
        if written {
            running.seen.clone_from(&look.census);
        }
        Ok(written)
    }

    /// Notes, measures and acts as planned, until a command comes: then the rest is planned anew.
    async fn carry_out(&mut self, running: &mut Running, look: &Look) -> Result<()> {
        let Look { census, plan, .. } = look;
        for note in plan.notes.clone() {
            if !self.note(census, note, running).await? {
                return Ok(());
            }
        }
        for name in &plan.judge {
            if !self.judge(census, name).await? {
                return Ok(());
            }
        }
        for action in &plan.actions {
            if self.stop.load(Ordering::Relaxed) || !self.act(action, running).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn note(&mut self, census: &Census, note: Event, running: &mut Running) -> Result<bool> {
        let note = match note {
            Event::Failed { instance, reason, counts, .. } => {
                let console = self.provider.console_tail(&instance).await;
                self.progress.note(&instance.0, format!("failed: {reason}"));
                for line in &console {
                    self.progress.note(&instance.0, format!("  | {line}"));
                }
                self.tell(&instance, "failed", format!("{instance} failed: {reason}")).await;
                Event::Failed { instance, reason, console, counts }
            }
            Event::RolledBack { target, reason } => {
                self.condemn(&reason, census.at).await?;
                let text = format!("rolls back to {}: {reason}", target.image.short());
                self.progress.note(self.name, text.clone());
                self.news("rolling_back", format!("fleet {} {text}", self.name)).await;
                Event::RolledBack { target, reason }
            }
            Event::WavePassed { wave } => {
                let waves = running.policy.waves.len();
                if waves > 1 {
                    self.progress.note(self.name, format!("wave {} of {waves} has passed", wave + 1));
                }
                Event::WavePassed { wave }
            }
            Event::Serving { instance } => {
                let key = format!("hook after the launch of {instance}");
                if let Err(error) = self.hook(running, Step::AfterLaunch, &instance, "it serves").await {
                    // Called again at the next look: the instance does not count before.
                    self.failed(running, &key, error).await?;
                    return Ok(false);
                }
                running.failing.remove(&key);
                Event::Serving { instance }
            }
            other => other,
        };
        self.journal.propose(census.at, note).await
    }

    async fn judge(&mut self, census: &Census, name: &str) -> Result<bool> {
        let Some(gate) = self.fleet.gates.iter().find(|gate| gate.name == name) else { return Ok(true) };
        let history = self.journal.history();
        let target = history.target.as_ref().unwrap_or(&self.target);
        let reading = self.surroundings.judge(gate, target, census).await;
        let wave = history.wave.number;
        let event = Event::Judged { wave, gate: name.to_owned(), reading };
        self.journal.propose(self.provider.now(), event).await
    }

    /// Writes the intent, acts, and writes the outcome. Returns false when a command came before the intent.
    async fn act(&mut self, action: &Action, running: &mut Running) -> Result<bool> {
        let now = self.provider.now();
        // Appending is the fence: whoever lost the journal fails here, before acting.
        if !self.journal.propose(now, Event::Intent { action: action.clone() }).await? {
            return Ok(false);
        }
        let result = match self.before(action, running).await {
            Ok(()) => self.provider.apply(action).await,
            Err(error) => Err(ProviderError::Failed(error)),
        };
        let said = match &result {
            Ok(outcome) => Ok(outcome.clone()),
            Err(error @ ProviderError::Throttled(_)) => Ok(Outcome::Throttled { words: error.words() }),
            Err(error) => Err(error.words()),
        };
        let done = matches!(said, Ok(Outcome::Applied | Outcome::AlreadyDone | Outcome::Ended));
        let outcome = Event::Outcome { action: action.clone(), result: said };
        let before = self.journal.entries().len();
        self.journal.record(self.provider.now(), outcome).await?;
        // The rest of the batch was decided without what a command said meanwhile.
        let alone = self.journal.entries().len() == before + 1;
        // A launch that fails is not made anew: the next one has another name, and maybe another zone.
        let key = match action {
            Action::Launch { .. } => "launch an instance".to_owned(),
            other => other.to_string(),
        };
        match result {
            Ok(outcome) => {
                if !(matches!(action, Action::Launch { .. }) && matches!(outcome, Outcome::Refused { .. })) {
                    running.failing.remove(&key);
                }
                running.done += u64::from(outcome == Outcome::Applied);
                if let Some(text) = told(action).filter(|_| outcome == Outcome::Applied) {
                    self.progress.note(&action.id().0, text);
                }
                if let Outcome::NoCapacity { words } = outcome {
                    self.progress.note(&action.id().0, format!("not launched: {words}"));
                }
            }
            Err(ProviderError::Unclear(_)) => {}
            Err(ProviderError::Throttled(_)) => {
                self.back_off(running).await;
                return Ok(false);
            }
            Err(ProviderError::Failed(error)) => self.failed(running, &key, error).await?,
        }
        match action {
            Action::Launch { id, .. } if done => running.summary.launched.push(id.clone()),
            Action::Terminate { id, reason, .. } if done => {
                running.summary.ended.push(id.clone());
                if let Err(error) = self.hook(running, Step::AfterEnd, id, reason).await {
                    self.progress.note(&id.0, error.chain());
                }
            }
            _ => {}
        }
        Ok(alone)
    }

    /// Calls what is to be called before an act.
    async fn before(&self, action: &Action, running: &Running) -> Result<()> {
        match action {
            Action::Drain { id, .. } => self.hook(running, Step::BeforeDrain, id, "to be replaced").await,
            Action::Terminate { id, healthy: true, reason } => {
                self.hook(running, Step::AfterDrain, id, reason).await
            }
            _ => Ok(()),
        }
    }

    async fn hook(&self, running: &Running, step: Step, id: &InstanceId, reason: &str) -> Result<()> {
        if self.fleet.hooks.iter().all(|hook| hook.on != step) {
            return Ok(());
        }
        let seen = running.seen.instances.iter().find(|instance| instance.id == *id);
        self.surroundings.hook(step, id, seen, reason).await
    }

    async fn news(&self, event: &str, text: String) {
        self.surroundings.tell(News { at: self.provider.now(), event, text, instance: None }).await;
    }

    async fn tell(&self, instance: &InstanceId, event: &str, text: String) {
        let news = News { at: self.provider.now(), event, text, instance: Some(instance) };
        self.surroundings.tell(news).await;
    }
}

/// Returns the last census that the journal knows.
fn last_seen(journal: &Journal) -> Census {
    let mut census = Census::empty(Timestamp::UNIX_EPOCH);
    let mut all: BTreeMap<&InstanceId, &Instance> = BTreeMap::new();
    for entry in journal.entries() {
        if let Event::Seen { changed, gone, group, cluster, .. } = &entry.event {
            (census.at, census.group, census.cluster) = (entry.at, group.clone(), cluster.clone());
            for id in gone {
                all.remove(id);
            }
            all.extend(changed.iter().map(|instance| (&instance.id, instance)));
        }
    }
    census.instances = all.into_values().cloned().collect();
    census
}

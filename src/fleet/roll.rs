//! Do: census, plan, intent, act, outcome, and again. No choices are made here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::SignedDuration;

use super::census::{Census, InstanceId, State};
use super::generation::Target;
use super::history::Event;
use super::journal::Journal;
use super::plan::{Hold, Kind, Plan, plan};
use super::policy::Policy;
use crate::diagnostic::nearest;
use crate::error::{Error, Result};
use crate::progress::{self, Progress};
use crate::provider::{Action, Outcome, Provider, ProviderError};

/// How long to wait between two looks when nothing can be done: short beside a boot, long beside a look.
const POLL: Duration = Duration::from_millis(200);

/// How often in a row an act may fail before the roll stops. What heals by itself has healed by the third.
const ATTEMPTS: u32 = 3;

/// One roll of one fleet.
pub struct Roll<'a, P> {
    /// The fleet's name.
    pub fleet: &'a str,
    /// How.
    pub policy: Policy,
    /// Where to.
    pub target: Target,
    /// Where the instances live.
    pub provider: &'a P,
    /// The journal; whoever appends first has it.
    pub journal: &'a mut Journal,
    /// Where progress goes.
    pub progress: &'a dyn Progress,
    /// Set when the roll should stop after the act at hand.
    pub stop: &'a AtomicBool,
}

/// What to replace although nothing changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Which; every member when empty.
    pub instances: Vec<InstanceId>,
    /// Why.
    pub reason: String,
}

/// What a roll did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Instances launched.
    pub launched: Vec<InstanceId>,
    /// Instances ended.
    pub ended: Vec<InstanceId>,
}

impl<P: Provider> Roll<'_, P> {
    /// Rolls until every instance is what it should be.
    ///
    /// Safe to end at any moment and to run again: what was begun is found in the journal and the census.
    ///
    /// # Errors
    /// Lost journal when another process has it; holding when work remains and something blocks it; whatever the
    /// provider cannot do three times in a row.
    pub async fn run(mut self, reason: &str, wish: Option<Wish>) -> Result<Summary> {
        let now = self.provider.now();
        self.journal.refuse_rival(now)?;
        let wish = match wish {
            Some(wish) => Some(self.wanted(&self.provider.census().await?, wish)?),
            None => None,
        };
        let opened = Event::Opened { target: self.target.clone(), reason: reason.to_owned() };
        self.journal.append(now, opened).await?;
        if let Some(wish) = wish {
            self.journal.append(now, wish).await?;
        }
        let mut summary = Summary { launched: Vec::new(), ended: Vec::new() };
        let mut failing = BTreeMap::new();
        let mut still = (now, Vec::new());
        let mut steps = Steps::default();
        loop {
            self.provider.prepare().await?;
            let census = self.provider.census().await?;
            let plan =
                plan(&self.policy, self.fleet, &self.target, &census, &self.journal.history(), census.at);
            steps.follow(self.progress, &plan);
            if plan.done() {
                self.journal.append(census.at, Event::Completed).await?;
                return Ok(summary);
            }
            self.stop_here(&census, &plan, &mut still).await?;
            for note in plan.notes.clone() {
                self.note(&census, note).await?;
            }
            for action in &plan.actions {
                if self.stop.load(Ordering::Relaxed) {
                    break;
                }
                self.act(action, &mut summary, &mut failing).await?;
            }
            if plan.actions.is_empty() && plan.notes.is_empty() {
                self.provider.wait(POLL).await;
            }
        }
    }

    /// Finds what a wish is about, before anything is written.
    fn wanted(&self, census: &Census, wish: Wish) -> Result<Event> {
        let living = census.instances.iter().filter(|instance| instance.state != State::Dead);
        let known: Vec<_> = living.map(|instance| instance.id.clone()).collect();
        if let Some(id) = wish.instances.iter().find(|id| !known.contains(id)) {
            let error = Error::invalid(format!("fleet {} has no instance {id}", self.fleet));
            return Err(match nearest(&id.0, known.iter().map(|id| id.0.as_str())) {
                Some(meant) => error.hint(format!("did you mean `{meant}`?")),
                None => error,
            }
            .hint(format!("`rekiln status {}` lists them", self.fleet)));
        }
        let instances = if wish.instances.is_empty() { known } else { wish.instances };
        Ok(Event::Rotate { instances, reason: wish.reason })
    }

    async fn note(&mut self, census: &Census, note: Event) -> Result<()> {
        let note = match note {
            Event::Failed { instance, reason, .. } => {
                let console = self.provider.console_tail(&instance);
                self.progress.note(&instance.0, format!("failed: {reason}"));
                for line in &console {
                    self.progress.note(&instance.0, format!("  | {line}"));
                }
                Event::Failed { instance, reason, console }
            }
            other => other,
        };
        self.journal.append(census.at, note).await
    }

    /// Ends the roll between two acts: asked to, blocked, or without any change for too long.
    async fn stop_here(
        &mut self,
        census: &Census,
        plan: &Plan,
        still: &mut (jiff::Timestamp, Vec<Hold>),
    ) -> Result<()> {
        if !plan.actions.is_empty() || !plan.notes.is_empty() || plan.holds != still.1 {
            *still = (census.at, plan.holds.clone());
        }
        // What blocks comes alone; without such, all that is waited for.
        let mut why: Vec<_> = plan.holds.iter().filter(|hold| hold.blocks()).collect();
        if why.is_empty() {
            why = plan.holds.iter().collect();
        }
        let holds = why.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        // Twice the time an instance may take to serve, and a minute for whatever else: nothing moves any more.
        let patience =
            self.policy.deadline + self.policy.deadline + self.policy.drain + SignedDuration::from_mins(1);
        if self.stop.load(Ordering::Relaxed) {
            self.journal
                .append(census.at, Event::Stopped { reason: "it was interrupted".to_owned() })
                .await?;
            return Err(Error::interrupted(format!(
                "the roll of {} was interrupted; nothing is half done",
                self.fleet
            ))
            .hint(format!("`rekiln roll {}` goes on where it stopped", self.fleet)));
        }
        if plan.blocked() {
            let reasons: Vec<_> = why.iter().filter_map(|hold| hold.reason()).collect();
            self.journal.append(census.at, Event::Halted { reason: reasons.join("; ") }).await?;
        } else if census.at.duration_since(still.0) > patience {
            self.journal.append(census.at, Event::Stopped { reason: holds.clone() }).await?;
        } else {
            return Ok(());
        }
        Err(Error::holding(format!("fleet {}: {holds}{}", self.fleet, self.last_console())).hint(format!(
            "`rekiln history {}` has the consoles of failed instances; what served still serves",
            self.fleet
        )))
    }

    /// The end of the console of the instance that failed last in this roll; empty when none did.
    fn last_console(&self) -> String {
        let this = self.journal.entries().iter().rev();
        let mut this = this.take_while(|entry| !matches!(entry.event, Event::Opened { .. }));
        let last = this.find_map(|entry| match &entry.event {
            Event::Failed { instance, console, .. } => Some((instance, console)),
            _ => None,
        });
        last.map_or_else(String::new, |(instance, console)| {
            let what = if console.is_empty() { "is empty" } else { "ends with\n  | " };
            format!("\nthe console of {instance} {what}{}", console.join("\n  | "))
        })
    }

    async fn act(
        &mut self,
        action: &Action,
        summary: &mut Summary,
        failing: &mut BTreeMap<String, u32>,
    ) -> Result<()> {
        let now = self.provider.now();
        // Appending is the fence: whoever lost the journal fails here, before acting.
        self.journal.append(now, Event::Intent { action: action.clone() }).await?;
        let result = self.provider.apply(action).await;
        let key = action.to_string();
        let said = match &result {
            Ok(outcome) => {
                failing.remove(&key);
                if let Some(text) = told(action).filter(|_| *outcome == Outcome::Applied) {
                    self.progress.note(&action.id().0, text);
                }
                Ok(outcome.clone())
            }
            Err(ProviderError::Unclear(what)) => Err(what.clone()),
            Err(ProviderError::Failed(error)) => Err(error.chain()),
        };
        let done = matches!(said, Ok(Outcome::Applied | Outcome::AlreadyDone));
        self.journal
            .append(self.provider.now(), Event::Outcome { action: action.clone(), result: said })
            .await?;
        match action {
            Action::Launch { id, .. } if done => summary.launched.push(id.clone()),
            Action::Terminate { id, .. } if done => summary.ended.push(id.clone()),
            _ => {}
        }
        if let Err(ProviderError::Failed(error)) = result {
            let times = failing.entry(key.clone()).or_insert(0);
            *times += 1;
            if *times >= ATTEMPTS {
                self.journal.append(self.provider.now(), Event::Stopped { reason: error.chain() }).await?;
                return Err(error.during(key));
            }
            self.provider.wait(POLL).await;
        }
        Ok(())
    }
}

/// The steps a reader sees: one line an instance for its start, and one for its drain.
#[derive(Default)]
struct Steps(BTreeMap<InstanceId, (&'static str, Instant)>);

impl Steps {
    fn follow(&mut self, progress: &dyn Progress, plan: &Plan) {
        let mut gone: BTreeSet<_> = self.0.keys().cloned().collect();
        for member in &plan.members {
            gone.remove(&member.id);
            match member.kind {
                Kind::Starting => self.turn(progress, &member.id, Some("starting")),
                Kind::Draining => self.turn(progress, &member.id, Some("draining")),
                // A look that failed ends no step.
                Kind::Unknown | Kind::Absent | Kind::Unfinished => {}
                _ => self.turn(progress, &member.id, None),
            }
        }
        for id in gone {
            self.turn(progress, &id, None);
        }
    }

    fn turn(&mut self, progress: &dyn Progress, id: &InstanceId, step: Option<&'static str>) {
        let now = self.0.get(id).map(|(step, _)| *step);
        if now == step {
            return;
        }
        let scope = id.0.clone();
        if let Some((step, start)) = self.0.remove(id) {
            let seconds = start.elapsed().as_secs_f64();
            progress.tell(progress::Event::Finished { scope: scope.clone(), step: step.to_owned(), seconds });
        }
        if let Some(step) = step {
            progress.tell(progress::Event::Started { scope, step: step.to_owned() });
            self.0.insert(id.clone(), (step, Instant::now()));
        }
    }
}

/// What a reader is told of an act that was done; the steps tell of the others.
fn told(action: &Action) -> Option<String> {
    match action {
        Action::Launch { generation, .. } => Some(
            generation
                .image()
                .map_or_else(|| "launched".to_owned(), |image| format!("launched from {}", image.short())),
        ),
        Action::Terminate { reason, .. } => Some(format!("ended ({reason})")),
        Action::Admit { .. } => Some("serves".to_owned()),
        Action::Drain { .. } => None,
    }
}

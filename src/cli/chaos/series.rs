//! One kill after the other: when, who heals, when it is over. What is decided is decided in `fleet::chaos`.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::Asked;
use super::report::{Medians, Told, lines};
use crate::chain::{Says as _, Writer};
use crate::cli::Context;
use crate::cli::fleet::Site;
use crate::error::{Error, Kind, Result};
use crate::fleet::chaos::probe::{Door, Probe};
use crate::fleet::chaos::strike::{Looked, Striker, Struck};
use crate::fleet::chaos::{Refusal, Which, draw};
use crate::fleet::moment::lasting;
use crate::fleet::roll::Order;
use crate::provider::Provider as _;
use crate::watch;

/// How often it is looked, where the provider does not say that this is too often: what is measured is known as well as that.
const LOOK: Duration = Duration::from_millis(250);

/// How long a watcher, which is there, has to begin to replace what was killed: four of its looks, as often as it looks by
/// default. It may be one that knows nothing of this fleet.
const WATCHERS_TURN: SignedDuration = SignedDuration::from_mins(1);

/// How long it is waited between two tries to kill.
const AGAIN: Duration = Duration::from_secs(2);

/// When kills are, and how long the fleet has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// How long after a kill the next one is; `None` for one kill.
    pub(super) every: Option<Duration>,
    /// How long kills may begin.
    pub(super) lasts: Option<Duration>,
    /// How long the fleet has to get over one.
    pub(super) heals_within: SignedDuration,
}

/// A series of kills.
pub(super) struct Series<'a> {
    pub(super) context: &'a Context,
    pub(super) site: &'a Site,
    pub(super) which: &'a Which,
    pub(super) door: Option<Door>,
    pub(super) seed: u64,
    pub(super) times: Times,
    pub(super) reason: &'a str,
    pub(super) asked: &'a Asked,
}

impl Series<'_> {
    /// Kills until it is over, and says how it went.
    pub(super) fn run(&self) -> Result<u8> {
        let Self { context, site, seed, .. } = self;
        let mut kills = Vec::new();
        let end = self.kill(&mut kills);
        if !kills.is_empty() {
            context.output.line(format!("fleet {}: {} killed, seed {seed}", site.name, kills.len()));
            for line in lines(&kills) {
                context.output.line(line);
            }
            if self.door.is_none() {
                context.output.hint("`probe` of [chaos], or `--probe URL`, says what clients saw meanwhile");
            }
        }
        let healed = kills.iter().filter(|told| told.healed).count();
        context.output.json(&serde_json::json!({
            "event": "chaos", "fleet": site.name, "seed": seed, "killed": kills.len(), "healed": healed,
            "medians": Medians::of(&kills),
        }));
        end.map(|()| 0)
    }

    fn kill(&self, kills: &mut Vec<Told>) -> Result<()> {
        let begun = Instant::now();
        let Times { every, lasts, .. } = self.times;
        let mut waits = None;
        let mut due = begun;
        loop {
            let over = lasts.is_some_and(|lasts| begun.elapsed() >= lasts);
            if self.asked.ends() {
                return Err(self.interrupted(kills.len()));
            }
            if over && kills.is_empty() {
                let why = waits.unwrap_or_else(|| "there was no time for it".to_owned());
                return Err(Refusal::NotYet(vec![why]).error(&self.site.name));
            }
            if over {
                return Ok(());
            }
            if Instant::now() < due {
                self.rest(LOOK);
                continue;
            }
            match self.strike(kills.len())? {
                Ok((struck, probe)) => {
                    due = Instant::now() + every.unwrap_or_default();
                    waits = None;
                    self.attend(kills, struck, probe)?;
                    if every.is_none() {
                        return Ok(());
                    }
                }
                Err(Refusal::NotYet(reasons)) if every.is_some() => {
                    let why = reasons.join("; ");
                    if waits.as_ref() != Some(&why) {
                        self.context.progress().note(&self.site.name, format!("waits: {why}"));
                    }
                    waits = Some(why);
                    self.rest(AGAIN);
                }
                Err(refusal) => return Err(refusal.error(&self.site.name)),
            }
        }
    }

    /// Begins to ask what clients ask, and kills.
    fn strike(&self, number: usize) -> Result<Result<(Struck, Option<Probe>), Refusal>> {
        let Self { context, site, which, reason, .. } = self;
        let surroundings = site.surroundings(context);
        context.block_on(async {
            if let Some(door) = self.door.as_ref()
                && !door.answers().await
            {
                let why = "clients get no good answer already, before anything is killed";
                return Ok(Err(Refusal::NotYet(vec![why.to_owned()])));
            }
            let mut journal = site.journal("chaos").await?;
            let probe = self.door.clone().map(Probe::start);
            let draw = draw(self.seed, number as u64);
            let striker = self.striker(&surroundings);
            match striker.strike(&mut journal, which, draw, reason).await {
                Ok(Ok(struck)) => Ok(Ok((struck, probe))),
                Ok(Err(refusal)) => {
                    stop(probe).await;
                    Ok(Err(refusal))
                }
                Err(error) => {
                    stop(probe).await;
                    Err(error)
                }
            }
        })
    }

    fn striker<'a, S>(&'a self, surroundings: &'a S) -> Striker<'a, crate::provider::Place, S> {
        let Site { name, fleet, policy, provider, .. } = self.site;
        Striker { name, fleet, policy, provider, surroundings }
    }

    /// Lets the fleet get over a kill, and adds how it went.
    fn attend(&self, kills: &mut Vec<Told>, mut struck: Struck, probe: Option<Probe>) -> Result<()> {
        let Self { context, site, .. } = self;
        let number = kills.len() + 1;
        let (victim, floor, size) = (struck.victim.clone(), struck.floor, struck.size);
        let zone = victim.zone.as_ref().map_or_else(String::new, |zone| format!(" in {zone}"));
        let text = format!("killed {}{zone}: {} of {size} serve, {floor} must", victim.instance, size - 1);
        context.progress().note(&site.name, text);
        context.output.json(&serde_json::json!({
            "event": "killing", "fleet": site.name, "number": number, "victim": victim, "size": size, "floor": floor,
        }));
        let end = self.heal(&mut struck);
        let clients = context.block_on(async { Ok(stop(probe).await) })?;
        let told = Told {
            number,
            instance: victim.instance,
            zone: victim.zone,
            at: struck.cure.killed,
            replacement: struck.cure.replacement.clone(),
            times: struck.cure.times(),
            clients,
            healer: struck.healer.clone(),
            healed: end.is_ok(),
        };
        let text = told.text();
        context
            .output
            .json(&serde_json::json!({ "event": "killed", "fleet": site.name, "kill": &told, "text": text }));
        if let Some(whole) = told.times.whole_s.filter(|_| told.healed) {
            context.progress().note(&site.name, format!("is whole again, {whole:.1} s after the kill"));
        }
        kills.push(told);
        end
    }

    /// Looks until the fleet got over a kill, and rolls it where nobody else does.
    fn heal(&self, struck: &mut Struck) -> Result<()> {
        let Self { context, site, .. } = self;
        let surroundings = site.surroundings(context);
        let watched = self.is_watched();
        let mut journal = context.block_on(site.journal("chaos"))?;
        // From then on it may be rolled here.
        let mut ours = if watched { WATCHERS_TURN } else { SignedDuration::ZERO };
        loop {
            let looked = context.block_on(async {
                let striker = self.striker(&surroundings);
                striker.look(&mut journal, struck).await
            })?;
            if looked.is_some_and(|looked| looked.cured) {
                return Ok(());
            }
            let lasted = site.provider.now().duration_since(struck.cure.killed);
            if self.asked.stops() {
                return Err(self.interrupted(0).hint(format!(
                    "{} is not replaced yet: `rekiln roll {} --to current` does",
                    struck.victim.instance, site.name
                )));
            }
            if lasted >= self.times.heals_within {
                return Err(self.not_healed(struck, looked, lasted));
            }
            let known = struck.cure.detected.is_some();
            if known && lasted >= ours && looked.is_some_and(|looked| !looked.rolled) {
                match self.roll(struck) {
                    Ok(()) => {}
                    // Somebody else was first: it is theirs, and this only looks.
                    Err(error) if matches!(error.kind(), Kind::LostJournal) => {
                        ours = lasted.checked_add(WATCHERS_TURN).unwrap_or(SignedDuration::MAX);
                    }
                    Err(error) if matches!(error.kind(), Kind::Interrupted) => return Err(error),
                    Err(error) => {
                        let (name, victim) = (&site.name, &struck.victim.instance);
                        let failed =
                            format!("fleet {name} did not get over the end of {victim}: {}", error.chain());
                        return Err(error.hints().iter().fold(Error::failed(failed), Error::hint));
                    }
                }
            } else {
                self.rest(LOOK);
            }
        }
    }

    /// Rolls the fleet to where it was.
    fn roll(&self, struck: &Struck) -> Result<()> {
        let Self { context, site, .. } = self;
        let target = site.target_now(context, Some("current"))?;
        let reason = format!("chaos killed {}", struck.victim.instance);
        let order = Order { reason, ..Order::default() };
        site.roll_until(context, "chaos", target, order, &self.asked.stop).map(drop)
    }

    /// Tells whether some watcher of the store leads: then it keeps the fleet.
    fn is_watched(&self) -> bool {
        let Self { context, .. } = self;
        let found = context.block_on(async {
            let objects = context.store()?.objects();
            for branch in objects.under(watch::event::Event::FOLDER).folders().await? {
                let writer = Writer::this("rekiln chaos");
                let journal = watch::event::Journal::open(&objects, &branch, writer).await?;
                if journal.roller(Timestamp::now()).is_some() {
                    return Ok(true);
                }
            }
            Ok(false)
        });
        // Whoever cannot be seen to watch is not waited for.
        found.unwrap_or(false)
    }

    fn rest(&self, time: Duration) {
        let waited = self.context.block_on(async {
            self.site.provider.wait(time).await;
            Ok(())
        });
        drop(waited);
    }

    fn interrupted(&self, killed: usize) -> Error {
        let name = &self.site.name;
        Error::interrupted(if killed == 0 {
            format!("chaos in fleet {name} was interrupted")
        } else {
            format!("chaos in fleet {name} was interrupted, and everything that it killed is replaced")
        })
    }

    fn not_healed(&self, struck: &Struck, looked: Option<Looked>, lasted: SignedDuration) -> Error {
        let (name, size) = (&self.site.name, struck.size);
        let (victim, lasted) = (&struck.victim.instance, lasting(lasted));
        let state = match (looked, struck.cure.detected) {
            (None, _) => "it cannot be looked at now".to_owned(),
            (_, None) => format!("nothing noticed yet that {victim} is dead"),
            (Some(Looked { serving, rolled, .. }), _) => {
                let who = if rolled { "and it is being rolled" } else { "and nobody rolls it" };
                format!("{serving} of {size} serve, {who}")
            }
        };
        Error::failed(format!("fleet {name} did not get over the end of {victim} within {lasted}: {state}"))
            .hint(format!("`rekiln status {name}` says what each instance is, and what is waited for"))
            .hint(format!("`rekiln history {name}` has what was done since, and the consoles of what failed"))
    }
}

/// Ends a client, and returns what it saw.
async fn stop(probe: Option<Probe>) -> Option<crate::fleet::chaos::measure::Clients> {
    match probe {
        Some(probe) => Some(probe.stop().await),
        None => None,
    }
}

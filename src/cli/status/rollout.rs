//! How far a fleet's rollout is, and what keeps it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use crate::catalog::quarantine::{Quarantine, Quarantined};
use crate::cli::Context;
use crate::cli::fleet::{Site, settled};
use crate::digest::ImageId;
use crate::error::Result;
use crate::fleet::breaker::{Failures, open_by};
use crate::fleet::census::InstanceId;
use crate::fleet::generation::Target;
use crate::fleet::history::{History, Kill};
use crate::fleet::journal::Writer;
use crate::fleet::plan::{Expected, Hold, Kind, Standing, expected, stage, waiting};
use crate::fleet::policy::Policy;

/// What a reader of `status` wants to know beside the instances.
#[derive(Debug, Serialize)]
pub(super) struct Rollout {
    /// Where the current or last rollout goes, or went.
    target: Option<ImageId>,
    /// What it is: `rolling`, `completed`, `halted`, `cancelled`, or nothing yet.
    state: Option<&'static str>,
    /// Why it halted, was cancelled, or goes back.
    reason: Option<String>,
    /// Whether it goes back to what completed last.
    back: bool,
    /// Who works at it.
    roller: Option<Writer>,
    /// The wave that is worked at, from 1.
    wave: Option<usize>,
    /// Of how many.
    waves: usize,
    /// Why the fleet is paused.
    paused: Option<String>,
    /// Whom chaos killed, where that is not replaced yet.
    chaos: Option<Kill>,
    /// Whether it skips what an emergency skips.
    emergency: bool,
    /// The entry of its image in the quarantine.
    quarantined: Option<Quarantined>,
    /// Why nothing voluntary begins in any fleet.
    breaker: Option<String>,
    /// What a running rollout waits for.
    holds: Vec<Hold>,
    /// When a running rollout ends, if it goes on.
    end: Option<Expected>,
    /// When this was seen.
    now: Timestamp,
    /// How many instances are not as Git asks; `None` while a rollout is unfinished, or when nobody can tell.
    behind: Option<usize>,
    /// What each instance is to the rollout or, when none is unfinished, to the next one.
    #[serde(skip)]
    pub(super) standings: Vec<(Standing, String)>,
    /// How the fleet is rolled, with the size that was seen.
    #[serde(skip)]
    pub(super) policy: Policy,
}

/// What a look at a fleet says of a rollout.
#[derive(Default)]
struct Found {
    standings: Vec<(Standing, String)>,
    holds: Vec<Hold>,
    end: Option<Expected>,
    policy: Option<Policy>,
    serving: BTreeSet<InstanceId>,
}

impl Found {
    fn of(context: &Context, site: &Site, target: &Target) -> Result<Self> {
        let look = context.block_on(site.look(context, target))?;
        let situation = look.situation(site, target);
        let plan = settled(&situation);
        let seen: BTreeMap<_, _> = look.census.instances.iter().map(|seen| (&seen.id, seen)).collect();
        let told = |member: Standing| {
            let text = member.told(seen.get(&member.id).copied(), target);
            (member, text)
        };
        let end = Some(expected(&situation, &look.experience));
        let standings = plan.members.into_iter().map(told).collect();
        let serving = look.census.instances.iter().filter(|seen| seen.serves()).map(|seen| seen.id.clone());
        let (serving, policy) = (serving.collect(), Some(look.policy.clone()));
        Ok(Self { standings, holds: plan.holds, end, policy, serving })
    }
}

impl Rollout {
    pub(super) fn of(context: &Context, site: &Site) -> Result<Self> {
        let journal = context.block_on(site.journal("status"))?;
        let history = journal.history();
        let unfinished = history.unfinished();
        let target = history.target.as_ref();
        // When none is unfinished, the next one goes where Git asks, if that can be told and was baked.
        let next = if unfinished { None } else { site.target().ok().map(|(target, _)| target) };
        let found = match next.as_ref().or(target) {
            None => Found::default(),
            Some(target) => Found::of(context, site, target)?,
        };
        let Found { standings, holds, end, policy, serving } = found;
        let policy = policy.unwrap_or_else(|| site.policy.clone());
        let (holds, end) = if unfinished { (holds, end) } else { (Vec::new(), None) };
        let other = |(member, _): &&(Standing, String)| member.kind != Kind::Current;
        let behind = next.map(|_| standings.iter().filter(other).count());
        let at = target.filter(|_| unfinished).and_then(|target| stage(&policy, history, target));
        let places = site.places();
        let (quarantined, failures) = context.block_on(async {
            let quarantined = match target {
                Some(target) => Quarantine::new(&places).get(target.image).await?,
                None => None,
            };
            Ok((quarantined, Failures::new(&places).list().await?))
        })?;
        let (state, reason) = state(history);
        Ok(Self {
            target: target.map(|target| target.image),
            state,
            reason,
            back: unfinished && history.retreat.is_some(),
            roller: journal.roller(Timestamp::now()).map(|entry| entry.by.clone()),
            wave: at.map(|stage| stage.number + 1),
            waves: policy.waves.len(),
            paused: history.paused.clone(),
            chaos: history.uncured(Timestamp::now(), |id| serving.contains(id)).cloned(),
            emergency: unfinished && history.emergency,
            quarantined,
            breaker: open_by(&site.fleet.roll.breaker, &failures)?,
            holds,
            end,
            now: Timestamp::now(),
            behind,
            standings,
            policy,
        })
    }

    /// Says all of it that is out of the ordinary.
    pub(super) fn lines(&self, fleet: &str) -> Vec<String> {
        let mut lines = Vec::new();
        let image = self.target.map(|target| target.short()).unwrap_or_default();
        let reason = self.reason.as_deref().unwrap_or_default();
        match self.state {
            Some("rolling") => lines.push(self.rolling(fleet, &image, reason)),
            Some(state @ ("halted" | "cancelled")) => {
                lines.push(format!("the rollout to {image} was {state}: {reason}"));
            }
            _ => {}
        }
        lines.extend(self.chaos.iter().map(|kill| kill.told(self.now)));
        if self.emergency {
            lines.push("it is an emergency: no canary, waves, soak, gates, windows or rate".to_owned());
        }
        // The holds of a rollout have these in other words.
        let held = |is: fn(&Hold) -> bool| self.holds.iter().any(is);
        if let Some(reason) =
            self.paused.as_ref().filter(|_| !held(|hold| matches!(hold, Hold::Paused { .. })))
        {
            lines.push(format!("paused: {reason}"));
        }
        if let Some(why) =
            self.breaker.as_ref().filter(|_| !held(|hold| matches!(hold, Hold::Breaker { .. })))
        {
            lines.push(format!("the circuit breaker is open: {why}"));
        }
        let refused = held(|hold| matches!(hold, Hold::Refused { .. }));
        if let Some(Quarantined { by, reason, .. }) = self.quarantined.as_ref().filter(|_| !refused) {
            lines.push(format!("its image {image} is quarantined by {by}: {reason}"));
        }
        lines.extend(waiting(&self.holds, self.now).iter().map(|text| format!("waiting: {text}")));
        lines.extend(self.end.iter().map(|end| end.told(self.now)));
        if let Some(behind @ 1..) = self.behind {
            let are = if behind == 1 { "is" } else { "are" };
            lines.push(format!(
                "{behind} {are} not as Git asks; `rekiln plan {fleet}` says what a roll would do"
            ));
        }
        if self.paused.is_some() {
            lines.push(format!("next: `rekiln resume {fleet}`"));
        } else if self.breaker.is_some() {
            lines.push("next: `rekiln breaker`".to_owned());
        }
        lines
    }

    fn rolling(&self, fleet: &str, image: &str, reason: &str) -> String {
        let what =
            if self.back { format!("goes back to {image} ({reason})") } else { format!("rolls to {image}") };
        let wave = match self.wave {
            Some(wave) if self.waves > 1 => format!(", wave {wave} of {}", self.waves),
            _ => String::new(),
        };
        let who = match &self.roller {
            Some(Writer { host, pid, command, .. }) => format!("by `{command}`, process {pid} on {host}"),
            None if self.back => {
                format!("but nobody works at it; `rekiln roll {fleet} --to previous` goes on")
            }
            None => format!("but nobody works at it; `rekiln roll {fleet}` goes on"),
        };
        format!("{what}{wave}, {who}")
    }
}

/// Says what a fleet's last rollout is, in a word, and why.
pub fn state(history: &History) -> (Option<&'static str>, Option<String>) {
    match (&history.halted, &history.cancelled) {
        _ if history.target.is_none() => (None, None),
        _ if history.completed => (Some("completed"), None),
        (Some(reason), _) => (Some("halted"), Some(reason.clone())),
        (_, Some(reason)) => (Some("cancelled"), Some(reason.clone())),
        _ => (Some("rolling"), history.retreat.as_ref().map(|retreat| retreat.reason.clone())),
    }
}

//! Decide: whether an instance may be killed on purpose now, and which.
//!
//! Chaos proves that a fleet bears what happens to it anyway. It never adds to a failure: it kills one instance at a time, of a
//! fleet that is whole, and none before the last one is replaced.

pub mod measure;
pub mod probe;
pub mod strike;
#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Share;
use super::census::{Census, Health, Instance, InstanceId, State};
use super::cluster::leader;
use super::history::History;
use super::moment;
use super::policy::{duration, share};
use super::stateful::{Copies, Durability};
use super::windows::Windows;
use crate::diagnostic::nearest;
use crate::error::{Error, Result};

/// How many instances that do not serve are named; of more, their number says as much.
const NAMED: usize = 3;

/// Killing instances on purpose: what `rekiln chaos` keeps to, and with `every` a schedule that `rekiln watch` carries out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Chaos {
    /// How often `rekiln watch` kills an instance, such as `1d`; without it, only `rekiln chaos` does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    /// When it may, such as `Mon-Fri 09:00-16:00 Europe/Berlin`; without any, always but on the days of `roll.except`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<String>,
    /// How many instances serve at least, whatever is killed: a count or `75%` (rounded up); one less than the size by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<Share>,
    /// What clients ask, which is asked ten times a second meanwhile: an URL, `$NAME`, the environment variable that has it, or
    /// `tcp://HOST:PORT`, which is connected to. Machines on this computer are asked where they listen by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
    /// Which instance `rekiln watch` kills.
    pub target: Aim,
}

/// Which instance is killed where nobody names one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// Any, by chance.
    #[default]
    Random,
    /// The one that leads.
    Leader,
}

/// A schedule that a watcher carries out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// How long after the last kill the next one is due.
    pub every: SignedDuration,
    /// When it may be.
    pub windows: Windows,
    /// Whether the leader is killed.
    pub leader: bool,
}

impl Chaos {
    /// Returns how many of `size` must serve whatever is killed: at least one.
    ///
    /// # Errors
    /// A share that does not read.
    pub fn floor(&self, size: usize) -> Result<usize> {
        let floor = match &self.floor {
            Some(floor) => share("chaos.floor", floor, size, true)?,
            None => size.saturating_sub(1),
        };
        Ok(floor.max(1))
    }

    /// Returns the standing schedule, if there is one. `except` are the days of the fleet on which nothing voluntary begins.
    ///
    /// # Errors
    /// Words that do not read.
    pub fn standing(&self, except: &[String]) -> Result<Option<Standing>> {
        let Some(every) = &self.every else { return Ok(None) };
        let windows = Windows::parse(&self.windows, except);
        Ok(Some(Standing {
            every: duration("chaos.every", every)?,
            windows: windows.map_err(|why| Error::invalid(format!("`chaos.windows`: {why}")))?,
            leader: self.target == Aim::Leader,
        }))
    }
}

impl Standing {
    /// Tells whether a kill is due: so long after the last one, or where there was none, since `first`, when somebody first
    /// watched.
    #[must_use]
    pub fn is_due(&self, last: Option<Timestamp>, first: Option<Timestamp>, now: Timestamp) -> bool {
        let since = last.or(first);
        since.is_some_and(|since| now.duration_since(since) >= self.every) && self.windows.is_open(now)
    }
}

/// Which instances are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Which {
    /// Only the leader.
    pub leader: bool,
    /// Only those of this zone.
    pub zone: Option<String>,
    /// Only this one, by its id here or at its provider.
    pub instance: Option<String>,
}

/// Everything that a victim is chosen from.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The fleet's name.
    pub fleet: &'a str,
    /// Which instances are meant.
    pub which: &'a Which,
    /// How many instances the fleet is to have.
    pub size: usize,
    /// How many must serve whatever is killed.
    pub floor: usize,
    /// How much of its data must survive; `None` where the fleet holds none.
    pub copies: Option<&'a Copies>,
    /// What was seen.
    pub census: &'a Census,
    /// What is remembered.
    pub history: &'a History,
    /// Why nothing voluntary may begin in any fleet.
    pub breaker: Option<&'a str>,
    /// The time.
    pub now: Timestamp,
}

/// An instance that may be killed now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Victim {
    /// Which.
    pub instance: InstanceId,
    /// Its zone, where there are zones.
    pub zone: Option<String>,
    /// How many others must serve at the moment of its end.
    pub others: usize,
}

/// Why none may be killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Not now: whatever it is, it passes, or a person ends it.
    NotYet(Vec<String>),
    /// Never, as it was asked; and what would be.
    Never {
        /// Why.
        why: String,
        /// What to do instead.
        hint: String,
    },
}

impl Refusal {
    fn never(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Never { why: why.into(), hint: hint.into() }
    }

    /// Says it as the error of a command.
    #[must_use]
    pub fn error(self, fleet: &str) -> Error {
        match self {
            Self::NotYet(reasons) => {
                Error::holding(format!("fleet {fleet}: nothing is killed: {}", reasons.join("; "))).hint(
                    format!(
                        "`rekiln status {fleet}` says more; chaos kills in a fleet that is whole and at rest"
                    ),
                )
            }
            Self::Never { why, hint } => Error::invalid(format!("fleet {fleet}: {why}")).hint(hint),
        }
    }
}

/// Tells whether an instance leads its fleet. Fleets whose instances are all alike have no leader.
#[must_use]
pub fn is_leader(instance: &Instance) -> bool {
    instance.leads()
}

/// Returns the number of a kill's draw: all that chance there is comes from the seed, so that a series can be repeated. The
/// mixing is that of `SplitMix64` (Steele, Lea and Flood, 2014): like seeds give unlike draws.
#[must_use]
pub const fn draw(seed: u64, kill: u64) -> u64 {
    let mut mixed = seed.wrapping_add(kill.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Chooses whom to kill now. A pure function: same arguments, same victim.
///
/// # Errors
/// Why nobody is.
pub fn victim(situation: &Situation<'_>, draw: u64) -> Result<Victim, Refusal> {
    let Situation { fleet, size, floor, census, history, .. } = *situation;
    if history.target.is_none() {
        return Err(Refusal::never(
            "it was never rolled, so that nothing would replace what is killed",
            format!("`rekiln roll {fleet}` rolls it"),
        ));
    }
    if floor + 1 > size {
        return Err(Refusal::never(
            format!("with {floor} of {size} that must serve, none may be killed"),
            "the floor is one less than the size, and at least 1: make the fleet larger, or lower `floor` of [chaos]",
        ));
    }
    let meant = meant(situation)?;
    let reasons = [at_rest(situation), whole(situation), together(situation)].concat();
    if !reasons.is_empty() {
        return Err(Refusal::NotYet(reasons));
    }
    let (mut candidates, mut spared) = (Vec::new(), Vec::new());
    for seen in meant.into_iter().filter(|seen| seen.serves()) {
        match situation.copies.and_then(|copies| needed(seen, census, copies)) {
            Some(why) => spared.push(format!("{}: {why}", seen.id)),
            None => candidates.push(seen),
        }
    }
    if candidates.is_empty() && !spared.is_empty() {
        return Err(Refusal::NotYet(spared));
    }
    candidates.sort_by(|a, b| a.id.cmp(&b.id));
    candidates.dedup_by(|a, b| a.id == b.id);
    // A number below a length fits.
    let at = draw.checked_rem(candidates.len() as u64).and_then(|at| usize::try_from(at).ok());
    match at.and_then(|at| candidates.get(at)) {
        Some(seen) => Ok(Victim { instance: seen.id.clone(), zone: seen.zone.clone(), others: floor }),
        None => Err(Refusal::NotYet(vec![format!("nobody leads now, of {}", census.instances.len())])),
    }
}

/// Finds whom `which` means, whatever they are now.
fn meant<'a>(situation: &Situation<'a>) -> Result<Vec<&'a Instance>, Refusal> {
    let Situation { fleet, which, census, .. } = *situation;
    let living = |seen: &&Instance| seen.state != State::Dead && !seen.id.is_coming();
    let all: Vec<&Instance> = census.instances.iter().filter(living).collect();
    let status = format!("`rekiln status {fleet}` lists them");
    if let Some(zone) = &which.zone
        && !all.is_empty()
        && all.iter().all(|seen| seen.zone.as_ref() != Some(zone))
    {
        let zones = all.iter().filter_map(|seen| seen.zone.as_deref());
        let hint = match nearest(zone, zones.clone()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if zones.clone().next().is_none() => "its instances are in no zones".to_owned(),
            None => status,
        };
        return Err(Refusal::never(format!("it has no instance in zone {zone}"), hint));
    }
    if let Some(id) = &which.instance
        && all.iter().all(|seen| !is_called(seen, id))
    {
        let hint = match nearest(id, all.iter().map(|seen| seen.id.0.as_str())) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => status,
        };
        return Err(Refusal::never(format!("it has no instance {id}"), hint));
    }
    if which.leader && situation.copies.is_none() && !has_leaders(census) {
        return Err(Refusal::never(
            "it has no leader: its instances are all alike",
            "leave `--leader` out, or `target` of [chaos], and any of them is killed",
        ));
    }
    if which.leader && situation.copies.is_some_and(|copies| copies.durability == Durability::Leader) {
        return Err(Refusal::never(
            "its latest writes would go with its leader: `durability` of [stateful] is `leader`",
            "any other member may be killed: leave `--leader` out, or `target` of [chaos]",
        ));
    }
    let fits = |seen: &&Instance| {
        which.zone.as_ref().is_none_or(|zone| seen.zone.as_ref() == Some(zone))
            && which.instance.as_ref().is_none_or(|id| is_called(seen, id))
            && (!which.leader || is_leader(seen))
    };
    let found: Vec<_> = all.into_iter().filter(fits).collect();
    match (&which.instance, found.is_empty()) {
        (Some(id), true) => Err(Refusal::never(
            format!("{id} is not what else was asked for: it is in another zone, or does not lead"),
            "name it alone",
        )),
        _ => Ok(found),
    }
}

fn is_called(seen: &Instance, id: &str) -> bool {
    seen.id.0 == id || seen.known_as.as_deref() == Some(id)
}

/// Tells whether instances have roles, one of which leads.
fn has_leaders(census: &Census) -> bool {
    census.cluster.is_some() || census.instances.iter().any(|seen| seen.membership.is_some())
}

/// What keeps members that hold data from bearing the loss of one.
fn together(situation: &Situation<'_>) -> Vec<String> {
    let Situation { census, copies, .. } = *situation;
    if copies.is_none() {
        return Vec::new();
    }
    let mut reasons: Vec<String> =
        census.cluster.iter().flat_map(|cluster| cluster.refuses.clone()).collect();
    if leader(&census.instances).is_none() {
        reasons.push("nobody leads".to_owned());
    }
    let lags = census.instances.iter().filter(|seen| seen.serves() && !seen.has_all());
    reasons.extend(lags.map(|seen| format!("{} does not have all data", seen.id)));
    reasons
}

/// Says why a member that holds data must not be killed now, if that is so.
#[must_use]
pub fn needed(seen: &Instance, census: &Census, copies: &Copies) -> Option<String> {
    if leader(&census.instances).is_none() {
        return Some("nobody leads".to_owned());
    }
    if seen.leads() && copies.durability == Durability::Leader {
        return Some("the latest writes would go with it".to_owned());
    }
    if let Some(why) = seen.membership.as_ref().and_then(|membership| membership.stays.clone()) {
        return Some(why);
    }
    let cluster = census.cluster.as_ref()?;
    let lacks = || cluster.lack_without(&census.instances, &seen.id, copies).map(|lack| lack.to_string());
    cluster.refuses.first().cloned().or_else(lacks)
}

/// What else is going on.
fn at_rest(situation: &Situation<'_>) -> Vec<String> {
    let Situation { history, breaker, census, now, .. } = *situation;
    let mut reasons = Vec::new();
    if let Some(reason) = &history.paused {
        reasons.push(format!("it is paused: {reason}"));
    }
    if let Some(why) = breaker {
        reasons.push(format!("the circuit breaker is open: {why}"));
    }
    let serves = |id: &InstanceId| census.instances.iter().any(|seen| seen.id == *id && seen.serves());
    if let Some(kill) = history.uncured(now, serves) {
        let when = moment::at(kill.at, now);
        reasons.push(format!("{}, which chaos killed at {when}, is not replaced yet", kill.instance));
    } else if history.unfinished() {
        reasons.push("a rollout of it is under way".to_owned());
    } else if let Some(reason) = history.halted.as_ref().filter(|_| !history.completed) {
        reasons.push(format!("its last rollout halted: {reason}"));
    } else if let Some(reason) = history.cancelled.as_ref().filter(|_| !history.completed) {
        reasons.push(format!("its last rollout was cancelled: {reason}"));
    }
    reasons
}

/// What keeps the fleet from being whole.
fn whole(situation: &Situation<'_>) -> Vec<String> {
    let Situation { size, census, history, .. } = *situation;
    let mut reasons: Vec<String> = census.trouble.iter().cloned().collect();
    let word = |seen: &Instance| match (seen.state, seen.health) {
        (State::Launching, _) => "starts",
        (State::Draining, _) => "drains",
        (State::Dead, _) => "is dead",
        (State::Running, Health::Unknown) => "is of unknown health",
        (State::Running, _) => "does not serve",
    };
    let mut lacking: Vec<String> = census
        .instances
        .iter()
        .filter(|seen| !seen.serves())
        .map(|seen| {
            let coming = seen.id.is_coming();
            if coming {
                "one is about to be launched".to_owned()
            } else {
                format!("{} {}", seen.id, word(seen))
            }
        })
        .collect();
    let unseen = |id: &&InstanceId| census.instances.iter().all(|seen| seen.id != **id);
    lacking.extend(history.members.keys().filter(unseen).map(|id| format!("{id} is not seen")));
    if lacking.len() > NAMED {
        let more = lacking.len() - NAMED;
        lacking.truncate(NAMED);
        lacking.push(format!("and so are {more} more that do not serve"));
    }
    reasons.extend(lacking);
    let serving = census.instances.iter().filter(|seen| seen.serves()).count();
    if serving != size {
        reasons.push(format!("{serving} serve, and {size} should"));
    }
    reasons
}

//! Decide: what a watcher that leads does next.

mod backup;

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

use super::event::{Event, Job};
use super::memory::{Case, Failing, Memory, Tried};
use super::rule::Rule;
use super::schedule::Daily;
use crate::fleet::census::InstanceId;
use crate::fleet::chaos::Standing;

pub use backup::{Backups, shown};

/// How long after a failure the same is tried again; twice as long each further time, up to [`LONGEST`]. A minute is what a
/// remote that is restarted needs.
const AGAIN: SignedDuration = SignedDuration::from_mins(1);

/// The same where another process had the journal of a fleet: it may be about to end, as the commands of a watcher that died.
const SOON: SignedDuration = SignedDuration::from_secs(10);

/// The longest time between two tries: whoever mended what was broken does not want to wait for long.
const LONGEST: SignedDuration = SignedDuration::from_mins(15);

/// How late a night may begin: after that, the next one is soon enough.
const LATE: SignedDuration = SignedDuration::from_hours(6);

/// What a replacement that is tried in vain may cost before it is said to be held: each try has a rollout of its own, which
/// waits for its own time.
const TRIES: u32 = 5;

/// Exit codes of commands: of what will fail again until Git changes, and of what waits for something.
const INVALID: u8 = 2;
const HOLDING: u8 = 3;
const LOST: u8 = 4;

/// What is decided from.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// What the journal adds up to.
    pub memory: &'a Memory,
    /// What was seen.
    pub seen: &'a Seen,
    /// When nights begin, if they do.
    pub nights: Option<&'a Daily>,
    /// Whether commits must be signed: then one that was not carried out yet is nobody's word, and no night is made of it.
    pub signed: bool,
    /// The time.
    pub now: Timestamp,
}

/// What a watcher sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Where the branch is.
    pub head: Option<String>,
    /// What this watcher is doing.
    pub running: Vec<Job>,
    /// The fleets.
    pub fleets: BTreeMap<String, Fleet>,
    /// Whether rolls to the branch's commit would do anything, when one to it is held; nothing when nobody looked.
    pub waiting: Option<bool>,
}

/// A fleet as it was seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// When.
    pub at: Timestamp,
    /// The commit that it carries: its file is that one's.
    pub commit: String,
    /// Its rules.
    pub rules: Vec<Rule>,
    /// Instances that live.
    pub living: Vec<InstanceId>,
    /// Its file; shards of one file have the same.
    pub file: PathBuf,
    /// What a roll that keeps it would do something about; nothing when it is as it should be, or held.
    pub wants: Option<String>,
    /// Whether that can wait: nothing is sick, missing or touched.
    pub can_wait: bool,
    /// Whether a living process rolls it.
    pub rolled: bool,
    /// Why it is paused.
    pub paused: Option<String>,
    /// When chaos kills an instance, if its file says so, and when it did last.
    pub chaos: Option<(Standing, Option<Timestamp>)>,
    /// Whom chaos killed, where that is not replaced yet.
    pub killed: Option<InstanceId>,
    /// Whether it waits for a person or a commit: its rollout halted or was cancelled, it was taken down or never rolled.
    pub over: bool,
    /// How its backups stand; nothing where it has none, or that could not be seen since the last job ended.
    pub backups: Option<Backups>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Duty {
    /// Begin a job.
    Start(Job),
    /// Write something down.
    Say(Event),
}

/// Decides, in the order in which it is to be done.
#[must_use]
pub fn duties(situation: &Situation<'_>) -> Vec<Duty> {
    let Situation { memory, seen, .. } = *situation;
    let mut duties = Vec::new();
    let open = memory.cases.iter().filter(|(_, case)| case.closed.is_none());
    for (number, case) in open {
        if let Some(duty) = answer(situation, *number, case, &duties) {
            duties.push(duty);
        }
    }
    let applies = seen.running.iter().any(|job| matches!(job, Job::Apply { .. }));
    let starts = |duties: &[Duty], fleet: &str| {
        let begun = duties.iter().filter_map(|duty| match duty {
            Duty::Start(job) => job.rolls(),
            Duty::Say(_) => None,
        });
        seen.running.iter().filter_map(Job::rolls).chain(begun).any(|other| other == fleet)
    };
    let busy = seen.fleets.keys().any(|fleet| starts(&duties, fleet));
    let merge = if applies { None } else { merge(situation) };
    if let Some(commit) = &merge
        && !busy
    {
        duties.push(Duty::Start(Job::Apply { commit: commit.clone() }));
    }
    if !applies && merge.is_none() {
        for (name, fleet) in &seen.fleets {
            // Shards are rolled one after the other; what one of them lacks is no reason to leave another sick.
            let turn = |(other, of): (&String, &Fleet)| {
                other == name || of.file != fleet.file || !(of.rolled || starts(&duties, other))
            };
            let waits = fleet.can_wait && !seen.fleets.iter().all(turn);
            if let Some(job) = keep(situation, name, fleet).filter(|_| !waits && !starts(&duties, name)) {
                duties.push(Duty::Start(job));
            }
        }
        for (name, fleet) in &seen.fleets {
            // Whom chaos kills is not copied.
            let next = backup::due(situation, name, fleet).or_else(|| chaos(situation, name, fleet));
            if let Some(job) = next.filter(|_| !starts(&duties, name)) {
                duties.push(Duty::Start(job));
            }
        }
        duties.extend(night(situation).map(Duty::Start));
    }
    duties.extend(backup::told(situation));
    duties
}

/// Tells when something that failed may be tried again.
#[must_use]
pub fn again(times: u32, at: Timestamp) -> Timestamp {
    at + longer(AGAIN, times)
}

/// Doubles a time with each failure but the first.
fn longer(first: SignedDuration, times: u32) -> SignedDuration {
    // 2^10 times either is far beyond the longest.
    let factor = 1_i32 << times.saturating_sub(1).min(10);
    first.checked_mul(factor).unwrap_or(LONGEST).min(LONGEST)
}

/// Returns the commit that is to be carried out now.
fn merge(situation: &Situation<'_>) -> Option<String> {
    let Situation { memory, seen, now, .. } = *situation;
    let head = seen.head.as_ref().filter(|head| memory.applied.as_ref() != Some(head))?;
    let tried = memory.tried.as_ref().filter(|tried| tried.commit == *head);
    may_try(tried, seen.waiting, now).then(|| head.clone())
}

fn may_try(tried: Option<&Tried>, waiting: Option<bool>, now: Timestamp) -> bool {
    let Some(Tried { times, ended: Some(ended), .. }) = tried else { return true };
    match ended.code {
        INVALID => false,
        HOLDING if waiting == Some(false) => false,
        LOST => now >= ended.at + longer(SOON, *times),
        _ => now >= again(*times, ended.at),
    }
}

/// Says whether it matters what rolls to the branch's commit would do: one was held.
#[must_use]
pub fn asks_whether_waiting(memory: &Memory, head: &str) -> bool {
    let tried = memory.tried.as_ref().filter(|tried| tried.commit == head);
    tried.and_then(|tried| tried.ended.as_ref()).is_some_and(|ended| ended.code == HOLDING)
}

/// Decides whether updates are looked for now. A night that a watcher began and did not end is begun again.
fn night(situation: &Situation<'_>) -> Option<Job> {
    let Situation { memory, seen, nights, signed, now } = *situation;
    if seen.running.iter().any(|job| matches!(job, Job::Nightly { .. })) {
        return None;
    }
    let due = nights?.last(now)?;
    let base = if signed { memory.applied.clone()? } else { seen.head.clone()? };
    // What was due before anyone watched is nobody's.
    let ours = memory.first.is_some_and(|first| due > first);
    let done = memory.night.as_ref().is_some_and(|night| night.due >= due && night.ended.is_some());
    (ours && !done && now.duration_since(due) < LATE).then_some(Job::Nightly { due, base })
}

fn keep(situation: &Situation<'_>, name: &str, fleet: &Fleet) -> Option<Job> {
    let Situation { memory, now, .. } = *situation;
    // What chaos killed is replaced in a paused fleet, too: it is sick by our own doing.
    let paused = fleet.paused.is_some() && fleet.killed.is_none();
    let why = fleet.wants.as_ref().filter(|_| !fleet.rolled && !paused && !fleet.over)?;
    let ready = |failing: &Failing| now >= again(failing.times, failing.at) && fleet.at > failing.at;
    if memory.failing.get(name).is_some_and(|failing| !ready(failing)) {
        return None;
    }
    Some(Job::Keep { fleet: name.to_owned(), commit: fleet.commit.clone(), why: why.clone() })
}

/// Decides whether an instance is killed on purpose now: in a fleet that nothing is to be done about, and no alert is open of.
fn chaos(situation: &Situation<'_>, name: &str, fleet: &Fleet) -> Option<Job> {
    let Situation { memory, seen, now, .. } = *situation;
    let (standing, last) = fleet.chaos.as_ref()?;
    let busy = fleet.rolled || fleet.wants.is_some() || fleet.killed.is_some();
    if busy || fleet.paused.is_some() || fleet.over || !standing.is_due(*last, memory.first, now) {
        return None;
    }
    let its = |job: &Job| job.of(name) || matches!(job, Job::Step { fleet, .. } if fleet == name);
    let incident = memory.cases.values().any(|case| case.closed.is_none() && case.fleet == name);
    if incident || seen.running.iter().any(its) {
        return None;
    }
    // What was seen before the last one ended says nothing about now.
    let ready = |failing: &Failing| now >= again(failing.times, failing.at) && fleet.at > failing.at;
    if memory.chaos.get(name).is_some_and(|failing| !ready(failing)) {
        return None;
    }
    Some(Job::Chaos { fleet: name.to_owned(), commit: fleet.commit.clone(), leader: standing.leader })
}

/// Decides what is done about an alert.
fn answer(situation: &Situation<'_>, number: u64, case: &Case, duties: &[Duty]) -> Option<Duty> {
    let Situation { seen, now, .. } = *situation;
    let about = |job: &Job| match job {
        Job::Replace { case, .. } | Job::Step { case, .. } => *case == number,
        _ => false,
    };
    if seen.running.iter().any(about) {
        return None;
    }
    // A fleet that cannot be seen is left alone; one that is gone from Git has no rules.
    let fleet = seen.fleets.get(&case.fleet)?;
    let close = |how: &str| Some(Duty::Say(Event::Closed { case: number, how: how.to_owned() }));
    let Some(rule) = fleet.rules.iter().find(|rule| rule.name == case.rule) else {
        return close("its rule is gone");
    };
    if case.replaced.is_some() {
        return close("its instance was replaced");
    }
    let gone = |instance: &InstanceId| fleet.at > case.since && !fleet.living.contains(instance);
    if case.instance.as_ref().is_some_and(gone) {
        return close(if fleet.killed == case.instance {
            "chaos killed its instance"
        } else {
            "its instance is gone"
        });
    }
    let in_time = now.duration_since(case.since) < rule.within;
    if case.failed.is_none() && in_time {
        if case.steps < rule.steps {
            let (fleet, commit) = (case.fleet.clone(), fleet.commit.clone());
            let job = Job::Step { case: number, fleet, commit, number: case.steps };
            return Some(Duty::Start(job));
        }
        if !rule.rotates {
            return None;
        }
    }
    match replace(situation, number, case, (fleet, rule), duties) {
        Ok(job) => job.map(Duty::Start),
        Err(why) if case.held.as_ref() == Some(&why) => None,
        Err(why) => Some(Duty::Say(Event::Held { case: number, why })),
    }
}

/// Decides whether the instance is replaced now; nothing means soon.
///
/// # Errors
/// What it waits for, when that is not sure to pass by itself.
fn replace(
    situation: &Situation<'_>,
    number: u64,
    case: &Case,
    (fleet, rule): (&Fleet, &Rule),
    duties: &[Duty],
) -> Result<Option<Job>, String> {
    let Situation { memory, seen, now, .. } = *situation;
    let Some(instance) = &case.instance else {
        return Err("it names no instance of the fleet: there is nothing to replace".to_owned());
    };
    if let Some(reason) = &fleet.paused {
        return Err(format!("the fleet is paused: {reason}"));
    }
    let pending = duties.iter().filter_map(|duty| match duty {
        Duty::Start(job) => Some(job),
        Duty::Say(_) => None,
    });
    let others = || seen.running.iter().chain(pending.clone());
    // What chaos killed is replaced by whoever keeps the fleet, and not twice.
    if fleet.killed.as_ref() == Some(instance)
        || fleet.rolled
        || others().any(|job| job.rolls() == Some(case.fleet.as_str()))
    {
        return Ok(None);
    }
    match case.failing {
        Some(failing) if failing.times >= TRIES => {
            return Err(format!("{instance} could not be replaced, {TRIES} times in a row"));
        }
        Some(failing) if now < again(failing.times, failing.at) || fleet.at <= failing.at => return Ok(None),
        // One that is tried again was counted at first.
        None if memory.taken(&case.fleet, &case.rule, now) >= rule.limit => {
            return Err(format!("{} may take {} an hour, and it has", rule.name, rule.limit));
        }
        _ => {}
    }
    let why = match (&case.failed, rule.steps) {
        (Some(failed), _) => format!("{}, and its playbook failed: {failed}", rule.name),
        (None, 0) => rule.name.clone(),
        (None, _) if rule.rotates && now.duration_since(case.since) < rule.within => {
            format!("{}, as its playbook says", rule.name)
        }
        (None, _) => format!("{}, which its playbook did not resolve in its time", rule.name),
    };
    let (name, commit, instance) = (case.fleet.clone(), fleet.commit.clone(), instance.clone());
    Ok(Some(Job::Replace { case: number, fleet: name, commit, instance, why }))
}

#[cfg(test)]
mod tests;

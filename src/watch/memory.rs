//! Decide: what the journal of the watchers adds up to.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::alert::Heard;
use super::event::{Event, Job};
use crate::fleet::census::InstanceId;

/// How many cases that are over are remembered: what fits on the page, for whoever asks what happened tonight.
const REMEMBERED: usize = 50;

/// How long what an alert has taken counts against its limit, which is one of an hour.
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// The fold of a watchers' journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// When a watcher first led.
    pub first: Option<Timestamp>,
    /// When the last one began to lead.
    pub since: Option<Timestamp>,
    /// The commit that was carried out last, to its end.
    pub applied: Option<String>,
    /// The commit that was tried last.
    pub tried: Option<Tried>,
    /// The last night.
    pub night: Option<Night>,
    /// Fleets that could not be kept as they should be, and how often in a row.
    pub failing: BTreeMap<String, Failing>,
    /// Fleets whose backups fail.
    pub backups: BTreeMap<String, Unsaved>,
    /// Fleets in which chaos could not kill, or which did not get over it, and how often in a row.
    pub chaos: BTreeMap<String, Failing>,
    /// How many cases there were.
    pub count: u64,
    /// Cases by number: all that are open, and the last ones that are over.
    pub cases: BTreeMap<u64, Case>,
    /// When each rule, by fleet and name, took an instance; the last hour's.
    pub taken: BTreeMap<(String, String), Vec<Timestamp>>,
}

/// A commit that was begun to be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Which.
    pub commit: String,
    /// How often.
    pub times: u32,
    /// How it ended last; nothing while it goes on, or when whoever did it died.
    pub ended: Option<Ended>,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// Its exit code.
    pub code: u8,
    /// Why, when that is not 0.
    pub why: Option<String>,
}

/// A night.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Night {
    /// When it was to begin.
    pub due: Timestamp,
    /// How it ended.
    pub ended: Option<Ended>,
}

/// Something that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failing {
    /// How often in a row.
    pub times: u32,
    /// When last.
    pub at: Timestamp,
}

impl Failing {
    /// Counts one more.
    fn again(before: Option<Self>, at: Timestamp) -> Self {
        Self { times: before.map_or(1, |before| before.times.saturating_add(1)), at }
    }
}

/// Backups that fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsaved {
    /// How often in a row, and when last.
    pub failing: Failing,
    /// Why, the last time.
    pub why: String,
    /// Whether people were told, since the first time.
    pub told: bool,
}

/// An alert that is being answered, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The fleet.
    pub fleet: String,
    /// The rule's name.
    pub rule: String,
    /// What makes an alert the same one.
    pub key: String,
    /// What was heard last.
    pub heard: Heard,
    /// The instance that it is about.
    pub instance: Option<InstanceId>,
    /// When it was first heard.
    pub since: Timestamp,
    /// How many steps of its playbook were done.
    pub steps: usize,
    /// Why a step failed: then no other one is begun.
    pub failed: Option<String>,
    /// Replacements that failed.
    pub failing: Option<Failing>,
    /// When the instance was replaced.
    pub replaced: Option<Timestamp>,
    /// What it waits for.
    pub held: Option<String>,
    /// When and how it ended.
    pub closed: Option<(Timestamp, String)>,
}

impl Memory {
    /// Adds the next event.
    pub fn add(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::Leads => {
                self.first.get_or_insert(at);
                self.since = Some(at);
            }
            Event::Leaves => {}
            Event::Began { job } => self.begin(at, job),
            Event::Ended { job, code, why } => self.end(job, &Ended { at, code: *code, why: why.clone() }),
            Event::Heard { fleet, rule, key, heard, instance } => {
                self.hear(at, (fleet, rule, key), heard, instance.as_ref());
            }
            Event::Unsaved { fleet, .. } => {
                if let Some(unsaved) = self.backups.get_mut(fleet) {
                    unsaved.told = true;
                }
            }
            Event::Held { case, why } => {
                if let Some(case) = self.cases.get_mut(case) {
                    case.held = Some(why.clone());
                }
            }
            Event::Closed { case, how } => self.close(*case, at, how.clone()),
        }
    }

    /// Returns the open case of an alert.
    #[must_use]
    pub fn open(&self, (fleet, rule, key): (&str, &str, &str)) -> Option<u64> {
        let same = |case: &Case| case.fleet == fleet && case.rule == rule && case.key == key;
        let mut open = self.cases.iter().filter(|(_, case)| case.closed.is_none());
        open.find(|(_, case)| same(case)).map(|(number, _)| *number)
    }

    /// Returns how many instances a rule took in the hour before `now`.
    #[must_use]
    pub fn taken(&self, fleet: &str, rule: &str, now: Timestamp) -> usize {
        let taken = self.taken.get(&(fleet.to_owned(), rule.to_owned()));
        taken.map_or(0, |taken| taken.iter().filter(|at| now.duration_since(**at) < HOUR).count())
    }

    fn begin(&mut self, at: Timestamp, job: &Job) {
        match job {
            Job::Apply { commit } => {
                let before = self.tried.take().filter(|tried| tried.commit == *commit);
                let times = before.map_or(0, |tried| tried.times).saturating_add(1);
                self.tried = Some(Tried { commit: commit.clone(), times, ended: None });
            }
            Job::Nightly { due, .. } => self.night = Some(Night { due: *due, ended: None }),
            Job::Replace { case, fleet, .. } => {
                let Some(case) = self.cases.get_mut(case) else { return };
                case.held = None;
                // One that is tried again takes no second instance.
                if case.failing.is_none() {
                    let taken = self.taken.entry((fleet.clone(), case.rule.clone())).or_default();
                    taken.retain(|before| at.duration_since(*before) < HOUR);
                    taken.push(at);
                }
            }
            Job::Keep { .. } | Job::Backup { .. } | Job::Chaos { .. } | Job::Step { .. } => {}
        }
    }

    fn end(&mut self, job: &Job, ended: &Ended) {
        let good = ended.code == 0;
        match job {
            Job::Apply { commit } => {
                if good {
                    self.applied = Some(commit.clone());
                }
                if let Some(tried) = self.tried.as_mut().filter(|tried| tried.commit == *commit) {
                    tried.ended = Some(ended.clone());
                }
            }
            Job::Nightly { due, .. } => {
                if let Some(night) = self.night.as_mut().filter(|night| night.due == *due) {
                    night.ended = Some(ended.clone());
                }
            }
            Job::Keep { fleet, .. } => fails(&mut self.failing, fleet, ended),
            Job::Chaos { fleet, .. } => fails(&mut self.chaos, fleet, ended),
            Job::Backup { fleet, .. } => {
                let before = self.backups.remove(fleet);
                if !good {
                    let why = ended.why.clone().unwrap_or_else(|| format!("exit code {}", ended.code));
                    let told = before.as_ref().is_some_and(|before| before.told);
                    let failing = Failing::again(before.map(|before| before.failing), ended.at);
                    self.backups.insert(fleet.clone(), Unsaved { failing, why, told });
                }
            }
            Job::Replace { case, .. } => {
                let Some(case) = self.cases.get_mut(case) else { return };
                if good {
                    (case.replaced, case.failing) = (Some(ended.at), None);
                } else {
                    case.failing = Some(Failing::again(case.failing, ended.at));
                }
            }
            Job::Step { case, number, .. } => {
                let Some(case) = self.cases.get_mut(case) else { return };
                if good {
                    case.steps = number + 1;
                } else {
                    case.failed = Some(ended.why.clone().unwrap_or_else(|| "a step failed".to_owned()));
                }
            }
        }
    }

    fn hear(
        &mut self,
        at: Timestamp,
        alert: (&str, &str, &str),
        heard: &Heard,
        instance: Option<&InstanceId>,
    ) {
        match (self.open(alert), heard.firing) {
            (Some(number), false) => self.close(number, at, "it was resolved".to_owned()),
            (Some(number), true) => {
                if let Some(case) = self.cases.get_mut(&number) {
                    case.heard = heard.clone();
                    if case.instance.is_none() {
                        case.instance = instance.cloned();
                    }
                }
            }
            (None, true) => {
                self.count += 1;
                let (fleet, rule, key) = alert;
                let case = Case {
                    fleet: fleet.to_owned(),
                    rule: rule.to_owned(),
                    key: key.to_owned(),
                    heard: heard.clone(),
                    instance: instance.cloned(),
                    since: at,
                    steps: 0,
                    failed: None,
                    failing: None,
                    replaced: None,
                    held: None,
                    closed: None,
                };
                self.cases.insert(self.count, case);
            }
            (None, false) => {}
        }
    }

    fn close(&mut self, number: u64, at: Timestamp, how: String) {
        if let Some(case) = self.cases.get_mut(&number) {
            case.closed.get_or_insert((at, how));
        }
        let over: Vec<u64> =
            self.cases.iter().filter(|(_, case)| case.closed.is_some()).map(|(number, _)| *number).collect();
        for number in over.iter().rev().skip(REMEMBERED) {
            self.cases.remove(number);
        }
    }
}

/// Counts one more, or forgets all when it was good.
fn fails(all: &mut BTreeMap<String, Failing>, fleet: &str, ended: &Ended) {
    let before = all.remove(fleet);
    if ended.code != 0 {
        all.insert(fleet.to_owned(), Failing::again(before, ended.at));
    }
}

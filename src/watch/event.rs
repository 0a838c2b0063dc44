//! What a watcher does, and what its journal says.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::alert::Heard;
use super::memory::Memory;
use crate::chain::{Chain, Says};
use crate::fleet::census::InstanceId;
use crate::pipeline::tree::short;

/// The journal of the watchers of one branch: `watch/<branch>/<number>.json`. Who has it leads.
pub type Journal = Chain<Event>;

/// One piece of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Job {
    /// A commit is carried out: `rekiln apply`.
    Apply {
        /// Which.
        commit: String,
    },
    /// Updates are looked for: `rekiln nightly`.
    Nightly {
        /// When it was to begin.
        due: Timestamp,
        /// The commit that is updated.
        base: String,
    },
    /// What of a fleet is sick, too old, touched or unfinished is replaced: `rekiln roll --to current`.
    Keep {
        /// The fleet.
        fleet: String,
        /// The commit that it carries.
        commit: String,
        /// What is not as it should be.
        why: String,
    },
    /// An instance that an alert is about is replaced: `rekiln rotate`.
    Replace {
        /// The case.
        case: u64,
        /// The fleet.
        fleet: String,
        /// The commit that it carries.
        commit: String,
        /// The instance.
        instance: InstanceId,
        /// Why.
        why: String,
    },
    /// A backup is taken and proved: `rekiln backup run`.
    Backup {
        /// The fleet.
        fleet: String,
        /// The commit that it carries.
        commit: String,
    },
    /// An instance is killed on purpose, as the fleet's file says when: `rekiln chaos`.
    Chaos {
        /// The fleet.
        fleet: String,
        /// The commit that it carries.
        commit: String,
        /// Whether the one that leads is killed.
        leader: bool,
    },
    /// A step of a playbook.
    Step {
        /// The case.
        case: u64,
        /// The fleet.
        fleet: String,
        /// The commit that has the playbook.
        commit: String,
        /// Which step, from 0.
        number: usize,
    },
}

impl Job {
    /// Returns what kind it is, in a word.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Apply { .. } => "apply",
            Self::Nightly { .. } => "nightly",
            Self::Keep { .. } => "keep",
            Self::Replace { .. } => "replace",
            Self::Backup { .. } => "backup",
            Self::Chaos { .. } => "chaos",
            Self::Step { .. } => "step",
        }
    }

    /// Returns the fleet that it rolls and nothing else.
    #[must_use]
    pub fn rolls(&self) -> Option<&str> {
        match self {
            Self::Keep { fleet, .. } | Self::Replace { fleet, .. } => Some(fleet),
            // Chaos kills, and leaves it to others to roll.
            Self::Apply { .. }
            | Self::Nightly { .. }
            | Self::Backup { .. }
            | Self::Chaos { .. }
            | Self::Step { .. } => None,
        }
    }

    /// Tells whether it ends or replaces instances of a fleet, or copies what they hold.
    #[must_use]
    pub fn of(&self, fleet: &str) -> bool {
        match self {
            Self::Backup { fleet: of, .. } | Self::Chaos { fleet: of, .. } => of == fleet,
            other => other.rolls() == Some(fleet),
        }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apply { commit } => write!(f, "apply {}", short(commit)),
            Self::Nightly { base, .. } => write!(f, "updates on {}", short(base)),
            Self::Keep { fleet, why, .. } => write!(f, "fleet {fleet}: {why}"),
            Self::Replace { fleet, instance, why, .. } => {
                write!(f, "fleet {fleet}: replace {instance}: {why}")
            }
            Self::Backup { fleet, .. } => write!(f, "fleet {fleet}: backup"),
            Self::Chaos { fleet, leader, .. } => {
                let whom = if *leader { "its leader" } else { "one of its instances" };
                write!(f, "fleet {fleet}: chaos kills {whom}")
            }
            Self::Step { case, fleet, number, .. } => {
                write!(f, "fleet {fleet}: step {} for alert {case}", number + 1)
            }
        }
    }
}

/// One thing that a watcher's journal says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// A watcher leads. What was under way and has not ended is begun again.
    Leads,
    /// It ended in order; another one may lead at once.
    Leaves,
    /// A job is about to begin.
    Began {
        /// Which.
        job: Job,
    },
    /// It ended.
    Ended {
        /// Which.
        job: Job,
        /// Its exit code; 0 is good.
        code: u8,
        /// Why, when it is not; else what it measured, if anything.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// An alert that a fleet has a rule for fires, or is resolved. Any watcher may say it.
    Heard {
        /// The fleet.
        fleet: String,
        /// The rule, as [`super::rule::Rule::name`] has it.
        rule: String,
        /// What makes this alert the same as the one that it resolves.
        key: String,
        /// What was heard.
        heard: Heard,
        /// The instance that it is about, as far as that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<InstanceId>,
    },
    /// Backups of a fleet fail; said once, until one is proved again.
    Unsaved {
        /// The fleet.
        fleet: String,
        /// Why the first failed.
        why: String,
    },
    /// A case waits for something that only a person, or time, can change.
    Held {
        /// The case.
        case: u64,
        /// For what.
        why: String,
    },
    /// A case is over.
    Closed {
        /// The case.
        case: u64,
        /// How.
        how: String,
    },
}

impl Says for Event {
    type Sum = Memory;

    const FOLDER: &'static str = "watch";

    // Two computers that share a directory cannot see each other's processes.
    const BEATS: bool = true;

    fn about(name: &str) -> String {
        format!("the watch of {name}")
    }

    fn add(&self, sum: &mut Memory, at: Timestamp) {
        sum.add(at, self);
    }

    fn is_command(&self) -> bool {
        matches!(self, Self::Heard { .. })
    }

    fn ends(&self) -> bool {
        matches!(self, Self::Leaves)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leads => f.write_str("leads"),
            Self::Leaves => f.write_str("leaves"),
            Self::Began { job } => write!(f, "begins: {job}"),
            Self::Ended { job, code, why } => {
                match code {
                    0 => write!(f, "done: {job}")?,
                    code => write!(f, "failed (exit code {code}): {job}")?,
                }
                why.as_ref().map_or(Ok(()), |why| write!(f, ": {why}"))
            }
            Self::Heard { fleet, heard, instance, .. } => {
                let does = if heard.firing { "fires" } else { "is resolved" };
                write!(f, "alert {} {does} for fleet {fleet}", heard.name)?;
                instance.as_ref().map_or(Ok(()), |instance| write!(f, ", instance {instance}"))
            }
            Self::Unsaved { fleet, why } => write!(f, "the backup of fleet {fleet} failed: {why}"),
            Self::Held { case, why } => write!(f, "alert {case} is held: {why}"),
            Self::Closed { case, how } => write!(f, "alert {case} is over: {how}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let text = || "words".to_owned();
        let (fleet, commit, instance) = (text(), text(), InstanceId::new("web", 1));
        let jobs = [
            Job::Apply { commit: commit.clone() },
            Job::Nightly { due: Timestamp::UNIX_EPOCH, base: text() },
            Job::Keep { fleet: fleet.clone(), commit: commit.clone(), why: text() },
            Job::Replace {
                case: 1,
                fleet: fleet.clone(),
                commit: commit.clone(),
                instance: instance.clone(),
                why: text(),
            },
            Job::Backup { fleet: fleet.clone(), commit: commit.clone() },
            Job::Chaos { fleet: fleet.clone(), commit: commit.clone(), leader: true },
            Job::Step { case: 1, fleet: fleet.clone(), commit, number: 0 },
        ];
        let heard = Heard { name: text(), labels: BTreeMap::new(), firing: true, summary: None };
        let mut events = vec![
            Event::Leads,
            Event::Leaves,
            Event::Heard { fleet, rule: text(), key: text(), heard, instance: Some(instance) },
            Event::Unsaved { fleet: text(), why: text() },
            Event::Held { case: 1, why: text() },
            Event::Closed { case: 1, how: text() },
        ];
        for job in jobs {
            events.push(Event::Began { job: job.clone() });
            events.push(Event::Ended { job: job.clone(), code: 0, why: None });
            events.push(Event::Ended { job, code: 1, why: Some(text()) });
        }
        for event in events {
            let written = serde_json::to_string(&event).expect("it is written");
            let read: Event = serde_json::from_str(&written).unwrap_or_else(|why| panic!("{written}: {why}"));
            assert_eq!(read, event, "{written}");
        }
    }
}

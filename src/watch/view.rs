//! What a watcher knows, for whoever looks: the page, the metrics and the health endpoint are made from this and nothing else.

use jiff::Timestamp;
use serde::Serialize;

use crate::fleet::glance::Glance;

/// Everything, at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    /// When it was put together; older than a minute means that the watcher hangs.
    pub at: Timestamp,
    /// When this watcher started.
    pub started: Timestamp,
    /// The remote, without anybody's password.
    pub remote: String,
    /// The branch that is followed.
    pub branch: String,
    /// Who leads.
    pub lead: Lead,
    /// How far the branch is carried out.
    pub git: Git,
    /// Nights; nothing when there is no schedule.
    pub nightly: Option<Nightly>,
    /// The fleets of the commit that is carried out, by name.
    pub fleets: Vec<Fleet>,
    /// What is being done.
    pub jobs: Vec<Job>,
    /// Alerts, the newest first: all that are open, and the last that were closed.
    pub cases: Vec<Case>,
    /// Images of the store, the newest first.
    pub images: Vec<Image>,
    /// The last entries of the watch's journal and the fleets' journals, the newest first.
    pub lines: Vec<Line>,
    /// What was counted since the start.
    pub counts: Counts,
}

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lead {
    /// Whether this watcher does.
    pub mine: bool,
    /// Whoever does, for people, such as `process 12 on build-1`; nothing while nobody does.
    pub leader: Option<String>,
    /// Since when.
    pub since: Option<Timestamp>,
}

/// How far a branch is carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Git {
    /// Where the branch is.
    pub head: Option<Commit>,
    /// The last commit that was carried out to its end.
    pub applied: Option<Commit>,
    /// What is going on, for people: `up to date`, `applying 1234…`, `1234… failed (exit code 1): …`.
    pub state: String,
    /// Whether what is going on needs somebody's attention.
    pub bad: bool,
    /// When the remote last answered.
    pub fetched: Option<Timestamp>,
    /// Why it did not since.
    pub trouble: Option<String>,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Commit {
    /// Its full name.
    pub id: String,
    /// The first line of its message; untrusted.
    pub subject: String,
    /// When it was made.
    pub at: Option<Timestamp>,
}

/// Nights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Nightly {
    /// When the next one begins.
    pub next: Option<Timestamp>,
    /// When the last one ended.
    pub ended: Option<Timestamp>,
    /// Its exit code.
    pub code: Option<u8>,
}

/// A fleet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fleet {
    /// Its name.
    pub name: String,
    /// The recipe of its image.
    pub image: String,
    /// Where it lives, for people.
    pub place: String,
    /// How many instances there are to be.
    pub size: usize,
    /// When it was looked at.
    pub seen: Option<Timestamp>,
    /// Why it could not be looked at.
    pub trouble: Option<String>,
    /// Its instances.
    pub instances: Vec<Instance>,
    /// Its rollout, in a word: `rolling`, `completed`, `halted`, `cancelled`; nothing when nothing was ever rolled.
    pub rollout: Option<String>,
    /// What else is out of the ordinary, a line each.
    pub remarks: Vec<String>,
    /// Why it is paused.
    pub paused: Option<String>,
    /// The rollout that is under way, as its process last drew it.
    pub glance: Option<Glance>,
    /// What its backups lack, where they lack anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Instance {
    /// Its id.
    pub id: String,
    /// What its provider calls it, where that is another name.
    pub known_as: Option<String>,
    /// The start of its image's id.
    pub image: Option<String>,
    /// Its state, in a word.
    pub state: String,
    /// `healthy`, `unhealthy` or `unknown`.
    pub health: String,
    /// Whether it gets requests.
    pub in_service: bool,
    /// Where it answers.
    pub address: Option<String>,
    /// Its zone.
    pub zone: Option<String>,
    /// When it was launched.
    pub launched: Timestamp,
    /// What it is to the fleet, for people: `current`, `stale: image`, `too old` …
    pub is: String,
    /// Whether it is as it should be.
    pub good: bool,
}

/// Something that is being done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Job {
    /// What kind: `apply`, `nightly`, `keep`, `backup`, `chaos`, `replace`, `step`.
    pub kind: String,
    /// What, for people.
    pub what: String,
    /// Since when.
    pub since: Timestamp,
    /// Its last word.
    pub last: Option<String>,
}

/// An alert that a fleet has a rule for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Case {
    /// The fleet.
    pub fleet: String,
    /// The alert's name.
    pub alert: String,
    /// The instance.
    pub instance: Option<String>,
    /// When it was heard of.
    pub since: Timestamp,
    /// How far it is, for people: `step 2 of 3`, `replaced`, `resolved`, `held: …`.
    pub state: String,
    /// Whether it is still open.
    pub open: bool,
    /// Whether only a person can end it.
    pub held: bool,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Image {
    /// Its recipe.
    pub name: String,
    /// Its id.
    pub id: String,
    /// When it was baked.
    pub baked: Timestamp,
    /// `passed`, `failed`, `not booted`, `debug`.
    pub verdict: String,
    /// Bytes of its disk.
    pub size: u64,
    /// Fleets that have instances of it.
    pub fleets: Vec<String>,
}

/// A line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// When.
    pub at: Timestamp,
    /// Whose: a fleet's name, or `watch`.
    pub of: String,
    /// The entry's number.
    pub entry: u64,
    /// What it says.
    pub text: String,
}

/// What was counted since this watcher started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// How often the remote was asked.
    pub fetches: u64,
    /// How often it did not answer.
    pub fetch_failures: u64,
    /// Jobs that ended, by kind and exit code.
    pub jobs: Vec<(String, u8, u64)>,
    /// Alerts that fired and that a fleet has a rule for.
    pub alerts: u64,
    /// Alerts that no fleet has a rule for.
    pub alerts_unknown: u64,
    /// Instances that were replaced because of an alert.
    pub replaced: u64,
}

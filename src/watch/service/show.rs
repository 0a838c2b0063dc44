//! What is shown of it, and said.

use std::sync::Arc;

use jiff::Timestamp;

use super::super::duty::shown;
use super::super::event::Event;
use super::super::hands::{Hands, Sighting};
use super::super::memory::{Memory, Tried};
use super::super::view::{Case, Commit, Counts, Fleet, Git, Job, Lead, Line, Nightly, View};
use super::{Service, Settings, told};
use crate::chain::Writer;
use crate::error::Error;
use crate::pipeline::tree::short;

/// How many entries of journals are shown.
const LINES: usize = 60;

impl View {
    /// What is to be seen before anything was.
    #[must_use]
    pub fn before(settings: &Settings) -> Self {
        let now = Timestamp::now();
        Self {
            at: now,
            started: now,
            remote: settings.remote.clone(),
            branch: settings.branch.clone(),
            lead: Lead { mine: false, leader: None, since: None },
            git: Git {
                head: None,
                applied: None,
                state: "it has just started".to_owned(),
                bad: false,
                fetched: None,
                trouble: None,
            },
            nightly: None,
            fleets: Vec::new(),
            jobs: Vec::new(),
            cases: Vec::new(),
            images: Vec::new(),
            lines: Vec::new(),
            counts: Counts::default(),
        }
    }
}

impl<H: Hands> Service<'_, H> {
    /// Puts together what is to be seen.
    pub(super) fn show(&mut self) {
        let now = Timestamp::now();
        let memory = self.memory().cloned().unwrap_or_default();
        for commit in [memory.applied.clone(), memory.tried.as_ref().map(|tried| tried.commit.clone())] {
            self.know(commit);
        }
        let view = View {
            at: now,
            started: self.started,
            remote: self.settings.remote.clone(),
            branch: self.settings.branch.clone(),
            lead: self.lead_shown(&memory, now),
            git: self.git(&memory),
            nightly: self.settings.nights.as_ref().map(|nights| Nightly {
                next: nights.next(now),
                ended: memory.night.as_ref().and_then(|night| Some(night.ended.as_ref()?.at)),
                code: memory.night.as_ref().and_then(|night| Some(night.ended.as_ref()?.code)),
            }),
            fleets: self.fleets.iter().map(|(name, of)| fleet(&memory, name, of)).collect(),
            jobs: self
                .running
                .values()
                .map(|running| Job {
                    kind: running.job.kind().to_owned(),
                    what: running.job.to_string(),
                    since: running.since,
                    last: running.last.clone(),
                })
                .collect(),
            cases: memory.cases.values().rev().map(case).collect(),
            images: self.images.clone(),
            lines: self.lines(),
            counts: self.counts.clone(),
        };
        self.shown.send_replace(Arc::new(view));
    }

    /// Looks up once what people want to know of a commit.
    fn know(&mut self, commit: Option<String>) {
        if let Some(id) = commit.filter(|id| !self.commits.contains_key(id)) {
            let about = self.hands.commit(&id);
            self.commits.insert(id, about);
        }
    }

    fn lead_shown(&self, memory: &Memory, now: Timestamp) -> Lead {
        let by = |by: &Writer| format!("process {} on {}", by.pid, by.host);
        let other = self.journal.as_ref().and_then(|journal| journal.roller(now)).map(|entry| by(&entry.by));
        let leader = if self.leads { Some(by(&self.settings.writer)) } else { other };
        let since = memory.since.filter(|_| leader.is_some());
        Lead { mine: self.leads, leader, since }
    }

    fn git(&self, memory: &Memory) -> Git {
        let known = |id: &String| self.commits.get(id).cloned();
        let applied = memory.applied.as_ref().and_then(known);
        let (state, bad) = match (&self.journal, &self.complained) {
            (None, Some(why)) => (format!("nothing is begun: {why}"), true),
            _ => match &self.blind {
                Some(why) => (format!("no fleet can be seen: {why}"), true),
                None => state(self.head.as_ref(), memory),
            },
        };
        Git {
            head: self.head.clone(),
            applied,
            state,
            bad,
            fetched: self.fetched,
            trouble: self.trouble.clone(),
        }
    }

    /// The newest entries of all journals.
    fn lines(&self) -> Vec<Line> {
        let own = self.journal.iter().flat_map(|journal| journal.entries().iter().rev().take(LINES));
        let own = own.map(|entry| Line {
            at: entry.at,
            of: "watch".to_owned(),
            entry: entry.number,
            text: entry.event.to_string(),
        });
        let mut lines: Vec<Line> =
            own.chain(self.fleets.values().flat_map(|of| of.lines.iter().cloned())).collect();
        // Stable: entries of one journal stay in their order.
        lines.sort_by_key(|line| std::cmp::Reverse(line.at));
        lines.truncate(LINES);
        lines
    }

    /// Says what the journal says.
    pub(super) fn said(&mut self, event: &Event) {
        let value = serde_json::to_value(event).unwrap_or_default();
        let word = value.get("kind").and_then(serde_json::Value::as_str).unwrap_or("event").to_owned();
        (self.log)(&word, &event.to_string(), value);
    }

    /// Says what no journal has.
    pub(super) fn say(&mut self, word: &str, text: &str, value: serde_json::Value) {
        (self.log)(word, text, value);
    }

    /// Says what went wrong with the journal, once.
    pub(super) fn complain(&mut self, error: &Error) {
        let why = error.chain();
        if self.complained.as_ref() != Some(&why) {
            self.say("trouble", &why, serde_json::json!({ "hints": error.hints() }));
        }
        self.complained = Some(why);
    }
}

/// Says how far the branch is carried out, and whether somebody has to look.
fn state(head: Option<&Commit>, memory: &Memory) -> (String, bool) {
    let Some(head) = head else { return ("the remote did not answer yet".to_owned(), false) };
    if memory.applied.as_ref() == Some(&head.id) {
        return ("up to date".to_owned(), false);
    }
    match memory.tried.as_ref().filter(|tried| tried.commit == head.id) {
        None => (format!("{} is next", told(head)), false),
        Some(Tried { ended: None, .. }) => (format!("applying {}", told(head)), false),
        Some(Tried { ended: Some(ended), times, .. }) => {
            let why = ended.why.as_deref().unwrap_or("no reason was given");
            let next = if ended.code == 2 { "; it is not tried again" } else { "" };
            let again = if *times > 1 { format!(", {times} times") } else { String::new() };
            let name = short(&head.id);
            (format!("{name} failed (exit code {}{again}): {why}{next}", ended.code), true)
        }
    }
}

/// A fleet as it was seen, and what this watcher itself knows of its backups.
fn fleet(memory: &Memory, name: &str, of: &Sighting) -> Fleet {
    let seen = of.seen.as_ref().and_then(|seen| seen.backups.as_ref());
    let backup = shown(of.view.backup.as_deref(), memory.backups.get(name), seen);
    Fleet { backup, ..of.view.clone() }
}

fn case(case: &super::super::memory::Case) -> Case {
    let state = match (&case.closed, &case.held, &case.failed) {
        (Some((_, how)), ..) => how.clone(),
        (None, Some(why), _) => format!("held: {why}"),
        (None, None, Some(why)) => format!("its playbook failed: {why}"),
        (None, None, None) if case.steps > 0 => format!("{} steps done", case.steps),
        _ => "open".to_owned(),
    };
    Case {
        fleet: case.fleet.clone(),
        alert: case.heard.name.clone(),
        instance: case.instance.as_ref().map(ToString::to_string),
        since: case.since,
        state,
        open: case.closed.is_none(),
        held: case.held.is_some() && case.closed.is_none(),
    }
}

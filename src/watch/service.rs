//! Do: the service: what comes in, who leads, what is begun, what is shown. No choices are made here.
//!
//! # How it can fail
//!
//! * *Killed*: its commands end with it, and stop between two acts. Another watcher of the store sees that it is gone (at once
//!   on the same computer, by its heartbeat elsewhere), leads, and begins what was under way again; each command goes on where
//!   it stopped. Without another one, the next start does the same.
//! * *Two believe that they lead*, since one was asleep: the first word of the other in the journal ends it. Until then each
//!   command is fenced by the journal of its fleet, and a nightly by its branch.
//! * *The journal cannot be written*: nothing is begun; it is opened anew at each turn until it can.
//! * *The remote, a fleet or the store does not answer*: whoever asks waits on a thread of its own, the page says so, and
//!   everything else goes on.
//! * *An alert comes in and the journal does not take it*: its sender is told to try again.

mod hear;
mod lead;
mod show;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender};
use std::thread::Scope;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::command::{End, Stop};
use super::duty::{self, Duty, asks_whether_waiting, duties};
use super::event::{Event, Job, Journal};
use super::hands::{Ask, Hands, Round, Sighting, Work};
use super::schedule::Daily;
use super::server::Request;
use super::view::{Commit, Counts, Image, View};
use crate::chain::Writer;
use crate::error::Result;
use crate::objects::Objects;

/// How often it turns when nothing comes in: soon enough for people, and nothing for a computer.
const TURN: Duration = Duration::from_millis(500);

/// How often fleets are looked at while something is done to them, where that is more often than is asked for: the page shows
/// how it goes on.
const BUSY: Duration = Duration::from_secs(2);

/// What a watcher is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The remote, for people.
    pub remote: String,
    /// The branch that is followed; its journal has its name.
    pub branch: String,
    /// How often the remote is asked.
    pub poll: Duration,
    /// How often fleets are looked at.
    pub look: Duration,
    /// When nights begin.
    pub nights: Option<Daily>,
    /// Whether commits must be signed.
    pub signed: bool,
    /// Where its journal is.
    pub journals: Objects,
    /// Who writes it.
    pub writer: Writer,
}

/// What the service is told by its threads and by others.
#[derive(Debug)]
pub enum Message {
    /// The remote answered, or did not.
    Fetched(Result<Commit>),
    /// Fleets were looked at, beginning at that time.
    Looked(Timestamp, Box<Result<Round>>),
    /// A job said something.
    Said(u64, String),
    /// A job ended.
    Ended(u64, Result<End>),
    /// Something came in.
    Incoming(Request),
    /// It is to end.
    Stop,
}

/// What is being done.
struct Running {
    job: Job,
    since: Timestamp,
    last: Option<String>,
    stop: Stop,
    resolved: Arc<AtomicBool>,
}

/// Something that is asked again and again, one at a time.
struct Asked {
    under_way: bool,
    next: Instant,
}

impl Asked {
    fn now() -> Self {
        Self { under_way: false, next: Instant::now() }
    }

    /// Tells whether it is to be asked now; then it is under way.
    fn due(&mut self) -> bool {
        let due = !self.under_way && Instant::now() >= self.next;
        self.under_way |= due;
        due
    }

    fn done(&mut self, again: Duration) {
        (self.under_way, self.next) = (false, Instant::now() + again);
    }
}

/// Where lines for people go: a word, the line, and the same for programs.
pub type Log<'a> = &'a dyn Fn(&str, &str, serde_json::Value);

/// One watcher.
pub struct Service<'env, H> {
    hands: &'env H,
    settings: &'env Settings,
    runtime: tokio::runtime::Handle,
    log: Log<'env>,
    sender: Sender<Message>,
    messages: Receiver<Message>,
    shown: &'env tokio::sync::watch::Sender<Arc<View>>,
    /// Nothing while it cannot be opened.
    journal: Option<Journal>,
    /// Whether this one leads.
    leads: bool,
    /// What was said last of why the journal cannot be used: it is said once.
    complained: Option<String>,
    started: Timestamp,
    head: Option<Commit>,
    /// What is known of commits, by name.
    commits: BTreeMap<String, Commit>,
    fetched: Option<Timestamp>,
    trouble: Option<String>,
    fetching: Asked,
    looking: Asked,
    /// Why nothing could be seen at the last look.
    blind: Option<String>,
    fleets: BTreeMap<String, Sighting>,
    waiting: Option<bool>,
    images: Vec<Image>,
    /// What was seen before this may be of before the last job's end.
    stale: Timestamp,
    running: BTreeMap<u64, Running>,
    begun: u64,
    counts: Counts,
    stopping: bool,
}

/// What runs a service's threads.
type Threads<'scope, 'env> = &'scope Scope<'scope, 'env>;

impl<'env, H: Hands> Service<'env, H> {
    /// Makes a watcher that knows nothing yet. Messages for it go to the other end of `messages`.
    #[must_use]
    pub fn new(
        hands: &'env H,
        settings: &'env Settings,
        runtime: tokio::runtime::Handle,
        log: Log<'env>,
        (sender, messages): (Sender<Message>, Receiver<Message>),
        shown: &'env tokio::sync::watch::Sender<Arc<View>>,
    ) -> Self {
        let now = Timestamp::now();
        Self {
            hands,
            settings,
            runtime,
            log,
            sender,
            messages,
            shown,
            journal: None,
            leads: false,
            complained: None,
            started: now,
            head: None,
            commits: BTreeMap::new(),
            fetched: None,
            trouble: None,
            fetching: Asked::now(),
            looking: Asked::now(),
            blind: None,
            fleets: BTreeMap::new(),
            waiting: None,
            images: Vec::new(),
            stale: now,
            running: BTreeMap::new(),
            begun: 0,
            counts: Counts::default(),
            stopping: false,
        }
    }

    /// Watches until it is told to stop and everything that it began has ended.
    pub fn run<'scope>(mut self, threads: Threads<'scope, 'env>) {
        loop {
            self.take_messages();
            self.lead();
            if !self.stopping {
                self.ask(threads);
                if self.leads {
                    self.work(threads);
                }
            }
            self.show();
            if self.stopping && self.running.is_empty() {
                return self.leave();
            }
        }
    }

    fn take_messages(&mut self) {
        let mut next = self.messages.recv_timeout(TURN).ok();
        while let Some(message) = next {
            self.take(message);
            next = self.messages.try_recv().ok();
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Fetched(found) => self.take_head(found),
            Message::Looked(begun, found) => self.take_round(begun, *found),
            Message::Said(number, line) => {
                if let Some(running) = self.running.get_mut(&number) {
                    running.last = Some(line);
                }
            }
            Message::Ended(number, end) => self.end(number, end),
            Message::Incoming(request) => self.hear(request),
            Message::Stop => {
                if !self.stopping {
                    self.say("stops", "asked to stop: jobs end between two acts", serde_json::json!({}));
                }
                self.stopping = true;
                self.stop_all();
            }
        }
    }

    fn take_head(&mut self, found: Result<Commit>) {
        self.fetching.done(self.settings.poll);
        self.counts.fetches += 1;
        match found {
            Ok(commit) => {
                if self.head.as_ref() != Some(&commit) {
                    let line = format!("{} is at {}", self.settings.branch, told(&commit));
                    self.say("head", &line, serde_json::json!({ "commit": commit.id }));
                    self.commits.insert(commit.id.clone(), commit.clone());
                    self.head = Some(commit);
                    self.looking.next = Instant::now();
                }
                (self.fetched, self.trouble) = (Some(Timestamp::now()), None);
            }
            Err(error) => {
                self.counts.fetch_failures += 1;
                let why = error.chain();
                if self.trouble.as_ref() != Some(&why) {
                    self.say("trouble", &why, serde_json::json!({ "hints": error.hints() }));
                }
                self.trouble = Some(why);
            }
        }
    }

    fn take_round(&mut self, begun: Timestamp, found: Result<Round>) {
        let busy = !self.running.is_empty() || self.fleets.values().any(is_rolled);
        self.looking.done(if busy { BUSY.min(self.settings.look) } else { self.settings.look });
        match found {
            Ok(mut round) => {
                if begun < self.stale {
                    // A job has ended since: what it may have mended is looked at again.
                    round.fleets.values_mut().for_each(forget);
                    round.waiting = None;
                    self.looking.next = Instant::now();
                }
                (self.fleets, self.waiting, self.images) = (round.fleets, round.waiting, round.images);
                self.blind = None;
            }
            Err(error) => {
                let why = error.chain();
                if self.blind.as_ref() != Some(&why) {
                    self.say("trouble", &why, serde_json::json!({ "hints": error.hints() }));
                }
                self.blind = Some(why);
            }
        }
    }

    /// A job ended: writes so, and lets what it changed be looked at again.
    fn end(&mut self, number: u64, end: Result<End>) {
        let Some(Running { job, stop, .. }) = self.running.remove(&number) else { return };
        let End { code, why } =
            end.unwrap_or_else(|error| End { code: error.exit_code(), why: Some(error.chain()) });
        self.stale = Timestamp::now();
        self.fleets.values_mut().for_each(forget);
        self.looking.next = Instant::now();
        let count = self.counts.jobs.iter_mut().find(|(kind, of, _)| *kind == job.kind() && *of == code);
        match count {
            Some((_, _, count)) => *count += 1,
            None => self.counts.jobs.push((job.kind().to_owned(), code, 1)),
        }
        if code == 0 && matches!(job, Job::Replace { .. }) {
            self.counts.replaced += 1;
        }
        // One that was stopped has not failed: whoever leads next begins it again.
        let stopped = code != 0 && stop.asked();
        if self.leads && !stopped {
            self.record(&Event::Ended { job, code, why });
        }
    }

    /// Has the remote asked and the fleets looked at, when it is time.
    fn ask<'scope>(&mut self, threads: Threads<'scope, 'env>) {
        let hands = self.hands;
        if self.fetching.due() {
            let sender = self.sender.clone();
            threads.spawn(move || {
                let found = hands.fetch().map(|id| hands.commit(&id));
                let _ = sender.send(Message::Fetched(found));
            });
        }
        if self.looking.due() {
            let sender = self.sender.clone();
            let ask = self.what_to_look_at();
            threads.spawn(move || {
                let begun = Timestamp::now();
                let _ = sender.send(Message::Looked(begun, Box::new(hands.look(&ask))));
            });
        }
    }

    fn what_to_look_at(&self) -> Ask {
        let memory = self.memory();
        let standing = memory.and_then(|memory| {
            memory.applied.clone().or_else(|| memory.tried.as_ref().map(|tried| tried.commit.clone()))
        });
        let head = self.head.as_ref().map(|head| head.id.clone());
        let asks = |head: &String| memory.is_some_and(|memory| asks_whether_waiting(memory, head));
        Ask { standing: standing.or_else(|| head.clone()), waiting: head.filter(asks) }
    }

    /// Begins what is to be done.
    fn work<'scope>(&mut self, threads: Threads<'scope, 'env>) {
        let seen = duty::Seen {
            head: self.head.as_ref().map(|head| head.id.clone()),
            running: self.running.values().map(|running| running.job.clone()).collect(),
            fleets: self
                .fleets
                .iter()
                .filter_map(|(name, of)| Some((name.clone(), of.seen.clone()?)))
                .collect(),
            waiting: self.waiting,
        };
        let Some(memory) = self.memory() else { return };
        let (nights, signed, now) = (self.settings.nights.as_ref(), self.settings.signed, Timestamp::now());
        for duty in duties(&duty::Situation { memory, seen: &seen, nights, signed, now }) {
            let event = match &duty {
                Duty::Start(job) => Event::Began { job: job.clone() },
                Duty::Say(event) => event.clone(),
            };
            // A command that came first changes what is to be done.
            if !self.propose(&event) {
                return;
            }
            match duty {
                Duty::Start(job) => self.begin(job, threads),
                Duty::Say(event) => self.tell(&event, threads),
            }
        }
    }

    fn begin<'scope>(&mut self, job: Job, threads: Threads<'scope, 'env>) {
        self.begun += 1;
        let number = self.begun;
        let (stop, resolved) = (Stop::default(), Arc::new(AtomicBool::new(false)));
        let case = match &job {
            Job::Replace { case, .. } | Job::Step { case, .. } => {
                self.memory().and_then(|memory| memory.cases.get(case).cloned())
            }
            _ => None,
        };
        let census = case.as_ref().and_then(|case| self.fleets.get(&case.fleet)?.census.clone());
        let (hands, sender) = (self.hands, self.sender.clone());
        let (its, of, until) = (job.clone(), stop.clone(), Arc::clone(&resolved));
        threads.spawn(move || {
            let said = |line| drop(sender.send(Message::Said(number, line)));
            let work = Work { case: case.as_ref(), census: census.as_ref(), resolved: &until, stop: &of };
            let end = hands.carry_out(&its, &work, &said);
            let _ = sender.send(Message::Ended(number, end));
        });
        let running = Running { job, since: Timestamp::now(), last: None, stop, resolved };
        self.running.insert(number, running);
    }

    /// Tells the people of a fleet what only they can end.
    fn tell<'scope>(&mut self, event: &Event, threads: Threads<'scope, 'env>) {
        let hands = self.hands;
        if let Event::Unsaved { fleet, .. } = event {
            let (fleet, text) = (fleet.clone(), event.to_string());
            threads.spawn(move || hands.tell(&fleet, "backup_failed", &text, Timestamp::now()));
            return;
        }
        let Event::Held { case, why } = event else { return };
        let Some(case) = self.memory().and_then(|memory| memory.cases.get(case).cloned()) else { return };
        let text = format!("fleet {}: alert {} is held: {why}", case.fleet, case.heard.name);
        threads.spawn(move || hands.tell(&case.fleet, "alert_held", &text, Timestamp::now()));
    }
}

/// A commit, as people name it.
fn told(commit: &Commit) -> String {
    let short = crate::pipeline::tree::short(&commit.id);
    if commit.subject.is_empty() { short.to_owned() } else { format!("{short} ({})", commit.subject) }
}

fn is_rolled(sighting: &Sighting) -> bool {
    sighting.seen.as_ref().is_some_and(|seen| seen.rolled)
}

/// What a fleet wants, that it wants nothing, and how old its backup is, was seen before a job ended, which may have done it.
fn forget(sighting: &mut Sighting) {
    if let Some(seen) = &mut sighting.seen {
        (seen.wants, seen.chaos, seen.backups) = (None, None, None);
    }
}

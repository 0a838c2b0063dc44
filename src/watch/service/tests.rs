use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::sync::{Mutex, mpsc};

use serde_json::json;
use tokio::sync::oneshot;

use super::*;
use crate::error::Error;
use crate::fleet::census::{Census, Health, Instance, InstanceId, State};
use crate::watch::rule::Rule;
use crate::watch::server::{Answer, Incoming};
use crate::watch::view;

/// A remote with one commit, a fleet with one instance and one rule, and jobs that end well, but for steps: they go on until
/// they are stopped, or their alert is resolved.
#[derive(Default)]
struct Fake {
    /// What was begun.
    begun: Mutex<Vec<String>>,
    told: Mutex<Vec<String>>,
    /// Whether its fleet is paused.
    paused: bool,
    /// Whether nothing can be seen.
    blind: bool,
}

fn alert() -> crate::fleet::Alert {
    toml::from_str("name = 'Slow'\nplaybook = 'look'\nwithin = '0s'\nlimit = '1/h'\n").expect("a rule")
}

fn sighting(paused: bool, within: i64) -> Sighting {
    let now = Timestamp::now();
    let instance = Instance {
        id: InstanceId::new("web", 1),
        generation: None,
        image: None,
        state: State::Running,
        health: Health::Healthy,
        in_service: true,
        launched_at: now,
        touched: None,
        connections: 0,
        address: None,
        zone: None,
        known_as: None,
        membership: None,
    };
    let within = jiff::SignedDuration::from_secs(within);
    let rule = Rule { name: "Slow".into(), within, limit: 1, steps: 1, rotates: false };
    let seen = duty::Fleet {
        at: now,
        commit: "one".into(),
        rules: vec![rule],
        living: vec![instance.id.clone()],
        wants: None,
        file: "fleets/web.toml".into(),
        can_wait: false,
        rolled: false,
        paused: paused.then(|| "a look".to_owned()),
        chaos: None,
        killed: None,
        over: false,
        backups: None,
    };
    let view = view::Fleet {
        name: "web".into(),
        image: "web".into(),
        place: String::new(),
        size: 1,
        seen: Some(now),
        trouble: None,
        instances: Vec::new(),
        rollout: None,
        remarks: Vec::new(),
        paused: None,
        glance: None,
        backup: None,
    };
    let census = Census { at: now, instances: vec![instance], trouble: None, group: None, cluster: None };
    Sighting { seen: Some(seen), alerts: vec![alert()], census: Some(census), view, lines: Vec::new() }
}

impl Hands for Fake {
    fn fetch(&self) -> Result<String> {
        Ok("one".to_owned())
    }

    fn commit(&self, id: &str) -> Commit {
        Commit { id: id.to_owned(), subject: "a page".to_owned(), at: None }
    }

    fn look(&self, _: &Ask) -> Result<Round> {
        if self.blind {
            return Err(Error::failed("the store is full"));
        }
        // A paused fleet's alert has no time left.
        let within = if self.paused { 0 } else { 3600 };
        let fleets = BTreeMap::from([("web".to_owned(), sighting(self.paused, within))]);
        Ok(Round { fleets, ..Round::default() })
    }

    fn carry_out(&self, job: &Job, work: &Work<'_>, _: &dyn Fn(String)) -> Result<End> {
        self.begun.lock().expect("nobody panics").push(job.to_string());
        while matches!(job, Job::Step { .. }) && !work.resolved.load(Ordering::SeqCst) {
            if work.stop.asked() {
                return Err(Error::interrupted("stopped"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(End { code: 0, why: None })
    }

    fn tell(&self, fleet: &str, event: &str, text: &str, _: Timestamp) {
        self.told.lock().expect("nobody panics").push(format!("{fleet} {event} {text}"));
    }
}

/// A service that runs while `play` does something with it; returns its journal.
fn played(fake: &Fake, dir: &std::path::Path, play: impl FnOnce(&Player)) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let settings = Settings {
        remote: "origin".into(),
        branch: "main".into(),
        poll: Duration::from_hours(1),
        look: Duration::from_millis(100),
        nights: None,
        signed: false,
        journals: Objects::Directory(dir.to_owned()),
        writer: Writer::this("a test"),
    };
    let (sender, messages) = channel();
    let (shown, view) = tokio::sync::watch::channel(Arc::new(View::before(&settings)));
    let log = |_: &str, _: &str, _: serde_json::Value| {};
    std::thread::scope(|threads| {
        let to = sender.clone();
        threads.spawn({
            let (settings, shown, handle) = (&settings, &shown, runtime.handle().clone());
            move || {
                let log: Log<'_> = &log;
                std::thread::scope(|threads| {
                    Service::new(fake, settings, handle, log, (to, messages), shown).run(threads);
                });
            }
        });
        play(&Player { sender: sender.clone(), view });
        sender.send(Message::Stop).expect("it runs");
    });
    let journal = runtime.block_on(Journal::open(&settings.journals, "main", Writer::this("a look")));
    journal.map_or_else(
        |error| vec![error.chain()],
        |journal| journal.entries().iter().map(|entry| entry.event.to_string()).collect(),
    )
}

struct Player {
    sender: mpsc::Sender<Message>,
    view: tokio::sync::watch::Receiver<Arc<View>>,
}

impl Player {
    fn until(&self, so: impl Fn(&View) -> bool) {
        let begun = Instant::now();
        while !so(&self.view.borrow()) {
            assert!(begun.elapsed() < Duration::from_mins(1), "never: {:#?}", self.view.borrow());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn alert(&self, status: &str, instance: &str) -> Answer {
        let labels = json!({ "alertname": "Slow", "instance": instance });
        let body = json!({ "version": "4", "alerts": [{ "status": status, "labels": labels }] });
        let (answer, said) = oneshot::channel();
        let incoming = Incoming::Alertmanager(body.to_string().into_bytes());
        self.sender.send(Message::Incoming(Request { incoming, answer })).expect("it runs");
        said.blocking_recv().expect("an answer")
    }
}

#[test]
fn a_step_that_is_stopped_has_not_failed_and_is_begun_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let fake = Fake::default();
    let steps = |view: &View| view.jobs.iter().any(|job| job.kind == "step");
    let first = played(&fake, dir.path(), |player| {
        player.until(|view| view.git.state == "up to date" && !view.fleets.is_empty());
        assert!(matches!(player.alert("firing", "web-1"), Answer::Taken(text) if text == "Slow: taken"));
        player.until(steps);
    });
    let fires = "alert Slow fires for fleet web, instance web-1";
    let step = "begins: fleet web: step 1 for alert 1";
    assert_eq!(first, ["leads", "begins: apply one", "done: apply one", fires, step, "leaves"]);
    let all = played(&fake, dir.path(), |player| {
        player.until(steps);
        player.alert("resolved", "web-1");
        player.until(|view| view.jobs.is_empty() && view.cases.iter().all(|case| !case.open));
    });
    let more = [
        "leads",
        step,
        "alert Slow is resolved for fleet web, instance web-1",
        "done: fleet web: step 1 for alert 1",
    ];
    assert_eq!(all[first.len()..all.len() - 1], more);
    assert_eq!(all.last().map(String::as_str), Some("leaves"));
    assert!(fake.told.lock().expect("nobody panics").is_empty());
}

#[test]
fn what_only_a_person_can_end_is_told_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let fake = Fake { paused: true, ..Fake::default() };
    let all = played(&fake, dir.path(), |player| {
        player.until(|view| view.git.state == "up to date" && !view.fleets.is_empty());
        assert!(matches!(player.alert("firing", "web-9"), Answer::Taken(text) if text.contains("no fleet")));
        player.alert("firing", "web-1");
        player.until(|view| view.cases.iter().any(|case| case.held));
        // As senders do.
        player.alert("firing", "web-1");
    });
    assert_eq!(
        all[3..],
        [
            "alert Slow fires for fleet web, instance web-1",
            "alert 1 is held: the fleet is paused: a look",
            "leaves",
        ]
    );
    let told = fake.told.lock().expect("nobody panics");
    assert_eq!(*told, ["web alert_held fleet web: alert Slow is held: the fleet is paused: a look"]);
}

#[test]
fn with_a_journal_that_cannot_be_read_nothing_is_begun() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = dir.path().join("watch/main");
    std::fs::create_dir_all(&journal).expect("a folder");
    std::fs::write(journal.join(format!("{:020}.json", 1)), "{}").expect("written");
    let fake = Fake::default();
    let all = played(&fake, dir.path(), |player| {
        player.until(|view| view.git.bad && !view.fleets.is_empty());
        assert!(matches!(player.alert("firing", "web-1"), Answer::NotNow(_)));
    });
    assert!(all[0].contains("the journal of the watch of main"), "{all:?}");
    assert!(fake.begun.lock().expect("nobody panics").is_empty());
}

#[test]
fn who_sees_nothing_says_so_and_takes_no_alert() {
    let dir = tempfile::tempdir().expect("a directory");
    let fake = Fake { blind: true, ..Fake::default() };
    played(&fake, dir.path(), |player| {
        player.until(|view| view.git.bad && view.git.state == "no fleet can be seen: the store is full");
        assert!(matches!(player.alert("firing", "web-1"), Answer::NotNow(_)));
    });
}

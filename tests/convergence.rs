//! What a rollout counts on, one thing at a time, on the simulated world.

mod bucket;
mod group;

use std::cell::Cell;
use std::future::Future;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rekiln::error::{Error, Kind, Result};
use rekiln::fleet::Fleet;
use rekiln::fleet::census::{Census, InstanceId};
use rekiln::fleet::history::Event;
use rekiln::fleet::journal::{Journal, Writer};
use rekiln::fleet::policy::Policy;
use rekiln::fleet::roll::{Order, Roll, Wish};
use rekiln::fleet::surroundings::Nothing;
use rekiln::progress::Silent;
use rekiln::provider::sim::{Faults, Sim, SimStore};
use rekiln::provider::{Action, Outcome, Provider, ProviderError};
use rekiln::store::Store;

use crate::simulation::harness::{Crash, End, Simulated};

fn fleet(roll: &str) -> Fleet {
    toml::from_str(&format!(
        "image = 'web'\nsize = 3\n[local]\nlisten = '127.0.0.1:1'\nport = 80\n\
         [health]\nhttp = {{ port = 80, path = '/' }}\ndeadline = '60s'\n[roll]\ndrain = '5s'\n{roll}\n"
    ))
    .expect("a fleet file")
}

fn store() -> SimStore {
    SimStore::new(1, 0, SignedDuration::from_hours(24))
}

fn done(end: End) -> rekiln::fleet::roll::Summary {
    match end {
        End::Done(summary) => summary,
        other => panic!("it rolls: {other:?}"),
    }
}

fn failed(end: End) -> Error {
    match end {
        End::Failed(error) => error,
        other => panic!("it must not succeed: {other:?}"),
    }
}

#[test]
fn a_crash_before_and_after_each_act() {
    for after in [false, true] {
        for act in 0..12 {
            let store = store();
            let run = Simulated::new(fleet(""), &store, "web", 1);
            let (first, second) = (run.target("first"), run.target("second"));
            done(run.plain(&first));
            let _ = run.roll(&second, Order::default(), Some(Crash { act, after }));
            done(run.plain(&second));
            run.assert_sound(&format!("act {act}"));
            run.assert_converged(&second, &format!("act {act}"));
        }
    }
}

#[test]
fn a_bad_image_is_not_rolled_further_and_is_quarantined() {
    let store = store();
    let run = Simulated::new(fleet("failures = 1"), &store, "web", 1);
    let (first, bad) = (run.target("first"), run.target("bad"));
    done(run.plain(&first));
    run.sim.spoil(bad.image);
    let error = failed(run.plain(&bad));
    assert!(matches!(error.kind(), Kind::Holding), "{error:?}");
    run.assert_converged(&first, "a bad image");
    let entries = run.read(|journal| journal.entries().to_vec());
    let consoles =
        entries.iter().filter(|e| matches!(&e.event, Event::Failed { console, .. } if !console.is_empty()));
    assert_eq!(consoles.count(), 2);
    let again = failed(run.plain(&bad));
    assert!(again.chain().contains("quarantined"), "{again:?}");
    // Another fleet of the store does not even try.
    let other = Simulated::new(fleet(""), &store, "db", 2);
    done(other.plain(&first));
    let refused = failed(other.plain(&bad));
    assert_eq!(refused.exit_code(), 3, "{refused:?}");
    assert_eq!(other.sim.truth().len(), 3);
    for run in [run, other] {
        run.assert_sound("a bad image");
        run.assert_converged(&first, "a bad image");
    }
}

#[test]
fn a_rollback_includes_what_was_replaced() {
    let store = store();
    let run = Simulated::new(
        fleet("canary = 1\nsoak = '10s'\nfailures = 0\non_failure = 'rollback'"),
        &store,
        "web",
        1,
    );
    let (first, second) = (run.target("first"), run.target("second"));
    done(run.plain(&first));
    // It goes bad when two are there.
    let _ = run.roll(&second, Order::default(), Some(Crash { act: 6, after: true }));
    assert!(run.sim.truth().iter().any(|i| i.image == Some(second.image) && i.serves()));
    run.sim.spoil(second.image);
    let error = failed(run.plain(&second));
    assert!(error.exit_code() == 3 && error.chain().contains("was rolled back to"), "{error:?}");
    run.assert_sound("a rollback");
    run.assert_converged(&first, "a rollback");
    // Git still asks for it, and nobody launches it again.
    assert!(failed(run.plain(&second)).chain().contains("quarantined"));
    run.assert_converged(&first, "after a rollback");
}

#[test]
fn the_dead_and_the_rotated_are_replaced() {
    let store = store();
    let run = Simulated::new(fleet(""), &store, "web", 1);
    let first = run.target("first");
    done(run.plain(&first));
    run.sim.kill(&InstanceId("web-2".to_owned()));
    let wish = Wish { instances: vec![InstanceId("web-1".to_owned())], reason: "test".to_owned() };
    done(run.roll(&first, Order { wish: Some(wish), ..Order::default() }, None));
    run.assert_converged(&first, "a rotation");
    let ids: Vec<_> = run.sim.truth().into_iter().map(|i| i.id.0).collect();
    assert_eq!(ids, ["web-3", "web-4", "web-5"]);
    let again = done(run.plain(&first));
    assert!(again.launched.is_empty() && again.ended.is_empty());
}

#[tokio::test]
async fn two_writers_one_wins_and_tampering_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path().to_str().expect("UTF-8")).expect("a store");
    let (at, event) = (Timestamp::UNIX_EPOCH, Event::Completed);
    let mut one = Journal::open(&store.objects(), "web", Writer::this("one")).await.expect("a journal");
    let mut two = Journal::open(&store.objects(), "web", Writer::this("two")).await.expect("a journal");
    let (a, b) = tokio::join!(one.record(at, event.clone()), two.record(at, event.clone()));
    let lost: Error = match (a, b) {
        (Ok(()), Err(lost)) | (Err(lost), Ok(())) => lost,
        other => panic!("exactly one wins: {other:?}"),
    };
    assert_eq!(lost.exit_code(), 4);
    assert!(lost.chain().contains("has the journal of web"), "{lost:?}");
    let mut three = Journal::open(&store.objects(), "web", Writer::this("three")).await.expect("a journal");
    three.record(at, event).await.expect("it is the only one");
    let file = store.journals().join("web").join(format!("{:020}.json", 1));
    let text = std::fs::read_to_string(&file).expect("an entry");
    std::fs::write(&file, text.replace("completed", "down")).expect("tampering");
    let broken =
        Journal::open(&store.objects(), "web", Writer::this("four")).await.err().expect("it is noticed");
    assert!(broken.chain().contains("broken at entry 2"), "{broken:?}");
}

#[tokio::test]
async fn a_command_is_taken_up_and_a_decision_without_it_is_not_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path().to_str().expect("UTF-8")).expect("a store");
    let at = Timestamp::UNIX_EPOCH;
    let mut roller = Journal::open(&store.objects(), "web", Writer::this("roll")).await.expect("a journal");
    let mut other = Journal::open(&store.objects(), "web", Writer::this("pause")).await.expect("a journal");
    roller.record(at, Event::Resumed).await.expect("written");
    other.command(at, Event::Paused { reason: "a test".to_owned() }).await.expect("written after it");
    assert!(!roller.propose(at, Event::Completed).await.expect("no rival"), "decided without the pause");
    assert!(roller.history().paused.is_some());
    assert!(roller.propose(at, Event::Completed).await.expect("no rival"));
    other.command(at, Event::Resumed).await.expect("written");
    roller.refresh().await.expect("read");
    assert_eq!((roller.history().paused.clone(), roller.entries().len()), (None, 4));
    // A roller's own words are no command.
    other.record(at, Event::Ending).await.expect("written");
    let lost = roller.propose(at, Event::Completed).await.expect_err("lost");
    assert_eq!(lost.exit_code(), 4, "{lost:?}");
}

#[tokio::test]
async fn a_live_holder_is_not_taken_over() {
    let store = store();
    let run = Simulated::new(fleet(""), &store, "web", 1);
    let target = run.target("first");
    let objects = std::sync::Arc::clone(&run.journal);
    let mut holder = Journal::over(objects, "web", Writer::this("holder")).await.expect("a journal");
    let opened = Event::Opened {
        target: target.clone(),
        reason: "test".to_owned(),
        emergency: false,
        fleet: None,
        commit: None,
    };
    holder.record(Timestamp::UNIX_EPOCH, opened).await.expect("open");
    let refused = failed(run.plain(&target));
    assert_eq!(refused.exit_code(), 4);
    assert!(refused.chain().contains("`holder`"), "{refused:?}");
    assert!(run.sim.truth().is_empty());
    // An emergency does, and says so to the holder.
    done(run.roll(&target, Order { emergency: true, ..Order::default() }, None));
    let lost = holder.propose(Timestamp::UNIX_EPOCH, Event::Completed).await.expect_err("lost");
    assert_eq!(lost.exit_code(), 4);
}

#[test]
fn a_refused_image_is_never_launched() {
    for seed in 0..6 {
        let store = store();
        let run = Simulated::new(fleet(""), &store, "web", seed);
        let (first, refused) = (run.target("first"), run.target("debug"));
        done(run.plain(&first));
        run.sim.kill(&InstanceId("web-1".to_owned()));
        run.sim.set_faults(Faults { lost_reply: 100, stale: 100, unknown: 50, ..Faults::default() });
        store.refused.borrow_mut().insert(refused.image, "a debug variant".to_owned());
        let error = failed(run.plain(&refused));
        assert_eq!(error.exit_code(), 3, "{error:?}");
        let truth = run.sim.truth();
        assert!(truth.iter().all(|i| i.image == Some(first.image)), "seed {seed}: {truth:#?}");
        assert_eq!(truth.iter().filter(|i| i.serves()).count(), 2, "seed {seed}: those that serve stay");
        run.assert_sound(&format!("seed {seed}"));
    }
}

/// Loses the journal to a rival just before the nth act, and counts what is done after that.
struct Rivalled<'a> {
    sim: &'a Sim,
    store: &'a Store,
    acts_left: Cell<u32>,
    after: Cell<u32>,
}

impl Provider for Rivalled<'_> {
    fn prepare(&self) -> impl Future<Output = Result<()>> {
        self.sim.prepare()
    }
    async fn census(&self) -> Result<Census, ProviderError> {
        if self.acts_left.get() == 0 && self.after.get() == 0 {
            let mut rival = Journal::open(&self.store.objects(), "web", Writer::this("rival")).await?;
            rival.record(self.sim.now(), Event::Stopped { reason: "an emergency".to_owned() }).await?;
            self.after.set(1);
        }
        self.sim.census().await
    }
    async fn apply(&self, action: &Action) -> Result<Outcome, ProviderError> {
        self.acts_left.set(self.acts_left.get().saturating_sub(1));
        if self.after.get() > 0 {
            self.after.set(self.after.get() + 1);
        }
        self.sim.apply(action).await
    }
    async fn console_tail(&self, id: &InstanceId) -> Vec<String> {
        self.sim.console_tail(id).await
    }
    fn now(&self) -> Timestamp {
        self.sim.now()
    }
    fn wait(&self, time: Duration) -> impl Future<Output = ()> {
        self.sim.wait(time)
    }
}

#[tokio::test]
async fn nothing_is_done_after_the_journal_is_lost() {
    for acts in 1..9 {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path().to_str().expect("UTF-8")).expect("a store");
        let fleet = fleet("");
        let sim = Sim::new(Policy::of(&fleet).expect("a policy"), 1);
        let provider = Rivalled { sim: &sim, store: &store, acts_left: Cell::new(acts), after: Cell::new(0) };
        let mut journal =
            Journal::open(&store.objects(), "web", Writer::this("roll")).await.expect("a journal");
        let roll = Roll {
            name: "web",
            fleet: &fleet,
            target: rekiln::fleet::generation::Target::new(&fleet, rekiln::digest::Digest::of(b"first")),
            provider: &provider,
            surroundings: &Nothing,
            journal: &mut journal,
            progress: &Silent,
            stop: &AtomicBool::new(false),
        };
        if let Err(error) = roll.run(Order::default()).await {
            assert_eq!(error.exit_code(), 4, "{error:?}");
            assert!(error.chain().contains("`rival`"), "{error:?}");
            assert_eq!(provider.after.get(), 1, "after {acts} acts");
        } else {
            assert_eq!(provider.after.get(), 0, "it went on");
        }
    }
}

//! Random fleets and fault schedules on the simulated world: invariants at every step, crashes anywhere, and in
//! the end what Git asks for. Replay one run with `REKILN_SEED=<n>`.

use std::cell::Cell;
use std::future::Future;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jiff::Timestamp;
use rekiln::digest::Digest;
use rekiln::error::{Error, Kind, Result};
use rekiln::fleet::Fleet;
use rekiln::fleet::census::{Census, InstanceId};
use rekiln::fleet::generation::Target;
use rekiln::fleet::history::Event;
use rekiln::fleet::journal::{Journal, Writer};
use rekiln::fleet::policy::Policy;
use rekiln::fleet::roll::{Roll, Summary, Wish};
use rekiln::progress::Silent;
use rekiln::provider::sim::{Faults, Sim};
use rekiln::provider::{Action, Outcome, Provider, ProviderError};
use rekiln::store::Store;

fn fleet(size: u64, surge: u64, unavailable: u64) -> Fleet {
    toml::from_str(&format!(
        "image = 'web'\nsize = {size}\n[local]\nlisten = '127.0.0.1:1'\nport = 80\n[health]\nhttp = {{ port = 80, path = '/' }}\n\
         deadline = '60s'\n[roll]\nsurge = {surge}\nunavailable = {unavailable}\ndrain = '5s'\nfailures = 1000\n"
    ))
    .expect("a fleet file")
}

fn target(fleet: &Fleet, name: &str) -> Target {
    Target::new(fleet, Digest::of(name.as_bytes()), None)
}

/// A provider that dies, as kill -9 does, before or after its nth act.
struct Crashing<'a> {
    sim: &'a Sim,
    acts_left: Cell<Option<u32>>,
    after: bool,
}

impl Provider for Crashing<'_> {
    fn prepare(&self) -> impl Future<Output = Result<()>> {
        self.sim.prepare()
    }
    fn census(&self) -> impl Future<Output = Result<Census>> {
        self.sim.census()
    }
    async fn apply(&self, action: &Action) -> Result<Outcome, ProviderError> {
        if let Some(left) = self.acts_left.get() {
            if left == 0 {
                if self.after {
                    let _ = self.sim.apply(action).await;
                }
                std::future::pending::<()>().await;
            }
            self.acts_left.set(Some(left - 1));
        }
        self.sim.apply(action).await
    }
    fn console_tail(&self, id: &InstanceId) -> Vec<String> {
        self.sim.console_tail(id)
    }
    fn now(&self) -> Timestamp {
        self.sim.now()
    }
    fn wait(&self, time: Duration) -> impl Future<Output = ()> {
        self.sim.wait(time)
    }
}

struct Run {
    store: Store,
    _dir: tempfile::TempDir,
    sim: Sim,
    fleet: Fleet,
}

impl Run {
    fn new(fleet: Fleet, seed: u64) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path().to_str().expect("UTF-8")).expect("a store");
        let sim = Sim::new(Policy::of(&fleet).expect("a policy"), seed);
        Self { store, _dir: dir, sim, fleet }
    }

    /// Rolls; `crash` ends the process before or after that act. `None` when it crashed.
    async fn roll(
        &self,
        target: &Target,
        crash: Option<(u32, bool)>,
        wish: Option<Wish>,
    ) -> Option<Result<Summary>> {
        // A process number that does not exist: the next run finds its writer dead.
        let writer = Writer { pid: 0, started: 0, ..Writer::this("roll") };
        let mut journal = Journal::open(&self.store, "web", writer).await.expect("a sound journal");
        let provider = Crashing {
            sim: &self.sim,
            acts_left: Cell::new(crash.map(|c| c.0)),
            after: crash.is_some_and(|c| c.1),
        };
        let stop = AtomicBool::new(false);
        let policy = Policy::of(&self.fleet).expect("a policy");
        let roll = Roll {
            fleet: "web",
            policy,
            target: target.clone(),
            provider: &provider,
            journal: &mut journal,
            progress: &Silent,
            stop: &stop,
        };
        let mut rolling = std::pin::pin!(roll.run("test", wish));
        // A crash is a future that is never ready again and is dropped. Everything else here is ready at once,
        // but for the file system, which another thread serves; an act count that has run out tells them apart.
        loop {
            if let Ok(result) = tokio::time::timeout(Duration::from_millis(50), rolling.as_mut()).await {
                return Some(result);
            }
            if provider.acts_left.get() == Some(0) {
                return None;
            }
        }
    }

    fn assert_converged(&self, target: &Target, seed: u64) {
        let truth = self.sim.truth();
        let good =
            truth.iter().filter(|i| i.serves() && i.generation.as_ref() == Some(&target.generation)).count();
        assert_eq!(
            (good, truth.len()),
            (self.fleet.size as usize, self.fleet.size as usize),
            "seed {seed}: {truth:#?}"
        );
    }

    fn assert_sound(&self, seed: u64) {
        assert_eq!(self.sim.violations(), Vec::<String>::new(), "seed {seed}");
    }
}

#[tokio::test]
async fn converges_whatever_happens() {
    let one = std::env::var("REKILN_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in one.map_or(0..40, |seed: u64| seed..seed + 1) {
        let (size, surge) = (1 + seed % 4, seed / 4 % 3);
        let unavailable = if surge == 0 { 1 } else { seed / 12 % 2 };
        let run = Run::new(fleet(size, surge, unavailable), seed);
        let mut wanted = target(&run.fleet, "first");
        for round in 0..4 {
            if round > 0 {
                wanted = target(&run.fleet, &format!("image {round}"));
            }
            run.sim.set_faults(Faults {
                bad_boot: 5,
                // Half of the worlds also lose machines.
                death: seed % 2,
                failure: 3,
                lost_reply: 5,
                stale: 5,
                unknown: 3,
            });
            for act in 0..3 {
                let _ = run.roll(&wanted, Some((act * 2, (seed + u64::from(act)) % 2 == 0)), None).await;
                run.assert_sound(seed);
            }
        }
        run.sim.set_faults(Faults::default());
        let end = run.roll(&wanted, None, None).await.expect("no crash");
        end.unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        run.assert_sound(seed);
        run.assert_converged(&wanted, seed);
    }
}

#[tokio::test]
async fn a_crash_before_and_after_each_act() {
    for after in [false, true] {
        for act in 0..12 {
            let run = Run::new(fleet(3, 1, 0), 1);
            let first = target(&run.fleet, "first");
            run.roll(&first, None, None).await.expect("no crash").expect("it rolls");
            let second = target(&run.fleet, "second");
            let _ = run.roll(&second, Some((act, after)), None).await;
            run.roll(&second, None, None).await.expect("no crash").expect("it goes on");
            run.assert_sound(u64::from(act));
            run.assert_converged(&second, u64::from(act));
        }
    }
}

#[tokio::test]
async fn a_bad_image_is_not_rolled_further() {
    let mut wanted = fleet(3, 1, 0);
    wanted.roll.failures = 1;
    let run = Run::new(wanted, 1);
    let first = target(&run.fleet, "first");
    run.roll(&first, None, None).await.expect("no crash").expect("it rolls");
    let bad = target(&run.fleet, "bad");
    run.sim.spoil(bad.image);
    let error = run.roll(&bad, None, None).await.expect("no crash").expect_err("it is bad");
    assert!(matches!(error.kind(), Kind::Holding), "{error:?}");
    run.assert_converged(&first, 1);
    run.assert_sound(1);
    let journal = Journal::open(&run.store, "web", Writer::this("look")).await.expect("a journal");
    let consoles = journal
        .entries()
        .iter()
        .filter(|e| matches!(&e.event, Event::Failed { console, .. } if !console.is_empty()));
    assert_eq!(consoles.count(), 2);
}

#[tokio::test]
async fn the_dead_and_the_rotated_are_replaced() {
    let run = Run::new(fleet(3, 1, 0), 1);
    let first = target(&run.fleet, "first");
    run.roll(&first, None, None).await.expect("no crash").expect("it rolls");
    run.sim.kill(&InstanceId("web-2".to_owned()));
    let wish = Wish { instances: vec![InstanceId("web-1".to_owned())], reason: "test".to_owned() };
    run.roll(&first, None, Some(wish)).await.expect("no crash").expect("it rotates");
    run.assert_converged(&first, 1);
    let ids: Vec<_> = run.sim.truth().into_iter().map(|i| i.id.0).collect();
    assert_eq!(ids, ["web-3", "web-4", "web-5"]);
    let again = run.roll(&first, None, None).await.expect("no crash").expect("nothing to do");
    assert!(again.launched.is_empty() && again.ended.is_empty());
}

#[tokio::test]
async fn two_writers_one_wins_and_tampering_is_named() {
    let run = Run::new(fleet(3, 1, 0), 1);
    let (at, event) = (Timestamp::UNIX_EPOCH, Event::Completed);
    let mut one = Journal::open(&run.store, "web", Writer::this("one")).await.expect("a journal");
    let mut two = Journal::open(&run.store, "web", Writer::this("two")).await.expect("a journal");
    let (a, b) = tokio::join!(one.append(at, event.clone()), two.append(at, event.clone()));
    let lost: Error = match (a, b) {
        (Ok(()), Err(lost)) | (Err(lost), Ok(())) => lost,
        other => panic!("exactly one wins: {other:?}"),
    };
    assert_eq!(lost.exit_code(), 4);
    assert!(lost.chain().contains("has the journal of web"), "{lost:?}");
    let mut three = Journal::open(&run.store, "web", Writer::this("three")).await.expect("a journal");
    three.append(at, event).await.expect("it is the only one");
    let file = run.store.journals().join("web").join(format!("{:020}.json", 1));
    let text = std::fs::read_to_string(&file).expect("an entry");
    std::fs::write(&file, text.replace("completed", "down")).expect("tampering");
    let broken = Journal::open(&run.store, "web", Writer::this("four")).await.err().expect("it is noticed");
    assert!(broken.chain().contains("broken at entry 2"), "{broken:?}");
}

#[tokio::test]
async fn a_live_holder_is_not_taken_over() {
    let run = Run::new(fleet(3, 1, 0), 1);
    let target = target(&run.fleet, "first");
    let at = Timestamp::UNIX_EPOCH;
    let mut holder = Journal::open(&run.store, "web", Writer::this("holder")).await.expect("a journal");
    holder
        .append(at, Event::Opened { target: target.clone(), reason: "test".to_owned() })
        .await
        .expect("open");
    let refused = run.roll(&target, None, None).await.expect("no crash").expect_err("it is held");
    assert_eq!(refused.exit_code(), 4);
    assert!(refused.chain().contains("`holder`"), "{refused:?}");
    assert!(run.sim.truth().is_empty());
}

#[tokio::test]
async fn a_refused_image_is_never_launched() {
    for seed in 0..6 {
        let run = Run::new(fleet(3, 1, 0), seed);
        let first = target(&run.fleet, "first");
        run.roll(&first, None, None).await.expect("no crash").expect("it rolls");
        run.sim.kill(&InstanceId("web-1".to_owned()));
        run.sim.set_faults(Faults { lost_reply: 10, stale: 10, unknown: 5, ..Faults::default() });
        let refused = Target { refused: Some("a debug variant".to_owned()), ..target(&run.fleet, "debug") };
        let error = run.roll(&refused, None, None).await.expect("no crash").expect_err("it is refused");
        assert_eq!(error.exit_code(), 3, "{error:?}");
        let truth = run.sim.truth();
        assert!(truth.iter().all(|i| i.image == Some(first.image)), "seed {seed}: {truth:#?}");
        assert_eq!(truth.iter().filter(|i| i.serves()).count(), 2, "seed {seed}: those that serve stay");
        run.assert_sound(seed);
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
    async fn census(&self) -> Result<Census> {
        if self.acts_left.get() == 0 && self.after.get() == 0 {
            let mut rival = Journal::open(self.store, "web", Writer::this("rival")).await?;
            rival.append(self.sim.now(), Event::Stopped { reason: "an emergency".to_owned() }).await?;
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
    fn console_tail(&self, id: &InstanceId) -> Vec<String> {
        self.sim.console_tail(id)
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
        let run = Run::new(fleet(3, 1, 0), 1);
        let provider =
            Rivalled { sim: &run.sim, store: &run.store, acts_left: Cell::new(acts), after: Cell::new(0) };
        let mut journal = Journal::open(&run.store, "web", Writer::this("roll")).await.expect("a journal");
        let roll = Roll {
            fleet: "web",
            policy: Policy::of(&run.fleet).expect("a policy"),
            target: target(&run.fleet, "first"),
            provider: &provider,
            journal: &mut journal,
            progress: &Silent,
            stop: &AtomicBool::new(false),
        };
        if let Err(error) = roll.run("test", None).await {
            assert_eq!(error.exit_code(), 4, "{error:?}");
            assert!(error.chain().contains("`rival`"), "{error:?}");
            assert_eq!(provider.after.get(), 1, "after {acts} acts");
        } else {
            assert_eq!(provider.after.get(), 0, "it went on");
        }
    }
}

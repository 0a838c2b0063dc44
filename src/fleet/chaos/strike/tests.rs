//! Kills in a simulated world.

use std::sync::Arc;

use jiff::SignedDuration;
use object_store::memory::InMemory;

use super::*;
use crate::digest::Digest;
use crate::fleet::chaos::draw;
use crate::fleet::generation::Target;
use crate::fleet::journal::Writer;
use crate::fleet::roll::{Order, Roll};
use crate::progress::Silent;
use crate::provider::sim::{Faults, GateFaults, Sim, SimStore, SimSurroundings};

fn file(more: &str) -> Fleet {
    let text = "image = 'web'\nsize = 3\n[local]\nlisten = '127.0.0.1:1'\nport = 80\nzones = ['a', 'b', 'c']\n\
                [health]\nhttp = { port = 80, path = '/' }\n";
    toml::from_str(&format!("{text}{more}")).expect("a fleet file")
}

/// A simulated fleet that is killed in, and rolled again.
struct Ground {
    fleet: Fleet,
    policy: Policy,
    sim: Sim,
    store: SimStore,
    journal: Arc<InMemory>,
}

impl Ground {
    fn new(seed: u64) -> Self {
        let fleet = file("[roll]\nunavailable = 1\n[chaos]\nfloor = 2\n");
        let policy = Policy::of(&fleet).expect("a policy");
        let (sim, store) =
            (Sim::new(policy.clone(), seed), SimStore::new(seed, 3, SignedDuration::from_hours(1)));
        Self { fleet, policy, sim, store, journal: Arc::new(InMemory::new()) }
    }

    fn surroundings(&self) -> SimSurroundings<'_> {
        let gates = GateFaults::default();
        SimSurroundings { store: &self.store, sim: &self.sim, fleet: "web", gates, bad_hooks: 0 }
    }

    async fn journal(&self) -> Journal {
        // Its process is dead when the next one looks.
        let writer = Writer { pid: 0, started: 0, ..Writer::this("rekiln chaos web") };
        Journal::over(Arc::clone(&self.journal) as _, "web", writer).await.expect("a sound journal")
    }

    async fn roll(&self, image: &[u8]) -> Result<()> {
        let mut journal = self.journal().await;
        let roll = Roll {
            name: "web",
            fleet: &self.fleet,
            target: Target::new(&self.fleet, Digest::of(image)),
            provider: &self.sim,
            surroundings: &self.surroundings(),
            journal: &mut journal,
            progress: &Silent,
            stop: &std::sync::atomic::AtomicBool::new(false),
        };
        let order = Order { reason: "a test".to_owned(), ..Order::default() };
        Box::pin(roll.run(order)).await.map(drop)
    }

    /// Tries to kill one; tells whether one was.
    async fn strike(&self, draw: u64) -> bool {
        let mut journal = self.journal().await;
        let surroundings = self.surroundings();
        let striker = Striker {
            name: "web",
            fleet: &self.fleet,
            policy: &self.policy,
            provider: &self.sim,
            surroundings: &surroundings,
        };
        let struck = striker.strike(&mut journal, &Which::default(), draw, "a test").await;
        struck.expect("no error").is_ok()
    }

    fn serving(&self) -> usize {
        self.sim.truth().iter().filter(|seen| seen.serves()).count()
    }
}

/// The law: whatever else dies at the same time, and however old or wrong what is seen is, no kill leaves fewer than the floor,
/// and none is begun before the last one is cured.
#[tokio::test]
async fn no_kill_leaves_fewer_than_the_floor() {
    let (mut kills, mut refusals) = (0, 0);
    for seed in 0..30 {
        let ground = Ground::new(seed);
        ground.roll(b"an image").await.expect("rolled");
        ground.sim.set_faults(Faults {
            stale: 300,
            unknown: 30,
            partial: 30,
            death: 5,
            flap: 20,
            ..Faults::default()
        });
        for step in 0..20 {
            let before = ground.serving();
            let uncured = ground.journal().await.history().uncured(ground.sim.now(), |_| false).is_some();
            let done = ground.strike(draw(seed, step)).await;
            if done {
                kills += 1;
                assert!(!uncured, "seed {seed}: the last one was not cured");
                // Deaths come with time, and none passes between the kill and this look.
                assert!(ground.serving() >= 2, "seed {seed}: {} of {before} are left", ground.serving());
            } else {
                refusals += 1;
            }
            ground.sim.pass(SignedDuration::from_secs(2));
            if step % 3 == 2 {
                // It may end with errors of the provider while things go wrong; the next one goes on.
                let _ = ground.roll(b"an image").await;
            }
        }
        assert_eq!(ground.sim.violations(), Vec::<String>::new(), "seed {seed}");
    }
    assert!(kills > 30 && refusals > 30, "{kills} kills and {refusals} refusals prove little");
}

#[tokio::test]
async fn what_chaos_killed_is_cured_and_counts_as_no_failure() {
    let ground = Ground::new(1);
    ground.roll(b"an image").await.expect("rolled");
    // A second image is on trial: what of it dies counts against it, but for what chaos killed.
    ground.roll(b"another").await.expect("rolled");
    assert!(ground.strike(0).await);
    assert!(!ground.strike(1).await, "one at a time");
    ground.roll(b"another").await.expect("rolled");
    let journal = ground.journal().await;
    assert!(journal.entries().iter().all(|entry| !matches!(entry.event, Event::Failed { .. })));
    assert_eq!((journal.history().failures.len(), ground.serving()), (0, 3));
    assert!(ground.strike(1).await, "cured");
    // Also when somebody paused the fleet at this moment: what it is goes on, and nothing else begins.
    let paused = Event::Paused { reason: "enough".to_owned() };
    ground.journal().await.command(ground.sim.now(), paused).await.expect("written");
    let refused = ground.roll(b"a third").await.expect_err("nothing else begins");
    assert!(refused.chain().contains("is paused: enough"), "{}", refused.chain());
    ground.roll(b"another").await.expect("cured");
    assert_eq!(ground.serving(), 3);
    assert_eq!(ground.roll(b"another").await.expect_err("it is paused").exit_code(), 3);
    assert_eq!(ground.store.failures.borrow().len(), 0);
}

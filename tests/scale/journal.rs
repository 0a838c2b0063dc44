//! The journal of a whole rollout, as the roll loop writes it in a simulated world.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::SignedDuration;
use object_store::memory::InMemory;
use rekiln::digest::Digest;
use rekiln::fleet::generation::Target;
use rekiln::fleet::history::History;
use rekiln::fleet::journal::{Entry, Journal, Writer};
use rekiln::fleet::policy::Policy;
use rekiln::fleet::roll::{Order, Roll};
use rekiln::progress::Silent;
use rekiln::provider::sim::{GateFaults, Sim, SimStore, SimSurroundings};

use super::states;

/// Runs what only ever waits for a simulated clock.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(work)
}

fn writer() -> Writer {
    Writer::this("a benchmark")
}

/// Brings a fleet up and rolls it to another image.
pub fn written(size: u64) -> Vec<Entry> {
    let fleet = states::fleet(size, states::PLAIN);
    let sim = Sim::new(Policy::of(&fleet).expect("a policy"), 1);
    let store = SimStore::new(1, 0, SignedDuration::from_hours(24));
    let surroundings = SimSurroundings {
        store: &store,
        sim: &sim,
        fleet: "web",
        gates: GateFaults::default(),
        bad_hooks: 0,
    };
    let mut journal = Journal::fleeting("web", writer());
    for image in ["before", "after"] {
        let roll = Roll {
            name: "web",
            fleet: &fleet,
            target: Target::new(&fleet, Digest::of(image.as_bytes())),
            provider: &sim,
            surroundings: &surroundings,
            journal: &mut journal,
            progress: &Silent,
            stop: &AtomicBool::new(false),
        };
        run(roll.run(Order::default())).expect("a rollout");
    }
    journal.entries().to_vec()
}

/// Writes entries anew, into memory: to disk it is the disk that is measured.
pub fn append(entries: Vec<Entry>) -> Arc<InMemory> {
    let objects = Arc::new(InMemory::new());
    run(async {
        let mut journal = Journal::over(objects.clone(), "web", writer()).await.expect("a journal");
        for entry in entries {
            journal.record(entry.at, entry.event).await.expect("an entry is written");
        }
    });
    objects
}

/// Reads a journal and checks its chain.
pub fn read(objects: &Arc<InMemory>) -> Journal {
    run(Journal::over(objects.clone(), "web", writer())).expect("a journal")
}

/// Adds up what entries say.
pub fn fold(entries: &[Entry]) -> History {
    History::of(entries.iter().map(|entry| (entry.at, &entry.event)))
}

//! What a rollout costs, by the number of instances: `just scale`, or `cargo bench --bench scale`.
//!
//! Each number is also shown for each instance or event: one that stays the same over a table grows linearly.

mod journal;
mod states;

use std::cell::LazyCell;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use rekiln::fleet::census::Census;
use rekiln::fleet::plan::plan;
use rekiln::provider::sim::rehearsal::{Rehearsal, Trouble};

use journal::{append, fold, read, run, written};
use states::STATES;

/// Ten times as many each, and a few times more than anyone is known to roll as one fleet.
const SIZES: [u64; 5] = [10, 100, 1_000, 10_000, 50_000];

/// The largest fleet that is rolled as a whole here, and whose journal is read: larger ones take seconds each time.
const WHOLE: u64 = 1_000;

/// So long is each case run before it counts, and then for the count: some forty cases are done in two minutes.
const TIMES: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(1200));

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.warm_up_time(TIMES.0).measurement_time(TIMES.1).sample_size(20);
    group
}

/// One step's decision, in states that differ in what has to be decided.
fn plans(criterion: &mut Criterion) {
    for (name, state) in STATES {
        let mut group = group(criterion, &format!("plan, {name}"));
        for size in SIZES {
            let state = LazyCell::new(|| state(size));
            group.throughput(Throughput::Elements(size));
            group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
                let situation = state.situation();
                bencher.iter(|| plan(&situation));
            });
        }
    }
}

/// What a step finds new, before it is written down: half of the fleet changed.
fn changes(criterion: &mut Criterion) {
    let mut group = group(criterion, "what changed since the last look");
    for size in SIZES {
        let looks = LazyCell::new(|| {
            let before = states::half_way(size).census;
            let mut now = before.clone();
            now.instances.iter_mut().step_by(2).for_each(|seen| seen.connections += 1);
            (before, now)
        });
        group.throughput(Throughput::Elements(size));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            let (before, now): &(Census, Census) = &looks;
            bencher.iter(|| now.since(before));
        });
    }
}

/// What a journal costs for each event: to write, to read, and to add up.
fn journals(criterion: &mut Criterion) {
    let mut group = group(criterion, "journal");
    for size in SIZES.into_iter().filter(|size| *size <= WHOLE) {
        let entries = written(size);
        let case = |what: &str| BenchmarkId::new(what, size);
        group.throughput(Throughput::Elements(entries.len() as u64));
        group.bench_function(case("append"), |bencher| {
            bencher.iter_batched(|| entries.clone(), append, BatchSize::LargeInput);
        });
        group.bench_function(case("add up"), |bencher| bencher.iter(|| fold(&entries)));
        let objects = append(entries.clone());
        group.bench_function(case("read"), |bencher| bencher.iter(|| read(&objects)));
    }
}

/// Whole rollouts in a simulated world, as `rekiln simulate` does them: bringing up, and rolling to a new image.
fn rollouts(criterion: &mut Criterion) {
    let mut group = group(criterion, "simulated rollout");
    group.sample_size(10);
    for size in SIZES.into_iter().filter(|size| *size <= WHOLE) {
        let fleet = states::fleet(size, states::PLAIN);
        let rehearsal =
            Rehearsal { name: "web", fleet: &fleet, seed: 1, bad_boots: 0, trouble: Trouble::None };
        group.throughput(Throughput::Elements(size));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| run(rehearsal.run()).expect("a rollout"));
        });
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    plans(&mut criterion);
    changes(&mut criterion);
    journals(&mut criterion);
    rollouts(&mut criterion);
    criterion.final_summary();
}

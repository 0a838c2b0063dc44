//! The rollout engine on simulated worlds: what must never happen never does, and what must happen does in the end.
//!
//! `just soak 1000000` runs more of them, from `REKILN_FIRST=500000` on where it is set; `REKILN_SEED=7` runs one, and says
//! what it is; `REKILN_GROUPS=1` makes its fleets groups, 2 lets their members hold data, and 0 does neither. `REKILN_SHRINK=0` stops at the first that fails, and does not look for the least that does: for `just
//! mutations`.

mod coverage;
pub mod harness;
mod members;
mod run;
mod schedule;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use coverage::Coverage;
use run::run;
use schedule::Schedule;

/// So many schedules belong to the tests: all of them where the code is optimised, as `tests/run` does it; unoptimised they
/// would take twenty times as long.
const SCHEDULES: u64 = if cfg!(debug_assertions) { 900 } else { 12_000 };

/// What every sufficiently long run must have reached, beside each fault.
const MUST: [&str; 41] = [
    "founded",
    "handed over",
    "not handed over",
    "nobody led for a while",
    "lost for good",
    "completed",
    "crash before an act",
    "crash after an act",
    "emergency",
    "exit code 4",
    "failed rollout",
    "rollback",
    "rolled back",
    "halt",
    "halted",
    "held by quarantine",
    "held by the breaker",
    "held by a window",
    "paused before it began",
    "cancelled",
    "pause",
    "resume",
    "cancel and go back",
    "cancel and keep",
    "retarget",
    "wave passed",
    "wave lost",
    "gate says yes",
    "gate says no",
    "gate cannot tell",
    "failed instance",
    "absent instance",
    "returned instance",
    "rotation",
    "refused act",
    "replaced on request",
    "replayed decision",
    "another size seen",
    "size of a group",
    "ended by itself",
    "a group of none",
];

#[expect(clippy::print_stdout, reason = "`just soak` and `REKILN_SEED` are asked for what they print")]
fn print(text: &str) {
    print!("{text}");
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Takes away from a failing schedule whatever it fails without.
fn shrink(mut schedule: Schedule) -> Schedule {
    while let Some(smaller) = schedule.smaller().into_iter().find(|smaller| run(smaller).is_err()) {
        schedule = smaller;
    }
    schedule
}

fn fail(schedule: Schedule, why: &str) -> ! {
    let seed = schedule.seed;
    let kind = match schedule.fleets.first() {
        Some(file) if file.group => 1,
        Some(file) if file.stateful.is_some() => 2,
        _ => 0,
    };
    assert_ne!(number("REKILN_SHRINK"), Some(0), "seed {seed}: {why}");
    let least = shrink(schedule);
    let files: Vec<_> = least.fleets.iter().map(schedule::File::text).collect();
    panic!(
        "seed {seed}: {why}\n\nthe least that fails: {}\n{:#?}\n{}\n`REKILN_SEED={seed} REKILN_GROUPS={} cargo \
         test --test schedules simulation::` runs it again; when it is fixed, add `{seed}{}` to \
         tests/simulation/seeds.txt",
        run(&least).err().unwrap_or_default(),
        least.episodes,
        files.join("\n"),
        kind,
        ["", " group", " members"][kind],
    )
}

fn add(all: &mut Coverage, more: Coverage) {
    for (what, times) in more {
        *all.entry(what).or_default() += times;
    }
}

/// How often a long run says how far it is: a few times a minute.
const TOLD_EVERY: u64 = 5_000;

/// Says how far a run is that takes longer than the tests' own.
fn tell(done: u64, count: u64, start: Instant) {
    if count > SCHEDULES && done.is_multiple_of(TOLD_EVERY) {
        let each = start.elapsed() / u32::try_from(done).expect("not that many");
        let left = each * u32::try_from(count.saturating_sub(done)).expect("not that many");
        print(&format!("{done:>9} of {count}, {} min left\n", left.as_secs().div_ceil(60)));
    }
}

/// Runs all seeds of a range on all processors. Returns what was reached, and the seeds that failed with why.
fn sweep(seeds: std::ops::Range<u64>) -> (Coverage, BTreeMap<u64, String>) {
    let (next, count, start) = (AtomicU64::new(seeds.start), seeds.end - seeds.start, Instant::now());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let work = || {
        let (mut all, mut failed) = (Coverage::new(), BTreeMap::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return (all, failed);
            }
            if seed > seeds.start {
                tell(seed - seeds.start, count, start);
            }
            match run(&Schedule::random(seed)) {
                Ok(coverage) => add(&mut all, coverage),
                Err(why) => {
                    if count > SCHEDULES {
                        print(&format!("seed {seed}: {}\n", why.lines().next().unwrap_or_default()));
                    }
                    failed.insert(seed, why);
                    if number("REKILN_SHRINK") == Some(0) {
                        next.store(seeds.end, Ordering::Relaxed);
                    }
                }
            }
        }
    };
    let (mut all, mut failed) = (Coverage::new(), BTreeMap::new());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            let (coverage, some) = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            add(&mut all, coverage);
            failed.extend(some);
        }
    });
    (all, failed)
}

#[test]
fn what_must_never_happen_does_not_and_all_ends_well() {
    if let Some(seed) = number("REKILN_SEED") {
        let schedule = match number("REKILN_GROUPS") {
            Some(0) => Schedule::of(seed),
            Some(2) => Schedule::of_members(seed),
            Some(_) => Schedule::of_groups(seed),
            None => Schedule::random(seed),
        };
        print(&format!("{schedule:#?}\n"));
        if let Err(why) = run(&schedule) {
            fail(schedule, &why);
        }
        return;
    }
    let (start, count) = (Instant::now(), number("REKILN_SCHEDULES").unwrap_or(SCHEDULES));
    let first = number("REKILN_FIRST").unwrap_or(0);
    let (coverage, failed) = sweep(first..first + count);
    let seconds = start.elapsed().as_secs_f64();
    let mut told = format!("{count} schedules in {seconds:.1} s\n");
    for (what, times) in &coverage {
        let _ = writeln!(told, "{times:>12}  {what}");
    }
    let a_second = f64::from(u32::try_from(count).expect("not that many")) / seconds;
    let _ = writeln!(told, "{a_second:.0} schedules a second");
    for (seed, why) in &failed {
        let _ = writeln!(told, "seed {seed}: {}", why.lines().next().unwrap_or_default());
    }
    print(&told);
    if let Some((seed, why)) = failed.first_key_value() {
        fail(Schedule::random(*seed), &format!("{} of {count} failed, this one first: {why}", failed.len()));
    }
    let never = MUST.iter().copied().chain(schedule::FAULTS.iter().map(|(name, ..)| *name));
    let never: Vec<_> = never.filter(|what| coverage.get(*what).copied().unwrap_or(0) == 0).collect();
    assert!(count < SCHEDULES || never.is_empty(), "never reached, so nothing is proved about it: {never:?}");
}

/// What failed once.
#[test]
fn what_failed_once_does_not_again() {
    let seeds = include_str!("simulation/seeds.txt").lines().filter(|line| !line.starts_with('#'));
    for seed in seeds {
        let (seed, of): (_, fn(u64) -> Schedule) = match seed.trim().split_once(' ') {
            Some((seed, "group")) => (seed, Schedule::of_groups),
            Some((seed, "members")) => (seed, Schedule::of_members),
            Some((_, other)) => panic!("seeds.txt: {other}"),
            None => (seed.trim(), Schedule::of),
        };
        let seed = seed.parse().unwrap_or_else(|_| panic!("seeds.txt: {seed} is no number"));
        if let Err(why) = run(&of(seed)) {
            fail(of(seed), &why);
        }
    }
}

/// Equal seeds give equal runs, or no failure could be looked at again.
#[test]
fn a_seed_gives_the_same_run() {
    for seed in 0..50 {
        let schedule = Schedule::random(seed);
        assert_eq!(run(&schedule), run(&schedule), "seed {seed}");
    }
}

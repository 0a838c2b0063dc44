//! Many cases side by side: most of a case is waiting, for a server or for a clock.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use super::stage::Stage;

/// How many at once; each has a cloud of its own, which is two processes.
const LANES: usize = 3;

/// Runs every case on an empty stage, and fails with all that failed.
pub fn every<C: Debug + Send>(cases: impl IntoIterator<Item = C>, run: impl Fn(&Stage, &C) + Sync) {
    let cases: Mutex<VecDeque<C>> = Mutex::new(cases.into_iter().collect());
    let failures: Mutex<Vec<String>> = Mutex::default();
    let next = || cases.lock().expect("no case panics in here").pop_front();
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                let stage = Stage::new();
                while let Some(case) = next() {
                    stage.clear();
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(&stage, &case))) {
                        let said = panic.downcast_ref::<String>().cloned();
                        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
                        let failure = format!("{case:?}: {}", said.unwrap_or_default());
                        failures.lock().expect("no case panics in here").push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no case panics in here");
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n\n"));
}

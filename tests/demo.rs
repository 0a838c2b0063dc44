//! The whole way with real machines: what `rekiln demo` promises a new user, and that no request is lost.

use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::fleet::stage::wait_until;

/// Returns the processes whose command line names `path`.
fn processes(path: &Path) -> Vec<String> {
    let needle = path.display().to_string();
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|c| c.is_ascii_digit()))
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&needle))
        .collect()
}

/// Returns the demo in the store, not started.
fn demo(store: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rekiln"));
    command
        .args(["--repo", env!("CARGO_MANIFEST_DIR"), "--store"])
        .arg(store)
        .args(["--json", "demo", "--yes"]);
    command
}

/// Nothing of the store runs or is mounted.
fn assert_nothing_left(store: &Path) {
    assert_eq!(processes(store), Vec::<String>::new());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains(&store.display().to_string()));
}

#[test]
fn the_demo_loses_no_request_and_leaves_nothing() {
    let _turn = crate::bake::turn();
    // Kept between runs: its vault spares the archive, everything else is made anew by the demo.
    let store = Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo");
    ended_by_its_supervisor(&store);
    let output = demo(&store).output().expect("rekiln runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let events: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| {
            serde_json::from_str(line)
                .unwrap_or_else(|_| panic!("standard output has JSON lines only: {line}"))
        })
        .collect();
    let demo = events.iter().find(|event| event["event"] == "demo").expect("the summary");
    let summary = &demo["summary"];
    let requests = &summary["requests"];
    assert_eq!(requests["failed"], 0, "{requests}\n{said}");
    let number = |value: &Value| value.as_f64().expect("a number");
    let rolling = number(&summary["roll_s"]) + number(&summary["rotate_s"]);
    assert!(number(&requests["sent"]) >= 50.0 * rolling, "at least 50 requests a second: {summary}");
    assert_eq!(summary["instances_replaced"], 4);
    assert!(said.contains("good morning"), "the new page was shown: {said}");
    assert_nothing_left(&store);
}

/// Asks the demo to end while its machines start, as a supervisor does: the demo alone gets the signal.
fn ended_by_its_supervisor(store: &Path) {
    let log = store.with_extension("log");
    let errors = std::fs::File::create(&log).expect("a log");
    let mut running = demo(store).stdout(Stdio::null()).stderr(errors).spawn().expect("rekiln runs");
    // The machines of the fleet, not those that are booted for a verdict.
    let machines = store.join("demo/store/local");
    let reached = wait_until(|| {
        !processes(&machines).is_empty() || running.try_wait().is_ok_and(|status| status.is_some())
    });
    let _ = kill_process(Pid::from_child(&running), Signal::TERM);
    let status = running.wait().expect("its end");
    let said = std::fs::read_to_string(&log).expect("the log");
    assert!(reached && status.code() == Some(130), "{status}: {said}");
    assert!(said.contains("the demo was interrupted"), "{said}");
    assert_nothing_left(store);
}

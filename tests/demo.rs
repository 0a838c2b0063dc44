//! The whole way with real machines: what `rekiln demo` promises a new user, and that no request is lost.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

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

#[test]
fn the_demo_loses_no_request_and_leaves_nothing() {
    let _turn = crate::bake::turn();
    // Kept between runs: its vault spares the archive, everything else is made anew by the demo.
    let store = Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo");
    let output = Command::new(env!("CARGO_BIN_EXE_rekiln"))
        .args(["--repo", env!("CARGO_MANIFEST_DIR"), "--store"])
        .arg(&store)
        .args(["--json", "demo", "--yes"])
        .output()
        .expect("rekiln runs");
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
    assert_eq!(processes(&store), Vec::<String>::new());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains(&store.display().to_string()));
}

//! `rekiln simulate` as a person and a script see it.

use std::path::Path;
use std::process::Command;

const FLEET: &str = "image = 'web'\nsize = 8\n[local]\nlisten = '127.0.0.1:8080'\nport = 80\n\
    [health]\nhttp = { port = 80, path = '/' }\n[roll]\nsurge = '25%'\nunavailable = '10%'\ncanary = 1\n\
    waves = ['50%', '100%']\nsoak = '30s'\nfailures = 1\non_failure = 'rollback'\n";

fn repository(more: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let output = Command::new(env!("CARGO_BIN_EXE_rekiln"))
        .args(["init", "."])
        .current_dir(&dir)
        .output()
        .expect("rekiln");
    assert!(output.status.success());
    std::fs::write(dir.path().join("fleets/web.toml"), format!("{FLEET}{more}")).expect("written");
    dir
}

fn simulate(dir: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_rekiln"))
        .args(["simulate", "web"])
        .args(args)
        .current_dir(dir)
        .output()
        .expect("rekiln starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn json(dir: &Path, args: &[&str]) -> serde_json::Value {
    let (code, out, err) = simulate(dir, &[args, &["--json"]].concat());
    assert_eq!(code, Some(0), "{err}");
    let last = out.lines().last().expect("a line");
    serde_json::from_str(last).expect("JSON")
}

#[test]
fn a_rollout_its_figures_and_its_pictures() {
    let dir = repository("");
    let (code, out, err) = simulate(dir.path(), &["--svg", "a.svg", "--html", "a.html"]);
    assert_eq!(code, Some(0), "{err}");
    for part in [
        "completed: every instance is new",
        "at least 8; the floor is 8",
        "at most 10; the ceiling is 10",
        "32: 8 launches, 8 admissions, 8 drains, 8 ends",
        "none broken",
        "the first wave of 1 passed",
        "█ current",
    ] {
        assert!(out.contains(part), "no `{part}` in {out}");
    }
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("it was written");
    assert!(read("a.svg").starts_with("<svg") && read("a.html").contains("at least 8; the floor is 8"));
    assert_eq!(
        simulate(dir.path(), &["--svg", "a.svg", "--html", "a.html"]).1,
        out,
        "the same seed, the same words"
    );
}

#[test]
fn what_goes_wrong_is_survived_and_told() {
    let dir = repository("");
    let bad = json(dir.path(), &["--bad-boots", "100%"]);
    assert_eq!(bad["ended"]["end"], "rolled_back", "{bad}");
    assert!(bad["ended"]["because"].as_str().is_some_and(|why| why.contains("2 failed")), "{bad}");
    assert_eq!(bad["failed"], 2);
    let mut endings = std::collections::BTreeSet::new();
    for seed in 0..8 {
        let seed = seed.to_string();
        let args = ["--instances", "60", "--bad-boots", "1%", "--faults", "many", "--seed", &seed];
        let report = json(dir.path(), &args);
        assert_eq!(report["broken"], serde_json::json!([]), "{report}");
        assert_eq!(report["instances"], 60);
        assert_eq!(report["serving"]["floor"], 54);
        endings.insert(report["ended"]["end"].to_string());
        assert_eq!(json(dir.path(), &args), report, "the same seed, the same report");
    }
    assert!(endings.len() > 1, "chance changes nothing: {endings:?}");
}

#[test]
fn windows_rates_zones_and_gates_are_kept() {
    let more = "rate = '6/h'\nwindows = ['Mon 08:00-09:00']\n[[gate]]\nname = 'errors'\ncommand = ['true']\nmax = '1'\n";
    let dir = repository(more);
    let report = json(dir.path(), &["--faults", "some"]);
    assert_eq!(report["ended"]["end"], "completed", "{report}");
    assert!(
        report["runs"].as_u64() > Some(1) && report["seconds"].as_u64() > Some(6 * 24 * 3600),
        "{report}"
    );
}

#[test]
fn nonsense_is_refused() {
    let dir = repository("");
    for (args, part) in [
        (["--instances", "0"], "a fleet has at least 1"),
        (["--bad-boots", "some"], "a share such as"),
        (["--faults", "all"], "possible values"),
    ] {
        let (code, _, err) = simulate(dir.path(), &args);
        assert!(code == Some(2) && err.contains(part), "{args:?}: {err}");
    }
}

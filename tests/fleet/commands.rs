//! The commands about fleets where there is no fleet yet, as people and scripts see them.

use std::path::Path;
use std::process::{Command, Output};

fn rekiln(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rekiln"));
    command.args(args).current_dir(dir).env_remove("REKILN_STORE").output().expect("rekiln starts")
}

fn repository() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let output = rekiln(dir.path(), &["init", "."]);
    assert!(output.status.success(), "{output:?}");
    dir
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_fleet_that_never_ran_says_so() {
    let dir = repository();
    for (args, said) in [
        (["status", "web"], "fleet web does not run; next: `rekiln roll web`"),
        (["history", "web"], "fleet web has no history; next: `rekiln roll web`"),
        (["down", "web"], "fleet web is down: 0 instances ended"),
    ] {
        let output = rekiln(dir.path(), &args);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(text(&output.stdout).trim_end(), said);
    }
    let output = rekiln(dir.path(), &["status", "--json"]);
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!((&object["fleet"], &object["instances"]), (&"web".into(), &serde_json::json!([])));
    assert_eq!(text(&rekiln(dir.path(), &["reap"]).stdout).trim_end(), "nothing to remove");
}

#[test]
fn the_nearest_name_is_offered() {
    let dir = repository();
    for args in [
        &["status", "wbe"][..],
        &["plan", "wbe"],
        &["roll", "wbe"],
        &["rotate", "wbe", "--reason", "a test"],
        &["history", "wbe"],
        &["chaos", "wbe"],
        &["down", "wbe"],
    ] {
        let output = rekiln(dir.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(text(&output.stderr).contains("did you mean `web`?"), "{args:?}: {output:?}");
    }
}

#[test]
fn what_is_missing_comes_with_the_next_step() {
    let dir = repository();
    for command in ["plan", "roll"] {
        let output = rekiln(dir.path(), &[command, "web"]);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains("hint:") && said.contains("`rekiln "), "{said}");
    }
}

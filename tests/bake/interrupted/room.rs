//! A disk without room.

use std::fs;
use std::process::Command;

use super::super::ground::{ground, scratch, succeeded, turn};
use super::traces::assert_none;

/// Bakes in a file system of its own that is too small at several points, then large enough. Everything happens
/// in a private mount namespace, which ends with this script.
const SCRIPT: &str = r#"
    set -eu
    store=$1; vault=$2; shift 2
    mount -t tmpfs -o size=1m none "$store"
    mkdir "$store/vault"
    mount --bind "$vault" "$store/vault"
    for size in 60m 150m 260m; do
        mount -o remount,size=$size "$store"
        echo "== $size"
        if "$@" 2>&1; then echo "== done"; else echo "== ended with $?"; fi
        echo "== left: $(ls "$store/tmp" "$store/images" | grep -v : | tr -d '\n')"
    done
    mount -o remount,size=4g "$store"
    echo "== enough"
    "$@" --json
"#;

#[test]
fn a_full_disk_is_named_and_leaves_nothing() {
    let _turn = turn();
    let ground = ground();
    let dir = scratch();
    let site = ground.empty(dir.path(), "store");
    let vault = dir.path().join("vault");
    fs::rename(site.store.join("vault"), &vault).expect("moved");
    let bake = site.command(&["bake", "--no-boot", "web"]);
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT, "sh"])
        .args([&site.store, &vault]);
    let text =
        succeeded(&command.arg(bake.get_program()).args(bake.get_args()).output().expect("unshare runs"));
    let parts: Vec<&str> = text.split("== enough\n").collect();
    let [small, enough] = parts[..] else { panic!("{text}") };
    assert_eq!(small.matches("== ended with 1\n").count(), 3, "{small}");
    assert_eq!(small.matches("== left: \n").count(), 3, "{small}");
    for part in small.split("== left: \n").filter(|part| part.contains("==")) {
        assert!(part.contains("No space left on device"), "{part}");
    }
    let line: super::super::ground::Line =
        serde_json::from_str(enough.lines().last().expect("a line")).expect("JSON");
    assert!(!line.cached);
    assert_eq!(line.sha256, ground.web.disk.sha256.to_string());
    assert_none(dir.path(), &[]);
}

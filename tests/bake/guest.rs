//! The guest program is part of every image id: two checkouts build the same bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rekiln::digest::Digest;
use rekiln::vm::guest;

use super::ground::{scratch, turn};

/// Runs the build script of the checkout in `dir` as cargo would, and returns the guest program it made.
fn build(script: &Path, dir: &Path, home: &Path) -> PathBuf {
    let out = dir.join("some/out");
    fs::create_dir_all(&out).expect("made");
    let output = Command::new(script)
        .current_dir(dir)
        .env("CARGO_MANIFEST_DIR", dir)
        .env("OUT_DIR", &out)
        .env("CARGO", env!("CARGO"))
        .env("RUSTC", std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .env("CARGO_NET_OFFLINE", "true")
        .env("CARGO_INCREMENTAL", "1")
        .env("RUSTFLAGS", "-Cdebuginfo=2")
        .env("USER", home.file_name().expect("a name"))
        .output()
        .expect("the build script runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let program = text.lines().find_map(|line| line.strip_prefix("cargo::rustc-env=REKILN_GUEST="));
    PathBuf::from(program.unwrap_or_else(|| panic!("no program: {text}")))
}

#[test]
fn two_checkouts_build_the_same_program() {
    let _turn = turn();
    let dir = scratch();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = dir.path().join("build-script");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let status = Command::new(rustc)
        .args(["--edition", "2024", "-o"])
        .arg(&script)
        .arg(here.join("bootstrap/build.rs"))
        .status();
    assert!(status.expect("rustc runs").success());
    let mut digests = Vec::new();
    for name in ["a", "another/and longer"] {
        let checkout = dir.path().join(name);
        fs::create_dir_all(checkout.join("tests")).expect("made");
        let parts = ["Cargo.toml", "Cargo.lock", "src", "bootstrap"].map(|part| here.join(part));
        assert!(Command::new("cp").arg("-a").args(parts).arg(&checkout).status().expect("cp runs").success());
        fs::write(checkout.join("tests/main.rs"), "").expect("written");
        digests.push(Digest::of_file(&build(&script, &checkout, &checkout)).expect("digested"));
    }
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[0], guest::digest(), "and so did this one");
}

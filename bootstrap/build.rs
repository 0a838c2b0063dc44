//! Builds `bootstrap/guest` and hands its bytes to the crate through `REKILN_GUEST`.
//!
//! The guest is part of every image id, so its bytes must not depend on where or how rekiln itself is built:
//! only on its sources, `Cargo.lock`, the Rust toolchain, and the C library and linker it is linked with.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The one target: machines are x86-64, and glibc can be linked statically where its `libc.a` is.
const TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() {
    if let Err(error) = build() {
        println!("cargo::error=building bootstrap/guest: {error}");
    }
}

fn build() -> Result<(), Box<dyn std::error::Error>> {
    let workspace = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(variable("OUT_DIR")?).join("guest");
    for input in ["bootstrap/build.rs", "bootstrap/guest", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={input}");
    }
    let mut cargo = Command::new(variable("CARGO")?);
    clean_environment(&mut cargo);
    cargo
        .current_dir(&workspace)
        .args(["build", "--release", "--locked", "--package", "rekiln-guest", "--target", TARGET])
        .arg("--target-dir")
        .arg(&out)
        .env("RUSTC", variable("RUSTC")?)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(&workspace, &out)?);
    for (key, value) in PROFILE {
        cargo.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
    }
    if !cargo.status()?.success() {
        return Err(concat!(
            "cargo failed; the messages above say why (a linker that lacks `-lc` means that ",
            "the package libc6-dev is missing)"
        )
        .into());
    }
    let program = out.join(TARGET).join("release/rekiln-guest");
    println!("cargo::rustc-env=REKILN_GUEST={}", program.display());
    Ok(())
}

/// The profile, here and not in `Cargo.toml`, so that no setting of rekiln's own builds changes the guest.
const PROFILE: &[(&str, &str)] = &[
    ("OPT_LEVEL", "s"),
    ("LTO", "fat"),
    ("CODEGEN_UNITS", "1"),
    ("PANIC", "abort"),
    ("STRIP", "symbols"),
    ("DEBUG", "false"),
    ("DEBUG_ASSERTIONS", "false"),
    ("OVERFLOW_CHECKS", "true"),
    ("INCREMENTAL", "false"),
];

/// Removes what the outer cargo, clippy, or a person's settings would pass on.
fn clean_environment(cargo: &mut Command) {
    for (key, _) in env::vars_os() {
        let name = key.to_string_lossy();
        let kept = matches!(&*name, "CARGO" | "CARGO_HOME" | "CARGO_NET_OFFLINE");
        if !kept && (name.starts_with("CARGO") || name.starts_with("RUSTC") || name.starts_with("CLIPPY"))
            || matches!(&*name, "RUSTFLAGS" | "RUSTDOCFLAGS" | "SOURCE_DATE_EPOCH" | "MAKEFLAGS" | "MFLAGS")
        {
            cargo.env_remove(&key);
        }
    }
}

/// The compiler's flags, separated as `CARGO_ENCODED_RUSTFLAGS` wants them.
fn flags(workspace: &Path, out: &Path) -> Result<OsString, Box<dyn std::error::Error>> {
    let home = match env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(variable("HOME")?).join(".cargo"),
    };
    let mut flags: Vec<OsString> = [
        "-Ctarget-feature=+crt-static",
        "-Crelocation-model=static",
        // The build id is a digest of the bytes; it adds nothing, and some linkers make it of paths.
        "-Clink-arg=-Wl,--build-id=none",
    ]
    .map(OsString::from)
    .into();
    // The last rule that fits wins, so that the most special path comes last.
    for (from, to) in [(home.as_path(), "/cargo"), (workspace, "/rekiln"), (out, "/out")] {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push("=");
        flag.push(to);
        flags.push(flag);
    }
    Ok(flags.join(&OsString::from("\u{1f}")))
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set"))
}

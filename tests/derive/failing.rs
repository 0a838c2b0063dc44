//! Bakes that cannot succeed: what they say, and what can be looked at.

use std::fs;
use std::process::{Command, Output};

use rustix::process::{Signal, kill_process};

use super::ground::{NAME, recipe, scratch, site};
use super::quick;
use crate::bake::{Running, Site, assert_none, family, succeeded, turn};

/// Boot code that writes what follows it to the first serial port, and then halts for ever.
const HALTING: [u8; 22] = [
    0xfc, 0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0x16, 0x7c, // DS = 0, SI = what follows
    0xba, 0xf8, 0x03, // DX = the port
    0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8, // each byte until a zero
    0xf4, 0xeb, 0xfd, // halt
];

/// Makes a site whose recipe derives from the quick disk and runs one script.
pub fn scripted(dir: &std::path::Path, script: &str, rest: &str) -> Site {
    let site = site(dir);
    rewrite(&site, script, rest);
    site
}

/// Gives the recipe of such a site another script.
pub fn rewrite(site: &Site, script: &str, rest: &str) {
    let text = format!("\n[[run]]\nscript = \"derived/script.sh.hbs\"\n{rest}");
    site.write(&format!("images/{NAME}.toml"), &recipe(quick::disk(), "cloud_init = true", &text));
    site.write("bootstrap/derived/script.sh.hbs", script);
    site.done(&["lock", NAME]);
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_machine_that_never_comes_up_is_given_up_with_what_its_console_says() {
    let dir = scratch();
    let site = site(dir.path());
    let disk = dir.path().join("halting.raw");
    let mut bytes = vec![0; 1 << 20];
    bytes[..HALTING.len()].copy_from_slice(&HALTING);
    let words = b"no operating system here\r\n\0";
    bytes[HALTING.len()..][..words.len()].copy_from_slice(words);
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    fs::write(&disk, bytes).expect("written");
    site.write(&format!("images/{NAME}.toml"), &recipe(&disk, "ssh_timeout = \"8s\"", ""));
    site.done(&["lock", NAME]);
    let said = site.refused(&["bake", NAME], 1);
    for words in [
        "the machine did not let us in within 8 s",
        "no operating system here",
        "hint:  the image must have an SSH server",
        "`cloud_init = true`",
        "`ssh_timeout = \"30m\"`",
    ] {
        assert!(said.contains(words), "{words} is not in\n{said}");
    }
    site.holds_only(&[]);
    assert_none(dir.path(), &[]);
}

#[test]
fn a_full_disk_is_named_and_its_machine_can_be_looked_at() {
    let script = "#!/bin/sh\nset -eu\nfor number in $(seq 100); do echo \"still fine $number\"; done\n\
        fallocate -l $(df --output=avail --block-size=1 / | tail -n 1) /opt/most\n\
        dd if=/dev/zero of=/opt/rest bs=1M\necho 'never said'\n";
    let dir = scratch();
    let site = scripted(dir.path(), script, "");
    let key = dir.path().join("key");
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(&key);
    succeeded(&keygen.output().expect("ssh-keygen runs"));
    let public = dir.path().join("key.pub").display().to_string();
    let temporary = dir.path().join("tmp");
    fs::create_dir(&temporary).expect("made");
    let mut command =
        site.command(&["bake", "--no-boot", "--keep-builder=20m", "--builder-key", &public, NAME]);
    command.env("TMPDIR", &temporary);

    let _turn = turn();
    let mut bake = Running::start(command, dir.path());
    bake.until("kept", |bake| bake.said().contains("root@127.0.0.1\n"));
    let text = bake.said();
    let failed = text.find("/tmp/rekiln-script ended with exit code 1\n").unwrap_or_else(|| panic!("{text}"));
    let last: Vec<&str> = text[failed..].lines().skip(1).take_while(|line| !line.starts_with(NAME)).collect();
    assert_eq!(last.len(), 25, "a screenful: {text}");
    assert!(last.iter().any(|line| line.contains("No space left on device")), "{text}");
    assert!(last.contains(&"still fine 100") && !last.contains(&"still fine 50"), "{text}");
    assert!(!text.contains("never said") && text.contains("the machine is kept until"), "{text}");

    // As printed, by somebody whose agent has the key.
    let how = text.lines().find_map(|line| Some(&line[line.find(" ssh -p ")? + 1..])).expect("how to get in");
    let inside = "df --output=avail / | tail -n 1; cat /opt/most | head -c 1 | wc -c";
    let shell = format!("ssh-add -q {} && {how} '{inside}'", key.display());
    let output = Command::new("ssh-agent").args(["sh", "-c", &shell]).output().expect("ssh-agent runs");
    assert!(output.status.success(), "{how}: {}", said(&output));
    let seen = String::from_utf8_lossy(&output.stdout);
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "1"], "its disk is full");

    let family = family(bake.child.id());
    assert!(family.len() > 1, "the machine is a child: {family:?}");
    kill_process(bake.pid(), Signal::INT).expect("sent");
    let status = bake.child.wait().expect("waited");
    assert_eq!(status.code(), Some(130), "{}", bake.said());
    assert_none(dir.path(), &family);
    site.holds_only(&[]);
    assert_eq!(crate::bake::names(&temporary), [""; 0]);
}

#[test]
fn another_disk_than_the_recipes_is_never_started() {
    let dir = scratch();
    let site = site(dir.path());
    let disk = dir.path().join("vendor.raw");
    fs::write(&disk, [1; 4096]).expect("written");
    site.write(&format!("images/{NAME}.toml"), &recipe(&disk, "", ""));
    site.done(&["lock", NAME]);
    fs::write(&disk, [2; 4096]).expect("written");
    let text = site.refused(&["bake", NAME], 1);
    assert!(text.contains("is not the disk that the recipe means"), "{text}");
    assert!(!text.contains("starting"), "{text}");
}

//! A bake that ends before its time, wherever it is: no machine and no file of it stays, and the next one works.

use std::fs;
use std::path::Path;

use rustix::process::{Signal, kill_process, kill_process_group};

use super::failing::{rewrite, scripted};
use super::ground::{NAME, scratch};
use crate::bake::{Running, Site, assert_none, family, names, scratch_has, turn};

/// Starts the bake with a place of its own for temporary files.
fn start(site: &Site, dir: &Path) -> Running {
    let temporary = dir.join("tmp");
    fs::create_dir_all(&temporary).expect("made");
    let mut command = site.command(&["bake", "--no-boot", NAME]);
    command.env("TMPDIR", temporary);
    Running::start(command, dir)
}

/// Tells whether the bake has this in its scratch space; what an earlier one left does not count.
fn has(site: &Site, bake: &Running, path: &str) -> bool {
    let own = format!("{}-", bake.child.id());
    let tmp = names(&site.store.join("tmp"));
    tmp.iter().all(|name| name.starts_with(&own)) && scratch_has(site, "derive", path)
}

/// Ends the bake there, and asserts that nothing of it runs and that no image came of it.
fn end(site: &Site, dir: &Path, mut bake: Running, signal: Signal) {
    let family = family(bake.child.id());
    let pid = bake.pid();
    // A terminal signals all processes of the group; `kill -9` only the one.
    if signal == Signal::INT { kill_process_group(pid, signal) } else { kill_process(pid, signal) }
        .expect("sent");
    let status = bake.child.wait().expect("waited");
    assert_none(dir, &family);
    assert_eq!(names(&dir.join("tmp")), [""; 0]);
    if signal == Signal::INT {
        assert_eq!(status.code(), Some(130), "{}", bake.said());
        site.holds_only(&[]);
    } else {
        assert_eq!(status.code(), None, "{}", bake.said());
        assert_eq!(names(&site.store.join("images")), [""; 0]);
        // What a killed bake leaves in the store goes with the next: one process's, not one for each that was killed.
        assert_eq!(names(&site.store.join("tmp")).len(), 1);
    }
}

#[test]
fn killed_or_interrupted_at_any_step_leaves_nothing_and_the_next_works() {
    // A recipe's own setting of the boot loader, so that its configuration is made anew, which takes a while.
    let setting = "\n[[file]]\npath = \"/etc/default/grub.d/50-test.cfg\"\ntemplate = \"derived/grub.hbs\"\n";
    let dir = scratch();
    let site = scripted(dir.path(), "#!/bin/sh\necho waiting\nsleep 600\n", "");
    site.write("bootstrap/derived/grub.hbs", "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX of_the_recipe\"\n");
    let _turn = turn();
    for signal in [Signal::KILL, Signal::INT] {
        let mut bake = start(&site, dir.path());
        bake.until("copying", |bake| has(&site, bake, "disk.raw"));
        end(&site, dir.path(), bake, signal);
        let mut bake = start(&site, dir.path());
        bake.until("booting", |bake| has(&site, bake, "machine/console.log"));
        end(&site, dir.path(), bake, signal);
    }
    let mut bake = start(&site, dir.path());
    bake.until("running a script", |bake| bake.said().contains("│ waiting\n"));
    end(&site, dir.path(), bake, Signal::KILL);

    rewrite(&site, "#!/bin/sh\nset -e\nfor number in 1 2 3; do echo \"$number\"; done\n", setting);
    let mut bake = start(&site, dir.path());
    bake.until("hardening", |bake| bake.said().contains("hardening it │ Generating grub configuration"));
    end(&site, dir.path(), bake, Signal::INT);

    // The next one comes as far, and further.
    rewrite(&site, "#!/bin/sh\ntrue\n", "");
    let mut bake = start(&site, dir.path());
    bake.until("sealing", |bake| bake.said().contains("hardening it  "));
    end(&site, dir.path(), bake, Signal::KILL);
    site.done(&["gc"]);
    site.holds_only(&[]);
}

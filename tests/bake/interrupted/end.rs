//! Killed with signal 9, and interrupted from the keyboard.

use std::path::Path;

use rustix::process::{Signal, kill_process, kill_process_group};

use super::super::ground::{Site, ground, names, scratch, turn};
use super::super::running::Running;
use super::traces::{assert_none, family};

/// Starts a bake of `web`.
fn start(site: &Site, dir: &Path, boot: bool) -> Running {
    Running::start(site.command(if boot { &["bake", "web"] } else { &["bake", "--no-boot", "web"] }), dir)
}

/// Tells whether `<tmp>/<process>/<number>-<purpose>/<path>` is there, for any process and number.
pub fn scratch_has(site: &Site, purpose: &str, path: &str) -> bool {
    let below = |dir: std::path::PathBuf| {
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
    };
    below(site.store.join("tmp"))
        .flat_map(below)
        .filter(|dir| dir.to_string_lossy().ends_with(purpose))
        .any(|dir| dir.join(path).exists())
}

fn layers(site: &Site) -> usize {
    names(&site.store.join("layers"))
        .iter()
        .filter(|name| site.store.join("layers").join(name).join("layer.json").exists())
        .count()
}

/// A moment of a bake that is worth being hit in, and how it is known.
type Moment = (&'static str, fn(&Site) -> bool);

const MOMENTS: [Moment; 7] = [
    ("just started", |site| !names(&site.store.join("tmp")).is_empty()),
    ("unpacking packages", |site| scratch_has(site, "layer", "layer/tree/usr/bin/perl")),
    ("installing packages", |site| scratch_has(site, "layer", "layer/tree/etc/passwd")),
    ("sealing a layer", |site| scratch_has(site, "layer", "layer/layer.erofs")),
    ("at a later layer", |site| layers(site) >= 2),
    ("writing the root partition", |site| scratch_has(site, "disk", "root.img")),
    ("writing the disk", |site| scratch_has(site, "disk", "disk.raw")),
];

#[test]
fn killed_at_any_moment_leaves_nothing_and_the_next_works() {
    let _turn = turn();
    let ground = ground();
    let dir = scratch();
    let site = ground.empty(dir.path(), "store");
    for (what, reached) in MOMENTS {
        let mut bake = start(&site, dir.path(), false);
        bake.until(what, |_| reached(&site));
        let family = family(bake.child.id());
        kill_process(bake.pid(), Signal::KILL).expect("killed");
        bake.child.wait().expect("waited");
        assert_none(dir.path(), &family);
        assert_eq!(site.done(&["images"]).trim(), "no images", "killed while {what}");
        assert_eq!(names(&site.store.join("images")), [""; 0], "killed while {what}");
        assert_eq!(
            names(&site.store.join("tmp")).len(),
            1,
            "a killed bake's scratch, and none of earlier ones, while {what}"
        );
    }
    let line = site.bake("web");
    assert!(!line.cached);
    assert_eq!(line.sha256, ground.web.disk.sha256.to_string());
    site.holds_only(&[line.id]);

    // And while the finished image is booted: it stays, without a verdict, and its machine does not.
    std::fs::copy(ground.site.store.join("accelerator.json"), site.store.join("accelerator.json"))
        .expect("copied");
    let console = site.store().image(line.id).join("verdict/console.log");
    for signal in [Signal::KILL, Signal::INT] {
        let _ = std::fs::remove_file(&console);
        let mut bake = start(&site, dir.path(), true);
        bake.until("booting", |_| console.metadata().is_ok_and(|meta| meta.len() > 0));
        let family = family(bake.child.id());
        assert!(family.len() > 1, "the machine is a child: {family:?}");
        kill_process(bake.pid(), signal).expect("sent");
        let status = bake.child.wait().expect("waited");
        assert_none(dir.path(), &family);
        assert!(!status.success());
        assert!(site.record(line.id).verdict.is_none(), "an interrupted boot says nothing about the image");
    }
}

#[test]
fn interrupted_from_the_keyboard_leaves_nothing() {
    let _turn = turn();
    let dir = scratch();
    let site = ground().empty(dir.path(), "store");
    // A terminal signals all processes of the group; `kill` and a supervisor only the one.
    for (what, reached, group) in [
        (MOMENTS[1].0, MOMENTS[1].1, true),
        (MOMENTS[2].0, MOMENTS[2].1, false),
        (MOMENTS[3].0, MOMENTS[3].1, true),
    ] {
        let mut bake = start(&site, dir.path(), false);
        bake.until(what, |_| reached(&site));
        let family = family(bake.child.id());
        let pid = bake.pid();
        if group { kill_process_group(pid, Signal::INT) } else { kill_process(pid, Signal::INT) }
            .expect("sent");
        let status = bake.child.wait().expect("waited");
        assert_eq!(status.code(), Some(130), "while {what}: {}", bake.said());
        assert!(bake.said().contains("interrupted"), "{}", bake.said());
        assert_none(dir.path(), &family);
        site.holds_only(&[]);
    }
}

//! The same lock gives the same bytes.

use std::fs;
use std::path::Path;
use std::process::Command;

use rekiln::catalog::Record;
use rekiln::digest::Digest;

use super::ground::{baked, ground, scratch, turn};

/// Where runs leave notes for later ones.
const SEEN: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/bake-seen");

/// What must not matter, all at once: the store's path and its length, the working directory, the user's name,
/// home and locale, the time zone, permissions of new files, the moment, the network. Only the vault is shared.
const ELSEWHERE: &str = r#"
    set -eu
    umask 077
    cd "$1"; shift
    exec env -i PATH="$PATH" HOME=/nonexistent USER=ayşe LOGNAME=ayşe TZ=Pacific/Kiritimati \
        LC_ALL=tr_TR.UTF-8 LANG=tr_TR.UTF-8 SOURCE_DATE_EPOCH=1 TMPDIR="$PWD" REKILN_MIRROR=http://127.0.0.1:9/debian "$@"
"#;

#[test]
fn two_empty_stores_give_the_same_disk() {
    let _turn = turn();
    let ground = ground();
    let dir = scratch();
    let site = ground.empty(dir.path(), "a-store-with-a-longer-name-than-the-other/and-deeper");
    let bake = site.command(&["bake", "--json", "--no-boot", "web"]);
    let mut command = Command::new("unshare");
    // A network namespace of its own: no route leads out of it, and its loopback is down.
    command
        .args(["--net", "sh", "-c", ELSEWHERE, "sh"])
        .arg(dir.path())
        .arg(bake.get_program())
        .args(bake.get_args());
    let line = baked(&command.output().expect("unshare runs"));
    assert_eq!(line.id, ground.web.id);
    let other = site.record(line.id);
    let layers = |record: &Record| -> Vec<_> {
        record.layers.iter().map(|layer| (layer.image.clone(), layer.kind.clone(), layer.sha256)).collect()
    };
    assert_eq!(
        layers(&other),
        layers(&ground.web),
        "stores {} and {}",
        site.store.display(),
        ground.site.store.display()
    );
    assert_eq!(other.root_hash, ground.web.root_hash);
    assert_eq!(line.sha256, ground.web.disk.sha256.to_string());
    assert_eq!(other.cmdline, ground.web.cmdline);
    same_as_at_other_times(&ground.web);
}

/// Compares with what the same program made of the same lock in earlier runs, on other days and at other hours, and
/// leaves a note for later ones.
fn same_as_at_other_times(web: &Record) {
    let program = Digest::of_file(env!("CARGO_BIN_EXE_rekiln").as_ref()).expect("digested");
    let note = Path::new(SEEN).join(format!("{}-{}", web.id.short(), program.short()));
    let sha256 = web.disk.sha256.to_string();
    if let Ok(before) = fs::read_to_string(&note) {
        assert_eq!(before, sha256, "an earlier run made another disk: {}", note.display());
        return;
    }
    fs::create_dir_all(SEEN).expect("made");
    fs::write(note, sha256).expect("written");
}

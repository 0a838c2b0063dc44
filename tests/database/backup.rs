//! The whole of a backup with real machines, of the fleet that another test has anyway: it is copied, restored into a fresh
//! machine and asked; and refused once a byte of it differs.

use std::fs;
use std::path::Path;

use rekiln::git;

use crate::bake::Site;

/// Takes and proves one, and then damages it.
pub fn counts_once_a_fresh_machine_has_answered(site: &Site, place: &Path) {
    let target = place.join("backups");
    site.edit("fleets/db.toml", "file:///var/backups/rekiln", &format!("file://{}", target.display()));
    site.edit("fleets/db.toml", "count(*) FROM pg_stat_user_tables", "count(*) FROM written");
    git::commit_all(&site.repo, "a target").expect("committed");
    let ends = |arguments: &[&str]| {
        let output = site.command(arguments).output().expect("rekiln runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(ends(&["backup", "status", "db"]).0, Some(1), "nothing counts yet");
    site.done(&["backup", "run", "db"]);
    assert_eq!(ends(&["backup", "status", "db"]).0, Some(0));

    let kept = fs::read_dir(target.join("backups/db")).expect("a directory").flatten();
    let kept = kept.map(|entry| entry.path()).find(|path| path.is_dir()).expect("one is kept");
    let part = kept.join("00000001");
    let mut bytes = fs::read(&part).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&part, bytes).expect("written");
    let (code, said) = ends(&["backup", "prove", "db"]);
    assert!(code == Some(1) && said.contains("the machine refuses it: its SHA-256 is"), "{said}");
    assert_eq!(ends(&["backup", "status", "db"]).0, Some(1), "it does not count any more");
    let scratch = fs::read_dir(site.store().tmp()).expect("a directory").flatten().count();
    assert_eq!(scratch, 0, "no machine is left");
}

//! The whole of a backup with real machines, of the fleet that another test has anyway: it is copied, restored into a fresh
//! machine and asked. That one is refused of which a byte differs is tried in `tests/backup.rs`, without a machine.

use std::path::Path;

use rekiln::git;

use crate::bake::Site;

/// Takes and proves one.
pub fn counts_once_a_fresh_machine_has_answered(site: &Site, place: &Path) {
    let target = place.join("backups");
    site.edit("fleets/db.toml", "file:///var/backups/rekiln", &format!("file://{}", target.display()));
    site.edit("fleets/db.toml", "count(*) FROM pg_stat_user_tables", "count(*) FROM written");
    git::commit_all(&site.repo, "a target").expect("committed");
    let code = |arguments: &[&str]| site.command(arguments).output().expect("rekiln runs").status.code();
    assert_eq!(code(&["backup", "status", "db"]), Some(1), "nothing counts yet");
    site.done(&["backup", "run", "db"]);
    assert_eq!(code(&["backup", "status", "db"]), Some(0));
}

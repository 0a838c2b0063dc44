//! What `[backup]` means.

use super::Findings;
use super::pace::time;
use crate::fleet::Fleet;
use crate::fleet::backup::{Backup, Target};
use crate::fleet::windows::window;
use crate::notation;

/// Checks `[backup]` of a fleet file.
pub fn check(found: &mut Findings<'_>, fleet: &Fleet) {
    let Some(backup) = &fleet.backup else { return };
    found.ask("/backup/target", backup.target.parse::<Target>());
    time(found, "/backup/every", &backup.every, false);
    found.at_least_one("/backup/keep", backup.keep, "backups");
    if backup.query.trim().is_empty() {
        found.say("/backup/query", "a backup that is asked nothing is not proved: `SELECT 1` at the least");
    }
    for (at, text) in backup.windows.iter().enumerate() {
        found.ask(&format!("/backup/windows/{at}"), window(text));
    }
    if fleet.stateful.as_ref().is_none_or(|stateful| stateful.patroni.is_none()) {
        found.say(
            "/backup",
            "backups are taken of PostgreSQL under Patroni: `[stateful]` with `patroni = {}` is missing",
        );
    }
    if let Some(login) = &backup.login {
        if login.user.is_empty() || login.user.contains(|c: char| c.is_control()) {
            found.say("/backup/login/user", "this is the name of no role");
        }
        if login.password_file.is_empty() {
            found.say("/backup/login/password_file", "the path of the file with the password is empty");
        }
    }
    if let Some(machine) = &backup.machine {
        found.ask("/backup/machine/memory", notation::memory(&machine.memory));
        found.at_least_one("/backup/machine/cpus", machine.cpus, "processors");
        found.ask("/backup/machine/data", notation::size(&machine.data));
    }
    restored(found, fleet, backup);
}

/// Checks that it is known what a backup is restored into, and from one place only.
fn restored(found: &mut Findings<'_>, fleet: &Fleet, backup: &Backup) {
    let tables = [("login", backup.login.is_some()), ("machine", backup.machine.is_some())];
    match &fleet.local {
        None if fleet.aws.is_some() => {
            let missing: Vec<_> =
                tables.iter().filter(|(_, there)| !there).map(|(table, _)| format!("`[backup.{table}]`")).collect();
            if !missing.is_empty() {
                found.say("/backup", format!("backups of members in AWS need {}", missing.join(" and ")));
            }
        }
        Some(local) if local.network && local.data.is_some() => {
            for (table, _) in tables.iter().filter(|(_, there)| *there) {
                found.say(&format!("/backup/{table}"), "this is for members in AWS: [local] says it for those here");
            }
        }
        // What is missing there is a finding of its own.
        _ => found.say(
            "/backup",
            "a backup is restored into a machine of this computer: `[local]` with `network = true` and `data` is missing",
        ),
    }
}

#[cfg(test)]
mod tests {
    use crate::fleet::validate::tests::means;

    const GOOD: &str = "image = 'db'\nsize = 3\n[local]\nlisten = '127.0.0.1:5432'\nport = 5432\nnetwork = true\n\
        data = '1G'\n[health]\nhttp = { port = 8008, path = '/health' }\n[stateful]\npatroni = {}\n\
        [backup]\ntarget = 's3://bucket/db'\nevery = '6h'\nkeep = 14\nquery = 'SELECT 1'\n\
        windows = ['Mon-Sun 00:00-05:00']\n";

    #[test]
    fn meanings() {
        for (from, to, expected) in [
            ("", "", None),
            ("s3://bucket/db", "file:///backups", None),
            ("every = '6h'\nkeep = 14\n", "", None),
            (
                "s3://bucket/db",
                "file://backups",
                Some("13:10 `file://backups` names no directory from the root"),
            ),
            ("s3://bucket/db", "/backups", Some("13:10 `/backups` is no place for backups")),
            ("s3://bucket", "s3://Bucket", Some("13:10 `Bucket` is no bucket")),
            ("'6h'", "'6'", Some("14:9 `6` is not a duration")),
            ("'6h'", "'0s'", Some("14:9 `0s` is no time for anything")),
            ("= 14", "= 0", Some("15:8 0 backups is nonsense: at least 1")),
            ("'SELECT 1'", "' '", Some("16:9 a backup that is asked nothing is not proved")),
            ("00:00-05:00", "0-5", Some("17:12 ")),
            ("patroni = {}", "http = '/member'", Some("12:1 backups are taken of PostgreSQL under Patroni")),
            (
                "size = 3\n[local]\nlisten = '127.0.0.1:5432'\nport = 5432\nnetwork = true\ndata = '1G'\n",
                "[aws]\nregion = 'eu-west-1'\nauto_scaling_group = 'db'\n",
                Some("9:1 backups of members in AWS need `[backup.login]` and `[backup.machine]`"),
            ),
            (
                "[backup]\n",
                "[backup.machine]\nmemory = '1G'\ndata = '1G'\n[backup]\n",
                Some("12:1 this is for members in AWS"),
            ),
            ("data = '1G'\n", "", Some("11:1 a backup is restored into a machine of this computer")),
        ] {
            means(GOOD, (from, to), expected);
        }
    }

    #[test]
    fn members_in_aws_say_how_they_are_reached_and_what_restores() {
        const AWS: &str = "image = 'db'\n[aws]\nregion = 'eu-west-1'\nauto_scaling_group = 'db'\n\
            [health]\nhttp = { port = 8008, path = '/health' }\n[stateful]\npatroni = {}\n\
            [backup]\ntarget = 's3://bucket/db'\nquery = 'SELECT 1'\n\
            [backup.login]\npassword_file = '/run/secrets/db'\n[backup.machine]\nmemory = '1G'\ndata = '20G'\n";
        for (from, to, expected) in [
            ("", "", None),
            ("password_file", "port = 6432\nuser = 'copies'\npassword_file", None),
            ("'/run/secrets/db'", "''", Some("13:17 the path of the file with the password is empty")),
            ("password_file", "user = ''\npassword_file", Some("13:8 this is the name of no role")),
            ("'1G'", "'1'", Some("15:10 ")),
            ("'20G'", "'much'", Some("16:8 ")),
            (
                "[backup.machine]\nmemory = '1G'\ndata = '20G'\n",
                "",
                Some("9:1 backups of members in AWS need `[backup.machine]`"),
            ),
        ] {
            means(AWS, (from, to), expected);
        }
    }
}

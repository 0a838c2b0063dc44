//! What `[backup]` means.

use super::Findings;
use super::pace::time;
use crate::fleet::Fleet;
use crate::fleet::backup::Target;
use crate::fleet::windows::window;

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
    match &fleet.local {
        Some(local) if local.network && local.data.is_some() => {}
        _ if fleet.aws.is_some() => found.say(
            "/backup",
            "backups are taken of members on this computer: what to do for those in AWS is in docs/databases.md, Backups",
        ),
        // What is missing there is a finding of its own.
        _ => found.say(
            "/backup",
            "a backup is restored into a machine of this computer: `[local]` with `network = true` and `data` is missing",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::validate;
    use crate::fleet::Fleet;
    use crate::recipe::document::Document;

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
                Some("9:1 backups are taken of members on this computer"),
            ),
            ("data = '1G'\n", "", Some("11:1 a backup is restored into a machine of this computer")),
        ] {
            let text = GOOD.replacen(from, to, 1);
            let document = Document::<Fleet>::read(Path::new("x.toml"), &text);
            assert!(document.is_whole(), "{:?}", document.found);
            let found = validate(&document, &["db".to_owned()].into());
            let shown: Vec<_> = found
                .iter()
                .map(|found| format!("{}:{} {}", found.line, found.column, found.message))
                .collect();
            match expected {
                None => assert_eq!(shown, Vec::<String>::new(), "{to}"),
                Some(expected) => {
                    assert!(
                        shown.len() == 1 && shown[0].starts_with(expected),
                        "{to}: {shown:?}\n{expected}"
                    );
                }
            }
        }
    }
}

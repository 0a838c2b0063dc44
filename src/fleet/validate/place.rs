//! Where the instances live, and how many there are.

use super::{Findings, specification};
use crate::fleet::shard::NOWHERE;
use crate::fleet::{AutoScaling, Fleet, Local};
use crate::notation;
use crate::notation::aws::{is_account, is_region, no_account, no_region, role};
use crate::objects::S3Url;

/// The longest name of an Auto Scaling group (EC2 Auto Scaling API reference, `CreateAutoScalingGroup`).
const LONGEST_GROUP: usize = 255;

/// Checks the size, and that there is one provider table and what it says.
pub fn check(found: &mut Findings<'_>, fleet: &Fleet) {
    match (&fleet.local, &fleet.aws) {
        (Some(local), None) => {
            if fleet.size == 0 {
                size(found);
            }
            here(found, local);
        }
        (None, Some(group)) => {
            if found.document.has("/size") {
                found.say(
                    "/size",
                    "the size of an Auto Scaling group is what the group itself says: leave it out",
                );
            }
            in_aws(found, group);
        }
        (Some(_), Some(_)) => found.say("/aws", "a fleet is in one place: [local] or [aws], and not both"),
        // What is wrong in a table leaves all of it out.
        (None, None) if found.document.is_whole() => {
            found.say("", "this does not say where the instances live: [local] or [aws] is missing");
        }
        (None, None) => {}
    }
}

fn size(found: &mut Findings<'_>) {
    if found.document.has("/size") {
        found.at_least_one("/size", 0, "instances");
    } else if found.document.is_whole() {
        found.say("", "this does not say how many instances: `size` is missing");
    }
}

fn here(found: &mut Findings<'_>, local: &Local) {
    found.ask("/local/memory", notation::memory(&local.memory));
    found.at_least_one("/local/cpus", local.cpus, "processors");
    found.port("/local/port", local.port);
    if local.listen == NOWHERE && !found.document.has("/local/listen") {
        missing(found, "/local", "listen");
    } else if local.listen.port() == 0 {
        found.say("/local/listen", "a fleet needs a port that clients can know: 0 is none");
    }
    clients(found, local);
    if let Some(data) = &local.data {
        found.ask("/local/data", notation::size(data));
    }
    for (at, port) in local.forward.iter().enumerate() {
        let pointer = format!("/local/forward/{at}");
        found.port(&pointer, *port);
        if local.forward[..at].contains(port) {
            found.say(&pointer, format!("port {port} is forwarded already"));
        }
    }
}

/// Says that a key is missing that only a file with shards may leave out: there, whoever has none is a finding of its own.
fn missing(found: &mut Findings<'_>, table: &str, key: &str) {
    if found.document.is_whole() && !found.document.has("/shard/0") {
        found.say(table, format!("missing key `{key}` in [{}]", table.trim_start_matches('/')));
    }
}

/// Who takes writes, and who reads.
fn clients(found: &mut Findings<'_>, local: &Local) {
    if let Some(path) = local.leader.as_ref().filter(|path| !path.starts_with('/')) {
        found.say("/local/leader", format!("`{path}` is not a request path: it begins with `/`"));
    }
    let Some(replicas) = local.replicas else { return };
    if local.leader.is_none() {
        found.say(
            "/local/replicas",
            "without `leader` all members are alike, and `listen` leads to each of them",
        );
    } else if replicas.port() == 0 {
        found.say("/local/replicas", "clients must know the port: 0 is none");
    } else if replicas == local.listen {
        found.say("/local/replicas", format!("{replicas} is where `listen` leads to the leader"));
    }
}

fn in_aws(found: &mut Findings<'_>, group: &AutoScaling) {
    let meant = |(message, meant): (String, Option<String>)| match meant {
        Some(meant) => format!("{message}: did you mean `{meant}`?"),
        None => message,
    };
    if !is_region(&group.region) {
        found.say("/aws/region", meant(no_region(&group.region)));
    }
    if let Some(account) = group.account.as_deref().filter(|account| !is_account(account)) {
        found.say("/aws/account", meant(no_account(account)));
    }
    if let Some(arn) = &group.assume_role {
        found.ask("/aws/assume_role", role(arn));
    }
    if let Some(url) = &group.journal {
        found.ask("/aws/journal", url.parse::<S3Url>());
    }
    found.ask("/aws/poll", notation::duration(&group.poll));
    let name = &group.auto_scaling_group;
    if name.is_empty() && !found.document.has("/aws/auto_scaling_group") {
        missing(found, "/aws", "auto_scaling_group");
    } else if name.is_empty() || name.chars().count() > LONGEST_GROUP || name.contains(char::is_control) {
        found.say(
            "/aws/auto_scaling_group",
            format!("`{name}` is no name of a group: 1 to {LONGEST_GROUP} characters"),
        );
    } else if let Some(made) = &group.group {
        specification::check(found, group, made);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::fleet::Fleet;
    use crate::fleet::validate::validate;
    use crate::recipe::document::Document;

    const GOOD: &str = "image = 'web'\n[aws]\nregion = 'eu-west-1'\nauto_scaling_group = 'web'\n\
        account = '111122223333'\nassume_role = 'arn:aws:iam::111122223333:role/fleets'\n\
        [health]\nhttp = { port = 80, path = '/' }\n";

    #[test]
    fn places() {
        let local = "[local]\nlisten = '127.0.0.1:8080'\nport = 80\n";
        let both = format!("{local}[aws]");
        for (from, to, expected) in [
            ("", "", None),
            (
                "[aws]",
                "size = 3\n[aws]",
                Some("2:8 the size of an Auto Scaling group is what the group itself says: leave it out"),
            ),
            ("[aws]", both.as_str(), Some("5:1 a fleet is in one place: [local] or [aws], and not both")),
            (
                "eu-west-1",
                "eu-west-1a",
                Some(
                    "3:10 `eu-west-1a` is not an AWS region such as \"eu-west-1\" (did you mean `eu-west-1`?)",
                ),
            ),
            (
                "'111122223333'",
                "'1111-2222-3333'",
                Some("5:11 `1111-2222-3333` is not an AWS account: 12 digits (did you mean `111122223333`?)"),
            ),
            (
                "role/fleets",
                "user/fleets",
                Some(
                    "6:15 `arn:aws:iam::111122223333:user/fleets` is not the ARN of a role such as \"arn:aws:iam::111122223333:role/publisher\"",
                ),
            ),
            (
                "[health]",
                "journal = 's3://bucket//x'\n[health]",
                Some("7:11 `/x` is no prefix: it has a part that is empty or dots"),
            ),
            ("[health]", "[roll]\ncanary = 1\nwaves = ['25%', '50%']\n[health]", None),
            ("[health]", "journal = 's3://bucket/x?region=eu-north-1'\n[health]", None),
            ("'web'\naccount", "''\naccount", Some("4:22 `` is no name of a group: 1 to 255 characters")),
        ] {
            assert_eq!(found(&GOOD.replacen(from, to, 1)), expected.into_iter().collect::<Vec<_>>(), "{to}");
        }
        let nowhere = "image = 'web'\nsize = 3\n[health]\nhttp = { port = 80, path = '/' }\n";
        assert_eq!(
            found(nowhere),
            ["this does not say where the instances live: [local] or [aws] is missing"]
        );
        let local_without =
            "image = 'web'\nsize = 3\n[local]\nport = 80\n[health]\nhttp = { port = 80, path = '/' }\n";
        assert_eq!(found(local_without), ["3:1 missing key `listen` in [local]"]);
        let without = GOOD.replace("auto_scaling_group = 'web'\n", "");
        assert_eq!(found(&without), ["2:1 missing key `auto_scaling_group` in [aws]"]);
        let how_many = format!("image = 'web'\n{local}[health]\nhttp = {{ port = 80, path = '/' }}\n");
        assert_eq!(found(&how_many), ["this does not say how many instances: `size` is missing"]);
    }

    #[test]
    fn members_that_are_not_alike() {
        const GOOD: &str = "image = 'web'\nsize = 3\n[local]\nlisten = '127.0.0.1:5432'\nport = 5432\nprotocol = 'tcp'\n\
            leader = '/primary'\nreplicas = '127.0.0.1:5433'\nnetwork = true\ndata = '1G'\nforward = [2379]\n\
            [health]\nhttp = { port = 8008, path = '/health' }\n";
        for (from, to, expected) in [
            ("", "", None),
            ("'/primary'", "'primary'", Some("7:10 `primary` is not a request path: it begins with `/`")),
            (
                "leader = '/primary'",
                "",
                Some("8:12 without `leader` all members are alike, and `listen` leads to each of them"),
            ),
            (":5433", ":0", Some("8:12 clients must know the port: 0 is none")),
            (":5433", ":5432", Some("8:12 127.0.0.1:5432 is where `listen` leads to the leader")),
            ("'1G'", "'1'", Some("10:8 `1` is not a size such as \"256M\" or \"1G\"")),
            ("[2379]", "[2379, 0]", Some("11:18 0 is not a port")),
            ("[2379]", "[2379, 2379]", Some("11:18 port 2379 is forwarded already")),
        ] {
            assert_eq!(found(&GOOD.replacen(from, to, 1)), expected.into_iter().collect::<Vec<_>>(), "{to}");
        }
    }

    /// Findings as `line:column message (help)`, or `message` about the whole file.
    fn found(text: &str) -> Vec<String> {
        let document = Document::<Fleet>::read(Path::new("x.toml"), text);
        assert!(document.is_whole(), "{:?}", document.found);
        let found = validate(&document, &["web".to_owned()].into());
        let shown = |found: &crate::diagnostic::Diagnostic| {
            let place =
                if found.line > 0 { format!("{}:{} ", found.line, found.column) } else { String::new() };
            let help = found.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
            format!("{place}{}{help}", found.message)
        };
        found.iter().map(shown).collect()
    }
}

//! What `[[shard]]` means: what each shard says, and what no two of them may share.

use std::net::SocketAddr;

use super::Findings;
use crate::fleet::shard::NOWHERE;
use crate::fleet::{Fleet, Shard};
use crate::notation;

/// Checks the shards of a fleet file. What each fleet is with all that the file says is checked as any other is.
pub fn check(found: &mut Findings<'_>, fleet: &Fleet) {
    let mut taken: Vec<(Exclusive, &str)> = Vec::new();
    for (at, shard) in fleet.shards.iter().enumerate() {
        named(found, &fleet.shards, at);
        // What is wrong in a table leaves all of it out.
        if found.document.is_whole() {
            stray(found, fleet, at);
            missing(found, fleet, at);
        }
        let own = exclusive(shard, fleet);
        for one in &own {
            if let Some((other, of)) = taken.iter().find(|(other, _)| other.what.meets(&one.what)) {
                shared(found, shard, at, one, (other, of));
            }
        }
        taken.extend(own.into_iter().map(|one| (one, shard.name.as_str())));
    }
}

fn named(found: &mut Findings<'_>, shards: &[Shard], at: usize) {
    let (pointer, name) = (format!("/shard/{at}/name"), &shards[at].name);
    found.ask(&pointer, notation::name(name));
    if shards[..at].iter().any(|other| other.name == *name) {
        found.say(&pointer, format!("another shard is called `{name}` already"));
    }
}

/// Says which keys stand instead of something that the file does not have.
fn stray(found: &mut Findings<'_>, fleet: &Fleet, at: usize) {
    let shard = &fleet.shards[at];
    let (local, aws) = (fleet.local.is_some(), fleet.aws.is_some());
    let group = fleet.aws.as_ref().is_some_and(|aws| aws.group.is_some());
    let backup = fleet.backup.is_some();
    for (key, said, table, there) in [
        ("listen", shard.listen.is_some(), "[local]", local),
        ("replicas", shard.replicas.is_some(), "[local]", local),
        ("auto_scaling_group", shard.auto_scaling_group.is_some(), "[aws]", aws),
        ("target_groups", shard.target_groups.is_some(), "[aws.group]", group),
        ("query", shard.query.is_some(), "[backup]", backup),
        ("at_least", shard.at_least.is_some(), "[backup]", backup),
    ] {
        if said && !there {
            found.say(
                &format!("/shard/{at}/{key}"),
                format!("this is of {table}, which the file does not have"),
            );
        }
    }
}

/// Says what neither the shard nor the file says for it.
fn missing(found: &mut Findings<'_>, fleet: &Fleet, at: usize) {
    let (shard, pointer) = (&fleet.shards[at], format!("/shard/{at}"));
    let of = shard.of(fleet);
    if of.local.is_some_and(|local| local.listen == NOWHERE && shard.listen.is_none()) {
        found.say(&pointer, "this does not say where its clients come in: `listen` is missing");
    }
    let unnamed = of.aws.is_some_and(|aws| aws.auto_scaling_group.is_empty());
    if unnamed && shard.auto_scaling_group.is_none() {
        found.say(&pointer, "this does not say which group it is: `auto_scaling_group` is missing");
    }
}

/// Something that only one shard can have.
struct Exclusive {
    /// The key that says it.
    key: &'static str,
    /// Which entry, where it is one of a list.
    entry: Option<usize>,
    /// Whether the shard itself says it, and not the file for all.
    own: bool,
    what: What,
}

#[derive(PartialEq, Eq)]
enum What {
    Address(SocketAddr),
    Group(String),
    TargetGroup(String),
}

impl What {
    /// Tells whether not both can be had.
    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Address(one), Self::Address(other)) => {
                let all = one.ip().is_unspecified() || other.ip().is_unspecified();
                one.port() == other.port() && (all || one.ip() == other.ip())
            }
            _ => self == other,
        }
    }
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Group(name) | Self::TargetGroup(name) => f.write_str(name),
        }
    }
}

/// Returns what only this shard can have, by its own word or the file's. What is missing is a finding of its own.
fn exclusive(shard: &Shard, file: &Fleet) -> Vec<Exclusive> {
    let fleet = shard.of(file);
    let one = |key, own, what| Exclusive { key, entry: None, own, what };
    let mut all = Vec::new();
    if let Some(local) = &fleet.local {
        let listens = (local.listen.port() != 0).then_some(local.listen);
        all.extend(listens.map(|at| one("listen", shard.listen.is_some(), What::Address(at))));
        let reads = local.replicas.filter(|at| at.port() != 0);
        all.extend(reads.map(|at| one("replicas", shard.replicas.is_some(), What::Address(at))));
    }
    if let Some(aws) = fleet.aws {
        let (name, own) = (aws.auto_scaling_group, shard.auto_scaling_group.is_some());
        all.extend((!name.is_empty()).then(|| one("auto_scaling_group", own, What::Group(name))));
        let targets = aws.group.map(|group| group.target_groups).unwrap_or_default();
        let own = shard.target_groups.is_some();
        all.extend(targets.into_iter().enumerate().map(|(at, arn)| Exclusive {
            entry: Some(at),
            ..one("target_groups", own, What::TargetGroup(arn))
        }));
    }
    all
}

fn shared(
    found: &mut Findings<'_>,
    shard: &Shard,
    at: usize,
    one: &Exclusive,
    (other, of): (&Exclusive, &str),
) {
    let Exclusive { key, entry, own, what } = one;
    let taken = format!("{what} is `{}` of shard `{of}`", other.key);
    if *own {
        let entry = entry.map_or_else(String::new, |entry| format!("/{entry}"));
        found.say(&format!("/shard/{at}/{key}{entry}"), taken);
    } else {
        let name = &shard.name;
        found.say(&format!("/shard/{at}"), format!("`{name}` needs a `{key}` of its own: {taken}"));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::fleet::Fleet;
    use crate::fleet::validate::shards;
    use crate::recipe::document::Document;

    /// The findings of a file, as `line:column message`.
    fn found(text: &str) -> Vec<String> {
        let document = Document::<Fleet>::read(Path::new("x.toml"), text);
        let shown = |found: &crate::diagnostic::Diagnostic| {
            let help = found.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
            format!("{}:{} {}{help}", found.line, found.column, found.message)
        };
        document.found.iter().chain(&shards(&document)).map(shown).collect()
    }

    #[test]
    fn on_this_computer() {
        const GOOD: &str = "image = 'db'\nsize = 3\n[health]\nhttp = { port = 80, path = '/' }\n[local]\nport = 80\nleader = '/p'\n\
            [[shard]]\nname = 'a'\nlisten = '127.0.0.1:1'\nreplicas = '127.0.0.1:2'\n\
            [[shard]]\nname = 'b'\nlisten = '127.0.0.1:3'\nreplicas = '127.0.0.1:4'\n";
        let needs = "12:1 `b` needs a `listen` of its own: 127.0.0.1:9 is `listen` of shard `a`";
        for (edits, expected) in [
            (&[] as &[(&str, &str)], &[] as &[&str]),
            // One gets what the file says for all.
            (
                &[
                    ("port = 80\n", "port = 80\nlisten = '127.0.0.1:1'\n"),
                    ("\nlisten = '127.0.0.1:1'\nrep", "\nrep"),
                ],
                &[],
            ),
            (
                &[
                    ("port = 80\n", "port = 80\nlisten = '127.0.0.1:9'\n"),
                    ("\nlisten = '127.0.0.1:1'", "\nsize = 4"),
                    ("\nlisten = '127.0.0.1:3'", "\nsize = 4"),
                ],
                &[&needs.replacen("12:", "13:", 1)],
            ),
            (&[(":3", ":1")], &["14:10 127.0.0.1:1 is `listen` of shard `a`"]),
            (&[(":3", ":2")], &["14:10 127.0.0.1:2 is `replicas` of shard `a`"]),
            (&[("127.0.0.1:4", "0.0.0.0:1")], &["15:12 0.0.0.0:1 is `listen` of shard `a`"]),
            (&[("127.0.0.1:4", "127.0.0.2:1")], &[]),
            (
                &[("listen = '127.0.0.1:3'\n", "")],
                &["12:1 this does not say where its clients come in: `listen` is missing"],
            ),
            (&[("name = 'b'", "name = 'a'")], &["13:8 another shard is called `a` already"]),
            (
                &[("name = 'b'", "name = '1'")],
                &["13:8 `1` is not a name: lower-case letters, digits and `-`, beginning with a letter"],
            ),
            (&[("name = 'b'\n", "")], &["12:1 missing key `name` in [[shard]]"]),
            (
                &[("listen = '127.0.0.1:3'", "lisen = '127.0.0.1:3'")],
                &["14:1 unknown key `lisen` in [[shard]] (did you mean `listen`?)"],
            ),
            (
                &[("listen = '127.0.0.1:3'", "memory = '1G'")],
                &["14:1 unknown key `memory` in [[shard]] (`memory` belongs in [local])"],
            ),
            (&[("127.0.0.1:3", "here")], &["14:10 invalid socket address syntax"]),
            (
                &[("replicas = '127.0.0.1:4'", "auto_scaling_group = 'x'\nat_least = 1")],
                &[
                    "15:22 this is of [aws], which the file does not have",
                    "16:12 this is of [backup], which the file does not have",
                ],
            ),
        ] {
            let mut text = GOOD.to_owned();
            for (from, to) in edits {
                assert!(text.contains(from), "{from}");
                text = text.replacen(from, to, 1);
            }
            assert_eq!(found(&text), expected, "{edits:?}");
        }
    }

    #[test]
    fn in_aws() {
        const GOOD: &str = "image = 'db'\n[health]\n[aws]\nregion = 'eu-west-1'\n[aws.group]\nmin = 1\nmax = 2\nsubnets = []\n\
            security_groups = []\ninstance_type = 't3.micro'\n\
            [[shard]]\nname = 'a'\nauto_scaling_group = 'x'\ntarget_groups = ['t', 'u']\n\
            [[shard]]\nname = 'b'\nauto_scaling_group = 'y'\ntarget_groups = ['v', 'w']\n";
        for (from, to, expected) in [
            ("", "", None),
            ("'y'", "'x'", Some("17:22 x is `auto_scaling_group` of shard `a`")),
            ("'w'", "'t'", Some("18:23 t is `target_groups` of shard `a`")),
            (
                "auto_scaling_group = 'y'\n",
                "",
                Some("15:1 this does not say which group it is: `auto_scaling_group` is missing"),
            ),
            ("target_groups = ['v', 'w']", "target_groups = []", None),
            (
                "target_groups = ['v', 'w']",
                "listen = '127.0.0.1:1'",
                Some("18:10 this is of [local], which the file does not have"),
            ),
        ] {
            assert_eq!(found(&GOOD.replacen(from, to, 1)), expected.into_iter().collect::<Vec<_>>(), "{to}");
        }
        let common = GOOD.replacen("min = 1", "target_groups = ['z']\nmin = 1", 1);
        let common = common.replacen("target_groups = ['v', 'w']\n", "", 1).replacen(
            "target_groups = ['t', 'u']\n",
            "",
            1,
        );
        assert_eq!(
            found(&common),
            ["15:1 `b` needs a `target_groups` of its own: z is `target_groups` of shard `a`"]
        );
    }
}

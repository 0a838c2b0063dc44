//! Shards: several fleets under one file, each with a part of the data or of the requests.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::de::DeTable;

use super::Fleet;

/// Where a fleet listens that does not say where: no client can come in there.
pub const NOWHERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// The keys of a shard, and where the file has what each stands instead of, as JSON pointers: [`Shard::of`] puts them there,
/// and what is wrong with the value there is wrong in the shard's line.
pub const OWN: [(&str, &str); 7] = [
    ("size", "/size"),
    ("listen", "/local/listen"),
    ("replicas", "/local/replicas"),
    ("auto_scaling_group", "/aws/auto_scaling_group"),
    ("target_groups", "/aws/group/target_groups"),
    ("query", "/backup/query"),
    ("at_least", "/backup/at_least"),
];

/// One of several fleets under one file: its name, and what is its own. Everything else is as the file says for all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// What follows the file's name in the name of the fleet: `a` in `fleets/db.toml` is the fleet `db-a`.
    pub name: String,
    /// How many instances, instead of `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// Where HAProxy listens, instead of `listen` of `[local]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Where HAProxy leads to all members that are healthy, instead of `replicas` of `[local]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<SocketAddr>,
    /// The group's name, instead of `auto_scaling_group` of `[aws]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_scaling_group: Option<String>,
    /// Who sends its instances requests, by ARN, instead of `target_groups` of `[aws.group]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_groups: Option<Vec<String>>,
    /// What the restored database is asked, instead of `query` of `[backup]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// What the first value of the answer is not below, instead of `at_least` of `[backup]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<i64>,
}

impl Shard {
    /// Returns the fleet that this shard of `file` is.
    #[must_use]
    pub fn of(&self, file: &Fleet) -> Fleet {
        let mut fleet = Fleet { shards: Vec::new(), ..file.clone() };
        put(&mut fleet.size, self.size.as_ref());
        if let Some(local) = &mut fleet.local {
            put(&mut local.listen, self.listen.as_ref());
            local.replicas = self.replicas.or(local.replicas);
        }
        if let Some(aws) = &mut fleet.aws {
            put(&mut aws.auto_scaling_group, self.auto_scaling_group.as_ref());
            if let Some(group) = &mut aws.group {
                put(&mut group.target_groups, self.target_groups.as_ref());
            }
        }
        if let Some(backup) = &mut fleet.backup {
            put(&mut backup.query, self.query.as_ref());
            backup.at_least = self.at_least.or(backup.at_least);
        }
        fleet
    }
}

fn put<T: Clone>(place: &mut T, own: Option<&T>) {
    if let Some(own) = own {
        place.clone_from(own);
    }
}

/// Returns the name of the fleet that a shard of the file `file` is.
#[must_use]
pub fn fleet_name(file: &str, shard: &str) -> String {
    format!("{file}-{shard}")
}

/// Returns each file that may have the fleet: the one that is called as it is, and those of which it may be a shard, with the
/// name that it has there.
pub fn files_of(fleet: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let shards = fleet.match_indices('-').map(|(at, _)| (&fleet[..at], Some(&fleet[at + 1..])));
    std::iter::once((fleet, None)).chain(shards)
}

/// Returns the names of the shards that a file's text has, as far as it can be read: a rollout of a fleet is stopped with a
/// broken file, too.
#[must_use]
pub fn names(text: &str) -> Vec<String> {
    let (table, _) = DeTable::parse_recoverable(text);
    let shards = table.get_ref().get("shard").and_then(|shards| shards.get_ref().as_array());
    let name = |shard: &toml::Spanned<toml::de::DeValue<'_>>| {
        Some(shard.get_ref().as_table()?.get("name")?.get_ref().as_str()?.to_owned())
    };
    shards.into_iter().flatten().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "image = 'db'\nsize = 3\n[local]\nlisten = '127.0.0.1:1'\nport = 5432\n\
        [health]\nhttp = { port = 80, path = '/' }\n[backup]\ntarget = 'file:///b'\nquery = 'SELECT 1'\n";

    #[test]
    fn a_shard_is_the_file_with_what_is_its_own() {
        let file: Fleet = toml::from_str(&format!(
            "{FILE}[[shard]]\nname = 'a'\n[[shard]]\nname = 'b'\nsize = 5\nlisten = '127.0.0.1:2'\n\
             replicas = '127.0.0.1:3'\nquery = 'SELECT 2'\nat_least = 7\n"
        ))
        .expect("a fleet");
        let plain: Fleet = toml::from_str(FILE).expect("a fleet");
        assert_eq!(file.shards[0].of(&file), plain);
        let own = FILE.replace("size = 3", "size = 5").replace("SELECT 1'", "SELECT 2'\nat_least = 7");
        let own = own.replace("'127.0.0.1:1'", "'127.0.0.1:2'\nreplicas = '127.0.0.1:3'");
        assert_eq!(file.shards[1].of(&file), toml::from_str(&own).expect("a fleet"));
    }

    #[test]
    fn a_shard_is_a_group_of_its_own() {
        const FILE: &str = "image = 'db'\n[aws]\nregion = 'eu-west-1'\nauto_scaling_group = 'x'\n[aws.group]\nmin = 1\nmax = 2\n\
            subnets = []\nsecurity_groups = []\ninstance_type = 't3.micro'\ntarget_groups = ['y']\n[health]\n";
        let file: Fleet = toml::from_str(&format!(
            "{FILE}[[shard]]\nname = 'a'\nauto_scaling_group = 'db-a'\ntarget_groups = ['t', 'u']\n"
        ))
        .expect("a fleet");
        let own = FILE.replace("'x'", "'db-a'").replace("['y']", "['t', 'u']");
        assert_eq!(file.shards[0].of(&file), toml::from_str(&own).expect("a fleet"));
    }

    #[test]
    fn every_key_has_a_place() {
        let schema = serde_json::to_value(schemars::schema_for!(Shard)).expect("a schema");
        let keys = schema["properties"].as_object().expect("keys").keys();
        let keys: Vec<&str> = keys.map(String::as_str).filter(|key| *key != "name").collect();
        let mut own = OWN.map(|(key, _)| key);
        own.sort_unstable();
        assert_eq!(keys, own);
    }

    #[test]
    fn a_broken_file_names_its_shards() {
        for (text, expected) in [
            (FILE, &[] as &[&str]),
            ("[[shard]]\nname = 'a'\n[[shard]]\nname = 'b'\n", &["a", "b"]),
            ("shard = [{ name = 'a' }]\n", &["a"]),
            ("imag = 'x'\n[[shard]]\nlisten = 1\n[[shard]]\nname = 'b'\n", &["b"]),
            ("image = \n[[shard]]\nname = 'a'\nlisten = 'x\n[[shard]]\nname = 'b'\n", &["a", "b"]),
            ("shard = 1\n", &[]),
        ] {
            assert_eq!(names(text), expected, "{text}");
        }
    }

    #[test]
    fn files_that_may_have_a_fleet() {
        let of = |fleet| files_of(fleet).collect::<Vec<_>>();
        assert_eq!(of("db"), [("db", None)]);
        assert_eq!(of("my-db-a"), [("my-db-a", None), ("my", Some("db-a")), ("my-db", Some("a"))]);
        assert_eq!(fleet_name("my-db", "a"), "my-db-a");
    }
}

//! What `[stateful]` means.

use super::Findings;
use super::pace::time;
use crate::fleet::{Fleet, Share};
use crate::notation;

/// Checks `[stateful]` of a fleet file.
pub fn check(found: &mut Findings<'_>, fleet: &Fleet) {
    let Some(stateful) = &fleet.stateful else { return };
    if let Err(error) = stateful.check() {
        let hints = error.hints().join("; ");
        found.say("/stateful", format!("{error}: {hints}"));
    }
    if let Some(path) = stateful.http.as_ref().filter(|path| !path.starts_with('/')) {
        found.say("/stateful/http", format!("`{path}` is not a request path: it begins with `/`"));
    }
    if stateful.command.as_ref().is_some_and(Vec::is_empty) {
        found.say("/stateful/command", "there is no program in an empty command");
    }
    found.ask("/stateful/max_lag", notation::memory(&stateful.max_lag));
    time(found, "/stateful/switchover", &stateful.switchover, false);
    time(found, "/stateful/recovery", &stateful.recovery, true);
    time(found, "/stateful/max_copy", &stateful.max_copy, false);
    if fleet.health.http.is_none() {
        found.say("/stateful", "members are asked at the port of `[health] http`, and there is none");
    }
    if let (Some(local), Some(port)) =
        (&fleet.local, stateful.patroni.as_ref().and_then(|patroni| patroni.etcd))
    {
        found.port("/stateful/patroni/etcd", port);
        if !local.forward.contains(&port) {
            found.say(
                "/stateful/patroni/etcd",
                format!("this computer does not reach port {port} of the machines: `forward = [{port}]` in `[local]`"),
            );
        }
    }
    // What is no count, or too small for anything, is a finding of its own.
    let in_place = matches!(&fleet.roll.surge, Share::Count(0));
    let others = fleet.size.saturating_sub(1 + u32::from(in_place));
    if fleet.size > 0 && others < stateful.synchronous {
        found.say(
            "/stateful/synchronous",
            format!(
                "while one of {} members is replaced {others} are left beside the leader, and {} must have all data: a larger \
                 `size`, or fewer",
                fleet.size, stateful.synchronous
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::fleet::validate::tests::means;

    const GOOD: &str = "image = 'db'\nsize = 3\n[local]\nlisten = '127.0.0.1:5432'\nport = 5432\nforward = [2379]\n\
        [health]\nhttp = { port = 8008, path = '/health' }\n\
        [stateful]\npatroni = { etcd = 2379 }\nsynchronous = 1\nmax_lag = '16M'\nmax_copy = '30m'\n";

    #[test]
    fn meanings() {
        for (from, to, expected) in [
            ("", "", None),
            ("patroni = { etcd = 2379 }", "http = '/member'", None),
            (
                "patroni = { etcd = 2379 }",
                "http = 'member'",
                Some("10:8 `member` is not a request path: it begins with `/`"),
            ),
            (
                "patroni = { etcd = 2379 }",
                "command = []",
                Some("10:11 there is no program in an empty command"),
            ),
            ("patroni = { etcd = 2379 }\n", "", Some("9:1 `[stateful]` does not say how members are asked")),
            (
                "{ etcd = 2379 }",
                "{}\nhttp = '/member'",
                Some("9:1 `[stateful]` says more than one way to ask members"),
            ),
            (
                "etcd = 2379",
                "etcd = 2380",
                Some("10:20 this computer does not reach port 2380 of the machines"),
            ),
            ("'16M'", "'16'", Some("12:11 `16` is not a size")),
            ("'30m'", "'half an hour'", Some("13:12 `half an hour` is not a duration")),
            (
                "synchronous = 1",
                "synchronous = 3",
                Some("11:15 while one of 3 members is replaced 2 are left"),
            ),
            ("size = 3", "size = 1", Some("11:15 while one of 1 members is replaced 0 are left")),
        ] {
            means(GOOD, (from, to), expected);
        }
    }
}

//! The real thing: `PostgreSQL` on machines of this computer, whose leader is replaced, and then killed, while clients write.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rekiln::fleet::Fleet;
use rekiln::git;
use rekiln::provider::local::{InstanceRecord, Local, Qemu};
use rekiln::vm::http;
use rekiln::vm::machine::Machine;
use rekiln::vm::report;
use rekiln::vm::verdict::free_ports;
use rustix::process::Signal;

use super::writer::{Client, Writer};
use crate::bake::{Site, baked, ground, scratch, turn};
use crate::fleet::stage::signal;

/// Longer than anything that is waited for here on a busy machine; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_mins(8);
/// How often it is looked at what takes seconds.
const LOOK: Duration = Duration::from_millis(500);
/// How many rows are written where some are needed: each is one translated machine's answer about another.
const SOME: u64 = 20;

/// Ends the fleet with its test.
struct Down<'a>(&'a Site);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        let _ = self.0.command(&["down", "db"]).output();
    }
}

/// The repository with its databases, which other tests leave out, at free ports.
fn repository(site: &Site) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in [
        "images/db-ground.toml",
        "images/db-ground.lock",
        "images/db.toml",
        "images/db.lock",
        "fleets/db.toml",
    ] {
        fs::copy(here.join(name), site.repo.join(name)).expect("copied");
    }
    let ports = free_ports(2).expect("ports");
    site.edit("fleets/db.toml", "127.0.0.1:5432", &format!("127.0.0.1:{}", ports[0]));
    site.edit("fleets/db.toml", "127.0.0.1:5433", &format!("127.0.0.1:{}", ports[1]));
    git::commit_all(&site.repo, "databases").expect("committed");
}

/// Bakes it; with locks as the archive is now where the committed ones can no longer be baked, as the ground does.
fn bake(site: &Site) {
    site.done(&["lock", "db"]);
    let bake = || site.command(&["bake", "--json", "db"]).output().expect("rekiln runs");
    let output = bake();
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success()
        && (said.contains("nowhere any more") || said.contains("for other tool versions"))
    {
        site.done(&["lock", "--update", "db"]);
        baked(&bake());
    } else {
        baked(&output);
    }
    let status =
        Command::new("git").arg("-C").arg(&site.repo).args(["diff", "--quiet"]).status().expect("git runs");
    if !status.success() {
        git::commit_all(&site.repo, "locks: as the archive is now").expect("committed");
    }
}

#[test]
fn leaders_that_are_replaced_or_killed_take_no_acknowledged_write_with_them() {
    let _turn = turn();
    let place = scratch();
    let site = ground().warm(place.path());
    repository(&site);
    let start = Instant::now();
    bake(&site);
    eprintln!("baked and tried after {:.0?}", start.elapsed());

    let _down = Down(&site);
    site.done(&["roll", "db", "--yes"]);
    eprintln!("three members serve after {:.0?}", start.elapsed());
    let fleet: Fleet = toml::from_str(&site.read("fleets/db.toml")).expect("a fleet");
    let local = Local::new(site.store(), "db", fleet.clone(), Qemu::new(site.store()));
    let client = Client {
        address: fleet.local().expect("of this computer").listen,
        password: local.secret().expect("a secret").password("app"),
    };
    let consoles = || {
        let records = local.records().expect("records").into_iter();
        let tail = |dir: &Path| report::console_tail(dir, 20).join("\n");
        records
            .map(|record| format!("{}:\n{}", record.id, tail(&record.spec.dir)))
            .collect::<Vec<_>>()
            .join("\n\n")
    };
    let until = |what: &str, reached: &mut dyn FnMut() -> bool| {
        let start = Instant::now();
        while !reached() {
            assert!(start.elapsed() < PATIENCE, "never: {what}\n{}", consoles());
            std::thread::sleep(LOOK);
        }
    };
    let leader = || local.leader().expect("it answers");
    until("a table", &mut || {
        client.ask("CREATE TABLE IF NOT EXISTS written (id bigint PRIMARY KEY)").is_ok()
    });
    // The planner has waited for it before the roll was done: no write is acknowledged that one member alone has.
    let strict = |record: &InstanceRecord| {
        let at = ([127, 0, 0, 1], record.health_port).into();
        let said = http::get(at, "/config", Duration::from_secs(5));
        said.is_ok_and(|said| said.body.contains("\"synchronous_mode_strict\": true"))
    };
    until("writes wait for a second member", &mut || local.records().expect("records").iter().any(strict));
    let writer = Writer::start(&client);
    let go_on = |writer: &Writer| {
        let before = writer.so_far();
        until("writes go on", &mut || writer.so_far() > before + SOME);
    };
    go_on(&writer);

    let first = leader().expect("somebody leads");
    site.done(&["rotate", "db", "--instance", &first.0, "--reason", "a test", "--yes"]);
    let second = leader().expect("somebody leads");
    assert_ne!(first, second);
    let records = local.records().expect("records");
    assert!(records.len() == 3 && records.iter().all(|record| record.id != first), "it was replaced");
    go_on(&writer);
    eprintln!("{first} handed over to {second}, and was replaced after {:.0?}", start.elapsed());

    let dir = &records.iter().find(|record| record.id == second).expect("a record").spec.dir;
    let machine = Machine::find(dir).expect("a look").expect("it runs");
    signal(machine.pid, Signal::KILL);
    let killed = Instant::now();
    until("another one leads", &mut || leader().is_some_and(|now| now != second));
    go_on(&writer);
    eprintln!("{second} was killed, and another one took {SOME} writes {:.0?} later", killed.elapsed());

    let written = writer.stop();
    let rows = client.ask("SELECT id FROM written").expect("rows");
    let rows: BTreeSet<u64> = rows.lines().map(|id| id.parse().expect("a number")).collect();
    let lost: Vec<_> = written.ids.difference(&rows).collect();
    eprintln!("{} writes acknowledged; longest pause {:.1?}", written.ids.len(), written.pause);
    assert!(lost.is_empty(), "acknowledged, and lost: {lost:?}");
    assert!(!machine.alive(), "it was killed");

    super::backup::counts_once_a_fresh_machine_has_answered(&site, place.path());
    eprintln!("a backup was taken and proved after {:.0?}", start.elapsed());
}

//! The real thing: `PostgreSQL` on machines of this computer, whose members are replaced, killed, and brought back, while clients write.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rekiln::fleet::Fleet;
use rekiln::fleet::census::InstanceId;
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

/// A database that serves, and all that a test knows of it.
struct Database<'a> {
    site: &'a Site,
    local: Local<Qemu>,
    client: Client,
    start: Instant,
}

impl Database<'_> {
    fn leader(&self) -> Option<InstanceId> {
        self.local.leader().expect("it answers")
    }

    fn leads(&self) -> InstanceId {
        let mut leader = None;
        self.until("somebody leads", &mut || {
            leader = self.leader();
            leader.is_some()
        });
        leader.expect("somebody leads")
    }

    fn members(&self) -> Vec<InstanceRecord> {
        self.local.records().expect("records")
    }

    fn until(&self, what: &str, reached: &mut dyn FnMut() -> bool) {
        let start = Instant::now();
        while !reached() {
            assert!(start.elapsed() < PATIENCE, "never: {what}\n{}", self.consoles());
            std::thread::sleep(LOOK);
        }
    }

    fn consoles(&self) -> String {
        let tail = |dir: &Path| report::console_tail(dir, 20).join("\n");
        let all: Vec<_> = self
            .members()
            .into_iter()
            .map(|record| format!("{}:\n{}", record.id, tail(&record.spec.dir)))
            .collect();
        all.join("\n\n")
    }

    /// Waits until writes go on, and says what was done and how long clients waited meanwhile.
    fn goes_on(&self, writer: &Writer, what: &str) {
        let before = writer.so_far();
        self.until("writes go on", &mut || writer.so_far() > before + SOME);
        let pause = writer.pause().as_secs_f64();
        self.say(&format!("{what}; the longest pause between two writes was {pause:.1} s"));
    }

    fn say(&self, what: &str) {
        eprintln!("{:4.0} s: {what}", self.start.elapsed().as_secs_f64());
    }

    /// Ends the machine of a member as a host that fails does.
    fn kill(&self, id: &InstanceId) {
        let members = self.members();
        let dir = &members.iter().find(|record| record.id == *id).expect("a record").spec.dir;
        let machine = Machine::find(dir).expect("a look").expect("it runs");
        signal(machine.pid, Signal::KILL);
        self.until("it is gone", &mut || !machine.alive());
    }

    /// Begins a command and kills it without warning once `reached`.
    fn killed_once(&self, arguments: &[&str], what: &str, reached: &mut dyn FnMut() -> bool) {
        let mut child = self.site.command(arguments).spawn().expect("rekiln runs");
        self.until(what, &mut || {
            assert!(child.try_wait().expect("asked").is_none(), "it ended before: {what}");
            reached()
        });
        child.kill().expect("killed");
        child.wait().expect("its end");
        self.say(&format!("rekiln was killed: {what}"));
    }

    /// The leader is replaced, by a process that is killed while the new member copies, and one that is killed once leadership
    /// has moved.
    fn is_rotated_by_processes_that_are_killed(&self, writer: &Writer) {
        let first = self.leads();
        let rotate = ["rotate", "db", "--instance", &first.0, "--reason", "a test", "--yes"];
        self.killed_once(&rotate, "a fourth member is there", &mut || self.members().len() > 3);
        let current = ["roll", "db", "--to", "current", "--yes"];
        self.killed_once(&current, "another one leads", &mut || {
            self.leader().is_some_and(|leader| leader != first)
        });
        self.site.done(&current);
        let members = self.members();
        assert!(members.len() == 3 && members.iter().all(|record| record.id != first), "it was replaced");
        self.goes_on(writer, &format!("{first} handed over and was replaced"));
        // What the one that is gone had not yet got must not fill the disks of the others for ever.
        let slot = first.0.replace('-', "_");
        self.until("nothing is kept for who is gone", &mut || {
            self.client
                .ask("SELECT slot_name FROM pg_replication_slots")
                .is_ok_and(|rows| !rows.contains(&slot))
        });
    }

    /// The leader's machine is killed, and rekiln has it replaced.
    fn gets_over_chaos(&self, writer: &Writer) {
        let second = self.leads();
        let output = self
            .site
            .command(&["chaos", "db", "--leader", "--json", "--seed", "1"])
            .output()
            .expect("rekiln runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}\n{}", self.consoles());
        let lines = String::from_utf8(output.stdout).expect("text");
        let killed: serde_json::Value = lines
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .find(|line: &serde_json::Value| line["event"] == "killed")
            .expect("a kill");
        assert_eq!(killed["kill"]["instance"], second.0, "{killed:#}");
        assert!(self.members().iter().all(|record| record.id != second), "it was replaced");
        self.goes_on(writer, killed["text"].as_str().expect("words"));
    }

    /// Two of three machines are killed, each when it leads: too few are left to decide anything, and a person is told how to go on.
    fn comes_back_when_too_many_were_lost(&self, writer: &Writer) {
        let third = self.leads();
        self.kill(&third);
        self.until("another one leads", &mut || self.leader().is_some_and(|leader| leader != third));
        self.goes_on(writer, &format!("{third} was killed"));
        let fourth = self.leads();
        self.kill(&fourth);
        let before: Vec<_> = self.members().into_iter().map(|record| record.id).collect();
        let said = self.site.refused(&["roll", "db", "--to", "current", "--yes"], 3);
        assert!(said.contains("`rekiln revive db`") && said.contains("do not end"), "{said}");
        assert!(said.contains(&format!("the machine of {fourth} ended")), "{said}");
        let now: Vec<_> = self.members().into_iter().map(|record| record.id).collect();
        assert_eq!(before, now, "nobody was ended, and nobody founded anew");
        self.say(&format!("{fourth} was killed, too few are left, and nothing was done"));
        self.site.done(&["revive", "db"]);
        self.site.done(&["roll", "db", "--to", "current", "--yes"]);
        let now: Vec<_> = self.members().into_iter().map(|record| record.id).collect();
        assert_eq!(before, now, "they are the same, each with its disk");
        self.goes_on(writer, "both were started again");
    }
}

#[test]
fn no_member_that_ends_takes_an_acknowledged_write_with_it() {
    let _turn = turn();
    let place = scratch();
    let site = ground().warm(place.path());
    repository(&site);
    let start = Instant::now();
    bake(&site);
    eprintln!("baked and tried after {:.0?}", start.elapsed());

    let _down = Down(&site);
    site.done(&["roll", "db", "--yes"]);
    let fleet: Fleet = toml::from_str(&site.read("fleets/db.toml")).expect("a fleet");
    let local = Local::new(site.store(), "db", fleet.clone(), Qemu::new(site.store()));
    let client = Client {
        address: fleet.local().expect("of this computer").listen,
        password: local.secret().expect("a secret").password("app"),
    };
    let database = Database { site: &site, local, client, start };
    database.say("three members serve");
    database.until("a table", &mut || {
        database.client.ask("CREATE TABLE IF NOT EXISTS written (id bigint PRIMARY KEY)").is_ok()
    });
    // The planner has waited for it before the roll was done: no write is acknowledged that one member alone has.
    let strict = |record: &InstanceRecord| {
        let at = ([127, 0, 0, 1], record.health_port).into();
        let said = http::get(at, "/config", Duration::from_secs(5));
        said.is_ok_and(|said| said.body.contains("\"synchronous_mode_strict\": true"))
    };
    database.until("writes wait for a second member", &mut || database.members().iter().any(strict));
    let writer = Writer::start(&database.client);
    database.goes_on(&writer, "clients write");

    database.is_rotated_by_processes_that_are_killed(&writer);
    database.gets_over_chaos(&writer);
    database.comes_back_when_too_many_were_lost(&writer);

    let written = writer.stop();
    let rows = database.client.ask("SELECT id FROM written").expect("rows");
    let rows: BTreeSet<u64> = rows.lines().map(|id| id.parse().expect("a number")).collect();
    let lost: Vec<_> = written.difference(&rows).collect();
    database.say(&format!("{} writes were acknowledged", written.len()));
    assert!(lost.is_empty(), "acknowledged, and lost: {lost:?}");

    super::backup::counts_once_a_fresh_machine_has_answered(&site, place.path());
    database.say("a backup was taken and proved");
}

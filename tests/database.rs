//! Members that hold data, on this computer: what they are told, how clients follow the one that takes writes, and a real
//! cluster of `PostgreSQL` whose leader is killed.

mod backup;
mod cluster;
mod member;
mod writer;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rekiln::catalog::{Catalog, Verdict};
use rekiln::error::Result;
use rekiln::fleet::Fleet;
use rekiln::fleet::census::InstanceId;
use rekiln::fleet::generation::Target;
use rekiln::provider::local::{Haproxy, InstanceRecord, Local, Machines, Phase};
use rekiln::provider::{Action, Outcome, Provider as _};
use rekiln::store::Store;
use rekiln::vm::document::{Document, Secret, address};
use rekiln::vm::verdict::free_ports;
use rekiln::vm::{Boot, Extras, Spec};

use crate::fleet::stage::wait_until;
use crate::sbom::record;
use member::{Member, session};

const FLEET: &str = "image = 'db'\nsize = 3\n[local]\nport = 5432\nprotocol = 'tcp'\nleader = '/primary'\nnetwork = true\n\
    data = '8M'\nforward = [2379]\nlisten = '127.0.0.1:@'\nreplicas = '127.0.0.1:@'\n\
    [health]\nhttp = { port = 8008, path = '/health' }\nconsecutive = 2\n";

/// A fleet file with free ports.
fn fleet() -> Fleet {
    let ports = free_ports(2).expect("ports");
    let text = ports.iter().fold(FLEET.to_owned(), |text, port| text.replacen('@', &port.to_string(), 1));
    toml::from_str(&text).expect("a fleet")
}

fn store(dir: &Path) -> Store {
    Store::open(&dir.display().to_string()).expect("a store")
}

/// Ends a load balancer with its test.
struct Ends(Haproxy);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.stop();
    }
}

/// Machines that are never started, and run all the same.
struct Imagined;

impl Machines for Imagined {
    fn start(&self, _: &Spec) -> Result<()> {
        Ok(())
    }

    fn alive(&self, _: &Path) -> Result<bool> {
        Ok(true)
    }

    fn stop(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn kill(&self, _: &Path) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn members_are_told_who_they_are_and_who_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, fleet) = (store(dir.path()), fleet());
    let _ends = Ends(Haproxy::new(&store, "db"));
    let at = jiff::Timestamp::UNIX_EPOCH;
    let (reasons, open_ports, failed_units) = Default::default();
    let (accelerator, passed) = ("tcg".to_owned(), true);
    let verdict = Verdict {
        passed,
        reasons,
        open_ports,
        ready_s: None,
        serving_s: None,
        accelerator,
        failed_units,
        at,
    };
    let image = rekiln::catalog::Record { verdict: Some(verdict), ..record("db") };
    Catalog::new(store.clone()).save(&image).expect("saved");
    fs::write(store.image(image.id).join("cmdline"), "").expect("a command line");
    let generation = Target::new(&fleet, image.id).generation;
    let local = Local::new(store.clone(), "db", fleet, Imagined);
    assert!(local.secret().is_err(), "nobody has needed one");
    for number in 1..=3 {
        let (id, generation) = (InstanceId::new("db", number), generation.clone());
        let launched = local.apply(&Action::Launch { id, generation, zone: None, founds: false }).await;
        assert_eq!(launched.expect("launched"), Outcome::Applied);
    }
    let records = local.records().expect("records");
    let told = |record: &InstanceRecord| -> Document {
        let [document, secret] = &record.spec.extras.credentials[..] else { panic!("{:?}", record.spec) };
        assert_eq!((document.name.as_str(), secret.name.as_str()), ("rekiln.instance", "rekiln.secret"));
        for file in [&document.file, &secret.file] {
            let mode = fs::metadata(file).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", file.display());
        }
        serde_json::from_slice(&fs::read(&document.file).expect("read")).expect("a document")
    };
    let founder = told(&records[0]);
    assert!(founder.founds && founder.members.is_empty() && founder.fleet == "db");
    let last = told(&records[2]);
    assert!(!last.founds, "the others are there");
    assert_eq!((last.instance.as_str(), last.address), ("db-3", address(3)));
    let members: Vec<_> =
        last.members.iter().map(|member| (member.instance.as_str(), member.address)).collect();
    assert_eq!(members, [("db-1", Ipv4Addr::new(10, 77, 0, 2)), ("db-2", Ipv4Addr::new(10, 77, 0, 3))]);

    let groups: Vec<_> =
        records.iter().map(|record| record.spec.extras.segment.clone().expect("a card")).collect();
    assert!(groups[0].group == groups[1].group && groups[0].mac != groups[1].mac);
    let data = records[0].spec.extras.data.as_ref().expect("a disk");
    assert_eq!(fs::metadata(data).expect("there").len(), 8 << 20);
    let ports = [5432, 8008, 2379].map(|guest| records[0].host_port(guest).expect("forwarded"));
    assert_eq!((records[0].port, records[0].health_port), (ports[0], ports[1]));
    assert!(ports[2] != ports[0] && ports[2] != ports[1] && records[0].host_port(22).is_none());

    let secret = local.secret().expect("made at the first launch");
    let spoken = fs::read_to_string(store.local("db").join("secret")).expect("read");
    assert_eq!(secret, Secret::read(&store.local("db")).expect("read"));
    let text = serde_json::to_string(&records).expect("JSON");
    assert!(
        !text.contains(spoken.trim()) && !text.contains(&secret.password("rest")),
        "records are for all to read"
    );
    assert_eq!(local.down().expect("ended").len(), 3);
    assert!(local.secret().is_err(), "it ends with the fleet");
}

/// What is recorded of a member that the test plays.
fn played(store: &Store, fleet: &Fleet, number: u64, member: &Member) -> InstanceRecord {
    let (id, image) = (InstanceId::new("db", number), record("db").id);
    let spec = Spec {
        dir: store.local("db").join(&id.0),
        disk: "disk.raw".into(),
        boot: Boot::Uefi,
        memory_mib: 1,
        cpus: 1,
        forwards: Vec::new(),
        name: id.0.clone(),
        extras: Extras::default(),
    };
    InstanceRecord {
        version: 1,
        id,
        generation: Target::new(fleet, image).generation,
        image,
        root_hash: image,
        spec,
        port: member.port,
        health_port: member.health_port,
        launched_at: jiff::Timestamp::UNIX_EPOCH,
        phase: Phase::Serving,
        zone: None,
    }
}

#[test]
fn clients_follow_the_member_that_leads() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, fleet) = (store(dir.path()), fleet());
    let place = fleet.local().expect("of this computer");
    let (listen, replicas) = (place.listen, place.replicas.expect("readers"));
    let members: Vec<_> = (1..=3).map(|number| Member::start(&format!("db-{number}"))).collect();
    let mut records: Vec<_> =
        members.iter().zip(1..).map(|(member, number)| played(&store, &fleet, number, member)).collect();
    let balancer = Ends(Haproxy::new(&store, "db"));
    members[0].lead(true);
    // Those that served are there at the start of the load balancer; another one comes while it runs.
    let late = records.pop().expect("three");
    balancer.0.ensure(&fleet, &records).expect("started");
    let leads = |name: Option<&str>| {
        assert!(
            wait_until(|| balancer.0.leader().expect("it answers").as_deref() == name),
            "{name:?} is not who leads: {:?}",
            balancer.0.servers()
        );
    };
    leads(Some("db-1"));
    let waiting = InstanceRecord { phase: Phase::Waiting, ..late };
    records.push(waiting);
    balancer.0.ensure(&fleet, &records).expect("added");
    assert!(wait_until(|| balancer.0.servers().expect("they answer")["db-3"].healthy));
    assert!(!balancer.0.servers().expect("they answer")["db-3"].in_service, "it was not admitted");
    balancer.0.ready("db-3").expect("admitted");

    let mut writer = session(listen);
    assert_eq!(writer.name, "db-1");
    let read = |address: SocketAddr| {
        (0..6).map(|_| session(address).name).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(read(listen).len(), 1);
    assert!(wait_until(|| read(replicas).len() == 3), "readers come to all of them");
    assert!(balancer.0.servers().expect("they answer")["db-1"].connections > 0, "a writer counts");

    // Another one leads: whoever wrote to the old one is cut.
    members[0].lead(false);
    leads(None);
    assert!(writer.is_cut(), "it would write where nobody takes it");
    assert!(
        balancer.0.servers().expect("they answer").values().all(|server| server.healthy),
        "all of them are well"
    );
    members[2].lead(true);
    leads(Some("db-3"));
    let mut writer = session(listen);
    assert_eq!(writer.name, "db-3");

    // What drains takes nobody new, in either place, and keeps whom it has.
    balancer.0.drain("db-3").expect("drained");
    leads(None);
    assert!(wait_until(|| read(replicas).len() == 2));
    assert!(!writer.is_cut());
    balancer.0.remove("db-3").expect("removed");
    assert!(writer.is_cut());
    assert_eq!(balancer.0.servers().expect("they answer").len(), 2);

    // A fleet file without a leader: all are alike.
    records.pop();
    let mut alike = fleet.clone();
    alike.local.as_mut().expect("of this computer").leader = None;
    balancer.0.ensure(&alike, &records).expect("started anew");
    assert!(wait_until(|| read(listen).len() == 2));
    assert_eq!(balancer.0.leader().expect("it answers"), None);
}

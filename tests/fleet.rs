//! A fleet of stand-in machines behind a real `HAProxy`: what an operator counts on, with real processes.

mod chaos;
mod commands;
pub mod point;
mod second_terminal;
pub mod stage;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use rekiln::fleet::census::{Health, InstanceId, State};
use rekiln::fleet::generation::Generation;
use rekiln::fleet::history::Event;
use rekiln::provider::local::{Evidence, Machines as _, reap};
use rekiln::provider::{Action, Outcome, Provider as _};
use rekiln::vm::{Boot, Spec};
use rustix::process::Signal;

use point::{Point, When};
use stage::{Stage, StandIns, none_failed, said, signal, wait_until};

fn at(act: &str, when: When) -> Point {
    Point { act: act.to_owned(), when }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roll_and_a_rotation_lose_no_request() {
    let stage = Stage::new();
    stage.roll(stage.image("first")).await;
    let load = stage.load();
    let second = stage.image("second");
    stage.roll(second).await;
    let ids: Vec<_> = stage.local.records().expect("records").into_iter().map(|record| record.id).collect();
    let output = stage.start(second, &ids[..1], None).end();
    assert!(output.status.success(), "{}", said(&output));
    stage.assert_converged(second).await;
    let now: Vec<_> = stage.local.records().expect("records").into_iter().map(|record| record.id).collect();
    assert_eq!(now[..2], ids[1..], "one was replaced, and the one asked for");
    none_failed(load).await;
}

/// Each point on one fleet: killed there, rolled again, as Git asks, and nobody noticed.
async fn killed(when: When) {
    let stage = Stage::new();
    let mut image = stage.image("first");
    stage.roll(image).await;
    let load = stage.load();
    for act in ["launch", "admit", "drain", "terminate"] {
        image = stage.image(act);
        stage.roll_killed_at(image, &at(act, when));
        stage.roll(image).await;
    }
    none_failed(load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_an_act() {
    killed(When::Before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_amid_an_act() {
    killed(When::Amid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_an_act() {
    killed(When::After).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_first_roll_of_all() {
    let stage = Stage::new();
    let image = stage.image("first");
    stage.roll_killed_at(image, &at("launch", When::After));
    stage.roll_killed_at(image, &at("admit", When::Before));
    stage.roll(image).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_rolls_one_wins() {
    let stage = Stage::new();
    let image = stage.image("first");
    let (one, two) = (stage.start(image, &[], None), stage.start(image, &[], None));
    let (one, two) = (one.end(), two.end());
    let lost = if one.status.success() { &two } else { &one };
    let mut codes = [one.status.code(), two.status.code()];
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(4)], "{} {}", said(&one), said(&two));
    assert!(said(lost).contains("`rekiln roll web` (process ") && said(lost).contains("has the journal"));
    stage.assert_converged(image).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_killed_by_hand_is_replaced() {
    let stage = Stage::new();
    let image = stage.image("first");
    stage.roll(image).await;
    let load = stage.load();
    let dir = stage.store.local("web").join("web-2");
    signal(StandIns::pid(&dir).expect("it runs"), Signal::KILL);
    assert!(wait_until(|| StandIns::pid(&dir).is_none()));
    stage.roll(image).await;
    assert!(!dir.exists());
    none_failed(load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_image_goes_no_further_and_a_good_one_cures() {
    let mut stage = Stage::new();
    let first = stage.image("first");
    stage.roll(first).await;
    let load = stage.load();
    let patient = std::mem::replace(&mut stage.fleet.health.deadline, "2s".to_owned());
    let output = stage.try_roll(stage.image("bad"));
    stage.fleet.health.deadline = patient;
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("panic: the stand-in cannot boot"), "{}", said(&output));
    let journal = stage.journal().await;
    let failed: Vec<_> = journal
        .entries()
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Failed { instance, console, .. } => Some((instance.0.as_str(), console.join("\n"))),
            _ => None,
        })
        .collect();
    // One may fail; the second one ends it.
    let names: Vec<_> = failed.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["web-4", "web-5"]);
    assert!(failed.iter().all(|(_, console)| console.contains("cannot boot")), "{failed:?}");
    let census = stage.local.census().await.expect("a census");
    assert!(
        census.instances.len() == 3 && census.instances.iter().all(|i| i.serves() && i.image == Some(first))
    );
    stage.roll(stage.image("second")).await;
    none_failed(load).await;
    assert!(stage.store.local("web").join("failed/web-4.console.log").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_load_balancer_comes_back_as_it_was() {
    let stage = Stage::new();
    stage.roll(stage.image("first")).await;
    let second = stage.image("second");
    stage.roll_killed_at(second, &at("drain", When::After));
    let before = stage.local.records().expect("records");
    let [balancer] = stage.balancers()[..] else { panic!("one load balancer") };
    signal(balancer, Signal::KILL);
    assert!(wait_until(|| stage.balancers().is_empty()));
    let blind = stage.local.census().await.expect("a census");
    assert!(blind.instances.iter().all(|instance| !instance.serves()));
    stage.local.prepare().await.expect("it comes back");
    let census = stage.local.census().await.expect("a census");
    assert_eq!(census.instances.len(), before.len());
    for instance in &census.instances {
        assert_eq!(instance.in_service, instance.state == State::Running, "{instance:?}");
    }
    assert_eq!(census.instances.iter().filter(|instance| instance.state == State::Draining).count(), 1);
    assert_eq!(census.instances.iter().filter(|instance| instance.in_service).count(), 3);
    let load = stage.load();
    stage.roll(second).await;
    none_failed(load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn down_and_reap_leave_nothing() {
    let (stage, foreign) = (Stage::new(), Stage::new());
    foreign.roll(foreign.image("first")).await;
    let image = stage.image("first");
    stage.roll(image).await;
    let running = || StandIns::all().into_iter().map(|(_, dir)| dir).collect::<Vec<_>>();
    let reaped = || reap(&stage.store, &StandIns, &running(), &[]).expect("it reaps");
    assert_eq!(reaped(), Vec::<String>::new(), "everything is recorded");

    // A machine that no record claims.
    let dir = stage.store.local("web").join("web-99");
    fs::create_dir_all(&dir).expect("a directory");
    let port = rekiln::vm::verdict::free_ports(1).expect("a port")[0];
    let (kernel, initrd, cmdline) = ("k".into(), "i".into(), String::new());
    let spec = Spec {
        dir: dir.clone(),
        disk: stage.store.image(image).join("disk.raw"),
        boot: Boot::Direct { kernel, initrd, cmdline },
        memory_mib: 1,
        cpus: 1,
        forwards: vec![rekiln::vm::Forward { host: port, guest: 80 }],
        name: "web-99".to_owned(),
        extras: rekiln::vm::Extras::default(),
    };
    StandIns.start(&spec).expect("it starts");
    assert!(wait_until(|| StandIns::pid(&dir).is_some()));
    let rolling = reap(&stage.store, &StandIns, &running(), &["web".to_owned()]).expect("it reaps");
    assert_eq!(rolling, Vec::<String>::new(), "what is being launched has no record for a moment");
    assert_eq!(reaped().len(), 2, "the machine and its directory");
    stage.assert_converged(image).await;

    // A load balancer whose files someone removed, after its machines.
    stage.stand_ins().into_iter().for_each(|(pid, _)| signal(pid, Signal::KILL));
    // A killed process still is one for a moment, and would be reaped too.
    assert!(wait_until(|| stage.stand_ins().is_empty()));
    fs::remove_dir_all(stage.store.local("web")).expect("removed");
    assert_eq!(stage.balancers().len(), 1);
    assert_eq!(reaped().len(), 1);
    stage.local.down().expect("nothing is there, and that is no error");
    assert!(stage.balancers().is_empty() && stage.stand_ins().is_empty());
    assert!(!stage.store.local("web").exists());

    foreign.assert_converged(Stage::image(&foreign, "first")).await;
    let config = foreign.store.local("web").join("haproxy.json");
    let note: serde_json::Value = serde_json::from_slice(&fs::read(config).expect("a note")).expect("JSON");
    let socket = std::path::PathBuf::from(note["socket"].as_str().expect("a path"));
    assert!(socket.exists());
    foreign.local.down().expect("down");
    assert!(!socket.exists() && !socket.parent().expect("a directory").exists());
    assert!(foreign.balancers().is_empty() && foreign.stand_ins().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_cannot_be_rotated() {
    let stage = Stage::new();
    let image = stage.image("first");
    stage.roll(image).await;
    let output = stage.start(image, &[InstanceId("web-77".to_owned())], None).end();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("no instance web-77"), "{}", said(&output));
    let ids = stage.local.records().expect("records").len();
    assert_eq!(ids, 3);
    assert!(stage.journal().await.refuse_rival(jiff::Timestamp::now()).is_ok());
}

/// As after a change of the fleet file, when a roll goes back to what was before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_what_its_generation_says_and_not_what_the_file_says_today() {
    let stage = Stage::new();
    let image = stage.image("first");
    let mut before = stage.fleet.clone();
    let local = before.local.as_mut().expect("it is local");
    (local.memory, local.cpus) = ("96M".to_owned(), 3);
    let generation = Generation::of(&before, image);
    let id = InstanceId("web-1".to_owned());
    let launch = Action::Launch { id, generation: generation.clone(), zone: None, founds: false };
    let outcome = stage.local.apply(&launch).await.expect("it launches");
    assert_eq!(outcome, Outcome::Applied);
    let record = stage.local.records().expect("records").pop().expect("one");
    assert_eq!((record.generation, record.spec.memory_mib, record.spec.cpus), (generation, 96, 3));
    stage.local.down().expect("down");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantined_instance_leaves_evidence() {
    let stage = Stage::new();
    let image = stage.image("first");
    stage.roll(image).await;
    let instance = InstanceId("web-1".to_owned());
    let (reason, at) = ("a session".to_owned(), jiff::Timestamp::now());
    let wanted = Evidence { instance: instance.clone(), reason, at };
    let dir = stage.local.keep_evidence(&wanted).expect("it runs");
    assert!(!dir.exists(), "it still runs");
    let output = stage.start(image, &[instance], None).end();
    assert!(output.status.success(), "{}", said(&output));
    stage.assert_converged(image).await;
    assert!(
        fs::read_to_string(dir.join("console.log")).expect("its console").contains("the stand-in serves")
    );
    assert!(dir.join("instance.json").exists() && dir.join("evidence.json").exists());
    assert!(stage.local.keep_evidence(&wanted).is_err(), "it has ended");
    assert_eq!(reap(&stage.store, &StandIns, &[], &[]).expect("it reaps"), Vec::<String>::new());
    assert!(dir.exists());
}

/// Sends a slow request, kills the machine that has it, and returns the answer's first line.
fn killed_in_flight(stage: &Stage, method: &str) -> String {
    let listen = stage.fleet.local().expect("it is local").listen;
    let request =
        format!("{method} /slow HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let asked = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(listen).expect("a connection");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer.lines().next().unwrap_or_default().to_owned()
    });
    let who = || slow(stage, method).first().cloned();
    assert!(wait_until(|| who().is_some()));
    let dir = stage.store.local("web").join(who().expect("it was written down"));
    signal(StandIns::pid(&dir).expect("it runs"), Signal::KILL);
    asked.join().expect("it was answered")
}

/// Returns the machines that got slow requests of a method.
fn slow(stage: &Stage, method: &str) -> Vec<String> {
    let list = fs::read_to_string(stage.store.root().join("slow")).unwrap_or_default();
    list.lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(found, _)| *found == method)
        .map(|(_, name)| name.to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_requests_without_effects_are_tried_again() {
    let stage = Stage::new();
    stage.roll(stage.image("first")).await;
    assert!(!killed_in_flight(&stage, "POST").contains("200"));
    assert_eq!(slow(&stage, "POST").len(), 1);
    assert!(killed_in_flight(&stage, "GET").contains("200"));
    assert_eq!(slow(&stage, "GET").len(), 2);
}

/// A process was killed while it started a machine, and the next one starts it anew, on other ports.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_started_anew_is_found_where_it_is_now() {
    let stage = Stage::new();
    let image = stage.image("first");
    stage.roll(image).await;
    let id = InstanceId::new("web", 4);
    let generation = Generation::of(&stage.fleet, image);
    let launch = Action::Launch { id: id.clone(), generation, zone: None, founds: false };
    assert_eq!(stage.local.apply(&launch).await.expect("an answer"), Outcome::Applied);
    let port = || {
        let records = stage.local.records().expect("records");
        records.into_iter().find(|record| record.id == id).expect("its record").port
    };
    let before = port();
    StandIns.stop(&stage.store.local("web").join(&id.0)).expect("it ends");
    assert_eq!(stage.local.apply(&launch).await.expect("an answer"), Outcome::Applied);
    assert_ne!(port(), before);
    let runtime = tokio::runtime::Handle::current();
    let healthy = || {
        let census = tokio::task::block_in_place(|| runtime.block_on(stage.local.census()));
        let found = census.expect("a census").instances.into_iter().find(|instance| instance.id == id);
        found.is_some_and(|instance| instance.health == Health::Healthy)
    };
    assert!(wait_until(healthy), "the load balancer looks for it elsewhere");
}

/// What a process had begun before it lost the journal, and does after another one has ended it.
#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_comes_too_late_makes_nothing() {
    let stage = Stage::new();
    let image = stage.image("first");
    stage.roll(image).await;
    let generation = Generation::of(&stage.fleet, image);
    let (never, ended) = (InstanceId::new("web", 9), InstanceId::new("web", 1));
    let drain = Action::Drain { id: ended.clone(), others: 2 };
    assert_eq!(stage.local.apply(&drain).await.expect("an answer"), Outcome::Applied);
    for (id, outcome) in [(&never, Outcome::AlreadyDone), (&ended, Outcome::Applied)] {
        let end = Action::Terminate { id: id.clone(), healthy: true, reason: "a test".to_owned() };
        assert_eq!(stage.local.apply(&end).await.expect("an answer"), outcome);
    }
    // The names stay given up when everything that nobody needs is removed.
    let removed = reap(&stage.store, &StandIns, &[], &[]).expect("a reaped store");
    assert_eq!(removed, Vec::<String>::new());
    for id in [never, ended] {
        let late = Action::Launch { id, generation: generation.clone(), zone: None, founds: false };
        let outcome = stage.local.apply(&late).await.expect("an answer");
        assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
    }
    assert_eq!(stage.stand_ins().len(), 2, "nothing was started");
    stage.roll(image).await;
}

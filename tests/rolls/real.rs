//! The whole way: images that are really baked, published through the EBS direct APIs, and launched by a group whose
//! instances are virtual machines that boot what lies in the snapshots, with their addresses in 127.10.0.0/16.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{scope, sleep, spawn};
use std::time::{Duration, Instant};

use rekiln::digest::Digest;
use rekiln::vm::accel::{self, Accelerator};
use rekiln::vm::http;
use rekiln::vm::machine::Machine;
use rekiln::vm::verdict::free_ports;
use rekiln::vm::{Boot, Forward, Spec};
use serde_json::{Value, json};

use super::stage::{Ami, Group, NAME, Setup, instance, members, network, repository, target_group};
use crate::bake::{Site, baked, ground, scratch, turn};
use crate::publish::cloud::LOOK;
use crate::publish::stage::{Image, REGION, Stage};

/// Where the images listen.
const PORT: u16 = 80;
/// The beginning of the group's addresses: all of 127/8 is this machine.
const NET: &str = "127.10";
/// What the page of the new image says; the recipe's own test wants a `hello`.
const NEW: &str = "hello, this is the page that was asked for";
/// How long a client waits for an answer: a machine that is translated instruction by instruction, beside others that boot.
const ANSWER: Duration = Duration::from_secs(20);

/// An instance that runs.
struct Running {
    dir: PathBuf,
    /// Ends the relay of its address.
    over: Arc<AtomicBool>,
}

/// What EC2 has for launching instances: it boots what the endpoint says that there is, and ends what it says is no more.
struct Hypervisor<'a> {
    stage: &'a Stage,
    dir: &'a Path,
    accelerator: Accelerator,
    running: BTreeMap<String, Running>,
}

impl Hypervisor<'_> {
    fn work(&mut self) {
        let state = self.stage.cloud.state();
        // The endpoint asks its targets when somebody wants to know.
        for group in state["target_groups"].as_array().expect("a list") {
            let arn = group["arn"].as_str().expect("an ARN");
            self.stage.cloud.elb(REGION, &format!("Action=DescribeTargetHealth&TargetGroupArn={arn}"));
        }
        for instance in state["instances"].as_array().expect("a list") {
            let id = instance["id"].as_str().expect("an id");
            let lives = matches!(instance["state"].as_str(), Some("pending" | "running"));
            match (lives, self.running.contains_key(id)) {
                (true, false) => self.launch(&state, instance),
                (false, true) => self.end(id),
                _ => {}
            }
        }
    }

    fn launch(&mut self, state: &Value, instance: &Value) {
        let text = |name: &str| instance[name].as_str().unwrap_or_else(|| panic!("no {name}: {instance}"));
        let address: IpAddr = text("private_ip").parse().expect("an address");
        let [host] = free_ports(1).expect("a port")[..] else { panic!("one port") };
        let spec = Spec {
            dir: self.dir.join(text("id")),
            disk: self.disk(state, text("image")),
            boot: Boot::Uefi,
            memory_mib: 256,
            cpus: 1,
            forwards: vec![Forward { host, guest: PORT }],
            name: text("id").to_owned(),
            extras: rekiln::vm::Extras::default(),
        };
        fs::create_dir_all(&spec.dir).expect("made");
        spec.start(self.accelerator).expect("a machine");
        let over: Arc<AtomicBool> = Arc::default();
        relay(SocketAddr::new(address, PORT), host, Arc::clone(&over));
        self.running.insert(text("id").to_owned(), Running { dir: spec.dir, over });
    }

    /// The bytes of an AMI's snapshot, as EC2 reads them: from nowhere else.
    fn disk(&self, state: &Value, ami: &str) -> PathBuf {
        let disk = self.dir.join(format!("{ami}.raw"));
        if !disk.exists() {
            let mut images = state["images"].as_array().expect("a list").iter();
            let image = images.find(|image| image["id"] == ami).expect("the AMI");
            let snapshot = image["snapshots"][0].as_str().expect("a snapshot");
            let file = File::create(&disk).expect("made");
            self.stage.cloud.read_snapshot(REGION, snapshot, &file);
        }
        disk
    }

    fn end(&mut self, id: &str) {
        if let Some(Running { dir, over }) = self.running.remove(id) {
            over.store(true, Ordering::Relaxed);
            if let Some(machine) = Machine::find(&dir).expect("a look") {
                machine.stop().expect("ended");
            }
        }
    }
}

impl Drop for Hypervisor<'_> {
    fn drop(&mut self) {
        for id in self.running.keys().cloned().collect::<Vec<_>>() {
            self.end(&id);
        }
    }
}

/// Hands what comes to an address on to a port of 127.0.0.1, where the machine is, until it is over.
pub fn relay(address: SocketAddr, host: u16, over: Arc<AtomicBool>) {
    let listener = TcpListener::bind(address).expect("an address of this machine");
    listener.set_nonblocking(true).expect("set");
    spawn(move || {
        while !over.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((client, _)) => drop(spawn(move || pass(&client, host))),
                Err(_) => sleep(Duration::from_millis(5)),
            }
        }
    });
}

fn pass(client: &TcpStream, host: u16) -> io::Result<()> {
    client.set_nonblocking(false)?;
    let server = TcpStream::connect(("127.0.0.1", host))?;
    let (from, to) = (client.try_clone()?, server.try_clone()?);
    spawn(move || {
        let _ = io::copy(&mut &from, &mut &to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    io::copy(&mut &server, &mut &*client)?;
    client.shutdown(std::net::Shutdown::Both)
}

/// What a client of the load balancer has seen.
#[derive(Default)]
struct Client {
    answered: AtomicU64,
    /// Each request that was not answered well: whom it was for, what came of it after how long, and what the endpoint
    /// then had to say of its target.
    failed: Mutex<Vec<String>>,
}

impl Client {
    /// Asks every target that gets requests, as a load balancer would.
    fn ask_all(&self, stage: &Stage) {
        for id in healthy(&stage.cloud.state()) {
            // What it was a moment ago does not count: others were asked meanwhile.
            let world = stage.cloud.state();
            if healthy(&world).contains(&id) {
                let asked = Instant::now();
                match http::get(SocketAddr::new(address(&world, &id), PORT), "/", ANSWER) {
                    Ok(answer) if answer.status == 200 => {
                        self.answered.fetch_add(1, Ordering::Relaxed);
                    }
                    bad => {
                        let (took, now) =
                            (asked.elapsed(), &stage.cloud.state()["target_groups"][0]["targets"][&id]);
                        let failure = format!("{id}: {bad:?} after {took:?}; its target is now {now}");
                        self.failed.lock().expect("no panic").push(failure);
                    }
                }
            }
        }
    }
}

/// The instances that get requests.
fn healthy(state: &Value) -> Vec<String> {
    let groups = state["target_groups"].as_array().expect("a list").iter();
    let targets = groups.flat_map(|group| group["targets"].as_object().expect("targets"));
    targets.filter(|(_, target)| target["state"] == "healthy").map(|(id, _)| id.clone()).collect()
}

fn address(state: &Value, id: &str) -> IpAddr {
    let mut instances = state["instances"].as_array().expect("a list").iter();
    let instance = instances.find(|one| one["id"] == id).expect("the instance");
    instance["private_ip"].as_str().expect("text").parse().expect("an address")
}

/// Bakes what the page says now, and has the image in the stage's store too.
fn bake(site: &Site, stage: &Stage) -> Image {
    let line = baked(&site.command(&["bake", "--json", "web"]).output().expect("rekiln runs"));
    let (from, to) = (site.store().image(line.id), stage.store().image(line.id));
    let copied = Command::new("cp").arg("-a").args([from, to]).status().expect("cp runs");
    assert!(copied.success());
    Image { id: line.id, sha256: Digest::of_file(&line.disk).expect("read"), blocks: BTreeMap::new() }
}

fn publish(stage: &Stage, image: Image) -> Ami {
    let id = stage.publish(&image)[0]["ami"].as_str().expect("an id").to_owned();
    Ami { image, id }
}

#[test]
fn from_a_recipe_to_machines_that_serve_it() {
    let _turn = turn();
    let place = scratch();
    let site = ground().warm(place.path());
    let kernel = site.store().image(ground().web.id).join("kernel");
    let accelerator = accel::probe(&site.store(), &kernel).expect("probed").accelerator;
    let stage = Stage::new();
    stage.cloud.looks(0);
    repository(&stage, &site.repo);
    let old = bake(&site, &stage);
    // One commit later.
    let page = "bootstrap/web/index.html.hbs";
    site.write(page, NEW);
    fs::write(stage.repo().join(page), NEW).expect("written");
    let new = bake(&site, &stage);
    let (over, asked_enough) = (AtomicBool::new(false), AtomicBool::new(false));
    let client = Client::default();
    scope(|scope| {
        // Whatever happens, the threads end, and the machines with them.
        let _end = End(&over);
        scope.spawn(|| {
            let mut hypervisor =
                Hypervisor { stage: &stage, dir: place.path(), accelerator, running: BTreeMap::new() };
            while !over.load(Ordering::Relaxed) {
                hypervisor.work();
                sleep(LOOK);
            }
        });
        let setup = Setup { size: 2, zones: 2, surge: 1, deadline: "240s", ..Setup::default() };
        let (old, wanted) = (publish(&stage, old), publish(&stage, new));
        let (subnets, vpc) = network(&stage, &setup, &old.id, NET);
        let targets = target_group(&stage, 0, &vpc, 5);
        stage
            .cloud
            .control("target_groups", &json!({ "target_group": targets, "in_use": true, "probe": true }));
        let mut group = Group { stage: &stage, setup, old, wanted, subnets, before: Value::Null, from: 0 };
        group.make(
            NAME,
            &format!(
                "MinSize=0&MaxSize=4&DesiredCapacity=2&LaunchTemplate.LaunchTemplateName=web&\
                 LaunchTemplate.Version=1&TargetGroupARNs.member.1={targets}"
            ),
        );
        group.file(NAME, "");
        group.before = group.settled();
        group.from = stage.cloud.log(0).len();
        stage.cloud.forget_calls();

        let (over, asked_enough) = (&over, &asked_enough);
        let asking = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) && !asked_enough.load(Ordering::Relaxed) {
                client.ask_all(&stage);
            }
        });
        let fleet = fs::read_to_string(stage.repo().join("fleets/web.toml")).expect("a file");
        let fleet = fleet.replace("[health]\n", "[health]\nhttp = { port = 80, path = \"/\" }\n");
        fs::write(stage.repo().join("fleets/web.toml"), fleet).expect("written");
        group.run(&["roll", NAME]).must(0);
        group.judge(&group.wanted.id);
        let world = stage.cloud.state();
        for member in members(&group.state()) {
            let address = address(&world, &instance(member));
            assert!(address.is_loopback(), "{address}");
            let answer = http::get(SocketAddr::new(address, PORT), "/", ANSWER).expect("an answer");
            assert!(answer.body.contains(NEW), "{}", answer.body);
        }
        // The machines go with the hypervisor: nobody asks them then.
        asked_enough.store(true, Ordering::Relaxed);
        asking.join().expect("it asked");
    });
    let (answered, failed) = (client.answered.into_inner(), client.failed.into_inner().expect("no panic"));
    eprintln!("{answered} requests were answered, and {} failed", failed.len());
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(answered > 0);
}

/// Says that it is over when it goes.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

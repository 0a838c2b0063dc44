//! The whole way: the vendor's AMI is launched as a virtual machine of this computer with an address of the loopback, is
//! changed over SSH, seals itself, becomes an AMI by `CreateImage`, is read back through EBS direct, and is published.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use rekiln::catalog::{Firmware, Origin, Record};
use rekiln::vm::accel::Accelerator;
use rekiln::vm::builder::{Builder, Spec, Told};
use rekiln::vm::verdict::free_ports;
use serde_json::{Value, json};

use super::launched::decoded;
use super::site::{ACCOUNT, Site, VENDOR};
use crate::bake::{succeeded, turn};
use crate::derive::{found, scratch};
use crate::publish::stage::{Image, OTHER_REGION, REGION, Stage, verdict};
use crate::rolls::real::relay;

/// Between two looks at what the endpoint wants.
const LOOK: Duration = Duration::from_millis(500);

/// What EC2 has for running one instance after the other.
struct Hypervisor<'a> {
    stage: &'a Stage,
    dir: &'a Path,
    running: BTreeMap<String, Running>,
}

struct Running {
    machine: Builder,
    over: Arc<AtomicBool>,
}

impl Hypervisor<'_> {
    fn work(&mut self) {
        let state = self.stage.cloud.state();
        for instance in state["instances"].as_array().expect("a list") {
            let id = instance["id"].as_str().expect("an id");
            let lives = matches!(instance["state"].as_str(), Some("pending" | "running"));
            if lives && !self.running.contains_key(id) {
                self.launch(&state, instance);
            }
            let Some(running) = self.running.get_mut(id) else { continue };
            let text = running.machine.console();
            // What AWS keeps of it.
            let kept = text.char_indices().rev().nth(64 << 10).map_or(0, |(at, _)| at);
            self.stage.cloud.control("console", &json!({ "instance": id, "text": &text[kept..] }));
            if lives && running.machine.must_run().is_err() {
                self.stage.cloud.control("off", &json!({ "instance": id }));
            }
            if !lives {
                // Its end, if it did not switch itself off.
                if let Some(Running { machine, over }) = self.running.remove(id) {
                    over.store(true, Ordering::Relaxed);
                    drop(machine);
                }
            }
        }
    }

    fn launch(&mut self, state: &Value, instance: &Value) {
        let text = |name: &str| instance[name].as_str().unwrap_or_else(|| panic!("no {name}: {instance}"));
        let (id, address): (&str, IpAddr) = (text("id"), text("private_ip").parse().expect("an address"));
        let disk = self.dir.join(format!("{id}.raw"));
        let file = File::create(&disk).expect("made");
        let mut images = state["images"].as_array().expect("a list").iter();
        let image = images.find(|image| image["id"] == text("image")).expect("the AMI");
        let snapshot = image["snapshots"][0].as_str().expect("a snapshot");
        self.stage.cloud.read_snapshot(REGION, snapshot, &file);
        file.set_len(instance["volumes"][0]["gib"].as_u64().expect("GiB") << 30).expect("grown");
        self.stage.cloud.control("disk", &json!({ "instance": id, "path": disk }));
        let [port] = free_ports(1).expect("a port")[..] else { panic!("one port") };
        let dir = self.dir.join(id);
        fs::create_dir_all(&dir).expect("made");
        let seed = self.seed(id, &decoded(text("user_data")));
        let firmware = Firmware::Bios;
        let spec = Spec {
            dir: &dir,
            disk: &disk,
            firmware,
            discards: false,
            told: Told::Seed(seed),
            direct: None,
            port,
            name: id,
        };
        let machine = spec.start(Accelerator::Tcg).expect("a machine");
        let over: Arc<AtomicBool> = Arc::default();
        relay(SocketAddr::new(address, 22), port, Arc::clone(&over));
        self.running.insert(id.to_owned(), Running { machine, over });
    }

    /// What the metadata service has for cloud-init elsewhere.
    fn seed(&self, id: &str, user_data: &str) -> OwnedFd {
        let dir = self.dir.join(format!("{id}-seed"));
        fs::create_dir_all(&dir).expect("made");
        let seed = dir.join("seed.img");
        fs::write(dir.join("user-data"), user_data).expect("written");
        fs::write(dir.join("meta-data"), format!("instance-id: {id}\nlocal-hostname: localhost\n"))
            .expect("written");
        let mut make = Command::new("mkfs.vfat");
        succeeded(
            &make.args(["-C", "-n", "CIDATA"]).arg(&seed).arg("1024").output().expect("mkfs.vfat runs"),
        );
        for name in ["user-data", "meta-data"] {
            let mut copy = Command::new("mcopy");
            copy.arg("-i").arg(&seed).arg(dir.join(name)).arg(format!("::{name}"));
            succeeded(&copy.output().expect("mcopy runs"));
        }
        File::open(&seed).expect("opened").into()
    }
}

/// Ends a thread, whatever happens to the test.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a command while instances run as machines.
fn beside_machines<T>(stage: &Stage, dir: &Path, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    scope(|scope| {
        let _end = End(&over);
        scope.spawn(|| {
            let mut hypervisor = Hypervisor { stage, dir, running: BTreeMap::new() };
            while !over.load(Ordering::Relaxed) {
                hypervisor.work();
                sleep(LOOK);
            }
        });
        work()
    })
}

fn record(stage: &Stage) -> (Image, Record) {
    let id = stage.run(&["id", "vendor"]).must(0).stdout;
    let id: rekiln::digest::ImageId =
        id.split('"').find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("no id: {id}"));
    let record = rekiln::catalog::Catalog::new(stage.store()).load(id).expect("a record");
    (Image { id, sha256: record.disk.sha256, blocks: BTreeMap::new() }, record)
}

/// What the recipe's script writes.
const WORDS: &str = "these words were baked on an instance";

/// The key itself, without its kind and its comment.
fn key_of(line: &str) -> &str {
    line.split(' ').nth(1).expect("a key")
}

#[test]
fn from_a_vendors_ami_to_ones_own_in_two_regions() {
    let place = scratch();
    // Made by the whole bake of a disk: its first boot takes seconds, and what is special of EC2 is all there.
    let raw = crate::derive::quick_disk();
    // Beside other machines, this one would only be slower, and make them late.
    let turn = turn();
    let site = Site::of(Stage::new(), "127.41", raw);
    let stage = &site.stage;
    let key = format!("arn:aws:kms:{REGION}:{ACCOUNT}:key/11111111-2222-4333-8444-555555555555");
    let publish = format!(
        "[[run]]\nscript = \"vendor.sh.hbs\"\n\
         [harden]\nallow = [{{ rule = \"kernel-cmdline\", path = \"init\", why = \"the quick disk's own\" }}]\n\
         [publish]\nregions = [\"{REGION}\", \"{OTHER_REGION}\"]\n\
         accounts = [\"210987654321\"]\ntags = {{ team = \"edge\" }}\nkms = {{ {REGION} = \"{key}\" }}\n"
    );
    fs::write(
        stage.repo().join("bootstrap/vendor.sh.hbs"),
        "#!/bin/sh\nset -eu\necho 'these words were baked on an instance' > /opt/baked\n",
    )
    .expect("written");
    site.recipe("spot = true\nencrypt = true\nsize = \"3G\"\nssh_timeout = \"30m\"\n", &publish);
    let baked = beside_machines(stage, place.path(), || {
        let output = stage.command(&["bake", "--no-boot", "vendor"]).output().expect("rekiln runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        said
    });
    drop(turn);
    for words in ["launching an instance", "making the AMI", "ending the instance", "read"] {
        assert!(baked.contains(words), "{words}: {baked}");
    }
    // The record, and what is in EC2.
    let (image, recorded) = record(stage);
    let derived = recorded.derived.as_ref().expect("it is derived");
    let Origin::Ami { ami, owner, made, .. } = &derived.origin else { panic!("{:?}", derived.origin) };
    assert_eq!((ami, owner.as_str()), (&site.ami, VENDOR));
    assert!(recorded.findings.iter().all(|finding| finding.excepted.is_some()), "{:?}", recorded.findings);
    assert!(!recorded.packages.contains_key("openssh-server") && recorded.packages.contains_key("systemd"));
    let world = stage.cloud.state();
    assert_eq!(world["instances"][0]["state"], "terminated");
    let groups = world["security_groups"].as_array().expect("a list");
    assert!(groups.iter().all(|group| group["name"] == "web"), "{groups:?}");
    assert!(!site.ledger().exists());
    let find = |kind: &str, id: &str| -> Value {
        let mut all = world[kind].as_array().expect("a list").iter();
        all.find(|one| one["id"] == id).cloned().unwrap_or_else(|| panic!("no {id}"))
    };
    let own = find("images", made);
    assert_eq!(own["name"], format!("rekiln/vendor/{}", &image.id.to_string()[..16]));
    assert_eq!(own["imds"], "v2.0");
    for (tag, value) in [
        ("rekiln:image", image.id.to_string()),
        ("rekiln:disk", image.sha256.to_string()),
        ("team", "edge".to_owned()),
    ] {
        assert_eq!(own["tags"][tag], value, "{own}");
    }
    assert!(own["tags"].get("rekiln:expires").is_none());
    let snapshot = own["snapshots"][0].as_str().expect("a snapshot");
    assert_eq!(find("snapshots", snapshot)["kms_key"], key.as_str());
    // What is in the catalog is what is in the snapshot, and no rule complains of it there either.
    let copy = place.path().join("copy.raw");
    let file = File::create(&copy).expect("made");
    file.set_len(3 << 30).expect("grown");
    stage.cloud.read_snapshot(REGION, snapshot, &file);
    assert_eq!(rekiln::digest::Digest::of_file(&copy).expect("read"), image.sha256);
    stage.run(&["inspect", made, "--region", REGION]).must(0);
    // Nor are the keys of the bake anywhere on it, though an EBS volume takes back no space: what it had of a removed file
    // is written over. The script's words are there: what is looked for is found.
    let told = decoded(world["instances"][0]["user_data"].as_str().expect("text"));
    let told: Value = serde_json::from_str(told.trim_start_matches("#cloud-config\n")).expect("JSON");
    let client = told["users"][0]["ssh_authorized_keys"][0].as_str().expect("a key");
    let host = told["ssh_keys"]["ed25519_public"].as_str().expect("a key");
    // What every private key without a passphrase begins with, in the lines of OpenSSH's format.
    let private = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU";
    assert_eq!(found(&copy, &[key_of(client), key_of(host), private, WORDS]), [WORDS]);

    // Published: the AMI there is the one that was made, and another region gets the same bytes.
    stage.change_record(&image, |record| record.verdict = Some(verdict(true)));
    stage.cloud.forget_calls();
    let events = stage.publish(&image);
    assert_eq!(events.len(), 2, "{events:?}");
    let of = |region: &str| events.iter().find(|event| event["region"] == region).expect("the region");
    assert_eq!(of(REGION)["ami"], made.as_str());
    assert_eq!(of(REGION)["sent"], 0);
    assert!(of(OTHER_REGION)["sent"].as_u64().expect("a number") > 0);
    let shared = stage.cloud.state();
    let shared = shared["images"].as_array().expect("a list").iter().find(|one| one["id"] == made.as_str());
    assert_eq!(shared.expect("the AMI")["launch_permissions"], json!([{ "UserId": "210987654321" }]));

    // Another computer, or the same one after its store was lost, finds it and launches nothing.
    stage.forget_store();
    stage.cloud.forget_calls();
    let again = site.bake().must(0);
    assert!(again.stderr.contains("is this image already"), "{}", again.stderr);
    assert!(!stage.cloud.changes().contains(&"RunInstances".to_owned()));
    assert_eq!(record(stage).0.sha256, image.sha256);
}

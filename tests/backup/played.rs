//! A fleet of this computer whose one member is played, over a real database: it answers as Patroni does, behind a real HAProxy.
//! The machine that a backup is restored into is played too: it fetches, unpacks and checks as the image does, by the image's own
//! program, and then says that its database takes writes. So `rekiln backup` runs as a person runs it, without a machine.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rekiln::digest::Digest;
use rekiln::fleet::Fleet;
use rekiln::fleet::census::InstanceId;
use rekiln::fleet::generation::Target;
use rekiln::provider::local::{Haproxy, InstanceRecord, Phase};
use rekiln::vm::document::Secret;
use rekiln::vm::verdict::free_ports;
use rekiln::vm::{Boot, Extras, Spec};
use serde_json::Value;

use super::server::{self, Server};
use crate::publish::stage::{Ended, REGION, Stage, Started, ended};

/// The bucket, and where in it.
pub const BUCKET: &str = "backups";
pub const URL: &str = "s3://backups/prod";

/// Longer than anything here takes on a busy computer; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_mins(2);

/// Answers as the REST API of Patroni, alone and leading; a sick one passes no health check.
const MEMBER: &str = r#"
import http.server, json, sys
CLUSTER = {"members": [{"name": "db-1", "role": "leader", "state": "running"}]}
class Patroni(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        sick = sys.argv[2] == "sick" and self.path == "/health"
        self.send_response(503 if sick else 200)
        self.end_headers()
        self.wfile.write(json.dumps(CLUSTER if self.path == "/cluster" else {}).encode())
    def log_message(self, *_):
        pass
# Who checks health does not wait for all of the answer.
http.server.ThreadingHTTPServer.handle_error = lambda *_: None
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Patroni).serve_forever()
"#;

/// What is called instead of QEMU.
const MACHINE: &str = r#"#!/usr/bin/env python3
import http.server, importlib.util, json, os, re, signal, sys
text = "\n".join(sys.argv[1:])
if text == "--version":
    print("QEMU that is played")
    sys.exit()
told = re.search(r"rekiln\.instance,file=(.+)", text)
if not told:
    sys.exit("nothing is restored: somebody tries whether machines are fast here")
restore = json.load(open(told[1]))["restore"]
folder = os.path.dirname(re.search(r"-pidfile\n(.+)", text)[1])
at = re.search(r"id=fetch,host=([^,]+),port=(\d+)", text)
url = restore["url"].replace("10.0.2.100", "%s:%s" % at.groups())
spec = importlib.util.spec_from_file_location("member", os.path.join(os.path.dirname(os.path.abspath(__file__)), "member.py"))
member = importlib.util.module_from_spec(spec)
spec.loader.exec_module(member)
os.mkdir(folder + "/restored", 0o700)
why = member.fetch({"url": url, "sha256": restore["sha256"]}, folder + "/restored")
if why:
    with open(folder + "/console.log", "a") as console:
        console.write("rekiln-restore: refused: %s\n" % why)
    signal.pause()
class Patroni(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
# The second one is where its health is asked.
port = int(re.findall(r"hostfwd=tcp:127\.0\.0\.1:(\d+)-:\d+", text)[1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Patroni).serve_forever()
"#;

/// What asks the restored database: what it answers is tried with real machines.
const PSQL: &str = "#!/bin/sh\ncat >/dev/null\necho 7\n";

/// How the member is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Is {
    Well,
    Sick,
}

/// The computer.
pub struct Played {
    pub stage: Stage,
    pub server: Server,
    /// The password of the role `backup`.
    pub password: String,
    /// What counts as the machine, and what answers for it.
    processes: [Child; 2],
    balancer: Haproxy,
    _dir: tempfile::TempDir,
}

impl Played {
    pub fn new(is: Is) -> Self {
        let stage = Stage::new();
        stage.cloud.bucket(REGION, BUCKET);
        fs::remove_file(stage.repo().join("fleets/web.toml")).expect("removed");
        let recipe = stage.repo().join("images/web.toml");
        let text = fs::read_to_string(&recipe).expect("a recipe");
        assert!(text.contains("\"80/tcp\""), "{text}");
        fs::write(&recipe, text.replacen("\"80/tcp\"", "\"5432/tcp\", \"8008/tcp\"", 1)).expect("written");
        let ports = free_ports(2).expect("ports");
        fleet(&stage, ports[0], &format!("{URL}?region={REGION}"));
        programs(&stage.path("bin"));
        let image = stage.usual_image().id;
        bootable(&stage.store().image(image));
        let dir = server::directory();
        let server = Server::new(&dir.path().join("data"));
        let local = stage.store().local("db");
        let password = Secret::of(&local).expect("a secret").password("backup");
        server.ask(&format!("ALTER ROLE backup PASSWORD '{password}'"));
        let record = record(&stage, image, server.port, ports[1]);
        let mut machine = Command::new("/bin/sh");
        machine.arg0("qemu-system-x86_64").args(["-c", "read line", "-pidfile"]);
        machine.arg(record.spec.dir.join("qemu.pid"));
        let mut member = Command::new("python3");
        member.args(["-c", MEMBER, &ports[1].to_string(), if is == Is::Well { "well" } else { "sick" }]);
        let processes = [machine.stdin(Stdio::piped()), member.stdin(Stdio::null())];
        let processes = processes.map(|process| process.spawn().expect("it starts"));
        let balancer = Haproxy::new(&stage.store(), "db");
        let played = Self { stage, server, password, processes, balancer, _dir: dir };
        played.balancer.ensure(&played.fleet(), &[record]).expect("HAProxy runs");
        let begun = Instant::now();
        while played.seen_well() != (is == Is::Well) {
            assert!(begun.elapsed() < PATIENCE, "HAProxy never sees its member");
            std::thread::sleep(Duration::from_millis(50));
        }
        played
    }

    fn seen_well(&self) -> bool {
        self.balancer.servers().expect("HAProxy answers").get("db-1").is_some_and(|server| server.healthy)
    }

    fn file(&self) -> PathBuf {
        self.stage.repo().join("fleets/db.toml")
    }

    fn fleet(&self) -> Fleet {
        toml::from_str(&fs::read_to_string(self.file()).expect("a file")).expect("a fleet")
    }

    /// Changes the fleet's file.
    pub fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.file()).expect("a file");
        assert!(text.contains(from), "{from}: {text}");
        fs::write(self.file(), text.replacen(from, to, 1)).expect("written");
    }

    /// What commands here find their programs by.
    pub fn path(&self) -> String {
        let usual = std::env::var("PATH").expect("a path");
        format!("{}:{usual}", self.stage.path("bin").display())
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.stage.command(args);
        command.env("PATH", self.path());
        command
    }

    pub fn run(&self, args: &[&str]) -> Ended {
        ended(&mut self.command(args))
    }

    pub fn begin(&self, args: &[&str]) -> Started {
        self.stage.begin_with(args, &[("PATH", &self.path())])
    }

    /// The names of what is in the bucket, without where that is.
    pub fn kept(&self) -> Vec<String> {
        let all = self.stage.cloud.objects(REGION, BUCKET).into_iter();
        all.map(|name| name.strip_prefix("prod/backups/db/").expect("below the prefix").to_owned()).collect()
    }

    /// The parts of one backup, in their order.
    pub fn parts(&self, id: &str) -> Vec<String> {
        self.kept().into_iter().filter(|name| name.starts_with(&format!("{id}/"))).collect()
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        self.stage.cloud.object(REGION, BUCKET, &format!("prod/backups/db/{name}"))
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        self.stage.cloud.put_object(REGION, BUCKET, &format!("prod/backups/db/{name}"), bytes);
    }

    pub fn remove(&self, name: &str) {
        self.stage.cloud.remove_object(REGION, BUCKET, &format!("prod/backups/db/{name}"));
    }

    /// What the journal in the bucket says; fails where an entry is not chained to the one before.
    pub fn journal(&self) -> Vec<Value> {
        let mut names = self.kept();
        names.retain(|name| !name.contains('/') && name != "alive.json");
        let mut before = Digest::of(b"");
        let mut entries = Vec::new();
        for (at, name) in names.iter().enumerate() {
            assert_eq!(*name, format!("{:020}.json", at + 1));
            let bytes = self.read(name);
            let entry: Value = serde_json::from_slice(&bytes).expect("JSON");
            assert_eq!(entry["previous"], before.to_string(), "{name}");
            before = Digest::of(&bytes);
            entries.push(entry["event"].clone());
        }
        entries
    }

    pub fn kinds(&self) -> Vec<String> {
        self.journal().iter().map(|event| event["kind"].as_str().expect("a kind").to_owned()).collect()
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        let _ = self.balancer.stop();
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn fleet(stage: &Stage, listen: u16, target: &str) {
    let text = format!(
        "image = 'web'\nsize = 3\n[local]\nmemory = '64M'\nprotocol = 'tcp'\nlisten = '127.0.0.1:{listen}'\nport = 5432\n\
         network = true\ndata = '1G'\n[health]\nhttp = {{ port = 8008, path = '/health' }}\ndeadline = '60s'\n\
         [stateful]\npatroni = {{}}\nmax_copy = '60s'\n\
         [backup]\ntarget = '{target}'\nkeep = 1\nquery = 'SELECT 7'\nat_least = 7\n"
    );
    fs::write(stage.repo().join("fleets/db.toml"), text).expect("written");
}

/// Adds to an image what only a machine that is not played reads.
pub fn bootable(image: &Path) {
    for name in ["kernel", "initrd", "cmdline"] {
        fs::write(image.join(name), name).expect("written");
    }
}

/// Puts what is played where it is found before the real ones.
pub fn programs(bin: &Path) {
    fs::create_dir(bin).expect("made");
    let member = Path::new(env!("CARGO_MANIFEST_DIR")).join("bootstrap/db/member.py.hbs");
    fs::copy(member, bin.join("member.py")).expect("copied");
    for (name, text) in [("qemu-system-x86_64", MACHINE), ("psql", PSQL)] {
        fs::write(bin.join(name), text).expect("written");
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).expect("set");
    }
}

/// The record of the one member, as a roll would have written it.
fn record(stage: &Stage, image: Digest, port: u16, health_port: u16) -> InstanceRecord {
    let fleet = fs::read_to_string(stage.repo().join("fleets/db.toml")).expect("a file");
    let fleet: Fleet = toml::from_str(&fleet).expect("a fleet");
    let id = InstanceId::new("db", 1);
    let dir = stage.store().local("db").join(&id.0);
    fs::create_dir_all(&dir).expect("made");
    let (boot, disk) = (Boot::Uefi, stage.store().image(image).join("disk.raw"));
    let (forwards, extras) = (Vec::new(), Extras::default());
    let spec = Spec { dir, disk, boot, memory_mib: 1, cpus: 1, forwards, name: id.0.clone(), extras };
    let generation = Target::new(&fleet, image).generation;
    let (launched_at, phase, zone) = (Timestamp::now(), Phase::Serving, None);
    let (version, root_hash) = (1, image);
    let record = InstanceRecord {
        version,
        id,
        generation,
        image,
        root_hash,
        spec,
        port,
        health_port,
        launched_at,
        phase,
        zone,
    };
    record.write().expect("written");
    record
}

//! What the fleet tests play on: a store, stand-in machines that are small real processes, a real `HAProxy`, and
//! rolls in processes of their own. Nothing of it outlives its test, also when the test panics.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rekiln::digest::Digest;
use rekiln::error::{Doing as _, Error, Result};
use rekiln::fleet::Fleet;
use rekiln::fleet::census::InstanceId;
use rekiln::fleet::generation::Target;
use rekiln::fleet::journal::{Journal, Writer};
use rekiln::fleet::roll::{Order as Wanted, Roll, Summary, Wish};
use rekiln::fleet::surroundings::OfStore;
use rekiln::load::{Load, LoadReport};
use rekiln::progress::Silent;
use rekiln::provider::Provider;
use rekiln::provider::local::{Local, Machines, all_balancers};
use rekiln::store::Store;
use rekiln::vm::Spec;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::point::{AtPoint, Point};

/// The machine directory of a stand-in: its mark in `/proc/<pid>/environ`, as QEMU's is its pid file argument.
const STAND_IN: &str = "REKILN_TEST_STAND_IN";
/// What a rolling process is to do, as JSON.
const ROLLING: &str = "REKILN_TEST_ROLLING";
/// Requests a second; the issue asks for at least 50.
pub const PER_SECOND: u32 = 60;
/// How long anything may take before a test gives up; two busy cores need a fraction, and only a failing test waits.
const PATIENCE: Duration = Duration::from_mins(5);

/// Machines that are this test binary, started again as a small HTTP server.
#[derive(Clone, Copy)]
pub struct StandIns;

impl StandIns {
    /// Returns every stand-in of this host: process number and machine directory.
    pub fn all() -> Vec<(u32, PathBuf)> {
        let entries = fs::read_dir("/proc").expect("processes");
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(|pid| Some((pid, marked(pid)?))).collect()
    }

    pub fn pid(dir: &Path) -> Option<u32> {
        Self::all().into_iter().find(|(_, found)| found == dir).map(|(pid, _)| pid)
    }
}

fn marked(pid: u32) -> Option<PathBuf> {
    // That of a process that ended and is not waited for yet is empty.
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables =
        environment.split(|byte| *byte == 0).filter_map(|text| std::str::from_utf8(text).ok());
    let dir = variables.find_map(|variable| variable.strip_prefix(STAND_IN)?.strip_prefix('='))?;
    Some(dir.into())
}

/// Starts this test binary again, running only `test`.
pub fn again(test: &str, variable: &str, value: &std::ffi::OsStr) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(variable, value);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

impl Machines for StandIns {
    fn start(&self, spec: &Spec) -> Result<()> {
        if Self::pid(&spec.dir).is_some() {
            return Err(Error::failed(format!("{} runs already", spec.name)));
        }
        let text = serde_json::to_vec(spec).doing(|| "writing what a stand-in is")?;
        fs::write(spec.dir.join("spec.json"), text).doing(|| "writing what a stand-in is")?;
        let mut command = again("fleet::stage::stand_in", STAND_IN, spec.dir.as_os_str());
        let mut child =
            command.stderr(Stdio::null()).process_group(0).spawn().doing(|| "starting a stand-in")?;
        std::thread::spawn(move || child.wait());
        Ok(())
    }

    fn alive(&self, dir: &Path) -> Result<bool> {
        Ok(Self::pid(dir).is_some())
    }

    fn kill(&self, dir: &Path) -> Result<()> {
        self.stop(dir)
    }

    fn stop(&self, dir: &Path) -> Result<()> {
        while let Some(pid) = Self::pid(dir) {
            signal(pid, Signal::KILL);
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// Signals one process that a test started.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// The machine itself: serves until it is ended. Does nothing in an ordinary test run.
#[test]
fn stand_in() {
    let Some(dir) = std::env::var_os(STAND_IN).map(PathBuf::from) else { return };
    let spec: Spec =
        serde_json::from_slice(&fs::read(dir.join("spec.json")).expect("a machine")).expect("a machine");
    let image = spec.disk.parent().expect("an image");
    let bad = image.join("bad").exists();
    let listener = TcpListener::bind(("127.0.0.1", spec.forwards[0].host)).expect("its port");
    let root = image.parent().and_then(Path::parent).expect("a store");
    let mut starts = fs::File::options().create(true).append(true).open(root.join("starts")).expect("a list");
    writeln!(starts, "{}", spec.name).expect("a line");
    let said = if bad { "panic: the stand-in cannot boot" } else { "the stand-in serves" };
    fs::write(dir.join("console.log"), format!("stand-in {}\n{said}\n", spec.name)).expect("a console");
    if bad {
        // It takes connections, as a hung guest does, and never answers.
        loop {
            std::thread::park();
        }
    }
    let list = root.join("slow");
    for stream in listener.incoming().flatten() {
        let (list, name) = (list.clone(), spec.name.clone());
        std::thread::spawn(move || serve(stream, &list, &name));
    }
}

/// Answers after a moment, and on `/slow` after a long one, having written down who got which.
fn serve(stream: TcpStream, list: &Path, name: &str) -> Option<()> {
    let mut requests = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let (mut close, mut slow) = (false, false);
        loop {
            let mut line = String::new();
            if requests.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some((method, _)) = line.split_once(" /slow ") {
                let mut list = fs::File::options().create(true).append(true).open(list).ok()?;
                writeln!(list, "{method} {name}").ok()?;
                slow = true;
            }
            close |= line.to_ascii_lowercase().starts_with("connection: close");
            if line == "\r\n" {
                break;
            }
        }
        // A moment in which a request is in flight.
        std::thread::sleep(Duration::from_millis(if slow { 1000 } else { 20 }));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").ok()?;
        if close {
            return None;
        }
    }
}

/// What a rolling process does.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    store: PathBuf,
    fleet: Fleet,
    image: Digest,
    rotate: Vec<InstanceId>,
    point: Option<Point>,
    emergency: bool,
}

/// The roll in a process of its own. Does nothing in an ordinary test run.
#[test]
fn rolling() {
    let Ok(order) = std::env::var(ROLLING) else { return };
    let order: Order = serde_json::from_str(&order).expect("an order");
    let store = Store::open(order.store.to_str().expect("UTF-8")).expect("a store");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let code = match runtime.block_on(order.roll(&store)) {
        Ok(_) => 0,
        Err(error) => {
            eprintln!("{} {:?}", error.chain(), error.hints());
            error.exit_code()
        }
    };
    std::process::exit(code.into());
}

impl Order {
    async fn roll(&self, store: &Store) -> Result<Summary> {
        let local = Local::new(store.clone(), "web", self.fleet.clone(), StandIns);
        let provider = AtPoint::new(&local, self.point.clone(), store.root().join("at-point"));
        let wish = (!self.rotate.is_empty())
            .then(|| Wish { instances: self.rotate.clone(), reason: "a test".to_owned() });
        let mut journal = Journal::open(&store.objects(), "web", Writer::this("rekiln roll web")).await?;
        let roll = Roll {
            name: "web",
            fleet: &self.fleet,
            target: Target::new(&self.fleet, self.image),
            provider: &provider,
            surroundings: &OfStore::new(store.clone(), &store.objects(), "web", self.fleet.clone(), &Silent),
            journal: &mut journal,
            progress: &Silent,
            stop: &AtomicBool::new(false),
        };
        roll.run(Wanted { reason: "a test".to_owned(), wish, emergency: self.emergency, commit: None }).await
    }
}

/// A store with a fleet of three.
pub struct Stage {
    pub store: Store,
    pub fleet: Fleet,
    pub local: Local<StandIns>,
    dir: tempfile::TempDir,
}

/// A roll in a process of its own, ended with its test.
pub struct Rolling(Option<Child>);

impl Stage {
    pub fn new() -> Self {
        let haproxy = Command::new("haproxy").arg("-v").stdout(Stdio::null()).status();
        assert!(haproxy.is_ok(), "haproxy is not installed; install it with `apt-get install haproxy`");
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path().to_str().expect("UTF-8")).expect("a store");
        let listen = rekiln::vm::verdict::free_ports(1).expect("a port")[0];
        let fleet: Fleet = toml::from_str(&format!(
            "image = 'web'\nsize = 3\n[local]\nlisten = '127.0.0.1:{listen}'\nport = 80\n\
             [health]\nhttp = {{ port = 80, path = '/' }}\nconsecutive = 1\ndeadline = '60s'\n[roll]\ndrain = '5s'\n"
        ))
        .expect("a fleet");
        let local = Local::new(store.clone(), "web", fleet.clone(), StandIns);
        Self { store, fleet, local, dir }
    }

    /// Puts an image into the catalog; one whose name begins with `bad` never answers.
    pub fn image(&self, name: &str) -> Digest {
        let id = Digest::of(name.as_bytes());
        let dir = self.store.image(id);
        fs::create_dir_all(&dir).expect("a directory");
        let record = serde_json::json!({ "version": 1, "id": id, "name": "web", "debug": false, "commit": null,
            "clean": true, "lock": id, "parents": [], "disk": { "sha256": id, "size": 0, "partitions": [] },
            "root_hash": id, "cmdline": "", "layers": [], "ports": [], "services": [], "exceptions": [],
            "packages": {}, "findings": [], "verdict": { "passed": true, "reasons": [], "open_ports": [],
            "ready_s": null, "serving_s": null, "accelerator": "tcg", "failed_units": [],
            "at": "2026-01-01T00:00:00Z" }, "baked": "2026-01-01T00:00:00Z", "timings": {} });
        fs::write(dir.join("record.json"), record.to_string()).expect("a record");
        fs::write(dir.join("cmdline"), "").expect("a command line");
        if name.starts_with("bad") {
            fs::write(dir.join("bad"), "").expect("a mark");
        }
        id
    }

    /// Starts to roll to `image` in another process.
    pub fn start(&self, image: Digest, rotate: &[InstanceId], point: Option<Point>) -> Rolling {
        self.begin(image, rotate, point, false)
    }

    /// Takes over whatever is rolled, in another process.
    pub fn emergency(&self, image: Digest) -> Rolling {
        self.begin(image, &[], None, true)
    }

    fn begin(&self, image: Digest, rotate: &[InstanceId], point: Option<Point>, emergency: bool) -> Rolling {
        let (store, fleet, rotate) = (self.store.root().to_owned(), self.fleet.clone(), rotate.to_vec());
        let order = Order { store, fleet, image, rotate, point, emergency };
        let order = serde_json::to_string(&order).expect("an order");
        let mut command = again("fleet::stage::rolling", ROLLING, order.as_ref());
        Rolling(Some(command.stderr(Stdio::piped()).spawn().expect("a process")))
    }

    /// Rolls to `image` in another process.
    pub fn try_roll(&self, image: Digest) -> Output {
        self.start(image, &[], None).end()
    }

    /// Rolls to `image` in another process, which must succeed, and checks that the fleet is there.
    pub async fn roll(&self, image: Digest) {
        let output = self.try_roll(image);
        assert!(output.status.success(), "{}", said(&output));
        self.assert_converged(image).await;
    }

    /// Kills a roll to `image` without warning once it waits at `point`.
    pub fn roll_killed_at(&self, image: Digest, point: &Point) {
        self.roll_reaches(image, point).kill();
    }

    /// Starts to roll to `image` in another process, and waits until it is at `point`.
    pub fn roll_reaches(&self, image: Digest, point: &Point) -> Rolling {
        let mark = self.store.root().join("at-point");
        let _ = fs::remove_file(&mark);
        let mut rolling = self.start(image, &[], Some(point.clone()));
        assert!(wait_until(|| mark.exists() || rolling.over()), "{point:?}");
        assert!(mark.exists(), "the roll ended before {point:?}");
        rolling
    }

    /// Lets a roll go on that waits at a point.
    pub fn go_on(&self) {
        fs::remove_file(self.store.root().join("at-point")).expect("a mark");
    }

    pub async fn journal(&self) -> Journal {
        Journal::open(&self.store.objects(), "web", Writer::this("a look")).await.expect("a sound journal")
    }

    /// Three serve `image`, nothing else runs, and no id was started twice.
    pub async fn assert_converged(&self, image: Digest) {
        let census = self.local.census().await.expect("a census");
        let good = census.instances.iter().filter(|i| i.serves() && i.image == Some(image)).count();
        assert_eq!((good, census.instances.len()), (3, 3), "{census:#?}");
        let running: Vec<_> = self.stand_ins();
        assert_eq!(running.len(), 3, "{running:?}");
        assert_eq!(self.balancers().len(), 1);
        let starts = fs::read_to_string(self.store.root().join("starts")).expect("a list");
        let mut once: Vec<_> = starts.lines().collect();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), starts.lines().count(), "one was started twice: {starts}");
    }

    /// Returns the stand-ins of this stage.
    pub fn stand_ins(&self) -> Vec<(u32, PathBuf)> {
        let root = self.dir.path();
        StandIns::all().into_iter().filter(|(_, dir)| dir.starts_with(root)).collect()
    }

    /// Returns the load balancers of this stage; an old one that a reload left to finish counts too.
    pub fn balancers(&self) -> Vec<u32> {
        let ours = all_balancers().into_iter().filter(|(_, config)| config.starts_with(self.dir.path()));
        ours.map(|(pid, _)| pid).collect()
    }

    pub fn load(&self) -> Load {
        Load::start(self.fleet.local().expect("it is local").listen, PER_SECOND)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.local.down();
        let left = self.stand_ins().into_iter().map(|(pid, _)| pid).chain(self.balancers());
        left.for_each(|pid| signal(pid, Signal::KILL));
    }
}

impl Rolling {
    pub fn over(&mut self) -> bool {
        self.0.as_mut().is_none_or(|child| matches!(child.try_wait(), Ok(Some(_)) | Err(_)))
    }

    /// Waits for its end.
    pub fn end(mut self) -> Output {
        self.0.take().expect("it runs").wait_with_output().expect("its end")
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Rolling {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits for `what`; tells whether it came.
pub fn wait_until(mut what: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if what() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// What a process said.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Ends the load; every request must have been answered.
pub async fn none_failed(load: Load) -> LoadReport {
    let report = load.stop().await;
    assert!(report.sent > 0);
    assert_eq!(report.failed, 0, "{report:?}");
    report
}

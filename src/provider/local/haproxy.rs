//! The load balancer of one local fleet: a HAProxy that outlives commands, driven over its runtime socket.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

mod config;

use super::record::{InstanceRecord, Phase};
use crate::atomic_write::atomic_write;
use crate::digest::Digest;
use crate::error::{Doing as _, Error, Result};
use crate::fleet::Fleet;
use crate::process::{Run as _, start_time};
use crate::store::Store;
use config::{FLEET, LEADER, SECTIONS, at_start, sections, server};

/// How long an answer on the runtime socket may take; it is a local process that only computes.
const ANSWER: Duration = Duration::from_secs(5);
/// How long HAProxy may take to give up a server's last idle connections, or to end.
const LET_GO: Duration = Duration::from_secs(5);

/// The load balancer of one fleet.
#[derive(Debug, Clone)]
pub struct Haproxy {
    /// `haproxy.cfg`, `haproxy.pid` and `haproxy.json` are here.
    dir: PathBuf,
    socket: PathBuf,
}

/// What HAProxy says of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Whether it gets new requests.
    pub in_service: bool,
    /// Whether its checks count as passed: so many good answers in a row, and not two bad ones since.
    pub healthy: bool,
    /// Requests and connections in progress.
    pub connections: u32,
    /// Where it gets them.
    pub port: Option<u16>,
}

impl Haproxy {
    /// Names the load balancer of `fleet`; starts nothing.
    #[must_use]
    pub fn new(store: &Store, fleet: &str) -> Self {
        let dir = store.local(fleet);
        // Twelve digits of the store's path and the fleet: a socket's path has room for about 100 bytes.
        let name = Digest::of(dir.as_os_str().as_encoded_bytes()).short();
        let socket = runtime_dir().join(name).join("s");
        Self { dir, socket }
    }

    fn config_file(&self) -> PathBuf {
        self.dir.join("haproxy.cfg")
    }

    /// Returns the process number of the running HAProxy of this fleet.
    #[must_use]
    pub fn running(&self) -> Option<u32> {
        let config = self.config_file();
        let written =
            fs::read_to_string(self.dir.join("haproxy.pid")).ok().and_then(|t| t.trim().parse().ok());
        if let Some(pid) = written.filter(|pid| config_of(*pid).as_deref() == Some(&config)) {
            return Some(pid);
        }
        all().into_iter().find(|(_, found)| *found == config).map(|(pid, _)| pid)
    }

    /// Makes sure that it runs as the fleet file says and knows exactly the recorded instances.
    ///
    /// # Errors
    /// HAProxy is missing or refuses its configuration, such as a taken address.
    pub fn ensure(&self, fleet: &Fleet, records: &[InstanceRecord]) -> Result<()> {
        let text = config::text(fleet, &self.socket)?;
        let file = self.config_file();
        // Only what people wrote is compared; the servers below the marks change all the time.
        let same = fs::read_to_string(&file).is_ok_and(|old| config::written(&old) == config::written(&text));
        let running = self.running();
        if running.is_none() || !same {
            self.start(&text, fleet, records, running)?;
        }
        for section in sections(fleet) {
            self.settle(section, fleet, records)?;
        }
        Ok(())
    }

    /// Makes a section know exactly the recorded instances.
    fn settle(&self, section: &str, fleet: &Fleet, records: &[InstanceRecord]) -> Result<()> {
        let mut known = self.servers_of(section)?;
        for record in records {
            // A machine that was started anew has other ports than the one that a killed process had begun.
            if known.get(&record.id.0).is_some_and(|server| server.port != Some(record.port)) {
                self.remove_from(section, &record.id.0)?;
                known.remove(&record.id.0);
            }
        }
        for record in records.iter().filter(|record| !known.contains_key(&record.id.0)) {
            self.add(section, fleet, record)?;
        }
        for name in known.keys().filter(|name| records.iter().all(|record| record.id.0 != **name)) {
            self.remove_from(section, name)?;
        }
        Ok(())
    }

    fn start(
        &self,
        text: &str,
        fleet: &Fleet,
        records: &[InstanceRecord],
        running: Option<u32>,
    ) -> Result<()> {
        fs::create_dir_all(&self.dir).doing(|| format!("creating {}", self.dir.display()))?;
        let parent = self.socket.parent().unwrap_or(Path::new("/"));
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.doing(|| format!("creating {}", parent.display()))?;
        // Those that served are there from the first moment; the rest is added once it runs.
        let text = at_start(text, fleet, records);
        atomic_write(&self.config_file(), text.as_bytes())?;
        let pid_file = self.dir.join("haproxy.pid");
        let mut command = Command::new("haproxy");
        command.arg("-D").arg("-q").arg("-p").arg(&pid_file).arg("-f").arg(self.config_file());
        if let Some(old) = running {
            // The old one finishes its requests and ends.
            command.args(["-sf", &old.to_string()]);
        }
        let listen = fleet.local()?.listen;
        command.run().map_err(|error| {
            error
                .during(format!("starting the load balancer on {listen}"))
                .hint("if the address is taken, end what listens there or change `local.listen`")
        })?;
        let end = Instant::now() + ANSWER;
        while self.ask("show info").is_err() {
            if Instant::now() > end {
                return Err(Error::failed("the load balancer started and does not answer on its socket"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let pid = self.running().unwrap_or(0);
        let note = serde_json::json!({ "pid": pid, "started": start_time(pid), "socket": self.socket });
        atomic_write(&self.dir.join("haproxy.json"), note.to_string().as_bytes())
    }

    /// Adds a server; one that does not serve yet begins as down, so that it needs all its good answers.
    fn add(&self, section: &str, fleet: &Fleet, record: &InstanceRecord) -> Result<()> {
        let name = format!("{section}/{}", record.id);
        let said = self.ask(&format!("add server {section}/{}", server(section, fleet, record)))?;
        if !said.contains("New server registered") {
            return Err(Error::failed(format!("the load balancer refuses {}: {said}", record.id)));
        }
        self.tell(&format!("enable health {name}"))?;
        if record.phase == Phase::Serving {
            return self.tell(&format!("set server {name} state ready"));
        }
        // Draining servers are checked and get nothing.
        self.tell(&format!("set server {name} state drain"))?;
        self.tell(&format!("set server {name} health down"))
    }

    /// Lets a server have requests.
    ///
    /// # Errors
    /// HAProxy refuses.
    pub fn ready(&self, name: &str) -> Result<()> {
        self.each(|section| self.tell(&format!("set server {section}/{name} state ready")))
    }

    /// Gives a server nothing new.
    ///
    /// # Errors
    /// HAProxy refuses.
    pub fn drain(&self, name: &str) -> Result<()> {
        self.each(|section| self.tell(&format!("set server {section}/{name} state drain")))
    }

    /// Removes a server, cutting what it still serves.
    ///
    /// # Errors
    /// It does not let go of its connections.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.each(|section| self.remove_from(section, name))
    }

    fn remove_from(&self, section: &str, name: &str) -> Result<()> {
        let name = format!("{section}/{name}");
        self.tell(&format!("set server {name} state maint"))?;
        let end = Instant::now() + LET_GO;
        loop {
            let said = self.ask(&format!("del server {name}"))?;
            if said.contains("Server deleted") || said.contains("No such server") {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(Error::failed(format!("the load balancer keeps {name}: {said}")));
            }
            self.ask(&format!("shutdown sessions server {name}"))?;
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Does something to each section that it has now: a fleet file may have got or lost its leader since it was started.
    fn each(&self, work: impl Fn(&str) -> Result<()>) -> Result<()> {
        let said = self.ask("show backend")?;
        let has = |section: &&&str| said.lines().any(|line| line == **section);
        SECTIONS.iter().filter(has).try_for_each(|section| work(section))
    }

    /// Returns what it says of every server, by name. Whether a server is healthy is what `[health]` says, and its connections
    /// are those of writers and of readers.
    ///
    /// # Errors
    /// It does not answer.
    pub fn servers(&self) -> Result<BTreeMap<String, Server>> {
        let mut servers = self.servers_of(FLEET)?;
        for (name, leader) in self.servers_of(LEADER)? {
            if let Some(server) = servers.get_mut(&name) {
                server.connections += leader.connections;
            }
        }
        Ok(servers)
    }

    /// Returns the server to which it leads clients that write; `None` when no server says that it takes writes, or all are
    /// alike.
    ///
    /// # Errors
    /// It does not answer.
    pub fn leader(&self) -> Result<Option<String>> {
        Ok(self.servers_of(LEADER)?.into_iter().find(|(_, server)| server.in_service).map(|(name, _)| name))
    }

    fn servers_of(&self, section: &str) -> Result<BTreeMap<String, Server>> {
        let text = self.ask("show stat")?;
        let mut lines = text.lines();
        let head: Vec<_> = lines.next().unwrap_or_default().trim_start_matches("# ").split(',').collect();
        let mut servers = BTreeMap::new();
        for line in lines {
            let row: BTreeMap<_, _> = head.iter().copied().zip(line.split(',')).collect();
            let get = |key: &str| row.get(key).copied().unwrap_or_default();
            let number = |key: &str| get(key).parse::<u32>().unwrap_or(0);
            // Type 2 is a server.
            if get("pxname") == section && get("type") == "2" {
                let server = Server {
                    in_service: get("status").starts_with("UP"),
                    healthy: number("check_rise") > 0 && number("check_health") >= number("check_rise"),
                    connections: number("scur") + number("qcur"),
                    port: get("addr").rsplit_once(':').and_then(|(_, port)| port.parse().ok()),
                };
                servers.insert(get("svname").to_owned(), server);
            }
        }
        Ok(servers)
    }

    /// Ends it and removes its socket.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(&self) -> Result<()> {
        let mut signal = Signal::TERM;
        let mut end = Instant::now() + LET_GO;
        while let Some(pid) = self.running() {
            if let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(number, signal);
            }
            if Instant::now() > end {
                if signal == Signal::KILL {
                    return Err(Error::failed(format!("load balancer process {pid} does not end")));
                }
                (signal, end) = (Signal::KILL, Instant::now() + LET_GO);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = fs::remove_file(&self.socket);
        let _ = self.socket.parent().map(fs::remove_dir);
        for name in ["haproxy.cfg", "haproxy.pid", "haproxy.json"] {
            let _ = fs::remove_file(self.dir.join(name));
        }
        Ok(())
    }

    /// Tells it something to which silence is the right answer.
    fn tell(&self, command: &str) -> Result<()> {
        let said = self.ask(command)?;
        if said.is_empty() || said.contains("No such server") && command.ends_with("maint") {
            return Ok(());
        }
        Err(Error::failed(format!("the load balancer answers `{command}` with: {said}")))
    }

    fn ask(&self, command: &str) -> Result<String> {
        let talk = || -> std::io::Result<String> {
            let mut socket = UnixStream::connect(&self.socket)?;
            socket.set_read_timeout(Some(ANSWER))?;
            socket.write_all(format!("{command}\n").as_bytes())?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer)?;
            Ok(answer.trim().to_owned())
        };
        talk().doing(|| format!("telling the load balancer `{command}`"))
    }
}

/// Returns the directory for sockets: short, and ours alone.
fn runtime_dir() -> PathBuf {
    let user = rustix::process::getuid();
    if user.is_root() {
        return "/run/rekiln".into();
    }
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| dir.len() < 60) {
        Some(dir) => PathBuf::from(dir).join("rekiln"),
        None => format!("/tmp/rekiln-{}", user.as_raw()).into(),
    }
}

/// Returns every HAProxy on this host that runs with a `haproxy.cfg` of ours: process number and file.
#[must_use]
pub fn all() -> Vec<(u32, PathBuf)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, config_of(pid)?))).collect()
}

fn config_of(pid: u32) -> Option<PathBuf> {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut arguments = arguments.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    if Path::new(arguments.next()?.as_ref()).file_name()? != "haproxy" {
        return None;
    }
    arguments.find(|argument| argument == "-f")?;
    let file = PathBuf::from(arguments.next()?.as_ref());
    (file.file_name()? == "haproxy.cfg").then_some(file)
}

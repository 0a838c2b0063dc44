//! The boot verdict: an image is booted once and must show that it is what its recipe says.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::accel::Accelerator;
use super::machine::{Console, QEMU, Wire as Connection};
use super::ports::Wire;
use super::{Boot, Extras, Forward, Report, Spec, http, report};
use crate::catalog::Verdict;
use crate::digest::{Digest, ImageId};
use crate::error::{Doing as _, Error, Result};
use crate::notation;
use crate::process::cannot_start;
use crate::recipe::Check;

/// How long a machine may take until its agent says that it is up: many times what it needs here (7 s
/// translated), for hosts that are slower and busy.
const READY: Duration = Duration::from_secs(90);
/// The same for a vendor's system, which starts much that rekiln's own images do not have: translated, it was seen to need
/// 80 s with the host to itself.
const VENDORS_READY: Duration = Duration::from_mins(6);
/// How long one request may take; a translated guest under load needs a while for its first page.
const REQUEST: Duration = Duration::from_secs(2);
/// How often the machine is looked at: fine enough for a time that is reported to a tenth of a second.
const LOOK: Duration = Duration::from_millis(50);
/// Sockets that are no service: the two DHCP clients, which networkd opens on the machine's own address.
const CLIENTS: [&str; 2] = ["68/udp", "546/udp"];

/// An image to be booted, and what must then be true of it.
#[derive(Debug)]
pub struct Trial<'a> {
    /// Where `console.log` and `agent.log` are kept: a directory of this trial alone.
    pub dir: &'a Path,
    /// The sealed disk.
    pub disk: &'a Path,
    /// How it boots.
    pub boot: Boot,
    /// The image id that the machine must report.
    pub id: ImageId,
    /// The root hash that the machine must report; a derived image has none.
    pub root_hash: Option<Digest>,
    /// What the recipe checks.
    pub checks: &'a [Check],
    /// Ports that may be open, such as `80/tcp`.
    pub ports: &'a BTreeSet<String>,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Virtual processors.
    pub cpus: u32,
    /// What the machine has besides.
    pub extras: Extras,
}

impl Trial<'_> {
    const fn ready(&self) -> Duration {
        match self.boot {
            Boot::Firmware(_) => VENDORS_READY,
            Boot::Direct { .. } | Boot::Uefi => READY,
        }
    }
}

/// Boots the image once, in a machine that ends with this call, and says what was seen.
///
/// That the image is bad is a verdict, not an error. The machine is a child of this thread and is killed by the
/// kernel when the thread ends (`setpriv --pdeathsig`, so that no `unsafe` is needed here): a `kill -9` of rekiln
/// leaves no machine behind, and no record is needed to find it.
///
/// # Errors
/// The machine could not be started, or ended by itself before anything could be said about the image's fault.
pub fn judge(trial: &Trial, accelerator: Accelerator) -> Result<Verdict> {
    let forwards = forwards(trial.checks)?;
    let spec = Spec {
        dir: trial.dir.to_owned(),
        disk: trial.disk.to_owned(),
        boot: trial.boot.clone(),
        memory_mib: trial.memory_mib,
        cpus: trial.cpus,
        forwards: forwards.clone(),
        name: format!("verdict-{}", trial.id.short()),
        extras: trial.extras.clone(),
    };
    let (wire, theirs) = Wire::new()?;
    let start = Instant::now();
    let mut running = Running(spawn(&spec, accelerator, theirs)?);
    let seen = std::thread::scope(|scope| {
        scope.spawn(|| wire.listen());
        let seen = watch(trial, &forwards, &mut running, &wire, start);
        wire.close();
        seen
    })?;
    drop(running);
    Ok(seen.verdict(trial, accelerator))
}

/// A machine that ends when this is dropped, however the trial ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What was seen of the machine.
#[derive(Debug, Default)]
struct Seen {
    report: Option<Report>,
    ready: Option<Duration>,
    serving: Option<Duration>,
    /// For each check: whether it passed, and else what came back last.
    answers: Vec<Answered>,
    ports: Option<Result<BTreeSet<u16>, String>>,
    ended: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Answered {
    NotAsked,
    Passed,
    Failed(String),
}

/// Starts QEMU as a child, with the machine's end of the wire as standard input.
fn spawn(spec: &Spec, accelerator: Accelerator, theirs: std::os::unix::net::UnixDatagram) -> Result<Child> {
    let qemu = spec.command(accelerator, Console::File, Connection::Probe)?;
    let log = std::fs::File::create(spec.dir.join("qemu.log")).doing(|| "creating the machine's log")?;
    // A trial's directory may hold the last trial's words.
    for old in ["console.log", "agent.log"] {
        let _ = std::fs::remove_file(spec.dir.join(old));
    }
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", QEMU])
        .args(qemu.get_args())
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|error| cannot_start("setpriv".as_ref(), error))
}

/// Looks until everything is known, or the time for it is over.
fn watch(
    trial: &Trial,
    forwards: &[Forward],
    running: &mut Running,
    wire: &Wire,
    start: Instant,
) -> Result<Seen> {
    let limits = trial.checks.iter().map(within).collect::<Result<Vec<_>>>()?;
    let mut seen = Seen { answers: vec![Answered::NotAsked; trial.checks.len()], ..Seen::default() };
    loop {
        if let Some(status) = running.0.try_wait().doing(|| "watching the machine")? {
            let words = std::fs::read_to_string(trial.dir.join("qemu.log")).unwrap_or_default();
            seen.ended = Some(
                format!("the machine ended by itself ({status}) {}", words.trim()).trim_end().to_owned(),
            );
            return Ok(seen);
        }
        for (index, check) in trial.checks.iter().enumerate() {
            if seen.answers[index] != Answered::Passed && start.elapsed() < limits[index] {
                seen.answers[index] = ask(check, forwards);
                if seen.answers[index] == Answered::Passed {
                    seen.serving.get_or_insert(start.elapsed());
                }
            }
        }
        seen.report = report::last(trial.dir);
        if seen.ready.is_none() && seen.report.as_ref().is_some_and(|report| report.ready) {
            seen.ready = Some(start.elapsed());
        }
        let waiting =
            |(answer, limit): (&Answered, &Duration)| *answer != Answered::Passed && start.elapsed() < *limit;
        let checks_done = !seen.answers.iter().zip(&limits).any(waiting);
        if checks_done && (seen.ready.is_some() || start.elapsed() > trial.ready()) {
            break;
        }
        std::thread::sleep(LOOK);
    }
    if seen.ready.is_some() {
        // Last, so that it cannot slow the answers whose time is measured.
        seen.ports = Some(wire.open_ports().map_err(|error| error.chain()));
        seen.report = report::last(trial.dir);
    }
    Ok(seen)
}

fn ask(check: &Check, forwards: &[Forward]) -> Answered {
    let Some(forward) = forwards.iter().find(|forward| forward.guest == check.http.port) else {
        return Answered::NotAsked;
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, forward.host));
    match http::get(address, &check.http.path, REQUEST) {
        Err(error) => Answered::Failed(error),
        Ok(answer) if answer.status != check.http.status => {
            Answered::Failed(format!("status {}", answer.status))
        }
        Ok(answer) => match &check.http.contains {
            Some(text) if !answer.body.contains(text) => {
                Answered::Failed(format!("the body has no `{text}`"))
            }
            _ => Answered::Passed,
        },
    }
}

impl Seen {
    /// Puts together what was seen; pure.
    fn verdict(self, trial: &Trial, accelerator: Accelerator) -> Verdict {
        let mut reasons: Vec<String> = self.ended.into_iter().collect();
        for (check, answer) in trial.checks.iter().zip(&self.answers) {
            let what = format!("GET {} on port {}", check.http.path, check.http.port);
            match answer {
                Answered::Passed => {}
                Answered::NotAsked => reasons.push(format!("{what} was not asked")),
                Answered::Failed(why) => {
                    reasons.push(format!("{what} did not pass within {}: {why}", check.within));
                }
            }
        }
        if self.ready.is_none() {
            let seconds = trial.ready().as_secs();
            reasons.push(format!("its agent did not say that it is up within {seconds} s"));
        }
        if let Some(report) = &self.report {
            reasons.extend(blame(report, trial));
        }
        let open_ports = match self.ports {
            Some(Ok(open)) => open,
            Some(Err(why)) => {
                reasons.push(format!("its ports could not be probed: {why}"));
                BTreeSet::new()
            }
            None => BTreeSet::new(),
        };
        let undeclared = open_ports.iter().filter(|port| !trial.ports.contains(&format!("{port}/tcp")));
        reasons.extend(undeclared.map(|port| format!("port {port}/tcp is open and not declared")));
        let seconds = |time: Option<Duration>| time.map(|time| (time.as_secs_f64() * 100.0).round() / 100.0);
        Verdict {
            passed: reasons.is_empty(),
            reasons,
            open_ports: open_ports.into_iter().collect(),
            ready_s: seconds(self.ready),
            serving_s: seconds(self.serving),
            accelerator: accelerator.name().to_owned(),
            failed_units: self.report.map(|report| report.failed_units).unwrap_or_default(),
            at: Timestamp::now(),
        }
    }
}

/// Returns what the agent's report says against the image.
fn blame(report: &Report, trial: &Trial) -> Vec<String> {
    let mut reasons = Vec::new();
    let root_hash = trial.root_hash.map(|hash| hash.to_string()).unwrap_or_default();
    if report.image != trial.id.to_string() || report.root_hash != root_hash {
        reasons
            .push(format!("it says that it is image {} with root hash {}", report.image, report.root_hash));
    }
    reasons.extend(report.failed_units.iter().map(|unit| format!("unit {unit} failed")));
    reasons.extend(report.touched.iter().map(|why| format!("it was touched: {why}")));
    let undeclared = report
        .listening
        .iter()
        .filter(|socket| !trial.ports.contains(*socket) && !CLIENTS.contains(&socket.as_str()));
    reasons.extend(undeclared.map(|socket| format!("something listens on {socket}, which is not declared")));
    reasons
}

fn within(check: &Check) -> Result<Duration> {
    notation::duration(&check.within).map_err(|why| Error::invalid(format!("`within` of a check: {why}")))
}

/// Returns a forward from a free host port for each port that is checked.
fn forwards(checks: &[Check]) -> Result<Vec<Forward>> {
    let ports: BTreeSet<u16> = checks.iter().map(|check| check.http.port).collect();
    let free = free_ports(ports.len())?;
    Ok(free.into_iter().zip(ports).map(|(host, guest)| Forward { host, guest }).collect())
}

/// Returns `count` TCP ports of 127.0.0.1 that are free now. Another process may take one before QEMU does; then
/// QEMU says so and does not start.
///
/// # Errors
/// No port is free.
pub fn free_ports(count: usize) -> Result<Vec<u16>> {
    // All are held until all are known, so that none is given twice.
    let listeners = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<std::io::Result<Vec<_>>>()
        .doing(|| "looking for a free port")?;
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    listeners.iter().map(port).collect::<std::io::Result<_>>().doing(|| "looking for a free port")
}

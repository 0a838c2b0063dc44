//! Do: restore a backup into a fresh machine, and ask it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use tokio::runtime::Handle;

use super::event::{Proof, Taken};
use super::memory::judge;
use super::serve::Serving;
use crate::catalog::Record;
use crate::claim::Claimed;
use crate::error::{Doing as _, Error, Result};
use crate::fleet::Fleet;
use crate::fleet::backup::{Restorer, Settings};
use crate::interrupt;
use crate::notation;
use crate::objects::Objects;
use crate::process::{Run as _, cannot_start};
use crate::scratch::Scratch;
use crate::store::Store;
use crate::vm::document::{Document, Secret, address, segment};
use crate::vm::machine::{Console, QEMU, Wire};
use crate::vm::verdict::free_ports;
use crate::vm::{Boot, Extras, Forward, Spec, accel, extras, http, report};

/// How often the machine is looked at: a restore takes minutes.
const LOOK: Duration = Duration::from_millis(500);

/// How long one answer may take; a translated machine that restores answers nobody for seconds.
const ANSWER: Duration = Duration::from_secs(5);

/// How long the query may take, in milliseconds for the database: what counts all rows of a database that is restored within
/// half an hour reads it once.
const STATEMENT: &str = "-c statement_timeout=600000";

/// What the image writes on its console before it says why it does not restore; as in `bootstrap/db/member.py.hbs`.
const REFUSED: &str = "rekiln-restore: refused: ";

/// How many lines of a console an error carries.
const TAIL: usize = 10;

/// The longest first value that is kept.
const LONGEST: usize = 60;

/// What the user of the application is called, its database, and the label of its password.
const APP: &str = "app";

/// Where a fresh machine comes from.
#[derive(Debug)]
pub struct Ground<'a> {
    /// The store; it is on this computer.
    pub store: &'a Store,
    /// The fleet's name.
    pub name: &'a str,
    /// The fleet.
    pub fleet: &'a Fleet,
    /// The image that the members run.
    pub image: &'a Record,
    /// What reads the object store.
    pub handle: &'a Handle,
}

/// Restores what `parts` has into a machine that ends with this call, and asks it what the fleet file says. `tick` is called
/// again and again meanwhile.
///
/// The machine is a child of the calling thread and is killed by the kernel when that ends; its files are scratch space: a
/// `kill -9` leaves what the next run of any command removes, and no record is needed to find it.
///
/// # Errors
/// It does not restore, does not answer in time (`stateful.max_copy`), or not as the fleet file wants: why. What `tick`
/// returns.
pub fn prove(
    ground: &Ground<'_>,
    settings: &Settings,
    parts: Objects,
    taken: &Taken,
    mut tick: impl FnMut() -> Result<()>,
) -> Result<Proof> {
    let Ground { store, fleet, image, handle, .. } = *ground;
    let stateful = fleet.stateful.as_ref().ok_or_else(|| Error::invalid("there is no `[stateful]`"))?;
    let limit = |key: &'static str, text: &str| {
        notation::duration(text).map_err(|why| Error::invalid(format!("`{key}`: {why}")))
    };
    // To boot, and to copy: what a new member is given by a roll.
    let patience = limit("health.deadline", &fleet.health.deadline)?
        .saturating_add(limit("stateful.max_copy", &stateful.max_copy)?);
    let health = fleet.health()?;
    let _while_it_boots = Claimed::image("`rekiln backup`", image.id).hold(store)?;
    let scratch = Scratch::new(store, "proof")?;
    let serving = Serving::start(parts, taken, handle)?;
    let (spec, password) = machine(ground, &settings.machine, health.port, scratch.dir(), &serving)?;
    let mut running = Running(spawn(store, &spec)?);
    let start = Instant::now();
    let hosts: Vec<u16> = spec.forwards.iter().map(|forward| forward.host).collect();
    let tail = || report::console_tail(&spec.dir, TAIL).join("\n");
    loop {
        interrupt::check()?;
        if let Some(status) = running.0.try_wait().doing(|| "watching the machine")? {
            return Err(Error::failed(format!("the machine ended by itself ({status}):\n{}", tail())));
        }
        let served = serving.served();
        if let Some(why) = served.failed {
            return Err(Error::failed(why));
        }
        if let Some(why) = refused(&spec.dir) {
            return Err(Error::failed(format!("the machine refuses it: {why}")));
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, hosts[1]));
        if let Some(asked) = served.asked
            && http::get(address, "/primary", ANSWER).is_ok_and(|answer| answer.status == 200)
        {
            let restore = asked.elapsed();
            let client = Client { port: hosts[0], password };
            let rows = client.ask(&settings.query)?;
            judge(&rows, settings.at_least).map_err(Error::failed)?;
            let first = rows.first().and_then(|row| row.first()).cloned().unwrap_or_default();
            let lasting = |time| SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
            return Ok(Proof {
                boot: lasting(asked.duration_since(start)),
                restore: lasting(restore),
                rows: rows.len() as u64,
                first: crate::table::cut(&first, LONGEST),
                data: client.size(),
            });
        }
        if start.elapsed() > patience {
            let did = match (served.asked, served.sent) {
                (None, _) => "the machine did not ask for it",
                (Some(_), None) => "the machine did not take all of it",
                (Some(_), Some(_)) => "the database did not start",
            };
            let seconds = patience.as_secs();
            return Err(Error::failed(format!("{did} within {seconds} s:\n{}", tail())).hint(
                "what cannot be restored in that time is too big to fail: `stateful.max_copy` says how long a copy may take",
            ));
        }
        tick()?;
        std::thread::sleep(LOOK);
    }
}

/// A machine that ends when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes in `dir` what a fleet of one, which founds from the backup, would have; and returns the password of the application.
/// The first forwarded port is the database's, the second the one of its health.
fn machine(
    ground: &Ground<'_>,
    restorer: &Restorer,
    health: u16,
    dir: &Path,
    serving: &Serving,
) -> Result<(Spec, String)> {
    let Ground { store, name, image, .. } = *ground;
    let files = store.image(image.id);
    let data = dir.join("data.raw");
    extras::blank(&data, restorer.data)?;
    let document = Document {
        fleet: name.to_owned(),
        instance: format!("{name}-proof"),
        address: address(1),
        founds: true,
        members: Vec::new(),
        restore: Some(serving.told()),
    };
    let secret = Secret::of(dir)?;
    let extras = Extras {
        data: Some(data),
        segment: Some(segment(dir, document.address)),
        credentials: vec![document.write(dir)?, secret.credential()],
        fetch: Some(serving.address()),
    };
    let guest = [restorer.port, health];
    let hosts = free_ports(guest.len())?;
    let forwards = hosts.into_iter().zip(guest).map(|(host, guest)| Forward { host, guest }).collect();
    let spec = Spec {
        dir: dir.to_owned(),
        disk: files.join("disk.raw"),
        boot: Boot::direct(&files)?,
        memory_mib: restorer.memory_mib,
        cpus: restorer.cpus,
        forwards,
        name: format!("{name}-proof"),
        extras,
    };
    Ok((spec, secret.password(APP)))
}

fn spawn(store: &Store, spec: &Spec) -> Result<Child> {
    let kernel = match &spec.boot {
        Boot::Direct { kernel, .. } => kernel.clone(),
        Boot::Uefi | Boot::Firmware(_) => spec.disk.clone(),
    };
    let accelerator = accel::probe(store, &kernel)?.accelerator;
    let qemu = spec.command(accelerator, Console::File, Wire::Forwards)?;
    let log = std::fs::File::create(spec.dir.join("qemu.log")).doing(|| "creating the machine's log")?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", QEMU]).args(qemu.get_args());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().map_err(|error| cannot_start(command.get_program(), error))
}

/// Returns why the machine does not restore, where it says so.
fn refused(dir: &Path) -> Option<String> {
    let text = std::fs::read(dir.join("console.log")).ok()?;
    refusal(&report::plain(&String::from_utf8_lossy(&text)))
}

fn refusal(console: &str) -> Option<String> {
    let said = console.lines().find_map(|line| Some(line.split_once(REFUSED)?.1.trim().to_owned()))?;
    // A line that is still being written says nothing yet.
    (!said.is_empty()).then_some(said)
}

/// Who asks the restored database.
struct Client {
    port: u16,
    password: String,
}

impl Client {
    /// Asks, and returns the rows of the answer.
    fn ask(&self, query: &str) -> Result<Vec<Vec<String>>> {
        let mut psql = Command::new("psql");
        psql.env("PGPASSWORD", &self.password).env("PGCONNECT_TIMEOUT", "30").env("PGOPTIONS", STATEMENT);
        psql.args(["--no-psqlrc", "--quiet", "--no-password", "--no-align", "--tuples-only"]);
        psql.args(["--field-separator-zero", "--record-separator=\u{1e}", "--set", "ON_ERROR_STOP=1"]);
        psql.args([
            "--host",
            "127.0.0.1",
            "--port",
            &self.port.to_string(),
            "--username",
            APP,
            "--dbname",
            APP,
        ]);
        // Not as an argument: whoever sees processes need not see it.
        let output = psql.args(["--file", "-"]).run_with_input(query.as_bytes());
        let output = output.map_err(|error| error.during("asking the restored database"))?;
        Ok(rows(&String::from_utf8_lossy(&output.stdout)))
    }

    fn size(&self) -> Option<u64> {
        self.ask("SELECT pg_database_size(current_database())").ok()?.first()?.first()?.parse().ok()
    }
}

/// Reads rows between record separators, which psql ends with a line's end.
fn rows(text: &str) -> Vec<Vec<String>> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    if text.is_empty() {
        return Vec::new();
    }
    let text = text.strip_suffix('\u{1e}').unwrap_or(text);
    text.split('\u{1e}').map(|row| row.split('\0').map(str::to_owned).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_console_says() {
        let said = "[  OK  ] Started\n[   31.5] member[233]: rekiln-restore: refused: its SHA-256 is a and should be b\n";
        assert_eq!(refusal(said).as_deref(), Some("its SHA-256 is a and should be b"));
        assert_eq!(refusal("member: rekiln-restore: refused: "), None);
        assert_eq!(refusal("member: rekiln-restore: not fetched: timed out"), None);
    }

    #[test]
    fn rows_of_an_answer() {
        assert_eq!(rows(""), Vec::<Vec<String>>::new());
        assert_eq!(rows("\n"), Vec::<Vec<String>>::new());
        assert_eq!(rows("20\n"), [["20"]]);
        assert_eq!(rows("1\0a\nb\u{1e}2\0\n"), [["1", "a\nb"], ["2", ""]]);
    }
}

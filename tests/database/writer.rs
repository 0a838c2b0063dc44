//! A client that writes through the load balancer, one row after the other, for as long as it is let.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

/// How long it waits after a write that failed, as a client's library would.
const AGAIN: Duration = Duration::from_millis(200);

/// Where the database is, and who asks.
#[derive(Clone)]
pub struct Client {
    pub address: SocketAddr,
    pub password: String,
}

impl Client {
    fn psql(&self) -> Command {
        let mut psql = Command::new("psql");
        // The password is in nobody's arguments.
        psql.env("PGPASSWORD", &self.password).env("PGCONNECT_TIMEOUT", "3");
        psql.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set", "ON_ERROR_STOP=1"]);
        let SocketAddr::V4(address) = self.address else { panic!("not of this computer: {}", self.address) };
        psql.arg(format!("host={} port={} user=app dbname=app", address.ip(), address.port()));
        psql
    }

    /// Has one statement done, and returns its rows; the words of the database when it is not.
    pub fn ask(&self, statement: &str) -> Result<String, String> {
        let output = self.psql().args(["--command", statement]).output();
        let output = output.expect("psql is installed (`apt-get install postgresql-client`)");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn connect(&self) -> Session {
        let mut psql = self.psql();
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = psql.spawn().expect("psql runs");
        let (say, hear) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Session { child, say, hear: BufReader::new(hear) }
    }
}

struct Session {
    child: Child,
    say: ChildStdin,
    hear: BufReader<ChildStdout>,
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Session {
    /// Writes a row. psql says its id when the database has said that it is committed.
    fn write(&mut self, id: u64) -> Option<()> {
        writeln!(self.say, "INSERT INTO written VALUES ({id}) RETURNING id;").ok()?;
        let mut line = String::new();
        self.hear.read_line(&mut line).ok()?;
        (line.trim() == id.to_string()).then_some(())
    }
}

/// One that writes until it is stopped or dropped.
pub struct Writer {
    over: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    /// The longest time between two writes that were acknowledged, in milliseconds, since it was asked for.
    pause: Arc<AtomicU64>,
    work: Option<JoinHandle<BTreeSet<u64>>>,
}

impl Writer {
    pub fn start(client: &Client) -> Self {
        let (over, acknowledged, pause) = <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let (client, ends, count, longest) =
            (client.clone(), Arc::clone(&over), Arc::clone(&acknowledged), Arc::clone(&pause));
        let work = spawn(move || {
            let mut written = BTreeSet::new();
            let (mut session, mut last) = (client.connect(), Instant::now());
            // A row that was not acknowledged may be there all the same: no number is used twice.
            for id in 1.. {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                if session.write(id).is_some() {
                    longest.fetch_max(
                        u64::try_from(last.elapsed().as_millis()).unwrap_or(u64::MAX),
                        Ordering::Relaxed,
                    );
                    last = Instant::now();
                    written.insert(id);
                    count.fetch_add(1, Ordering::Relaxed);
                } else {
                    sleep(AGAIN);
                    session = client.connect();
                }
            }
            written
        });
        Self { over, acknowledged, pause, work: Some(work) }
    }

    /// How many rows were acknowledged so far.
    pub fn so_far(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Returns the longest time between two writes that were acknowledged since this was asked last.
    pub fn pause(&self) -> Duration {
        Duration::from_millis(self.pause.swap(0, Ordering::Relaxed))
    }

    /// Ends it, and returns what was acknowledged.
    pub fn stop(mut self) -> BTreeSet<u64> {
        self.over.store(true, Ordering::Relaxed);
        self.work.take().expect("it works").join().expect("it wrote")
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

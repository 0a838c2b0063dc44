//! What is a whole process's: its memory, and signals that end its work. This test binary is started again for that.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use rekiln::ssh::{Address, Keys, Refusal, Session};
use rustix::process::{Pid, Signal, kill_process};

use super::server::Server;

/// Set where this binary was started again.
const AGAIN: &str = "REKILN_TEST_SSH";
/// Longer than whoever started it waits.
const PATIENCE: Duration = Duration::from_mins(1);

/// The process that was started again.
struct Process {
    child: Child,
    says: BufReader<ChildStderr>,
}

impl Process {
    /// Starts a client of a server that speaks as `mode` says.
    fn start(mode: &str) -> (Self, Server) {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "ssh::process::client", "--nocapture", "--test-threads=1"])
            .env(AGAIN, "")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this binary");
        let says = BufReader::new(child.stderr.take().expect("its errors"));
        let mut process = Self { child, says };
        let key = process.next("key");
        let server = Server::start_for(mode, &key);
        // A server without SSH is given a host key that nobody has: the client's.
        let address = server.address(&Keys::new().expect("keys"));
        let host = address.keys.host_public().expect("a line");
        let mut input = process.child.stdin.as_ref().expect("its input");
        writeln!(input, "{}\n{host}", address.socket).expect("it reads");
        (process, server)
    }

    /// Returns what it says after the next line that begins with `word`.
    fn next(&mut self, word: &str) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.says.read_line(&mut line).expect("text"), 0, "it never said `{word}`:\n{all}");
            if let Some(rest) = line.strip_prefix(word) {
                return rest.trim().to_owned();
            }
            all.push_str(&line);
        }
    }

    fn interrupt(&self) {
        let pid = self.child.id().try_into().ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, Signal::TERM).expect("it runs");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Connects and runs a command that does not end; says on standard error what happens. A test only where it is started
/// again.
#[test]
fn client() {
    if std::env::var_os(AGAIN).is_none() {
        return;
    }
    let keys = Keys::new().expect("keys");
    eprintln!("\nkey {}", keys.client_public().expect("a line"));
    let mut lines = io::stdin().lines().map(|line| line.expect("text"));
    let socket = lines.next().and_then(|line| line.parse().ok()).expect("where the server is");
    let keys = keys.pinned(&lines.next().expect("its key")).expect("a public key").into();
    let address = Address { socket, user: "root".to_owned(), keys, patience: PATIENCE };

    let ended = rekiln::interrupt::stoppable(|| {
        eprintln!("connects");
        // The first answer is of what the test harness did before.
        let (_, before) = (peak(), peak());
        let connected = Session::connect(&address);
        eprintln!("grew {}", peak() - before);
        match connected {
            Ok(mut session) => {
                eprintln!("runs");
                session.run("sleep 100", &mut io::empty(), &mut |_| {}).map(|ended| format!("{ended:?}"))
            }
            Err(Refusal::Never(error)) => Err(error),
            Err(Refusal::NotYet(why)) => Ok(why),
        }
    });
    match ended {
        Ok(how) => eprintln!("ended {how}"),
        Err(error) => eprintln!("ended {} {}", error.exit_code(), error.chain()),
    }
}

/// Returns the most memory that this process had since it was last asked, in KiB.
fn peak() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its memory");
    // proc(5): 5 resets the peak.
    std::fs::write("/proc/self/clear_refs", "5").expect("this process");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn a_server_that_never_stops_talking_fills_no_memory() {
    for mode in ["banner", "banner-endless-line"] {
        let (mut process, _server) = Process::start(mode);
        let grew: i64 = process.next("grew").parse().expect("a number");
        // Of 64 MiB that the server has to say.
        assert!(grew < 16 << 10, "{grew} KiB more for {mode}");
        assert!(process.next("ended").starts_with("1 what listens on "));
    }
}

#[test]
fn an_interruption_ends_a_connection_that_is_made() {
    let (mut process, _server) = Process::start("stall");
    process.next("connects");
    process.interrupt();
    assert_eq!(process.next("ended"), INTERRUPTED);
}

#[test]
fn an_interruption_ends_a_command() {
    let (mut process, _server) = Process::start("stall-in-session");
    process.next("runs");
    process.interrupt();
    assert_eq!(process.next("ended"), INTERRUPTED);
}

const INTERRUPTED: &str = "130 interrupted; what was not finished is removed, what was is kept";

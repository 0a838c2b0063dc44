//! One server.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rekiln::ssh::{ATTEMPT, Address, Ended, Keys, Session};
use serde_json::Value;

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/derive/hostile.py");

/// Ends when it is dropped, with whatever its sessions started.
pub struct Server {
    child: Child,
    facts: Value,
}

impl Server {
    /// Starts a server that speaks as `mode` says, and waits until it listens. `key` may log in, where keys are taken.
    pub fn start(mode: &str, key: &Keys) -> Self {
        Self::start_for(mode, &key.client_public().expect("a line"))
    }

    /// As [`Server::start`], for a key of somebody else.
    pub fn start_for(mode: &str, key: &str) -> Self {
        let mut child = Command::new("python3")
            .args(["-B", PROGRAM, mode, key])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts: apt-get install python3");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("its first line");
        let facts = serde_json::from_str(&line).expect("the server says above why it does not start");
        Self { child, facts }
    }

    pub fn socket(&self) -> SocketAddr {
        let port = self.facts["port"].as_u64().and_then(|port| port.try_into().ok()).expect("a port");
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    /// A fact that only sshd has.
    pub fn fact(&self, name: &str) -> &str {
        self.facts[name].as_str().expect("sshd says it")
    }

    /// Where it is; sshd is known by the host key that it is to have, and any other server by one that nobody has.
    pub fn address(&self, keys: &Keys) -> Address {
        let other = keys.client_public().expect("a line");
        let keys = keys.pinned(self.facts["host_key"].as_str().unwrap_or(&other)).expect("a public key");
        Address { socket: self.socket(), user: "root".to_owned(), keys: Arc::new(keys), patience: ATTEMPT }
    }

    /// Waits until sshd says `text`; it writes while its clients go on.
    pub fn log_with(&self, text: &str) -> String {
        let start = std::time::Instant::now();
        loop {
            let log = std::fs::read(self.fact("log")).expect("a log");
            let log = String::from_utf8_lossy(&log).into_owned();
            if log.contains(text) {
                return log;
            }
            assert!(start.elapsed() < ATTEMPT, "sshd never said `{text}`:\n{log}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// A session on an sshd.
pub struct Stage {
    pub session: Session,
    pub server: Server,
}

impl Stage {
    pub fn new(mode: &str) -> Self {
        let keys = Keys::new().expect("keys");
        let server = Server::start(mode, &keys);
        let session = match Session::connect(&server.address(&keys)) {
            Ok(session) => session,
            Err(refusal) => panic!("{refusal:?}\n{}", server.log_with("")),
        };
        Self { session, server }
    }

    /// Returns how a command ended and what it printed.
    pub fn run(&mut self, command: &str, mut input: &[u8]) -> (Ended, Vec<u8>) {
        let mut output = Vec::new();
        let ended = self
            .session
            .run(command, &mut input, &mut |bytes| output.extend_from_slice(bytes))
            .expect("nobody interrupts");
        (ended, output)
    }

    /// The same, of a command that prints text.
    pub fn text(&mut self, command: &str, input: &[u8]) -> (Ended, String) {
        let (ended, output) = self.run(command, input);
        (ended, String::from_utf8(output).expect("text"))
    }
}

/// Returns bytes that are alike in each run, hold each value of a byte, and repeat late enough that a lost, doubled or
/// exchanged packet shows.
pub fn bytes(count: usize) -> Vec<u8> {
    // A linear congruential generator (Knuth's MMIX), of which the upper bits are good.
    let mut state: u64 = 6;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..count).map(|_| next()).collect()
}

/// The fingerprint of a public key as OpenSSH has it.
pub fn fingerprint(public: &str) -> String {
    let mut keygen = Command::new("ssh-keygen")
        .args(["-l", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ssh-keygen starts: apt-get install openssh-client");
    writeln!(keygen.stdin.take().expect("its input"), "{public}").expect("written");
    let output = keygen.wait_with_output().expect("its end");
    let text = String::from_utf8(output.stdout).expect("text");
    text.split(' ').nth(1).expect("bits, fingerprint, comment").to_owned()
}

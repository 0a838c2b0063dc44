//! Do: copy a running database by `pg_basebackup`, as a stream.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::Handle;

use super::event::Taken;
use super::parts;
use crate::error::{Doing as _, Error, Result};
use crate::objects::Objects;
use crate::process::{cannot_start, failure};

/// The program.
const PROGRAM: &str = "pg_basebackup";

/// The role that members have for this.
pub const ROLE: &str = "backup";

/// How long a member may take to answer at all, in seconds: as long as one may take that is translated.
const CONNECT: &str = "30";

/// Most of what it says is kept for an error: the last lines.
const WORDS: usize = 20;

/// Where the database is that is copied.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where it is reached from here.
    pub address: SocketAddr,
    /// The role that copies; members of this computer have [`ROLE`].
    pub role: String,
    /// The file with the role's password, as `libpq` wants it, readable for its owner only.
    pub passwords: PathBuf,
}

/// How far it is.
#[derive(Debug, Default)]
pub struct Far {
    /// Bytes of the database that were read.
    pub done: AtomicU64,
    /// Bytes that there are to be read, as the server estimated; 0 before it did.
    pub total: AtomicU64,
}

/// Ends with whoever started it, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Copies the database into `parts`. `each` is called after each of them.
///
/// # Errors
/// `pg_basebackup` is missing or fails, with its words; the parts cannot be written; what `each` returns.
pub fn take(
    source: &Source,
    parts: &Objects,
    handle: &Handle,
    far: &Far,
    mut each: impl FnMut() -> Result<()>,
) -> Result<Taken> {
    let mut command = Command::new("setpriv");
    // A `kill -9` of rekiln leaves no replication behind.
    command.args(["--pdeathsig", "KILL", PROGRAM]).args(arguments(source));
    command.env("PGPASSFILE", &source.passwords).env("PGCONNECT_TIMEOUT", CONNECT).env("LC_ALL", "C.UTF-8");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    installed()?;
    let mut child = Running(command.spawn().map_err(|error| cannot_start(command.get_program(), error))?);
    let lost = || Error::failed(format!("{PROGRAM} has no output"));
    let stdout = child.0.stdout.take().ok_or_else(lost)?;
    let stderr = child.0.stderr.take().ok_or_else(lost)?;
    std::thread::scope(|scope| {
        let words = scope.spawn(|| attend(stderr, far));
        let taken = parts::write(parts, handle, stdout, |_| each());
        // Its output is closed: it ends by itself, unless nobody reads it any more.
        if taken.is_err() {
            let _ = child.0.kill();
        }
        let status = child.0.wait().doing(|| format!("waiting for {PROGRAM}"))?;
        let words = words.join().unwrap_or_default();
        let taken = taken?;
        if status.success() {
            return Ok(taken);
        }
        let error = failure(&command, &format!("ended with {status}"), &[], words.as_bytes());
        Err(if words.contains("no pg_hba.conf entry") || words.contains("password authentication failed") {
            error.hint(format!(
                "on this computer, the role `{ROLE}` is made when a cluster begins: in one that is older, make it on the leader; \
                 elsewhere, `[backup.login]` says which role, and members must let it in from here: `docs/databases.md`, Backups"
            ))
        } else {
            error
        })
    })
}

/// One stream with everything in it: the log that makes it consistent, and the manifest by which each file is checked.
fn arguments(source: &Source) -> Vec<String> {
    let Source { address, role, .. } = source;
    // The network of a fleet and the object store are slower than the least that compresses.
    let fixed = "--format=tar --wal-method=fetch --checkpoint=fast --pgdata=- --compress=client-gzip:1 --progress \
                 --no-password";
    let fixed = fixed.split_whitespace().map(str::to_owned);
    let (host, port) = (format!("--host={}", address.ip()), format!("--port={}", address.port()));
    fixed.chain([host, port, format!("--username={role}")]).collect()
}

/// Says which package is missing: `setpriv` would only say that it cannot start something.
fn installed() -> Result<()> {
    let found = Command::new(PROGRAM).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.map(drop).map_err(|error| cannot_start(PROGRAM.as_ref(), error))
}

/// Reads what it says, and how far it says that it is. Returns its last words.
fn attend(stderr: impl Read, far: &Far) -> String {
    let mut last: std::collections::VecDeque<String> = std::collections::VecDeque::new();
    let mut from = BufReader::new(stderr);
    let mut line = Vec::new();
    while matches!(from.read_until(b'\n', &mut line), Ok(read) if read > 0) {
        let text = String::from_utf8_lossy(&line).trim().to_owned();
        line.clear();
        if let Some((done, total)) = progress(&text) {
            far.done.store(done, Ordering::Relaxed);
            far.total.store(total, Ordering::Relaxed);
            continue;
        }
        last.push_back(text);
        if last.len() > WORDS {
            last.pop_front();
        }
    }
    last.into_iter().collect::<Vec<_>>().join("\n")
}

/// Reads `12345/67890 kB (18%), 0/1 tablespace` into bytes.
fn progress(line: &str) -> Option<(u64, u64)> {
    let (counts, rest) = line.split_once(" kB (")?;
    let (done, total) = counts.trim().split_once('/')?;
    rest.contains("tablespace").then_some(())?;
    Some((done.trim().parse::<u64>().ok()? << 10, total.trim().parse::<u64>().ok()? << 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_says_that_it_is() {
        for (line, expected) in [
            ("22953/31089 kB (73%), 0/1 tablespace", Some((22_953 << 10, 31_089 << 10))),
            ("    0/31089 kB (0%), 0/1 tablespace (...lib/db/data)", Some((0, 31_089 << 10))),
            ("waiting for checkpoint", None),
            ("pg_basebackup: error: connection to server at 127.0.0.1 failed", None),
        ] {
            assert_eq!(progress(line), expected, "{line}");
        }
    }
}

//! Many URLs at once, by curl.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::credentials;
use crate::curl::{proxies, quoted};
use crate::error::{Doing as _, Error, Result};
use crate::process::cannot_start;

/// Connections at once: enough to hide latency, few enough for a public mirror.
const PARALLEL: &str = "8";

/// Seconds until a place that does not answer counts as unreachable.
const CONNECT: &str = "20";

/// A transfer slower than this many bytes a second …
const SLOW: &str = "1000";
/// … for this many seconds has stalled.
const STALLED: &str = "30";

/// One file to fetch.
#[derive(Debug)]
pub struct Transfer {
    /// `http:`, `https:` or `file:`.
    pub url: String,
    /// Where the bytes go, unchecked.
    pub to: PathBuf,
    /// How large it must be, if known.
    pub size: Option<u64>,
}

/// What became of a transfer.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The bytes are there, unchecked.
    Arrived,
    /// The place answered that it does not have it.
    Absent,
    /// The place could not answer.
    Failed(String),
}

/// Runs all transfers; calls `done` with the number of each and what became of it, as they end. `scratch` is a
/// directory for this run.
///
/// # Errors
/// curl cannot run, or what `done` returns: then the other transfers are ended.
pub fn run(
    scratch: &Path,
    transfers: &[Transfer],
    mut done: impl FnMut(usize, Outcome) -> Result<()>,
) -> Result<()> {
    let logins = credentials::netrc_file(scratch, transfers)?;
    let logins =
        logins.map_or_else(String::new, |path| format!("netrc-file = {}\n", quoted(&path.to_string_lossy())));
    let config = logins + &config(transfers);
    let mut child = start(transfers)?;
    let stdin = child.stdin.take();
    let stdout = child.stdout.take();
    let mut seen = 0;
    let result = std::thread::scope(|scope| {
        // A thread, so that curl, which writes before it has read everything, cannot stall us.
        scope.spawn(move || stdin.map(|mut pipe| pipe.write_all(config.as_bytes())));
        for line in stdout.into_iter().flat_map(|pipe| BufReader::new(pipe).lines()) {
            let line = line.doing(|| "reading what curl printed")?;
            if let Some((at, outcome)) = outcome(&line) {
                seen += 1;
                if let Err(error) = done(at, outcome) {
                    let _ = child.kill();
                    return Err(error);
                }
            }
        }
        Ok(())
    });
    let output = child.wait_with_output().doing(|| "waiting for curl")?;
    result?;
    if seen == transfers.len() {
        return Ok(());
    }
    // The exit code only repeats one transfer's; but with fewer answers than questions, curl itself failed.
    let words = String::from_utf8_lossy(&output.stderr);
    Err(Error::failed(format!(
        "curl ended with {} after {seen} of {} files: {}",
        output.status,
        transfers.len(),
        words.trim()
    )))
}

/// Starts curl by hand and not with `Run`: what it prints is read while it works, and its exit code is that of
/// any one transfer.
fn start(transfers: &[Transfer]) -> Result<Child> {
    let mut command = Command::new("curl");
    command.args(["-q", "--config", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if transfers.iter().any(|transfer| !transfer.url.starts_with("file:")) {
        command.envs(proxies()?);
    }
    command.spawn().map_err(|error| cannot_start(command.get_program(), error))
}

fn config(transfers: &[Transfer]) -> String {
    let mut text = format!(
        "parallel\nparallel-immediate\nparallel-max = {PARALLEL}\nfail\nlocation\ngloboff\nsilent\n\
proto = \"=http,https,file\"\nproto-redir = \"=http,https\"\nmax-redirs = 5\n\
connect-timeout = {CONNECT}\nspeed-limit = {SLOW}\nspeed-time = {STALLED}\nretry = 3\n\
write-out = \"%{{urlnum}} %{{exitcode}} %{{http_code}} %{{errormsg}}\\n\"\n"
    );
    // A place that sends without end must not fill the disk.
    let largest = transfers.iter().map(|transfer| transfer.size).collect::<Option<Vec<_>>>();
    if let Some(largest) = largest.and_then(|sizes| sizes.into_iter().max()) {
        text += &limit(largest);
    }
    let line = |transfer: &Transfer| {
        format!("url = {}\noutput = {}\n", quoted(&transfer.url), quoted(&transfer.to.to_string_lossy()))
    };
    text.extend(transfers.iter().map(line));
    text
}

/// A limit of 0 would mean none.
fn limit(bytes: u64) -> String {
    format!("max-filesize = {}\n", bytes.max(1))
}

/// Reads a line about a finished transfer: number, exit code, HTTP status, message.
fn outcome(line: &str) -> Option<(usize, Outcome)> {
    let mut words = line.splitn(4, ' ');
    let at = words.next()?.parse().ok()?;
    let (exit, status, message) = (words.next()?, words.next()?, words.next().unwrap_or_default());
    let outcome = match (exit, status) {
        ("0", _) => Outcome::Arrived,
        // 22: the server answered with an error; 37: a file: URL that cannot be read.
        ("22", "404" | "410") | ("37", _) => Outcome::Absent,
        _ => Outcome::Failed(format!("{message} (curl {exit}, HTTP {status})")),
    };
    Some((at, outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_curl() {
        let table: &[(&str, Option<(usize, Outcome)>)] = &[
            ("0 0 200 ", Some((0, Outcome::Arrived))),
            ("7 0 000 ", Some((7, Outcome::Arrived))),
            ("1 22 404 The requested URL returned error: 404", Some((1, Outcome::Absent))),
            ("2 37 000 Couldn't open file", Some((2, Outcome::Absent))),
            ("3 22 503 busy", Some((3, Outcome::Failed("busy (curl 22, HTTP 503)".to_owned())))),
            (
                "4 6 000 no such host",
                Some((4, Outcome::Failed("no such host (curl 6, HTTP 000)".to_owned()))),
            ),
            ("noise", None),
        ];
        for (line, expected) in table {
            assert_eq!(&outcome(line), expected, "{line}");
        }
    }
}

//! One HTTP request, by curl.

use std::fmt::Write as _;
use std::process::{Command, Output};
use std::time::Duration;

use super::Url;
use super::program::finish;
use crate::curl::{proxies, quoted};
use crate::error::{Doing as _, Error, Result};
use crate::process::last_words;

/// How much longer than its own limit curl is given, to say itself what it waited for.
const GRACE: Duration = Duration::from_secs(2);

/// The least limit that curl takes, as milliseconds are what it counts; for it, 0 would be no limit.
const SHORTEST: Duration = Duration::from_millis(1);

/// The greatest limit that curl is given: it refuses what it cannot count, and nobody waits longer for an answer.
const LONGEST: Duration = Duration::from_hours(24);

/// The most that can be sent, in bytes. curl before version 8 reads lines of 100 KiB, and quoting may double a text.
const LARGEST_SENT: usize = 40 << 10;

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Asks `url`: GET, or with a `body`, which must be JSON, POST. Returns the answer's body.
///
/// # Errors
/// As [`ask`] and [`Url::resolve`], and any status other than 2xx.
pub fn request(url: &str, body: Option<&[u8]>, limit: Duration) -> Result<String> {
    let url = Url::resolve(url)?;
    let answer = ask(&url, body, limit)?;
    answer.good(&url)?;
    Ok(answer.body)
}

impl Answer {
    /// Checks that the status is 2xx.
    ///
    /// # Errors
    /// Any other status. The body is not in the error: servers like to repeat the path, which may be a secret.
    pub fn good(&self, url: &Url) -> Result<()> {
        match self.status {
            200..=299 => Ok(()),
            status @ 300..=399 => Err(Error::failed(format!("{url} answered with HTTP status {status}"))
                .hint("a redirect is not followed, since a POST would become a GET: write the URL that it leads to")),
            status => Err(Error::failed(format!("{url} answered with HTTP status {status}"))),
        }
    }
}

/// Asks `url` as [`request`] does and returns what it answers, whatever the status. A proxy of the host is used, except
/// for this computer's own addresses. Redirects are not followed.
///
/// # Errors
/// curl is missing, nobody answers within `limit`, an answer of more than 1 MiB or other than UTF-8, and a body too
/// large to send.
pub fn ask(url: &Url, body: Option<&[u8]>, limit: Duration) -> Result<Answer> {
    let config = config(url, body, limit)?;
    let mut command = Command::new("curl");
    command.args(["-q", "--config", "-"]);
    if !url.is_here() {
        command.envs(proxies()?);
    }
    let doing = || format!("asking {url}");
    let Output { status, stdout, stderr } =
        finish(&mut command, config.as_bytes(), limit.saturating_add(GRACE)).doing(doing)?;
    if !status.success() {
        let words = last_words(&stderr).replace(url.target(), &url.to_string());
        return Err(Error::failed(if words.is_empty() {
            format!("curl ended with {status}")
        } else {
            words
        })
        .during(doing()));
    }
    let text = String::from_utf8(stdout)
        .map_err(|_| Error::failed("the answer is not text in UTF-8").during(doing()))?;
    // The status is what `write-out` put behind the body.
    let answer = text
        .rsplit_once('\n')
        .and_then(|(body, status)| Some(Answer { status: status.parse().ok()?, body: body.to_owned() }));
    answer.ok_or_else(|| Error::failed("curl did not tell the HTTP status").during(doing()))
}

fn config(url: &Url, body: Option<&[u8]>, limit: Duration) -> Result<String> {
    let seconds = limit.clamp(SHORTEST, LONGEST).as_secs_f64();
    let mut text = format!(
        "url = {}\nproto = \"=http,https\"\nmax-time = {seconds:.3}\ngloboff\nsilent\nshow-error\n\
         user-agent = \"rekiln/{}\"\nwrite-out = \"\\n%{{http_code}}\"\n",
        quoted(url.target()),
        env!("CARGO_PKG_VERSION"),
    );
    if url.is_here() {
        text.push_str("noproxy = \"*\"\n");
    }
    if let Some(body) = body {
        let body = std::str::from_utf8(body).doing(|| format!("sending a body to {url}"))?;
        if body.len() > LARGEST_SENT {
            return Err(Error::failed(format!(
                "sending {} bytes to {url}: more than {LARGEST_SENT} are too much",
                body.len()
            )));
        }
        // `data-raw`: what begins with `@` is no file.
        let _ = write!(text, "data-raw = {}\nheader = \"Content-Type: application/json\"\n", quoted(body));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use super::super::server::Server;
    use super::*;

    const AMPLE: Duration = Duration::from_mins(1);

    #[test]
    fn get_and_post() {
        let server = Server::answering(&[(200, "1\n2\n"), (204, "")]);
        assert_eq!(request(&server.url("/n?a={x}"), None, AMPLE).expect("it answers"), "1\n2\n");
        let body = "@{\"text\": \"a \\\"quoted\\\"\\nline\\\\\",\n \"é\": 1}";
        assert_eq!(request(&server.url("/hook"), Some(body.as_bytes()), AMPLE).expect("it takes it"), "");
        let heard = server.heard();
        assert!(heard[0].starts_with("GET /n?a={x} HTTP/1.1\r\n"), "{heard:?}");
        assert!(heard[1].starts_with("POST /hook HTTP/1.1\r\n"), "{heard:?}");
        assert!(heard[1].contains("Content-Type: application/json\r\n"), "{heard:?}");
        assert!(heard[1].ends_with(&format!("\r\n\r\n{body}")), "{heard:?}");
    }

    #[test]
    fn statuses_are_told_and_secrets_are_not() {
        for (status, body) in [(404, "no /secret here"), (500, ""), (302, "")] {
            let server = Server::answering(&[(status, body)]);
            let error = request(&server.url("/secret"), Some(b"{}"), AMPLE).expect_err("no 2xx");
            let expected = format!("{} answered with HTTP status {status}", server.url(""));
            assert_eq!(error.chain(), expected);
            assert_eq!(error.hints().len(), usize::from(status == 302));
        }
    }

    #[test]
    fn nobody_and_not_in_time() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let closed = format!("http://u:secret@{}/secret", free.local_addr().expect("bound"));
        // Bound and never accepted from: the connection is made, and no answer comes.
        let start = Instant::now();
        let error = request(&closed, None, Duration::from_millis(300)).expect_err("no answer").chain();
        assert!(error.contains("timed out after") && !error.contains("secret"), "{error}");
        assert!(start.elapsed() < AMPLE);
        drop(free);
        let error = request(&closed, None, AMPLE).expect_err("nobody there").chain();
        assert!(error.starts_with("asking http://127.0.0.1:") && !error.contains("secret"), "{error}");
        assert!(error.contains("Failed to connect"), "{error}");
        let error =
            request(&closed, Some(&vec![b'x'; LARGEST_SENT + 1]), AMPLE).expect_err("too large").chain();
        assert!(error.contains("are too much"), "{error}");
        let largest = Server::answering(&[(200, "")]);
        request(&largest.url("/"), Some(&vec![b'"'; LARGEST_SENT]), AMPLE).expect("just not too large");
    }

    #[test]
    fn limits_that_curl_would_not_take() {
        let server = Server::answering(&[(200, "1")]);
        assert_eq!(request(&server.url("/"), None, Duration::MAX).expect("it answers"), "1");
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/", nobody.local_addr().expect("bound"));
        assert!(request(&url, None, Duration::ZERO).is_err());
    }

    #[test]
    fn too_much() {
        let server = Server::answering(&[(200, &"x".repeat(3 << 20))]);
        let error = request(&server.url("/secret"), None, AMPLE).expect_err("too much").chain();
        assert!(error.contains("printed more than 1 MiB") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn no_process_list_has_the_url() {
        let server = Server::start(1, |_, _| {
            let all = fs::read_dir("/proc").expect("listed").flatten();
            let lines = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
            let lines: Vec<_> = lines.map(|line| String::from_utf8_lossy(&line).into_owned()).collect();
            let curl = lines.iter().any(|line| line.starts_with("curl\0-q\0--config\0-\0"));
            let told = lines.iter().any(|line| line.contains("a-path-that-is-a-password"));
            (200, format!("{curl} {told}"))
        });
        let answer = request(&server.url("/a-path-that-is-a-password"), Some(b"{}"), AMPLE);
        assert_eq!(answer.expect("it answers"), "true false");
    }
}

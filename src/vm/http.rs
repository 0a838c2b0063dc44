//! One HTTP GET, as a health check does it: no redirects, no reuse, bounded in every way.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The most that is read of an answer: enough for a page that a check looks into, little enough that a
/// machine that answers without end does no harm.
const MOST: usize = 1 << 20;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, up to one MiB of the whole answer, with anything that is not UTF-8 replaced.
    pub body: String,
}

/// Asks `address` for `path` and waits at most `within` for the whole answer.
///
/// # Errors
/// What went wrong, as text for a reader: no connection, no answer in time, no HTTP.
pub fn get(address: SocketAddr, path: &str, within: Duration) -> Result<Answer, String> {
    let end = Instant::now() + within;
    let mut stream = TcpStream::connect_timeout(&address, within).map_err(|error| error.to_string())?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: rekiln\r\nConnection: close\r\n\r\n");
    stream.set_write_timeout(Some(within)).map_err(|error| error.to_string())?;
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let mut chunk = [0; 8192];
    while answer.len() < MOST && !is_whole(&answer) {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("no whole answer within {within:?}"));
        }
        stream.set_read_timeout(Some(left)).map_err(|error| error.to_string())?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&chunk[..n]),
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    parse(&String::from_utf8_lossy(&answer))
}

/// Tells whether the answer is as long as its `Content-Length` says.
fn is_whole(answer: &[u8]) -> bool {
    let Some(at) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..at]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    length.is_some_and(|length: usize| answer.len() - at - 4 >= length)
}

fn parse(answer: &str) -> Result<Answer, String> {
    if answer.is_empty() {
        return Err("the connection was closed without an answer".to_owned());
    }
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status =
        head.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse().ok());
    let status =
        status.ok_or_else(|| format!("not an HTTP answer: {:?}", head.lines().next().unwrap_or("")))?;
    Ok(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers one request with `answer`; keeps the connection open when `hold`.
    fn serve(answer: &'static str, hold: bool) -> SocketAddr {
        let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = server.local_addr().expect("its number");
        std::thread::spawn(move || {
            let (mut client, _) = server.accept().expect("a client");
            let mut chunk = [0; 1024];
            let _ = client.read(&mut chunk);
            let _ = client.write_all(answer.as_bytes());
            if hold {
                std::thread::park();
            }
        });
        address
    }

    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn status_and_body() {
        let whole = "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno";
        let answer = Ok(Answer { status: 404, body: "no".into() });
        assert_eq!(get(serve(whole, false), "/", LONG), answer);
        assert_eq!(
            get(serve(whole, true), "/", LONG),
            answer,
            "an open connection does not delay the answer"
        );
    }

    #[test]
    fn what_is_no_answer() {
        assert!(get(serve("", false), "/", LONG).is_err());
        assert!(get(serve("SSH-2.0\r\n", false), "/", LONG).is_err());
        let error = get(serve("HTTP/1.1 200 OK\r\n", true), "/", Duration::from_millis(50));
        assert!(error.is_err_and(|error| error.contains("within")));
    }
}

//! A real HTTP server for tests.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a request is waited for: a test that makes fewer than it said must end and not hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that takes so many requests, one a connection.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    thread: JoinHandle<Vec<String>>,
}

impl Server {
    /// Starts a server for `count` requests; `answer` gets the number of each and its text, and returns status and body.
    pub fn start(
        count: usize,
        mut answer: impl FnMut(usize, &str) -> (u16, String) + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("set");
        let address = listener.local_addr().expect("bound");
        let thread = std::thread::spawn(move || {
            let connections = (0..count).map_while(|_| accept(&listener));
            connections
                .enumerate()
                .map(|(at, stream)| {
                    let request = read(&stream);
                    let (status, body) = answer(at, &request);
                    let head = format!(
                        "HTTP/1.1 {status} x\r\nLocation: /elsewhere\r\nContent-Length: {}\r\n\
                         Connection: close\r\n\r\n",
                        body.len()
                    );
                    // Who is asked too slowly or for too much may have gone.
                    let _ = (&stream)
                        .write_all(head.as_bytes())
                        .and_then(|()| (&stream).write_all(body.as_bytes()));
                    request
                })
                .collect()
        });
        Self { address, thread }
    }

    /// Starts a server that gives these answers in order.
    pub fn answering(answers: &[(u16, &str)]) -> Self {
        let answers: Vec<_> = answers.iter().map(|(status, body)| (*status, (*body).to_owned())).collect();
        Self::start(answers.len(), move |at, _| answers[at].clone())
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the requests, once all came.
    pub fn heard(self) -> Vec<String> {
        self.thread.join().expect("the server ran")
    }
}

fn accept(listener: &TcpListener) -> Option<TcpStream> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).expect("set");
                return Some(stream);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("accepting: {error}"),
        }
    }
    None
}

fn read(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut text = String::new();
    let mut length = 0;
    loop {
        let start = text.len();
        reader.read_line(&mut text).expect("a line");
        let line = text[start..].trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().expect("a length");
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the body");
    text + std::str::from_utf8(&body).expect("text")
}

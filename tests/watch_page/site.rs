//! The server, in this process.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rekiln::watch::secret::Secret;
use rekiln::watch::server::{Answer, Door, Incoming, Request, serve};
use rekiln::watch::view::View;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// No answer takes so long, however busy the computer is; a test that waits for one must end.
pub const PATIENCE: Duration = Duration::from_mins(1);

pub const SECRET: &str = "it-is-a-secret-to-nobody";

/// The server; ends when it is dropped.
pub struct Site {
    runtime: Runtime,
    view: watch::Sender<Arc<View>>,
    pub address: SocketAddr,
    /// What came in by hooks.
    heard: Mutex<mpsc::Receiver<Request>>,
    door: Door,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Site {
    pub fn showing(view: View) -> Self {
        Self::start(view, Some(SECRET))
    }

    pub fn start(view: View, secret: Option<&str>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("threads");
        let (view, seen) = watch::channel(Arc::new(view));
        let (incoming, heard) = mpsc::channel(8);
        let secret = secret.map(|secret| Arc::new(Secret::of(secret.as_bytes()).expect("a secret")));
        let hosts = vec!["watch.example".to_owned()];
        let door = Door { view: seen, secret, incoming, hosts };
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut site = Self { runtime, view, address, heard: Mutex::new(heard), door, running: None };
        site.begin();
        site
    }

    /// Starts it where it was before.
    pub fn begin(&mut self) {
        let listener = self.runtime.block_on(TcpListener::bind(self.address)).expect("the port is free");
        self.address = listener.local_addr().expect("bound");
        let (stop, stopped) = oneshot::channel();
        let stopped = async move { drop(stopped.await) };
        let task = self.runtime.spawn(serve(listener, self.door.clone(), stopped));
        self.running = Some((stop, task));
    }

    /// Stops it and waits until it has ended.
    pub fn stop(&mut self) {
        let (stop, task) = self.running.take().expect("it runs");
        drop(stop);
        self.runtime.block_on(task).expect("it ends");
    }

    pub fn show(&self, view: View) {
        self.view.send_replace(Arc::new(view));
    }

    /// Answers one hook while `ask` sends it; returns what came in, and what `ask` did.
    pub fn answering<T>(&self, answer: Option<Answer>, ask: impl FnOnce() -> T) -> (Incoming, T) {
        std::thread::scope(|scope| {
            let heard = scope.spawn(|| {
                let request = self.heard.lock().expect("one at a time").blocking_recv().expect("it comes in");
                if let Some(answer) = answer {
                    request.answer.send(answer).expect("somebody waits for it");
                }
                request.incoming
            });
            let asked = ask();
            (heard.join().expect("it came in"), asked)
        })
    }

    /// Tells whether nothing came in that nobody answered.
    pub fn heard_nothing(&self) -> bool {
        self.heard.lock().expect("one at a time").try_recv().is_err()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream
    }

    /// Sends a text as it is, and returns everything that comes back until the server closes.
    pub fn raw(&self, text: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect();
        stream.write_all(text.as_ref()).expect("sent");
        rest(&mut stream)
    }

    /// Asks with these header lines, and returns head and body.
    pub fn ask(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> (String, String) {
        let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|header| header.starts_with("Host:")) {
            text.push_str("Host: 127.0.0.1\r\n");
        }
        if !body.is_empty() {
            text.push_str("Content-Length: ");
            text.push_str(&body.len().to_string());
            text.push_str("\r\n");
        }
        for header in headers {
            text.push_str(header);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        let answer = self.raw([text.as_bytes(), body].concat());
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.to_ascii_lowercase(), body.to_owned())
    }

    /// The status of an answer.
    pub fn status(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> u16 {
        status(&self.ask(method, path, headers, body).0)
    }

    pub fn get(&self, path: &str) -> (String, String) {
        self.ask("GET", path, &[], b"")
    }
}

/// The status in a head.
pub fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

/// What comes until the other side closes.
pub fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("the server closes");
    String::from_utf8(bytes).expect("text")
}

//! Do: ask what clients ask, again and again, and remember what came of it.
//!
//! Requests are sent at their own times, whether or not those before are answered: a fleet that hangs is asked as often as one
//! that answers, as it is by its clients.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::measure::{Asked, Clients};
use crate::error::{Error, Result};
use crate::fleet::outside::{self, Url};
use crate::vm::http;

/// How far apart requests are sent: ten a second find a gap of a tenth, and are no load.
pub const EVERY: Duration = Duration::from_millis(100);

/// How long an answer may take: what an impatient program waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a connection must stay to count: a load balancer with nobody behind it closes one at once.
const STAYS: Duration = Duration::from_millis(300);

/// How a door that is only connected to is written.
const TCP: &str = "tcp://";

/// Where clients come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Door {
    /// A path is asked for by HTTP, without a name to look up.
    Http(SocketAddr, String),
    /// An URL.
    Url(Url),
    /// It is connected to, by address or by name, and does not close at once.
    Tcp(String),
}

impl Door {
    /// Checks what a fleet file or a command line has for one.
    ///
    /// # Errors
    /// Neither an URL nor `$NAME` nor `tcp://HOST:PORT`.
    pub fn check(text: &str) -> Result<(), String> {
        let Some(place) = text.strip_prefix(TCP) else { return Url::check(text) };
        let port = place.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        let port = port.and_then(|(_, port)| port.parse::<u16>().ok()).filter(|port| *port > 0);
        port.map(drop).ok_or_else(|| format!("`{text}` is not `tcp://HOST:PORT`"))
    }

    /// Reads one, or takes it from the environment where it is `$NAME`.
    ///
    /// # Errors
    /// As [`Door::check`]; a variable that is not set.
    pub fn read(text: &str) -> Result<Self> {
        Self::check(text).map_err(|why| Error::invalid(format!("the probe: {why}")))?;
        match text.strip_prefix(TCP) {
            Some(place) => Ok(Self::Tcp(place.to_owned())),
            None => Url::resolve(text).map(Self::Url),
        }
    }

    /// Asks once.
    pub async fn answers(&self) -> bool {
        match self {
            Self::Tcp(place) => match tokio::net::TcpStream::connect(place).await {
                Err(_) => false,
                Ok(mut stream) => {
                    // A load balancer takes every connection, and closes it when nobody is behind.
                    let said = tokio::time::timeout(STAYS, stream.read(&mut [0])).await;
                    matches!(said, Err(_) | Ok(Ok(1)))
                }
            },
            Self::Http(address, path) => {
                let (address, path) = (*address, path.clone());
                let asked = move || http::get(address, &path, PATIENCE);
                let answer = tokio::task::spawn_blocking(asked).await;
                matches!(answer, Ok(Ok(http::Answer { status: 200..400, .. })))
            }
            Self::Url(url) => {
                let url = url.clone();
                let answer = tokio::task::spawn_blocking(move || outside::ask(&url, None, PATIENCE)).await;
                matches!(answer, Ok(Ok(outside::Answer { status: 200..400, .. })))
            }
        }
    }
}

/// A client that asks.
#[derive(Debug)]
pub struct Probe {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Probe {
    /// Begins to ask. Must be called inside a tokio runtime.
    #[must_use]
    pub fn start(door: Door) -> Self {
        let (stop, stopped) = watch::channel(false);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(ask(Arc::new(door), stopped, Arc::clone(&asked)));
        Self { stop, task, asked }
    }

    /// Returns whether anything was answered well so far, and how many were asked.
    #[must_use]
    pub fn so_far(&self) -> Clients {
        Clients::of(self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone(), EVERY)
    }

    /// Ends, waits for the answers that are due, and returns what came of all.
    pub async fn stop(self) -> Clients {
        let _ = self.stop.send(true);
        let _ = self.task.await;
        Clients::of(self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone(), EVERY)
    }
}

async fn ask(door: Arc<Door>, mut stopped: watch::Receiver<bool>, all: Arc<Mutex<Vec<Asked>>>) {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(EVERY);
    let mut requests = JoinSet::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let (door, all, at) = (Arc::clone(&door), Arc::clone(&all), start.elapsed());
                requests.spawn(async move {
                    let good = tokio::time::timeout(PATIENCE, door.answers()).await.unwrap_or(false);
                    all.lock().unwrap_or_else(PoisonError::into_inner).push(Asked { at, good });
                });
            }
            Some(_) = requests.join_next(), if !requests.is_empty() => {}
            _ = stopped.changed() => break,
        }
    }
    while requests.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// Answers the first requests well, and all others with 503.
    async fn server(listener: TcpListener, good: usize) {
        for number in 0.. {
            let (mut stream, _) = listener.accept().await.expect("a request");
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let status = if number < good { "200 OK" } else { "503 Service Unavailable" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    }

    async fn until(probe: &Probe, so: impl Fn(Clients) -> bool) {
        let begun = Instant::now();
        while !so(probe.so_far()) {
            assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", probe.so_far());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_not_answered_well_has_failed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its number");
        let serving = tokio::spawn(server(listener, 3));
        let doors =
            [Door::Http(address, "/".to_owned()), Door::read(&format!("http://{address}/")).expect("a door")];
        for (door, good) in doors.into_iter().zip([3, 0]) {
            let probe = Probe::start(door);
            until(&probe, |clients| clients.asked > 5).await;
            let clients = probe.stop().await;
            assert_eq!(clients.asked - clients.failed, good, "{clients:?}");
            assert!(clients.longest_ms >= 100, "{clients:?}");
        }
        // Whoever only connects is content with that, as long as somebody listens.
        let probe = Probe::start(Door::read(&format!("tcp://{address}")).expect("a door"));
        until(&probe, |clients| clients.asked > 3).await;
        assert_eq!(probe.so_far().failed, 0);
        serving.abort();
        until(&probe, |clients| clients.failed > 2).await;
        assert!(probe.stop().await.longest_ms >= 200);
    }

    #[test]
    fn doors() {
        for (text, good) in [
            ("http://web.example/", true),
            ("https://web.example:8443/health", true),
            ("$FRONT", true),
            ("tcp://db.example:5432", true),
            ("tcp://[::1]:5432", true),
            ("tcp://db.example", false),
            ("tcp://:5432", false),
            ("tcp://db.example:0", false),
            ("db.example:5432", false),
        ] {
            assert_eq!(Door::check(text).is_ok(), good, "{text}");
        }
    }
}

//! A steady stream of requests, to see whether a roll loses any.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, watch};
use tokio::task::{JoinHandle, JoinSet};

/// How long one request may take before it counts as failed: what an impatient person waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many failures are kept word for word; one is enough to look for its cause, a few show a pattern.
const KEPT_FAILURES: usize = 5;

/// What became of the requests.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LoadReport {
    /// Requests sent.
    pub sent: u64,
    /// Requests without a 200 answer.
    pub failed: u64,
    /// The slowest answer, in milliseconds.
    pub slowest_ms: u64,
    /// The first failures: seconds after the start and what happened.
    pub failures: Vec<String>,
}

/// A load generator at work.
#[derive(Debug)]
pub struct Load {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    report: Arc<Mutex<LoadReport>>,
}

impl Load {
    /// Starts sending `per_second` requests a second for `/` to `address`, each on a new connection and at its
    /// own time whether or not earlier ones are answered. Must be called inside a tokio runtime.
    #[must_use]
    pub fn start(address: SocketAddr, per_second: u32) -> Self {
        let (stop, stopped) = watch::channel(false);
        let report = Arc::new(Mutex::new(LoadReport::default()));
        let task = tokio::spawn(generate(address, per_second, stopped, Arc::clone(&report)));
        Self { stop, task, report }
    }

    /// Returns what has become of the requests so far.
    pub async fn so_far(&self) -> LoadReport {
        self.report.lock().await.clone()
    }

    /// Stops sending, waits for the answers that are due, and returns the final report.
    pub async fn stop(self) -> LoadReport {
        let _ = self.stop.send(true);
        let _ = self.task.await;
        self.report.lock().await.clone()
    }
}

async fn generate(
    address: SocketAddr,
    per_second: u32,
    mut stopped: watch::Receiver<bool>,
    report: Arc<Mutex<LoadReport>>,
) {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second.max(1));
    let mut requests = JoinSet::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let report = Arc::clone(&report);
                requests.spawn(async move { one(address, start, &report).await; });
            }
            Some(_) = requests.join_next(), if !requests.is_empty() => {}
            _ = stopped.changed() => break,
        }
    }
    while requests.join_next().await.is_some() {}
}

async fn one(address: SocketAddr, start: Instant, report: &Mutex<LoadReport>) {
    let sent = Instant::now();
    let result = match tokio::time::timeout(PATIENCE, get(address)).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    };
    let mut report = report.lock().await;
    report.sent += 1;
    let took = u64::try_from(sent.elapsed().as_millis()).unwrap_or(u64::MAX);
    report.slowest_ms = report.slowest_ms.max(took);
    if let Err(reason) = result {
        report.failed += 1;
        if report.failures.len() < KEPT_FAILURES {
            report.failures.push(format!("after {:.1} s: {reason}", (sent - start).as_secs_f64()));
        }
    }
}

/// Sends one request and reads the whole answer; a 200 that breaks off is a failure too.
async fn get(address: SocketAddr) -> Result<(), String> {
    let words = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(address).await.map_err(words)?;
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(words)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.map_err(words)?;
    let text = String::from_utf8_lossy(&answer);
    let status = text.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(format!("answered `{status}`"));
    }
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Err("the answer broke off".to_owned());
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    match length {
        Some(length) if length != body.len() => Err(format!("{} of {length} bytes came", body.len())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Serves two good answers, then one of each bad kind.
    async fn server(listener: TcpListener) {
        let answers = [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\n\r\nok",
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nbroken",
            "",
        ];
        for answer in answers {
            let (mut stream, _) = listener.accept().await.expect("a request");
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.expect("read");
            stream.write_all(answer.as_bytes()).await.expect("written");
        }
    }

    #[tokio::test]
    async fn counts_what_fails() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let served = tokio::spawn(server(listener));
        let mut results = Vec::new();
        for _ in 0..5 {
            results.push(get(address).await.is_ok());
        }
        served.await.expect("served");
        assert_eq!(results, [true, true, false, false, false]);
        let load = Load::start(address, 100);
        while load.so_far().await.failed == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let report = load.stop().await;
        assert_eq!(report.sent, report.failed, "nobody listens any more");
        assert!(!report.failures.is_empty());
    }
}

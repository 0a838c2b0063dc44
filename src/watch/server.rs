//! Do: the watcher's HTTP server: the page, metrics and health for whoever can reach it, and hooks for who
//! knows the secret.
//!
//! It speaks plain HTTP/1.1. Whoever lets it listen beyond this computer puts a server in front that speaks
//! TLS and knows who may read: nothing that the page shows is a secret, and not everybody need see it.
//!
//! A web site that somebody on this computer visits may let its own name point to 127.0.0.1 and read what
//! answers there (DNS rebinding). A browser then still says the site's name in `Host`, so what shows the
//! fleets answers to addresses, `localhost` and the names of [`Door::hosts`] alone. `/metrics` and `/healthz`
//! answer to any name, since Prometheus and load balancers find watchers by names that nobody wrote down: such
//! a site would learn the names of fleets and alerts, commits and numbers, and nothing of an instance. Hooks
//! ask for the secret, which no browser knows.

mod answer;
mod connection;
mod hooks;
mod rendered;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Incoming as Body;
use hyper::{Method, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use self::answer::{Reply, Shell};
use self::rendered::Rendered;
use super::metrics;
use super::page;
use super::secret::Secret;
use super::view::View;

/// Connections at once; others wait until one ends. A page has one or two, and a computer that is asked for
/// more at a time is not asked by people.
const CONNECTIONS: usize = 64;

/// How long connections are given to finish what they answer once the server is to stop. Waiting for the
/// answer to a hook ends sooner, since who would give it stops too.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long nothing is accepted after that failed: it fails when the process has no file descriptor left,
/// which a connection that ends gives back.
const BREATH: Duration = Duration::from_millis(100);

/// A view that is older belongs to a watcher that hangs: one is made every few seconds.
const STALE: SignedDuration = SignedDuration::from_secs(60);

/// What came in from outside and was vouched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// Something was pushed to some branch: the remote is to be asked. What the sender says of it counts for
    /// nothing.
    Pushed,
    /// What Alertmanager sends.
    Alertmanager(Vec<u8>),
    /// What SNS or `EventBridge` sends about alarms of `CloudWatch`.
    CloudWatch(Vec<u8>),
}

/// What becomes of it. Each has a line for the sender's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is taken: status 200.
    Taken(String),
    /// Not now; the sender shall try again: status 503.
    NotNow(String),
    /// It cannot be understood, and never will be: status 400.
    Refused(String),
}

/// Something that came in, and whoever waits to hear what becomes of it. When `answer` is dropped, the sender
/// is told to try again.
#[derive(Debug)]
pub struct Request {
    /// What came in.
    pub incoming: Incoming,
    /// Where to say what becomes of it, within 30 seconds.
    pub answer: oneshot::Sender<Answer>,
}

/// What the server shows, whom it believes, and where it puts what it hears.
#[derive(Debug, Clone)]
pub struct Door {
    /// What is shown; always the latest.
    pub view: watch::Receiver<Arc<View>>,
    /// What senders of hooks must know; without it there are no hooks.
    pub secret: Option<Arc<Secret>>,
    /// Where hooks go. When it is full, senders wait as they do for the answer.
    pub incoming: mpsc::Sender<Request>,
    /// Names by which browsers may reach the page, beside addresses and `localhost`; without ports.
    pub hosts: Vec<String>,
}

/// Serves until `stop` is ready and what was being answered is, or some seconds have passed. Fails never: a
/// connection that does ends alone.
pub async fn serve(listener: TcpListener, door: Door, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let desk = Arc::new(Desk::new(door));
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let (closing, closed) = watch::channel(());
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            // Nobody closes the semaphore, and nothing is to be accepted by who could not.
            let permit = Arc::clone(&room).acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            (permit, accepted) = accept => match accepted {
                Ok((stream, _)) => {
                    let (desk, closed) = (Arc::clone(&desk), closed.clone());
                    connections.spawn(async move {
                        connection::serve(stream, desk, closed).await;
                        drop(permit);
                    });
                }
                Err(_) => tokio::time::sleep(BREATH).await,
            },
        }
    }
    // Nobody new: the port is free from here on.
    drop((listener, closing));
    let ended = async { while connections.join_next().await.is_some() {} };
    // Whoever is not done by then is cut off, when the set is dropped.
    let _ = tokio::time::timeout(FAREWELL, ended).await;
}

/// What every connection needs.
struct Desk {
    door: Door,
    /// The latest view as it was last asked for, so that a thousand requests cost one rendering.
    rendered: Mutex<Arc<Rendered>>,
    shell: Shell,
}

impl Desk {
    fn new(door: Door) -> Self {
        let view = Arc::clone(&door.view.borrow());
        Self { door, rendered: Mutex::new(Arc::new(Rendered::new(view))), shell: Shell::new() }
    }

    /// The latest view.
    fn rendered(&self) -> Arc<Rendered> {
        let view = Arc::clone(&self.door.view.borrow());
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        // The one that is kept keeps its view: another at the same address is the same.
        if !Arc::ptr_eq(&rendered.view, &view) {
            *rendered = Arc::new(Rendered::new(view));
        }
        Arc::clone(&rendered)
    }

    async fn answer(&self, request: hyper::Request<Body>) -> answer::Response {
        let path = request.uri().path();
        let reply = match path {
            "/hooks/git" | "/hooks/alertmanager" | "/hooks/cloudwatch" => {
                hooks::answer(&self.door, request).await
            }
            "/" | "/part" | "/view.json" | "/metrics" | "/healthz" | "/icon.svg" => self.shown(&request),
            _ => Reply::text(StatusCode::NOT_FOUND, "there is nothing here"),
        };
        self.shell.around(reply)
    }

    /// What anybody may read.
    fn shown(&self, request: &hyper::Request<Body>) -> Reply {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return Reply::text(StatusCode::METHOD_NOT_ALLOWED, "this is only read")
                .with(header::ALLOW, "GET, HEAD");
        }
        let path = request.uri().path();
        if matches!(path, "/" | "/part" | "/view.json") && !self.known(request) {
            return Reply::text(
                StatusCode::MISDIRECTED_REQUEST,
                "the page is not shown under this name; `rekiln watch --host NAME` allows one",
            );
        }
        let rendered = self.rendered();
        match path {
            "/" => Reply::new("text/html; charset=utf-8", rendered.page()),
            "/part" => part(&rendered, request),
            "/view.json" => Reply::new("application/json", rendered.json()),
            "/metrics" => Reply::new(metrics::CONTENT_TYPE, rendered.metrics()),
            "/icon.svg" => Reply::new("image/svg+xml", page::ICON.into()),
            _ => health(&rendered.view, Timestamp::now()),
        }
    }

    /// Tells whether the request names an address, `localhost`, or a name that is allowed.
    fn known(&self, request: &hyper::Request<Body>) -> bool {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        // A request that names its target in full, as to a proxy, means that one.
        let whole = request.uri().authority().map(hyper::http::uri::Authority::as_str);
        let Some(host) = whole.or(host) else { return false };
        let name = without_port(host);
        let is = |allowed: &str| allowed.trim_end_matches('.').eq_ignore_ascii_case(name);
        name.parse::<IpAddr>().is_ok() || is("localhost") || self.door.hosts.iter().any(|host| is(host))
    }
}

/// The host of `host:port` as it is compared: without brackets around an address of version 6, and without
/// the dot that a name may end with.
fn without_port(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    host.split_once(':').map_or(host, |(name, _)| name).trim_end_matches('.')
}

/// The page's changing part, or that it is what the asker has.
fn part(rendered: &Rendered, request: &hyper::Request<Body>) -> Reply {
    let (part, etag) = rendered.part();
    let has = |value: &header::HeaderValue| {
        let tags = value.to_str().unwrap_or_default().split(',').map(str::trim);
        tags.map(|tag| tag.strip_prefix("W/").unwrap_or(tag)).any(|tag| tag == etag || tag == "*")
    };
    let reply = if request.headers().get_all(header::IF_NONE_MATCH).iter().any(has) {
        Reply::empty(StatusCode::NOT_MODIFIED)
    } else {
        Reply::new("text/html; charset=utf-8", part)
    };
    reply
        .with(header::ETAG, &etag)
        .with(answer::SEEN, &rendered.view.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
        .with(answer::PAGE, &page::build())
}

/// Whether the watcher works. One that follows does: a supervisor that ended it would end every spare one.
fn health(view: &View, now: Timestamp) -> Reply {
    let age = now.duration_since(view.at);
    if age > STALE {
        let text = format!("the watcher hangs: it last looked {} s ago", age.as_secs());
        return Reply::text(StatusCode::SERVICE_UNAVAILABLE, &text);
    }
    Reply::text(StatusCode::OK, if view.lead.mine { "ok: leads" } else { "ok: follows" })
}

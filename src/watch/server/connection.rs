//! One connection, from the first byte to the last. Each wait of it has an end, whatever the other side does.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Desk;

/// How long headers may take to come, and how long a connection may do nothing: the page asks every two
/// seconds.
const HEADERS: Duration = Duration::from_secs(10);

/// Bytes of a request's headers and of what is read ahead. Browsers and senders of hooks need 2 KiB, and
/// hyper takes no less than 8.
const BUFFER: usize = 16 << 10;

/// How long what was sent may stay unacknowledged, or not be sendable since the other side does not read, in
/// milliseconds.
const UNREAD: u32 = 10_000;

/// How old a connection gets before it takes no further request; a browser makes another one.
const LIFETIME: Duration = Duration::from_mins(5);

/// How long it may finish what it answers then: a hook is read for 10 seconds and answered within 30.
const LAST: Duration = Duration::from_secs(45);

/// Serves a connection until the other side ends it, it is too old, or `closed` has no sender any more.
pub async fn serve(stream: TcpStream, desk: Arc<Desk>, mut closed: watch::Receiver<()>) {
    // Kernels without it serve too: the connection's age ends it, only later.
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, UNREAD);
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer(request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(BUFFER);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // How it ended is the other side's affair.
        _ = connection.as_mut() => return,
        _ = closed.changed() => {}
        () = tokio::time::sleep(LIFETIME) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(LAST, connection).await;
}

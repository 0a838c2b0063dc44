//! A connection to a machine that may not be there yet.
//!
//! Whoever forwards a port, as QEMU's user network does, takes a connection before the machine can, and offers it to the machine
//! again after 6 s, and then 18 s: a server that came up a moment after the offer would wait for the next one. So a connection
//! that stays silent gets others beside it, and the first on which the server says something is taken.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How long a connection may be silent before there is another one beside it.
const SILENCE: Duration = Duration::from_secs(1);
/// How many there are at most: fewer than a server of OpenSSH lets come at a time (`MaxStartups`, ten).
const MOST: usize = 8;

/// Connects until the server says something, which is still to be read. `taken` becomes true once anybody takes a connection.
///
/// # Errors
/// A connection is refused.
pub(super) async fn dial(server: SocketAddr, taken: &Arc<AtomicBool>) -> io::Result<TcpStream> {
    let mut tries = JoinSet::new();
    loop {
        if tries.len() < MOST {
            tries.spawn(answered(server, Arc::clone(taken)));
        }
        tokio::select! {
            Some(done) = tries.join_next() => return done.map_err(io::Error::other).flatten(),
            () = tokio::time::sleep(SILENCE) => {}
        }
    }
}

async fn answered(server: SocketAddr, taken: Arc<AtomicBool>) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(server).await?;
    taken.store(true, Ordering::Relaxed);
    // What it says, or that it has hung up, whoever reads next finds again.
    let _ = stream.peek(&mut [0]).await;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;

    use super::*;

    fn dialled(server: SocketAddr) -> io::Result<TcpStream> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let taken = Arc::new(AtomicBool::new(false));
        let stream = runtime.block_on(dial(server, &taken));
        assert_eq!(taken.load(Ordering::Relaxed), stream.is_ok());
        stream
    }

    #[test]
    fn the_first_connection_on_which_something_is_said_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = listener.local_addr().expect("an address");
        let speaks = std::thread::spawn(move || {
            // The first one is never answered, as one that was offered too early.
            let silent = listener.accept().expect("a connection");
            let (mut second, from) = listener.accept().expect("another one");
            second.write_all(b"SSH").expect("said");
            (silent, from)
        });
        let stream = dialled(server).expect("answered");
        let (_silent, second) = speaks.join().expect("it spoke");
        assert_eq!(stream.local_addr().expect("an address"), second);
    }

    #[test]
    fn a_refusal_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = listener.local_addr().expect("an address");
        drop(listener);
        assert_eq!(dialled(server).expect_err("refused").kind(), io::ErrorKind::ConnectionRefused);
    }
}

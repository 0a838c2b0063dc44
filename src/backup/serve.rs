//! Do: hand a backup to the one machine that restores it, straight from the object store.
//!
//! The machine reaches nothing but this: QEMU leads what it asks of one address to one port of 127.0.0.1, and whoever else
//! of this computer finds that port does not know the path.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::runtime::Handle;

use super::event::Taken;
use super::parts;
use crate::error::{Doing as _, Result};
use crate::objects::Objects;
use crate::vm::document::Restore;
use crate::vm::extras::FETCH;

/// Bytes of the secret part of the path: as many as nobody guesses.
const TOKEN: usize = 16;

/// The longest request that is read: a line and some headers of Python's.
const LONGEST: u64 = 8 << 10;

/// What came of it so far.
#[derive(Debug, Clone, Default)]
pub struct Served {
    /// When it was first asked for.
    pub asked: Option<Instant>,
    /// When all of it was sent.
    pub sent: Option<Instant>,
    /// Why it could not be sent.
    pub failed: Option<String>,
}

/// One backup that can be fetched, until this is dropped.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddrV4,
    path: String,
    wanted: Taken,
    served: Arc<Mutex<Served>>,
    over: Arc<AtomicBool>,
}

impl Serving {
    /// Begins, on threads that end with this or with the process.
    ///
    /// # Errors
    /// No port is free, or the kernel has no randomness.
    pub fn start(parts: Objects, taken: &Taken, handle: &Handle) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing(|| "looking for a free port")?;
        let port = listener.local_addr().doing(|| "looking for a free port")?.port();
        let path = format!("/{}", token()?);
        let serving = Self {
            address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
            path: path.clone(),
            wanted: taken.clone(),
            served: Arc::default(),
            over: Arc::default(),
        };
        let desk = Arc::new(Desk {
            parts,
            taken: taken.clone(),
            handle: handle.clone(),
            path,
            served: Arc::clone(&serving.served),
        });
        let over = Arc::clone(&serving.over);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let desk = Arc::clone(&desk);
                std::thread::spawn(move || desk.answer(&stream));
            }
        });
        Ok(serving)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// What the machine is told.
    #[must_use]
    pub fn told(&self) -> Restore {
        Restore { url: format!("http://{FETCH}{}", self.path), sha256: self.wanted.sha256 }
    }

    /// What came of it so far.
    #[must_use]
    pub fn served(&self) -> Served {
        self.served.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Whoever waits for a connection gets one, and looks.
        let _ = TcpStream::connect(SocketAddr::V4(self.address));
    }
}

/// What a connection is answered from.
struct Desk {
    parts: Objects,
    taken: Taken,
    handle: Handle,
    path: String,
    served: Arc<Mutex<Served>>,
}

impl Desk {
    fn note(&self, note: impl FnOnce(&mut Served)) {
        note(&mut self.served.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Answers one request. The machine has one connection for its whole life, which is open long before it asks: nothing is
    /// said of how long that may take.
    fn answer(&self, stream: &TcpStream) {
        let mut line = String::new();
        let mut head = BufReader::new(stream).take(LONGEST);
        while matches!(head.read_line(&mut line), Ok(read) if read > 0) && !line.ends_with("\r\n\r\n") {}
        if line.is_empty() {
            return;
        }
        if !line.starts_with(&format!("GET {} HTTP/1.", self.path)) {
            let _ =
                write!(&*stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            return;
        }
        self.note(|served| {
            served.asked.get_or_insert_with(Instant::now);
        });
        match self.send(stream) {
            Ok(()) => self.note(|served| served.sent = Some(Instant::now())),
            Err(error) => self.note(|served| served.failed = Some(error.chain())),
        }
    }

    fn send(&self, mut stream: &TcpStream) -> Result<()> {
        let doing = || "sending the backup to the machine that restores it";
        let bytes = self.taken.bytes;
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n")
            .doing(doing)?;
        // What is longer or shorter than it was is for the machine to refuse.
        for number in 1..=self.taken.parts {
            stream.write_all(&parts::read(&self.parts, &self.handle, number)?).doing(doing)?;
        }
        stream.flush().doing(doing)
    }
}

fn token() -> Result<String> {
    let mut bytes = [0; TOKEN];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
            .doing(|| "asking the kernel for randomness")?;
    }
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(serving: &Serving, path: &str) -> String {
        let mut stream = TcpStream::connect(serving.address()).expect("connected");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("asked");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    #[test]
    fn only_who_knows_the_path_is_given_it() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let dir = tempfile::tempdir().expect("a directory");
        let parts = Objects::Directory(dir.path().to_owned());
        let taken = parts::write(&parts, runtime.handle(), &b"a backup"[..], |_| Ok(())).expect("written");
        let serving = Serving::start(parts, &taken, runtime.handle()).expect("started");
        assert!(ask(&serving, "/").starts_with("HTTP/1.1 404"));
        assert!(serving.served().asked.is_none());
        let told = serving.told();
        let path = told.url.strip_prefix("http://10.0.2.100").expect("where the machine looks");
        assert!(path.len() == 33 && told.sha256 == taken.sha256);
        assert!(ask(&serving, path).ends_with("\r\n\r\na backup"));
        let served = serving.served();
        assert!(served.asked.is_some() && served.failed.is_none());
        std::fs::remove_file(dir.path().join("00000001")).expect("removed");
        ask(&serving, path);
        assert!(serving.served().failed.expect("it is not whole").contains("is not there"));
    }
}

//! A member that the test plays: it says whether it leads, and keeps connections.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::spawn;
use std::time::Duration;

/// How long a connection is listened to until it counts as kept.
const SILENCE: Duration = Duration::from_millis(300);

pub struct Member {
    /// Where clients come.
    pub port: u16,
    /// Where it says how it is.
    pub health_port: u16,
    leads: Arc<AtomicBool>,
}

impl Member {
    /// Starts one that does not lead. Its threads end with the process.
    pub fn start(name: &str) -> Self {
        let listen = || TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let (clients, health) = (listen(), listen());
        let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
        let member = Self { port: port(&clients), health_port: port(&health), leads: Arc::default() };
        let leads = Arc::clone(&member.leads);
        spawn(move || health.incoming().flatten().for_each(|asked| drop(answer(&asked, &leads))));
        let name = name.to_owned();
        spawn(move || {
            for client in clients.incoming().flatten() {
                let name = name.clone();
                spawn(move || {
                    let _ = writeln!(&client, "{name}");
                    let _ = (&client).read_to_end(&mut Vec::new());
                });
            }
        });
        member
    }

    pub fn lead(&self, leads: bool) {
        self.leads.store(leads, Ordering::Relaxed);
    }
}

fn answer(asked: &TcpStream, leads: &AtomicBool) -> std::io::Result<()> {
    let mut line = String::new();
    BufReader::new(asked).read_line(&mut line)?;
    let good = !line.starts_with("GET /primary ") || leads.load(Ordering::Relaxed);
    let status = if good { "200 OK" } else { "503 Service Unavailable" };
    write!(&*asked, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// A client's connection, and to whom it leads.
pub struct Session {
    pub name: String,
    stream: TcpStream,
}

/// Connects; the name is empty when nobody is there.
pub fn session(address: SocketAddr) -> Session {
    let stream = TcpStream::connect(address).expect("the load balancer listens");
    let mut name = String::new();
    let _ = BufReader::new(&stream).read_line(&mut name);
    Session { name: name.trim().to_owned(), stream }
}

impl Session {
    pub fn is_cut(&mut self) -> bool {
        self.stream.set_read_timeout(Some(SILENCE)).expect("set");
        // Silence is an error here, and the end is none.
        !matches!(self.stream.read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }
}

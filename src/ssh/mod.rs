//! SSH to a machine that is made into an image: one connection, the machine known by a key that we gave it.
//!
//! How it can go wrong, and what is done: nobody listens yet, or what listens does not answer: tried again until a deadline.
//! Another host key than ours, a server that wants a password or does not speak SSH 2: never tried again. The connection
//! ends or stalls in the middle of a command: [`Ended::Lost`], which is no exit code; what it means is for the caller.

mod dial;
mod greeting;
mod keys;
mod lines;
mod refusal;

pub use keys::Keys;
pub use lines::Lines;
pub use refusal::Refusal;

use std::borrow::Cow;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use russh::client::{self, AuthResult, DisconnectReason, Handle};
use russh::keys::{Algorithm, HashAlg, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{ChannelMsg, Disconnect, MethodSet, Preferred, Sig};
use tokio::runtime::Runtime;
use tokio::time::{Instant, timeout_at};

use self::dial::dial;
use self::greeting::{Greeting, Watched};
use self::refusal::Awaited;
use crate::error::{Doing as _, Error, Result};
use crate::interrupt;
use crate::vm::report::plain;

/// How long one attempt may take from the first packet to the accepted key. A translated machine that is still starting
/// needs up to ten seconds for the key exchange alone.
pub const ATTEMPT: Duration = Duration::from_secs(30);
/// How often a silent machine is asked whether it is there, and how many of these questions may stay without an answer: two
/// minutes of silence are a lost connection. A busy translated machine was seen to be silent for some seconds.
const ALIVE: Duration = Duration::from_secs(20);
const ALIVE_MAX: usize = 6;
/// How often an interruption is looked for while the machine is silent.
const LOOK: Duration = Duration::from_millis(200);
/// How long a goodbye may take. Nobody answers it, so only a connection that takes nothing more makes it last.
const GOODBYE: Duration = Duration::from_secs(5);
/// What is sent at once: as much as fits into one packet of every server (RFC 4253, 6.1).
const CHUNK: usize = 32 * 1024;
/// Characters of what a server says about itself that a message shows: a line of a terminal, with what stands around it.
const SHOWN: usize = 100;

/// Where a machine's SSH server is, and how it and we are known.
#[derive(Debug, Clone)]
pub struct Address {
    /// Address and port.
    pub socket: SocketAddr,
    /// The account.
    pub user: String,
    /// The keys of this bake.
    pub keys: Arc<Keys>,
    /// How long one attempt may take: [`ATTEMPT`], where nothing else is known.
    pub patience: Duration,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// With this exit code.
    Exit(u32),
    /// By this signal.
    Signal(String),
    /// Not known: the connection was lost before the machine said how.
    Lost(String),
}

/// An open connection.
pub struct Session {
    runtime: Runtime,
    handle: Handle<Pinned>,
    seen: Seen,
}

/// What one connection shows of itself while it is made and when it ends.
#[derive(Debug, Clone, Default)]
struct Seen {
    greeting: Arc<Mutex<Greeting>>,
    /// The fingerprint of a host key that is not the machine's.
    other_key: Arc<OnceLock<String>>,
    /// How the connection ended.
    end: Arc<OnceLock<String>>,
}

impl Seen {
    fn greeting<T: Default>(&self, of: impl FnOnce(&Greeting) -> T) -> T {
        self.greeting.lock().map(|greeting| of(&greeting)).unwrap_or_default()
    }

    fn said(&self) -> Option<String> {
        self.greeting(Greeting::said)
    }

    fn has_version(&self) -> bool {
        self.greeting(Greeting::is_over)
    }

    fn is_foreign(&self) -> bool {
        self.greeting(Greeting::is_foreign)
    }
}

/// Accepts the one host key.
struct Pinned {
    host: PublicKey,
    seen: Seen,
}

impl client::Handler for Pinned {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let (same, fingerprint) = match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                (key.key_data() == self.host.key_data(), key.fingerprint(HashAlg::Sha256).to_string())
            }
            PublicKeyOrCertificate::Certificate(_) => (false, "a certificate".to_owned()),
        };
        if !same {
            self.seen.other_key.get_or_init(|| fingerprint);
        }
        Ok(same)
    }

    async fn disconnected(&mut self, reason: DisconnectReason<russh::Error>) -> Result<(), russh::Error> {
        self.seen.end.get_or_init(|| refusal::end(&reason));
        match reason {
            DisconnectReason::ReceivedDisconnect(_) => Ok(()),
            DisconnectReason::Error(error) => Err(error),
        }
    }
}

impl Session {
    /// Connects once.
    ///
    /// # Errors
    /// Whether to try again, and why.
    pub fn connect(address: &Address) -> std::result::Result<Self, Refusal> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .doing(|| "starting to speak SSH")
            .map_err(Refusal::Never)?;
        let seen = Seen::default();
        let handle =
            runtime.block_on(interruptible(open(address, &seen))).map_err(Refusal::Never).flatten()?;
        Ok(Self { runtime, handle, seen })
    }

    /// Runs a command with the remote account's shell, its standard input read from `input`, and hands over what it prints
    /// on both outputs as it comes.
    ///
    /// # Errors
    /// We were interrupted, and input that cannot be read. That the connection is lost is no error here.
    pub fn run(
        &mut self,
        command: &str,
        input: &mut (dyn Read + Send),
        output: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<Ended> {
        let (handle, seen) = (&self.handle, &self.seen);
        self.runtime.block_on(interruptible(exec(handle, seen, command, input, output)))?
    }

    /// Says goodbye, where anyone still listens.
    pub fn close(self) {
        let Self { runtime, handle, .. } = self;
        let goodbye = async {
            handle.disconnect(Disconnect::ByApplication, "", "").await?;
            // Until it is sent.
            handle.await
        };
        let _ = runtime.block_on(async { tokio::time::timeout(GOODBYE, goodbye).await });
        runtime.shutdown_background();
    }
}

/// Ends with the work, or as soon as someone interrupts the program.
async fn interruptible<T>(work: impl Future<Output = T>) -> Result<T> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            () = tokio::time::sleep(LOOK) => interrupt::check()?,
        }
    }
}

fn config() -> client::Config {
    client::Config {
        keepalive_interval: Some(ALIVE),
        keepalive_max: ALIVE_MAX,
        preferred: Preferred {
            // The kind of key that the machine was given. A server without it is not that machine.
            key: Cow::Borrowed(&[Algorithm::Ed25519]),
            ..Preferred::default()
        },
        ..client::Config::default()
    }
}

async fn open(address: &Address, seen: &Seen) -> std::result::Result<Handle<Pinned>, Refusal> {
    let end = Instant::now() + address.patience;
    let late = |awaited| refusal::late(address, seen, awaited);
    let taken = Arc::new(AtomicBool::new(false));
    let awaited = || if taken.load(Ordering::Relaxed) { Awaited::KeyExchange } else { Awaited::Connection };
    let stream = timeout_at(end, dial(address.socket, &taken))
        .await
        .map_err(|_| late(awaited()))?
        .map_err(|error| refusal::unreachable(address, &error))?;
    // Without it, each short command waits for an answer to the packet before; the connection works all the same.
    let _ = stream.set_nodelay(true);
    let stream = Watched::new(stream, Arc::clone(&seen.greeting));
    let pinned = Pinned { host: address.keys.host().clone(), seen: seen.clone() };
    let mut handle = timeout_at(end, client::connect_stream(Arc::new(config()), stream, pinned))
        .await
        .map_err(|_| late(Awaited::KeyExchange))?
        .map_err(|error| refusal::before_keys(address, seen, &error))?;
    let key = PrivateKeyWithHashAlg::new(address.keys.client(), None);
    let verdict = timeout_at(end, handle.authenticate_publickey(address.user.clone(), key))
        .await
        .map_err(|_| late(Awaited::Verdict))?;
    match verdict {
        Ok(AuthResult::Success) => Ok(handle),
        Ok(AuthResult::Failure { remaining_methods, partial_success }) => {
            Err(refusal::denied(address, seen, &remaining_methods, partial_success))
        }
        // Nobody took the question: the connection had ended.
        Err(_) => Err(refusal::denied(address, seen, &MethodSet::empty(), false)),
    }
}

/// Returns what a server says, fit for one line of a terminal.
fn shown(text: &str) -> String {
    let text = plain(text).replace(['\n', '\t'], " ");
    let text = text.trim();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

async fn exec(
    handle: &Handle<Pinned>,
    seen: &Seen,
    command: &str,
    input: &mut (dyn Read + Send),
    output: &mut (dyn FnMut(&[u8]) + Send),
) -> Result<Ended> {
    let lost =
        |error: russh::Error| Ended::Lost(seen.end.get().cloned().unwrap_or_else(|| error.to_string()));
    let channel = match handle.channel_open_session().await {
        Ok(channel) => channel,
        Err(russh::Error::ChannelOpenFailure(why)) => {
            return Err(Error::failed(format!("the machine's SSH server starts no command: {why:?}"))
                .hint("it may allow none (`MaxSessions`), or have no memory for one"));
        }
        Err(error) => return Ok(lost(error)),
    };
    if let Err(error) = channel.exec(true, command).await {
        return Ok(lost(error));
    }
    let (mut from, to) = channel.split();
    let send = async {
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = input.read(&mut chunk).doing(|| "reading what is sent to the machine")?;
            // A machine that reads no further has ended the command, and says so itself.
            let sent = if count == 0 { to.eof().await } else { to.data(&chunk[..count]).await };
            if count == 0 || sent.is_err() {
                return Ok::<(), Error>(());
            }
        }
    };
    tokio::pin!(send);
    let mut sending = true;
    let mut ended = None;
    loop {
        // What the machine says is taken even while it reads nothing, or both would wait for each other.
        tokio::select! {
            all = &mut send, if sending => {
                if let Err(error) = all {
                    // Or the command would wait for the rest, and the machine would send what nobody takes.
                    let _ = to.close().await;
                    return Err(error);
                }
                sending = false;
            }
            message = from.wait() => match message {
                Some(ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. }) => output(&data),
                Some(ChannelMsg::ExitStatus { exit_status }) => ended = Some(Ended::Exit(exit_status)),
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => ended = Some(Ended::Signal(name(&signal_name))),
                Some(ChannelMsg::Failure) => {
                    return Err(Error::failed("the machine's SSH server refuses to run commands"));
                }
                Some(ChannelMsg::Close) => {
                    let untold = || Ended::Lost("it ended the command and did not say how".to_owned());
                    return Ok(ended.unwrap_or_else(untold));
                }
                None => return Ok(ended.unwrap_or_else(|| lost(russh::Error::Disconnect))),
                Some(_) => {}
            },
        }
    }
}

/// Returns a signal's name without `SIG`. What the protocol has no name for is what the server calls it.
fn name(signal: &Sig) -> String {
    match signal {
        Sig::Custom(name) => shown(name),
        signal => format!("{signal:?}"),
    }
}

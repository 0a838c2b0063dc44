//! SSH to a machine that is made into an image: one connection, the machine known by a key that we gave it.
//!
//! How it can go wrong, and what is done: nobody listens yet, or what listens does not answer: tried again until a deadline.
//! Another host key than ours, a server that wants a password or does not speak SSH 2: never tried again. The connection
//! ends or stalls in the middle of a command: [`Ended::Lost`], which is no exit code; what it means is for the caller.

mod keys;
mod lines;

pub use keys::Keys;
pub use lines::Lines;

use std::borrow::Cow;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::client::{self, AuthResult, Handle};
use russh::keys::{Algorithm, HashAlg, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{ChannelMsg, Disconnect, MethodKind, Preferred};
use tokio::runtime::Runtime;

use crate::error::{Doing as _, Error, Result};
use crate::interrupt;

/// How long one attempt may take from the first packet to the accepted key. A translated machine that is still starting
/// needs up to ten seconds for the key exchange alone.
const ATTEMPT: Duration = Duration::from_secs(30);
/// How often a silent machine is asked whether it is there, and how many of these questions may stay without an answer: two
/// minutes of silence are a lost connection. A busy translated machine was seen to be silent for some seconds.
const ALIVE: Duration = Duration::from_secs(20);
const ALIVE_MAX: usize = 6;
/// How often an interruption is looked for while the machine is silent.
const LOOK: Duration = Duration::from_millis(200);
/// What is sent at once: as much as fits into one packet of every server (RFC 4253, 6.1).
const CHUNK: usize = 32 * 1024;

/// Where a machine's SSH server is, and how it and we are known.
#[derive(Debug, Clone)]
pub struct Address {
    /// Address and port.
    pub socket: SocketAddr,
    /// The account.
    pub user: String,
    /// The keys of this bake.
    pub keys: Arc<Keys>,
}

/// Why there is no session.
#[derive(Debug)]
pub enum Refusal {
    /// It may be starting; trying again makes sense. The text says what was seen.
    NotYet(String),
    /// It never will be what we want.
    Never(Error),
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
}

/// Accepts the one host key.
struct Pinned {
    host: PublicKey,
    /// The fingerprint of another one, where that was shown.
    seen: Arc<std::sync::Mutex<Option<String>>>,
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
        if !same && let Ok(mut seen) = self.seen.lock() {
            *seen = Some(fingerprint);
        }
        Ok(same)
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
        let seen = Arc::new(std::sync::Mutex::new(None));
        let pinned = Pinned { host: address.keys.host().clone(), seen: Arc::clone(&seen) };
        let attempt = async {
            match tokio::time::timeout(ATTEMPT, open(address, pinned)).await {
                Ok(opened) => opened,
                Err(_) => Err(Refusal::NotYet(format!(
                    "it accepts the connection and says nothing for {} s",
                    ATTEMPT.as_secs()
                ))),
            }
        };
        let opened = runtime.block_on(interruptible(attempt)).map_err(Refusal::Never)?;
        let shown = seen.lock().ok().and_then(|mut seen| seen.take());
        match (opened, shown) {
            (_, Some(shown)) => Err(Refusal::Never(wrong_key(address, &shown))),
            (Ok(handle), None) => Ok(Self { runtime, handle }),
            (Err(refusal), None) => Err(refusal),
        }
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
        let handle = &self.handle;
        self.runtime.block_on(interruptible(exec(handle, command, input, output)))?
    }

    /// Says goodbye, where anyone still listens.
    pub fn close(self) {
        let goodbye = self.handle.disconnect(Disconnect::ByApplication, "", "");
        let _ = self.runtime.block_on(tokio::time::timeout(LOOK, goodbye));
        self.runtime.shutdown_background();
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
        nodelay: true,
        preferred: Preferred {
            // The kind of key that the machine was given. A server without it is not that machine.
            key: Cow::Borrowed(&[Algorithm::Ed25519]),
            ..Preferred::default()
        },
        ..client::Config::default()
    }
}

async fn open(address: &Address, pinned: Pinned) -> std::result::Result<Handle<Pinned>, Refusal> {
    let mut handle = client::connect(Arc::new(config()), address.socket, pinned)
        .await
        .map_err(|error| refusal(address, &error))?;
    let key = PrivateKeyWithHashAlg::new(address.keys.client(), None);
    match handle.authenticate_publickey(address.user.clone(), key).await {
        Ok(AuthResult::Success) => Ok(handle),
        Ok(AuthResult::Failure { remaining_methods, .. }) => {
            Err(if remaining_methods.contains(&MethodKind::PublicKey) {
                // The server may be up before the machine has written down our key.
                Refusal::NotYet(format!("it does not let `{}` in with our key", address.user))
            } else {
                let offered: Vec<&str> = remaining_methods.iter().map(Into::into).collect();
                Refusal::Never(
                    Error::failed(format!(
                        "{} takes no keys from `{}`, only: {}",
                        address.socket,
                        address.user,
                        offered.join(", ")
                    ))
                    .hint(
                        "rekiln knows no passwords: let sshd accept public keys (`PubkeyAuthentication yes`)",
                    ),
                )
            })
        }
        Err(error) => Err(refusal(address, &error)),
    }
}

/// Tells what will change with time from what will not.
fn refusal(address: &Address, error: &russh::Error) -> Refusal {
    match error {
        russh::Error::NoCommonAlgo { kind: russh::AlgorithmKind::Key, .. } => {
            Refusal::Never(wrong_key(address, "one of another kind"))
        }
        russh::Error::NoCommonAlgo { .. } | russh::Error::WrongServerSig => Refusal::Never(Error::failed(
            format!("{} speaks another SSH than we do: {error}", address.socket),
        )),
        russh::Error::Version => Refusal::Never(
            Error::failed(format!("what listens on {} does not speak SSH 2", address.socket))
                .hint("another program may have taken the port; it is tried with a new port the next time"),
        ),
        error => Refusal::NotYet(error.to_string()),
    }
}

fn wrong_key(address: &Address, shown: &str) -> Error {
    Error::failed(format!(
        "what answers on {} is not the machine that was started: its host key is not the one that was given to it, but {shown}",
        address.socket
    ))
    .hint("nothing was sent to it. Someone may sit between, or the image does not take a host key from its seed: look at the console")
}

async fn exec(
    handle: &Handle<Pinned>,
    command: &str,
    input: &mut (dyn Read + Send),
    output: &mut (dyn FnMut(&[u8]) + Send),
) -> Result<Ended> {
    let lost = |error: russh::Error| Ok(Ended::Lost(error.to_string()));
    let channel = match handle.channel_open_session().await {
        Ok(channel) => channel,
        Err(error) => return lost(error),
    };
    if let Err(error) = channel.exec(true, command).await {
        return lost(error);
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
                all?;
                sending = false;
            }
            message = from.wait() => match message {
                Some(ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. }) => output(&data),
                Some(ChannelMsg::ExitStatus { exit_status }) => ended = Some(Ended::Exit(exit_status)),
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    ended = Some(Ended::Signal(format!("{signal_name:?}")));
                }
                Some(ChannelMsg::Failure) => {
                    return Err(Error::failed("the machine's SSH server refuses to run commands"));
                }
                Some(ChannelMsg::Close) | None => break,
                Some(_) => {}
            },
        }
    }
    Ok(ended.unwrap_or_else(|| Ended::Lost("the connection ended in the middle of a command".to_owned())))
}

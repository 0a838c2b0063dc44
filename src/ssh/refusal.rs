//! Why there is no session: what was seen, as a sentence, and whether it will change with time.

use std::io::ErrorKind;

use russh::client::DisconnectReason;
use russh::keys::HashAlg;
use russh::{AlgorithmKind, MethodKind, MethodSet};

use super::{ALIVE, ALIVE_MAX, Address, Seen, shown};
use crate::error::Error;

/// Why there is no session.
#[derive(Debug)]
pub enum Refusal {
    /// It may be starting; trying again makes sense. The text says what was seen, and where.
    NotYet(String),
    /// It never will be what we want.
    Never(Error),
}

/// What was awaited when the attempt's time was over.
#[derive(Debug, Clone, Copy)]
pub(super) enum Awaited {
    Connection,
    KeyExchange,
    Verdict,
}

pub(super) fn late(address: &Address, seen: &Seen, awaited: Awaited) -> Refusal {
    let (socket, time) = (address.socket, address.patience.as_secs());
    Refusal::NotYet(match (awaited, seen.said()) {
        (Awaited::Connection, _) => format!("{socket} does not answer within {time} s"),
        (Awaited::KeyExchange, None) => {
            format!("{socket} accepts the connection and says nothing for {time} s")
        }
        (Awaited::KeyExchange, Some(said)) if seen.has_version() => {
            format!("{socket} says `{said}` and does not exchange keys within {time} s")
        }
        (Awaited::KeyExchange, Some(said)) => {
            format!("{socket} says `{said}`, and nothing of SSH for {time} s")
        }
        (Awaited::Verdict, _) => {
            format!("{socket} does not say within {time} s whether it lets `{}` in", address.user)
        }
    })
}

pub(super) fn unreachable(address: &Address, error: &std::io::Error) -> Refusal {
    Refusal::NotYet(format!("connecting to {}: {error}", address.socket))
}

/// Judges an error from the first byte to the exchanged keys.
pub(super) fn before_keys(address: &Address, seen: &Seen, error: &russh::Error) -> Refusal {
    let socket = address.socket;
    if let Some(shown) = seen.other_key.get() {
        return Refusal::Never(wrong_key(address, shown));
    }
    if seen.is_foreign() {
        return Refusal::Never(no_ssh(address, seen));
    }
    match error {
        russh::Error::Version => Refusal::Never(no_ssh(address, seen)),
        russh::Error::NoCommonAlgo { kind: AlgorithmKind::Key, .. } => {
            Refusal::Never(wrong_key(address, "one of another kind"))
        }
        russh::Error::NoCommonAlgo { kind, theirs, .. } => Refusal::Never(
            Error::failed(format!("{socket} speaks another SSH than we do: it has no {kind:?} of ours"))
                .hint(format!("it has: {}", shown(&theirs.join(", ")))),
        ),
        russh::Error::WrongServerSig => Refusal::Never(
            Error::failed(format!(
                "what answers on {socket} is not the machine that was started: it shows the machine's host key and cannot \
                 prove that it has it"
            ))
            .hint("nothing was sent to it. Someone may sit between"),
        ),
        russh::Error::PacketSize(_)
        | russh::Error::PacketAuth
        | russh::Error::DecryptionError
        | russh::Error::Inconsistent
        | russh::Error::IndexOutOfBounds
        | russh::Error::KexInit
        | russh::Error::Kex
        | russh::Error::UnknownAlgo
        | russh::Error::StrictKeyExchangeViolation { .. }
        | russh::Error::SshEncoding(_)
        | russh::Error::SshKey(_)
        | russh::Error::Signature(_)
        | russh::Error::Utf8(_) => Refusal::Never(
            Error::failed(format!("{socket} {} and then what is no SSH: {error}", so_far(seen)))
                .hint("another program may have taken the port, or one between changes what is sent"),
        ),
        russh::Error::IO(error) if !closed(error.kind()) => {
            Refusal::NotYet(format!("{socket} {}, and then: {error}", so_far(seen)))
        }
        russh::Error::Disconnect | russh::Error::HUP | russh::Error::IO(_) => {
            let why = seen.end.get().map(|end| format!(": {end}")).unwrap_or_default();
            Refusal::NotYet(format!("{socket} {} and hangs up{why}", so_far(seen)))
        }
        error => Refusal::NotYet(format!("{socket} {}, and then: {error}", so_far(seen))),
    }
}

/// Judges a server that does not let us in; `remaining` is what it would take instead.
pub(super) fn denied(address: &Address, seen: &Seen, remaining: &MethodSet, partial: bool) -> Refusal {
    let (socket, user) = (address.socket, &address.user);
    let offered: Vec<&str> = remaining.iter().map(Into::into).collect();
    let offered = offered.join(", ");
    if offered.is_empty() {
        // The client says so of a connection that ended, too: a server may restart at that moment.
        let end = seen.end.get().map_or("it closed the connection", String::as_str);
        Refusal::NotYet(format!("{socket} does not say whether it lets `{user}` in: {end}"))
    } else if partial {
        Refusal::Never(
            Error::failed(format!("{socket} takes our key from `{user}` and wants more: {offered}")).hint(
                "rekiln knows no passwords: let a key be enough for sshd (`AuthenticationMethods publickey`)",
            ),
        )
    } else if remaining.contains(&MethodKind::PublicKey) {
        // The server may be up before the machine has written down our key.
        Refusal::NotYet(format!("{socket} does not let `{user}` in with our key"))
    } else {
        Refusal::Never(
            Error::failed(format!("{socket} takes no keys from `{user}`, only: {offered}"))
                .hint("rekiln knows no passwords: let sshd accept public keys (`PubkeyAuthentication yes`)"),
        )
    }
}

/// Says how a connection ended.
pub(super) fn end(reason: &DisconnectReason<russh::Error>) -> String {
    match reason {
        DisconnectReason::ReceivedDisconnect(info) => {
            format!("it ended the connection: {}", shown(&info.message))
        }
        DisconnectReason::Error(russh::Error::KeepaliveTimeout) => {
            // The first question is asked after the first silence.
            format!("it did not answer for {} s", ALIVE.as_secs() * (ALIVE_MAX as u64 + 1))
        }
        DisconnectReason::Error(russh::Error::IO(error)) if !closed(error.kind()) => error.to_string(),
        DisconnectReason::Error(russh::Error::IO(_) | russh::Error::Disconnect | russh::Error::HUP) => {
            "it closed the connection".to_owned()
        }
        DisconnectReason::Error(error) => error.to_string(),
    }
}

const fn closed(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
    )
}

fn so_far(seen: &Seen) -> String {
    seen.said().map_or_else(|| "accepts the connection".to_owned(), |said| format!("says `{said}`"))
}

fn no_ssh(address: &Address, seen: &Seen) -> Error {
    let said = seen.said().map(|said| format!(": it says `{said}`")).unwrap_or_default();
    Error::failed(format!("what listens on {} does not speak SSH 2{said}", address.socket))
        .hint("another program may have taken the port; it is tried with a new port the next time")
}

fn wrong_key(address: &Address, shown: &str) -> Error {
    Error::failed(format!(
        "what answers on {} is not the machine that was started: the host key of that is {}, and it shows {shown}",
        address.socket,
        address.keys.host().fingerprint(HashAlg::Sha256),
    ))
    .hint(
        "nothing was sent to it. Someone may sit between, or the machine does not use that host key, as when its image \
         takes none from its seed: look at the console",
    )
}

//! The keys of one bake: ours, by which the machine lets us in, and the machine's, by which we know it. Ours is made here,
//! the machine's here or by the machine. They live in memory only, and mean nothing once the bake has ended.

use std::sync::Arc;

use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{Algorithm, PrivateKey, PublicKey};

use super::shown;
use crate::error::{Doing as _, Error, Result};

/// The keys of one bake. There is no way to print the private ones but [`Keys::host_private`], which the machine needs.
pub struct Keys {
    client: Arc<PrivateKey>,
    host: Host,
}

/// Who made the machine's key.
enum Host {
    /// We did, and gave it to the machine.
    Given(Box<PrivateKey>),
    /// The machine did, and told us on a way that nobody else writes to.
    Told(PublicKey),
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Keys {
    /// Makes two new Ed25519 keys from the kernel's random source.
    ///
    /// # Errors
    /// The kernel has no random source.
    pub fn new() -> Result<Self> {
        Ok(Self { client: Arc::new(key()?), host: Host::Given(Box::new(key()?)) })
    }

    /// Returns the same key of ours, for a machine that made its host key itself: `host_public` is that as the machine told
    /// it on its console, `ssh-ed25519 AAAA… comment`.
    ///
    /// # Errors
    /// That is no public key, or one of another kind than Ed25519.
    pub fn pinned(&self, host_public: &str) -> Result<Self> {
        let host = PublicKey::from_openssh(host_public.trim()).map_err(|error| {
            Error::failed(format!("`{}` is no public host key: {error}", shown(host_public)))
                .hint("a host key is one line: its kind, its bytes in base 64, and a comment")
        })?;
        if host.algorithm() == Algorithm::Ed25519 {
            Ok(Self { client: Arc::clone(&self.client), host: Host::Told(host.key_data().clone().into()) })
        } else {
            let kind = host.algorithm();
            Err(Error::failed(format!("a machine cannot be known by a host key of the kind {kind}"))
                .hint("take the machine's key of the kind ssh-ed25519, which each SSH server of today has"))
        }
    }

    /// Returns our public key as a line of `authorized_keys`.
    ///
    /// # Errors
    /// The key cannot be written, which does not happen with keys made here.
    pub fn client_public(&self) -> Result<String> {
        line(self.client.public_key())
    }

    /// Returns the machine's private key as sshd reads it. It may reach the machine, and nothing else: no file, no log.
    ///
    /// # Errors
    /// As [`Keys::client_public`], and the machine made its key itself.
    pub fn host_private(&self) -> Result<impl std::ops::Deref<Target = String> + use<>> {
        match &self.host {
            Host::Given(host) => host.to_openssh(LineEnding::LF).map_err(|error| unwritable(&error)),
            Host::Told(_) => {
                Err(Error::failed("the machine has a host key of its own, and cannot be given one"))
            }
        }
    }

    /// Returns the machine's public key.
    ///
    /// # Errors
    /// As [`Keys::client_public`].
    pub fn host_public(&self) -> Result<String> {
        line(self.host())
    }

    pub(super) fn client(&self) -> Arc<PrivateKey> {
        Arc::clone(&self.client)
    }

    pub(super) fn host(&self) -> &PublicKey {
        match &self.host {
            Host::Given(host) => host.public_key(),
            Host::Told(host) => host,
        }
    }
}

fn key() -> Result<PrivateKey> {
    let mut seed = [0; 32];
    let mut filled = 0;
    while filled < seed.len() {
        filled += rustix::rand::getrandom(&mut seed[filled..], rustix::rand::GetRandomFlags::empty())
            .doing(|| "making a key")?;
    }
    let pair = KeypairData::from(Ed25519Keypair::from_seed(&seed));
    PrivateKey::new(pair, "").map_err(|error| Error::failed(format!("making a key: {error}")))
}

fn line(key: &PublicKey) -> Result<String> {
    key.to_openssh().map_err(|error| unwritable(&error))
}

fn unwritable(error: &russh::keys::ssh_key::Error) -> Error {
    Error::failed(format!("writing a key: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_bakes_share_a_key_and_none_is_printed() {
        let (one, other) = (Keys::new().expect("keys"), Keys::new().expect("keys"));
        let public = one.client_public().expect("a line");
        assert!(public.starts_with("ssh-ed25519 AAAA"), "{public}");
        assert_ne!(public, other.client_public().expect("a line"));
        assert_ne!(public, one.host_public().expect("a line"));
        assert_eq!(format!("{one:?}"), "Keys { .. }");
        assert!(one.host_private().expect("a key").contains("OPENSSH PRIVATE KEY"));
    }
    #[test]
    fn a_host_key_that_a_machine_told_is_taken_or_refused() {
        let (ours, theirs) = (Keys::new().expect("keys"), Keys::new().expect("keys"));
        let told = theirs.host_public().expect("a line");
        let pinned = ours.pinned(&format!("{told} root@ip-10-0-0-1\r\n")).expect("a key");
        assert_eq!(pinned.host_public().expect("a line"), told);
        assert_eq!(pinned.client_public().expect("a line"), ours.client_public().expect("a line"));
        assert!(pinned.host_private().is_err());

        let refused = |text: &str| format!("{:?}", ours.pinned(text).expect_err("no key that we take"));
        assert!(refused("ssh-ed25519 \x1b[2JAAAA").starts_with("`ssh-ed25519 AAAA` is no public host key: "));
        let curve = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHTlF7bWlqxwLfmsL8SVBqlYgCJToposn\
            hGMczVPOLVFAEZGQNUzB2RIK0ArSxjaZjlYJ2CPuB8KAQiqk0rqkjQ=";
        assert_eq!(refused(curve), "a machine cannot be known by a host key of the kind ecdsa-sha2-nistp256");
    }
}

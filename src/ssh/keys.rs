//! The keys of one bake: ours, by which the machine lets us in, and the machine's, by which we know it. Both are made here,
//! live in memory only, and mean nothing once the bake has ended.

use std::sync::Arc;

use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{PrivateKey, PublicKey};

use crate::error::{Doing as _, Error, Result};

/// The keys of one bake. There is no way to print the private ones but [`Keys::host_private`], which the machine needs.
pub struct Keys {
    client: Arc<PrivateKey>,
    host: PrivateKey,
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
        Ok(Self { client: Arc::new(key()?), host: key()? })
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
    /// As [`Keys::client_public`].
    pub fn host_private(&self) -> Result<impl std::ops::Deref<Target = String> + use<>> {
        self.host.to_openssh(LineEnding::LF).map_err(|error| unwritable(&error))
    }

    /// Returns the machine's public key.
    ///
    /// # Errors
    /// As [`Keys::client_public`].
    pub fn host_public(&self) -> Result<String> {
        line(self.host.public_key())
    }

    pub(super) fn client(&self) -> Arc<PrivateKey> {
        Arc::clone(&self.client)
    }

    pub(super) fn host(&self) -> &PublicKey {
        self.host.public_key()
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
}

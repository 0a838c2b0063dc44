//! What a machine is told of itself and of the others when it is launched, and the secret that all of a fleet share.

use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ring::hmac;
use serde::{Deserialize, Serialize};

use super::extras::{Credential, Segment};
use crate::atomic_write::atomic_write;
use crate::digest::Digest;
use crate::error::{Doing as _, Error, Result};

/// The name of the credential with the [`Document`].
pub const INSTANCE: &str = "rekiln.instance";
/// The name of the credential with the [`Secret`].
pub const SECRET: &str = "rekiln.secret";
/// Bytes of a secret: as many as SHA-256, with which passwords are made from it, has in its output.
const SECRET_BYTES: usize = 32;
/// The private network, 10.77.0.0/16: not 10.0.2.0/24, where QEMU's user-mode network is.
const NETWORK: [u8; 2] = [10, 77];
/// How many addresses it has for machines: without the first, which names the network, and the last, which means all.
const ADDRESSES: u64 = (1 << 16) - 2;
/// What the addresses of the cards begin with: the bit for "locally administered" is set, that for groups is not, and no
/// other program here is known to use it (QEMU's own are 52:54:00).
const MAC: [u8; 3] = [0x0e, 0x72, 0x6b];

/// What a machine is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Its fleet.
    pub fleet: String,
    /// Its name.
    pub instance: String,
    /// Its address in the fleet's private network.
    pub address: Ipv4Addr,
    /// Whether it begins a new cluster. Every other one joins what the members have.
    pub founds: bool,
    /// Those that had a record when it was launched. Some may be gone, or not up yet.
    pub members: Vec<Member>,
    /// The backup that the cluster begins with, for one that founds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
}

/// A backup that a machine begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// Where the machine fetches it, once.
    pub url: String,
    /// The digest of all of it.
    pub sha256: Digest,
}

/// Another machine of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub instance: String,
    /// Its address in the fleet's private network.
    pub address: Ipv4Addr,
}

impl Document {
    /// Writes it for the machine of `dir`, readable for its owner only, and returns the credential.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write(&self, dir: &Path) -> Result<Credential> {
        let file = dir.join("document.json");
        let text = serde_json::to_vec(self).doing(|| format!("describing {}", self.instance))?;
        atomic_write(&file, &text)?;
        let owners = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&file, owners).doing(|| format!("closing {} to others", file.display()))?;
        Ok(Credential { name: INSTANCE.to_owned(), file })
    }
}

/// What the members of a fleet know and nobody else: their passwords are made from it. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    bytes: Vec<u8>,
    file: PathBuf,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.file.display())
    }
}

impl Secret {
    /// Returns the secret of the fleet (or the trial) that has its records in `dir`, and makes it when there is none yet: 64
    /// hexadecimal digits in `secret`, a file that only its owner can read.
    ///
    /// # Errors
    /// The disk refuses, the kernel has no randomness, or the file is something else.
    pub fn of(dir: &Path) -> Result<Self> {
        let file = dir.join("secret");
        if !file.exists() {
            make(&file).doing(|| format!("making the fleet's secret in {}", file.display()))?;
        }
        Self::read(dir)
    }

    /// Returns the secret of the fleet that has its records in `dir`.
    ///
    /// # Errors
    /// There is none, it cannot be read, or the file is something else.
    pub fn read(dir: &Path) -> Result<Self> {
        let file = dir.join("secret");
        let text = fs::read_to_string(&file).doing(|| format!("reading {}", file.display()))?;
        let digits = text.trim().as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
        match bytes.filter(|bytes| bytes.len() == SECRET_BYTES && digits.len() == 2 * SECRET_BYTES) {
            Some(bytes) => Ok(Self { bytes, file }),
            None => Err(Error::failed(format!("{} is no secret of a fleet", file.display())).hint(
                "members that run know the right one: bring it back, or end the fleet (`rekiln down`)",
            )),
        }
    }

    /// Returns the password for `label`: the HMAC-SHA256 of the label under the secret, in hexadecimal digits.
    #[must_use]
    pub fn password(&self, label: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.bytes);
        hmac::sign(&key, label.as_bytes()).as_ref().iter().fold(String::new(), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Returns it as a credential.
    #[must_use]
    pub fn credential(&self) -> Credential {
        Credential { name: SECRET.to_owned(), file: self.file.clone() }
    }
}

/// Written beside and linked to its name, which fails when another process was faster: the first one counts.
fn make(file: &Path) -> std::io::Result<()> {
    let mut bytes = [0; SECRET_BYTES];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir)?;
    }
    let aside = file.with_extension(format!("{}.new", std::process::id()));
    let _ = fs::remove_file(&aside);
    let mut new = File::options().write(true).create_new(true).mode(0o600).open(&aside)?;
    for byte in bytes {
        write!(new, "{byte:02x}")?;
    }
    new.sync_all()?;
    let linked = fs::hard_link(&aside, file);
    fs::remove_file(&aside)?;
    match linked {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Returns the group of the private network of whatever has its files in `dir`; two directories have two.
///
/// 239.192.0.0/14 is for one organisation's own use (RFC 2365), and ports below 32768 are none that Linux gives to programs
/// that ask for any.
#[must_use]
pub fn group(dir: &Path) -> SocketAddrV4 {
    let digest = Digest::of(dir.as_os_str().as_encoded_bytes()).to_string();
    let part = |at: usize| u16::from_str_radix(&digest[at..at + 4], 16).unwrap_or_default();
    let [high, low] = part(0).to_be_bytes();
    SocketAddrV4::new(Ipv4Addr::new(239, 192, high, low), 20_000 + part(4) % 12_000)
}

/// Returns the address of the launch `number` in the private network. Numbers so far apart that they have the same one never
/// live at the same time.
#[must_use]
pub fn address(number: u64) -> Ipv4Addr {
    let host = u16::try_from(number % ADDRESSES).unwrap_or_default() + 1;
    let [high, low] = host.to_be_bytes();
    Ipv4Addr::new(NETWORK[0], NETWORK[1], high, low)
}

/// Returns the card for an address in the private network of `dir`: the guest tells it by its last three bytes, which are the
/// address's.
#[must_use]
pub fn segment(dir: &Path, address: Ipv4Addr) -> Segment {
    let [_, a, b, c] = address.octets();
    let mac = MAC.iter().chain(&[a, b, c]).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
    Segment { group: group(dir), mac }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let fleet = dir.path().join("db");
        assert!(Secret::read(&fleet).is_err());
        let secret = Secret::of(&fleet).expect("made");
        assert_eq!(Secret::of(&fleet).expect("read"), secret);
        let file = fleet.join("secret");
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&fleet).expect("a directory").count(), 1, "nothing is left beside it");
        let text = fs::read_to_string(&file).expect("read");
        assert!(!format!("{secret:?}").contains(&text), "it is not printed");
        assert_ne!(secret, Secret::of(dir.path()).expect("another"));
        fs::write(&file, &text[1..]).expect("written");
        assert!(Secret::read(&fleet).is_err(), "half of it is none");
    }

    #[test]
    fn passwords_are_those_of_the_guest() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("secret"), "0b".repeat(32)).expect("written");
        let secret = Secret::read(dir.path()).expect("read");
        // hmac.new(bytes.fromhex("0b" * 32), b"app", "sha256").hexdigest() in Python.
        assert_eq!(
            secret.password("app"),
            "b4a9526f3638c6a5b1fdb8c584fe14eade799f0ce40d22d3c077f8092819eb93"
        );
        assert_ne!(secret.password("rest"), secret.password("app"));
    }

    #[test]
    fn a_document_is_its_owners() {
        let dir = tempfile::tempdir().expect("a directory");
        let document = Document {
            fleet: "db".to_owned(),
            instance: "db-7".to_owned(),
            address: address(7),
            founds: false,
            members: vec![Member { instance: "db-6".to_owned(), address: address(6) }],
            restore: None,
        };
        let credential = document.write(dir.path()).expect("written");
        assert_eq!(credential.name, "rekiln.instance");
        let text = fs::read_to_string(credential.file).expect("read");
        assert_eq!(
            text,
            r#"{"fleet":"db","instance":"db-7","address":"10.77.0.8","founds":false,"members":[{"instance":"db-6","address":"10.77.0.7"}]}"#
        );
    }

    #[test]
    fn addresses_cards_and_groups() {
        assert_eq!(address(1), Ipv4Addr::new(10, 77, 0, 2));
        assert_eq!(address(65_533), Ipv4Addr::new(10, 77, 255, 254));
        assert_eq!(address(65_534), Ipv4Addr::new(10, 77, 0, 1), "the last is followed by the first");
        let (here, there) = (Path::new("/store/local/db"), Path::new("/store/local/other"));
        assert_eq!(segment(here, address(258)).mac, "0e:72:6b:4d:01:03");
        assert_eq!(group(here), group(here));
        assert_ne!(group(here), group(there));
        assert!(group(here).ip().is_multicast() && (20_000..32_768).contains(&group(here).port()));
    }
}

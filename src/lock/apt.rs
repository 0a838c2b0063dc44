//! Resolution and signatures by apt, in a private state that the host's apt never sees.

mod state;

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use rustix::fs::FlockOperation;

pub use self::state::State;
use super::archive::Archives;
use super::settings::Settings;
use super::stanza::{self, Stanza};
use super::{Suite, archive};
use crate::digest::Digest;
use crate::error::{Doing as _, Error, Result};
use crate::process::Run as _;
use crate::progress::Progress;
use crate::store::Store;

/// The keys of Debian's archives, from the package `debian-archive-keyring`.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A private apt state with fresh, signed indexes of one release. One value at a time has it; a second one of the
/// same release waits until the first is dropped.
#[derive(Debug)]
pub struct Apt {
    state: State,
    archives: Archives,
    architecture: String,
    _alone: File,
}

/// One package that apt chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Binary package name.
    pub name: String,
    /// Full version with epoch.
    pub version: String,
    /// Debian architecture.
    pub arch: String,
    /// Bytes.
    pub size: u64,
    /// Where apt would fetch it.
    pub url: String,
}

impl Apt {
    /// Makes the private state for `suite` and brings its indexes up to date, with signatures checked.
    ///
    /// # Errors
    /// A missing keyring, an archive that cannot be reached, a signature that is not good.
    pub fn update(store: &Store, settings: &Settings, suite: &str, progress: &dyn Progress) -> Result<Self> {
        let architecture = architecture()?;
        let archives = Archives::configured(settings, suite)?;
        let dir = store.root().join("apt").join(format!("{suite}-{architecture}"));
        let state = State::make(dir)?;
        let alone = alone(&state.dir().join("alone"), suite, progress)?;
        let keyring = settings.keyring.clone().unwrap_or_else(|| KEYRING.into());
        if !keyring.is_file() {
            return Err(Error::failed(format!("the archive's keys are not at {}", keyring.display()))
                .hint("install them with `apt-get install debian-archive-keyring`"));
        }
        state.configure(&architecture)?;
        state.write("etc/sources.list", &source_list(&archives, &architecture, &keyring))?;
        state.write("status", "")?;
        let apt = Self { state, archives, architecture, _alone: alone };
        progress.step(suite, "reading the archive's indexes", || {
            // Without it, apt would go on with older indexes after a bad signature, and say so in passing.
            apt.state
                .run("apt-get", &["update", "-q", "--error-on=any"])
                .map_err(|error| explain_update(error, suite))
        })?;
        Ok(apt)
    }

    /// Returns where the packages come from.
    #[must_use]
    pub const fn archives(&self) -> &Archives {
        &self.archives
    }

    /// Returns the Debian architecture that is resolved for.
    #[must_use]
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// Returns the signed state of each suite: the release's own first.
    ///
    /// # Errors
    /// An index that is not there or has no date.
    pub fn suites(&self) -> Result<Vec<Suite>> {
        let names = self.archives.repositories().flat_map(|(_, _, names)| names);
        names.map(|name| self.suite(name)).collect()
    }

    fn suite(&self, name: String) -> Result<Suite> {
        let end = format!("_dists_{name}_InRelease");
        let lists = self.state.dir().join("lists");
        let found: Vec<_> = fs::read_dir(&lists)
            .doing(|| format!("reading {}", lists.display()))?
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().ends_with(&end))
            .map(|entry| entry.path())
            .collect();
        let [path] = &found[..] else {
            return Err(Error::failed(format!("`{name}` has {} signed indexes instead of one", found.len()))
                .hint(format!("remove {} and try again", self.state.dir().display())));
        };
        let text = fs::read_to_string(path).doing(|| format!("reading {}", path.display()))?;
        let date = signed_date(&text)
            .ok_or_else(|| Error::failed(format!("{} has no date that can be read", path.display())))?;
        Ok(Suite { name, date, inrelease: Digest::of(text.as_bytes()) })
    }

    /// Resolves `wanted` on top of the packages that `status` says are installed; nothing may be removed.
    ///
    /// # Errors
    /// What apt says when there is no solution.
    pub fn install(&self, status: &str, wanted: &[&str]) -> Result<Vec<Choice>> {
        self.state.write("status", status)?;
        let mut args = vec!["install", "-q", "--no-remove", "--print-uris", "-y"];
        args.extend(wanted);
        let text = self.state.run("apt-get", &args)?;
        text.lines().filter(|line| line.starts_with('\'')).map(choice).collect()
    }

    /// Returns the index entries of `name=version` pairs, without those that the archive no longer has.
    ///
    /// # Errors
    /// Whatever apt-cache returns.
    pub fn show(&self, pairs: &[String]) -> Result<Vec<Stanza>> {
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        let mut args = vec!["show", "--no-all-versions"];
        args.extend(pairs.iter().map(String::as_str));
        match self.state.run("apt-cache", &args) {
            Ok(text) => Ok(stanza::parse(&text)),
            Err(error) if error.chain().contains("No packages found") => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// Returns the Debian architecture of this host.
///
/// # Errors
/// Whatever dpkg returns.
pub fn architecture() -> Result<String> {
    Ok(Command::new("dpkg").arg("--print-architecture").run_text()?.trim().to_owned())
}

/// Waits until nobody else uses the state.
fn alone(path: &Path, suite: &str, progress: &dyn Progress) -> Result<File> {
    let file = File::create(path).doing(|| format!("creating {}", path.display()))?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        progress.note(suite, "waiting for another rekiln that resolves packages");
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .doing(|| format!("locking {}", path.display()))?;
    }
    Ok(file)
}

fn source_list(archives: &Archives, architecture: &str, keyring: &Path) -> String {
    let keys = keyring.display();
    let line =
        |base: &str, suite: &str| format!("deb [arch={architecture} signed-by={keys}] {base} {suite} main\n");
    archives
        .repositories()
        .flat_map(|(_, base, suites)| suites.into_iter().map(move |suite| (base, suite)))
        .map(|(base, suite)| line(base, &suite))
        .collect()
}

fn explain_update(error: Error, suite: &str) -> Error {
    let text = error.chain();
    let error = error.during(format!("updating the indexes of `{suite}`"));
    if ["signature", "NO_PUBKEY", "not signed", "EXPKEYSIG", "BADSIG"].iter().any(|word| text.contains(word))
    {
        error.hint("the archive's signature is not good: the mirror is wrong or altered, or the keyring (package debian-archive-keyring) is too old")
    } else {
        error
            .hint("the mirrors come from REKILN_MIRROR or .rekiln.toml, else from this machine's apt sources")
    }
}

/// Finds the date in a signed index.
fn signed_date(text: &str) -> Option<Timestamp> {
    let date = text.lines().find_map(|line| line.strip_prefix("Date:"))?.trim();
    // Archives write `UTC`, which RFC 2822 does not know.
    let date = date.strip_suffix("UTC").map_or_else(|| date.to_owned(), |date| format!("{date}+0000"));
    jiff::fmt::rfc2822::parse(&date).ok().map(|zoned| zoned.timestamp())
}

/// Parses a line of `--print-uris`: `'URL' name_version_arch.deb size hash`.
fn choice(line: &str) -> Result<Choice> {
    let bad = || Error::failed(format!("apt printed a line that rekiln does not understand: {line}"));
    let (url, rest) = line.strip_prefix('\'').and_then(|rest| rest.split_once('\'')).ok_or_else(bad)?;
    let mut words = rest.split_whitespace();
    let file = words.next().and_then(|file| file.strip_suffix(".deb")).ok_or_else(bad)?;
    let [name, version, arch] = file.split('_').collect::<Vec<_>>()[..] else { return Err(bad()) };
    let size = words.next().and_then(|size| size.parse().ok()).ok_or_else(bad)?;
    let version = archive::percent_decoded(version).ok_or_else(bad)?;
    Ok(Choice { name: name.to_owned(), version, arch: arch.to_owned(), size, url: url.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_print_uris() {
        let line = "'http://m.example/debian/pool/main/libc/libcap2/libcap2_2.66-4%2bb1_amd64.deb' libcap2_1%3a2.66-4+b1_amd64.deb 26276 MD5Sum:00";
        let seen = choice(line).expect("understood");
        assert_eq!(
            (seen.name.as_str(), seen.version.as_str(), seen.arch.as_str()),
            ("libcap2", "1:2.66-4+b1", "amd64")
        );
        assert_eq!(
            (seen.size, seen.url.as_str()),
            (26276, "http://m.example/debian/pool/main/libc/libcap2/libcap2_2.66-4%2bb1_amd64.deb")
        );
        for bad in ["'u'", "'u' a_1.deb 5", "'u' a_1_all.deb x", "'u a_1_all.deb 5", "'u' a_%zz_all.deb 5"] {
            assert!(choice(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn dates_of_signed_indexes() {
        let date = signed_date("Origin: Debian\nDate: Sat, 21 Nov 2026 00:53:02 UTC\n").expect("a date");
        assert_eq!(date.to_string(), "2026-11-21T00:53:02Z");
        assert_eq!(signed_date("Date: soon"), None);
        assert_eq!(signed_date("Origin: Debian"), None);
    }
}

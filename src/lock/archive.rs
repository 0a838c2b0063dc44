//! Where packages come from on this machine: mirrors, then archives of old versions.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jiff::Timestamp;

use super::Package;
use super::settings::Settings;
use super::sources::{self, Source};
use crate::error::{Doing as _, Error, Result};

/// The archive that has a suite and its updates.
pub const DEBIAN: &str = "debian";
/// The archive that has a suite's security updates.
pub const SECURITY: &str = "debian-security";

/// A day after a suite was signed, an archive of old versions has surely taken in what it listed, and Debian
/// has not yet removed what it replaced.
const TAKEN_IN: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// The archives of one Debian release and where they lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archives {
    /// The release's code name.
    pub suite: String,
    /// Base URLs by archive, without a slash at the end, in the order they are asked. Never empty.
    mirrors: BTreeMap<&'static str, Vec<String>>,
    snapshots: Vec<String>,
}

impl Archives {
    /// Finds the archives of `suite` in the settings, else in this machine's own apt sources.
    ///
    /// # Errors
    /// Sources that cannot be read, and a release or its security updates that no source has.
    pub fn configured(settings: &Settings, suite: &str) -> Result<Self> {
        let host = if settings.mirror.is_some() { Vec::new() } else { host_sources(Path::new("/etc/apt"))? };
        Self::choose(settings, &host, suite)
    }

    /// Chooses among the settings and the sources of the host.
    fn choose(settings: &Settings, host: &[Source], suite: &str) -> Result<Self> {
        let mut mirrors = BTreeMap::new();
        for archive in [DEBIAN, SECURITY] {
            let set = match (&settings.mirror, &settings.security_mirror) {
                (Some(mirror), _) if archive == DEBIAN => Some(mirror.clone()),
                (_, Some(mirror)) if archive == SECURITY => Some(mirror.clone()),
                (Some(mirror), None) => Some(format!("{}-security", mirror.trim_end_matches('/'))),
                _ => None,
            };
            let bases = set.map_or_else(
                || of_host(host, settings.keyring.as_deref(), suite, archive),
                |base| vec![base],
            );
            let bases: Vec<_> = bases.iter().map(|base| base.trim_end_matches('/').to_owned()).collect();
            if bases.is_empty() {
                return Err(Error::failed(format!(
                    "no apt source of this machine has the archive `{archive}` for `{suite}`"
                ))
                .hint("set REKILN_MIRROR (and REKILN_SECURITY_MIRROR) to the URLs of mirrors, or add the suite to /etc/apt"));
            }
            mirrors.insert(archive, bases);
        }
        Ok(Self { suite: suite.to_owned(), mirrors, snapshots: settings.snapshots.clone() })
    }

    /// Returns the mirror to resolve against, for each archive the names of its suites.
    pub fn repositories(&self) -> impl Iterator<Item = (&'static str, &str, Vec<String>)> {
        self.mirrors.iter().filter_map(|(&archive, bases)| {
            Some((archive, bases.first()?.as_str(), suites_of(&self.suite, archive)))
        })
    }

    /// Splits the URL of a package into archive and decoded path, if it lies in one of the mirrors.
    #[must_use]
    pub fn split(&self, url: &str) -> Option<(&'static str, String)> {
        self.mirrors.iter().find_map(|(&archive, bases)| {
            let path = bases.iter().find_map(|base| url.strip_prefix(base.as_str())?.strip_prefix('/'))?;
            Some((archive, percent_decoded(path)?))
        })
    }

    /// Returns the URLs where `package` may be, in the order they are asked. `epoch` is the lock's, in seconds.
    #[must_use]
    pub fn candidates(&self, package: &Package, epoch: i64) -> Vec<String> {
        let path = percent_encoded(&package.path);
        let mirrors = self.mirrors.get(package.archive.as_str()).into_iter().flatten();
        let mut urls: Vec<_> = mirrors.map(|base| format!("{base}/{path}")).collect();
        let signed = Timestamp::from_second(epoch).unwrap_or_default();
        for time in [signed.checked_add(TAKEN_IN).unwrap_or(signed), signed] {
            urls.extend(self.snapshots.iter().map(|base| {
                format!("{}/{path}", snapshot(base, &package.archive, time).trim_end_matches('/'))
            }));
        }
        urls.dedup();
        urls
    }

    /// Tells whether an archive of old versions is configured.
    #[must_use]
    pub fn has_snapshots(&self) -> bool {
        !self.snapshots.is_empty()
    }
}

fn suites_of(suite: &str, archive: &str) -> Vec<String> {
    if archive == SECURITY {
        vec![format!("{suite}-security")]
    } else {
        vec![suite.to_owned(), format!("{suite}-updates")]
    }
}

/// Fills in the URL of an archive of old versions.
fn snapshot(base: &str, archive: &str, time: Timestamp) -> String {
    let timestamp = time.strftime("%Y%m%dT%H%M%SZ").to_string();
    let base = base.trim_end_matches('/');
    if base.contains('{') {
        base.replace("{archive}", archive).replace("{timestamp}", &timestamp)
    } else {
        format!("{base}/{archive}/{timestamp}")
    }
}

/// Chooses the host's mirrors of an archive: those that list its suites and are signed by Debian's keys. Other
/// vendors' archives may list the same suite; so, where no key is named, those are preferred whose URL ends in
/// the archive's name. When none lists the suite (the host runs another release), that name alone decides,
/// since a mirror has all releases.
fn of_host(host: &[Source], keyring: Option<&Path>, suite: &str, archive: &str) -> Vec<String> {
    let wanted = suites_of(suite, archive);
    let end = format!("/{archive}");
    let lists = |source: &Source| {
        source.components.iter().any(|part| part == "main")
            && source.suites.iter().any(|own| wanted.iter().any(|name| name == own.trim_end_matches('/')))
    };
    let debians = |source: &Source| {
        let key = source.signed_by.as_deref();
        key.is_some_and(|key| key.contains("/debian-archive-") || keyring == Some(Path::new(key)))
    };
    let named = |uri: &str| uri.trim_end_matches('/').ends_with(&end);
    let usable = |uri: &str| ["http://", "https://", "file:/"].iter().any(|kind| uri.starts_with(kind));
    let preferred = |rank: u8, source: &Source, uri: &str| match rank {
        0 => lists(source) && debians(source),
        1 => lists(source) && source.signed_by.is_none() && named(uri),
        2 => lists(source) && source.signed_by.is_none(),
        _ => named(uri),
    };
    let pairs = || host.iter().flat_map(|source| source.uris.iter().map(move |uri| (source, uri.as_str())));
    for rank in 0..=3 {
        let mut found: Vec<String> = Vec::new();
        for (_, uri) in pairs().filter(|(source, uri)| usable(uri) && preferred(rank, source, uri)) {
            let uri = uri.trim_end_matches('/').to_owned();
            if !found.contains(&uri) {
                found.push(uri);
            }
        }
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

/// Reads the host's sources; a `mirror+file:` entry, as Debian's cloud images have it, is replaced by its list.
fn host_sources(etc: &Path) -> Result<Vec<Source>> {
    let mut files = vec![etc.join("sources.list")];
    let parts = etc.join("sources.list.d");
    if parts.is_dir() {
        for entry in fs::read_dir(&parts).doing(|| format!("reading {}", parts.display()))? {
            files.push(entry.doing(|| format!("reading {}", parts.display()))?.path());
        }
    }
    files.sort();
    let mut found = Vec::new();
    for path in files.iter().filter(|path| path.is_file()) {
        let parse = match path.extension().and_then(|end| end.to_str()) {
            Some("sources") => sources::deb822,
            Some("list") => sources::one_line,
            _ => continue,
        };
        let text = fs::read_to_string(path).doing(|| format!("reading {}", path.display()))?;
        found.extend(parse(&text));
    }
    for source in &mut found {
        source.uris = source.uris.iter().flat_map(|uri| mirror_list(uri)).collect();
    }
    Ok(found)
}

fn mirror_list(uri: &str) -> Vec<String> {
    let Some(path) = uri.strip_prefix("mirror+file:") else { return vec![uri.to_owned()] };
    let path = format!("/{}", path.trim_start_matches('/'));
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// Encodes a path as apt does; some servers take a bare `+` for a blank.
fn percent_encoded(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let encoded = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") };
    path.bytes().map(encoded).collect()
}

/// Decodes `%xx`.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::lock::Role;

    fn source(uris: &[&str], suites: &[&str]) -> Source {
        let own = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect();
        Source { uris: own(uris), suites: own(suites), components: own(&["main"]), signed_by: None }
    }

    fn package(archive: &str) -> Package {
        Package {
            name: "a".to_owned(),
            version: "1".to_owned(),
            arch: "all".to_owned(),
            role: Role::Root,
            size: 1,
            sha256: Digest::of(b""),
            path: "pool/main/a/a_1+b_all.deb".to_owned(),
            archive: archive.to_owned(),
        }
    }

    #[test]
    fn archives_come_from_settings_or_the_host() {
        let host = [
            source(&["http://other.example/apt"], &["stable"]),
            source(
                &["http://h.example/debian/", "http://h2.example/debian"],
                &["bookworm", "bookworm-updates"],
            ),
            source(&["http://h.example/debian-security"], &["bookworm-security"]),
        ];
        let set = |mirror: Option<&str>, security: Option<&str>| Settings {
            mirror: mirror.map(str::to_owned),
            security_mirror: security.map(str::to_owned),
            ..Settings::default()
        };
        let bases = |settings: &Settings, suite: &str| -> Vec<String> {
            let archives = Archives::choose(settings, &host, suite).expect("found");
            archives.mirrors.into_values().map(|bases| bases.join(" ")).collect()
        };
        let of_host =
            ["http://h.example/debian http://h2.example/debian", "http://h.example/debian-security"];
        assert_eq!(bases(&set(None, None), "bookworm"), of_host);
        assert_eq!(bases(&set(None, None), "trixie"), of_host, "a mirror has all releases");
        assert_eq!(
            bases(&set(Some("file:/m/debian/"), None), "bookworm"),
            ["file:/m/debian", "file:/m/debian-security"]
        );
        assert_eq!(
            bases(&set(None, Some("http://s.example/x")), "bookworm"),
            [of_host[0], "http://s.example/x"]
        );
        let error =
            Archives::choose(&set(None, None), &host[..2], "bookworm").expect_err("no security updates");
        assert!(error.chain().contains("debian-security"), "{error:?}");
    }

    #[test]
    fn other_vendors_archives_are_no_mirrors() {
        let key = |source: Source, key: &str| Source { signed_by: Some(key.to_owned()), ..source };
        let vendor = || source(&["http://vendor.example"], &["bookworm"]);
        let mirror = || source(&["http://m.example/mirror"], &["bookworm"]);
        let named = || source(&["http://m.example/debian"], &["bookworm"]);
        let debian = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let table: &[(&[Source], &[&str])] = &[
            (&[key(vendor(), "/k/vendor.gpg"), key(mirror(), debian)], &["http://m.example/mirror"]),
            (&[vendor(), key(mirror(), debian)], &["http://m.example/mirror"]),
            (&[vendor(), named()], &["http://m.example/debian"]),
            (&[key(vendor(), "/k/vendor.gpg"), mirror()], &["http://m.example/mirror"]),
            (&[key(mirror(), "/k/own.gpg"), named()], &["http://m.example/mirror"]),
            (&[key(vendor(), "/k/vendor.gpg")], &[]),
        ];
        for (host, expected) in table {
            assert_eq!(
                of_host(host, Some(Path::new("/k/own.gpg")), "bookworm", DEBIAN),
                *expected,
                "{host:?}"
            );
        }
    }

    #[test]
    fn candidates_in_order() {
        let settings = Settings {
            mirror: Some("http://m.example/debian".to_owned()),
            snapshots: vec!["http://s.example/archive".to_owned(), "file:/old/{archive}".to_owned()],
            ..Settings::default()
        };
        let archives = Archives::choose(&settings, &[], "bookworm").expect("found");
        assert_eq!(
            archives.candidates(&package(SECURITY), 0),
            [
                "http://m.example/debian-security/pool/main/a/a_1%2bb_all.deb",
                "http://s.example/archive/debian-security/19700102T000000Z/pool/main/a/a_1%2bb_all.deb",
                "file:/old/debian-security/pool/main/a/a_1%2bb_all.deb",
                "http://s.example/archive/debian-security/19700101T000000Z/pool/main/a/a_1%2bb_all.deb",
                "file:/old/debian-security/pool/main/a/a_1%2bb_all.deb",
            ]
        );
    }

    #[test]
    fn a_url_tells_its_archive() {
        let settings = Settings { mirror: Some("http://m.example/debian".to_owned()), ..Settings::default() };
        let archives = Archives::choose(&settings, &[], "bookworm").expect("found");
        let table: &[(&str, Option<(&str, &str)>)] = &[
            ("http://m.example/debian/pool/a_1%2bb.deb", Some((DEBIAN, "pool/a_1+b.deb"))),
            ("http://m.example/debian-security/pool/a.deb", Some((SECURITY, "pool/a.deb"))),
            ("http://else.example/debian/pool/a.deb", None),
            ("http://m.example/debian/pool/a%2", None),
        ];
        for &(url, expected) in table {
            assert_eq!(
                archives.split(url),
                expected.map(|(archive, path)| (archive, path.to_owned())),
                "{url}"
            );
        }
    }
}

//! Which images a rotation means: those that have a package in some version.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::{Catalog, Listing};
use crate::digest::ImageId;
use crate::error::{Error, Result};
use crate::notation;
use crate::notation::version::Version;

/// A package and which versions of it: `openssl<3.0.17`, with `<`, `<=`, `=`, `>=` or `>`, or `openssl` for any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageSpec {
    /// The package's name.
    pub name: String,
    /// Which versions; `None` for all.
    bound: Option<Bound>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Bound {
    relation: Relation,
    version: String,
}

#[derive(Debug, Clone, Copy)]
struct Relation {
    /// As it is written here.
    written: &'static str,
    /// For which orders of a version and the bound it holds.
    holds: fn(Ordering) -> bool,
}

impl PartialEq for Relation {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for Relation {}

/// The longer ones first: `<=` begins with `<`.
const RELATIONS: [Relation; 5] = [
    Relation { written: "<=", holds: Ordering::is_le },
    Relation { written: ">=", holds: Ordering::is_ge },
    Relation { written: "<", holds: Ordering::is_lt },
    Relation { written: ">", holds: Ordering::is_gt },
    Relation { written: "=", holds: Ordering::is_eq },
];

impl FromStr for PackageSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(at) = text.find(['<', '>', '=', '!']) else {
            notation::package(text)?;
            return Ok(Self { name: text.to_owned(), bound: None });
        };
        let (name, rest) = (text[..at].trim_end(), &text[at..]);
        notation::package(name)?;
        let relation = RELATIONS.into_iter().find(|relation| rest.starts_with(relation.written));
        let version = relation.map(|relation| (relation, &rest[relation.written.len()..]));
        // What is left of `<<`, `==` or `=>` is none of ours, though Debian or a programmer writes it.
        let version = version.filter(|(_, rest)| !rest.starts_with(['<', '>', '=']));
        let Some((relation, version)) = version else {
            return Err(format!("`{text}` compares in no way known here: `<`, `<=`, `=`, `>=` or `>`"));
        };
        let version = version.trim_start();
        check_version(version)?;
        Ok(Self { name: name.to_owned(), bound: Some(Bound { relation, version: version.to_owned() }) })
    }
}

impl fmt::Display for PackageSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.bound {
            Some(Bound { relation, version }) => write!(f, "{}{version}", relation.written),
            None => Ok(()),
        }
    }
}

/// Checks a Debian version (policy 5.6.12) as far as dpkg would misread a wrong one in silence.
fn check_version(text: &str) -> Result<(), String> {
    let bad = || format!("`{text}` is not a Debian version such as \"3.0.17-1~deb12u1\"");
    let (epoch, rest) = text.split_once(':').unwrap_or(("0", text));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-' | b'~' | b':');
    let good = digits(epoch)
        && rest.bytes().next().is_some_and(|byte| byte.is_ascii_digit())
        && rest.bytes().all(allowed);
    if good { Ok(()) } else { Err(bad()) }
}

impl PackageSpec {
    /// Tells whether `version` of the package is meant, in the order of Debian's versions: epochs first, and `~` before the
    /// end.
    ///
    /// # Errors
    /// What dpkg would not take for a version.
    pub fn matches(&self, version: &str) -> Result<bool> {
        let Some(Bound { relation, version: bound }) = &self.bound else { return Ok(true) };
        let parse = |text| Version::parse(text).map_err(Error::failed);
        Ok((relation.holds)(parse(version)?.cmp(&parse(bound)?)))
    }
}

/// Returns the images that have the package in a version that `spec` means, with that version, debug variants included.
///
/// # Errors
/// The store cannot be read; versions as in [`PackageSpec::matches`]; and an image whose record does not read: whoever
/// rotates away from a version must not be told that it has no such package.
pub fn images_with(catalog: &Catalog, spec: &PackageSpec) -> Result<BTreeMap<ImageId, String>> {
    let Listing { records, mut unreadable } = catalog.list()?;
    let others = unreadable.len().saturating_sub(1);
    if let Some((id, error)) = unreadable.pop() {
        let more = if others == 0 { String::new() } else { format!(" (and of {others} more)") };
        return Err(error
            .during(format!("looking for {spec} in the record of {}{more}", id.short()))
            .hint("an image that no instance runs may be removed from the store"));
    }
    let mut images = BTreeMap::new();
    for record in records {
        let Some(version) = record.packages.get(&spec.name) else { continue };
        if spec.matches(version)? {
            images.insert(record.id, version.clone());
        }
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::store::tests::{catalog, id, record};

    fn spec(text: &str) -> PackageSpec {
        text.parse().expect(text)
    }

    #[test]
    fn what_is_written() {
        for (text, same) in [
            ("openssl<3.0.17", "openssl<3.0.17"),
            ("openssl <= 1:3.0.17-1~deb12u2", "openssl<=1:3.0.17-1~deb12u2"),
            ("libstdc++6>=12", "libstdc++6>=12"),
            ("linux-image-amd64>6.1", "linux-image-amd64>6.1"),
            ("openssl=3.0.17", "openssl=3.0.17"),
            ("openssl", "openssl"),
        ] {
            assert_eq!(spec(text).to_string(), same);
            assert_eq!(spec(same), spec(text));
        }
        for (text, expected) in [
            ("", "`` is not a Debian package name"),
            ("OpenSSL<3", "`OpenSSL` is not a Debian package name"),
            ("<3", "`` is not a Debian package name"),
            ("openssl 3", "`openssl 3` is not a Debian package name"),
            ("openssl<", "`` is not a Debian version"),
            ("openssl<three", "`three` is not a Debian version"),
            ("openssl<3 4", "`3 4` is not a Debian version"),
            ("openssl<:3", "`:3` is not a Debian version"),
            ("openssl<3,>2", "`3,>2` is not a Debian version"),
            ("openssl==3", "`openssl==3` compares in no way known here"),
            ("openssl<<3", "`openssl<<3` compares in no way known here"),
            ("openssl=>3", "`openssl=>3` compares in no way known here"),
            ("openssl<>3", "`openssl<>3` compares in no way known here"),
            ("openssl!=3", "`openssl!=3` compares in no way known here"),
        ] {
            let error = text.parse::<PackageSpec>().expect_err(text);
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn order_of_versions() {
        for (text, version, expected) in [
            ("pkg<3.0.17", "3.0.9", true),
            ("pkg<3.0.17", "3.0.17", false),
            ("pkg<3.0.17", "3.0.17-1", false),
            ("pkg<3.0.17", "3.0.17~rc1", true),
            ("pkg<3.0.17", "1:1.0", false),
            ("pkg<1:1.0", "9.9", true),
            ("pkg<=3.0.17-1~deb12u2", "3.0.17-1~deb12u2", true),
            ("pkg<=3.0.17-1~deb12u2", "3.0.17-1~deb12u3", false),
            ("pkg<3.0.17-1", "3.0.17-1~deb12u3", true),
            ("pkg<3.0.17-1+deb12u2", "3.0.17-1+deb12u1", true),
            ("pkg>3.0.17-1", "3.0.17-1+deb12u1", true),
            ("pkg<3.0.17-1+deb12u10", "3.0.17-1+deb12u9", true),
            ("pkg=1.0", "0:1.0", true),
            ("pkg=1.0", "1.0-0", true),
            ("pkg=1.0", "1.0.0", false),
            ("pkg>=1.18.0-6+deb11u3", "1.22.1-9", true),
            ("pkg>=2", "10", true),
            ("pkg", "anything", true),
        ] {
            assert_eq!(spec(text).matches(version).expect(text), expected, "{version} {text}");
        }
        let error = spec("pkg<1").matches("a b").expect_err("no version").chain();
        assert!(error.contains("blanks inside"), "{error}");
    }

    #[test]
    fn images() {
        let dir = tempfile::tempdir().expect("a directory");
        let catalog = catalog(&dir);
        for (start, version) in [("aaaa", Some("3.0.16-1")), ("bbbb", Some("3.0.17-1")), ("cccc", None)] {
            let mut record = record(start, "web", 1);
            record.packages.extend(version.map(|version| ("openssl".to_owned(), version.to_owned())));
            record.packages.insert("base-files".to_owned(), "12".to_owned());
            catalog.save(&record).expect("saved");
        }
        let found = |text: &str| images_with(&catalog, &spec(text)).expect(text);
        assert_eq!(found("openssl<3.0.17"), [(id("aaaa"), "3.0.16-1".to_owned())].into());
        assert_eq!(found("openssl").len(), 2);
        assert_eq!(found("base-files").len(), 3);
        assert!(found("nginx").is_empty());
        catalog.write(id("dddd"), "record.json", b"{").expect("written");
        let error = images_with(&catalog, &spec("openssl")).expect_err("it cannot be told").chain();
        assert!(error.starts_with("looking for openssl in the record of dddd00000000: "), "{error}");
    }
}

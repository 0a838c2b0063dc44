//! The lock file's text: stable, and with small diffs.

use std::fmt::Write as _;

use super::{Lock, VERSION};
use crate::error::{Doing as _, Error, Result};

/// The start of every lock file.
const HEADER: &str =
    "# Every input of this image by digest. Made by `rekiln lock`; commit it, do not edit it.\n";

impl Lock {
    /// Writes the lock as its file has it. The text depends on nothing but the lock.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = HEADER.to_owned();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "version = {}\nepoch = {}", self.format(), self.epoch)?;
        writeln!(out, "\n[asked]\nsource = {}", quoted(&self.asked.source))?;
        if let Some(digest) = self.asked.parent_lock {
            writeln!(out, "parent_lock = \"{digest}\"")?;
        }
        writeln!(out, "architecture = {}", quoted(&self.asked.architecture))?;
        if self.asked.packages.is_empty() {
            writeln!(out, "packages = []")?;
        } else {
            writeln!(out, "packages = [")?;
            for name in &self.asked.packages {
                writeln!(out, "    {},", quoted(name))?;
            }
            writeln!(out, "]")?;
        }
        writeln!(out, "\n[tools]")?;
        for (tool, version) in &self.tools {
            writeln!(out, "{} = {}", quoted(tool), quoted(version))?;
        }
        for suite in &self.suites {
            writeln!(out, "\n[[suite]]\nname = {}\ndate = \"{}\"", quoted(&suite.name), suite.date)?;
            writeln!(out, "inrelease = \"{}\"", suite.inrelease)?;
        }
        for fetch in &self.fetches {
            writeln!(out, "\n[[fetch]]\nurl = {}\nsha256 = \"{}\"", quoted(&fetch.url), fetch.sha256)?;
            writeln!(out, "size = {}", fetch.size)?;
        }
        self.packages.iter().try_for_each(|package| write_package(out, package))?;
        self.layout.as_ref().map_or(Ok(()), |layout| write_layout(out, layout))
    }

    /// Reads a lock file's text.
    ///
    /// # Errors
    /// Text that is no lock, and a format that is newer than this program.
    pub fn parse(text: &str) -> Result<Self> {
        #[derive(serde::Deserialize)]
        struct Version {
            version: u32,
        }
        // The version first: a newer format may have keys that this program would call unknown.
        let Version { version } = toml::from_str(text).doing(|| "reading the lock's version")?;
        if version > VERSION {
            return Err(Error::invalid(format!(
                "the lock has format {version}; this rekiln reads up to {VERSION}"
            ))
            .hint("use the rekiln that made it, or a newer one"));
        }
        toml::from_str(text).doing(|| "reading the lock")
    }
}

/// Where each package lay: its first block of 4096 bytes in the layer, and for how many there is room.
fn write_layout(out: &mut String, layout: &super::Places) -> std::fmt::Result {
    writeln!(out, "\n[layout]\nstart = {}\n\n[layout.places]", layout.start)?;
    let mut places = layout.places.iter();
    places.try_for_each(|(name, place)| writeln!(out, "{} = [{}, {}]", quoted(name), place.at, place.room))
}

fn write_package(out: &mut String, package: &super::Package) -> std::fmt::Result {
    writeln!(out, "\n[[package]]\nname = {}\nversion = {}", quoted(&package.name), quoted(&package.version))?;
    writeln!(out, "arch = {}", quoted(&package.arch))?;
    match package.role {
        super::Role::Root => {}
        super::Role::Kernel => writeln!(out, "role = \"kernel\"")?,
        super::Role::Stub => writeln!(out, "role = \"stub\"")?,
    }
    writeln!(out, "size = {}\nsha256 = \"{}\"", package.size, package.sha256)?;
    writeln!(out, "path = {}\narchive = {}", quoted(&package.path), quoted(&package.archive))
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::digest::Digest;
    use crate::lock::{Asked, LockedFetch, Package, Place, Places, Role, Suite};

    pub fn package(name: &str, version: &str, role: Role) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            arch: "amd64".to_owned(),
            role,
            size: 7,
            sha256: Digest::of(name.as_bytes()),
            path: format!("pool/main/{name}_{version}.deb"),
            archive: "debian".to_owned(),
        }
    }

    pub fn lock() -> Lock {
        Lock {
            version: 1,
            asked: Asked {
                source: "image:base".to_owned(),
                parent_lock: Some(Digest::of(b"parent")),
                architecture: "amd64".to_owned(),
                packages: BTreeSet::from(["b".to_owned(), "a".to_owned()]),
            },
            epoch: 1_800_000_000,
            tools: BTreeMap::from([("mkfs.erofs".to_owned(), "1.5-1".to_owned())]),
            suites: vec![Suite {
                name: "bookworm".to_owned(),
                date: "2026-07-11T10:16:37Z".parse().expect("a time"),
                inrelease: Digest::of(b"signed"),
            }],
            packages: vec![
                package("b", "1:2~x", Role::Root),
                package("k", "6", Role::Kernel),
                package("s", "1", Role::Stub),
            ],
            fetches: vec![LockedFetch {
                url: "https://x.example/\"quoted\"\\".to_owned(),
                sha256: Digest::of(b"f"),
                size: 3,
            }],
            layout: None,
        }
    }

    #[test]
    fn text_round_trip() {
        let places = BTreeMap::from([
            ("-".to_owned(), Place { at: 7, room: 1 }),
            ("b".to_owned(), Place { at: 9, room: 5 }),
        ]);
        let laid = Lock { version: 2, layout: Some(Places { start: 7, places }), ..lock() };
        assert!(
            laid.to_text()
                .ends_with("\n[layout]\nstart = 7\n\n[layout.places]\n\"-\" = [7, 1]\n\"b\" = [9, 5]\n")
        );
        for lock in [lock(), laid, Lock { packages: vec![], fetches: vec![], suites: vec![], ..lock() }] {
            let text = lock.to_text();
            assert_eq!(Lock::parse(&text).expect("it parses"), lock, "{text}");
            assert_eq!(Lock::parse(&text).expect("it parses").to_text(), text);
        }
    }

    #[test]
    fn newer_formats_and_unknown_keys_are_refused() {
        let text = lock().to_text();
        let newer = text.replace("version = 1\n", "version = 3\nnews = true\n");
        assert!(Lock::parse(&newer).expect_err("newer").chain().contains("format 3"));
        let without = Lock::parse(&text.replace("version = 1\n", "")).expect_err("no version");
        assert!(without.chain().contains("missing field `version`"), "{without:?}");
        assert!(Lock::parse(&text.replace("epoch", "epock")).is_err());
        assert!(Lock::parse("= 1").is_err());
    }
}

//! Debian packages for a vendor's machine, chosen and downloaded on this computer while the machine starts: apt's part of the work
//! takes a translated machine ten times as long. What is read for it lies on the disk: what is installed, the archives and
//! their keys, and which of them are preferred. The machine's own apt then installs files.
//!
//! How it can fail, and what is then: the vendor's apt is believed in its lists of archives and nothing else (its configuration
//! could have this computer run programs). What is not understood here, or not reached from here, or does not come, is left
//! to the machine's own apt, which has the last word about what is wrong with a recipe.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::packages::{installing, plain};
use crate::error::{Doing as _, Error, Result};
use crate::inspect::tree::Tree;
use crate::lock::apt::{State, architecture};

/// The most bytes of a file with keys or a list of archives: the keys of a distribution are some ten thousand.
const FILE_MAX: u64 = 1 << 20;

/// Files to install.
#[derive(Debug)]
pub struct Downloaded {
    /// Where they lie.
    pub dir: PathBuf,
    /// Their names.
    pub files: Vec<String>,
}

/// What of a disk decides which packages there are.
#[derive(Debug, Default)]
struct Found {
    /// Lists of archives: the file's name below `/etc/apt`, and its text.
    lists: Vec<(String, String)>,
    /// Files with keys that they name.
    keys: BTreeSet<String>,
}

/// apt as the vendor's machine would have it, on this computer.
#[derive(Debug)]
pub struct Archives(State);

impl Archives {
    /// Reads everything that is needed off a disk, before its machine starts, into `dir`.
    ///
    /// # Errors
    /// Why the packages are left to the machine.
    pub fn of(tree: &Tree, dir: &Path) -> Result<Self> {
        let status = tree.text("/var/lib/dpkg/status")?;
        if status.is_empty() || tree.find("/usr/bin/apt-get").is_none() {
            return Err(Error::failed("it has no apt"));
        }
        let here = architecture()?;
        if tree.text("/var/lib/dpkg/arch")?.lines().any(|other| other.trim() != here) {
            return Err(Error::failed("it has packages of several architectures"));
        }
        let found = lists(tree, dir)?;
        let state = State::make(dir.to_owned())?;
        state.configure(&here)?;
        state.write("status", &status)?;
        for (name, text) in &found.lists {
            state.write(&format!("etc/{name}"), text)?;
        }
        for name in ["preferences", "trusted.gpg"] {
            copy(tree, &format!("/etc/apt/{name}"), &dir.join("etc").join(name))?;
        }
        for part in ["preferences.d", "trusted.gpg.d"] {
            for name in tree.names(&format!("/etc/apt/{part}")) {
                copy(tree, &format!("/etc/apt/{part}/{name}"), &dir.join("etc").join(part).join(name))?;
            }
        }
        for path in &found.keys {
            copy(tree, path, &beneath(dir, path))?;
        }
        Ok(Self(state))
    }

    /// Chooses the packages, and downloads what is needed for them.
    ///
    /// # Errors
    /// Why that is left to the machine.
    pub fn download(&self, packages: &BTreeSet<String>) -> Result<Downloaded> {
        let state = &self.0;
        state.run("apt-get", &["update", "-q", "--error-on=any"])?;
        let names: Vec<&str> = packages.iter().map(String::as_str).collect();
        // What is not the name of a package may be a pattern, or a virtual one, which apt would choose something for.
        let shown = state.run("apt-cache", &[&["show", "--no-all-versions", "--"], &names[..]].concat())?;
        let known: BTreeSet<&str> = shown.lines().filter_map(|line| line.strip_prefix("Package: ")).collect();
        if let Some(other) = names.iter().map(|name| plain(name)).find(|name| !known.contains(name)) {
            return Err(Error::failed(format!("the archive has no package `{other}`")));
        }
        let install =
            ["install", "-q", "-y", "--download-only", "--no-install-recommends", "--allow-downgrades", "--"];
        state.run("apt-get", &[&install, &names[..]].concat())?;
        let dir = state.dir().join("cache/archives");
        let mut files = Vec::new();
        for entry in fs::read_dir(&dir).doing(|| format!("reading {}", dir.display()))?.flatten() {
            if !entry.file_name().to_string_lossy().ends_with(".deb") {
                continue;
            }
            // Their names may have signs that mean something in an address, as which apt takes them.
            let name = format!("{}.deb", files.len());
            fs::rename(entry.path(), dir.join(&name))
                .doing(|| format!("renaming {}", entry.path().display()))?;
            files.push(name);
        }
        Ok(Downloaded { dir, files })
    }
}

/// Reads the lists of archives, with the paths of keys as they are below `dir`.
fn lists(tree: &Tree, dir: &Path) -> Result<Found> {
    let mut found = Found::default();
    let parts =
        tree.names("/etc/apt/sources.list.d").into_iter().map(|name| format!("sources.list.d/{name}"));
    for name in std::iter::once("sources.list".to_owned()).chain(parts) {
        let text =
            String::from_utf8_lossy(&tree.read(&format!("/etc/apt/{name}"), FILE_MAX)?.unwrap_or_default())
                .into_owned();
        let mut lines = String::new();
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            let line = match name.rsplit_once('.').map(|(_, kind)| kind) {
                Some("list") => one_line(line, dir, &mut found.keys)?,
                Some("sources") => field(line, dir, &mut found.keys)?,
                // apt passes over these.
                _ => continue,
            };
            lines.push_str(&line);
            lines.push('\n');
        }
        if !lines.trim().is_empty() {
            found.lists.push((name, lines));
        }
    }
    if found.lists.is_empty() { Err(Error::failed("it names no archives")) } else { Ok(found) }
}

/// Reads a line of a `.list`: `deb [option=value …] URI suite component …`.
fn one_line(line: &str, dir: &Path, keys: &mut BTreeSet<String>) -> Result<String> {
    let Some((kind, rest)) = line.trim().split_once(char::is_whitespace) else { return Ok(line.to_owned()) };
    let rest = rest.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or_else(|| odd(line))?,
        None => ("", rest),
    };
    reachable(rest.split_whitespace().next().unwrap_or_default())?;
    let options: Vec<String> = options
        .split_whitespace()
        .map(|option| match option.split_once('=') {
            Some((name, value)) if name.eq_ignore_ascii_case("signed-by") => {
                format!("{name}={}", below(value, ',', dir, keys))
            }
            _ => option.to_owned(),
        })
        .collect();
    let options = if options.is_empty() { String::new() } else { format!("[{}] ", options.join(" ")) };
    Ok(format!("{kind} {options}{}", rest.trim()))
}

/// Reads a line of a `.sources`: a field, or the rest of one.
fn field(line: &str, dir: &Path, keys: &mut BTreeSet<String>) -> Result<String> {
    let Some((name, value)) = line.split_once(':').filter(|(name, _)| !name.starts_with(char::is_whitespace))
    else {
        // URIs may stand in lines of their own; a key does, and has no spaces in front of such words.
        return if line.contains("://") { Err(odd(line)) } else { Ok(line.to_owned()) };
    };
    if name.eq_ignore_ascii_case("uris") {
        value.split_whitespace().try_for_each(reachable)?;
    }
    if name.eq_ignore_ascii_case("signed-by") && value.trim_start().starts_with('/') {
        return Ok(format!("{name}: {}", below(value.trim(), ' ', dir, keys)));
    }
    Ok(line.to_owned())
}

/// Puts paths of keys below `dir`, where they are copied to.
fn below(value: &str, separator: char, dir: &Path, keys: &mut BTreeSet<String>) -> String {
    let parts = value.split(separator).filter(|part| !part.is_empty()).map(|part| {
        if !part.starts_with('/') {
            return part.to_owned();
        }
        keys.insert(part.to_owned());
        beneath(dir, part).display().to_string()
    });
    parts.collect::<Vec<_>>().join(&separator.to_string())
}

/// Where a file of the disk is copied to.
fn beneath(dir: &Path, path: &str) -> PathBuf {
    // Named by its digest: the path may lead anywhere.
    let name = crate::digest::Digest::of(path.as_bytes()).short();
    // apt reads what ends so as text.
    let kind = if Path::new(path).extension() == Some("asc".as_ref()) { "asc" } else { "gpg" };
    dir.join("etc").join(format!("{name}.{kind}"))
}

/// Refuses an archive that means something else in the machine than here, or that apt would run a program for.
fn reachable(uri: &str) -> Result<()> {
    let host = uri.strip_prefix("http://").or_else(|| uri.strip_prefix("https://"));
    let host = host.and_then(|rest| rest.split(['/', ':']).next()).unwrap_or_default();
    // QEMU's user network has its own addresses there.
    if host.is_empty() || host == "localhost" || host.starts_with("127.") || host.starts_with("10.0.2.") {
        return Err(Error::failed(format!("its archive {uri} is for the machine to reach")));
    }
    Ok(())
}

fn odd(line: &str) -> Error {
    Error::failed(format!("a line of its lists of archives is not understood: {line}"))
}

fn copy(tree: &Tree, from: &str, to: &Path) -> Result<()> {
    match tree.read(from, FILE_MAX)? {
        Some(bytes) => fs::write(to, bytes).doing(|| format!("writing {}", to.display())),
        None => Ok(()),
    }
}

/// Returns the shell's program that installs files, which are its arguments and were downloaded for `packages`.
#[must_use]
pub fn install(packages: &BTreeSet<String>) -> String {
    let names: Vec<&str> = packages.iter().map(|package| plain(package)).collect();
    // Files count as asked for; what only came with them does not.
    format!(
        "set -eu\nexec < /dev/null\n{}\
         for file; do\n  name=$(dpkg-deb --field \"$file\" Package)\n  \
         case ' {} ' in *\" $name \"*) ;; *) auto=\"${{auto:-}} $name\" ;; esac\ndone\n\
         [ -z \"${{auto:-}}\" ] || apt-mark -q auto $auto > /dev/null\n",
        installing("\"$@\""),
        names.join(" "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> Result<Found> {
        let mut tree = Tree::default();
        for (path, text) in files {
            tree.plant(&format!("/etc/apt/{path}"), 0o644, text.as_bytes());
        }
        lists(&tree, Path::new("/d"))
    }

    #[test]
    fn keys_are_those_of_the_disk() {
        let found = read(&[
            ("sources.list", "# deb http://old.example/ x y\ndeb [arch=amd64 signed-by=/usr/share/keyrings/a.gpg] http://a.example/debian bookworm main\n"),
            ("sources.list.d/b.sources", "Types: deb\nURIs: https://b.example/debian\nSuites: bookworm\nSigned-By: /etc/apt/keyrings/b.asc\n"),
            ("sources.list.d/c.list.disabled", "deb file:///srv x y\n"),
        ])
        .expect("read");
        let key = |path: &str| beneath(Path::new("/d"), path).display().to_string();
        assert_eq!(
            found.lists[0].1,
            format!(
                "deb [arch=amd64 signed-by={}] http://a.example/debian bookworm main\n",
                key("/usr/share/keyrings/a.gpg")
            )
        );
        let second = &found.lists[1].1;
        assert!(second.contains(&format!("Signed-By: {}\n", key("/etc/apt/keyrings/b.asc"))), "{second}");
        assert_eq!(found.lists.len(), 2);
        assert_eq!(
            found.keys,
            ["/etc/apt/keyrings/b.asc", "/usr/share/keyrings/a.gpg"].map(str::to_owned).into()
        );
        // apt reads them as text by their ending.
        assert!(second.trim_end().ends_with("asc"), "{second}");
    }

    #[test]
    fn what_only_the_machine_reaches_is_its_own_to_fetch() {
        for line in [
            "deb file:///srv/debian x main",
            "deb copy:/srv/debian x main",
            "deb cdrom:[Debian]/ x main",
            "deb mirror+file:/etc/mirrors x main",
            "deb http://10.0.2.2:3142/debian x main",
            "deb [trusted=yes] http://localhost/debian x main",
            "deb [arch=amd64 http://a.example/debian x main",
        ] {
            let error = read(&[("sources.list", line)]).expect_err(line).chain();
            assert!(
                error.contains("for the machine to reach") || error.contains("not understood"),
                "{line}: {error}"
            );
        }
        let folded = "Types: deb\nURIs:\n http://a.example/debian\n file:///srv\nSuites: x\n";
        assert!(read(&[("sources.list.d/a.sources", folded)]).is_err());
        assert!(read(&[]).is_err(), "nothing is named");
    }

    #[test]
    fn what_came_with_something_is_not_asked_for() {
        use crate::process::Run as _;
        let script = install(&["nginx-light=1.22.1-9".to_owned()].into());
        std::process::Command::new("sh")
            .args(["-n", "-s"])
            .run_with_input(script.as_bytes())
            .expect("a shell reads it");
        assert!(script.contains("case ' nginx-light ' in"), "{script}");
    }
}

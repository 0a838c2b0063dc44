//! Debian packages without compression: decompressed once, on all processors, and read twice, by tar to bootstrap
//! a tree and by the tree's own dpkg, which would decompress one after the other.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::packages::verified;
use crate::error::{Doing as _, Error, Result};
use crate::lock::Package;
use crate::process::Run as _;
use crate::store::Store;

/// A package whose members are not compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainDeb {
    /// The file; a .deb in every respect (deb(5)).
    pub path: PathBuf,
    /// Where the tar archive of its files begins in it.
    files: u64,
}

/// Writes `packages` without compression into `dir`, each under its digest, after checking the vault's bytes.
///
/// # Errors
/// Bytes that are not the locked ones, and whatever decompressing returns.
pub fn decompress(store: &Store, dir: &Path, packages: &[&Package]) -> Result<Vec<PlainDeb>> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, PlainDeb)>> {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(package) = packages.get(index) else { return Ok(done) };
            let path = dir.join(package.sha256.to_string());
            let plain = verified(store, package)
                .and_then(|deb| write_plain(&deb, path))
                .map_err(|error| error.during(format!("unpacking {} {}", package.name, package.version)))?;
            done.push((index, plain));
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(Error::failed("a thread that unpacks packages panicked")))
        });
        joined.collect()
    });
    let mut plain = Vec::with_capacity(packages.len());
    for result in results {
        plain.extend(result?);
    }
    plain.sort_by_key(|(index, _)| *index);
    Ok(plain.into_iter().map(|(_, plain)| plain).collect())
}

fn write_plain(deb: &Path, path: PathBuf) -> Result<PlainDeb> {
    let member =
        |option: &str| Command::new("dpkg-deb").arg(option).arg(deb).run().map(|output| output.stdout);
    let (control, files) = (member("--ctrl-tarfile")?, member("--fsys-tarfile")?);
    let doing = || format!("writing {}", path.display());
    let mut file = File::create(&path).doing(doing)?;
    file.write_all(b"!<arch>\n").doing(doing)?;
    write_member(&mut file, "debian-binary", b"2.0\n").doing(doing)?;
    write_member(&mut file, "control.tar", &control).doing(doing)?;
    let begin = write_member(&mut file, "data.tar", &files).doing(doing)?;
    Ok(PlainDeb { path, files: begin })
}

/// Writes a member of an `ar` archive (ar(5)) and returns where its content begins.
fn write_member(file: &mut File, name: &str, content: &[u8]) -> std::io::Result<u64> {
    // Name, time, owner, group, mode, size, end of the header.
    writeln!(file, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, "100644", content.len())?;
    let begin = file.stream_position()?;
    file.write_all(content)?;
    if content.len() % 2 == 1 {
        file.write_all(b"\n")?;
    }
    Ok(begin)
}

impl PlainDeb {
    /// Unpacks its files into `tree` with the host's tar, but for those that match a pattern of `excluded`
    /// (absolute paths, `*` for anything); nothing of it runs.
    ///
    /// # Errors
    /// Whatever tar returns.
    pub fn unpack(&self, tree: &Path, excluded: &[&str]) -> Result<()> {
        let mut file = File::open(&self.path).doing(|| format!("opening {}", self.path.display()))?;
        file.seek(SeekFrom::Start(self.files)).doing(|| format!("reading {}", self.path.display()))?;
        unpack_tar(Stdio::from(file), tree, excluded)
    }
}

/// Unpacks a tar archive into `tree`, as [`PlainDeb::unpack`] does.
///
/// # Errors
/// Whatever tar returns.
pub fn unpack_tar(archive: Stdio, tree: &Path, excluded: &[&str]) -> Result<()> {
    let tar = Command::new("tar")
        .args(["--extract", "--file=-", "--numeric-owner", "--same-permissions", "--keep-directory-symlink"])
        .args(excluded.iter().map(|pattern| format!("--exclude=.{pattern}")))
        .arg("-C")
        .arg(tree)
        .stdin(archive)
        .output()
        .map_err(|error| crate::process::cannot_start("tar".as_ref(), error))?;
    if tar.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&tar.stderr).trim().to_owned();
    let full = if is_full(tree) { "No space left on device; " } else { "" };
    Err(Error::failed(format!("tar: {full}{words}")))
}

/// Tells whether the file system of `dir` has no room: tar says of a file that was cut off only how short it is.
fn is_full(dir: &Path) -> bool {
    rustix::fs::statvfs(dir).is_ok_and(|found| found.f_bavail * found.f_frsize < 1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_program_reads_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("DEBIAN")).expect("made");
        let control = "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: m\nDescription: d\n";
        std::fs::write(tree.join("DEBIAN/control"), control).expect("written");
        std::fs::write(tree.join("odd"), "odd").expect("written");
        std::fs::write(tree.join("left-out"), "x").expect("written");
        let deb = dir.path().join("x.deb");
        Command::new("dpkg-deb")
            .args(["--build", "--root-owner-group"])
            .args([&tree, &deb])
            .run()
            .expect("built");
        let plain = write_plain(&deb, dir.path().join("plain")).expect("decompressed");
        let version =
            Command::new("dpkg-deb").arg("-f").args([plain.path.as_os_str(), "Version".as_ref()]).run_text();
        assert_eq!(version.expect("read"), "1\n");
        let out = dir.path().join("out");
        std::fs::create_dir(&out).expect("made");
        plain.unpack(&out, &["/left-*"]).expect("unpacked");
        assert_eq!(std::fs::read_to_string(out.join("odd")).expect("read"), "odd");
        assert!(!out.join("left-out").exists());
    }
}

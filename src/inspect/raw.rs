//! A disk in a file as its bytes: raw as it is, qcow2 converted.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::window::{be32_at, be64_at};
use crate::error::{Doing as _, Error, Result};
use crate::process::Run as _;
use crate::scratch::Scratch;
use crate::store::Store;

/// What a qcow2 file begins with (QEMU, `docs/interop/qcow2.txt`).
const QCOW2: &[u8] = b"QFI\xfb";

/// Bytes of its head in which the fields stand that are looked at.
const HEAD: usize = 80;

/// The bit among the incompatible features which says that the data lies in another file.
const EXTERNAL_DATA: u64 = 1 << 2;

/// A raw disk in a file.
#[derive(Debug)]
pub struct RawDisk {
    /// The file.
    pub path: PathBuf,
    /// What is removed with it when it was converted.
    _scratch: Option<Scratch>,
}

impl RawDisk {
    /// A file that is raw already.
    #[must_use]
    pub const fn at(path: PathBuf) -> Self {
        Self { path, _scratch: None }
    }

    /// Takes a raw file as it is, and converts a qcow2 file into a sparse one in the store's scratch space, which is
    /// removed with the value.
    ///
    /// # Errors
    /// No such file, a qcow2 file that needs other files, and a missing or failing qemu-img.
    pub fn open(path: &Path, store: &Store) -> Result<Self> {
        let mut head = Vec::new();
        let opened = File::open(path).and_then(|file| file.take(HEAD as u64).read_to_end(&mut head));
        opened.doing(|| format!("opening {}", path.display()))?;
        if !head.starts_with(QCOW2) {
            return Ok(Self::at(path.to_owned()));
        }
        // Whoever made the file would choose which of this machine's files are read.
        let external = be32_at(&head, 4) >= 3 && be64_at(&head, 72) & EXTERNAL_DATA != 0;
        if be64_at(&head, 8) != 0 || external {
            let text = format!("{} is no whole disk: it refers to another file", path.display());
            return Err(Error::failed(text)
                .hint("make it whole with `qemu-img convert -O qcow2 OLD NEW`, if you trust it"));
        }
        let scratch = Scratch::new(store, "raw")?;
        let raw = scratch.dir().join("disk.raw");
        Command::new("qemu-img")
            .args(["convert", "-f", "qcow2", "-O", "raw"])
            .args([path, &raw])
            .run()
            .map_err(|error| error.during(format!("converting {}", path.display())))?;
        Ok(Self { path: raw, _scratch: Some(scratch) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qemu_img(args: &[&str]) {
        Command::new("qemu-img").args(args).run().unwrap_or_else(|error| panic!("{error:?}"));
    }

    #[test]
    fn qcow2_is_converted_and_refers_to_nothing() {
        let temp = tempfile::tempdir().expect("a directory");
        let store = Store::open(&temp.path().join("store").display().to_string()).expect("a store");
        let at = |name: &str| temp.path().join(name).display().to_string();
        let bytes: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        std::fs::write(at("raw"), &bytes).expect("it is written");
        qemu_img(&["convert", "-f", "raw", "-O", "qcow2", "-c", &at("raw"), &at("whole.qcow2")]);
        let disk = RawDisk::open(Path::new(&at("whole.qcow2")), &store).expect("it opens");
        assert!(std::fs::read(&disk.path).expect("it reads") == bytes);
        let kept = disk.path.clone();
        drop(disk);
        assert!(!kept.exists(), "it is removed");
        assert_eq!(
            RawDisk::open(Path::new(&at("raw")), &store).expect("it opens").path,
            Path::new(&at("raw"))
        );
        qemu_img(&["create", "-q", "-f", "qcow2", "-b", &at("raw"), "-F", "raw", &at("part.qcow2")]);
        let data = format!("data_file={}", at("data"));
        qemu_img(&["create", "-q", "-f", "qcow2", "-o", &data, &at("outside.qcow2"), "1M"]);
        for name in ["part.qcow2", "outside.qcow2"] {
            let error = RawDisk::open(Path::new(&at(name)), &store).expect_err("it refers to another file");
            assert!(error.chain().contains("another file"), "{error:?}");
        }
    }
}

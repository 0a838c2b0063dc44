//! The vault: inputs by digest. A name that is there is whole, and every use checks the bytes.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::{Doing as _, Error, Result};
use crate::store::Store;

/// Opens the input with this digest, after checking all of its bytes.
///
/// # Errors
/// An input that is not there, or whose bytes do not match its name.
pub fn open(store: &Store, digest: Digest) -> Result<File> {
    let path = store.vault(digest);
    let what = || format!("opening the input {}", path.display());
    let mut file = File::open(&path).doing(what)?;
    let got = Digest::of_reader(&file).doing(what)?;
    if got != digest {
        return Err(Error::failed(format!("{} is damaged: its bytes have the digest {got}", path.display()))
            .hint(format!("remove it with `rm {}`; the next run fetches it again", path.display())));
    }
    file.seek(SeekFrom::Start(0)).doing(what)?;
    Ok(file)
}

/// Returns the path of the input with this digest, after checking all of its bytes.
///
/// # Errors
/// As [`open`].
pub fn verified(store: &Store, digest: Digest) -> Result<PathBuf> {
    open(store, digest).map(|_| store.vault(digest))
}

/// Tells whether the vault has an input of this digest and size; the bytes are checked when it is used.
#[must_use]
pub fn has(store: &Store, digest: Digest, size: u64) -> bool {
    fs::metadata(store.vault(digest)).is_ok_and(|meta| meta.is_file() && meta.len() == size)
}

/// Moves a file of the store's scratch space, whose bytes the caller has checked, into the vault.
///
/// # Errors
/// Whatever the rename returns.
pub fn keep(store: &Store, checked: &Path, digest: Digest) -> Result<()> {
    let path = store.vault(digest);
    fs::rename(checked, &path).doing(|| format!("moving a fetched file to {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().display().to_string()).expect("a store");
        (dir, store)
    }

    #[test]
    fn damaged_input_is_refused_on_use() {
        let (_dir, store) = store();
        let digest = Digest::of(b"input");
        let scratch = Scratch::new(&store, "fetch").expect("scratch");
        fs::write(scratch.dir().join("x"), b"input").expect("written");
        keep(&store, &scratch.dir().join("x"), digest).expect("kept");
        assert!(has(&store, digest, 5) && open(&store, digest).is_ok());
        fs::write(store.vault(digest), b"inpuT").expect("written");
        assert!(has(&store, digest, 5));
        assert!(open(&store, digest).expect_err("refused").chain().contains("damaged"));
    }
}

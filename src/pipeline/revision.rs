//! A revision of the repository, read beside the work tree.

use std::path::Path;

use crate::error::{Error, Result};
use crate::git;
use crate::repository::Repository;
use crate::scratch::Scratch;
use crate::store::Store;

/// A revision, checked out in scratch space: what the work tree holds does not matter, and nothing is changed in it.
#[derive(Debug)]
pub struct Revision {
    /// The commit.
    pub commit: String,
    /// What it holds. What is wrong with that is in [`Repository::found`].
    pub repository: Repository,
    _dir: Scratch,
}

impl Revision {
    /// Reads the revision `name` of the repository at `root`.
    ///
    /// # Errors
    /// No such revision, one with submodules where recipes are, and one without `images/`.
    pub fn read(root: &Path, name: &str, store: &Store) -> Result<Self> {
        let commit = git::commit_of(root, name)?;
        git::refuse_submodules(root, &commit)?;
        let dir = Scratch::new(store, "revision")?;
        git::export(root, &commit, dir.dir())?;
        let reading = |error: Error| error.during(format!("reading {name} ({})", short(&commit)));
        if !dir.dir().join("images").is_dir() {
            return Err(Error::invalid(format!("{name} ({}) has no images/", short(&commit)))
                .hint("name a revision in which this was a rekiln repository"));
        }
        let repository = Repository::open(dir.dir()).map_err(reading)?;
        Ok(Self { commit, repository, _dir: dir })
    }

    /// Returns the start of the commit's name.
    #[must_use]
    pub fn short(&self) -> &str {
        short(&self.commit)
    }
}

/// As long as Git shows commits of large repositories: 12 digits are unique in the largest one that there is (Linux).
#[must_use]
pub fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

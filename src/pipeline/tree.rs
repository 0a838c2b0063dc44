//! The tree of a commit, read beside the work tree.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::git;
use crate::repository::Repository;
use crate::scratch::Scratch;
use crate::store::Store;

/// A commit's tree, checked out in scratch space: what the work tree holds does not matter, and nothing is changed in it.
#[derive(Debug)]
pub struct Tree {
    /// The commit.
    pub commit: String,
    /// What it holds. What is wrong with that is in [`Repository::found`].
    pub repository: Repository,
    scratch: Scratch,
}

impl Tree {
    /// Reads the tree of the revision `name` of the repository at `root`.
    ///
    /// # Errors
    /// No such revision, one with submodules where recipes are, and one without `images/`.
    pub fn read(root: &Path, name: &str, store: &Store) -> Result<Self> {
        let commit = git::commit_of(root, name)?;
        git::refuse_submodules(root, &commit)?;
        let scratch = Scratch::new(store, "tree")?;
        let dir = scratch.subdirectory("checkout")?;
        git::export(root, &commit, &dir)?;
        if !dir.join("images").is_dir() {
            return Err(Error::invalid(format!("the commit {} has no images/", short(&commit)))
                .hint("commit the repository's images/, or name a revision that has them"));
        }
        let repository = Repository::open(&dir)
            .map_err(|error| error.during(format!("reading {name} ({})", short(&commit))))?;
        Ok(Self { commit, repository, scratch })
    }

    /// Returns the start of the commit's name.
    #[must_use]
    pub fn short(&self) -> &str {
        short(&self.commit)
    }

    /// Returns where it is checked out.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.repository.root()
    }

    /// Returns where a file may be made that is gone with this value.
    #[must_use]
    pub fn beside(&self, name: &str) -> PathBuf {
        self.scratch.dir().join(name)
    }
}

/// As long as Git shows commits of large repositories: 12 digits are unique in the largest one that there is (Linux).
#[must_use]
pub fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

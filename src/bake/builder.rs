//! Where an image is made: a tree in the sandbox, or a machine over SSH. What a recipe asks for is written once, as
//! [`Step`]s, and carried out by either.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::sandbox::{self, Spec, Step};
use crate::error::Result;

/// A place where an image is made.
pub trait Builder {
    /// Carries out steps in order, and hands over each line that they print. What they read lies in `stages`: directories
    /// of this computer, by the name under which they appear below [`sandbox::STAGE`].
    ///
    /// # Errors
    /// The first step that failed, with its last lines; nothing after it was begun.
    fn carry_out(
        &mut self,
        stages: &BTreeMap<String, PathBuf>,
        steps: &[Step],
        line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<()>;

    /// Returns a file's bytes; nothing when there is none.
    ///
    /// # Errors
    /// It cannot be read.
    fn download(&mut self, path: &str) -> Result<Option<Vec<u8>>>;

    /// Returns what its console said so far; a tree has none.
    fn console(&mut self) -> String;
}

/// A tree in the sandbox. Each call enters it anew.
#[derive(Debug)]
pub struct Tree<'a> {
    /// This program, which enters the sandbox.
    pub rekiln: &'a std::path::Path,
    /// As in [`Spec`].
    pub mountpoint: PathBuf,
    /// As in [`Spec`].
    pub lowers: Vec<PathBuf>,
    /// As in [`Spec`].
    pub upper: PathBuf,
    /// As in [`Spec`].
    pub work: PathBuf,
    /// As in [`Spec`].
    pub epoch: i64,
}

impl Builder for Tree<'_> {
    fn carry_out(
        &mut self,
        stages: &BTreeMap<String, PathBuf>,
        steps: &[Step],
        line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<()> {
        let spec = Spec {
            mountpoint: self.mountpoint.clone(),
            lowers: self.lowers.clone(),
            upper: self.upper.clone(),
            work: self.work.clone(),
            stages: stages.clone(),
            epoch: self.epoch,
            steps: steps.to_vec(),
        };
        sandbox::run(self.rekiln, &spec, &mut |text| line(text))
    }

    fn download(&mut self, path: &str) -> Result<Option<Vec<u8>>> {
        use crate::error::Doing as _;
        // The uppermost tree that has it; what was removed above is a whiteout, which is no file.
        for tree in std::iter::once(&self.upper).chain(&self.lowers) {
            let file = tree.join(path.trim_start_matches('/'));
            match std::fs::symlink_metadata(&file) {
                Ok(found) if found.is_file() => {
                    return std::fs::read(&file)
                        .doing(|| format!("reading {path} of the image's tree"))
                        .map(Some);
                }
                Ok(_) => return Ok(None),
                Err(_) => {}
            }
        }
        Ok(None)
    }

    fn console(&mut self) -> String {
        String::new()
    }
}

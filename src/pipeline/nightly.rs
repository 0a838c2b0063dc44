//! `rekiln nightly`: updates from the archive, baked and tried, as a commit.
//!
//! ```text
//! base commit --export--> checkout in scratch space --refresh--> locks --bake, boot, publish--> records
//! locks + records --> tree, message --> commit --> branch --> remote
//! ```
//!
//! # How it can fail
//!
//! * *Killed in the middle*: the checkout is scratch space, which the next run removes; images are in the store whole or
//!   not at all; objects of Git that nothing names are Git's to collect. The branch is moved last, in one step, so there is
//!   never half a commit. The next run bakes only what is not in the store.
//! * *Ctrl-C*: programs that run are ended, and it ends before the commit.
//! * *One image fails*: it keeps its lock, and so do those that cannot have another one without it (`settle`). Everything
//!   else is committed. Since a lock names the lock below it, what is left is tried in another round on what did not
//!   change, until nothing fails any more.
//! * *Two at once*: locks are resolved one after the other, bakes of the same image give the same bytes, and the branch is
//!   moved only from where it was at the beginning. The second one loses, says so, and finds everything baked when it is
//!   run again.
//! * *The branch is moved meanwhile*, here or in the remote: it is left as it is now. A push replaces only what was seen
//!   at the beginning.
//! * *A push is refused*: the commit stays, and the next run pushes it.
//! * *The branch is checked out*: its locks in the work tree follow, which must be as they were committed. Nothing else of a
//!   work tree is looked at.

mod delivery;
mod rounds;

use std::path::Path;

pub use delivery::Delivered;
use delivery::Place;
use rounds::Rounds;

use super::message::{Left, Updated};
use super::tree::Tree;
use super::vulnerability::tracker::look;
use crate::bake::identity::Identity;
use crate::catalog::Record;
use crate::error::Result;
use crate::git::Revision;
use crate::interrupt;
use crate::lock::settings::Settings;
use crate::progress::Progress;
use crate::repository::Repository;
use crate::store::Store;

/// Bakes, tries and publishes images, and returns what became of each.
pub type Make<'a> = &'a dyn Fn(&Repository, &Revision, &[Identity]) -> Result<Vec<Result<Record>>>;

/// One night's work.
#[derive(Clone, Copy)]
pub struct Nightly<'a> {
    /// The user's repository. Its work tree is not read.
    pub repo: &'a Path,
    /// The store.
    pub store: &'a Store,
    /// Where packages come from.
    pub settings: &'a Settings,
    /// Where progress goes.
    pub progress: &'a dyn Progress,
    /// The revision that is updated.
    pub base: &'a str,
    /// The branch that gets the commit.
    pub branch: &'a str,
    /// Where that branch is pushed.
    pub remote: Option<&'a str>,
    /// Whether images that are derived from a vendor's disk get a new lock. They get one each time, since only a bake
    /// shows what the vendor's archive has.
    pub derived: bool,
    /// Whether images may be without a verdict. No fleet may run them, so they are not committed where fleets are rolled
    /// from.
    pub unproven: bool,
    /// What Debian's security tracker exports, so that the commit says which vulnerabilities it fixes.
    pub vulnerabilities: Option<&'a Path>,
    /// Makes images.
    pub make: Make<'a>,
}

/// What became of a night.
#[derive(Debug)]
pub struct Night {
    /// The commit that was updated.
    pub base: String,
    /// How many images were looked at.
    pub images: usize,
    /// Images with a new lock, those below before those above.
    pub updated: Vec<Updated>,
    /// Images that keep theirs although there is something new.
    pub left: Vec<Left>,
    /// The commit; nothing when there was nothing to commit.
    pub delivered: Result<Option<Delivered>>,
}

impl Nightly<'_> {
    /// Does it.
    ///
    /// # Errors
    /// No commit to begin with, a file of vulnerabilities that is something else, submodules among our files, a branch that is not to be touched, and a store, an index or a
    /// remote that cannot be used. What fails for single images, and delivering, are in the [`Night`].
    pub fn run(&self) -> Result<Night> {
        let tree = Tree::read(self.repo, self.base, self.store)?;
        let place = Place::find(self, &tree.commit)?;
        // A branch that nobody has merged yet is not made anew only since the archive has newer dates.
        let earlier = place.earlier(self.repo)?;
        let earlier = earlier.map(|commit| Tree::read(self.repo, commit, self.store)).transpose()?;
        // One that is none is refused before the bakes, and not after.
        self.vulnerabilities.map_or(Ok(()), |file| look(file, &[]).map(drop))?;
        let rounds = Rounds::new(self, &tree, earlier.as_ref().map(|tree| &tree.repository))?;
        let (mut made, left) = rounds.run()?;
        if let Some(file) = self.vulnerabilities
            && let Err(error) = rounds.judge(file, &mut made)
        {
            // A night's bakes are not lost for a line of the message.
            self.progress.note("vulnerabilities", error.chain());
        }
        // Whatever failed from now on would not be known as interrupted.
        interrupt::check()?;
        let images = rounds.count();
        let updated: Vec<Updated> = made.iter().map(|made| made.updated.clone()).collect();
        let delivered = if made.is_empty() {
            place.nothing(self)
        } else {
            let files = made.into_iter().map(|made| (made.file, made.text)).collect();
            place.deliver(self, &tree.beside("index"), &files, |branch| {
                super::message::message(&tree.commit, branch, images, &updated, &left)
            })
        };
        if delivered.is_err() {
            interrupt::check()?;
        }
        Ok(Night { base: tree.commit, images, updated, left, delivered })
    }
}

//! From new locks to a commit on a branch, here and in a remote repository.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::message::{BRANCH, NIGHTLY};
use super::Nightly;
use crate::error::{Error, Result};
use crate::git::branch::{self, Push};

/// The locks of a repository, for Git.
const LOCKS: &str = "images/*.lock";

/// Where the commit is.
#[derive(Debug)]
pub struct Delivered {
    /// The commit.
    pub commit: String,
    /// Whether it was made now.
    pub new: bool,
    /// Whether it was pushed now, and not before; `None` when no push was asked for.
    pub pushed: Option<Result<bool>>,
}

/// A branch as it was at the beginning.
#[derive(Debug)]
pub(super) struct Place {
    base: String,
    /// Where it was in this repository.
    tip: Option<String>,
    /// Where it was in the remote one.
    remote: Option<String>,
    way: Way,
    /// Whether the user's work tree shows it.
    checked_out: bool,
}

/// What a branch is to its commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A commit goes on top of those of people, and a push goes forward only.
    OnTop,
    /// It is made anew from the base each night; nobody else's commit is on it.
    Anew,
}

impl Place {
    /// Looks at the branch, before anything is baked for it.
    pub(super) fn find(night: &Nightly<'_>, base: &str) -> Result<Self> {
        let Nightly { repo, branch, unproven, .. } = *night;
        branch::check_name(repo, branch)?;
        branch::check_trusted(repo)?;
        let tip = branch::tip(repo, branch);
        let remote = match night.remote {
            Some(remote) => branch::remote_tip(repo, remote, branch)?,
            None => None,
        };
        let way = way(night, base, tip.as_deref(), remote.as_deref())?;
        if unproven && way == Way::OnTop {
            return Err(Error::invalid(format!(
                "images that were not booted are not committed on {branch}: no fleet may run them"
            ))
            .hint("leave `--no-boot` out, or name a branch that is only for review with `--branch`"));
        }
        let mut checked_out = false;
        for place in branch::work_trees(repo, branch)? {
            if !branch::is_work_tree(repo, &place)? {
                return Err(Error::invalid(format!("{branch} is checked out in {}", place.display()))
                    .hint("a commit here would make that work tree look changed: name another `--branch`"));
            }
            checked_out = true;
        }
        if checked_out {
            refuse_changed(repo, branch)?;
            if tip.as_deref() != Some(base) {
                return Err(Error::invalid(format!(
                    "{branch} is checked out, and is not at the base commit"
                ))
                .hint("`git switch` to the branch that is the base, or leave `--base` out"));
            }
        }
        Ok(Self { base: base.to_owned(), tip, remote, way, checked_out })
    }

    /// Returns what an earlier night made of the same base, if that is where the branch is.
    pub(super) fn earlier(&self, repo: &Path) -> Result<Option<&str>> {
        for commit in [&self.tip, &self.remote].into_iter().flatten() {
            let base = branch::trailer(repo, commit, NIGHTLY)?;
            if base.as_ref() == Some(&self.base) && branch::parent(repo, commit) == base {
                return Ok(Some(commit));
            }
        }
        Ok(None)
    }

    /// Delivers a night in which nothing is to be committed: what an earlier one could not push.
    pub(super) fn nothing(&self, night: &Nightly<'_>) -> Result<Option<Delivered>> {
        let (Some(_), Some(tip), Way::OnTop) = (night.remote, &self.tip, self.way) else { return Ok(None) };
        if self.remote.as_ref() == Some(tip) || branch::trailer(night.repo, tip, NIGHTLY)?.is_none() {
            return Ok(None);
        }
        Ok(Some(Delivered { commit: tip.clone(), new: false, pushed: self.push(night, tip) }))
    }

    /// Commits `files` and pushes. `message` is given the branch's name where it is made anew each night.
    pub(super) fn deliver(
        &self,
        night: &Nightly<'_>,
        index: &Path,
        files: &BTreeMap<PathBuf, String>,
        message: impl Fn(Option<&str>) -> String,
    ) -> Result<Option<Delivered>> {
        let Nightly { repo, branch, .. } = *night;
        let tree = branch::tree_with(repo, &self.base, index, files)?;
        let known = [&self.tip, &self.remote].into_iter().flatten();
        let mut same = known.filter(|commit| self.is_same(repo, commit, &tree));
        let (commit, new) = if let Some(commit) = same.next() {
            (commit.clone(), false)
        } else {
            let named = (self.way == Way::Anew).then_some(branch);
            let commit = branch::commit(repo, &tree, &self.base, &message(named));
            (commit.map_err(|error| error.during("committing the new locks"))?, true)
        };
        if self.tip.as_ref() != Some(&commit) {
            if self.checked_out {
                refuse_changed(repo, branch)?;
            }
            branch::advance(repo, branch, &commit, self.tip.as_deref())?;
            if self.checked_out {
                branch::follow(repo, files).map_err(|error| {
                    error
                        .during(format!("{branch} has the new locks, and the work tree could not follow"))
                        .hint("`git checkout HEAD -- images` brings them there")
                })?;
            }
        }
        let pushed = self.push(night, &commit);
        Ok(Some(Delivered { commit, new, pushed }))
    }

    /// Tells whether a commit is what this night would commit.
    fn is_same(&self, repo: &Path, commit: &str, tree: &str) -> bool {
        branch::parent(repo, commit).as_deref() == Some(self.base.as_str())
            && branch::tree(repo, commit).is_ok_and(|found| found == tree)
            && matches!(branch::trailer(repo, commit, NIGHTLY), Ok(Some(base)) if base == self.base)
    }

    fn push(&self, night: &Nightly<'_>, commit: &str) -> Option<Result<bool>> {
        let remote = night.remote?;
        if self.remote.as_deref() == Some(commit) {
            return Some(Ok(false));
        }
        let how = match self.way {
            Way::OnTop => Push::Forward,
            Way::Anew => Push::Replace(self.remote.clone()),
        };
        Some(branch::push(night.repo, remote, night.branch, &how).map(|()| true))
    }
}

/// Decides what the branch is, or that it is not to be touched.
fn way(night: &Nightly<'_>, base: &str, tip: Option<&str>, remote: Option<&str>) -> Result<Way> {
    let Nightly { repo, branch, .. } = *night;
    let ours = |commit: &str| is_nights(repo, branch, commit);
    let refuse = |whose: String| {
        Err(Error::invalid(format!(
            "{whose} has commits that no nightly made, and is not at the base commit {base}"
        ))
        .hint(format!("to commit on top of it: `--base {branch}`, fetched and merged"))
        .hint("or name a branch that nobody else commits on with `--branch`"))
    };
    let way = match tip {
        Some(tip) if ours(tip)? => Way::Anew,
        Some(tip) if tip == base => Way::OnTop,
        Some(_) => return refuse(branch.to_owned()),
        // A branch of people that this clone does not have, as where a commit and not a branch is checked out.
        None => match remote {
            Some(remote) if remote == base && !ours(remote)? => Way::OnTop,
            _ => Way::Anew,
        },
    };
    match (way, remote, night.remote) {
        (Way::OnTop, Some(tip), Some(name)) if !branch::is_before(repo, tip, base) => {
            refuse(format!("{branch} of `{name}`"))
        }
        (Way::Anew, Some(tip), Some(name)) if tip != base && !ours(tip)? => {
            refuse(format!("{branch} of `{name}`"))
        }
        _ => Ok(way),
    }
}

/// Tells whether a commit was made by a nightly for this branch, and has nothing of anyone else: also one that a person
/// amended keeps the trailers.
fn is_nights(repo: &Path, branch: &str, commit: &str) -> Result<bool> {
    if branch::trailer(repo, commit, BRANCH)?.as_deref() != Some(branch) {
        return Ok(false);
    }
    let base = branch::trailer(repo, commit, NIGHTLY)?;
    let Some(base) = base.filter(|base| branch::parent(repo, commit).as_ref() == Some(base)) else {
        return Ok(false);
    };
    let images = format!("{}images/", branch::prefix(repo)?);
    let is_lock = |file: &String| {
        let name = file.strip_prefix(&images).and_then(|name| name.strip_suffix(".lock"));
        name.is_some_and(|name| !name.contains('/'))
    };
    Ok(branch::differing(repo, &base, commit)?.iter().all(is_lock))
}

fn refuse_changed(repo: &Path, branch: &str) -> Result<()> {
    let changed = branch::changed(repo, LOCKS)?;
    let Some(first) = changed.first() else { return Ok(()) };
    Err(Error::invalid(format!("{branch} is checked out, and {first} has changes that are in no commit"))
        .hint("commit or undo them, or name another `--branch`"))
}

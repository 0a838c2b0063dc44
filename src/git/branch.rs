//! Commits made beside the work tree, and branches moved to them.
//!
//! Everything up to [`advance`] adds objects that nothing names: whatever ends the program before it leaves the
//! repository as it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{bare, git};
use crate::atomic_write::atomic_write;
use crate::error::{Error, Result};
use crate::process::Run as _;

/// Seconds that talking to a remote may take: a first fetch of a large repository takes minutes, and one that never answers
/// must hold nobody up for ever.
const LIMIT: &str = "600";

/// Checks that `branch` can be a branch's name.
///
/// # Errors
/// It cannot.
pub fn check_name(root: &Path, branch: &str) -> Result<()> {
    let good = !branch.starts_with('-') && git(root).args(["check-ref-format", &full(branch)]).run().is_ok();
    if good { Ok(()) } else { Err(Error::invalid(format!("`{branch}` cannot be a branch's name"))) }
}

/// Checks that Git trusts the repository: committing and pushing run what its configuration names, such as a program that
/// signs.
///
/// # Errors
/// Git does not, since the repository is another user's.
pub fn check_trusted(root: &Path) -> Result<()> {
    bare(root).args(["rev-parse", "--git-dir"]).run().map(drop).map_err(|error| {
        Error::invalid(format!(
            "no commit is made in a repository that Git does not trust: {}",
            error.chain()
        ))
        .hint("work as its owner, or tell Git that you trust it, as it says")
    })
}

/// Returns the commit that `branch` is at, if there is such a branch.
#[must_use]
pub fn tip(root: &Path, branch: &str) -> Option<String> {
    let tip = git(root).args(["rev-parse", "--verify", "--quiet", &full(branch)]).run_text().ok()?;
    Some(tip.trim().to_owned())
}

/// Returns the last value of a trailer in a commit's message.
///
/// # Errors
/// A failing `git`, such as for a commit that is not there.
pub fn trailer(root: &Path, commit: &str, key: &str) -> Result<Option<String>> {
    let format = format!("--format=%(trailers:key={key},valueonly)");
    // `--no-show-signature`: a user's configuration may ask for words about it among the output.
    let text = git(root).args(["log", "-1", "--no-show-signature", &format, commit, "--"]).run_text()?;
    Ok(text.lines().rfind(|line| !line.is_empty()).map(|value| value.trim().to_owned()))
}

/// Returns the tree of a commit.
///
/// # Errors
/// A failing `git`.
pub fn tree(root: &Path, commit: &str) -> Result<String> {
    Ok(git(root).args(["rev-parse", "--verify", &format!("{commit}^{{tree}}")]).run_text()?.trim().to_owned())
}

/// Returns the first parent of a commit; nothing for a first commit, or where a shallow clone ends.
#[must_use]
pub fn parent(root: &Path, commit: &str) -> Option<String> {
    let parent =
        git(root).args(["rev-parse", "--verify", "--quiet", &format!("{commit}^1")]).run_text().ok()?;
    Some(parent.trim().to_owned())
}

/// Returns the files that differ between two commits, named from the top of the work tree.
///
/// # Errors
/// A failing `git`.
pub fn differing(root: &Path, old: &str, new: &str) -> Result<Vec<String>> {
    let text =
        git(root).args(["diff-tree", "-r", "-z", "--name-only", "--no-renames", old, new]).run_text()?;
    Ok(text.split_terminator('\0').map(str::to_owned).collect())
}

/// Returns where `root` lies below the top of the work tree, with a slash at the end; nothing at the top.
///
/// # Errors
/// A failing `git`.
pub fn prefix(root: &Path) -> Result<String> {
    let prefix = git(root).args(["rev-parse", "--show-prefix"]).run_text()?;
    Ok(prefix.trim_end_matches('\n').to_owned())
}

/// Tells whether `old` is `new` or among the commits before it, as far as this clone knows.
#[must_use]
pub fn is_before(root: &Path, old: &str, new: &str) -> bool {
    old == new || git(root).args(["merge-base", "--is-ancestor", old, new]).run().is_ok()
}

/// Returns where the work trees are that have `branch` checked out.
///
/// # Errors
/// A failing `git`.
pub fn work_trees(root: &Path, branch: &str) -> Result<Vec<PathBuf>> {
    let text = git(root).args(["worktree", "list", "--porcelain", "-z"]).run_text()?;
    let wanted = format!("branch {}", full(branch));
    let mut found = Vec::new();
    let mut at = None;
    for line in text.split('\0') {
        match line.strip_prefix("worktree ") {
            Some(path) => at = Some(PathBuf::from(path)),
            None if line == wanted => found.extend(at.take()),
            None => {}
        }
    }
    Ok(found)
}

/// Tells whether the work tree that `root` lies in is `place`.
///
/// # Errors
/// A failing `git`.
pub fn is_work_tree(root: &Path, place: &Path) -> Result<bool> {
    let top = git(root).args(["rev-parse", "--show-toplevel"]).run_text()?;
    // One may be named through a link.
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    Ok(real(Path::new(top.trim_end_matches('\n'))) == real(place))
}

/// Returns which of the files that match `pattern`, below `root`, are other than in the commit that is checked out.
///
/// # Errors
/// A failing `git`.
pub fn changed(root: &Path, pattern: &str) -> Result<Vec<String>> {
    let pattern = format!(":(glob){pattern}");
    let text = git(root)
        .args([
            "status",
            "--porcelain",
            "-z",
            "--untracked-files=all",
            "--ignored",
            "--no-renames",
            "--",
            &pattern,
        ])
        .run_text()?;
    // Two letters and a blank before each name.
    Ok(text.split('\0').filter_map(|line| line.get(3..)).map(str::to_owned).collect())
}

/// Keeps the texts as objects and returns the object of each.
fn blobs<'a>(root: &Path, files: &'a BTreeMap<PathBuf, String>) -> Result<Vec<(&'a Path, String)>> {
    let keep = |(path, text): (&'a PathBuf, &String)| {
        let output = git(root).args(["hash-object", "-w", "--stdin"]).run_with_input(text.as_bytes())?;
        Ok((path.as_path(), String::from_utf8_lossy(&output.stdout).trim().to_owned()))
    };
    files.iter().map(keep).collect()
}

/// Puts files into an index: the one in the file `index`, or else the user's.
fn stage(root: &Path, index: Option<&Path>, blobs: &[(&Path, String)]) -> Result<()> {
    if blobs.is_empty() {
        return Ok(());
    }
    // Names in an index start there.
    let prefix = prefix(root)?;
    let line = |(path, blob): &(&Path, String)| format!("100644 {blob}\t{prefix}{}\0", path.display());
    let lines: String = blobs.iter().map(line).collect();
    let mut update = git(root);
    if let Some(index) = index {
        update.env("GIT_INDEX_FILE", index);
    }
    update.args(["update-index", "-z", "--index-info"]).run_with_input(lines.as_bytes()).map(drop)
}

/// Writes the tree of the commit `base` with other `files`, named below `root`, and returns it. `index` is a file to work
/// in, not there yet.
///
/// # Errors
/// A failing `git`.
pub fn tree_with(root: &Path, base: &str, index: &Path, files: &BTreeMap<PathBuf, String>) -> Result<String> {
    let there = |args: &[&str]| git(root).env("GIT_INDEX_FILE", index).args(args).run_text();
    there(&["read-tree", base])?;
    stage(root, Some(index), &blobs(root, files)?)?;
    Ok(there(&["write-tree"])?.trim().to_owned())
}

/// Makes a commit of a tree and returns it. It is of the user's identity, where Git has one, and signed where Git is
/// configured so (`commit.gpgSign`).
///
/// # Errors
/// A failing `git`, such as one that cannot sign.
pub fn commit(root: &Path, tree: &str, parent: &str, message: &str) -> Result<String> {
    let setting = |args: &[&str]| {
        let text = bare(root).arg("config").args(args).run_text();
        text.ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let mut git = bare(root);
    if setting(&["--get", "user.name"]).is_none() || setting(&["--get", "user.email"]).is_none() {
        git.args(["-c", "user.name=rekiln", "-c", "user.email=rekiln@localhost"]);
    }
    git.args(["commit-tree", tree, "-p", parent]);
    if setting(&["--type=bool", "--get", "commit.gpgSign"]).as_deref() == Some("true") {
        git.arg("-S");
    }
    let output = git.args(["-F", "-"]).run_with_input(message.as_bytes())?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Moves `branch` from `old` to `new`; without `old`, makes it.
///
/// # Errors
/// The branch is not at `old` any more; it is left where it is.
pub fn advance(root: &Path, branch: &str, new: &str, old: Option<&str>) -> Result<()> {
    // Zeros: no such branch may be there.
    let before = old.map_or_else(|| "0".repeat(new.len()), str::to_owned);
    let moved = git(root).args(["update-ref", "-m", "rekiln nightly", &full(branch), new, &before]).run();
    let Err(error) = moved else { return Ok(()) };
    if tip(root, branch).as_deref() == old {
        return Err(error.during(format!("moving the branch {branch}")));
    }
    Err(error
        .during(format!(
            "the branch {branch} was moved by someone else meanwhile; it is left as they made it"
        ))
        .hint("run it again: what is baked already is not baked again"))
}

/// Brings files of the user's work tree and index, which must be as they were before, to what a branch that is checked
/// out has now.
///
/// # Errors
/// A failing `git`, and a file that cannot be written.
pub fn follow(root: &Path, files: &BTreeMap<PathBuf, String>) -> Result<()> {
    for (path, text) in files {
        atomic_write(&root.join(path), text.as_bytes())?;
    }
    stage(root, None, &blobs(root, files)?)?;
    // The index learns that the files are as it says; what else differs is no failure.
    let _ = git(root).args(["update-index", "-q", "--refresh"]).run();
    Ok(())
}

/// Returns the commit that `branch` is at in the repository `remote`, and fetches it.
///
/// # Errors
/// A remote that is none or cannot be reached.
pub fn remote_tip(root: &Path, remote: &str, branch: &str) -> Result<Option<String>> {
    let asking = |error: Error| {
        error
            .during(format!("asking `{remote}` for its branch {branch}"))
            .hint("`git remote -v` lists the repositories that are known; nothing asks for a password here")
    };
    if remote.starts_with('-') {
        return Err(Error::invalid(format!("`{remote}` is no remote repository")));
    }
    let text = far(root).args(["ls-remote", "--", remote, &full(branch)]).run_text().map_err(asking)?;
    let Some(tip) = text.split_whitespace().next().map(str::to_owned) else { return Ok(None) };
    let known = || git(root).args(["cat-file", "-e", &format!("{tip}^{{commit}}")]).run().is_ok();
    if !known() {
        let mut fetch = far(root);
        // Nothing of the user's is moved: no tags, no branches of the remote, no FETCH_HEAD.
        fetch.args(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--refmap=", "--", remote]);
        fetch.arg(full(branch)).run().map_err(asking)?;
        if !known() {
            return Err(Error::failed(format!(
                "the branch {branch} of `{remote}` was moved while it was fetched"
            ))
            .hint("run it again"));
        }
    }
    Ok(Some(tip))
}

/// Keeps a commit of a remote's branch, and what is before it, from being collected, under a name of our own.
///
/// # Errors
/// A failing `git`.
pub fn keep(root: &Path, branch: &str, commit: &str) -> Result<()> {
    let name = format!("refs/rekiln/watch/{branch}");
    git(root).args(["update-ref", "--no-deref", &name, commit]).run().map(drop)
}

/// A `git` that talks to another computer, and has a limit for it.
fn far(root: &Path) -> Command {
    let git = bare(root);
    let mut limited = Command::new("timeout");
    limited.args(["--foreground", "--kill-after=10", LIMIT]).arg(git.get_program()).args(git.get_args());
    for (name, value) in git.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

/// How a push may move a remote's branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Push {
    /// Forward only.
    Forward,
    /// Anywhere, if it still is where it was seen, or still is not there.
    Replace(Option<String>),
}

/// Pushes `branch` to the repository `remote`.
///
/// # Errors
/// A remote that cannot be reached, or that refuses.
pub fn push(root: &Path, remote: &str, branch: &str, how: &Push) -> Result<()> {
    let mut git = far(root);
    git.args(["push", "--quiet", "--no-verify", "--recurse-submodules=no", "--no-follow-tags"]);
    if let Push::Replace(seen) = how {
        let seen = seen.as_deref().unwrap_or_default();
        git.arg(format!("--force-with-lease={}:{seen}", full(branch)));
    }
    git.args(["--", remote, &format!("{0}:{0}", full(branch))]);
    git.run().map(drop).map_err(|error| {
        error
            .during(format!("pushing {branch} to `{remote}`; the commit is kept in this repository"))
            .hint("where someone pushed meanwhile: fetch, and run it again; what is baked already is not baked again")
    })
}

fn full(branch: &str) -> String {
    format!("refs/heads/{branch}")
}

#[cfg(test)]
mod tests {
    use super::super::{commit_all, init};
    use super::*;

    #[test]
    fn a_commit_is_made_beside_the_work_tree() {
        let dir = tempfile::tempdir().expect("a directory");
        // Deep in a repository of something else, in folders that Git quotes.
        let (top, root) = (dir.path(), dir.path().join("tief \"unten\"/ünser"));
        std::fs::create_dir_all(root.join("images")).expect("a folder");
        init(top).expect("init");
        std::fs::write(root.join("images/web.lock"), "old").expect("a file");
        std::fs::write(root.join("images/web.toml"), "recipe").expect("a file");
        let base = commit_all(top, "base").expect("commit");
        let files = BTreeMap::from([(PathBuf::from("images/web.lock"), "new".to_owned())]);
        let tree = tree_with(&root, &base, &top.join(".git/other"), &files).expect("a tree");
        let made = commit(&root, &tree, &base, "new locks\n\nRekiln-Nightly: x y\n").expect("a commit");
        let paths = git(top).args(["diff", "--name-only", "-z", &base, &made]).run_text().expect("diff");
        assert_eq!(paths, "tief \"unten\"/ünser/images/web.lock\0");
        assert_eq!(differing(&root, &base, &made).expect("listed"), ["tief \"unten\"/ünser/images/web.lock"]);
        assert_eq!(prefix(&root).expect("asked"), "tief \"unten\"/ünser/");
        check_trusted(&root).expect("it is ours");
        assert_eq!(super::tree(&root, &made).expect("its tree"), tree);
        assert_eq!(parent(&root, &made).as_deref(), Some(base.as_str()));
        assert_eq!(parent(&root, &base), None);
        assert_eq!(trailer(&root, &made, "Rekiln-Nightly").expect("read").as_deref(), Some("x y"));
        assert_eq!(trailer(&root, &base, "Rekiln-Nightly").expect("read"), None);
        assert!(is_before(&root, &base, &made) && !is_before(&root, &made, &base));
        assert_eq!(changed(&root, "images/*.lock").expect("status"), [""; 0], "the index is as it was");

        assert_eq!(tip(&root, "night"), None);
        advance(&root, "night", &base, None).expect("made");
        assert!(advance(&root, "night", &made, None).is_err(), "it is there already");
        assert!(advance(&root, "night", &base, Some(&made)).is_err(), "it is elsewhere");
        assert_eq!(tip(&root, "night").as_deref(), Some(base.as_str()));
        advance(&root, "night", &made, Some(&base)).expect("moved");
        assert_eq!(tip(&root, "night"), Some(made));
        for bad in ["", "-x", "a b", "a..b", "a.lock"] {
            assert!(check_name(&root, bad).is_err(), "{bad}");
        }
        check_name(&root, "rekiln/nächtlich").expect("a name");
    }

    #[test]
    fn files_follow_a_branch_that_is_checked_out() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("ours");
        std::fs::create_dir_all(root.join("images")).expect("a folder");
        init(dir.path()).expect("init");
        std::fs::write(root.join("images/web.lock"), "old").expect("a file");
        std::fs::write(dir.path().join(".gitignore"), "hidden.lock\n").expect("a file");
        let base = commit_all(dir.path(), "base").expect("commit");
        let here = work_trees(&root, "main").expect("listed");
        assert!(here.len() == 1 && is_work_tree(&root, &here[0]).expect("asked"), "{here:?}");
        assert!(work_trees(&root, "mai").expect("listed").is_empty());
        let files: BTreeMap<_, _> =
            ["images/web.lock", "images/new.lock"].map(|name| (PathBuf::from(name), "new".to_owned())).into();
        let tree = tree_with(&root, &base, &dir.path().join(".git/other"), &files).expect("a tree");
        let made = commit(&root, &tree, &base, "new").expect("a commit");
        advance(&root, "main", &made, Some(&base)).expect("moved");
        assert_eq!(changed(&root, "images/*.lock").expect("status").len(), 2);
        follow(&root, &files).expect("followed");
        assert_eq!(git(&root).args(["status", "--porcelain"]).run_text().expect("status"), "");
        // One that Git is told not to see would be overwritten all the same.
        std::fs::write(root.join("images/hidden.lock"), "mine").expect("a file");
        assert_eq!(changed(&root, "images/*.lock").expect("status"), ["ours/images/hidden.lock"]);
    }
}

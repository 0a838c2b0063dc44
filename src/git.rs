//! The repository's history, through the `git` program.

use std::path::Path;
use std::process::Command;

use crate::error::{Error, Result};
use crate::process::Run as _;

/// What of a repository reaches images and fleets: a change elsewhere leaves the tree clean for a bake.
const OURS: [&str; 3] = ["images", "bootstrap", "fleets"];

/// Where a repository stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The commit that is checked out; `None` before the first, or without Git.
    pub commit: Option<String>,
    /// Whether `images/`, `bootstrap/` and `fleets/` are as in that commit.
    pub clean: bool,
}

/// Returns where the repository at `root` stands. A directory without Git has no commit and is not clean.
///
/// # Errors
/// A failing `git`.
pub fn revision(root: &Path) -> Result<Revision> {
    let Ok(commit) = git(root).args(["rev-parse", "--verify", "--quiet", "HEAD"]).run_text() else {
        return Ok(Revision { commit: None, clean: false });
    };
    let changes =
        git(root).args(["status", "--porcelain", "--untracked-files=all", "--"]).args(OURS).run_text()?;
    Ok(Revision { commit: Some(commit.trim().to_owned()), clean: changes.is_empty() })
}

/// Returns the commit that `name` means in the repository at `root`.
///
/// # Errors
/// It means none.
pub fn commit(root: &Path, name: &str) -> Result<String> {
    // What begins so is no name, and must not become an option.
    let found = (!name.starts_with('-')).then(|| {
        git(root).args(["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")]).run_text().ok()
    });
    match found.flatten() {
        Some(commit) => Ok(commit.trim().to_owned()),
        None => Err(Error::invalid(format!("there is no commit `{name}` in {}", root.display())).hint(
            "name a branch, a tag or a commit that `git log` shows; a shallow clone has only the last ones: `git fetch --unshallow`",
        )),
    }
}

/// Returns the last commit that both have; `None` when they have none, or history here does not reach so far.
#[must_use]
pub fn merge_base(root: &Path, one: &str, other: &str) -> Option<String> {
    let found = git(root).args(["merge-base", one, other]).run_text().ok()?;
    Some(found.trim().to_owned()).filter(|found| !found.is_empty())
}

/// Returns the paths in `images/`, `bootstrap/` and `fleets/` of a commit at which other repositories begin.
///
/// # Errors
/// A failing `git`.
pub fn submodules(root: &Path, commit: &str) -> Result<Vec<String>> {
    // Relative to `root`, as a path given to `ls-tree` is; with NUL, no name is quoted.
    let listed = git(root).args(["ls-tree", "-r", "-z", commit, "--"]).args(OURS).run_text()?;
    let entries = listed.split('\0').filter_map(|entry| entry.split_once('\t'));
    Ok(entries.filter(|(about, _)| about.starts_with("160000 ")).map(|(_, path)| path.to_owned()).collect())
}

/// Tells whether the repository at `root` knows a commit by this name.
#[must_use]
pub fn knows(root: &Path, name: &str) -> bool {
    // What begins so is no name, and must not become an option.
    !name.starts_with('-')
        && git(root).args(["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")]).run().is_ok()
}

/// Writes `images/`, `bootstrap/` and `fleets/` as a checkout of the revision `name` has them into the empty directory
/// `to`. Neither the work tree nor anything else of the repository is touched.
///
/// # Errors
/// A failing `git`, such as for a name that it does not know.
pub fn export(root: &Path, name: &str, to: &Path) -> Result<()> {
    let own = git(root).args(["rev-parse", "--absolute-git-dir"]).run_text()?;
    // Of its own, so that nobody's staged changes are touched; a dot keeps it apart from the folders.
    let index = to.join(".index");
    let there = |args: &[&str]| {
        let mut git = git(to);
        git.env("GIT_DIR", own.trim()).env("GIT_WORK_TREE", to).env("GIT_INDEX_FILE", &index).args(args);
        git
    };
    for folder in OURS {
        // Relative to `root`, which may lie deep in a repository of something else.
        let tree = format!("{name}:./{folder}");
        let tree = git(root).args(["rev-parse", "--verify", "--quiet", &tree]).run_text();
        if let Ok(tree) = tree {
            there(&["read-tree", &format!("--prefix={folder}/"), tree.trim()]).run()?;
        }
    }
    there(&["checkout-index", "--all"]).run().map(drop)
}

/// Makes `root` a repository with one branch `main`, unless it is one.
///
/// # Errors
/// A failing `git`.
pub fn init(root: &Path) -> Result<()> {
    git(root).args(["init", "--quiet", "--initial-branch=main"]).run().map(drop)
}

/// Copies the committed state of the repository that holds `root` to the new directory `to`, with its history.
///
/// # Errors
/// A failing `git`, such as for a repository without a commit.
pub fn clone_to(root: &Path, to: &Path) -> Result<()> {
    git(root).args(["clone", "--quiet", "--no-hardlinks", "--"]).args([root, to]).run().map(drop)
}

/// Commits everything that changed in the repository at `root` and returns the commit.
///
/// # Errors
/// A failing `git`, such as for a tree without changes.
pub fn commit_all(root: &Path, message: &str) -> Result<String> {
    git(root).args(["add", "--all"]).run()?;
    git(root).args(["commit", "--quiet", "--no-verify", "--no-gpg-sign", "--message", message]).run()?;
    Ok(git(root).args(["rev-parse", "HEAD"]).run_text()?.trim().to_owned())
}

/// A `git` that needs no configuration of the user's and obeys none that would change what it does.
fn git(root: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(root);
    git.args(["-c", "user.name=rekiln", "-c", "user.email=rekiln@localhost"]);
    // A repository of another user, as under sudo or in a container, is read and never run: no hooks.
    git.args(["-c", "safe.directory=*", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"]);
    // Inside a hook or a rebase these point at another repository than the one that is named.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        git.env_remove(name);
    }
    git.env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0");
    git
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_read_beside_the_work_tree() {
        let dir = tempfile::tempdir().expect("a directory");
        // Deep in a repository of something else.
        let (top, root) = (dir.path(), dir.path().join("deep/ours"));
        std::fs::create_dir_all(root.join("images")).expect("a folder");
        init(top).expect("init");
        std::fs::write(top.join("README.md"), "elsewhere").expect("a file");
        std::fs::write(root.join("images/web.toml"), "old").expect("a file");
        let old = commit_all(top, "old").expect("commit");
        std::fs::write(root.join("images/web.toml"), "new").expect("a file");
        commit_all(top, "new").expect("commit");
        std::fs::write(root.join("images/web.toml"), "changed").expect("a file");
        std::fs::write(root.join("images/staged.toml"), "staged").expect("a file");
        git(top).args(["add", "deep/ours/images/staged.toml"]).run().expect("add");
        let status = || git(top).args(["status", "--porcelain"]).run_text().expect("status");
        let before = status();
        for (name, text) in [(old.as_str(), "old"), ("HEAD", "new"), ("main", "new")] {
            let to = tempfile::tempdir().expect("a directory");
            export(&root, name, to.path()).expect("exported");
            assert_eq!(std::fs::read_to_string(to.path().join("images/web.toml")).expect("read"), text);
            assert!(!to.path().join("images/staged.toml").exists() && !to.path().join("README.md").exists());
        }
        assert_eq!(status(), before);
        assert!(knows(&root, &old) && knows(&root, "main"));
        assert!(!knows(&root, "nowhere") && !knows(&root, "--all") && !knows(&root, "HEAD:deep"));
    }

    #[test]
    fn clean_is_about_our_folders() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path();
        let write = |name: &str, text: &str| {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().expect("it has a parent")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        };
        assert_eq!(revision(root).expect("no git"), Revision { commit: None, clean: false });
        init(root).expect("init");
        write("images/web.toml", "a");
        let first = commit_all(root, "first").expect("commit");
        assert_eq!(revision(root).expect("git"), Revision { commit: Some(first.clone()), clean: true });
        write("README.md", "elsewhere");
        assert!(revision(root).expect("git").clean);
        write("images/new.toml", "b");
        assert!(!revision(root).expect("git").clean);
        let second = commit_all(root, "second").expect("commit");
        assert_ne!(first, second);
        let copy = dir.path().with_extension("copy");
        clone_to(root, &copy).expect("clone");
        assert_eq!(revision(&copy).expect("git"), Revision { commit: Some(second), clean: true });
        std::fs::remove_dir_all(copy).expect("remove");
        assert!(commit_all(root, "nothing changed").is_err());
    }
}

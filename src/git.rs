//! The repository's history, through the `git` program.

pub mod branch;
pub mod signature;

use std::path::Path;
use std::process::Command;

use jiff::Timestamp;

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

/// Returns the last commit that both have; `None` when they have none, or history here does not reach so far.
#[must_use]
pub fn merge_base(root: &Path, one: &str, other: &str) -> Option<String> {
    let found = git(root).args(["merge-base", one, other]).run_text().ok()?;
    Some(found.trim().to_owned()).filter(|found| !found.is_empty())
}

/// Returns the address of a remote repository, without a user's name or password; nothing when there is no such one.
#[must_use]
pub fn remote(root: &Path, name: &str) -> Option<String> {
    let url = git(root).args(["config", "--get", &format!("remote.{name}.url")]).run_text().ok()?;
    let url = url.trim();
    let Some((scheme, rest)) = url.split_once("://") else { return Some(url.to_owned()) };
    let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    let host = host.rsplit('@').next().unwrap_or(host);
    Some(format!("{scheme}://{host}{}", path.map(|path| format!("/{path}")).unwrap_or_default()))
}

/// Returns the first line of a commit's message, and when it was made; nothing when it is not known.
#[must_use]
pub fn about(root: &Path, commit: &str) -> Option<(String, Option<Timestamp>)> {
    let text =
        git(root).args(["show", "--no-patch", "--format=%ct %s", "--end-of-options", commit]).run_text();
    let text = text.ok()?;
    let (at, subject) = text.lines().next()?.split_once(' ')?;
    Some((subject.to_owned(), at.parse().ok().and_then(|at| Timestamp::from_second(at).ok())))
}

/// Tells whether the repository at `root` knows a commit by this name.
#[must_use]
pub fn knows(root: &Path, name: &str) -> bool {
    // What begins so is no name, and must not become an option.
    !name.starts_with('-')
        && git(root).args(["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")]).run().is_ok()
}

/// Returns the commit that the revision `name` means.
///
/// # Errors
/// No Git repository, none with a commit, and a name that it does not know.
pub fn commit_of(root: &Path, name: &str) -> Result<String> {
    let unknown = || Error::invalid(format!("{} knows no revision `{name}`", root.display()));
    if name.starts_with('-') {
        return Err(unknown());
    }
    if git(root).args(["rev-parse", "--git-dir"]).run().is_err() {
        return Err(Error::invalid(format!("{} is in no Git repository", root.display()))
            .hint("make it one with `git init`, and commit your images/"));
    }
    let commit =
        git(root).args(["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")]).run_text();
    match commit {
        Ok(commit) => Ok(commit.trim().to_owned()),
        Err(_) if name == "HEAD" => Err(Error::invalid(format!("{} has no commit yet", root.display()))
            .hint("commit your images/ with `git add images bootstrap fleets && git commit`")),
        Err(_) => {
            Err(unknown().hint("a shallow clone knows the newest commits only: fetch the one that is meant"))
        }
    }
}

/// Refuses a revision that has submodules where recipes, templates or fleets are: what is in them is in no commit of this
/// repository, so that no commit would say what an image is made of.
///
/// # Errors
/// There is a submodule, or a failing `git`.
pub fn refuse_submodules(root: &Path, name: &str) -> Result<()> {
    let listed = git(root).args(["ls-tree", "-r", "-z", name, "--"]).args(OURS).run_text()?;
    // `<mode> <type> <object>\t<path>`; 160000 is the mode of a commit of another repository.
    let submodule = listed.split('\0').find_map(|entry| entry.strip_prefix("160000 ")?.split_once('\t'));
    let Some((_, path)) = submodule else { return Ok(()) };
    Err(Error::invalid(format!(
        "`{path}` is a submodule in {name}: what is in it is in no commit of this repository"
    ))
    .hint(
        "put its files into this repository, as with `git subtree add`; submodules elsewhere are left alone",
    ))
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
    let mut git = bare(root);
    git.args(["-c", "user.name=rekiln", "-c", "user.email=rekiln@localhost"]);
    // A repository of another user, as under sudo or in a container, is read and never run.
    git.args(["-c", "safe.directory=*"]);
    git
}

/// A `git` that runs nothing by itself: no hooks. It takes identity and keys from the user's configuration, and works
/// only where Git itself trusts the repository, since that configuration may name programs to run.
fn bare(root: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(root);
    git.args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"]);
    // Inside a hook or a rebase these point at another repository than the one that is named.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        git.env_remove(name);
    }
    // What a commit's name says is what is read, whatever other object a repository has put in its place (git-replace).
    git.env("GIT_NO_REPLACE_OBJECTS", "1");
    git.env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0");
    git
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remotes_address_has_nobodys_password() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path();
        init(root).expect("init");
        assert_eq!(remote(root, "origin"), None);
        for (url, expected) in [
            ("https://bot:s3cret@git.example.com/a/b.git", "https://git.example.com/a/b.git"),
            ("https://git.example.com/a@b", "https://git.example.com/a@b"),
            ("ssh://git@git.example.com:2222/a", "ssh://git.example.com:2222/a"),
            ("git@git.example.com:a/b.git", "git@git.example.com:a/b.git"),
            ("/srv/git/a.git", "/srv/git/a.git"),
        ] {
            git(root).args(["config", "remote.origin.url", url]).run().expect("set");
            assert_eq!(remote(root, "origin").as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_revision_is_read_beside_the_work_tree() {
        let dir = tempfile::tempdir().expect("a directory");
        // Deep in a repository of something else.
        let (top, root) = (dir.path(), dir.path().join("deep/ours"));
        std::fs::create_dir_all(root.join("images")).expect("a folder");
        init(top).expect("init");
        std::fs::write(top.join("README.md"), "elsewhere").expect("a file");
        std::fs::write(root.join("images/web.toml"), "old").expect("a file");
        std::fs::create_dir_all(root.join("fleets/playbooks")).expect("a folder");
        std::fs::write(root.join("fleets/playbooks/restart.toml"), "steps").expect("a file");
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
            let playbook = std::fs::read_to_string(to.path().join("fleets/playbooks/restart.toml"));
            assert_eq!(playbook.expect("read"), "steps");
            assert!(!to.path().join("images/staged.toml").exists() && !to.path().join("README.md").exists());
        }
        assert_eq!(status(), before);
        assert!(knows(&root, &old) && knows(&root, "main"));
        assert!(!knows(&root, "nowhere") && !knows(&root, "--all") && !knows(&root, "HEAD:deep"));
    }

    #[test]
    fn a_submodule_among_our_files_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path();
        assert!(commit_of(root, "HEAD").expect_err("no git").chain().contains("in no Git repository"));
        init(root).expect("init");
        assert!(commit_of(root, "HEAD").expect_err("no commit").chain().contains("no commit yet"));
        std::fs::write(root.join("README.md"), "elsewhere").expect("a file");
        let first = commit_all(root, "first").expect("commit");
        assert_eq!(commit_of(root, "main").expect("known"), first);
        assert!(commit_of(root, "--all").is_err() && commit_of(root, "nowhere").is_err());
        let link = |path: &str| {
            let entry = format!("160000,{first},{path}");
            git(root).args(["update-index", "--add", "--cacheinfo", &entry]).run().expect("added");
            git(root).args(["commit", "--quiet", "--message", path]).run().expect("commit");
        };
        link("elsewhere");
        refuse_submodules(root, "HEAD").expect("not ours");
        link("bootstrap/wörter und mehr");
        let error = refuse_submodules(root, "HEAD").expect_err("it is one");
        assert!(error.chain().contains("`bootstrap/wörter und mehr` is a submodule"), "{error:?}");
        refuse_submodules(root, &first).expect("not there yet");
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

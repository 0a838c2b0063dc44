//! A remote repository, other clones of it, and others who push.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;

use rekiln::pipeline::nightly::Nightly;

use super::site::{Site, assert_says, commit, delivered, git};

/// A site whose `main` is in a bare repository, `origin`.
fn site() -> (Site, PathBuf) {
    let mut site = Site::new();
    let remote = site.path("remote.git");
    fs::create_dir(&remote).expect("made");
    git(&remote, &["init", "--quiet", "--bare", "--initial-branch=main"]);
    git(&site.repo, &["remote", "add", "origin", &remote.display().to_string()]);
    git(&site.repo, &["push", "--quiet", "origin", "main"]);
    // Hooks of the repository are not run.
    let hook = site.repo.join(".git/hooks/pre-push");
    fs::create_dir_all(hook.parent().expect("a parent")).expect("made");
    fs::write(&hook, "#!/bin/sh\nexit 1\n").expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&hook, mode).expect("set");
    site.update("debian", "libweb", "1.1");
    (site, remote)
}

fn pushing(nightly: &mut Nightly<'_>) {
    nightly.remote = Some("origin");
}

fn to_main(nightly: &mut Nightly<'_>) {
    (nightly.remote, nightly.branch) = (Some("origin"), "main");
}

/// Makes a commit that nobody's clone has, and returns it.
fn foreign(site: &Site, remote: &str, parent: &str) -> String {
    let clone = site.path("foreign");
    if !clone.exists() {
        git(&site.path(""), &["clone", "--quiet", remote, "foreign"]);
    }
    git(&clone, &["fetch", "--quiet", "origin"]);
    git(&clone, &["checkout", "--quiet", "--detach", parent]);
    fs::write(clone.join("README.md"), parent).expect("written");
    commit(&clone, "someone else's")
}

#[test]
fn the_remote_branch_is_made_and_replaced() {
    let (mut site, remote) = site();
    let at = || git(&remote, &["rev-parse", "rekiln/nightly"]);
    let first = delivered(site.night(pushing).expect("a night"));
    assert!(matches!(first.pushed, Some(Ok(true))), "{first:?}");
    assert_eq!(at(), first.commit);
    let again = delivered(site.night(pushing).expect("a night"));
    assert!(!again.new && matches!(again.pushed, Some(Ok(false))), "{again:?}");

    // A shallow clone, as automation makes them, knows neither history nor the branch. It takes over what is there.
    let shallow = site.path("shallow");
    let url = format!("file://{}", remote.display());
    git(&site.path(""), &["clone", "--quiet", "--depth=1", &url, "shallow"]);
    let taken = delivered(site.night_in(&shallow, &|| {}, pushing).expect("a night"));
    assert!(!taken.new && matches!(taken.pushed, Some(Ok(false))), "{taken:?}");
    assert_eq!(git(&shallow, &["rev-parse", "rekiln/nightly"]), first.commit);

    // There, the next night replaces it; the first clone sees that, and replaces it in turn.
    site.update("debian", "unwanted", "2");
    let second = delivered(site.night_in(&shallow, &|| {}, pushing).expect("a night"));
    assert!(second.new && matches!(second.pushed, Some(Ok(true))), "{second:?}");
    assert_eq!(at(), second.commit);
    let taken = delivered(site.night(pushing).expect("a night"));
    assert_eq!((taken.commit, taken.new), (second.commit.clone(), false));
    site.update("debian", "unwanted", "3");
    let third = delivered(site.night(pushing).expect("a night"));
    assert!(third.new && at() == third.commit, "{third:?}");
    assert_eq!(git(&remote, &["rev-parse", "rekiln/nightly^"]), git(&remote, &["rev-parse", "main"]));
}

#[test]
fn a_push_replaces_only_what_was_seen() {
    let (mut site, remote) = site();
    let at = || git(&remote, &["rev-parse", "rekiln/nightly"]);
    delivered(site.night(pushing).expect("a night"));
    site.update("debian", "unwanted", "2");
    // Another night of another clone is faster.
    let url = remote.display().to_string();
    git(&site.path(""), &["clone", "--quiet", &url, "faster"]);
    let faster = site.path("faster");
    let pushed = Cell::new(false);
    let meanwhile = || {
        if !pushed.replace(true) {
            let message = format!(
                "x\n\nRekiln-Nightly: {}\nRekiln-Branch: rekiln/nightly",
                git(&faster, &["rev-parse", "HEAD"])
            );
            git(&faster, &["commit", "--quiet", "--allow-empty", "--message", &message]);
            git(&faster, &["push", "--quiet", "--force", "origin", "HEAD:rekiln/nightly"]);
        }
    };
    let done = delivered(site.night_in(&site.repo, &meanwhile, pushing).expect("a night"));
    let theirs = git(&faster, &["rev-parse", "HEAD"]);
    assert_eq!(at(), theirs);
    assert_says(
        done.pushed.expect("it was tried"),
        &["pushing rekiln/nightly to `origin`", "stale info", "fetch"],
    );
    assert_eq!(git(&site.repo, &["rev-parse", "rekiln/nightly"]), done.commit, "the commit is kept");
    // The next run sees it, makes no second commit, and pushes.
    let again = delivered(site.night(pushing).expect("a night"));
    assert!(!again.new && matches!(again.pushed, Some(Ok(true))), "{again:?}");
    assert_eq!((at(), again.commit.clone()), (done.commit.clone(), done.commit));

    // Commits of people are not replaced, whoever pushed them with force.
    let mine = foreign(&site, &url, "origin/main");
    git(&site.path("foreign"), &["push", "--quiet", "--force", "origin", "HEAD:rekiln/nightly"]);
    assert_says(site.night(pushing), &["rekiln/nightly of `origin` has commits that no nightly made"]);
    assert_eq!(at(), mine);
}

#[test]
fn main_goes_forward_only() {
    let (mut site, remote) = site();
    let at = || git(&remote, &["rev-parse", "main"]);
    let url = remote.display().to_string();
    // Someone merges while images are baked.
    let meanwhile = || {
        foreign(&site, &url, "origin/main");
        git(&site.path("foreign"), &["push", "--quiet", "origin", "HEAD:main"]);
    };
    let done = delivered(site.night_in(&site.repo, &meanwhile, to_main).expect("a night"));
    let theirs = git(&site.path("foreign"), &["rev-parse", "HEAD"]);
    assert_says(done.pushed.expect("it was tried"), &["pushing main to `origin`", "rejected", "fetch"]);
    assert_eq!((at(), git(&site.repo, &["rev-parse", "main"])), (theirs, done.commit.clone()));
    // What cannot be pushed is not baked for.
    site.baked.borrow_mut().clear();
    assert_says(site.night(to_main), &["main of `origin` has commits that no nightly made"]);
    assert!(site.baked.borrow().is_empty());

    // Fetched and rebased, there is nothing new, and what was not pushed is.
    git(&site.repo, &["fetch", "--quiet", "origin"]);
    git(&site.repo, &["rebase", "--quiet", "origin/main"]);
    let night = site.night(to_main).expect("a night");
    assert!(night.updated.is_empty());
    let pushed = delivered(night);
    assert!(!pushed.new && matches!(pushed.pushed, Some(Ok(true))), "{pushed:?}");
    assert_eq!(at(), git(&site.repo, &["rev-parse", "main"]));
    let night = site.night(to_main).expect("a night");
    assert!(night.delivered.expect("nothing to do").is_none());

    // Automation checks out a commit and not a branch: `main` is the remote's, and gets its commit on top.
    site.update("debian", "libweb", "1.2");
    git(&site.path(""), &["clone", "--quiet", &format!("file://{url}"), "detached", "--depth=1"]);
    let detached = site.path("detached");
    git(&detached, &["checkout", "--quiet", "--detach"]);
    git(&detached, &["branch", "--quiet", "-D", "main"]);
    let before = at();
    let done = delivered(site.night_in(&detached, &|| {}, to_main).expect("a night"));
    assert!(matches!(done.pushed, Some(Ok(true))), "{done:?}");
    assert_eq!(git(&remote, &["rev-parse", "main", "main^"]), format!("{}\n{before}", done.commit));
}

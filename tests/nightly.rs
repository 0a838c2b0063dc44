//! Nights: locks, failures, commits, branches and pushes, with real Git and a signed archive on disk. Bakes take no time
//! but in one test.

mod baked;
mod published;
mod push;
mod site;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use rekiln::digest::Digest;
use rekiln::lock::Lock;
use rustix::process::{Pid, Signal};
use site::{Site, assert_says, commit, delivered, git, names};

#[test]
fn nothing_changed_makes_no_commit() {
    let site = Site::new();
    let output = site.command(&["nightly", "--json"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let last: serde_json::Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!(
        last,
        serde_json::json!({
            "event": "nightly", "base": git(&site.repo, &["rev-parse", "HEAD"]), "images": 4, "updated": 0,
            "left": 0, "branch": "rekiln/nightly", "commit": null, "new": false, "pushed": null,
        })
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("nothing changed: 4 images are up to date with the archive"), "{said}");
    assert_eq!(git(&site.repo, &["for-each-ref", "--format=%(refname)"]), "refs/heads/main");
    site.assert_swept();
}

#[test]
fn a_file_of_vulnerabilities_is_read_before_anything_is_done() {
    let mut site = Site::new();
    site.update("debian-security", "libweb", "1.1");
    let file = tempfile::NamedTempFile::new().expect("a file");
    // A night is changed by what lives longer than any.
    let path: &'static Path = Box::leak(file.path().into());
    let error = site.night(|night| night.vulnerabilities = Some(path)).expect_err("it is empty");
    assert_eq!(error.exit_code(), 2, "{}", error.chain());
    assert!(error.chain().ends_with("it is empty") && site.baked.borrow().is_empty(), "{}", error.chain());
    fs::write(path, r#"{ "web": {} }"#).expect("written");
    let night = site.night(|night| night.vulnerabilities = Some(path)).expect("a night");
    // The packages of this archive lie in no directory of a source.
    let judged = night.updated[0].vulnerabilities.as_ref().expect("it is judged");
    let words = "packages of which no source is known, such as base-files";
    assert!(judged.fixed.is_empty() && judged.uncovered[0].ends_with(words), "{judged:?}");
    let commit = delivered(night).commit;
    let message = git(&site.repo, &["show", "--no-patch", "--format=%B", &commit]);
    assert!(message.contains("\n  vulnerabilities not covered: ") && message.contains(words), "{message}");
}

#[test]
fn an_update_becomes_a_commit_beside_the_work_tree() {
    let mut site = Site::new();
    let base = git(&site.repo, &["rev-parse", "HEAD"]);
    site.update("debian-security", "libweb", "1.1");
    // What is in the work tree is nobody's concern.
    fs::write(site.repo.join("images/base.toml"), "broken").expect("written");
    fs::write(site.repo.join("images/web.lock"), "mine").expect("written");
    fs::write(site.repo.join("images/neu.toml"), "staged").expect("written");
    git(&site.repo, &["add", "images/neu.toml"]);
    let status = || git(&site.repo, &["status", "--porcelain"]);
    let before = status();

    let night = site.night(|_| {}).expect("a night");
    assert_eq!(names(&night), (vec!["web"], vec![]));
    let (old, new) = (night.updated[0].old.clone().expect("it was locked").id, night.updated[0].new.id);
    let first = delivered(night);
    assert!(first.new && first.pushed.is_none());
    assert_eq!(status(), before);
    assert_eq!(git(&site.repo, &["rev-parse", "rekiln/nightly", "main", "rekiln/nightly^"]), {
        format!("{}\n{base}\n{base}", first.commit)
    });
    assert_eq!(
        git(&site.repo, &["show", "--no-patch", "--format=%B", &first.commit]),
        format!(
            "images: 1 of 4 images have updates (1 security)\n\nweb {} → {}\n  libweb 1.0 → 1.1 (security)\n  \
             size 212.4 MB, boot 4.0 s, passed\n\nRekiln-Nightly: {base}\nRekiln-Branch: rekiln/nightly",
            old.short(),
            new.short()
        )
    );
    site.assert_changes(&site.repo, &first.commit, &["images/web.lock"]);
    site.assert_swept();

    // Once more: the same, and no second commit.
    let again = delivered(site.night(|_| {}).expect("a night"));
    assert_eq!((again.commit, again.new), (first.commit.clone(), false));

    // The next night starts from the base again, and replaces what the one before left.
    site.update("debian", "unwanted", "2");
    let next = delivered(site.night(|_| {}).expect("a night"));
    assert!(next.new && next.commit != first.commit);
    assert_eq!(git(&site.repo, &["rev-parse", "rekiln/nightly", "rekiln/nightly^"]), {
        format!("{}\n{base}", next.commit)
    });
    site.assert_changes(&site.repo, &next.commit, &["images/own.lock", "images/web.lock"]);

    // What someone added to it is not thrown away, as a commit or in that of the night.
    git(&site.repo, &["stash", "--quiet", "--include-untracked"]);
    for how in [&["--message", "mine"][..], &["--amend", "--no-edit"]] {
        git(&site.repo, &["switch", "--quiet", "--force-create", "rekiln/nightly", &next.commit]);
        fs::write(site.repo.join("note"), "mine").expect("written");
        git(&site.repo, &["add", "note"]);
        git(&site.repo, &[&["commit", "--quiet"], how].concat());
        let mine = git(&site.repo, &["rev-parse", "HEAD"]);
        git(&site.repo, &["switch", "--quiet", "main"]);
        assert_says(site.night(|_| {}), &["rekiln/nightly has commits that no nightly made", "--branch"]);
        assert_eq!(git(&site.repo, &["rev-parse", "rekiln/nightly"]), mine);
    }
}

#[test]
fn what_stands_on_an_update_is_baked_too() {
    let mut site = Site::new();
    site.update("debian", "libc6", "2.36-10");
    let night = site.night(|_| {}).expect("a night");
    assert_eq!(names(&night), (vec!["base", "own", "db", "web"], vec![]));
    assert_eq!(night.updated[2].below.as_deref(), Some("base"));
    assert_eq!(*site.baked.borrow(), ["base", "own", "db", "web"], "those below come first");
    let commit = delivered(night).commit;
    let locks = ["images/base.lock", "images/db.lock", "images/own.lock", "images/web.lock"];
    site.assert_changes(&site.repo, &commit, &locks);
}

#[test]
fn a_failure_stops_no_other() {
    let mut site = Site::new();
    site.update("debian", "libc6", "2.36-10");
    site.update("debian", "libweb", "1.1");
    site.unbooted.insert("db");
    let night = site.night(|_| {}).expect("a night");
    // The lock of `db` names that of `base`: with one of them as it was, so is the other. `web` is updated on it.
    assert_eq!(names(&night), (vec!["own", "web"], vec![("base", false), ("db", true)]));
    assert_eq!(night.left[0].why, "an update of it would change db, which stands on it and stays as it is");
    assert_eq!(night.left[1].why, "it did not pass its boot: no answer on port 5432");
    let commit = delivered(night).commit;
    site.assert_changes(&site.repo, &commit, &["images/own.lock", "images/web.lock"]);
    let web = Lock::parse(&git(&site.repo, &["show", &format!("{commit}:images/web.lock")])).expect("a lock");
    assert!(web.packages.iter().any(|package| package.name == "libweb" && package.version == "1.1"));
    let message = git(&site.repo, &["show", "--no-patch", "--format=%B", &commit]);
    assert!(
        message.contains("\nnot updated: db: it did not pass its boot: no answer on port 5432\n"),
        "{message}"
    );

    // The same when it already fails to be resolved: nothing is baked in vain.
    site.archive.add("debian", "db", "16", "Depends: no-such");
    site.archive.publish();
    site.baked.borrow_mut().clear();
    let night = site.night(|_| {}).expect("a night");
    assert_eq!(names(&night), (vec!["own", "web"], vec![("base", false), ("db", true)]));
    assert!(night.left[1].why.contains("no-such"), "{:?}", night.left);
    assert_eq!(*site.baked.borrow(), ["own", "web"]);
    // The archive has newer dates, and for what is committed nothing else: that is no news.
    let again = delivered(night);
    assert_eq!((again.commit, again.new), (commit, false));

    // One that is not even baked takes those on it with it, and they are not baked in vain.
    site.update("debian", "db", "17");
    site.unbaked.insert("base");
    site.baked.borrow_mut().clear();
    let night = site.night(|_| {}).expect("a night");
    assert_eq!(names(&night).0, ["own"]);
    let left = names(&night).1;
    assert_eq!(left, [("base", true), ("db", false), ("web", false)]);
    assert!(!site.baked.borrow().iter().any(|image| image == "web" || image == "db"));
    let commit = delivered(night).commit;
    site.assert_changes(&site.repo, &commit, &["images/own.lock"]);
}

#[test]
fn the_command_ends_with_1_where_an_image_failed() {
    let mut site = Site::new();
    site.archive.add("debian", "unwanted", "2", "Depends: no-such");
    site.archive.publish();
    let output = site.command(&["nightly"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("own was not updated: locking `own`") && text.contains("no-such"), "{text}");
    assert_eq!(git(&site.repo, &["for-each-ref", "--format=%(refname)"]), "refs/heads/main");
}

#[test]
fn a_night_that_is_ended_leaves_nothing() {
    let site = Site::new();
    // An artifact that never comes.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("set");
    let fetch = format!(
        "[source]\ndebian = \"bookworm\"\n[[fetch]]\nurl = \"http://{}/tool\"\npath = \"/opt/tool\"\nsha256 = \"{}\"\n",
        listener.local_addr().expect("an address"),
        Digest::of(b"tool")
    );
    fs::write(site.repo.join("images/base.toml"), fetch).expect("written");
    commit(&site.repo, "a tool");
    for (signal, code) in [(Signal::KILL, None), (Signal::INT, Some(130))] {
        let mut night = site.program(&site.repo, &["nightly"]).spawn().expect("rekiln starts");
        let connection = loop {
            if let Ok((connection, _)) = listener.accept() {
                break connection;
            }
            assert!(night.try_wait().expect("asked").is_none(), "it ended by itself");
            std::thread::sleep(std::time::Duration::from_millis(20));
        };
        rustix::process::kill_process(Pid::from_child(&night), signal).expect("signalled");
        assert_eq!(night.wait().expect("it ended").code(), code);
        drop(connection);
        assert_eq!(git(&site.repo, &["for-each-ref", "--format=%(refname)"]), "refs/heads/main");
        assert_eq!(git(&site.repo, &["status", "--porcelain"]), "");
    }
    // What the first one could not remove, the second one did.
    site.assert_swept();
}

#[test]
fn a_branch_that_moved_is_left_alone() {
    let mut site = Site::new();
    site.update("debian", "libweb", "1.1");
    let other = git(&site.repo, &["commit-tree", "HEAD^{tree}", "-m", "other"]);
    let meanwhile = || drop(git(&site.repo, &["update-ref", "refs/heads/rekiln/nightly", &other]));
    let night = site.night_in(&site.repo, &meanwhile, |_| {}).expect("a night");
    assert_eq!(names(&night).0, ["web"]);
    assert_says(night.delivered, &["rekiln/nightly was moved by someone else meanwhile", "run it again"]);
    assert_eq!(git(&site.repo, &["rev-parse", "rekiln/nightly"]), other);
}

#[test]
fn a_branch_that_is_checked_out_takes_the_work_tree_along() {
    let mut site = Site::new();
    let base = git(&site.repo, &["rev-parse", "HEAD"]);
    site.update("debian", "libweb", "1.1");
    let dirty = site.repo.join("images/web.lock");
    let text = fs::read_to_string(&dirty).expect("read");
    fs::write(&dirty, "mine").expect("written");
    let on_main = |site: &Site| site.night(|nightly| nightly.branch = "main");
    assert_says(on_main(&site), &["main is checked out, and images/web.lock has changes"]);
    fs::write(&dirty, text).expect("written");
    fs::write(
        site.repo.join("images/web.toml"),
        "# mine\npackages = [\"web\"]\n[source]\nimage = \"base\"\n",
    )
    .expect("written");
    // No fleet may run what was not booted, so nothing of it gets where fleets are rolled from.
    let unproven = |nightly: &mut rekiln::pipeline::nightly::Nightly<'_>| {
        (nightly.branch, nightly.unproven) = ("main", true);
    };
    assert_says(site.night(unproven), &["not booted are not committed on main"]);
    // Neither is a branch moved that another work tree shows.
    git(&site.repo, &["worktree", "add", "--quiet", "-b", "elsewhere", "../elsewhere"]);
    assert_says(site.night(|nightly| nightly.branch = "elsewhere"), &["elsewhere is checked out in"]);

    let done = delivered(on_main(&site).expect("a night"));
    assert_eq!(git(&site.repo, &["rev-parse", "main", "main^"]), format!("{}\n{base}", done.commit));
    assert_eq!(git(&site.repo, &["status", "--porcelain"]), "M images/web.toml".replace('M', " M"));
    let message = git(&site.repo, &["show", "--no-patch", "--format=%(trailers:only)", "main"]);
    assert_eq!(message, format!("Rekiln-Nightly: {base}"));
    site.assert_changes(&site.repo, "main", &["images/web.lock"]);
    // From here on it is up to date.
    let night = on_main(&site).expect("a night");
    assert!(night.updated.is_empty() && night.delivered.expect("nothing").is_none());
}

#[test]
fn commits_are_signed_where_git_is_configured_so() {
    let mut site = Site::new();
    site.update("debian", "libweb", "1.1");
    let key = site.path("key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
    assert!(made.expect("ssh-keygen runs").success());
    let public = fs::read_to_string(key.with_extension("pub")).expect("read");
    let signers = site.path("signers");
    fs::write(&signers, format!("grace@localhost {public}")).expect("written");
    for (name, value) in [
        ("user.name", "Grace"),
        ("user.email", "grace@localhost"),
        ("gpg.format", "ssh"),
        ("user.signingKey", &key.display().to_string()),
        ("gpg.ssh.allowedSignersFile", &signers.display().to_string()),
        ("commit.gpgSign", "yes"),
    ] {
        git(&site.repo, &["config", name, value]);
    }
    let done = delivered(site.night(|_| {}).expect("a night"));
    git(&site.repo, &["verify-commit", &done.commit]);
    let who = git(&site.repo, &["show", "--no-patch", "--format=%G? %GS %an <%ae>", &done.commit]);
    assert_eq!(who, "G grace@localhost Grace <grace@localhost>");
    // A key that is gone: no commit rather than one without a signature.
    fs::remove_file(&key).expect("removed");
    fs::remove_file(key.with_extension("pub")).expect("removed");
    site.update("debian", "libweb", "1.2");
    let night = site.night(|_| {}).expect("a night");
    assert_says(night.delivered, &["committing the new locks"]);
    assert_eq!(git(&site.repo, &["rev-parse", "rekiln/nightly"]), done.commit);
}

#[test]
fn what_cannot_be_begun_says_so() {
    let site = Site::new();
    let plain = site.path("plain");
    fs::create_dir_all(plain.join("images")).expect("made");
    site.refused(&plain, &["nightly"], 2, &["is in no Git repository", "git init"]);
    git(&plain, &["init", "--quiet", "--initial-branch=main"]);
    site.refused(&plain, &["nightly"], 2, &["has no commit yet", "git commit"]);
    fs::write(plain.join("README.md"), "ours").expect("written");
    commit(&plain, "no images");
    site.refused(&plain, &["nightly"], 2, &["has no images/", "name a revision that has them"]);

    let repo = &site.repo;
    site.refused(repo, &["nightly", "--base", "nowhere"], 2, &["knows no revision `nowhere`"]);
    site.refused(repo, &["nightly", "--branch", "a..b"], 2, &["`a..b` cannot be a branch's name"]);
    site.refused(repo, &["nightly", "--push", "nowhere"], 1, &["asking `nowhere`", "git remote -v"]);
    let owner = |uid| std::os::unix::fs::chown(repo.join(".git"), Some(uid), None).expect("as root");
    // Anyone but root, whose the tests are.
    owner(65_534);
    site.refused(repo, &["nightly"], 2, &["a repository that Git does not trust", "dubious ownership"]);
    owner(0);
    let head = git(repo, &["rev-parse", "HEAD"]);
    git(repo, &["update-index", "--add", "--cacheinfo", &format!("160000,{head},bootstrap/other")]);
    git(repo, &["commit", "--quiet", "--message", "a submodule"]);
    site.refused(repo, &["nightly"], 2, &["`bootstrap/other` is a submodule", "git subtree add"]);
}

//! Commits that must be signed before they are applied, and every way to be tricked about that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Ended, Site, git, rekiln};

/// A repository, and keys beside it.
struct Keys {
    site: Site,
}

impl Keys {
    fn new() -> Self {
        Self { site: Site::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.site.dir.path().join(name)
    }

    /// Makes a key, and returns its public line.
    fn key(&self, name: &str) -> String {
        let path = self.path(name);
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
            .arg(&path)
            .status();
        assert!(made.expect("ssh-keygen runs").success());
        fs::read_to_string(path.with_extension("pub")).expect("a key").trim().to_owned()
    }

    /// Makes a commit that is signed with a key, and returns it.
    fn sign(&self, key: &str, message: &str) -> String {
        let key = format!("user.signingkey={}", self.path(key).display());
        self.site.git(&[
            "-c",
            "gpg.format=ssh",
            "-c",
            &key,
            "commit",
            "-q",
            "-S",
            "--allow-empty",
            "-m",
            message,
        ]);
        self.site.git(&["rev-parse", "HEAD"])
    }

    fn allow(&self, text: &str) -> PathBuf {
        let path = self.path("allowed");
        fs::write(&path, text).expect("written");
        path
    }

    /// Applies a commit that changes nothing, so that only its signature decides.
    fn apply(&self, commit: &str, allowed: &Path) -> Ended {
        let allowed = allowed.to_str().expect("UTF-8");
        let args = ["--json", "apply", "--from", commit, "--to", commit, "--allowed-signers", allowed];
        rekiln(&self.site.repo, &self.path("store"), &args)
    }

    fn refused(&self, commit: &str, allowed: &Path, words: &str) {
        let ended = self.apply(commit, allowed);
        assert_eq!((ended.code, ended.stderr.contains(words)), (Some(2), true), "{words}: {}", ended.stderr);
        assert!(!ended.stdout.contains("\"applied\""), "{}", ended.stdout);
    }

    /// Writes a commit's object with another text, as if that were what was signed.
    fn forge(&self, commit: &str, from: &str, to: &str) -> String {
        let text = git(&self.site.repo, &["cat-file", "commit", commit]);
        assert!(text.contains(from), "{text}");
        self.object(&format!("{}\n", text.replacen(from, to, 1)))
    }

    fn object(&self, text: &str) -> String {
        use std::io::Write as _;
        let mut write = Command::new("git");
        write.arg("-C").arg(&self.site.repo).args(["hash-object", "-t", "commit", "-w", "--stdin"]);
        let mut child = write.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("git runs");
        child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("written");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    }
}

#[test]
fn only_what_an_allowed_key_signed_is_applied() {
    let keys = Keys::new();
    let (ours, _theirs) = (keys.key("ours"), keys.key("theirs"));
    let allowed = keys.allow(&format!("# who merges\nops@example.com namespaces=\"git\" {ours}\n"));
    let good = keys.sign("ours", "signed");
    let ended = keys.apply(&good, &allowed);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("\"signer\":\"ops@example.com\""), "{}", ended.stdout);
    // By its branch's name it is the same commit.
    assert_eq!(keys.apply("main", &allowed).code, Some(0));

    let unsigned = keys.site.commit("unsigned");
    keys.refused(&unsigned, &allowed, "is not signed, and nothing was done");
    keys.refused("main", &allowed, "is not signed, and nothing was done");
    let other = keys.sign("theirs", "by somebody else");
    keys.refused(&other, &allowed, "does not allow at that time");
    // The signature of another commit, and a commit that was changed after it was signed.
    let tree = format!("tree {}", git(&keys.site.repo, &["rev-parse", &format!("{good}^{{tree}}")]));
    keys.site.edit("fleets/web.toml", "size = 3", "size = 4");
    let worse = keys.site.commit("another size");
    let worse = format!("tree {}", git(&keys.site.repo, &["rev-parse", &format!("{worse}^{{tree}}")]));
    keys.refused(&keys.forge(&good, &tree, &worse), &allowed, "it was changed after it was signed");
    // Another kind of signature, whatever it says.
    let pgp = keys.forge(&good, "BEGIN SSH SIGNATURE", "BEGIN PGP SIGNATURE");
    keys.refused(&pgp, &allowed, "is not signed with an SSH key");
    // Words in the message are no signature.
    let text = git(&keys.site.repo, &["cat-file", "commit", &unsigned]);
    let said = keys.object(&format!("{text}\n\ngpgsig -----BEGIN SSH SIGNATURE-----\n"));
    keys.refused(&said, &allowed, "is not signed, and nothing was done");
    // No list is not an empty one.
    keys.refused_without(&good);
}

impl Keys {
    fn refused_without(&self, commit: &str) {
        let ended = self.apply(commit, &self.path("nowhere"));
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains("reading the allowed signers in "), "{}", ended.stderr);
    }
}

#[test]
fn keys_are_allowed_for_a_time_and_for_git() {
    let keys = Keys::new();
    let ours = keys.key("ours");
    let good = keys.sign("ours", "signed");
    for (option, good_there) in [
        ("valid-before=\"20200101\"", false),
        ("valid-after=\"20200101\"", true),
        ("namespaces=\"file\"", false),
        ("namespaces=\"file,git\"", true),
    ] {
        let allowed = keys.allow(&format!("ops@example.com {option} {ours}\n"));
        if good_there {
            assert_eq!(keys.apply(&good, &allowed).code, Some(0), "{option}");
        } else {
            keys.refused(&good, &allowed, "and nothing was done");
        }
    }
    keys.refused(&good, &keys.allow(""), "and nothing was done");
}

#[test]
fn a_repository_does_not_say_who_checks_it() {
    let keys = Keys::new();
    let (ours, theirs) = (keys.key("ours"), keys.key("theirs"));
    let allowed = keys.allow(&format!("ops@example.com {ours}\n"));
    let good = keys.sign("ours", "signed");
    keys.site.edit("fleets/web.toml", "size = 3", "size = 4");
    keys.site.git(&["add", "--all"]);
    let bad = keys.sign("theirs", "by somebody else");
    // Its own configuration has a program that finds everything good, and its own list.
    let program = keys.path("program");
    let mark = keys.path("it-ran");
    fs::write(
        &program,
        format!("#!/bin/sh\ntouch '{}'\necho 'Good \"git\" signature for ops@example.com'\n", mark.display()),
    )
    .expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, mode).expect("changed");
    let own = keys.path("own");
    fs::write(&own, format!("ops@example.com {theirs}\n")).expect("written");
    keys.site.git(&["config", "gpg.ssh.program", program.to_str().expect("UTF-8")]);
    keys.site.git(&["config", "gpg.program", program.to_str().expect("UTF-8")]);
    keys.site.git(&["config", "gpg.ssh.allowedSignersFile", own.to_str().expect("UTF-8")]);
    keys.site.git(&["config", "log.showSignature", "true"]);
    keys.refused(&bad, &allowed, "does not allow at that time");
    assert_eq!(keys.apply(&good, &allowed).code, Some(0));
    assert!(!mark.exists(), "the repository's own program was run");
    // And it shows a good commit in the place of a bad one, and a bad one in the place of a good one.
    git(&keys.site.repo, &["replace", &bad, &good]);
    keys.refused(&bad, &allowed, "does not allow at that time");
    git(&keys.site.repo, &["replace", "-d", &bad]);
    git(&keys.site.repo, &["replace", &good, &bad]);
    let ended = keys.apply(&good, &allowed);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let id = rekiln(
        &keys.site.repo,
        &keys.path("store"),
        &["plan", "--from", &good, "--to", &bad, "--format", "json"],
    );
    assert!(id.stdout.contains("size 4 instead of 3"), "each commit is read as it is: {}", id.stdout);
}

//! Whether someone who may has signed a commit.
//!
//! Git checks the signature itself, by `ssh-keygen`. Nothing that a repository's own configuration or references say changes
//! what is asked: not which file has the allowed signers, not which program checks, and, as for all of [`super`], not which object
//! a commit is.

use std::path::Path;

use super::git;
use crate::error::{Doing as _, Error, Result};
use crate::process::Run as _;

/// How a signature of the kind that is taken begins, in a commit.
const SSH: &str = "-----BEGIN SSH SIGNATURE-----";

/// Returns who signed a commit, by the name that `allowed` has for their key: a file of allowed signers as `ssh-keygen` and
/// Git's `gpg.ssh.allowedSignersFile` read it. The commit is named by its object, as [`super::commit_of`] returns it.
///
/// # Errors
/// It is not signed, by another kind of signature, by a key that the file does not allow at the time of the commit, or was
/// changed after it was signed; there is no such file.
pub fn signer(root: &Path, commit: &str, allowed: &Path) -> Result<String> {
    let allowed =
        allowed.canonicalize().doing(|| format!("reading the allowed signers in {}", allowed.display()))?;
    let raw = git(root).args(["cat-file", "commit", commit]).run()?;
    let raw = String::from_utf8_lossy(&raw.stdout);
    let headers = raw.split("\n\n").next().unwrap_or_default();
    let kind = headers.lines().find_map(|line| line.strip_prefix("gpgsig "));
    let short = commit.get(..12).unwrap_or(commit);
    let refused = |what: &str| Error::invalid(format!("commit {short} {what}, and nothing was done"));
    match kind {
        None => {
            return Err(refused("is not signed").hint(
                "sign it: `git commit --amend --no-edit -S`; `git config commit.gpgSign true` signs all that follow",
            ));
        }
        Some(kind) if kind.trim() != SSH => {
            return Err(refused("is not signed with an SSH key")
                .hint("keys in a file of allowed signers are SSH keys: `git config gpg.format ssh`"));
        }
        Some(_) => {}
    }
    let mut log = git(root);
    log.arg("-c").arg(format!("gpg.ssh.allowedSignersFile={}", allowed.display()));
    log.args(["-c", "gpg.ssh.program=ssh-keygen"]);
    log.args(["log", "-1", "--no-show-signature", "--format=%G?%n%GS%n%GK", commit, "--"]);
    let text = log.run_text()?;
    let mut lines = text.lines();
    let (state, who, key) =
        (lines.next(), lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    match state {
        Some("G") if !who.is_empty() => Ok(who.to_owned()),
        Some("G" | "U") => {
            let whose = if key.is_empty() { String::new() } else { format!(" ({key})") };
            Err(refused(&format!("is signed with a key{whose} that {} does not allow at that time", allowed.display()))
                .hint("someone who is allowed signs it, or the key is added to that file, on purpose"))
        }
        Some("B") => Err(refused("has a signature that does not fit it: it was changed after it was signed, or its key is not allowed at that time")
            .hint("do not apply it before you know where it comes from")),
        other => Err(Error::failed(format!(
            "the signature of commit {short} could not be checked (Git says {other:?}), and nothing was done"
        ))
        .hint("`ssh-keygen` checks it: apt-get install openssh-client")),
    }
}

//! Private keys and access keys in small files where people put them.

use super::{Context, Hit, name_of};
use crate::error::Result;
use crate::inspect::erofs::Kind;
use crate::inspect::tree::Tree;

/// Where files are read; what packages put below `/usr` is public.
const PLACES: &[&str] = &["/etc", "/root", "/home", "/opt", "/srv", "/usr/local", "/var"];

/// Files above this size are not read: keys and configuration are far smaller, and reading stays short.
const SIZE_MAX: u64 = 1 << 18;

/// Files that programs keep credentials in, by the end of their path.
const CREDENTIAL_FILES: &[&str] = &[
    "/.netrc",
    "/.aws/credentials",
    "/.docker/config.json",
    "/.npmrc",
    "/.pypirc",
    "/.git-credentials",
    "/.kube/config",
    "/.vault-token",
    "/.pgpass",
    "/.my.cnf",
    "/.config/gcloud/credentials.db",
    "/.config/gcloud/application_default_credentials.json",
    "/.azure/accessTokens.json",
    "/.s3cfg",
    "/.boto",
    "/id_rsa",
    "/id_dsa",
    "/id_ecdsa",
    "/id_ed25519",
    "/id_ecdsa_sk",
    "/id_ed25519_sk",
    "/.gnupg/secring.gpg",
];

pub(super) fn credential_files(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let keeps = |path: &str| {
        CREDENTIAL_FILES.iter().any(|end| path.ends_with(end)) || path.contains("/.gnupg/private-keys-v1.d/")
    };
    let found = tree.iter().filter(|(path, node)| node.kind == Kind::File && node.size > 0 && keeps(path));
    Ok(found.map(|(path, _)| Hit::with(path, name_of(path))).collect())
}

pub(super) fn secrets(tree: &Tree, _: &Context) -> Result<Vec<Hit>> {
    let mut hits = Vec::new();
    for (path, node) in PLACES.iter().flat_map(|place| tree.below(place)) {
        // The package database: large, public, and without secrets.
        let database = path.starts_with("/var/lib/dpkg/") || path.starts_with("/var/lib/rpm/");
        if node.kind != Kind::File || node.size == 0 || node.size > SIZE_MAX || database {
            continue;
        }
        let bytes = tree.read(path, SIZE_MAX)?.unwrap_or_default();
        if let Some(what) = secret_in(&bytes) {
            hits.push(Hit::with(path, what));
        }
    }
    Ok(hits)
}

/// Names the first secret in `bytes`.
fn secret_in(bytes: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(bytes);
    if text.contains("-----BEGIN ")
        && text.lines().any(|line| line.contains("-----BEGIN ") && line.contains("PRIVATE KEY"))
    {
        return Some("a private key");
    }
    // Key ids of AWS: a prefix of four letters, then 16 upper-case letters and digits.
    let upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
    if follows(&text, "AKIA", 16, upper) || follows(&text, "ASIA", 16, upper) {
        return Some("an AWS access key");
    }
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    for (prefix, len, what) in [
        ("ghp_", 36, "a GitHub token"),
        ("github_pat_", 40, "a GitHub token"),
        ("glpat-", 20, "a GitLab token"),
        ("xoxb-", 20, "a Slack token"),
        ("hvs.", 24, "a Vault token"),
    ] {
        if follows(&text, prefix, len, word) {
            return Some(what);
        }
    }
    let named = |line: &str| {
        let (key, value) = line.split_once(['=', ':']).unwrap_or_default();
        let value = value.trim().trim_matches(['"', '\'']);
        key.trim().to_ascii_lowercase().ends_with("aws_secret_access_key") && value.len() >= 40
    };
    text.lines().any(named).then_some("an AWS secret access key")
}

/// Tells whether `prefix` stands at the start of a word with at least `len` characters that fit after it.
fn follows(text: &str, prefix: &str, len: usize, fits: impl Fn(char) -> bool) -> bool {
    text.match_indices(prefix).any(|(at, _)| {
        let starts = !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
        let run = text[at + prefix.len()..].chars().take_while(|c| fits(*c)).count();
        starts && run >= len && (prefix != "AKIA" && prefix != "ASIA" || run == len)
    })
}

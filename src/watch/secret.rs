//! Decide: whether a request comes from somebody who knows the secret, whichever of the usual ways it says
//! so.

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use ring::hmac;

use crate::error::{Doing as _, Error, Result};

/// The fewest characters: 16 of base 64 are 96 bits, which nobody guesses over a network.
const SHORTEST: usize = 16;

/// The most that is read of the file, in bytes: HTTP servers take headers of some kilobytes and no longer
/// ones.
const LONGEST: u64 = 4096;

/// Rights of people who are neither the file's owner nor in its group.
const OTHERS: u32 = 0o007;

/// Headers that are the secret itself: GitLab's, and what an API destination of `EventBridge` may be given.
const PLAIN: [&str; 2] = ["x-gitlab-token", "x-api-key"];

/// Headers with the HMAC-SHA256 of the body, and what stands before its hexadecimal digits: GitHub's (which
/// Gitea and Forgejo send too), Gitea's and Forgejo's.
const SIGNED: [(&str, &str); 3] =
    [("x-hub-signature-256", "sha256="), ("x-gitea-signature", ""), ("x-forgejo-signature", "")];

/// What a sender of webhooks and the watcher both know. Its text is not kept: only what tells whether another
/// text is the same.
pub struct Secret {
    key: hmac::Key,
    /// Of the secret itself: comparing such takes as long for every guess.
    tag: hmac::Tag,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// Reads the secret that is the only line of a file.
    ///
    /// # Errors
    /// A file that cannot be read or that everybody may, and what [`Secret::of`] refuses. No error says what
    /// the file has.
    pub fn read(path: &Path) -> Result<Self> {
        let doing = || format!("reading the secret of webhooks in {}", path.display());
        // Looked at and read through one handle: the file of that name could be another one by then.
        let file = File::open(path).doing(doing)?;
        let mode = file.metadata().doing(doing)?.permissions().mode();
        if mode & OTHERS != 0 {
            return Err(Error::invalid(format!(
                "everybody on this computer may use it (mode {:04o})",
                mode & 0o7777
            ))
            .during(doing())
            .hint(format!("leave it to its owner and group: `chmod o= {}`", path.display()))
            .hint("if somebody may have read it, make a new one: `openssl rand -hex 32`"));
        }
        let mut bytes = Vec::new();
        file.take(LONGEST + 1).read_to_end(&mut bytes).doing(doing)?;
        Self::of(&bytes).map_err(|error| error.during(doing()))
    }

    /// Takes a secret; white space around it is none of it.
    ///
    /// # Errors
    /// Nothing, fewer than 16 or more than 4,096 characters, and characters that no header can carry.
    pub fn of(bytes: &[u8]) -> Result<Self> {
        let new = "make one: `openssl rand -hex 32`";
        let bytes = bytes.trim_ascii();
        if bytes.is_empty() {
            return Err(Error::invalid("it is empty").hint(new));
        }
        if bytes.len() < SHORTEST {
            return Err(Error::invalid(format!("it has fewer than {SHORTEST} characters")).hint(new));
        }
        if bytes.len() as u64 > LONGEST {
            return Err(Error::invalid(format!("it has more than {LONGEST} characters")).hint(new));
        }
        if !bytes.iter().all(u8::is_ascii_graphic) {
            let what = "it has white space or other characters that a sender cannot put into a header";
            return Err(Error::invalid(what).hint(new));
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let tag = hmac::sign(&key, bytes);
        Ok(Self { key, tag })
    }

    /// Tells whether a request shows that its sender knows the secret: by `Authorization: Bearer SECRET`,
    /// `Authorization: Basic` with it as the password of any user, `X-Gitlab-Token: SECRET`, `X-Api-Key:
    /// SECRET`, or the HMAC-SHA256 of the body in `X-Hub-Signature-256`, `X-Gitea-Signature` or
    /// `X-Forgejo-Signature`. One is enough, since senders add headers that are none of ours. A header that
    /// is there twice counts for nothing: what stands between the sender and us may see the other one.
    #[must_use]
    pub fn vouches(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        self.vouches_unread(headers) || self.signed(headers, body)
    }

    /// Tells whether [`Secret::vouches`] can still come to a yes once the body is known, so that the body of
    /// everybody else need not be read.
    #[must_use]
    pub fn may_vouch(&self, headers: &HeaderMap) -> bool {
        self.vouches_unread(headers) || SIGNED.iter().any(|(name, _)| only(headers, name).is_some())
    }

    /// By headers alone.
    fn vouches_unread(&self, headers: &HeaderMap) -> bool {
        let plain = PLAIN.iter().any(|name| only(headers, name).is_some_and(|value| self.is(value)));
        plain || only(headers, AUTHORIZATION.as_str()).is_some_and(|value| self.authorizes(value))
    }

    fn authorizes(&self, value: &[u8]) -> bool {
        let Some(space) = value.iter().position(|byte| *byte == b' ') else { return false };
        let (scheme, rest) = (&value[..space], value[space..].trim_ascii());
        if scheme.eq_ignore_ascii_case(b"bearer") {
            return self.is(rest);
        }
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return false;
        }
        let Ok(pair) = BASE64.decode(rest) else { return false };
        // A user has no colon; a password may.
        let colon = pair.iter().position(|byte| *byte == b':');
        colon.is_some_and(|colon| self.is(&pair[colon + 1..]))
    }

    fn signed(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        SIGNED.iter().any(|(name, before)| {
            let digits = only(headers, name).and_then(|value| value.strip_prefix(before.as_bytes()));
            let tag = digits.and_then(unhex);
            tag.is_some_and(|tag| hmac::verify(&self.key, body, &tag).is_ok())
        })
    }

    /// In constant time, whatever `guess` is: digests are compared, and not texts.
    fn is(&self, guess: &[u8]) -> bool {
        hmac::verify(&self.key, guess, self.tag.as_ref()).is_ok()
    }
}

/// The value of a header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes())
}

fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16);
    let pair = |pair: &[u8]| u8::try_from(value(pair[0])? * 16 + value(pair[1])?).ok();
    digits.chunks(2).map(pair).collect()
}

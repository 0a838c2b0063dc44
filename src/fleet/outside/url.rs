//! An URL that may be a secret.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::error::{Error, Result};

/// What an URL of a fleet file must be.
const FORM: &str = "an URL begins with `http://` or `https://` and a host, or is `$NAME`: the name of an environment \
    variable that has it";

/// An URL, known in full only to who asks it: shown, it is the name of the environment variable that it came from, or
/// ends with its host, for the path of a webhook is its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    target: String,
    shown: String,
}

impl Url {
    /// Checks what a fleet file has for an URL. What a variable holds is not looked at: it is that of another host.
    ///
    /// # Errors
    /// Neither `$NAME` nor `http://` or `https://` with a host, white space and control characters.
    pub fn check(text: &str) -> Result<(), String> {
        let good = match variable(text) {
            Some((_, rest)) => rest.is_empty(),
            None => up_to_host(text).is_some(),
        };
        if good { Ok(()) } else { Err(FORM.to_owned()) }
    }

    /// Reads an URL, or takes it from the environment when it is `$NAME`; after that, a path may follow.
    ///
    /// # Errors
    /// A variable that is not set, and whatever is no URL.
    pub fn resolve(text: &str) -> Result<Self> {
        Self::resolve_with(text, |name| std::env::var(name).ok())
    }

    pub(super) fn resolve_with(text: &str, variables: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let Some((name, rest)) = variable(text) else {
            let shown = up_to_host(text).ok_or_else(|| Error::invalid(FORM))?;
            return Ok(Self { target: text.to_owned(), shown });
        };
        let shown = format!("${name}");
        let value = variables(name).filter(|value| !value.trim().is_empty()).ok_or_else(|| {
            Error::invalid(format!("the environment variable {name} is not set, and an URL is taken from it"))
                .hint(format!("set it where rekiln runs: `export {name}=https://…`"))
        })?;
        // Line ends come with a variable that was read from a file.
        let value = value.trim();
        let value = if rest.is_empty() { value } else { value.trim_end_matches('/') };
        if up_to_host(value).is_none() {
            return Err(Error::invalid(format!(
                "the environment variable {name} has no URL: it begins with `http://` or `https://`"
            )));
        }
        Ok(Self { target: format!("{value}{rest}"), shown })
    }

    /// Returns the URL in full: for curl and nobody else.
    pub(super) fn target(&self) -> &str {
        &self.target
    }

    /// Tells whether it is on this computer, where no proxy could find it.
    pub(super) fn is_here(&self) -> bool {
        let Some((_, host)) = authority(&self.target) else { return false };
        let address = host.parse().map(|address: SocketAddr| address.ip());
        let address = address.or_else(|_| host.trim_matches(['[', ']']).parse::<IpAddr>());
        address.map_or_else(|_| host.split(':').next() == Some("localhost"), |address| address.is_loopback())
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Splits `$NAME/path` into name and path.
fn variable(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('$')?;
    let (name, rest) = text.split_at(text.find('/').unwrap_or(text.len()));
    let good = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    good.then_some((name, rest))
}

/// Returns scheme and host with port of an URL, without its login.
fn authority(url: &str) -> Option<(&str, &str)> {
    if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return None;
    }
    let (scheme, rest) = url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    (!host.is_empty() && !host.starts_with(':')).then_some((scheme, host))
}

/// Leaves of each URL in a text what [`Url`] shows of one: scheme and host. Commands have URLs among their words, and their
/// programs print them.
#[must_use]
pub fn without_secrets(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + "://".len());
        let end = after
            .find(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '`' | '<' | '>'))
            .unwrap_or(after.len());
        let authority = after[..end].split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        shown.push_str(before);
        shown.push_str(host);
        if authority.len() < end {
            shown.push_str("/…");
        }
        rest = &after[end..];
    }
    shown + rest
}

fn up_to_host(url: &str) -> Option<String> {
    authority(url).map(|(scheme, host)| format!("{scheme}://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for good in ["http://h", "https://h:1/p?q#f", "http://{address}/stats", "http://[::1]:1/", "$A_1"] {
            assert_eq!(Url::check(good), Ok(()), "{good}");
        }
        for bad in
            ["", "h", "ftp://h/", "file:///etc/passwd", "http://", "http:///p", "http://h/a b", "http://h\n"]
        {
            assert!(Url::check(bad).is_err() && Url::resolve(bad).is_err(), "{bad}");
        }
        for bad in ["$", "$1A", "$A-B", "$A/b", "${A}", "http://u:p@/"] {
            assert!(Url::check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn secrets_stay() {
        let variables = |name: &str| match name {
            "HOOK" => Some("https://hooks.example/services/secret\n".to_owned()),
            "PROM" => Some("http://u:secret@prom.example:9090/".to_owned()),
            "WRONG" => Some("secret".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, target, shown) in [
            ("$HOOK", "https://hooks.example/services/secret", "$HOOK"),
            ("$PROM/api", "http://u:secret@prom.example:9090/api", "$PROM"),
            ("https://u:secret@h.example:1/secret?q=secret", "", "https://h.example:1"),
        ] {
            let url = Url::resolve_with(text, variables).expect(text);
            assert_eq!(url.target, if target.is_empty() { text } else { target });
            assert_eq!((url.to_string(), format!("{url:?}")), (shown.to_owned(), shown.to_owned()));
        }
        for (text, expected) in [
            ("$WRONG", "variable WRONG has no URL"),
            ("$EMPTY", "variable EMPTY is not set"),
            ("$NONE", "variable NONE is not set"),
            ("ftp://u:secret@h/secret", "an URL begins with"),
        ] {
            let error = Url::resolve_with(text, variables).expect_err(text).chain();
            assert!(error.contains(expected) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn urls_in_texts() {
        for (text, shown) in [
            ("", ""),
            ("no URL: here //", "no URL: here //"),
            ("http://h", "http://h"),
            ("`curl -d x https://u:secret@h:1/secret?q#f` ended", "`curl -d x https://h:1/…` ended"),
            ("a 'http://h?secret' and\nredis://:secret@r/0\n", "a 'http://h/…' and\nredis://r/…\n"),
            ("--url=http://u:secret@h", "--url=http://h"),
            ("http://secret@h/http://secret@h/secret", "http://h/…"),
            ("://", "://"),
        ] {
            assert_eq!(without_secrets(text), shown);
        }
    }

    #[test]
    fn this_computer() {
        let here = |url: &str| Url::resolve(url).expect(url).is_here();
        for url in [
            "http://127.0.0.1",
            "http://127.0.0.2:80/x",
            "http://[::1]:80/",
            "http://[::1]",
            "http://localhost:1",
        ] {
            assert!(here(url), "{url}");
        }
        for url in
            ["http://10.0.0.1", "https://localhost.example", "http://127.0.0.1@h.example/", "http://1.h"]
        {
            assert!(!here(url), "{url}");
        }
    }
}

//! Decide: what stands for something else in commands, URLs and queries.

use std::borrow::Cow;

use crate::diagnostic::nearest;
use crate::error::{Error, Result};

/// What stands for an instance's address.
pub const ADDRESS: &str = "{address}";
/// What stands for an instance's id.
pub const ID: &str = "{id}";
/// What stands for a fleet's name.
pub const FLEET: &str = "{fleet}";
/// What stands for an alert's name.
pub const ALERT: &str = "{alert}";

/// What placeholders stand for, and what to do where one stands for nothing.
#[derive(Debug, Clone)]
pub struct Filling<'a> {
    values: Vec<(&'static str, Option<Cow<'a, str>>)>,
    hint: &'static str,
}

impl<'a> Filling<'a> {
    /// One that fills in these values; the hint is for whoever needs one that is missing.
    #[must_use]
    pub const fn new(values: Vec<(&'static str, Option<Cow<'a, str>>)>, hint: &'static str) -> Self {
        Self { values, hint }
    }

    /// Fills in a text. What a placeholder stands for is not looked at again, and other braces are left as they are.
    ///
    /// # Errors
    /// A placeholder that stands for nothing.
    pub fn fill<'t>(&self, text: &'t str) -> Result<Cow<'t, str>> {
        self.fill_with(text, |value| value.into())
    }

    /// Fills in an URL: what is no part of a host with a port is encoded, so that no value adds to the URL's own parts.
    ///
    /// # Errors
    /// As [`Filling::fill`].
    pub fn fill_url<'t>(&self, url: &'t str) -> Result<Cow<'t, str>> {
        // Those of `[::1]:80`, which no path and no query minds.
        self.fill_with(url, |value| encoded(value, b":[]").into())
    }

    /// Fills in a command's words.
    ///
    /// # Errors
    /// As [`Filling::fill`].
    pub fn fill_words(&self, words: &[String]) -> Result<Vec<String>> {
        words.iter().map(|word| self.fill(word).map(Cow::into_owned)).collect()
    }

    fn fill_with<'t>(&self, text: &'t str, write: impl Fn(&str) -> Cow<'_, str>) -> Result<Cow<'t, str>> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let (before, from) = rest.split_at(at);
            filled.push_str(before);
            let here = self.values.iter().find(|(placeholder, _)| from.starts_with(placeholder));
            let Some((placeholder, value)) = here else {
                filled.push('{');
                rest = &from[1..];
                continue;
            };
            let value = value.as_deref().ok_or_else(|| {
                Error::failed(format!("there is nothing to fill in for `{placeholder}`")).hint(self.hint)
            })?;
            filled.push_str(&write(value));
            rest = &from[placeholder.len()..];
        }
        if rest.len() == text.len() {
            return Ok(Cow::Borrowed(text));
        }
        filled.push_str(rest);
        Ok(Cow::Owned(filled))
    }
}

/// Checks that what looks like a placeholder, lower-case letters and `_` in braces, is one of `known`.
///
/// # Errors
/// The first that is not, with the nearest that is.
pub fn check(text: &str, known: &[&str]) -> Result<(), String> {
    let unknown = text.match_indices('{').find_map(|(at, _)| {
        let end = at + text[at..].find('}')?;
        let name = &text[at + 1..end];
        let looks = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let placeholder = &text[at..=end];
        (looks && !known.contains(&placeholder)).then_some(placeholder)
    });
    let Some(wrong) = unknown else { return Ok(()) };
    // By what is between the braces: those would make short words seem alike.
    let bare = |placeholder: &str| placeholder.trim_matches(['{', '}']).to_owned();
    let names: Vec<String> = known.iter().map(|known| bare(known)).collect();
    let meant = match nearest(&bare(wrong), names.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean `{{{meant}}}`?"),
        None => format!("did you mean one of `{}`?", known.join("`, `")),
    };
    Err(format!("nothing stands for `{wrong}`: {meant}"))
}

/// Encodes a text for an URL: everything but what RFC 3986 (2.3) calls unreserved, and what is `kept`.
#[must_use]
pub fn encoded(text: &str, kept: &[u8]) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ if kept.contains(&byte) => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_in_once() {
        let values = vec![
            (ADDRESS, Some("[::1]:80".into())),
            (ID, Some("{address}".into())),
            (ALERT, Some("a b/c?d&é".into())),
            (FLEET, None),
            ("{nothing}", Some("".into())),
        ];
        let filling = Filling::new(values, "a hint");
        for (text, plain, url) in [
            ("", "", ""),
            ("{nothing}", "", ""),
            ("x{y}", "x{y}", "x{y}"),
            ("http://{address}/{address}", "http://[::1]:80/[::1]:80", "http://[::1]:80/[::1]:80"),
            // What was filled in is no placeholder.
            ("{id}", "{address}", "%7Baddress%7D"),
            ("{{address}}{", "{[::1]:80}{", "{[::1]:80}{"),
            ("?a={alert}", "?a=a b/c?d&é", "?a=a%20b%2Fc%3Fd%26%C3%A9"),
        ] {
            assert_eq!(filling.fill(text).expect(text), plain, "{text}");
            assert_eq!(filling.fill_url(text).expect(text), url, "{text}");
        }
        let error = filling.fill("x{fleet}").expect_err("it stands for nothing");
        assert_eq!(error.chain(), "there is nothing to fill in for `{fleet}`");
        assert_eq!(error.hints(), ["a hint"]);
    }

    #[test]
    fn what_looks_like_a_placeholder_is_one() {
        let known = [ADDRESS, ID, FLEET, ALERT];
        for good in ["", "{", "{}", "}{", "{address}{id}", "{ print }", "{Id}", "{a b}", "x{", "${1}"] {
            assert_eq!(check(good, &known), Ok(()), "{good}");
        }
        for (bad, expected) in [
            ("http://{adress}/", "nothing stands for `{adress}`: did you mean `{address}`?"),
            ("{id}{fleets}", "nothing stands for `{fleets}`: did you mean `{fleet}`?"),
            (
                "{instance}",
                "nothing stands for `{instance}`: did you mean one of `{address}`, `{id}`, `{fleet}`, `{alert}`?",
            ),
            ("{{host_name}", "nothing stands for `{host_name}`: did you mean one of"),
        ] {
            assert!(check(bad, &known).expect_err(bad).starts_with(expected), "{bad}");
        }
    }
}

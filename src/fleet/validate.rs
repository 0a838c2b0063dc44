//! What a fleet file means, checked as far as the file itself and the recipes' names tell.

mod alert;
mod backup;
mod chaos;
mod outside;
mod pace;
mod place;
mod playbook;
mod shard;
mod specification;
mod stateful;

use std::collections::BTreeSet;

pub use playbook::playbook;

use super::{Fleet, HealthHttp, Share};
use crate::catalog::provenance::PublicKey;
use crate::diagnostic::{Diagnostic, nearest};
use crate::notation;
use crate::recipe::document::Document;

/// Checks what `document` says. Findings about its shape are in the document already.
#[must_use]
pub fn validate(document: &Document<Fleet>, recipes: &BTreeSet<String>) -> Vec<Diagnostic> {
    let Some(fleet) = &document.value else { return Vec::new() };
    let mut found = Findings { document, found: Vec::new() };
    place::check(&mut found, fleet);
    found.at_least_one("/health/consecutive", fleet.health.consecutive, "good answers");
    if let Some(HealthHttp { port, path }) = &fleet.health.http {
        found.port("/health/http/port", *port);
        if !path.starts_with('/') {
            let message = format!("`{path}` is not a request path: it begins with `/`");
            found.say("/health/http/path", message);
        }
    } else if fleet.local.is_some() && document.is_whole() {
        found.say(
            "/health",
            "this does not say which request tells whether an instance is well: `http` is missing",
        );
    }
    if let Some(trust) = &fleet.trust {
        if trust.keys.is_empty() {
            found.say("/trust/keys", "with no key, no image could be trusted");
        }
        for (index, key) in trust.keys.iter().enumerate() {
            found.ask(&format!("/trust/keys/{index}"), key.parse::<PublicKey>());
        }
    }
    pace::check(&mut found, fleet);
    chaos::check(&mut found, fleet);
    stateful::check(&mut found, fleet);
    backup::check(&mut found, fleet);
    let mut found = found.found;
    if !recipes.contains(&fleet.image) {
        let diagnostic = document.at("/image", format!("there is no recipe `images/{}.toml`", fleet.image));
        found.push(match nearest(&fleet.image, recipes.iter().map(String::as_str)) {
            Some(meant) => diagnostic.help(format!("did you mean `{meant}`?")),
            None => diagnostic,
        });
    }
    found.extend(outside::check(document, fleet));
    found.extend(alert::check(document, fleet));
    found
}

/// Checks what the shards of a file say, as far as it is about them alone: [`validate`] checks each fleet with all that the
/// file says.
#[must_use]
pub fn shards(document: &Document<Fleet>) -> Vec<Diagnostic> {
    let Some(fleet) = &document.value else { return Vec::new() };
    let mut found = Findings { document, found: Vec::new() };
    shard::check(&mut found, fleet);
    found.found
}

/// What is wrong with one fleet file.
struct Findings<'a> {
    document: &'a Document<Fleet>,
    found: Vec<Diagnostic>,
}

impl Findings<'_> {
    /// Adds a finding about the value at `pointer`; what was probably meant becomes its help.
    fn say(&mut self, pointer: &str, message: impl Into<String>) {
        let message = message.into();
        self.found.push(match message.split_once(": did you mean ") {
            Some((message, meant)) => {
                self.document.at(pointer, message).help(format!("did you mean {meant}"))
            }
            None => self.document.at(pointer, message),
        });
    }

    fn at_least_one(&mut self, pointer: &str, number: u32, what: &str) {
        if number == 0 {
            self.say(pointer, format!("0 {what} is nonsense: at least 1"));
        }
    }

    fn port(&mut self, pointer: &str, port: u16) {
        if port == 0 {
            self.say(pointer, "0 is not a port");
        }
    }

    /// Adds a finding when what a reader says is one.
    fn ask<T>(&mut self, pointer: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|why| self.say(pointer, why)).ok()
    }
}

/// Reads a count or a share as so many of `size`, rounding up or down.
fn share(share: &Share, size: u32, up: bool) -> Result<u32, String> {
    match share {
        Share::Count(count) => Ok(*count),
        Share::Percent(text) => {
            let part = u64::from(size) * u64::from(notation::percent(text)?);
            let part = if up { part.div_ceil(100) } else { part / 100 };
            // No more than all of it.
            Ok(u32::try_from(part).unwrap_or(size))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Fails unless a file with something else in it has that one finding, by how it begins, or none.
    pub fn means(file: &str, (from, to): (&str, &str), expected: Option<&str>) {
        let document = Document::<Fleet>::read(Path::new("x.toml"), &file.replacen(from, to, 1));
        assert!(document.is_whole(), "{:?}", document.found);
        let found = validate(&document, &["db".to_owned()].into());
        let shown: Vec<_> =
            found.iter().map(|found| format!("{}:{} {}", found.line, found.column, found.message)).collect();
        match expected {
            None => assert_eq!(shown, Vec::<String>::new(), "{to}"),
            Some(expected) => {
                assert!(shown.len() == 1 && shown[0].starts_with(expected), "{to}: {shown:?}\n{expected}");
            }
        }
    }

    const GOOD: &str = "image = 'web'\nsize = 3\n[local]\nlisten = '127.0.0.1:8080'\nport = 80\n\
        memory = '256M'\n[health]\nhttp = { port = 80, path = '/' }\nconsecutive = 3\ndeadline = '120s'\n\
        [roll]\nsurge = 1\nunavailable = 0\ndrain = '10s'\n";

    #[test]
    fn meanings() {
        for (from, to, expected) in [
            ("", "", None),
            ("surge = 1", "surge = '50%'", None),
            ("surge = 1\nunavailable = 0", "surge = 0\nunavailable = '50%'", None),
            (
                "surge = 1\nunavailable = 0",
                "surge = 0\nunavailable = '25%'",
                Some(
                    "13:15 `25%` of 3 is less than one, and `surge` is 0: no instance could ever be replaced",
                ),
            ),
            ("'web'", "'wbe'", Some("1:9 there is no recipe `images/wbe.toml`")),
            ("size = 3", "size = 0", Some("2:8 0 instances is nonsense: at least 1")),
            ("8080", "0", Some("4:10 a fleet needs a port that clients can know: 0 is none")),
            ("port = 80\n", "port = 0\n", Some("5:8 0 is not a port")),
            ("256M", "256", Some("6:10 `256` is not a size such as \"256M\" or \"1G\"")),
            ("256M", "512K", Some("6:10 `512K` is not a machine's memory: whole M or G, such as \"256M\"")),
            ("'/'", "'x'", Some("8:28 `x` is not a request path: it begins with `/`")),
            ("consecutive = 3", "consecutive = 0", Some("9:15 0 good answers is nonsense: at least 1")),
            ("120s", "soon", Some("10:12 `soon` is not a duration such as \"60s\", \"5m\" or \"2h\"")),
            ("surge = 1", "surge = '200%'", Some("12:9 `200%` is not a count or a share such as \"25%\"")),
            (
                "surge = 1",
                "surge = '0%'",
                Some("12:9 `surge` and `unavailable` are both 0: no instance could ever be replaced"),
            ),
            ("10s", "10", Some("14:9 `10` is not a duration such as \"60s\", \"5m\" or \"2h\"")),
        ] {
            let text = GOOD.replacen(from, to, 1);
            let document = Document::<Fleet>::read(Path::new("x.toml"), &text);
            assert!(document.is_whole(), "{:?}", document.found);
            let found = validate(&document, &["base".to_owned(), "web".to_owned()].into());
            let shown: Vec<_> = found
                .iter()
                .map(|found| format!("{}:{} {}", found.line, found.column, found.message))
                .collect();
            assert_eq!(shown, expected.into_iter().collect::<Vec<_>>(), "{to}");
        }
    }
}

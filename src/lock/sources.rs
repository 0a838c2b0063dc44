//! The two formats of apt's sources.

use super::stanza;

/// One entry that is enabled and for binary packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where, as written.
    pub uris: Vec<String>,
    /// Such as `bookworm` and `bookworm-updates`.
    pub suites: Vec<String>,
    /// Such as `main`.
    pub components: Vec<String>,
    /// The keyring that the entry names, or the key itself.
    pub signed_by: Option<String>,
}

/// Parses a deb822 file (`*.sources`).
#[must_use]
pub fn deb822(text: &str) -> Vec<Source> {
    let words = |value: Option<&str>| -> Vec<String> {
        value.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    };
    // apt takes these words for false, in any case.
    let off =
        |value: &str| ["no", "false", "without", "off", "disable"].contains(&value.to_lowercase().trim());
    stanza::parse(text)
        .iter()
        .filter(|entry| !entry.field("Enabled").is_some_and(off))
        .filter(|entry| words(entry.field("Types")).iter().any(|kind| kind == "deb"))
        .map(|entry| Source {
            uris: words(entry.field("URIs")),
            suites: words(entry.field("Suites")),
            components: words(entry.field("Components")),
            signed_by: entry.field("Signed-By").map(str::to_owned),
        })
        .collect()
}

/// Parses a one-line file (`*.list`).
#[must_use]
pub fn one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(line).collect()
}

fn line(text: &str) -> Option<Source> {
    let text = text.split('#').next()?.trim();
    let mut rest = text.strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t', '[']) {
        return None; // deb-src
    }
    rest = rest.trim_start();
    let mut signed_by = None;
    if let Some((options, after)) =
        rest.strip_prefix('[').map(|rest| rest.split_once(']').unwrap_or((rest, "")))
    {
        signed_by = options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .map(str::to_owned);
        rest = after;
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (uris, suites) = (vec![words.next()?], vec![words.next()?]);
    Some(Source { uris, suites, components: words.collect(), signed_by })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(uris: &[&str], suites: &[&str], components: &[&str]) -> Source {
        let own = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect();
        Source { uris: own(uris), suites: own(suites), components: own(components), signed_by: None }
    }

    fn signed(source: Source) -> Source {
        Source { signed_by: Some("/k.gpg".to_owned()), ..source }
    }

    #[test]
    fn deb822_entries() {
        let text = "\
# a comment before\nTypes: deb deb-src\n# one inside\nURIs: http://a.example/debian http://b.example/debian\n\
Suites: bookworm\n bookworm-updates\nComponents: main contrib\nSigned-By: /k.gpg\n\n\n\
types: deb\nuris: http://a.example/debian-security/\nsuites: bookworm-security\ncomponents: main\n\n\
Types: deb\nEnabled: No\nURIs: http://off.example/debian\nSuites: bookworm\nComponents: main\n\n\
Types: deb-src\nURIs: http://src.example/debian\nSuites: bookworm\nComponents: main\n";
        assert_eq!(
            deb822(text),
            [
                signed(source(
                    &["http://a.example/debian", "http://b.example/debian"],
                    &["bookworm", "bookworm-updates"],
                    &["main", "contrib"]
                )),
                source(&["http://a.example/debian-security/"], &["bookworm-security"], &["main"]),
            ]
        );
    }

    #[test]
    fn one_line_entries() {
        let main = || [source(&["http://a.example/debian"], &["bookworm"], &["main"])];
        let table: &[(&str, Vec<Source>)] = &[
            ("deb http://a.example/debian bookworm main", main().into()),
            ("  deb\thttp://a.example/debian  bookworm main # why", main().into()),
            (
                "deb [signed-by=/k.gpg arch=amd64] http://a.example/debian bookworm main",
                main().map(signed).into(),
            ),
            ("deb [ arch=amd64 ] http://a.example/debian bookworm main", main().into()),
            ("# deb http://a.example/debian bookworm main", vec![]),
            ("deb-src http://a.example/debian bookworm main", vec![]),
            ("deb http://a.example/debian", vec![]),
            ("deb [broken http://a.example/debian bookworm main", vec![]),
            ("", vec![]),
        ];
        for (text, expected) in table {
            assert_eq!(&one_line(text), expected, "{text}");
        }
    }
}

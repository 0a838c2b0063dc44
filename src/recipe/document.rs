//! TOML that a person wrote, checked against the schema of the type it becomes.
//!
//! One walk collects every finding about the document's shape, with its place; what is right in spite of
//! them still becomes a value, so that the checks of meaning can run on the rest in the same go.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, schema_for};
use serde::de::DeserializeOwned;
use toml::de::DeTable;

use super::shape::Walk;
use crate::diagnostic::Diagnostic;

/// A file's text, what it says, and where it says it.
#[derive(Debug, Clone)]
pub struct Document<T> {
    /// Path relative to the repository.
    pub file: PathBuf,
    /// The file's text.
    pub text: String,
    /// What it says, without the parts that are wrong; `None` when too much is.
    pub value: Option<T>,
    /// What is wrong with its shape.
    pub found: Vec<Diagnostic>,
    /// Where each value stands, by JSON pointer.
    spans: BTreeMap<String, Range<usize>>,
}

impl<T: JsonSchema + DeserializeOwned> Document<T> {
    /// Reads `text`, the content of `file`.
    #[must_use]
    pub fn read(file: &Path, text: &str) -> Self {
        let mut document = Self {
            file: file.to_owned(),
            text: text.to_owned(),
            value: None,
            found: Vec::new(),
            spans: BTreeMap::new(),
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            document.found = errors.iter().map(|error| document.syntax(error)).collect();
            return document;
        }
        let schema = schema_for!(T);
        let mut walk = Walk::new(file, text, schema.as_value());
        let value = walk.document(&table);
        document.spans = walk.spans;
        document.found = walk.found;
        document.value = serde_json::from_value(value).ok();
        if document.value.is_none() && document.found.is_empty() {
            // The schema allows it and the type does not, as with a socket address: the type has the words.
            if let Err(error) = toml::from_str::<T>(text) {
                document.found.push(document.syntax(&error));
            }
        }
        document
    }
}

impl<T> Document<T> {
    /// Makes a finding about the value at `pointer`, or about the nearest one around it that was written.
    #[must_use]
    pub fn at(&self, pointer: &str, message: impl Into<String>) -> Diagnostic {
        let mut pointer = pointer;
        loop {
            if let Some(span) = self.spans.get(pointer) {
                return Diagnostic::at(&self.file, &self.text, span.clone(), message);
            }
            match pointer.rsplit_once('/') {
                Some((above, _)) if !above.is_empty() => pointer = above,
                _ => return Diagnostic::file(&self.file, message),
            }
        }
    }

    /// Makes a finding about the `index`th entry of the list at `pointer`, counted in the file's order.
    ///
    /// Sets lose the order in which they were written; this finds an entry again by its text.
    #[must_use]
    pub fn at_entry(&self, pointer: &str, entry: &str, message: impl Into<String>) -> Diagnostic {
        let quoted = [format!("\"{entry}\""), format!("'{entry}'")];
        let found = (0..).map_while(|index| self.spans.get(&format!("{pointer}/{index}"))).find(|span| {
            self.text.get((*span).clone()).is_some_and(|text| quoted.iter().any(|quoted| quoted == text))
        });
        match found {
            Some(span) => Diagnostic::at(&self.file, &self.text, span.clone(), message),
            None => self.at(pointer, message),
        }
    }

    /// Returns the document of one of several things that the file stands for: of `value`, for which what was written at the
    /// first pointer of each pair stands at the second.
    #[must_use]
    pub fn part(&self, value: Option<T>, moved: &[(String, &str)]) -> Self {
        let Self { file, text, found, .. } = self;
        let (file, text, found, mut spans) = (file.clone(), text.clone(), found.clone(), self.spans.clone());
        let below = |pointer: &str, top: &str| {
            let below = pointer.strip_prefix(top)?;
            (below.is_empty() || below.starts_with('/')).then(|| below.to_owned())
        };
        for (from, to) in moved.iter().filter(|(from, _)| self.has(from)) {
            spans.retain(|pointer, _| below(pointer, to).is_none());
            let own = self.spans.iter().filter_map(|(pointer, span)| Some((below(pointer, from)?, span)));
            spans.extend(own.map(|(below, span)| (format!("{to}{below}"), span.clone())));
        }
        Self { file, text, value, found, spans }
    }

    /// Tells whether the value at `pointer` was written.
    #[must_use]
    pub fn has(&self, pointer: &str) -> bool {
        self.spans.contains_key(pointer)
    }

    /// Tells whether nothing is wrong with the document's shape, so that what is absent was left out.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.found.is_empty()
    }

    fn syntax(&self, error: &toml::de::Error) -> Diagnostic {
        match error.span() {
            Some(span) => Diagnostic::at(&self.file, &self.text, span, error.message()),
            None => Diagnostic::file(&self.file, error.message()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Fleet;
    use crate::recipe::Recipe;

    /// Findings as `line:column message (help)`.
    fn found<T: JsonSchema + DeserializeOwned>(text: &str) -> Vec<String> {
        let document = Document::<T>::read(Path::new("x.toml"), text);
        let shown = |found: &Diagnostic| {
            let help = found.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
            format!("{}:{} {}{help}", found.line, found.column, found.message)
        };
        document.found.iter().map(shown).collect()
    }

    const SOURCE: &str = "source = { debian = 'bookworm' }\n";

    #[test]
    fn shapes_of_recipes() {
        let table: &[(&str, &[&str])] = &[
            ("packages = ['a']", &[]),
            ("packges = ['a']", &["2:1 unknown key `packges` (did you mean `packages`?)"]),
            ("packages = 'a'", &["2:12 expected a list, found text"]),
            ("packages = ['a', 1]", &["2:18 expected text in quotes, found a whole number"]),
            ("[[file]]\npath = '/x'", &["2:1 missing key `template` in [[file]]"]),
            (
                "[[file]]\npath = '/x'\ntemplate = 'a'\nmode = 0644",
                &["5:8 unexpected leading zero, expected nothing"],
            ),
            (
                "[[file]]\npath = '/x'\ntemplate = 'a'\nmode = 644",
                &["5:8 expected text in quotes, found a whole number"],
            ),
            (
                "[vars]\na = 1.5",
                &[
                    "3:5 expected true or false or a whole number or text in quotes or a list or a table, found a number with a fraction",
                ],
            ),
            (
                "[vars]\na = [1, { b = 2020-01-01 }]",
                &[
                    "3:15 expected true or false or a whole number or text in quotes or a list or a table, found a date or time (put it in quotes?)",
                ],
            ),
            ("[[check]]\nhttp = { port = 65536 }", &["3:17 65536 is not from 0 to 65535"]),
            ("[[check]]\nhttp = { port = -1 }", &["3:17 -1 is not from 0 to 65535"]),
            (
                "[harden]\nallow = [{ rule = 'a', path = 1, why = 'b' }]",
                &["3:31 expected text in quotes, found a whole number"],
            ),
            (
                "[[fetch]]\nurl = 'u'\npath = '/x'\nsha256 = 'E3'",
                &["5:10 `E3` is not a SHA-256 digest: 64 hexadecimal digits, lower case"],
            ),
            (
                "a = \nb = 'x",
                &[
                    "2:5 string values must be quoted, expected literal string",
                    "3:7 invalid literal string, expected `'`",
                ],
            ),
        ];
        for (text, expected) in table {
            assert_eq!(found::<Recipe>(&format!("{SOURCE}{text}")), *expected, "{text}");
        }
    }

    #[test]
    fn exactly_one_source() {
        for (text, expected) in [
            ("", "0:0 missing key `source`"),
            (
                "source = 'base'",
                "1:10 expected a table with one of `ami`, `debian`, `disk`, `image`, found text",
            ),
            ("source = {}", "1:10 [source] needs one of `ami`, `debian`, `disk`, `image`"),
            ("source = { imgae = 'x' }", "1:12 unknown key `imgae` in [source] (did you mean `image`?)"),
            (
                "[source]\nimage = 'x'\ndebian = 'y'",
                "2:1 exactly one of `ami`, `debian`, `disk`, `image` can be set in [source]",
            ),
        ] {
            assert_eq!(found::<Recipe>(text), [expected], "{text}");
        }
    }

    #[test]
    fn shapes_of_fleets() {
        let fleet = |roll: &str, listen: &str| {
            format!(
                "image = 'web'\nsize = 3\n[local]\nlisten = '{listen}'\nport = 80\n[health]\nhttp = {{ port = 80, path = '/' }}\n[roll]\n{roll}"
            )
        };
        for (text, expected) in [
            (fleet("surge = '25%'", "127.0.0.1:8080"), None),
            (
                fleet("surge = true", "127.0.0.1:8080"),
                Some("9:9 expected a whole number or text in quotes, found true or false"),
            ),
            (
                fleet("on_failure = 'hold'", "127.0.0.1:8080"),
                Some("9:14 unknown value \"hold\" (did you mean \"halt\"?)"),
            ),
            (fleet("", "localhost"), Some("4:10 invalid socket address syntax")),
            (
                fleet("[aws]\nregion = 'x'\nauto_scaling_group = 'x'\ntarget_groups = []", "127.0.0.1:8080"),
                Some("12:1 unknown key `target_groups` in [aws] (`target_groups` belongs in [aws.group])"),
            ),
            (
                fleet("target_groups = []", "127.0.0.1:8080"),
                Some("9:1 unknown key `target_groups` in [roll] (`target_groups` belongs in [[shard]])"),
            ),
        ] {
            assert_eq!(found::<Fleet>(&text), expected.into_iter().collect::<Vec<_>>(), "{text}");
        }
    }

    #[test]
    fn a_part_has_its_own_lines() {
        let text = format!("{SOURCE}packages = ['a', 'b']\n[vars]\nown = ['c']\n");
        let document = Document::<Recipe>::read(Path::new("x.toml"), &text);
        let part =
            document.part(None, &[("/vars/own".to_owned(), "/packages"), ("/nope".to_owned(), "/source")]);
        let places = ["/packages", "/packages/0", "/packages/1", "/source"].map(|pointer| {
            let found = part.at(pointer, "x");
            (found.line, found.column)
        });
        // The second entry of the list is none of this part's; its list is the nearest.
        assert_eq!(places, [(4, 7), (4, 8), (4, 7), (1, 10)]);
        assert_eq!(document.at("/packages", "x").line, 2);
    }

    #[test]
    fn what_is_right_survives_what_is_wrong() {
        let text = format!("packges = 1\n{SOURCE}packages = ['b', 2]\n");
        let document = Document::<Recipe>::read(Path::new("x.toml"), &text);
        assert_eq!(document.found.len(), 2);
        let recipe = document.value.as_ref().expect("the rest is a recipe");
        assert_eq!(recipe.packages, ["b".to_owned()].into());
        assert_eq!(document.at_entry("/packages", "b", "x").column, 13);
        assert_eq!(document.at("/packages/7/nope", "x").line, 3);
    }
}

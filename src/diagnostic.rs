//! One finding in one file: where it is, what is wrong, what was probably meant.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// A finding in a file of the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Path relative to the repository.
    pub file: PathBuf,
    /// Line, from 1; 0 when the whole file is meant.
    pub line: usize,
    /// Column in characters, from 1; 0 when the whole line is meant.
    pub column: usize,
    /// The text of that line, for the reader; empty when the whole file is meant.
    pub text: String,
    /// How many characters from `column` are meant.
    pub width: usize,
    /// What is wrong, and of what.
    pub message: String,
    /// The nearest right spelling or the next step.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A finding about a file as a whole.
    pub fn file(file: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line: 0,
            column: 0,
            text: String::new(),
            width: 0,
            message: message.into(),
            help: None,
        }
    }

    /// A finding about the bytes `span` of `source`, the text of `file`.
    pub fn at(
        file: impl Into<PathBuf>,
        source: &str,
        span: std::ops::Range<usize>,
        message: impl Into<String>,
    ) -> Self {
        let start = source.floor_char_boundary(span.start.min(source.len()));
        let end = source.floor_char_boundary(span.end.clamp(start, source.len()));
        let line_start = source[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = source[start..].find('\n').map_or(source.len(), |at| start + at);
        Self {
            file: file.into(),
            line: source[..start].matches('\n').count() + 1,
            column: source[line_start..start].chars().count() + 1,
            text: source[line_start..line_end].to_owned(),
            width: source[start..end.min(line_end).max(start)].chars().count().max(1),
            message: message.into(),
            help: None,
        }
    }

    /// Returns it as one line, without the text of the file.
    #[must_use]
    pub fn line(&self) -> String {
        let file = self.file.display();
        match (self.line, self.column) {
            (0, _) => format!("{file}: {}", self.message),
            (line, 0) => format!("{file}:{line}: {}", self.message),
            (line, column) => format!("{file}:{line}:{column}: {}", self.message),
        }
    }

    /// Adds the nearest right spelling or the next step.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if self.column > 0 {
            write!(f, ":{}", self.column)?;
        }
        write!(f, ": {}", self.message)?;
        if self.line > 0 {
            let margin = self.line.to_string().len();
            write!(f, "\n  {} | {}", self.line, self.text)?;
            if self.column > 0 {
                // Tabs stay tabs so that the carets stand below the text whatever a tab's width is.
                let pad: String = self
                    .text
                    .chars()
                    .take(self.column - 1)
                    .map(|c| if c == '\t' { '\t' } else { ' ' })
                    .collect();
                write!(f, "\n  {:margin$} | {pad}{}", "", "^".repeat(self.width))?;
            }
        }
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

/// Returns the candidate nearest to `wrong`, when one is near enough to have been meant.
#[must_use]
pub fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters may differ: `packges` finds `packages`, `x` finds nothing.
    let limit = wrong.chars().count().div_ceil(3);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(wrong, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_at_the_text() {
        let found =
            Diagnostic::at("images/web.toml", "a = 1\n\tpackges = []\n", 7..14, "unknown key `packges`")
                .help("did you mean `packages`?");
        assert_eq!(
            found.to_string(),
            "images/web.toml:2:2: unknown key `packges`\n  2 | \tpackges = []\n    | \t^^^^^^^\n  help: did you mean `packages`?"
        );
    }

    #[test]
    fn nearest_spelling() {
        assert_eq!(nearest("packges", ["packages", "vars"]), Some("packages"));
        assert_eq!(nearest("zzz", ["packages", "vars"]), None);
    }
}

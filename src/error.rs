//! One error for the whole program: what was being done, what came back, what to do next.

use std::fmt;

use crate::diagnostic::Diagnostic;

/// The result of anything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it was; it fixes the exit code.
#[derive(Debug)]
pub enum Kind {
    /// The operation failed: exit code 1.
    Failed,
    /// Usage or a file is wrong; nothing was changed: exit code 2.
    Invalid(Vec<Diagnostic>),
    /// Work remains and something named blocks it: exit code 3.
    Holding,
    /// Another writer has the journal: exit code 4.
    LostJournal,
    /// A person or a supervisor ended it: exit code 130, as shells report a program ended by SIGINT.
    Interrupted,
}

/// An error as its reader needs it at 3 a.m.
///
/// `message` is what was being done and on what (or, at the root, what is wrong), without the text
/// of `source`. Hints are next steps, printed by `main`.
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    hints: Vec<String>,
}

impl Error {
    /// A failure with nothing below it.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: Kind::Failed, message: message.into(), source: None, hints: Vec::new() }
    }

    /// A wrong use or a wrong value, without a place in a file.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { kind: Kind::Invalid(Vec::new()), ..Self::failed(message) }
    }

    /// Wrong files; every finding at once.
    #[must_use]
    pub fn diagnostics(found: Vec<Diagnostic>) -> Self {
        let message = match found.len() {
            1 => "1 error in the repository's files".to_owned(),
            n => format!("{n} errors in the repository's files"),
        };
        Self { kind: Kind::Invalid(found), ..Self::failed(message) }
    }

    /// Work remains and the message names what blocks it.
    pub fn holding(message: impl Into<String>) -> Self {
        Self { kind: Kind::Holding, ..Self::failed(message) }
    }

    /// Another process wrote the journal first.
    pub fn lost_journal(message: impl Into<String>) -> Self {
        Self { kind: Kind::LostJournal, ..Self::failed(message) }
    }

    /// Someone ended the work before its end; the message says what that left.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self { kind: Kind::Interrupted, ..Self::failed(message) }
    }

    /// Adds a next step for the reader.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Wraps this error in what was being done; kind and hints stay.
    #[must_use]
    pub fn during(self, doing: impl Into<String>) -> Self {
        let Self { kind, message, source, hints } = self;
        let inner = Self { kind: Kind::Failed, message, source, hints: Vec::new() };
        Self { kind, message: doing.into(), source: Some(Box::new(inner)), hints }
    }

    /// Returns the kind.
    #[must_use]
    pub const fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Returns the next steps.
    #[must_use]
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// Returns the exit code: 1 failed, 2 invalid, 3 holding, 4 lost the journal, 130 interrupted.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Failed => 1,
            Kind::Invalid(_) => 2,
            Kind::Holding => 3,
            Kind::LostJournal => 4,
            Kind::Interrupted => 130,
        }
    }

    /// Returns the message and those of all sources, joined by `: `.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut next = std::error::Error::source(self);
        while let Some(source) = next {
            text.push_str(": ");
            text.push_str(&source.to_string());
            next = source.source();
        }
        text
    }

    /// Returns it as one line for a list: what is wrong in files, where that is it, else [`Error::chain`].
    #[must_use]
    pub fn line(&self) -> String {
        match self.kind() {
            Kind::Invalid(found) if !found.is_empty() => {
                found.iter().map(Diagnostic::line).collect::<Vec<_>>().join("; ")
            }
            _ => self.chain(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Adds what was being done to a foreign error.
pub trait Doing<T> {
    /// Wraps the error in `doing`, a phrase that reads before `: <cause>`, such as
    /// `reading images/web.toml`.
    ///
    /// # Errors
    /// The wrapped error, when there was one.
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: std::error::Error + Send + Sync + 'static> Doing<T> for Result<T, E> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| {
            let boxed: Box<dyn std::error::Error + Send + Sync> = Box::new(error);
            match boxed.downcast::<Error>() {
                Ok(own) => own.during(doing()),
                Err(foreign) => Error { source: Some(foreign), ..Error::failed(doing()) },
            }
        })
    }
}

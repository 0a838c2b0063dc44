//! Asking a person before something large is done.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use crate::error::{Doing as _, Error, Result};

/// Asks on the terminal; `None` when nobody is there to answer.
///
/// # Errors
/// The answer cannot be read.
pub fn ask(question: &str) -> Result<Option<bool>> {
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let _ = write!(std::io::stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).doing(|| "reading the answer")?;
    Ok(Some(matches!(answer.trim(), "y" | "Y" | "yes")))
}

/// Goes on only when a person agreed: by `--yes`, or on the terminal. `what` is a phrase such as `rotating web`.
///
/// # Errors
/// Nobody can be asked, or the answer was no; nothing was changed.
pub fn require(yes: bool, what: &str, why: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    match ask(&format!("{what}: {why}\nGo on?"))? {
        Some(true) => Ok(()),
        Some(false) => Err(Error::failed(format!("{what} was declined; nothing was changed"))),
        None => Err(Error::invalid(format!("{what} needs a confirmation: {why}"))
            .hint("look at it, and say `--yes` if that is what you want")),
    }
}

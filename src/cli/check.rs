//! `rekiln check`.

use super::Context;
use crate::error::{Error, Result};
use crate::repository::Repository;

/// Arguments of `rekiln check`.
///
/// With `--json`, standard output carries one object a finding: `file`, `line`, `column`, `text`, `width`,
/// `message`, `help`; line 0 means the whole file.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command and returns the exit code.
///
/// # Errors
/// All findings at once, and a repository that cannot be read.
pub fn run(context: &Context, _args: Args) -> Result<u8> {
    let repository = Repository::open(&context.repo)?;
    for found in repository.found() {
        context.output.json(found);
    }
    if !repository.found().is_empty() {
        return Err(Error::diagnostics(repository.found().to_vec()));
    }
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let mut all = vec![
        counted(repository.recipe_names().count(), "recipe"),
        counted(repository.templates().names().count(), "template"),
        counted(repository.fleet_names().count(), "fleet"),
    ];
    // Most repositories have none.
    let playbooks = repository.playbook_names().count();
    all.extend((playbooks > 0).then(|| counted(playbooks, "playbook")));
    let last = all.pop().unwrap_or_default();
    context.output.line(format!("{} and {last} are fine", all.join(", ")));
    Ok(0)
}

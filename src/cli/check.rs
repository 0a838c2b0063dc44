//! `rekiln check`.

use std::path::Path;

use super::Context;
use crate::error::{Error, Result};
use crate::fleet::copying::{Copying, copying};
use crate::fleet::journal::{Journal, Writer};
use crate::fleet::stateful::Copies;
use crate::repository::Repository;

/// Arguments of `rekiln check`.
///
/// With `--json`, standard output carries one object a finding: `file`, `line`, `column`, `text`, `width`,
/// `message`, `help`; line 0 means the whole file. Of a fleet that holds data and is in the store here, it has also how long a
/// new member copies.
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
    for (fleet, copying) in measured(context, &repository) {
        context.output.json(&serde_json::json!({ "fleet": fleet, "copying": copying }));
        context.output.line(format!("fleet {fleet}: {copying}"));
    }
    Ok(0)
}

/// How long new members of fleets that hold data copy, by the journals in a store that is here. Where there is none, or it
/// cannot be read, nothing was measured: files are checked all the same.
fn measured(context: &Context, repository: &Repository) -> Vec<(String, Copying)> {
    let here = context.store_url.strip_prefix("file://").unwrap_or(&context.store_url);
    if !Path::new(here).join("journal").is_dir() {
        return Vec::new();
    }
    let Ok(store) = context.store() else { return Vec::new() };
    let of = |name: &str| {
        let fleet = repository.fleet(name).ok()?;
        let copies = Copies::of(fleet).ok()??;
        if fleet.aws.as_ref().is_some_and(|group| group.journal.is_some()) {
            return None;
        }
        let writer = Writer::this(format!("rekiln check {name}"));
        let journal = context.block_on(Journal::open(&store.objects(), name, writer)).ok()?;
        Some((name.to_owned(), copying(journal.entries(), None, copies.max_copy)?))
    };
    repository.fleet_names().filter_map(of).collect()
}

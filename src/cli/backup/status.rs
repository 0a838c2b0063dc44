//! `rekiln backup status`.

use jiff::{SignedDuration, Timestamp};

use super::{place, settings, size};
use crate::backup::memory::overdue;
use crate::backup::{Backup, BackupId, Backups, State};
use crate::cli::Context;
use crate::cli::fleet::{Site, meant, names, table};
use crate::cli::turn::in_turn;
use crate::error::Result;
use crate::fleet::moment::{at, lasting};
use crate::repository::Repository;

/// Runs the command and returns the exit code.
///
/// # Errors
/// What went wrong; not that a backup is too old, which is exit code 1.
pub fn run(context: &Context, fleet: Option<String>) -> Result<u8> {
    let fleets = match fleet {
        Some(fleet) => meant(context, Some(&fleet))?,
        None => backed_up(context)?,
    };
    if fleets.is_empty() {
        context.output.line("no fleet has backups: none has `[backup]` in its file");
    }
    let again = |name: &str| format!("rekiln backup status {name}");
    in_turn(context, &fleets, String::as_str, again, |name| Ok(u8::from(one(context, name)?)))
}

/// Returns the fleets that have backups.
///
/// # Errors
/// The repository cannot be read.
pub fn backed_up(context: &Context) -> Result<Vec<String>> {
    let repository = Repository::open(&context.repo)?;
    let mut all = names(context)?;
    all.retain(|name| repository.fleet(name).is_ok_and(|fleet| fleet.backup.is_some()));
    Ok(all)
}

/// Shows one fleet's, and tells whether the last that counts is too old.
fn one(context: &Context, name: &str) -> Result<bool> {
    let site = Site::open(context, name)?;
    let (settings, place, now) = (settings(&site)?, place(context, &site)?, Timestamp::now());
    let journal = context.block_on(place.journal("backup status"))?;
    let backups = journal.history();
    let working = journal.roller(now).map(|entry| entry.by.command.clone());
    let proved = backups.proved();
    let late = overdue(proved.map(|(_, backup, _)| backup.begun), settings.every, now).is_some();
    let failed: Vec<_> =
        backups.failed().map(|(id, at, why)| serde_json::json!({ "id": id, "at": at, "why": why })).collect();
    context.output.json(&serde_json::json!({
        "fleet": name, "too_old": late, "every_s": settings.every.as_secs(), "working": working,
        "proved": proved.map(|(id, backup, proof)| serde_json::json!({
            "id": id, "at": backup.begun, "source": backup.source, "taken": backup.taken, "proof": proof,
        })),
        "failed": failed,
    }));
    let line = |text: String| context.output.line(text);
    line(match proved {
        None => format!("fleet {name}: no backup counts: none was restored and answered yet"),
        Some((_, backup, proof)) => {
            let age = now.duration_since(backup.begun);
            let old = if late { ", which is too old" } else { "" };
            format!(
                "fleet {name}: the last backup that counts is {} old{old}; a restore took {}",
                lasting(age),
                lasting(proof.restore)
            )
        }
    });
    if backups.iter().next().is_some() {
        table(&rows(backups, now)).into_iter().for_each(line);
    }
    if let Some(working) = working {
        line(format!("  `{working}` works at them now"));
    }
    if late {
        context.output.hint(format!(
            "one is due each {}; `rekiln backup run {name}` takes one and proves it now",
            lasting(settings.every)
        ));
    }
    Ok(late)
}

/// The newest first.
fn rows(backups: &Backups, now: Timestamp) -> Vec<Vec<String>> {
    let head = ["  backup", "age", "size", "from", "took", "restored", "is"].map(str::to_owned).to_vec();
    let row = |(id, backup): (&BackupId, &Backup)| {
        let taken = backup.taken.as_ref();
        let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        vec![
            format!("  {id}"),
            lasting(now.duration_since(backup.begun)),
            text(taken.map(|taken| size(taken.bytes))),
            backup.source.to_string(),
            text(taken.map(|taken| lasting(taken.took))),
            text(backup.proved().map(|(_, proof)| lasting(proof.restore))),
            is(backup, now),
        ]
    };
    std::iter::once(head).chain(backups.iter().rev().map(row)).collect()
}

fn is(backup: &Backup, now: Timestamp) -> String {
    match &backup.state {
        _ if backup.removed => "no longer kept".to_owned(),
        State::Begun => "being taken, or given up".to_owned(),
        State::Taken => "not proved yet".to_owned(),
        State::Tried => "being proved, or given up".to_owned(),
        State::Proved { at: proved, .. } if now.duration_since(*proved) < SignedDuration::from_hours(48) => {
            "proved".to_owned()
        }
        State::Proved { at: proved, .. } => format!("proved {}", at(*proved, now)),
        State::Failed { why, .. } => format!("failed: {}", why.lines().next().unwrap_or_default()),
    }
}

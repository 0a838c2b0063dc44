//! `rekiln backup restore`.

use jiff::Timestamp;

use super::{nothing_kept, place};
use crate::backup::BackupId;
use crate::cli::fleet::Site;
use crate::cli::{Context, confirm};
use crate::error::{Error, Result};
use crate::fleet::census::State;
use crate::fleet::history::Event;
use crate::fleet::moment::lasting;
use crate::provider::Provider as _;
use crate::provider::local::Evidence;

/// Runs the command and returns the exit code.
///
/// # Errors
/// A member lives; no such backup; nobody agreed.
pub fn run(context: &Context, name: &str, from: Option<String>, yes: bool) -> Result<u8> {
    let site = Site::open(context, name)?;
    let here = site.provider.here("`rekiln backup restore`")?;
    let backups = context.block_on(place(context, &site)?.journal("backup restore"))?.history().clone();
    let id = match from.map(BackupId) {
        Some(id) => id,
        None => match backups.proved() {
            Some((id, ..)) => id.clone(),
            None => return Err(nothing_counts(name)),
        },
    };
    let backup = backups.get(&id).filter(|backup| backup.is_kept()).ok_or_else(|| nothing_kept(name))?;
    let census = context.block_on(async { site.provider.census().await.map_err(Error::from) })?;
    let living: Vec<_> = census
        .instances
        .iter()
        .filter(|seen| seen.state != State::Dead)
        .map(|seen| seen.id.0.as_str())
        .collect();
    if !living.is_empty() {
        return Err(Error::invalid(format!("{} of fleet {name} still live: {}", living.len(), living.join(", ")))
            .hint(format!(
                "what they hold is newer than any backup: `rekiln status {name}` shows them, and `rekiln roll {name}` mends \
                 what can be mended"
            ))
            .hint(format!("if it is them that are to go, end them first: `rekiln down {name}`")));
    }
    let age = lasting(Timestamp::now().duration_since(backup.begun));
    let counts = if backup.proved().is_some() { "" } else { ", which was not proved" };
    let disks = match census.instances.len() {
        0 => String::new(),
        count => format!("; the disks of {count} dead members are kept as evidence"),
    };
    confirm::require(
        yes,
        &format!("founding {name} anew from backup {id}{counts}"),
        &format!("it is {age} old, and what was written since is lost{disks}"),
    )?;
    context.block_on(async {
        let mut journal = site.journal("backup restore").await?;
        journal.refuse_rival(Timestamp::now())?;
        // Before the act: whoever rolls loses the journal and stops, and nobody begins to while this goes on.
        journal.record(Timestamp::now(), Event::Ending).await?;
        for seen in &census.instances {
            let reason = format!("the fleet was founded anew from backup {id}");
            here.keep_evidence(&Evidence { instance: seen.id.clone(), reason, at: Timestamp::now() })?;
        }
        here.down()?;
        journal.record(Timestamp::now(), Event::Down).await?;
        journal.record(Timestamp::now(), Event::Restores { backup: id.0.clone(), taken: backup.begun }).await
    })?;
    context
        .output
        .json(&serde_json::json!({ "event": "restores", "fleet": name, "id": id, "taken": backup.begun }));
    context.output.line(format!("the next roll founds fleet {name} from backup {id}, {age} old"));
    context.output.hint(format!("`rekiln roll {name}`"));
    Ok(0)
}

fn nothing_counts(name: &str) -> Error {
    Error::failed(format!("no backup of {name} counts: none was restored and answered")).hint(format!(
        "`rekiln backup status {name}` lists what is kept; `--from ID` takes one of them all the same"
    ))
}

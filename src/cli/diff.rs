//! `rekiln diff`.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::Context;
use super::inspect::locate;
use crate::catalog::Record;
use crate::digest::ImageId;
use crate::error::Result;
use crate::inspect::diff::Diff;
use crate::publish::blocks::Blocks;

/// Arguments of `rekiln diff`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The older image: a recipe's name, an image id or the start of one, or the path of a disk.
    #[arg(value_name = "A")]
    old: String,
    /// The newer one.
    #[arg(value_name = "B")]
    new: String,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// What went wrong.
#[expect(clippy::needless_pass_by_value, reason = "all commands are called alike")]
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let store = context.store()?;
    // Held to the end: one that was converted is removed with them.
    let (old_disk, old_record) = locate(&store, &args.old)?;
    let (new_disk, new_record) = locate(&store, &args.new)?;
    let (old, new) = (&old_disk.path, &new_disk.path);
    let diff = Diff::between((old, old_record.as_ref()), (new, new_record.as_ref()))?;
    let update = Update::between(old, new)?;
    let output = &context.output;
    let named = |record: &Option<Record>, disk: &Path| match record {
        Some(record) => format!("{} {}", record.name, record.id.short()),
        None => disk.display().to_string(),
    };
    output.line(format!("{} -> {}", named(&old_record, old), named(&new_record, new)));
    let lines = diff.lines();
    if lines.is_empty() {
        output.line("no differences");
    }
    for line in lines {
        output.line(line);
    }
    if update.blocks > 0 {
        output.line(update.to_string());
    }
    let id = |record: &Option<Record>| record.as_ref().map(|record| record.id);
    output.json(&Whole { event: "diff", old: id(&old_record), new: id(&new_record), update, diff: &diff });
    Ok(0)
}

/// What has to be sent to a provider that has the older image.
#[derive(Debug, Clone, Copy, Serialize)]
struct Update {
    /// Blocks of 512 KiB that differ.
    blocks: usize,
    /// Blocks of the newer disk that are not zero.
    of: usize,
}

impl Update {
    fn between(old: &Path, new: &Path) -> Result<Self> {
        let (old, new) = (Blocks::of(old)?, Blocks::of(new)?);
        Ok(Self { blocks: new.changes_from(&old).len(), of: new.len() })
    }
}

impl fmt::Display for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { blocks, of } = self;
        // Tenths of a percent, rounded up: what is sent is never nothing.
        let share = (blocks * 1000).div_ceil((*of).max(1));
        write!(f, "to send: {blocks} of {of} blocks of 512 KiB ({}.{} %)", share / 10, share % 10)
    }
}

/// The differences with what they are between; without a record, a disk has no id here.
#[derive(Serialize)]
struct Whole<'a> {
    event: &'static str,
    old: Option<ImageId>,
    new: Option<ImageId>,
    update: Update,
    #[serde(flatten)]
    diff: &'a Diff,
}

//! `rekiln diff`.

use std::path::Path;

use serde::Serialize;

use super::Context;
use super::inspect::locate;
use crate::catalog::{Catalog, Record};
use crate::digest::ImageId;
use crate::error::Result;
use crate::inspect::diff::Diff;

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
    let catalog = Catalog::new(context.store()?);
    let (old, old_record) = locate(&catalog, &args.old)?;
    let (new, new_record) = locate(&catalog, &args.new)?;
    let diff = Diff::between((&old, old_record.as_ref()), (&new, new_record.as_ref()))?;
    let output = &context.output;
    let named = |record: &Option<Record>, disk: &Path| match record {
        Some(record) => format!("{} {}", record.name, record.id.short()),
        None => disk.display().to_string(),
    };
    output.line(format!("{} -> {}", named(&old_record, &old), named(&new_record, &new)));
    let lines = diff.lines();
    if lines.is_empty() {
        output.line("no differences");
    }
    for line in lines {
        output.line(line);
    }
    let id = |record: &Option<Record>| record.as_ref().map(|record| record.id);
    output.json(&Whole { event: "diff", old: id(&old_record), new: id(&new_record), diff: &diff });
    Ok(0)
}

/// The differences with what they are between; without a record, a disk has no id here.
#[derive(Serialize)]
struct Whole<'a> {
    event: &'static str,
    old: Option<ImageId>,
    new: Option<ImageId>,
    #[serde(flatten)]
    diff: &'a Diff,
}

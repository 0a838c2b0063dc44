//! `rekiln images`.

use super::Context;
use super::inspect::mib;
use crate::catalog::{Catalog, Listing, Record};
use crate::error::Result;
use crate::pipeline::tree::short;

/// Arguments of `rekiln images`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only those of this recipe.
    name: Option<String>,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// What went wrong.
#[expect(clippy::needless_pass_by_value, reason = "all commands are called alike")]
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let output = &context.output;
    let Listing { mut records, unreadable } = Catalog::new(context.store()?).list()?;
    records.retain(|record| args.name.as_ref().is_none_or(|name| *name == record.name));
    let names = records.iter().map(|record| record.name.len());
    let name = names.max().unwrap_or(0).max("name".len());
    if !records.is_empty() {
        output.line(format!(
            "{:12}  {:name$}  {:16}  {:>8}  {:10}  commit",
            "id", "name", "baked (UTC)", "disk", "verdict"
        ));
    }
    for record in &records {
        output.line(format!(
            "{:12}  {:name$}  {:16}  {:4.0} MiB  {:10}  {}",
            record.id.short(),
            record.name,
            record.baked.strftime("%Y-%m-%d %H:%M").to_string(),
            mib(record.disk.size),
            verdict(record),
            commit(record),
        ));
        output.json(&serde_json::json!({
            "event": "image",
            "id": record.id,
            "name": record.name,
            "debug": record.debug,
            "baked": record.baked,
            "commit": record.commit,
            "clean": record.clean,
            "sha256": record.disk.sha256,
            "size": record.disk.size,
            "verdict": verdict(record),
        }));
    }
    for (id, error) in &unreadable {
        output.line(format!("{:12}  unreadable: {}", id.short(), error.chain()));
        output.json(&serde_json::json!({ "event": "unreadable", "id": id, "why": error.chain() }));
    }
    match records.first() {
        Some(newest) => output.hint(format!("see one with `rekiln image {}`", newest.id.short())),
        None if unreadable.is_empty() => {
            output.line("no images");
            let wanted = args.name.as_deref().unwrap_or("IMAGE");
            output.hint(format!("bake one with `rekiln bake {wanted}`"));
        }
        None => {}
    }
    Ok(0)
}

/// Returns the start of the commit that an image was baked at, and whether the work tree had changes.
fn commit(record: &Record) -> String {
    let commit = record.commit.as_deref().unwrap_or("none");
    let changed = if record.clean || record.commit.is_none() { "" } else { " (changed)" };
    format!("{}{changed}", short(commit))
}

/// Says in a word whether a fleet may run it.
pub(super) fn verdict(record: &Record) -> &'static str {
    match &record.verdict {
        _ if record.debug => "debug",
        None => "not booted",
        Some(verdict) if verdict.passed => "passed",
        Some(_) => "failed",
    }
}

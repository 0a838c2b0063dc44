//! `rekiln lock`.

use std::collections::BTreeMap;

use super::{Context, Output};
use crate::error::Result;
use crate::lock::Lock;
use crate::lock::change::changes;
use crate::lock::refresh::{Outcome, Refresh, Scope};
use crate::lock::settings::Settings;
use crate::recipe::Vendor;
use crate::repository::Repository;

/// Arguments of `rekiln lock`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Images to lock, with all images they stand on.
    #[arg(required_unless_present = "all", value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Locks every image of the repository.
    #[arg(long, conflicts_with = "images")]
    pub all: bool,
    /// Resolves anew, even where the lock still fits its recipe: this is how updates arrive. An image that is derived
    /// from a vendor's disk always gets a new lock and so a new image id, since only a bake shows what the vendor's archive
    /// has.
    #[arg(long)]
    pub update: bool,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// What went wrong.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let repository = Repository::open(&context.repo)?;
    let images = if args.all { repository.recipe_names().map(str::to_owned).collect() } else { args.images };
    let (store, settings) = (context.store()?, Settings::load(&context.repo)?);
    let tell = |image: &str, outcome: &Outcome<'_>| tell(&context.output, image, outcome);
    let made = BTreeMap::new();
    let mut refresh = Refresh::new(Scope {
        repository: &repository,
        vendors: &context.repo,
        store: &store,
        settings: &settings,
        progress: context.progress(),
        update: args.update,
        made: &made,
        tell: &tell,
    });
    images.iter().try_for_each(|image| refresh.lock(image))?;
    Ok(0)
}

fn tell(output: &Output, image: &str, outcome: &Outcome<'_>) {
    match *outcome {
        Outcome::Fits => output.line(format!("{image}: the lock fits its recipe")),
        Outcome::Unchanged => output.line(format!("{image}: the archive has nothing newer for it")),
        Outcome::Locked { old, new, vendor: Some(vendor) } => derived(output, image, vendor, old, new),
        Outcome::Locked { old, new, vendor: None } => resolved(output, image, old, new),
    }
}

fn derived(output: &Output, image: &str, vendor: Vendor<'_>, old: Option<&Lock>, new: &Lock) {
    let (named, what) = match vendor {
        Vendor::Disk(source) => (
            format!("{} (sha256 {}…)", source.path, source.sha256.short()),
            ("disk", source.sha256.to_string()),
        ),
        Vendor::Ami(source) => (format!("{} of {}", source.id, source.owner), ("ami", source.id.clone())),
    };
    let changed = old.map(|old| changes(old, new)).unwrap_or_default();
    output.line(format!("{image}: locked to {named}"));
    for change in &changed {
        output.line(format!("  {change}"));
    }
    if old.is_some() {
        output.line("  a new image id: the next bake installs what the vendor's archive has then");
    }
    output.json(&serde_json::json!({
        "event": "locked",
        "image": image,
        what.0: what.1,
        "packages": 0,
        "changes": changed.iter().map(ToString::to_string).collect::<Vec<_>>(),
    }));
}

fn resolved(output: &Output, image: &str, old: Option<&Lock>, new: &Lock) {
    let bytes: u64 = new.packages.iter().map(|package| package.size).sum();
    // Megabytes with one digit after the point.
    let size = format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000);
    output.line(format!("{image}: locked {} packages, {size}", new.packages.len()));
    let changed = old.map(|old| changes(old, new)).unwrap_or_default();
    for change in &changed {
        output.line(format!("  {change}"));
    }
    output.json(&serde_json::json!({
        "event": "locked",
        "image": image,
        "packages": new.packages.len(),
        "changes": changed.iter().map(ToString::to_string).collect::<Vec<_>>(),
    }));
}

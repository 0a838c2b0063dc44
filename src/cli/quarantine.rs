//! `rekiln quarantine`.

use jiff::Timestamp;

use super::Context;
use super::desk::reason;
use super::marks;
use crate::catalog::Catalog;
use crate::catalog::quarantine::{Quarantine, Quarantined};
use crate::digest::ImageId;
use crate::error::Result;
use crate::fleet::journal::{Journal, Writer};
use crate::repository::Repository;
use crate::store::Store;

/// Arguments of `rekiln quarantine`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Lists quarantined images, the newest entry first.
    List,
    /// Keeps every fleet of the store from launching an image. What runs goes on running.
    Add {
        /// A recipe's name (its newest image), an image id or the start of one.
        #[arg(value_name = "IMAGE|ID")]
        image: String,
        /// Why, for whoever wants to launch it.
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: String,
    },
    /// Lets an image be launched again.
    Clear {
        /// An image id or the start of one, or a recipe's name (its newest image).
        #[arg(value_name = "ID|IMAGE")]
        image: String,
    },
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// No such image; the store cannot be read or written.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let store = context.store()?;
    let quarantine = Quarantine::new(&context.block_on(context.all_journals(&store))?);
    match args.action {
        Action::List => list(context, &quarantine),
        Action::Add { image, reason } => add(context, &store, &quarantine, &image, &reason),
        Action::Clear { image } => clear(context, &store, &quarantine, &image),
    }
}

fn list(context: &Context, quarantine: &Quarantine) -> Result<u8> {
    marks::list(context, &context.block_on(quarantine.list())?, "quarantined");
    Ok(0)
}

fn add(context: &Context, store: &Store, quarantine: &Quarantine, image: &str, reason: &str) -> Result<u8> {
    let output = &context.output;
    // A whole id need not be here: another machine may have baked it, or it comes back from Git one day.
    let image = match image.parse::<ImageId>() {
        Ok(id) => id,
        Err(_) => Catalog::new(store.clone()).find(image)?.id,
    };
    let before = context.block_on(quarantine.get(image))?;
    let by = "`rekiln quarantine add`".to_owned();
    let entry = Quarantined { image, reason: reason.to_owned(), by, at: Timestamp::now() };
    context.block_on(quarantine.add(&entry))?;
    let concerned = if before.is_none() { concerned(context, image)? } else { Vec::new() };
    output.json(&serde_json::json!({
        "event": "quarantine", "image": image, "added": before.is_none(),
        "reason": before.as_ref().map_or(reason, |before| &before.reason), "fleets": concerned,
    }));
    let short = image.short();
    if let Some(before) = before {
        output.line(format!("image {short} is quarantined already: {}; nothing to do", before.reason));
        return Ok(0);
    }
    output.line(format!("image {short} is quarantined: {reason}; no fleet launches it"));
    for fleet in concerned {
        output.hint(format!(
            "fleet {fleet} runs it, and goes on: `rekiln roll {fleet} --to previous` leaves it"
        ));
    }
    Ok(0)
}

/// Returns the fleets of the repository whose last rollout went to the image.
fn concerned(context: &Context, image: ImageId) -> Result<Vec<String>> {
    let Ok(repository) = Repository::open(&context.repo) else { return Ok(Vec::new()) };
    context.block_on(async {
        let mut fleets = Vec::new();
        for name in repository.fleet_names() {
            let journals = context.journals(name).await?;
            let journal = Journal::open(&journals, name, Writer::this("rekiln quarantine")).await?;
            if journal.history().target.as_ref().is_some_and(|target| target.image == image) {
                fleets.push(name.to_owned());
            }
        }
        Ok(fleets)
    })
}

fn clear(context: &Context, store: &Store, quarantine: &Quarantine, image: &str) -> Result<u8> {
    // The image itself may be gone from the store by now: what is quarantined is looked at first.
    let id = match context.block_on(quarantine.find(image))? {
        Some(id) => id,
        None => image.parse().or_else(|_| Catalog::new(store.clone()).find(image).map(|record| record.id))?,
    };
    context.block_on(quarantine.clear(id))?;
    context.output.json(&serde_json::json!({ "event": "quarantine_cleared", "image": id }));
    context.output.line(format!("image {} may be launched again", id.short()));
    Ok(0)
}

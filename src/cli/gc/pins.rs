//! `rekiln gc pin`, `unpin` and `list`.

use jiff::{Timestamp, Unit};

use super::not_pinned;
use crate::catalog::Catalog;
use crate::catalog::marks::Mark;
use crate::catalog::pins::pins;
use crate::claim::Lock;
use crate::cli::Context;
use crate::cli::desk::reason;
use crate::cli::{marks, person};
use crate::digest::ImageId;
use crate::error::Result;

/// What to do with pins.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Keeps an image, whatever else reaches it.
    Pin {
        /// A recipe's name (its newest image), an image id or the start of one; a whole id also of an image that this
        /// store does not have, as the tag `rekiln:image` of an AMI says it.
        #[arg(value_name = "IMAGE|ID")]
        image: String,
        /// Why, for whoever wants to remove it.
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: String,
    },
    /// Lets an image be collected again.
    Unpin {
        /// An image id or the start of one.
        #[arg(value_name = "ID")]
        image: String,
    },
    /// Lists pinned images, the newest pin first.
    List,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// No such image; the store cannot be read or written.
pub fn run(context: &Context, action: Action) -> Result<u8> {
    match action {
        Action::Pin { image, reason } => pin(context, &image, &reason),
        Action::Unpin { image } => unpin(context, &image),
        Action::List => list(context),
    }
}

fn pin(context: &Context, image: &str, reason: &str) -> Result<u8> {
    let (store, output) = (context.store()?, &context.output);
    // Between the look and the pin nothing is collected.
    let _lock = Lock::shared(&store)?;
    let image = match image.parse::<ImageId>() {
        Ok(id) => id,
        Err(_) => Catalog::new(store.clone()).find(image)?.id,
    };
    let pins = pins(&store);
    let before = context.block_on(pins.get(image))?;
    let now = Timestamp::now();
    // People read it beside an image's age: fractions of a second say nothing.
    let at = now.round(Unit::Second).unwrap_or(now);
    let mark = Mark { image, reason: reason.to_owned(), by: person(), at };
    context.block_on(pins.add(&mark))?;
    let added = before.is_none();
    let pinned = before.unwrap_or(mark);
    output.json(&serde_json::json!({
        "event": "pin", "image": image, "added": added, "reason": pinned.reason, "by": pinned.by, "at": pinned.at,
    }));
    let short = image.short();
    output.line(if added {
        format!("image {short} is pinned: {reason}")
    } else {
        format!("image {short} is pinned already {pinned}; nothing to do")
    });
    Ok(0)
}

fn unpin(context: &Context, image: &str) -> Result<u8> {
    let pins = pins(&context.store()?);
    let id = context.block_on(pins.find(image))?.ok_or_else(|| not_pinned(image))?;
    if !context.block_on(pins.remove(id))? {
        return Err(not_pinned(image));
    }
    context.output.json(&serde_json::json!({ "event": "unpinned", "image": id }));
    context.output.line(format!("image {} is pinned no more", id.short()));
    Ok(0)
}

fn list(context: &Context) -> Result<u8> {
    marks::list(context, &context.block_on(pins(&context.store()?).list())?, "pinned");
    Ok(0)
}

//! `rekiln retarget`.

use super::Context;
use super::desk::{Desk, reason};
use super::fleet::Site;
use crate::error::Result;
use crate::fleet::history::Event;

/// Arguments of `rekiln retarget`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleet: the name of a file in `fleets/`, or of one of its shards.
    fleet: String,
    /// Where to: `previous`, or a baked image of the fleet's recipe by its id or the start of it [default: the image
    /// that Git asks for now].
    #[arg(long, value_name = "previous|ID")]
    to: Option<String>,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// Nothing is being rolled; no such image, or one that must not be launched.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let Args { fleet, to, reason } = args;
    let site = Site::open(context, &fleet)?;
    context.block_on(async {
        let mut desk = Desk::open(context, &fleet, "retarget").await?;
        // Whether anything rolls comes first: where nothing does, an image that is not baked is beside the point.
        desk.refuse_over()?;
        let (target, _) = site.target_to(to.as_deref(), desk.history()).await?;
        desk.refuse_quarantined(target.image).await?;
        let _until_it_is_written = site.claim(target.image)?;
        let text = format!("goes to {} now: {reason}", target.image.short());
        let next = match &to {
            Some(_) => vec!["Git may ask for another image: the next roll goes there".to_owned()],
            None => Vec::new(),
        };
        let to = to.map(|_| format!(" --to {}", target.image.short())).unwrap_or_default();
        let idle = format!("`rekiln roll {fleet}{to}` carries it out");
        desk.say("retargeted", Event::Retargeted { target, reason }, &text, &idle, &next).await
    })
}

//! `rekiln rotate`.

use super::Context;
use super::fleet::Site;
use crate::error::Result;
use crate::fleet::census::InstanceId;
use crate::fleet::roll::{Order, Wish};

/// Arguments of `rekiln rotate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleet: the name of a file in `fleets/`.
    fleet: String,
    /// Which instances; all when none is named.
    #[arg(long = "instance", value_name = "ID", num_args = 1..)]
    instances: Vec<String>,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Skips canary, waves, soak, gates, windows and rate, and takes over a roll that is running. It never skips the
    /// floor of serving instances, the drain, or the quarantine.
    #[arg(long)]
    emergency: bool,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// What went wrong.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let site = Site::open(context, &args.fleet)?;
    let instances = args.instances.into_iter().map(InstanceId).collect();
    let wish = Wish { instances, reason: args.reason.clone() };
    let (target, _) = site.target()?;
    let order = Order { reason: args.reason.clone(), wish: Some(wish), emergency: args.emergency };
    let summary = site.roll(context, "rotate", target, order)?;
    context.output.json(&serde_json::json!({ "event": "rotated", "fleet": args.fleet, "summary": summary }));
    let list = |ids: &[InstanceId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    context.output.line(format!(
        "fleet {}: {} replaced by {}",
        args.fleet,
        list(&summary.ended),
        list(&summary.launched)
    ));
    Ok(0)
}

//! `rekiln rotate`.

use super::Context;
use super::fleet::Site;
use crate::error::Result;
use crate::fleet::census::InstanceId;
use crate::fleet::roll::Wish;

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
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// What went wrong.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let site = Site::open(context, &args.fleet)?;
    let instances = args.instances.into_iter().map(InstanceId).collect();
    let wish = Wish { instances, reason: args.reason.clone() };
    let summary = site.roll(context, "rotate", &args.reason, Some(wish))?;
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

//! `rekiln roll`.

use super::Context;
use super::fleet::Site;
use crate::error::Result;
use crate::fleet::roll::Order;

/// Arguments of `rekiln roll`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleet: the name of a file in `fleets/`.
    fleet: String,
    /// Why, for the journal.
    #[arg(long, default_value = "roll", value_name = "TEXT")]
    reason: String,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// What went wrong.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let Args { fleet, reason } = args;
    let site = Site::open(context, &fleet)?;
    let (target, _) = site.target()?;
    let summary = site.roll(context, "roll", target, Order { reason, ..Order::default() })?;
    context.output.json(&serde_json::json!({ "event": "rolled", "fleet": fleet, "summary": summary }));
    let (launched, ended) = (summary.launched.len(), summary.ended.len());
    if launched + ended == 0 {
        context.output.line(format!("fleet {fleet} is as Git asks; nothing to do"));
    } else {
        context.output.line(format!("fleet {fleet} is as Git asks: {launched} launched, {ended} ended"));
        context
            .output
            .line(format!("next: `rekiln status {fleet}`; it serves on http://{}/", site.fleet.local.listen));
    }
    Ok(0)
}

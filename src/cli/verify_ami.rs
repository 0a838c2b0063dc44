//! `rekiln verify-ami`.

use super::Context;
use super::publish::Targets;
use crate::catalog::Catalog;
use crate::error::Result;
use crate::interrupt;
use crate::publish::publication::Disk;
use crate::publish::verify::{Verified, verify};
use crate::store::Store;

/// Arguments of `rekiln verify-ami`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An image's id, the start of one, or a recipe's name (its newest image); it must be in the store. A bake of the
    /// same commit brings it there.
    #[arg(required = true)]
    images: Vec<String>,
    /// The regions, instead of those in the recipe; may be repeated.
    #[arg(long = "region", value_name = "REGION")]
    regions: Vec<String>,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// What went wrong.
#[expect(clippy::needless_pass_by_value, reason = "all commands are called alike")]
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let store = context.store()?;
    let targets = Targets::find(context, &store, &args.images, &args.regions)?;
    let _claim = targets.claim(&store, "a comparison")?;
    let differs = interrupt::stoppable(|| context.block_on(verify_all(context, &store, &targets)))?;
    if differs {
        context
            .output
            .hint("an AMI that is not what Git says must not run: deregister it, then publish again");
    }
    Ok(u8::from(differs))
}

/// One after the other; returns whether anything differs.
async fn verify_all(context: &Context, store: &Store, targets: &Targets) -> Result<bool> {
    let mut differs = false;
    for target in &targets.0 {
        let (id, name) = (target.record.id, &target.record.name);
        let disk = Disk::new(Catalog::new(store.clone()).disk(id), &target.record);
        for (region, role) in target.places() {
            let Verified { ami, snapshot, blocks, differences } =
                verify((region, role), name, id, &disk).await?;
            differs |= !differences.is_empty();
            context.output.json(&serde_json::json!({
                "event": "verified", "image": id, "name": name, "region": region, "ami": ami,
                "snapshot": snapshot, "blocks": blocks, "differences": differences,
            }));
            let what = format!("{name} {} in {region}: {ami}", id.short());
            if differences.is_empty() {
                context.output.line(format!("{what} is byte for byte the image ({blocks} blocks read)"));
                continue;
            }
            context.output.line(format!("{what} is not the image:"));
            for line in &differences {
                context.output.line(format!("  {line}"));
            }
        }
    }
    Ok(differs)
}

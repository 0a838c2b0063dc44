//! `rekiln status`.

mod rollout;

use super::Context;
use super::fleet::{Site, names, table};
use crate::error::{Error, Result};
use crate::fleet::census::Instance;
use crate::provider::Provider as _;
use rollout::Rollout;

/// Arguments of `rekiln status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleet; all fleets when none is named.
    fleet: Option<String>,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// What went wrong.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let fleets = args.fleet.map_or_else(|| names(&context.repo), |name| Ok(vec![name]))?;
    for name in fleets {
        let site = Site::open(context, &name)?;
        let census = context.block_on(async { site.provider.census().await.map_err(Error::from) })?;
        // A journal that is broken hides no instance.
        let (rollout, lines) = match Rollout::of(context, &site) {
            Ok(rollout) => {
                let lines = rollout.lines(&name);
                (Some(rollout), lines)
            }
            Err(error) => (None, vec![format!("how far its rollout is cannot be told: {}", error.chain())]),
        };
        let about = lines.into_iter().map(|line| format!("  {line}"));
        let age = |i: &Instance| census.at.duration_since(i.launched_at).as_secs();
        let instances = census.instances.iter().map(|i| {
            serde_json::json!({
                "id": i.id, "image": i.image, "generation": i.generation.as_ref().map(|g| g.id), "state": i.state,
                "health": i.health, "in_service": i.in_service, "address": i.address, "age_s": age(i),
                "connections": i.connections, "touched": i.touched,
            })
        });
        let instances: Vec<_> = instances.collect();
        context
            .output
            .json(&serde_json::json!({ "fleet": name, "instances": instances, "trouble": census.trouble, "rollout": rollout }));
        if instances.is_empty() {
            context.output.line(format!("fleet {name} does not run; next: `rekiln roll {name}`"));
            for line in about {
                context.output.line(line);
            }
            continue;
        }
        context.output.line(format!(
            "fleet {name}: {} of {} on http://{}/",
            instances.len(),
            site.policy.size,
            site.fleet.local.listen
        ));
        let head = ["  id", "image", "state", "health", "address", "age"].map(str::to_owned).to_vec();
        let rows = census.instances.iter().map(|i| {
            let image = i.image.map_or_else(|| "?".to_owned(), |image| image.short());
            let address = i.address.map_or_else(String::new, |address| address.to_string());
            vec![
                format!("  {}", i.id),
                image,
                word(i.state),
                word(i.health),
                address,
                format!("{} s", age(i)),
            ]
        });
        let mut lines = table(&std::iter::once(head).chain(rows).collect::<Vec<_>>());
        let touched = census.instances.iter().filter_map(|i| Some((&i.id, i.touched.as_ref()?)));
        lines.extend(touched.map(|(id, why)| format!("  {id} is touched: {why}")));
        lines.extend(census.trouble.map(|trouble| format!("  {trouble}")));
        lines.extend(about);
        for line in lines {
            context.output.line(line);
        }
    }
    Ok(0)
}

/// The word that the JSON has too.
fn word(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| Some(value.as_str()?.to_owned())).unwrap_or_default()
}

//! `rekiln aws`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Context;
use crate::error::{Doing as _, Error, Result};
use crate::publish::policy::{inspecting, policy};
use crate::recipe::Vendor;
use crate::repository::Repository;

/// Arguments of `rekiln aws`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Prints the least IAM policy for publishing these images, verifying them and reaping.
    ///
    /// It follows from the recipes' [publish] sections: their regions, keys and parameters. What changes or removes
    /// something is allowed only where it has these recipes' tags.
    Policy {
        /// Recipes [default: all that are published]
        images: Vec<String>,
        /// Allows what `rekiln gc` needs to see what reaches AMIs, too: among it every parameter's text.
        #[arg(long)]
        gc: bool,
        /// Prints what `rekiln audit` needs to look at the fleets in AWS instead.
        #[arg(long, conflicts_with_all = ["images", "gc"])]
        audit: bool,
        /// Prints what `rekiln roll` and `rotate` need to replace the instances of the fleets in AWS instead, and what
        /// `rekiln backup` needs of the buckets that fleets have their backups in.
        #[arg(long, conflicts_with_all = ["images", "gc", "audit"])]
        roll: bool,
        /// Prints what `rekiln inspect` needs to look at AMIs and snapshots instead, those of others included.
        #[arg(long, conflicts_with_all = ["images", "gc", "audit", "roll"])]
        inspect: bool,
        /// Prints what `rekiln bake` needs to derive these images from AMIs instead.
        #[arg(long, conflicts_with_all = ["gc", "audit", "roll", "inspect"])]
        bake: bool,
    },
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// A recipe that is not there or not valid, and none that is published.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let What::Policy { images, gc, audit, roll, inspect, bake } = args.what;
    let policy = if inspect {
        // Nothing of a repository is in it.
        inspecting()
    } else {
        let repository = Repository::open(&context.repo)?;
        if bake {
            for_baking(&repository, &images)?
        } else if audit || roll {
            for_fleets(&repository, roll)?
        } else {
            for_publishing(&repository, &images, gc)?
        }
    };
    if context.output.is_json() {
        context.output.json(&policy);
    } else {
        context.output.line(serde_json::to_string_pretty(&policy).doing(|| "writing the policy")?);
    }
    Ok(0)
}

fn for_fleets(repository: &Repository, roll: bool) -> Result<Value> {
    let fleets = repository.fleet_names().map(|name| repository.fleet(name));
    let fleets = fleets.collect::<Result<Vec<_>>>()?;
    let nothing = || Error::invalid("no fleet is in AWS: there is no file with [aws] in fleets/");
    if roll {
        return crate::fleet::iam::policy(&fleets)
            .ok_or_else(|| nothing().hint("and none has backups in a bucket"));
    }
    let regions: std::collections::BTreeSet<_> =
        fleets.iter().filter_map(|fleet| Some(fleet.aws.as_ref()?.region.as_str())).collect();
    if regions.is_empty() {
        return Err(nothing());
    }
    Ok(crate::fleet::audit::policy(&regions))
}

fn for_baking(repository: &Repository, images: &[String]) -> Result<Value> {
    let mut recipes = BTreeMap::new();
    for name in named(repository, images) {
        let recipe = repository.recipe(name)?;
        if let Some(Vendor::Ami(source)) = recipe.source.vendor() {
            let key = recipe.publish.kms.get(&source.region).filter(|_| source.encrypt);
            recipes.insert(name, (source, key.map(String::as_str)));
        }
    }
    crate::bake::policy::policy(&recipes).ok_or_else(|| {
        Error::invalid("nothing is baked in EC2: no recipe is derived from an AMI ([source] ami)")
    })
}

fn named<'a>(repository: &'a Repository, images: &'a [String]) -> Vec<&'a str> {
    match images {
        [] => repository.recipe_names().collect(),
        images => images.iter().map(String::as_str).collect(),
    }
}

fn for_publishing(repository: &Repository, images: &[String], gc: bool) -> Result<Value> {
    let names = named(repository, images);
    let recipes = names.into_iter().map(|name| Ok((name, &repository.recipe(name)?.publish)));
    let recipes: BTreeMap<_, _> = recipes.collect::<Result<_>>()?;
    policy(&recipes, gc).ok_or_else(|| {
        let names: Vec<&str> = recipes.into_keys().collect();
        Error::invalid(format!("nothing is published: no [publish] regions in {}", names.join(", ")))
            .hint("name them in the recipe: [publish] regions = [\"eu-west-1\"]")
    })
}

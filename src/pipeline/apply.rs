//! Decide: what a merge has to do: which images are baked, and which fleets are rolled in which order.

use std::collections::BTreeSet;

use super::change::{Change, Effect, State};
use super::order::waves;
use crate::error::{Error, Result};
use crate::repository::Repository;

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Images to bake, where the catalog lacks them, and to publish, where their recipes say so.
    pub images: Vec<String>,
    /// Fleets to roll: those of one wave at the same time.
    pub waves: Vec<Vec<String>>,
    /// Fleets whose file is gone. They are left as they are.
    pub gone: Vec<String>,
}

impl Work {
    /// Returns what a change has to do that ends in `to`; without a change, what it takes for every fleet to be as `to` says.
    ///
    /// # Errors
    /// Something in `to` is not valid.
    pub fn of(change: Option<&Change>, to: &Repository) -> Result<Self> {
        if !to.found().is_empty() {
            return Err(Error::diagnostics(to.found().to_vec()));
        }
        let mut images: BTreeSet<String> = BTreeSet::new();
        let mut fleets: BTreeSet<&str> = BTreeSet::new();
        let mut gone = Vec::new();
        if let Some(change) = change {
            refuse_broken(change)?;
            let made = change.images.iter().filter(|image| image.new.id().is_some());
            images.extend(made.map(|image| image.name.clone()));
            for fleet in &change.fleets {
                if fleet.effect == Effect::Removed {
                    gone.push(fleet.name.clone());
                } else {
                    fleets.insert(&fleet.name);
                }
            }
        } else {
            fleets.extend(to.fleet_names());
            for name in to.recipe_names() {
                if !to.recipe(name)?.publish.regions.is_empty() {
                    images.insert(name.to_owned());
                }
            }
        }
        for name in &fleets {
            images.insert(to.fleet(name)?.image.clone());
        }
        let own = |wave: Vec<&str>| wave.into_iter().map(str::to_owned).collect();
        let waves = waves(&fleets, &to.after()).into_iter().map(own).collect();
        Ok(Self { images: images.into_iter().collect(), waves, gone })
    }

    /// Tells whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.images.is_empty() && self.waves.is_empty()
    }
}

fn refuse_broken(change: &Change) -> Result<()> {
    let images = change.images.iter().filter_map(|image| match &image.new {
        State::Broken { why } => Some(format!("image {}: {why}", image.name)),
        _ => None,
    });
    let fleets = change.fleets.iter().filter(|fleet| fleet.effect == Effect::Broken);
    let fleets = fleets.map(|fleet| format!("fleet {}: {}", fleet.name, fleet.because.join("; ")));
    let broken: Vec<String> = images.chain(fleets).collect();
    if broken.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "this commit cannot be applied, and nothing was done:\n  {}",
        broken.join("\n  ")
    ))
    .hint("`rekiln plan --from …` on a pull request says so before the merge"))
}

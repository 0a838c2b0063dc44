//! Which instances a rotation means: the options, and what they find in each fleet.

use std::collections::BTreeSet;

use crate::catalog::Catalog;
use crate::catalog::selection::{PackageSpec, images_with};
use crate::cli::Context;
use crate::cli::fleet::Site;
use crate::error::{Doing as _, Result};
use crate::fleet::census::{InstanceId, State};
use crate::fleet::selection::{Chosen, Package, Selection};
use crate::notation;
use crate::provider::Provider as _;

/// Reads a package and its versions.
const PACKAGE: fn(&str) -> Result<PackageSpec, String> = str::parse;

/// The options that select instances.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Which instances")]
pub struct Which {
    /// Only these instances.
    #[arg(long = "instance", value_name = "ID", num_args = 1..)]
    pub(super) instances: Vec<String>,
    /// Only these, and everything of them is kept as evidence: they get no more requests, are replaced, and their
    /// consoles, reports and records are moved to `evidence/` in the store.
    #[arg(long, value_name = "ID", num_args = 1.., conflicts_with_all = ["instances", "package", "image", "older_than", "touched"])]
    pub(super) quarantine_instance: Vec<String>,
    /// Only instances whose image has this package, in any version or in some: `openssl`, `openssl<3.0.17`.
    #[arg(long, value_name = "PACKAGE", value_parser = PACKAGE)]
    pub(super) package: Option<PackageSpec>,
    /// Only instances of this image: its id, the start of one, or a recipe's name (its newest image).
    #[arg(long, value_name = "ID|IMAGE")]
    image: Option<String>,
    /// Only instances that were launched so long ago, such as `48h`.
    #[arg(long, value_name = "AGE", value_parser = notation::duration)]
    older_than: Option<std::time::Duration>,
    /// Only instances that someone was on.
    #[arg(long)]
    touched: bool,
}

impl Which {
    /// Tells whether any of them was given.
    pub(super) const fn selects(&self) -> bool {
        !self.instances.is_empty()
            || !self.quarantine_instance.is_empty()
            || self.package.is_some()
            || self.image.is_some()
            || self.older_than.is_some()
            || self.touched
    }

    /// Returns the instances that were named.
    pub(super) fn named(&self) -> &[String] {
        if self.quarantine_instance.is_empty() { &self.instances } else { &self.quarantine_instance }
    }

    /// Looks up what the words on the command line mean.
    pub(super) fn selection(&self, context: &Context) -> Result<Selection> {
        let catalog = Catalog::new(context.store()?);
        let ids = || self.named().iter().cloned().map(InstanceId).collect::<BTreeSet<_>>();
        let package = match &self.package {
            None => None,
            Some(spec) => {
                let images = images_with(&catalog, spec)?.into_keys().collect();
                Some(Package { images, known: catalog.ids()?.into_iter().collect() })
            }
        };
        Ok(Selection {
            instances: (!self.named().is_empty()).then(ids),
            image: self
                .image
                .as_deref()
                .map(|image| catalog.find(image))
                .transpose()?
                .map(|record| record.id),
            package,
            older_than: match self.older_than {
                Some(age) => Some(age.try_into().doing(|| "reading `--older-than`")?),
                None => None,
            },
            touched: self.touched,
        })
    }
}

/// One fleet of a rotation.
pub(super) struct Part<'a> {
    pub(super) site: &'a Site,
    pub(super) chosen: Chosen,
    /// All that could be meant.
    pub(super) living: Vec<InstanceId>,
    pub(super) runs: bool,
    /// Why the fleet is paused, when it is.
    pub(super) paused: Option<String>,
}

impl<'a> Part<'a> {
    /// Looks at a fleet and chooses.
    pub(super) fn of(context: &Context, site: &'a Site, selection: &Selection) -> Result<Self> {
        let (census, paused) = context.block_on(async {
            let paused = site.journal("rotate").await?.history().paused.clone();
            Ok((site.provider.census().await?, paused))
        })?;
        let living = census.instances.iter().filter(|instance| instance.state != State::Dead);
        let living: Vec<_> = living.map(|instance| instance.id.clone()).collect();
        let runs = !living.is_empty();
        Ok(Self { site, chosen: selection.choose(&census), living, runs, paused })
    }
}

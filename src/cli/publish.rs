//! `rekiln publish`.

use std::sync::Arc;

use super::inspect::mib;
use super::{Context, person};
use crate::catalog::quarantine::{Quarantine, Quarantined};
use crate::catalog::{Catalog, Record};
use crate::claim::{Claim, Claimed};
use crate::error::{Doing as _, Error, Kind, Result};
use crate::interrupt;
use crate::progress::Progress;
use crate::publish::blocks::BLOCK;
use crate::publish::publication::{Disk, Publication, Published};
use crate::publish::run::publish;
use crate::recipe::publish::Publish;
use crate::repository::Repository;
use crate::store::Store;

/// Arguments of `rekiln publish`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An image's id, the start of one, or a recipe's name (its newest image).
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
    let _claim = targets.claim(&store, "a publication")?;
    let quarantine = Quarantine::new(&[store.objects()]);
    for target in &targets.0 {
        let quarantined = context.block_on(quarantine.get(target.record.id))?;
        target.may_be_published(quarantined)?;
    }
    let done = interrupt::stoppable(|| context.block_on(publish_all(context, &store, &targets)));
    done.map_err(|error| match error.kind() {
        Kind::Interrupted => Error::interrupted("interrupted; what was begun is written down and kept")
            .hint("publish again to go on from there, or `rekiln reap` to remove it"),
        _ => error,
    })
}

/// Publishes one image where its recipe says; nowhere, when it says nothing.
///
/// # Errors
/// As `rekiln publish`.
pub(super) fn image(context: &Context, store: &Store, record: &Record, settings: Publish) -> Result<()> {
    let regions: Vec<String> = settings.regions.iter().cloned().collect();
    if regions.is_empty() {
        return Ok(());
    }
    let targets = Targets(vec![Target { record: record.clone(), settings, regions }]);
    let _claim = targets.claim(store, "a publication")?;
    let quarantine = Quarantine::new(&[store.objects()]);
    for target in &targets.0 {
        target.may_be_published(context.block_on(quarantine.get(target.record.id))?)?;
    }
    context.block_on(publish_all(context, store, &targets)).map(drop)
}

/// Everything at once; one that fails keeps no other from its end.
async fn publish_all(context: &Context, store: &Store, targets: &Targets) -> Result<u8> {
    let mut work = tokio::task::JoinSet::new();
    for target in &targets.0 {
        let disk = Arc::new(Disk::new(Catalog::new(store.clone()).disk(target.record.id), &target.record));
        for (region, role) in target.places() {
            let publication = Publication {
                image: target.record.id,
                recipe: target.record.name.clone(),
                disk: Arc::clone(&disk),
                commit: target.record.commit.clone(),
                settings: target.settings.clone(),
                region: region.to_owned(),
                role: role.map(str::to_owned),
                owner: person(),
            };
            let (store, progress): (_, Arc<dyn Progress>) = (store.clone(), Arc::clone(&context.output) as _);
            work.spawn(async move {
                let published = publish(&store, publication.clone(), progress).await;
                (publication, published)
            });
        }
    }
    let mut failed: Option<Error> = None;
    while let Some(ended) = work.join_next().await {
        let (publication, published) = ended.doing(|| "publishing")?;
        match published {
            Ok(published) => tell(context, &publication, &published),
            Err(error) => {
                if let Some(before) = failed.replace(error) {
                    context.output.error(&before);
                }
            }
        }
    }
    failed.map_or(Ok(0), Err)
}

fn tell(context: &Context, publication: &Publication, published: &Published) {
    let Published { account, ami, snapshot, blocks, sent, parent, changed } = published;
    let bytes = sent * BLOCK;
    let what = format!("{} {} in {}", publication.recipe, publication.image.short(), publication.region);
    let how = match (changed, blocks) {
        (false, _) => "was published already".to_owned(),
        (true, Some(blocks)) if *sent > 0 => {
            let delta = if parent.is_some() { ", as a delta" } else { "" };
            format!("published: {sent} of {blocks} blocks sent, {:.1} MiB{delta}", mib(bytes as u64))
        }
        _ => "published".to_owned(),
    };
    context.output.line(format!("{what}: {ami} {how}"));
    context.output.json(&serde_json::json!({
        "event": "published", "image": publication.image, "name": publication.recipe, "account": account,
        "region": publication.region, "ami": ami, "snapshot": snapshot, "blocks": blocks, "sent": sent,
        "bytes": bytes, "parent": parent, "changed": changed,
    }));
}

/// What is published where.
pub(super) struct Targets(pub(super) Vec<Target>);

/// One image and where it goes.
pub(super) struct Target {
    /// Its record.
    pub(super) record: Record,
    /// What its recipe says of publishing.
    pub(super) settings: Publish,
    /// The regions.
    pub(super) regions: Vec<String>,
}

impl Targets {
    /// Finds images and regions.
    ///
    /// # Errors
    /// An image that is not there, a region that is none, and an image without a region.
    pub(super) fn find(
        context: &Context,
        store: &Store,
        images: &[String],
        regions: &[String],
    ) -> Result<Self> {
        let catalog = Catalog::new(store.clone());
        if let Some(region) = regions.iter().find(|region| !crate::notation::aws::is_region(region)) {
            return Err(Error::invalid(format!("`--region {region}`: this is no AWS region"))
                .hint("regions look like `eu-west-1`"));
        }
        let mut targets: Vec<Target> = Vec::new();
        for name in images {
            let record = catalog.find(name)?;
            if targets.iter().any(|target| target.record.id == record.id) {
                continue;
            }
            let settings = settings(context, &record)?;
            let mut regions: Vec<String> = if regions.is_empty() {
                settings.regions.iter().cloned().collect()
            } else {
                regions.to_vec()
            };
            regions.sort();
            regions.dedup();
            if regions.is_empty() {
                return Err(Error::invalid(format!("recipe {} says no region to publish in", record.name))
                    .hint(format!(
                        "give `--region`, or write `[publish] regions = [\"eu-west-1\"]` into images/{}.toml",
                        record.name
                    )));
            }
            targets.push(Target { record, settings, regions });
        }
        Ok(Self(targets))
    }

    /// Keeps the images from being collected meanwhile.
    ///
    /// # Errors
    /// As [`Claimed::hold`].
    pub(super) fn claim(&self, store: &Store, by: &str) -> Result<Claim> {
        let images = self.0.iter().map(|target| target.record.id).collect();
        Claimed { by: by.to_owned(), images, ..Claimed::default() }.hold(store)
    }
}

impl Target {
    /// Returns every region, with each role to assume there.
    pub(super) fn places(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let each = |region| self.settings.publishers().map(move |role| (region, role));
        self.regions.iter().map(String::as_str).flat_map(each)
    }

    fn may_be_published(&self, quarantined: Option<Quarantined>) -> Result<()> {
        let Record { id, name, verdict, debug, .. } = &self.record;
        let refused = |why: &str, hint: String| {
            Err(Error::failed(format!("image {} of {name} is not published: {why}", id.short())).hint(hint))
        };
        let bake = format!("`rekiln bake {name}` bakes and boots it");
        if *debug {
            return refused("it is a debug variant, with a root shell on its console", bake);
        }
        match verdict {
            None => return refused("it was never booted, so there is no verdict on it", bake),
            Some(verdict) if !verdict.passed => {
                return refused(
                    &format!("its verdict is that it did not pass ({})", verdict.reasons.join("; ")),
                    bake,
                );
            }
            Some(_) => {}
        }
        if let Some(entry) = quarantined {
            let clear = format!("`rekiln quarantine clear {}` allows it again", id.short());
            return refused(&format!("it is in quarantine ({})", entry.reason), clear);
        }
        Ok(())
    }
}

/// Returns what the recipe of an image says, in the work tree; an image may have outlived its recipe.
fn settings(context: &Context, record: &Record) -> Result<Publish> {
    if !context.repo.join("images").join(format!("{}.toml", record.name)).is_file() {
        return Ok(Publish::default());
    }
    let repository = Repository::open(&context.repo)?;
    Ok(repository.recipe(&record.name)?.publish.clone())
}

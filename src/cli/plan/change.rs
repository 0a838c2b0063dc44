//! `rekiln plan --from`: what a change does before it is merged.

use std::path::Path;

use jiff::Timestamp;

use crate::catalog::quarantine::Quarantine;
use crate::catalog::{Catalog, Record};
use crate::cli::Context;
use crate::digest::ImageId;
use crate::error::{Doing as _, Error, Result};
use crate::fleet::Fleet;
use crate::fleet::journal::{Journal, Writer};
use crate::fleet::moment::ahead;
use crate::fleet::policy::Policy;
use crate::git;
use crate::inspect::diff::Diff;
use crate::pipeline::change::{Baked, Change, Effect, FleetChange, ImageChange, Rehearsed};
use crate::pipeline::comment::Ends;
use crate::pipeline::tree::{Tree, short};
use crate::pipeline::vulnerability::Stock;
use crate::pipeline::vulnerability::tracker::look as look_up;
use crate::provider::sim::rehearsal::{Ending, Rehearsal, Trouble};
use crate::repository::Repository;
use crate::store::Store;

/// Fleets larger than this are not rehearsed: each look sees all of it, and a comment should be there within seconds.
const REHEARSED: u32 = 200;

/// How it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For a terminal.
    Text,
    /// For a comment on a pull request.
    Markdown,
    /// For machines.
    Json,
}

/// Tells what differs between two revisions, and returns the exit code: 2 when the newer one is not valid.
///
/// # Errors
/// A revision that is none; a store or catalog that cannot be read; a file of `vulnerabilities` that is something else.
pub fn show(
    context: &Context,
    from: &str,
    to: &str,
    vulnerabilities: Option<&Path>,
    format: Format,
) -> Result<u8> {
    let store = context.store()?;
    let (from, note) = parted(context, from, to)?;
    let old = Tree::read(&context.repo, &from, &store)?;
    let new = Tree::read(&context.repo, to, &store)?;
    let mut change = Change::between(&old.repository, &new.repository);
    let catalog = Catalog::new(store.clone());
    for image in &mut change.images {
        look(image, &catalog, context)?;
    }
    if let Some(file) = vulnerabilities {
        judged(&mut change, (&old.repository, &new.repository), file)?;
    }
    let now = Timestamp::now();
    let images: Vec<(String, Option<ImageId>)> =
        change.images.iter().map(|image| (image.name.clone(), image.new.id())).collect();
    for fleet in change.fleets.iter_mut().filter(|it| it.size.is_none()) {
        let file = new.repository.fleet(&fleet.name).ok();
        fleet.size = file.and_then(|file| remembered(context, &store, &fleet.name, file));
    }
    for fleet in change.fleets.iter_mut().filter(|it| matches!(it.effect, Effect::Rolls | Effect::New)) {
        let file = new.repository.fleet(&fleet.name)?;
        let image = images.iter().find(|(name, _)| *name == fleet.image).and_then(|(_, id)| *id);
        fleet.holds = holds(context, &store, file, image, now)?;
        fleet.rehearsal = rehearse(context, fleet, file)?;
    }
    let found = new.repository.found();
    let ends = Ends { from: old.short().to_owned(), to: new.short().to_owned(), note };
    let document = serde_json::json!({
        "event": "change", "from": old.commit, "to": new.commit, "note": ends.note,
        "images": change.images, "fleets": change.fleets, "findings": found,
    });
    context.output.json(&document);
    match format {
        Format::Text => change.lines(&ends).iter().for_each(|line| context.output.line(line)),
        Format::Markdown => context.output.line(change.markdown(&ends).trim_end()),
        Format::Json if context.output.is_json() => {}
        Format::Json => {
            let text = serde_json::to_string_pretty(&document).doing(|| "writing the change as JSON")?;
            context.output.line(text);
        }
    }
    if !found.is_empty() {
        return Err(Error::diagnostics(found.to_vec()));
    }
    Ok(if change.broken() { 2 } else { 0 })
}

/// Returns the revision that a change is compared with: where it parted from `from`, so that what others merged meanwhile is
/// not told as if the change undid it.
fn parted(context: &Context, from: &str, to: &str) -> Result<(String, Option<String>)> {
    let (older, newer) = (git::commit_of(&context.repo, from)?, git::commit_of(&context.repo, to)?);
    Ok(match git::merge_base(&context.repo, &older, &newer) {
        Some(base) if base == older => (older, None),
        Some(base) => {
            let note =
                format!("{from} has gone on to {}; this is compared with where both parted", short(&older));
            (base, Some(note))
        }
        None => {
            let note = format!(
                "where {from} and {to} parted is not in this clone: what {from} got meanwhile is told as if it were undone; \
                 fetch more history (`git fetch --unshallow`)"
            );
            (older, Some(note))
        }
    })
}

/// Adds what the catalog and the disks in it tell of an image.
fn look(image: &mut ImageChange, catalog: &Catalog, context: &Context) -> Result<()> {
    let record = |id: Option<ImageId>| id.map_or(Ok(None), |id| catalog.get(id));
    let (old, new) = (record(image.old.id())?, record(image.new.id())?);
    if image.new.id().is_some() {
        image.baked = Some(match &new {
            None => Baked::No,
            Some(Record { verdict: None, .. }) => Baked::Unproven,
            Some(record) if record.may_be_target() => Baked::Passed,
            Some(_) => Baked::Failed,
        });
    }
    if let (Some(old), Some(new)) = (old, new) {
        let (before, after) = (catalog.disk(old.id), catalog.disk(new.id));
        if before.is_file() && after.is_file() {
            image.diff = context.progress().step(&image.name, "comparing the disks", || {
                Diff::between((&before, Some(&old)), (&after, Some(&new)))
            })?;
            image.read = true;
        }
    }
    Ok(())
}

/// Adds what a file of the security tracker says of the packages that change.
fn judged(change: &mut Change, (old, new): (&Repository, &Repository), file: &Path) -> Result<()> {
    let stocks = |image: &ImageChange| {
        (Stock::in_repository(old, &image.name), Stock::in_repository(new, &image.name))
    };
    let found = look_up(file, &change.images.iter().map(stocks).collect::<Vec<_>>())?;
    for (image, found) in change.images.iter_mut().zip(found) {
        image.vulnerabilities = found;
    }
    Ok(())
}

/// Returns how large a group in AWS was when it was last rolled, as far as the store's journals know. One that cannot be read
/// tells nothing: nothing depends on it here.
fn remembered(context: &Context, store: &Store, name: &str, fleet: &Fleet) -> Option<u32> {
    // A journal in a bucket needs credentials, and this needs none.
    let here = fleet.aws.as_ref().is_some_and(|aws| aws.journal.is_none());
    let open = || async { Journal::open(&store.objects(), name, Writer::this("rekiln plan")).await };
    let journal = here.then(|| context.block_on(open()).ok()).flatten()?;
    journal.history().size
}

/// Says what would hold a roll now, as far as it is known without its provider.
fn holds(
    context: &Context,
    store: &Store,
    fleet: &Fleet,
    image: Option<ImageId>,
    now: Timestamp,
) -> Result<Vec<String>> {
    let mut holds = Vec::new();
    if let Some(image) = image {
        let found = context.block_on(async { Quarantine::new(&[store.objects()]).get(image).await })?;
        holds.extend(found.map(|found| format!("image {} is quarantined {found}", image.short())));
        let catalog = Catalog::new(store.clone());
        if let (Some(trust), Some(record)) = (&fleet.trust, catalog.get(image)?) {
            holds.extend(catalog.trusted(&record, trust).err().map(|error| error.chain()));
        }
    }
    let windows = Policy::of(fleet)?.windows;
    if !windows.is_open(now) {
        holds.push(match windows.opens_at(now) {
            Some(opens) => format!("its window, which opens {}", ahead(opens, now)),
            None => "its windows, which never open".to_owned(),
        });
    }
    Ok(holds)
}

/// Tries the roll out in a simulated world.
fn rehearse(context: &Context, change: &FleetChange, fleet: &Fleet) -> Result<Option<Rehearsed>> {
    // Of a group, the file does not say how large it is, and the journal may.
    let Some(size @ 1..=REHEARSED) = change.size else { return Ok(None) };
    let fleet = &Fleet { size, ..fleet.clone() };
    let rehearsal = Rehearsal { name: &change.name, fleet, seed: 1, bad_boots: 0, trouble: Trouble::None };
    let report = context.block_on(rehearsal.run())?;
    Ok(Some(Rehearsed {
        completed: report.ending == Ending::Completed,
        seconds: report.lasted.as_secs(),
        lowest: report.lowest,
        highest: report.highest,
    }))
}

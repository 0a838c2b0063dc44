//! Do: what is in the store, and what reaches it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use jiff::Timestamp;

use super::amis::Published;
use super::{Image, Part, Place, Root, Roots, Seen, State, of_journal};
use crate::bake::identity::Identity;
use crate::catalog::pins::pins;
use crate::catalog::quarantine::Quarantine;
use crate::catalog::{Catalog, sbom};
use crate::claim;
use crate::digest::{Digest, ImageId};
use crate::error::{Doing as _, Error, Result};
use crate::fleet::journal::{Journal, Writer, fleets};
use crate::git;
use crate::objects::Objects;
use crate::provider::local::InstanceRecord;
use crate::publish::ledger;
use crate::recipe::publish::Publish;
use crate::repository::Repository;
use crate::scratch::Scratch;
use crate::store::{Store, directories};

/// Where to look.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The store.
    pub store: &'a Store,
    /// Wherever there are journals: the store, and the buckets of fleets.
    pub journals: &'a [Objects],
    /// The repository's root.
    pub repo: &'a Path,
    /// Revisions whose fleets and locks count too, besides the work tree and `HEAD`.
    pub revisions: &'a [String],
}

impl Sources<'_> {
    /// Looks at everything, changing nothing; `measured` says whether the sizes are of interest.
    ///
    /// # Errors
    /// Anything that may reach something cannot be read.
    pub async fn look(&self, measured: bool) -> Result<Seen> {
        let (mut roots, mut published) = (Roots::default(), Published::default());
        self.git(&mut roots, &mut published)?;
        ledger::entries(self.store)?.iter().for_each(|entry| published.entry(entry));
        self.journals(&mut roots).await?;
        instances(&self.store.locals(), Root::Machine, &mut roots)?;
        instances(&self.store.evidences(), Root::Evidence, &mut roots)?;
        for pin in pins(self.store).list().await? {
            add(&mut roots.images, pin.image, Root::Pin(pin.to_string()));
        }
        for (pid, claimed) in claim::all(self.store)? {
            let root = || Root::Claim(claimed.by.clone(), pid.clone());
            claimed.images.iter().for_each(|image| add(&mut roots.images, *image, root()));
            claimed.layers.iter().for_each(|layer| add(&mut roots.layers, *layer, root()));
            claimed.inputs.iter().for_each(|input| add(&mut roots.inputs, *input, root()));
        }
        let quarantine = Quarantine::new(self.journals);
        let (layers, inputs) = (self.store.layers(), self.store.inputs());
        Ok(Seen {
            images: images(self.store, &quarantine, measured).await?,
            layers: parts(&layers, measured)?,
            inputs: parts(&inputs, measured)?,
            roots,
            quarantined: quarantine.list().await?.into_iter().map(|entry| entry.image).collect(),
            published,
        })
    }

    /// What Git asks for, in the work tree and at each revision.
    fn git(&self, roots: &mut Roots, published: &mut Published) -> Result<()> {
        asked(&Repository::open(self.repo)?, &Place::WorkTree, roots, published)?;
        let head = "HEAD".to_owned();
        let head = git::revision(self.repo)?.commit.map(|_| head);
        let names: BTreeSet<&String> = self.revisions.iter().chain(&head).collect();
        for name in names {
            let scratch = Scratch::new(self.store, "revision")?;
            git::export(self.repo, name, scratch.dir())?;
            // Before the first recipe there was nothing to ask for.
            if scratch.dir().join("images").is_dir() {
                let repository = Repository::open(scratch.dir())?;
                asked(&repository, &Place::Revision(name.clone()), roots, published)
                    .map_err(|error| error.during(format!("reading the repository at {name}")))?;
            }
        }
        Ok(())
    }

    async fn journals(&self, roots: &mut Roots) -> Result<()> {
        for journals in self.journals {
            for fleet in fleets(journals).await? {
                let journal = Journal::open(journals, &fleet, Writer::this("rekiln gc")).await?;
                for (image, root) in of_journal(&fleet, journal.entries(), journal.history()) {
                    add(&mut roots.images, image, root);
                }
            }
        }
        Ok(())
    }
}

/// Adds what the fleets and locks of a repository reach, and where its recipes are published.
fn asked(repository: &Repository, place: &Place, roots: &mut Roots, published: &mut Published) -> Result<()> {
    for name in repository.recipe_names() {
        // One that is not valid names no place, and where nobody looks, nothing goes.
        let unknown = Publish::default();
        published.recipe(name, repository.recipe(name).map_or(&unknown, |recipe| &recipe.publish));
    }
    for name in repository.fleet_names() {
        let recipe = &repository.fleet(name)?.image;
        let identity = match Identity::of(repository, recipe, false) {
            Ok(identity) => identity,
            Err(error) => {
                let root = Root::Unclear(name.to_owned(), place.clone(), error.chain());
                add(&mut roots.recipes, recipe.clone(), root);
                continue;
            }
        };
        let root = Root::Git(name.to_owned(), place.clone());
        add(&mut roots.images, identity.id, root.clone());
        for layer in identity.layer_keys() {
            add(&mut roots.layers, layer, root.clone());
        }
    }
    for name in repository.lock_names() {
        let (lock, _) = repository.lock(name)?;
        for input in lock.inputs() {
            add(&mut roots.inputs, input, Root::Lock(name.to_owned(), place.clone()));
        }
    }
    Ok(())
}

/// Adds the images of all instances whose records lie in `dir/<fleet>/<id>/`.
fn instances(dir: &Path, root: fn(String) -> Root, roots: &mut Roots) -> Result<()> {
    for fleet in directories(dir)? {
        for instance in directories(&fleet)? {
            if let Some(record) = InstanceRecord::read(&instance)? {
                add(&mut roots.images, record.image, root(name_of(&fleet)));
            }
        }
    }
    Ok(())
}

fn add<K: Ord>(to: &mut BTreeMap<K, BTreeSet<Root>>, what: K, root: Root) {
    to.entry(what).or_default().insert(root);
}

async fn images(store: &Store, quarantine: &Quarantine, measured: bool) -> Result<Vec<Image>> {
    let catalog = Catalog::new(store.clone());
    let mut images = Vec::new();
    for Part { digest: id, made, size } in parts(&store.images(), measured)? {
        let unknown = |state| Image {
            id,
            name: String::new(),
            made,
            size,
            state,
            layers: BTreeSet::new(),
            inputs: BTreeSet::new(),
        };
        let record = match catalog.get(id) {
            Ok(Some(record)) => record,
            Ok(None) => {
                images.push(unknown(State::Half));
                continue;
            }
            Err(error) => {
                images.push(unknown(State::Unreadable(error.chain())));
                continue;
            }
        };
        let usable = record.may_be_target() && quarantine.get(id).await?.is_none();
        images.push(Image {
            name: record.name,
            made: record.baked,
            state: if usable { State::Usable } else { State::Unusable },
            layers: record.layers.iter().map(|layer| layer.key).chain(record.kernel).collect(),
            inputs: inputs(store, id),
            ..unknown(State::Usable)
        });
    }
    Ok(images)
}

/// Returns the inputs in an image's bill of materials. Without one that reads, nothing is known of them, and none is
/// needed for anything but baking the image again.
fn inputs(store: &Store, id: ImageId) -> BTreeSet<Digest> {
    let text = fs::read(store.image(id).join(sbom::FILE)).unwrap_or_default();
    serde_json::from_slice(&text).map(|bill| sbom::inputs(&bill)).unwrap_or_default()
}

/// Returns everything in `dir` that has a digest as its name, in order.
fn parts(dir: &Path, measured: bool) -> Result<Vec<Part>> {
    let doing = || format!("listing {}", dir.display());
    let mut parts = Vec::new();
    for entry in fs::read_dir(dir).doing(doing)? {
        let entry = entry.doing(doing)?;
        let Some(digest) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let found = match entry.metadata() {
            Ok(found) => found,
            // Another process replaced it in this moment.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).doing(|| format!("looking at {}", entry.path().display())),
        };
        let made = Timestamp::from_second(found.mtime()).doing(doing)?;
        let size = if measured { on_disk(&entry.path()) } else { 0 };
        parts.push(Part { digest, made, size });
    }
    parts.sort_by_key(|part| part.digest);
    Ok(parts)
}

/// Returns how many bytes removing `path` frees: holes take none, and what has another name stays. What cannot be read
/// counts nothing.
fn on_disk(path: &Path) -> u64 {
    /// The unit of `st_blocks`, whatever the file system's own blocks are (stat(2)).
    const BLOCK: u64 = 512;
    let Ok(found) = fs::symlink_metadata(path) else { return 0 };
    if found.is_dir() {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        return found.blocks() * BLOCK + entries.map(|entry| on_disk(&entry.path())).sum::<u64>();
    }
    if found.nlink() > 1 { 0 } else { found.blocks() * BLOCK }
}

fn name_of(dir: &Path) -> String {
    dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Refuses a revision that Git does not know, before anything else is done.
///
/// # Errors
/// One that is unknown.
pub fn know_revisions(repo: &Path, revisions: &[String]) -> Result<()> {
    match revisions.iter().find(|name| !git::knows(repo, name)) {
        Some(unknown) => Err(Error::invalid(format!("Git knows no revision `{unknown}` here"))
            .hint("name a branch, a tag or a commit; a shallow clone has few of them")),
        None => Ok(()),
    }
}

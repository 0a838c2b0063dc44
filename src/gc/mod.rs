//! Removing from the store what nothing reaches. Here is what decides; [`look`] sees, [`remove`] does.
//!
//! # How it can fail, and what is done about it
//!
//! * *What cannot be read reaches everything.* A journal, an instance's record, evidence, a pin, a claim, a fleet or a
//!   lock that does not read ends the collection before anything is touched. A fleet whose image id cannot be computed
//!   (its lock is stale) keeps all images of its recipe. An image whose record does not read is kept.
//! * *A bake finds a layer and loses it before it is used.* It claims all it will use before it looks
//!   ([`crate::claim`]). The same goes for rolls between the choice of an image and the entry in the journal.
//! * *Someone begins to need a thing while a person reads the plan.* The reach is computed again when nobody can claim,
//!   and what is removed is what was shown and is still not reached.
//! * *Killed in the middle.* A thing leaves its place by one rename into scratch space, or, as a single file, by its
//!   removal; it is whole where it belongs, or not there. The next run removes the scratch space of dead processes.
//! * *The host crashes.* The renames are synced before the first file is removed, so that no half image comes back.
//! * *A young thing that nothing reaches yet*: a bake without a fleet, an input of a lock that is not written yet. It is
//!   kept for a while, by when it was made; a clock that went back makes things younger and never older.
//! * *A process that cannot be seen*, on another host or in another PID namespace, counts as ended, as it does for
//!   scratch space: what it claims is not kept. A local store is one host's.
//! * *A running machine's disk.* Instances are found by their records, not by the journal alone.
//! * *Something of a name that rekiln did not give* is not looked at: only digests are names here.

pub mod amis;
pub mod look;
mod reason;
pub mod remove;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::digest::{Digest, ImageId};
use crate::fleet::history::Event;
use crate::fleet::history::History;
use crate::fleet::journal::Entry;
pub use reason::{Place, Root, Why};

/// What is kept although nothing reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How many of the newest images of each recipe that a fleet may run.
    pub keep: usize,
    /// Everything made less than this before now.
    pub younger: SignedDuration,
}

/// What reaches things, by what it reaches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots {
    /// Images by id.
    pub images: BTreeMap<ImageId, BTreeSet<Root>>,
    /// All images of a recipe: which of them is meant cannot be told.
    pub recipes: BTreeMap<String, BTreeSet<Root>>,
    /// Layers by key, besides those of kept images.
    pub layers: BTreeMap<Digest, BTreeSet<Root>>,
    /// Inputs, besides those of kept images.
    pub inputs: BTreeMap<Digest, BTreeSet<Root>>,
}

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// Its recipe; empty when the record does not say.
    pub name: String,
    /// When it was baked.
    pub made: Timestamp,
    /// Bytes on the disk.
    pub size: u64,
    /// What it is good for.
    pub state: State,
    /// The layers that it was made from.
    pub layers: BTreeSet<Digest>,
    /// The inputs that it was made from.
    pub inputs: BTreeSet<Digest>,
}

/// What an image is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// A fleet may run it.
    Usable,
    /// No fleet may: it is quarantined, has no passing verdict or is a debug variant.
    Unusable,
    /// It has no record, so that it is no image.
    Half,
    /// Its record does not read, and why.
    Unreadable(String),
}

/// A layer, or an input in the vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name in the store.
    pub digest: Digest,
    /// When it was made or fetched.
    pub made: Timestamp,
    /// Bytes on the disk.
    pub size: u64,
}

/// Everything that was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Images, half ones included.
    pub images: Vec<Image>,
    /// Layers and initrds.
    pub layers: Vec<Part>,
    /// Inputs in the vault.
    pub inputs: Vec<Part>,
    /// What reaches them.
    pub roots: Roots,
    /// Images that no fleet may run, whether they are in the store or not.
    pub quarantined: BTreeSet<ImageId>,
    /// What is published where.
    pub published: amis::Published,
}

/// What kind of thing is decided about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `images/<id>/`.
    Image,
    /// `layers/<key>/`.
    Layer,
    /// `vault/<sha256>`.
    Input,
}

/// What becomes of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What it is.
    pub kind: Kind,
    /// Its name in the store.
    pub digest: Digest,
    /// An image's recipe; empty where there is none.
    pub name: String,
    /// Bytes on the disk.
    pub size: u64,
    /// Why it is kept or removed; never empty.
    pub why: Vec<Why>,
}

impl Decision {
    /// Tells whether it is removed.
    #[must_use]
    pub fn removes(&self) -> bool {
        self.why.iter().all(Why::removes)
    }
}

/// What becomes of everything: images by recipe, the newest first, then layers, then inputs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Plan(pub Vec<Decision>);

impl Plan {
    /// Returns what is removed.
    pub fn removed(&self) -> impl Iterator<Item = &Decision> {
        self.0.iter().filter(|decision| decision.removes())
    }

    /// Returns what is removed, by kind and name.
    #[must_use]
    pub fn names(&self) -> BTreeSet<(Kind, Digest)> {
        self.removed().map(|decision| (decision.kind, decision.digest)).collect()
    }
}

/// Decides what is removed.
pub fn plan(seen: &Seen, rules: Rules, now: Timestamp) -> Plan {
    let age = |made: Timestamp| now.duration_since(made);
    let young = |made| Some(Why::Young(age(made))).filter(|_| age(made) < rules.younger);
    let mut images: Vec<&Image> = seen.images.iter().collect();
    images.sort_by(|a, b| a.name.cmp(&b.name).then(b.made.cmp(&a.made)).then(a.id.cmp(&b.id)));
    let mut newer: BTreeMap<&str, usize> = BTreeMap::new();
    let mut decisions = Vec::new();
    let mut used: BTreeMap<Digest, ImageId> = BTreeMap::new();
    for image in images {
        let place = newer.entry(&image.name).or_default();
        let mut why = reached(&seen.roots.images, &image.id);
        why.extend(reached(&seen.roots.recipes, &image.name));
        if let State::Unreadable(text) = &image.state {
            why.push(Why::Unreadable(text.clone()));
        }
        if image.state == State::Usable {
            why.extend((*place < rules.keep).then_some(Why::Newest(*place + 1)));
            *place += 1;
        }
        why.extend(young(image.made));
        if why.is_empty() {
            let age = age(image.made);
            why.push(match image.state {
                State::Half => Why::Half,
                State::Usable => Why::Older { newer: *place - 1, age },
                State::Unusable | State::Unreadable(_) => Why::Useless { age },
            });
        } else {
            used.extend(image.layers.iter().chain(&image.inputs).map(|part| (*part, image.id)));
        }
        let (kind, digest) = (Kind::Image, image.id);
        decisions.push(Decision { kind, digest, name: image.name.clone(), size: image.size, why });
    }
    for (kind, parts, named) in
        [(Kind::Layer, &seen.layers, &seen.roots.layers), (Kind::Input, &seen.inputs, &seen.roots.inputs)]
    {
        for Part { digest, made, size } in parts {
            let mut why = reached(named, digest);
            why.extend(used.get(digest).map(|image| Why::Used(*image)));
            why.extend(young(*made));
            if why.is_empty() {
                why.push(Why::Unused { age: age(*made) });
            }
            decisions.push(Decision { kind, digest: *digest, name: String::new(), size: *size, why });
        }
    }
    Plan(decisions)
}

fn reached<K: Ord + ?Sized, Q: Ord + std::borrow::Borrow<K>>(
    of: &BTreeMap<Q, BTreeSet<Root>>,
    name: &K,
) -> Vec<Why> {
    of.get(name).into_iter().flatten().cloned().map(Why::Root).collect()
}

/// Returns the images that the journal of `fleet` reaches: where its rollout goes or went, what it can go back to, and
/// what its members were launched from.
#[must_use]
pub fn of_journal(fleet: &str, entries: &[Entry], history: &History) -> Vec<(ImageId, Root)> {
    let fleet = || fleet.to_owned();
    let root = if history.unfinished() { Root::Rolling } else { Root::Rolled };
    let mut reached: Vec<_> = history.target.iter().map(|target| (target.image, root(fleet()))).collect();
    reached.extend(history.proven.iter().map(|proven| (proven.image, Root::Proven(fleet()))));
    reached.extend(history.previous.iter().map(|previous| (previous.image, Root::Previous(fleet()))));
    let launched = entries.iter().filter_map(|entry| match &entry.event {
        Event::Intent { action: crate::provider::Action::Launch { id, generation, .. } } => {
            Some((id, generation.image()?))
        }
        _ => None,
    });
    let seen = entries.iter().filter_map(|entry| match &entry.event {
        Event::Seen { changed, .. } => Some(changed),
        _ => None,
    });
    let seen = seen.flatten().filter_map(|instance| Some((&instance.id, instance.image?)));
    let living = launched.chain(seen).filter(|(id, _)| history.members.contains_key(*id));
    let images: BTreeSet<ImageId> = living.map(|(_, image)| image).collect();
    reached.extend(images.into_iter().map(|image| (image, Root::Member(fleet()))));
    reached
}

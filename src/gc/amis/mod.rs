//! Removing published images that nothing reaches. Here is what decides; [`look`] sees, [`remove`] does.
//!
//! # How it can fail, and what is done about it
//!
//! * *What cannot be looked at reaches everything.* Every place that a recipe in the work tree, at `HEAD` or at a named
//!   revision is published in, and every place in the store's ledger, is looked at; anything there that cannot be ends
//!   the collection before anything is removed, here and there. Only a place of the ledger alone that lets nobody in any
//!   more is left alone, and with it what is shared with it.
//! * *What reaches an AMI is in another account.* What is seen in one account counts in all; an AMI that is shared with
//!   somebody whose account was not looked at is kept, unless a person says otherwise.
//! * *Somebody else's AMI.* Only what has rekiln's tags and the name that goes with them is looked at, of recipes that
//!   Git or the ledger knows: another repository may publish to the same account.
//! * *Somebody begins to need it while a person reads the plan.* Everything is looked at again before the first is
//!   removed, and what is removed is what was shown and is still not reached. A launch that begins in the seconds after
//!   that fails.
//! * *It is being published.* The ledger's entry is taken before it is removed; another store's is not known, and what is
//!   younger than some days is kept.
//! * *Killed between an AMI and its snapshot.* The snapshot has a tag that says until when it may have no AMI, and is
//!   found by that the next time.
//! * *Somebody wants it kept and says so in AWS.* Deregistration protection that Git does not ask for is respected.

#[cfg(feature = "aws")]
pub mod look;
#[cfg(feature = "aws")]
pub mod remove;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Root, Rules, Why, reached};
use crate::digest::ImageId;
use crate::publish::ledger::Entry;
use crate::publish::plan::{Grantee, SeenImage, State};
use crate::recipe::publish::Publish;

/// How long ago something has to have expired: clocks differ.
pub const GRACE: SignedDuration = SignedDuration::from_mins(10);

/// One account in one region.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Site {
    /// The account's number.
    pub account: String,
    /// The region's name.
    pub region: String,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of account {}", self.region, self.account)
    }
}

/// What is published where, and what Git says of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// Regions, each with the role to assume there, that Git names.
    pub places: BTreeSet<(String, Option<String>)>,
    /// Those that the ledger knows. One that cannot be looked at any more, as when its account is closed, ends nothing:
    /// what is shared with it stays.
    pub former: BTreeSet<(String, Option<String>)>,
    /// The recipes that are known, and whether their AMIs are to be protected from deregistration.
    pub recipes: BTreeMap<String, bool>,
    /// Publications that were begun and not finished.
    pub unfinished: BTreeSet<(Site, ImageId)>,
}

impl Published {
    /// Adds what a recipe says. What was added first counts.
    pub fn recipe(&mut self, name: &str, publish: &Publish) {
        self.recipes.entry(name.to_owned()).or_insert(publish.protect);
        for region in &publish.regions {
            self.places.extend(publish.publishers().map(|role| (region.clone(), role.map(str::to_owned))));
        }
    }

    /// Adds an entry of the ledger.
    pub fn entry(&mut self, entry: &Entry) {
        self.recipes.entry(entry.recipe.clone()).or_insert(false);
        self.former.insert((entry.region.clone(), entry.role.clone()));
        if entry.published.is_none() {
            let site = Site { account: entry.account.clone(), region: entry.region.clone() };
            self.unfinished.insert((site, entry.image));
        }
    }
}

/// A published image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ami {
    /// Where it is.
    pub site: Site,
    /// The image.
    pub image: ImageId,
    /// Its recipe.
    pub recipe: String,
    /// What AWS says of it.
    pub seen: SeenImage,
    /// Who may launch it besides its account; `None` when nobody looked, as something reaches it.
    pub shared: Option<BTreeSet<Grantee>>,
}

/// A snapshot of an image that no AMI is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remnant {
    /// Where it is.
    pub site: Site,
    /// The image.
    pub image: ImageId,
    /// Its recipe.
    pub recipe: String,
    /// The snapshot.
    pub snapshot: String,
    /// Until when it was to have an AMI.
    pub expired: Timestamp,
}

/// What was seen in AWS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// All that was looked at.
    pub sites: BTreeSet<Site>,
    /// Published images of every recipe, known here or not.
    pub amis: Vec<Ami>,
    /// Snapshots without an AMI.
    pub remnants: Vec<Remnant>,
    /// What in AWS reaches an AMI, by its id. No two regions have one of the same id.
    pub reached: BTreeMap<String, BTreeSet<Root>>,
}

/// What kind of thing is decided about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An AMI and its snapshot.
    Ami,
    /// A snapshot without an AMI.
    Snapshot,
}

/// What becomes of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub site: Site,
    /// AWS's id of it.
    pub id: String,
    /// The snapshot: of the AMI, or the thing itself.
    pub snapshot: Option<String>,
    /// Whether its protection is lifted first, as it comes from Git.
    pub protected: bool,
    /// The image.
    pub image: ImageId,
    /// Its recipe.
    pub recipe: String,
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

/// What there is to decide by, besides what was seen in AWS.
#[derive(Debug, Clone, Copy)]
pub struct Basis<'a> {
    /// What was seen here and in Git.
    pub seen: &'a super::Seen,
    /// What is kept although nothing reaches it.
    pub rules: Rules,
    /// Whether what is shared with accounts that were not looked at goes too.
    pub shared: bool,
}

/// Decides about everything that was seen: AMIs by place and recipe, the newest first, then snapshots. AMIs of recipes
/// that nobody here knows are left out.
#[must_use]
pub fn plan(seen: &Seen, basis: Basis<'_>, now: Timestamp) -> Vec<Decision> {
    let known = |recipe: &str| basis.seen.published.recipes.contains_key(recipe);
    let mut amis: Vec<&Ami> = seen.amis.iter().filter(|ami| known(&ami.recipe)).collect();
    // What does not say when it was registered counts as just made.
    let made = |ami: &Ami| ami.seen.created.unwrap_or(now);
    amis.sort_by_key(|ami| (&ami.site, &ami.recipe, std::cmp::Reverse(made(ami)), &ami.seen.id));
    let mut newer: BTreeMap<(&Site, &str), usize> = BTreeMap::new();
    let mut decisions = Vec::new();
    for ami in amis {
        let usable = ami.seen.state == State::Ready && !basis.seen.quarantined.contains(&ami.image);
        let place = newer.entry((&ami.site, &ami.recipe)).or_default();
        *place += usize::from(usable);
        let age = now.duration_since(made(ami));
        let mut why: Vec<Why> = basis.reaching(&ami.site, ami.image, &ami.recipe);
        why.extend(reached(&seen.reached, ami.seen.id.as_str()));
        if usable && *place <= basis.rules.keep {
            why.push(Why::Newest(*place));
        }
        if age < basis.rules.younger {
            why.push(Why::Young(age));
        }
        match ami.seen.state {
            State::Pending => why.push(Why::Pending),
            State::Disabled => why.push(Why::Disabled),
            State::Ready | State::Failed(_) | State::Gone => {}
        }
        let asked = basis.seen.published.recipes.get(&ami.recipe).copied().unwrap_or(false);
        if ami.seen.protected && !asked {
            why.push(Why::Protected);
        }
        if why.is_empty() && !basis.shared {
            let elsewhere = ami.shared.iter().flatten().filter(|grantee| !seen.looked_at(ami, grantee));
            why.extend(elsewhere.map(|grantee| Why::Shared(grantee.clone())));
        }
        if why.is_empty() {
            let newer = *place - usize::from(usable);
            why.push(if usable { Why::Older { newer, age } } else { Why::Useless { age } });
        }
        decisions.push(Decision {
            kind: Kind::Ami,
            site: ami.site.clone(),
            id: ami.seen.id.clone(),
            snapshot: ami.seen.snapshot.clone(),
            protected: ami.seen.protected,
            image: ami.image,
            recipe: ami.recipe.clone(),
            why,
        });
    }
    let expired = |remnant: &&Remnant| remnant.expired + GRACE <= now && known(&remnant.recipe);
    for remnant in seen.remnants.iter().filter(expired) {
        let Remnant { site, image, recipe, snapshot, expired } = remnant;
        let unfinished = basis.seen.published.unfinished.contains(&(site.clone(), *image));
        let ago = now.duration_since(*expired);
        let why = vec![if unfinished { Why::Unfinished } else { Why::Expired { ago } }];
        decisions.push(Decision {
            kind: Kind::Snapshot,
            site: site.clone(),
            id: snapshot.clone(),
            snapshot: Some(snapshot.clone()),
            protected: false,
            image: *image,
            recipe: recipe.clone(),
            why,
        });
    }
    decisions
}

impl Basis<'_> {
    /// What reaches an image from outside AWS.
    fn reaching(&self, site: &Site, image: ImageId, recipe: &str) -> Vec<Why> {
        let mut why = reached(&self.seen.roots.images, &image);
        why.extend(reached(&self.seen.roots.recipes, recipe));
        if self.seen.published.unfinished.contains(&(site.clone(), image)) {
            why.push(Why::Unfinished);
        }
        why
    }
}

impl Seen {
    /// Tells whether what someone has of an AMI would have been seen.
    fn looked_at(&self, ami: &Ami, grantee: &Grantee) -> bool {
        let Grantee::Account(account) = grantee else { return false };
        self.sites.contains(&Site { account: account.clone(), region: ami.site.region.clone() })
    }
}

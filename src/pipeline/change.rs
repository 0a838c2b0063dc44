//! Decide: what differs between two revisions: which images get other bytes and why, and what that means for fleets.
//!
//! Everything here comes from Git. What only disks know is added by who has them ([`ImageChange::read`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;

use crate::bake::identity::Identity;
use crate::bake::image::{exceptions, ports, services};
use crate::digest::{Digest, ImageId};
use crate::error::Result;
use crate::fleet::Fleet;
use crate::fleet::generation::Generation;
use crate::inspect::diff::{self, Changes, Diff, set};
use crate::pipeline::vulnerability::Vulnerabilities;
use crate::recipe::inputs::Link;
use crate::repository::{Repository, lock_file, recipe_file};

/// What differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Images, each after those that it stands on.
    pub images: Vec<ImageChange>,
    /// Fleets by name.
    pub fleets: Vec<FleetChange>,
}

/// What an image is in one revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// There is no such recipe.
    Absent,
    /// It has this id.
    Known {
        /// The id.
        id: ImageId,
    },
    /// Its id cannot be computed.
    Broken {
        /// Why.
        why: String,
    },
}

impl State {
    fn of(identity: Option<&Result<Identity>>) -> Self {
        match identity {
            None => Self::Absent,
            Some(Ok(identity)) => Self::Known { id: identity.id },
            Some(Err(error)) => Self::Broken { why: error.line() },
        }
    }

    /// Returns the id.
    #[must_use]
    pub const fn id(&self) -> Option<ImageId> {
        match self {
            Self::Known { id } => Some(*id),
            Self::Absent | Self::Broken { .. } => None,
        }
    }
}

/// How far an image of the newer revision is on this computer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Baked {
    /// It is not in the catalog.
    No,
    /// It is, and was not booted.
    Unproven,
    /// It did not pass its boot.
    Failed,
    /// A fleet may run it.
    Passed,
}

/// An image that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImageChange {
    /// Its recipe.
    pub name: String,
    /// What it was.
    pub old: State,
    /// What it is.
    pub new: State,
    /// The files of the repository because of which it differs.
    pub because: Vec<String>,
    /// How far the new one is; `None` when nobody looked.
    pub baked: Option<Baked>,
    /// Whether the differences are those of the sealed disks; else they are what Git tells, without what packages bring.
    pub read: bool,
    /// What differs.
    pub diff: Diff,
    /// Which vulnerabilities that fixes, leaves and brings; `None` when there is no data, or no image to look at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vulnerabilities: Option<Vulnerabilities>,
}

/// What a merge means for a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It cannot be told.
    Broken,
    /// It is new.
    New,
    /// All its instances are replaced.
    Rolls,
    /// It gets another size.
    Resized,
    /// What its file says otherwise holds from the next roll on, and replaces nothing.
    Settings,
    /// Its file is gone; its instances are not ended.
    Removed,
}

/// A fleet for which something changes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FleetChange {
    /// Its name.
    pub name: String,
    /// The recipe of its image, in the newer revision where it is there.
    pub image: String,
    /// What it means.
    pub effect: Effect,
    /// Because of what, one line each.
    pub because: Vec<String>,
    /// How many instances it has; an Auto Scaling group's size is not in Git, but in its journal once it was rolled.
    pub size: Option<u32>,
    /// How a roll of it goes, by a rehearsal; `None` when there was none.
    pub rehearsal: Option<Rehearsed>,
    /// What would hold its roll, one line each, as far as it is known here.
    pub holds: Vec<String>,
}

/// How a roll went in a simulated world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rehearsed {
    /// Whether it completed.
    pub completed: bool,
    /// Seconds.
    pub seconds: i64,
    /// The fewest instances that served meanwhile.
    pub lowest: usize,
    /// The most that existed.
    pub highest: usize,
}

impl Change {
    /// Compares two revisions.
    #[must_use]
    pub fn between(old: &Repository, new: &Repository) -> Self {
        let identities = |repository: &Repository| -> BTreeMap<String, Result<Identity>> {
            let names = repository.recipe_names();
            names.map(|name| (name.to_owned(), Identity::of(repository, name, false))).collect()
        };
        let (before, after) = (identities(old), identities(new));
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let mut images: Vec<_> = names
            .into_iter()
            .filter_map(|name| {
                let change = image(name, before.get(name), after.get(name))?;
                let links = after.get(name).and_then(|it| it.as_ref().ok()).map_or(0, |it| it.links.len());
                Some((links, change))
            })
            .collect();
        // Stable: what stands on nothing of the repository first, and by name among equals.
        images.sort_by_key(|(links, _)| *links);
        let images: Vec<ImageChange> = images.into_iter().map(|(_, change)| change).collect();
        let names: BTreeSet<&str> = old.fleet_names().chain(new.fleet_names()).collect();
        let fleets = names.into_iter().filter_map(|name| fleet(name, (old, new), &images)).collect();
        Self { images, fleets }
    }

    /// Returns whether anything cannot be computed, so that a merge would fail.
    #[must_use]
    pub fn broken(&self) -> bool {
        self.images.iter().any(|image| matches!(image.new, State::Broken { .. }))
            || self.fleets.iter().any(|fleet| fleet.effect == Effect::Broken)
    }
}

fn image(name: &str, old: Option<&Result<Identity>>, new: Option<&Result<Identity>>) -> Option<ImageChange> {
    let (before, after) = (State::of(old), State::of(new));
    if before == after {
        return None;
    }
    let (old, new) = (good(old), good(new));
    let because = match (old, new) {
        (Some(old), Some(new)) => because(old, new),
        (_, Some(_)) if matches!(before, State::Absent) => {
            vec![format!("{} is new", recipe_file(name).display())]
        }
        _ => Vec::new(),
    };
    let diff = match (old, new) {
        (Some(old), Some(new)) => between(&Facts::of(old), &Facts::of(new)),
        _ => Diff::default(),
    };
    Some(ImageChange {
        name: name.to_owned(),
        old: before,
        new: after,
        because,
        baked: None,
        read: false,
        diff,
        vulnerabilities: None,
    })
}

fn good(identity: Option<&Result<Identity>>) -> Option<&Identity> {
    identity?.as_ref().ok()
}

/// Names what differs, from the ground up.
fn because(old: &Identity, new: &Identity) -> Vec<String> {
    let mut found = Vec::new();
    let before: BTreeMap<&str, &Link> = old.links.iter().map(|link| (link.name.as_str(), link)).collect();
    for link in &new.links {
        let Some(was) = before.get(link.name.as_str()) else {
            found.push(format!("it stands on {}", recipe_file(&link.name).display()));
            continue;
        };
        if was.recipe != link.recipe {
            found.push(recipe_file(&link.name).display().to_string());
        }
        if was.rendered != link.rendered {
            found.push(format!("templates of {}", recipe_file(&link.name).display()));
        }
        if was.lock != link.lock {
            found.push(lock_file(&link.name).display().to_string());
        }
    }
    let names: BTreeSet<&str> = new.links.iter().map(|link| link.name.as_str()).collect();
    let gone = old.links.iter().filter(|link| !names.contains(link.name.as_str()));
    found.extend(gone.map(|link| format!("it stands no longer on {}", recipe_file(&link.name).display())));
    found
}

/// What Git knows of an image's content, by name.
struct Facts {
    packages: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
    services: BTreeMap<String, String>,
    ports: BTreeMap<String, String>,
    kernel_args: BTreeMap<String, String>,
    exceptions: BTreeMap<String, String>,
}

impl Facts {
    fn of(identity: &Identity) -> Self {
        let locked = identity.links.iter().flat_map(|link| &link.lock.packages);
        let rendered = identity.links.iter().flat_map(|link| &link.rendered.files);
        let shown = |mode: u32, owner: &str, content: &[u8]| {
            let mut text = String::new();
            let _ = write!(text, "{mode:04o} {owner} {}", Digest::of(content).short());
            text
        };
        let fetches = identity.links.iter().flat_map(|link| &link.lock.fetches);
        let scripts = identity.links.iter().flat_map(|link| &link.rendered.scripts);
        let mut files: BTreeMap<String, String> =
            rendered.map(|file| (file.path.clone(), shown(file.mode, &file.owner, &file.content))).collect();
        files.extend(fetches.map(|fetch| (fetch.url.clone(), fetch.sha256.short())));
        files.extend(
            scripts
                .map(|script| (format!("script {}", script.template), Digest::of(&script.content).short())),
        );
        Self {
            packages: locked.map(|package| (package.name.clone(), package.version.clone())).collect(),
            files,
            services: set(&services(identity)),
            ports: set(&ports(identity)),
            kernel_args: set(&identity.inputs.kernel_args),
            exceptions: diff::exceptions(&exceptions(identity)),
        }
    }
}

fn between(old: &Facts, new: &Facts) -> Diff {
    Diff {
        packages: Changes::between(&old.packages, &new.packages),
        files: Changes::between(&old.files, &new.files),
        services: Changes::between(&old.services, &new.services),
        ports: Changes::between(&old.ports, &new.ports),
        kernel_args: Changes::between(&old.kernel_args, &new.kernel_args),
        exceptions: Changes::between(&old.exceptions, &new.exceptions),
        ..Diff::default()
    }
}

fn fleet(name: &str, (old, new): (&Repository, &Repository), images: &[ImageChange]) -> Option<FleetChange> {
    let has = |repository: &Repository| repository.fleet_names().any(|other| other == name);
    let made = |effect, image: &str, size: Option<u32>, because: Vec<String>| {
        Some(FleetChange {
            name: name.to_owned(),
            image: image.to_owned(),
            effect,
            because,
            size,
            rehearsal: None,
            holds: Vec::new(),
        })
    };
    if !has(new) {
        let image = old.fleet(name).map(|fleet| fleet.image.clone()).unwrap_or_default();
        let because = match new.shards(name) {
            Some(shards) => format!("{} has the shards {} now", old.place_of_fleet(name), shards.join(", ")),
            None => format!("{} is gone", old.place_of_fleet(name)),
        };
        return made(Effect::Removed, &image, None, vec![because]);
    }
    let file = new.place_of_fleet(name);
    let now = match new.fleet(name) {
        Ok(fleet) => fleet,
        Err(error) => {
            let unchanged = has(old) && old.fleet(name).is_err_and(|before| before.line() == error.line());
            return if unchanged { None } else { made(Effect::Broken, "", None, vec![error.line()]) };
        }
    };
    let size = now.local.as_ref().map(|_| now.size);
    let image = images.iter().find(|change| change.name == now.image);
    if let Some(ImageChange { new: State::Broken { .. } | State::Absent, .. }) = image {
        return made(Effect::Broken, &now.image, size, vec![format!("image {} cannot be baked", now.image)]);
    }
    if !has(old) {
        return made(Effect::New, &now.image, size, vec![format!("{file} is new")]);
    }
    // One whose file was broken was not rolled: what it launches next may be anything.
    let Ok(before) = old.fleet(name) else {
        return made(Effect::Rolls, &now.image, size, vec![format!("{file} was not valid before")]);
    };
    let mut because = Vec::new();
    if before.image != now.image {
        because.push(format!("image {} instead of {}", now.image, before.image));
    } else if image.is_some() {
        because.push(format!("image {}", now.image));
    }
    because.extend(launch(before, now, (old, new)));
    if !because.is_empty() {
        return made(Effect::Rolls, &now.image, size, because);
    }
    if before.size != now.size {
        return made(
            Effect::Resized,
            &now.image,
            size,
            vec![format!("size {} instead of {}", now.size, before.size)],
        );
    }
    if before == now { None } else { made(Effect::Settings, &now.image, size, vec![file]) }
}

/// Names what of a launch differs besides the image.
fn launch(before: &Fleet, now: &Fleet, (old, new): (&Repository, &Repository)) -> Vec<String> {
    // The same image on both sides: what remains is the configuration.
    let any = Digest::of(b"");
    let (was, is) = (Generation::of(before, any), Generation::of(now, any));
    let mut found: Vec<String> = was.drift(&is).iter().filter_map(|part| is.difference(&was, part)).collect();
    let group = |fleet: &Fleet| fleet.aws.as_ref().and_then(|aws| aws.group.clone());
    let (was, is) = (group(before), group(now));
    if was != is {
        found.push("[aws.group]".to_owned());
    } else if let Some(template) = is.and_then(|group| group.user_data)
        && old.templates().text(&template) != new.templates().text(&template)
    {
        found.push(format!("user data {template}"));
    }
    found
}

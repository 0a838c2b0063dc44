//! Which images keep their lock when others fail.
//!
//! A lock names the lock of the image it stands on by digest. So an image and what it stands on change together or not at
//! all: where one fails, those below it keep their locks too, or it would have none that fits. What else stands on those is
//! tried once more on what they were before.

use std::collections::{BTreeMap, BTreeSet};

/// Images that keep their lock, and why.
pub type Held = BTreeMap<String, String>;

/// How the images of a repository stand on each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Family {
    /// What each stands on; images on the ground are not in it.
    pub parents: BTreeMap<String, String>,
    /// Those whose lock fitted at first: they lose something when the lock below them changes.
    pub fitting: BTreeSet<String>,
}

/// Returns which images keep their lock besides those in `held`, now that some of the `changed` ones `failed`.
#[must_use]
pub fn settle(failed: &Held, changed: &BTreeSet<String>, held: &Held, family: &Family) -> Held {
    let mut more = failed.clone();
    let mut next: Vec<String> = failed.keys().chain(held.keys()).cloned().collect();
    while let Some(image) = next.pop() {
        let parent = family.parents.get(&image).filter(|_| family.fitting.contains(&image));
        let Some(parent) = parent.filter(|parent| changed.contains(*parent)) else { continue };
        if more.contains_key(parent) || held.contains_key(parent) {
            continue;
        }
        let why = format!("an update of it would change {image}, which stands on it and stays as it is");
        more.insert(parent.clone(), why);
        next.push(parent.clone());
    }
    more
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `base` ← `web` ← `shop`, `base` ← `db`, and `cache` by itself.
    fn family() -> Family {
        let parents = [("web", "base"), ("shop", "web"), ("db", "base")];
        let parents = parents.map(|(image, below)| (image.to_owned(), below.to_owned())).into();
        Family { parents, fitting: names(&["base", "web", "shop", "db", "cache"]) }
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn held(names: &[&str]) -> Held {
        names.iter().map(|&name| (name.to_owned(), "it failed".to_owned())).collect()
    }

    #[test]
    fn what_is_below_waits_for_what_failed() {
        let all = ["base", "web", "shop", "db", "cache"];
        for (failed, changed, before, expected) in [
            // Nothing failed.
            (&[][..], &all[..], &[][..], &[][..]),
            // Down to the ground, and no further to the side.
            (&["shop"], &all, &[], &["base", "shop", "web"]),
            (&["db"], &all, &[], &["base", "db"]),
            (&["cache"], &all, &[], &["cache"]),
            (&["base"], &all, &[], &["base"]),
            // What is below did not change: it has nothing to wait with.
            (&["shop"], &["shop", "web"], &[], &["shop", "web"]),
            (&["db"], &["db"], &[], &["db"]),
            // Known from before.
            (&["cache"], &["cache"], &["base", "db"], &["cache"]),
        ] {
            let found = settle(&held(failed), &names(changed), &held(before), &family());
            assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), expected, "{failed:?}");
        }
        let why = &settle(&held(&["db"]), &names(&all), &Held::new(), &family())["base"];
        assert_eq!(why, "an update of it would change db, which stands on it and stays as it is");
    }

    #[test]
    fn what_never_had_a_lock_that_fits_keeps_nobody_waiting() {
        let mut family = family();
        family.fitting.remove("db");
        let found = settle(&held(&["db"]), &names(&["base", "web", "db"]), &Held::new(), &family);
        assert_eq!(found, held(&["db"]));
    }
}

//! Whether a lock still is the one for its recipe.

use std::collections::BTreeSet;

use super::Lock;
use crate::digest::Digest;
use crate::recipe::{Recipe, Source};

/// Writes what a recipe's source is, as [`super::Asked::source`] does.
#[must_use]
pub fn asked_source(source: &Source) -> String {
    match source {
        Source::Debian(suite) => format!("debian:{suite}"),
        Source::Image(name) => format!("image:{name}"),
        Source::Disk(disk) => format!("disk:{}", disk.sha256),
        Source::Ami(ami) => format!("ami:{}", ami.id),
    }
}

/// Says what of `recipe` the lock was not made for; nothing when it fits.
///
/// `parent_lock` is the digest of the lock file of the recipe it stands on, when it stands on one.
#[must_use]
pub fn stale(recipe: &Recipe, parent_lock: Option<Digest>, lock: &Lock) -> Vec<String> {
    let mut differs = Vec::new();
    let source = asked_source(&recipe.source);
    if source != lock.asked.source {
        differs.push(format!("the source is {source}, the lock was made for {}", lock.asked.source));
    }
    for package in recipe.packages.difference(&lock.asked.packages) {
        differs.push(format!("the package {package} is in the recipe and not in the lock"));
    }
    for package in lock.asked.packages.difference(&recipe.packages) {
        differs.push(format!("the package {package} is in the lock and not in the recipe"));
    }
    if source == lock.asked.source && parent_lock != lock.asked.parent_lock {
        differs.push("the lock of the recipe it stands on has changed".to_owned());
    }
    let wanted: BTreeSet<(&str, Digest)> =
        recipe.fetches.iter().map(|fetch| (fetch.url.as_str(), fetch.sha256)).collect();
    let locked: BTreeSet<(&str, Digest)> =
        lock.fetches.iter().map(|fetch| (fetch.url.as_str(), fetch.sha256)).collect();
    for (url, sha256) in wanted.difference(&locked) {
        differs.push(format!(
            "the artifact {url} (sha256 {}…) is in the recipe and not in the lock",
            sha256.short()
        ));
    }
    for (url, sha256) in locked.difference(&wanted) {
        differs.push(format!(
            "the artifact {url} (sha256 {}…) is in the lock and not in the recipe",
            sha256.short()
        ));
    }
    differs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::{Asked, LockedFetch, VERSION};

    fn recipe(text: &str) -> Recipe {
        toml::from_str(text).expect("the test's recipe is one")
    }

    fn lock(recipe: &Recipe, parent_lock: Option<Digest>) -> Lock {
        Lock {
            version: VERSION,
            asked: Asked {
                source: asked_source(&recipe.source),
                parent_lock,
                architecture: "amd64".to_owned(),
                packages: recipe.packages.clone(),
            },
            epoch: 0,
            tools: [].into(),
            suites: Vec::new(),
            layout: None,
            packages: Vec::new(),
            fetches: recipe
                .fetches
                .iter()
                .map(|fetch| LockedFetch { url: fetch.url.clone(), sha256: fetch.sha256, size: 1 })
                .collect(),
        }
    }

    const WEB: &str = "packages = ['nginx-light']\n[source]\nimage = 'base'\n";

    #[test]
    fn what_differs() {
        let parent = Digest::of(b"parent");
        let made = lock(&recipe(WEB), Some(parent));
        let fetch = format!("[[fetch]]\nurl = 'https://x.example/a'\npath = '/opt/a'\nsha256 = '{parent}'\n");
        for (text, parent_lock, expected) in [
            (WEB.to_owned(), Some(parent), vec![]),
            (format!("description = 'x'\n{WEB}"), Some(parent), vec![]),
            (
                WEB.replace("nginx-light", "nginx"),
                Some(parent),
                vec!["package nginx is", "package nginx-light is"],
            ),
            (WEB.replace("base", "ground"), Some(parent), vec!["source is image:ground"]),
            (WEB.replace("image = 'base'", "debian = 'bookworm'"), None, vec!["source is debian:bookworm"]),
            (WEB.to_owned(), Some(Digest::of(b"other")), vec!["stands on has changed"]),
            (WEB.to_owned(), None, vec!["stands on has changed"]),
            (format!("{WEB}{fetch}"), Some(parent), vec!["artifact https://x.example/a"]),
        ] {
            let found = stale(&recipe(&text), parent_lock, &made);
            assert_eq!(found.len(), expected.len(), "{text}: {found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.contains(expected), "{found}");
            }
        }
        let with_fetch = recipe(&format!("{WEB}{fetch}"));
        assert_eq!(stale(&with_fetch, Some(parent), &lock(&with_fetch, Some(parent))), Vec::<String>::new());
        assert_eq!(stale(&recipe(WEB), Some(parent), &lock(&with_fetch, Some(parent))).len(), 1);
    }
}

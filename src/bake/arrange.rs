//! Decide: where each file of a layer lies, so that an image's next one differs from it in few places.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::relocate::Extent;
use crate::lock::places::{self, OTHERS, Places};

/// Where everything lies, in blocks of 4096 bytes from the start of the layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arranged {
    /// The first block of each file, in the order in which the files were given.
    pub first: Vec<u64>,
    /// The first block after everything.
    pub end: u64,
    /// The places of packages, where there are such.
    pub places: Option<Places>,
}

/// Arranges the files of packages behind so many blocks of metadata: package by package, in each by path. `owners` says
/// which package a file belongs to, by path without the leading slash, and `basis` where packages lay before.
#[must_use]
pub fn packages(
    metadata: u64,
    extents: &[Extent],
    owners: &BTreeMap<String, String>,
    basis: Option<&Places>,
) -> Arranged {
    let owner = |extent: &Extent| owners.get(&extent.path).map_or(OTHERS, String::as_str);
    let mut needs: BTreeMap<String, u64> = BTreeMap::new();
    for extent in extents {
        *needs.entry(owner(extent).to_owned()).or_default() += extent.blocks;
    }
    let places = Places::settle(basis, metadata, &needs);
    let mut next: BTreeMap<&str, u64> =
        places.places.iter().map(|(name, place)| (name.as_str(), place.at)).collect();
    let mut first = Vec::with_capacity(extents.len());
    for extent in extents {
        // Everything that needs room has a place.
        let at = next.entry(owner(extent)).or_default();
        first.push(*at);
        *at += extent.blocks;
    }
    Arranged { first, end: places.end(), places: Some(places) }
}

/// Arranges a recipe's own files behind so many blocks of metadata, the largest first: artifacts are large and seldom
/// change, configuration is small and often does.
#[must_use]
pub fn files(metadata: u64, extents: &[Extent]) -> Arranged {
    let mut order: Vec<usize> = (0..extents.len()).collect();
    order.sort_by_key(|index| (Reverse(extents[*index].blocks), *index));
    let mut first = vec![0; extents.len()];
    let mut end = places::start(metadata);
    for index in order {
        first[index] = end;
        end += extents[index].blocks;
    }
    Arranged { first, end, places: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extents(all: &[(&str, u64)]) -> Vec<Extent> {
        all.iter().map(|(path, blocks)| Extent::test(path, *blocks)).collect()
    }

    #[test]
    fn files_lie_by_package_and_then_by_path() {
        let owners = [("usr/a", "late"), ("usr/b", "early"), ("usr/c", "late")];
        let owners = owners.map(|(path, package)| (path.to_owned(), package.to_owned())).into();
        let all = extents(&[("etc/made", 2), ("usr/a", 3), ("usr/b", 1), ("usr/c", 5)]);
        let arranged = packages(4, &all, &owners, None);
        let places = arranged.places.expect("places");
        let at = |name: &str| places.places[name].at;
        assert_eq!((places.start, at(OTHERS), at("early"), at("late")), (5, 5, 8, 10));
        assert_eq!(arranged.first, [5, 10, 8, 13]);
        assert_eq!(arranged.end, 19);
    }

    #[test]
    fn a_small_file_that_grows_moves_no_large_one() {
        let before = files(3, &extents(&[("etc/a", 1), ("etc/b", 1), ("opt/app", 900)]));
        let after = files(3, &extents(&[("etc/a", 2), ("etc/b", 1), ("opt/app", 900)]));
        assert_eq!((before.first, before.end), (vec![904, 905, 4], 906));
        assert_eq!((after.first, after.end), (vec![904, 906, 4], 907));
    }
}

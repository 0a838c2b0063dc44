//! Decide: in which order fleets are rolled.

use std::collections::{BTreeMap, BTreeSet};

/// What each fleet is rolled after, by name.
pub type After<'a> = BTreeMap<&'a str, Vec<&'a str>>;

/// Returns the fleets in waves: those of one are rolled at the same time, and each after all of those that it is rolled
/// after, also by way of fleets that are not rolled. Names that are none are passed over, and a circle ends where it began.
#[must_use]
pub fn waves<'a>(fleets: &BTreeSet<&'a str>, after: &After<'a>) -> Vec<Vec<&'a str>> {
    let mut depths = BTreeMap::new();
    for fleet in fleets {
        depth(fleet, fleets, after, &mut depths, &mut BTreeSet::new());
    }
    let mut waves: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for &fleet in fleets {
        waves.entry(depths.get(fleet).copied().unwrap_or(0)).or_default().push(fleet);
    }
    waves.into_values().collect()
}

/// How many fleets that are rolled come before one, one after the other.
fn depth<'a>(
    fleet: &'a str,
    fleets: &BTreeSet<&'a str>,
    after: &After<'a>,
    known: &mut BTreeMap<&'a str, usize>,
    way: &mut BTreeSet<&'a str>,
) -> usize {
    if let Some(depth) = known.get(fleet) {
        return *depth;
    }
    if !way.insert(fleet) {
        return 0;
    }
    let mut found = 0;
    for before in after.get(fleet).into_iter().flatten() {
        let rolled = usize::from(fleets.contains(before));
        found = found.max(depth(before, fleets, after, known, way) + rolled);
    }
    way.remove(fleet);
    known.insert(fleet, found);
    found
}

/// Returns the way by which a fleet is rolled after itself, if it is: `a → b → a`.
#[must_use]
pub fn circle(fleet: &str, after: &After<'_>) -> Option<String> {
    let mut seen = BTreeSet::new();
    let mut ways = vec![vec![fleet]];
    while let Some(way) = ways.pop() {
        let last = way.last().copied().unwrap_or(fleet);
        for before in after.get(last).into_iter().flatten() {
            if *before == fleet {
                return Some([&way[..], &[fleet]].concat().join(" → "));
            }
            if seen.insert(*before) {
                ways.push([&way[..], &[*before]].concat());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(waves: &[(&str, &[&str])], rolled: &[&str]) -> Vec<Vec<String>> {
        let after: After<'_> = waves.iter().map(|(name, after)| (*name, after.to_vec())).collect();
        let found = super::waves(&rolled.iter().copied().collect(), &after);
        found.iter().map(|wave| wave.iter().map(|&name| name.to_owned()).collect()).collect()
    }

    #[test]
    fn each_comes_after_what_it_is_rolled_after() {
        let graph: &[(&str, &[&str])] =
            &[("web", &["api", "cache"]), ("api", &["db"]), ("cache", &[]), ("db", &[]), ("edge", &["web"])];
        assert_eq!(
            of(graph, &["web", "api", "cache", "db", "edge"]),
            [vec!["cache", "db"], vec!["api"], vec!["web"], vec!["edge"]]
        );
        // By way of one that is not rolled.
        assert_eq!(of(graph, &["db", "edge"]), [["db"], ["edge"]]);
        assert_eq!(of(graph, &["edge", "cache"]), [["cache"], ["edge"]]);
        assert_eq!(of(graph, &[]), Vec::<Vec<String>>::new());
        // Names that are none, and a circle that a check would have refused.
        assert_eq!(of(&[("a", &["nobody"])], &["a", "b"]), [["a", "b"]]);
        assert_eq!(of(&[("a", &["b"]), ("b", &["a"])], &["a", "b"]).concat().len(), 2);
    }

    #[test]
    fn a_circle_is_named() {
        let after: After<'_> = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]
            .into_iter()
            .map(|(name, before)| (name, vec![before]))
            .collect();
        assert_eq!(circle("a", &after).as_deref(), Some("a → b → c → a"));
        assert_eq!(circle("d", &after), None, "it stands beside the circle");
    }
}

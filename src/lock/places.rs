//! Decide: where the files of each package lie in a layer of packages, so that what does not change keeps its place.
//!
//! AWS compares snapshots block by block at the same place. Where packages lie one after the other, a new one moves all
//! that come after it, and nearly everything is sent again. So a lock can say where each package lay in the image
//! before: those that still fit stay there, the others go into gaps or to the end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The files of a layer that no package's list names: what maintainer scripts made. No package can have that name.
pub const OTHERS: &str = "-";

/// A package gets a thirty-second more than it needs: an update of Debian's stable release rarely grows by more, and so
/// many zeros more are no cost that could be seen in an upload.
const SPARE: u64 = 32;

/// The inodes and names of a layer get a quarter more than they need: when they outgrow it, what lies behind moves.
const METADATA_SPARE: u64 = 4;

/// When less than half of a layer is used, a lock's places are left behind and everything is packed anew, once.
const WASTE: u64 = 2;

/// A range of a layer, in blocks of 4096 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u64; 2]", into = "[u64; 2]")]
pub struct Place {
    /// Its first block, from the start of the layer.
    pub at: u64,
    /// How many blocks it has.
    pub room: u64,
}

impl From<[u64; 2]> for Place {
    fn from([at, room]: [u64; 2]) -> Self {
        Self { at, room }
    }
}

impl From<Place> for [u64; 2] {
    fn from(place: Place) -> Self {
        [place.at, place.room]
    }
}

impl Place {
    const fn end(self) -> u64 {
        self.at.saturating_add(self.room)
    }
}

/// Where everything lies in one layer of packages. Places do not overlap, and none begins before `start`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Places {
    /// How many blocks the inodes and names have at the layer's start.
    pub start: u64,
    /// The files of each package by its name, and those of none by [`OTHERS`].
    pub places: BTreeMap<String, Place>,
}

/// Returns the first block for data behind so many blocks of metadata: a few names more move nothing.
#[must_use]
pub const fn start(metadata: u64) -> u64 {
    metadata + metadata.div_ceil(METADATA_SPARE)
}

impl Places {
    /// Decides where everything lies that needs so many blocks; nothing needs 0. The same arguments give the same places.
    ///
    /// Who fits where `basis` says stays there. The others get the first gap that is large enough, in the order of their
    /// names, or else the end.
    #[must_use]
    pub fn settle(basis: Option<&Self>, metadata: u64, needs: &BTreeMap<String, u64>) -> Self {
        let based = basis.map(|basis| basis.kept(metadata, needs).fill(needs));
        let used = needs.values().sum::<u64>().saturating_add(metadata);
        let sparse = |places: &Self| places.end() > used.saturating_mul(WASTE);
        based
            .filter(|places| !sparse(places))
            .unwrap_or_else(|| Self { start: start(metadata), places: BTreeMap::new() }.fill(needs))
    }

    /// Returns the first block after all of it.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.places.values().map(|place| place.end()).max().unwrap_or(0).max(self.start)
    }

    /// Keeps what still fits. A lock may have been edited: of places that overlap, the first stays.
    fn kept(&self, metadata: u64, needs: &BTreeMap<String, u64>) -> Self {
        let start = if metadata > self.start { start(metadata) } else { self.start };
        let mut fitting: Vec<_> = self
            .places
            .iter()
            .filter(|(name, place)| needs.get(*name).is_some_and(|need| *need <= place.room))
            .collect();
        fitting.sort_by_key(|(name, place)| (place.at, *name));
        let (mut places, mut free) = (BTreeMap::new(), start);
        for (name, place) in fitting {
            if place.at >= free {
                places.insert(name.clone(), *place);
                free = place.end();
            }
        }
        Self { start, places }
    }

    /// Finds places for those that have none.
    fn fill(mut self, needs: &BTreeMap<String, u64>) -> Self {
        let mut gaps = self.gaps();
        let mut end = self.end();
        for (name, need) in needs {
            if self.places.contains_key(name) {
                continue;
            }
            let wanted = need + need.div_ceil(SPARE);
            let place = if let Some(gap) = gaps.iter_mut().find(|gap| gap.room >= *need) {
                let place = Place { at: gap.at, room: wanted.min(gap.room) };
                (gap.at, gap.room) = (place.end(), gap.room - place.room);
                place
            } else {
                let place = Place { at: end, room: wanted };
                end = place.end();
                place
            };
            self.places.insert(name.clone(), place);
        }
        self
    }

    /// Returns what is free between places, in order.
    fn gaps(&self) -> Vec<Place> {
        let mut taken: Vec<Place> = self.places.values().copied().collect();
        taken.sort_by_key(|place| place.at);
        let mut free = self.start;
        let mut gaps = Vec::new();
        for place in taken {
            if place.at > free {
                gaps.push(Place { at: free, room: place.at - free });
            }
            free = place.end();
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn needs(all: &[(&str, u64)]) -> BTreeMap<String, u64> {
        all.iter().map(|(name, need)| ((*name).to_owned(), *need)).collect()
    }

    fn of(places: &Places, name: &str) -> (u64, u64) {
        (places.places[name].at, places.places[name].room)
    }

    #[test]
    fn what_fits_stays_and_the_rest_goes_where_there_is_room() {
        let before = Places::settle(None, 8, &needs(&[("a", 32), ("c", 64), ("e", 320)]));
        assert_eq!(before.start, 10);
        assert_eq!([of(&before, "a"), of(&before, "c"), of(&before, "e")], [(10, 33), (43, 66), (109, 330)]);
        // A new one in the middle goes to the end.
        let after = Places::settle(Some(&before), 9, &needs(&[("a", 33), ("b", 10), ("c", 64), ("e", 320)]));
        assert_eq!([of(&after, "a"), of(&after, "c"), of(&after, "e")], [(10, 33), (43, 66), (109, 330)]);
        assert_eq!(of(&after, "b"), (439, 11));
        // One that outgrows its room goes to the end; a new one fits into its gap, and the next one behind that.
        let later = Places::settle(
            Some(&before),
            9,
            &needs(&[("a", 32), ("b", 10), ("c", 67), ("d", 55), ("e", 320)]),
        );
        assert_eq!([of(&later, "a"), of(&later, "e")], [(10, 33), (109, 330)]);
        assert_eq!([of(&later, "b"), of(&later, "d"), of(&later, "c")], [(43, 11), (54, 55), (439, 70)]);
    }

    #[test]
    fn names_that_outgrow_their_room_move_only_what_is_in_the_way() {
        let before = Places::settle(None, 8, &needs(&[("a", 32), ("c", 64)]));
        let after = Places::settle(Some(&before), 11, &needs(&[("a", 32), ("c", 64)]));
        assert_eq!((after.start, of(&after, "c")), (14, (43, 66)));
        assert_eq!(
            of(&after, "a"),
            (109, 33),
            "its place began in what the names need now, and no gap is left"
        );
    }

    #[test]
    fn a_layer_that_is_mostly_gaps_is_packed_anew() {
        let before = Places::settle(None, 4, &needs(&[("a", 300), ("b", 32), ("c", 32)]));
        let few = needs(&[("b", 32), ("c", 32)]);
        assert_eq!(Places::settle(Some(&before), 4, &few), Places::settle(None, 4, &few));
        let far =
            Places { start: 5, places: [("b".to_owned(), Place { at: u64::MAX - 3, room: 40 })].into() };
        assert_eq!(Places::settle(Some(&far), 4, &few), Places::settle(None, 4, &few));
    }

    proptest! {
        /// Whatever a lock says, even one that someone edited: everything has room, and nothing overlaps.
        #[test]
        fn nothing_overlaps_and_everything_fits(
            start in 0_u64..50,
            metadata in 1_u64..60,
            basis in proptest::collection::btree_map("[a-h]", (0_u64..400, 0_u64..90), 0..8),
            needs in proptest::collection::btree_map("[a-h]", 1_u64..80, 0..8),
        ) {
            let places = basis.into_iter().map(|(name, (at, room))| (name, Place { at, room })).collect();
            let settled = Places::settle(Some(&Places { start, places }), metadata, &needs);
            prop_assert!(settled.start >= metadata);
            let mut all: Vec<_> = settled.places.iter().collect();
            all.sort_by_key(|(_, place)| place.at);
            let mut free = settled.start;
            for (name, place) in all {
                prop_assert!(place.at >= free, "{name} overlaps");
                prop_assert!(place.room >= needs[name]);
                free = place.at + place.room;
            }
            prop_assert_eq!(settled.places.keys().collect::<Vec<_>>(), needs.keys().collect::<Vec<_>>());
            // Settled once, it stays: the same needs on its own basis move nothing.
            if settled.end() <= WASTE * (needs.values().sum::<u64>() + metadata) {
                prop_assert_eq!(Places::settle(Some(&settled), metadata, &needs), settled);
            }
        }
    }
}

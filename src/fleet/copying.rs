//! Decide: how long it takes until a new member has all data, from how long it took so far. What takes longer than the fleet
//! file allows is too big to fail: it cannot be replaced in a night that goes wrong.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::census::InstanceId;
use super::experience::seconds;
use super::history::Event;
use super::journal::Entry;
use super::moment::lasting;
use crate::provider::Action;

/// So many of the last copies count: the slowest of a few weeks of nightly images, and not of a disk that was changed since.
const LAST: usize = 20;

/// How long a new member takes, from its launch until it serves: a little more than the copy itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Copying {
    /// The slowest, as of how much there is to copy now.
    #[serde(serialize_with = "seconds")]
    pub takes: SignedDuration,
    /// From how many.
    pub measured: usize,
    /// How many bytes there are to copy, where that is known.
    pub data: Option<u64>,
    /// How long it may take.
    #[serde(serialize_with = "seconds")]
    pub allowed: SignedDuration,
}

/// Measures it by a fleet's journal, for as much data as there is now; `None` where nobody has joined yet.
#[must_use]
pub fn copying(entries: &[Entry], now: Option<u64>, allowed: SignedDuration) -> Option<Copying> {
    let mut launched: BTreeMap<&InstanceId, Timestamp> = BTreeMap::new();
    let mut joined: VecDeque<(SignedDuration, Option<u64>)> = VecDeque::new();
    let mut data = None;
    for entry in entries {
        match &entry.event {
            Event::Seen { cluster: Some(cluster), .. } => data = cluster.data.or(data),
            // Who founds copies nothing.
            Event::Intent { action: Action::Launch { id, founds: false, .. } } => {
                launched.insert(id, entry.at);
            }
            Event::Serving { instance } => {
                let Some(since) = launched.remove(instance) else { continue };
                joined.push_back((entry.at.duration_since(since), data));
                if joined.len() > LAST {
                    joined.pop_front();
                }
            }
            Event::Down => (launched, data) = (BTreeMap::new(), None),
            _ => {}
        }
    }
    let now = now.or(data);
    let takes = joined.iter().map(|(took, then)| scaled(*took, *then, now)).max()?;
    Some(Copying { takes, measured: joined.len(), data: now, allowed })
}

/// More data takes longer in proportion; less is not trusted to be faster.
fn scaled(took: SignedDuration, then: Option<u64>, now: Option<u64>) -> SignedDuration {
    let (Some(then), Some(now)) = (then.filter(|then| *then > 0), now) else { return took };
    let factor = u128::from(now.max(then));
    let millis = u128::try_from(took.as_millis().max(0)).unwrap_or(0);
    let scaled = millis.saturating_mul(factor) / u128::from(then);
    SignedDuration::from_millis(i64::try_from(scaled).unwrap_or(i64::MAX))
}

impl Copying {
    /// Tells whether a member that is lost could not be replaced in time.
    #[must_use]
    pub fn too_big_to_fail(&self) -> bool {
        self.takes > self.allowed
    }
}

impl fmt::Display for Copying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = match self.data {
            Some(bytes) => format!(" with {}", indicatif::BinaryBytes(bytes)),
            None => String::new(),
        };
        let Self { takes, measured, allowed, .. } = self;
        let (takes, allowed) = (lasting(*takes), lasting(*allowed));
        if self.too_big_to_fail() {
            return write!(
                f,
                "too big to fail: a new member{of} takes {takes} until it has all data, and `stateful.max_copy` allows \
                 {allowed}: split it into shards, or give it faster disks and network"
            );
        }
        let measured =
            if *measured == 1 { "of 1 that joined".to_owned() } else { format!("the slowest of {measured}") };
        write!(f, "a new member{of} has all data within {takes}, {measured}; {allowed} are allowed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::fleet::cluster::Cluster;
    use crate::fleet::generation::Generation;
    use crate::fleet::journal::Writer;
    use crate::fleet::surroundings::Outlook;

    fn journal(events: Vec<(i64, Event)>) -> Vec<Entry> {
        let entry = |((at, event), number)| Entry {
            version: 1,
            number,
            at: Timestamp::new(at, 0).expect("a time"),
            by: Writer::this("a test"),
            previous: Digest::of(b""),
            event,
        };
        events.into_iter().zip(1..).map(entry).collect()
    }

    fn launch(number: u64, founds: bool) -> Event {
        let generation = Generation { id: Digest::of(b"one"), parts: std::sync::Arc::default() };
        let id = InstanceId::new("db", number);
        Event::Intent { action: Action::Launch { id, generation, zone: None, founds } }
    }

    fn serving(number: u64) -> Event {
        Event::Serving { instance: InstanceId::new("db", number) }
    }

    fn seen(data: u64) -> Event {
        let cluster = Some(Cluster { data: Some(data), ..Cluster::default() });
        Event::Seen {
            changed: Vec::new(),
            gone: Vec::new(),
            outlook: Outlook::default(),
            group: None,
            cluster,
        }
    }

    const HALF_AN_HOUR: SignedDuration = SignedDuration::from_mins(30);

    #[test]
    fn the_slowest_that_joined_counts_in_proportion_to_the_data() {
        let events = vec![
            (0, launch(1, true)),
            (900, serving(1)),
            (1000, seen(1 << 30)),
            (1000, launch(2, false)),
            (1060, serving(2)),
            (1070, launch(3, false)),
            (1160, serving(3)),
            (1200, launch(4, false)),
        ];
        let entries = journal(events);
        let takes = |now| copying(&entries, now, HALF_AN_HOUR).map(|found| found.takes.as_secs());
        assert_eq!(takes(None), Some(90));
        assert_eq!(takes(Some(1 << 30)), Some(90));
        assert_eq!(takes(Some(10 << 30)), Some(900));
        assert_eq!(takes(Some(1 << 20)), Some(90));
        let small = copying(&entries, Some(1 << 30), HALF_AN_HOUR).expect("measured").to_string();
        assert_eq!(
            small,
            "a new member with 1.00 GiB has all data within 1 min 30 s, the slowest of 2; 30 min are allowed"
        );
        let big = copying(&entries, Some(21 << 30), HALF_AN_HOUR).expect("measured");
        assert!(
            big.too_big_to_fail()
                && big.to_string().starts_with("too big to fail: a new member with 21.00 GiB")
        );
        assert_eq!(copying(&entries[..2], None, HALF_AN_HOUR), None);
    }
}

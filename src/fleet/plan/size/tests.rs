//! Tables: one size that is seen a row, and what is remembered of it.

use std::collections::BTreeMap;

use super::*;
use crate::digest::Digest;
use crate::fleet::Fleet;
use crate::fleet::census::{Census, Group, Health, Instance};
use crate::fleet::generation::{Generation, Target};
use crate::fleet::history::History;
use crate::fleet::policy::Policy;
use crate::fleet::surroundings::Outlook;

const NOW: Timestamp = Timestamp::constant(10_000, 0);

/// Whatever of a group's size is known and seen. Of its instances only those are there that a row names.
struct Row {
    desired: u32,
    added: i64,
    known: Option<u32>,
    /// Another size that was seen before, and how many seconds ago.
    other: Option<(u32, i64)>,
    /// An instance: how its launch and its end are known, and whether it is seen.
    instance: Option<(Launch, Option<i64>, Option<State>)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Launch {
    Heard,
    Unheard,
    Strange,
}

const PLAIN: Row = Row { desired: 3, added: 0, known: Some(3), other: None, instance: None };

fn file() -> Fleet {
    toml::from_str(
        "image = 'web'\nsize = 3\n[local]\nlisten = '127.0.0.1:1'\nport = 80\n\
         [health]\nhttp = { port = 80, path = '/' }\n",
    )
    .expect("a fleet")
}

/// Plans with what a row says.
fn told<T>(row: &Row, tell: impl FnOnce(&Situation<'_>) -> T) -> T {
    let (fleet, id) = (file(), InstanceId::new("web", 1));
    let ago = |seconds| NOW - SignedDuration::from_secs(seconds);
    let target = Target::new(&fleet, Digest::of(b"new"));
    let mut census = Census::empty(NOW);
    census.group = Some(Group { desired: row.desired, zones: Vec::new() });
    let mut history = History {
        added: row.added,
        size: row.known,
        launches: u64::from(row.instance.is_some()),
        other_size: row.other.map(|(size, seconds)| (size, ago(seconds))),
        ..History::default()
    };
    if let Some((launch, ending, seen)) = row.instance {
        let generation = Generation::of(&fleet, Digest::of(b"new"));
        history.members = BTreeMap::from([(
            id.clone(),
            Member {
                launched: launch != Launch::Unheard,
                unheard: u32::from(launch == Launch::Unheard),
                enlarged: launch == Launch::Heard,
                generation: (launch != Launch::Strange).then_some(generation.id),
                ending: ending.map(ago),
                ..Member::default()
            },
        )]);
        census.instances.extend(seen.map(|state| Instance {
            id,
            image: generation.image(),
            generation: Some(generation),
            state,
            health: Health::Unhealthy,
            in_service: false,
            launched_at: ago(30),
            touched: None,
            connections: 0,
            address: None,
            zone: None,
            known_as: None,
            membership: None,
        }));
    }
    let policy = Policy::sized(&fleet, row.known.unwrap_or(3), Vec::new()).expect("a policy");
    tell(&Situation {
        policy: &policy,
        fleet: "web",
        target: &target,
        census: &census,
        history: &history,
        outlook: &Outlook::default(),
        now: NOW,
    })
}

#[expect(clippy::unnecessary_wraps, reason = "a column of the tables")]
fn sized(size: u32) -> Option<Event> {
    Some(Event::Sized { size, lost: 0 })
}

#[expect(clippy::unnecessary_wraps, reason = "a column of the tables")]
const fn differs(size: u32) -> Option<Event> {
    Some(Event::SizeDiffers { size })
}

#[expect(clippy::unnecessary_wraps, reason = "a column of the tables")]
fn spared() -> Option<Event> {
    Some(Event::Spared { instance: InstanceId::new("web", 1) })
}

#[test]
fn another_size_counts_when_it_lasts() {
    let table = [
        ("the first look", Row { known: None, ..PLAIN }, sized(3)),
        ("nothing new", PLAIN, None),
        ("what rekiln added is no news", Row { desired: 4, added: 1, ..PLAIN }, None),
        ("a larger one", Row { desired: 5, ..PLAIN }, differs(5)),
        ("not long enough", Row { desired: 5, other: Some((5, 9)), ..PLAIN }, None),
        ("long enough", Row { desired: 5, other: Some((5, 10)), ..PLAIN }, sized(5)),
        ("yet another one", Row { desired: 6, other: Some((5, 60)), ..PLAIN }, differs(6)),
        ("the old one again", Row { other: Some((5, 60)), ..PLAIN }, sized(3)),
        ("a clock that went back", Row { desired: 5, other: Some((5, -60)), ..PLAIN }, differs(5)),
        ("smaller, and one added", Row { desired: 2, added: 1, ..PLAIN }, differs(1)),
        (
            "all gone, what was added too",
            Row { desired: 0, added: 1, other: Some((0, 10)), ..PLAIN },
            Some(Event::Sized { size: 0, lost: 1 }),
        ),
        (
            "none before, and what was added is gone now",
            Row { desired: 0, added: 1, known: Some(0), other: Some((0, 10)), ..PLAIN },
            Some(Event::Sized { size: 0, lost: 1 }),
        ),
    ];
    for (why, row, wanted) in table {
        assert_eq!(told(&row, note), wanted, "{why}");
    }
}

#[test]
fn an_act_without_an_answer_explains_one_more_or_less() {
    use Launch::{Heard, Strange, Unheard};
    let with = |desired, instance| Row { desired, instance: Some(instance), ..PLAIN };
    let lasting = |desired, instance| Row { other: Some((desired, 60)), ..with(desired, instance) };
    let alive = Some(State::Launching);
    let table = [
        ("it may be launched", with(4, (Unheard, None, None)), None),
        ("or not", with(3, (Unheard, None, None)), None),
        ("two more are its owner's", with(5, (Unheard, None, None)), differs(5)),
        ("and count when it is known which", lasting(5, (Unheard, None, None)), None),
        ("it is seen, and so it was launched", with(4, (Unheard, None, alive)), None),
        ("one more than that", with(5, (Unheard, None, alive)), differs(4)),
        ("seen dead, it was launched too", with(4, (Unheard, None, Some(State::Dead))), None),
        ("it may be ended", with(2, (Strange, Some(1), None)), None),
        ("or not yet", with(3, (Strange, Some(1), None)), None),
        ("two less are its owner's", with(1, (Strange, Some(1), None)), differs(1)),
        ("and count when it is known which", lasting(1, (Strange, Some(60), None)), None),
        ("a list may show it for a while", with(2, (Strange, Some(9), alive)), None),
        ("it lives on, and was not ended", with(2, (Strange, Some(10), alive)), spared()),
        ("whatever the size", lasting(2, (Strange, Some(10), alive)), spared()),
        ("nor while its launch is in doubt", with(4, (Unheard, Some(10), alive)), spared()),
        (
            "a launch nobody heard of, and its end: both or none",
            with(2, (Unheard, Some(1), None)),
            differs(2),
        ),
        ("one that is known is in the size", with(2, (Heard, None, None)), differs(2)),
    ];
    for (why, row, wanted) in table {
        assert_eq!(told(&row, note), wanted, "{why}");
    }
}

#[test]
fn while_another_size_is_seen_only_what_was_begun_is_settled() {
    // Three are missing of three: without a doubt about the size they would be launched.
    let launches = |row: &Row| {
        told(row, |situation| {
            let plan = super::super::plan(situation);
            let acts: Vec<_> = plan.actions.iter().map(|action| action.id().0.clone()).collect();
            (acts.join(" "), plan.holds.iter().any(|hold| matches!(hold, Hold::Resizing { .. })))
        })
    };
    let unheard = Some((Launch::Unheard, None, None));
    let table = [
        (PLAIN, "web-1 web-2 web-3", false),
        (Row { desired: 5, other: Some((5, 1)), ..PLAIN }, "", true),
        (Row { desired: 5, other: Some((5, 60)), instance: unheard, ..PLAIN }, "web-1", true),
        (Row { desired: 4, instance: unheard, ..PLAIN }, "web-1 web-2 web-3", false),
        // One fewer: by an end that was begun, or by the owner's word. Until that is known nothing takes its place.
        (
            Row { desired: 2, instance: Some((Launch::Heard, Some(1), Some(State::Running))), ..PLAIN },
            "",
            true,
        ),
    ];
    for (row, wanted, waits) in table {
        assert_eq!(launches(&row), (wanted.to_owned(), waits), "{}", row.desired);
    }
}

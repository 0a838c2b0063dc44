use super::*;
use crate::digest::Digest;
use crate::fleet::generation::Generation;

fn at(second: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
}

fn id(number: u64) -> InstanceId {
    InstanceId::new("web", number)
}

fn launch(number: u64) -> Event {
    let generation = Generation { id: Digest::of(b"one"), parts: BTreeMap::new().into() };
    Event::Intent { action: Action::Launch { id: id(number), generation, zone: None, founds: false } }
}

fn serving(number: u64) -> Event {
    Event::Serving { instance: id(number) }
}

fn drain(number: u64) -> Action {
    Action::Drain { id: id(number), others: 0 }
}

fn drained(number: u64) -> Event {
    Event::Intent { action: drain(number) }
}

fn ended(number: u64, healthy: bool) -> Event {
    let action = Action::Terminate { id: id(number), healthy, reason: "drained".to_owned() };
    Event::Outcome { action, result: Ok(Outcome::Applied) }
}

fn fold(events: &[(i64, Event)]) -> (Experience, Vec<Step>) {
    let mut experience = Experience::default();
    let steps = events.iter().filter_map(|(second, event)| experience.add(at(*second), event)).collect();
    (experience, steps)
}

#[test]
fn a_step_lasts_from_its_intent_to_what_ends_it() {
    let seconds = SignedDuration::from_secs;
    let (experience, steps) = fold(&[
        (0, launch(1)),
        (1, launch(2)),
        (21, serving(1)),
        (41, serving(2)),
        (50, drained(1)),
        (56, ended(1, true)),
    ]);
    assert_eq!(steps, [Step::Start(seconds(21)), Step::Start(seconds(40)), Step::Drain(seconds(6))]);
    let spell = |count, median, worst| Some(Spell { count, median: seconds(median), worst: seconds(worst) });
    assert_eq!(experience.start(), spell(2, 21, 40));
    assert_eq!(experience.drain(), spell(1, 6, 6));
    let json = serde_json::to_value(experience.start()).expect("JSON");
    assert_eq!(json, serde_json::json!({ "count": 2, "median": 21.0, "worst": 40.0 }));
}

#[test]
fn what_did_not_go_well_says_nothing() {
    let refused = Event::Outcome { action: drain(3), result: Ok(Outcome::refused("too few serve")) };
    let (reason, console) = ("slow".to_owned(), Vec::new());
    let failed = Event::Failed { instance: id(1), reason, console, counts: true };
    let (experience, steps) = fold(&[
        // It failed, and served all the same.
        (0, launch(1)),
        (60, failed),
        (61, serving(1)),
        // The clock went back.
        (100, launch(2)),
        (90, serving(2)),
        // Its drain was refused, and later it was ended for another reason.
        (200, drained(3)),
        (200, refused),
        (300, ended(3, true)),
        // It died while it drained.
        (400, drained(4)),
        (410, ended(4, false)),
        // Nobody launched it, as far as this journal goes.
        (500, serving(5)),
    ]);
    assert_eq!(steps, []);
    assert_eq!((experience.start(), experience.drain()), (None, None));
}

#[test]
fn a_launch_begun_again_counts_from_then_and_the_oldest_are_forgotten() {
    let mut events = vec![(0, launch(1)), (1000, launch(1)), (1030, serving(1))];
    let worst = |events: &[(i64, Event)]| fold(events).0.start().map(|spell| spell.worst.as_secs());
    assert_eq!(worst(&events), Some(30));
    for number in 2..=101 {
        events.extend([(2000, launch(number)), (2010, serving(number))]);
    }
    assert_eq!(worst(&events), Some(10));
    assert_eq!(fold(&events).0.start().map(|spell| spell.count), Some(100));
}

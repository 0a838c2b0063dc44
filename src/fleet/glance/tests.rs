use jiff::SignedDuration;

use super::*;
use crate::digest::Digest;
use crate::fleet::census::InstanceId;

const NOW: Timestamp = Timestamp::constant(1_764_079_000, 0);

fn glance() -> Glance {
    Glance {
        fleet: "web".to_owned(),
        target: Digest::of(b"new"),
        back: false,
        emergency: false,
        size: 40,
        states: States { current: 10, starting: 3, draining: 1, stale: 27, ..States::default() },
        wave: Some(2),
        waves: 3,
        holds: vec![Hold::Starting { id: InstanceId::new("web", 51) }],
        begun: NOW - SignedDuration::from_secs(252),
        now: NOW,
        expected: Expected::At { at: NOW + SignedDuration::from_mins(12), seconds: 720, launches: 34 },
    }
}

#[test]
fn a_rollout_is_a_few_lines() {
    let image = Digest::of(b"new").short();
    let bar = "█".repeat(10) + &"▒".repeat(3) + &"░".repeat(27);
    assert_eq!(
        glance().lines(100, false),
        [
            format!("fleet web rolls to {image}, wave 2 of 3"),
            format!("  {bar}  10 of 40 current"),
            "  3 starting, 1 draining, 27 stale".to_owned(),
            "  waiting: web-51 does not serve yet".to_owned(),
            "  4 min 12 s so far; expected end 14:08 UTC, in about 12 min, from 34 launches of this fleet"
                .to_owned(),
        ]
    );
    let done = States { current: 40, ..States::default() };
    let last =
        Glance { states: done, holds: Vec::new(), wave: None, expected: Expected::NoRecord, ..glance() };
    let lines = last.lines(100, false);
    assert_eq!(lines[0], format!("fleet web rolls to {image}"));
    assert_eq!(lines[1], format!("  {}  40 of 40 current", "█".repeat(40)));
    assert_eq!(
        lines[2..],
        ["  working", "  4 min 12 s so far; expected end not known: no launch of this fleet is on record"],
        "what is nothing is not said"
    );
    let back = Glance { back: true, emergency: true, ..glance() };
    assert!(back.lines(80, false)[0].starts_with("fleet web goes back to "));
    let emergency = Glance { emergency: true, ..glance() };
    assert!(emergency.lines(80, false)[0].starts_with("fleet web emergency roll to "));
}

#[test]
fn no_line_is_wider_than_the_terminal_whatever_that_is() {
    let long = Hold::Paused { reason: "a\nreason ".repeat(40) };
    let glance = Glance { holds: vec![long], ..glance() };
    for width in 0..130 {
        for line in glance.lines(width, false) {
            assert!(line.chars().count() <= width, "{width}: {line:?}");
            assert!(!line.contains('\n'), "a reason must not add lines: {line:?}");
        }
    }
    assert_eq!(glance.lines(24, false)[1], "  10 of 40 current", "no bar where there is no room");
    assert_eq!(glance.lines(32, false)[1], "  ███░░░░░░░░░  10 of 40 current");
}

#[test]
fn only_the_bar_has_colour_and_a_bar_is_whole_only_when_the_fleet_is() {
    let plain = glance().lines(80, false);
    let bright = glance().lines(80, true);
    assert!(plain.iter().all(|line| !line.contains('\x1b')));
    assert_eq!(bright.iter().filter(|line| line.contains('\x1b')).count(), 1);
    for current in 0..=2000 {
        let states = States { current, starting: 2000 - current, ..States::default() };
        let bar = Glance { size: 2000, states, ..glance() }.lines(80, false).remove(1);
        assert_eq!(bar.matches('█').count() == BAR, current == 2000, "{bar}");
        assert_eq!(bar.matches(['█', '▒', '░']).count(), BAR, "{bar}");
    }
}

#[test]
fn of_many_holds_the_one_that_needs_a_person_is_shown() {
    let id = || InstanceId::new("web", 1);
    let until = NOW + SignedDuration::from_secs(40);
    let ordered = [
        Hold::Halted { reason: "2 failed".to_owned() },
        Hold::Paused { reason: "a look".to_owned() },
        Hold::Capacity { zone: "b".to_owned(), until },
        Hold::Soaking { wave: 1, of: 2, until },
        Hold::Unknown { id: id() },
        Hold::Starting { id: id() },
        Hold::Draining { id: id(), connections: 1 },
    ];
    for first in 0..ordered.len() {
        let mut rest = ordered[first..].to_vec();
        rest.push(Hold::Floor { id: id() });
        rest.reverse();
        assert_eq!(headline(&rest), Some(&ordered[first]));
    }
    assert_eq!(headline(&[Hold::Turn { count: 3 }]), None, "the bar says it");
    let capacity = Glance { holds: ordered[2..].to_vec(), ..glance() };
    let clock = until.strftime("%H:%M:%S");
    assert_eq!(
        capacity.lines(100, false)[3],
        format!("  waiting: zone b has no room for another instance; asked again {clock} UTC, in 40 s")
    );
}

#[test]
fn only_time_is_no_news() {
    let later = Glance { now: NOW + SignedDuration::from_secs(1), ..glance() };
    assert!(later.is_as(&glance()));
    assert!(!Glance { states: States::default(), ..later }.is_as(&glance()));
}

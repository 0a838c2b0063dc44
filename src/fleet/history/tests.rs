use std::sync::Arc;

use super::*;
use crate::fleet::census::Health;
use crate::fleet::generation::Generation;
use crate::fleet::surroundings::Outlook;

const AT: Timestamp = Timestamp::UNIX_EPOCH;

fn id(number: u64) -> InstanceId {
    InstanceId::new("web", number)
}

fn opened(name: &str) -> Event {
    let (image, parts) = (Digest::of(name.as_bytes()), Arc::default());
    let target = Target { image, generation: Generation { id: image, parts } };
    Event::Opened { target, reason: "a test".to_owned(), emergency: false, fleet: None, commit: None }
}

fn launch(number: u64) -> Action {
    Action::Launch {
        id: id(number),
        generation: Generation { id: Digest::of(b"one"), parts: Arc::default() },
        zone: None,
        founds: false,
    }
}

fn intent(action: Action) -> Event {
    Event::Intent { action }
}

fn outcome(action: Action, outcome: Outcome) -> Event {
    Event::Outcome { action, result: Ok(outcome) }
}

fn failed(number: u64) -> Event {
    Event::Failed { instance: id(number), reason: "a test".to_owned(), console: Vec::new(), counts: true }
}

fn terminate(number: u64) -> Action {
    Action::Terminate { id: id(number), healthy: false, reason: "a test".to_owned() }
}

fn fold(events: &[Event]) -> History {
    History::of(events.iter().map(|event| (AT, event)))
}

#[test]
fn a_launch_is_known_from_its_intent_and_its_number_is_never_used_again() {
    let begun = fold(&[opened("one"), intent(launch(7))]);
    assert_eq!((begun.launches, begun.members[&id(7)].launched), (7, false));
    let over = fold(&[
        intent(launch(7)),
        outcome(launch(7), Outcome::Applied),
        intent(terminate(7)),
        outcome(terminate(7), Outcome::Applied),
        Event::Down,
    ]);
    assert_eq!(over, History { launches: 7, ..History::default() });
}

#[test]
fn an_act_without_an_answer_is_remembered_and_a_refused_one_is_not() {
    let drain = Action::Drain { id: id(1), others: 3 };
    let lost = Event::Outcome { action: drain.clone(), result: Err("no answer".to_owned()) };
    let unclear = fold(&[intent(drain.clone()), lost]);
    assert_eq!(unclear.members[&id(1)].draining, Some(AT));
    let refused = fold(&[intent(drain.clone()), outcome(drain.clone(), Outcome::refused("too few"))]);
    assert_eq!(refused.members[&id(1)].draining, None);
    let admit = Action::Admit { id: id(1) };
    let back = fold(&[intent(drain), intent(admit.clone()), outcome(admit, Outcome::Applied)]);
    assert_eq!(back.members[&id(1)].draining, None);
    let ending = fold(&[intent(terminate(1)), outcome(terminate(1), Outcome::refused("it serves"))]);
    assert!(ending.members.contains_key(&id(1)));
}

#[test]
fn what_was_told_to_serve_may_serve_until_its_drain_is_known() {
    let (admit, drain) = (Action::Admit { id: id(1) }, Action::Drain { id: id(1), others: 3 });
    let given = |events: &[Event]| fold(events).members[&id(1)].given;
    let lost = Event::Outcome { action: admit.clone(), result: Err("no answer".to_owned()) };
    let told = [intent(admit), lost, intent(drain.clone())];
    assert_eq!((given(&told[..1]), given(&told[..2]), given(&told)), (Some(AT), Some(AT), Some(AT)));
    let drained = told.into_iter().chain([outcome(drain, Outcome::Applied)]).collect::<Vec<_>>();
    assert_eq!(given(&drained), None);
}

#[test]
fn a_drain_tried_again_counts_once_even_after_the_clock_went_back() {
    let drain = |number| intent(Action::Drain { id: id(number), others: 3 });
    let at = |minutes| AT + SignedDuration::from_mins(minutes);
    for (again, counted) in [(60, vec![at(40), at(60)]), (20, vec![at(40), at(50)])] {
        let events = [(at(50), drain(1)), (at(40), drain(2)), (at(again), drain(1))];
        let history = History::of(events.iter().map(|(at, event)| (*at, event)));
        assert_eq!(Vec::from(history.replaced), counted, "tried again after {again} minutes");
    }
}

#[test]
fn previous_is_what_runs_no_more() {
    let halted = || Event::Halted { reason: String::new() };
    let back = || Event::Cancelled { back: true, reason: String::new() };
    let done = || Event::Completed;
    let table = [
        (vec![], None, false),
        (vec![opened("one")], None, true),
        (vec![opened("one"), done()], None, false),
        (vec![opened("one"), done(), opened("two")], Some("one"), true),
        (vec![opened("one"), done(), opened("two"), halted()], Some("one"), false),
        (vec![opened("one"), done(), opened("two"), done()], Some("one"), false),
        // A rotation to the same.
        (vec![opened("one"), done(), opened("two"), done(), opened("two")], Some("one"), true),
        // On the way back to it, and there.
        (vec![opened("one"), done(), opened("two"), back()], Some("one"), true),
        (vec![opened("one"), done(), opened("two"), back(), done()], None, false),
    ];
    for (events, before, unfinished) in table {
        let history = fold(&events);
        let wanted = before.map(|name: &str| Digest::of(name.as_bytes()));
        assert_eq!(history.before().map(|target| target.image), wanted, "{events:?}");
        assert_eq!(history.unfinished(), unfinished, "{events:?}");
    }
}

#[test]
fn the_failure_budget_is_that_of_one_rollout() {
    let table = [
        ("a crash goes on counting", vec![opened("one"), failed(1), opened("one")], 1),
        ("a new target starts afresh", vec![opened("one"), failed(1), opened("two")], 0),
        (
            "its failed instance ended",
            vec![opened("one"), failed(1), intent(terminate(1)), outcome(terminate(1), Outcome::Applied)],
            1,
        ),
        (
            "a person after a halt",
            vec![opened("one"), failed(1), Event::Halted { reason: String::new() }, opened("one")],
            0,
        ),
        ("a person after the end", vec![opened("one"), failed(1), Event::Completed, opened("one")], 0),
        (
            "a stop is no end",
            vec![opened("one"), failed(1), Event::Stopped { reason: String::new() }, opened("one")],
            1,
        ),
    ];
    for (why, events, wanted) in table {
        assert_eq!(fold(&events).failures.len(), wanted, "{why}");
    }
}

#[test]
fn a_wish_lasts_until_its_instance_ended() {
    let wish = Event::Rotate { instances: vec![id(1), id(2)], reason: "leaked key".to_owned() };
    let half = fold(&[wish, intent(terminate(1)), outcome(terminate(1), Outcome::AlreadyDone)]);
    assert_eq!(half.rotate, BTreeMap::from([(id(2), "leaked key".to_owned())]));
}

#[test]
fn a_roll_to_come_begins_with_the_first_wave_unless_it_goes_on() {
    let target = |name| match opened(name) {
        Event::Opened { target, .. } => target,
        other => panic!("{other:?}"),
    };
    let passed = || Event::WavePassed { wave: 0 };
    let table = [
        (vec![], "one", 0),
        (vec![opened("one"), passed()], "one", 1),
        (vec![opened("one"), passed()], "two", 0),
        (vec![opened("one"), passed(), Event::Completed], "one", 0),
        (vec![opened("one"), passed(), Event::Completed], "two", 0),
    ];
    for (events, name, wave) in table {
        let history = fold(&events).opened(&target(name));
        assert_eq!((history.wave.number, history.target), (wave, Some(target(name))), "{events:?} {name}");
    }
    let halted = fold(&[opened("one"), Event::Halted { reason: "2 failed".to_owned() }]);
    assert_eq!(halted.opened(&target("one")), halted);
    assert_eq!(halted.opened(&target("two")).halted, None);
}

#[test]
fn an_emergency_lifts_a_pause_from_before_it_and_none_from_within_it() {
    let emergency = |name| match opened(name) {
        Event::Opened { target, reason, fleet, .. } => {
            Event::Opened { target, reason, emergency: true, fleet, commit: None }
        }
        other => panic!("{other:?}"),
    };
    let retargeted = |name| match opened(name) {
        Event::Opened { target, reason, .. } => Event::Retargeted { target, reason },
        other => panic!("{other:?}"),
    };
    let paused = || Event::Paused { reason: "a test".to_owned() };
    assert_eq!(fold(&[opened("one"), paused(), emergency("two")]).paused, None);
    let within = fold(&[emergency("one"), paused(), retargeted("two")]);
    assert_eq!((within.paused.as_deref(), within.emergency), (Some("a test"), true));
}

/// What a group's journal says of `web-1` after it was first seen to have three, and what that adds up to: by how many rekiln
/// has changed its size.
#[test]
fn what_rekiln_adds_to_a_group_and_takes_away_counts_once() {
    let sized = || Event::Sized { size: 3, lost: 0 };
    let unheard = |action: Action| Event::Outcome { action, result: Err("no answer".to_owned()) };
    let (begun, made) = (|| intent(launch(1)), || outcome(launch(1), Outcome::Applied));
    let throttled = || outcome(launch(1), Outcome::Throttled { words: "a test".to_owned() });
    let by_itself = || outcome(terminate(1), Outcome::Ended);
    let (ending, ended) = (|| intent(terminate(1)), || outcome(terminate(1), Outcome::Applied));
    let seen = |state| Event::Seen {
        changed: vec![Instance {
            id: id(1),
            generation: None,
            image: None,
            state,
            health: Health::Unknown,
            in_service: false,
            launched_at: AT,
            touched: None,
            connections: 0,
            address: None,
            zone: None,
            known_as: None,
            membership: None,
        }],
        gone: Vec::new(),
        outlook: Outlook::default(),
        group: None,
        cluster: None,
    };
    let table = [
        ("begun", vec![begun()], 0),
        ("launched", vec![begun(), made()], 1),
        ("launched, and heard of twice", vec![begun(), unheard(launch(1)), begun(), made(), made()], 1),
        (
            "found to be launched",
            vec![begun(), unheard(launch(1)), outcome(launch(1), Outcome::AlreadyDone)],
            1,
        ),
        ("throttled", vec![begun(), throttled()], 0),
        ("throttled, and ended by itself", vec![begun(), throttled(), ending(), by_itself()], 0),
        ("throttled the second time", vec![begun(), begun(), throttled(), ending(), by_itself()], 1),
        ("seen alive", vec![begun(), unheard(launch(1)), seen(State::Launching), made()], 1),
        ("seen dead", vec![begun(), unheard(launch(1)), seen(State::Dead)], 1),
        ("refused", vec![begun(), outcome(launch(1), Outcome::refused("its name was given up"))], 0),
        ("ended", vec![begun(), made(), ending(), ended()], 0),
        ("ended, and heard of twice", vec![begun(), made(), ending(), ended(), ending(), ended()], 0),
        ("a stranger is ended", vec![ending(), ended()], -1),
        ("and nobody heard", vec![ending(), unheard(terminate(1)), ending(), ended()], -1),
        ("it was gone", vec![ending(), outcome(terminate(1), Outcome::AlreadyDone)], 0),
        ("it had ended by itself", vec![ending(), outcome(terminate(1), Outcome::Ended)], 0),
        ("both unheard, and both done", vec![begun(), ending(), ended()], 0),
        (
            "both unheard, and none done",
            vec![begun(), ending(), outcome(terminate(1), Outcome::AlreadyDone)],
            0,
        ),
        (
            "unheard, and it ended by itself",
            vec![begun(), ending(), outcome(terminate(1), Outcome::Ended)],
            1,
        ),
        ("its owner took it with all others", vec![begun(), made(), Event::Sized { size: 0, lost: 1 }], 0),
    ];
    for (why, events, wanted) in table {
        let all: Vec<_> = [opened("one"), sized()].into_iter().chain(events).collect();
        assert_eq!(fold(&all).added, wanted, "{why}");
    }
    // A fleet whose size is its file's has no share of it.
    assert_eq!((fold(&[begun(), made()]).added, fold(&[ending(), ended()]).added), (0, 0));
}

#[test]
fn an_end_is_in_doubt_from_its_intent_until_its_answer() {
    let sized = || Event::Sized { size: 3, lost: 0 };
    let lost = || Event::Outcome { action: terminate(1), result: Err("no answer".to_owned()) };
    let no = || outcome(terminate(1), Outcome::refused("it serves"));
    let ending = |events: &[Event]| fold(events).members.get(&id(1)).and_then(|member| member.ending);
    assert_eq!(ending(&[sized(), intent(terminate(1))]), Some(AT));
    assert_eq!(ending(&[sized(), intent(terminate(1)), lost()]), Some(AT));
    assert_eq!(ending(&[sized(), intent(terminate(1)), no()]), None);
    assert_eq!(ending(&[intent(terminate(1))]), None);
}

#[test]
fn another_size_is_remembered_until_one_counts() {
    let at = |seconds| AT + SignedDuration::from_secs(seconds);
    let differs = |size| Event::SizeDiffers { size };
    let sized = |size| Event::Sized { size, lost: 0 };
    let events = [(at(0), sized(3)), (at(1), differs(5)), (at(4), differs(6))];
    let history = History::of(events.iter().map(|(at, event)| (*at, event)));
    assert_eq!((history.size, history.other_size), (Some(3), Some((6, at(4)))));
    let history = fold(&[sized(3), differs(5), sized(5)]);
    assert_eq!((history.size, history.other_size), (Some(5), None));
}

#[test]
fn what_is_restored_is_so_until_somebody_served() {
    let id = id(1);
    let restores = Event::Restores { backup: "20261129T222013Z".to_owned(), taken: AT };
    let at = |seconds: i64| AT + SignedDuration::from_secs(seconds);
    let all =
        [Event::Serving { instance: id.clone() }, Event::Down, restores, Event::Serving { instance: id }];
    let after = |count: usize| History::of(all[..count].iter().map(|event| (at(1), event)));
    assert!(after(1).founded && !after(2).founded && after(2).restore.is_none());
    assert!(!after(3).founded && after(3).restore.is_some(), "whoever founds begins with it");
    assert!(after(4).founded && after(4).restore.is_none());
}

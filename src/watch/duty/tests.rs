mod backup;

use std::collections::BTreeMap;

use super::*;
use crate::fleet::windows::Windows;
use crate::watch::alert::Heard;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn at(seconds: i64) -> Timestamp {
    NOW + SignedDuration::from_secs(seconds)
}

fn web(number: u64) -> InstanceId {
    InstanceId::new("web", number)
}

/// A rule with two steps, five minutes and one instance an hour.
fn rule() -> Rule {
    Rule {
        name: "Errors".to_owned(),
        within: SignedDuration::from_mins(5),
        limit: 1,
        steps: 2,
        rotates: false,
    }
}

fn fleet() -> Fleet {
    Fleet {
        at: at(1_000_000),
        commit: "old".to_owned(),
        rules: vec![rule()],
        living: vec![web(1), web(2)],
        file: "fleets/web.toml".into(),
        wants: None,
        can_wait: false,
        rolled: false,
        paused: None,
        chaos: None,
        killed: None,
        over: false,
        backups: None,
    }
}

fn seen(head: &str, fleet: Fleet) -> Seen {
    Seen {
        head: Some(head.to_owned()),
        running: Vec::new(),
        fleets: BTreeMap::from([("web".to_owned(), fleet)]),
        waiting: None,
    }
}

fn apply(commit: &str) -> Job {
    Job::Apply { commit: commit.to_owned() }
}

fn began(job: Job) -> Event {
    Event::Began { job }
}

fn ended(job: Job, code: u8) -> Event {
    Event::Ended { job, code, why: (code != 0).then(|| "why".to_owned()) }
}

fn heard(firing: bool, instance: Option<u64>) -> Event {
    Event::Heard {
        fleet: "web".to_owned(),
        rule: "Errors".to_owned(),
        key: format!("key {instance:?}"),
        heard: Heard { name: "Errors".to_owned(), labels: BTreeMap::new(), firing, summary: None },
        instance: instance.map(web),
    }
}

fn step(number: usize) -> Job {
    Job::Step { case: 1, fleet: "web".to_owned(), commit: "old".to_owned(), number }
}

/// The journal of a watcher that leads since the beginning and carried `old` out.
fn memory(events: &[(i64, Event)]) -> Memory {
    let mut memory = Memory::default();
    for event in [Event::Leads, began(apply("old")), ended(apply("old"), 0)] {
        memory.add(NOW, &event);
    }
    for (seconds, event) in events {
        memory.add(at(*seconds), event);
    }
    memory
}

/// What was written down when, the fleet, the time in seconds, and what is to be done then.
type Row<'a> = (Vec<(i64, Event)>, Fleet, i64, &'a str);

/// What is to be done, each as one line.
fn told(memory: &Memory, seen: &Seen, nights: Option<&Daily>, seconds: i64) -> Vec<String> {
    let found = duties(&Situation { memory, seen, nights, signed: false, now: at(seconds) });
    let line = |duty| match duty {
        Duty::Start(job) => format!("{}: {job}", Job::kind(&job)),
        Duty::Say(event) => event.to_string(),
    };
    found.into_iter().map(line).collect()
}

#[test]
fn a_commit_is_carried_out_once_and_again_where_that_may_help() {
    let new = || apply("new");
    let failed = |code| vec![(10, began(new())), (20, ended(new(), code))];
    let twice = || [failed(1), vec![(100, began(new())), (110, ended(new(), 1))]].concat();
    for (events, waiting, seconds, expected) in [
        (vec![], None, 10, true),
        // Someone else died while it did.
        (vec![(10, began(new())), (20, Event::Leads)], None, 21, true),
        (vec![(10, began(new())), (20, ended(new(), 0))], None, 9999, false),
        // A minute after the first failure, two after the second, and a quarter of an hour at most.
        (failed(1), None, 79, false),
        (failed(1), None, 80, true),
        (twice(), None, 229, false),
        (twice(), None, 230, true),
        // What is not valid stays so.
        (failed(2), None, 99_999, false),
        // What is held waits until a roll would do something.
        (failed(3), Some(false), 99_999, false),
        (failed(3), Some(true), 79, false),
        (failed(3), Some(true), 80, true),
        (failed(3), None, 80, true),
        // Who had a fleet may be about to end.
        (failed(4), None, 29, false),
        (failed(4), None, 30, true),
    ] {
        let seen = Seen { waiting, ..seen("new", fleet()) };
        let found = told(&memory(&events), &seen, None, seconds);
        assert_eq!(found == ["apply: apply new"], expected, "{events:?} {seconds}: {found:?}");
    }
    assert_eq!(again(40, NOW), NOW + LONGEST);
    // Not while it is under way, or something else rolls.
    for running in [new(), Job::Keep { fleet: "web".into(), commit: "old".into(), why: String::new() }] {
        let seen = Seen { running: vec![running], ..seen("new", fleet()) };
        assert!(told(&memory(&[]), &seen, None, 10).is_empty());
    }
    // A commit that failed is not taken for what stands, and one that comes after it is tried at once.
    let found = told(&memory(&failed(2)), &seen("newer", fleet()), None, 21);
    assert_eq!(found, ["apply: apply newer"]);
}

#[test]
fn a_fleet_is_kept_as_it_should_be() {
    let wants = || Fleet { wants: Some("1 unhealthy".to_owned()), ..fleet() };
    let job = || Job::Keep { fleet: "web".into(), commit: "old".into(), why: "1 unhealthy".into() };
    let failed = vec![(10, began(job())), (20, ended(job(), 1))];
    for (events, fleet, head, seconds, expected) in [
        (vec![], wants(), "old", 10, true),
        (vec![], fleet(), "old", 10, false),
        (vec![], Fleet { rolled: true, ..wants() }, "old", 10, false),
        (vec![], Fleet { paused: Some("a look".into()), ..wants() }, "old", 10, false),
        (vec![], Fleet { paused: Some("a look".into()), killed: Some(web(1)), ..wants() }, "old", 10, true),
        (vec![], Fleet { over: true, ..wants() }, "old", 10, false),
        // A merge comes first: it may be the cure.
        (vec![], wants(), "new", 10, false),
        // A merge that cannot go on keeps nothing from being cured.
        (vec![(10, began(apply("new"))), (20, ended(apply("new"), 2))], wants(), "new", 30, true),
        (failed.clone(), wants(), "old", 79, false),
        (failed.clone(), wants(), "old", 80, true),
        // It was not looked at since.
        (failed, Fleet { at: at(15), ..wants() }, "old", 80, false),
    ] {
        let found = told(&memory(&events), &seen(head, fleet.clone()), None, seconds);
        let job = found == ["keep: fleet web: 1 unhealthy"];
        assert_eq!(job, expected, "{events:?} {fleet:?} {head}: {found:?}");
    }
}

#[test]
fn shards_are_kept_one_after_the_other_unless_one_is_sick() {
    let wants = || Fleet { wants: Some("1 too old".to_owned()), can_wait: true, ..fleet() };
    let sick = || Fleet { can_wait: false, ..wants() };
    let rolled = || Fleet { rolled: true, ..wants() };
    let apart = || Fleet { file: "fleets/api.toml".into(), ..wants() };
    for (one, other, expected) in [
        (wants(), wants(), &["db-a"] as &[&str]),
        (wants(), rolled(), &[]),
        (rolled(), wants(), &[]),
        (wants(), sick(), &["db-a", "db-b"]),
        (rolled(), sick(), &["db-b"]),
        (fleet(), wants(), &["db-b"]),
        (wants(), apart(), &["db-a", "db-b"]),
    ] {
        let fleets = BTreeMap::from([("db-a".to_owned(), one.clone()), ("db-b".to_owned(), other.clone())]);
        let found = told(&memory(&[]), &Seen { fleets, ..seen("old", fleet()) }, None, 10);
        let expected: Vec<_> = expected.iter().map(|name| format!("keep: fleet {name}: 1 too old")).collect();
        assert_eq!(found, expected, "{one:?} {other:?}");
    }
}

#[test]
fn nights() {
    let nights: Daily = "00:10".parse().expect("a time");
    let due = at(600);
    let job = || Job::Nightly { due, base: "old".into() };
    for (events, seconds, expected) in [
        (vec![], 599, false),
        (vec![], 600, true),
        (vec![(600, began(job())), (700, ended(job(), 0))], 800, false),
        (vec![(600, began(job())), (700, ended(job(), 1))], 800, false),
        // Its watcher died.
        (vec![(600, began(job())), (700, Event::Leads)], 800, true),
        (vec![], 600 + LATE.as_secs(), false),
        (vec![(600, began(job())), (700, ended(job(), 0))], 600 + 86_400, true),
    ] {
        let found = told(&memory(&events), &seen("old", fleet()), Some(&nights), seconds);
        assert_eq!(found == ["nightly: updates on old"], expected, "{events:?} {seconds}: {found:?}");
    }
    // Of a commit that failed, unless its signature may be why.
    let failed = [(10, began(apply("new"))), (20, ended(apply("new"), 2))];
    let (memory_of, seen_new) = (memory(&failed), seen("new", fleet()));
    for (signed, base) in [(false, "new"), (true, "old")] {
        let situation =
            Situation { memory: &memory_of, seen: &seen_new, nights: Some(&nights), signed, now: due };
        assert_eq!(duties(&situation), [Duty::Start(Job::Nightly { due, base: base.into() })]);
    }
    // What was due before anyone watched is nobody's.
    let mut memory = Memory { applied: Some("old".into()), ..Memory::default() };
    memory.add(at(601), &Event::Leads);
    assert!(told(&memory, &seen("old", fleet()), Some(&nights), 700).is_empty());
}

#[test]
fn an_alert_gets_its_playbook_and_then_another_instance() {
    let replace = |case| Job::Replace {
        case,
        fleet: "web".into(),
        commit: "old".into(),
        instance: web(1),
        why: String::new(),
    };
    let one = |more: &[(i64, Event)]| [&[(100, heard(true, Some(1)))], more].concat();
    let done = |number: usize| {
        let at = 110 + 10 * i64::try_from(number).expect("small");
        vec![(at, began(step(number))), (at + 5, ended(step(number), 0))]
    };
    let both = || one(&[done(0), done(1)].concat());
    let taken = || both().into_iter().chain([(400, began(replace(1)))]).collect::<Vec<_>>();
    let with = |rule: Rule| Fleet { rules: vec![rule], ..fleet() };
    let late = "replace: fleet web: replace web-1: Errors, which its playbook did not resolve in its time";
    let limit = "alert 2 is held: Errors may take 1 an hour, and it has";
    let second = |more: &[(i64, Event)]| {
        let rest = [(450, ended(replace(1), 0)), (460, Event::Closed { case: 1, how: "x".into() })];
        let second = [(500, heard(true, Some(2)))];
        [taken(), rest.to_vec(), second.to_vec(), more.to_vec()].concat()
    };
    let none = "";
    let table: Vec<Row> = vec![
        (one(&[]), fleet(), 101, "step: fleet web: step 1 for alert 1"),
        (one(&done(0)), fleet(), 130, "step: fleet web: step 2 for alert 1"),
        // All was done: now it is waited.
        (both(), fleet(), 399, none),
        (both(), fleet(), 400, late),
        // No step begins when the time is over.
        (one(&done(0)), fleet(), 400, late),
        (
            one(&[(110, began(step(0))), (115, ended(step(0), 1))]),
            fleet(),
            120,
            "replace: fleet web: replace web-1: Errors, and its playbook failed: why",
        ),
        (
            both(),
            with(Rule { rotates: true, ..rule() }),
            130,
            "replace: fleet web: replace web-1: Errors, as its playbook says",
        ),
        (
            one(&[]),
            with(Rule { steps: 0, within: SignedDuration::ZERO, ..rule() }),
            100,
            "replace: fleet web: replace web-1: Errors",
        ),
        // It is over when it is resolved, when its instance is gone, when its rule is.
        (one(&[(110, heard(false, Some(1)))]), fleet(), 400, none),
        (both(), Fleet { living: vec![web(2)], ..fleet() }, 400, "alert 1 is over: its instance is gone"),
        (both(), Fleet { living: vec![web(2)], at: at(99), ..fleet() }, 400, late),
        (both(), Fleet { rules: Vec::new(), ..fleet() }, 400, "alert 1 is over: its rule is gone"),
        (
            [taken(), vec![(450, ended(replace(1), 0))]].concat(),
            fleet(),
            460,
            "alert 1 is over: its instance was replaced",
        ),
        // It waits for whoever rolls, and tries again what failed, which takes no second instance of the limit.
        (both(), Fleet { rolled: true, ..fleet() }, 400, none),
        ([taken(), vec![(450, ended(replace(1), 1))]].concat(), fleet(), 509, none),
        ([taken(), vec![(450, ended(replace(1), 1))]].concat(), fleet(), 510, late),
        // What only a person can change is said once.
        (
            both(),
            Fleet { paused: Some("a look".into()), ..fleet() },
            400,
            "alert 1 is held: the fleet is paused: a look",
        ),
        (
            [both(), vec![(400, Event::Held { case: 1, why: "the fleet is paused: a look".into() })]]
                .concat(),
            Fleet { paused: Some("a look".into()), ..fleet() },
            410,
            none,
        ),
        (
            [both(), vec![(400, Event::Held { case: 1, why: "the fleet is paused: a look".into() })]]
                .concat(),
            fleet(),
            410,
            late,
        ),
        // A second one within the hour is one too many, and none when the hour is over.
        (second(&[]), with(Rule { steps: 0, ..rule() }), 800, limit),
        (
            second(&[]),
            with(Rule { steps: 0, limit: 2, ..rule() }),
            800,
            "replace: fleet web: replace web-2: Errors",
        ),
        (second(&[]), with(Rule { steps: 0, ..rule() }), 4000, "replace: fleet web: replace web-2: Errors"),
        // Nothing of the fleet is named.
        (
            vec![(100, heard(true, None))],
            with(Rule { steps: 0, ..rule() }),
            400,
            "alert 1 is held: it names no instance of the fleet: there is nothing to replace",
        ),
    ];
    for (events, fleet, seconds, expected) in table {
        let found = told(&memory(&events), &seen("old", fleet.clone()), None, seconds);
        assert_eq!(found.join("\n"), expected, "{events:#?} {fleet:?} {seconds}");
    }
}

#[test]
fn chaos_kills_when_it_is_due_and_nothing_else_is_to_be_done() {
    let standing = |every: i64, windows: &[&str]| Standing {
        every: SignedDuration::from_secs(every),
        windows: Windows::parse(&windows.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), &[])
            .expect("windows"),
        leader: false,
    };
    let with = |last: Option<i64>| Fleet { chaos: Some((standing(100, &[]), last.map(at))), ..fleet() };
    let job = || Job::Chaos { fleet: "web".into(), commit: "old".into(), leader: false };
    let failed = || vec![(200, began(job())), (210, ended(job(), 3))];
    let replaced = || vec![(10, heard(true, Some(1))), (20, heard(false, Some(1)))];
    let chaos = "chaos: fleet web: chaos kills one of its instances";
    // The epoch was a Thursday.
    let night = standing(100, &["Thu 01:00-02:00"]);
    for (events, fleet, head, seconds, expected) in [
        (vec![], fleet(), "old", 99_999, ""),
        // So long after somebody first watched, or after the last one.
        (vec![], with(None), "old", 99, ""),
        (vec![], with(None), "old", 100, chaos),
        (vec![], with(Some(150)), "old", 249, ""),
        (vec![], with(Some(150)), "old", 250, chaos),
        (vec![], Fleet { chaos: Some((night.clone(), None)), ..fleet() }, "old", 3599, ""),
        (vec![], Fleet { chaos: Some((night.clone(), None)), ..fleet() }, "old", 3600, chaos),
        (vec![], Fleet { chaos: Some((night, None)), ..fleet() }, "old", 7200, ""),
        // Whatever else is to be done comes first.
        (vec![], Fleet { paused: Some("a look".into()), ..with(None) }, "old", 100, ""),
        (vec![], Fleet { rolled: true, ..with(None) }, "old", 100, ""),
        (vec![], Fleet { over: true, ..with(None) }, "old", 100, ""),
        (vec![], Fleet { killed: Some(web(2)), ..with(None) }, "old", 100, ""),
        (
            vec![],
            Fleet { wants: Some("1 unhealthy".into()), ..with(None) },
            "old",
            100,
            "keep: fleet web: 1 unhealthy",
        ),
        (vec![], with(None), "new", 100, "apply: apply new"),
        // An alert is open, was resolved.
        (
            vec![(50, heard(true, None)), (60, began(step(0)))],
            with(None),
            "old",
            100,
            "step: fleet web: step 1 for alert 1",
        ),
        (replaced(), with(None), "old", 100, chaos),
        // What could not be done is tried again later, and not before the fleet was looked at.
        (failed(), with(None), "old", 269, ""),
        (failed(), with(None), "old", 270, chaos),
        (failed(), Fleet { at: at(205), ..with(None) }, "old", 270, ""),
    ] {
        let found = told(&memory(&events), &seen(head, fleet.clone()), None, seconds);
        assert_eq!(found.join("\n"), expected, "{events:?} {fleet:?} {seconds}");
    }
    // One at a time; but a fleet that chaos goes on in is kept as any other.
    let running = |fleet| Seen { running: vec![job()], ..seen("old", fleet) };
    assert!(told(&memory(&[]), &running(with(None)), None, 100).is_empty());
    let ill = Fleet { wants: Some("1 dead".into()), killed: Some(web(1)), ..with(None) };
    assert_eq!(told(&memory(&[]), &running(ill), None, 100), ["keep: fleet web: 1 dead"]);
}

#[test]
fn what_chaos_killed_is_not_replaced_for_an_alert_as_well() {
    let at_once = Fleet {
        rules: vec![Rule { steps: 0, within: SignedDuration::ZERO, limit: 9, ..rule() }],
        killed: Some(web(1)),
        ..fleet()
    };
    let events = vec![(100, heard(true, Some(1)))];
    // A list that is older than its end has it alive.
    assert!(told(&memory(&events), &seen("old", at_once.clone()), None, 100).is_empty());
    let gone = Fleet { living: vec![web(2)], ..at_once.clone() };
    assert_eq!(
        told(&memory(&events), &seen("old", gone), None, 101),
        ["alert 1 is over: chaos killed its instance"]
    );
    // All others are.
    let other = Fleet { killed: Some(web(2)), ..at_once };
    let found = told(&memory(&events), &seen("old", other), None, 100);
    assert_eq!(found, ["replace: fleet web: replace web-1: Errors"]);
}

#[test]
fn a_replacement_that_fails_is_tried_so_often() {
    let job = || Job::Replace {
        case: 1,
        fleet: "web".into(),
        commit: "old".into(),
        instance: web(1),
        why: String::new(),
    };
    let mut events = vec![(100, heard(true, Some(1)))];
    for turn in 0..i64::from(TRIES) {
        events.push((1000 + 2000 * turn, began(job())));
        events.push((1001 + 2000 * turn, ended(job(), 1)));
    }
    let found = told(&memory(&events), &seen("old", fleet()), None, 99_999);
    assert_eq!(found, ["alert 1 is held: web-1 could not be replaced, 5 times in a row"]);
}

#[test]
fn one_fleet_is_rolled_by_one_job_at_a_time() {
    let two = vec![(100, heard(true, Some(1))), (100, heard(true, Some(2)))];
    let at_once = Fleet {
        rules: vec![Rule { steps: 0, within: SignedDuration::ZERO, limit: 9, ..rule() }],
        wants: Some("1 unhealthy".to_owned()),
        ..fleet()
    };
    let found = told(&memory(&two), &seen("old", at_once.clone()), None, 100);
    assert_eq!(found, ["replace: fleet web: replace web-1: Errors"]);
    // Alerts do not wait for a merge of which the fleet is no part yet.
    let seen = Seen { running: vec![apply("new")], ..seen("new", at_once) };
    let found = told(&memory(&two), &seen, None, 100);
    assert_eq!(found, ["replace: fleet web: replace web-1: Errors"]);
}

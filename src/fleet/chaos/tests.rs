//! Whom chaos kills, and when it does not.

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::digest::Digest;
use crate::fleet::Fleet;
use crate::fleet::cluster::{Cluster, Membership, Role};
use crate::fleet::generation::Target;
use crate::fleet::history::Event;
use crate::fleet::policy::Policy;

fn at(second: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
}

fn file(more: &str) -> Fleet {
    let text = "image = 'web'\nsize = 3\n[local]\nlisten = '127.0.0.1:1'\nport = 80\nzones = ['a', 'b', 'c']\n\
                [health]\nhttp = { port = 80, path = '/' }\n";
    toml::from_str(&format!("{text}{more}")).expect("a fleet file")
}

fn id(number: u64) -> InstanceId {
    InstanceId::new("web", number)
}

fn instance(number: u64) -> Instance {
    Instance {
        id: id(number),
        generation: None,
        image: None,
        state: State::Running,
        health: Health::Healthy,
        in_service: true,
        launched_at: at(0),
        touched: None,
        connections: 0,
        address: None,
        zone: ["a", "b", "c"].get(usize::try_from(number).unwrap_or(0) - 1).map(|zone| (*zone).to_owned()),
        known_as: Some(format!("i-{number}")),
        membership: None,
    }
}

/// A fleet of three that completed its rollout, and is looked at after an hour.
struct World {
    census: Census,
    history: History,
    which: Which,
    size: usize,
    floor: usize,
    breaker: Option<String>,
    copies: Option<Copies>,
}

const NOW: i64 = 3600;

impl World {
    fn whole() -> Self {
        let target = Target::new(&file(""), Digest::of(b"an image"));
        let opened =
            Event::Opened { target, reason: String::new(), emergency: false, fleet: None, commit: None };
        let serve = |number| Event::Serving { instance: id(number) };
        let events = [opened, serve(1), serve(2), serve(3), Event::Completed];
        let history = History::of(events.iter().map(|event| (at(0), event)));
        let census = Census { instances: (1..=3).map(instance).collect(), ..Census::empty(at(NOW)) };
        Self { census, history, which: Which::default(), size: 3, floor: 2, breaker: None, copies: None }
    }

    fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut world = Self::whole();
        change(&mut world);
        world
    }

    fn victim(&self, draw: u64) -> Result<Victim, Refusal> {
        let Self { census, history, which, size, floor, breaker, copies } = self;
        victim(
            &Situation {
                fleet: "web",
                which,
                size: *size,
                floor: *floor,
                copies: copies.as_ref(),
                census,
                history,
                breaker: breaker.as_deref(),
                now: at(NOW),
            },
            draw,
        )
    }

    fn says(&mut self, seconds: i64, event: &Event) {
        self.history.add(at(seconds), event);
    }
}

fn chaos(number: u64) -> Event {
    Event::Chaos { instance: id(number), reason: "a test".to_owned(), others: 2 }
}

#[test]
fn nobody_is_killed_unless_the_fleet_is_whole_and_at_rest() {
    let why = || "why".to_owned();
    let change =
        |number: usize, change: fn(&mut Instance)| World::with(|it| change(&mut it.census.instances[number]));
    let table: Vec<(&str, World)> = vec![
        ("it is paused: why", World::with(|it| it.says(1, &Event::Paused { reason: why() }))),
        ("the circuit breaker is open: why", World::with(|it| it.breaker = Some(why()))),
        (
            "a rollout of it is under way",
            World::with(|it| it.says(1, &Event::Rotate { instances: vec![], reason: why() })),
        ),
        (
            "its last rollout halted: why",
            World::with(|it| {
                it.says(1, &Event::Rotate { instances: vec![], reason: why() });
                it.says(1, &Event::Halted { reason: why() });
            }),
        ),
        (
            "its last rollout was cancelled: why",
            World::with(|it| {
                it.says(1, &Event::Rotate { instances: vec![], reason: why() });
                it.says(1, &Event::Cancelled { back: false, reason: why() });
            }),
        ),
        // Killed in vain or not: the list may be older.
        (
            "web-2, which chaos killed at 00:59:10 UTC, is not replaced yet",
            World::with(|it| it.says(NOW - 50, &chaos(2))),
        ),
        (
            "web-4, which chaos killed at 00:00 UTC, is not replaced yet",
            World::with(|it| it.says(0, &chaos(4))),
        ),
        ("web-2 starts", change(1, |seen| (seen.state, seen.in_service) = (State::Launching, false))),
        ("web-2 drains", change(1, |seen| (seen.state, seen.in_service) = (State::Draining, false))),
        ("web-2 is dead", change(1, |seen| (seen.state, seen.health) = (State::Dead, Health::Unhealthy))),
        ("web-2 is of unknown health", change(1, |seen| seen.health = Health::Unknown)),
        ("web-2 does not serve", change(1, |seen| seen.health = Health::Unhealthy)),
        ("web-2 does not serve", change(1, |seen| seen.in_service = false)),
        ("web-3 is not seen", World::with(|it| drop(it.census.instances.pop()))),
        ("2 serve, and 3 should", World::with(|it| drop(it.census.instances.pop()))),
        ("4 serve, and 3 should", World::with(|it| it.census.instances.push(instance(4)))),
        (
            "one is about to be launched",
            World::with(|it| {
                let coming = Instance { id: InstanceId::coming(1), state: State::Launching, ..instance(1) };
                it.census.instances.push(Instance { in_service: false, ..coming });
            }),
        ),
        ("no answer", World::with(|it| it.census.trouble = Some("no answer".to_owned()))),
    ];
    for (expected, world) in table {
        match world.victim(0) {
            Err(Refusal::NotYet(reasons)) => {
                assert!(reasons.iter().any(|reason| reason == expected), "{expected}: {reasons:?}");
                assert_eq!(Refusal::NotYet(reasons).error("web").exit_code(), 3);
            }
            other => panic!("{expected}: {other:?}"),
        }
    }
    World::whole().victim(0).expect("a victim");
    // What lives on long after its kill was begun was never killed.
    World::with(|it| it.says(NOW - 60, &chaos(2))).victim(0).expect("a victim");
}

#[test]
fn what_can_never_be_is_told_from_what_is_not_yet() {
    let which = |leader, zone: &str, instance: &str| Which {
        leader,
        zone: (!zone.is_empty()).then(|| zone.to_owned()),
        instance: (!instance.is_empty()).then(|| instance.to_owned()),
    };
    for (expected, hint, world) in [
        ("with 3 of 3 that must serve", "make the fleet larger", World::with(|it| it.floor = 3)),
        (
            "with 1 of 1 that must serve",
            "make the fleet larger",
            World::with(|it| (it.size, it.floor) = (1, 1)),
        ),
        ("it was never rolled", "`rekiln roll web`", World::with(|it| it.history = History::default())),
        ("no instance in zone aa", "did you mean `a`?", World::with(|it| it.which = which(false, "aa", ""))),
        (
            "no instance web-22",
            "did you mean `web-2`?",
            World::with(|it| it.which = which(false, "", "web-22")),
        ),
        ("it has no leader", "leave `--leader` out", World::with(|it| it.which = which(true, "", ""))),
        ("web-2 is not what else", "name it alone", World::with(|it| it.which = which(false, "a", "web-2"))),
    ] {
        let refusal = world.victim(0).expect_err(expected);
        let Refusal::Never { why, hint: told } = &refusal else { panic!("{expected}: {refusal:?}") };
        assert!(why.contains(expected) && told.contains(hint), "{refusal:?}");
        assert_eq!(refusal.error("web").exit_code(), 2);
    }
}

#[test]
fn who_is_killed_is_who_was_meant_and_the_draw_alone_decides() {
    let chosen = |world: &World, draw| world.victim(draw).expect("a victim").instance;
    let world = World::whole();
    let all: Vec<_> = (0..3).map(|draw| chosen(&world, draw)).collect();
    assert_eq!(all, [id(1), id(2), id(3)]);
    // In whatever order they are listed.
    let mut reversed = World::whole();
    reversed.census.instances.reverse();
    assert_eq!(chosen(&reversed, 4), chosen(&world, 4));
    for draw in 0..20 {
        let zone = World::with(|it| it.which.zone = Some("b".to_owned()));
        assert_eq!(chosen(&zone, draw), id(2));
        for name in ["web-3", "i-3"] {
            let one = World::with(|it| it.which.instance = Some(name.to_owned()));
            assert_eq!(chosen(&one, draw), id(3));
        }
    }
    // A seed gives the same series, another one another, and no instance is spared by all.
    let series = |seed| (0..30).map(|kill| chosen(&world, draw(seed, kill))).collect::<Vec<_>>();
    assert_eq!(series(7), series(7));
    assert_ne!(series(7), series(8));
    assert!((1..=3).all(|number| series(7).contains(&id(number))));
}

/// Three members that hold data, the first of which leads; one copy beside the leader must be there.
fn members() -> World {
    World::with(|it| {
        let roles = [Role::Leader, Role::Synchronous, Role::Synchronous];
        for (seen, role) in it.census.instances.iter_mut().zip(roles) {
            seen.membership = Some(Membership { role, caught_up: true, stays: None });
        }
        let all: Vec<_> = (1..=3).map(id).collect();
        it.census.cluster =
            Some(Cluster { registered: all.clone(), voters: all, refuses: Vec::new(), data: None });
        it.copies = Some(Copies {
            recovery: SignedDuration::ZERO,
            synchronous: 1,
            durability: Durability::Quorum,
            switchover: SignedDuration::from_mins(2),
            max_copy: SignedDuration::from_mins(30),
        });
    })
}

#[test]
fn members_that_hold_data_lose_one_only_where_the_others_have_it_all() {
    let with = |change: fn(&mut World)| {
        let mut world = members();
        change(&mut world);
        world
    };
    let says = |world: &World, expected: &str| match world.victim(0) {
        Err(Refusal::NotYet(reasons)) => {
            assert!(reasons.iter().any(|reason| reason.contains(expected)), "{expected}: {reasons:?}");
        }
        other => panic!("{expected}: {other:?}"),
    };
    let all: Vec<_> = (0..3).map(|draw| members().victim(draw).expect("a victim").instance).collect();
    assert_eq!(all, [id(1), id(2), id(3)]);
    let leads = with(|it| it.which.leader = true);
    assert!((0..9).all(|draw| leads.victim(draw).expect("a victim").instance == id(1)));
    let follow = |world: &mut World| {
        let membership = Membership { role: Role::Synchronous, caught_up: true, stays: None };
        world.census.instances[0].membership = Some(membership);
    };
    let nobody = with(|it| {
        let membership = Membership { role: Role::Replica, caught_up: true, stays: None };
        it.census.instances[0].membership = Some(membership);
    });
    says(&nobody, "nobody leads");
    let mut elects = with(|it| it.which.leader = true);
    follow(&mut elects);
    says(&elects, "nobody leads");
    says(
        &with(|it| it.census.cluster.as_mut().expect("one").refuses.push("maintenance".to_owned())),
        "maintenance",
    );
    let lags = |world: &mut World| {
        let membership = Membership { role: Role::Joining, caught_up: false, stays: None };
        world.census.instances[2].membership = Some(membership);
    };
    says(&with(lags), "web-3 does not have all data");
    // More copies must be there than would be left.
    let copies = |it: &mut World| {
        it.copies.as_mut().expect("copies").synchronous = 2;
        it.which.instance = Some("web-2".to_owned());
    };
    says(&with(copies), "web-2: without it 1 beside the leader would have all data, 2 must");
    // One that makes a backup is spared, and so is a leader that alone has the latest writes.
    let backup = |it: &mut World| {
        it.census.instances[1].membership.as_mut().expect("one").stays = Some("a backup".to_owned());
    };
    assert!((0..9).all(|draw| with(backup).victim(draw).expect("a victim").instance != id(2)));
    let alone = |it: &mut World| it.copies.as_mut().expect("copies").durability = Durability::Leader;
    assert!((0..9).all(|draw| with(alone).victim(draw).expect("a victim").instance != id(1)));
    let mut named = with(alone);
    named.which.leader = true;
    let refusal = named.victim(0).expect_err("its writes would be lost");
    assert_eq!(refusal.error("web").exit_code(), 2);
}

#[test]
fn floors() {
    let floor = |text: &str, size| {
        let chaos: Chaos = toml::from_str(text).expect("a section");
        chaos.floor(size).expect("a floor")
    };
    for (text, size, expected) in [
        ("", 3, 2),
        ("", 1, 1),
        ("", 0, 1),
        ("floor = 1", 3, 1),
        ("floor = 0", 3, 1),
        ("floor = '50%'", 3, 2),
        ("floor = '100%'", 3, 3),
        ("floor = 5", 3, 5),
    ] {
        assert_eq!(floor(text, size), expected, "{text} of {size}");
    }
}

#[test]
fn a_schedule_counts_from_the_last_kill_and_keeps_to_its_windows() {
    let standing = |text: &str, except: &[String]| {
        let chaos: Chaos = toml::from_str(text).expect("a section");
        chaos.standing(except).expect("it reads").expect("a schedule")
    };
    let daily = standing("every = '1d'\nwindows = ['Mon-Fri 09:00-16:00']\ntarget = 'leader'", &[]);
    assert!(daily.leader);
    let time = |text: &str| text.parse::<Timestamp>().expect("a time");
    let due = |last: Option<&str>, first: Option<&str>, now: &str| {
        daily.is_due(last.map(time), first.map(time), time(now))
    };
    // 2026-11-25 is a Wednesday.
    assert!(due(Some("2026-11-24T10:00:00Z"), None, "2026-11-25T10:00:00Z"));
    assert!(!due(Some("2026-11-24T10:00:01Z"), None, "2026-11-25T10:00:00Z"));
    assert!(!due(Some("2026-11-24T10:00:00Z"), None, "2026-11-25T16:00:00Z"));
    // Whoever never killed begins a day after somebody first watched.
    assert!(!due(None, None, "2026-11-25T10:00:00Z"));
    assert!(!due(None, Some("2026-11-25T09:00:00Z"), "2026-11-25T10:00:00Z"));
    assert!(due(None, Some("2026-11-20T09:00:00Z"), "2026-11-25T10:00:00Z"));
    let except = ["2026-11-25".to_owned()];
    let idle = standing("every = '1d'", &except);
    assert!(!idle.is_due(Some(time("2026-11-20T09:00:00Z")), None, time("2026-11-25T10:00:00Z")));
    assert_eq!(Chaos::default().standing(&[]).expect("it reads"), None);
}

/// In the middle of a rollout the dead of a new image are failures; the killed are not.
#[test]
fn on_trial_a_kill_is_no_failure() {
    use crate::fleet::plan::{Kind, Situation, plan};
    use crate::fleet::surroundings::Outlook;
    let fleet = file("");
    let (policy, target) = (Policy::of(&fleet).expect("a policy"), Target::new(&fleet, Digest::of(b"new")));
    let kind = |killed: bool, seconds: i64, change: fn(&mut Instance)| {
        let mut world = World::whole();
        world.says(
            1,
            &Event::Opened {
                target: target.clone(),
                reason: String::new(),
                emergency: false,
                fleet: None,
                commit: None,
            },
        );
        if killed {
            world.says(NOW - seconds, &chaos(2));
        }
        for seen in &mut world.census.instances {
            seen.generation = Some(target.generation.clone());
        }
        change(&mut world.census.instances[1]);
        let plan = plan(&Situation {
            policy: &policy,
            fleet: "web",
            target: &target,
            census: &world.census,
            history: &world.history,
            outlook: &Outlook::default(),
            now: at(NOW),
        });
        plan.members[1].kind.clone()
    };
    let dead: fn(&mut Instance) =
        |seen| (seen.state, seen.health, seen.in_service) = (State::Dead, Health::Unhealthy, false);
    let ill: fn(&mut Instance) = |seen| seen.health = Health::Unhealthy;
    assert!(matches!(kind(false, 5, dead), Kind::Failed(_)));
    assert_eq!(kind(true, 5, dead), Kind::Dead);
    assert!(matches!(kind(false, 5, ill), Kind::Failed(_)));
    assert_eq!(kind(true, 5, ill), Kind::Unhealthy);
    // A list that has it well is not relied on, as long as it may be older.
    assert_eq!(kind(true, 5, |_| {}), Kind::Unknown);
    assert_eq!(kind(true, 60, |_| {}), Kind::Current);
    assert_eq!(kind(false, 5, |_| {}), Kind::Current);
}

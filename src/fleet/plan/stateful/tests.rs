//! Tables: one situation of members a row, what is done and what is waited for.

use jiff::{SignedDuration, Timestamp};

use super::super::{Plan, Situation, forecast, plan};
use crate::digest::Digest;
use crate::fleet::Fleet;
use crate::fleet::census::{Census, Health, Instance, InstanceId, State};
use crate::fleet::cluster::{Cluster, Membership, Role};
use crate::fleet::generation::{Generation, Target};
use crate::fleet::history::{History, Member, Moved, Refused};
use crate::fleet::policy::Policy;
use crate::fleet::surroundings::Outlook;
use crate::provider::Action;

const NOW: Timestamp = Timestamp::constant(10_000, 0);

fn fleet(more: &str) -> Fleet {
    toml::from_str(&format!(
        "image = 'db'\nsize = 3\n[local]\nlisten = '127.0.0.1:1'\nport = 5432\n\
         [health]\nhttp = {{ port = 8008, path = '/health' }}\n[stateful]\npatroni = {{}}\n{more}\n"
    ))
    .expect("a fleet")
}

fn id(number: u64) -> InstanceId {
    InstanceId::new("db", number)
}

fn ago(seconds: i64) -> Timestamp {
    NOW - SignedDuration::from_secs(seconds)
}

/// Members in words, `db-1` first. Each is `old` or `new`, then what it is: `L` leads, `S` synchronous, `R` replica, `J`
/// copies, `?` says nothing, `D` drains (a replica), `X` its machine ended, `U` ill (a replica), `Y` ill, and it leads, `B`
/// boots, `W` (a replica) lags.
struct Scene {
    census: Census,
    history: History,
    fleet: Fleet,
}

fn scene(words: &str) -> Scene {
    let fleet = fleet("");
    let mut scene = Scene {
        census: Census { cluster: Some(Cluster::default()), ..Census::empty(NOW) },
        history: History {
            proven: Some(Target::new(&fleet, Digest::of(b"new"))),
            founded: true,
            ..History::default()
        },
        fleet,
    };
    for (number, word) in (1..).zip(words.split_whitespace()) {
        scene.add(number, word);
    }
    let leads = scene.census.instances.iter().find(|seen| seen.leads()).map(|seen| seen.id.clone());
    let before = scene.history.leadership.leads.take();
    scene.history.leadership.leads = before.or(leads.map(|id| (Some(id), ago(500))));
    scene
}

impl Scene {
    fn add(&mut self, number: u64, word: &str) {
        let (age, what) = word.split_at(3);
        let generation = Generation::of(&self.fleet, Digest::of(age.as_bytes()));
        let role = match what {
            "L" | "Y" => Role::Leader,
            "S" => Role::Synchronous,
            "J" => Role::Joining,
            _ => Role::Replica,
        };
        let membership = Membership { role, caught_up: !matches!(what, "J" | "W"), stays: None };
        let silent = matches!(what, "?" | "X" | "B" | "U" | "Y");
        let mut seen = Instance {
            id: id(number),
            image: generation.image(),
            generation: Some(generation.clone()),
            state: State::Running,
            health: Health::Healthy,
            in_service: true,
            launched_at: ago(1000 - number.cast_signed()),
            touched: None,
            connections: 0,
            address: None,
            zone: None,
            known_as: None,
            membership: (!silent).then_some(membership),
        };
        let mut member = Member {
            launched: true,
            generation: Some(generation.id),
            served: true,
            joined: !silent,
            ..Member::default()
        };
        match what {
            "J" | "B" => {
                (seen.state, seen.in_service, seen.health) = (State::Launching, false, Health::Unhealthy);
                (seen.launched_at, member.served) = (ago(5), false);
            }
            "D" => (seen.state, seen.in_service, member.draining) = (State::Draining, false, Some(ago(1))),
            "X" => (seen.state, seen.health, seen.in_service) = (State::Dead, Health::Unhealthy, false),
            "U" | "Y" => {
                (seen.health, seen.in_service, member.ill) = (Health::Unhealthy, false, Some(ago(60)));
            }
            _ => {}
        }
        if what == "Y" {
            // As a leader's own word is still with the others for a while.
            seen.membership = Some(Membership { role, caught_up: true, stays: None });
        }
        let cluster = self.census.cluster.get_or_insert_default();
        cluster.registered.push(seen.id.clone());
        if !matches!(what, "J" | "B") {
            cluster.voters.push(seen.id.clone());
        }
        self.census.instances.push(seen);
        self.history.launches = number;
        self.history.members.insert(id(number), member);
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn situation<T>(&self, of: impl FnOnce(&Situation<'_>) -> T) -> T {
        let policy = Policy::of(&self.fleet).expect("a policy");
        let target = Target::new(&self.fleet, Digest::of(b"new"));
        let outlook = Outlook::default();
        of(&Situation {
            policy: &policy,
            fleet: "db",
            target: &target,
            census: &self.census,
            history: &self.history,
            outlook: &outlook,
            now: NOW,
        })
    }

    fn plan(&self) -> Plan {
        self.situation(plan)
    }

    fn said(&self) -> String {
        let plan = self.plan();
        let notes =
            plan.notes.iter().map(|note| format!("note {}", serde_json::to_value(note).expect("json")));
        let actions = plan.actions.iter().map(|action| match action {
            Action::Launch { id, founds, .. } => format!("{} {id}", if *founds { "found" } else { "launch" }),
            other => other.to_string(),
        });
        let holds = plan.holds.iter().map(|hold| format!("[{hold}]"));
        notes.chain(actions).chain(holds).collect::<Vec<_>>().join("; ")
    }
}

#[test]
fn replicas_go_first_and_the_leader_last() {
    let table = [
        // A whole fleet has nothing to do.
        ("newL newS newR", ""),
        // A fourth is launched beside three.
        ("oldL oldS oldR", "launch db-4; [db-3 serves until enough others do]"),
        // While it copies, nobody goes.
        ("oldL oldS oldR newJ", "[db-3 serves until enough others do]; [db-4 does not serve yet]"),
        // The replica goes for which no write waits, though others are older; then the other one, and never the leader.
        ("oldL oldS oldR newS", "drain db-3"),
        ("oldS oldL oldR newS", "drain db-3"),
        ("oldS oldL newS newR", "drain db-1"),
        // Drained, it is ended.
        ("oldL oldD oldR newS", "end db-2 (drained)"),
        // The leader alone is old: it hands over to a new one that is synchronous.
        ("oldL newS newR newR", "hand leadership over from db-1 to db-2"),
        ("oldL newR newS newR", "hand leadership over from db-1 to db-3"),
        // Nobody may take it yet.
        ("oldL newR newR newR", "[db-1 leads on: no new member may take it yet]"),
        // It led, and is replaced like any other.
        ("oldR newL newS newR", "drain db-1"),
    ];
    for (words, wanted) in table {
        let said = scene(words).said();
        assert!(
            said.starts_with(wanted) && wanted.is_empty() == said.is_empty(),
            "{words}\n is: {said}\nnot: {wanted}"
        );
    }
}

#[test]
fn what_drains_and_came_to_lead_serves_again() {
    let led = |scene: &mut Scene| {
        let drained = scene.census.instances.get_mut(1).and_then(|seen| seen.membership.as_mut());
        drained.expect("it answers").role = Role::Leader;
        scene.history.leadership.leads = Some((Some(id(2)), ago(1)));
    };
    assert_eq!(scene("newS oldD newR newR").with(led).said().split("; ").next(), Some("give db-2 requests"));
}

#[test]
fn votes_and_copies_hold_before_and_after() {
    /// Members, what else there is, and what follows.
    type Row = (&'static str, fn(&mut Scene), &'static str);
    let table: [Row; 7] = [
        // A voter that ended and is registered still: of five votes four answer, and without one three of four.
        ("oldL oldS oldR newS", |scene| ghosts(scene, &[90]), "drain db-3"),
        // Two of them: of six votes four answer, and three of five without one.
        ("oldL oldS oldR newS", |scene| ghosts(scene, &[90, 91]), "drain db-3"),
        // Three: four of seven answer, and three of six would.
        ("oldL oldS oldR newS", |scene| ghosts(scene, &[90, 91, 92]), "[db-3 stays: 4 of 7 votes answer"),
        // Nobody is synchronous at this moment.
        (
            "oldL oldR oldR newR",
            |_| {},
            "[db-2 stays: without it 0 beside the leader would have all data, 1 must]",
        ),
        // The only other one that has all data is the one that would go.
        ("oldL oldS newW newW", |_| {}, ""),
        // Someone has it paused.
        (
            "oldL oldS oldR newS",
            |scene| refuse(scene, "Patroni is paused"),
            "[nobody may leave: Patroni is paused]",
        ),
        (
            "oldL newS newR newR",
            |scene| refuse(scene, "Patroni is paused"),
            "[nobody may leave: Patroni is paused]",
        ),
    ];
    for (words, change, wanted) in table {
        let scene = scene(words).with(change);
        let said = scene.said();
        assert!(said.contains(wanted), "{words}\n is: {said}\nnot: {wanted}");
        let removes = |action: &Action| matches!(action, Action::Drain { .. } | Action::HandOver { .. });
        assert_eq!(scene.plan().actions.iter().any(removes), wanted.starts_with("drain"), "{words}: {said}");
    }
}

/// Voters that no instance is, and that rekiln did not launch, so that it leaves them.
fn ghosts(scene: &mut Scene, numbers: &[u64]) {
    let cluster = scene.census.cluster.as_mut().expect("there is one");
    cluster.voters.extend(numbers.iter().map(|number| id(*number)));
}

fn refuse(scene: &mut Scene, why: &str) {
    scene.census.cluster.as_mut().expect("there is one").refuses.push(why.to_owned());
}

#[test]
fn leadership_moves_once_and_not_now_is_asked_again() {
    let refused = |since, at| {
        move |scene: &mut Scene| {
            let words = "not now".to_owned();
            scene.history.leadership.refused = Some(Refused { since: ago(since), at: ago(at), words });
        }
    };
    let words = "oldL newS newR newR";
    assert!(scene(words).with(refused(60, 6)).said().starts_with("hand leadership over"));
    let said = scene(words).with(refused(60, 1)).said();
    assert_eq!(said, "[db-1 hands leadership over to db-2: not now]");
    let tired = scene(words).with(refused(121, 6));
    assert_eq!(tired.said(), "[db-1 does not hand leadership over: not now]");
    assert!(tired.plan().blocked());
    // It went to db-2 and came back by no act of ours: it may move again, since db-1 is old.
    let moved = |from, to, at| {
        move |scene: &mut Scene| {
            scene.history.leadership.moved = Some(Moved { from: id(from), to: id(to), at: ago(at) });
        }
    };
    assert!(scene(words).with(moved(1, 2, 31)).said().starts_with("hand leadership over"));
    // A moment ago: what is seen may be older.
    assert!(scene(words).with(moved(1, 2, 5)).said().contains("a moment ago"));
    // Someone wants the one replaced that it went to: not by us, and not twice.
    let wanted = |scene: &mut Scene| drop(scene.history.rotate.insert(id(1), "a test".to_owned()));
    assert!(
        scene("newL newS newR newR")
            .with(moved(3, 1, 900))
            .with(wanted)
            .said()
            .contains("does not hand leadership over: leadership was handed to it")
    );
}

#[test]
fn one_founds_and_the_others_join_one_at_a_time() {
    let unfounded = |scene: &mut Scene| {
        (scene.history.founded, scene.history.leadership.leads) = (false, None);
        scene.history.proven = None;
    };
    assert_eq!(scene("").with(unfounded).said(), "found db-1");
    assert_eq!(scene("newB").with(unfounded).said(), "[db-1 does not serve yet]");
    assert_eq!(scene("newL").said(), "launch db-2");
    assert_eq!(scene("newL newJ").said(), "[db-2 does not serve yet]");
    assert_eq!(scene("newL newS").said(), "launch db-3");
    // All gone, after they had data: nobody founds again.
    let said = scene("").with(|scene| scene.history.leadership.leads = Some((None, ago(61)))).said();
    assert_eq!(said, "[nobody leads since 1970-01-01 02:45:39 UTC, and no member says why]");
}

#[test]
fn what_ended_is_forgotten_only_while_someone_leads() {
    // A replica's machine ended: it is taken out, and another one joins.
    assert_eq!(scene("newL newS newX").said(), "end db-3 (its machine ended); launch db-4");
    // The leader's: until another one leads, its disk may be the last that has all data.
    let vacant =
        |seconds| move |scene: &mut Scene| scene.history.leadership.leads = Some((None, ago(seconds)));
    let said = scene("newX newS newR").with(vacant(10)).said();
    assert_eq!(said, "[nobody leads since 1970-01-01 02:46:30 UTC; the members elect]");
    // Two of three: a person's.
    let lost = scene("newX newX newR").with(vacant(61));
    assert_eq!(lost.said(), "[nobody leads since 1970-01-01 02:45:39 UTC: 1 of 3 votes are left]");
    assert!(lost.plan().blocked());
    // What it left behind goes when it is gone; who is there, or is not ours, stays.
    let left = |scene: &mut Scene| {
        let cluster = scene.census.cluster.as_mut().expect("there is one");
        cluster.registered.extend([id(2), InstanceId("pg-other".to_owned()), id(99)]);
        scene.history.launches = 5;
    };
    let ghost = |scene: &mut Scene| {
        let cluster = scene.census.cluster.as_mut().expect("there is one");
        cluster.registered.push(id(5));
        cluster.voters.push(id(5));
    };
    assert_eq!(scene("newL newS newR").with(left).with(ghost).said(), "remove what db-5 left behind");
    assert_eq!(scene("newL newS newR").with(left).said(), "");
    // Nor is another name for one that is there, though nobody lists it under that one at the moment.
    let alias = |number: u64| {
        move |scene: &mut Scene| {
            let name = InstanceId("i-0123".to_owned());
            scene.history.known_as.insert(name.clone(), id(number));
            scene.history.launches = 5;
            scene.census.cluster.as_mut().expect("there is one").registered.push(name);
        }
    };
    assert_eq!(scene("newL newS newR").with(alias(5)).said(), "remove what i-0123 left behind");
    assert_eq!(scene("newL newS newR").with(alias(2)).said(), "");
}

/// Whatever its health check says: one that copies does not have all data.
#[test]
fn that_one_copies_is_remembered_while_it_says_nothing() {
    let copies = |joined: bool, says: bool, seconds: i64| {
        move |scene: &mut Scene| {
            scene.history.members.get_mut(&id(4)).expect("it is known").joined = joined;
            let seen = &mut scene.census.instances[3];
            (seen.state, seen.launched_at) = (State::Running, ago(seconds));
            if !says {
                seen.membership = None;
            }
        }
    };
    let said =
        |joined, says, seconds| scene("oldL oldS oldR newJ").with(copies(joined, says, seconds)).said();
    let note = r#"note {"instance":"db-4","kind":"joined"}"#;
    assert!(said(false, true, 5).starts_with(note), "{}", said(false, true, 5));
    let waits = "[db-3 serves until enough others do]; [db-4 does not serve yet]";
    assert_eq!(said(true, true, 5), waits);
    // Long after the time that a machine has to boot: only who never said anything has failed.
    assert_eq!(said(true, false, 900), waits);
    assert!(said(false, false, 900).contains(r#""kind":"failed""#), "{}", said(false, false, 900));
}

#[test]
fn an_ill_leader_hands_over_or_is_ended_where_copies_allow() {
    assert!(scene("newY newS newR").said().contains("launch db-4"), "{}", scene("newY newS newR").said());
    let said = scene("newY newS newR newR").said();
    assert!(said.starts_with("hand leadership over from db-1 to db-2"), "{said}");
}

#[test]
fn who_leads_is_remembered_and_one_that_is_silent_may_lead_still() {
    let leads = |leader: Option<u64>| {
        move |scene: &mut Scene| {
            scene.history.leadership.leads = Some((leader.map(id), ago(100)));
        }
    };
    let note = |words: &str, leader| scene(words).with(leads(leader)).said();
    assert!(note("newL newS newR", Some(2)).contains("\"instance\":\"db-1\""));
    assert!(note("newL newS newR", None).contains("\"instance\":\"db-1\""));
    assert!(note("newX newS newR", Some(1)).contains("\"instance\":null"));
    assert!(note("newR newS newR", Some(1)).contains("\"instance\":null"));
    let silent = note("new? newS newR", Some(1));
    assert!(!silent.contains("note") && silent.contains("the health of db-1 cannot be told"), "{silent}");
}

#[test]
fn a_forecast_replaces_everyone_and_moves_leadership_once() {
    let acts = scene("oldL oldS oldR").situation(forecast);
    let count = |is: fn(&Action) -> bool| acts.iter().filter(|action| is(action)).count();
    assert_eq!(count(|action| matches!(action, Action::Launch { .. })), 3, "{acts:?}");
    assert_eq!(count(|action| matches!(action, Action::Drain { .. })), 3);
    assert_eq!(count(|action| matches!(action, Action::Terminate { .. })), 3);
    let moved: Vec<_> = acts.iter().filter(|action| matches!(action, Action::HandOver { .. })).collect();
    assert_eq!(moved, [&Action::HandOver { id: id(1), to: id(4) }]);
    let first = |is: &dyn Fn(&Action) -> bool| acts.iter().position(is).expect("it is there");
    let leader = first(&|action| matches!(action, Action::Drain { id: found, .. } if *found == id(1)));
    assert!(first(&|action| matches!(action, Action::HandOver { .. })) < leader && leader > 6, "{acts:?}");
}

#[test]
fn so_few_members_cannot_be_replaced_one_by_one() {
    let error =
        Policy::of(&Fleet { size: 1, ..fleet("") }).expect_err("one cannot have a copy elsewhere").chain();
    assert!(error.contains("`stateful.synchronous` is 1"), "{error}");
    let mut in_place = fleet("[roll]\nsurge = 0\nunavailable = 1");
    assert!(Policy::of(&in_place).is_ok());
    in_place.size = 2;
    assert!(Policy::of(&in_place).is_err());
}

#[test]
fn what_is_ill_has_time_to_recover() {
    let ill = |seconds: Option<i64>| {
        move |scene: &mut Scene| {
            scene.history.members.get_mut(&id(3)).expect("it is there").ill = seconds.map(ago);
        }
    };
    let fresh = scene("newL newS newU").with(ill(None)).said();
    assert!(fresh.contains("\"kind\":\"ill\""), "{fresh}");
    let said = scene("newL newS newU").with(ill(Some(59))).said();
    assert_eq!(said, "[db-3 is ill, and may recover until 1970-01-01 02:46:41 UTC]");
    assert!(scene("newL newS newU").with(ill(Some(60))).said().starts_with("launch db-4"));
    let well = scene("newL newS newR").with(ill(Some(10))).said();
    assert!(well.contains("\"kind\":\"recovered\""), "{well}");
}

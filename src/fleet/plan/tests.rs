//! Tables: one situation a row, what is done and what is waited for.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::members::GONE;
use super::{Plan, Situation, forecast, plan};
use crate::digest::Digest;
use crate::fleet::census::{Census, Health, Instance, InstanceId, State};
use crate::fleet::generation::{Generation, Target};
use crate::fleet::history::{History, Member};
use crate::fleet::policy::Policy;
use crate::fleet::surroundings::Outlook;
use crate::fleet::{Fleet, Local, Share, Zones};
use crate::provider::Action;

/// Long after everything that a row launched.
const NOW: Timestamp = Timestamp::constant(10_000, 0);

fn fleet(surge: u32, unavailable: u32) -> Fleet {
    toml::from_str(&format!(
        "image = 'web'\nsize = 3\n[local]\nlisten = '127.0.0.1:1'\nport = 80\n\
         [health]\nhttp = {{ port = 80, path = '/' }}\n[roll]\nsurge = {surge}\nunavailable = {unavailable}\n"
    ))
    .expect("a fleet")
}

fn local(fleet: &mut Fleet) -> &mut Local {
    fleet.local.as_mut().expect("it is local")
}

fn generation(name: &str) -> Generation {
    Generation::of(&fleet(1, 0), Digest::of(name.as_bytes()))
}

/// A fleet in words, one word an instance, `web-1` first: `new`, `old`, `sick`, `boot`, `slow` (booting for too
/// long), `up` (healthy, without requests), `drained`, `busy` (drained, still serving), `dead`, `fog` (unknown),
/// `touched`, `begun` (launch interrupted), `lost` (seen no more), `gone` (for long), `asked` (its drain was begun, and
/// nobody heard the answer), `doubted` (given up, in service, and its health cannot be told), `given` (an old one that
/// may serve by now: it was told to, and nobody heard the answer), `rescued` (given up and drained, then needed again and
/// told to serve), `late` (the same, and so long ago that it does not), `told` (drained, and told to serve again),
/// `fill` (a launch of the old image, interrupted).
struct Row {
    instances: Vec<Instance>,
    history: History,
}

fn row(words: &str) -> Row {
    // What these rows roll to has completed before: the waves have rows of their own.
    let proven = Some(Target::new(&fleet(1, 0), Digest::of(b"new")));
    let mut row = Row { instances: Vec::new(), history: History { proven, ..History::default() } };
    for (number, word) in (1..).zip(words.split_whitespace()) {
        row.add(number, word);
    }
    row
}

impl Row {
    fn add(&mut self, number: u64, word: &str) {
        let id = InstanceId::new("web", number);
        let since = |seconds| NOW - SignedDuration::from_secs(seconds);
        let generation = generation(if matches!(word, "old" | "given" | "fill") { "old" } else { "new" });
        let mut seen = Instance {
            id: id.clone(),
            image: generation.image(),
            generation: Some(generation.clone()),
            state: State::Running,
            health: Health::Healthy,
            in_service: true,
            launched_at: since(1000 - number.cast_signed()),
            touched: None,
            connections: 0,
            address: None,
            zone: None,
            known_as: None,
            membership: None,
        };
        let mut member =
            Member { launched: true, generation: Some(generation.id), served: true, ..Member::default() };
        let mut visible = true;
        match word {
            "new" | "old" => {}
            "sick" => (seen.health, seen.in_service) = (Health::Unhealthy, false),
            "boot" | "slow" | "up" => {
                (seen.state, seen.in_service, member.served) = (State::Launching, false, false);
                seen.health = if word == "up" { Health::Healthy } else { Health::Unhealthy };
                if word == "boot" {
                    seen.launched_at = since(5);
                }
            }
            "drained" | "busy" => {
                (seen.state, seen.in_service, member.draining) = (State::Draining, false, Some(since(1)));
                seen.connections = u32::from(word == "busy") * 2;
            }
            "dead" => {
                (seen.state, seen.health, seen.in_service) = (State::Dead, Health::Unhealthy, false);
            }
            "fog" => seen.health = Health::Unknown,
            "asked" => member.draining = Some(since(1)),
            "doubted" => {
                (seen.health, member.failed) = (Health::Unknown, Some("it served".to_owned()));
            }
            "rescued" | "late" => {
                (seen.in_service, member.failed) = (false, Some("it served".to_owned()));
                member.given = Some(since(if word == "late" { 10 } else { 9 }));
            }
            "told" => {
                (seen.state, seen.in_service) = (State::Draining, false);
                (member.draining, member.given) = (Some(since(5)), Some(since(1)));
            }
            "touched" => seen.touched = Some("a shell".to_owned()),
            "given" => {
                (seen.state, seen.in_service, member.served) = (State::Launching, false, false);
                member.given = Some(since(1));
            }
            "begun" | "fill" => (visible, member.launched, member.served) = (false, false, false),
            "lost" => (visible, member.absent) = (false, Some(since(1))),
            "gone" => (visible, member.absent) = (false, Some(NOW - GONE)),
            other => panic!("`{other}` is no word"),
        }
        if visible {
            self.instances.push(seen);
        }
        self.history.launches = number;
        self.history.members.insert(id, member);
    }

    fn plan(self, surge: u32, unavailable: u32) -> Plan {
        let fleet = fleet(surge, unavailable);
        let target = Target::new(&fleet, Digest::of(b"new"));
        planned(&fleet, &target, self.instances, &self.history, &Outlook::default())
    }
}

fn planned(
    fleet: &Fleet,
    target: &Target,
    instances: Vec<Instance>,
    history: &History,
    outlook: &Outlook,
) -> Plan {
    let census = Census { at: NOW, instances, trouble: None, group: None, cluster: None };
    let policy = Policy::of(fleet).expect("a policy");
    let fleet = "web";
    plan(&Situation { policy: &policy, fleet, target, census: &census, history, outlook, now: NOW })
}

fn said(plan: &Plan) -> String {
    let image =
        generation("new").image().map_or_else(String::new, |image| format!(" from {}", image.short()));
    let actions = plan.actions.iter().map(|action| action.to_string().replace(&image, ""));
    let holds = plan.holds.iter().map(|hold| format!("[{hold}]"));
    let notes = plan.notes.iter().map(|note| match serde_json::to_value(note) {
        Ok(note) => format!("note {} {}", note["kind"], note["instance"]).replace('"', ""),
        Err(error) => error.to_string(),
    });
    notes.chain(actions).chain(holds).collect::<Vec<_>>().join("; ")
}

#[test]
fn with_one_above_the_size() {
    let table = [
        ("", "launch web-1; launch web-2; launch web-3"),
        ("new new new", ""),
        ("old new new", "launch web-4; [web-1 serves until enough others do]"),
        ("old new new boot", "[web-1 serves until enough others do]; [web-4 does not serve yet]"),
        ("old new new up", "give web-4 requests; [web-1 serves until enough others do]"),
        ("old new new new", "drain web-1"),
        ("drained new new new", "end web-1 (drained)"),
        ("busy new new new", "[web-1 still serves 2 connections]"),
        ("drained new new sick", "give web-1 requests; [web-4 serves until enough others do]"),
        ("drained new new dead", "give web-1 requests; end web-4 (its machine ended)"),
        ("new new asked", "give web-3 requests"),
        ("new new new doubted", "[the health of web-4 cannot be told]"),
        ("new new rescued", "give web-3 requests"),
        ("new new new told", "give web-4 requests"),
        ("new new late", "end web-3 (it failed); launch web-4"),
        ("new new new new", "drain web-4"),
        ("new new new boot", "end web-4 (one too many)"),
        ("new new dead", "end web-3 (its machine ended); launch web-4"),
        ("new new sick", "launch web-4; [web-3 serves until enough others do]"),
        ("new new sick new", "end web-3 (unhealthy)"),
        ("new new fog", "[the health of web-3 cannot be told]"),
        ("new new lost", "[web-3 is not seen; absent once is not gone]"),
        ("new new gone", "end web-3 (it is gone)"),
        ("new new begun", "launch web-3"),
        ("new new new begun", "end web-4 (its launch was interrupted and is no longer wanted)"),
        ("new new new given", "give web-4 requests"),
        ("new new given", "give web-3 requests; launch web-4"),
        ("new new new fill", "end web-4 (its launch was interrupted and is no longer wanted)"),
        ("new new slow", "note failed web-3"),
        ("touched new new", "launch web-4; [web-1 serves until enough others do]"),
    ];
    let wrong: Vec<_> = table
        .iter()
        .map(|(words, wanted)| (*words, said(&row(words).plan(1, 0)), *wanted))
        .filter(|(_, found, wanted)| found != wanted)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_zone_in_which_one_may_drain_is_the_one_that_is_replaced() {
    // The last was drained and is told to serve again: whatever it does, nothing drains in another zone meanwhile.
    let row = row("new new new old told");
    let mut fleet = fleet(1, 0);
    fleet.roll.zones = Zones::OneAtATime;
    local(&mut fleet).zones = vec!["a".to_owned(), "b".to_owned()];
    let zones = |told: &str| {
        let mut instances = row.instances.clone();
        instances[3].zone = Some("b".to_owned());
        instances[4].zone = Some(told.to_owned());
        let target = Target::new(&fleet, Digest::of(b"new"));
        let plan = planned(&fleet, &target, instances, &row.history, &Outlook::default());
        plan.actions.iter().any(|action| matches!(action, Action::Drain { .. }))
    };
    assert!(zones("b") && !zones("a"));
}

#[test]
fn in_place() {
    let table = [
        (
            "old old old",
            "drain web-1; [web-2 serves until enough others do]; [web-3 serves until enough others do]",
        ),
        (
            "drained old old",
            "end web-1 (drained); [web-2 serves until enough others do]; [web-3 serves until enough others do]",
        ),
        (
            "sick old old",
            "end web-1 (unhealthy, to make room for its replacement); [web-2 serves until enough others do]; \
          [web-3 serves until enough others do]",
        ),
        ("new new new", ""),
    ];
    let wrong: Vec<_> = table
        .iter()
        .map(|(words, wanted)| (*words, said(&row(words).plan(0, 1)), *wanted))
        .filter(|(_, found, wanted)| found != wanted)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Makes launching impossible in one way.
type Spend = fn(&mut History, &mut Outlook);

#[test]
fn a_refused_image_a_halt_and_a_spent_budget_launch_nothing() {
    let fleet = fleet(1, 0);
    let spend: [(&str, Spend); 3] = [
        ("must not be launched: debug", |_, outlook| {
            outlook.refused.push((Digest::of(b"new"), "debug".to_owned()));
        }),
        ("halted: by hand", |history, _| history.halted = Some("by hand".to_owned())),
        ("halted: 2 failed (web-8, web-9), 1 allowed", |history, _| {
            history.failures.extend([InstanceId::new("web", 8), InstanceId::new("web", 9)]);
        }),
    ];
    for (why, spend) in spend {
        let Row { instances, mut history } = row("old old dead");
        let target = Target::new(&fleet, Digest::of(b"new"));
        let mut outlook = Outlook::default();
        spend(&mut history, &mut outlook);
        let plan = planned(&fleet, &target, instances, &history, &outlook);
        let said = said(&plan);
        assert!(!said.contains("launch web") && !said.contains("drain") && said.contains(why), "{said}");
    }
}

#[test]
fn a_pause_is_named_where_only_drains_are_left() {
    for (words, wanted) in [
        ("old new new new", "paused: lunch; 1 more is to be replaced"),
        ("new new new new", "paused: lunch"),
        ("new new new", ""),
    ] {
        let mut row = row(words);
        row.history.paused = Some("lunch".to_owned());
        let plan = row.plan(1, 0);
        let holds: Vec<_> = plan.holds.iter().map(ToString::to_string).collect();
        assert_eq!((plan.actions, holds.join("; ").as_str()), (Vec::new(), wanted), "{words}");
    }
}

#[test]
fn a_gap_is_filled_with_what_is_proven_under_the_name_that_was_begun() {
    let mut fleet = fleet(1, 0);
    fleet.roll.canary = Share::Count(1);
    fleet.roll.soak = "1h".to_owned();
    let (new, old) = (Target::new(&fleet, Digest::of(b"new")), Target::new(&fleet, Digest::of(b"old")));
    let interrupted = "its launch was interrupted and is no longer wanted";
    // The first wave is one, and that is there.
    for (words, refused, wanted) in [
        ("new old", false, "launch web-3"),
        ("new old fill", false, "launch web-3"),
        ("new fill fill", false, "launch web-2; launch web-3"),
        ("new old old fill", false, &format!("end web-4 ({interrupted})")),
        ("new old fill", true, &format!("end web-3 ({interrupted})")),
        // The new one could have the place, had nobody begun to fill it.
        ("old old", false, "launch web-3 new"),
        ("old old fill", false, "launch web-3"),
    ] {
        let Row { instances, mut history } = row(words);
        history.proven = Some(old.clone());
        history.wave.reached = words.contains("new").then_some(NOW);
        // Nothing but gaps is filled while someone looks.
        history.paused = Some("lunch".to_owned());
        let mut outlook = Outlook::default();
        if refused {
            outlook.refused.push((old.image, "debug".to_owned()));
        }
        let plan = planned(&fleet, &new, instances, &history, &outlook);
        let (new, old) = [&new, &old].map(|target| format!(" from {}", target.image.short())).into();
        let told: Vec<_> = plan
            .actions
            .iter()
            .map(|action| action.to_string().replace(&old, "").replace(&new, " new"))
            .collect();
        let told = told.join("; ");
        assert_eq!(told, wanted, "{words}, refused: {refused}");
    }
}

#[test]
fn what_differs_is_named() {
    let (mut bigger, same) = (fleet(1, 0), fleet(2, 1));
    local(&mut bigger).memory = "512M".to_owned();
    local(&mut bigger).cpus = 4;
    let image = Digest::of(b"one");
    let wanted = Generation::of(&fleet(1, 0), image);
    assert_eq!(Generation::of(&bigger, image).drift(&wanted), ["cpus", "memory"]);
    assert_eq!(Generation::of(&same, Digest::of(b"two")).drift(&wanted), ["image"]);
    assert_eq!(
        Generation::of(&bigger, image).difference(&wanted, "memory").as_deref(),
        Some("memory 512M instead of 256M")
    );
    let (other, old, new) = (Digest::of(b"two"), Digest::of(b"two").short(), image.short());
    assert_eq!(
        Generation::of(&same, other).difference(&wanted, "image"),
        Some(format!("image {old} instead of {new}"))
    );
    assert_eq!(Generation::of(&same, image).difference(&wanted, "image"), None);
    assert!(Generation::of(&same, image).drift(&wanted).is_empty(), "the pace of a roll reaches no instance");
    let unknown =
        Generation { id: image, parts: Arc::new(BTreeMap::from([("zone".to_owned(), "a".to_owned())])) };
    assert_eq!(unknown.drift(&wanted), ["cpus", "health port", "image", "memory", "port", "zone"]);
}

#[test]
fn a_forecast_is_the_whole_roll() {
    let fleet = fleet(1, 0);
    let target = Target::new(&fleet, Digest::of(b"new"));
    let policy = Policy::of(&fleet).expect("a policy");
    let table = [
        ("new new new", ""),
        ("new new gone", "end web-3, launch web-4, give web-4"),
        ("new new lost", "end web-3, launch web-4, give web-4"),
        ("new new boot", "give web-3"),
        ("busy old new new", "end web-1, launch web-5, give web-5, drain web-2, end web-2"),
        (
            "old old new",
            "launch web-4, give web-4, drain web-1, end web-1, launch web-5, give web-5, drain web-2, end web-2",
        ),
        ("new new fog", ""),
    ];
    for (words, wanted) in table {
        let Row { instances, history } = row(words);
        let census = Census { at: NOW, instances, trouble: None, group: None, cluster: None };
        let acts = forecast(&Situation {
            policy: &policy,
            fleet: "web",
            target: &target,
            census: &census,
            history: &history,
            outlook: &Outlook::default(),
            now: NOW,
        });
        let acts: Vec<_> =
            acts.iter().map(|act| act.to_string().split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(acts.join(", "), wanted, "{words}");
    }
}

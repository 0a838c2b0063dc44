//! The same scenario on the simulated cloud and on the endpoint: the journals have the same decisions in the same order. What
//! the simulator proves of thousands of schedules is worth as much as it is like what groups really do.
//!
//! One instance is replaced at a time here: of two that boot at once, whichever serves first is first.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use rekiln::digest::Digest;
use rekiln::fleet::Fleet;
use rekiln::fleet::census::InstanceId;
use rekiln::fleet::history::Event;
use rekiln::fleet::journal::{Entry, Journal, Writer};
use rekiln::fleet::roll::{Order, Wish};
use rekiln::provider::Action;
use rekiln::provider::sim::{SimStore, Times};
use serde_json::json;

use super::stage::{Group, NAME, Setup, publish};
use crate::publish::lanes::every;
use crate::publish::stage::{REGION, Stage};
use crate::simulation::harness::Simulated;

/// A scenario.
#[derive(Debug)]
struct Scenario {
    name: &'static str,
    setup: Setup,
    /// What happens after the group was rolled once.
    then: Then,
}

#[derive(Debug, Clone, Copy)]
enum Then {
    Nothing,
    /// All are replaced although nothing changed.
    Rotate,
    /// An image that never serves is rolled.
    Bad,
    /// The first zone has no room when another image is rolled.
    Full,
}

fn scenarios() -> Vec<Scenario> {
    let setup = Setup { surge: 1, deadline: "8s", ..Setup::default() };
    let scenario = |name, setup, then| Scenario { name, setup, then };
    vec![
        scenario("one more at a time", setup.clone(), Then::Nothing),
        scenario(
            "one fewer at a time",
            Setup { surge: 0, unavailable: 1, size: 2, zones: 2, ..setup.clone() },
            Then::Nothing,
        ),
        scenario(
            "a canary and waves",
            Setup { size: 4, zones: 2, roll: "canary = 1\nwaves = ['75%']\nsoak = '1s'", ..setup.clone() },
            Then::Nothing,
        ),
        scenario("nothing there", Setup { size: 0, ..setup.clone() }, Then::Nothing),
        scenario("a rotation", Setup { size: 2, zones: 2, ..setup.clone() }, Then::Rotate),
        scenario(
            "a bad image that goes back",
            Setup { size: 2, zones: 2, roll: "failures = 0\non_failure = 'rollback'", ..setup.clone() },
            Then::Bad,
        ),
        scenario(
            "a bad image that stops",
            Setup { size: 2, zones: 2, roll: "failures = 0", ..setup.clone() },
            Then::Bad,
        ),
        scenario("no room in a zone", Setup { size: 2, zones: 2, ..setup }, Then::Full),
    ]
}

/// The decisions of a journal, one a line, with instances by what they are and where.
fn decisions(entries: &[Entry]) -> Vec<String> {
    let (mut told, mut zones) = (Vec::new(), BTreeMap::<InstanceId, String>::new());
    // The generations, in the order in which rolls went to them.
    let mut generations: Vec<Digest> = Vec::new();
    for Entry { event, .. } in entries {
        let zone = |id: &InstanceId| zones.get(id).cloned().unwrap_or_default();
        told.push(match event {
            Event::Opened { target, .. } => {
                if !generations.contains(&target.generation.id) {
                    generations.push(target.generation.id);
                }
                format!("to {}", number(&generations, target.generation.id))
            }
            Event::Seen { changed, .. } => {
                for instance in changed {
                    zones.extend(instance.zone.clone().map(|zone| (instance.id.clone(), last(&zone))));
                }
                continue;
            }
            Event::Intent { action: Action::Launch { id, generation, zone, .. } } => {
                let zone = zone.as_deref().map(last).unwrap_or_default();
                zones.insert(id.clone(), zone.clone());
                format!("launch of {} in {zone}", number(&generations, generation.id))
            }
            Event::Intent { action: Action::Admit { id } } => format!("admit in {}", zone(id)),
            Event::Intent { action: Action::Drain { id, others } } => {
                format!("drain in {}, {others} others", zone(id))
            }
            Event::Intent { action: Action::Terminate { id, healthy, .. } } => {
                format!("end in {}, healthy: {healthy}", zone(id))
            }
            Event::Failed { instance, counts, .. } => format!("failed in {}: {counts}", zone(instance)),
            Event::RolledBack { target, .. } => {
                format!("back to {}", number(&generations, target.generation.id))
            }
            Event::Rotate { instances, .. } => format!("rotate {}", instances.len()),
            Event::WaveReached { wave } => format!("wave {wave} is reached"),
            Event::WavePassed { wave } => format!("wave {wave} passes"),
            Event::Sized { size, lost } => format!("size {size}, lost {lost}"),
            Event::Completed => "completed".to_owned(),
            Event::Halted { .. } => "halted".to_owned(),
            Event::Stopped { .. } => "stopped".to_owned(),
            // How often it is looked at, and what acts are answered, is each cloud's own.
            Event::SizeDiffers { .. } | Event::Outcome { .. } | Event::Serving { .. } => continue,
            other => panic!("a scenario here does not have {other:?}"),
        });
    }
    told
}

/// Which of the generations that rolls went to, from 1; 0 for what the group had before.
fn number(generations: &[Digest], id: Digest) -> usize {
    generations.iter().position(|one| *one == id).map_or(0, |at| at + 1)
}

fn last(zone: &str) -> String {
    zone.chars().last().map(String::from).unwrap_or_default()
}

fn on_the_endpoint(stage: &Stage, scenario: &Scenario) -> Vec<String> {
    let mut group = Group::on(stage, scenario.setup.clone());
    group.run(&["roll", NAME]).must(0);
    match scenario.then {
        Then::Nothing => {}
        Then::Rotate => drop(group.run(&["rotate", NAME, "--yes", "--reason", "a test"]).must(0)),
        Then::Bad => {
            let bad = publish(stage, "no such page", 9);
            stage.cloud.control("boot", &json!({ "image": bad.id, "bad": true }));
            group.run(&["roll", NAME]).must(3);
        }
        Then::Full => {
            group.wanted = publish(stage, "another page", 9);
            let until = LONG.as_secs();
            stage.cloud.control("capacity", &json!({ "zone": format!("{REGION}a"), "until": until }));
            group.run(&["roll", NAME]).must(0);
        }
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let objects = stage.store().objects();
    let journal = runtime.block_on(Journal::open(&objects, NAME, Writer::this("a look"))).expect("sound");
    decisions(journal.entries())
}

/// How many seeds are tried until a group is as it has to be: one in 27 is.
const LUCK: u64 = 2000;
/// Longer than any scenario.
const LONG: SignedDuration = SignedDuration::from_hours(1);

fn simulated(scenario: &Scenario) -> Vec<String> {
    let Setup { size, zones, surge, unavailable, roll, .. } = &scenario.setup;
    let zones: Vec<_> = ["a", "b", "c"][..*zones].iter().map(|zone| format!("{REGION}{zone}")).collect();
    let fleet: Fleet = toml::from_str(&format!(
        "image = 'web'\nsize = {size}\n[local]\nlisten = '127.0.0.1:1'\nport = 80\nzones = {zones:?}\n[health]\n\
         deadline = '60s'\n[roll]\nsurge = {surge}\nunavailable = {unavailable}\n{roll}\n"
    ))
    .expect("a fleet file");
    let store = SimStore::new(9, 0, SignedDuration::from_hours(24));
    // As quick as the endpoint; and what the group has launched by itself serves.
    let second = SignedDuration::from_secs(1);
    let (soon, at_once) = ((second, second), (SignedDuration::ZERO, second));
    let group = |seed| {
        let run = Simulated::group(fleet.clone(), &store, NAME, seed);
        run.sim.set_times(Times { boot: soon, register: at_once, drain: at_once });
        for _ in 0..60 {
            run.sim.pass(second);
        }
        run
    };
    // The simulated group launches into zones by chance, the endpoint's into each in turn.
    let in_turn = |run: &Simulated<'_>| {
        let found = run.sim.truth();
        found.iter().zip(zones.iter().cycle()).all(|(instance, zone)| instance.zone.as_ref() == Some(zone))
    };
    let run = (1..LUCK).map(group).find(in_turn).expect("one of so many");
    let first = run.target("first");
    run.plain(&first);
    match scenario.then {
        Then::Nothing => {}
        Then::Rotate => {
            let wish = Wish { instances: Vec::new(), reason: "a test".to_owned() };
            run.roll(
                &first,
                Order { reason: "a test".to_owned(), wish: Some(wish), ..Order::default() },
                None,
            );
        }
        Then::Bad => {
            let bad = run.target("bad");
            run.sim.spoil(bad.image);
            run.plain(&bad);
        }
        Then::Full => {
            run.sim.fill(&zones[0], LONG);
            run.plain(&run.target("second"));
        }
    }
    run.assert_sound(scenario.name);
    run.read(|journal| decisions(journal.entries()))
}

#[test]
fn the_simulator_and_the_endpoint_lead_to_the_same_decisions() {
    every(scenarios(), |stage, scenario| {
        let (real, rehearsed) = (on_the_endpoint(stage, scenario), simulated(scenario));
        assert!(real.iter().any(|told| told == "completed"), "{real:#?}");
        assert_eq!(real, rehearsed, "{}", scenario.name);
    });
}

//! A journal says enough to make each of its decisions again, whatever happened meanwhile.

use std::path::Path;
use std::process::Command;

use jiff::SignedDuration;
use rekiln::fleet::Fleet;
use rekiln::fleet::history::Event;
use rekiln::fleet::journal::{Entry, Journal, Writer};
use rekiln::fleet::replay::replay;
use rekiln::fleet::roll::{Order, Wish};
use rekiln::provider::Action;
use rekiln::provider::sim::{Chance, Faults, GateFaults, SimStore};
use rekiln::store::Store;

use crate::simulation::harness::{Crash, Meanwhile, Simulated};

/// So many worlds; each takes some hundredths of a second.
const SEEDS: u64 = 48;

fn fleet(chance: &mut Chance) -> Fleet {
    let mut pick = |words: &[&str]| {
        let at = usize::try_from(chance.below(words.len() as u64)).expect("a small number");
        words[at].to_owned()
    };
    let roll = [
        pick(&["surge = 1", "surge = 2", "surge = 0\nunavailable = 1", "surge = 1\nunavailable = 1"]),
        pick(&["", "canary = 1", "canary = 1\nwaves = [3]", "waves = ['50%', '100%']"]),
        pick(&["", "soak = '20s'"]),
        pick(&["failures = 0", "failures = 2", "failures = 9"]),
        pick(&["on_failure = 'halt'", "on_failure = 'rollback'"]),
        pick(&["", "rate = '20/h'"]),
        pick(&["", "zones = 'one-at-a-time'"]),
        pick(&["", "windows = ['daily 00:00-12:00']"]),
    ];
    let gate = pick(&["", "[[gate]]\nname = 'errors'\ncommand = ['true']\nmax = '1'\n"]);
    toml::from_str(&format!(
        "image = 'web'\nsize = 5\n[local]\nlisten = '127.0.0.1:1'\nport = 80\nzones = ['a', 'b']\n\
         [health]\nhttp = {{ port = 80, path = '/' }}\ndeadline = '60s'\n[roll]\ndrain = '5s'\n{}\n{gate}",
        roll.join("\n")
    ))
    .expect("a fleet file")
}

/// A fleet brought up, then rolled with faults, crashes and commands, again and again.
fn journal(seed: u64) -> Vec<Entry> {
    let mut chance = Chance::new(seed);
    let store = SimStore::new(seed, 0, SignedDuration::from_hours(24));
    let mut run = Simulated::new(fleet(&mut chance), &store, "web", seed);
    let targets = ["first", "second", "third"].map(|name| run.target(name));
    let _ = run.plain(&targets[0]);
    run.sim.set_faults(Faults {
        bad_boot: 50,
        death: 2,
        flap: 5,
        unknown: 10,
        touch: 1,
        stranger: 2,
        failure: 20,
        lost_reply: 30,
        duplicate: 20,
        throttle: 20,
        no_capacity: 20,
        stale: 30,
        partial: 10,
        reordered: 30,
        endless: 30,
        ..Faults::default()
    });
    run.gates = GateFaults { fail: 20, not_yet: 300 };
    run.patience = 2_000;
    for turn in 0..6 {
        let target = &targets[usize::try_from(chance.below(3)).expect("a small number")];
        let emergency = chance.below(6) == 0;
        let wish =
            (chance.below(4) == 0).then(|| Wish { instances: Vec::new(), reason: "a test".to_owned() });
        let order = Order { reason: format!("turn {turn}"), wish, emergency, commit: None };
        let crash =
            (chance.below(2) == 0).then(|| Crash { act: chance.below(12), after: chance.below(2) == 0 });
        let what = match chance.below(8) {
            0 => Some(Meanwhile::Cancel { back: false }),
            1 => Some(Meanwhile::Cancel { back: true }),
            2 => Some(Meanwhile::Retarget(targets[2].clone())),
            3 => Some(Meanwhile::Pause),
            4 => Some(Meanwhile::TakeOver(targets[1].clone())),
            _ => None,
        };
        let at = chance.below(40);
        run.meanwhile.borrow_mut().extend(what.into_iter().map(|what| (at, what)));
        run.meanwhile.borrow_mut().push((at + 30, Meanwhile::Resume));
        let _ = run.roll(target, order, crash);
    }
    run.read(|journal| journal.entries().to_vec())
}

#[test]
fn simulated_journals_replay_identically() {
    let (mut decisions, mut commands, mut skipped) = (0, 0, 0);
    for seed in 0..SEEDS {
        let entries = journal(seed);
        let all = replay("web", &entries);
        assert!(!all.is_empty(), "seed {seed}");
        for replayed in &all {
            assert!(replayed.differs.is_none(), "seed {seed}: {replayed:#?}");
            decisions += replayed.decisions;
            skipped += usize::from(replayed.skipped.is_some());
        }
        commands += entries.iter().filter(|entry| entry.event.is_command()).count();
    }
    assert!(decisions > 5_000 && commands > 50, "{decisions} decisions and {commands} commands prove little");
    assert!(skipped > 0, "a takeover without a fleet file was never met");
}

/// Changes one entry and returns where it is.
fn tamper(entries: &mut [Entry], change: impl Fn(&mut Event) -> bool) -> u64 {
    let changed = entries.iter_mut().find_map(|entry| change(&mut entry.event).then_some(entry.number));
    changed.expect("there is such an entry")
}

#[test]
fn a_decision_that_was_tampered_with_is_found() {
    let tampering: [fn(&mut Event) -> bool; 4] = [
        |event| match event {
            Event::Intent { action: Action::Drain { others, .. } } => {
                *others = 0;
                true
            }
            _ => false,
        },
        |event| match event {
            Event::Serving { instance } => {
                instance.0 = "web-99".to_owned();
                true
            }
            _ => false,
        },
        |event| {
            let ends = matches!(event, Event::Completed);
            if ends {
                *event = Event::Halted { reason: "no reason".to_owned() };
            }
            ends
        },
        |event| match event {
            Event::Opened { fleet: Some(fleet), .. } => {
                fleet.size = 4;
                true
            }
            _ => false,
        },
    ];
    let mut chance = Chance::new(3);
    let store = SimStore::new(3, 0, SignedDuration::from_hours(24));
    let run = Simulated::new(fleet(&mut chance), &store, "web", 3);
    let (first, second) = (run.target("first"), run.target("second"));
    let _ = (run.plain(&first), run.plain(&second));
    let sound = run.read(|journal| journal.entries().to_vec());
    assert!(replay("web", &sound).iter().all(|replayed| replayed.differs.is_none()));
    for change in tampering {
        let mut entries = sound.clone();
        let number = tamper(&mut entries, change);
        let all = replay("web", &entries);
        let first = all.iter().find_map(|replayed| replayed.differs.as_ref()).expect("it is found");
        assert!(first.entry >= number, "{first:?}");
    }
}

fn rekiln(store: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_rekiln"))
        .args(args)
        .env("REKILN_STORE", store)
        .output()
        .expect("rekiln starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn the_command_says_identical_or_what_differs() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path().to_str().expect("UTF-8")).expect("a store");
    let entries = journal(1);
    let mut kept = Journal::open(&store.objects(), "web", Writer::this("a test")).await.expect("a journal");
    for entry in &entries {
        kept.record(entry.at, entry.event.clone()).await.expect("written");
    }
    let (code, out, _) = rekiln(dir.path(), &["replay", "web"]);
    assert!(code == Some(0) && out.contains("the chain of digests is whole"), "{out}");
    assert!(
        out.lines().skip(1).all(|line| line.ends_with("identical") || line.contains("not recorded")),
        "{out}"
    );
    let (code, out, _) = rekiln(dir.path(), &["replay", "web", "1", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&out).expect("one line of JSON");
    assert_eq!(
        (code, value["identical"].as_bool(), value["replayed"]["rollout"].as_u64()),
        (Some(0), Some(true), Some(1))
    );
    let (code, _, err) = rekiln(dir.path(), &["replay", "web", "2"]);
    assert!(code == Some(2) && err.contains("rolls were opened by entries 1,"), "{err}");
    // A decision that nothing asked for, in a chain that is whole.
    let action = Action::Admit { id: rekiln::fleet::census::InstanceId("web-7".to_owned()) };
    kept.record(kept.entries().last().expect("an entry").at, Event::Intent { action })
        .await
        .expect("written");
    let (code, out, _) = rekiln(dir.path(), &["replay", "web"]);
    assert!(
        code == Some(1) && out.contains("recorded  {") && out.contains("planned   {\"plan\":\"nothing\"}"),
        "{out}"
    );
}

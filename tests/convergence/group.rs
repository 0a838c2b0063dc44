//! What a roll of a group counts on, whose size its owner changes at will.

use rekiln::fleet::history::Event;
use rekiln::fleet::roll::Order;
use rekiln::provider::sim::SimStore;

use super::{done, fleet, store};
use crate::simulation::harness::{Crash, Meanwhile, Simulated};

fn group<'a>(roll: &str, store: &'a SimStore, seed: u64) -> Simulated<'a> {
    Simulated::group(fleet(roll), store, "web", seed)
}

/// The size that the owner wants, as the world has it and as the journal has it.
fn sizes(run: &Simulated<'_>) -> (Option<u32>, Option<u32>) {
    (run.sim.sizes().map(|(_, word)| word), run.read(|journal| journal.history().size))
}

#[test]
fn a_size_that_is_changed_in_mid_roll_is_the_owners_last_word() {
    for roll in ["", "surge = 2\ncanary = 1\nsoak = '10s'", "surge = 0\nunavailable = 1"] {
        let mut counted = 0;
        for (look, [first, last]) in (0..40).step_by(3).zip([[5, 2], [1, 4], [0, 6]].into_iter().cycle()) {
            let what = format!("{first} and then {last} from look {look} on: {roll}");
            let store = store();
            let run = group(roll, &store, look);
            let second = run.target("second");
            done(run.plain(&run.target("first")));
            let meanwhile = [(look, Meanwhile::Resize(first)), (look + 9, Meanwhile::Resize(last))];
            run.meanwhile.borrow_mut().extend(meanwhile);
            done(run.plain(&second));
            // Who writes it when the last look is over is heard by the next roll.
            done(run.plain(&second));
            run.assert_sound(&what);
            run.assert_converged(&second, &what);
            let (word, known) = sizes(&run);
            assert_eq!(word, known, "{what}");
            counted += usize::from(word != Some(3));
        }
        assert!(counted > 5, "{counted} sizes were changed in time: {roll}");
    }
}

#[test]
fn all_of_a_group_may_go_and_come_back() {
    let mut lost = 0;
    for look in 0..30 {
        let store = store();
        let run = group("", &store, look);
        let second = run.target("second");
        done(run.plain(&run.target("first")));
        run.meanwhile.borrow_mut().push((look, Meanwhile::Resize(0)));
        done(run.plain(&second));
        done(run.plain(&second));
        run.assert_sound(&format!("look {look}"));
        assert_eq!((sizes(&run), run.sim.truth()), ((Some(0), Some(0)), Vec::new()), "look {look}");
        run.sim.resize(3).expect("a policy");
        done(run.plain(&second));
        run.assert_sound(&format!("look {look}"));
        run.assert_converged(&second, &format!("look {look}"));
        assert_eq!(sizes(&run), (Some(3), Some(3)), "look {look}");
        lost += run.read(|journal| {
            let took = |event: &Event| matches!(event, Event::Sized { lost: 1.., .. });
            journal.entries().iter().filter(|entry| took(&entry.event)).count()
        });
    }
    assert!(lost > 0, "never was one that rekiln added taken away by the owner");
}

#[test]
fn where_there_are_none_no_wave_passes() {
    let store = store();
    let run = group("canary = 1\nsoak = '0s'", &store, 1);
    let (first, second) = (run.target("first"), run.target("second"));
    done(run.plain(&first));
    run.sim.resize(0).expect("a policy");
    done(run.plain(&first));
    let before = run.read(|journal| journal.entries().len());
    done(run.plain(&second));
    let passed = |event: &Event| matches!(event, Event::WaveReached { .. } | Event::WavePassed { .. });
    assert!(run.read(|journal| journal.entries()[before..].iter().all(|entry| !passed(&entry.event))));
}

#[test]
fn a_crash_before_and_after_each_act_and_another_size_meanwhile() {
    for after in [false, true] {
        for act in 0..12 {
            let what = format!("act {act}, {after}");
            let store = store();
            let run = group("", &store, act);
            let second = run.target("second");
            done(run.plain(&run.target("first")));
            run.meanwhile.borrow_mut().push((act, Meanwhile::Resize(5)));
            let _ = run.roll(&second, Order::default(), Some(Crash { act, after }));
            run.sim.resize(4).expect("a policy");
            done(run.plain(&second));
            done(run.plain(&second));
            run.assert_sound(&what);
            run.assert_converged(&second, &what);
            let (word, known) = sizes(&run);
            assert_eq!(word, known, "{what}");
        }
    }
}

#[test]
fn what_a_group_replaces_by_itself_is_not_launched_again() {
    for seed in 0..8 {
        let store = store();
        let run = group("", &store, seed);
        let first = run.target("first");
        done(run.plain(&first));
        let victim = run.sim.ids().into_iter().next().expect("an instance");
        run.sim.kill(&victim);
        let again = done(run.plain(&first));
        assert!(again.launched.is_empty(), "seed {seed}: {again:?}");
        run.assert_sound(&format!("seed {seed}"));
        run.assert_converged(&first, &format!("seed {seed}"));
        assert!(run.sim.ids().iter().any(|id| id.0.starts_with("i-x")), "seed {seed}: the group's own");
    }
}

use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, Waker};

use jiff::SignedDuration;

use super::*;
use crate::digest::Digest;
use crate::fleet::Fleet;
use crate::fleet::census::Census;
use crate::fleet::generation::Target;
use crate::fleet::history::{Event, History};
use crate::fleet::journal::{Journal, Writer};
use crate::fleet::policy::Policy;
use crate::fleet::roll::{Order, Roll};
use crate::fleet::surroundings::Outlook;
use crate::progress::Silent;
use crate::provider::Provider as _;
use crate::provider::sim::{GateFaults, Sim, SimStore, SimSurroundings, Times as Takes};

/// A simulated fleet and its journal.
struct Stage {
    fleet: Fleet,
    policy: Policy,
    sim: Sim,
    journal: Journal,
}

impl Stage {
    /// Every boot takes 30 s and every drain 4 s.
    fn new(size: usize, roll: &str) -> Self {
        let fleet: Fleet = toml::from_str(&format!(
            "image = 'web'\nsize = {size}\n[local]\nlisten = '127.0.0.1:1'\nport = 80\n\
             [health]\nhttp = {{ port = 80, path = '/' }}\n[roll]\n{roll}\n"
        ))
        .expect("a fleet");
        let policy = Policy::of(&fleet).expect("a policy");
        let sim = Sim::new(policy.clone(), 1);
        let always = |seconds| (SignedDuration::from_secs(seconds), SignedDuration::from_secs(seconds));
        sim.set_times(Takes { boot: always(30), register: always(0), drain: always(4) });
        let journal = Journal::fleeting("web", Writer::this("a test"));
        Self { fleet, policy, sim, journal }
    }

    /// Rolls to an image and returns how many seconds that took.
    fn roll(&mut self, image: &str) -> i64 {
        let store = SimStore::new(1, 0, SignedDuration::from_hours(1));
        let gates = GateFaults::default();
        let (stop, begun) = (AtomicBool::new(false), self.sim.now());
        let surroundings =
            SimSurroundings { store: &store, sim: &self.sim, fleet: "web", gates, bad_hooks: 0 };
        let roll = Roll {
            name: "web",
            fleet: &self.fleet,
            target: Target::new(&self.fleet, Digest::of(image.as_bytes())),
            provider: &self.sim,
            surroundings: &surroundings,
            journal: &mut self.journal,
            progress: &Silent,
            stop: &stop,
        };
        ready(roll.run(Order::default())).expect("it completes");
        self.sim.now().duration_since(begun).as_secs()
    }

    fn census(&self) -> Census {
        ready(self.sim.census()).expect("a census")
    }

    fn history(&self) -> History {
        self.journal.history().clone()
    }

    /// What is expected of a roll to another image, with at most so many looks.
    fn expected(&self, census: &Census, history: &History, looks: usize) -> Expected {
        let target = Target::new(&self.fleet, Digest::of(b"another"));
        let (policy, target, fleet, now) = (&self.policy, &target, "web", census.at);
        let (outlook, history) = (&Outlook::default(), &history.opened(target));
        let situation = Situation { policy, fleet, target, census, history, outlook, now };
        let experience = Experience::of(self.journal.entries());
        let Forecast { end, .. } = foresee(&situation, Times::of(&experience, policy), looks);
        expected_of(end, &situation, &experience)
    }

    fn seconds(&self, looks: usize) -> i64 {
        match self.expected(&self.census(), &self.history(), looks) {
            Expected::At { seconds, .. } => seconds,
            other => panic!("{other:?}"),
        }
    }
}

/// Everything simulated is ready at once.
fn ready<T>(work: impl Future<Output = T>) -> T {
    match Box::pin(work).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

/// Tells whether `a` is `b`, give or take a fifth: looks and polls take their time too.
fn near(a: i64, b: i64) -> bool {
    (a - b).abs() * 5 <= b
}

#[test]
fn a_roll_ends_when_it_was_expected_to() {
    for (size, roll) in [
        (4, "surge = 1"),
        (6, "surge = 0\nunavailable = 2"),
        (10, "canary = 1\nwaves = ['50%']\nsoak = '5m'"),
        (12, "surge = 4\nrate = '5/h'"),
        (30, "surge = '20%'\nsoak = '1m'"),
    ] {
        let mut stage = Stage::new(size, roll);
        stage.roll("first");
        // The first one has drained nothing.
        stage.roll("second");
        let expected = stage.seconds(LOOKS);
        let took = stage.roll("another");
        assert!(near(expected, took), "{roll}: {expected} s were expected, and {took} s it took");
    }
}

#[test]
fn what_is_too_much_to_look_at_is_reckoned() {
    for (size, roll) in [
        (40, "surge = 1"),
        (60, "surge = 0\nunavailable = 5"),
        (60, "surge = 5\nrate = '10/h'"),
        (40, "surge = 2\ncanary = 1\nwaves = ['50%']\nsoak = '5m'"),
    ] {
        let mut stage = Stage::new(size, roll);
        stage.roll("first");
        stage.roll("second");
        let (whole, short) = (stage.seconds(LOOKS), stage.seconds(size * 3));
        assert!(near(short, whole), "{roll}: {short} s instead of {whole} s");
    }
}

#[test]
fn of_a_large_fleet_only_the_first_steps_are_looked_at() {
    let mut stage = Stage::new(300, "surge = '1%'");
    stage.roll("first");
    let target = Target::new(&stage.fleet, Digest::of(b"another"));
    let (policy, census, history) = (&stage.policy, &stage.census(), &stage.history());
    let (target, fleet, now, outlook) = (&target, "web", census.at, &Outlook::default());
    let situation = Situation { policy, fleet, target, census, history, outlook, now };
    let experience = Experience::of(stage.journal.entries());
    let Expected::At { seconds, .. } = expected(&situation, &experience) else { panic!("it is known") };
    assert!(seconds >= 100 * 30, "a hundred turns of one boot: {seconds}");
    let short = foresee(&situation, Times::of(&experience, policy), GLANCES).acts.len();
    assert!(short < 800, "{short} acts");
}

#[test]
fn without_a_record_and_where_a_person_must_come_there_is_no_end() {
    let mut stage = Stage::new(3, "soak = '1m'");
    let (census, history) = (stage.census(), stage.history());
    assert_eq!(stage.expected(&census, &history, LOOKS), Expected::NoRecord);
    assert_eq!(
        Expected::NoRecord.told(census.at),
        "expected end not known: no launch of this fleet is on record"
    );
    stage.roll("first");
    let (census, mut history) = (stage.census(), stage.history());
    history.add(census.at, &Event::Paused { reason: "a look".to_owned() });
    let held = stage.expected(&census, &history, LOOKS);
    assert_eq!(held, Expected::Held { why: Hold::Paused { reason: "a look".to_owned() } });
    assert_eq!(held.told(census.at), "expected end not known while it is held");
    let json = serde_json::to_value(held).expect("JSON");
    assert_eq!(
        json,
        serde_json::json!({ "expected": "held", "why": { "hold": "paused", "reason": "a look" } })
    );
}

#[test]
fn an_end_is_never_in_the_past() {
    let mut stage = Stage::new(3, "");
    stage.roll("first");
    let (mut census, history) = (stage.census(), stage.history());
    // Longer than any launch on record, and not failed yet: it may serve any moment.
    for seen in &mut census.instances {
        seen.state = crate::fleet::census::State::Launching;
        seen.health = crate::fleet::census::Health::Unhealthy;
        seen.launched_at = census.at - SignedDuration::from_secs(100);
    }
    let Expected::At { at, seconds, launches: 3 } = stage.expected(&census, &history, LOOKS) else {
        panic!("it is known")
    };
    assert!(at >= census.at && seconds >= 0, "{at} {seconds}");
    let past = Expected::At { at: census.at, seconds: 0, launches: 1 };
    let later = census.at + SignedDuration::from_mins(1);
    assert_eq!(past.told(later), "expected end now, from 1 launch of this fleet");
    let ahead = Expected::At { at: later + SignedDuration::from_mins(12), seconds: 720, launches: 34 };
    let time = (later + SignedDuration::from_mins(12)).strftime("%H:%M");
    assert_eq!(
        ahead.told(later),
        format!("expected end {time} UTC, in about 12 min, from 34 launches of this fleet")
    );
}

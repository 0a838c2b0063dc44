//! The rollout engine in every small world: three instances, two zones, a crash anywhere, two writers. Where the random
//! schedules of `simulation` go far and wide, this goes everywhere within its bounds, and what it finds it tells by the
//! shortest way there.
//!
//! What runs is the real loop, planner, journal and simulated cloud with its laws; only chance is replaced by every choice
//! there is: who of two processes does what next, where one dies, which answer is lost, how long a boot takes. A process
//! can stop at each entry, look and act (`process`); equal states are gone on from once, times counted from now (`alike`).
//!
//! The search (`search`) is our own. `stateright`, which does the like, brings a web server that cannot be left out, and
//! by its own words its `eventually` misses what goes round in circles; that every roll ends is half of what is checked here.

mod alike;
mod happen;
mod process;
mod scene;
mod search;
mod state;
mod words;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use rekiln::digest::Digest;
use rekiln::fleet::Fleet;
use rekiln::fleet::generation::Target;
use rekiln::fleet::policy::Policy;

use scene::{Budget, Scene};

/// Nothing goes wrong.
const NONE: Budget =
    Budget { crash: 0, rival: 0, emergency: 0, fault: 0, harm: 0, word: 0, stall: 0, again: 1 };
const CRASH: Budget = Budget { crash: 1, ..NONE };
const RIVAL: Budget = Budget { rival: 1, ..NONE };
const EMERGENCY: Budget = Budget { emergency: 1, ..NONE };
const FAULT: Budget = Budget { fault: 1, ..NONE };
const HARM: Budget = Budget { harm: 1, ..NONE };
const WORD: Budget = Budget { word: 1, ..NONE };

/// A replacement comes first.
const FIRST: &str = "";
const IN_PLACE: &str = "surge = 0\nunavailable = 1\nzones = 'one-at-a-time'\n";
/// Two at once, but not of two zones.
const ZONES: &str = "surge = 0\nunavailable = 2\nzones = 'one-at-a-time'\n";
const CANARY: &str = "canary = 1\nsoak = '10s'\n";
/// One failure is enough, and there is something to go back to.
const BACK: &str = "failures = 0\non_failure = 'rollback'\n";
const HALT: &str = "failures = 0\n";

/// What is gone through in each test run.
fn few() -> Vec<Scene> {
    vec![
        scene("replacement first, a crash", FIRST, CRASH),
        scene("replacement first, a rival", FIRST, RIVAL),
        scene("replacement first, a fault", FIRST, FAULT),
        scene("in place, a crash", IN_PLACE, CRASH),
        scene("two in place", ZONES, NONE),
        scene("canary, a crash", CANARY, CRASH),
        scene("canary, a word", CANARY, WORD),
        bad(scene("bad image, a crash and a fault", BACK, Budget { fault: 1, ..CRASH })),
        bad(scene("bad image, a crash and a rival", BACK, Budget { rival: 1, ..CRASH })),
        bad(scene("bad image that halts, harm", HALT, HARM)),
        bad(going(scene("bad image, another one in an emergency", BACK, EMERGENCY), "newer")),
    ]
}

/// What is gone through besides where the code is optimised, as `tests/run` does it.
fn more() -> Vec<Scene> {
    vec![
        bad(scene("bad image, a fault and harm", BACK, Budget { fault: 1, ..HARM })),
        bad(scene("bad image, a crash, a fault and a rival", BACK, Budget { fault: 1, rival: 1, ..CRASH })),
        scene("replacement first, a crash and a fault", FIRST, Budget { fault: 1, ..CRASH }),
        scene("replacement first, a crash and a rival", FIRST, Budget { rival: 1, ..CRASH }),
        scene("replacement first, harm", FIRST, HARM),
        scene("replacement first, a word and a crash", FIRST, Budget { crash: 1, ..WORD }),
        going(scene("replacement first, another one in an emergency", FIRST, EMERGENCY), "newer"),
        going(scene("replacement first, a rival who goes back", FIRST, RIVAL), "old"),
        scene("in place, a crash and a fault", IN_PLACE, Budget { fault: 1, ..CRASH }),
        scene("two in place, a crash", ZONES, CRASH),
        scene("in place, a rival", IN_PLACE, RIVAL),
        scene("in place, harm", IN_PLACE, HARM),
        scene("in place, a word", IN_PLACE, WORD),
        scene("canary, a crash and a fault", CANARY, Budget { fault: 1, ..CRASH }),
        scene("canary, a rival", CANARY, RIVAL),
        scene("canary, harm", CANARY, HARM),
        elsewhere(scene("leases, a stall and a rival", FIRST, Budget { stall: 1, ..RIVAL })),
    ]
}

/// What must be reached, or nothing is proved about it.
const MUST: [&str; 24] = [
    "completed",
    "refused by the fence",
    "taken over",
    "an act after the journal was lost",
    "crash at a look or a wait",
    "crash before a note or an intent",
    "crash between intent and act",
    "crash between act and outcome",
    "lost answer",
    "failed act",
    "act twice",
    "no capacity",
    "never healthy, or never drained",
    "an entry of which nobody knows",
    "stale look",
    "partial look",
    "refused act",
    "failed instance",
    "rollback",
    "ends halted",
    "pause",
    "resume",
    "cancel and keep",
    "cancel and go back",
];

/// And where more is gone through.
const MUST_MORE: [&str; 3] =
    ["refused by the lease", "stalled for longer than a lease", "a late launch of what was given up"];

fn scene(name: &'static str, roll: &str, budget: Budget) -> Scene {
    // All times are multiples of ten seconds, which is how time passes here.
    let text = format!(
        "image = 'web'\nsize = 3\n[local]\nlisten = '127.0.0.1:1'\nport = 80\nzones = ['a', 'b']\n\
         [health]\nhttp = {{ port = 80, path = '/' }}\ndeadline = '30s'\n[roll]\ndrain = '20s'\n{roll}"
    );
    let fleet: Fleet = toml::from_str(&text).expect("a fleet file");
    let goal = target(&fleet, "goal");
    let (rival, old) = (goal.clone(), target(&fleet, "old"));
    let policy = Policy::of(&fleet).expect("a policy");
    Scene { name, fleet, policy, goal, old, rival, is_bad: false, host: None, budget }
}

fn target(fleet: &Fleet, name: &str) -> Target {
    Target::new(fleet, Digest::of(name.as_bytes()))
}

/// What is rolled out never becomes healthy.
fn bad(scene: Scene) -> Scene {
    Scene { is_bad: true, ..scene }
}

/// The second process goes elsewhere.
fn going(scene: Scene, to: &str) -> Scene {
    Scene { rival: target(&scene.fleet, to), ..scene }
}

/// Processes run on another host: others know of their lives by their leases only.
fn elsewhere(scene: Scene) -> Scene {
    Scene { host: Some("elsewhere"), ..scene }
}

#[expect(clippy::print_stdout, reason = "how much was gone through is worth seeing")]
fn print(text: &str) {
    print!("{text}");
}

#[test]
fn what_must_never_happen_does_not_in_any_small_world_and_all_ends() {
    let all = !cfg!(debug_assertions);
    let only = std::env::var("REKILN_SCENE").ok();
    let mut scenes = few();
    if all || only.is_some() {
        scenes.extend(more());
    }
    scenes.retain(|scene| only.as_ref().is_none_or(|only| scene.name.contains(only.as_str())));
    let (start, mut states) = (Instant::now(), 0);
    let mut reached: BTreeMap<String, u64> = BTreeMap::new();
    let mut text = String::new();
    for scene in &scenes {
        let start = Instant::now();
        let found = search::search(scene).unwrap_or_else(|broken| {
            panic!(
                "{broken}\n`REKILN_SCENE='{}' cargo test --test schedules exhaustive::` finds it again",
                scene.name
            )
        });
        let seconds = start.elapsed().as_secs_f64();
        let _ = writeln!(
            text,
            "{:>8} states, {:>3} steps deep, {seconds:>5.1} s: {}",
            found.states, found.depth, scene.name
        );
        states += found.states;
        for (what, times) in found.reached {
            *reached.entry(what).or_default() += times;
        }
    }
    let _ = writeln!(text, "{states:>8} states in {:.1} s", start.elapsed().as_secs_f64());
    for (what, times) in &reached {
        let _ = writeln!(text, "{times:>8}  {what}");
    }
    print(&text);
    let must = MUST.iter().chain(MUST_MORE.iter().filter(|_| all));
    let never: Vec<_> = must.filter(|what| !reached.contains_key(**what)).collect();
    assert!(only.is_some() || never.is_empty(), "never reached, so nothing is proved about it: {never:?}");
}

//! Goes through every state that can be reached, breadth first, so that what goes wrong is told by the shortest way to it.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::hash::{BuildHasherDefault, Hasher};

use super::happen::Reached;
use super::scene::{Scene, Step};
use super::state::State;

/// Keys are hashes already.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are numbers")
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// No way is as long as this where all is well; one who launches without end goes further.
const DEEPEST: usize = 600;

/// What was found.
#[derive(Default)]
pub struct Found {
    pub states: usize,
    pub depth: usize,
    pub reached: BTreeMap<String, u64>,
}

/// One successor of a state: its key, what leads to it, and itself.
type Next = (u64, u32, Step, Result<(State, Reached), String>);

struct Search<'a> {
    scene: &'a Scene,
    known: HashMap<u64, u32, BuildHasherDefault<Same>>,
    /// How each state was reached first.
    from: Vec<(u32, Option<Step>)>,
    /// Steps between states in which nothing goes wrong.
    good: Vec<(u32, u32)>,
    /// Where all is over, or someone waits for a person as told.
    rest: Vec<u32>,
    found: Found,
}

/// Goes through all states.
///
/// # Errors
/// What must not have happened, or what never ends, with the shortest way there.
pub fn search(scene: &Scene) -> Result<Found, String> {
    let mut search = Search {
        scene,
        known: HashMap::default(),
        from: Vec::new(),
        good: Vec::new(),
        rest: Vec::new(),
        found: Found::default(),
    };
    let first = State::first(scene);
    search.add(first.key(scene), (0, None));
    let mut frontier = vec![(0, first)];
    while !frontier.is_empty() {
        if search.found.depth > DEEPEST {
            let far = frontier.first().map_or(0, |(number, _)| *number);
            return Err(search.tell(far, None, "it goes on and on"));
        }
        frontier = search.level(frontier)?;
        search.found.depth += 1;
    }
    search.found.states = search.from.len();
    search.all_ends()?;
    Ok(search.found)
}

impl Search<'_> {
    fn add(&mut self, key: u64, from: (u32, Option<Step>)) -> (u32, bool) {
        let next = u32::try_from(self.from.len()).expect("fewer than four thousand million states");
        let number = *self.known.entry(key).or_insert(next);
        if number == next {
            self.from.push(from);
        }
        (number, number == next)
    }

    /// Makes every step from every state of a level. Returns the states that are new.
    fn level(&mut self, frontier: Vec<(u32, State)>) -> Result<Vec<(u32, State)>, String> {
        for (number, state) in &frontier {
            if state.is_over() {
                if let Some(wrong) = state.wrong_end(self.scene) {
                    return Err(self.tell(*number, None, &wrong));
                }
                self.rest.push(*number);
                *self.found.reached.entry(state.ending()).or_default() += 1;
            } else if state.steps().iter().all(|step| step.is_fault()) {
                return Err(self.tell(*number, None, "nothing can happen any more, and it is not over"));
            }
        }
        let mut new = Vec::new();
        for (key, number, step, next) in successors(self.scene, frontier) {
            let (state, reached) = next.map_err(|broken| self.tell(number, Some(step), &broken))?;
            for what in reached {
                *self.found.reached.entry(what.to_owned()).or_default() += 1;
            }
            let (then, is_new) = self.add(key, (number, Some(step)));
            // Who is paused may wait for ever; what matters is that it ends once it is resumed.
            let waits = step == Step::Tick && state.is_paused();
            if !(step.is_fault() || waits) {
                self.good.push((number, then));
            }
            if is_new {
                new.push((then, state));
            }
        }
        Ok(new)
    }

    /// Once nothing goes wrong any more, whatever comes next, there is an end: backwards from the ends, each state counts
    /// once all that may come after it do.
    fn all_ends(&self) -> Result<(), String> {
        let mut after = vec![0_u32; self.from.len()];
        let mut before: Vec<Vec<u32>> = vec![Vec::new(); self.from.len()];
        for (state, then) in &self.good {
            after[*state as usize] += 1;
            before[*then as usize].push(*state);
        }
        let mut ends: Vec<u32> = self.rest.iter().copied().filter(|end| after[*end as usize] == 0).collect();
        let mut ending = vec![false; self.from.len()];
        while let Some(state) = ends.pop() {
            ending[state as usize] = true;
            for earlier in &before[state as usize] {
                after[*earlier as usize] -= 1;
                if after[*earlier as usize] == 0 {
                    ends.push(*earlier);
                }
            }
        }
        let Some(endless) = ending.iter().position(|ends| !ends) else { return Ok(()) };
        // Follow what does not end until it comes back.
        let mut way = vec![u32::try_from(endless).expect("a state")];
        let next = |state: u32| {
            let mut steps = self.good.iter().filter(|(from, then)| *from == state && !ending[*then as usize]);
            steps.next().map(|(_, then)| *then)
        };
        while let Some(then) = way.last().and_then(|last| next(*last)) {
            if let Some(start) = way.iter().position(|state| *state == then) {
                let round: Vec<_> = way.drain(start + 1..).chain([then]).collect();
                let what = format!("it goes round in {} steps and never ends", round.len());
                return Err(self.tell(then, None, &what) + &self.tell_round(then, &round));
            }
            way.push(then);
        }
        let last = way.last().copied().unwrap_or_default();
        Err(self.tell(last, None, "it does not end here, and nothing follows"))
    }

    /// The shortest way to a state.
    fn way(&self, state: u32) -> Vec<Step> {
        let (mut steps, mut at) = (Vec::new(), state);
        while let (before, Some(step)) = self.from[at as usize] {
            steps.push(step);
            at = before;
        }
        steps.reverse();
        steps
    }

    /// The shortest way to a state, and what happens there.
    fn tell(&self, state: u32, then: Option<Step>, what: &str) -> String {
        let mut text = format!("{}: {what}\n", self.scene.name);
        let mut now = State::first(self.scene);
        for step in self.way(state).into_iter().chain(then) {
            let _ = writeln!(text, "  {}", now.describe(step));
            match now.step(self.scene, step) {
                Ok((next, _)) => now = next,
                Err(broken) => {
                    let _ = writeln!(text, "  !! {broken}");
                }
            }
        }
        text
    }

    /// The steps from a state through others, in which nothing goes wrong.
    fn tell_round(&self, start: u32, round: &[u32]) -> String {
        let mut text = "and round from there:\n".to_owned();
        let mut now = State::first(self.scene);
        for step in self.way(start) {
            now = now.step(self.scene, step).expect("a step that was made before").0;
        }
        for state in round {
            let steps = now.steps().into_iter().filter(|step| !step.is_fault());
            let found = steps.map(|step| (step, now.step(self.scene, step))).find_map(|(step, next)| {
                let (next, _) = next.ok()?;
                (self.known.get(&next.key(self.scene)) == Some(state)).then_some((step, next))
            });
            let Some((step, next)) = found else { break };
            let _ = writeln!(text, "  {}", now.describe(step));
            now = next;
        }
        text
    }
}

/// Makes every step of every state, on all processors. The order is that of the states, so that each run is the same.
fn successors(scene: &Scene, frontier: Vec<(u32, State)>) -> Vec<Next> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = frontier.len().div_ceil(threads).max(1);
    let mut shares: Vec<Vec<(u32, State)>> = Vec::new();
    let mut rest = frontier.into_iter();
    loop {
        let share: Vec<_> = rest.by_ref().take(share).collect();
        if share.is_empty() {
            break;
        }
        shares.push(share);
    }
    let work = |share: Vec<(u32, State)>| {
        let mut all: Vec<Next> = Vec::new();
        for (number, state) in share {
            for step in state.steps() {
                let next = state.step(scene, step);
                let key = next.as_ref().map_or(0, |(next, _)| next.key(scene));
                all.push((key, number, step, next));
            }
        }
        all
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = shares.into_iter().map(|share| scope.spawn(move || work(share))).collect();
        let joined = running.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined.flat_map(|all| all.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

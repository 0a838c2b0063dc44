//! Which states are the same: times count as distances from now, and no further back than anybody looks.

use std::hash::{DefaultHasher, Hash};

use jiff::{SignedDuration, Timestamp};
use rekiln::digest::Digest;
use rekiln::fleet::census::{Census, Instance};
use rekiln::fleet::generation::Target;
use rekiln::fleet::history::{History, Member, Shortage, Wave};
use rekiln::fleet::plan::Hold;
use rekiln::fleet::policy::Policy;

use super::process::{Memory, Process, Request, Told};

/// The longest that a planner looks back for anything that is not in the policy: how long until one not seen is gone, and
/// until an admission is repeated.
const LOOKS_BACK: SignedDuration = SignedDuration::from_secs(10);

/// A hash in the making, of something as it is at one time.
pub struct Alike<'a> {
    pub policy: &'a Policy,
    pub now: Timestamp,
    pub hasher: DefaultHasher,
}

impl<'a> Alike<'a> {
    pub fn new(policy: &'a Policy, now: Timestamp) -> Self {
        Self { policy, now, hasher: DefaultHasher::new() }
    }

    pub fn add(&mut self, part: impl Hash) -> &mut Self {
        part.hash(&mut self.hasher);
        self
    }

    /// How long ago; all that is longer ago than `most` is alike.
    fn ago(&mut self, at: Option<Timestamp>, most: SignedDuration) {
        let ago = at.map(|at| self.now.duration_since(at).min(most));
        ago.hash(&mut self.hasher);
    }

    fn generation(&mut self, target: Option<&Target>) -> &mut Self {
        self.add(target.map(|target| target.generation.id))
    }

    pub fn history(&mut self, history: &History) {
        // Every field is named, so that a new one is not forgotten here.
        let History {
            launches,
            // Nothing here holds data.
            founded: _,
            known_as: _,
            founding: _,
            leadership: _,
            members,
            rotate,
            failures,
            target,
            proven,
            previous,
            wave: Wave { number, reached, judged },
            retreat,
            paused,
            cancelled,
            emergency,
            replaced,
            shortages,
            halted,
            completed,
            added,
            size,
            other_size,
            taken,
            // No decision is made from it.
            commit: _,
            restore: _,
            kill: _,
            chaos: _,
        } = history;
        // The fleets here have the size that their file says.
        self.add((added, size, other_size, taken));
        let (soak, drain) = (self.policy.soak, self.policy.drain);
        for (id, member) in members {
            let Member {
                launched,
                generation,
                zone,
                admitted,
                given,
                draining,
                drained,
                counted,
                served,
                // Nothing here holds data.
                joined: _,
                ill: _,
                failed,
                absent,
                // Of a group's size alone it says something.
                unheard: _,
                enlarged,
                ending,
            } = member;
            self.add((id, launched, generation, zone, drained, served, failed.is_some(), enlarged, ending));
            self.ago(*admitted, LOOKS_BACK);
            self.ago(*given, LOOKS_BACK);
            self.ago(*draining, drain);
            self.ago(*absent, LOOKS_BACK);
            if self.policy.rate.is_some() {
                self.ago(*counted, SignedDuration::MAX);
            }
        }
        if self.policy.rate.is_some() {
            for at in replaced {
                self.ago(Some(*at), SignedDuration::MAX);
            }
        }
        let left: Option<Digest> = retreat.as_ref().map(|retreat| retreat.from);
        self.add((launches, rotate, failures, number, left, paused, cancelled, emergency, completed));
        self.add((halted.is_some(), judged.len()));
        self.generation(target.as_ref()).generation(proven.as_ref()).generation(previous.as_ref());
        self.ago(*reached, soak);
        for (zone, Shortage { times, at }) in shortages {
            self.add((zone, times));
            self.ago(Some(*at), SignedDuration::from_mins(10));
        }
    }

    fn instance(&mut self, seen: &Instance) {
        self.add((&seen.id, seen.generation.as_ref().map(|generation| generation.id)));
        self.add((seen.state as u8, seen.health as u8, seen.in_service, seen.connections));
        self.add((&seen.touched, &seen.zone));
        self.ago(Some(seen.launched_at), self.policy.deadline);
    }

    pub fn census(&mut self, census: &Census) {
        self.add(census.instances.len());
        for seen in &census.instances {
            self.instance(seen);
        }
    }

    fn hold(&mut self, hold: &Hold) {
        match hold {
            Hold::Soaking { until, .. } | Hold::Rate { until } | Hold::Capacity { until, .. } => {
                self.add(until.duration_since(self.now));
            }
            other => {
                self.add(other.to_string());
            }
        }
    }

    fn memory(&mut self, memory: &Memory) {
        self.history(memory.journal.history());
        self.add(memory.running.is_some());
        let Some(running) = &memory.running else { return };
        self.add((&running.failing, running.throttled));
        self.census(&running.seen);
        let (since, holds) = &running.still;
        self.ago(Some(*since), SignedDuration::MAX);
        for hold in holds {
            self.hold(hold);
        }
    }

    fn told(&mut self, told: &Told) {
        match told {
            Told::Entry(entry) => self.add((0, entry.is_some())),
            Told::Written => self.add(1),
            Told::Taken => self.add(2),
            Told::Unsure => self.add(3),
            Told::Saw(census) => {
                self.census(census);
                self.add(4)
            }
            Told::Came(outcome) => self.add((5, format!("{outcome:?}"))),
            Told::NoAnswer => self.add(6),
            Told::Failed => self.add(7),
            Told::Outlook(outlook) => self.add((8, outlook.refused.len())),
            Told::Went => self.add(9),
        };
    }

    /// What a process will do depends on its memory and on what it was told since; one that has lost the journal has at
    /// most one act before it. Which process it is makes no difference, but whether it `owns` the journal.
    pub fn process(&mut self, process: &Process, owns: bool, lost: bool) {
        self.add((owns, lost));
        if lost {
            match &process.pending {
                Request::Act(action) => self.add(action.to_string()),
                Request::Condemn(target) => self.add(target.generation.id),
                _ => self,
            };
            return;
        }
        self.generation(Some(&process.target)).add(process.emergency);
        self.memory(&process.memory);
        for (at, told) in &process.answers {
            self.ago(Some(*at), SignedDuration::MAX);
            self.told(told);
        }
    }
}

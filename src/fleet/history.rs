//! Decide: what a fleet's journal adds up to.

mod event;
mod kill;
mod leadership;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};

use super::census::{Instance, InstanceId, State};
use super::generation::Target;
use super::surroundings::Reading;
use crate::digest::Digest;
use crate::provider::{Action, Outcome};
pub use event::Event;
pub use kill::Kill;
pub use leadership::{Leadership, Moved, Refused};

/// What is remembered of one instance between its launch and its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is known or not without the others")]
pub struct Member {
    /// Whether the outcome of its launch is known.
    pub launched: bool,
    /// How often its launch was begun without an answer that says what came of it.
    pub unheard: u32,
    /// Whether its launch is known to have enlarged the provider's group; of a fleet whose size is the fleet file's, never.
    pub enlarged: bool,
    /// When its end was begun last, of which no answer says what came of it; of a fleet whose size is the fleet file's, never.
    pub ending: Option<Timestamp>,
    /// The generation it was launched with.
    pub generation: Option<Digest>,
    /// The zone it was launched into.
    pub zone: Option<String>,
    /// When it was last given requests; a load balancer takes its time to send some.
    pub admitted: Option<Timestamp>,
    /// When giving it requests was last begun: it may get some since, even if no answer says so.
    pub given: Option<Timestamp>,
    /// Since when it drains.
    pub draining: Option<Timestamp>,
    /// Whether an answer said that it was drained, and it was not given requests since, answer or not.
    pub drained: bool,
    /// As of when its drain counts against the rate; `None` when the next one counts anew.
    pub counted: Option<Timestamp>,
    /// Whether it has ever served.
    pub served: bool,
    /// Whether it has ever said what it is among members that hold data: it copies theirs, or has.
    pub joined: bool,
    /// Why it was given up.
    pub failed: Option<String>,
    /// Since when it is not seen.
    pub absent: Option<Timestamp>,
    /// Since when one that holds data, and had all of it, is ill.
    pub ill: Option<Timestamp>,
}

impl Member {
    /// Tells whether it was to be launched, and nobody knows whether it was.
    #[must_use]
    pub const fn may_enlarge(&self) -> bool {
        self.unheard > 0 && !self.enlarged
    }

    /// Its launch is known. Returns by how many that enlarges the provider's group, as far as that was not known.
    fn enlarge(&mut self) -> i64 {
        let news = self.may_enlarge();
        self.enlarged |= news;
        i64::from(news)
    }
}

/// How far a rollout is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wave {
    /// The wave that is worked at, from 0; all before it have passed.
    pub number: usize,
    /// Since when as many serve as it asks for.
    pub reached: Option<Timestamp>,
    /// What each gate said last, and when.
    pub judged: BTreeMap<String, (Timestamp, Reading)>,
}

/// A zone without room for another instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    /// How often in a row it had none.
    pub times: u32,
    /// When it was last asked.
    pub at: Timestamp,
}

/// A rollout that goes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retreat {
    /// The generation that is left.
    pub from: Digest,
    /// Why.
    pub reason: String,
}

/// How long a replacement counts against the rate, which is one of an hour.
pub(crate) const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// The fold of a journal. Equal journals give equal histories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is so or not without the others")]
pub struct History {
    /// The highest launch number ever used.
    pub launches: u64,
    /// By how many rekiln's own launches and ends have changed the size of the provider's group, as far as is known.
    pub added: i64,
    /// What rekiln ended and took from the size of the provider's group: an end counts once, however often it is heard of.
    pub taken: BTreeSet<InstanceId>,
    /// The size of the provider's group, without what rekiln added; `None` before it was first seen, and always where
    /// the fleet file says the size.
    pub size: Option<u32>,
    /// Another size that was seen, and since when.
    pub other_size: Option<(u32, Timestamp)>,
    /// Everything launched, or about to be, and not ended.
    pub members: BTreeMap<InstanceId, Member>,
    /// Instances someone wants replaced, and why.
    pub rotate: BTreeMap<InstanceId, String>,
    /// Failed instances that count against the budget of the current rollout.
    pub failures: BTreeSet<InstanceId>,
    /// Where the current or last rollout goes, or went.
    pub target: Option<Target>,
    /// What the last rollout that reached its end went to.
    pub proven: Option<Target>,
    /// What was proven before that.
    pub previous: Option<Target>,
    /// How far the current rollout is.
    pub wave: Wave,
    /// Set while the current rollout goes back.
    pub retreat: Option<Retreat>,
    /// Why all that is voluntary is stopped.
    pub paused: Option<String>,
    /// What chaos killed last, or was about to.
    pub kill: Option<Kill>,
    /// When it did; `None` when it never did.
    pub chaos: Option<Timestamp>,
    /// Why the current rollout was ended and everything left as it is.
    pub cancelled: Option<String>,
    /// Whether soak, canary, windows, rate and gates are skipped.
    pub emergency: bool,
    /// When instances were taken out of service to be replaced, oldest first; the last hour's.
    pub replaced: VecDeque<Timestamp>,
    /// Zones without room.
    pub shortages: BTreeMap<String, Shortage>,
    /// Why the current rollout ended early.
    pub halted: Option<String>,
    /// Whether the last rollout reached its end.
    pub completed: bool,
    /// The commit that was applied last.
    pub commit: Option<String>,
    /// Whether a member may ever have got requests: the members of a stateful fleet hold data since.
    pub founded: bool,
    /// Whether that is so since the last act alone, of which nobody knows yet whether it was done.
    pub founding: bool,
    /// Who it was that the provider calls by another name, of members that held data: the others may know it by that, and only
    /// this journal does once the provider has forgotten it.
    pub known_as: BTreeMap<InstanceId, InstanceId>,
    /// The backup that whoever founds the fleet begins with; until somebody has served.
    pub restore: Option<String>,
    /// What became of leadership in the current rollout.
    pub leadership: Leadership,
}

impl History {
    /// Folds events, oldest first.
    #[must_use]
    pub fn of<'a>(events: impl IntoIterator<Item = (Timestamp, &'a Event)>) -> Self {
        let mut history = Self::default();
        for (at, event) in events {
            history.add(at, event);
        }
        history
    }

    /// Returns the generation of the current or last rollout.
    #[must_use]
    pub fn generation(&self) -> Option<Digest> {
        self.target.as_ref().map(|target| target.generation.id)
    }

    /// Returns what a person means by "previous": what completed last or, where that is what runs now, what completed
    /// before it.
    #[must_use]
    pub fn before(&self) -> Option<&Target> {
        let arrived = self.retreat.is_none() || self.completed;
        let here = self.proven.as_ref().is_some_and(|proven| self.generation() == Some(proven.generation.id));
        if here && arrived { self.previous.as_ref() } else { self.proven.as_ref() }
    }

    /// Tells whether a rollout has begun and has not ended, whether a process works at it or none does any more.
    #[must_use]
    pub const fn unfinished(&self) -> bool {
        let over = self.completed || self.halted.is_some() || self.cancelled.is_some();
        self.target.is_some() && !over
    }

    /// Returns what a roll to `target` plans with: it begins with the first wave, unless it goes on with an unfinished
    /// one. One that halted stays so, since a person should know before they try it again.
    #[must_use]
    pub fn opened(&self, target: &Target) -> Self {
        let mut history = self.clone();
        if self.halted.is_none() || self.generation() != Some(target.generation.id) {
            history.emergency = false;
            history.open(target);
        }
        history
    }

    /// Adds the next event.
    pub fn add(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::Opened { target, emergency, commit, .. } => {
                self.emergency = *emergency;
                if commit.is_some() {
                    self.commit.clone_from(commit);
                }
                if self.emergency {
                    // Who calls an emergency knows better than who paused before; not than who pauses it.
                    self.paused = None;
                }
                self.open(target);
            }
            Event::Intent { action } => self.intend(at, action),
            Event::Outcome { action, result: Ok(outcome) } => self.conclude(at, action, outcome),
            Event::Seen { changed, .. } => self.see(changed),
            Event::SizeDiffers { size } => self.other_size = Some((*size, at)),
            Event::Sized { size, lost } => {
                (self.size, self.other_size) = (Some(*size), None);
                self.added -= i64::from(*lost);
            }
            Event::Outcome { result: Err(_), .. } | Event::Stopped { .. } | Event::Ending => {}
            Event::Serving { instance } => {
                self.members.entry(instance.clone()).or_default().served = true;
                (self.founded, self.restore) = (true, None);
            }
            Event::Failed { instance, reason, counts, .. } => {
                if *counts {
                    self.failures.insert(instance.clone());
                }
                self.members.entry(instance.clone()).or_default().failed = Some(reason.clone());
            }
            Event::Led { instance } => self.leadership.led(at, instance.as_ref()),
            Event::Absent { instance } => {
                self.members.entry(instance.clone()).or_default().absent = Some(at);
            }
            Event::Joined { instance } => {
                let member = self.members.entry(instance.clone()).or_default();
                (member.launched, member.joined) = (true, true);
            }
            Event::Ill { instance } => self.members.entry(instance.clone()).or_default().ill = Some(at),
            Event::Recovered { instance } => self.members.entry(instance.clone()).or_default().ill = None,
            Event::Returned { instance } => self.members.entry(instance.clone()).or_default().absent = None,
            Event::Spared { instance } => self.members.entry(instance.clone()).or_default().ending = None,
            Event::WaveReached { .. } => self.wave.reached = Some(at),
            Event::WaveLost { .. } => (self.wave.reached, self.wave.judged) = (None, BTreeMap::new()),
            Event::Judged { gate, reading, .. } => {
                self.wave.judged.insert(gate.clone(), (at, reading.clone()));
            }
            Event::WavePassed { wave } => self.wave = Wave { number: wave + 1, ..Wave::default() },
            Event::Rotate { instances, reason } => {
                self.rotate.extend(instances.iter().map(|id| (id.clone(), reason.clone())));
                self.completed = false;
            }
            Event::RolledBack { target, reason } => self.go_back(target, reason),
            Event::Chaos { instance, reason, .. } => self.strike(at, instance, reason),
            Event::Killed { instance, result } => self.struck(instance, result),
            Event::Paused { reason } => self.paused = Some(reason.clone()),
            Event::Resumed => self.paused = None,
            Event::Cancelled { back: false, reason } => self.cancelled = Some(reason.clone()),
            Event::Cancelled { back: true, reason } => match self.proven.clone() {
                Some(proven) => self.go_back(&proven, reason),
                None => self.cancelled = Some(reason.clone()),
            },
            Event::Retargeted { target, .. } => {
                self.retreat = None;
                self.open(target);
            }
            Event::Halted { reason } => self.halted = Some(reason.clone()),
            Event::Completed => self.complete(),
            // Said right after the end of all: nobody is a member, and nobody leads.
            Event::Restores { backup, .. } => self.restore = Some(backup.clone()),
            Event::Down => {
                *self = Self { launches: self.launches, ..Self::default() };
            }
        }
    }

    /// The failure budget and the waves are those of one rollout: a run that follows a crash goes on counting; a new
    /// target, or a person who rolls again after an end of any kind, starts afresh. A rollout that was going back
    /// goes on doing so when it is opened with what it left.
    fn open(&mut self, target: &Target) {
        let over = self.halted.is_some() || self.completed || self.cancelled.is_some();
        if !over && self.retreat.as_ref().is_some_and(|retreat| retreat.from == target.generation.id) {
            return;
        }
        if over || self.generation() != Some(target.generation.id) {
            self.failures.clear();
            self.wave = Wave::default();
        }
        // Whoever rolls again wants it tried again, whatever came of it.
        self.leadership.begin();
        self.target = Some(target.clone());
        (self.halted, self.cancelled, self.retreat, self.completed) = (None, None, None, false);
    }

    fn go_back(&mut self, target: &Target, reason: &str) {
        if let Some(from) = self.generation() {
            self.retreat = Some(Retreat { from, reason: reason.to_owned() });
        }
        self.target = Some(target.clone());
        self.failures.clear();
        self.wave = Wave::default();
        self.leadership.begin();
    }

    fn complete(&mut self) {
        self.completed = true;
        self.spare();
        let proven = |target: &Option<Target>| target.as_ref().map(|target| target.generation.id);
        if proven(&self.proven) != self.generation() {
            self.previous = self.proven.take();
        }
        self.proven.clone_from(&self.target);
    }

    fn intend(&mut self, at: Timestamp, action: &Action) {
        match action {
            Action::Launch { id, generation, zone, .. } => {
                self.launches = self.launches.max(id.number());
                let member = self.members.entry(id.clone()).or_default();
                member.unheard = member.unheard.saturating_add(1);
                member.generation = Some(generation.id);
                member.zone.clone_from(zone);
            }
            Action::Drain { id, .. } => {
                let member = self.members.entry(id.clone()).or_default();
                member.draining = member.draining.or(Some(at));
                // A drain that is tried again counts once, at the latest time that it may have happened: the clock may
                // have gone back since.
                let latest = member.counted.map_or(at, |before| before.max(at));
                let before = member.counted.replace(latest);
                // Nothing is looked for where nothing was counted: that would be all of the hour, for each drain.
                let before = before.and_then(|before| self.replaced.iter().rposition(|at| *at == before));
                if let Some(at) = before {
                    self.replaced.remove(at);
                }
                self.replaced.push_back(latest);
                while self.replaced.front().is_some_and(|first| at.duration_since(*first) >= HOUR) {
                    self.replaced.pop_front();
                }
            }
            // Its name was used, even if no answer ever said so: it must not be launched again.
            Action::Admit { id, .. } => {
                let member = self.members.entry(id.clone()).or_default();
                // It may serve again, even if no answer says so.
                (member.launched, member.drained, member.counted) = (true, false, None);
                member.given = Some(at);
                self.founding = !self.founded;
                self.founded = true;
            }
            Action::Terminate { id, .. } => {
                let member = self.members.entry(id.clone()).or_default();
                (member.launched, member.ending) = (true, self.size.map(|_| at));
            }
            Action::HandOver { .. } | Action::Deregister { .. } => {}
        }
    }

    /// What was seen alive was launched, even if the answer was lost. What was seen dead was so too, and is in a group's size.
    fn see(&mut self, changed: &[Instance]) {
        let sized = self.size.is_some();
        // A load balancer may send it requests though nobody was told to.
        self.founded |= changed.iter().any(|seen| seen.in_service && seen.has_all());
        for seen in changed {
            if let Some(name) = seen.known_as.as_ref().filter(|_| seen.membership.is_some()) {
                self.known_as.insert(InstanceId(name.clone()), seen.id.clone());
            }
            if let Some(member) = self.members.get_mut(&seen.id) {
                member.launched |= seen.state != State::Dead;
                member.joined |= seen.membership.is_some();
                if sized {
                    self.added += member.enlarge();
                }
            }
        }
    }

    /// Returns by how many the end of an instance changes the size of the provider's group, as far as that was not known.
    fn end(&mut self, id: &InstanceId, member: &Member, outcome: &Outcome) -> i64 {
        match outcome {
            Outcome::Applied => {
                let news = self.taken.insert(id.clone());
                // A launch that nobody heard of and its end are both in the size, or neither is.
                -i64::from(news && !member.may_enlarge())
            }
            // It was there, and whoever ended it took nothing from the size.
            Outcome::Ended => i64::from(member.may_enlarge()),
            _ => 0,
        }
    }

    fn conclude(&mut self, at: Timestamp, action: &Action, outcome: &Outcome) {
        let (id, sized) = (action.id(), self.size.is_some());
        let founding = std::mem::take(&mut self.founding);
        match (action, outcome) {
            // Nobody was sent to it.
            (Action::Admit { .. }, Outcome::Refused { .. } | Outcome::Throttled { .. }) if founding => {
                self.founded = false;
            }
            (Action::Drain { .. }, Outcome::Refused { .. }) => {
                // One whose drain was confirmed before was seen as it was then.
                let Some(member) = self.members.get_mut(id).filter(|member| !member.drained) else { return };
                member.draining = None;
                let counted = member.counted.take();
                // Several may have been counted at one time: one of them was not done.
                if let Some(at) = self.replaced.iter().rposition(|at| Some(*at) == counted) {
                    self.replaced.remove(at);
                }
            }
            // Its name was given up: nothing was made, and nothing will be.
            (Action::Launch { .. }, Outcome::Refused { .. }) => drop(self.members.remove(id)),
            (Action::Launch { zone, .. }, Outcome::NoCapacity { .. }) => {
                // Nothing was made: the name is free again, and was used up all the same.
                self.members.remove(id);
                let zone = zone.clone().unwrap_or_default();
                let shortage = self.shortages.entry(zone).or_insert(Shortage { times: 0, at });
                *shortage = Shortage { times: shortage.times + 1, at };
            }
            (Action::HandOver { id, to }, outcome) => self.leadership.conclude(at, id, to, outcome),
            (Action::Terminate { .. }, Outcome::Refused { .. }) => {
                self.members.entry(id.clone()).or_default().ending = None;
            }
            // This time it was not done; the times before may have been.
            (Action::Launch { .. }, Outcome::Throttled { .. }) => {
                let member = self.members.entry(id.clone()).or_default();
                member.unheard = member.unheard.saturating_sub(1);
            }
            (Action::Deregister { .. }, _)
            | (_, Outcome::Refused { .. } | Outcome::NoCapacity { .. } | Outcome::Throttled { .. }) => {}
            (Action::Launch { zone, .. }, _) => {
                self.shortages.remove(zone.as_deref().unwrap_or_default());
                let member = self.members.entry(id.clone()).or_default();
                member.launched = true;
                if sized {
                    self.added += member.enlarge();
                }
            }
            (Action::Admit { .. }, _) => {
                let member = self.members.entry(id.clone()).or_default();
                (member.admitted, member.draining) = (Some(at), None);
            }
            (Action::Drain { .. }, _) => {
                let member = self.members.entry(id.clone()).or_default();
                (member.drained, member.admitted, member.given) = (true, None, None);
            }
            (Action::Terminate { .. }, outcome) => {
                let member = self.members.remove(id).unwrap_or_default();
                if sized {
                    self.added += self.end(id, &member, outcome);
                }
                self.rotate.remove(id);
            }
        }
    }
}

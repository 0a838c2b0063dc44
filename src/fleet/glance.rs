//! Tell: a rollout at one moment, in a few calm lines, for who watches it on a terminal.

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde::Serialize;

use super::moment::lasting;
use super::plan::{Expected, Hold, Kind, Plan, Situation, stage};
use crate::digest::ImageId;
use crate::table::cut;

/// The widest bar: a wider one says no more, and is far from its numbers.
const BAR: usize = 40;

/// The narrowest bar that says something; on a line with less room there is none.
const LEAST_BAR: usize = 8;

/// How many instances of a fleet are in each state, in the words that a reader sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct States {
    /// As the rollout wants them, and serving.
    pub current: usize,
    /// Launched, not serving yet.
    pub starting: usize,
    /// Taken out of service, finishing their requests.
    pub draining: usize,
    /// Serving, and to be replaced.
    pub stale: usize,
    /// They served and do not any more, or their machine ended.
    pub unhealthy: usize,
    /// They never served, or what they were launched from is not wanted any more.
    pub failed: usize,
    /// What they are cannot be told now.
    pub unknown: usize,
}

impl States {
    /// Counts the members of a plan.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let mut states = Self::default();
        for member in &plan.members {
            *match member.kind {
                Kind::Current => &mut states.current,
                Kind::Starting => &mut states.starting,
                Kind::Draining => &mut states.draining,
                Kind::Stale(_) => &mut states.stale,
                Kind::Unhealthy | Kind::Dead | Kind::Gone => &mut states.unhealthy,
                Kind::Failed(_) | Kind::Outdated => &mut states.failed,
                Kind::Unknown | Kind::Absent | Kind::Unfinished => &mut states.unknown,
            } += 1;
        }
        states
    }

    /// Those that are not as they should be, each with its word; none that is 0.
    #[must_use]
    pub fn words(self) -> Vec<String> {
        [
            (self.starting, "starting"),
            (self.draining, "draining"),
            (self.stale, "stale"),
            (self.unhealthy, "unhealthy"),
            (self.failed, "failed"),
            (self.unknown, "unknown"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect()
    }
}

/// A rollout at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Glance {
    /// The fleet's name.
    pub fleet: String,
    /// Where it goes.
    pub target: ImageId,
    /// Whether it goes back to what completed last.
    pub back: bool,
    /// Whether it skips what an emergency skips.
    pub emergency: bool,
    /// How many instances there should be.
    pub size: usize,
    /// How many there are of each kind.
    pub states: States,
    /// The wave that is worked at, from 1; `None` when it has none, or all have passed.
    pub wave: Option<usize>,
    /// Of how many.
    pub waves: usize,
    /// What it waits for.
    pub holds: Vec<Hold>,
    /// When the process that works at it began.
    pub begun: Timestamp,
    /// When this was seen.
    pub now: Timestamp,
    /// When it ends; found less often than the rest.
    pub expected: Expected,
}

impl Glance {
    /// Looks at what a plan was made from, and at the plan.
    #[must_use]
    pub fn of(situation: &Situation<'_>, plan: &Plan, expected: Expected, begun: Timestamp) -> Self {
        let Situation { policy, fleet, target, history, now, .. } = *situation;
        Self {
            fleet: fleet.to_owned(),
            target: target.image,
            back: history.retreat.is_some(),
            emergency: history.emergency,
            size: policy.size,
            states: States::of(plan),
            wave: stage(policy, history, target).map(|stage| stage.number + 1),
            waves: policy.waves.len(),
            holds: plan.holds.clone(),
            begun,
            now,
            expected,
        }
    }

    /// Tells whether it says the same as an earlier one, except for what time alone changes.
    #[must_use]
    pub fn is_as(&self, earlier: &Self) -> bool {
        *self == Self { now: self.now, expected: self.expected.clone(), ..earlier.clone() }
    }

    /// Lays it out in lines of at most `width` columns. With `colour`, the bar has some; the letters never.
    #[must_use]
    pub fn lines(&self, width: usize, colour: bool) -> Vec<String> {
        let fit = |line: String| cut(&line, width);
        let mut lines = vec![fit(self.headline())];
        lines.push(self.progress(width, colour));
        let words = self.states.words();
        if !words.is_empty() {
            lines.push(fit(format!("  {}", words.join(", "))));
        }
        // A line that came and went would move the ones below it.
        let doing = headline(&self.holds).map(|hold| format!("waiting: {}", hold.told(self.now)));
        lines.push(fit(format!("  {}", doing.as_deref().unwrap_or("working"))));
        let lasted = lasting(self.now.duration_since(self.begun));
        lines.push(fit(format!("  {lasted} so far; {}", self.expected.told(self.now))));
        lines
    }

    fn headline(&self) -> String {
        let Self { fleet, back, emergency, wave, waves, .. } = self;
        let how = if *emergency { "emergency roll" } else { "rolls" };
        let how = if *back { "goes back" } else { how };
        let wave = match wave {
            Some(wave) if *waves > 1 => format!(", wave {wave} of {waves}"),
            _ => String::new(),
        };
        format!("fleet {fleet} {how} to {}{wave}", self.target.short())
    }

    fn progress(&self, width: usize, colour: bool) -> String {
        let States { current, starting, .. } = self.states;
        let numbers = format!("{current} of {} current", self.size);
        let room = width.saturating_sub(numbers.chars().count() + "    ".len()).min(BAR);
        if room < LEAST_BAR {
            return cut(&format!("  {numbers}"), width);
        }
        // A fleet that is not whole has no whole bar.
        let columns = |count: usize| (count.min(self.size) * room).checked_div(self.size).unwrap_or(room);
        let done = columns(current);
        let begun = columns(current + starting) - done;
        let paint = |text: String, code: &str| {
            if colour && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text }
        };
        // Green and cyan, and dim: they differ in brightness too.
        let parts = [("█", done, "32"), ("▒", begun, "36"), ("░", room - done - begun, "2")];
        let bar: String =
            parts.into_iter().map(|(sign, count, code)| paint(sign.repeat(count), code)).collect();
        format!("  {bar}  {numbers}")
    }
}

/// Returns the one hold that a reader must know of when there is room for one: what only a person or another day can
/// end, then what the policy or the provider wants, then what cannot be told, then what is on its way. That others are
/// to be replaced too is none of them.
#[must_use]
pub fn headline(holds: &[Hold]) -> Option<&Hold> {
    let rank = |hold: &Hold| match hold {
        Hold::Floor { .. } | Hold::Turn { .. } => None,
        Hold::Halted { .. }
        | Hold::Refused { .. }
        | Hold::Window { .. }
        | Hold::Breaker { .. }
        | Hold::Lost { .. }
        | Hold::Keeps { .. } => Some(0),
        Hold::Paused { .. } | Hold::Settles { .. } => Some(1),
        Hold::Capacity { .. } | Hold::Resizing { .. } => Some(2),
        Hold::Soaking { .. }
        | Hold::Gate { .. }
        | Hold::Rate { .. }
        | Hold::Ill { .. }
        | Hold::Leaderless { .. }
        | Hold::Votes { .. }
        | Hold::Copies { .. }
        | Hold::Stays { .. } => Some(3),
        Hold::Unknown { .. } | Hold::Absent { .. } => Some(4),
        Hold::HandingOver { .. } | Hold::Starting { .. } => Some(5),
        Hold::Draining { .. } => Some(6),
    };
    let ranked = holds.iter().filter_map(|hold| Some((rank(hold)?, hold)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, hold)| hold)
}

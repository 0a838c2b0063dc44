//! Tell: the daily round of many replacements in one line.

use jiff::SignedDuration;

use super::Line;
use crate::fleet::experience::Spell;
use crate::fleet::moment::lasting;

/// So many acts in a row are told one by one: what fits a terminal. More of them are told together.
const ONE_BY_ONE: usize = 20;

/// What happens to every instance when all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Routine {
    /// It was launched.
    Launch,
    /// It was given requests; that it serves says as much.
    Admit,
    /// It served, so long after its launch.
    Serving(SignedDuration),
    /// It was drained.
    Drain,
    /// It was ended, having been drained.
    End,
}

/// Returns the lines that a person reads: without what says nothing new, and with a long row of what always happens in
/// one line, which has the number and the time of the row's first.
pub(super) fn folded(lines: &[Line]) -> Vec<Line> {
    let told: Vec<_> = lines.iter().filter(|line| line.routine != Some(Routine::Admit)).collect();
    let rows = told.chunk_by(|one, next| one.routine.is_some() == next.routine.is_some());
    rows.flat_map(|row| match row.first() {
        Some(first) if first.routine.is_some() && row.len() > ONE_BY_ONE => {
            vec![Line { text: summary(row), routine: None, ..(*first).clone() }]
        }
        _ => row.iter().map(|line| (*line).clone()).collect(),
    })
    .collect()
}

fn summary(row: &[&Line]) -> String {
    let count = |what: Routine| row.iter().filter(|line| line.routine == Some(what)).count();
    let starts = row.iter().filter_map(|line| match line.routine {
        Some(Routine::Serving(took)) => Some(took),
        _ => None,
    });
    let starts = Spell::of(starts);
    let mut parts = Vec::new();
    let mut part = |count: usize, what: &str| {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    };
    part(count(Routine::Launch), "launched");
    if let Some(Spell { count, median, worst }) = starts {
        let (median, worst) = (lasting(median), lasting(worst));
        part(count, &format!("served (after {median} at the median, {worst} at worst)"));
    }
    part(count(Routine::Drain), "drained");
    part(count(Routine::End), "ended");
    let last = row.last().map(|line| line.at.strftime("%H:%M:%S UTC").to_string());
    format!("{}, until {}", parts.join(", "), last.unwrap_or_default())
}

//! Decide: how many blocks are sent at once.

use std::time::Duration;

/// How many at first: enough to see whether more help, too few to hurt anyone.
const FIRST: usize = 4;

/// How many at most. Coldsnap, NixOS and ebsdirect all settle at 64; the quota of an account is met well before.
const MOST: usize = 64;

/// More at once has to be faster by this share, or it is not worth it.
const WORTH: f64 = 0.05;

/// What came of the calls of some time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Blocks that were confirmed.
    pub sent: usize,
    /// Calls that were refused as too many, or got no answer in time.
    pub refused: usize,
    /// How long it took.
    pub time: Duration,
}

/// Adds while the rate grows, halves when something is refused, and otherwise stays.
#[derive(Debug, Clone, PartialEq)]
pub struct Pace {
    /// How many calls may be under way.
    pub at_once: usize,
    /// Blocks a second, of the best window so far.
    best: f64,
    /// Whether nothing was refused yet: until then the number doubles.
    early: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self { at_once: FIRST, best: 0.0, early: true }
    }
}

impl Pace {
    /// Returns after how many confirmed blocks the next window ends: each of those under way twice.
    #[must_use]
    pub const fn window(&self) -> usize {
        self.at_once * 2
    }

    /// Takes note of a window.
    pub fn after(&mut self, window: Window) {
        #[expect(clippy::cast_precision_loss, reason = "a window has some hundred blocks")]
        let rate = window.sent as f64 / window.time.as_secs_f64().max(1e-9);
        if window.refused > 0 {
            self.at_once = (self.at_once / 2).max(1);
            // What was reached with more may not be reached again for now.
            (self.best, self.early) = (0.0, false);
        } else if rate > self.best * (1.0 + WORTH) {
            self.best = rate;
            self.at_once = if self.early { self.at_once * 2 } else { self.at_once + 1 }.min(MOST);
        } else {
            self.early = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(sent: usize, refused: usize) -> Window {
        Window { sent, refused, time: Duration::from_secs(1) }
    }

    #[test]
    fn it_grows_while_that_pays_and_halves_when_refused() {
        let mut pace = Pace::default();
        let mut steps = vec![pace.at_once];
        for (sent, refused) in [
            (10, 0),
            (20, 0),
            (40, 0),
            (41, 0),
            (80, 0),
            (80, 3),
            (40, 0),
            (50, 0),
            (50, 0),
            (0, 1),
            (0, 9),
            (0, 9),
            (0, 9),
            (0, 9),
        ] {
            pace.after(window(sent, refused));
            steps.push(pace.at_once);
        }
        assert_eq!(steps, [4, 8, 16, 32, 32, 33, 16, 17, 18, 18, 9, 4, 2, 1, 1]);
    }

    #[test]
    fn it_has_a_bound() {
        let mut pace = Pace::default();
        (1..100).for_each(|n| pace.after(window(n * n * 100, 0)));
        assert_eq!(pace.at_once, MOST);
    }
}

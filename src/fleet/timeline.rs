//! Decide: the picture of a rollout, how many instances of which kind there were at which time, as text and as a page.
//!
//! A picture of thousands of samples has fewer columns than samples. Each column shows the worst sample of its time,
//! the one in which the fewest served, so that a dip is never hidden, however short it was; and whatever there was at
//! least one of is drawn at least one step high, so that one canary of a thousand is seen.

mod html;
mod svg;
mod terminal;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;

use jiff::SignedDuration;

/// What was seen of a fleet at one time; no instance counts twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When, since the rollout's start. What was seen lasts until the next sample.
    pub at: SignedDuration,
    /// Instances that serve and are what is wanted.
    pub current: usize,
    /// Instances that serve and are to be replaced.
    pub old: usize,
    /// Instances that were launched and do not serve yet.
    pub starting: usize,
    /// Instances that finish their requests.
    pub draining: usize,
    /// Instances that should serve and do not.
    pub unhealthy: usize,
}

impl Sample {
    /// Returns how many instances serve.
    #[must_use]
    pub const fn serving(&self) -> usize {
        self.current + self.old
    }
}

/// A rollout as it was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeline {
    /// How many instances the fleet should have.
    pub size: usize,
    /// How many must serve at any time, as far as that is in our hands.
    pub floor: usize,
    /// What was seen, in the order of time.
    pub samples: Vec<Sample>,
    /// What happened, and when since the start, in the order of time: the canary passed, it was rolled back.
    pub marks: Vec<(SignedDuration, String)>,
}

/// A kind of instances, as it is drawn.
struct Band {
    name: &'static str,
    /// What fills it where there are no colours.
    cell: char,
    count: fn(&Sample) -> usize,
}

/// The kinds from the bottom up. Those that serve come first, so that the height of both is what the floor is about;
/// the unhealthy ones come next, in the gap that they left.
const BANDS: [Band; 5] = [
    Band { name: "current", cell: '█', count: |sample| sample.current },
    Band { name: "old", cell: '▒', count: |sample| sample.old },
    Band { name: "unhealthy", cell: 'x', count: |sample| sample.unhealthy },
    Band { name: "draining", cell: '-', count: |sample| sample.draining },
    Band { name: "starting", cell: '+', count: |sample| sample.starting },
];

/// How far apart the times of an axis may be, in seconds: what people count in.
const STEPS: [i64; 19] =
    [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 604_800];

impl Timeline {
    /// Draws it as lines of plain text: a chart of `height` rows, and below it an axis of times, the marks, and what
    /// the characters mean. No line is wider than `width` characters.
    #[must_use]
    pub fn terminal(&self, width: usize, height: usize) -> Vec<String> {
        terminal::draw(self, width, height)
    }

    /// Draws it as an SVG document that needs nothing else, light or dark as its reader has it.
    #[must_use]
    pub fn svg(&self) -> String {
        svg::draw(self)
    }

    /// Draws it as an HTML page that needs nothing else: the picture, and a table of facts, which are names and values
    /// as plain text.
    #[must_use]
    pub fn html(&self, title: &str, facts: &[(String, String)]) -> String {
        html::page(self, title, facts)
    }

    /// Returns how long it lasted, in milliseconds; at least a second, so that there is something to divide.
    fn length(&self) -> i128 {
        let ends = [self.samples.last().map(|sample| sample.at), self.marks.last().map(|(at, _)| *at)];
        ends.into_iter().flatten().max().map_or(0, |at| at.as_millis()).max(1000)
    }

    /// Returns which of so many columns has the time `at`.
    fn column(&self, at: SignedDuration, columns: usize) -> usize {
        let column = at.as_millis().max(0) * columns as i128 / self.length();
        usize::try_from(column).unwrap_or(usize::MAX).min(columns.saturating_sub(1))
    }

    /// Returns the worst sample of each of so many columns; none when nothing was seen.
    fn columns(&self, columns: usize) -> Vec<&Sample> {
        let Some(mut lasting) = self.samples.first() else {
            return Vec::new();
        };
        let mut samples = self.samples.iter().peekable();
        let badness = |sample: &Sample| (sample.serving(), Reverse(sample.unhealthy));
        let worst = |column| {
            // What was seen before lasts into this column.
            let mut worst = lasting;
            while let Some(sample) = samples.next_if(|sample| self.column(sample.at, columns) <= column) {
                lasting = sample;
                if badness(sample) <= badness(worst) {
                    worst = sample;
                }
            }
            worst
        };
        (0..columns).map(worst).collect()
    }

    /// Returns the most instances that have to be drawn; at least one, so that there is something to divide by.
    fn top(&self) -> usize {
        let seen = self.samples.iter().map(|sample| BANDS.iter().map(|band| (band.count)(sample)).sum());
        seen.max().unwrap_or(0).max(self.size).max(self.floor).max(1)
    }

    /// Returns the heights up to which the bands of a sample reach, from the bottom up, in steps of the drawing.
    ///
    /// `scale` turns a number of instances into steps, rounding down. No band that has an instance is thinner than
    /// `least` while there is room up to `most`; what serves is never drawn higher than it is for that.
    fn heights(
        sample: &Sample,
        scale: impl Fn(usize) -> usize,
        least: usize,
        most: usize,
    ) -> [usize; BANDS.len()] {
        let serving = scale(sample.serving());
        let mut current = scale(sample.current);
        if sample.current > 0 {
            current = current.max(least).min(serving);
        }
        if sample.old > 0 {
            current = current.min(serving.saturating_sub(least));
        }
        let mut heights = [current, serving, 0, 0, 0];
        let mut count = sample.serving();
        for (i, band) in BANDS.iter().enumerate().skip(2) {
            let here = (band.count)(sample);
            count += here;
            let thin = heights[i - 1] + if here > 0 { least } else { 0 };
            heights[i] = scale(count).max(thin).min(most);
        }
        heights
    }

    /// Returns times for an axis with room for so many, beginning with 0.
    fn ticks(&self, room: usize) -> impl Iterator<Item = SignedDuration> {
        let seconds = i64::try_from(self.length() / 1000).unwrap_or(i64::MAX);
        let room = i64::try_from(room).unwrap_or(i64::MAX).max(1);
        let wide = STEPS.into_iter().find(|step| seconds / step < room);
        // Longer than any step is made for: as many weeks as it takes.
        let step =
            wide.unwrap_or_else(|| STEPS[STEPS.len() - 1] * (seconds / STEPS[STEPS.len() - 1] / room + 1));
        (0..=seconds / step).map(move |number| SignedDuration::from_secs(number * step))
    }

    /// Says in a sentence what the picture is for: how few served.
    fn caption(&self) -> String {
        let Some(lowest) = self.samples.iter().min_by_key(|sample| sample.serving()) else {
            return "Nothing was seen.".to_owned();
        };
        let (serving, size, floor) = (lowest.serving(), self.size, self.floor);
        let below = self
            .samples
            .windows(2)
            .filter(|pair| pair[0].serving() < floor)
            .fold(SignedDuration::ZERO, |sum, pair| {
                sum.saturating_add(pair[1].at.saturating_sub(pair[0].at))
            });
        if serving >= floor {
            return format!("At least {serving} of {size} served at any time; the floor is {floor}.");
        }
        let at = clock(lowest.at);
        format!(
            "As few as {serving} of {size} served, at {at}; below the floor of {floor} for {}.",
            clock(below)
        )
    }
}

/// Writes a time in its two largest units, such as `1h 5m`, rounding down.
fn clock(time: SignedDuration) -> String {
    let seconds = time.as_secs().max(0);
    let units =
        [(seconds / 86_400, 'd'), (seconds / 3600 % 24, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    let first = units.iter().position(|(count, _)| *count > 0).unwrap_or(units.len() - 1);
    let shown = units[first..].iter().take(2).enumerate().filter(|(i, (count, _))| *i == 0 || *count > 0);
    shown.map(|(_, (count, unit))| format!("{count}{unit}")).collect::<Vec<_>>().join(" ")
}

/// What the mark with this number is called where there is no room for its text.
fn sign(number: usize) -> char {
    let digit = u32::try_from(number + 1).ok().and_then(|number| char::from_digit(number, 36));
    digit.unwrap_or('*')
}

/// Moves ascending places apart, at first to the right, and then to the left what came past `most`: what ends a rollout
/// often comes at once.
fn spread(places: &mut [usize], apart: usize, most: usize) {
    let mut free = 0;
    for place in places.iter_mut() {
        *place = (*place).max(free);
        free = *place + apart;
    }
    let mut last = most;
    for place in places.iter_mut().rev() {
        *place = (*place).min(last);
        last = place.saturating_sub(apart);
    }
}

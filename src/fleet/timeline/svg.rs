//! The picture as SVG. Coordinates are whole numbers in tenths of a pixel until they are written.

use std::fmt::Write as _;

use super::{BANDS, Sample, Timeline, clock, sign, spread};
use crate::markup::escape;

/// Tenths of a pixel. The plot is 888 by 280 pixels in a picture of 960, which fits a page and a chat.
const LEFT: usize = 560;
const RIGHT: usize = 9440;
const TOP: usize = 360;
const BOTTOM: usize = 3160;

/// Two pixels each: finer steps are not seen, and a picture of a long rollout stays some ten kilobytes.
const COLUMNS: usize = (RIGHT - LEFT) / 20;

/// The least height of a band in tenths of a pixel: thinner ones vanish on paper and projectors.
const THIN: usize = 20;

/// Pixels from one line of text to the next.
const LINE: usize = 20;

/// Colours are rules and no variables, because not every program that draws SVG knows those. They differ in lightness
/// as well as in hue, for readers who do not tell red from green.
const STYLE: &str = "\
.rollout{font:13px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}\
.rollout text{fill:#1f2933}.rollout .soft{fill:#5d6976}.rollout .page{fill:#ffffff}\
.rollout .grid{stroke:#e3e7ec}.rollout .axis{stroke:#98a3ae}.rollout .mark{stroke:#5d6976;stroke-dasharray:2 3}\
.rollout .bead{fill:#1f2933}.rollout .bead-text{fill:#ffffff;font-size:11px;text-anchor:middle}\
.rollout .floor{stroke:#1f2933;stroke-width:1.5;stroke-dasharray:7 4}\
.rollout .below{stroke:#c0321c;stroke-width:5;stroke-linecap:square}\
.rollout .current{fill:#2a78b5}.rollout .old{fill:#bcc6d0}.rollout .unhealthy{fill:#c0321c}\
.rollout .draining{fill:#e8c25c}.rollout .starting{fill:#a5d8cc}\
@media (prefers-color-scheme:dark){\
.rollout text{fill:#e4e8ec}.rollout .soft{fill:#a2adb8}.rollout .page{fill:#14181d}\
.rollout .grid{stroke:#2b323a}.rollout .axis{stroke:#5d6976}.rollout .mark{stroke:#a2adb8}\
.rollout .bead{fill:#e4e8ec}.rollout .bead-text{fill:#14181d}\
.rollout .floor{stroke:#e4e8ec}.rollout .below{stroke:#ff7a63}\
.rollout .current{fill:#4a9ad4}.rollout .old{fill:#56616d}.rollout .unhealthy{fill:#ff7a63}\
.rollout .draining{fill:#b58d33}.rollout .starting{fill:#3f7f75}}";

/// What is drawn, and what was drawn so far.
struct Plot<'a> {
    timeline: &'a Timeline,
    columns: Vec<&'a Sample>,
    /// So many instances are as high as the plot.
    top: usize,
    body: String,
}

pub(super) fn draw(timeline: &Timeline) -> String {
    let columns = timeline.columns(COLUMNS);
    let mut plot = Plot { timeline, columns, top: timeline.top(), body: String::new() };
    plot.grid();
    plot.areas();
    plot.floor();
    plot.marks();
    let mut y = BOTTOM / 10 + 2 * LINE + LINE / 2;
    plot.legend(y);
    y += LINE + LINE / 4;
    plot.text(LEFT / 10, y, "", &timeline.caption());
    for (number, (at, what)) in timeline.marks.iter().enumerate() {
        y += LINE;
        plot.bead(LEFT / 10 + 7, y - 4, number);
        plot.text(LEFT / 10 + 24, y, "soft", &clock(*at));
        plot.text(LEFT / 10 + 90, y, "", what);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"rollout\" viewBox=\"0 0 960 {height}\" width=\"960\" \
         height=\"{height}\" role=\"img\">\n<title>{}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"960\" height=\"{height}\"/>\n{}</svg>\n",
        escape(&timeline.caption()),
        plot.body,
        height = y + LINE,
    )
}

/// Tenths of a pixel as pixels.
fn pixels(tenths: usize) -> String {
    if tenths.is_multiple_of(10) {
        (tenths / 10).to_string()
    } else {
        format!("{}.{}", tenths / 10, tenths % 10)
    }
}

/// Where the column with this number begins.
const fn left(column: usize) -> usize {
    LEFT + column * ((RIGHT - LEFT) / COLUMNS)
}

/// Returns the least of 1, 2, 5, 10, 20, 50 … with which an axis up to `top` has at most 6 numbers.
pub(super) fn step(top: usize) -> usize {
    let steps = (0..).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_usize.saturating_pow(power)));
    steps.into_iter().find(|step| top / step <= 5).unwrap_or(top)
}

impl Plot<'_> {
    /// How high so many instances are, in tenths of a pixel.
    const fn height(&self, count: usize) -> usize {
        count * (BOTTOM - TOP) / self.top
    }

    /// Text at a place in pixels.
    fn text(&mut self, x: usize, y: usize, class: &str, text: &str) {
        let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        // Writing to a string cannot fail; so it is below.
        let _ = writeln!(self.body, "<text x=\"{x}\" y=\"{y}\"{class}>{}</text>", escape(text));
    }

    /// The number of an axis, at a place in tenths of a pixel that is its `anchor`.
    fn number(&mut self, x: usize, y: usize, anchor: &str, text: &str) {
        let (x, y) = (pixels(x), pixels(y));
        let _ = writeln!(
            self.body,
            "<text class=\"soft\" x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }

    fn line(&mut self, class: &str, from: (usize, usize), to: (usize, usize)) {
        let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(pixels);
        let _ =
            writeln!(self.body, "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>");
    }

    /// The numbers of both axes, with lines behind the picture.
    fn grid(&mut self) {
        for count in (0..=self.top).step_by(step(self.top)) {
            let y = BOTTOM - self.height(count);
            self.line(if count == 0 { "axis" } else { "grid" }, (LEFT, y), (RIGHT, y));
            self.number(LEFT - 80, y + 40, "end", &count.to_string());
        }
        // Ten times on 888 pixels leave room for `23h 59m` and some air.
        for tick in self.timeline.ticks(10) {
            let x = left(self.timeline.column(tick, COLUMNS));
            self.line("axis", (x, BOTTOM), (x, BOTTOM + 50));
            self.number(x, BOTTOM + LINE * 10, "middle", &clock(tick));
        }
    }

    /// The areas. Each goes down to the axis, the highest first, so that no background shines through between two.
    fn areas(&mut self) {
        let most = BOTTOM - TOP + THIN;
        let heights = |sample: &&Sample| Timeline::heights(sample, |count| self.height(count), THIN, most);
        let heights: Vec<_> = self.columns.iter().map(heights).collect();
        for (i, band) in BANDS.iter().enumerate().rev() {
            if self.columns.iter().all(|sample| (band.count)(sample) == 0) {
                continue;
            }
            let mut path = format!("M{} {}", pixels(LEFT), pixels(BOTTOM));
            let mut before = None;
            for (column, heights) in heights.iter().enumerate() {
                // A step only where it goes up or down.
                if before != Some(heights[i]) {
                    let _ = write!(path, "H{}V{}", pixels(left(column)), pixels(BOTTOM - heights[i]));
                    before = Some(heights[i]);
                }
            }
            let _ = write!(path, "H{}V{}Z", pixels(RIGHT), pixels(BOTTOM));
            let _ = writeln!(self.body, "<path class=\"{}\" d=\"{path}\"/>", band.name);
        }
    }

    /// The line of the floor, and over it where fewer serve: one of thousands is less than a pixel of the areas.
    fn floor(&mut self) {
        if self.timeline.floor == 0 {
            return;
        }
        let y = BOTTOM - self.height(self.timeline.floor);
        self.line("floor", (LEFT, y), (RIGHT, y));
        let mut since = None;
        for column in 0..=self.columns.len() {
            let below = self.columns.get(column).is_some_and(|sample| sample.serving() < self.timeline.floor);
            match since {
                None if below => since = Some(column),
                Some(first) if !below => {
                    self.line("below", (left(first), y), (left(column), y));
                    since = None;
                }
                _ => {}
            }
        }
    }

    /// A line for each mark, with its number above the plot: next to it when there is no room between two.
    fn marks(&mut self) {
        let mut places = Vec::new();
        for (at, _) in &self.timeline.marks {
            let x = left(self.timeline.column(*at, COLUMNS));
            self.line("mark", (x, TOP - 80), (x, BOTTOM));
            places.push(x / 10);
        }
        // A bead is 16 pixels wide, and may stand out over the plot a little.
        spread(&mut places, 18, RIGHT / 10 + 6);
        for (number, place) in places.into_iter().enumerate() {
            self.bead(place, TOP / 10 - 16, number);
        }
    }

    /// The number of a mark in a bead, whose centre is at a place in pixels.
    fn bead(&mut self, x: usize, y: usize, number: usize) {
        let _ = writeln!(self.body, "<circle class=\"bead\" cx=\"{x}\" cy=\"{y}\" r=\"8\"/>");
        self.text(x, y + 4, "bead-text", &sign(number).to_string());
    }

    /// What the colours mean; only what is in the picture, or always is.
    fn legend(&mut self, y: usize) {
        // The longest name, its colour and some air.
        const WIDTH: usize = 104;
        let mut x = LEFT / 10;
        for (i, band) in BANDS.iter().enumerate() {
            if i < 2 || self.columns.iter().any(|sample| (band.count)(sample) > 0) {
                let (class, y) = (band.name, y - 11);
                let _ = writeln!(
                    self.body,
                    "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"14\" height=\"12\"/>"
                );
                self.text(x + 20, y + 11, "", band.name);
                x += WIDTH;
            }
        }
        let below = self.columns.iter().any(|sample| sample.serving() < self.timeline.floor);
        let lines = [("floor", "floor", self.timeline.floor > 0), ("below", "below the floor", below)];
        for (class, name, _) in lines.into_iter().filter(|(.., shown)| *shown) {
            self.line(class, (x * 10, y * 10 - 45), (x * 10 + 280, y * 10 - 45));
            self.text(x + 36, y, "", name);
            x += WIDTH;
        }
    }
}

//! The picture as plain text.

use super::{BANDS, Sample, Timeline, clock, sign, spread};
use crate::table::cut;

/// The line of the floor.
const FLOOR: char = '┄';

/// The line of the floor where fewer serve.
const BELOW: char = '!';

/// Fewer rows say nothing: one below the floor, one for the floor's line, one above.
const LEAST_ROWS: usize = 3;

/// Columns between the times of the axis: the longest is `23h 59m`, and some air.
const TICK: usize = 12;

/// How numbers of instances become rows.
#[derive(Clone, Copy)]
struct Scale {
    rows: usize,
    /// So many instances take as many rows as `rows_of` says. When it can be, that is the floor, on the border of a
    /// row: then one instance too few already leaves a row below the line empty, whatever the fleet's size.
    of: usize,
    rows_of: usize,
}

impl Scale {
    fn new(timeline: &Timeline, rows: usize) -> Self {
        let (floor, top) = (timeline.floor, timeline.top());
        // A row stays free for each kind that does not serve, when there are enough; one does for the line.
        let kinds =
            BANDS[2..].iter().filter(|band| timeline.samples.iter().any(|s| (band.count)(s) > 0)).count();
        let rows_of = (rows * floor / top).min(rows - kinds.clamp(1, rows / 3));
        if rows_of == 0 {
            Self { rows, of: top, rows_of: rows - 1 }
        } else {
            Self { rows, of: floor, rows_of }
        }
    }

    fn rows(self, count: usize) -> usize {
        (count * self.rows_of / self.of).min(self.rows)
    }
}

pub(super) fn draw(timeline: &Timeline, width: usize, height: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let rows = height.max(LEAST_ROWS);
    let scale = Scale::new(timeline, rows);
    let margin = timeline.top().to_string().len();
    let columns = timeline.columns(width.saturating_sub(margin + 2));
    if !columns.is_empty() {
        if !timeline.marks.is_empty() {
            lines.push(format!("{:margin$}  {}", "", signs(timeline, columns.len())));
        }
        chart(timeline, scale, margin, &columns, &mut lines);
        axis(timeline, margin, columns.len(), &mut lines);
        lines.push(String::new());
    }
    legend(timeline, width, &columns, &mut lines);
    wrap(timeline.caption().split(' '), " ", width, &mut lines);
    for (number, (at, text)) in timeline.marks.iter().enumerate() {
        lines.push(format!("{} {:>7}  {text}", sign(number), clock(*at)));
    }
    for line in &mut lines {
        // A name from a file must not steer the terminal.
        *line = cut(line, width);
        line.truncate(line.trim_end().len());
    }
    lines
}

/// The signs of the marks, each above its time, or next to it when there are two in one column.
fn signs(timeline: &Timeline, columns: usize) -> String {
    let mut line = vec![' '; columns];
    let mut places: Vec<_> = timeline.marks.iter().map(|(at, _)| timeline.column(*at, columns)).collect();
    spread(&mut places, 1, columns - 1);
    for (number, place) in places.into_iter().enumerate() {
        line[place] = sign(number);
    }
    line.into_iter().collect()
}

/// The rows from the top, each with what its lower border means when that is worth a number.
fn chart(timeline: &Timeline, scale: Scale, margin: usize, columns: &[&Sample], lines: &mut Vec<String>) {
    let floor = scale.rows(timeline.floor);
    let size = scale.rows(timeline.size);
    let heights: Vec<_> = columns
        .iter()
        .map(|sample| Timeline::heights(sample, |count| scale.rows(count), 1, scale.rows))
        .collect();
    for row in (0..scale.rows).rev() {
        let (label, border) = match row {
            0 => ("0".to_owned(), '┤'),
            _ if row == floor => (timeline.floor.to_string(), '┤'),
            // Next to the floor's number it would only be mistaken for it.
            _ if row == size && size > floor => (timeline.size.to_string(), '┤'),
            _ => (String::new(), '│'),
        };
        let cells = columns.iter().zip(&heights).map(|(sample, heights)| {
            let band = heights.iter().position(|height| *height > row);
            let line = row == floor && floor > 0;
            match band {
                _ if line && sample.serving() < timeline.floor => BELOW,
                // The line gives way to those that do not serve: it goes on left and right of them.
                None | Some(0 | 1) if line => FLOOR,
                Some(band) => BANDS[band].cell,
                None => ' ',
            }
        });
        lines.push(format!("{label:>margin$} {border}{}", cells.collect::<String>()));
    }
}

/// The axis of times and its numbers.
fn axis(timeline: &Timeline, margin: usize, columns: usize, lines: &mut Vec<String>) {
    let mut line = vec!['─'; columns];
    let mut numbers = String::new();
    for tick in timeline.ticks(columns / TICK) {
        let column = timeline.column(tick, columns);
        line[column] = '┴';
        let number = clock(tick);
        // A number that would go past the end is left out whole: half of one is another.
        if column + number.len() <= columns {
            let pad = column.saturating_sub(numbers.chars().count());
            numbers.extend(std::iter::repeat_n(' ', pad));
            numbers.push_str(&number);
        }
    }
    lines.push(format!("{:margin$} └{}", "", line.into_iter().collect::<String>()));
    lines.push(format!("{:margin$}  {numbers}", ""));
}

/// What the characters mean, as many to a line as fit; only what is in the picture, or always is.
fn legend(timeline: &Timeline, width: usize, columns: &[&Sample], lines: &mut Vec<String>) {
    let shown =
        BANDS.iter().enumerate().filter(|(i, band)| *i < 2 || columns.iter().any(|s| (band.count)(s) > 0));
    let mut items: Vec<String> = shown.map(|(_, band)| format!("{} {}", band.cell, band.name)).collect();
    if timeline.floor > 0 {
        items.push(format!("{FLOOR} floor"));
    }
    if columns.iter().any(|sample| sample.serving() < timeline.floor) {
        items.push(format!("{BELOW} below it"));
    }
    wrap(items.iter().map(String::as_str), "   ", width, lines);
}

/// Puts as many items on a line as fit.
fn wrap<'a>(items: impl Iterator<Item = &'a str>, gap: &str, width: usize, lines: &mut Vec<String>) {
    let mut line = String::new();
    for item in items {
        if !line.is_empty() && line.chars().count() + gap.len() + item.chars().count() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push_str(gap);
        }
        line.push_str(item);
    }
    lines.push(line);
}

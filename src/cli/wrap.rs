//! Labelled text of any length in the width of a terminal.

/// Columns of a label with the space behind it: the longest label, `disk sha256`, and one space.
pub const LABEL: usize = 12;

/// What a line holds at the least behind its label, so that a tiny terminal gets lines and not a column of letters.
const LEAST: usize = 24;

/// Lays out items behind a label: as many on a line as fit into `width` columns, the next lines below the first
/// item. An item that is longer than a line stands on one by itself, whole, so that it can be copied.
#[must_use]
pub fn items(label: &str, items: &[String], separator: &str, width: usize) -> Vec<String> {
    if items.is_empty() {
        return vec![format!("{label:LABEL$}none")];
    }
    let room = width.saturating_sub(LABEL).max(LEAST);
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for (index, item) in items.iter().enumerate() {
        let end = if index + 1 < items.len() { separator } else { "" };
        let needed = item.chars().count() + end.trim_end().chars().count();
        if !line.is_empty() && line.chars().count() + needed > room {
            lines.push(std::mem::take(&mut line));
        }
        line.extend([item, end]);
    }
    lines.push(line);
    let labels = std::iter::once(label).chain(std::iter::repeat(""));
    labels.zip(lines).map(|(label, line)| format!("{label:LABEL$}{line}").trim_end().to_owned()).collect()
}

/// Lays out a text behind a label, broken at its spaces.
#[must_use]
pub fn text(label: &str, text: &str, width: usize) -> Vec<String> {
    items(label, &text.split_whitespace().map(str::to_owned).collect::<Vec<_>>(), " ", width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_at_the_width_and_hang_below_the_first_item() {
        let words: Vec<String> = ["alpha", "beta", "gamma", "delta"].map(str::to_owned).into();
        assert_eq!(items("users", &words, ", ", 80), ["users       alpha, beta, gamma, delta"]);
        assert_eq!(
            items("users", &words, ", ", 36),
            ["users       alpha, beta, gamma,", "            delta"]
        );
        assert_eq!(items("users", &[], ", ", 80), ["users       none"]);
        let long = vec!["short".to_owned(), "x".repeat(90), "short".to_owned()];
        let lines = items("a", &long, " ", 40);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(lines[1].trim_start(), long[1]);
        assert_eq!(text("why", "one  two", 80), ["why         one two"]);
    }
}

//! The small pieces that all of the page is made of. What they take as text is escaped here; what they take
//! as `html` is such a piece already.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::markup;

/// Turns text into what HTML shows as that text, also inside an attribute. What could hide or reorder other
/// text is replaced: control characters, and the marks by which text in one direction is put into text of the
/// other.
pub fn escape(text: &str) -> String {
    let plain = |character| match character {
        '\n' | '\r' | '\t' => ' ',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        character => character,
    };
    markup::escape(&text.chars().map(plain).collect::<String>())
}

/// How the script of the page writes a time; without it, all are dates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    /// `3 min ago`, `in 2 h`.
    Distance,
    /// `3 min`: how long it lasts already.
    Lasting,
    /// As it is: it is compared with others.
    Date,
}

/// A time. It stands there as a date, which is as true for who looks without the script as for who looks
/// later.
pub fn time(at: Timestamp, how: As) -> String {
    let how = match how {
        As::Distance => "",
        As::Lasting => " data-as=\"lasting\"",
        As::Date => " data-as=\"date\"",
    };
    format!(
        "<time datetime=\"{}\"{how}>{}</time>",
        at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        at.strftime("%Y-%m-%d %H:%M:%S UTC")
    )
}

/// How something stands: the text says it, and the colour only underlines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Neither.
    Plain,
    /// Under way.
    Busy,
    /// Somebody should look.
    Bad,
}

impl Tone {
    /// The class of the style sheet.
    pub const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Plain => "plain",
            Self::Busy => "busy",
            Self::Bad => "bad",
        }
    }
}

/// A word or two in a frame.
pub fn tag(tone: Tone, text: &str) -> String {
    format!("<span class=\"tag {}\">{}</span>", tone.class(), escape(text))
}

/// A name that a machine made.
pub fn code(text: &str) -> String {
    format!("<code>{}</code>", escape(text))
}

/// So many of something, such as `1 alert` and `2 alerts`.
pub fn many(count: usize, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// A size in binary units, as `ls -lh` has it: one digit behind the point below ten. No line ends within it.
pub fn bytes(size: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut unit = "B";
    // Tenths, so that no floating point is needed.
    let mut tenths = u128::from(size) * 10;
    for larger in units {
        if tenths < 10_240 {
            break;
        }
        (tenths, unit) = (tenths / 1024, larger);
    }
    if unit == "B" || tenths >= 100 {
        format!("{}\u{a0}{unit}", tenths / 10)
    } else {
        format!("{}.{}\u{a0}{unit}", tenths / 10, tenths % 10)
    }
}

/// The items of a list, each of `html`.
pub fn items(htmls: impl IntoIterator<Item = String>) -> String {
    let mut items = String::new();
    for html in htmls {
        // Writing to a string cannot fail; so it is below.
        let _ = writeln!(items, "<li>{html}</li>");
    }
    items
}

/// A part of the page with a heading.
pub fn section(key: &str, title: &str, html: &str) -> String {
    format!(
        "<section data-key=\"{key}\" class=\"{key}\" aria-labelledby=\"h-{key}\">\n\
         <h2 id=\"h-{key}\">{}</h2>\n{html}</section>\n",
        escape(title)
    )
}

/// A row of a table.
pub struct Row {
    /// What tells it from the table's other rows, so that it stays the same row while others come and go.
    pub key: String,
    /// One `html` a column; empty where there is nothing to say.
    pub cells: Vec<String>,
}

/// A table whose first column names the rows. A column without anything in it is left out. On a narrow
/// screen, each row is a paragraph, in which a column with a `label` is introduced by its name.
pub fn table(caption: &str, columns: &[Column], rows: &[Row]) -> String {
    let used: Vec<_> =
        (0..columns.len()).filter(|at| rows.iter().any(|row| !row.cells[*at].is_empty())).collect();
    let mut html = format!("<table>\n<caption>{}</caption>\n<thead><tr>", escape(caption));
    for column in used.iter().map(|at| &columns[*at]) {
        let _ = write!(html, "<th scope=\"col\">{}</th>", column.name);
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        let _ = write!(html, "<tr data-key=\"{}\">", escape(&row.key));
        for at in &used {
            let (column, cell) = (&columns[*at], &row.cells[*at]);
            let _ = match (at, column.kind) {
                (0, _) => write!(html, "<th scope=\"row\">{cell}</th>"),
                (_, Kind::Word) => write!(html, "<td>{cell}</td>"),
                (_, Kind::Text) => write!(html, "<td class=\"text\">{cell}</td>"),
                (_, Kind::Labelled) => write!(html, "<td data-label=\"{}\">{cell}</td>", column.name),
            };
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table>\n");
    html
}

/// A column of a table.
pub struct Column {
    name: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Word,
    Text,
    Labelled,
}

impl Column {
    /// A column of words and names that say by themselves what they are.
    pub const fn word(name: &'static str) -> Self {
        Self { name, kind: Kind::Word }
    }

    /// A column of text of any length.
    pub const fn text(name: &'static str) -> Self {
        Self { name, kind: Kind::Text }
    }

    /// A column whose cells need its name.
    pub const fn labelled(name: &'static str) -> Self {
        Self { name, kind: Kind::Labelled }
    }
}

/// What can be unfolded, and stays unfolded while the page changes.
pub fn folded(key: &str, summary: &str, html: &str) -> String {
    format!(
        "<details data-key=\"{}\"><summary>{}</summary>\n{html}</details>\n",
        escape(key),
        escape(summary)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (size, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (10_239, "9.9 KiB"),
            (10_240, "10 KiB"),
            (350 << 20, "350 MiB"),
            (1 << 30, "1.0 GiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(bytes(size).replace('\u{a0}', " "), expected);
        }
    }

    #[test]
    fn text_stays_text() {
        assert_eq!(
            escape("<b a=\"1\" b='2'>&\u{0}\n\u{202e}x\u{2066}é"),
            "&lt;b a=&quot;1&quot; b=&#39;2&#39;&gt;&amp;\u{fffd} \u{fffd}x\u{fffd}é"
        );
    }

    #[test]
    fn a_column_of_nothing_is_none() {
        let columns = [Column::word("A"), Column::labelled("B"), Column::labelled("C")];
        let row = |c: &str| Row { key: "<".to_owned(), cells: vec!["a".into(), String::new(), c.into()] };
        let html = table("t", &columns, &[row(""), row("1")]);
        assert!(!html.contains(">B<") && !html.contains("data-label=\"B\""), "{html}");
        assert_eq!(html.matches("data-label=\"C\"").count(), 2, "{html}");
        assert!(html.contains("<tr data-key=\"&lt;\"><th scope=\"row\">a</th>"), "{html}");
    }
}

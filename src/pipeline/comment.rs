//! Tell: what a change does, as a comment on a pull request and as text.

use std::fmt::Write as _;

use jiff::SignedDuration;

use super::change::{Baked, Change, Effect, FleetChange, ImageChange, Rehearsed, State};
use super::vulnerability::Vulnerabilities;
use crate::inspect::diff::Changes;

/// Rows of one list that a comment shows. Who wants all of them has the JSON.
const ROWS: usize = 60;
/// Characters of a comment. GitHub takes 65,536 and GitLab a million; some are left for what a job writes around it.
const LONGEST: usize = 60_000;

/// Between what a change is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ends {
    /// The older commit, shortened.
    pub from: String,
    /// The newer one, shortened.
    pub to: String,
    /// What there is to know of how they were chosen.
    pub note: Option<String>,
}

impl Change {
    /// Returns it in one line: what changes, and what a merge does.
    #[must_use]
    pub fn headline(&self) -> String {
        if self.images.is_empty() && self.fleets.is_empty() {
            return "no image and no fleet changes".to_owned();
        }
        let rolled = self.fleets.iter().filter(|fleet| matches!(fleet.effect, Effect::Rolls | Effect::New));
        let rolled = rolled.count();
        let broken = if self.broken() { "; not valid: a merge would fail" } else { "" };
        format!(
            "{} {}, {} to roll{broken}",
            count(self.images.len(), "image"),
            if self.images.len() == 1 { "changes" } else { "change" },
            count(rolled, "fleet"),
        )
    }

    /// Returns the text for people, one line each.
    #[must_use]
    pub fn lines(&self, ends: &Ends) -> Vec<String> {
        let mut lines = vec![format!("{} → {}: {}", ends.from, ends.to, self.headline())];
        lines.extend(ends.note.iter().map(|note| format!("  {note}")));
        for image in &self.images {
            lines.push(format!(
                "image {}: {} → {}{}",
                image.name,
                state(&image.old),
                state(&image.new),
                baked(image)
            ));
            lines.extend(image.because.iter().map(|file| format!("  because of {file}")));
            lines.extend(image.diff.lines().iter().map(|line| format!("  {line}")));
            let told = image.vulnerabilities.iter().flat_map(Vulnerabilities::lines);
            lines.extend(told.map(|line| format!("  {line}")));
        }
        for fleet in &self.fleets {
            lines.push(format!("fleet {}: {}", fleet.name, effect(fleet)));
            lines.extend(fleet.because.iter().map(|because| format!("  {because}")));
            lines.extend(fleet.rehearsal.iter().map(|found| format!("  {}", rehearsed(found))));
            lines.extend(fleet.holds.iter().map(|hold| format!("  held by: {hold}")));
        }
        lines
    }

    /// Returns it in Markdown as GitHub, GitLab and Gitea show it, never longer than a comment may be. Nothing of the
    /// repository's text is taken for markup.
    #[must_use]
    pub fn markdown(&self, ends: &Ends) -> String {
        let mut text = format!("### rekiln: {}\n\n", self.headline());
        let _ = writeln!(text, "`{}` → `{}`\n", ends.from, ends.to);
        if let Some(note) = &ends.note {
            let _ = writeln!(text, "{}\n", escaped(note));
        }
        if !self.fleets.is_empty() {
            text.push_str("| fleet | image | instances | a merge | because of |\n|---|---|---|---|---|\n");
            for fleet in &self.fleets {
                let size = fleet.size.map_or_else(|| "its group's".to_owned(), |size| size.to_string());
                let mut what = escaped(&effect(fleet));
                what.extend(fleet.rehearsal.iter().map(|found| format!("; {}", rehearsed(found))));
                what.extend(fleet.holds.iter().map(|hold| format!("; held by: {}", escaped(hold))));
                let because = fleet.because.iter().map(|line| escaped(line)).collect::<Vec<_>>().join("; ");
                let _ = writeln!(
                    text,
                    "| {} | {} | {size} | {what} | {because} |",
                    code(&fleet.name),
                    code(&fleet.image)
                );
            }
            text.push('\n');
        }
        if !self.images.is_empty() {
            text.push_str("| image | before | after | what differs |\n|---|---|---|---|\n");
            for image in &self.images {
                let (old, new) = (escaped(&state(&image.old)), escaped(&state(&image.new)));
                let _ = writeln!(
                    text,
                    "| {} | {old} | {new}{} | {} |",
                    code(&image.name),
                    baked(image),
                    escaped(&summary(image))
                );
            }
            text.push('\n');
        }
        for image in &self.images {
            let section = section(image);
            if text.len() + section.len() > LONGEST {
                text.push_str(
                    "\nThe rest does not fit into a comment: `rekiln plan --from … --format json` has it.\n",
                );
                break;
            }
            text.push_str(&section);
        }
        text
    }
}

/// Everything about one image, folded.
fn section(image: &ImageChange) -> String {
    let mut body = String::new();
    if !image.because.is_empty() {
        let because: Vec<String> = image.because.iter().map(|file| code(file)).collect();
        let _ = writeln!(body, "Because of {}.\n", because.join(", "));
    }
    if let Some(found) = &image.vulnerabilities {
        found.table(code, &mut body);
    }
    let diff = &image.diff;
    for (title, changes) in [
        ("Packages", &diff.packages),
        ("Services", &diff.services),
        ("Ports", &diff.ports),
        ("Setuid and capabilities", &diff.privileges),
        ("Kernel arguments", &diff.kernel_args),
        ("Exceptions from the profile", &diff.exceptions),
        ("Files", &diff.files),
    ] {
        table(title, changes, &mut body);
    }
    if !image.read {
        body.push_str("From Git alone: what packages bring is known once both images are baked.\n");
    }
    format!(
        "<details><summary><b>{}</b>: {}</summary>\n\n{body}\n</details>\n\n",
        html(&image.name),
        html(&summary(image))
    )
}

fn table(title: &str, changes: &Changes, text: &mut String) {
    if changes.is_empty() {
        return;
    }
    let _ = writeln!(text, "**{title}**\n\n| | before | after |\n|---|---|---|");
    let cell = |value: &str| if value.is_empty() { "yes".to_owned() } else { code(value) };
    let removed = changes.removed.iter().map(|(name, old)| (name, cell(old), String::new()));
    let added = changes.added.iter().map(|(name, new)| (name, String::new(), cell(new)));
    let both = changes.changed.iter().map(|(name, (old, new))| (name, cell(old), cell(new)));
    let all: Vec<_> = removed.chain(added).chain(both).collect();
    for (name, old, new) in all.iter().take(ROWS) {
        let _ = writeln!(text, "| {} | {old} | {new} |", code(name));
    }
    if all.len() > ROWS {
        let _ = writeln!(text, "| … and {} more | | |", all.len() - ROWS);
    }
    text.push('\n');
}

/// What differs, and what that means for vulnerabilities where it is known.
fn summary(image: &ImageChange) -> String {
    let phrases = image.vulnerabilities.iter().flat_map(Vulnerabilities::phrases);
    [differs(image)].into_iter().chain(phrases).collect::<Vec<_>>().join(", ")
}

fn differs(image: &ImageChange) -> String {
    if let (State::Known { .. }, State::Known { .. }) = (&image.old, &image.new) {
        let diff = &image.diff;
        let parts = [
            ("package", &diff.packages),
            ("file", &diff.files),
            ("service", &diff.services),
            ("port", &diff.ports),
            ("privilege", &diff.privileges),
            ("kernel argument", &diff.kernel_args),
            ("exception", &diff.exceptions),
        ];
        let number = |changes: &Changes| changes.added.len() + changes.removed.len() + changes.changed.len();
        let said: Vec<String> = parts
            .iter()
            .filter(|(_, changes)| !changes.is_empty())
            .map(|(what, changes)| count(number(changes), what))
            .collect();
        return if said.is_empty() {
            "nothing that is seen from outside".to_owned()
        } else {
            said.join(", ")
        };
    }
    match &image.new {
        State::Absent => "removed".to_owned(),
        State::Broken { .. } => "cannot be baked".to_owned(),
        State::Known { .. } if image.old == State::Absent => "new".to_owned(),
        State::Known { .. } => "could not be baked before".to_owned(),
    }
}

fn state(state: &State) -> String {
    match state {
        State::Absent => "none".to_owned(),
        State::Known { id } => id.short(),
        State::Broken { why } => format!("none ({why})"),
    }
}

const fn baked(image: &ImageChange) -> &'static str {
    match image.baked {
        None => "",
        Some(Baked::No) => ", not baked yet",
        Some(Baked::Unproven) => ", baked, not booted",
        Some(Baked::Failed) => ", did not pass its boot",
        Some(Baked::Passed) => ", passed",
    }
}

fn effect(fleet: &FleetChange) -> String {
    match (fleet.effect, fleet.size) {
        (Effect::Broken, _) => "cannot roll it".to_owned(),
        (Effect::New, Some(size)) => format!("starts {}", count(size as usize, "instance")),
        (Effect::New, None) => "makes its group".to_owned(),
        (Effect::Rolls, Some(size)) => format!("replaces {}", count(size as usize, "instance")),
        (Effect::Rolls, None) => "replaces all instances of its group".to_owned(),
        (Effect::Resized, _) => "changes its size".to_owned(),
        (Effect::Settings, _) => "replaces nothing; the file holds from the next roll on".to_owned(),
        (Effect::Removed, _) => {
            "ends nothing: `rekiln down` does, from a commit that has the file".to_owned()
        }
    }
}

fn rehearsed(found: &Rehearsed) -> String {
    let Rehearsed { completed, seconds, lowest, highest } = found;
    let time = SignedDuration::from_secs(*seconds);
    if *completed {
        format!("about {time:#} in a rehearsal, at least {lowest} serving and at most {highest} there")
    } else {
        format!("does not complete in a rehearsal of {time:#}: `rekiln simulate` shows why")
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Text of a repository as code, whatever is in it. In a table a bar would end the cell even there.
fn code(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let text = text.replace('|', "\\|");
    // A fence must be longer than every run of backticks in the text.
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    if longest == 0 {
        return format!("`{text}`");
    }
    let fence = "`".repeat(longest + 1);
    format!("{fence} {text} {fence}")
}

/// Text as text: no markup, no mention of people, no end of a cell.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '#' | '|' | '~' => out.extend(['\\', c]),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            // Nobody is told because a file is named like them.
            '@' => out.push_str("@\u{200b}"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('@', "@\u{200b}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::inspect::diff::Diff;

    fn ends() -> Ends {
        Ends { from: "aaa".to_owned(), to: "bbb".to_owned(), note: None }
    }

    fn image(name: &str, packages: usize) -> ImageChange {
        let changed = (0..packages).map(|n| (format!("p{n}"), ("1".to_owned(), "2".to_owned()))).collect();
        ImageChange {
            name: name.to_owned(),
            old: State::Known { id: Digest::of(b"old") },
            new: State::Known { id: Digest::of(b"new") },
            because: vec!["images/a|b`c.lock".to_owned()],
            baked: Some(Baked::Passed),
            read: true,
            diff: Diff { packages: Changes { changed, ..Changes::default() }, ..Diff::default() },
            vulnerabilities: None,
        }
    }

    #[test]
    fn a_comment_is_never_too_long_and_says_what_is_left_out() {
        let images = (0..60).map(|n| image(&format!("image-{n}"), 200)).collect();
        let text = Change { images, fleets: Vec::new() }.markdown(&ends());
        assert!(text.len() < 65_536, "{}", text.len());
        assert!(text.contains("… and 140 more") && text.contains("does not fit into a comment"));
        assert!(text.contains("| `image-59` |"), "each image has its row");
        assert_eq!(text.matches("<details>").count(), text.matches("</details>").count());
    }

    #[test]
    fn nothing_of_the_repository_is_markup() {
        let mut odd = image("web", 1);
        odd.new = State::Broken { why: "images/<b>@ops*|`x`.toml:1: bad\nnext".to_owned() };
        let text = Change { images: vec![odd], fleets: Vec::new() }.markdown(&ends());
        let row = text.lines().find(|line| line.starts_with("| `web`")).expect("its row");
        assert!(row.contains("images/&lt;b&gt;@\u{200b}ops\\*\\|\\`x\\`.toml:1: bad next"), "{row}");
        assert!(text.contains("`` images/a\\|b`c.lock ``"), "{text}");
        assert!(text.contains("not valid: a merge would fail"));
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        let nothing = Change { images: Vec::new(), fleets: Vec::new() };
        assert_eq!(nothing.lines(&ends()), ["aaa → bbb: no image and no fleet changes"]);
        assert!(nothing.markdown(&ends()).starts_with("### rekiln: no image and no fleet changes\n"));
    }
}

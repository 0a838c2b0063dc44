//! What a machine said: its agent's last report, the end of its console.

use std::fs;
use std::path::Path;

use super::Report;

/// What the agent writes before a report on the console, which others write to as well; as in `bootstrap/guest`.
const PREFIX: &str = "rekiln-agent: ";

/// Returns the agent's last whole report in the machine's directory; `None` while there is none.
///
/// The last line may be half written and is then left for the next look.
#[must_use]
pub fn last(dir: &Path) -> Option<Report> {
    let text = fs::read(dir.join("agent.log")).ok()?;
    last_in(&String::from_utf8_lossy(&text))
}

/// Returns the agent's last whole report on a console, where it writes for lack of a port of its own.
#[must_use]
pub fn on_console(text: &str) -> Option<Report> {
    text.lines().rev().find_map(|line| serde_json::from_str(line.split_once(PREFIX)?.1.trim()).ok())
}

fn last_in(text: &str) -> Option<Report> {
    text.lines().rev().find_map(|line| serde_json::from_str(line.trim()).ok())
}

/// Returns the last `lines` lines of the machine's console, without control sequences.
#[must_use]
pub fn console_tail(dir: &Path, lines: usize) -> Vec<String> {
    let text = fs::read(dir.join("console.log")).unwrap_or_default();
    last_lines(&String::from_utf8_lossy(&text), lines)
}

/// Returns the last `lines` lines of what a console said, without control sequences and empty lines.
#[must_use]
pub fn last_lines(text: &str, lines: usize) -> Vec<String> {
    let text = plain(text);
    let lines_of: Vec<_> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines_of[lines_of.len().saturating_sub(lines)..].iter().map(ToString::to_string).collect()
}

/// Leaves out what could move the cursor or colour the reader's terminal: the guest writes it.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            // A control sequence: `ESC [`, parameters, and one final character (ECMA-48, 5.4); other escapes are two
            // characters. What breaks off is no reason to swallow what follows.
            '\x1b' => {
                if chars.next_if(|c| !c.is_control()) == Some('[') {
                    while chars.next_if(|c| (' '..='?').contains(c)).is_some() {}
                    chars.next_if(|c| ('@'..='~').contains(c));
                }
            }
            '\n' | '\t' => plain.push(c),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"image":"i","root_hash":"r","ready":true,"uptime_s":6.5,"failed_units":[],"listening":["80/tcp"],"touched":null}"#;

    #[test]
    fn half_a_line_is_left_for_later() {
        let report = last_in(&format!("\n{LINE}\r\n{}", &LINE[..40])).expect("the whole one");
        assert!(report.ready && report.listening == ["80/tcp"]);
        assert_eq!(last_in(&LINE[..40]), None);
    }

    #[test]
    fn a_console_has_the_reports_between_other_lines() {
        let touched = LINE.replace("null", "\"a shell\"");
        let text = format!(
            "[ 1.0] boot\r\nrekiln-agent: {LINE}\r\n[ 9.9] rekiln-agent: {touched}\r\n[10.0] end\r\n"
        );
        assert_eq!(on_console(&text).and_then(|report| report.touched).as_deref(), Some("a shell"));
        let half = format!("{text}rekiln-agent: {}", &LINE[..40]);
        assert_eq!(on_console(&half).and_then(|report| report.touched).as_deref(), Some("a shell"));
        assert!(on_console("nothing of an agent").is_none());
    }

    #[test]
    fn console_cannot_move_the_cursor() {
        assert_eq!(plain("a\x1b[2J\x1b[1;31mb\r\x07c\n\x1bcd"), "abc\nd");
        assert_eq!(plain("\x1b[3~a\x1b[\nb\x1b[1;\x1b[2Jc\x1b\nd\x1b"), "a\nbc\nd");
    }
}

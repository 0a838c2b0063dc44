//! What a machine prints, as lines that a terminal can take.

use crate::vm::report::plain;

/// A line is cut after so many bytes: a program that prints a progress bar or a file without an end of line must not fill
/// our memory. Longer than any line that someone reads.
const LINE_MAX: usize = 4096;

/// Cuts bytes into lines. What is no UTF-8 is shown as replacement characters; what would move the cursor is left out.
#[derive(Debug, Default)]
pub struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Takes what came and hands over the lines that are whole now.
    pub fn take(&mut self, bytes: &[u8], line: &mut dyn FnMut(&str)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let whole = part.ends_with(b"\n");
            let mut part = part.strip_suffix(b"\n").unwrap_or(part);
            while self.rest.len() + part.len() > LINE_MAX {
                let (now, later) = part.split_at(LINE_MAX - self.rest.len());
                self.rest.extend_from_slice(now);
                let begun = self.rest.split_off(whole_characters(&self.rest));
                self.say(line);
                self.rest = begun;
                part = later;
            }
            self.rest.extend_from_slice(part);
            if whole {
                self.say(line);
            }
        }
    }

    /// Hands over what came last, without an end of line.
    pub fn end(&mut self, line: &mut dyn FnMut(&str)) {
        if !self.rest.is_empty() {
            self.say(line);
        }
    }

    fn say(&mut self, line: &mut dyn FnMut(&str)) {
        let text = String::from_utf8_lossy(&self.rest);
        // A program that writes over its line again and again: the last state counts.
        let shown = text.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
        line(plain(shown).trim_end());
        self.rest.clear();
    }
}

/// Returns how many of the bytes come before a character at their end that is not whole yet.
fn whole_characters(bytes: &[u8]) -> usize {
    let last = bytes.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
    let begun = std::str::from_utf8(last).is_err_and(|error| error.error_len().is_none());
    bytes.len() - if begun { last.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(parts: &[&[u8]]) -> Vec<String> {
        let mut seen = Vec::new();
        let mut lines = Lines::default();
        for part in parts {
            lines.take(part, &mut |line| seen.push(line.to_owned()));
        }
        lines.end(&mut |line| seen.push(line.to_owned()));
        seen
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        assert_eq!(lines(&[b"on", b"e\ntwo\r\n", b"\n", b"last"]), ["one", "two", "", "last"]);
        assert_eq!(lines(&[b"10%\r20%\r30%\n"]), ["30%"]);
    }

    #[test]
    fn what_is_no_text_moves_no_cursor_and_fills_no_memory() {
        assert_eq!(lines(&[b"\xff\xfe\x1b[2Jx\x07\n"]), ["\u{fffd}\u{fffd}x"]);
        let long = lines(&[&vec![b'x'; 10_000]]);
        assert_eq!(long.iter().map(String::len).collect::<Vec<_>>(), [4096, 4096, 1808]);
    }
    #[test]
    fn a_cut_keeps_characters_whole() {
        let text = format!("x{}", "ä".repeat(4096));
        let cut = lines(&[&text.as_bytes()[..4096], &text.as_bytes()[4096..]]);
        assert_eq!(cut.iter().map(String::len).collect::<Vec<_>>(), [4095, 4096, 2]);
        assert_eq!(cut.concat(), text);
        assert_eq!(lines(&[&[0xff; 5000]]).concat(), "\u{fffd}".repeat(5000));
    }
}

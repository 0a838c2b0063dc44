//! Debian's versions and their order (Debian policy 5.6.12), as dpkg has them.

use std::cmp::Ordering;

/// A version, `[epoch:]upstream[-revision]`. Its order is dpkg's: `3.0~rc1` comes before `3.0`, and `1:1.0` after `9.9`.
///
/// Characters that policy does not allow are taken all the same, as dpkg takes them: those of rpm are among them.
#[derive(Debug, Clone, Copy)]
pub struct Version<'a> {
    epoch: u32,
    upstream: &'a str,
    revision: &'a str,
}

/// The largest epoch that dpkg takes: it is a C `int` there (dpkg, `lib/dpkg/parsehelp.c`).
const EPOCH: u32 = i32::MAX.unsigned_abs();

impl<'a> Version<'a> {
    /// Reads a version.
    ///
    /// # Errors
    /// What dpkg does not take for one: an empty text or part, blanks inside, and an epoch that is no number.
    pub fn parse(text: &'a str) -> Result<Self, String> {
        let bad = |why: &str| format!("`{text}` is not a Debian version: {why}");
        let whole = text.trim_ascii();
        if whole.is_empty() {
            return Err(bad("it is empty"));
        }
        if whole.chars().any(char::is_whitespace) {
            return Err(bad("it has blanks inside"));
        }
        let (epoch, rest) = match whole.split_once(':') {
            None => (0, whole),
            Some((epoch, rest)) => {
                let digits = epoch.bytes().all(|byte| byte.is_ascii_digit());
                let number = epoch.parse().ok().filter(|number| digits && *number <= EPOCH);
                (number.ok_or_else(|| bad("before its colon is no number"))?, rest)
            }
        };
        let (upstream, revision) = match rest.rsplit_once('-') {
            None => (rest, ""),
            Some((_, "")) => return Err(bad("nothing follows its last hyphen")),
            Some(parts) => parts,
        };
        if upstream.is_empty() {
            return Err(bad("it has no number"));
        }
        Ok(Self { epoch, upstream, revision })
    }

    /// Returns the epoch; 0 where none is written.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Returns the first number of the upstream part, without leading zeros; empty where it begins with something else.
    #[must_use]
    pub fn major(&self) -> &'a str {
        let end = self.upstream.bytes().take_while(u8::is_ascii_digit).count();
        self.upstream[..end].trim_start_matches('0')
    }

    /// Tells whether both are the same but for the epoch.
    #[must_use]
    pub fn same_but_for_epoch(&self, other: &Self) -> bool {
        Version { epoch: 0, ..*self } == Version { epoch: 0, ..*other }
    }
}

impl Ord for Version<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| part(self.upstream.as_bytes(), other.upstream.as_bytes()))
            .then_with(|| part(self.revision.as_bytes(), other.revision.as_bytes()))
    }
}

impl PartialOrd for Version<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version<'_> {}

/// Cuts what a rebuild of one architecture alone adds to its source's version: `5.2.15-2+b13` is built from `5.2.15-2`
/// (Debian Developer's Reference 5.10.2.1).
#[must_use]
pub fn without_rebuild(text: &str) -> &str {
    match text.rsplit_once("+b") {
        Some((source, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            source
        }
        _ => text,
    }
}

/// Compares two parts: by turns what is no number, character by character, and numbers.
fn part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    loop {
        let ((left, after_left), (right, after_right)) = (split(a, false), split(b, false));
        let order = characters(left, right);
        if order.is_ne() {
            return order;
        }
        let ((left, next_left), (right, next_right)) = (split(after_left, true), split(after_right, true));
        let order = number(left).cmp(&number(right));
        if order.is_ne() || (next_left.is_empty() && next_right.is_empty()) {
            return order;
        }
        (a, b) = (next_left, next_right);
    }
}

/// Splits off the digits at the start, or what is before the first digit.
fn split(text: &[u8], digits: bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit() == digits).count())
}

/// A number of any length, to compare: the longer one is larger, once leading zeros are gone.
fn number(digits: &[u8]) -> (usize, &[u8]) {
    let zeros = digits.iter().take_while(|byte| **byte == b'0').count();
    (digits.len() - zeros, &digits[zeros..])
}

/// Compares text without digits: `~` before the end, the end before letters, letters before all else.
fn characters(a: &[u8], b: &[u8]) -> Ordering {
    let rank = |byte: Option<&u8>| match byte {
        Some(b'~') => (0, 0),
        None => (1, 0),
        Some(byte) if byte.is_ascii_alphabetic() => (2, *byte),
        Some(byte) => (3, *byte),
    };
    (0..a.len().max(b.len()))
        .map(|at| rank(a.get(at)).cmp(&rank(b.get(at))))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Versions whose order is easy to get wrong: each is compared with each.
    const NASTY: &[&str] = &[
        "0",
        "00",
        "0~",
        "0~~",
        "0~~a",
        "0~a",
        "0a",
        "0-0",
        "0-1",
        "0:0-0",
        "0.0",
        "1",
        "1.0",
        "1.00",
        "1.0-0",
        "1.0-",
        "1.0.0",
        "1.0-1",
        "1.0-1+b1",
        "1.0-1+b10",
        "1.0-1~deb12u1",
        "1.0-1+deb12u1",
        "1.0-1+deb12u10",
        "1.0-1+deb12u9",
        "1.0-1.1",
        "1.0+dfsg-1",
        "1.0+git20240101-1",
        "1.0~rc1-1",
        "1.0~rc1~git-1",
        "1.0-rc1-1",
        "1.0a",
        "1.0Z",
        "1.0z",
        "1.0.a",
        "1.0+a",
        "1:0.1",
        "2:0",
        "10:0",
        "01:0.1",
        "9.9",
        "10",
        "1.10",
        "1.9",
        "1.09",
        "1.2.13.dfsg-1",
        "1.2.13-1",
        "1.0-1-1",
        "1:1:1-1",
        "1.0-a",
        "1.0-~",
        "1.0-1~",
        "1.0~~-1",
        "0~20171227-0.3+deb12u1",
        "a",
        "a1",
        "A",
        "-1",
        "1-",
        ":1",
        "1:",
        "x:1",
        "-1:1",
        "2147483647:1",
        "2147483648:1",
        "99999999999999999999:1",
        "99999999999999999999999",
        "100000000000000000000000",
        "1.0_1",
        "1.0^git",
        "1.0-1_2",
        "1 0",
        " 1.0",
        "1.0 ",
        "",
        "+",
        "~",
        "1~",
        "1+",
        "1.",
        "1..",
        "1.+",
        "1.-1",
        "1+-1",
        "1-+",
        "1-.",
        "252.39-1~deb12u2",
        "252.39-1",
        "3.0.22-1~deb12u2",
        "1:3.0.22-1",
    ];

    /// How dpkg says it, in one process: a shell calls it for each pair. `?` is what dpkg does not take.
    fn dpkg(pairs: &[(&str, &str)]) -> Vec<String> {
        let script = "while [ $# -gt 1 ]; do \
             dpkg --compare-versions -- \"$1\" lt \"$2\"; lt=$?; \
             if [ $lt -gt 1 ]; then echo '?'; elif [ $lt = 0 ]; then echo '<'; \
             elif dpkg --compare-versions -- \"$1\" eq \"$2\"; then echo '='; else echo '>'; fi; shift 2; done";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).args(pairs.iter().flat_map(|(a, b)| [a, b]));
        let output = command.output().expect("sh runs");
        String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned).collect()
    }

    fn ours(a: &str, b: &str) -> &'static str {
        match (Version::parse(a), Version::parse(b)) {
            (Ok(a), Ok(b)) => match a.cmp(&b) {
                Ordering::Less => "<",
                Ordering::Equal => "=",
                Ordering::Greater => ">",
            },
            _ => "?",
        }
    }

    #[test]
    fn the_order_is_dpkgs() {
        // dpkg gives the empty text a meaning of its own: it is there where a package is not.
        let some = NASTY.iter().copied().filter(|text| !text.is_empty());
        let some: Vec<&str> = some.collect();
        // Each with those around it and with some far away: all pairs would be thousands of processes.
        let pairs: Vec<(&str, &str)> = some
            .iter()
            .enumerate()
            .flat_map(|(at, a)| [1, 2, 3, 7, 19, 41].map(|step| (*a, some[(at + step) % some.len()])))
            .collect();
        let told = dpkg(&pairs);
        assert_eq!(told.len(), pairs.len());
        for ((a, b), told) in pairs.iter().zip(told) {
            assert_eq!(ours(a, b), told, "`{a}` and `{b}`");
        }
    }

    #[test]
    fn the_order_is_one() {
        let versions: Vec<Version<'_>> = NASTY.iter().filter_map(|text| Version::parse(text).ok()).collect();
        for a in &versions {
            assert!(a.cmp(a).is_eq(), "{a:?}");
            for b in &versions {
                assert_eq!(a.cmp(b), b.cmp(a).reverse(), "{a:?} {b:?}");
                for c in &versions {
                    assert!(!(a <= b && b <= c) || a <= c, "{a:?} {b:?} {c:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_none_is_said() {
        for (text, expected) in [
            ("", "it is empty"),
            (" ", "it is empty"),
            ("1 0", "blanks inside"),
            ("1\u{a0}0", "blanks inside"),
            (":1", "no number"),
            ("+1:1", "no number"),
            ("1:", "it has no number"),
            ("1-", "nothing follows its last hyphen"),
            ("-1", "it has no number"),
            ("2147483648:1", "no number"),
        ] {
            let error = Version::parse(text).expect_err(text);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn rebuilds_are_cut_and_nothing_else() {
        for (binary, source) in [
            ("5.2.15-2+b13", "5.2.15-2"),
            ("2.66-4+deb12u3+b1", "2.66-4+deb12u3"),
            ("1.0+b2", "1.0"),
            ("1.0-1+b", "1.0-1+b"),
            ("1.0-1+beta1", "1.0-1+beta1"),
            ("1.0-1+b1~x", "1.0-1+b1~x"),
            ("1.0-1", "1.0-1"),
        ] {
            assert_eq!(without_rebuild(binary), source);
        }
    }
}

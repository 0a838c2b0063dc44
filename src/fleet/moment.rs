//! Tell: times and durations in the words of a person who is woken at night. Times are UTC, as in every log and for
//! every colleague, and a duration stands beside each, so that nobody has to reckon.

use jiff::{SignedDuration, Timestamp};

/// Says how long something takes: `40 s`, `4 min 12 s`, `35 min`, `3 h 20 min`, `2 d 4 h`. What is below zero, as of a
/// clock that went back, is `0 s`.
#[must_use]
pub fn lasting(time: SignedDuration) -> String {
    let seconds = time.as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let (whole, part) = match seconds {
        ..60 => ((seconds, "s"), (0, "")),
        // From ten minutes on, seconds are noise; from two days on, minutes are.
        60..600 => ((minutes, "min"), (seconds % 60, "s")),
        600..3600 => ((minutes, "min"), (0, "")),
        3600..172_800 => ((hours, "h"), (minutes % 60, "min")),
        _ => ((days, "d"), (hours % 24, "h")),
    };
    match (whole, part) {
        ((count, unit), (0, _)) => format!("{count} {unit}"),
        ((count, unit), (rest, of)) => format!("{count} {unit} {rest} {of}"),
    }
}

/// Says when something is: `14:32 UTC`, with seconds when it is within ten minutes of `now`, with the date when that is
/// another than today's.
#[must_use]
pub fn at(time: Timestamp, now: Timestamp) -> String {
    let near = time.duration_since(now).abs() < SignedDuration::from_mins(10);
    let today = time.strftime("%F").to_string() == now.strftime("%F").to_string();
    let format = match (today, near) {
        (true, true) => "%H:%M:%S UTC",
        (true, false) => "%H:%M UTC",
        (false, true) => "%F %H:%M:%S UTC",
        (false, false) => "%F %H:%M UTC",
    };
    time.strftime(format).to_string()
}

/// Says when something will be, and how long that is from `now`: `14:32 UTC, in 12 min`; what is over is `now`.
#[must_use]
pub fn ahead(time: Timestamp, now: Timestamp) -> String {
    let left = time.duration_since(now);
    if left.as_secs() > 0 { format!("{}, in {}", at(time, now), lasting(left)) } else { "now".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_two_units_at_most_and_no_noise() {
        let table = [
            (-5, "0 s"),
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (252, "4 min 12 s"),
            (659, "10 min"),
            (3599, "59 min"),
            (3600, "1 h"),
            (12_000, "3 h 20 min"),
            (172_799, "47 h 59 min"),
            (187_200, "2 d 4 h"),
        ];
        for (seconds, words) in table {
            assert_eq!(lasting(SignedDuration::from_secs(seconds)), words);
        }
    }

    #[test]
    fn a_time_has_as_much_of_it_as_its_distance_asks_for() {
        let now: Timestamp = "2026-11-25T13:58:00Z".parse().expect("a time");
        let table = [
            ("2026-11-25T13:58:40Z", "13:58:40 UTC, in 40 s"),
            ("2026-11-25T14:32:30Z", "14:32 UTC, in 34 min"),
            ("2026-11-26T08:00:00Z", "2026-11-26 08:00 UTC, in 18 h 2 min"),
            ("2026-11-25T13:58:00Z", "now"),
            ("2026-11-25T13:00:00Z", "now"),
        ];
        for (time, words) in table {
            assert_eq!(ahead(time.parse().expect("a time"), now), words);
        }
        let midnight = "2026-11-26T00:00:00Z".parse().expect("a time");
        assert_eq!(at(midnight, midnight - SignedDuration::from_secs(1)), "2026-11-26 00:00:00 UTC");
    }
}

//! How people write windows and exceptions, and the words for what is wrong.

use jiff::civil::{Date, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase, TimeZoneName};

use super::{DAY, Exception, Window};
use crate::diagnostic::nearest;

/// Days as people write them here, from Monday.
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// The word for all of them.
const DAILY: &str = "daily";

/// Words that are near what people write for days; what is meant are their first three letters.
const NEAR_DAYS: [&str; 14] = [
    "Mon",
    "Tue",
    "Wed",
    "Thu",
    "Fri",
    "Sat",
    "Sun",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// Reads a window such as `Mon-Fri 08:00-18:00 Europe/Berlin`.
///
/// The days are a day, a range that may go over Sunday (`Sat-Mon`), a list of both (`Mon,Wed-Fri`), or `daily`. An end
/// at or before the begin is on the next day, and `24:00` is an end too. Without a zone it is UTC.
///
/// # Errors
/// Text that is no window: the part that is wrong, and the nearest right spelling.
pub fn window(text: &str) -> Result<Window, String> {
    let mut parts = text.split_whitespace();
    let (Some(days_text), Some(hours)) = (parts.next(), parts.next()) else {
        return Err(format!(
            "`{text}` is not a window such as \"Mon-Fri 08:00-18:00 Europe/Berlin\": days, hours and a zone"
        ));
    };
    let within = |why: String| format!("window `{text}`: {why}");
    let days = days(days_text).map_err(within)?;
    let (start, end) = minutes(hours).map_err(within)?;
    let zone = rest(parts).map_err(within)?;
    Ok(Window { days, start, end, zone })
}

/// Reads an exception such as `2026-12-24 Europe/Berlin` or `2026-12-24..2026-12-26 Europe/Berlin`: whole days, the
/// last included. Without a zone it is UTC.
///
/// # Errors
/// Text that is no exception: the part that is wrong, and how it is written.
pub fn exception(text: &str) -> Result<Exception, String> {
    let mut parts = text.split_whitespace();
    let Some(dates) = parts.next() else {
        return Err(format!(
            "`{text}` is not an exception such as \"2026-12-24..2026-12-26 Europe/Berlin\": days and a zone"
        ));
    };
    let within = |why: String| format!("exception `{text}`: {why}");
    let (first, last) = dates.split_once("..").unwrap_or((dates, dates));
    let (first, last) = (date(first).map_err(within)?, date(last).map_err(within)?);
    if last < first {
        return Err(within(format!("it ends on {last}, before it begins on {first}")));
    }
    Ok(Exception { first, last, zone: rest(parts).map_err(within)? })
}

/// Reads the zone, which is all that may be left.
fn rest<'a>(mut parts: impl Iterator<Item = &'a str>) -> Result<TimeZone, String> {
    let zone = parts.next().map_or(Ok(TimeZone::UTC), zone)?;
    match parts.next() {
        Some(more) => Err(format!("`{more}` is too much: a list of days has commas and no spaces")),
        None => Ok(zone),
    }
}

/// Reads the days of a window: for each day of the week, from Monday, whether it is meant.
fn days(text: &str) -> Result<[bool; 7], String> {
    if text == DAILY {
        return Ok([true; 7]);
    }
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        // At most once around the week, so `Sat-Mon` ends and `Mon-Mon` is a Monday.
        for day in first.cycle_forward().take(usize::try_from(last.since(first)).unwrap_or(0) + 1) {
            if let Ok(index) = usize::try_from(day.to_monday_zero_offset()) {
                days[index] = true;
            }
        }
    }
    Ok(days)
}

fn day(text: &str) -> Result<Weekday, String> {
    let number = DAYS.iter().position(|day| *day == text).and_then(|number| i8::try_from(number).ok());
    if let Some(day) = number.and_then(|number| Weekday::from_monday_zero_offset(number).ok()) {
        return Ok(day);
    }
    // Case is the commonest difference and no mistake in the letters.
    let lower = text.to_lowercase();
    let meant = nearest(DAILY, [lower.as_str()]).map(|_| DAILY).or_else(|| {
        let title: String =
            lower.chars().take(1).flat_map(char::to_uppercase).chain(lower.chars().skip(1)).collect();
        nearest(&title, NEAR_DAYS).map(|near| &near[..3])
    });
    Err(match meant {
        Some(meant) => format!("`{text}` is not a day: did you mean `{meant}`?"),
        None => format!("`{text}` is not a day: they are {} and {DAILY}", DAYS.join(", ")),
    })
}

/// Reads the hours of a window: begin and end in minutes since the begin of the day on which it begins.
fn minutes(text: &str) -> Result<(i32, i32), String> {
    let Some((start, end)) = text.split_once('-') else {
        return Err(format!("`{text}` are no hours such as \"08:00-18:00\""));
    };
    let (begin, end) = (minute(start)?, minute(end)?);
    if begin == DAY {
        return Err("`24:00` is an end only: a window that begins at midnight begins at `00:00`".to_owned());
    }
    Ok((begin, if end <= begin { end + DAY } else { end }))
}

fn minute(text: &str) -> Result<i32, String> {
    let two = |digits: &str| {
        let good = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        if good { digits.parse::<i32>().ok() } else { None }
    };
    let read = || {
        let (hours, minutes) = text.split_once(':')?;
        let (hours, minutes) = (two(hours)?, two(minutes)?);
        let minute = hours * 60 + minutes;
        (minutes < 60 && minute <= DAY).then_some(minute)
    };
    read().ok_or_else(|| format!("`{text}` is not a time such as \"08:00\", from \"00:00\" to \"24:00\""))
}

fn date(text: &str) -> Result<Date, String> {
    // The parser takes more spellings than one, and a file that people compare should have one.
    let date = text.parse().ok().filter(|date: &Date| date.to_string() == text);
    date.ok_or_else(|| format!("`{text}` is not a date such as \"2026-12-24\""))
}

/// Reads a zone by its name in the time zone database that is part of this program: the same file means the same
/// hours on every machine, also on one that has no database.
///
/// # Errors
/// What is no name of a zone, with the one that was meant.
pub fn zone(text: &str) -> Result<TimeZone, String> {
    let database = TimeZoneDatabase::bundled();
    if let Some(zone) = database.get(text).ok().filter(|zone| !zone.is_unknown()) {
        return Ok(zone);
    }
    let names: Vec<_> = database.available().collect();
    let names = || names.iter().map(TimeZoneName::as_str);
    // People know the city and forget the continent.
    let city = names().find(|name| {
        name.rsplit_once('/').is_some_and(|(_, city)| city.eq_ignore_ascii_case(&text.replace(' ', "_")))
    });
    Err(match city.or_else(|| nearest(text, names())) {
        Some(meant) => format!("`{text}` is not a time zone: did you mean `{meant}`?"),
        None => format!("`{text}` is not a time zone: they are names such as `Europe/Berlin`, or `UTC`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows() {
        let every = [true; 7];
        let week = [true, true, true, true, true, false, false];
        for (text, days, start, end, zone) in [
            ("Mon-Fri 08:00-18:00 Europe/Berlin", week, 480, 1080, "Europe/Berlin"),
            ("daily 00:00-24:00", every, 0, 1440, "UTC"),
            ("daily 00:00-00:00", every, 0, 1440, "UTC"),
            ("daily 08:00-08:00 UTC", every, 480, 480 + 1440, "UTC"),
            ("Tue 22:00-04:00", [false, true, false, false, false, false, false], 1320, 1680, "UTC"),
            ("Sat-Mon 09:30-09:31", [true, false, false, false, false, true, true], 570, 571, "UTC"),
            ("Mon,Wed-Fri  10:00-11:00", [true, false, true, true, true, false, false], 600, 660, "UTC"),
            ("Mon-Mon 10:00-11:00", [true, false, false, false, false, false, false], 600, 660, "UTC"),
        ] {
            let window = window(text).expect(text);
            assert_eq!((window.days, window.start, window.end), (days, start, end), "{text}");
            assert_eq!(window.zone.iana_name(), Some(zone), "{text}");
        }
    }

    #[test]
    fn exceptions() {
        for (text, first, last, zone) in [
            ("2026-12-24", "2026-12-24", "2026-12-24", "UTC"),
            ("2026-12-24 Europe/Berlin", "2026-12-24", "2026-12-24", "Europe/Berlin"),
            ("2026-12-24..2026-12-26 Asia/Tokyo", "2026-12-24", "2026-12-26", "Asia/Tokyo"),
        ] {
            let exception = exception(text).expect(text);
            assert_eq!(
                (exception.first.to_string(), exception.last.to_string()),
                (first.into(), last.into())
            );
            assert_eq!(exception.zone.iana_name(), Some(zone), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_was_meant() {
        for (text, part, hint) in [
            ("", "``", "Mon-Fri 08:00-18:00 Europe/Berlin"),
            ("Mon-Fri", "`Mon-Fri`", "days, hours and a zone"),
            ("Mon-Fry 08:00-18:00", "`Fry`", "did you mean `Fri`"),
            ("mon 08:00-18:00", "`mon`", "did you mean `Mon`"),
            ("WEDNESDAY 08:00-18:00", "`WEDNESDAY`", "did you mean `Wed`"),
            ("Thurs 08:00-18:00", "`Thurs`", "did you mean `Thu`"),
            ("Daily 08:00-18:00", "`Daily`", "did you mean `daily`"),
            ("Mon, Tue 08:00-18:00", "`` is not a day", "Sun and daily"),
            ("weekdays 08:00-18:00", "`weekdays`", "Mon, Tue, Wed"),
            ("Mon 8:00-18:00", "`8:00`", "08:00"),
            ("Mon 08:00-24:01", "`24:01`", "24:00"),
            ("Mon 08:60-18:00", "`08:60`", "08:00"),
            ("Mon +8:00-18:00", "`+8:00`", "08:00"),
            ("Mon 08:00", "`08:00`", "08:00-18:00"),
            ("Mon 24:00-01:00", "`24:00`", "`00:00`"),
            ("Mon 08:00-18:00 Europe/Berln", "`Europe/Berln`", "did you mean `Europe/Berlin`"),
            ("Mon 08:00-18:00 berlin", "`berlin`", "did you mean `Europe/Berlin`"),
            ("Mon 08:00-18:00 +02:00", "`+02:00`", "names such as `Europe/Berlin`"),
            ("Mon 08:00-18:00 Etc/Unknown", "`Etc/Unknown`", "`"),
            ("Mon 08:00-18:00 UTC please", "`please`", "too much"),
        ] {
            let error = window(text).expect_err(text);
            assert!(error.contains(part) && error.contains(hint), "{text}: {error}");
        }
        for (text, part, hint) in [
            (" ", "` `", "2026-12-24..2026-12-26 Europe/Berlin"),
            ("24.12.2026", "`24.12.2026`", "2026-12-24"),
            ("2026-02-30", "`2026-02-30`", "2026-12-24"),
            ("20261224", "`20261224`", "2026-12-24"),
            ("2026-12-24..", "``", "2026-12-24"),
            ("2026-12-26..2026-12-24", "2026-12-24", "before it begins"),
            ("2026-12-24 Berlin", "`Berlin`", "did you mean `Europe/Berlin`"),
        ] {
            let error = exception(text).expect_err(text);
            assert!(error.contains(part) && error.contains(hint), "{text}: {error}");
        }
    }
}

//! Decide: when the nights begin.

use std::str::FromStr;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use crate::fleet::windows::zone;

/// A time on the wall's clock, once a day. On a day on which the clock jumps over it, it is when the clock has jumped; on one
/// on which it comes twice, it is the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daily {
    time: Time,
    zone: TimeZone,
}

impl FromStr for Daily {
    type Err = String;

    /// Reads `02:30 Europe/Berlin`, or `02:30` for UTC.
    fn from_str(text: &str) -> Result<Self, String> {
        let (time, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), "UTC"));
        let wrong = || format!("`{text}` is not a time such as \"02:30\" or \"02:30 Europe/Berlin\"");
        if time.len() != "02:30".len() {
            return Err(wrong());
        }
        let time = Time::strptime("%H:%M", time).map_err(|_| wrong())?;
        Ok(Self { time, zone: zone(rest.trim())? })
    }
}

impl Daily {
    /// Returns the last begin at or before `now`.
    #[must_use]
    pub fn last(&self, now: Timestamp) -> Option<Timestamp> {
        // Today's, or yesterday's where today's is yet to come.
        (0..2).find_map(|back| self.on(now, -back).filter(|at| *at <= now))
    }

    /// Returns the first begin after `now`.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        (0..2).find_map(|ahead| self.on(now, ahead).filter(|at| *at > now))
    }

    /// Returns the begin on the day of `now`, or so many days later.
    fn on(&self, now: Timestamp, days: i64) -> Option<Timestamp> {
        let day = self.zone.to_datetime(now).date().checked_add(days.days()).ok()?;
        self.zone.to_timestamp(day.to_datetime(self.time)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn nights() {
        for (daily, now, last, next) in [
            ("02:30", "2026-11-29T02:30:00Z", "2026-11-29T02:30:00Z", "2026-11-30T02:30:00Z"),
            ("02:30", "2026-11-29T02:29:59Z", "2026-11-28T02:30:00Z", "2026-11-29T02:30:00Z"),
            ("23:00 Europe/Berlin", "2026-11-29T22:30:00Z", "2026-11-29T22:00:00Z", "2026-11-30T22:00:00Z"),
            // Skipped in spring, twice in autumn.
            ("02:30 Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"),
            ("02:30 Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
        ] {
            let found: Daily = daily.parse().expect(daily);
            assert_eq!(found.last(at(now)), Some(at(last)), "{daily} {now}");
            assert_eq!(found.next(at(now)), Some(at(next)), "{daily} {now}");
        }
    }

    #[test]
    fn what_is_no_time_is_named() {
        for (text, expected) in [
            ("25:00", "`25:00` is not a time such as"),
            ("2:30", "`2:30` is not a time such as"),
            ("", "`` is not a time such as"),
            ("02:30 Europe/Berln", "did you mean"),
        ] {
            let error = text.parse::<Daily>().expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}

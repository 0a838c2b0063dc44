//! Decide: when voluntary work may begin.
//!
//! A window is what a clock on the wall of its zone shows, and nothing else: it is open while that clock shows a time
//! within. So a window in the hour that is skipped in spring does not open on that day, one that begins in that hour
//! opens when the clock has jumped over it, and one in the hour that is repeated in autumn is open both times.

mod parse;
#[cfg(test)]
mod tests;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};

pub use parse::{exception, window, zone};

/// How far [`Windows::opens_at`] looks ahead: a year and some days, so that a window on one day of the week is found
/// behind a year of exceptions, and a fleet file that never opens is still told from one that opens late.
const HORIZON: SignedDuration = SignedDuration::from_hours(370 * 24);

/// Minutes of a day on the wall's clock, whatever the zone's offset does on it.
const DAY: i32 = 24 * 60;

/// When voluntary work may begin: within any window, and not on a day of any exception. Without windows every time is
/// within; so the default is always open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows {
    windows: Vec<Window>,
    exceptions: Vec<Exception>,
}

impl Windows {
    /// Reads the windows and exceptions of a fleet file, as [`window`] and [`exception`] do.
    ///
    /// # Errors
    /// The first text that cannot be read, and what is wrong with it.
    pub fn parse(windows: &[String], except: &[String]) -> Result<Self, String> {
        let windows = windows.iter().map(|text| window(text)).collect::<Result<_, _>>()?;
        let exceptions = except.iter().map(|text| exception(text)).collect::<Result<_, _>>()?;
        Ok(Self { windows, exceptions })
    }

    /// Tells whether voluntary work may begin at `now`. Its cost is one look at a zone's table for each window and
    /// exception: it is asked at every step of a plan.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        (self.windows.is_empty() || self.windows.iter().any(|window| window.covers(now)))
            && !self.exceptions.iter().any(|exception| exception.covers(now))
    }

    /// Returns the first moment at or after `now` when voluntary work may begin; `None` when there is none within 370
    /// days.
    #[must_use]
    pub fn opens_at(&self, now: Timestamp) -> Option<Timestamp> {
        let limit = now.checked_add(HORIZON).unwrap_or(Timestamp::MAX);
        let mut at = now;
        while at <= limit {
            if self.is_open(at) {
                return Some(at);
            }
            at = self.next_look(at)?;
        }
        None
    }

    /// Returns the first exception, by its place, from whose begin on nothing opens within 370 days; `None` when there
    /// is none such. It does not depend on the time: a fleet file is right or wrong on every day.
    #[must_use]
    pub fn shut_by(&self) -> Option<usize> {
        let shut = |exception: &Exception| {
            let begin = exception.zone.to_timestamp(exception.first.to_datetime(Time::midnight())).ok()?;
            self.opens_at(begin).is_none().then_some(())
        };
        self.exceptions.iter().position(|exception| shut(exception).is_some())
    }

    /// Returns the next moment after `at`, when it is closed, at which it may be open: nothing opens between the two.
    fn next_look(&self, at: Timestamp) -> Option<Timestamp> {
        // While an exception lasts no window matters, so a long one costs one step.
        match self.exceptions.iter().find(|exception| exception.covers(at)) {
            Some(exception) => next(&exception.zone, at, exception.end()?),
            None => self.windows.iter().filter_map(|window| window.next_look(at)).min(),
        }
    }
}

/// Hours of some days of the week, in one zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The days on which it begins, from Monday.
    days: [bool; 7],
    /// When it begins, in minutes of the day: less than a day.
    start: i32,
    /// When it ends, itself outside, in minutes since the day's begin: after `start`, by at most a day.
    end: i32,
    zone: TimeZone,
}

impl Window {
    /// Tells whether a clock on the wall of the window's zone shows a time within at `now`.
    fn covers(&self, now: Timestamp) -> bool {
        let local = self.zone.to_datetime(now);
        let minute = i32::from(local.hour()) * 60 + i32::from(local.minute());
        let begun = |days_ago: i8| {
            let day = (local.weekday().to_monday_zero_offset() + 7 - days_ago) % 7;
            usize::try_from(day).is_ok_and(|day| self.days[day])
        };
        // What goes past midnight belongs to the day on which it begins.
        (begun(0) && (self.start..self.end).contains(&minute))
            || (begun(1) && (self.start..self.end).contains(&(minute + DAY)))
    }

    /// Returns the next moment after `at` when it may begin; `None` at the end of time.
    fn next_look(&self, at: Timestamp) -> Option<Timestamp> {
        let local = self.zone.to_datetime(at);
        // Seven days ahead is the same day of the week, for a window whose begin on this day is over.
        let start = (0..=7).find_map(|ahead| {
            let date = local.date().checked_add(ahead.days()).ok()?;
            let day = usize::try_from(date.weekday().to_monday_zero_offset()).ok()?;
            let start = date.to_datetime(Time::midnight()).checked_add(self.start.minutes()).ok()?;
            (self.days[day] && start > local).then_some(start)
        });
        next(&self.zone, at, start?)
    }
}

/// Whole days, in one zone, on which nothing voluntary begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    first: Date,
    /// Itself included; never before `first`.
    last: Date,
    zone: TimeZone,
}

impl Exception {
    /// Tells whether a calendar in the exception's zone shows one of its days at `now`.
    fn covers(&self, now: Timestamp) -> bool {
        (self.first..=self.last).contains(&self.zone.to_datetime(now).date())
    }

    /// Returns what the clock shows when it is over; `None` at the end of time.
    fn end(&self) -> Option<DateTime> {
        self.last.tomorrow().ok().map(|date| date.to_datetime(Time::midnight()))
    }
}

/// Returns when the clock of `zone`, going on from `at` as it goes then, shows `wanted`; when it is changed before
/// that, the moment of the change, at which one has to look again. So no time that is skipped or repeated needs a rule
/// of its own.
fn next(zone: &TimeZone, at: Timestamp, wanted: DateTime) -> Option<Timestamp> {
    let shown = zone.to_offset(at).to_timestamp(wanted).ok();
    let changed = zone.following(at).next().map(|transition| transition.timestamp());
    [shown, changed].into_iter().flatten().min()
}

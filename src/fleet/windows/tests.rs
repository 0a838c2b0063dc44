//! Tables of moments, most of them around the nights when the clocks change.

use super::*;

fn windows(windows: &[&str], except: &[&str]) -> Windows {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    Windows::parse(&owned(windows), &owned(except)).expect("windows")
}

fn at(text: &str) -> Timestamp {
    text.parse().expect(text)
}

#[test]
fn without_windows_it_is_always_open() {
    let now = at("2026-03-29T01:30:00Z");
    assert!(Windows::default().is_open(now));
    assert_eq!(Windows::default().opens_at(now), Some(now));
    assert_eq!(windows(&[], &[]), Windows::default());
}

#[test]
fn open_and_closed() {
    let table: &[(&str, &[&str])] = &[
        ("Mon-Fri 08:00-18:00 Europe/Berlin", &["+2026-07-06T06:00:00Z", "+2026-07-10T15:59:59.9Z"]),
        ("Mon-Fri 08:00-18:00 Europe/Berlin", &["-2026-07-06T05:59:59Z", "-2026-07-10T16:00:00Z"]),
        ("Mon-Fri 08:00-18:00 Europe/Berlin", &["-2026-07-11T10:00:00Z", "+2026-01-05T07:00:00Z"]),
        // Over midnight it belongs to Tuesday.
        ("Tue 22:00-04:00", &["-2026-07-07T03:00:00Z", "+2026-07-07T22:00:00Z", "+2026-07-08T03:59:59Z"]),
        ("Tue 22:00-04:00", &["-2026-07-08T04:00:00Z", "-2026-07-08T22:00:00Z"]),
        ("Sun 22:00-04:00", &["+2026-07-06T03:00:00Z", "-2026-07-07T03:00:00Z"]),
        ("Sat-Mon 00:00-24:00", &["+2026-07-04T00:00:00Z", "+2026-07-06T23:59:59Z", "-2026-07-07T00:00:00Z"]),
        ("Mon 08:00-08:00", &["-2026-07-06T07:59:59Z", "+2026-07-07T07:59:59Z", "-2026-07-07T08:00:00Z"]),
        // 2026-03-29: Berlin goes from 02:00+01 to 03:00+02, at 01:00Z. The hour from 2 is skipped.
        ("daily 02:00-03:00 Europe/Berlin", &["-2026-03-29T00:59:59Z", "-2026-03-29T01:00:00Z"]),
        ("daily 02:30-04:00 Europe/Berlin", &["-2026-03-29T00:59:59Z", "+2026-03-29T01:00:00Z"]),
        ("daily 02:30-04:00 Europe/Berlin", &["+2026-03-29T01:59:59Z", "-2026-03-29T02:00:00Z"]),
        ("Sat 22:00-02:30 Europe/Berlin", &["+2026-03-29T00:59:59Z", "-2026-03-29T01:00:00Z"]),
        // 2026-10-25: Berlin goes from 03:00+02 to 02:00+01, at 01:00Z. The hour from 2 is repeated.
        ("daily 02:00-03:00 Europe/Berlin", &["-2026-10-24T23:59:59Z", "+2026-10-25T00:00:00Z"]),
        ("daily 02:00-03:00 Europe/Berlin", &["+2026-10-25T01:59:59Z", "-2026-10-25T02:00:00Z"]),
        ("daily 02:30-03:30 Europe/Berlin", &["+2026-10-25T00:30:00Z", "-2026-10-25T01:00:00Z"]),
        ("daily 02:30-03:30 Europe/Berlin", &["+2026-10-25T01:30:00Z", "-2026-10-25T02:30:00Z"]),
    ];
    for (text, moments) in table {
        for moment in *moments {
            let open = windows(&[text], &[]).is_open(at(&moment[1..]));
            assert_eq!(open, moment.starts_with('+'), "{text} at {moment}");
        }
    }
}

/// Windows, exceptions, a moment, and the next opening from there.
type Row = (&'static [&'static str], &'static [&'static str], &'static str, Option<&'static str>);

#[test]
fn the_next_opening() {
    let table: [Row; 24] = [
        (&["Mon-Fri 08:00-18:00 Europe/Berlin"], &[], "2026-07-10T16:00:00Z", Some("2026-07-13T06:00:00Z")),
        (&["Mon-Fri 08:00-18:00 Europe/Berlin"], &[], "2026-07-13T06:00:01Z", Some("2026-07-13T06:00:01Z")),
        (&["Mon 08:00-09:00"], &[], "2026-07-06T09:00:00Z", Some("2026-07-13T08:00:00Z")),
        (&["Mon 08:00-09:00", "Thu 08:00-09:00"], &[], "2026-07-06T09:00:00Z", Some("2026-07-09T08:00:00Z")),
        // The skipped hour: not on that day; or as soon as the clock has jumped over the begin.
        (&["daily 02:00-03:00 Europe/Berlin"], &[], "2026-03-29T00:00:00Z", Some("2026-03-30T00:00:00Z")),
        (&["Sun 02:00-03:00 Europe/Berlin"], &[], "2026-03-29T00:00:00Z", Some("2026-04-05T00:00:00Z")),
        (&["daily 02:30-04:00 Europe/Berlin"], &[], "2026-03-29T00:00:00Z", Some("2026-03-29T01:00:00Z")),
        (&["daily 03:00-04:00 Europe/Berlin"], &[], "2026-03-29T00:00:00Z", Some("2026-03-29T01:00:00Z")),
        (&["daily 08:00-09:00 Europe/Berlin"], &[], "2026-03-28T12:00:00Z", Some("2026-03-29T06:00:00Z")),
        // The repeated hour: both times.
        (&["daily 02:00-03:00 Europe/Berlin"], &[], "2026-10-24T22:00:00Z", Some("2026-10-25T00:00:00Z")),
        (&["daily 02:30-03:00 Europe/Berlin"], &[], "2026-10-25T01:00:00Z", Some("2026-10-25T01:30:00Z")),
        (&["daily 02:15-02:45 Europe/Berlin"], &[], "2026-10-25T00:45:00Z", Some("2026-10-25T01:15:00Z")),
        (&["daily 02:15-02:45 Europe/Berlin"], &[], "2026-10-25T01:45:00Z", Some("2026-10-26T01:15:00Z")),
        // A window that ends in it opens again by the jump back itself.
        (&["daily 01:00-02:30 Europe/Berlin"], &[], "2026-10-25T00:30:00Z", Some("2026-10-25T01:00:00Z")),
        // Exceptions: whole local days, and windows go on behind them.
        (&[], &["2026-12-24 Europe/Berlin"], "2026-12-23T22:59:59Z", Some("2026-12-23T22:59:59Z")),
        (&[], &["2026-12-24 Europe/Berlin"], "2026-12-23T23:00:00Z", Some("2026-12-24T23:00:00Z")),
        (
            &["daily 22:00-04:00"],
            &["2026-12-24..2026-12-26"],
            "2026-12-24T01:00:00Z",
            Some("2026-12-27T00:00:00Z"),
        ),
        (
            &["Thu 08:00-09:00"],
            &["2026-12-24..2026-12-31"],
            "2026-12-18T00:00:00Z",
            Some("2027-01-07T08:00:00Z"),
        ),
        (
            &["daily 00:00-24:00"],
            &["2026-12-24", "2026-12-25"],
            "2026-12-24T01:00:00Z",
            Some("2026-12-26T00:00:00Z"),
        ),
        (&[], &["2026-10-25 Europe/Berlin"], "2026-10-24T22:00:00Z", Some("2026-10-25T23:00:00Z")),
        (&[], &["2026-03-29 Europe/Berlin"], "2026-03-28T23:00:00Z", Some("2026-03-29T22:00:00Z")),
        // 370 days are enough, and no more.
        (&[], &["2026-01-01..2027-01-05"], "2026-01-01T00:00:00Z", Some("2027-01-06T00:00:00Z")),
        (&[], &["2026-01-01..2027-01-06"], "2026-01-01T00:00:00Z", None),
        (&[], &["2026-01-01..9999-12-31"], "9999-01-01T00:00:00Z", None),
    ];
    for (open, except, now, wanted) in table {
        let found = windows(open, except).opens_at(at(now));
        assert_eq!(found, wanted.map(at), "{open:?} without {except:?} from {now}");
    }
}

/// What a window means, at every fifth minute, against what the search for the next opening finds: around both changes of
/// the clocks, and in zones with other habits (half an hour, at midnight, a day that never was).
#[test]
fn the_search_agrees_with_a_look_at_every_moment() {
    let hours = ["22:00-04:00", "02:00-03:00", "02:30-03:30", "00:15-00:45", "23:30-00:30", "01:45-02:00"];
    let zones = [
        ("Europe/Berlin", "2026-03-28T12:00:00Z"),
        ("Europe/Berlin", "2026-10-24T12:00:00Z"),
        ("Australia/Lord_Howe", "2026-04-04T00:00:00Z"),
        ("America/Havana", "2026-11-01T00:00:00Z"),
        ("Pacific/Apia", "2011-12-29T12:00:00Z"),
    ];
    for (zone, begin) in zones {
        for hours in hours {
            for days in ["daily", "Sun", "Sat,Thu-Fri"] {
                let subject = windows(&[&format!("{days} {hours} {zone}")], &[]);
                let mut next = None;
                for step in (0..3 * 24 * 12).rev() {
                    let now = at(begin) + SignedDuration::from_mins(step * 5);
                    if subject.is_open(now) {
                        next = Some(now);
                    }
                    if next.is_some() {
                        assert_eq!(subject.opens_at(now), next, "{days} {hours} {zone} from {now}");
                    }
                }
            }
        }
    }
}

//! What the keys about killing instances on purpose mean.

use super::pace::time;
use super::{Findings, share};
use crate::fleet::chaos::Aim;
use crate::fleet::chaos::probe::Door;
use crate::fleet::windows::{Windows, window};
use crate::fleet::{Chaos, Fleet};

/// Checks `[chaos]` of a fleet file.
pub fn check(found: &mut Findings<'_>, fleet: &Fleet) {
    let Some(Chaos { every, windows, floor, probe, target }) = &fleet.chaos else { return };
    match every {
        Some(every) => time(found, "/chaos/every", every, false),
        None if !windows.is_empty() => {
            found.say(
                "/chaos/windows",
                "without `every`, nothing happens by itself, and windows hold nothing",
            );
        }
        None if found.document.has("/chaos/target") => {
            found.say(
                "/chaos/target",
                "without `every`, nothing happens by itself: `rekiln chaos --leader` says so",
            );
        }
        None => {}
    }
    if *target == Aim::Leader && fleet.stateful.is_none() {
        found.say(
            "/chaos/target",
            "its instances are all alike, and none leads: without [stateful], only `random` is killed",
        );
    }
    let mut good = true;
    for (at, text) in windows.iter().enumerate() {
        good &= found.ask(&format!("/chaos/windows/{at}"), window(text)).is_some();
    }
    if good
        && !windows.is_empty()
        && let Ok(windows) = Windows::parse(windows, &fleet.roll.except)
        && windows.shut_by().is_some()
    {
        found.say(
            "/chaos/windows",
            "with the days of `roll.except`, nothing could be killed for more than a year",
        );
    }
    if let Some(probe) = probe {
        found.ask("/chaos/probe", Door::check(probe));
    }
    let Some(floor) = floor else { return };
    let Some(count) = found.ask("/chaos/floor", share(floor, fleet.size, true)) else { return };
    let (shown, size) = (super::pace::shown(floor), fleet.size);
    if super::pace::is_nothing(floor) {
        found.say("/chaos/floor", "one must serve at least: leave it out, or say 1");
    } else if size > 0 && count >= size {
        found.say(
            "/chaos/floor",
            format!("with {shown} of {size} that must serve, none could ever be killed"),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::fleet::Fleet;
    use crate::fleet::validate::validate;
    use crate::recipe::document::Document;

    const GOOD: &str = "image = 'web'\nsize = 3\n[local]\nlisten = '127.0.0.1:8080'\nport = 80\n\
        [health]\nhttp = { port = 80, path = '/' }\n";
    const CHAOS: &str = "[chaos]\nevery = '1d'\nwindows = ['Mon-Fri 09:00-16:00']\nfloor = 2\n\
        probe = 'http://web.example/'\ntarget = 'random'\n";

    /// What is wrong with `text` behind a good fleet's; lines are counted from its first.
    fn shown(text: &str) -> Vec<String> {
        let document = Document::<Fleet>::read(Path::new("x.toml"), &format!("{GOOD}{text}"));
        let found = document.found.clone().into_iter();
        let found = found.chain(validate(&document, &["web".to_owned()].into()));
        let before = GOOD.lines().count();
        let all = found.map(|it| {
            let help = it.help.map_or_else(String::new, |help| format!("; {help}"));
            format!("{}:{} {}{help}", it.line.saturating_sub(before), it.column, it.message)
        });
        all.collect()
    }

    #[test]
    fn meanings() {
        for (from, to, expected) in [
            ("", "", None),
            (
                "every = '1d'\nwindows = ['Mon-Fri 09:00-16:00']\n",
                "",
                Some("4:10 without `every`, nothing happens by itself: `rekiln chaos --leader` says so"),
            ),
            (
                "every = '1d'\n",
                "",
                Some("2:11 without `every`, nothing happens by itself, and windows hold nothing"),
            ),
            ("'1d'", "'daily'", Some("2:9 `daily` is not a duration such as \"60s\", \"5m\" or \"2h\"")),
            ("'1d'", "'0s'", Some("2:9 `0s` is no time for anything")),
            ("Mon-Fri", "Mon-Fry", Some("3:12 ")),
            (
                "floor = 2",
                "floor = '67%'",
                Some("4:9 with 67% of 3 that must serve, none could ever be killed"),
            ),
            ("floor = 2", "floor = 3", Some("4:9 with 3 of 3 that must serve, none could ever be killed")),
            ("floor = 2", "floor = 0", Some("4:9 one must serve at least: leave it out, or say 1")),
            ("floor = 2", "floor = 'half'", Some("4:9 `half` is not a count or a share such as \"25%\"")),
            (
                "'http://web.example/'",
                "'web.example'",
                Some("5:9 an URL begins with `http://` or `https://`"),
            ),
            (
                "'http://web.example/'",
                "'tcp://web.example'",
                Some("5:9 `tcp://web.example` is not `tcp://HOST:PORT`"),
            ),
            ("every =", "evry =", Some("2:1 ")),
            ("'random'", "'leeder'", Some("6:10 ")),
            ("'random'", "'leader'", Some("6:10 its instances are all alike, and none leads")),
        ] {
            assert!(CHAOS.contains(from), "{from}");
            let found = shown(&CHAOS.replacen(from, to, 1));
            let fits = match expected {
                None => found.is_empty(),
                Some(expected) => found.first().is_some_and(|found| found.starts_with(expected)),
            };
            assert!(fits, "{from} {to}: {found:?}");
        }
        assert!(shown(&CHAOS.replacen("every =", "evry =", 1))[0].contains("`every`"));
        let shut =
            format!("[roll]\nexcept = ['2026-01-01..2099-12-31']\nwindows = ['Sat 01:00-02:00']\n{CHAOS}");
        assert!(shown(&shut).iter().any(|found| found.contains("with the days of `roll.except`")));
    }
}

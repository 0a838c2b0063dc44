//! What the keys about the pace of a roll mean.

use std::time::Duration;

use super::{Findings, share};
use crate::fleet::windows::{Windows, exception, window};
use crate::fleet::{Fleet, Local, Share, Zones};
use crate::notation;

/// Longer than anyone waits for anything in a fleet; and far from where sums of times overflow.
pub(super) const LONGEST: Duration = Duration::from_hours(10 * 366 * 24);

/// Checks `[roll]`, `[replace]` and the zones of a fleet file.
pub fn check(found: &mut Findings<'_>, fleet: &Fleet) {
    let roll = &fleet.roll;
    // No soak and no time to finish requests are choices; no time to boot or to live are not.
    time(found, "/roll/soak", &roll.soak, true);
    time(found, "/roll/drain", &roll.drain, true);
    time(found, "/health/deadline", &fleet.health.deadline, false);
    if let Some(max_age) = &fleet.replace.max_age {
        time(found, "/replace/max_age", max_age, false);
    }
    // Without a number of failures nothing is counted within any time.
    time(found, "/roll/breaker/within", &roll.breaker.within, roll.breaker.failures == 0);
    if let Some(rate) = &roll.rate {
        found.ask("/roll/rate", notation::rate(rate));
    }
    if let Some(guard) = &roll.guard {
        let share = notation::percent(guard).map_err(|_| format!("`{guard}` is not a share such as \"25%\""));
        found.ask("/roll/guard", share);
    }
    room(found, fleet);
    waves(found, fleet);
    windows(found, fleet);
    zones(found, fleet);
}

/// Checks a time, which is not 0 where that makes no sense.
pub(super) fn time(found: &mut Findings<'_>, pointer: &str, text: &str, may_be_zero: bool) {
    let Some(time) = found.ask(pointer, notation::duration(text)) else { return };
    if time.is_zero() && !may_be_zero {
        found.say(pointer, format!("`{text}` is no time for anything"));
    }
    if time > LONGEST {
        found.say(pointer, format!("`{text}` is more than ten years"));
    }
}

/// Something must be allowed to be launched or to be missing, or nothing can ever be replaced.
fn room(found: &mut Findings<'_>, fleet: &Fleet) {
    let roll = &fleet.roll;
    let surge = found.ask("/roll/surge", share(&roll.surge, fleet.size, true));
    let unavailable = found.ask("/roll/unavailable", share(&roll.unavailable, fleet.size, false));
    // A size of 0 is a finding of its own, of which any share is 0.
    if (surge, unavailable) != (Some(0), Some(0)) || fleet.size == 0 {
        return;
    }
    match &roll.unavailable {
        Share::Percent(text) if notation::percent(text) != Ok(0) => found.say(
            "/roll/unavailable",
            format!(
                "`{text}` of {} is less than one, and `surge` is 0: no instance could ever be replaced",
                fleet.size
            ),
        ),
        _ => found
            .say("/roll/surge", "`surge` and `unavailable` are both 0: no instance could ever be replaced"),
    }
}

/// The canary and the waves must ascend, and none may be more than the whole.
fn waves(found: &mut Findings<'_>, fleet: &Fleet) {
    let named = std::iter::once(("/roll/canary".to_owned(), &fleet.roll.canary));
    let waves = fleet.roll.waves.iter().enumerate();
    let named = named.chain(waves.map(|(at, wave)| (format!("/roll/waves/{at}"), wave)));
    let mut before: Option<(&Share, u32)> = None;
    for (number, (pointer, wave)) in named.enumerate() {
        let Some(count) = found.ask(&pointer, share(wave, fleet.size, true)) else { continue };
        if let Share::Count(count) = wave
            && *count > fleet.size
            && fleet.size > 0
        {
            found.say(&pointer, format!("{count} is more than the fleet's size, {}", fleet.size));
        }
        if number == 0 {
            // No canary is the default.
            before = (!is_nothing(wave)).then_some((wave, count));
            continue;
        }
        if is_nothing(wave) {
            found.say(&pointer, "a wave of nothing replaces nothing: at least 1, or \"1%\"");
            continue;
        }
        if let Some((last, so_far)) = before
            && !ascends((last, so_far), (wave, count), fleet.size)
        {
            let what = if number == 1 { "the canary" } else { "the wave before" };
            found.say(
                &pointer,
                format!(
                    "a wave is more than what came before: {} is not more than {what}, {}",
                    shown(wave),
                    shown(last)
                ),
            );
        }
        before = Some((wave, count));
    }
}

/// Like is compared with like; else what comes of it in this fleet, where small shares may round to the same. What comes of
/// it in a group whose size no file says is not known here.
fn ascends((last, so_far): (&Share, u32), (wave, count): (&Share, u32), size: u32) -> bool {
    match (last, wave) {
        (Share::Count(last), Share::Count(wave)) => wave > last,
        (Share::Percent(last), Share::Percent(wave)) => {
            notation::percent(wave).ok() > notation::percent(last).ok()
        }
        _ => size == 0 || count >= so_far,
    }
}

pub(super) fn is_nothing(share: &Share) -> bool {
    match share {
        Share::Count(count) => *count == 0,
        Share::Percent(text) => notation::percent(text) == Ok(0),
    }
}

pub(super) fn shown(share: &Share) -> String {
    match share {
        Share::Count(count) => count.to_string(),
        Share::Percent(text) => text.clone(),
    }
}

fn windows(found: &mut Findings<'_>, fleet: &Fleet) {
    let roll = &fleet.roll;
    let mut good = true;
    for (at, text) in roll.windows.iter().enumerate() {
        good &= found.ask(&format!("/roll/windows/{at}"), window(text)).is_some();
    }
    for (at, text) in roll.except.iter().enumerate() {
        good &= found.ask(&format!("/roll/except/{at}"), exception(text)).is_some();
    }
    if good
        && let Ok(windows) = Windows::parse(&roll.windows, &roll.except)
        && let Some(at) = windows.shut_by()
    {
        found.say(
            &format!("/roll/except/{at}"),
            "from the first of these days on, nothing could be replaced for more than a year",
        );
    }
}

fn zones(found: &mut Findings<'_>, fleet: &Fleet) {
    let Some(Local { zones, .. }) = &fleet.local else { return };
    for (at, zone) in zones.iter().enumerate() {
        let pointer = format!("/local/zones/{at}");
        found.ask(&pointer, notation::name(zone));
        if zones[..at].contains(zone) {
            found.say(&pointer, format!("the zone `{zone}` is there already"));
        }
    }
    if fleet.roll.zones == Zones::OneAtATime && zones.is_empty() {
        found.say(
            "/roll/zones",
            "`one-at-a-time` needs zones, and there are none: name them in `zones` of [local]",
        );
    }
}

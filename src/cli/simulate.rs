//! `rekiln simulate`.

use std::path::PathBuf;

use jiff::SignedDuration;

use super::Context;
use crate::atomic_write::atomic_write;
use crate::error::{Error, Result};
use crate::fleet::policy::Policy;
use crate::notation;
use crate::provider::sim::rehearsal::{Ending, Rehearsal, Report, Trouble};
use crate::repository::Repository;

/// Rows of the chart: it leaves room for the figures on a terminal of 24 lines.
const HEIGHT: usize = 12;

/// Arguments of `rekiln simulate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleet: the name of a file in `fleets/`, or of one of its shards.
    fleet: String,
    /// How many instances, instead of the fleet file's `size`; shares of it grow with it, counts stay.
    #[arg(long, value_name = "N")]
    instances: Option<u32>,
    /// How many launches of the new image never serve, such as `3%`.
    #[arg(long, value_name = "SHARE", default_value = "0%")]
    bad_boots: String,
    /// What else goes wrong.
    #[arg(long, value_enum, default_value_t = Faults::None)]
    faults: Faults,
    /// Where all chance comes from: the same seed gives the same rollout.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Writes the chart as a picture.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Writes the chart and the figures as a page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// How much goes wrong.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Faults {
    /// Nothing.
    None,
    /// Lost answers, throttling, full zones, late views, endless drains, deaths: now and then.
    Some,
    /// The same, all the time.
    Many,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// An invalid fleet file or argument; a law that was broken; a file that cannot be written.
pub fn run(context: &Context, args: Args) -> Result<u8> {
    let Args { fleet: name, instances, bad_boots, faults, seed, svg, html } = args;
    let repository = Repository::open(&context.repo)?;
    let mut fleet = repository.fleet(&name)?.clone();
    fleet.size = instances.unwrap_or(fleet.size);
    if fleet.size == 0 {
        return Err(if instances.is_some() {
            Error::invalid("`--instances 0`: a fleet has at least 1")
        } else {
            let file = repository.file_of_fleet(&name);
            Error::invalid(format!("{} says no size: say how many with `--instances`", file.display()))
        });
    }
    let percent = notation::percent(&bad_boots).map_err(|_| {
        Error::invalid(format!("`--bad-boots {bad_boots}`: a share such as \"3%\" is wanted"))
    })?;
    let trouble = match faults {
        Faults::None => Trouble::None,
        Faults::Some => Trouble::Some,
        Faults::Many => Trouble::Many,
    };
    let rehearsal =
        Rehearsal { name: &name, fleet: &fleet, seed, bad_boots: u64::from(percent) * 10, trouble };
    if let Some(hint) = slow(&Policy::of(&fleet)?) {
        context.output.hint(hint);
    }
    let report = context
        .progress()
        .step(&name, "rolling in a simulated world", || context.block_on(rehearsal.run()))?;
    let facts = facts(&rehearsal, &report);
    if let Some(path) = &svg {
        atomic_write(path, report.timeline.svg().as_bytes())?;
    }
    if let Some(path) = &html {
        let title = format!("fleet {name}: {} simulated instances", fleet.size);
        atomic_write(path, report.timeline.html(&title, &facts).as_bytes())?;
    }
    context.output.json(&json(&rehearsal, &report));
    for line in report.timeline.terminal(context.output.width(), HEIGHT) {
        context.output.line(line);
    }
    context.output.line("");
    let wide = facts.iter().map(|(fact, _)| fact.len()).max().unwrap_or(0);
    for (fact, value) in &facts {
        context.output.line(format!("{fact:wide$}  {value}"));
    }
    for path in svg.iter().chain(&html) {
        context.output.line(format!("{:wide$}  {}", "written", path.display()));
    }
    if report.broken.is_empty() {
        return Ok(0);
    }
    Err(Error::failed(format!(
        "{} laws of a rollout were broken with seed {seed}:\n  {}",
        report.broken.len(),
        report.broken.join("\n  ")
    ))
    .hint("this is a defect of rekiln and not of the fleet file; please report it with the fleet file and the seed"))
}

/// Says so when it will take long: few at a time, and each look sees the whole fleet.
fn slow(policy: &Policy) -> Option<String> {
    // Measured in a release build: ten looks a step, and a second for 1.3 million instances seen.
    const LOOKS: usize = 10;
    const SEEN_PER_SECOND: usize = 1_300_000;
    // Shorter is not worth a word.
    const WORTH: usize = 30;
    let at_once = policy.surge.max(policy.size - policy.floor()).max(1);
    let steps = policy.size.div_ceil(at_once);
    let seconds = steps.saturating_mul(LOOKS).saturating_mul(policy.size) / SEEN_PER_SECOND;
    (seconds >= WORTH).then(|| {
        format!(
            "replacing {}, {at_once} at a time, takes some {} min to simulate; with `surge = \"5%\"` it takes seconds",
            policy.size,
            seconds.div_ceil(60)
        )
    })
}

/// What a reader wants to know, in the order in which one asks.
fn facts(rehearsal: &Rehearsal<'_>, report: &Report) -> Vec<(String, String)> {
    let Report { ending, lasted, lowest, floor, highest, ceiling, acts, looks, failed, runs, broken, .. } =
        report;
    let ended = match ending {
        Ending::Completed => "completed: every instance is new".to_owned(),
        Ending::RolledBack(why) => format!("rolled back: {why}"),
        Ending::Held(why) => format!("held: {why}"),
        Ending::Endless(why) => format!("without end: {why}"),
    };
    let begun = if *runs == 1 { String::new() } else { format!(", begun {runs} times") };
    let laws = if broken.is_empty() { "none broken".to_owned() } else { format!("{} broken", broken.len()) };
    [
        ("ended", ended),
        ("after", format!("{}{begun}", shown(*lasted))),
        ("serving", format!("at least {lowest}; the floor is {floor}")),
        ("existing", format!("at most {highest}; the ceiling is {ceiling}")),
        ("failed", failed.to_string()),
        (
            "acts",
            format!(
                "{}: {} launches, {} admissions, {} drains, {} ends{}",
                acts.sum(),
                acts.launch,
                acts.admit,
                acts.drain,
                acts.end,
                // Of members that hold data only.
                match (acts.hand_over, acts.deregister) {
                    (0, 0) => String::new(),
                    (handovers, removed) => format!(", {handovers} handovers, {removed} taken out"),
                }
            ),
        ),
        ("looks", looks.to_string()),
        ("laws", laws),
        ("seed", rehearsal.seed.to_string()),
    ]
    .map(|(fact, value)| (fact.to_owned(), value))
    .into()
}

fn json(rehearsal: &Rehearsal<'_>, report: &Report) -> serde_json::Value {
    let Report { ending, lasted, lowest, floor, highest, ceiling, acts, looks, failed, runs, broken, .. } =
        report;
    serde_json::json!({
        "event": "simulated",
        "fleet": rehearsal.name,
        "instances": rehearsal.fleet.size,
        "seed": rehearsal.seed,
        "ended": ending,
        "seconds": lasted.as_secs(),
        "serving": { "lowest": lowest, "floor": floor },
        "existing": { "highest": highest, "ceiling": ceiling },
        "failed": failed,
        "acts": acts,
        "looks": looks,
        "runs": runs,
        "broken": broken,
    })
}

/// Whole seconds in the units that people read.
fn shown(time: SignedDuration) -> String {
    format!("{:#}", SignedDuration::from_secs(time.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_takes_long_is_announced() {
        let policy = |size: u32, surge: &str| {
            let text = format!(
                "image = 'web'\nsize = {size}\n[local]\nlisten = '127.0.0.1:1'\nport = 80\n\
                 [health]\nhttp = {{ port = 80, path = '/' }}\n[roll]\nsurge = {surge}\n"
            );
            Policy::of(&toml::from_str(&text).expect("a fleet")).expect("a policy")
        };
        assert_eq!(slow(&policy(3, "1")), None);
        assert_eq!(slow(&policy(10_000, "'10%'")), None);
        let hint = slow(&policy(10_000, "1")).expect("it takes long");
        assert!(hint.contains("replacing 10000, 1 at a time, takes some 13 min"), "{hint}");
    }
}

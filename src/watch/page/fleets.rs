//! Fleets and their instances.

use super::super::view::{Fleet, Instance};
use super::text::{As, Column, Row, Tone, code, escape, folded, items, many, section, table, tag, time};
use crate::fleet::glance::Glance;

/// A fleet of at most so many instances is shown whole: they fit a screen.
const WHOLE: usize = 12;

/// Rows of instances that are as they should be, of one fleet and of all: nobody reads more, and a browser
/// lays out some thousand rows at once without a pause. Everything is in `view.json`.
const GOOD: (usize, usize) = (200, 1000);

/// Rows of those that are not, of one fleet and of all: while a large one is rolled these are most of it.
const OTHERS: (usize, usize) = (300, 1500);

/// A bar's length in its own units, large enough that one instance of a thousand is a unit.
const BAR: usize = 1000;

/// Columns of a rollout's lines: more than any of them has, as the browser wraps them.
const WIDTH: usize = 400;

const COLUMNS: [Column; 9] = [
    Column::word("Instance"),
    Column::word("It is"),
    Column::word("State"),
    Column::word("Health"),
    Column::word("In service"),
    Column::labelled("Image"),
    Column::labelled("Zone"),
    Column::labelled("Address"),
    Column::labelled("Age"),
];

/// How many rows a fleet may have.
#[derive(Debug, Clone, Copy)]
struct Rows {
    good: usize,
    others: usize,
}

/// All fleets.
pub fn fleets(fleets: &[Fleet]) -> String {
    if fleets.is_empty() {
        return section(
            "fleets",
            "Fleets",
            "<p class=\"soft\">No commit that is carried out has a fleet.</p>\n",
        );
    }
    let share = |(each, all): (usize, usize)| (all / fleets.len()).clamp(1, each);
    let rows = Rows { good: share(GOOD), others: share(OTHERS) };
    let all: String = fleets.iter().enumerate().map(|(number, fleet)| one(fleet, number, rows)).collect();
    section("fleets", "Fleets", &all)
}

fn one(fleet: &Fleet, number: usize, rows: Rows) -> String {
    let name = escape(&fleet.name);
    let mut html = format!(
        "<article data-key=\"{name}\" aria-labelledby=\"f-{number}\">\n\
         <header><h3 id=\"f-{number}\">{name}</h3> {}</header>\n",
        tags(fleet).join(" ")
    );
    html.push_str(&facts(fleet));
    html.push_str(&progress(fleet));
    let lines = fleet.paused.iter().map(|why| format!("Paused: {why}"));
    let lines = lines.chain(fleet.trouble.iter().map(|why| format!("Cannot be looked at: {why}")));
    let lines = lines.chain(fleet.backup.clone());
    let lines = items(lines.chain(fleet.remarks.iter().cloned()).map(|line| escape(&line)));
    if !lines.is_empty() {
        html.extend(["<ul class=\"remarks\">\n", &lines, "</ul>\n"]);
    }
    html.push_str(&instances(fleet, rows));
    html.push_str("</article>\n");
    html
}

fn tags(fleet: &Fleet) -> Vec<String> {
    let mut tags = Vec::new();
    if fleet.trouble.is_some() {
        tags.push(tag(Tone::Bad, "unreachable"));
    }
    if fleet.paused.is_some() {
        tags.push(tag(Tone::Bad, "paused"));
    }
    let others = fleet.instances.iter().filter(|instance| !instance.good).count();
    tags.push(match fleet.rollout.as_deref() {
        Some("rolling") => tag(Tone::Busy, "rolling"),
        Some("halted") => tag(Tone::Bad, "halted"),
        Some("completed") if others > 0 || fleet.trouble.is_some() => tag(Tone::Plain, "rolled"),
        Some("completed") => tag(Tone::Good, "rolled"),
        Some(other) => tag(Tone::Plain, other),
        None => tag(Tone::Plain, "never rolled"),
    });
    tags
}

/// How many serve, of what, where, and when that was seen.
fn facts(fleet: &Fleet) -> String {
    let serving = fleet.instances.iter().filter(|instance| instance.in_service).count();
    let mut facts = vec![format!("<strong>{serving} of {}</strong> in service", fleet.size)];
    let others = fleet.instances.iter().filter(|instance| !instance.good).count();
    if others > 0 {
        facts.push(format!("{others} not as wanted"));
    }
    facts.push(format!("image {}", escape(&fleet.image)));
    facts.push(escape(&fleet.place));
    facts.push(match fleet.seen {
        Some(seen) => format!("seen {}", time(seen, As::Distance)),
        None => "never seen".to_owned(),
    });
    format!("<ul class=\"facts\">\n{}</ul>\n", items(facts))
}

/// How far the fleet is: with the words of its rollout, when one is under way.
fn progress(fleet: &Fleet) -> String {
    let Some(glance) = &fleet.glance else {
        let good = fleet.instances.iter().filter(|instance| instance.good).count();
        return bar(good, 0, fleet.size, &format!("{good} of {} as wanted", fleet.size));
    };
    let Glance { states, size, now, .. } = glance;
    let text = format!("{} of {size} current, {} starting", states.current, states.starting);
    let mut html = bar(states.current, states.starting, *size, &text);
    let mut lines = glance.lines(WIDTH, false);
    // The second line is the bar in letters, and its numbers.
    if let Some(line) = lines.get_mut(1) {
        *line = format!("{} of {size} current", states.current);
    }
    let drawn = format!("<span class=\"soft\">drawn {}</span>", time(*now, As::Distance));
    let lines = items(lines.iter().map(|line| escape(line.trim())).chain([drawn]));
    html.extend(["<ul class=\"rollout\">\n", &lines, "</ul>\n"]);
    html
}

/// What is done and what is begun, of so many.
fn bar(done: usize, begun: usize, of: usize, text: &str) -> String {
    let units = |count: usize| (count.min(of) * BAR).checked_div(of).unwrap_or(BAR);
    let (done, both) = (units(done), units(done + begun));
    format!(
        "<svg class=\"bar\" viewBox=\"0 0 {BAR} 1\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{}\">\
         <rect class=\"done\" width=\"{done}\" height=\"1\"/>\
         <rect class=\"begun\" x=\"{done}\" width=\"{}\" height=\"1\"/></svg>\n",
        escape(text),
        both - done
    )
}

/// Those that are not as they should be, then the rest, which is folded when there is much of it.
fn instances(fleet: &Fleet, rows: Rows) -> String {
    let (good, others): (Vec<_>, Vec<_>) = fleet.instances.iter().partition(|instance| instance.good);
    if fleet.instances.is_empty() {
        return "<p class=\"soft\">No instances are known.</p>\n".to_owned();
    }
    if fleet.instances.len() <= WHOLE {
        let all: Vec<_> = others.into_iter().chain(good).collect();
        return listed(&format!("Instances of {}", fleet.name), &all, WHOLE);
    }
    let mut html = String::new();
    if !others.is_empty() {
        html.push_str(&listed(
            &format!("Instances of {} that are not as wanted", fleet.name),
            &others,
            rows.others,
        ));
    }
    if !good.is_empty() {
        let good_ones = listed(&format!("Instances of {} that are as wanted", fleet.name), &good, rows.good);
        html.push_str(&folded("good", &format!("{} as wanted", many(good.len(), "instance")), &good_ones));
    }
    html
}

fn listed(caption: &str, instances: &[&Instance], most: usize) -> String {
    let rows: Vec<_> = instances.iter().take(most).map(|instance| row(instance)).collect();
    let mut html = table(caption, &COLUMNS, &rows);
    if instances.len() > most {
        let left = many(instances.len() - most, "more instance");
        let rest = "<a href=\"view.json\">view.json</a> has all.</p>\n";
        html.extend(["<p class=\"soft\">… and ", &left, ": ", rest]);
    }
    html
}

fn row(instance: &Instance) -> Row {
    let Instance { id, known_as, image, state, health, in_service, address, zone, launched, is, good } =
        instance;
    // Most of what is not as wanted is only to be replaced: that is work, and no alarm.
    let tone = match health.as_str() {
        _ if *good => Tone::Good,
        "unhealthy" => Tone::Bad,
        _ => Tone::Busy,
    };
    let word = |tone: Tone, text: &str| format!("<span class=\"{}\">{}</span>", tone.class(), escape(text));
    let health_tone = match health.as_str() {
        "healthy" => Tone::Good,
        "unhealthy" => Tone::Bad,
        _ => Tone::Plain,
    };
    let optional = |text: &Option<String>| text.as_deref().map(code).unwrap_or_default();
    Row {
        key: id.clone(),
        cells: vec![
            [code(id), optional(known_as)].join(" "),
            word(tone, is),
            escape(state),
            word(health_tone, health),
            if *in_service { "in service" } else { "not in service" }.to_owned(),
            optional(image),
            zone.as_deref().map(escape).unwrap_or_default(),
            optional(address),
            time(*launched, As::Lasting),
        ],
    }
}

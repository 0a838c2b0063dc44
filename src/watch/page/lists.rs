//! What is listed beside the fleets: jobs, alerts, nights, images and the journals' last lines.

use super::super::view::{Case, Image, Job, Line, Nightly};
use super::text::{As, Column, Row, Tone, bytes, code, escape, folded, many, section, table, tag, time};

/// Images that are listed: about as many as a page of a terminal has lines. A store has hundreds.
const IMAGES: usize = 24;

/// Digits of an image's id, as in every other place where one is shown.
const SHORT: usize = 12;

/// Lines of journals: what happened within the last rollout or two.
const LINES: usize = 100;

/// What is being done.
pub fn jobs(jobs: &[Job]) -> String {
    if jobs.is_empty() {
        return section("jobs", "Under way", "<p class=\"soft\">Nothing.</p>\n");
    }
    let columns =
        [Column::word("Job"), Column::text("What"), Column::labelled("Since"), Column::text("Last word")];
    let row = |(number, job): (usize, &Job)| Row {
        key: format!("{number} {} {}", job.kind, job.what),
        cells: vec![
            tag(Tone::Busy, &job.kind),
            escape(&job.what),
            time(job.since, As::Distance),
            job.last.as_deref().map(escape).unwrap_or_default(),
        ],
    };
    let rows: Vec<_> = jobs.iter().enumerate().map(row).collect();
    section("jobs", "Under way", &table("Jobs under way", &columns, &rows))
}

/// Alerts: the open ones, and folded those that are over.
pub fn alerts(cases: &[Case]) -> String {
    let (open, closed): (Vec<_>, Vec<_>) = cases.iter().partition(|case| case.open);
    let mut html = if open.is_empty() {
        "<p class=\"soft\">None is open.</p>\n".to_owned()
    } else {
        case_table("Open alerts", &open)
    };
    if !closed.is_empty() {
        let summary = format!("{} that ended", many(closed.len(), "alert"));
        html.push_str(&folded("closed", &summary, &case_table("Alerts that ended", &closed)));
    }
    section("alerts", "Alerts", &html)
}

fn case_table(caption: &str, cases: &[&Case]) -> String {
    let columns = [
        Column::word("Alert"),
        Column::labelled("Fleet"),
        Column::word("Instance"),
        Column::text("How far"),
        Column::labelled("Heard"),
    ];
    let row = |case: &&Case| Row {
        key: format!(
            "{} {} {} {}",
            case.fleet,
            case.alert,
            case.instance.as_deref().unwrap_or(""),
            case.since
        ),
        cells: vec![
            escape(&case.alert),
            escape(&case.fleet),
            case.instance.as_deref().map(code).unwrap_or_default(),
            format!(
                "<span class=\"{}\">{}</span>",
                if case.open && case.held { "bad" } else { "" },
                escape(&case.state)
            ),
            time(case.since, As::Distance),
        ],
    };
    table(caption, &columns, &cases.iter().map(row).collect::<Vec<_>>())
}

/// Nights.
pub fn nights(nightly: Option<&Nightly>) -> String {
    let Some(Nightly { next, ended, code }) = nightly else {
        return section("nights", "Nights", "<p class=\"soft\">No schedule.</p>\n");
    };
    let when = |at: Option<_>, none: &str| at.map_or_else(|| none.to_owned(), |at| time(at, As::Distance));
    let code = match code {
        Some(0) => tag(Tone::Good, "went well"),
        Some(code) => tag(Tone::Bad, &format!("exit code {code}")),
        None => String::new(),
    };
    let html = format!(
        "<dl>\n<div><dt>Next</dt><dd>{}</dd></div>\n\
         <div><dt>Last ended</dt><dd>{} {code}</dd></div>\n</dl>\n",
        when(*next, "not known"),
        when(*ended, "never")
    );
    section("nights", "Nights", &html)
}

/// Images of the store.
pub fn images(images: &[Image]) -> String {
    if images.is_empty() {
        return section("images", "Images", "<p class=\"soft\">None is baked yet.</p>\n");
    }
    let columns = [
        Column::word("Image"),
        Column::word("Id"),
        Column::word("Verdict"),
        Column::labelled("Fleets"),
        Column::labelled("Size"),
        Column::labelled("Baked"),
    ];
    let tone = |verdict: &str| match verdict {
        "passed" => Tone::Good,
        "failed" => Tone::Bad,
        _ => Tone::Plain,
    };
    let row = |image: &Image| Row {
        key: format!("{} {}", image.id, image.verdict),
        cells: vec![
            escape(&image.name),
            code(&image.id.chars().take(SHORT).collect::<String>()),
            tag(tone(&image.verdict), &image.verdict),
            escape(&image.fleets.join(", ")),
            bytes(image.size),
            time(image.baked, As::Distance),
        ],
    };
    let mut html =
        table("Images, the newest first", &columns, &images.iter().take(IMAGES).map(row).collect::<Vec<_>>());
    if images.len() > IMAGES {
        let older = many(images.len() - IMAGES, "older image");
        html.extend(["<p class=\"soft\">… and ", &older, ".</p>\n"]);
    }
    section("images", "Images", &html)
}

/// The last lines of the journals.
pub fn journal(lines: &[Line]) -> String {
    if lines.is_empty() {
        return section("journal", "Journal", "<p class=\"soft\">Nothing happened yet.</p>\n");
    }
    let item = |line: &Line| {
        format!(
            "<li data-key=\"{of} {entry}\">{} <span class=\"of\">{of} {entry}</span> \
             <span class=\"said\">{}</span></li>\n",
            time(line.at, As::Date),
            escape(&line.text),
            of = escape(&line.of),
            entry = line.entry,
        )
    };
    let items: String = lines.iter().take(LINES).map(item).collect();
    section("journal", "Journal", &format!("<ol>\n{items}</ol>\n"))
}

//! Decide: the page that shows what a watcher knows.
//!
//! The whole page is text made here, so that it works without a script, and needs no build step and no
//! request but its own. A small script asks for the changing part again and changes what differs: whoever
//! reads keeps the place, the selection and whatever is unfolded. Everything from outside is escaped where it
//! becomes HTML, and should that ever fail, [`policy`] forbids every script and style but the two of this
//! page.

mod attention;
mod fleets;
mod lists;
#[cfg(test)]
mod tests;
mod text;

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use self::attention::attention;
use self::text::{As, Tone, code, escape, items, many, tag, time};
use super::view::{Commit, View};
use crate::digest::Digest;

const STYLE: &str = include_str!("page/style.css");

const SCRIPT: &str = include_str!("page/script.js");

/// The page's icon: a kiln with a fire in it, in a colour that is seen on light and dark tabs.
pub const ICON: &str = include_str!("page/icon.svg");

/// Lines of what needs attention: when it is more, it is one thing that went wrong everywhere.
const NEEDS: usize = 12;

/// Digits of a commit that are shown, as in the rest of what rekiln says.
const SHORT: usize = 12;

/// The `Content-Security-Policy` under which the page works: its own style and its own script, by digest,
/// requests to where it comes from, and nothing else. What comes from a machine or from Git has no script to
/// run.
#[must_use]
pub fn policy() -> String {
    let hash = |text: &str| BASE64.encode(Digest::of(text.as_bytes()).as_bytes());
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src 'self'; \
         connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

/// Names the style and the script, so that a page that was loaded from an older watcher knows that it is old.
#[must_use]
pub fn build() -> String {
    Digest::of([STYLE, SCRIPT].concat().as_bytes()).short()
}

/// Names a part's content, for `ETag`; in quotes.
#[must_use]
pub fn etag(part: &str) -> String {
    format!("\"{}\"", Digest::of(part.as_bytes()))
}

/// Returns the whole page.
#[must_use]
pub fn page(view: &View) -> String {
    let part = part(view);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\" data-build=\"{build}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
         <link rel=\"icon\" href=\"icon.svg\" type=\"image/svg+xml\">\n\
         <noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n\
         <header class=\"top\"><span class=\"name\">rekiln watch</span> \
         <span id=\"seen\">as of {seen}</span></header>\n\
         <div id=\"banner\" role=\"status\"></div>\n<main data-etag=\"{etag}\">\n{part}</main>\n\
         <script>{SCRIPT}</script>\n</body>\n</html>\n",
        build = build(),
        title = title(view),
        seen = time(view.at, As::Distance),
        etag = escape(&etag(&part)),
    )
}

/// Returns what changes of the page: the inside of `<main>`. It does not say when the view was put together,
/// so that it stays the same while nothing happens.
#[must_use]
pub fn part(view: &View) -> String {
    let side = [
        lists::alerts(&view.cases),
        lists::nights(view.nightly.as_ref()),
        lists::images(&view.images),
        lists::journal(&view.lines),
    ];
    format!(
        "{}<div class=\"wide\">\n{}{}</div>\n<div class=\"side\">\n{}</div>\n",
        overview(view),
        lists::jobs(&view.jobs),
        fleets::fleets(&view.fleets),
        side.concat()
    )
}

fn title(view: &View) -> String {
    let count = attention(view).len();
    let count = if count == 0 { String::new() } else { format!("({count}) ") };
    escape(&format!("{count}{} · rekiln", view.branch))
}

/// Who leads, what is followed, and what needs attention.
fn overview(view: &View) -> String {
    let lead = &view.lead;
    let (word, rest) = match (lead.mine, &lead.leader) {
        (true, _) => (tag(Tone::Good, "leads"), String::new()),
        (false, Some(leader)) => (tag(Tone::Plain, "follows"), format!("{} leads", escape(leader))),
        (false, None) => (tag(Tone::Plain, "follows"), "nobody leads".to_owned()),
    };
    let since = lead.since.map(|since| format!("since {}", time(since, As::Distance))).unwrap_or_default();
    let facts = [format!("remote {}", code(&view.remote)), rest, since];
    let facts = items(facts.into_iter().filter(|fact| !fact.is_empty()));
    format!(
        "<section data-key=\"overview\" class=\"overview\" aria-labelledby=\"h-overview\" \
         data-title=\"{}\">\n\
         <header><h1 id=\"h-overview\">{}</h1> {word}</header>\n\
         <ul class=\"facts\">\n{facts}</ul>\n{}{}</section>\n",
        title(view),
        escape(&view.branch),
        needs(&attention(view)),
        git(view)
    )
}

fn needs(lines: &[String]) -> String {
    if lines.is_empty() {
        return "<p class=\"calm\">Nothing needs attention.</p>\n".to_owned();
    }
    let more = lines.len().checked_sub(NEEDS).filter(|more| *more > 0);
    let more = more.map(|more| format!("… and {more} more"));
    let items = items(lines.iter().take(NEEDS).map(|line| escape(line)).chain(more));
    let title = if lines.len() == 1 { "needs" } else { "need" };
    format!(
        "<div class=\"attention\"><h2>{} {title} attention</h2>\n<ul>\n{items}</ul></div>\n",
        many(lines.len(), "thing")
    )
}

/// How far the branch is carried out.
fn git(view: &View) -> String {
    let git = &view.git;
    let commit = |commit: &Option<Commit>| {
        let Some(Commit { id, subject, at }) = commit else { return "none".to_owned() };
        let at = at.map(|at| format!(" <span class=\"soft\">{}</span>", time(at, As::Distance)));
        let id: String = id.chars().take(SHORT).collect();
        format!("{} {}{}", code(&id), escape(subject), at.unwrap_or_default())
    };
    let state = if git.bad {
        format!("{} {}", tag(Tone::Bad, "attention"), escape(&git.state))
    } else {
        escape(&git.state)
    };
    let fetched = git.fetched.map_or_else(|| "never".to_owned(), |at| time(at, As::Distance));
    let fetched = match &git.trouble {
        Some(trouble) => format!("{fetched} {} {}", tag(Tone::Bad, "does not answer"), escape(trouble)),
        None => fetched,
    };
    let mut html = String::from("<dl>\n");
    for (name, value) in [
        ("State", state),
        ("Head", commit(&git.head)),
        ("Carried out", commit(&git.applied)),
        ("Remote answered", fetched),
    ] {
        // Writing to a string cannot fail.
        let _ = writeln!(html, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    html.push_str("</dl>\n");
    html
}

//! What a nightly commit says: for each image what changed, in words that a reviewer reads in a minute.

use std::collections::BTreeSet;

use super::vulnerability::Vulnerabilities;
use crate::catalog::Record;
use crate::digest::ImageId;
use crate::lock::archive::SECURITY;
use crate::lock::change::{Change, changes};
use crate::lock::{Asked, Lock};

/// The trailer that says which commit a nightly commit was made from.
pub const NIGHTLY: &str = "Rekiln-Nightly";

/// The trailer of a commit on a branch that the next night makes anew, with that branch's name. A commit with it may be
/// replaced there; on any other branch it is a commit like those of people.
pub const BRANCH: &str = "Rekiln-Branch";

/// How many changes of one image are told: a reviewer reads as many, and a new release of everything has hundreds.
const TOLD: usize = 40;

/// How much of a reason is told, in characters: two lines of a terminal. The rest is in the run's own output.
const REASON: usize = 160;

/// An image that was baked and is good.
#[derive(Debug, Clone, PartialEq)]
pub struct Updated {
    /// The recipe's name.
    pub image: String,
    /// The image that Git asked for before, if it asked for one.
    pub old: Option<Face>,
    /// The one now.
    pub new: Face,
    /// What differs in its lock.
    pub changes: Vec<Change>,
    /// Packages among them whose new version is of the archive of security updates.
    pub security: BTreeSet<String>,
    /// The image that it stands on, when that changed.
    pub below: Option<String>,
    /// Which vulnerabilities that fixes, leaves and brings; `None` when there is no data.
    pub vulnerabilities: Option<Vulnerabilities>,
}

/// What is told of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Face {
    /// Its id.
    pub id: ImageId,
    /// What its record says, where there is one.
    pub seen: Option<Seen>,
}

/// What a record says of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Bytes of its disk.
    pub size: u64,
    /// Its verdict; `None` when it was not booted.
    pub boot: Option<Booted>,
}

/// What a verdict says.
#[derive(Debug, Clone, PartialEq)]
pub struct Booted {
    /// Whether it passed.
    pub passed: bool,
    /// Seconds until it was up.
    pub seconds: Option<f64>,
    /// How the machine ran: only times of the same way can be compared.
    pub accelerator: String,
}

/// An image that keeps its lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The recipe's name.
    pub image: String,
    /// Why.
    pub why: String,
    /// Whether something is wrong with the image itself, and not with another one.
    pub failed: bool,
}

impl Seen {
    /// Takes from a record what is told.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let boot = record.verdict.as_ref().map(|verdict| Booted {
            passed: verdict.passed,
            seconds: verdict.ready_s,
            accelerator: verdict.accelerator.clone(),
        });
        Self { size: record.disk.size, boot }
    }
}

/// Returns what differs between two locks, and which of it are security updates. Where there was no lock, everything is
/// new and nothing of it is worth a line.
#[must_use]
pub fn compare(old: Option<&Lock>, new: &Lock) -> (Vec<Change>, BTreeSet<String>) {
    let changed = old.map(|old| changes(old, new)).unwrap_or_default();
    let security = |change: &&Change| {
        change.new.is_some()
            && new.packages.iter().any(|package| package.name == change.what && package.archive == SECURITY)
    };
    let security = changed.iter().filter(security).map(|change| change.what.clone()).collect();
    (changed, security)
}

/// Tells whether the lock of the image below changed.
#[must_use]
pub fn below_changed(old: Option<&Lock>, new: &Lock) -> bool {
    let below = |asked: &Asked| asked.parent_lock;
    old.is_some_and(|old| below(&old.asked) != below(&new.asked))
}

/// Writes the message of a commit made from `base`. `images` is how many were looked at; `branch` is the one that the
/// next night makes anew, if it does.
#[must_use]
pub fn message(
    base: &str,
    branch: Option<&str>,
    images: usize,
    updated: &[Updated],
    left: &[Left],
) -> String {
    let security: BTreeSet<&str> =
        updated.iter().flat_map(|image| &image.security).map(String::as_str).collect();
    let of = if images == 1 { "image has" } else { "images have" };
    let mut subject = vec![format!("images: {} of {images} {of} updates", updated.len())];
    if !security.is_empty() {
        subject.push(format!("({} security)", security.len()));
    }
    let mut paragraphs = vec![subject.join(" ")];
    paragraphs.extend(updated.iter().map(|image| lines(image).join("\n")));
    let left: Vec<String> =
        left.iter().map(|Left { image, why, .. }| format!("not updated: {image}: {}", brief(why))).collect();
    if !left.is_empty() {
        paragraphs.push(left.join("\n"));
    }
    let mut trailers = vec![format!("{NIGHTLY}: {base}")];
    trailers.extend(branch.map(|branch| format!("{BRANCH}: {branch}")));
    paragraphs.push(trailers.join("\n"));
    paragraphs.join("\n\n") + "\n"
}

/// Returns what is told of one image: the first line is about the image, the others are indented.
#[must_use]
pub fn lines(image: &Updated) -> Vec<String> {
    let Updated { image: name, old, new, changes, security, below, vulnerabilities } = image;
    let mut lines = vec![match old {
        Some(old) => format!("{name} {} → {}", old.id.short(), new.id.short()),
        None => format!("{name} {}, new", new.id.short()),
    }];
    let (first, then): (Vec<&Change>, Vec<&Change>) =
        changes.iter().partition(|change| security.contains(&change.what));
    let told = first.iter().map(|change| format!("  {} (security)", written(change)));
    let told = told.chain(then.iter().map(|change| format!("  {}", written(change))));
    lines.extend(told.take(TOLD));
    if changes.len() > TOLD {
        lines.push(format!("  and {} more", changes.len() - TOLD));
    }
    match below {
        Some(below) => lines.push(format!("  stands on {below}, which changed")),
        None if changes.is_empty() && old.is_some() => lines.push("  locked anew for its recipe".to_owned()),
        None => {}
    }
    let told = vulnerabilities.iter().flat_map(Vulnerabilities::lines);
    lines.extend(told.map(|line| format!("  {line}")));
    if let Some(seen) = &new.seen {
        lines.push(format!("  {}", looks(old.as_ref().and_then(|old| old.seen.as_ref()), seen)));
    }
    lines
}

fn written(change: &Change) -> String {
    let line = change.to_string();
    line.strip_prefix("~ ").map(str::to_owned).unwrap_or(line)
}

/// Writes size, boot time and verdict, each with what it was before where that is known.
fn looks(old: Option<&Seen>, new: &Seen) -> String {
    // Kilobytes are nobody's concern in a disk.
    let megabytes = |seen: &Seen| format!("{}.{} MB", seen.size / 1_000_000, seen.size % 1_000_000 / 100_000);
    let mut told = vec![format!("size {}{}", before(old.map(megabytes)), megabytes(new))];
    let Some(boot) = &new.boot else {
        told.push("not booted".to_owned());
        return told.join(", ");
    };
    let seconds = |boot: &Booted| boot.seconds.map(|seconds| format!("{seconds:.1} s"));
    if let Some(now) = seconds(boot) {
        let comparable = |old: &&Booted| old.accelerator == boot.accelerator;
        let then = old.and_then(|old| old.boot.as_ref()).filter(comparable).and_then(seconds);
        told.push(format!("boot {}{now}", before(then)));
    }
    told.push(if boot.passed { "passed" } else { "did not pass" }.to_owned());
    told.join(", ")
}

fn before(old: Option<String>) -> String {
    old.map(|old| format!("{old} → ")).unwrap_or_default()
}

/// Makes one line of a reason, and not a long one.
fn brief(why: &str) -> String {
    let line: Vec<&str> = why.split_whitespace().collect();
    let line = line.join(" ");
    match line.char_indices().nth(REASON) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests;

//! Decide: what a watcher knows, in numbers, as Prometheus reads them.
//!
//! The text format 0.0.4: <https://prometheus.io/docs/instrumenting/exposition_formats/>. Names end with
//! their unit, and those of counters with `_total`. A watcher that does not lead says what it sees too; who
//! adds series of several watchers up asks for `rekiln_watch_leader == 1` first.

#[cfg(test)]
pub(super) mod sample;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;

use super::view::{Case, Fleet, View};

/// What the answer's `Content-Type` is to be.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Kinds of jobs, each of which has a series from the start: what is not there cannot be compared with 0.
const JOBS: [&str; 7] = ["apply", "nightly", "keep", "backup", "chaos", "replace", "step"];

/// States of rollouts, each of which has a series.
const ROLLOUTS: [&str; 4] = ["rolling", "completed", "halted", "cancelled"];

/// What an instance's health may be, each of which has a series.
const HEALTH: [&str; 3] = ["healthy", "unhealthy", "unknown"];

/// Labels of a series, in the order in which they are written.
type Labels = Vec<(&'static str, String)>;

/// Numbers of one name. A series is there once: what comes twice is added up.
struct Family {
    name: &'static str,
    counter: bool,
    help: &'static str,
    series: BTreeMap<Labels, i64>,
}

impl Family {
    fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, counter: false, help, series: BTreeMap::new() }
    }

    fn counter(name: &'static str, help: &'static str) -> Self {
        Self { counter: true, ..Self::gauge(name, help) }
    }

    fn add(&mut self, labels: &[(&'static str, &str)], value: i64) {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let sum = self.series.entry(labels).or_default();
        *sum = sum.saturating_add(value);
    }

    fn with(mut self, labels: &[(&'static str, &str)], value: i64) -> Self {
        self.add(labels, value);
        self
    }

    /// With the time, when there is one, in seconds since 1970.
    fn when(self, at: Option<Timestamp>) -> Self {
        match at {
            Some(at) => self.with(&[], at.as_second()),
            None => self,
        }
    }

    /// One number for each fleet that has one.
    fn each<'a>(mut self, fleets: &'a [Fleet], number: impl Fn(&'a Fleet) -> Option<i64>) -> Self {
        for fleet in fleets {
            if let Some(number) = number(fleet) {
                self.add(&[("fleet", &fleet.name)], number);
            }
        }
        self
    }

    /// How many of these cases there are of each fleet and alert; 0 is said too.
    fn cases(mut self, cases: &[Case], counts: impl Fn(&Case) -> bool) -> Self {
        for case in cases {
            self.add(&[("fleet", &case.fleet), ("alert", &case.alert)], i64::from(counts(case)));
        }
        self
    }

    fn write(&self, text: &mut String) {
        if self.series.is_empty() {
            return;
        }
        let kind = if self.counter { "counter" } else { "gauge" };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {} {}\n# TYPE {} {kind}", self.name, self.help, self.name);
        for (labels, value) in &self.series {
            let labels: Vec<_> =
                labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(text, "{}{labels} {value}", self.name);
        }
    }
}

/// Returns everything as text.
#[must_use]
pub fn metrics(view: &View) -> String {
    let families = [watch(view), git(view), fleets(&view.fleets), work(view), alerts(view)];
    let mut text = String::new();
    for family in families.iter().flatten() {
        family.write(&mut text);
    }
    text
}

fn watch(view: &View) -> Vec<Family> {
    vec![
        Family::gauge("rekiln_build_info", "The version of this watcher.")
            .with(&[("version", env!("CARGO_PKG_VERSION"))], 1),
        Family::gauge("rekiln_watch_leader", "Whether this watcher leads.")
            .with(&[], i64::from(view.lead.mine)),
        Family::gauge("rekiln_watch_start_timestamp_seconds", "When this watcher started.")
            .when(Some(view.started)),
        Family::gauge("rekiln_watch_view_timestamp_seconds", "When these numbers were put together.")
            .when(Some(view.at)),
    ]
}

fn git(view: &View) -> Vec<Family> {
    let git = &view.git;
    let [head, applied] = [&git.head, &git.applied].map(|commit| commit.as_ref().map(|commit| &*commit.id));
    let info = |family: Family, id: Option<&str>| match id {
        Some(id) => family.with(&[("commit", id)], 1),
        None => family,
    };
    let behind =
        Family::gauge("rekiln_git_behind", "Whether the branch's head is not carried out to its end.");
    let counted = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    vec![
        info(Family::gauge("rekiln_git_head_info", "Where the branch is."), head),
        info(Family::gauge("rekiln_git_applied_info", "The last commit carried out to its end."), applied),
        if head.is_some() { behind.with(&[], i64::from(head != applied)) } else { behind },
        Family::gauge("rekiln_git_attention", "Whether carrying out the branch needs somebody's attention.")
            .with(&[], i64::from(git.bad)),
        Family::gauge("rekiln_git_last_fetch_timestamp_seconds", "When the remote last answered.")
            .when(git.fetched),
        Family::counter("rekiln_git_fetches_total", "How often the remote was asked.")
            .with(&[], counted(view.counts.fetches)),
        Family::counter("rekiln_git_fetch_failures_total", "How often the remote did not answer.")
            .with(&[], counted(view.counts.fetch_failures)),
    ]
}

fn fleets(fleets: &[Fleet]) -> Vec<Family> {
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let mut health = Family::gauge("rekiln_fleet_instances", "Instances there are, by health.");
    let mut rollout = Family::gauge("rekiln_fleet_rollout", "Whether the last rollout is in this state.");
    for fleet in fleets {
        let of = |state| [("fleet", &*fleet.name), state];
        for state in HEALTH {
            health.add(&of(("health", state)), 0);
        }
        for instance in &fleet.instances {
            health.add(&of(("health", &instance.health)), 1);
        }
        for state in ROLLOUTS {
            rollout.add(&of(("state", state)), 0);
        }
        if let Some(state) = &fleet.rollout {
            rollout.add(&of(("state", state)), 1);
        }
    }
    vec![
        Family::gauge("rekiln_fleet_size", "Instances there are to be.")
            .each(fleets, |fleet| Some(count(fleet.size))),
        health,
        Family::gauge("rekiln_fleet_instances_in_service", "Instances that get requests.")
            .each(fleets, |fleet| Some(count(fleet.instances.iter().filter(|one| one.in_service).count()))),
        Family::gauge(
            "rekiln_fleet_instances_not_as_wanted",
            "Instances that are to be replaced or are not well.",
        )
        .each(fleets, |fleet| Some(count(fleet.instances.iter().filter(|one| !one.good).count()))),
        Family::gauge("rekiln_fleet_paused", "Whether somebody paused the fleet.")
            .each(fleets, |fleet| Some(i64::from(fleet.paused.is_some()))),
        Family::gauge(
            "rekiln_fleet_backup_attention",
            "Whether the fleet's backups are too old, failed or cannot be looked at.",
        )
        .each(fleets, |fleet| Some(i64::from(fleet.backup.is_some()))),
        rollout,
        Family::gauge("rekiln_fleet_last_seen_timestamp_seconds", "When the fleet was looked at.")
            .each(fleets, |fleet| fleet.seen.map(Timestamp::as_second)),
        Family::gauge("rekiln_fleet_unreachable", "Whether the fleet could not be looked at.")
            .each(fleets, |fleet| Some(i64::from(fleet.trouble.is_some()))),
    ]
}

fn work(view: &View) -> Vec<Family> {
    let mut running = Family::gauge("rekiln_jobs_running", "Jobs under way, by kind.");
    for kind in JOBS {
        running.add(&[("kind", kind)], 0);
    }
    for job in &view.jobs {
        running.add(&[("kind", &job.kind)], 1);
    }
    let mut ended = Family::counter("rekiln_jobs_total", "Jobs that ended, by kind and exit code.");
    for (kind, code, count) in &view.counts.jobs {
        let labels = [("kind", &**kind), ("exit_code", &*code.to_string())];
        ended.add(&labels, i64::try_from(*count).unwrap_or(i64::MAX));
    }
    let night = view.nightly.as_ref();
    let code = Family::gauge("rekiln_nightly_last_exit_code", "The exit code of the last night.");
    let mut images = Family::gauge("rekiln_images", "Images in the store, by recipe.");
    for image in &view.images {
        images.add(&[("name", &image.name)], 1);
    }
    vec![
        running,
        ended,
        Family::gauge("rekiln_nightly_next_timestamp_seconds", "When the next night begins.")
            .when(night.and_then(|night| night.next)),
        Family::gauge("rekiln_nightly_last_end_timestamp_seconds", "When the last night ended.")
            .when(night.and_then(|night| night.ended)),
        match night.and_then(|night| night.code) {
            Some(number) => code.with(&[], number.into()),
            None => code,
        },
        images,
    ]
}

fn alerts(view: &View) -> Vec<Family> {
    let counted = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    vec![
        Family::counter("rekiln_alerts_total", "Alerts that fired and that a fleet has a rule for.")
            .with(&[], counted(view.counts.alerts)),
        Family::counter("rekiln_alerts_unknown_total", "Alerts that no fleet has a rule for.")
            .with(&[], counted(view.counts.alerts_unknown)),
        Family::gauge("rekiln_alerts_open", "Alerts that are not over, by fleet and name.")
            .cases(&view.cases, |case| case.open),
        Family::gauge("rekiln_alerts_held", "Alerts that only a person can end, by fleet and name.")
            .cases(&view.cases, |case| case.open && case.held),
        Family::counter("rekiln_replaced_total", "Instances that were replaced because of an alert.")
            .with(&[], counted(view.counts.replaced)),
    ]
}

/// A label's value as the format has it: any text, of which three characters are escaped.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

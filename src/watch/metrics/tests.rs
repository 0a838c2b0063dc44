use std::collections::{BTreeMap, BTreeSet};

use super::sample::{fleet, view};
use super::*;

/// Reads the format as strictly as it is written down, and returns each series and its value.
fn read(text: &str) -> BTreeMap<String, i64> {
    assert!(text.ends_with('\n'), "the last line has an end too");
    let name_ok = |name: &str, colon: bool| {
        let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || (colon && c == ':'));
        first && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || (colon && c == ':'))
    };
    let (mut helped, mut typed, mut series) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
    let mut family = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help");
            assert!(name_ok(name, true) && !help.contains('\\') && helped.insert(name.to_owned()), "{line}");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert!(helped.contains(name) && ["gauge", "counter"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(typed.insert(name.to_owned(), kind).is_none(), "twice: {line}");
            family = name.to_owned();
            continue;
        }
        let end = line.find(['{', ' ']).expect("a name");
        assert_eq!(&line[..end], family, "samples stand below their type");
        let (labels, value) = match line[end..].strip_prefix('{') {
            Some(rest) => read_labels(rest),
            None => (Vec::new(), &line[end..]),
        };
        let mut names: Vec<_> = labels.iter().map(|(name, _)| name.clone()).collect();
        assert!(names.iter().all(|name| name_ok(name, false) && !name.starts_with("__")), "{line}");
        names.dedup();
        assert_eq!(names.len(), labels.len(), "a label twice: {line}");
        let value = value.strip_prefix(' ').expect("one space").parse().expect("a number");
        assert!(series.insert(format!("{family}{labels:?}"), value).is_none(), "a series twice: {line}");
    }
    assert_eq!(helped, typed.keys().cloned().collect());
    series
}

/// Reads labels up to the brace that closes them, and returns what follows.
fn read_labels(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut labels = Vec::new();
    loop {
        let (name, after) = rest.split_once("=\"").expect("a label");
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next().expect("an end") {
                (at, '"') => break at,
                (_, '\\') => value.push(match characters.next().expect("an escape").1 {
                    'n' => '\n',
                    escaped @ ('\\' | '"') => escaped,
                    other => panic!("\\{other} is no escape"),
                }),
                (_, plain) => value.push(plain),
            }
        };
        labels.push((name.to_owned(), value));
        rest = &after[end + 1..];
        match rest.split_at(1) {
            (",", more) => rest = more,
            ("}", more) => return (labels, more),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is one text, and to be read as one")]
fn everything() {
    let text = metrics(&view()).replace(env!("CARGO_PKG_VERSION"), "VERSION");
    insta::assert_snapshot!(text, @r#"
    # HELP rekiln_build_info The version of this watcher.
    # TYPE rekiln_build_info gauge
    rekiln_build_info{version="VERSION"} 1
    # HELP rekiln_watch_leader Whether this watcher leads.
    # TYPE rekiln_watch_leader gauge
    rekiln_watch_leader 1
    # HELP rekiln_watch_start_timestamp_seconds When this watcher started.
    # TYPE rekiln_watch_start_timestamp_seconds gauge
    rekiln_watch_start_timestamp_seconds 1763979000
    # HELP rekiln_watch_view_timestamp_seconds When these numbers were put together.
    # TYPE rekiln_watch_view_timestamp_seconds gauge
    rekiln_watch_view_timestamp_seconds 1764079000
    # HELP rekiln_git_head_info Where the branch is.
    # TYPE rekiln_git_head_info gauge
    rekiln_git_head_info{commit="abababababababababababababababababababab"} 1
    # HELP rekiln_git_applied_info The last commit carried out to its end.
    # TYPE rekiln_git_applied_info gauge
    rekiln_git_applied_info{commit="cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"} 1
    # HELP rekiln_git_behind Whether the branch's head is not carried out to its end.
    # TYPE rekiln_git_behind gauge
    rekiln_git_behind 1
    # HELP rekiln_git_attention Whether carrying out the branch needs somebody's attention.
    # TYPE rekiln_git_attention gauge
    rekiln_git_attention 0
    # HELP rekiln_git_last_fetch_timestamp_seconds When the remote last answered.
    # TYPE rekiln_git_last_fetch_timestamp_seconds gauge
    rekiln_git_last_fetch_timestamp_seconds 1764078995
    # HELP rekiln_git_fetches_total How often the remote was asked.
    # TYPE rekiln_git_fetches_total counter
    rekiln_git_fetches_total 1000
    # HELP rekiln_git_fetch_failures_total How often the remote did not answer.
    # TYPE rekiln_git_fetch_failures_total counter
    rekiln_git_fetch_failures_total 3
    # HELP rekiln_fleet_size Instances there are to be.
    # TYPE rekiln_fleet_size gauge
    rekiln_fleet_size{fleet="db \"1\"\\\n2"} 2
    rekiln_fleet_size{fleet="web"} 4
    # HELP rekiln_fleet_instances Instances there are, by health.
    # TYPE rekiln_fleet_instances gauge
    rekiln_fleet_instances{fleet="db \"1\"\\\n2",health="healthy"} 0
    rekiln_fleet_instances{fleet="db \"1\"\\\n2",health="unhealthy"} 0
    rekiln_fleet_instances{fleet="db \"1\"\\\n2",health="unknown"} 0
    rekiln_fleet_instances{fleet="web",health="healthy"} 2
    rekiln_fleet_instances{fleet="web",health="unhealthy"} 1
    rekiln_fleet_instances{fleet="web",health="unknown"} 1
    # HELP rekiln_fleet_instances_in_service Instances that get requests.
    # TYPE rekiln_fleet_instances_in_service gauge
    rekiln_fleet_instances_in_service{fleet="db \"1\"\\\n2"} 0
    rekiln_fleet_instances_in_service{fleet="web"} 2
    # HELP rekiln_fleet_instances_not_as_wanted Instances that are to be replaced or are not well.
    # TYPE rekiln_fleet_instances_not_as_wanted gauge
    rekiln_fleet_instances_not_as_wanted{fleet="db \"1\"\\\n2"} 0
    rekiln_fleet_instances_not_as_wanted{fleet="web"} 2
    # HELP rekiln_fleet_paused Whether somebody paused the fleet.
    # TYPE rekiln_fleet_paused gauge
    rekiln_fleet_paused{fleet="db \"1\"\\\n2"} 1
    rekiln_fleet_paused{fleet="web"} 0
    # HELP rekiln_fleet_backup_attention Whether the fleet's backups are too old, failed or cannot be looked at.
    # TYPE rekiln_fleet_backup_attention gauge
    rekiln_fleet_backup_attention{fleet="db \"1\"\\\n2"} 0
    rekiln_fleet_backup_attention{fleet="web"} 0
    # HELP rekiln_fleet_rollout Whether the last rollout is in this state.
    # TYPE rekiln_fleet_rollout gauge
    rekiln_fleet_rollout{fleet="db \"1\"\\\n2",state="cancelled"} 0
    rekiln_fleet_rollout{fleet="db \"1\"\\\n2",state="completed"} 0
    rekiln_fleet_rollout{fleet="db \"1\"\\\n2",state="halted"} 0
    rekiln_fleet_rollout{fleet="db \"1\"\\\n2",state="rolling"} 0
    rekiln_fleet_rollout{fleet="web",state="cancelled"} 0
    rekiln_fleet_rollout{fleet="web",state="completed"} 0
    rekiln_fleet_rollout{fleet="web",state="halted"} 0
    rekiln_fleet_rollout{fleet="web",state="rolling"} 1
    # HELP rekiln_fleet_last_seen_timestamp_seconds When the fleet was looked at.
    # TYPE rekiln_fleet_last_seen_timestamp_seconds gauge
    rekiln_fleet_last_seen_timestamp_seconds{fleet="web"} 1764078997
    # HELP rekiln_fleet_unreachable Whether the fleet could not be looked at.
    # TYPE rekiln_fleet_unreachable gauge
    rekiln_fleet_unreachable{fleet="db \"1\"\\\n2"} 1
    rekiln_fleet_unreachable{fleet="web"} 0
    # HELP rekiln_jobs_running Jobs under way, by kind.
    # TYPE rekiln_jobs_running gauge
    rekiln_jobs_running{kind="apply"} 1
    rekiln_jobs_running{kind="backup"} 0
    rekiln_jobs_running{kind="chaos"} 0
    rekiln_jobs_running{kind="keep"} 0
    rekiln_jobs_running{kind="nightly"} 0
    rekiln_jobs_running{kind="replace"} 0
    rekiln_jobs_running{kind="step"} 0
    # HELP rekiln_jobs_total Jobs that ended, by kind and exit code.
    # TYPE rekiln_jobs_total counter
    rekiln_jobs_total{kind="apply",exit_code="0"} 6
    rekiln_jobs_total{kind="apply",exit_code="1"} 1
    # HELP rekiln_nightly_next_timestamp_seconds When the next night begins.
    # TYPE rekiln_nightly_next_timestamp_seconds gauge
    rekiln_nightly_next_timestamp_seconds 1764082600
    # HELP rekiln_nightly_last_end_timestamp_seconds When the last night ended.
    # TYPE rekiln_nightly_last_end_timestamp_seconds gauge
    rekiln_nightly_last_end_timestamp_seconds 1763999000
    # HELP rekiln_nightly_last_exit_code The exit code of the last night.
    # TYPE rekiln_nightly_last_exit_code gauge
    rekiln_nightly_last_exit_code 3
    # HELP rekiln_images Images in the store, by recipe.
    # TYPE rekiln_images gauge
    rekiln_images{name="web"} 1
    # HELP rekiln_alerts_total Alerts that fired and that a fleet has a rule for.
    # TYPE rekiln_alerts_total counter
    rekiln_alerts_total 7
    # HELP rekiln_alerts_unknown_total Alerts that no fleet has a rule for.
    # TYPE rekiln_alerts_unknown_total counter
    rekiln_alerts_unknown_total 2
    # HELP rekiln_alerts_open Alerts that are not over, by fleet and name.
    # TYPE rekiln_alerts_open gauge
    rekiln_alerts_open{fleet="web",alert="Disk\"Full\""} 2
    rekiln_alerts_open{fleet="web",alert="Over"} 0
    # HELP rekiln_alerts_held Alerts that only a person can end, by fleet and name.
    # TYPE rekiln_alerts_held gauge
    rekiln_alerts_held{fleet="web",alert="Disk\"Full\""} 1
    rekiln_alerts_held{fleet="web",alert="Over"} 0
    # HELP rekiln_replaced_total Instances that were replaced because of an alert.
    # TYPE rekiln_replaced_total counter
    rekiln_replaced_total 1
    "#);
}

#[test]
fn the_format_is_kept() {
    let series = read(&metrics(&view()));
    let of = |text: &str| series.get(text).copied();
    assert_eq!(of("rekiln_fleet_size[(\"fleet\", \"db \\\"1\\\"\\\\\\n2\")]"), Some(2), "{series:?}");
    assert_eq!(of("rekiln_jobs_total[(\"kind\", \"apply\"), (\"exit_code\", \"0\")]"), Some(6), "added up");
    let open = "[(\"fleet\", \"web\"), (\"alert\", \"Disk\\\"Full\\\"\")]";
    assert_eq!(of(&format!("rekiln_alerts_open{open}")), Some(2), "of two instances");
    assert_eq!(of(&format!("rekiln_alerts_held{open}")), Some(1));
    assert_eq!(of("rekiln_alerts_held[(\"fleet\", \"web\"), (\"alert\", \"Over\")]"), Some(0), "it is over");
}

#[test]
fn what_is_not_known_has_no_series() {
    let mut view = view();
    (view.git.head, view.git.applied, view.git.fetched, view.nightly) = (None, None, None, None);
    (view.fleets, view.cases, view.images, view.counts.jobs) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let text = metrics(&view);
    let series = read(&text);
    for name in ["rekiln_git_head", "rekiln_git_behind", "rekiln_nightly", "rekiln_fleet", "rekiln_images"] {
        assert!(!text.contains(name), "{name}: {text}");
    }
    assert_eq!(series.get("rekiln_jobs_running[(\"kind\", \"nightly\")]"), Some(&0), "{series:?}");
}

#[test]
fn series_do_not_grow_with_instances() {
    let mut view = view();
    view.fleets = vec![fleet("web", 3)];
    let few = read(&metrics(&view)).len();
    view.fleets = vec![fleet("web", 2000)];
    assert_eq!(read(&metrics(&view)).len(), few);
    // Two fleets of a name would be a mistake elsewhere, and must not make the page unreadable to Prometheus.
    view.fleets.push(fleet("web", 1));
    assert_eq!(read(&metrics(&view)).len(), few);
}

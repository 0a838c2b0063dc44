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
fn everything() {
    let text = metrics(&view()).replace(env!("CARGO_PKG_VERSION"), "VERSION");
    insta::assert_snapshot!(text);
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

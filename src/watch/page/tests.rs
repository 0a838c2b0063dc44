use jiff::SignedDuration;

use super::*;
use crate::watch::metrics::sample::{HOSTILE, NOW, ago, fleet, instance, view};
use crate::watch::view::Fleet;

/// Checks that elements are closed in order, that no attribute is cut off, and returns the text.
fn text_of(html: &str) -> String {
    let (mut open, mut text, mut rest) = (Vec::new(), String::new(), html);
    while let Some((before, after)) = rest.split_once('<') {
        assert!(!before.contains('>'), "{before}");
        text.push_str(before);
        let (tag, after) = after.split_once('>').expect("its end");
        rest = after;
        assert!(!tag.contains('<') && tag.matches('"').count() % 2 == 0, "{tag}");
        // What the policy would forbid, between the attributes' values.
        let names: String = tag.split('"').step_by(2).collect();
        assert!(!names.contains(" on") && !names.contains(" style"), "{tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{tag}");
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().expect("a name"));
        }
    }
    assert!(open.is_empty(), "{open:?}");
    text + rest
}

/// What is done to a view and a fleet of it.
type Change<'a> = &'a dyn Fn(&mut View, &mut Fleet);

fn with(change: impl FnOnce(&mut View)) -> View {
    let mut view = view();
    change(&mut view);
    view
}

#[test]
fn everything_is_there_and_stays_text() {
    let html = part(&view());
    let text = text_of(&html);
    for expected in [
        "leads",
        "applying abab",
        "5 things need attention",
        "Fleet web has 1 unhealthy instance",
        "Alert Disk&quot;Full&quot; of fleet web (web-1) waits for a person: step 1 of 2",
        "The last night ended with exit code 3",
        "Cannot be looked at: access denied",
        "2 of 4 current",
        "fleet web rolls to",
        "expected end not known: no launch of this fleet is on record",
        "stale: image",
        "350\u{a0}MiB",
        "watch 12",
        "1 alert that ended",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let escaped = escape(HOSTILE);
    // The head, the pause twice, the job and the journal.
    assert_eq!(html.matches(&escaped).count(), 4, "{html}");
    assert!(!html.contains("<script") && !html.contains("<b "), "{html}");
}

#[test]
fn a_page_is_whole_and_its_policy_knows_it() {
    let html = page(&view());
    assert!(html.starts_with("<!DOCTYPE html>\n<html lang=\"en\"") && html.contains(&part(&view())));
    assert!(html.contains("<title>(5) main · rekiln</title>"), "{html}");
    for (open, close) in [("<style>", "</style>"), ("<script>", "</script>")] {
        let inside = html.split_once(open).and_then(|(_, rest)| rest.split_once(close)).expect("inline").0;
        let hash = BASE64.encode(Digest::of(inside.as_bytes()).as_bytes());
        assert!(policy().contains(&format!("'sha256-{hash}'")), "{open}");
    }
    assert!(html.contains(&escape(&etag(&part(&view())))));
    // Nothing of the script or the style ends them.
    assert!(!SCRIPT.contains("</") && !STYLE.contains("</"));
}

#[test]
fn time_alone_changes_nothing() {
    let before = part(&view());
    assert_eq!(part(&with(|view| view.at = NOW + SignedDuration::from_hours(3))), before);
    assert_ne!(part(&with(|view| view.fleets[1].seen = Some(NOW))), before);
}

#[test]
fn calm() {
    let quiet = with(|view| {
        view.fleets = vec![fleet("web", 3)];
        view.cases.clear();
        view.nightly = None;
    });
    assert_eq!(attention(&quiet), [""; 0]);
    let text = text_of(&part(&quiet));
    assert!(text.contains("Nothing needs attention.") && text.contains("No schedule."), "{text}");
    assert!(page(&quiet).contains("<title>main · rekiln</title>"));
    let nothing =
        View { fleets: Vec::new(), jobs: Vec::new(), images: Vec::new(), lines: Vec::new(), ..quiet };
    text_of(&part(&nothing));
}

#[test]
fn what_needs_attention() {
    let lines = |change: Change<'_>| {
        let mut view = with(|view| {
            (view.cases, view.nightly) = (Vec::new(), None);
        });
        let mut fleet = fleet("web", 3);
        change(&mut view, &mut fleet);
        view.fleets = vec![fleet];
        attention(&view)
    };
    let table: [(Change<'_>, &[&str]); 9] = [
        (&|_, _| {}, &[]),
        (&|view, _| view.git.bad = true, &["main: applying abab"]),
        (&|view, _| view.git.trouble = Some("no route".into()), &["The remote does not answer: no route"]),
        (&|_, fleet| fleet.rollout = Some("halted".into()), &["The rollout of fleet web is halted"]),
        (&|_, fleet| fleet.size = 4, &["Fleet web serves with 3 of 4 instances"]),
        (&|_, fleet| (fleet.size, fleet.rollout) = (4, Some("rolling".into())), &[]),
        (&|_, fleet| (fleet.size, fleet.seen) = (4, None), &[]),
        (
            &|view, _| (view.lead.mine, view.lead.leader, view.lead.since) = (false, None, Some(ago(121))),
            &["No watcher leads: nothing is carried out"],
        ),
        (&|view, _| (view.lead.mine, view.lead.leader, view.lead.since) = (false, None, Some(ago(119))), &[]),
    ];
    for (change, expected) in table {
        assert_eq!(lines(change), expected);
    }
    let long = lines(&|view, _| view.git.trouble = Some("x".repeat(10_000)));
    assert_eq!(long[0].chars().count(), 240, "{long:?}");
    let many = with(|view| view.fleets = vec![Fleet { paused: Some("x".into()), ..fleet("web", 1) }; 40]);
    assert!(part(&many).contains("<li>… and "));
}

#[test]
fn a_large_fleet_is_a_light_page() {
    let mut large = fleet("web", 2000);
    for number in [7, 1999] {
        large.instances[number] = instance("web", number, "unhealthy", false);
    }
    let html = part(&with(|view| view.fleets = vec![large.clone()]));
    text_of(&html);
    assert_eq!(html.matches("<tr data-key=\"web-").count(), 202);
    let (open, folded) = html.split_once("<details data-key=\"good\">").expect("what is well is folded");
    assert!(open.contains("web-7<") && open.contains("web-1999<") && !open.contains("web-8<"));
    assert!(
        folded.contains("1998 instances as wanted") && folded.contains("1798 more instances"),
        "{folded}"
    );
    assert!(html.len() < 120_000, "{}", html.len());
    for one in &mut large.instances {
        one.good = false;
    }
    let html = part(&with(|view| view.fleets = vec![large; 20]));
    assert_eq!(html.matches("<tr data-key=\"web-").count(), 20 * 75);
    let good = part(&with(|view| view.fleets = vec![fleet("web", 2000); 50]));
    assert_eq!(good.matches("<tr data-key=\"web-").count(), 50 * 20);
}

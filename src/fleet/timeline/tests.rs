//! What a reader must be able to rely on, and one picture to look at.

use super::*;

fn sample(at: i64, [current, old, starting, draining, unhealthy]: [usize; 5]) -> Sample {
    Sample { at: SignedDuration::from_secs(at), current, old, starting, draining, unhealthy }
}

fn mark(at: i64, text: &str) -> (SignedDuration, String) {
    (SignedDuration::from_secs(at), text.to_owned())
}

/// Three instances, one above the size: a canary, then the others.
fn small() -> Timeline {
    let samples = vec![
        sample(0, [0, 3, 0, 0, 0]),
        sample(2, [0, 3, 1, 0, 0]),
        sample(22, [1, 3, 0, 0, 0]),
        sample(24, [1, 2, 0, 1, 0]),
        sample(34, [1, 2, 0, 0, 0]),
        sample(64, [1, 2, 1, 0, 0]),
        sample(84, [2, 2, 0, 0, 0]),
        sample(86, [2, 1, 0, 1, 0]),
        sample(96, [2, 1, 1, 0, 0]),
        sample(116, [3, 1, 0, 0, 0]),
        sample(118, [3, 0, 0, 1, 0]),
        sample(128, [3, 0, 0, 0, 0]),
        sample(140, [3, 0, 0, 0, 0]),
    ];
    Timeline { size: 3, floor: 3, samples, marks: vec![mark(64, "canary passed"), mark(140, "completed")] }
}

/// Two thousand instances in waves, looked at each second for five hours; one second of it is below the floor.
fn large() -> Timeline {
    let waves = [(1800, 20), (3600, 200), (7200, 1000), (12_000, 2000)];
    let samples = (0..18_000_i64).map(|at| {
        let target = waves.iter().rev().find(|(since, _)| at >= *since).map_or(0, |(_, target)| *target);
        let since = waves.iter().rev().find(|(since, _)| at >= *since).map_or(0, |(since, _)| at - since);
        let begun = waves.iter().rev().find(|(_, count)| *count < target).map_or(0, |(_, count)| *count);
        let current = target.min(begun + usize::try_from(since).expect("positive") / 4);
        let busy = if current < target { 40 } else { 0 };
        let dip = if at == 9000 { 51 } else { 0 };
        sample(at, [current, 2000 - current - dip, busy, busy / 2, dip])
    });
    let marks =
        vec![mark(1790, "begun"), mark(3600, "canary passed"), mark(7200, "wave 1 passed <&>\u{1b}[31m")];
    Timeline { size: 2000, floor: 1950, samples: samples.collect(), marks }
}

fn empty() -> Timeline {
    Timeline { size: 3, floor: 2, ..Timeline::default() }
}

#[test]
fn one_picture() {
    let picture = small().terminal(64, 8).join("\n");
    insta::assert_snapshot!(picture, @r"
                                  1                                2
      │++++++++++----             ++++++++++----++++++++++----
    3 ┤++++++++++----┄┄┄┄┄┄┄┄┄┄┄┄┄++++++++++----++++++++++----┄┄┄┄┄┄
      │▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒██████████
      │▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒██████████
      │▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒████████████████████████
      │▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒████████████████████████
      │▒▒▒▒▒▒▒▒▒▒███████████████████████████████████████████████████
    0 ┤▒▒▒▒▒▒▒▒▒▒███████████████████████████████████████████████████
      └┴────────────┴────────────┴────────────┴────────────┴────────
       0s           30s          1m           1m 30s       2m

    █ current   ▒ old   - draining   + starting   ┄ floor
    At least 3 of 3 served at any time; the floor is 3.
    1   1m 4s  canary passed
    2  2m 20s  completed
    ");
}

#[test]
fn no_line_is_too_wide_and_none_can_steer_a_terminal() {
    for timeline in [small(), large(), empty()] {
        for (width, height) in [(0, 0), (1, 1), (7, 3), (20, 5), (80, 12), (200, 60)] {
            let lines = timeline.terminal(width, height);
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}: {lines:#?}");
            assert!(lines.iter().all(|line| !line.contains(char::is_control)), "{lines:#?}");
        }
    }
}

#[test]
fn a_dip_of_one_sample_and_one_instance_is_seen() {
    let mut timeline = large();
    for sample in timeline.samples.iter_mut().filter(|sample| sample.unhealthy > 0) {
        // One below the floor of 1950, in one of 18,000 seconds.
        assert_eq!(sample.serving(), 1949);
    }
    for width in [20, 80, 200] {
        let lines = timeline.terminal(width, 12);
        assert!(lines.iter().any(|line| line.contains('┄') && line.contains('!')), "{lines:#?}");
    }
    assert_eq!(timeline.columns(50).iter().filter(|sample| sample.serving() == 1949).count(), 1);
    assert!(timeline.svg().contains("<line class=\"below\""));
    assert!(
        timeline
            .caption()
            .starts_with("As few as 1949 of 2000 served, at 2h 30m; below the floor of 1950 for 1s")
    );
    timeline.samples.retain(|sample| sample.unhealthy == 0);
    assert!(!timeline.terminal(80, 12).join("\n").contains('!'));
    assert!(!timeline.svg().contains("<line class=\"below\""));
}

#[test]
fn what_there_is_one_of_is_seen() {
    let scale = |count| count / 100;
    for (counts, wanted) in [
        ([0, 1000, 0, 0, 0], [0, 10, 10, 10, 10]),
        ([1, 999, 0, 0, 0], [1, 10, 10, 10, 10]),
        ([999, 1, 0, 0, 0], [9, 10, 10, 10, 10]),
        ([0, 999, 0, 0, 1], [0, 9, 10, 10, 10]),
        ([0, 1000, 1, 1, 1], [0, 10, 11, 12, 12]),
        ([0, 0, 0, 0, 0], [0, 0, 0, 0, 0]),
        ([1, 1, 0, 0, 0], [0, 0, 0, 0, 0]),
    ] {
        assert_eq!(Timeline::heights(&sample(0, counts), scale, 1, 12), wanted, "{counts:?}");
    }
}

#[test]
fn a_column_shows_the_worst_of_its_time() {
    let timeline = Timeline {
        samples: [(0, 5), (10, 4), (11, 2), (12, 5), (39, 5)]
            .map(|(at, old)| sample(at, [0, old, 0, 0, 0]))
            .into(),
        ..empty()
    };
    let serving = |columns| timeline.columns(columns).iter().map(|s| s.serving()).collect::<Vec<_>>();
    assert_eq!(serving(1), [2]);
    assert_eq!(serving(3), [2, 5, 5]);
    assert_eq!(serving(4), [5, 2, 5, 5]);
    assert_eq!(serving(39)[9..14], [5, 4, 2, 2, 5]);
    assert!(empty().columns(10).is_empty());
    assert!(serving(0).is_empty());
}

#[test]
fn times_as_people_write_them() {
    for (seconds, text) in [
        (0, "0s"),
        (59, "59s"),
        (60, "1m"),
        (90, "1m 30s"),
        (3600, "1h"),
        (3601, "1h"),
        (5400, "1h 30m"),
        (90_000, "1d 1h"),
        (-5, "0s"),
    ] {
        assert_eq!(clock(SignedDuration::from_secs(seconds)), text);
    }
    for (seconds, room, number, last) in [
        (0, 5, 2, "1s"),
        (140, 5, 5, "2m"),
        (18_000, 6, 6, "5h"),
        (40, 1, 1, "0s"),
        (90 * 604_800, 3, 3, "434d"),
    ] {
        let timeline = Timeline { samples: vec![sample(seconds, [0; 5])], ..empty() };
        let ticks: Vec<_> = timeline.ticks(room).map(clock).collect();
        assert_eq!((ticks.len(), ticks.last().map(String::as_str)), (number, Some(last)), "{seconds} {room}");
    }
}

/// Every tag is closed in order, every attribute is quoted, and no `<` or `&` stands for itself.
fn assert_well_formed(xml: &str) {
    let mut open = Vec::new();
    let mut rest = xml;
    while let Some((text, more)) = rest.split_once('<') {
        assert_text(text);
        let (tag, after) = more.split_once('>').expect("the tag ends");
        assert!(!tag.contains('<'), "{tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{tag}");
        } else {
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            assert_eq!(tag.matches("=\"").count(), tag.matches('"').count() / 2, "{tag}");
            assert_text(tag);
            if !tag.ends_with('/') {
                open.push(tag.split(' ').next().expect("a name"));
            }
        }
        rest = after;
    }
    assert_text(rest);
    assert!(open.is_empty(), "{open:?}");
}

fn assert_text(text: &str) {
    for (at, _) in text.match_indices('&') {
        assert!(
            ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"].iter().any(|e| text[at..].starts_with(e)),
            "{text}"
        );
    }
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text}");
}

#[test]
fn the_svg_is_well_formed_and_small() {
    for timeline in [small(), large(), empty()] {
        let svg = timeline.svg();
        assert_well_formed(&svg);
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
        assert!(svg.len() < 40_000, "{}", svg.len());
    }
}

#[test]
fn the_signs_of_marks_stay_apart_in_order_and_in_the_picture() {
    for (places, apart, wanted) in [
        (vec![], 1, vec![]),
        (vec![3, 3, 9], 1, vec![3, 4, 9]),
        (vec![0, 8, 9, 9, 9], 1, vec![0, 6, 7, 8, 9]),
        (vec![0, 4, 9], 3, vec![0, 4, 9]),
        (vec![7, 9, 9], 3, vec![3, 6, 9]),
        (vec![9, 9, 9], 8, vec![0, 1, 9]),
    ] {
        let mut found = places.clone();
        spread(&mut found, apart, 9);
        assert_eq!(found, wanted, "{places:?}");
    }
}

#[test]
fn the_page_shows_text_as_it_is() {
    let facts = [("image <old>".to_owned(), "\"a\" & 'b'".to_owned())];
    let page = large().html("web: <script>alert(1)</script>", &facts);
    assert!(page.contains("<h1>web: &lt;script&gt;alert(1)&lt;/script&gt;</h1>"));
    assert!(
        page.contains("<th scope=\"row\">image &lt;old&gt;</th><td>&quot;a&quot; &amp; &#39;b&#39;</td>")
    );
    assert!(page.contains("wave 1 passed &lt;&amp;&gt;\u{fffd}[31m"));
    assert!(!page.contains("<script") && !page.contains("http-equiv") && !page.contains("src="));
    assert!(!small().html("web", &[]).contains("<table"));
}

#[test]
fn axes_have_few_numbers() {
    for (top, wanted) in
        [(1, 1), (4, 1), (6, 2), (11, 2), (12, 5), (30, 10), (2040, 500), (usize::MAX, 5 * 10_usize.pow(18))]
    {
        assert_eq!(super::svg::step(top), wanted, "{top}");
    }
}

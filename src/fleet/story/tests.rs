use super::*;
use crate::digest::Digest;
use crate::fleet::census::InstanceId;
use crate::fleet::generation::{Generation, Target};

/// 14:02:11 of a Wednesday.
const BEGUN: &str = "2026-11-25T14:02:11Z";

struct Told(Vec<Entry>);

impl Told {
    fn add(&mut self, second: i64, event: Event) {
        let begun: Timestamp = BEGUN.parse().expect("a time");
        let command = if event.is_command() { "rekiln pause web" } else { "rekiln roll web" };
        self.0.push(Entry {
            version: 1,
            number: self.0.len() as u64 + 1,
            previous: Digest::of(b""),
            at: begun + SignedDuration::from_secs(second),
            by: Writer { host: "desk".to_owned(), pid: 12, started: 0, command: command.to_owned() },
            event,
        });
    }

    fn act(&mut self, second: i64, action: &Action) {
        self.add(second, Event::Intent { action: action.clone() });
        self.add(second, Event::Outcome { action: action.clone(), result: Ok(Outcome::Applied) });
    }

    fn page(&self) -> Vec<String> {
        stories(&self.0).last().expect("a story").page("web", None)
    }
}

fn id(number: u64) -> InstanceId {
    InstanceId::new("web", number)
}

fn target(name: &str) -> Target {
    let image = Digest::of(name.as_bytes());
    Target { image, generation: Generation { id: image, parts: std::sync::Arc::default() } }
}

fn opened(name: &str) -> Event {
    Event::Opened {
        target: target(name),
        reason: "a fix".to_owned(),
        emergency: false,
        fleet: None,
        commit: None,
    }
}

fn launch(number: u64) -> Action {
    Action::Launch { id: id(number), generation: target("two").generation, zone: None, founds: false }
}

fn drain(number: u64) -> Action {
    Action::Drain { id: id(number), others: 1 }
}

fn end(number: u64) -> Action {
    Action::Terminate { id: id(number), healthy: true, reason: "drained".to_owned() }
}

#[test]
fn a_rollout_is_told_with_how_long_everything_took() {
    let mut told = Told(Vec::new());
    told.add(0, opened("two"));
    told.act(1, &launch(4));
    told.add(22, Event::Serving { instance: id(4) });
    told.act(22, &Action::Admit { id: id(4) });
    told.add(23, Event::WaveReached { wave: 0 });
    told.add(100, Event::Paused { reason: "a look".to_owned() });
    told.add(160, Event::Resumed);
    told.add(323, Event::WavePassed { wave: 0 });
    told.act(324, &drain(1));
    told.act(328, &end(1));
    let (reason, console) = ("it did not serve".to_owned(), vec!["panic".to_owned()]);
    told.add(400, Event::Failed { instance: id(5), reason, console, counts: true });
    told.add(430, Event::Completed);
    let short = target("two").image.short();
    let wanted = [
        format!("rollout 1 of web to {short}: a fix"),
        "begun 2026-11-25 14:02:11 UTC by `rekiln roll web` (process 12 on desk)".to_owned(),
        "  3   14:02:12  1 s         launch web-4 from ?".to_owned(),
        "  4   14:02:33  22 s        web-4 serves, 21 s after its launch".to_owned(),
        "  7   14:02:34  23 s        wave 1 serves and soaks".to_owned(),
        "  8   14:03:51  1 min 40 s  paused: a look, by `rekiln pause web`".to_owned(),
        "  9   14:04:51  2 min 40 s  resumed after 1 min, by `rekiln pause web`".to_owned(),
        "  10  14:07:34  5 min 23 s  wave 1 has passed, after a soak of 5 min".to_owned(),
        "  12  14:07:35  5 min 24 s  drain web-1".to_owned(),
        "  14  14:07:39  5 min 28 s  end web-1 (drained), 4 s after its drain".to_owned(),
        "  15  14:08:51  6 min 40 s  web-5 failed: it did not serve".to_owned(),
        "                              | panic".to_owned(),
        "  16  14:09:21  7 min 10 s  completed".to_owned(),
        "completed, after 7 min 10 s".to_owned(),
        "1 launched, 1 ended, 1 failed".to_owned(),
        "a launch took 21 s".to_owned(),
        "a drain took 4 s".to_owned(),
        "it soaked for 5 min".to_owned(),
        "it was paused for 1 min".to_owned(),
    ];
    assert_eq!(told.page(), wanted);
}

#[test]
fn who_takes_an_unfinished_rollout_up_goes_on_with_its_story() {
    let mut told = Told(Vec::new());
    told.add(0, opened("one"));
    told.add(9, Event::Completed);
    told.add(10, opened("two"));
    told.add(11, Event::Intent { action: launch(4) });
    told.add(300, opened("two"));
    told.add(310, Event::RolledBack { target: target("one"), reason: "2 failed".to_owned() });
    // Git still asks for what is left.
    told.add(400, opened("two"));
    told.add(500, Event::Completed);
    told.add(600, opened("one"));
    let all = stories(&told.0);
    let rollouts: Vec<_> = all.iter().map(|story| (story.rollout, story.runs)).collect();
    assert_eq!(rollouts, [(1, 1), (3, 3), (9, 1)]);
    let how: Vec<_> = all.iter().map(|story| story.end.as_ref().map(|end| end.how.as_str())).collect();
    assert_eq!(how, [Some("completed"), Some("rolled back: 2 failed"), None]);
    let page = all[1].page("web", None);
    let image = target("one").image.short();
    for part in [
        "began to launch web-4 from ?; what came of it is not recorded",
        "taken up again: a fix, by `rekiln roll web` (process 12 on desk)",
        "is back",
        &format!("rolls back to {image}: 2 failed"),
        "rolled back: 2 failed, after 8 min 10 s",
        "0 launched, 0 ended, 0 failed, in 3 runs",
    ] {
        assert!(page.iter().any(|line| line.contains(part)), "{part}: {page:#?}");
    }
    let dead = all[2].page("web", None);
    assert!(dead[2].starts_with("its process ended without a word; `rekiln roll web`"), "{dead:#?}");
    let works = Writer { host: "desk".to_owned(), pid: 7, started: 1, command: "rekiln roll web".to_owned() };
    let alive = all[2].page("web", Some(&works));
    assert_eq!(alive[2], "it goes on, by `rekiln roll web` (process 7 on desk)");
    let list = list(&all);
    assert!(list[1].starts_with("3  2026-11-25 14:02:21 UTC  to "), "{list:#?}");
    assert!(list[1].ends_with("8 min 10 s  rolled back: 2 failed"), "{list:#?}");
}

#[test]
fn a_hundred_replacements_are_no_five_hundred_lines() {
    let mut told = Told(Vec::new());
    told.add(0, opened("two"));
    for number in 1..=100_u64 {
        told.act(number.cast_signed(), &launch(number));
    }
    for number in 1..=100_u64 {
        told.add(130 + number.cast_signed(), Event::Serving { instance: id(number) });
    }
    told.add(300, Event::Absent { instance: id(7) });
    let page = told.page();
    assert_eq!(page.len(), 7, "{page:#?}");
    let many =
        "100 launched, 100 served (after 2 min 10 s at the median, 2 min 10 s at worst), until 14:06:01 UTC";
    assert!(page[2].ends_with(many), "{page:#?}");
    assert!(page[3].ends_with("web-7 is not seen"), "{page:#?}");
    assert_eq!(every_line(&stories(&told.0)).len(), 202, "each stays to be seen");
}

#[test]
fn what_was_before_any_rollout_is_told_too() {
    let mut told = Told(Vec::new());
    told.add(0, Event::Paused { reason: "not yet".to_owned() });
    let page = told.page();
    assert_eq!(page, ["  1  14:02:11  0 s  paused: not yet, by `rekiln pause web`"]);
    told.add(86_400, Event::Resumed);
    assert!(told.page()[1].contains("2026-11-26 14:02:11"), "another day is named: {:?}", told.page());
}

//! Something to show.

use jiff::{SignedDuration, Timestamp};
use rekiln::digest::Digest;
use rekiln::fleet::census::InstanceId;
use rekiln::fleet::glance::{Glance, States};
use rekiln::fleet::plan::{Expected, Hold};
use rekiln::watch::view::{
    Case, Commit, Counts, Fleet, Git, Image, Instance, Job, Lead, Line, Nightly, View,
};

/// Some minutes before now, since the page tells how long things are ago.
pub fn ago(minutes: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_mins(minutes)
}

fn id(text: &str) -> String {
    Digest::of(text.as_bytes()).to_string()
}

fn commit(text: &str, subject: &str, minutes: i64) -> Commit {
    Commit { id: id(text)[..40].to_owned(), subject: subject.to_owned(), at: Some(ago(minutes)) }
}

pub fn instance(fleet: &str, number: usize, good: bool) -> Instance {
    let image = if good { "new" } else { "old" };
    Instance {
        id: format!("{fleet}-{number}"),
        known_as: None,
        image: Some(id(image)[..12].to_owned()),
        state: "running".to_owned(),
        health: "healthy".to_owned(),
        in_service: true,
        address: Some(format!("10.0.{}.{}", number / 250, number % 250)),
        zone: Some(format!("eu-central-1{}", ["a", "b", "c"][number % 3])),
        launched: ago(if good { 12 } else { 4000 }),
        is: if good { "current" } else { "stale: image" }.to_owned(),
        good,
    }
}

/// A fleet with as many instances as it is to have, so many of which are as wanted.
pub fn fleet(name: &str, size: usize, good: usize) -> Fleet {
    Fleet {
        name: name.to_owned(),
        image: name.to_owned(),
        place: "Auto Scaling group in eu-central-1".to_owned(),
        size,
        seen: Some(ago(0)),
        trouble: None,
        instances: (0..size).map(|number| instance(name, number, number < good)).collect(),
        rollout: Some("completed".to_owned()),
        remarks: Vec::new(),
        paused: None,
        glance: None,
        backup: None,
    }
}

/// A fleet in the middle of a rollout.
pub fn rolling(name: &str, size: usize, current: usize) -> Fleet {
    let mut fleet = fleet(name, size, current);
    fleet.rollout = Some("rolling".to_owned());
    let starting = &mut fleet.instances[current];
    *starting = Instance {
        state: "launching".to_owned(),
        health: "unknown".to_owned(),
        in_service: false,
        is: "starting".to_owned(),
        ..starting.clone()
    };
    fleet.glance = Some(Glance {
        fleet: name.to_owned(),
        target: Digest::of(b"new"),
        back: false,
        emergency: false,
        size,
        states: States { current, starting: 3, draining: 1, stale: size - current, ..States::default() },
        wave: Some(2),
        waves: 3,
        holds: vec![Hold::Starting { id: InstanceId::new(name, current as u64) }],
        begun: ago(4),
        now: ago(0),
        expected: Expected::At { at: ago(-12), seconds: 720, launches: 34 },
    });
    fleet
}

/// A watcher on a day on which nothing happens.
pub fn quiet() -> View {
    View {
        at: Timestamp::now(),
        started: ago(3000),
        remote: "https://git.example/infra/machines.git".to_owned(),
        branch: "main".to_owned(),
        lead: Lead { mine: true, leader: Some("process 812 on build-1".to_owned()), since: Some(ago(3000)) },
        git: Git {
            head: Some(commit("c1", "web: nginx 1.28.1", 190)),
            applied: Some(commit("c1", "web: nginx 1.28.1", 190)),
            state: "up to date".to_owned(),
            bad: false,
            fetched: Some(ago(0)),
            trouble: None,
        },
        nightly: Some(Nightly { next: Some(ago(-500)), ended: Some(ago(900)), code: Some(0) }),
        fleets: vec![fleet("web", 3, 3)],
        jobs: Vec::new(),
        cases: Vec::new(),
        images: vec![image("web", "new", "passed", 190, &["web"])],
        lines: vec![line("web", 41, 180, "completed: 3 of 3 instances are current")],
        counts: Counts { fetches: 9000, ..Counts::default() },
    }
}

fn image(name: &str, of: &str, verdict: &str, minutes: i64, fleets: &[&str]) -> Image {
    Image {
        name: name.to_owned(),
        id: id(of),
        baked: ago(minutes),
        verdict: verdict.to_owned(),
        size: 371 << 20,
        fleets: fleets.iter().map(|fleet| (*fleet).to_owned()).collect(),
    }
}

fn line(of: &str, entry: u64, minutes: i64, text: &str) -> Line {
    Line { at: ago(minutes), of: of.to_owned(), entry, text: text.to_owned() }
}

fn case(alert: &str, instance: Option<&str>, state: &str, open: bool, held: bool) -> Case {
    Case {
        fleet: "api".to_owned(),
        alert: alert.to_owned(),
        instance: instance.map(str::to_owned),
        since: ago(17),
        state: state.to_owned(),
        open,
        held,
    }
}

/// A watcher on a day on which much does.
pub fn busy() -> View {
    let mut api = fleet("api", 6, 5);
    api.instances[5] = Instance {
        health: "unhealthy".to_owned(),
        in_service: false,
        is: "unhealthy".to_owned(),
        ..api.instances[5].clone()
    };
    api.paused = Some("load test until Friday (ada)".to_owned());
    api.remarks = vec!["an image is quarantined: 5be1dd2f4a10".to_owned()];
    let job = |kind: &str, what: &str, minutes, last: &str| Job {
        kind: kind.to_owned(),
        what: what.to_owned(),
        since: ago(minutes),
        last: Some(last.to_owned()),
    };
    let mut batch = fleet("batch", 2, 2);
    batch.rollout = None;
    "this computer".clone_into(&mut batch.place);
    View {
        git: Git {
            head: Some(commit("c2", "web: nginx 1.28.2, which closes CVE-2026-1234", 6)),
            state: "applying: web is rolled".to_owned(),
            ..quiet().git
        },
        fleets: vec![api, batch, rolling("web", 40, 10)],
        jobs: vec![
            job("apply", "commit 5be1dd2f4a10", 4, "fleet web: wave 2 of 3"),
            job("step", "alert DiskFull, step 1 of 2: drain", 1, "waits until api-2 serves nothing"),
        ],
        cases: vec![
            case("DiskFull", Some("api-2"), "step 1 of 2", true, false),
            case("HighLatency", None, "held: two of three were replaced within an hour", true, true),
            case("InstanceDown", Some("api-9"), "replaced", false, false),
        ],
        images: vec![
            image("web", "new", "passed", 6, &["web"]),
            image("web", "old", "passed", 5000, &["web"]),
            image("api", "api", "passed", 9000, &["api"]),
            image("batch", "batch", "not booted", 9100, &[]),
            image("batch", "batch-2", "failed", 9200, &[]),
        ],
        lines: vec![
            line("web", 57, 0, "launch web-10: of 5be1dd2f4a10 in eu-central-1b"),
            line("watch", 310, 1, "alert DiskFull of fleet api (api-2): step 1 of 2 begins: drain"),
            line("web", 56, 2, "wave 1 passed"),
            line("watch", 309, 6, "commit 5be1dd2f4a10 is carried out"),
        ],
        ..quiet()
    }
}

/// What somebody who may write commits or send alerts would put on the page.
pub const HOSTILE: &str = "</td></main><script>window.hacked=1</script>\
    <img src=x onerror='window.hacked=2'>\"><svg onload=window.hacked=3><b id=bold>\u{202e}x";

/// The same text wherever text comes from outside.
pub fn hostile() -> View {
    let text = || HOSTILE.to_owned();
    let mut view = busy();
    for commit in [&mut view.git.head, &mut view.git.applied].into_iter().flatten() {
        commit.subject = text();
        commit.id = text();
    }
    view.git.state = text();
    view.git.trouble = Some(text());
    (view.remote, view.branch, view.lead.leader, view.lead.mine) = (text(), text(), Some(text()), false);
    for fleet in &mut view.fleets {
        (fleet.name, fleet.image, fleet.place, fleet.rollout) = (text(), text(), text(), Some(text()));
        (fleet.paused, fleet.trouble, fleet.remarks) = (Some(text()), Some(text()), vec![text()]);
        let all = &mut fleet.instances;
        all.truncate(2);
        for one in all {
            (one.id, one.state, one.health, one.is) = (text(), text(), text(), text());
            (one.image, one.address, one.zone) = (Some(text()), Some(text()), Some(text()));
        }
    }
    for job in &mut view.jobs {
        (job.kind, job.what, job.last) = (text(), text(), Some(text()));
    }
    for case in &mut view.cases {
        (case.fleet, case.alert, case.instance, case.state) = (text(), text(), Some(text()), text());
    }
    for image in &mut view.images {
        (image.name, image.id, image.verdict, image.fleets) = (text(), text(), text(), vec![text()]);
    }
    for line in &mut view.lines {
        (line.of, line.text) = (text(), text());
    }
    view
}

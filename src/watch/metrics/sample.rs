//! A view for tests: something of everything.

use jiff::{SignedDuration, Timestamp};

use crate::digest::Digest;
use crate::fleet::glance::{Glance, States};
use crate::fleet::plan::Expected;
use crate::watch::view::{Case, Commit, Counts, Fleet, Git, Image, Instance, Job, Lead, Line, Nightly, View};

/// When it is.
pub const NOW: Timestamp = Timestamp::constant(1_764_079_000, 0);

/// What a person may write who may write a commit's message or an alert's name.
pub const HOSTILE: &str = "</main><script>x()</script>\"'&\\\n\u{1b}<b onclick=x()>";

pub fn ago(seconds: i64) -> Timestamp {
    NOW - SignedDuration::from_secs(seconds)
}

pub fn instance(fleet: &str, number: usize, health: &str, good: bool) -> Instance {
    Instance {
        id: format!("{fleet}-{number}"),
        known_as: None,
        image: Some("1f2e3d4c5b6a".to_owned()),
        state: "running".to_owned(),
        health: health.to_owned(),
        in_service: health == "healthy",
        address: None,
        zone: Some("a".to_owned()),
        launched: ago(7200),
        is: if good { "current" } else { "stale: image" }.to_owned(),
        good,
    }
}

pub fn fleet(name: &str, size: usize) -> Fleet {
    Fleet {
        name: name.to_owned(),
        image: "web".to_owned(),
        place: "this computer".to_owned(),
        size,
        seen: Some(ago(3)),
        trouble: None,
        instances: (0..size).map(|number| instance(name, number, "healthy", true)).collect(),
        rollout: Some("completed".to_owned()),
        remarks: Vec::new(),
        paused: None,
        glance: None,
        backup: None,
    }
}

fn rolling() -> Fleet {
    let mut fleet = fleet("web", 4);
    fleet.instances[2] = instance("web", 2, "unhealthy", false);
    fleet.instances[3] = instance("web", 3, "unknown", false);
    fleet.rollout = Some("rolling".to_owned());
    fleet.glance = Some(Glance {
        fleet: "web".to_owned(),
        target: Digest::of(b"new"),
        back: false,
        emergency: false,
        size: 4,
        states: States { current: 2, starting: 1, stale: 1, ..States::default() },
        wave: None,
        waves: 0,
        holds: Vec::new(),
        begun: ago(60),
        now: ago(2),
        expected: Expected::NoRecord,
    });
    fleet
}

fn lost() -> Fleet {
    Fleet {
        seen: None,
        trouble: Some("access denied".to_owned()),
        instances: Vec::new(),
        rollout: None,
        paused: Some(HOSTILE.to_owned()),
        ..fleet("db \"1\"\\\n2", 2)
    }
}

fn case(alert: &str, instance: usize, open: bool, held: bool) -> Case {
    Case {
        fleet: "web".to_owned(),
        alert: alert.to_owned(),
        instance: Some(format!("web-{instance}")),
        since: ago(400),
        state: "step 1 of 2".to_owned(),
        open,
        held,
    }
}

pub fn view() -> View {
    let commit = |id: &str, subject: &str| {
        Some(Commit { id: id.repeat(20), subject: subject.to_owned(), at: Some(ago(900)) })
    };
    View {
        at: NOW,
        started: ago(100_000),
        remote: "https://git.example/machines.git".to_owned(),
        branch: "main".to_owned(),
        lead: Lead { mine: true, leader: Some("process 1 on here".to_owned()), since: Some(ago(90_000)) },
        git: Git {
            head: commit("ab", HOSTILE),
            applied: commit("cd", "earlier"),
            state: "applying abab".to_owned(),
            bad: false,
            fetched: Some(ago(5)),
            trouble: None,
        },
        nightly: Some(Nightly { next: Some(ago(-3600)), ended: Some(ago(80_000)), code: Some(3) }),
        fleets: vec![lost(), rolling()],
        jobs: vec![Job {
            kind: "apply".to_owned(),
            what: "commit abab".to_owned(),
            since: ago(50),
            last: Some(HOSTILE.to_owned()),
        }],
        cases: vec![
            case("Disk\"Full\"", 1, true, true),
            case("Disk\"Full\"", 2, true, false),
            case("Over", 3, false, true),
        ],
        images: vec![Image {
            name: "web".to_owned(),
            id: Digest::of(b"new").to_string(),
            baked: ago(5000),
            verdict: "passed".to_owned(),
            size: 350 << 20,
            fleets: vec!["web".to_owned()],
        }],
        lines: vec![Line { at: ago(50), of: "watch".to_owned(), entry: 12, text: HOSTILE.to_owned() }],
        counts: Counts {
            fetches: 1000,
            fetch_failures: 3,
            jobs: vec![("apply".to_owned(), 0, 4), ("apply".to_owned(), 1, 1), ("apply".to_owned(), 0, 2)],
            alerts: 7,
            alerts_unknown: 2,
            replaced: 1,
        },
    }
}

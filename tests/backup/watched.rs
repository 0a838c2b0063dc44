//! `rekiln watch` takes backups by itself: one that fails is told once, shown, and left alone for a while.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use jiff::{SignedDuration, Timestamp};
use rekiln::chain::Writer;
use rekiln::watch::event::{Event, Job, Journal};
use serde_json::Value;

use super::played::{Is, Played};
use crate::change::git;
use crate::rolls::watcher::{Remote, Watcher};

/// Why nothing can be copied here.
const WHY: &str = "none of its 1 members is healthy and has all data";

/// What a webhook was sent since, if anything.
fn told(hook: &TcpListener) -> Vec<Value> {
    let mut all = Vec::new();
    while let Ok((mut stream, _)) = hook.accept() {
        stream.set_nonblocking(false).expect("set");
        let mut request = Vec::new();
        let body = loop {
            let mut some = [0; 4096];
            let read = stream.read(&mut some).expect("a request");
            request.extend_from_slice(&some[..read]);
            let text = String::from_utf8_lossy(&request);
            if let Some((_, body)) = text.split_once("\r\n\r\n")
                && let Ok(body) = serde_json::from_str(body)
            {
                break body;
            }
            assert!(read > 0, "it ends early: {text}");
        };
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .expect("answered");
        all.push(body);
    }
    all
}

/// Writes what a watcher did before: the commit was carried out and, so many minutes ago, a backup failed.
fn before(played: &Played, commit: &str, failed: Option<i64>) {
    let objects = played.stage.store().objects();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let now = Timestamp::now();
    let at = |minutes: i64| now - SignedDuration::from_mins(minutes);
    let apply = Job::Apply { commit: commit.to_owned() };
    let backup = Job::Backup { fleet: "db".to_owned(), commit: commit.to_owned() };
    let ended = |job: &Job, code, why: Option<&str>| Event::Ended {
        job: job.clone(),
        code,
        why: why.map(str::to_owned),
    };
    let mut events = vec![
        (at(60), Event::Leads),
        (at(59), Event::Began { job: apply.clone() }),
        (at(58), ended(&apply, 0, None)),
    ];
    if let Some(minutes) = failed {
        events.push((at(minutes + 1), Event::Began { job: backup.clone() }));
        events.push((at(minutes), ended(&backup, 1, Some("a reason"))));
        events.push((at(minutes), Event::Unsaved { fleet: "db".to_owned(), why: "a reason".to_owned() }));
    }
    events.push((at(0), Event::Leaves));
    let written = runtime.block_on(async {
        let mut journal = Journal::open(&objects, "main", Writer::this("a watcher")).await?;
        for (at, event) in events {
            journal.record(at, event).await?;
        }
        Ok::<_, rekiln::error::Error>(())
    });
    written.expect("written");
}

fn count(remote: &Remote<'_>, kind: &str) -> usize {
    remote.kinds().iter().filter(|other| *other == kind).count()
}

/// Waits until the fleet was looked at some times more.
fn looks(watcher: &Watcher, times: usize) {
    let seen = |view: &Value| view["fleets"][0]["seen"].clone();
    for _ in 0..times {
        let last = seen(&watcher.view());
        watcher.until_view("it looks", |view| seen(view) != last);
    }
}

#[test]
fn a_watcher_tells_of_a_backup_that_fails_and_waits() {
    let played = Played::new(Is::Sick);
    let hook = TcpListener::bind("127.0.0.1:0").expect("a port");
    hook.set_nonblocking(true).expect("set");
    let address = hook.local_addr().expect("bound");
    let file = played.stage.repo().join("fleets/db.toml");
    let text = fs::read_to_string(&file).expect("a file");
    fs::write(&file, format!("{text}[[notify]]\nwebhook = 'http://{address}/told'\n")).expect("written");
    let repo = played.stage.repo();
    git(&repo, &["init", "-q", "-b", "main"]);
    git(&repo, &["add", "images", "bootstrap", "fleets"]);
    git(&repo, &["commit", "-q", "-m", "a fleet with backups"]);
    let commit = git(&repo, &["rev-parse", "HEAD"]);
    let remote = Remote::of(&played.stage);
    remote.push(&commit);
    before(&played, &commit, None);
    let path = played.path();
    let watch = || remote.watch_in(&[("PATH", &path)], &[]);

    let watcher = watch();
    watcher.until("a backup that failed", |_| (count(&remote, "ended backup") == 1).then_some(()));
    let entries = remote.journal();
    let ended = entries
        .iter()
        .find(|entry| entry["event"]["kind"] == "ended" && entry["event"]["job"]["do"] == "backup");
    let ended = &ended.expect("it ended")["event"];
    assert_eq!(ended["code"], 1, "{ended:#}");
    assert!(ended["why"].as_str().is_some_and(|why| why.contains(WHY)), "{ended:#}");
    let mut news = Vec::new();
    watcher.until("it is told", |_| {
        news.extend(told(&hook));
        (!news.is_empty()).then_some(())
    });
    assert_eq!(news[0]["event"], "backup_failed", "{news:?}");
    assert!(news[0]["text"].as_str().is_some_and(|text| text.contains(WHY)), "{news:?}");
    let view = watcher.until_view("it is shown", |view| {
        let lacks = &view["fleets"][0]["backup"];
        lacks.as_str().is_some_and(|lacks| lacks.contains("no backup counts") && lacks.contains(WHY))
    });
    assert_eq!(view["fleets"][0]["name"], "db");
    let page = watcher.http("GET", "/", "").1;
    assert!(page.contains("Fleet db: no backup counts") && page.contains(WHY), "{page}");
    for line in [
        "rekiln_jobs_total{kind=\"backup\",exit_code=\"1\"} 1",
        "rekiln_jobs_running{kind=\"backup\"} 0",
        "rekiln_fleet_backup_attention{fleet=\"db\"} 1",
    ] {
        assert!(watcher.metric(line), "{line}: {}", watcher.http("GET", "/metrics", "").1);
    }
    // It is not tried in a loop, not told twice, and another watcher knows that, too.
    looks(&watcher, 4);
    assert_eq!((count(&remote, "began backup"), count(&remote, "unsaved")), (1, 1), "{:?}", remote.kinds());
    watcher.stop().must(0);
    let second = watch();
    second.until("it leads", |second| second.leads().then_some(()));
    looks(&second, 2);
    assert_eq!(count(&remote, "began backup"), 1, "{:?}", remote.kinds());
    second.until_view("it is shown again", |view| {
        view["fleets"][0]["backup"].as_str().is_some_and(|lacks| lacks.contains(WHY))
    });
    second.stop().must(0);

    // One that failed a quarter of an hour ago is tried again, and people heard of it already.
    fs::remove_dir_all(played.stage.path("store/watch")).expect("removed");
    before(&played, &commit, Some(16));
    let third = watch();
    third.until("it is tried again", |_| (count(&remote, "ended backup") == 2).then_some(()));
    looks(&third, 3);
    assert_eq!((count(&remote, "began backup"), count(&remote, "unsaved")), (2, 1), "{:?}", remote.kinds());
    third.stop().must(0);
    assert_eq!(told(&hook), Vec::<Value>::new());
    // Nothing of it is left at the target but that somebody was there.
    assert!(played.kinds().iter().all(|kind| kind == "opened" || kind == "closed"), "{:?}", played.kinds());
}

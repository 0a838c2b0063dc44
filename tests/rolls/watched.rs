//! `rekiln watch`: a branch is carried out, fleets are kept, alerts are answered, and another watcher goes on.

use std::fs;
use std::ops::Deref;
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};
use rekiln::chain::Writer;
use rekiln::watch::event::{Event, Journal};
use serde_json::{Value, json};

use super::merged::{Site, commit, page};
use super::stage::{instance, members};
use super::watcher::{Remote, SECRET, Watcher};
use crate::change::git;
use crate::publish::stage::Stage;

/// A site with a remote that watchers follow.
pub(super) struct Watched<'a> {
    pub(super) site: Site<'a>,
    stage: &'a Stage,
    remote: Remote<'a>,
}

impl<'a> Deref for Watched<'a> {
    type Target = Remote<'a>;

    fn deref(&self) -> &Remote<'a> {
        &self.remote
    }
}

impl<'a> Watched<'a> {
    pub(super) fn on(stage: &'a Stage) -> Self {
        let site = Site::on(stage);
        Self { site, stage, remote: Remote::of(stage) }
    }

    /// Ids of the members of the group `web`.
    fn members(&self) -> Vec<String> {
        let state = self.stage.cloud.state();
        let mut groups = state["groups"].as_array().expect("a list").iter();
        let group = groups.find(|group| group["name"] == "web").expect("the group");
        members(group).iter().map(|member| instance(member)).collect()
    }
}

#[test]
fn a_push_is_carried_out_what_is_sick_is_replaced_and_alerts_are_answered() {
    let stage = Stage::new();
    let place = Watched::on(&stage);
    let site = &place.site;
    let new = [site.group.wanted.id.clone()];
    place.push(&site.old);
    let watcher = place.watch(&[]);
    watcher.applied(&site.old);

    // What an alert means, and the new page, in one push.
    let told = stage.path("told");
    let file = stage.repo().join("fleets/web.toml");
    let text = fs::read_to_string(&file).expect("a file");
    let rules = "\n[[alert]]\nname = 'Slow'\nmatch = { severity = 'page' }\nplaybook = 'look'\nwithin = '2s'\n\
                 limit = '1/h'\n[[alert]]\nname = 'Steal'\n";
    fs::write(&file, format!("{text}{rules}")).expect("written");
    fs::create_dir(stage.repo().join("fleets/playbooks")).expect("a folder");
    let step = format!("[[step]]\ncommand = ['sh', '-c', 'cat >> {}']\ntimeout = '2s'\n", told.display());
    fs::write(stage.repo().join("fleets/playbooks/look.toml"), step).expect("written");
    page(&stage, "the page that is asked for");
    let merged = commit(&stage, "a page, and what to do when it is slow");
    place.push(&merged);
    watcher.pushed();
    let view = watcher.applied(&merged);
    assert_eq!(site.run(), [&new; 3]);
    assert_eq!(view["git"]["applied"]["subject"], "a page, and what to do when it is slow");
    assert_eq!((&view["git"]["bad"], &view["lead"]["mine"]), (&json!(false), &json!(true)));

    // A member whose checks fail is replaced, with nobody's doing.
    let sick = place.members().remove(0);
    stage.cloud.control("instances", &json!({ "instance": sick, "health": "unhealthy" }));
    watcher.until("another member", |_| (!place.members().contains(&sick)).then_some(()));
    watcher.until_whole();
    assert!(place.kinds().contains(&"ended keep".to_owned()), "{:?}", place.kinds());

    // An alert: its playbook does not help, so its instance goes.
    let slow = place.members().remove(0);
    assert!(watcher.alert("Slow", "i-0123456789abcdef0", "firing").contains("no fleet has a rule for it"));
    assert!(watcher.alert("Fast", &slow, "firing").contains("no fleet has a rule for it"));
    assert_eq!(watcher.alert("Slow", &slow, "firing"), "Slow: taken");
    // Senders say it again.
    watcher.alert("Slow", &slow, "firing");
    watcher.until("another member", |_| (!place.members().contains(&slow)).then_some(()));
    let over = "its instance was replaced";
    watcher.until_view("it is over", |view| view["cases"][0]["state"] == over && view["jobs"] == json!([]));
    let document: Value = serde_json::from_slice(&fs::read(&told).expect("it was told")).expect("JSON");
    assert_eq!(
        (&document["labels"]["instance"], &document["summary"]),
        (&json!(slow), &json!("it is <slow>"))
    );
    assert!(watcher.metric("rekiln_replaced_total 1"), "{}", watcher.http("GET", "/metrics", "").1);

    // A second one within the hour is one too many, until it is resolved.
    let next = place.members().remove(0);
    watcher.until_whole();
    watcher.alert("Slow", &next, "firing");
    let held = watcher.until_view("it is held", |view| view["cases"][0]["held"] == true);
    assert!(held["cases"][0]["state"].as_str().expect("a state").contains("may take 1 an hour"), "{held:#}");
    assert!(watcher.metric("rekiln_alerts_held{fleet=\"web\",alert=\"Slow\"} 1"));
    watcher.alert("Slow", &next, "resolved");
    watcher.until_view("it is over", |view| view["cases"][0]["open"] == false);
    assert_eq!(place.members(), std::slice::from_ref(&next));

    // An alarm of CloudWatch, as SNS sends it: EC2's name for the instance, which rekiln launched under another one.
    let alarm = json!({
        "AlarmName": "Steal", "NewStateValue": "ALARM", "NewStateReason": "Threshold crossed",
        "Trigger": { "Dimensions": [{ "name": "InstanceId", "value": next }] },
    });
    let body = json!({ "Type": "Notification", "Message": alarm.to_string() }).to_string();
    assert_eq!(watcher.http_as("Basic d2F0Y2g6d3Jvbmc=", "POST", "/hooks/cloudwatch", &body).0, 401);
    let sns = format!("Basic {}", BASE64_STANDARD.encode(format!("sns:{SECRET}")));
    let (status, said) = watcher.http_as(&sns, "POST", "/hooks/cloudwatch", &body);
    assert_eq!((status, said.trim_end()), (200, "Steal: taken"));
    watcher.until("another member", |_| (!place.members().contains(&next)).then_some(()));
    watcher.until_view("it is over", |view| view["cases"][0]["state"] == over && view["jobs"] == json!([]));

    // It ends in order, and leaves nothing.
    assert_eq!(watcher.stop().must(0).events("ends").len(), 1);
    let kinds = place.kinds();
    assert_eq!(
        (kinds.first().map(String::as_str), kinds.last().map(String::as_str)),
        (Some("leads"), Some("leaves"))
    );
    assert_eq!(crate::bake::names(&stage.path("store/tmp")), [""; 0]);
    // Every roll that it began is in the fleet's own journal, with its reason.
    let history = site.group.run(&["history", "web", "--entries"]).must(0).stderr;
    for reason in [
        "merge of ",
        "kept: 1 unhealthy",
        "alert Slow{severity=\"page\"}, which its playbook did not resolve",
    ] {
        assert!(history.contains(reason), "{reason}: {history}");
    }
}

#[test]
fn another_watcher_goes_on_where_the_first_was_killed() {
    let stage = Stage::new();
    let place = Watched::on(&stage);
    let site = &place.site;
    place.push(&site.old);
    let mut first = place.watch(&[]);
    first.until_view("it leads", |view| view["lead"]["mine"] == true);
    let second = place.watch(&[]);
    second.until_view("it follows", |view| view["lead"]["leader"].is_string());
    assert!(!second.leads());
    first.applied(&site.old);
    stage.cloud.forget_calls();
    place.push(&site.new);
    // Whoever is told of it: both look, one acts.
    first.pushed();
    second.pushed();
    let acts = |call: &String| call == "LaunchInstances" || call == "SetDesiredCapacity";
    first.until("a roll", |_| stage.cloud.changes().iter().any(acts).then_some(()));
    first.started.child.kill().expect("killed");
    assert_eq!(first.started.end().code, None);
    second.applied(&site.new);
    let new = [site.group.wanted.id.clone()];
    assert_eq!(site.run(), [&new; 3]);
    assert!(second.leads());
    let kinds = place.kinds();
    let count = |kind: &str| kinds.iter().filter(|other| *other == kind).count();
    // Begun again by the second one, be it before the command of the first had stopped: the first never said how it ended.
    assert_eq!((count("leads"), count("began apply") - count("ended apply")), (2, 1), "{kinds:?}");
    // The first comes back and follows.
    let third = place.watch(&[]);
    third.until_view("it follows", |view| view["lead"]["leader"].is_string());
    assert!(!third.leads() && second.leads());
    second.stop().must(0);
    third.until("it leads", |third| third.leads().then_some(()));
    third.stop().must(0);
    assert_eq!(crate::bake::names(&stage.path("store/tmp")), [""; 0]);
}

#[test]
fn what_cannot_be_carried_out_is_said_and_the_next_commit_mends_it() {
    let stage = Stage::new();
    let place = Watched::on(&stage);
    let site = &place.site;
    place.push(&site.old);
    let watcher = place.watch(&[]);
    watcher.applied(&site.old);
    stage.cloud.forget_calls();
    let bad = |watcher: &Watcher, commit: &str, words: &str| {
        watcher.pushed();
        watcher.until_view(words, |view| {
            let how = view["git"]["state"].as_str().expect("a state");
            view["git"]["head"]["id"] == commit && view["git"]["bad"] == true && how.contains(words)
        });
    };
    // A slip in a file.
    let file = stage.repo().join("fleets/web.toml");
    let text = fs::read_to_string(&file).expect("a file");
    fs::write(&file, format!("{text}\n[[alert]]\nname = 'Slow'\nplaybok = 'look'\n")).expect("written");
    let broken = commit(&stage, "a slip");
    place.push(&broken);
    bad(&watcher, &broken, "playbok");
    assert!(watcher.metric("rekiln_git_behind 1"));
    // History that was rewritten: what runs is not taken back by it.
    let tree = format!("{}^{{tree}}", site.old);
    let rewritten = git(&stage.repo(), &["commit-tree", &tree, "-m", "nothing was before"]);
    place.push(&rewritten);
    bad(&watcher, &rewritten, "does not come after it");
    // Neither is tried again, and the next commit is.
    fs::write(&file, text).expect("written");
    let mended = commit(&stage, "mended");
    place.push(&mended);
    watcher.pushed();
    watcher.applied(&mended);
    let new = [site.group.wanted.id.clone()];
    assert_eq!(site.run(), [&new; 3]);
    let kinds = place.kinds();
    assert_eq!(kinds.iter().filter(|kind| *kind == "began apply").count(), 4, "{kinds:?}");
    watcher.stop().must(0);
    // Who asks for signatures gets nothing carried out that nobody signed.
    let (key, allowed) = (stage.path("key"), stage.path("allowed"));
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
    assert!(made.expect("ssh-keygen runs").success());
    let public = fs::read_to_string(key.with_extension("pub")).expect("a key");
    fs::write(&allowed, format!("t@localhost {public}")).expect("written");
    let strict = place.watch(&["--allowed-signers", &allowed.display().to_string()]);
    page(&stage, "an old page");
    let unsigned = commit(&stage, "nobody's word");
    place.push(&unsigned);
    bad(&strict, &unsigned, "sign");
    assert_eq!(site.run(), [&new; 3]);
    strict.stop().must(0);
}

#[test]
fn a_night_begins_when_it_is_due_and_is_not_begun_twice() {
    let stage = Stage::new();
    let place = Watched::on(&stage);
    place.push(&place.site.new);
    // Someone has watched since the morning, and ended before the night was due.
    let now = Timestamp::now();
    let (morning, due) = (now - SignedDuration::from_hours(3), now - SignedDuration::from_hours(1));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime
        .block_on(async {
            let objects = stage.store().objects();
            let mut journal = Journal::open(&objects, "main", Writer::this("a watcher")).await?;
            journal.record(morning, Event::Leads).await?;
            journal.record(morning, Event::Leaves).await
        })
        .expect("written");
    let night = due.strftime("%H:%M").to_string();
    let watcher = place.watch(&["--nightly", &night]);
    let ended = |watcher: &Watcher| {
        let events = watcher.events();
        let event =
            events.iter().find(|event| event["kind"] == "ended" && event["job"]["do"] == "nightly")?;
        Some(event.clone())
    };
    let event = watcher.until("the night is over", ended);
    // There is no archive, so that no image could be resolved; whatever can be, `tests/nightly` tries.
    assert_eq!(event["code"], 1, "{event:#}");
    assert_eq!(event["job"]["base"], place.site.new.as_str());
    watcher.applied(&place.site.new);
    assert!(watcher.metric("rekiln_nightly_last_exit_code 1"));
    watcher.stop().must(0);
    // It was begun, so another watcher leaves it to the next night.
    let second = place.watch(&["--nightly", &night]);
    second.until_whole();
    second.until("it leads", |second| second.leads().then_some(()));
    second.stop().must(0);
    assert_eq!(place.kinds().iter().filter(|kind| *kind == "began nightly").count(), 1);
}

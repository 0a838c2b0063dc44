//! Commands that a second terminal gives to a roll, and an emergency that takes it over: real processes, a real `HAProxy`,
//! and not one request lost.

use std::process::Command;
use std::time::Duration;

use rekiln::digest::Digest;
use rekiln::fleet::history::Event;
use rekiln::provider::Action;

use super::at;
use super::point::When;
use super::stage::{Stage, none_failed, said, wait_until};

/// Gives a command, which must succeed. Returns what it says.
fn says(stage: &Stage, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rekiln"));
    command.args(["--repo", env!("CARGO_MANIFEST_DIR"), "--store"]).arg(stage.store.root()).args(args);
    let output = command.output().expect("rekiln runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &said(&output);
    assert!(output.status.success(), "{text}");
    text
}

/// Returns how many instances have served, and how many drains were begun since the journal's first pause.
async fn since_the_pause(stage: &Stage) -> (usize, usize) {
    let journal = stage.journal().await;
    let events = journal.entries().iter().map(|entry| &entry.event);
    let events: Vec<_> = events.skip_while(|event| !matches!(event, Event::Paused { .. })).collect();
    let count = |is: fn(&Event) -> bool| events.iter().filter(|event| is(event)).count();
    (
        count(|event| matches!(event, Event::Serving { .. })),
        count(|event| matches!(event, Event::Intent { action: Action::Drain { .. } })),
    )
}

async fn served(stage: &Stage, image: Digest) -> bool {
    let census = rekiln::provider::Provider::census(&stage.local).await.expect("a census");
    census.instances.iter().any(|instance| instance.serves() && instance.image == Some(image))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_keeps_what_serves_until_it_is_lifted() {
    let stage = Stage::new();
    stage.roll(stage.image("first")).await;
    let load = stage.load();
    let second = stage.image("second");
    let mut rolling = stage.roll_reaches(second, &at("launch", When::Late));
    let text = says(&stage, &["pause", "web", "--reason", "a look"]);
    assert!(text.contains("takes it up before its next act"), "{text}");
    stage.go_on();
    // What was begun is finished: the new one comes to serve. Then several looks pass in which nothing old goes.
    let runtime = tokio::runtime::Handle::current();
    let serves = || tokio::task::block_in_place(|| runtime.block_on(served(&stage, second)));
    assert!(wait_until(serves), "the one that was launched never served");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!rolling.over(), "a paused roll waits");
    assert_eq!(since_the_pause(&stage).await, (1, 0));
    let text = says(&stage, &["status", "web"]);
    assert!(text.contains("paused: a look"), "{text}");
    says(&stage, &["resume", "web"]);
    let output = rolling.end();
    assert!(output.status.success(), "{}", said(&output));
    stage.assert_converged(second).await;
    none_failed(load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_roll_goes_back_with_what_was_replaced_already() {
    let stage = Stage::new();
    let first = stage.image("first");
    stage.roll(first).await;
    let load = stage.load();
    let rolling = stage.roll_reaches(stage.image("second"), &at("terminate", When::Late));
    let text = says(&stage, &["cancel", "web", "--back", "--reason", "errors"]);
    assert!(text.contains("goes back to"), "{text}");
    stage.go_on();
    let output = rolling.end();
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("was rolled back"), "{}", said(&output));
    stage.assert_converged(first).await;
    none_failed(load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_takes_a_roll_over_whose_launch_comes_too_late() {
    let stage = Stage::new();
    stage.roll(stage.image("first")).await;
    let load = stage.load();
    let rolling = stage.roll_reaches(stage.image("second"), &at("launch", When::Late));
    let third = stage.image("third");
    let emergency = stage.emergency(third).end();
    assert!(emergency.status.success(), "{}", said(&emergency));
    stage.assert_converged(third).await;
    // Now it does what it had written before, and makes nothing.
    stage.go_on();
    let lost = rolling.end();
    assert_eq!(lost.status.code(), Some(4), "{}", said(&lost));
    assert!(said(&lost).contains("has the journal of web"), "{}", said(&lost));
    stage.assert_converged(third).await;
    none_failed(load).await;
}

//! `rekiln history`: what a person reads at night, and what a machine reads.

use rekiln::fleet::history::Event;

use super::{Desk, short};

#[test]
fn a_history_is_a_list_and_the_story_of_the_last_rollout() {
    let desk = Desk::new();
    let history = ["history", "web"];
    desk.journal(vec![desk.opened("one"), Event::Completed], false);
    desk.journal(vec![desk.opened("two"), Event::Halted { reason: "2 failed".to_owned() }], false);
    desk.says(&history, 0, "halted: 2 failed, after 0 s\n");
    desk.says(&history, 0, &format!("to {}  0 s  completed\n", short("one")));
    desk.says(&history, 0, &format!("rollout 3 of web to {}: a test\n", short("two")));
    desk.says(&["history", "web", "1"], 0, &format!("rollout 1 of web to {}: a test\n", short("one")));
    desk.says(&["history", "web", "2"], 2, "hint:  rollouts were opened by entries 1, 3");
    desk.says(&["history", "web", "--entries"], 0, &format!("roll to {}: a test, by `", short("one")));
    desk.says(&["history", "web", "1", "--entries"], 2, "cannot be used with");

    let objects = |args: &[&str]| {
        let output = desk.run(args);
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let objects = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        objects.collect::<Vec<_>>()
    };
    let all = objects(&["--json", "history", "web"]);
    let numbers: Vec<_> = all.iter().filter_map(|object| object["number"].as_u64()).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    let rollouts: Vec<_> = all.iter().filter(|object| object["event"] == "rollout").collect();
    assert_eq!(rollouts.len(), 2);
    assert_eq!(rollouts[1]["rollout"]["end"]["how"], "halted: 2 failed");
    assert_eq!(
        (&rollouts[1]["rollout"]["rollout"], &rollouts[1]["rollout"]["failed"]),
        (&3.into(), &0.into())
    );
    let first = objects(&["--json", "history", "web", "1"]);
    assert_eq!(first.len(), 3, "its two entries, and what they add up to: {first:?}");

    // While someone rolls, who that is; and when that one is gone, what goes on.
    desk.journal(vec![desk.opened("three")], true);
    desk.says(&history, 0, "it goes on, by `rekiln roll web` (process ");
    let gone = Desk::new();
    gone.journal(vec![gone.opened("one")], false);
    gone.says(&history, 0, "its process ended without a word; `rekiln roll web` goes on");
}

//! `rekiln check` of rules for alerts and of playbooks.

use super::{edit, rekiln, repository, stderr, stdout};

/// Rules for alerts at the end of a fleet's file, and the playbook of one of them.
const RULES: &str = r#"
[[alert]]
name = "HighErrorRate"
match = { severity = "page" }
playbook = "restart"
within = "5m"

[[alert]]
name = "Unreachable"
"#;
const PLAYBOOK: &str = r#"description = "Restarts the service"

[[step]]
name = "drop the cache"
http = "http://{address}/flush"
on_failure = "continue"

[[step]]
wait = { resolved = true }
timeout = "2m"

[[step]]
rotate = true
"#;

/// Makes a repository with rules and a playbook.
fn answering() -> tempfile::TempDir {
    let dir = repository();
    let file = dir.path().join("fleets/web.toml");
    let fleet = std::fs::read_to_string(&file).expect("the fleet");
    std::fs::write(file, fleet + RULES).expect("written");
    std::fs::create_dir(dir.path().join("fleets/playbooks")).expect("a folder");
    std::fs::write(dir.path().join("fleets/playbooks/restart.toml"), PLAYBOOK).expect("written");
    // What no rule has is checked as well, and fine.
    std::fs::write(dir.path().join("fleets/playbooks/unused.toml"), PLAYBOOK).expect("written");
    dir
}

#[test]
fn rules_and_playbooks() {
    let dir = answering();
    let output = rekiln(dir.path(), &["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "2 recipes, 4 templates, 1 fleet and 2 playbooks are fine\n");
}

#[test]
fn broken_rules_and_playbooks() {
    let dir = answering();
    let (fleet, playbook) = ("fleets/web.toml", "fleets/playbooks/restart.toml");
    edit(dir.path(), fleet, "playbook = \"restart\"", "playbook = \"unused\"");
    edit(dir.path(), fleet, "within = \"5m\"", "within = \"2m\"");
    edit(dir.path(), fleet, "{ severity = ", "{ alertname = ");
    edit(dir.path(), fleet, "\"Unreachable\"", "\"Unreachable\"\nlimit = \"2\"\nplaybook = \"restrt\"");
    edit(dir.path(), playbook, "{address}", "{adress}");
    edit(dir.path(), playbook, "on_failure = \"continue\"", "on_failure = \"go on\"");
    edit(dir.path(), playbook, "resolved = true", "resolvd = true");
    edit(dir.path(), playbook, "rotate = true", "rotate = true\n\n[[step]]\ncommand = []");
    edit(dir.path(), "fleets/playbooks/unused.toml", "http = ", "wait = { resolved = true }\nhttp = ");
    let output = rekiln(dir.path(), &["check"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stdout(&output), "");
    insta::assert_snapshot!(stderr(&output), @r###"
    fleets/playbooks/restart.toml:5:8: nothing stands for `{adress}`
      5 | http = "http://{adress}/flush"
        |        ^^^^^^^^^^^^^^^^^^^^^^^
      help: did you mean `{address}`?

    fleets/playbooks/restart.toml:6:14: unknown value "go on"
      6 | on_failure = "go on"
        |              ^^^^^^^
      help: one of "stop", "continue"

    fleets/playbooks/restart.toml:9:10: unknown key `resolvd` in [step.wait]
      9 | wait = { resolvd = true }
        |          ^^^^^^^
      help: did you mean `resolved`?

    fleets/playbooks/restart.toml:13:10: the instance is gone after this: it must be the last step
      13 | rotate = true
         |          ^^^^

    fleets/playbooks/restart.toml:16:11: a command begins with a program
      16 | command = []
         |           ^^

    fleets/playbooks/unused.toml:3:1: a step has exactly one of `command`, `http`, `wait`, `rotate`; here is `http`, `wait`
      3 | [[step]]
        | ^^^^^^^^

    fleets/web.toml:23:23: `alertname` is `name`, and no label here
      23 | match = { alertname = "page" }
         |                       ^^^^^^

    fleets/web.toml:25:10: 2 min is less than the steps of `unused` may take in all, 3 min: the instance would be replaced in the middle
      25 | within = "2m"
         |          ^^^^

    fleets/web.toml:27:1: `within` is missing: how long the playbook `restrt` has until the instance is replaced
      27 | [[alert]]
         | ^^^^^^^^^

    fleets/web.toml:29:9: `2` is not a rate such as "20/h": so many an hour
      29 | limit = "2"
         |         ^^^

    fleets/web.toml:30:12: there is no playbook `fleets/playbooks/restrt.toml`
      30 | playbook = "restrt"
         |            ^^^^^^^^
      help: did you mean `restart`?

    error: 11 errors in the repository's files
    "###);
}

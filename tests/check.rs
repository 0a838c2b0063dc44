//! `rekiln check`, `init` and `id` as people and scripts see them.

mod playbooks;
mod shards;

use std::path::Path;
use std::process::{Command, Output};

/// Runs rekiln in `dir`, with nothing of this machine's environment.
fn rekiln(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rekiln"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", dir)
        .output()
        .expect("rekiln starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Makes a repository as `init` writes it.
fn repository() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let output = rekiln(dir.path(), &["init", "."]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    dir
}

fn edit(dir: &Path, name: &str, from: &str, to: &str) {
    let path = dir.join(name);
    let text = std::fs::read_to_string(&path).expect("the file is there");
    assert!(text.contains(from), "{name} has no `{from}`");
    std::fs::write(path, text.replace(from, to)).expect("it can be written");
}

/// Every file with its content.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push((path.display().to_string(), std::fs::read(&path).expect("a file")));
        }
    }
    all.sort();
    all
}

#[test]
fn init_writes_a_repository_that_passes() {
    let dir = repository();
    let output = rekiln(dir.path(), &["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "2 recipes, 4 templates and 1 fleet are fine\n");
}

#[test]
fn init_refuses_a_used_directory() {
    let dir = repository();
    let before = files(dir.path());
    let output = rekiln(dir.path(), &["init", "."]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("is not empty"), "{}", stderr(&output));
    assert_eq!(files(dir.path()), before);
}

#[test]
fn several_errors_at_once() {
    let dir = repository();
    edit(dir.path(), "images/web.toml", "packages =", "packges =");
    edit(dir.path(), "images/web.toml", "web/index.html.hbs", "web/indx.html.hbs");
    edit(dir.path(), "images/base.toml", "bookworm", "bookwrm");
    edit(dir.path(), "fleets/web.toml", "image = \"web\"", "image = \"wbe\"");
    edit(dir.path(), "fleets/web.toml", "\"256M\"", "\"256 megs\"");
    edit(dir.path(), "fleets/web.toml", "surge = 1 ", "surge = 0 ");
    let before = files(dir.path());
    let output = rekiln(dir.path(), &["check"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stdout(&output), "");
    insta::assert_snapshot!(stderr(&output), @r###"
    fleets/web.toml:1:9: there is no recipe `images/wbe.toml`
      1 | image = "wbe"
        |         ^^^^^
      help: did you mean `web`?

    fleets/web.toml:5:10: `256 megs` is not a size such as "256M" or "1G"
      5 | memory = "256 megs"
        |          ^^^^^^^^^^

    fleets/web.toml:15:9: `surge` and `unavailable` are both 0: no instance could ever be replaced
      15 | surge = 0           # one machine more than `size` while rolling
         |         ^

    images/base.toml:14:10: `bookwrm` is not a Debian suite that rekiln bakes
      14 | debian = "bookwrm"
         |          ^^^^^^^^^
      help: did you mean `bookworm`?

    images/web.toml:3:1: unknown key `packges`
      3 | packges = ["nginx-light"]
        | ^^^^^^^
      help: did you mean `packages`?

    images/web.toml:17:12: there is no template `bootstrap/web/indx.html.hbs`
      17 | template = "web/indx.html.hbs"
         |            ^^^^^^^^^^^^^^^^^^^
      help: did you mean `web/index.html.hbs`?

    error: 6 errors in the repository's files
    "###);
    assert_eq!(files(dir.path()), before, "check changes nothing");
}

/// A fleet's pace in one line each, so that a row can replace one key; line 3 is `[local]`, line 9 is `[roll]`.
const PACE: &str = "image = \"web\"
size = 10
[local]
listen = \"127.0.0.1:8080\"
port = 80
zones = [\"a\", \"b\"]
[health]
http = { port = 80, path = \"/\" }
[roll]
surge = 1
unavailable = 0
canary = 1
waves = [\"25%\", \"100%\"]
soak = \"30s\"
drain = \"10s\"
zones = \"one-at-a-time\"
windows = [\"Mon-Fri 08:00-18:00 Europe/Berlin\"]
except = [\"2026-12-24..2026-12-26 Europe/Berlin\"]
rate = \"20/h\"
guard = \"50%\"
breaker = { failures = 3, within = \"24h\" }
[replace]
max_age = \"14d\"
";

/// What is replaced, by what, and what is said.
const NONSENSE: [(&str, &str, &[&str]); 38] = [
    ("", "", &[]),
    ("canary = 1", "canary = 0", &[]),
    ("canary = 1", "canary = \"5%\"", &[]),
    (
        "waves = [\"25%\", \"100%\"]",
        "waves = [1, \"11%\", 10]",
        &["13:10: a wave is more than what came before: 1 is not more than the canary, 1"],
    ),
    ("size = 10", "size = 2", &[]),
    ("\"24h\"", "\"0s\"", &["21:36: `0s` is no time for anything"]),
    ("failures = 3, within = \"24h\"", "failures = 0, within = \"0s\"", &[]),
    (
        "canary = 1",
        "canary = 11",
        &[
            "12:10: 11 is more than the fleet's size, 10",
            "13:10: a wave is more than what came before: 25% is not more than the canary, 11",
        ],
    ),
    ("canary = 1", "canary = \"all\"", &["12:10: `all` is not a count or a share such as \"25%\""]),
    (
        "\"25%\", \"100%\"",
        "\"25%\", \"25%\"",
        &["13:17: a wave is more than what came before: 25% is not more than the wave before, 25%"],
    ),
    ("\"25%\", \"100%\"", "\"25%\", \"110%\"", &["13:17: `110%` is not a count or a share such as \"25%\""]),
    ("\"25%\", \"100%\"", "\"25%\", 12", &["13:17: 12 is more than the fleet's size, 10"]),
    ("\"25%\", \"100%\"", "0, 5", &["13:10: a wave of nothing replaces nothing: at least 1, or \"1%\""]),
    ("\"30s\"", "\"30\"", &["14:8: `30` is not a duration such as \"60s\", \"5m\" or \"2h\""]),
    ("\"30s\"", "\"90000h\"", &["14:8: `90000h` is more than ten years"]),
    ("\"10s\"", "\"-1s\"", &["15:9: `-1s` is not a duration such as \"60s\", \"5m\" or \"2h\""]),
    (
        "zones = [\"a\", \"b\"]",
        "",
        &["16:9: `one-at-a-time` needs zones, and there are none: name them in `zones` of [local]"],
    ),
    (
        "\"one-at-a-time\"",
        "\"one-at-time\"",
        &["16:9: unknown value \"one-at-time\"", "help: did you mean \"one-at-a-time\"?"],
    ),
    ("[\"a\", \"b\"]", "[\"a\", \"a\"]", &["6:15: the zone `a` is there already"]),
    (
        "[\"a\", \"b\"]",
        "[\"a\", \"B 1\"]",
        &["6:15: `B 1` is not a name: lower-case letters, digits and `-`, beginning with a letter"],
    ),
    (
        "Mon-Fri",
        "Mon-Fry",
        &[
            "17:12: window `Mon-Fry 08:00-18:00 Europe/Berlin`: `Fry` is not a day",
            "help: did you mean `Fri`?",
        ],
    ),
    (
        "18:00 Europe/Berlin",
        "18:00 Europe/Berln",
        &[
            "17:12: window `Mon-Fri 08:00-18:00 Europe/Berln`: `Europe/Berln` is not a time zone",
            "help: did you mean `Europe/Berlin`?",
        ],
    ),
    (
        "2026-12-26",
        "26.12.2026",
        &[
            "18:11: exception `2026-12-24..26.12.2026 Europe/Berlin`: `26.12.2026` is not a date such as \"2026-12-24\"",
        ],
    ),
    (
        "2026-12-26",
        "2027-12-30",
        &["18:11: from the first of these days on, nothing could be replaced for more than a year"],
    ),
    (
        "24..2026-12-26 Europe/Berlin",
        "24..2027-07-01\", \"2027-06-30..2028-01-10",
        &["18:11: from the first of these days on, nothing could be replaced for more than a year"],
    ),
    ("20/h", "20/m", &["19:8: `20/m` is not a rate such as \"20/h\": so many an hour"]),
    ("20/h", "0/h", &["19:8: `0/h` is not a rate such as \"20/h\": so many an hour"]),
    ("\"50%\"", "\"half\"", &["20:9: `half` is not a share such as \"25%\""]),
    ("\"24h\"", "\"a day\"", &["21:36: `a day` is not a duration such as \"60s\", \"5m\" or \"2h\""]),
    ("\"14d\"", "\"0d\"", &["23:11: `0d` is no time for anything"]),
    ("\"14d\"", "\"0h\"", &["23:11: `0h` is no time for anything"]),
    ("max_age", "max_aeg", &["23:1: unknown key `max_aeg` in [replace]", "help: did you mean `max_age`?"]),
    (
        "surge = 1",
        "max_age = \"14d\"",
        &["10:1: unknown key `max_age` in [roll]", "help: `max_age` belongs in [replace]"],
    ),
    (
        "surge = 1",
        "size = 3",
        &["10:1: unknown key `size` in [roll]", "help: `size` belongs at the top, before the first section"],
    ),
    (
        "surge = 1",
        "samples = 3",
        &["10:1: unknown key `samples` in [roll]", "help: `samples` belongs in [[gate]]"],
    ),
    (
        "surge = 1",
        "surge = 0",
        &["10:9: `surge` and `unavailable` are both 0: no instance could ever be replaced"],
    ),
    (
        "surge = 1\nunavailable = 0",
        "surge = 0\nunavailable = \"9%\"",
        &["11:15: `9%` of 10 is less than one, and `surge` is 0: no instance could ever be replaced"],
    ),
    (
        "surge = 1",
        "surge = 0.5",
        &["10:9: expected a whole number or text in quotes, found a number with a fraction"],
    ),
];

/// A recipe that is published, in one line for each key; line 3 is `[publish]`.
const PUBLISH: &str = "[source]
debian = \"bookworm\"
[publish]
regions = [\"eu-west-1\", \"us-east-1\"]
accounts = [\"111122223333\"]
organisations = [\"arn:aws:organizations::111122223333:organization/o-a1b2c3d4e5\"]
kms = { eu-west-1 = \"arn:aws:kms:eu-west-1:111122223333:key/1234abcd\" }
tags = { team = \"web\" }
deprecate_after = \"90d\"
parameter = \"/images/web\"
protect = true
";

/// What is replaced, by what, and what is said.
const NONSENSE_PUBLISHED: [(&str, &str, &[&str]); 10] = [
    ("", "", &[]),
    (
        "\"us-east-1\"",
        "\"us-east-1a\"",
        &["4:25: `us-east-1a` is not an AWS region such as \"eu-west-1\"", "help: did you mean `us-east-1`?"],
    ),
    (
        "regions = [\"eu-west-1\", \"us-east-1\"]",
        "",
        &[
            "3:1: nothing is published without `regions`",
            "help: name them, such as `regions = [\"eu-west-1\"]`, or leave [publish] out",
        ],
    ),
    (
        "\"111122223333\"",
        "\"1111-2222-3333\"",
        &["5:13: `1111-2222-3333` is not an AWS account: 12 digits", "help: did you mean `111122223333`?"],
    ),
    (
        "{ eu-west-1",
        "{ eu-wset-1",
        &["7:21: `eu-wset-1` is not in `regions`", "help: did you mean `eu-west-1`?"],
    ),
    (
        "key/1234abcd",
        "alias/web",
        &[
            "7:21: `arn:aws:kms:eu-west-1:111122223333:alias/web` is an alias, and EBS wants the ARN of the key itself",
        ],
    ),
    ("team", "\"aws:team\"", &["8:23: `aws:team` is AWS's to set"]),
    (
        "\"90d\"\nparameter = \"/images",
        "\"90m\"\nparameter = \"images",
        &[
            "9:19: `90m` is less than a day",
            "10:13: `images/web` is not a parameter's name: it begins with `/`",
            "help: did you mean `/images/web`?",
        ],
    ),
    ("protect = true", "protect = 1", &["11:11: expected true or false, found a whole number"]),
    (
        "organisations",
        "organizations",
        &["6:1: unknown key `organizations` in [publish]", "help: did you mean `organisations`?"],
    ),
];

/// Writes `file` with each row's replacement and returns the rows for which something else is said.
fn nonsense(
    file: &str,
    right: &str,
    rows: &[(&'static str, &'static str, &[&str])],
) -> Vec<(&'static str, &'static str, String)> {
    let dir = repository();
    let place = |line: &str| line.strip_prefix(&format!("{file}:")).map(str::to_owned);
    let help = |line: &str| line.trim_start().strip_prefix("help: ").map(|help| format!("help: {help}"));
    let mut wrong = Vec::new();
    for (from, to, expected) in rows {
        assert!(right.contains(from), "{from}");
        std::fs::write(dir.path().join(file), right.replacen(from, to, 1)).expect("written");
        let output = rekiln(dir.path(), &["check"]);
        let text = stderr(&output);
        let shown: Vec<_> = text.lines().filter_map(|line| place(line).or_else(|| help(line))).collect();
        let code = if expected.is_empty() { 0 } else { 2 };
        if shown != *expected || output.status.code() != Some(code) {
            wrong.push((*from, *to, text));
        }
    }
    wrong
}

#[test]
fn nonsense_about_the_pace() {
    let wrong = nonsense("fleets/web.toml", PACE, &NONSENSE);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nonsense_about_publishing() {
    let wrong = nonsense("images/spare.toml", PUBLISH, &NONSENSE_PUBLISHED);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn references_and_templates() {
    let dir = repository();
    edit(dir.path(), "bootstrap/web/index.html.hbs", "<h1>{{greeting}}", "<h1>{{greting}}");
    edit(dir.path(), "images/web.toml", "\"80/tcp\"", "\"8080/tcp\"");
    edit(dir.path(), "images/web.toml", "/usr/lib/tmpfiles.d/web.conf", "/usr/lib/../run/web.conf");
    std::fs::write(dir.path().join("images/ring.toml"), "[source]\nimage = \"ring\"\n").expect("written");
    let output = rekiln(dir.path(), &["check"]);
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(stderr(&output), @r###"
    bootstrap/web/index.html.hbs:4:13: unknown variable `greting`
      4 | <body><h1>{{greting}}</h1></body>
        |             ^^^^^^^
      help: did you mean `greeting`?

    fleets/web.toml:7:8: the image `web` does not declare port 80
      7 | port = 80
        |        ^^
      help: add "80/tcp" to [services] ports in images/web.toml

    fleets/web.toml:10:17: the image `web` does not declare port 80
      10 | http = { port = 80, path = "/" }
         |                 ^^
      help: add "80/tcp" to [services] ports in images/web.toml

    images/ring.toml:2:9: the recipe stands on itself: ring → ring
      2 | image = "ring"
        |         ^^^^^^

    images/web.toml:20:8: `/usr/lib/../run/web.conf` is not a normal path: no `.`, `..`, `//` or `/` at the end
      20 | path = "/usr/lib/../run/web.conf"
         |        ^^^^^^^^^^^^^^^^^^^^^^^^^^

    images/web.toml:32:17: port 80 is not declared in [services] ports
      32 | http = { port = 80, path = "/", contains = "hello" }
         |                 ^^
      help: add "80/tcp" there

    error: 6 errors in the repository's files
    "###);
}

#[test]
fn json_lines() {
    let dir = repository();
    edit(dir.path(), "images/web.toml", "packages =", "packges =");
    let output = rekiln(dir.path(), &["check", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let lines: Vec<serde_json::Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    assert_eq!(lines[0]["file"], "images/web.toml");
    assert_eq!((lines[0]["line"].as_u64(), lines[0]["column"].as_u64()), (Some(3), Some(1)));
    assert_eq!(lines[0]["help"], "did you mean `packages`?");
    assert_eq!(lines.last().map(|line| line["exit_code"].clone()), Some(2.into()));
}

#[test]
fn id_names_the_missing_lock() {
    let dir = repository();
    let output = rekiln(dir.path(), &["id", "web"]);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains("images/base.lock is missing") && text.contains("rekiln lock base"), "{text}");
}

#[test]
fn id_is_the_same_everywhere_and_refuses_a_stale_lock() {
    let dir = repository();
    let lock = |source: &str, packages: &str| {
        format!(
            "version = 1\nepoch = 1\n[tools]\n[asked]\nsource = \"{source}\"\narchitecture = \"amd64\"\npackages = {packages}\n"
        )
    };
    let base = lock(
        "debian:bookworm",
        r#"["libnss-myhostname", "linux-image-cloud-amd64", "systemd", "systemd-sysv", "udev", "usr-is-merged"]"#,
    );
    std::fs::write(dir.path().join("images/base.lock"), &base).expect("written");
    let one = rekiln(dir.path(), &["id", "base"]);
    assert_eq!(one.status.code(), Some(0), "{}", stderr(&one));
    let id = stdout(&one);
    assert!(id.trim().len() == 64 && id.trim().bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");

    let copy = repository();
    std::fs::write(copy.path().join("images/base.lock"), &base).expect("written");
    edit(copy.path(), "images/base.toml", "description = \"", "description = \"other ");
    assert_eq!(stdout(&rekiln(copy.path(), &["id", "base"])), id);

    edit(copy.path(), "images/base.toml", "    \"udev\",\n", "");
    let stale = rekiln(copy.path(), &["id", "base"]);
    assert_eq!(stale.status.code(), Some(2));
    assert!(
        stderr(&stale).contains("the package udev is in the lock and not in the recipe"),
        "{}",
        stderr(&stale)
    );
}

#[test]
fn findings_elsewhere_do_not_stop_an_image() {
    let dir = repository();
    edit(dir.path(), "images/web.toml", "packages =", "packges =");
    let output = rekiln(dir.path(), &["id", "base"]);
    assert!(stderr(&output).contains("images/base.lock is missing"), "{}", stderr(&output));
    let output = rekiln(dir.path(), &["id", "web"]);
    assert!(stderr(&output).contains("unknown key `packges`"), "{}", stderr(&output));
}

#[test]
fn generated_texts() {
    let dir = tempfile::tempdir().expect("a directory");
    for (args, part) in [
        (&["schema", "recipe"][..], "\"packages\""),
        (&["schema", "fleet"], "\"unavailable\""),
        (&["schema", "playbook"], "\"resolved\""),
        (&["completions", "bash"], "_rekiln"),
        (&["man"], ".TH rekiln"),
    ] {
        let output = rekiln(dir.path(), args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(stdout(&output).contains(part), "{args:?}");
    }
    serde_json::from_str::<serde_json::Value>(&stdout(&rekiln(dir.path(), &["schema", "recipe"])))
        .expect("JSON");
}

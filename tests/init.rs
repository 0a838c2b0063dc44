//! `rekiln init`: pipelines that the systems they are for take, and that run commands which there are.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::change::git;
use crate::pytools::installed;

/// The schemas of the systems, as their makers publish them.
const TOOL: &str = "check-jsonschema";

/// Each system, where its pipeline is, and the name of its schema.
const SYSTEMS: [(&str, &str, Option<&str>); 3] = [
    ("github", ".github/workflows/rekiln.yml", Some("vendor.github-workflows")),
    ("gitlab", ".gitlab-ci.yml", Some("vendor.gitlab-ci")),
    // Jenkins checks a Jenkinsfile by a server of its own only.
    ("jenkins", "Jenkinsfile", None),
];

fn rekiln(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rekiln")).current_dir(dir).args(args).output().expect("rekiln starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn each_system_takes_its_pipeline() {
    let tools = installed("pytools-ci", TOOL, "import check_jsonschema");
    for (system, path, schema) in SYSTEMS {
        let dir = tempfile::tempdir().expect("a directory");
        let repo = dir.path().join("repo");
        let made = rekiln(dir.path(), &["init", "--ci", system, "repo"]);
        assert!(made.status.success(), "{}", said(&made));
        let Some(schema) = schema else { continue };
        let check = |path: &Path| {
            let mut python = Command::new("python3");
            python.args(["-m", "check_jsonschema", "--builtin-schema", schema]).arg(path);
            python.env("PYTHONPATH", &tools).output().expect("python3 runs")
        };
        let checked = check(&repo.join(path));
        let words = String::from_utf8_lossy(&checked.stdout);
        assert!(checked.status.success(), "{system}: {words} {}", said(&checked));
        // The schema would find a slip.
        let text = fs::read_to_string(repo.join(path)).expect("read");
        let slip =
            text.replace("    runs-on: [self-hosted, rekiln]\n", "").replace("  script:\n", "  skript:\n");
        assert_ne!(slip, text);
        fs::write(repo.join("slip.yml"), slip).expect("written");
        assert!(!check(&repo.join("slip.yml")).status.success(), "{system}");
    }
}

/// The commands in a pipeline, as their words, with something for each variable.
fn commands(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with(['#', '/']));
    let commands = lines.filter_map(|line| {
        let from = line.find("rekiln plan").or(line.find("rekiln nightly")).or(line.find("rekiln apply"));
        let text = &line[from.or(line.find("rekiln rotate"))?..];
        let text = text.split(['>', '\'']).next().unwrap_or(text);
        // What a shell puts in.
        let text = text.replace("origin/$TARGET", "x").replace("origin/$CHANGE_TARGET", "x");
        let text = text.replace("${fleets[@]:---all}", "--all").replace("${FLEETS:---all}", "--all");
        let text = text.replace("$REASON", "x").replace("${REASON:?say why}", "x").replace('"', "");
        Some(text.split_whitespace().skip(1).map(str::to_owned).collect())
    });
    commands.collect()
}

#[test]
fn pipelines_run_commands_that_there_are() {
    // In a repository without images, each command gets as far as that.
    let empty = tempfile::tempdir().expect("a directory");
    for (system, path, _) in SYSTEMS {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(rekiln(dir.path(), &["init", "--ci", system, "repo"]).status.success());
        let text = fs::read_to_string(dir.path().join("repo").join(path)).expect("read");
        let found = commands(&text);
        let names: Vec<&str> = found.iter().map(|words| words[0].as_str()).collect();
        assert_eq!(names, ["plan", "nightly", "apply", "rotate"], "{system}");
        for words in found {
            assert!(words.iter().all(|word| !word.contains('$')), "{system}: {words:?}");
            let ended = rekiln(empty.path(), &words.iter().map(String::as_str).collect::<Vec<_>>());
            let said = said(&ended);
            assert!(
                said.contains("is in no Git repository")
                    || said.contains("is no rekiln repository")
                    || said.contains("does not trust"),
                "{system}: {words:?}: {said}"
            );
        }
    }
}

#[test]
fn a_pipeline_is_added_and_none_is_overwritten() {
    let dir = tempfile::tempdir().expect("a directory");
    assert!(rekiln(dir.path(), &["init", "repo"]).status.success());
    let repo = dir.path().join("repo");
    git(&repo, &["init", "-q", "-b", "main"]);
    let added = rekiln(&repo.join("images"), &["init", "--ci", "github"]);
    assert!(added.status.success(), "{}", said(&added));
    let path = repo.join(".github/workflows/rekiln.yml");
    fs::write(&path, "mine").expect("written");
    let again = rekiln(&repo, &["init", "--ci", "github"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(said(&again).contains("is there already, and is yours"), "{}", said(&again));
    assert_eq!(fs::read_to_string(&path).expect("read"), "mine");
    let neither = rekiln(&repo, &["init"]);
    assert_eq!(neither.status.code(), Some(2));
    let nowhere = rekiln(dir.path(), &["init", "--ci", "gitlab"]);
    assert_eq!(nowhere.status.code(), Some(2), "{}", said(&nowhere));
}

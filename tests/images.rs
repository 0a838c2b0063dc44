//! What the store's images look like to someone at a terminal.

use std::path::Path;
use std::process::{Command, Output};

use jiff::Timestamp;
use rekiln::catalog::{Catalog, Record, Verdict};
use rekiln::store::Store;
use serde_json::Value;

use crate::sbom::record;

fn rekiln(store: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rekiln"))
        .args(["--repo", env!("CARGO_MANIFEST_DIR"), "--store"])
        .arg(store)
        .args(args)
        .output()
        .expect("rekiln starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A store with the image `web`, its verdict passed, and one image whose record a newer rekiln wrote.
fn store(dir: &Path) -> (Record, Record) {
    let store = Store::open(&dir.display().to_string()).expect("a store");
    let catalog = Catalog::new(store);
    let verdict = Verdict {
        passed: true,
        reasons: Vec::new(),
        open_ports: vec![80],
        ready_s: Some(7.25),
        serving_s: Some(6.5),
        accelerator: "tcg".to_owned(),
        failed_units: Vec::new(),
        at: Timestamp::UNIX_EPOCH,
    };
    let web = Record {
        commit: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
        verdict: Some(verdict),
        timings: [("layers".to_owned(), 12.5)].into(),
        ..record("web")
    };
    catalog.save(&web).expect("saved");
    let newer = record("newer");
    let bytes = serde_json::to_string(&newer).expect("JSON").replace("\"version\":1", "\"version\":2");
    catalog.write(newer.id, "record.json", bytes.as_bytes()).expect("written");
    (web, newer)
}

#[test]
fn a_record_of_a_newer_rekiln_is_listed_and_hides_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (web, newer) = store(dir.path());
    let output = rekiln(dir.path(), &["images"]);
    let lines = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let line =
        |id: &str| lines.lines().find(|line| line.starts_with(id)).unwrap_or_else(|| panic!("{lines}"));
    assert!(line(&web.id.short()).ends_with("passed      0123456789ab (changed)"), "{lines}");
    assert!(line(&newer.id.short()).contains("unreadable: ") && lines.contains("format 2"), "{lines}");

    let output = rekiln(dir.path(), &["images", "--json"]);
    let events: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let told: Vec<_> = events.iter().map(|event| (event["event"].as_str(), event["id"].as_str())).collect();
    let (web, newer) = (web.id.to_string(), newer.id.to_string());
    assert_eq!(told, [(Some("image"), Some(web.as_str())), (Some("unreadable"), Some(newer.as_str()))]);
}

#[test]
fn one_image_says_where_it_comes_from_and_whether_it_serves() {
    let dir = tempfile::tempdir().expect("a directory");
    let (web, newer) = store(dir.path());
    let output = rekiln(dir.path(), &["image", "web"]);
    let said = text(&output.stdout);
    for expected in [
        format!("id          {}", web.id),
        format!("disk sha256 {}", web.disk.sha256),
        format!("root hash   {}", web.root_hash.expect("a root hash")),
        format!("lock        {}", web.lock),
        "commit      0123456789abcdef0123456789abcdef01234567, with changes".to_owned(),
        "parents     none".to_owned(),
        "verdict     passed: ready after 7.2 s, serving after 6.5 s (tcg)".to_owned(),
        "time          12.50 s    layers".to_owned(),
        format!("{}/sbom.cdx.json", web.id),
    ] {
        assert!(said.contains(&expected), "{expected} is not in\n{said}");
    }
    let output = rekiln(dir.path(), &["image", &newer.id.to_string()]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("format 2") && said.contains("hint:"), "{said}");
}

#[test]
fn booting_a_recipe_means_the_image_that_git_asks_for() {
    let dir = tempfile::tempdir().expect("a directory");
    // An image called `web` that was baked from something else.
    let (old, _) = store(dir.path());
    let output = rekiln(dir.path(), &["boot", "web"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for expected in [
        "no image `web` as Git asks for it",
        "`rekiln bake web`",
        &format!("`rekiln boot {}`", old.id.short()),
    ] {
        assert!(said.contains(expected), "{expected} is not in\n{said}");
    }
    let output = rekiln(dir.path(), &["boot", "nothing"]);
    assert!(text(&output.stderr).contains("no image `nothing`") && output.status.code() == Some(1));
}

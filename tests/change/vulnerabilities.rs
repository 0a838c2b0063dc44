//! Which vulnerabilities a change fixes, by a file as Debian's security tracker exports it.

use std::fs;
use std::process::Command;

use rekiln::digest::Digest;

use super::Site;

/// What the tracker says; the description must be shown nowhere.
const TRACKER: &str = r#"{
  "openssl": {
    "CVE-2026-0001": { "description": "SECRET @all `x` | y", "scope": "remote", "releases": {
      "bookworm": { "status": "resolved", "fixed_version": "3.0.22-1~deb12u1", "urgency": "high",
        "repositories": { "bookworm": "3.0.21-1~deb12u1", "bookworm-security": "3.0.22-1~deb12u1" } } } },
    "CVE-2026-0002": { "description": "SECRET", "releases": {
      "bookworm": { "status": "resolved", "fixed_version": "3.0.22-1~deb12u1", "urgency": "not yet assigned",
        "repositories": { "bookworm": "3.0.21-1~deb12u1", "bookworm-security": "3.0.22-1~deb12u1" } } } },
    "CVE-2025-0003": { "releases": {
      "bookworm": { "status": "open", "urgency": "low", "nodsa": "SECRET", "nodsa_reason": "",
        "repositories": { "bookworm": "3.0.21-1~deb12u1", "bookworm-security": "3.0.22-1~deb12u1" } } } },
    "CVE-2025-0004": { "releases": {
      "bookworm": { "status": "undetermined", "urgency": "not yet assigned",
        "repositories": { "bookworm": "3.0.21-1~deb12u1", "bookworm-security": "3.0.22-1~deb12u1" } } } },
    "CVE-2025-0005": { "releases": {
      "bookworm": { "status": "resolved", "fixed_version": "0", "urgency": "high",
        "repositories": { "bookworm": "3.0.21-1~deb12u1" } } } }
  },
  "glibc": {
    "CVE-2026-0006": { "releases": {
      "bookworm": { "status": "open", "urgency": "high", "repositories": { "bookworm": "2.36-9" } } } }
  }
}"#;

impl Site {
    /// Gives libssl3 another version in the lock of `base`, in a commit.
    fn openssl(&self, version: &str) {
        let path = self.repo.join("images/base.lock");
        let old = fs::read_to_string(&path).expect("read");
        let (before, rest) = old.split_once("name = \"libssl3\"\nversion = \"").expect("libssl3");
        let (_, after) = rest.split_once('"').expect("its version");
        let new = format!("{before}name = \"libssl3\"\nversion = \"{version}\"{after}");
        fs::write(&path, &new).expect("written");
        // What stands on it names its lock.
        let digest = |text: &str| Digest::of(text.as_bytes()).to_string();
        self.edit("images/web.lock", &digest(&old), &digest(&new));
        self.commit(version);
    }

    fn file(&self, name: &str, text: &[u8]) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, text).expect("written");
        path.display().to_string()
    }
}

/// What follows a line.
fn after<'a>(text: &'a str, line: &str) -> &'a str {
    text.split_once(line).unwrap_or_else(|| panic!("no `{line}` in {text}")).1
}

#[test]
fn what_an_update_fixes_is_said_where_data_is_given() {
    let site = Site::new();
    site.openssl("3.0.21-1~deb12u1");
    site.openssl("3.0.22-1~deb12u1");
    let file = site.file("tracker.json", TRACKER.as_bytes());
    let told = |args: &[&str]| {
        let ended = site.plan(&[&["--from", "HEAD~1"], args].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(!ended.stdout.contains("SECRET"), "{}", ended.stdout);
        ended.stdout
    };
    let text = told(&["--vulnerabilities", &file]);
    let lines: Vec<&str> = after(&text, "because of images/base.lock\n").lines().take(5).collect();
    assert_eq!(
        lines,
        [
            "  packages: 0 added, 0 removed, 1 changed",
            "    ~ libssl3  3.0.21-1~deb12u1 -> 3.0.22-1~deb12u1",
            "  fixes 2 vulnerabilities: CVE-2026-0001 (openssl, high), CVE-2026-0002 (openssl, not rated)",
            "  cannot tell of 1 vulnerability: CVE-2025-0004 (openssl, not rated)",
            "  still open: 1, most urgent: CVE-2025-0003 (openssl, low)",
        ]
    );
    let comment = told(&["--vulnerabilities", &file, "--format", "markdown"]);
    let row = comment.lines().find(|line| line.starts_with("| `base` |"));
    let row = row.expect("the image's row");
    let said = "1 package, fixes 2 vulnerabilities, cannot tell of 1 vulnerability, 1 still open";
    assert!(row.ends_with(&format!("| {said} |")), "{row}");
    assert!(comment.contains(&format!("<details><summary><b>base</b>: {said}</summary>")), "{comment}");
    assert!(
        after(&comment, "Because of `images/base.lock`.\n").starts_with(&format!(
            "\n**Vulnerabilities**: {}.\n\n\
             | | vulnerability | source package | urgency |\n|---|---|---|---|\n\
             | fixed | CVE-2026-0001 | `openssl` | high |\n\
             | fixed | CVE-2026-0002 | `openssl` | not rated |\n\
             | unknown | CVE-2025-0004 | `openssl` | not rated |\n\
             | still open | CVE-2025-0003 | `openssl` | low |\n\n\
             **Packages**\n",
            &said["1 package, ".len()..]
        )),
        "{comment}"
    );
    let json = told(&["--vulnerabilities", &file, "--format", "json"]);
    let change: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let one = |name: &str, urgency: &str| {
        serde_json::json!({
            "name": name, "source": "openssl", "urgency": urgency,
            "old": "3.0.21-1~deb12u1", "new": "3.0.22-1~deb12u1",
        })
    };
    assert_eq!(
        change["images"][0]["vulnerabilities"],
        serde_json::json!({
            "fixed": [one("CVE-2026-0001", "high"), one("CVE-2026-0002", "unassigned")],
            "open": [one("CVE-2025-0003", "low")],
            "new": [],
            "unknown": [one("CVE-2025-0004", "unassigned")],
            "uncovered": [],
        })
    );
    // A variable that is set for all jobs says where the file is, also to those that have no use for it.
    for (args, words) in
        [(&["plan", "--from", "HEAD~1"][..], "fixes 2 vulnerabilities"), (&["id", "web"], "")]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rekiln"));
        command.current_dir(&site.repo).args(args).env("REKILN_VULNERABILITIES", &file);
        let output = command.output().expect("rekiln starts");
        assert!(
            output.status.success() && String::from_utf8_lossy(&output.stdout).contains(words),
            "{output:?}"
        );
    }
    // Without data, nothing is said of them.
    let without = told(&[]);
    assert!(without.contains("~ libssl3") && !without.contains("CVE") && !without.contains("vulnerab"));
    assert!(site.json("HEAD~1")["images"][0].get("vulnerabilities").is_none());
    // Going back brings them again.
    site.openssl("3.0.21-1~deb12u1");
    let back = told(&["--vulnerabilities", &file]);
    assert!(
        back.contains("  brings 2 vulnerabilities: CVE-2026-0001 (openssl, high), CVE-2026-0002"),
        "{back}"
    );
    assert!(!back.contains("fixes"), "{back}");
}

#[test]
fn a_file_that_is_something_else_is_refused() {
    let site = Site::new();
    site.openssl("3.0.22-1~deb12u1");
    let cut = &TRACKER.as_bytes()[..TRACKER.len() / 2];
    for (name, text, words) in [
        ("empty.json", &b""[..], "it is empty"),
        ("cut.json", cut, "it is cut off at line "),
        ("osv.json", br#"{"id": "SECRET", "affected": []}"#, "it has another shape at line 1"),
        ("page.html", b"<html>SECRET</html>", "it is not JSON at line 1"),
        ("data.gz", b"\x1f\x8b\x08", "unpack it with `gunzip`"),
    ] {
        let file = site.file(name, text);
        let ended = site.plan(&["--from", "HEAD~1", "--vulnerabilities", &file]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{}", ended.stderr);
        for words in [words, &file, "JSON export of Debian's security tracker"] {
            assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
        }
        assert!(!ended.stderr.contains("SECRET"), "{}", ended.stderr);
    }
    let ended = site.plan(&["--from", "HEAD~1", "--vulnerabilities", "/nowhere.json"]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let ended = site.plan(&["--vulnerabilities", "tracker.json"]);
    assert!(ended.code == Some(2) && ended.stderr.contains("--from"), "{}", ended.stderr);
}

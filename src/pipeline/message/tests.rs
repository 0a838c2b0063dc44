use super::*;
use crate::digest::Digest;
use crate::lock::text::tests::lock;
use crate::pipeline::vulnerability::Vulnerability;
use crate::pipeline::vulnerability::tracker::{Name, Urgency};

fn change(what: &str, old: Option<&str>, new: Option<&str>) -> Change {
    Change { what: what.to_owned(), old: old.map(str::to_owned), new: new.map(str::to_owned) }
}

fn seen(size: u64, seconds: f64, accelerator: &str) -> Seen {
    let boot = Booted { passed: true, seconds: Some(seconds), accelerator: accelerator.to_owned() };
    Seen { size, boot: Some(boot) }
}

fn base() -> Updated {
    Updated {
        image: "base".to_owned(),
        old: Some(Face { id: Digest::of(b"old"), seen: Some(seen(212_412_345, 4.06, "kvm")) }),
        new: Face { id: Digest::of(b"new"), seen: Some(seen(212_949_999, 3.96, "kvm")) },
        changes: vec![
            change("libc6", None, Some("2")),
            change("libssl3", Some("3.0.11-1"), Some("3.0.14-1")),
            change("tzdata", Some("2024a-0"), Some("2024b-0")),
            change("usrmerge", Some("1"), None),
        ],
        security: BTreeSet::from(["libssl3".to_owned()]),
        below: None,
        vulnerabilities: None,
    }
}

#[test]
fn a_night_reads_well() {
    let web = Updated {
        image: "web".to_owned(),
        old: Some(Face { id: Digest::of(b"web"), seen: None }),
        new: Face { id: Digest::of(b"web, new"), seen: Some(Seen { size: 99_000, boot: None }) },
        changes: Vec::new(),
        security: BTreeSet::new(),
        below: Some("base".to_owned()),
        vulnerabilities: None,
    };
    let left = Left {
        image: "db".to_owned(),
        why: "it did not pass its boot:\n  no answer on port 5432".to_owned(),
        failed: true,
    };
    let text = message("4f1c2e", Some("rekiln/nightly"), 3, &[base(), web], &[left]);
    let ids = ["old", "new", "web", "web, new"].map(|name| Digest::of(name.as_bytes()).short());
    let [old, new, web_old, web_new] = &ids;
    assert_eq!(
        text,
        format!(
            "images: 2 of 3 images have updates (1 security)\n\n\
             base {old} → {new}\n  libssl3 3.0.11-1 → 3.0.14-1 (security)\n  + libc6 2\n  tzdata 2024a-0 → 2024b-0\n  - usrmerge 1\n  \
             size 212.4 MB → 212.9 MB, boot 4.1 s → 4.0 s, passed\n\n\
             web {web_old} → {web_new}\n  stands on base, which changed\n  size 0.0 MB, not booted\n\n\
             not updated: db: it did not pass its boot: no answer on port 5432\n\n\
             Rekiln-Nightly: 4f1c2e\nRekiln-Branch: rekiln/nightly\n"
        )
    );
}

#[test]
fn times_of_other_machines_are_not_compared() {
    let mut image = base();
    image.new.seen = Some(seen(212_949_999, 31.0, "tcg"));
    assert_eq!(lines(&image).last().expect("a line"), "  size 212.4 MB → 212.9 MB, boot 31.0 s, passed");
    image.old = None;
    assert_eq!(lines(&image)[0], format!("base {}, new", Digest::of(b"new").short()));
    assert_eq!(lines(&image).last().expect("a line"), "  size 212.9 MB, boot 31.0 s, passed");
}

#[test]
fn a_long_list_is_folded_behind_the_security_updates() {
    let mut image = base();
    image.changes = (0..60).map(|n| change(&format!("p{n:02}"), Some("1"), Some("2"))).collect();
    image.security = BTreeSet::from(["p59".to_owned()]);
    let lines = lines(&image);
    assert_eq!(lines[1], "  p59 1 → 2 (security)");
    assert_eq!(lines[2], "  p00 1 → 2");
    assert_eq!(lines.len(), 1 + TOLD + 2, "{lines:?}");
    assert_eq!(lines[TOLD + 1], "  and 20 more");
    let long = Left { image: "db".to_owned(), why: "x".repeat(1000), failed: true };
    let text = message("b", None, 1, &[image], &[long]);
    assert!(text.starts_with("images: 1 of 1 image has updates (1 security)\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() < REASON + 30), "{text}");
    assert!(text.ends_with("\n\nRekiln-Nightly: b\n"), "{text}");
}

#[test]
fn security_is_where_the_new_version_comes_from() {
    let old = lock();
    let mut new = lock();
    new.packages[0].version = "9".to_owned();
    new.packages[0].archive = SECURITY.to_owned();
    // Not changed: of that archive already.
    new.packages[1].archive = SECURITY.to_owned();
    new.tools.insert("mkfs.erofs".to_owned(), "2".to_owned());
    let (changed, security) = compare(Some(&old), &new);
    assert_eq!(changed.iter().map(|change| change.what.as_str()).collect::<Vec<_>>(), ["mkfs.erofs", "b"]);
    assert_eq!(security, BTreeSet::from(["b".to_owned()]));
    assert!(!below_changed(Some(&old), &new) && !below_changed(None, &new));
    new.asked.parent_lock = Some(Digest::of(b"other"));
    assert!(below_changed(Some(&old), &new));
    assert_eq!(compare(None, &new), (Vec::new(), BTreeSet::new()));
}

#[test]
fn what_an_update_fixes_is_said_where_it_is_known() {
    let fixed = Vulnerability {
        name: Name::new("CVE-2026-0001").expect("a name"),
        source: "openssl".to_owned(),
        urgency: Urgency::High,
        old: Some("3.0.11-1".to_owned()),
        new: Some("3.0.14-1".to_owned()),
    };
    let found = Vulnerabilities { fixed: vec![fixed], ..Vulnerabilities::default() };
    let lines = lines(&Updated { vulnerabilities: Some(found), ..base() });
    assert_eq!(lines[5], "  fixes 1 vulnerability: CVE-2026-0001 (openssl, high)");
    assert!(lines[6].starts_with("  size "), "{lines:?}");
}

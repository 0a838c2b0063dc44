//! One night whose image is really baked, from an archive of what the tests' vault has.

use rekiln::digest::{Digest, ImageId};
use rekiln::git;
use rekiln::lock::archive::SECURITY;

use super::site::git as run;
use crate::bake::{ground, scratch, succeeded, turn};
use crate::lock::archive::Archive;

#[test]
fn a_night_bakes_what_it_commits() {
    let _turn = turn();
    let ground = ground();
    let dir = scratch();
    let site = ground.warm(dir.path());
    let mut archive = Archive::empty();
    for package in ["base", "web"].iter().flat_map(|image| site.lock(image).packages) {
        let deb = site.store.join("vault").join(package.sha256.to_string());
        let from = if package.archive == SECURITY { SECURITY } else { "debian" };
        archive.list(from, &deb, &package.path);
        if package.name.starts_with("linux-image-") {
            let depends = format!("Depends: {}", package.name);
            archive.add("debian", "linux-image-cloud-amd64", "6", &depends);
        }
    }
    // What the kernel's package asks for and no image has.
    archive.add("debian", "kmod", "30", "");
    archive.add("debian", "linux-base", "4.9", "");
    archive.publish();
    // The commit has an older version of one package, and the archive this one.
    let mut lock = site.lock("web");
    let package = lock.packages.iter_mut().find(|package| package.name == "nginx-light").expect("it has it");
    let version = std::mem::replace(&mut package.version, "0.1".to_owned());
    package.sha256 = Digest::of(b"an old one");
    site.write("images/web.lock", &lock.to_text());
    let base = git::commit_all(&site.repo, "as it was").expect("committed");

    let settings = archive.settings();
    let mut night = site.command(&["nightly", "--no-boot", "--json"]);
    night
        .env("REKILN_MIRROR", settings.mirror.expect("a mirror"))
        .env("REKILN_KEYRING", settings.keyring.expect("a keyring"));
    let text = succeeded(&night.output().expect("rekiln runs"));
    let event = |name: &str| {
        let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
        let mut found = lines.filter(|value: &serde_json::Value| value["event"] == name);
        found.next().unwrap_or_else(|| panic!("no `{name}` in {text}"))
    };
    let updated = event("updated");
    assert_eq!(updated["changes"], serde_json::json!([format!("~ nginx-light 0.1 → {version}")]));
    assert_eq!((&updated["image"], &updated["passed"]), (&"web".into(), &serde_json::Value::Null));
    let id: ImageId = serde_json::from_value(updated["new"].clone()).expect("an id");
    let done = event("nightly");
    assert_eq!((&done["updated"], &done["left"]), (&1.into(), &0.into()), "{text}");
    let commit = done["commit"].as_str().expect("a commit").to_owned();

    assert_eq!(run(&site.repo, &["status", "--porcelain"]), "");
    assert_eq!(run(&site.repo, &["diff", "--name-only", &base, &commit]), "images/web.lock");
    let message = run(&site.repo, &["show", "--no-patch", "--format=%B", &commit]);
    assert!(message.contains(&format!("\n  nginx-light 0.1 → {version}")), "{message}");
    assert!(message.contains(", not booted\n"), "{message}");
    let record = site.record(id);
    assert_eq!((record.commit.as_deref(), record.clean, record.verdict), (Some(base.as_str()), false, None));
    // What is committed is what was baked.
    run(&site.repo, &["checkout", "--quiet", &commit]);
    let again = site.bake("web");
    assert!(again.cached && again.id == id, "{again:?}");
}

//! Nights that publish, against an AWS on this machine: what cannot be published is not committed.

use std::fs;

use rekiln::catalog::{Catalog, Record};
use rekiln::digest::Digest;
use serde_json::json;

use super::site::{commit, git};
use crate::lock::archive::Archive;
use crate::publish::stage::{Ended, FILLS, REGION, SIZE, Stage, ended};

/// A recipe whose image is published, in a repository whose archive has an update for it; the image that this makes is in the
/// store, as if it were baked.
struct Site {
    stage: Stage,
    archive: Archive,
    base: String,
    new: Digest,
}

impl Site {
    fn new() -> Self {
        let (stage, archive) = (Stage::new(), Archive::new());
        let repo = stage.repo();
        for folder in ["images", "bootstrap", "fleets"] {
            fs::remove_dir_all(repo.join(folder)).expect("removed");
        }
        fs::create_dir(repo.join("images")).expect("a folder");
        let recipe = "packages = [\"web\"]\n[source]\ndebian = \"bookworm\"\n";
        let publish = format!("[publish]\nregions = [\"{REGION}\"]\n");
        fs::write(repo.join("images/web.toml"), format!("{recipe}{publish}")).expect("written");
        let none = Digest::of(b"");
        let mut site = Self { stage, archive, base: String::new(), new: none };
        site.run(&["lock", "--all"]).must(0);
        git(&repo, &["init", "--quiet", "--initial-branch=main"]);
        site.base = commit(&repo, "as it is");
        site.archive.add("debian", "libweb", "1.1", "Depends: libc6 (>= 2.36)");
        site.archive.publish();
        // What the night will make is known before.
        site.run(&["lock", "--all", "--update"]).must(0);
        let id = site.run(&["id", "web"]).must(0).stdout;
        let id: serde_json::Value = serde_json::from_str(id.trim_end()).expect("JSON");
        site.new = id["id"].as_str().expect("an id").parse().expect("an id");
        git(&repo, &["checkout", "--quiet", "--", "images"]);
        let made = site.stage.image("of the night", SIZE, &FILLS);
        let catalog = Catalog::new(site.stage.store());
        let record = catalog.load(made.id).expect("a record");
        fs::rename(site.stage.store().image(made.id), site.stage.store().image(site.new)).expect("moved");
        catalog.save(&Record { id: site.new, ..record }).expect("saved");
        site
    }

    fn run(&self, args: &[&str]) -> Ended {
        let settings = self.archive.settings();
        let mut command = self.stage.command(args);
        command
            .env("REKILN_MIRROR", settings.mirror.expect("a mirror"))
            .env("REKILN_KEYRING", settings.keyring.expect("a keyring"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        ended(&mut command)
    }
}

#[test]
fn what_cannot_be_published_is_not_committed_and_the_next_night_publishes_it() {
    let site = Site::new();
    let denied = json!([{ "operation": "StartSnapshot", "do": "error", "code": "AccessDeniedException", "status": 403, "times": -1 }]);
    site.stage.cloud.rules(&denied);
    let failed = site.run(&["nightly", "--publish"]).must(1);
    let left = &failed.events("left")[0];
    assert_eq!((&left["image"], &left["failed"]), (&json!("web"), &json!(true)), "{left:#}");
    assert_eq!(git(&site.stage.repo(), &["for-each-ref", "--format=%(refname)"]), "refs/heads/main");
    // Without the wish, nothing is published, and nothing keeps it from being committed.
    site.stage.cloud.forget_calls();
    let only = site.run(&["nightly", "--branch", "only"]).must(0);
    assert_eq!(only.events("updated")[0]["new"], site.new.to_string());
    assert_eq!(site.stage.cloud.changes(), [""; 0]);
    // And when it works, it is both.
    let done = site.run(&["nightly", "--publish"]).must(0);
    assert_eq!(done.events("updated")[0]["new"], site.new.to_string());
    let (ami, _) = site.stage.only(REGION);
    assert_eq!(ami["state"], "available");
    let night = &done.events("nightly")[0];
    let commit = night["commit"].as_str().expect("a commit");
    let parent = git(&site.stage.repo(), &["rev-parse", &format!("{commit}^")]);
    assert_eq!(parent, site.base);
    // Once more, and nothing is left to do.
    site.stage.cloud.forget_calls();
    site.run(&["nightly", "--publish"]).must(0);
    assert_eq!(site.stage.cloud.changes(), [""; 0]);
}

//! Collections beside real bakes and after them: nobody loses what they use, and what is kept is what was used.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rekiln::catalog::{Record, sbom};
use rekiln::digest::Digest;
use rekiln::git;

use super::ground::{Site, baked, ground, names, scratch, turn};

/// Removes all that nothing reaches.
const GC: [&str; 6] = ["gc", "--keep", "0", "--younger", "0s", "--yes"];

/// Longer than any bake without its boot on a busy machine; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_mins(4);

/// Returns a site with the same store and a repository that asks for nothing.
fn stranger(site: &Site, dir: &Path) -> Site {
    let other = Site { repo: dir.join("other"), store: site.store.clone() };
    fs::create_dir_all(other.repo.join("images")).expect("made");
    git::init(&other.repo).expect("a repository");
    other
}

/// Returns the names that a collection may leave in `layers/` and `vault/` for an image.
fn used(site: &Site, record: &Record) -> (BTreeSet<String>, BTreeSet<String>) {
    let text = |digests: BTreeSet<Digest>| digests.iter().map(ToString::to_string).collect();
    let layers = record.layers.iter().map(|layer| layer.key).chain(record.kernel).collect();
    let bill = fs::read(site.store().image(record.id).join(sbom::FILE)).expect("a bill");
    (text(layers), text(sbom::inputs(&serde_json::from_slice(&bill).expect("JSON"))))
}

fn held(site: &Site, part: &str) -> BTreeSet<String> {
    names(&site.store.join(part)).into_iter().collect()
}

/// Tells whether a process claims something in the store.
fn claims(site: &Site) -> bool {
    let tmp = site.store.join("tmp");
    let processes = names(&tmp).into_iter().map(|name| tmp.join(name));
    processes
        .flat_map(|dir| names(&dir).into_iter().map(move |name| dir.join(name)))
        .any(|dir| dir.join("claim.json").exists())
}

#[test]
fn a_bake_loses_nothing_to_collections_and_leaves_nothing_behind() {
    let _turn = turn();
    let ground = ground();
    let dir = scratch();
    let site = ground.empty(dir.path(), "store");
    let other = stranger(&site, dir.path());
    let mut command = site.command(&["bake", "--json", "--no-boot", "web"]);
    let mut bake = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("rekiln runs");
    let start = Instant::now();
    while !claims(&site) && bake.try_wait().expect("asked").is_none() && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut runs = 0;
    while bake.try_wait().expect("asked").is_none() && start.elapsed() < PATIENCE {
        other.done(&GC);
        runs += 1;
        // The bake needs the processors too.
        std::thread::sleep(Duration::from_millis(200));
    }
    let line = baked(&bake.wait_with_output().expect("its end"));
    assert!(runs > 1, "it was collected while it was baked");
    assert!(!line.cached);
    assert_eq!(line.sha256, ground.web.disk.sha256.to_string());

    // What Git asks for stays, and with it all that the next bake needs.
    let record = site.record(line.id);
    let (layers, inputs) = used(&site, &record);
    site.done(&["gc", "pin", "web", "--reason", "a test"]);
    site.done(&GC);
    assert_eq!(held(&site, "layers"), layers);
    assert!(inputs.is_subset(&held(&site, "vault")));
    // Of another image of the recipe, only what the two do not share is its own.
    site.edit("bootstrap/web/index.html.hbs", "<", "<!-- changed --><");
    let second = site.bake("web");
    let (newer, _) = used(&site, &site.record(second.id));
    assert_eq!(newer.difference(&layers).count(), 1, "the layer of the recipe's files");
    other.done(&GC);
    site.holds_only(&[line.id]);
    assert_eq!((held(&site, "layers"), held(&site, "vault")), (layers, inputs));
    // It is whole, and what is made anew is the same.
    site.done(&["inspect", &line.id.to_string()]);
    let again = site.bake("web");
    assert_eq!((again.cached, again.id, again.sha256), (false, second.id, second.sha256));

    other.done(&["gc", "unpin", &line.id.to_string()]);
    other.done(&GC);
    site.holds_only(&[]);
    assert!(held(&site, "layers").is_empty() && held(&site, "vault").is_empty());
}

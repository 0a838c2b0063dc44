//! The image id: known before the bake, and cost follows the change.

use super::ground::{baked, ground, scratch, turn};

#[test]
fn the_id_is_known_before_and_baking_again_does_nothing() {
    let _turn = turn();
    let site = &ground().site;
    let web = &ground().web;
    assert_eq!(site.done(&["id", "web"]).trim(), web.id.to_string());
    let dir = site.store().image(web.id);
    let before = ["disk.raw", "record.json"]
        .map(|name| dir.join(name).metadata().expect("there").modified().expect("a time"));
    let line = baked(&site.command(&["bake", "--json", "web"]).output().expect("rekiln runs"));
    assert!(line.cached);
    assert_eq!(
        (line.id, line.sha256, line.disk),
        (web.id, web.disk.sha256.to_string(), dir.join("disk.raw"))
    );
    let after = ["disk.raw", "record.json"]
        .map(|name| dir.join(name).metadata().expect("there").modified().expect("a time"));
    assert_eq!(before, after);
}

#[test]
fn a_greeting_makes_only_the_top_layer_anew() {
    let _turn = turn();
    let ground = ground();
    let dir = scratch();
    let site = ground.warm(dir.path());
    site.edit("images/web.toml", "greeting = \"hello\"", "greeting = \"hello there\"");
    let id = site.done(&["id", "web"]);
    assert_ne!(id.trim(), ground.web.id.to_string());
    let line = site.bake("web");
    assert!(!line.cached);
    assert_eq!(line.id.to_string(), id.trim());
    let (old, new) = (&ground.web, site.record(line.id));
    assert!(!new.clean, "the change is not committed");
    let kinds: Vec<_> = new.layers.iter().map(|layer| (layer.image.as_str(), layer.kind.as_str())).collect();
    assert_eq!(kinds, [("base", "packages"), ("base", "files"), ("web", "packages"), ("web", "files")]);
    assert_eq!(new.layers[..3], old.layers[..3], "the same bytes at the same place");
    assert_ne!(new.layers[3].key, old.layers[3].key);
    assert_ne!(new.layers[3].sha256, old.layers[3].sha256);
    assert_ne!(new.root_hash, old.root_hash);
    assert_eq!(new.parents, old.parents);
    // And so nearly nothing has to be sent: partition tables, command line, the page, the hash tree.
    let said = site.done(&["diff", "--json", &old.id.to_string(), "web"]);
    let diff: serde_json::Value = serde_json::from_str(said.trim()).expect("one line");
    let [blocks, of] = ["blocks", "of"].map(|key| diff["update"][key].as_u64().expect("a number"));
    assert!(blocks > 0 && of > 100, "{said}");
    assert!(blocks * 100 <= of * 3, "{blocks} of {of} blocks are more than 3 %");
}

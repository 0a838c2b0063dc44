//! What an update leaves alone keeps its place in the layer.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rekiln::bake::layers::{LayerPlan, Make};
use rekiln::bake::seal::{Sealed, seal};
use rekiln::digest::Digest;
use rekiln::lock::places::OTHERS;
use rekiln::lock::{Lock, Places};
use rekiln::store::Store;
use tempfile::TempDir;

use super::archive::Archive;
use super::command;

/// Blocks of a file system, and of AWS's snapshots.
const BLOCK: usize = 4096;
const SNAPSHOT_BLOCK: usize = 512 << 10;

/// Seals a layer of the lock's packages as a bake does, each with `files(name)` files of a snapshot block each, and one
/// that no package has.
fn sealed(store: &Store, lock: &Lock, key: &str, files: impl Fn(&str) -> usize) -> Sealed {
    let dir = store.root().join("tmp").join(key);
    let tree = dir.join("tree");
    let info = tree.join("var/lib/dpkg/info");
    fs::create_dir_all(&info).expect("made");
    fs::create_dir_all(tree.join("usr/lib")).expect("made");
    for package in &lock.packages {
        let mut list = vec!["/.".to_owned(), "/lib".to_owned()];
        for number in 0..files(&package.name) {
            // A path as packages have it: /lib is a link into /usr.
            let name = format!("{}-{number}", package.name);
            list.push(format!("/lib/{name}"));
            let text = format!("{name} {} ", package.version);
            let bytes: Vec<u8> = text.bytes().cycle().take(SNAPSHOT_BLOCK).collect();
            fs::write(tree.join("usr/lib").join(name), bytes).expect("written");
        }
        fs::write(info.join(format!("{}:amd64.list", package.name)), list.join("\n")).expect("written");
    }
    fs::write(tree.join("usr/lib/made-by-a-script"), [7; 5000]).expect("written");
    let (locked, basis) = (lock.packages.clone(), lock.layout.clone());
    let plan = LayerPlan {
        image: "base".to_owned(),
        key: Digest::of(key.as_bytes()),
        epoch: 0,
        make: Make::Packages { locked, privileged: Vec::new(), basis },
    };
    seal(store, &dir, &plan, &["var/lib/dpkg".to_owned()], BTreeMap::new()).expect("sealed")
}

/// The blocks of a snapshot that differ between two layers.
fn differing(store: &Store, before: &Sealed, after: &Sealed) -> Vec<usize> {
    let [before, after] =
        [before, after].map(|layer| fs::read(Sealed::bytes(store, layer.key)).expect("a layer"));
    let after = after.chunks(SNAPSHOT_BLOCK).enumerate();
    let same = |number: usize, block: &[u8]| {
        before.get(number * SNAPSHOT_BLOCK..).is_some_and(|old| old.starts_with(block))
    };
    after.filter(|(number, block)| !same(*number, block)).map(|(number, _)| number).collect()
}

/// The blocks of a snapshot that packages lie in, and the first, where names and inodes are.
fn blocks_of(places: &Places, names: &[&str]) -> Vec<usize> {
    let mut blocks = vec![0];
    for name in names {
        let place = places.places[*name];
        let [first, last] = [place.at, place.at + place.room - 1]
            .map(|block| usize::try_from(block).expect("a number") * BLOCK / SNAPSHOT_BLOCK);
        blocks.extend(first..=last);
    }
    blocks.sort_unstable();
    blocks.dedup();
    blocks
}

/// Locks the image anew.
fn update(archive: &Archive, repo: &Path) -> Lock {
    let mirror = format!("file:{}", archive.path("debian").display());
    command(archive, repo, &["--all", "--update"], &mirror);
    Lock::parse(&fs::read_to_string(repo.join("images/base.lock")).expect("a lock")).expect("a lock")
}

/// A repository with one image, and the archive that it is locked against.
fn repository() -> (TempDir, Store, Archive) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&dir.path().join("store").display().to_string()).expect("a store");
    fs::create_dir(dir.path().join("images")).expect("made");
    fs::write(dir.path().join("images/base.toml"), "[source]\ndebian = \"bookworm\"\n").expect("written");
    (dir, store, Archive::new())
}

#[test]
fn an_update_changes_its_own_blocks_only() {
    let (repo, store, mut archive) = repository();
    let files = |name: &str| if name.starts_with("systemd") { 6 } else { 3 };

    let first = update(&archive, repo.path());
    assert_eq!((first.version, &first.layout), (1, &None), "there is nothing to go by");
    let before = sealed(&store, &first, "first", files);
    assert!(
        !update(&archive, repo.path()).to_text().contains("[layout]"),
        "places alone are not worth another image"
    );

    // A package in the middle of the layer is updated and needs more than it had; the others stay.
    archive.add("debian", "libc6", "2.36-10", "");
    archive.publish();
    let second = update(&archive, repo.path());
    let places = before.places.clone().expect("a layer of packages has places");
    assert_eq!((second.version, second.layout.as_ref()), (2, Some(&places)));
    let grown = |name: &str| if name == "libc6" { 4 } else { files(name) };
    let after = sealed(&store, &second, "second", grown);
    let moved = after.places.clone().expect("places");
    for (name, place) in &places.places {
        assert_eq!(moved.places[name] == *place, name != "libc6", "{name}");
    }
    // What is in its blocks, and where it was before.
    let own = [blocks_of(&moved, &["libc6"]), blocks_of(&places, &["libc6"])].concat();
    let differ = differing(&store, &before, &after);
    assert!(differ.iter().all(|block| own.contains(block)), "{differ:?} are not {own:?}");
    assert!(
        differ.len() as u64 * (SNAPSHOT_BLOCK as u64) < after.size / 2,
        "{differ:?} of {} bytes",
        after.size
    );

    // The layer is the same wherever it is made: it follows from the lock.
    let (_elsewhere, other_store, _) = repository();
    assert_eq!(sealed(&other_store, &second, "second", grown).sha256, after.sha256);
}

#[test]
fn places_outlive_the_store_and_forget_what_is_gone() {
    let (repo, store, mut archive) = repository();
    let toml = repo.path().join("images/base.toml");
    let recipe = fs::read_to_string(&toml).expect("a recipe");
    fs::write(&toml, format!("packages = [\"unwanted\"]\n{recipe}")).expect("written");
    let before = sealed(&store, &update(&archive, repo.path()), "first", |_| 1);
    fs::write(&toml, &recipe).expect("written");
    let without = update(&archive, repo.path());
    let mut expected = before.places.expect("places");
    assert!(expected.places.contains_key(OTHERS), "what no package has");
    assert!(expected.places.remove("unwanted").is_some());
    assert_eq!(without.layout.as_ref(), Some(&expected));

    fs::remove_dir_all(store.layers()).expect("removed");
    archive.add("debian", "udev", "253", "");
    archive.publish();
    assert_eq!(update(&archive, repo.path()).layout, Some(expected), "the lock before says it too");
}

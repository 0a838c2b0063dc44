//! What `mkfs.erofs` made is moved about, and `fsck.erofs` takes it out again.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Command;

use super::*;
use crate::process::Run as _;

/// A tree with everything that a layer may have: many names, several names of one file, targets and attributes.
fn sample(tree: &Path) {
    let write = |name: &str, bytes: &[u8]| std::fs::write(tree.join(name), bytes).expect("it is written");
    std::fs::create_dir_all(tree.join("many/deep")).expect("a directory");
    for number in 0..700_usize {
        // Sizes around a block's, so that there are tails of every kind.
        let bytes = vec![u8::try_from(number % 251).expect("a byte"); number * 13];
        write(&format!("many/a-rather-long-file-name-{number}"), &bytes);
    }
    write("empty", b"");
    write("many/deep/block", &[7; 4096]);
    write("large", &(0..225_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
    std::fs::hard_link(tree.join("large"), tree.join("many/also-large")).expect("a second name");
    std::fs::set_permissions(tree.join("large"), std::fs::Permissions::from_mode(0o4755)).expect("a mode");
    symlink("large", tree.join("link")).expect("a link");
    symlink("x".repeat(4000), tree.join("long-link")).expect("a link");
    for number in 0..40 {
        let path = tree.join(format!("many/a-rather-long-file-name-{number}"));
        xattr::set(&path, "user.shared", b"the same for all").expect("an attribute");
        xattr::set(&path, "user.own", number.to_string().as_bytes()).expect("an attribute");
    }
}

fn mkfs(tree: &Path, image: &Path, options: &[&str]) {
    let mut command = Command::new("mkfs.erofs");
    command.args(["--quiet", "-T7", "-x", "1"]).args(options).arg(image).arg(tree);
    command.run().expect("mkfs.erofs works");
}

/// Compares two trees: names, kinds, modes, bytes, targets and attributes.
fn assert_same(left: &Path, right: &Path) {
    let names = |dir: &Path| {
        let mut names: Vec<_> = std::fs::read_dir(dir)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(left), names(right), "{}", left.display());
    for name in names(left) {
        let (left, right) = (left.join(&name), right.join(&name));
        let [one, other] = [&left, &right].map(|path| path.symlink_metadata().expect("it is there"));
        // fsck.erofs changes the owner last, which drops the set-user-id bit.
        let told = |found: &std::fs::Metadata| (found.file_type(), found.mode() & 0o777);
        assert_eq!(told(&one), told(&other), "{}", left.display());
        if one.is_dir() {
            assert_same(&left, &right);
        } else if one.is_symlink() {
            assert_eq!(std::fs::read_link(&left).ok(), std::fs::read_link(&right).ok(), "{}", left.display());
        } else {
            assert!(std::fs::read(&left).ok() == std::fs::read(&right).ok(), "{} differs", left.display());
        }
    }
}

/// Moves everything as `places` says and takes it out again with the tools that the format's makers wrote.
fn moved(dir: &Path, places: impl Fn(u64, &[Extent]) -> (Vec<u64>, u64)) -> Erofs {
    let [made, image, out] = ["made", "moved", "out"].map(|name| dir.join(name));
    let read = Made::read(&made).expect("it reads");
    let (first, end) = places(read.metadata(), read.extents());
    read.write(&image, &first, end).expect("it is written");
    assert_eq!(std::fs::metadata(&image).expect("it is there").len(), end * BLOCK);
    let extract = format!("--extract={}", out.display());
    Command::new("fsck.erofs").args([extract.as_str(), "--preserve"]).arg(&image).run().expect("it is sound");
    assert_same(&dir.join("tree"), &out);
    Erofs::open(Window::open(&image).expect("it opens")).expect("it is erofs")
}

fn in_order(start: u64, extents: &[Extent], gap: u64) -> (Vec<u64>, u64) {
    let mut next = start;
    let first = extents.iter().map(|extent| {
        let at = next;
        next += extent.blocks + gap;
        at
    });
    (first.collect(), next)
}

#[test]
fn whatever_the_order_every_file_is_what_it_was() {
    for options in [&["-E", "noinline_data"][..], &[]] {
        let temp = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(temp.path().join("tree")).expect("a directory");
        sample(&temp.path().join("tree"));
        mkfs(&temp.path().join("tree"), &temp.path().join("made"), options);
        for case in 0..3 {
            let erofs = moved(temp.path(), |metadata, extents| match case {
                0 => in_order(metadata, extents, 0),
                1 => in_order(metadata + 9, extents, 3),
                _ => {
                    let (mut first, end) = in_order(metadata, extents, 0);
                    // Backwards: each begins where it ends when counted from the end.
                    for (at, extent) in first.iter_mut().zip(extents) {
                        *at = metadata + end - (*at + extent.blocks);
                    }
                    (first, end)
                }
            });
            let tree = crate::inspect::tree::Tree::stack(vec![erofs]).expect("it reads");
            let node = tree.get("/many/a-rather-long-file-name-7").expect("it is there");
            assert_eq!(node.xattrs["user.shared"], b"the same for all");
            assert_eq!(node.xattrs["user.own"], b"7");
            let names = ["/large", "/many/also-large"].map(|name| tree.get(name).expect("it is there").mode);
            assert_eq!(names, [0o4755; 2]);
            for left in ["moved", "out"] {
                let path = temp.path().join(left);
                if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
                    .expect("it is removed");
            }
        }
    }
}

#[test]
fn a_file_more_changes_the_metadata_and_its_own_blocks_only() {
    let temp = tempfile::tempdir().expect("a directory");
    let tree = temp.path().join("tree");
    std::fs::create_dir(&tree).expect("a directory");
    sample(&tree);
    let image = |name: &str| {
        let made = temp.path().join(format!("{name}.made"));
        mkfs(&tree, &made, &["-E", "noinline_data", "-U2f2f2f2f-1111-2222-3333-444444444444"]);
        let made = Made::read(&made).expect("it reads");
        // All but the new one lie where they lay.
        let (old, new): (Vec<_>, Vec<_>) =
            made.extents().iter().cloned().partition(|extent| extent.path != "a-new-one");
        let (first, end) = in_order(100, &old, 0);
        let mut at: BTreeMap<_, _> = old.iter().map(|extent| extent.path.clone()).zip(first).collect();
        at.extend(new.iter().map(|extent| (extent.path.clone(), end)));
        let places: Vec<_> = made.extents().iter().map(|extent| at[&extent.path]).collect();
        let to = temp.path().join(name);
        made.write(&to, &places, end + 1).expect("it is written");
        std::fs::read(to).expect("it reads")
    };
    let before = image("before");
    std::fs::write(tree.join("a-new-one"), "new").expect("it is written");
    let after = image("after");
    assert_eq!(before.len(), after.len());
    let blocks = before.chunks(4096).zip(after.chunks(4096)).enumerate();
    let differs: Vec<usize> = blocks.filter(|(_, (a, b))| a != b).map(|(block, _)| block).collect();
    let last = before.len() / 4096 - 1;
    assert!(differs.contains(&last), "its own block: {differs:?}");
    assert!(differs.iter().all(|block| *block < 100 || *block == last), "{differs:?}");
}

#[test]
fn what_is_not_understood_is_refused() {
    let temp = tempfile::tempdir().expect("a directory");
    let tree = temp.path().join("tree");
    std::fs::create_dir(&tree).expect("a directory");
    std::fs::write(tree.join("text"), "many words ".repeat(9000)).expect("it is written");
    let made = temp.path().join("made");
    for (options, expected) in [(&["-zlz4"][..], "Compressed"), (&["--chunksize=4096"], "Chunks")] {
        mkfs(&tree, &made, options);
        let error = Made::read(&made).err().expect("it is refused").chain();
        assert!(error.contains(expected), "{error}");
    }
    mkfs(&tree, &made, &["-E", "noinline_data"]);
    let bytes = std::fs::read(&made).expect("it reads");
    // A file that says it begins in the superblock.
    let inode = usize::try_from(Made::read(&made).expect("it reads").extents()[0].inode).expect("an offset");
    let mut damaged = bytes;
    damaged[inode + DATA_AT..inode + DATA_AT + 4].fill(0);
    std::fs::write(&made, damaged).expect("it is written");
    let error = Made::read(&made).err().expect("it is refused").chain();
    assert!(error.contains("block 0 of text is another's"), "{error}");
}

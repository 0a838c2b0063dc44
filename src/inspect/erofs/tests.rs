//! What mkfs.erofs wrote is read back and compared with the tree it was made from.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::inspect::tree::Tree;
use crate::process::Run as _;

fn sample(dir: &Path) {
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.join(name), bytes).expect("it is written");
    std::fs::create_dir(dir.join("many")).expect("a directory");
    for number in 0..600 {
        write(&format!("many/a-rather-long-file-name-{number}"), format!("{number}").as_bytes());
    }
    write("empty", b"");
    write("block", &[7; 4096]);
    write("tail", &[8; 4097]);
    let text: String = (0..60_000)
        .map(|number| format!("line {number} of a text that packs well"))
        .collect::<Vec<_>>()
        .join("\n");
    write("text", text.as_bytes());
    write("zeros", &vec![0; 1 << 20]);
    // Bytes that do not pack: a linear congruential generator's high bits.
    let mut state: u32 = 1;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    write("noise", &(0..300_000).map(|_| noise()).collect::<Vec<u8>>());
    let mixed: Vec<u8> = (0..400_000).map(|at| if at / 9000 % 2 == 0 { noise() } else { b'x' }).collect();
    write("mixed", &mixed);
    std::fs::set_permissions(dir.join("tail"), std::fs::Permissions::from_mode(0o4755)).expect("a mode");
    symlink("many/../text", dir.join("link")).expect("a link");
    for name in ["block", "tail", "text"] {
        ::xattr::set(dir.join(name), "user.shared", b"the same").expect("an attribute");
    }
    ::xattr::set(dir.join("text"), "user.own", b"one").expect("an attribute");
}

fn make(options: &[&str], source: &Path, image: &Path) -> Erofs {
    Command::new("mkfs.erofs").args(options).arg(image).arg(source).run().expect("mkfs.erofs works");
    Erofs::open(Window::open(image).expect("it opens")).expect("it is erofs")
}

fn compare(tree: &Tree, source: &Path) {
    let mut count = 0;
    for (path, node) in tree.iter() {
        let real = source.join(&path[1..]);
        let meta = std::fs::symlink_metadata(&real).expect("it is there");
        assert_eq!(node.mode, meta.permissions().mode() & 0o7777, "{path}");
        match node.kind {
            Kind::File => {
                let bytes = tree.read(path, 1 << 30).expect("it reads").expect("a file");
                assert!(bytes == std::fs::read(&real).expect("it reads"), "{path} differs");
                for name in ::xattr::list(&real).expect("attributes") {
                    let value = ::xattr::get(&real, &name).expect("an attribute");
                    assert_eq!(node.xattrs.get(name.to_str().expect("text")), value.as_ref(), "{path}");
                }
            }
            Kind::Symlink => {
                let target = std::fs::read_link(&real).expect("a link");
                assert_eq!(node.target, target.to_str().expect("text"));
            }
            Kind::Directory => {}
            other => panic!("{path} is {other:?}"),
        }
        count += 1;
    }
    assert_eq!(count, 600 + 1 + 8, "every object is seen");
}

#[test]
fn reads_what_mkfs_writes() {
    let temp = tempfile::tempdir().expect("a directory");
    let source = temp.path().join("source");
    std::fs::create_dir(&source).expect("a directory");
    sample(&source);
    let cases: &[&[&str]] = &[
        &[],
        &["-Eforce-inode-compact"],
        &["-Eforce-inode-extended", "-x1"],
        &["-Enoinline_data"],
        &["--chunksize=8192"],
        &["-zlz4"],
        &["-zlz4hc"],
        &["-zlz4hc", "-Elegacy-compress"],
        &["-zlz4hc", "-C65536"],
        &["-zlz4", "-C16384", "-Elegacy-compress"],
    ];
    for (number, options) in cases.iter().enumerate() {
        let image = temp.path().join(format!("{number}.erofs"));
        let erofs = make(options, &source, &image);
        let tree = Tree::stack(vec![erofs]).unwrap_or_else(|error| panic!("{options:?}: {error:?}"));
        eprintln!("{options:?}");
        compare(&tree, &source);
        // A second opinion on the image itself, so that both sides of the comparison are not ours.
        let out = temp.path().join(format!("{number}.out"));
        Command::new("fsck.erofs")
            .arg(format!("--extract={}", out.display()))
            .arg(&image)
            .run()
            .expect("fsck.erofs likes it");
        assert!(
            std::fs::read(out.join("mixed")).expect("it reads")
                == std::fs::read(source.join("mixed")).expect("it reads")
        );
    }
}

#[test]
fn refuses_by_name_what_it_does_not_read() {
    let temp = tempfile::tempdir().expect("a directory");
    let source = temp.path().join("source");
    std::fs::create_dir(&source).expect("a directory");
    sample(&source);
    let image = temp.path().join("image");
    Command::new("mkfs.erofs")
        .args(["-zlz4hc", "-Eztailpacking"])
        .arg(&image)
        .arg(&source)
        .run()
        .expect("it works");
    let error = Erofs::open(Window::open(&image).expect("it opens")).err().expect("it is refused");
    assert!(error.chain().contains("ztailpacking"), "{error:?}");
    let error = Erofs::open(Window::memory(vec![0; 8192])).err().expect("it is refused");
    assert!(error.chain().contains("no erofs"), "{error:?}");
}

#[test]
fn damage_is_an_error_and_never_a_panic() {
    let temp = tempfile::tempdir().expect("a directory");
    let source = temp.path().join("source");
    std::fs::create_dir_all(source.join("d/e")).expect("a directory");
    std::fs::write(source.join("d/e/text"), "packs well ".repeat(3000)).expect("it is written");
    std::fs::write(source.join("d/small"), "small").expect("it is written");
    ::xattr::set(source.join("d/small"), "user.x", b"y").expect("an attribute");
    symlink("d", source.join("l")).expect("a link");
    for options in [&["-zlz4hc"][..], &["-zlz4hc", "-Elegacy-compress"], &["--chunksize=4096"], &[]] {
        let image = temp.path().join("image");
        make(options, &source, &image);
        let good = std::fs::read(&image).expect("it reads");
        let len = good.len();
        let config = ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() };
        proptest!(config, |(flips in prop::collection::vec((1024..len, any::<u8>()), 1..6))| {
            let mut bytes = good.clone();
            for (at, value) in flips {
                bytes[at] = value;
            }
            if let Ok(tree) = Erofs::open(Window::memory(bytes)).and_then(|erofs| Tree::stack(vec![erofs])) {
                for (path, _) in tree.iter() {
                    // Any answer is right, as long as there is one.
                    let _ = tree.read(path, 1 << 22);
                    let _ = tree.resolve(path);
                }
            }
        });
    }
}

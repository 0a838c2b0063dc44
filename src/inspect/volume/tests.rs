//! File systems made by the field's tools, read back and compared with the directory that they were made of; the same
//! with damage.

mod hostile;
mod xfs;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Volume;
use crate::digest::Digest;
use crate::inspect::kind::Kind;
use crate::inspect::tree::Tree;
use crate::inspect::window::Window;
use crate::process::Run as _;

pub(crate) fn run(program: &str, args: &[&str]) -> String {
    Command::new(program).args(args).run_text().unwrap_or_else(|error| {
        panic!("{error:?}\n`apt-get install xfsprogs e2fsprogs` brings the programs of these tests")
    })
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Bytes that look like data, the same each time.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    (0..len).map(|_| random.next().to_le_bytes()[3]).collect()
}

/// A generator for choices in tests (xorshift64*, Vigna 2016); the seed must not be 0.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

/// Writes a directory with everything that a root file system has; `names` is how many its largest directory has.
fn source(dir: &Path, names: usize) -> PathBuf {
    let root = dir.join("source");
    let put = |path: &str, mode: u32, content: &[u8]| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
        fs::write(&path, content).expect("it is written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
    };
    put("etc/os-release", 0o644, b"ID=debian\n");
    put("etc/shadow", 0o640, b"root:*:1::::::\n");
    put("etc/empty", 0o600, b"");
    put("bin/su", 0o4755, b"su");
    put("bin/wall", 0o2755, b"wall");
    put("bin/ping", 0o755, b"ping");
    put("srv/large", 0o644, &noise(5 << 20, 7));
    put("srv/odd", 0o644, &noise(12_345, 8));
    put(&format!("srv/{}", "n".repeat(255)), 0o644, b"a long name");
    for number in 0..names {
        put(&format!("many/entry-with-a-name-{number:05}"), 0o644, number.to_string().as_bytes());
    }
    for number in 0..names / 10 {
        put(&format!("some/entry-{number}"), 0o644, b"");
    }
    for number in 0..25 {
        put(&format!("few/entry-with-a-name-{number}"), 0o644, b"");
    }
    fs::create_dir_all(root.join("empty")).expect("a directory");
    for (name, target) in
        [("short", "etc/os-release".to_owned()), ("59", "t".repeat(59)), ("60", "t".repeat(60))]
            .into_iter()
            .chain([("long", "a/".repeat(100))])
    {
        symlink(target, root.join(format!("srv/link-{name}"))).expect("a link");
    }
    chown(root.join("srv/odd"), Some(1234), Some(5678)).expect("an owner; needs root");
    chown(root.join("srv/large"), Some(70_000), Some(80_000)).expect("an owner; needs root");
    root
}

/// Adds what only ext4's tool takes over: holes, hard links, attributes, more kinds, sticky directories.
fn enrich(root: &Path) {
    let sparse = File::create(root.join("srv/sparse")).expect("a file");
    sparse.set_len(70 << 20).expect("a size");
    sparse.write_all_at(b"in the middle", 3 << 20).expect("it is written");
    sparse.write_all_at(&noise(9000, 9), (70 << 20) - 9000).expect("it is written");
    // More pieces than the map in an inode, and than one block of it, has room for.
    let pieces = File::create(root.join("srv/pieces")).expect("a file");
    for number in 0..500_u64 {
        pieces.write_all_at(&noise(4096, number + 1), number << 16).expect("it is written");
    }
    fs::hard_link(root.join("bin/su"), root.join("bin/su-again")).expect("a link");
    fs::create_dir(root.join("tmp")).expect("a directory");
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("a mode");
    symlink("a/".repeat(400), root.join("srv/link-longer")).expect("a link");
    run("mkfifo", &[text(&root.join("srv/pipe"))]);
    run("mknod", &[text(&root.join("srv/tty")), "c", "4", "300"]);
    run("mknod", &[text(&root.join("srv/disk")), "b", "8", "1"]);
    // Version 2 of the attribute, effective; permitted: net_raw.
    let capable = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    xattr::set(root.join("bin/ping"), "security.capability", &capable).expect("an attribute; needs root");
    xattr::set(root.join("srv/odd"), "user.large", &noise(800, 3)).expect("an attribute");
    xattr::set(root.join("srv/odd"), "user.empty", b"").expect("an attribute");
    xattr::set(root.join("etc"), "user.of-a-directory", b"x").expect("an attribute");
}

fn open(image: &Path) -> Volume {
    let volume = Volume::open(&Window::open(image).expect("it opens"));
    volume.unwrap_or_else(|error| panic!("{error:?}")).expect("a volume")
}

fn error(image: &Path) -> String {
    match Volume::open(&Window::open(image).expect("it opens")) {
        Err(error) => error.chain(),
        Ok(_) => panic!("it opens"),
    }
}

/// Compares a volume with the directory that it was made of.
fn compare(volume: &Volume, root: &Path) {
    let tree = Tree::of_volume(volume).unwrap_or_else(|error| panic!("{error:?}"));
    let mut left: BTreeSet<String> = tree.iter().map(|(path, _)| path.to_owned()).collect();
    left.remove("/lost+found");
    let mut waiting = vec![root.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            let meta = fs::symlink_metadata(&path).expect("it is there");
            let name = format!("/{}", text(path.strip_prefix(root).expect("below")));
            let node = tree.get(&name).unwrap_or_else(|| panic!("{name} is missing"));
            assert!(left.remove(&name));
            assert_eq!(
                (node.mode, node.uid, node.gid),
                (meta.mode() & 0o7777, meta.uid(), meta.gid()),
                "{name}"
            );
            let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
            assert_eq!(Some(node.kind), Kind::of(meta.mode(), (major, minor)), "{name}");
            if meta.is_dir() {
                waiting.push(path.clone());
            } else if meta.is_symlink() {
                assert_eq!(Path::new(&node.target), fs::read_link(&path).expect("a link"), "{name}");
            } else if meta.is_file() {
                assert_eq!(node.size, meta.len(), "{name}");
                let found = tree.digest(node).unwrap_or_else(|error| panic!("{name}: {error:?}"));
                assert!(found == Digest::of(&fs::read(&path).expect("it reads")), "{name} has other bytes");
            }
            if !meta.is_symlink() {
                let names = xattr::list(&path).expect("attributes");
                let own: BTreeMap<String, Vec<u8>> = names
                    .map(|name| {
                        let value = xattr::get(&path, &name).expect("it reads").expect("it is there");
                        (name.to_str().expect("text").to_owned(), value)
                    })
                    .collect();
                assert_eq!(node.xattrs, own, "{name}");
            }
        }
    }
    assert_eq!(left, BTreeSet::new(), "these are in no source");
}

fn ext(dir: &Path, root: &Path, options: &[&str]) -> PathBuf {
    let image = dir.join("image");
    let _ = fs::remove_file(&image);
    let made = [&["-q", "-F", "-d", text(root)], options, &[text(&image), "64M"]].concat();
    run("mke2fs", &made);
    image
}

#[test]
fn ext4_is_read_as_it_was_written() {
    let temp = tempfile::tempdir().expect("a directory");
    let root = source(temp.path(), 3000);
    enrich(&root);
    for options in [
        &["-t", "ext4", "-L", "root", "-U", "3d4cd5d5-5d6c-4e5b-b1b0-3b6e5e8b1c11"][..],
        &["-t", "ext4", "-b", "1024", "-I", "1024"],
        &["-t", "ext4", "-O", "^64bit,^metadata_csum,^dir_index,ea_inode"],
        &["-t", "ext3", "-b", "1024", "-I", "128"],
        &["-t", "ext2", "-b", "1024", "-O", "^filetype"],
    ] {
        let volume = open(&ext(temp.path(), &root, options));
        assert_eq!(volume.name(), "ext4");
        if options.contains(&"root") {
            assert_eq!((volume.label(), volume.uuid().as_str()), ("root", options[5]));
        }
        compare(&volume, &root);
    }
}

#[test]
fn ext4_with_a_journal_to_replay_is_refused() {
    let temp = tempfile::tempdir().expect("a directory");
    let root = source(temp.path(), 10);
    let image = ext(temp.path(), &root, &["-t", "ext4"]);
    run("debugfs", &["-w", "-R", "feature needs_recovery", text(&image)]);
    assert!(error(&image).contains("was not shut down cleanly"), "{}", error(&image));
    let image = ext(temp.path(), &root, &["-t", "ext4", "-O", "inline_data"]);
    assert!(error(&image).contains("inline_data"), "{}", error(&image));
}

/// The text by which `mkfs.xfs` copies a directory.
fn prototype(root: &Path) -> String {
    let mut text = "/boot\n0 0\nd--755 0 0\n".to_owned();
    descend(root, &mut text);
    text
}

fn descend(dir: &Path, text: &mut String) {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    for path in paths {
        let meta = fs::symlink_metadata(&path).expect("it is there");
        let name = path.file_name().and_then(|name| name.to_str()).expect("text");
        let mode = meta.mode();
        let bit = |bit, letter| if mode & bit != 0 { letter } else { '-' };
        let kind = if meta.is_dir() {
            'd'
        } else if meta.is_symlink() {
            'l'
        } else {
            '-'
        };
        let rights = format!("{kind}{}{}{:03o}", bit(0o4000, 'u'), bit(0o2000, 'g'), mode & 0o777);
        write!(text, "{name} {rights} {} {}", meta.uid(), meta.gid()).expect("text");
        if meta.is_dir() {
            text.push('\n');
            descend(&path, text);
        } else if meta.is_symlink() {
            writeln!(text, " {}", fs::read_link(&path).expect("a link").display()).expect("text");
        } else {
            writeln!(text, " {}", path.display()).expect("text");
        }
    }
    text.push_str("$\n");
}

/// Makes an XFS file system of a directory; `mkfs.xfs` makes none below 300 MiB.
pub(crate) fn xfs_image(dir: &Path, root: &Path, options: &[&str]) -> PathBuf {
    let (image, list) = (dir.join("image.xfs"), dir.join("prototype"));
    let _ = fs::remove_file(&image);
    fs::write(&list, prototype(root)).expect("it is written");
    let size = format!("file,name={},size=320m", image.display());
    run("mkfs.xfs", &[&["-q", "-p", text(&list), "-d", size.as_str()], options].concat());
    image
}

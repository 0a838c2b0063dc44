//! Damage of every kind gives an error or another tree, and never a panic, an endless loop or a huge allocation.

use std::time::{Duration, Instant};

use super::*;
use crate::inspect::xfs::Xfs;

/// Images that are read with some bytes changed; each takes a few milliseconds.
const ROUNDS: u64 = 250;

/// How long one of them may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Reads everything that an inspection would; whether it succeeds does not matter.
fn walk(volume: &Volume) {
    let Ok(tree) = Tree::of_volume(volume) else { return };
    for (path, _) in tree.iter() {
        drop(tree.read(path, 1 << 22));
    }
}

/// Changes bytes where the image has data and reads it; `reads` opens and walks.
fn spoil(image: &Path, seed: u64, reads: impl Fn(Window)) {
    let file = File::options().read(true).write(true).open(image).expect("it opens");
    let data = crate::holes::data(&file, file.metadata().expect("it is there").len()).expect("it is read");
    let mut random = Random(seed);
    for round in 0..ROUNDS {
        // Half of the damage is where superblocks, groups, inodes and the first directories are.
        let part = if round % 2 == 0 {
            &data[0]
        } else {
            &data[usize::try_from(random.below(data.len() as u64)).expect("small")]
        };
        let len = (part.end - part.start).min(if round % 4 == 0 { 2048 } else { 1 << 18 });
        let mut kept = Vec::new();
        for _ in 0..=random.below(8) {
            let at = part.start + random.below(len);
            let mut old = [0];
            file.read_exact_at(&mut old, at).expect("it reads");
            let new = match random.below(3) {
                0 => 0xff,
                1 => 0,
                _ => random.next().to_le_bytes()[0],
            };
            file.write_all_at(&[new], at).expect("it is written");
            kept.push((at, old));
        }
        let start = Instant::now();
        reads(Window::open(image).expect("it opens"));
        assert!(start.elapsed() < PATIENCE, "round {round} of seed {seed} took {:?}", start.elapsed());
        for (at, old) in kept.into_iter().rev() {
            file.write_all_at(&old, at).expect("it is written");
        }
    }
}

#[test]
fn damaged_ext4_ends_with_an_error() {
    let temp = tempfile::tempdir().expect("a directory");
    let root = source(temp.path(), 60);
    enrich(&root);
    let image = ext(temp.path(), &root, &["-t", "ext4", "-b", "1024", "-N", "256"]);
    for seed in [1, 2] {
        spoil(&image, seed, |window| {
            if let Ok(Some(volume)) = Volume::open(&window) {
                walk(&volume);
            }
        });
    }
    compare(&open(&image), &root);
    truncated(&image);
}

#[test]
fn damaged_xfs_ends_with_an_error() {
    let temp = tempfile::tempdir().expect("a directory");
    let root = source(temp.path(), 60);
    let image = xfs_image(temp.path(), &root, &[]);
    spoil(&image, 3, |window| {
        if let Ok(Some(volume)) = Volume::open(&window) {
            walk(&volume);
        }
    });
    // Without checksums, damage gets further.
    for seed in [4, 5] {
        spoil(&image, seed, |window| {
            if let Ok(volume) = Xfs::open_unverified(window) {
                walk(&Volume::Xfs(volume));
            }
        });
    }
    compare(&open(&image), &root);
    truncated(&image);
}

fn truncated(image: &Path) {
    let file = File::options().write(true).open(image).expect("it opens");
    for len in [8 << 20, 1 << 20, 70_000, 4096, 1500, 1024, 600, 512, 3, 0] {
        file.set_len(len).expect("a size");
        if let Ok(Some(volume)) = Volume::open(&Window::open(image).expect("it opens")) {
            walk(&volume);
        }
    }
}

//! A sealed disk, read back with the field's own tools.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rekiln::digest::Digest;

use super::ground::{ground, scratch, succeeded, turn};

/// Copies `size` bytes at `offset` of `from` to a new file.
pub fn extract(from: &Path, offset: u64, size: u64, to: PathBuf) -> PathBuf {
    let mut source = File::open(from).expect("opened");
    source.seek(SeekFrom::Start(offset)).expect("there");
    let copied =
        std::io::copy(&mut source.take(size), &mut File::create(&to).expect("made")).expect("copied");
    assert_eq!(copied, size);
    to
}

/// Runs a tool to its end.
pub fn tool(program: &str, args: &[&Path]) -> Output {
    Command::new(program).args(args).env("LC_ALL", "C").env("MTOOLSRC", "/dev/null").output().expect(program)
}

/// Runs `veritysetup verify` on the two partitions of a disk.
pub fn verity(root: &Path, hash: &Path, root_hash: &str) -> Output {
    tool("veritysetup", &["verify".as_ref(), root, hash, root_hash.as_ref()])
}

/// Publishing believes them, and does not read the disk again.
#[test]
fn the_recorded_blocks_are_those_of_the_disk() {
    const BLOCK: usize = 512 * 1024;
    let _turn = turn();
    let web = &ground().web;
    let dir = ground().site.store().image(web.id);
    let recorded = fs::read(dir.join("blocks.json")).expect("recorded");
    assert_eq!(web.disk.blocks, Some(Digest::of(&recorded)));
    let recorded: BTreeMap<usize, String> = serde_json::from_slice(&recorded).expect("digests");
    let mut disk = fs::read(dir.join("disk.raw")).expect("a disk");
    disk.resize(disk.len().next_multiple_of(BLOCK), 0);
    let blocks = disk.chunks(BLOCK).enumerate().filter(|(_, block)| block.iter().any(|byte| *byte != 0));
    let blocks: BTreeMap<_, _> = blocks.map(|(at, block)| (at, Digest::of(block).to_string())).collect();
    assert_eq!(recorded, blocks);
}

#[test]
fn other_tools_agree_with_the_record() {
    let _turn = turn();
    let web = &ground().web;
    let disk = ground().site.store().image(web.id).join("disk.raw");
    let dir = scratch();

    let table = succeeded(&tool("sfdisk", &["--json".as_ref(), &disk]));
    let table: serde_json::Value = serde_json::from_str(&table).expect("JSON");
    let table = &table["partitiontable"];
    assert_eq!((table["label"].as_str(), table["sectorsize"].as_u64()), (Some("gpt"), Some(512)));
    let found: Vec<_> = table["partitions"]
        .as_array()
        .expect("partitions")
        .iter()
        .map(|entry| {
            let bytes = |name: &str| entry[name].as_u64().expect("a number") * 512;
            (entry["name"].as_str().expect("a name").to_owned(), bytes("start"), bytes("size"))
        })
        .collect();
    let recorded: Vec<_> = web
        .disk
        .partitions
        .iter()
        .map(|partition| (partition.name.clone(), partition.offset, partition.size))
        .collect();
    assert_eq!(found, recorded);
    assert_eq!(found.len(), 3);
    let verdict = tool("sfdisk", &["--verify".as_ref(), &disk]);
    assert!(succeeded(&verdict).contains("No errors detected"), "{verdict:?}");

    let [esp, root, hash] = ["esp", "root", "hash"].map(|name| {
        let partition = web
            .disk
            .partitions
            .iter()
            .find(|partition| partition.name.starts_with(&format!("rekiln-{name}")));
        let partition = partition.expect("a partition");
        extract(&disk, partition.offset, partition.size, dir.path().join(name))
    });
    succeeded(&tool("fsck.vfat", &["-n".as_ref(), &esp]));
    let uki = dir.path().join("uki");
    succeeded(&tool("mcopy", &["-i".as_ref(), &esp, "::EFI/BOOT/BOOTX64.EFI".as_ref(), &uki]));
    let section = dir.path().join("cmdline");
    succeeded(
        &Command::new("objcopy")
            .args(["-O", "binary", "--only-section=.cmdline"])
            .args([&uki, &section])
            .output()
            .expect("objcopy"),
    );
    let cmdline = fs::read_to_string(&section).expect("read");
    assert_eq!(cmdline.trim_end_matches('\0'), web.cmdline);
    let root_hash =
        cmdline.split(' ').find_map(|arg| arg.strip_prefix("rekiln.roothash=")).expect("a root hash");
    assert_eq!(root_hash, web.root_hash.expect("a root hash").to_string());
    succeeded(&verity(&root, &hash, root_hash));
    let wrong = root_hash.replace(['0', '1', '2'], "3");
    assert!(!verity(&root, &hash, &wrong).status.success());

    for layer in &web.layers {
        let file = extract(&root, layer.offset, layer.size, dir.path().join(layer.sha256.to_string()));
        succeeded(&tool("fsck.erofs", &[&file]));
        assert!(succeeded(&tool("sha256sum", &[&file])).starts_with(&layer.sha256.to_string()));
    }
}

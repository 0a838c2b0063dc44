//! XFS: forms of directories and attributes, the log, and trees of extents, which no tool makes without a mount.

use std::os::unix::fs::FileExt as _;

use super::*;

/// Reads a field as `xfs_db` prints it.
fn number(image: &Path, commands: &[&str], field: &str) -> u64 {
    let print = format!("print {field}");
    let mut args = vec!["-r"];
    for command in commands.iter().copied().chain([print.as_str()]) {
        args.extend(["-c", command]);
    }
    args.push(text(image));
    let said = run("xfs_db", &args);
    let value = said.lines().last().and_then(|line| line.rsplit(" = ").next()).expect("a value");
    value.trim().parse().unwrap_or_else(|_| panic!("{said}"))
}

#[test]
fn xfs_is_read_as_it_was_written() {
    let temp = tempfile::tempdir().expect("a directory");
    let root = source(temp.path(), 3000);
    for options in [
        &["-L", "root", "-m", "uuid=3d4cd5d5-5d6c-4e5b-b1b0-3b6e5e8b1c11"][..],
        &["-i", "nrext64=1,size=1024", "-n", "size=8192"],
        &["-m", "bigtime=0,inobtcount=0,reflink=0", "-i", "sparse=0", "-b", "size=1024"],
    ] {
        let volume = open(&xfs_image(temp.path(), &root, options));
        assert_eq!(volume.name(), "xfs");
        if options[0] == "-L" {
            assert_eq!((volume.label(), volume.uuid().as_str()), ("root", &options[3][5..]));
        }
        compare(&volume, &root);
    }
    // An older format has no checksums.
    let old = xfs_image(temp.path(), &root, &["-m", "crc=0"]);
    assert!(error(&old).contains("format 4"), "{}", error(&old));
}

#[test]
fn xfs_attributes_of_every_form_are_read() {
    let temp = tempfile::tempdir().expect("a directory");
    let root = source(temp.path(), 10);
    let image = xfs_image(temp.path(), &root, &[]);
    let inode = |path: &str| {
        let tree = Tree::of_volume(&open(&image)).expect("it reads");
        let node = tree.get(path).expect("it is there");
        node.inode().expect("it lies on a volume")
    };
    let set = |path: &str, attributes: &[(&str, &str, usize)]| {
        let at = format!("inode {}", inode(path));
        let commands: Vec<String> =
            attributes.iter().map(|(space, name, len)| format!("attr_set {space} -v {len} {name}")).collect();
        let mut args = vec!["-x", "-c", at.as_str()];
        for command in &commands {
            args.extend(["-c", command.as_str()]);
        }
        args.push(text(&image));
        run("xfs_db", &args);
    };
    // Within the inode; in a leaf, with a value in blocks of its own; in many leaves below a node.
    set("/bin/ping", &[("-s", "capability", 20)]);
    set("/bin/su", &[("-u", "small", 10), ("-r", "middle", 1500), ("-u", "large", 60_000)]);
    let names: Vec<String> = (0..150).map(|number| format!("attribute-{number}")).collect();
    let many: Vec<(&str, &str, usize)> = names.iter().map(|name| ("-u", name.as_str(), 200)).collect();
    set("/srv/odd", &many);
    let tree = Tree::of_volume(&open(&image)).expect("it reads");
    let found = |path: &str| {
        let xattrs = &tree.get(path).expect("it is there").xattrs;
        assert!(xattrs.values().all(|value| value.iter().all(|byte| *byte == b'v')), "{path}");
        xattrs.iter().map(|(name, value)| (name.clone(), value.len())).collect::<Vec<_>>()
    };
    let sized = |name: &str, len: usize| (name.to_owned(), len);
    assert_eq!(found("/bin/ping"), [sized("security.capability", 20)]);
    assert_eq!(
        found("/bin/su"),
        [sized("trusted.middle", 1500), sized("user.large", 60_000), sized("user.small", 10)]
    );
    let all = found("/srv/odd");
    assert!(all.len() == 150 && all.iter().all(|(_, len)| *len == 200), "{all:?}");
}

#[test]
fn xfs_with_a_log_to_replay_is_refused() {
    let temp = tempfile::tempdir().expect("a directory");
    let root = source(temp.path(), 10);
    let image = xfs_image(temp.path(), &root, &[]);
    let log = number(&image, &["sb 0"], "logstart");
    let (group_bits, group) = (number(&image, &["sb 0"], "agblklog"), number(&image, &["sb 0"], "agblocks"));
    let at = ((log >> group_bits) * group + (log & ((1 << group_bits) - 1))) * 4096;
    let file = File::options().read(true).write(true).open(&image).expect("it opens");
    let mut first = vec![0; 1024];
    file.read_exact_at(&mut first, at).expect("it reads");
    assert_eq!(first[..4], [0xfe, 0xed, 0xba, 0xbe], "the log begins with a record");
    open(&image);
    // A record behind the one that says that it was unmounted.
    let mut second = first.clone();
    second[40..44].copy_from_slice(&7_u32.to_be_bytes());
    file.write_all_at(&second, at + 1024).expect("it is written");
    assert!(error(&image).contains("was not shut down cleanly"), "{}", error(&image));
    // It too says so: a file system that was used twice.
    file.write_all_at(&first, at + 1024).expect("it is written");
    open(&image);
    // The only record is of something else.
    file.write_all_at(&[0; 1024], at + 1024).expect("it is written");
    open(&image);
    file.write_all_at(&[0], at + 512 + 9).expect("it is written");
    assert!(error(&image).contains("was not shut down cleanly"), "{}", error(&image));
}

/// `mkfs.xfs` 6.1 gives the block of a long target no head, so that no kernel reads it either; here it gets one.
#[test]
fn xfs_targets_in_blocks_of_their_own_are_read() {
    let temp = tempfile::tempdir().expect("a directory");
    let root = source(temp.path(), 10);
    let target = "a/".repeat(450);
    symlink(&target, root.join("longest")).expect("a link");
    let image = xfs_image(temp.path(), &root, &[]);
    let names = open(&image).entries(open(&image).root()).expect("it reads");
    let inode = names.iter().find(|entry| entry.name == b"longest").expect("it is there").inode;
    let at = format!("inode {inode}");
    let place = run("xfs_db", &["-r", "-c", &at, "-c", "dblock 0", "-c", "daddr", text(&image)]);
    let daddr: u64 = place.trim().rsplit(' ').next().and_then(|text| text.parse().ok()).expect("a place");
    let mut block = vec![0; 4096];
    block[..4].copy_from_slice(b"XSLM");
    block[56..956].copy_from_slice(target.as_bytes());
    let sum = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(&block);
    block[12..16].copy_from_slice(&sum.to_le_bytes());
    let file = File::options().write(true).open(&image).expect("it opens");
    file.write_all_at(&block, daddr * 512).expect("it is written");
    compare(&open(&image), &root);
    file.write_all_at(b"b", daddr * 512 + 60).expect("it is written");
    let error = Tree::of_volume(&open(&image)).err().expect("it is damaged");
    assert!(error.chain().contains("/longest") && error.chain().contains("checksum"), "{error:?}");
}

/// The one extent of a file is cut into many, which a tree of two levels names, as a file in pieces has them.
#[test]
fn xfs_files_in_many_pieces_are_read() {
    const PIECES: u64 = 640;
    let temp = tempfile::tempdir().expect("a directory");
    let root = source(temp.path(), 10);
    let image = xfs_image(temp.path(), &root, &[]);
    let tree = Tree::of_volume(&open(&image)).expect("it reads");
    let node = tree.get("/srv/large").expect("it is there");
    let convert = format!("convert ino {} daddr", node.inode().expect("it lies on a volume"));
    let said = run("xfs_db", &["-r", "-c", &convert, text(&image)]);
    // `0x1234 (4660)`
    let daddr =
        said.trim().trim_end_matches(')').rsplit('(').next().and_then(|text| text.parse::<u64>().ok());
    let inode_at = daddr.expect("a place") * 512;
    let file = File::options().read(true).write(true).open(&image).expect("it opens");
    let mut inode = vec![0; 512];
    file.read_exact_at(&mut inode, inode_at).expect("it reads");
    assert_eq!(inode[..2], *b"IN");
    let record: u128 = u128::from_be_bytes(inode[176..192].try_into().expect("16 bytes"));
    let (start, count) = ((record >> 21) & ((1 << 52) - 1), record & 0x1f_ffff);
    assert!(count >= u128::from(PIECES), "the file has {count} blocks");
    // Blocks near the end of the first group, where nothing is yet.
    let group = number(&image, &["sb 0"], "agblocks");
    let free = |number: u64| group - 10 + number;
    let head = |level: u16, records: u16| {
        let mut block = vec![0; 4096];
        block[..4].copy_from_slice(b"BMA3");
        block[4..6].copy_from_slice(&level.to_be_bytes());
        block[6..8].copy_from_slice(&records.to_be_bytes());
        block
    };
    let sealed = |mut block: Vec<u8>, crc: usize| {
        block[crc..crc + 4].fill(0);
        let sum = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(&block);
        block[crc..crc + 4].copy_from_slice(&sum.to_le_bytes());
        block
    };
    let pieces: Vec<u128> = (0..PIECES)
        .map(|number| {
            let number = u128::from(number);
            let len = if number + 1 == u128::from(PIECES) { count - number } else { 1 };
            // One piece was never written.
            let flag = if number == 5 { 1 << 127 } else { 0 };
            flag | number << 73 | (start + number) << 21 | len
        })
        .collect();
    let mut keys = Vec::new();
    for (leaf, part) in pieces.chunks(240).enumerate() {
        let mut block = head(0, u16::try_from(part.len()).expect("small"));
        for (slot, record) in block[72..].chunks_mut(16).zip(part) {
            slot.copy_from_slice(&record.to_be_bytes());
        }
        let place = free(leaf as u64 + 1);
        file.write_all_at(&sealed(block, 64), place * 4096).expect("it is written");
        keys.push((240 * leaf as u64, place));
    }
    let mut top = head(1, u16::try_from(keys.len()).expect("small"));
    let slots = (4096 - 72) / 16;
    for (number, (key, place)) in keys.iter().enumerate() {
        top[72 + 8 * number..80 + 8 * number].copy_from_slice(&key.to_be_bytes());
        let at = 72 + 8 * slots + 8 * number;
        top[at..at + 8].copy_from_slice(&place.to_be_bytes());
    }
    file.write_all_at(&sealed(top, 64), free(0) * 4096).expect("it is written");
    inode[5] = 3;
    inode[76..80].copy_from_slice(&u32::try_from(PIECES).expect("small").to_be_bytes());
    // The fork goes to the end of the inode, or to the attributes.
    let fork = if inode[82] == 0 { 512 - 176 } else { 8 * usize::from(inode[82]) };
    let slots = (fork - 4) / 16;
    inode[176..176 + fork].fill(0);
    inode[176..180].copy_from_slice(&[0, 2, 0, 1]);
    let at = 180 + 8 * slots;
    inode[at..at + 8].copy_from_slice(&free(0).to_be_bytes());
    file.write_all_at(&sealed(inode, 100), inode_at).expect("it is written");
    // What was never written reads as zeros.
    let mut bytes = fs::read(root.join("srv/large")).expect("it reads");
    bytes[5 * 4096..6 * 4096].fill(0);
    fs::write(root.join("srv/large"), bytes).expect("it is written");
    chown(root.join("srv/large"), Some(70_000), Some(80_000)).expect("an owner");
    compare(&open(&image), &root);
}

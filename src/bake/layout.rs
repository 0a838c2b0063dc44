//! Where everything lies on the disk, and the command line that says so to the guest.
//!
//! The contract with `bootstrap/guest`:
//!
//! * GPT partitions `rekiln-esp`, `rekiln-root-<first 16 digits of the id>`, `rekiln-hash-<the same>`.
//! * The root partition holds the erofs layers one after the other; the dm-verity data device is the whole
//!   of it; the hash partition is a `veritysetup format` tree with a superblock (hash type 1, sha256,
//!   4096-byte blocks).
//! * Command line, all sealed: `rekiln.image=<id> rekiln.roothash=<hex> rekiln.salt=<hex>
//!   rekiln.blocks=<data blocks of 4096 bytes> rekiln.layers=<offset>+<size>,…` with the ground layer first,
//!   offsets and sizes in 4096-byte blocks, then `rekiln.debug=1` for the debug variant only.

use uuid::Uuid;

use crate::catalog::Partition;
use crate::digest::{Digest, ImageId};

/// Bytes of a block of erofs and dm-verity.
pub const BLOCK: u64 = 4096;

/// Bytes of a disk sector; what NVMe and virtio report for our disks.
pub const SECTOR: u64 = 512;

/// Partitions start at multiples of this: 1 MiB is what every partitioning tool uses.
const PARTITION_ALIGNMENT: u64 = 1 << 20;

/// Layers start at multiples of this: the block of the EBS direct APIs (512 KiB), so that a layer that did not
/// change is the same blocks in an upload.
pub const LAYER_ALIGNMENT: u64 = 512 << 10;

/// A layer has room up to a multiple of this at least, 4 MiB of it, and of an eighth of its size where that is more (as a
/// power of two): what grows a little moves no layer behind it. Room is a hole, and costs nothing but its hashes.
const LAYER_ROOM: u64 = 8 * LAYER_ALIGNMENT;

/// See [`LAYER_ROOM`].
const LAYER_ROOM_SHARE: u64 = 8;

/// Bytes of the EFI system partition: one UKI of 15 MiB at most with room for its successor's growth, and just
/// above the 32.5 MiB that FAT32 needs with 512-byte clusters (the UEFI specification asks for FAT32).
pub const ESP_SIZE: u64 = 34 << 20;

/// Bytes kept free at the end for the backup partition table (33 sectors, rounded up).
const TAIL: u64 = 1 << 20;

/// Where everything lies on one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the whole disk.
    pub size: u64,
    /// The EFI system partition.
    pub esp: Partition,
    /// The layers.
    pub root: Partition,
    /// The dm-verity tree over `root`.
    pub hash: Partition,
}

impl Layout {
    /// Lays out the disk of image `id` with `root` bytes of layers and `hash` bytes of hash tree.
    #[must_use]
    pub fn new(id: ImageId, root: u64, hash: u64) -> Self {
        let mut next = PARTITION_ALIGNMENT;
        let mut place = |name: String, size: u64| {
            let partition = Partition { name, offset: next, size };
            next = (next + size).next_multiple_of(PARTITION_ALIGNMENT);
            partition
        };
        let prefix = &id.to_string()[..16];
        let esp = place("rekiln-esp".to_owned(), ESP_SIZE);
        let root = place(format!("rekiln-root-{prefix}"), root);
        let hash = place(format!("rekiln-hash-{prefix}"), hash);
        Self { size: next + TAIL, esp, root, hash }
    }
}

/// Returns the offset of each layer in the root partition and the partition's size, in bytes.
#[must_use]
pub fn place_layers(sizes: &[u64]) -> (Vec<u64>, u64) {
    let (mut next, mut end) = (0_u64, 0_u64);
    let offsets = sizes
        .iter()
        .map(|size| {
            let offset = next;
            end = offset + size.next_multiple_of(BLOCK);
            next = offset + room(*size);
            offset
        })
        .collect();
    (offsets, end)
}

/// Returns the bytes that a layer of this size takes when another one follows it; a multiple of [`LAYER_ALIGNMENT`].
fn room(size: u64) -> u64 {
    let share = size / LAYER_ROOM_SHARE;
    let share = share.checked_ilog2().map_or(0, |power| 1 << power);
    size.next_multiple_of(share.max(LAYER_ROOM))
}

/// Returns a UUID for `purpose` that is the same for the same image or layer and differs for any other.
#[must_use]
pub fn derived_uuid(purpose: &str, id: Digest) -> Uuid {
    let digest = Digest::of(format!("rekiln uuid {purpose} {id}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Returns the salt of an image's hash tree.
#[must_use]
pub fn salt(id: ImageId) -> Digest {
    Digest::of(format!("rekiln salt {id}").as_bytes())
}

/// What the guest must know to open its root.
#[derive(Debug, Clone, Copy)]
pub struct Sealing<'a> {
    /// The image id.
    pub id: ImageId,
    /// dm-verity root hash.
    pub root_hash: Digest,
    /// Bytes of the root partition that are covered.
    pub root_size: u64,
    /// Offset and bytes of each layer, from the ground up.
    pub layers: &'a [(u64, u64)],
    /// Whether it is the debug variant.
    pub debug: bool,
}

/// Returns the command line: the strict profile's arguments, the recipes', and what opens the root.
#[must_use]
pub fn command_line(profile: &[String], recipes: &[String], sealing: &Sealing<'_>) -> String {
    let layers: Vec<String> = sealing
        .layers
        .iter()
        .map(|(offset, size)| format!("{}+{}", offset / BLOCK, size.div_ceil(BLOCK)))
        .collect();
    let mut words: Vec<String> = profile.iter().chain(recipes).cloned().collect();
    words.push(format!("rekiln.image={}", sealing.id));
    words.push(format!("rekiln.roothash={}", sealing.root_hash));
    words.push(format!("rekiln.salt={}", salt(sealing.id)));
    words.push(format!("rekiln.blocks={}", sealing.root_size / BLOCK));
    words.push(format!("rekiln.layers={}", layers.join(",")));
    if sealing.debug {
        words.push("rekiln.debug=1".to_owned());
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_aligned_and_do_not_overlap() {
        let id = Digest::of(b"image");
        let layout = Layout::new(id, 5_000_000 / BLOCK * BLOCK, 40_960);
        let all = [&layout.esp, &layout.root, &layout.hash];
        for pair in all.windows(2) {
            assert!(pair[0].offset + pair[0].size <= pair[1].offset);
        }
        assert!(all.iter().all(|partition| partition.offset % PARTITION_ALIGNMENT == 0));
        assert!(layout.hash.offset + layout.hash.size + 34 * SECTOR <= layout.size);
        assert!(all.iter().all(|partition| partition.name.len() <= 36), "GPT names have 36 characters");
    }

    #[test]
    fn layers_keep_their_place_when_the_last_one_grows() {
        let (before, _) = place_layers(&[10_000_000, 4096, 8192]);
        let (after, size) = place_layers(&[10_000_000, 4096, 9_000_000]);
        assert_eq!(before, after);
        assert_eq!(before[0], 0);
        assert!(before.iter().all(|offset| offset % LAYER_ALIGNMENT == 0));
        assert_eq!(size % BLOCK, 0);
        assert!(size >= before[2] + 9_000_000);
    }

    #[test]
    fn layers_keep_their_place_when_one_below_grows_a_little() {
        let sizes = [70_000_000, 300_000, 9_000_000, 100_000];
        let (before, _) = place_layers(&sizes);
        assert_eq!(before, [0, 72 << 20, 76 << 20, 88 << 20]);
        let (after, _) = place_layers(&sizes.map(|size| size + size / 32));
        assert_eq!(before, after);
        // A whole eighth is another matter.
        assert_ne!(before, place_layers(&sizes.map(|size| size + size / 8)).0);
    }

    #[test]
    fn everything_derived_differs_by_purpose_and_id() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_eq!(derived_uuid("disk", a), derived_uuid("disk", a));
        assert_ne!(derived_uuid("disk", a), derived_uuid("disk", b));
        assert_ne!(derived_uuid("disk", a), derived_uuid("esp", a));
        assert_ne!(salt(a), salt(b));
    }

    #[test]
    fn command_line_in_full() {
        let id = Digest::of(b"a");
        let sealing = Sealing {
            id,
            root_hash: id,
            root_size: 3 * BLOCK,
            layers: &[(0, 4096), (524_288, 5000)],
            debug: true,
        };
        let line = command_line(&["quiet".to_owned()], &["x=1".to_owned()], &sealing);
        let salt = salt(id);
        assert_eq!(
            line,
            format!(
                "quiet x=1 rekiln.image={id} rekiln.roothash={id} rekiln.salt={salt} rekiln.blocks=3 rekiln.layers=0+1,128+2 rekiln.debug=1"
            )
        );
    }
}

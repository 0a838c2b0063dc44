//! Do: reads a published image back, and says whether it is byte for byte the one in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::task::JoinSet;

use super::blocks::{BLOCK, Blocks, zero};
use super::plan::{DISK_TAG, IMAGE_TAG, State, ami_name};
use super::publication::Disk;
use crate::digest::{Digest, ImageId};
use crate::error::{Doing as _, Error, Result};
use crate::interrupt;
use crate::provider::aws::{Aws, insist};

/// How many blocks are read at once: half of what one uploads with, since reading is only for looking.
const AT_ONCE: usize = 32;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The AMI.
    pub ami: String,
    /// Its snapshot.
    pub snapshot: String,
    /// How many blocks were read.
    pub blocks: usize,
    /// What is other than it should be, a line each; empty when nothing is.
    pub differences: Vec<String>,
}

/// Compares the AMI of an image with its disk.
///
/// # Errors
/// There is no AMI, or it cannot be read.
pub async fn verify(
    (region, role): (&str, Option<&str>),
    recipe: &str,
    image: ImageId,
    disk: &Disk,
) -> Result<Verified> {
    let aws = Aws::connect(region, role).await?;
    let own = disk.blocks().await?;
    let name = ami_name(recipe, image);
    let none = || {
        Error::failed(format!(
            "image {} is not published in {region} of account {}",
            image.short(),
            aws.account
        ))
        .hint(format!("`rekiln publish {} --region {region}` publishes it", image.short()))
    };
    let seen = insist(region, || aws.image(&name)).await?.ok_or_else(none)?;
    let (ami, Some(snapshot)) = (seen.id.clone(), seen.snapshot.clone()) else { return Err(none()) };
    let mut differences = Vec::new();
    if seen.state != State::Ready {
        differences.push(format!("{ami} is not available"));
    }
    for (tag, wanted) in [(IMAGE_TAG, image.to_string()), (DISK_TAG, disk.sha256.to_string())] {
        let found = seen.tags.get(tag).map_or("nothing", String::as_str);
        if found != wanted {
            differences.push(format!("the tag {tag} of {ami} says {found}, and not {wanted}"));
        }
    }
    let found = read(&aws, &snapshot).await?;
    differences.extend(compare(own, &found));
    Ok(Verified { ami, snapshot, blocks: found.len(), differences })
}

/// Returns the digest of every block that was written.
async fn read(aws: &Aws, snapshot: &str) -> Result<BTreeMap<u32, Digest>> {
    let mut blocks = insist(&aws.region, || aws.blocks(snapshot)).await?.into_iter();
    let (mut calls, mut found) = (JoinSet::new(), BTreeMap::new());
    let (aws, snapshot) = (Arc::new(aws.clone()), Arc::new(snapshot.to_owned()));
    loop {
        interrupt::check()?;
        while calls.len() < AT_ONCE
            && let Some(block) = blocks.next()
        {
            let (aws, snapshot) = (Arc::clone(&aws), Arc::clone(&snapshot));
            calls.spawn(async move {
                let data = insist(&aws.region, || aws.get_block(&snapshot, &block)).await?;
                Ok::<_, Error>((block.index, Digest::of(&data), data.len()))
            });
        }
        let Some(ended) = calls.join_next().await else { return Ok(found) };
        let (index, digest, size) = ended.doing(|| "reading a block")??;
        if size != BLOCK {
            return Err(Error::failed(format!(
                "block {index} of {snapshot} has {size} bytes, and not {BLOCK}"
            )));
        }
        found.insert(index, digest);
    }
}

/// Says which blocks differ. A block that was written as zeros is as good as one that was not written.
fn compare(own: &Blocks, found: &BTreeMap<u32, Digest>) -> Vec<String> {
    let zero = zero();
    let indices: BTreeSet<_> = own.0.keys().chain(found.keys()).collect();
    let differs = |index: &&&u32| {
        let at = |blocks: &BTreeMap<u32, Digest>| blocks.get(**index).copied().unwrap_or(zero);
        at(&own.0) != at(found)
    };
    let words = |index: &u32| {
        let at = u64::from(*index) * BLOCK as u64;
        format!("block {index}, bytes {at} to {}, differs", at + BLOCK as u64 - 1)
    };
    indices.iter().filter(differs).map(|index| words(index)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_block_that_differs_is_named_and_zeros_are_nothing() {
        let digest = |word: &str| Digest::of(word.as_bytes());
        let own = Blocks([(1, digest("a")), (2, digest("b")), (5, digest("c"))].into());
        let same = BTreeMap::from([(1, digest("a")), (2, digest("b")), (5, digest("c")), (7, zero())]);
        assert_eq!(compare(&own, &same), Vec::<String>::new());
        let other = BTreeMap::from([(1, digest("a")), (2, digest("x")), (6, digest("d"))]);
        let lines = compare(&own, &other);
        let expected = [
            "block 2, bytes 1048576 to 1572863, differs",
            "block 5, bytes 2621440 to 3145727, differs",
            "block 6, bytes 3145728 to 3670015, differs",
        ];
        assert_eq!(lines, expected);
    }
}

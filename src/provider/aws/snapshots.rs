//! Snapshots: written and read block by block (EBS direct APIs), looked at and removed (EC2).

use std::collections::BTreeMap;

use aws_sdk_ebs::primitives::ByteStream;
use aws_sdk_ebs::types::{ChecksumAggregationMethod, ChecksumAlgorithm, Tag as EbsTag};
use aws_sdk_ec2::types::{Filter, Snapshot, SnapshotState};

use super::{Aws, CallError};
use crate::digest::Digest;
use crate::publish::blocks::{BLOCK, Blocks};
use crate::publish::plan::{SeenSnapshot, State};

/// Minutes without a block after which AWS takes an unfinished snapshot away by itself: long enough to run a publish
/// that was killed again, short enough that nothing forgotten costs much. AWS allows 10 to 4320.
const TIMEOUT: i32 = 60;

/// What a snapshot is begun as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beginning {
    /// The client token: the same one with the same values begins no second snapshot.
    pub token: String,
    /// GiB of the volume.
    pub gib: u64,
    /// For people.
    pub description: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The snapshot that it is a delta to; it brings its encryption.
    pub parent: Option<String>,
    /// The key to encrypt it with, by ARN; not with a parent.
    pub kms_key: Option<String>,
}

/// One block that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readable {
    /// Its index.
    pub index: u32,
    token: String,
}

impl Aws {
    /// Begins a snapshot and returns its id.
    ///
    /// # Errors
    /// It was not begun, or whether it was cannot be told.
    pub async fn start_snapshot(&self, beginning: &Beginning) -> Result<String, CallError> {
        let tags = beginning.tags.iter().map(|(key, value)| EbsTag::builder().key(key).value(value).build());
        let gib = i64::try_from(beginning.gib).unwrap_or(i64::MAX);
        let mut call = self
            .ebs
            .start_snapshot()
            .volume_size(gib)
            .description(&beginning.description)
            .client_token(&beginning.token)
            .set_tags(Some(tags.collect()))
            .timeout(TIMEOUT)
            .set_parent_snapshot_id(beginning.parent.clone());
        if let Some(key) = beginning.kms_key.as_ref().filter(|_| beginning.parent.is_none()) {
            call = call.encrypted(true).kms_key_arn(key);
        }
        let begun = call.send().await.map_err(|error| CallError::of("StartSnapshot", &error))?;
        begun.snapshot_id.ok_or_else(|| CallError::empty("StartSnapshot", "snapshot id"))
    }

    /// Writes one block, [`BLOCK`] bytes.
    ///
    /// # Errors
    /// It was not written, or whether it was cannot be told. Writing the same again changes nothing.
    pub async fn put_block(
        &self,
        snapshot: &str,
        index: u32,
        block: Vec<u8>,
        digest: Digest,
    ) -> Result<(), CallError> {
        let call = self
            .ebs
            .put_snapshot_block()
            .snapshot_id(snapshot)
            .block_index(number(index))
            .data_length(number(BLOCK))
            .checksum(base64(digest))
            .checksum_algorithm(ChecksumAlgorithm::ChecksumAlgorithmSha256)
            .block_data(ByteStream::from(block));
        call.send().await.map(drop).map_err(|error| CallError::of("PutSnapshotBlock", &error))
    }

    /// Says that `written` is all that was written, and has AWS check it.
    ///
    /// # Errors
    /// It is not, or whether AWS was told cannot be told.
    pub async fn complete_snapshot(&self, snapshot: &str, written: &Blocks) -> Result<(), CallError> {
        let mut call =
            self.ebs.complete_snapshot().snapshot_id(snapshot).changed_blocks_count(number(written.len()));
        if !written.is_empty() {
            call = call
                .checksum(base64(written.aggregate()))
                .checksum_algorithm(ChecksumAlgorithm::ChecksumAlgorithmSha256)
                .checksum_aggregation_method(ChecksumAggregationMethod::ChecksumAggregationLinear);
        }
        call.send().await.map(drop).map_err(|error| CallError::of("CompleteSnapshot", &error))
    }

    /// Returns the blocks of a completed snapshot that were written, in order.
    ///
    /// # Errors
    /// They cannot be listed.
    pub async fn blocks(&self, snapshot: &str) -> Result<Vec<Readable>, CallError> {
        let mut pages = self.ebs.list_snapshot_blocks().snapshot_id(snapshot).into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| CallError::of("ListSnapshotBlocks", &error))?;
            for block in page.blocks.unwrap_or_default() {
                let index = block.block_index.and_then(|index| u32::try_from(index).ok());
                let (Some(index), Some(token)) = (index, block.block_token) else {
                    return Err(CallError::empty("ListSnapshotBlocks", "index or token of a block"));
                };
                found.push(Readable { index, token });
            }
        }
        Ok(found)
    }

    /// Reads one block of a completed snapshot.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn get_block(&self, snapshot: &str, block: &Readable) -> Result<Vec<u8>, CallError> {
        let call = self.ebs.get_snapshot_block().snapshot_id(snapshot).block_index(number(block.index));
        let answer = call.block_token(&block.token).send().await;
        let answer = answer.map_err(|error| CallError::of("GetSnapshotBlock", &error))?;
        let data = answer.block_data.collect().await;
        let data = data.map_err(|_| CallError::empty("GetSnapshotBlock", "whole block"))?;
        Ok(data.into_bytes().into())
    }

    /// Reads one block of a completed snapshot, and checks that it is what AWS has: the SHA-256 that comes with it.
    ///
    /// # Errors
    /// It cannot be read, or came with no such checksum or a wrong one; asking again may help.
    pub async fn get_checked_block(&self, snapshot: &str, block: &Readable) -> Result<Vec<u8>, CallError> {
        let call = self.ebs.get_snapshot_block().snapshot_id(snapshot).block_index(number(block.index));
        let answer = call.block_token(&block.token).send().await;
        let answer = answer.map_err(|error| CallError::of("GetSnapshotBlock", &error))?;
        let is_sha256 = answer.checksum_algorithm == Some(ChecksumAlgorithm::ChecksumAlgorithmSha256);
        let checksum = answer.checksum.filter(|_| is_sha256);
        let data = answer.block_data.collect().await;
        let data = data.map_err(|_| CallError::empty("GetSnapshotBlock", "whole block"))?.into_bytes();
        if checksum != Some(base64(Digest::of(&data))) {
            return Err(CallError::empty("GetSnapshotBlock", "block that fits its checksum"));
        }
        Ok(data.into())
    }

    /// Returns a snapshot that this account may see; `None` when it is not there, or not yet.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub async fn snapshot(&self, id: &str) -> Result<Option<SeenSnapshot>, CallError> {
        let call = self.ec2.describe_snapshots().snapshot_ids(id);
        match call.send().await.map_err(|error| CallError::of("DescribeSnapshots", &error)) {
            Ok(found) => Ok(found.snapshots.unwrap_or_default().iter().find_map(seen)),
            Err(error) if error.kind == super::error::Kind::Missing => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the snapshots of this account that have a tag with this value, or with any.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub async fn snapshots(&self, tag: &str, value: Option<&str>) -> Result<Vec<SeenSnapshot>, CallError> {
        let filter = match value {
            Some(value) => Filter::builder().name(format!("tag:{tag}")).values(value).build(),
            None => Filter::builder().name("tag-key").values(tag).build(),
        };
        let call = self.ec2.describe_snapshots().owner_ids("self").filters(filter);
        let found = call.into_paginator().items().send().try_collect().await;
        let found = found.map_err(|error| CallError::of("DescribeSnapshots", &error))?;
        Ok(found.iter().filter_map(seen).collect())
    }

    /// Removes a snapshot; one that is gone is removed.
    ///
    /// # Errors
    /// It was not, or whether it was cannot be told.
    pub async fn delete_snapshot(&self, id: &str) -> Result<(), CallError> {
        let answer = self.ec2.delete_snapshot().snapshot_id(id).send().await;
        match answer.map_err(|error| CallError::of("DeleteSnapshot", &error)) {
            Err(error) if error.kind != super::error::Kind::Missing => Err(error),
            _ => Ok(()),
        }
    }
}

fn seen(snapshot: &Snapshot) -> Option<SeenSnapshot> {
    let why = || snapshot.state_message().unwrap_or("no reason given").to_owned();
    let tags = snapshot.tags().iter();
    Some(SeenSnapshot {
        id: snapshot.snapshot_id()?.to_owned(),
        state: match snapshot.state() {
            Some(SnapshotState::Completed) => State::Ready,
            Some(SnapshotState::Error) => State::Failed(why()),
            // In the recycle bin, or on its way out of it.
            Some(SnapshotState::Recoverable | SnapshotState::Recovering) => State::Gone,
            _ => State::Pending,
        },
        gib: snapshot.volume_size().and_then(|gib| u64::try_from(gib).ok()).unwrap_or(0),
        kms_key: snapshot.kms_key_id().map(str::to_owned),
        tags: tags.filter_map(|tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned()))).collect(),
    })
}

/// Counts of blocks are far below two thousand million: a volume has at most 134 million.
fn number(count: impl TryInto<i32>) -> i32 {
    count.try_into().unwrap_or(i32::MAX)
}

fn base64(digest: Digest) -> String {
    aws_smithy_types::base64::encode(digest.as_bytes())
}

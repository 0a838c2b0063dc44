"""EC2's view of snapshots: states which take their time, sharing, copying and deleting."""

from __future__ import annotations

import hashlib
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.models.elastic_block_store import Snapshot as MotoSnapshot

from world import (
    BLOCK_SIZE,
    AwsError,
    Block,
    Snapshot,
    backend_of,
    default_key,
    key_arn,
    matches,
    specified_tags,
    tag_filter,
    tag_list,
    tags_of,
    text,
)


def find_snapshot(backend: Any, snapshot_id: str) -> Any:
    """A snapshot by its id, its time-out taken into account."""
    snapshot = backend.snapshots.get(snapshot_id)
    if snapshot is None:
        raise AwsError("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")
    if isinstance(snapshot, Snapshot):
        snapshot.expire()
    return snapshot


def users_of(backend: Any, snapshot_id: str) -> list[str]:
    """The images whose block device mappings name the snapshot."""
    return [
        image.id
        for image in backend.amis.values()
        if any(mapping.get("Ebs", {}).get("SnapshotId") == snapshot_id for mapping in image.block_device_mappings)
    ]


def remove_snapshot(backend: Any, snapshot_id: str) -> None:
    """Forget a snapshot and its tags."""
    del backend.snapshots[snapshot_id]
    backend.tags.pop(snapshot_id, None)


def copy_content(
    source: Any, backend: Any, description: str, encrypted: bool | None, kms_key_id: str | None
) -> Snapshot:
    """A copy of a snapshot in another or the same region; it may gain encryption, but never lose it."""
    if kms_key_id and not encrypted:
        raise AwsError(
            "InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set."
        )
    key = None
    if encrypted or source.encrypted:
        key = key_arn(backend.account_id, backend.region_name, kms_key_id)
    copy = Snapshot(
        backend,
        source.volume_size,
        description,
        inherited=source.blocks if isinstance(source, Snapshot) else None,
        kms_key_id=key,
    )
    # A copy's content is its own: it has no parent to be compared with.
    copy.own, copy.inherited = copy.inherited, {}
    backend.snapshots[copy.id] = copy
    return copy


def foreign_key(snapshot: Snapshot) -> bool:
    """Whether the key is of another region; EC2 tells it by a failed copy, not by an error."""
    return bool(snapshot.kms_key_id) and snapshot.kms_key_id.split(":")[3] != snapshot.ec2_backend.region_name


def check_shareable(backend: Any, snapshot: Any) -> None:
    """What the AWS managed key encrypts, no other account can read."""
    if snapshot.encrypted and snapshot.kms_key_id == default_key(backend.account_id, backend.region_name):
        raise AwsError("InvalidParameter", "Snapshots encrypted with the AWS Managed CMK can't be shared")


def describe_snapshots(self: Any) -> ActionResult:
    """DescribeSnapshots: each look at a sealed snapshot brings it nearer to `completed`."""
    self.error_on_dryrun()
    backend, wanted = self.ec2_backend, self._get_param("SnapshotIds", [])
    for snapshot_id in wanted:
        find_snapshot(backend, snapshot_id)
    owners = [backend.account_id if owner == "self" else owner for owner in self._get_param("OwnerIds", [])]
    filters = self._filters_from_querystring()
    states = filters.pop("status", None)
    found = []
    for snapshot in list(backend.snapshots.values()):
        if wanted and snapshot.id not in wanted or owners and snapshot.owner_id not in owners:
            continue
        if not all(matches(patterns, filter_values(snapshot, name)) for name, patterns in filters.items()):
            continue
        state = snapshot.look() if isinstance(snapshot, Snapshot) else snapshot.status
        if states is None or state in states:
            found.append(described(backend, snapshot, state))
    return ActionResult({"Snapshots": found})


def filter_values(snapshot: Any, name: str) -> list[str]:
    """What a filter of DescribeSnapshots compares with."""
    values = tag_filter(name, tags_of(snapshot.ec2_backend, snapshot.id))
    if values is not None:
        return values
    plain = {
        "description": snapshot.description,
        "encrypted": snapshot.encrypted,
        "owner-id": snapshot.owner_id,
        "progress": snapshot.progress,
        "snapshot-id": snapshot.id,
        "volume-id": snapshot.volume_id,
        "volume-size": snapshot.volume_size,
    }
    if name not in plain:
        raise AwsError("InvalidParameterValue", f"The filter '{name}' is invalid")
    return [text(plain[name])]


def described(backend: Any, snapshot: Any, state: str) -> dict[str, Any]:
    """A snapshot as DescribeSnapshots shows it."""
    result = {
        "SnapshotId": snapshot.id,
        "VolumeId": snapshot.volume_id,
        "State": state,
        "StartTime": snapshot.start_time,
        "Progress": "100%" if state == "completed" else "0%",
        "OwnerId": snapshot.owner_id,
        "Description": snapshot.description,
        "VolumeSize": snapshot.volume_size,
        "Encrypted": snapshot.encrypted,
        "StorageTier": snapshot.storage_tier,
        "Tags": tag_list(backend, snapshot.id),
    }
    if snapshot.kms_key_id:
        result["KmsKeyId"] = snapshot.kms_key_id
    if getattr(snapshot, "state_message", None):
        result["StateMessage"] = snapshot.state_message
    return result


def delete_snapshot(self: Any) -> ActionResult:
    """DeleteSnapshot, refused while an image uses it."""
    self.error_on_dryrun()
    backend, snapshot_id = self.ec2_backend, self._get_param("SnapshotId")
    find_snapshot(backend, snapshot_id)
    if users := users_of(backend, snapshot_id):
        raise AwsError("InvalidSnapshot.InUse", f"The snapshot {snapshot_id} is currently in use by {', '.join(users)}")
    remove_snapshot(backend, snapshot_id)
    return EmptyResult()


def copy_snapshot(self: Any) -> ActionResult:
    """CopySnapshot, into the region which is asked."""
    self.error_on_dryrun()
    backend = self.ec2_backend
    source = find_snapshot(
        backend_of(backend.account_id, self._get_param("SourceRegion")), self._get_param("SourceSnapshotId")
    )
    if source.status != "completed":
        raise AwsError("IncorrectState", f"The snapshot {source.id} is not completed")
    tags = specified_tags(self._get_param("TagSpecifications"), {"snapshot"})["snapshot"]
    copy = copy_content(
        source,
        backend,
        self._get_param("Description", ""),
        self._get_param("Encrypted"),
        self._get_param("KmsKeyId"),
    )
    if foreign_key(copy):
        copy.status, copy.state_message = "error", "Given key ID is not accessible"
    backend.tags[copy.id].update(tags)
    return ActionResult({"SnapshotId": copy.id, "Tags": tag_list(backend, copy.id)})


def modify_snapshot_attribute(self: Any) -> ActionResult:
    """ModifySnapshotAttribute, in both of its forms."""
    self.error_on_dryrun()
    backend = self.ec2_backend
    snapshot = find_snapshot(backend, self._get_param("SnapshotId"))
    permission = self._get_param("CreateVolumePermission", {})
    add, remove = list(permission.get("Add", [])), list(permission.get("Remove", []))
    operation = self._get_param("OperationType")
    listed = [{"UserId": user} for user in self._get_param("UserIds", [])]
    listed += [{"Group": group} for group in self._get_param("GroupNames", [])]
    if operation not in (None, "add", "remove") or listed and not operation:
        raise AwsError("InvalidParameterValue", "OperationType must be add or remove")
    (add if operation == "add" else remove).extend(listed)
    for entry in add + remove:
        user, group = entry.get("UserId"), entry.get("Group")
        if user is not None and not (len(user) == 12 and user.isdigit()):
            raise AwsError(
                "InvalidAMIAttributeItemValue", f'Invalid attribute item value "{user}" for userId item type.'
            )
        if group is not None and group != "all":
            raise AwsError(
                "InvalidAMIAttributeItemValue", f'Invalid attribute item value "{group}" for group item type.'
            )
    if add:
        check_shareable(backend, snapshot)
        if snapshot.encrypted and any(entry.get("Group") for entry in add):
            raise AwsError("InvalidParameter", "Encrypted snapshots can't be public")
    for entry in add:
        permissions_of(snapshot, entry).add(entry.get("UserId") or entry["Group"])
    for entry in remove:
        permissions_of(snapshot, entry).discard(entry.get("UserId") or entry["Group"])
    return EmptyResult()


def permissions_of(snapshot: MotoSnapshot, entry: dict[str, str]) -> set[str]:
    """The set which an entry belongs to; moto's DescribeSnapshotAttribute reads the same sets."""
    if "UserId" in entry:
        return snapshot.create_volume_permission_userids
    return snapshot.create_volume_permission_groups


def spoil(snapshot: Snapshot, index: int, missing: bool) -> None:
    """Another byte in a block, its checksum made to fit, or the block taken away: only a comparison finds it."""
    block = snapshot.blocks.get(index)
    snapshot.own.pop(index, None)
    snapshot.inherited.pop(index, None)
    if not missing:
        data = bytearray(block.data if block else bytes(BLOCK_SIZE))
        data[BLOCK_SIZE // 2] ^= 1
        snapshot.own[index] = Block(hashlib.sha256(data).digest(), bytes(data))


def state_of_snapshots(backend: Any) -> list[dict[str, Any]]:
    """All snapshots of a back end for the tests, without counting as a look."""
    found = []
    for snapshot in backend.snapshots.values():
        ours = isinstance(snapshot, Snapshot)
        if ours:
            snapshot.expire()
        found.append(
            {
                "account": backend.account_id,
                "region": backend.region_name,
                "id": snapshot.id,
                "state": snapshot.status,
                "sealed": snapshot.sealed if ours else True,
                "description": snapshot.description,
                "volume_size": snapshot.volume_size,
                "tags": tags_of(backend, snapshot.id),
                "encrypted": snapshot.encrypted,
                "kms_key": snapshot.kms_key_id,
                "parent": snapshot.parent_id if ours else None,
                "own_blocks": len(snapshot.own) if ours else 0,
                "blocks": len(snapshot.blocks) if ours else 0,
                "used_by": users_of(backend, snapshot.id),
                "shared_with": sorted(
                    snapshot.create_volume_permission_userids | snapshot.create_volume_permission_groups
                ),
            }
        )
    return found


ACTIONS = (describe_snapshots, delete_snapshot, copy_snapshot, modify_snapshot_attribute)

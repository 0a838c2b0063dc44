"""Goes through every correction and every fault once, with boto3 as a client that knows nothing of them.

    PYTHONPATH=<where requirements.txt is installed> python3 self_test.py

prints `ok`.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta, timezone
from typing import Any

from self_test_access import test_access
from self_test_client import (
    OTHER_REGION,
    Clients,
    Program,
    block,
    checksum,
    completed_snapshot,
    image_arguments,
    image_state,
    put,
    refused,
    snapshot_state,
)
from self_test_faults import test_faults
from self_test_groups import test_groups
from self_test_hooks import test_hooks
from self_test_instances import test_instances
from self_test_members import test_members
from self_test_targets import test_targets

# A well-formed id which nothing has.
NO_SNAPSHOT, NO_IMAGE = "snap-0123456789abcdef0", "ami-0123456789abcdef0"
KEY = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-4333-8444-555555555555"
TAGS = [{"Key": "rekiln:bake", "Value": "one"}]


def test_start(clients: Clients) -> None:
    """StartSnapshot: idempotency, tags, sizes, encryption."""
    ebs, invalid = clients.ebs, "ValidationException"
    given: dict[str, Any] = {"VolumeSize": 1, "ClientToken": "one", "Tags": TAGS, "Description": "first"}
    first = ebs.start_snapshot(**given)
    assert first["BlockSize"] == 512 * 1024 and first["Status"] == "pending"
    assert ebs.start_snapshot(**given)["SnapshotId"] == first["SnapshotId"]
    answer = refused("ConflictException", ebs.start_snapshot, **(given | {"VolumeSize": 2}))
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 409
    shown = clients.ec2.describe_snapshots(Filters=[{"Name": "tag:rekiln:bake", "Values": ["one"]}], OwnerIds=["self"])
    assert [entry["SnapshotId"] for entry in shown["Snapshots"]] == [first["SnapshotId"]]
    assert shown["Snapshots"][0]["Tags"] == TAGS and shown["Snapshots"][0]["Description"] == "first"
    refused(invalid, ebs.start_snapshot, "INVALID_VOLUME_SIZE", VolumeSize=65537)
    refused(invalid, ebs.start_snapshot, "INVALID_PARAMETER_VALUE", VolumeSize=1, ClientToken="x" * 65)
    refused(invalid, ebs.start_snapshot, "INVALID_PARAMETER_VALUE", VolumeSize=1, KmsKeyArn=KEY)
    refused(invalid, ebs.start_snapshot, "INVALID_TAG", VolumeSize=1, Tags=[{"Key": "aws:x", "Value": "y"}])
    refused(
        "ResourceNotFoundException",
        ebs.start_snapshot,
        "SNAPSHOT_NOT_FOUND",
        VolumeSize=1,
        ParentSnapshotId=NO_SNAPSHOT,
    )
    refused(invalid, ebs.start_snapshot, "INVALID_SNAPSHOT_ID", VolumeSize=1, ParentSnapshotId=first["SnapshotId"])
    encrypted = ebs.start_snapshot(VolumeSize=1, Encrypted=True, KmsKeyArn=KEY)["SnapshotId"]
    shown = clients.ec2.describe_snapshots(SnapshotIds=[encrypted])["Snapshots"][0]
    assert shown["Encrypted"] and shown["KmsKeyId"] == KEY


def test_put_and_complete(clients: Clients, endpoint: Program) -> None:
    """PutSnapshotBlock and CompleteSnapshot refuse what does not fit."""
    ebs, invalid, value = clients.ebs, "ValidationException", "INVALID_PARAMETER_VALUE"
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    bad = {"clients": clients, "snapshot": snapshot, "data": block(1)}
    assert put(clients, snapshot, 7, block(7))["Checksum"] == checksum(block(7))
    put(clients, snapshot, 7, block(7))
    refused(invalid, put, "CONFLICTING_BLOCK_UPDATE", **bad, index=7)
    refused(invalid, put, "INVALID_BLOCK", **bad, index=2048)
    refused(invalid, put, "INVALID_BLOCK", **(bad | {"data": b"short"}), index=1)
    refused(invalid, put, value, **bad, index=1, Checksum=checksum(b"other"))
    refused("ResourceNotFoundException", put, "SNAPSHOT_NOT_FOUND", **(bad | {"snapshot": NO_SNAPSHOT}), index=1)
    put(clients, snapshot, 2, block(2))
    refused(invalid, ebs.list_snapshot_blocks, "INVALID_SNAPSHOT_ID", SnapshotId=snapshot)
    refused(invalid, ebs.complete_snapshot, value, SnapshotId=snapshot, ChangedBlocksCount=1)
    linear = {"ChecksumAlgorithm": "SHA256", "ChecksumAggregationMethod": "LINEAR"}
    complete = {"SnapshotId": snapshot, "ChangedBlocksCount": 2} | linear
    digests = [hashlib.sha256(block(fill)).digest() for fill in (2, 7)]
    wrong = checksum(b"".join(reversed(digests)))
    refused(invalid, ebs.complete_snapshot, value, **complete, Checksum=wrong)
    right = checksum(b"".join(digests))
    assert ebs.complete_snapshot(**complete, Checksum=right)["Status"] == "pending"
    assert ebs.complete_snapshot(**complete, Checksum=right)["Status"] == "pending"
    refused(invalid, put, "INVALID_SNAPSHOT_ID", **bad, index=3)
    assert [snapshot_state(clients, snapshot) for _ in range(3)] == ["pending", "pending", "completed"]
    assert ebs.complete_snapshot(**complete)["Status"] == "completed"
    late = ebs.start_snapshot(VolumeSize=1, Timeout=10)["SnapshotId"]
    endpoint.control("clock", {"seconds": 9 * 60})
    put(clients, late, 0, block(1))
    endpoint.control("clock", {"seconds": 9 * 60})
    assert snapshot_state(clients, late) == "pending"
    endpoint.control("clock", {"seconds": 2 * 60})
    assert snapshot_state(clients, late) == "error"
    refused(invalid, put, "INVALID_SNAPSHOT_ID", **(bad | {"snapshot": late}), index=3)
    refused(invalid, ebs.complete_snapshot, "INVALID_SNAPSHOT_ID", SnapshotId=late, ChangedBlocksCount=1)


def test_read(clients: Clients) -> None:
    """Reading: order, pages, tokens, parents, changed blocks, copies."""
    ebs, invalid = clients.ebs, "ValidationException"
    parent = completed_snapshot(clients, {index: index % 256 for index in reversed(range(102))})
    pages = ebs.list_snapshot_blocks(SnapshotId=parent, MaxResults=100)
    assert pages["BlockSize"] == 512 * 1024 and pages["VolumeSize"] == 1 and pages["ExpiryTime"]
    rest = ebs.list_snapshot_blocks(SnapshotId=parent, MaxResults=100, NextToken=pages["NextToken"])
    assert [entry["BlockIndex"] for entry in pages["Blocks"] + rest["Blocks"]] == list(range(102))
    assert "NextToken" not in rest
    later = ebs.list_snapshot_blocks(SnapshotId=parent, StartingBlockIndex=101)["Blocks"]
    assert [entry["BlockIndex"] for entry in later] == [101]
    read = ebs.get_snapshot_block(SnapshotId=parent, **later[0])
    assert read["BlockData"].read() == block(101) and read["Checksum"] == checksum(block(101))
    assert read["DataLength"] == 512 * 1024 and read["ChecksumAlgorithm"] == "SHA256"
    token = later[0]["BlockToken"]
    refused(invalid, ebs.get_snapshot_block, "INVALID_BLOCK_TOKEN", SnapshotId=parent, BlockIndex=100, BlockToken=token)
    refused("ResourceNotFoundException", ebs.get_snapshot_block, SnapshotId=parent, BlockIndex=500, BlockToken=token)
    encrypted_child = {"VolumeSize": 1, "ParentSnapshotId": parent, "Encrypted": True}
    refused(invalid, ebs.start_snapshot, "INVALID_PARAMETER_VALUE", **encrypted_child)
    child = completed_snapshot(clients, {5: 200, 300: 1}, ParentSnapshotId=parent)
    assert len(ebs.list_snapshot_blocks(SnapshotId=child)["Blocks"]) == 103
    changed = ebs.list_changed_blocks(FirstSnapshotId=parent, SecondSnapshotId=child)["ChangedBlocks"]
    assert [entry["BlockIndex"] for entry in changed] == [5, 300] and "FirstBlockToken" not in changed[1]
    read = ebs.get_snapshot_block(SnapshotId=child, BlockIndex=5, BlockToken=changed[0]["SecondBlockToken"])
    assert read["BlockData"].read() == block(200)
    assert len(ebs.list_changed_blocks(SecondSnapshotId=child)["ChangedBlocks"]) == 103
    stranger = completed_snapshot(clients, {0: 1})
    both = {"FirstSnapshotId": stranger, "SecondSnapshotId": child}
    refused(invalid, ebs.list_changed_blocks, "UNRELATED_SNAPSHOTS", **both)
    tags = [{"ResourceType": "snapshot", "Tags": TAGS}]
    copy = clients.ec2.copy_snapshot(
        SourceSnapshotId=child, SourceRegion=clients.region, Encrypted=True, KmsKeyId=KEY, TagSpecifications=tags
    )["SnapshotId"]
    assert [snapshot_state(clients, copy) for _ in range(3)] == ["pending", "pending", "completed"]
    assert len(ebs.list_snapshot_blocks(SnapshotId=copy)["Blocks"]) == 103


def test_spoil(clients: Clients, endpoint: Program) -> None:
    """Blocks that are not what was written, with checksums that fit."""

    def content(snapshot: str) -> dict[str, str]:
        return endpoint.control("content", {"snapshot": snapshot})

    snapshot = completed_snapshot(clients, {1: 1, 4: 4})
    digests = {str(fill): hashlib.sha256(block(fill)).hexdigest() for fill in (1, 4)}
    assert content(snapshot) == digests
    endpoint.control("spoil", {"snapshot": snapshot, "block": 4})
    endpoint.control("spoil", {"snapshot": snapshot, "block": 6})
    endpoint.control("spoil", {"snapshot": snapshot, "block": 1, "missing": True})
    assert list(content(snapshot)) == ["4", "6"] and content(snapshot)["4"] != digests["4"]
    listed = clients.ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"]
    read = clients.ebs.get_snapshot_block(SnapshotId=snapshot, **listed[0])
    data = read["BlockData"].read()
    assert read["Checksum"] == checksum(data) and sum(a != b for a, b in zip(data, block(4))) == 1
    clients.ec2.delete_snapshot(SnapshotId=snapshot)


def test_register(clients: Clients, endpoint: Program) -> str:
    """RegisterImage keeps what it is given; DescribeImages filters."""
    ec2 = clients.ec2
    pending = clients.ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    refused("InvalidSnapshot.NotFound", ec2.register_image, **image_arguments(NO_SNAPSHOT, "first"))
    refused("IncorrectState", ec2.register_image, **image_arguments(pending, "first"))
    snapshot = completed_snapshot(clients, {0: 1, 9: 9})
    given = image_arguments(snapshot, "first")
    refused("InvalidParameterCombination", ec2.register_image, **(given | {"BootMode": "uefi-preferred"}))
    refused("InvalidAMIName.Malformed", ec2.register_image, **(given | {"Name": "not#good"}))
    image = ec2.register_image(**given)["ImageId"]
    refused("InvalidAMIName.Duplicate", ec2.register_image, **given)
    assert [image_state(clients, image) for _ in range(3)] == ["pending", "pending", "available"]
    shown = ec2.describe_images(ImageIds=[image])["Images"][0]
    for name in set(given) - {"BlockDeviceMappings", "TagSpecifications", "UefiData"}:
        assert shown[name] == given[name], name
    assert shown["Tags"] == given["TagSpecifications"][0]["Tags"]
    volume = shown["BlockDeviceMappings"][0]["Ebs"]
    assert volume == given["BlockDeviceMappings"][0]["Ebs"] | {"VolumeSize": 1, "Encrypted": False}
    wanted = {
        "name": "fir*",
        "tag:rekiln:bake": "first",
        "tag-key": "rekiln:bake",
        "state": "available",
        "block-device-mapping.snapshot-id": snapshot,
    }
    for name, value in wanted.items():
        for values, count in (([value], 1), (["nothing"], 0)):
            found = ec2.describe_images(Owners=["self"], Filters=[{"Name": name, "Values": values}])["Images"]
            assert len(found) == count, name
    refused("InvalidParameterValue", ec2.describe_images, Filters=[{"Name": "nonsense", "Values": ["x"]}])
    refused("InvalidAMIID.NotFound", ec2.describe_images, ImageIds=[NO_IMAGE])
    refused("InvalidSnapshot.InUse", ec2.delete_snapshot, SnapshotId=snapshot)
    ec2.create_tags(Resources=[image, snapshot], Tags=[{"Key": "more", "Value": "yes"}])
    assert {"Key": "more", "Value": "yes"} in ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["Tags"]
    assert len(endpoint.control("state")["images"]) == 1
    return image


def test_attributes(clients: Clients, endpoint: Program, image: str) -> None:
    """Sharing, deprecation and protection."""
    ec2 = clients.ec2
    organization = "arn:aws:organizations::123456789012:organization/o-abcdefghij"
    unit = "arn:aws:organizations::123456789012:ou/o-abcdefghij/ou-ab12-abcdefgh"
    entries = [{"UserId": "210987654321"}, {"OrganizationArn": organization}, {"OrganizationalUnitArn": unit}]
    ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": entries})
    ec2.modify_image_attribute(
        ImageId=image, Attribute="launchPermission", OperationType="remove", OrganizationArns=[organization]
    )
    shown = ec2.describe_image_attribute(ImageId=image, Attribute="launchPermission")["LaunchPermissions"]
    assert shown == [entries[0], entries[2]]
    refused(
        "InvalidAMIAttributeItemValue",
        ec2.modify_image_attribute,
        ImageId=image,
        LaunchPermission={"Add": [{"UserId": "1"}]},
    )
    assert ec2.describe_image_attribute(ImageId=image, Attribute="imdsSupport")["ImdsSupport"]["Value"] == "v2.0"
    ec2.modify_image_attribute(ImageId=image, Description={"Value": "new"})
    assert ec2.describe_images(ImageIds=[image])["Images"][0]["Description"] == "new"
    snapshot = completed_snapshot(clients, {0: 1})
    ec2.modify_snapshot_attribute(
        SnapshotId=snapshot, Attribute="createVolumePermission", OperationType="add", UserIds=["210987654321"]
    )
    shown = ec2.describe_snapshot_attribute(SnapshotId=snapshot, Attribute="createVolumePermission")
    assert shown["CreateVolumePermissions"] == [{"UserId": "210987654321"}]
    unshareable = completed_snapshot(clients, {0: 1}, Encrypted=True)
    change = {"SnapshotId": unshareable, "CreateVolumePermission": {"Add": [{"UserId": "210987654321"}]}}
    refused("InvalidParameter", ec2.modify_snapshot_attribute, **change)
    moment = datetime.now(timezone.utc) + timedelta(days=30)
    ec2.enable_image_deprecation(ImageId=image, DeprecateAt=moment)
    shown = ec2.describe_images(ImageIds=[image])["Images"][0]["DeprecationTime"]
    kept = datetime.strptime(shown, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    assert abs(kept - moment) <= timedelta(seconds=30) and kept.second == 0
    refused("InvalidParameterValue", ec2.enable_image_deprecation, ImageId=image, DeprecateAt=datetime(2020, 1, 1))
    ec2.enable_image_deregistration_protection(ImageId=image, WithCooldown=True)
    refused("OperationNotPermitted", ec2.deregister_image, ImageId=image)
    ec2.disable_image_deregistration_protection(ImageId=image)
    refused("OperationNotPermitted", ec2.deregister_image, ImageId=image)
    state = next(entry for entry in endpoint.control("state")["images"] if entry["id"] == image)
    assert state["protection"] == "disabled" and state["deprecation"] == shown and len(state["launch_permissions"]) == 2
    endpoint.control("clock", {"seconds": 24 * 3600})


def test_copy_and_remove(clients: Clients, endpoint: Program, image: str) -> None:
    """CopyImage to another region, and what is left over after the originals are removed."""
    other = Clients(endpoint.port, OTHER_REGION)
    specification = [{"ResourceType": "snapshot", "Tags": TAGS}]
    given: dict[str, Any] = {"Name": "copy", "SourceImageId": image, "SourceRegion": clients.region}
    given |= {"ClientToken": "copy", "CopyImageTags": True, "TagSpecifications": specification}
    copy = other.ec2.copy_image(**given)["ImageId"]
    assert other.ec2.copy_image(**given)["ImageId"] == copy
    refused("IdempotentParameterMismatch", other.ec2.copy_image, **(given | {"Name": "else"}))
    assert [image_state(other, copy) for _ in range(3)] == ["pending", "pending", "available"]
    shown = other.ec2.describe_images(ImageIds=[copy])["Images"][0]
    assert {"Key": "rekiln:bake", "Value": "first"} in shown["Tags"] and shown["TpmSupport"] == "v2.0"
    snapshot = shown["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    assert [entry["BlockIndex"] for entry in other.ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"]] == [0, 9]
    assert other.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["Tags"] == TAGS
    # A key of the wrong region is told by the image's state only.
    broken = {
        "Name": "broken",
        "SourceImageId": image,
        "SourceRegion": clients.region,
        "Encrypted": True,
        "KmsKeyId": KEY,
    }
    failed = other.ec2.copy_image(**broken)["ImageId"]
    assert [image_state(other, failed) for _ in range(3)] == ["pending", "pending", "failed"]
    other.ec2.deregister_image(ImageId=failed, DeleteAssociatedSnapshots=True)
    result = clients.ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)
    assert [entry["ReturnCode"] for entry in result["DeleteSnapshotResults"]] == ["success"]
    refused("InvalidAMIID.Unavailable", clients.ec2.deregister_image, ImageId=image)
    refused("InvalidAMIID.Unavailable", clients.ec2.create_tags, Resources=[image], Tags=TAGS)
    refused("InvalidSnapshot.NotFound", clients.ec2.create_tags, Resources=[NO_SNAPSHOT], Tags=TAGS)
    for entry in clients.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]:
        clients.ec2.delete_snapshot(SnapshotId=entry["SnapshotId"])
    left = endpoint.control("state")
    assert [entry["id"] for entry in left["images"]] == [copy]
    assert [(entry["id"], entry["region"], entry["blocks"]) for entry in left["snapshots"]] == [
        (snapshot, OTHER_REGION, 2)
    ]
    # A client token answers for ever, even for a snapshot that is gone.
    again = clients.ebs.start_snapshot(VolumeSize=1, ClientToken="one", Tags=TAGS, Description="first")["SnapshotId"]
    refused("InvalidSnapshot.NotFound", clients.ec2.describe_snapshots, SnapshotIds=[again])


def test_the_rest(clients: Clients, endpoint: Program) -> None:
    """SSM, STS, S3, and what is not modelled."""
    image = Clients(endpoint.port, OTHER_REGION).ec2.describe_images(Owners=["self"])["Images"][0]["ImageId"]
    ssm = Clients(endpoint.port, OTHER_REGION).ssm
    given = {"Name": "/images/web", "Type": "String", "DataType": "aws:ec2:image", "Overwrite": True}
    assert ssm.put_parameter(**given, Value=image)["Version"] == 1
    for _ in range(2):
        refused("ParameterNotFound", ssm.get_parameter, Name="/images/web")
    assert ssm.get_parameter(Name="/images/web")["Parameter"]["Value"] == image
    assert ssm.put_parameter(**given, Value=NO_IMAGE)["Version"] == 2
    for _ in range(5):
        assert ssm.get_parameter(Name="/images/web")["Parameter"]["Version"] == 1
    assert [entry["value"] for entry in endpoint.control("state")["parameters"]] == [image]
    ssm.put_parameter(Name="/plain", Type="String", Value="x")
    assert ssm.get_parameters(Names=["/plain", "/none"])["InvalidParameters"] == ["/none"]
    answer = refused("InvalidAction", clients.ec2.create_store_image_task, ImageId=NO_IMAGE, Bucket="x")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400
    refused("InvalidAction", clients.ssm.get_calendar_state, CalendarNames=["x"])
    assert clients.sts.get_caller_identity()["Account"] == "123456789012"
    role = {"RoleArn": "arn:aws:iam::210987654321:role/publisher", "RoleSessionName": "test"}
    assert clients.sts.assume_role(**role)["Credentials"]["SessionToken"]
    clients.s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": clients.region})
    clients.s3.put_object(Bucket="bucket", Key="key", Body=block(3))
    assert clients.s3.get_object(Bucket="bucket", Key="key")["Body"].read() == block(3)
    endpoint.control("looks", {"n": 0})
    snapshot = clients.ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    assert clients.ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=0)["Status"] == "completed"
    endpoint.control("reset", {})
    assert not any(endpoint.control("state").values()) and endpoint.control("log") == []


def main() -> None:
    """Start both programs, and test the endpoint alone and through the proxy."""
    endpoint = Program("endpoint.py")
    proxy = Program("faults.py", "--upstream", str(endpoint.port))
    try:
        clients = Clients(endpoint.port)
        test_start(clients)
        test_put_and_complete(clients, endpoint)
        test_read(clients)
        test_spoil(clients, endpoint)
        image = test_register(clients, endpoint)
        test_attributes(clients, endpoint, image)
        test_copy_and_remove(clients, endpoint, image)
        test_the_rest(clients, endpoint)
        test_access(clients, endpoint)
        for test in (test_instances, test_groups, test_hooks, test_members, test_targets):
            test(clients, endpoint)
        endpoint.control("reset", {})
        test_faults(endpoint, proxy)
    finally:
        proxy.close()
        endpoint.close()
    print("ok")


if __name__ == "__main__":
    main()

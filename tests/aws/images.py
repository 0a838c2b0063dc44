"""EC2's actions on images: registering, copying, describing and deregistering them."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

from moto.core.responses import ActionResult

from image_model import Image, described, filter_values, find_image
from snapshots import copy_content, find_snapshot, foreign_key, remove_snapshot, users_of
from world import WORLD, AwsError, backend_of, matches, remembered, specified_tags, tags_of

# The limits are those of the API reference.
NAME = re.compile(r"[A-Za-z0-9()\[\] ./\-'@_]{3,128}")
MAX_UEFI_DATA = 64 * 1024
# What a volume is where the mapping says nothing.
DEFAULT_VOLUME_TYPE = "standard"


def check_name(backend: Any, name: str) -> None:
    """A name is well formed and used once in an account and region."""
    if not NAME.fullmatch(name):
        raise AwsError("InvalidAMIName.Malformed", f"AMI name '{name}' is not valid")
    for image in backend.amis.values():
        if image.owner_id == backend.account_id and image.name == name:
            raise AwsError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {image.id}")


def check_boot(given: dict[str, Any]) -> None:
    """Boot mode, TPM, IMDS and UEFI variables depend on each other."""
    allowed = {
        "Architecture": ("i386", "x86_64", "arm64", "x86_64_mac", "arm64_mac"),
        "VirtualizationType": ("hvm", "paravirtual"),
        "BootMode": ("legacy-bios", "uefi", "uefi-preferred"),
        "TpmSupport": ("v2.0",),
        "ImdsSupport": ("v2.0",),
        "SriovNetSupport": ("simple",),
    }
    for name, values in allowed.items():
        if given.get(name) is not None and given[name] not in values:
            raise AwsError("InvalidParameterValue", f"Value ({given[name]}) for parameter {name} is invalid.")
    if given.get("TpmSupport") and given.get("BootMode") != "uefi":
        raise AwsError("InvalidParameterCombination", "TpmSupport requires the boot mode uefi")
    if given.get("UefiData") is not None:
        try:
            data = base64.b64decode(given["UefiData"], validate=True)
        except (ValueError, binascii.Error):
            raise AwsError("InvalidParameterValue", "UefiData is not base64") from None
        if len(data) > MAX_UEFI_DATA:
            raise AwsError("InvalidParameterValue", f"UefiData is longer than {MAX_UEFI_DATA} bytes")


def resolved_mappings(backend: Any, given: list[dict[str, Any]], root: str | None) -> list[dict[str, Any]]:
    """The block device mappings, checked, and with what the snapshots say filled in."""
    result = []
    for mapping in given:
        entry = {"DeviceName": mapping.get("DeviceName")}
        for name in ("NoDevice", "VirtualName"):
            if name in mapping:
                entry[name] = mapping[name]
        if "Ebs" in mapping:
            entry["Ebs"] = resolved_volume(backend, mapping["Ebs"])
        result.append(entry)
    names = [entry["DeviceName"] for entry in result]
    if len(set(names)) != len(names) or None in names:
        raise AwsError("InvalidBlockDeviceMapping", "Device names are missing or doubled")
    if not any(entry["DeviceName"] == root and "SnapshotId" in entry.get("Ebs", {}) for entry in result):
        raise AwsError("InvalidBlockDeviceMapping", "The root device has no snapshot")
    return result


def resolved_volume(backend: Any, given: dict[str, Any]) -> dict[str, Any]:
    """One volume of the block device mappings."""
    if "Encrypted" in given and "SnapshotId" in given or "KmsKeyId" in given:
        raise AwsError("InvalidParameterValue", "Encryption cannot be set here: it is that of the snapshot")
    volume = {"DeleteOnTermination": True, "VolumeType": DEFAULT_VOLUME_TYPE, "Encrypted": False, **given}
    if "SnapshotId" in given:
        snapshot = find_snapshot(backend, given["SnapshotId"])
        if snapshot.status != "completed":
            raise AwsError("IncorrectState", f"The snapshot {snapshot.id} is {snapshot.status}, not completed")
        volume.setdefault("VolumeSize", snapshot.volume_size)
        if volume["VolumeSize"] < snapshot.volume_size:
            raise AwsError("InvalidBlockDeviceMapping", "VolumeSize is smaller than the snapshot")
        volume["Encrypted"] = snapshot.encrypted
    elif "VolumeSize" not in given:
        raise AwsError("MissingParameter", "The request must contain the parameter size or snapshotId")
    return volume


def register_image(self: Any) -> ActionResult:
    """RegisterImage."""
    self.error_on_dryrun()
    backend, given = self.ec2_backend, dict(self.params)
    if "Name" not in given:
        raise AwsError("MissingParameter", "The request must contain the parameter Name")
    check_name(backend, given["Name"])
    check_boot(given)
    tags = specified_tags(given.get("TagSpecifications"), {"image"})["image"]
    mappings = resolved_mappings(backend, given.get("BlockDeviceMappings") or [], given.get("RootDeviceName"))
    image = Image(backend, given, mappings)
    backend.amis[image.id] = image
    backend.tags[image.id].update(tags)
    return ActionResult({"ImageId": image.id})


def copy_image(self: Any) -> ActionResult:
    """CopyImage, into the region which is asked."""
    self.error_on_dryrun()
    backend, given = self.ec2_backend, dict(self.params)
    for name in ("Name", "SourceImageId", "SourceRegion"):
        if name not in given:
            raise AwsError("MissingParameter", f"The request must contain the parameter {name}")
    token = given.pop("ClientToken", None)
    parameters = json.dumps(given, sort_keys=True, default=str)
    key = ("copy-image", backend.account_id, backend.region_name, token or "")
    if token:
        mismatch = AwsError("IdempotentParameterMismatch", "The client token was used with other parameters")
        if answer := remembered(key, parameters, mismatch):
            return ActionResult({"ImageId": answer})
    source_backend = backend_of(backend.account_id, given["SourceRegion"])
    source = find_image(source_backend, given["SourceImageId"])
    if source.state != "available":
        raise AwsError("InvalidAMIID.Unavailable", f"The image {source.id} is {source.state}, not available")
    check_name(backend, given["Name"])
    tags = specified_tags(given.get("TagSpecifications"), {"image", "snapshot"})
    image = copied(source, source_backend, backend, given, tags["snapshot"])
    backend.amis[image.id] = image
    if given.get("CopyImageTags"):
        user_tags = {
            name: value for name, value in tags_of(source_backend, source.id).items() if not name.startswith("aws:")
        }
        backend.tags[image.id].update(user_tags)
    backend.tags[image.id].update(tags["image"])
    if token:
        WORLD.tokens[key] = (parameters, image.id)
    return ActionResult({"ImageId": image.id})


def copied(source: Any, source_backend: Any, backend: Any, given: dict[str, Any], tags: dict[str, str]) -> Image:
    """The copy of an image, with copies of its snapshots."""
    same = {
        "Architecture": source.architecture,
        "VirtualizationType": source.virtualization_type,
        "RootDeviceName": source.root_device_name,
        "SriovNetSupport": source.sriov,
        "BootMode": source.boot_mode,
        "EnaSupport": getattr(source, "ena_support", True),
        "ImdsSupport": getattr(source, "imds_support", None),
        "TpmSupport": getattr(source, "tpm_support", None),
        "UefiData": getattr(source, "uefi_data", None),
    }
    description = given.get("Description")
    image = Image(backend, same | {"Name": given["Name"], "Description": description}, [])
    image.source = (source.id, source_backend.region_name)
    for mapping in source.block_device_mappings:
        volume = dict(mapping.get("Ebs", {}))
        if "SnapshotId" in volume:
            origin = find_snapshot(source_backend, volume["SnapshotId"])
            note = f"Copied for DestinationAmi {image.id} from SourceAmi {source.id} for SourceSnapshot {origin.id}."
            copy = copy_content(origin, backend, note, given.get("Encrypted"), given.get("KmsKeyId"))
            backend.tags[copy.id].update(tags)
            volume |= {"SnapshotId": copy.id, "Encrypted": copy.encrypted}
            if foreign_key(copy):
                image.failure = "Given key ID is not accessible"
                image.state = "pending" if image.looks_left else "failed"
                copy.status, copy.state_message = "error", image.failure
        image.mappings.append(mapping | ({"Ebs": volume} if volume else {}))
    return image


def describe_images(self: Any) -> ActionResult:
    """DescribeImages: each look at a pending image brings it nearer to `available`."""
    self.error_on_dryrun()
    backend, wanted = self.ec2_backend, self._get_param("ImageIds", [])
    for image_id in wanted:
        # A deregistered image is not an error for some time: it is just not shown.
        if image_id not in backend.deleted_amis:
            find_image(backend, image_id)
    owners = [backend.account_id if owner == "self" else owner for owner in self._get_param("Owners", [])]
    users = [backend.account_id if user == "self" else user for user in self._get_param("ExecutableUsers", [])]
    with_disabled = self._get_param("IncludeDisabled", False)
    filters = self._filters_from_querystring()
    states = filters.pop("state", None)
    found = []
    for image in list(backend.amis.values()):
        if wanted and image.id not in wanted:
            continue
        if owners and image.owner_id not in owners and image.owner_alias not in owners:
            continue
        if users and not executable(image, users):
            continue
        if image.state == "disabled" and not with_disabled:
            continue
        if not all(matches(patterns, filter_values(image, name)) for name, patterns in filters.items()):
            continue
        state = image.look() if isinstance(image, Image) else image.state
        if states is None or matches(states, [state]):
            found.append(described(backend, image, state))
    return ActionResult({"Images": found})


def executable(image: Any, users: list[str]) -> bool:
    """Whether one of the users has an explicit launch permission, or `all` is asked for and all may."""
    granted = {entry.get("UserId") or entry.get("Group") for entry in image.launch_permissions}
    return any(user in granted for user in users)


def deregister_image(self: Any) -> ActionResult:
    """DeregisterImage, with its snapshots where that is wanted."""
    self.error_on_dryrun()
    backend = self.ec2_backend
    image = find_image(backend, self._get_param("ImageId"))
    if isinstance(image, Image) and image.is_protected:
        raise AwsError("OperationNotPermitted", f"The AMI {image.id} is protected from deregistration")
    mappings = image.block_device_mappings
    del backend.amis[image.id]
    backend.deleted_amis.append(image.id)
    backend.tags.pop(image.id, None)
    result: dict[str, Any] = {"Return": True}
    if self._get_param("DeleteAssociatedSnapshots", False):
        result["DeleteSnapshotResults"] = []
        for mapping in mappings:
            snapshot_id = mapping.get("Ebs", {}).get("SnapshotId")
            if snapshot_id is None or snapshot_id not in backend.snapshots:
                continue
            code = "skipped" if users_of(backend, snapshot_id) else "success"
            if code == "success":
                remove_snapshot(backend, snapshot_id)
            result["DeleteSnapshotResults"].append({"SnapshotId": snapshot_id, "ReturnCode": code})
    return ActionResult(result)


ACTIONS = (register_image, copy_image, describe_images, deregister_image)

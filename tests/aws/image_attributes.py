"""EC2's actions on attributes of images: sharing, deprecation, protection from deregistration."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.responses.tags import TagResponse

from image_model import find_image
from snapshots import check_shareable, find_snapshot
from world import WORLD, AwsError

# An AMI can be deprecated at most ten years from now.
MAX_DEPRECATION = timedelta(days=10 * 366)
# Protection which was enabled with a cool-down goes on so long after it is disabled.
COOLDOWN_SECONDS = 24 * 3600

# The attributes of DescribeImageAttribute: the member of the answer, and the attribute of the model.
ATTRIBUTES = {
    "description": ("Description", "description"),
    "kernel": ("KernelId", "kernel_id"),
    "sriovNetSupport": ("SriovNetSupport", "sriov"),
    "bootMode": ("BootMode", "boot_mode"),
    "tpmSupport": ("TpmSupport", "tpm_support"),
    "uefiData": ("UefiData", "uefi_data"),
    "imdsSupport": ("ImdsSupport", "imds_support"),
    "deregistrationProtection": ("DeregistrationProtection", "protection"),
}
# The kinds of launch permission: the member, the parameter of the listing form, and what a value looks like.
PERMISSIONS = (
    ("UserId", "UserIds", re.compile(r"\d{12}")),
    ("Group", "UserGroups", re.compile("all")),
    (
        "OrganizationArn",
        "OrganizationArns",
        re.compile(r"arn:aws[a-z-]*:organizations::\d{12}:organization/o-[a-z0-9]+"),
    ),
    (
        "OrganizationalUnitArn",
        "OrganizationalUnitArns",
        re.compile(r"arn:aws[a-z-]*:organizations::\d{12}:ou/o-[a-z0-9]+/ou-[a-z0-9-]+"),
    ),
)


def describe_image_attribute(self: Any) -> ActionResult:
    """DescribeImageAttribute."""
    self.error_on_dryrun()
    image, attribute = find_image(self.ec2_backend, self._get_param("ImageId")), self._get_param("Attribute")
    if attribute == "blockDeviceMapping":
        raise AwsError("AuthFailure", "Unauthorized attempt to access restricted resource")
    result: dict[str, Any] = {"ImageId": image.id}
    if attribute == "launchPermission":
        result["LaunchPermissions"] = image.launch_permissions
    elif attribute == "productCodes":
        result["ProductCodes"] = []
    elif attribute in ATTRIBUTES:
        member, name = ATTRIBUTES[attribute]
        value = getattr(image, name, None)
        result[member] = {} if value is None else {"Value": value}
    else:
        raise AwsError("InvalidRequest", f"The attribute '{attribute}' is not known")
    return ActionResult(result)


def modify_image_attribute(self: Any) -> ActionResult:
    """ModifyImageAttribute: launch permissions, description or IMDS support, one in a call."""
    self.error_on_dryrun()
    given = self.params
    image = find_image(self.ec2_backend, given.get("ImageId"))
    add, remove = permission_changes(given)
    attribute, value = given.get("Attribute"), given.get("Value")
    changes: dict[str, str] = {}
    for member, name in (("Description", "description"), ("ImdsSupport", "imdsSupport")):
        if member in given:
            changes[name] = given[member].get("Value", "")
        elif attribute == name and value is not None:
            changes[name] = value
    if len(changes) + bool(add or remove) != 1:
        raise AwsError("InvalidParameterCombination", "Exactly one attribute can be modified in a call")
    if "description" in changes:
        image.description = changes["description"]
    if "imdsSupport" in changes:
        if changes["imdsSupport"] != "v2.0":
            raise AwsError("InvalidParameterValue", "ImdsSupport must be v2.0")
        image.imds_support = changes["imdsSupport"]
    if add:
        for mapping in image.block_device_mappings:
            if snapshot_id := mapping.get("Ebs", {}).get("SnapshotId"):
                check_shareable(self.ec2_backend, find_snapshot(self.ec2_backend, snapshot_id))
    image.launch_permissions = [entry for entry in image.launch_permissions if entry not in remove + add] + add
    return EmptyResult()


def permission_changes(given: Any) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The launch permissions to add and to remove, in both forms of the call."""
    permission = given.get("LaunchPermission") or {}
    add, remove = list(permission.get("Add", [])), list(permission.get("Remove", []))
    listed = [{member: value} for member, parameter, _ in PERMISSIONS for value in given.get(parameter) or []]
    operation = given.get("OperationType")
    if listed and operation not in ("add", "remove"):
        raise AwsError("InvalidParameterValue", "OperationType must be add or remove")
    (add if operation == "add" else remove).extend(listed)
    for entry in add + remove:
        for member, _, pattern in PERMISSIONS:
            if member in entry and not pattern.fullmatch(entry[member]):
                raise AwsError(
                    "InvalidAMIAttributeItemValue",
                    f'Invalid attribute item value "{entry[member]}" for {member} item type.',
                )
    return add, remove


def enable_image_deprecation(self: Any) -> ActionResult:
    """EnableImageDeprecation."""
    self.error_on_dryrun()
    image, moment = find_image(self.ec2_backend, self._get_param("ImageId")), self._get_param("DeprecateAt")
    if moment.tzinfo is not None:
        moment = moment.astimezone(timezone.utc).replace(tzinfo=None)
    now = datetime.fromtimestamp(WORLD.now(), timezone.utc).replace(tzinfo=None)
    if not now < moment <= now + MAX_DEPRECATION:
        raise AwsError("InvalidParameterValue", "DeprecateAt must be in the future, and at most ten years from now")
    # EC2 keeps whole minutes, so that what is read is not always what was written.
    image.deprecation_time = (moment + timedelta(seconds=30)).replace(second=0, microsecond=0)
    return ActionResult({"Return": True})


def disable_image_deprecation(self: Any) -> ActionResult:
    """DisableImageDeprecation."""
    self.error_on_dryrun()
    find_image(self.ec2_backend, self._get_param("ImageId")).deprecation_time = None
    return ActionResult({"Return": True})


def enable_image_deregistration_protection(self: Any) -> ActionResult:
    """EnableImageDeregistrationProtection."""
    self.error_on_dryrun()
    image = find_image(self.ec2_backend, self._get_param("ImageId"))
    with_cooldown = self._get_param("WithCooldown", False)
    image.protection = "enabled-with-cooldown" if with_cooldown else "enabled-without-cooldown"
    return ActionResult({"Return": image.protection})


def disable_image_deregistration_protection(self: Any) -> ActionResult:
    """DisableImageDeregistrationProtection."""
    self.error_on_dryrun()
    image = find_image(self.ec2_backend, self._get_param("ImageId"))
    if getattr(image, "protection", "disabled") == "enabled-with-cooldown":
        image.protected_until = WORLD.now() + COOLDOWN_SECONDS
    image.protection = "disabled"
    return ActionResult({"Return": image.protection})


moto_create_tags = TagResponse.create_tags


def create_tags(self: Any) -> ActionResult:
    """CreateTags: moto tags images that are gone as well."""
    for resource in self._get_param("Resources", []):
        if resource.startswith("ami-"):
            find_image(self.ec2_backend, resource)
        elif resource.startswith("snap-"):
            find_snapshot(self.ec2_backend, resource)
    return moto_create_tags(self)


ACTIONS = (
    create_tags,
    describe_image_attribute,
    modify_image_attribute,
    enable_image_deprecation,
    disable_image_deprecation,
    enable_image_deregistration_protection,
    disable_image_deregistration_protection,
)

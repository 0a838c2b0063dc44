"""The model of an EC2 image. moto's keeps name and description only, and invents a snapshot of 15 GiB."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from moto.core.utils import utcnow
from moto.ec2.models.amis import Ami as MotoAmi
from moto.ec2.utils import random_ami_id

from world import WORLD, AwsError, Snapshot, tag_filter, tag_list, tags_of, text

# The values that an image has without them being named: AWS's, old as they are.
DEFAULT_ARCHITECTURE = "i386"
DEFAULT_VIRTUALIZATION = "paravirtual"
DEFAULT_ROOT_DEVICE = "/dev/sda1"


class Image(MotoAmi):
    """An image as it was registered or copied, which takes its time to become `available`."""

    # moto's metaclass takes the service from the second part of the module's name.
    __module__ = "moto.ec2"

    # pylint: disable=super-init-not-called
    def __init__(self, backend: Any, given: dict[str, Any], mappings: list[dict[str, Any]]) -> None:
        # moto's constructor is not called, for it makes a volume and a snapshot that nobody asked for.
        # Those of its attributes are set which moto reads to launch instances.
        self.ec2_backend = backend
        self.id = random_ami_id()
        self.owner_id = backend.account_id
        self.owner_alias = None
        self.name = given["Name"]
        self.description = given.get("Description")
        self.architecture = given.get("Architecture") or DEFAULT_ARCHITECTURE
        self.virtualization_type = given.get("VirtualizationType") or DEFAULT_VIRTUALIZATION
        self.root_device_name = given.get("RootDeviceName") or DEFAULT_ROOT_DEVICE
        self.root_device_type = "ebs"
        self.image_type = "machine"
        self.image_location = f"{backend.account_id}/{self.name}"
        self.hypervisor = "xen"
        self.kernel_id = given.get("KernelId")
        self.platform = None
        self.instance_id = None
        self.product_codes: set[str] = set()
        self.creation_date = utcnow().replace(microsecond=0)
        self.ena_support = bool(given.get("EnaSupport"))
        self.sriov = given.get("SriovNetSupport")
        self.boot_mode = given.get("BootMode")
        self.imds_support = given.get("ImdsSupport")
        self.tpm_support = given.get("TpmSupport")
        self.uefi_data = given.get("UefiData")
        self.launch_permissions: list[dict[str, str]] = []
        self.mappings = mappings
        self.source: tuple[str, str] | None = None
        self.deprecation_time: datetime | None = None
        # "disabled", "enabled-without-cooldown" or "enabled-with-cooldown"
        self.protection = "disabled"
        self.protected_until = 0.0
        self.state = "pending"
        self.failure: str | None = None
        self.looks_left = WORLD.looks
        if self.looks_left == 0:
            self.look()

    @property
    def block_device_mappings(self) -> list[dict[str, Any]]:
        """The mappings as they were given, with what the snapshots say filled in."""
        return self.mappings

    @property
    def snapshot_ids(self) -> list[str]:
        """The snapshots behind the image."""
        return [mapping["Ebs"]["SnapshotId"] for mapping in self.mappings if "SnapshotId" in mapping.get("Ebs", {})]

    def look(self) -> str:
        """The state to show now; each look brings a pending image nearer to its final state."""
        if self.state == "pending":
            if self.looks_left == 0:
                self.state = "failed" if self.failure else "available"
                for snapshot_id in self.snapshot_ids:
                    snapshot = self.ec2_backend.snapshots.get(snapshot_id)
                    if isinstance(snapshot, Snapshot) and not self.failure:
                        snapshot.complete()
            else:
                self.looks_left -= 1
        return self.state

    @property
    def is_protected(self) -> bool:
        """Protection lasts as long as it is enabled, and through its cool-down."""
        return self.protection != "disabled" or WORLD.now() < self.protected_until


def find_image(backend: Any, image_id: str) -> Any:
    """An image by its id."""
    if image_id in backend.amis:
        return backend.amis[image_id]
    if not str(image_id).startswith("ami-"):
        raise AwsError("InvalidAMIID.Malformed", f'Invalid id: "{image_id}" (expecting "ami-...")')
    if image_id in backend.deleted_amis:
        raise AwsError("InvalidAMIID.Unavailable", f"The image id '[{image_id}]' is no longer available")
    raise AwsError("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")


def timestamp(moment: datetime) -> str:
    """A time as images show it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def filter_values(image: Any, name: str) -> list[str]:
    """What a filter of DescribeImages compares with; the state is filtered by its caller."""
    values = tag_filter(name, tags_of(image.ec2_backend, image.id))
    if values is not None:
        return values
    if name.startswith("block-device-mapping."):
        return mapping_values(image, name)
    plain = {
        "architecture": image.architecture,
        "boot-mode": image.boot_mode,
        "creation-date": timestamp(image.creation_date),
        "description": image.description,
        "ena-support": getattr(image, "ena_support", False),
        "hypervisor": image.hypervisor,
        "image-id": image.id,
        "image-type": image.image_type,
        "imds-support": getattr(image, "imds_support", None),
        "is-public": image.is_public,
        "name": image.name,
        "owner-alias": image.owner_alias,
        "owner-id": image.owner_id,
        "root-device-name": image.root_device_name,
        "root-device-type": image.root_device_type,
        "source-image-id": (getattr(image, "source", None) or (None, None))[0],
        "source-image-region": (getattr(image, "source", None) or (None, None))[1],
        "tpm-support": getattr(image, "tpm_support", None),
        "virtualization-type": image.virtualization_type,
    }
    if name not in plain:
        raise AwsError("InvalidParameterValue", f"The filter '{name}' is invalid")
    return [] if plain[name] is None else [text(plain[name])]


def mapping_values(image: Any, name: str) -> list[str]:
    """What a filter on the block device mappings compares with."""
    fields = {
        "delete-on-termination": "DeleteOnTermination",
        "encrypted": "Encrypted",
        "snapshot-id": "SnapshotId",
        "volume-size": "VolumeSize",
        "volume-type": "VolumeType",
    }
    field = name.removeprefix("block-device-mapping.")
    if field == "device-name":
        return [mapping["DeviceName"] for mapping in image.block_device_mappings]
    if field not in fields:
        raise AwsError("InvalidParameterValue", f"The filter '{name}' is invalid")
    values = [mapping.get("Ebs", {}).get(fields[field]) for mapping in image.block_device_mappings]
    return [text(value) for value in values if value is not None]


def described(backend: Any, image: Any, state: str) -> dict[str, Any]:
    """An image as DescribeImages shows it."""
    result = {
        "ImageId": image.id,
        "ImageLocation": image.image_location or f"{image.owner_id}/{image.name}",
        "ImageType": image.image_type,
        "State": state,
        "OwnerId": image.owner_id,
        "ImageOwnerAlias": image.owner_alias,
        "Public": image.is_public,
        "Name": image.name,
        "Description": image.description,
        "Architecture": image.architecture,
        "VirtualizationType": image.virtualization_type,
        "Hypervisor": image.hypervisor,
        "KernelId": image.kernel_id,
        "Platform": image.platform,
        "PlatformDetails": "Linux/UNIX",
        "UsageOperation": "RunInstances",
        "CreationDate": image.creation_date,
        "RootDeviceName": image.root_device_name,
        "RootDeviceType": image.root_device_type,
        "BlockDeviceMappings": image.block_device_mappings,
        "BootMode": image.boot_mode,
        "SriovNetSupport": image.sriov,
        "EnaSupport": getattr(image, "ena_support", True),
        "ImdsSupport": getattr(image, "imds_support", None),
        "TpmSupport": getattr(image, "tpm_support", None),
        "DeregistrationProtection": getattr(image, "protection", "disabled"),
        "Tags": tag_list(backend, image.id),
    }
    if getattr(image, "deprecation_time", None):
        result["DeprecationTime"] = timestamp(image.deprecation_time)
    if getattr(image, "source", None):
        result["SourceImageId"], result["SourceImageRegion"] = image.source
    if state == "failed":
        result["StateReason"] = {"Code": "Client.InternalError", "Message": image.failure}
    return {name: value for name, value in result.items() if value is not None and value != []}


def state_of_images(backend: Any) -> list[dict[str, Any]]:
    """All images of a back end for the tests, without counting as a look; moto's built-in ones excepted."""
    return [
        {
            "account": backend.account_id,
            "region": backend.region_name,
            "id": image.id,
            "name": image.name,
            "state": image.state,
            "description": image.description,
            "tags": tags_of(backend, image.id),
            "snapshots": [
                mapping["Ebs"]["SnapshotId"]
                for mapping in image.block_device_mappings
                if "SnapshotId" in mapping.get("Ebs", {})
            ],
            "launch_permissions": image.launch_permissions,
            "deprecation": timestamp(image.deprecation_time) if getattr(image, "deprecation_time", None) else None,
            "protection": getattr(image, "protection", "disabled"),
            "source": getattr(image, "source", None),
            "architecture": image.architecture,
            "virtualization": image.virtualization_type,
            "boot_mode": image.boot_mode,
            "ena": getattr(image, "ena_support", None),
            "sriov": image.sriov,
            "imds": getattr(image, "imds_support", None),
            "uefi_data": getattr(image, "uefi_data", None),
            "tpm": getattr(image, "tpm_support", None),
            "root_device": image.root_device_name,
            "mappings": image.block_device_mappings,
        }
        for image in backend.amis.values()
        if image.owner_alias is None
    ]

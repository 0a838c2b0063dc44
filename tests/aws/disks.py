"""Instances that switch themselves off, the disks that they leave, and the images that are made of those.

The tests' own hypervisor runs an instance as a virtual machine and says here what became of it: endpoint.py's /control/disk,
/control/off and /control/vendor. moto's CreateImage knows nothing of disks, states and names.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.exceptions import InvalidInstanceIdError

from cells import cell_of
from image_model import Image
from images import check_name
from machines import Machine
from world import BLOCK_SIZE, WORLD, AwsError, Block, Snapshot, backend_of, default_key, specified_tags

# What an instance's owner did from within.
FROM_WITHIN = ("Client.InstanceInitiatedShutdown", "Client.InstanceInitiatedShutdown: Instance initiated shutdown")


class FileBlock(Block):
    """A block that lies in a file, which must not be changed any more. Disks of gigabytes do not fit into memory twice."""

    def __init__(self, digest: bytes, path: str, offset: int) -> None:  # pylint: disable=super-init-not-called
        self.digest, self.path, self.offset = digest, path, offset

    @property  # type: ignore[override]
    def data(self) -> bytes:
        """The block's bytes."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(BLOCK_SIZE).ljust(BLOCK_SIZE, b"\0")


def blocks_of(path: str) -> dict[int, Block]:
    """The blocks of a disk that are not all zeros."""
    found: dict[int, Block] = {}
    with open(path, "rb") as file:
        for index in range(-(-os.path.getsize(path) // BLOCK_SIZE)):
            data = file.read(BLOCK_SIZE).ljust(BLOCK_SIZE, b"\0")
            if data.count(0) != BLOCK_SIZE:
                found[index] = FileBlock(hashlib.sha256(data).digest(), path, index * BLOCK_SIZE)
    return found


def snapshot_of(backend: Any, path: str, gib: int, description: str, key: str | None) -> Snapshot:
    """A snapshot of a disk in a file."""
    snapshot = Snapshot(backend, gib, description, inherited=blocks_of(path), kms_key_id=key)
    snapshot.own, snapshot.inherited = snapshot.inherited, {}
    backend.snapshots[snapshot.id] = snapshot
    return snapshot


def root_volume(machine: Machine) -> tuple[str, Any]:
    """The instance's root device."""
    found = dict(machine.get_block_device_mapping)
    name = machine.root_device_name if machine.root_device_name in found else next(iter(found))
    return name, machine.cell.ec2.volumes[found[name].volume_id]


def create_image(self: Any) -> ActionResult:
    """CreateImage, of a stopped instance, or of a running one that is not to be restarted: what has been written to its disk."""
    self.error_on_dryrun()
    backend, given = self.ec2_backend, dict(self.params)
    cell = cell_of(backend)
    machine = cell.machines.get(given.get("InstanceId"))
    if machine is None:
        raise InvalidInstanceIdError(given.get("InstanceId"))
    still = machine.state == "running" and given.get("NoReboot")
    if machine.state != "stopped" and not still:
        raise AwsError("IncorrectState", f"Instance '{machine.id}' is not in a state from which images are made here")
    check_name(backend, given["Name"])
    tags = specified_tags(given.get("TagSpecifications"), {"image", "snapshot"})
    device, volume = root_volume(machine)
    gib, path = int(volume.size), WORLD.disks[machine.id]
    key = getattr(volume, "kms_key_id", None) or default_key(cell.account, cell.region)
    note = f"Created by CreateImage({machine.id})"
    snapshot = snapshot_of(backend, path, gib, note, key if volume.encrypted else None)
    backend.tags[snapshot.id].update(tags["snapshot"])
    source = cell.ec2.amis.get(machine.image_id)
    same = {
        "Name": given["Name"],
        "Description": given.get("Description"),
        "Architecture": source.architecture,
        "VirtualizationType": source.virtualization_type,
        "RootDeviceName": device,
        "SriovNetSupport": source.sriov,
        "BootMode": source.boot_mode,
        "EnaSupport": getattr(source, "ena_support", True),
        "ImdsSupport": getattr(source, "imds_support", None),
    }
    ebs = {"SnapshotId": snapshot.id, "VolumeSize": gib, "VolumeType": "gp3", "DeleteOnTermination": True}
    image = Image(backend, same, [{"DeviceName": device, "Ebs": ebs | {"Encrypted": bool(volume.encrypted)}}])
    backend.amis[image.id] = image
    backend.tags[image.id].update(tags["image"])
    return ActionResult({"ImageId": image.id})


def modify_instance_attribute(self: Any) -> EmptyResult:
    """ModifyInstanceAttribute: how it ends when it is shut down from within, and nothing else."""
    self.error_on_dryrun()
    machine = cell_of(self.ec2_backend).machines.get(self._get_param("InstanceId"))
    if machine is None:
        raise InvalidInstanceIdError(self._get_param("InstanceId"))
    wanted = (self.params.get("InstanceInitiatedShutdownBehavior") or {}).get("Value")
    if wanted not in ("stop", "terminate"):
        raise AwsError("InvalidParameterValue", f"Value ({wanted}) for instanceInitiatedShutdownBehavior is invalid")
    if machine.lifecycle == "spot":
        raise AwsError("UnsupportedOperation", "The attribute is not supported for spot instances of one-time requests")
    machine.instance_initiated_shutdown_behavior = wanted
    return EmptyResult()


def machine_of(instance: str) -> Machine:
    """An instance of any account and region."""
    return next(cell.machines[instance] for cell in WORLD.cells.values() if instance in cell.machines)


def disk(given: dict[str, Any]) -> dict[str, Any]:
    """Where the file lies that is an instance's root disk."""
    WORLD.disks[machine_of(given["instance"]).id] = given["path"]
    return {}


def off(given: dict[str, Any]) -> dict[str, Any]:
    """An instance has switched itself off: it stops or ends, as it was told."""
    machine = machine_of(given["instance"])
    if machine.instance_initiated_shutdown_behavior == "terminate":
        machine.finish(FROM_WITHIN)
    else:
        machine.halt(FROM_WITHIN)
    return {"state": machine.state}


def vendor(given: dict[str, Any]) -> dict[str, Any]:
    """A vendor's AMI, seen by an account in a region: of a disk in a file."""
    backend = backend_of(given["account"], given["region"])
    gib = given.get("gib") or -(-os.path.getsize(given["path"]) // 2**30)
    snapshot = snapshot_of(backend, given["path"], gib, "a vendor's disk", None)
    snapshot.complete()
    ebs = {"SnapshotId": snapshot.id, "VolumeSize": gib, "VolumeType": "gp3", "DeleteOnTermination": True}
    about = {
        "Name": given["name"],
        "Architecture": "x86_64",
        "VirtualizationType": "hvm",
        "RootDeviceName": "/dev/xvda",
        "EnaSupport": True,
        "SriovNetSupport": "simple",
        "BootMode": given.get("boot_mode"),
    }
    image = Image(backend, about, [{"DeviceName": "/dev/xvda", "Ebs": ebs | {"Encrypted": False}}])
    image.owner_id, image.state = given["owner"], "available"
    backend.amis[image.id] = image
    backend.tags[image.id].update(given.get("tags") or {})
    backend.tags[snapshot.id].update(given.get("tags") or {})
    return {"ami": image.id, "snapshot": snapshot.id}


ACTIONS = (create_image, modify_instance_attribute)
CONTROLS = {"/control/disk": disk, "/control/off": off, "/control/vendor": vendor}

"""EC2 instances that take their time: to boot, to stop, to shut down, and to be forgotten. moto's are there at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.core.exceptions import ServiceException
from moto.ec2.models.instances import Instance as MotoInstance
from moto.ec2.models.instances import InstanceState, Reservation, StateReason
from moto.ec2.utils import filter_iam_instance_profiles, parse_user_data, random_reservation_id
from moto.ssm.models import ssm_backends

from cells import Cell, Place, lacks
from timeline import after, date, moment, note
from world import WORLD, AwsError, tag_list

CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
# AWS shows a terminated instance for about an hour.
KEPT_SECONDS = 3600
USER = ("Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown")
# What has to know when an instance's state has changed; groups and target groups add themselves.
LISTENERS: list[Callable[[Any], None]] = []


class Machine(MotoInstance):
    """An instance whose state follows the world's time."""

    # moto's metaclass takes the service from the second part of the module's name.
    __module__ = "moto.ec2"

    def __init__(self, cell: Cell, data: dict[str, Any], place: Place, index: int, token: str) -> None:
        self.cell = cell
        # The group's members.Member, if it is one.
        self.member: Any = None
        # An event that was planned in an earlier state is void.
        self.epoch = 0
        self.reservation = ""
        super().__init__(
            cell.ec2,
            data["ImageId"],
            parse_user_data(text_of(data.get("UserData"))),
            data["Groups"],
            instance_type=data["InstanceType"],
            region_name=cell.region,
            placement=place.zone,
            subnet_id=place.subnet,
            key_name=data.get("KeyName"),
            nics=data.get("NetworkInterfaces") or [],
            private_ip=data.get("PrivateIpAddress"),
            associate_public_ip=data.get("AssociatePublicIpAddress"),
            ebs_optimized=bool(data.get("EbsOptimized")),
            monitoring_state="enabled" if (data.get("Monitoring") or {}).get("Enabled") else "disabled",
            instance_initiated_shutdown_behavior=data.get("InstanceInitiatedShutdownBehavior"),
            disable_api_termination=bool(data.get("DisableApiTermination")),
            disable_api_stop=bool(data.get("DisableApiStop")),
            client_token=token,
            ami_launch_index=index,
            lifecycle="spot" if (data.get("InstanceMarketOptions") or {}).get("MarketType") == "spot" else None,
            metadata_options=metadata_options(cell, data),
        )
        self.iam_instance_profile = profile(cell, data.get("IamInstanceProfile"))
        self.launch_time = date(moment())
        self._state = InstanceState("pending", CODES["pending"])

    def attach_volumes(self, mappings: list[dict[str, Any]]) -> None:
        """The volumes of the block device mappings, or a root volume as moto makes it."""
        given = [(entry["DeviceName"], entry["Ebs"]) for entry in mappings if "Ebs" in entry]
        for device, volume in given or [(self.root_device_name, {})]:
            self.add_block_device(
                volume.get("VolumeSize") or 8,
                device,
                None,
                bool(volume.get("Encrypted")),
                volume.get("DeleteOnTermination", True),
                volume.get("KmsKeyId"),
                volume.get("VolumeType"),
            )

    def turn(self, state: str, reason: tuple[str, str] | None = None) -> None:
        """Change the state, and say so."""
        self.epoch += 1
        self._state = InstanceState(state, CODES[state])
        if reason:
            self.state_reason = StateReason(reason[1], reason[0])
            self._reason = f"{reason[1]} ({date(moment()):%Y-%m-%d %H:%M:%S UTC})"
        group = self.cell.group_of(self.id)
        note("instance", group=group and group.name, instance=self.id, state=state)
        for listener in LISTENERS:
            listener(self)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something after some seconds, unless the state changes before."""
        epoch = self.epoch
        after(seconds, lambda: action() if self.epoch == epoch else None)

    def boot(self) -> None:
        """Start, from the launch or from a stop."""
        self.turn("pending")
        self.later(WORLD.times["boot"], lambda: self.turn("running"))

    def halt(self, reason: tuple[str, str] = USER) -> None:
        """Stop, and keep the disks."""
        if self.state in ("pending", "running"):
            self.turn("stopping", reason)
            self.later(WORLD.times["terminate"], lambda: self.turn("stopped"))

    def finish(self, reason: tuple[str, str] = USER) -> None:
        """Shut down for good."""
        if self.state not in ("shutting-down", "terminated"):
            self.turn("shutting-down", reason)
            self.later(WORLD.times["terminate"], self.vanish)

    def vanish(self) -> None:
        """Be terminated: the volumes and addresses are free again, and some time later nothing is known any more."""
        reason, text = self.state_reason, self._reason
        MotoInstance.terminate(self)
        self.state_reason, self._reason = reason, text
        subnet = self.cell.ec2.get_subnet(self.subnet_id) if self.subnet_id else None
        for address in self._private_ips if subnet else ():
            subnet.del_subnet_ip(address)
        self._private_ips = set()
        for nic in self.nics.values():
            self.cell.ec2.enis.pop(nic.id, None)
        self.turn("terminated")
        self.later(KEPT_SECONDS, self.forget)

    def forget(self) -> None:
        """Leave no trace."""
        self.cell.machines.pop(self.id, None)
        self.cell.ec2.tags.pop(self.id, None)
        reservation = self.cell.ec2.reservations.get(self.reservation)
        if reservation:
            reservation.instances = [one for one in reservation.instances if one is not self]
            if not reservation.instances:
                del self.cell.ec2.reservations[self.reservation]

    def shown(self) -> dict[str, Any]:
        """The instance as DescribeInstances has it."""
        result: dict[str, Any] = {
            "InstanceId": self.id,
            "ImageId": self.image_id,
            "State": {"Code": self._state.code, "Name": self._state.name},
            "PrivateDnsName": "",
            "PublicDnsName": "",
            "StateTransitionReason": self._reason,
            "KeyName": self.key_name,
            "AmiLaunchIndex": self.ami_launch_index,
            "InstanceType": self.instance_type,
            "LaunchTime": self.launch_time,
            "Placement": {"AvailabilityZone": self.availability_zone, "GroupName": "", "Tenancy": "default"},
            "Monitoring": {"State": self.monitoring_state},
            "Architecture": self.architecture,
            "RootDeviceType": self.root_device_type,
            "RootDeviceName": self.root_device_name,
            "VirtualizationType": self.virtualization_type,
            "InstanceLifecycle": self.lifecycle,
            "ClientToken": self.client_token or "",
            "EbsOptimized": self.ebs_optimized,
            "Hypervisor": self.hypervisor,
            "EnaSupport": True,
            "Tags": tag_list(self.cell.ec2, self.id),
            "MetadataOptions": {
                "State": self.metadata_options.state,
                "HttpTokens": self.metadata_options.http_tokens,
                "HttpPutResponseHopLimit": self.metadata_options.http_put_response_hop_limit,
                "HttpEndpoint": self.metadata_options.http_endpoint,
                "HttpProtocolIpv6": self.metadata_options.http_protocol_ipv6,
                "InstanceMetadataTags": self.metadata_options.instance_metadata_tags,
            },
            "BlockDeviceMappings": [
                {
                    "DeviceName": device,
                    "Ebs": {
                        "VolumeId": volume.volume_id,
                        "Status": "attached",
                        "AttachTime": volume.attach_time,
                        "DeleteOnTermination": volume.delete_on_termination,
                    },
                }
                for device, volume in self.get_block_device_mapping
            ],
        }
        if self.state_reason.code:
            result["StateReason"] = {"Code": self.state_reason.code, "Message": self.state_reason.message}
        if self.state != "terminated":
            result |= self.network()
        return result

    def network(self) -> dict[str, Any]:
        """What a terminated instance has no more: its addresses, interfaces, groups and profile."""
        nics = list(self.nics.values())
        groups = [{"GroupId": group.id, "GroupName": group.name} for group in nics[0].group_set]
        result = {
            "SubnetId": self.subnet_id,
            "VpcId": self.vpc_id,
            "PrivateIpAddress": self.private_ip,
            "PrivateDnsName": self.private_dns_name,
            "PublicIpAddress": self.public_ip,
            "PublicDnsName": self.public_dns_name or "",
            "SourceDestCheck": self.source_dest_check,
            "SecurityGroups": groups,
            "NetworkInterfaces": [interface(nic, index) for index, nic in enumerate(nics)],
        }
        if self.iam_instance_profile:
            result["IamInstanceProfile"] = self.iam_instance_profile
        return result


def interface(nic: Any, index: int) -> dict[str, Any]:
    """A network interface as DescribeInstances has it."""
    result = {
        "NetworkInterfaceId": nic.id,
        "SubnetId": nic.subnet.id,
        "VpcId": nic.subnet.vpc_id,
        "OwnerId": nic.owner_id,
        "Status": nic.status,
        "MacAddress": nic.mac_address,
        "Description": nic.description,
        "PrivateIpAddress": nic.private_ip_address,
        "SourceDestCheck": nic.source_dest_check,
        "Groups": [{"GroupId": group.id, "GroupName": group.name} for group in nic.group_set],
        "Attachment": {
            "AttachmentId": nic.attachment_id,
            "DeviceIndex": index,
            "Status": "attached",
            "DeleteOnTermination": True,
        },
        "PrivateIpAddresses": [{"Primary": True, "PrivateIpAddress": nic.private_ip_address}],
        "Ipv6Addresses": [{"Ipv6Address": address} for address in nic.ipv6_addresses],
    }
    if nic.public_ip:
        result["Association"] = {"PublicIp": nic.public_ip, "IpOwnerId": "amazon"}
    return result


def text_of(value: Any) -> str | None:
    """User data in base 64: text in a request, an object of moto's in its launch templates."""
    return None if value is None else str(value)


def metadata_options(cell: Cell, data: dict[str, Any]) -> dict[str, Any]:
    """The metadata options: those that are asked for, else the image's."""
    image = cell.ec2.amis.get(data["ImageId"])
    of_image = {"HttpTokens": "required"} if getattr(image, "imds_support", None) == "v2.0" else {}
    return of_image | (data.get("MetadataOptions") or {})


def profile(cell: Cell, given: dict[str, Any] | None) -> dict[str, str] | None:
    """The instance profile, which has to be there."""
    if not given:
        return None
    try:
        found = filter_iam_instance_profiles(cell.account, cell.ec2.partition, given.get("Arn"), given.get("Name"))
    except ServiceException as error:
        # moto answers with an error of IAM.
        name = given.get("Arn") or given.get("Name")
        message = f"Value ({name}) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"
        raise AwsError("InvalidParameterValue", message) from error
    return {"Arn": found.arn, "Id": found.id}


def image_id(cell: Cell, given: str | None) -> str:
    """The id of an image that can be launched, also where an SSM parameter names it."""
    if not given:
        raise AwsError("MissingParameter", "The request must contain the parameter ImageId")
    if given.startswith("resolve:ssm:"):
        found = ssm_backends[cell.account][cell.region].get_parameter(given.removeprefix("resolve:ssm:"))
        given = found.value if found else given
    image = cell.ec2.amis.get(given)
    if image is None or image.state == "disabled":
        raise AwsError("InvalidAMIID.NotFound", f"The image id '[{given}]' does not exist")
    if image.state != "available":
        raise AwsError("InvalidAMIID.Unavailable", f"The image ID '{given}' is not available")
    return given


def shortage(zone: str, kind: str) -> AwsError:
    """What EC2 says where it has no capacity."""
    return AwsError(
        "InsufficientInstanceCapacity",
        f"We currently do not have sufficient {kind} capacity in the Availability Zone you requested ({zone}). "
        "Our system will be working on provisioning additional capacity.",
    )


def launch(
    cell: Cell, data: dict[str, Any], count: int, place: Place, tags: dict[str, str], token: str = ""
) -> list[Machine]:
    """Launch instances of one kind in one place, all or none: one reservation."""
    kind = data.get("InstanceType") or "m1.small"
    data = data | {"InstanceType": kind, "ImageId": image_id(cell, data.get("ImageId"))}
    if lacks(place.zone, kind):
        raise shortage(place.zone, kind)
    named = [*(data.get("SecurityGroups") or []), *(data.get("SecurityGroupIds") or [])]
    data["Groups"] = [cell.ec2.get_security_group_by_name_or_id(name) for name in named]
    if None in data["Groups"]:
        missing = named[data["Groups"].index(None)]
        raise AwsError("InvalidGroup.NotFound", f"The security group '{missing}' does not exist")
    reservation = Reservation(random_reservation_id(), cell.account)
    for index in range(count):
        machine = Machine(cell, data, place, index, token)
        machine.reservation = reservation.id
        reservation.instances.append(machine)
        cell.machines[machine.id] = machine
        cell.ec2.tags[machine.id].update(tags)
        machine.attach_volumes(data.get("BlockDeviceMappings") or [])
    cell.ec2.reservations[reservation.id] = reservation
    return reservation.instances

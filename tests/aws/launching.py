"""What a group launches, and the launch itself."""

from __future__ import annotations

from typing import Any

from moto.autoscaling.models import autoscaling_backends
from moto.core.exceptions import ServiceException

import launch_templates
from activities import begin
from cells import Place, lacks
from groups import Group, Member, invalid
from lifecycle import DIRTY
from machines import launch, shortage
from timeline import after, moment
from world import WORLD

# Failed launches are tried again after a time that doubles up to this.
LONGEST_RETRY = 60.0
# What a launch configuration is made of, in moto's words and in those of RunInstances.
CONFIGURATION = {
    "image_id": "ImageId",
    "instance_type": "InstanceType",
    "key_name": "KeyName",
    "user_data": "UserData",
    "security_groups": "SecurityGroups",
    "associate_public_ip_address": "AssociatePublicIpAddress",
    "metadata_options": "MetadataOptions",
}


def single(specification: dict[str, Any]) -> dict[str, Any]:
    """A template's specification by its id only, where it is shown by both id and name."""
    named = {"LaunchTemplateId", "LaunchTemplateName"} <= set(specification)
    return {key: value for key, value in specification.items() if not (named and key == "LaunchTemplateName")}


def blueprint(group: Group, override: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str], dict[str, str] | None]:
    """What is launched now by one of the group's choices: the data, the tags, and the version of the template."""
    specification = override.get("LaunchTemplateSpecification") or group.specification()
    if specification is None:
        return configuration(group), {}, None
    data, tags, version = launch_templates.resolved(group.cell.ec2, single(specification))
    data = dict(data)
    for name in ("InstanceType", "ImageId"):
        if name in override:
            data[name] = override[name]
    template = {
        "LaunchTemplateId": version.template.id,
        "LaunchTemplateName": version.template.name,
        "Version": str(version.number),
    }
    return data, tags, template


def configuration(group: Group) -> dict[str, Any]:
    """What the group's launch configuration says, in the words of RunInstances."""
    known = autoscaling_backends[group.cell.account][group.cell.region].launch_configurations
    found = known.get(group.settings.get("LaunchConfigurationName"))
    if found is None:
        raise invalid("Launch configuration name not found")
    data = {ours: getattr(found, name) for name, ours in CONFIGURATION.items() if getattr(found, name, None)}
    if found.iam_instance_profile:
        by = "Arn" if found.iam_instance_profile.startswith("arn:") else "Name"
        data["IamInstanceProfile"] = {by: found.iam_instance_profile}
    return data


def kind_of(group: Group, override: dict[str, Any]) -> str | None:
    """The instance type of one of the group's choices; None where the template does not say, or is not there."""
    try:
        return blueprint(group, override)[0].get("InstanceType")
    except ServiceException:
        # The launch itself will fail, and its activity will say why.
        return None


def has_capacity(group: Group, place: Place) -> bool:
    """Whether a place has capacity for one of the group's choices."""
    kinds = [kind_of(group, override) for override in group.overrides()]
    return any(kind is None or not lacks(place.zone, kind) for kind in kinds)


def start(group: Group, place: Place, count: int, cause: str, state: str = "Pending") -> list[Member]:
    """Launch members in one place, of the first of the group's choices that there is capacity for."""
    if not has_capacity(group, place):
        raise shortage(place.zone, kind_of(group, group.overrides()[0]) or "")
    for override in group.overrides():
        data, tags, template = blueprint(group, override)
        if not lacks(place.zone, data.get("InstanceType", "")):
            break
    if place.subnet and data.get("NetworkInterfaces"):
        first, *rest = data["NetworkInterfaces"]
        data["NetworkInterfaces"] = [first | {"SubnetId": place.subnet}, *rest]
    propagated = {key: value for key, (value, wanted) in group.tags.items() if wanted}
    tags = tags | propagated | {"aws:autoscaling:groupName": group.name}
    members = []
    for machine in launch(group.cell, data, count, place, tags):
        member = Member(group, machine, place.zone, template, int(override.get("WeightedCapacity") or 1))
        member.weighted = "WeightedCapacity" in override
        member.state, member.protected = state, bool(group.settings["NewInstancesProtectedFromScaleIn"])
        member.start_activity(f"Launching a new EC2 instance: {machine.id}", cause)
        group.add(member, warm=state != "Pending")
        machine.boot()
        members.append(member)
    return members


def failed(group: Group, place: Place, cause: str, error: ServiceException) -> None:
    """Record a launch that failed."""
    text = f"Launching a new EC2 instance.  Status Reason: {error.message}"
    activity = begin(group, text, cause, place.zone, place.subnet)
    activity.end("Failed", f"{error.message} Launching EC2 instance failed."[:255])
    group.note("launch failed", zone=place.zone, code=error.code)


def postpone(group: Group) -> None:
    """Try again later, and later each time."""
    wait = min(WORLD.times["retry"] * 2**group.failures, LONGEST_RETRY)
    group.failures = min(group.failures + 1, 10)
    group.retry_at = moment() + wait
    after(wait, lambda: DIRTY.update({group: None}))

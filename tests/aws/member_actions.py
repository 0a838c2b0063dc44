"""EC2 Auto Scaling's actions on single members: health, protection, standby, attaching and detaching."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.core.responses import ActionResult, EmptyResult

from answers import Answer
from cells import cell_of
from groups import Group, Member, find_group, find_member, invalid
from lifecycle import DIRTY, come_back, detach, stand_by, suspect
from scaling import grace_end
from timeline import moment

# The most instances of one call.
MOST, MOST_PROTECTED = 20, 50


def named(self: Any, states: tuple[str, ...], most: int = MOST) -> tuple[Group, list[Member]]:
    """The group and its members that are named, which have to be in one of the states."""
    group = find_group(cell_of(self.autoscaling_backend), self._get_param("AutoScalingGroupName"))
    ids = self._get_param("InstanceIds") or []
    if len(ids) > most:
        raise invalid(f"1 validation error detected: at most {most} instance IDs can be given")
    members = [find_member(group, instance) for instance in dict.fromkeys(ids)]
    for member in members:
        if member.state not in states:
            raise invalid(f"The instance {member.id} is not in {' or '.join(states)}.")
    return group, members


def check_room(group: Group, desired: int, doing: str) -> None:
    """Refuse what would bring the desired capacity out of the group's sizes."""
    if not group.least <= desired <= group.most:
        raise invalid(
            f"AutoScalingGroup {group.name} has min-size={group.least}, max-size={group.most}, and "
            f"desired-size={group.desired}. To {doing}, please update the AutoScalingGroup sizes appropriately."
        )


def set_instance_health(self: Any) -> ActionResult:
    """SetInstanceHealth. An instance in its grace period is not condemned, unless that is to be ignored."""
    cell, instance = cell_of(self.autoscaling_backend), self._get_param("InstanceId")
    health, group = self._get_param("HealthStatus"), cell.group_of(instance)
    if health not in ("Healthy", "Unhealthy"):
        raise invalid("Valid instance health states are: [Healthy, Unhealthy]")
    if group is None or instance not in group.members:
        raise invalid(f"Instance Id not found - No managed instance found for instance ID {instance}")
    member, respects = group.members[instance], self._get_param("ShouldRespectGracePeriod")
    if health == "Unhealthy" and respects is not False and moment() < grace_end(member):
        return EmptyResult()
    member.condemned = health == "Unhealthy"
    if member.health != health:
        member.health = health
        group.note("health", member.id, state=health)
    suspect(member)
    return EmptyResult()


def set_instance_protection(self: Any) -> ActionResult:
    """SetInstanceProtection: not of members that are on their way in or out."""
    group, members = named(self, ("InService", "EnteringStandby", "Standby"), MOST_PROTECTED)
    for member in members:
        member.protected = bool(self._get_param("ProtectedFromScaleIn"))
        group.note("protection", member.id, state=member.protected)
    DIRTY[group] = None
    return EmptyResult()


def move_out(self: Any, states: tuple[str, ...], doing: str, texts: str, act: Callable[[Member], None]) -> ActionResult:
    """Take members out of the group's capacity, which shrinks or gets others instead."""
    group, members = named(self, states)
    decrement = bool(self._get_param("ShouldDecrementDesiredCapacity"))
    weight = sum(member.weight for member in members if member.state == "InService")
    cause = f"instance was {doing} in response to a user request"
    if decrement:
        check_room(group, group.desired - weight, f"have {len(members)} instances {doing}")
        cause += f", shrinking the capacity from {group.desired} to {group.desired - weight}"
        group.resize(group.desired - weight)
    activities = []
    for member in members:
        activities.append(member.start_activity(f"{texts}: {member.id}", f"{cause}."))
        act(member)
    DIRTY[group] = None
    return Answer({"Activities": [activity.shown() for activity in activities]})


def enter_standby(self: Any) -> ActionResult:
    """EnterStandby."""
    return move_out(self, ("InService",), "moved to standby", "Moving EC2 instance to Standby", stand_by)


def detach_instances(self: Any) -> ActionResult:
    """DetachInstances: they run on."""
    return move_out(self, ("InService", "Standby"), "detached", "Detaching EC2 instance", detach)


def exit_standby(self: Any) -> ActionResult:
    """ExitStandby: the desired capacity grows by what comes back."""
    group, members = named(self, ("Standby",))
    weight = sum(member.weight for member in members)
    check_room(group, group.desired + weight, f"move {len(members)} instances out of standby")
    cause = (
        "instance was moved out of standby in response to a user request, "
        f"increasing the capacity from {group.desired} to {group.desired + weight}."
    )
    group.resize(group.desired + weight)
    activities = []
    for member in members:
        activities.append(member.start_activity(f"Moving EC2 instance out of Standby: {member.id}", cause))
        come_back(member)
    DIRTY[group] = None
    return Answer({"Activities": [activity.shown() for activity in activities]})


def attach_instances(self: Any) -> ActionResult:
    """AttachInstances: running ones of the group's zones, that are in no group; the desired capacity grows."""
    cell = cell_of(self.autoscaling_backend)
    group, ids = find_group(cell, self._get_param("AutoScalingGroupName")), self._get_param("InstanceIds") or []
    if len(ids) > MOST:
        raise invalid(f"1 validation error detected: at most {MOST} instance IDs can be given")
    zones = {place.zone for place in group.places()}
    for instance in ids:
        machine = cell.machines.get(instance)
        if machine is None or machine.state != "running":
            raise invalid(f"Invalid Instance ID(s): {instance} is not in correct state. It should be running")
        if machine.member is not None:
            raise invalid(f"Instance {instance} is already part of AutoScalingGroup:{machine.member.group.name}")
        if machine.availability_zone not in zones:
            raise invalid(f"The instance {instance} is not in an Availability Zone of the group")
    check_room(group, group.desired + len(ids), f"attach {len(ids)} instances")
    group.resize(group.desired + len(ids))
    for instance in ids:
        machine = cell.machines[instance]
        member = Member(group, machine, str(machine.availability_zone), template_of(group, machine), 1)
        group.add(member)
        cell.ec2.tags[instance]["aws:autoscaling:groupName"] = group.name
        member.start_activity(f"Attaching an existing EC2 instance: {instance}", "a user request attached an instance.")
        come_back(member)
    DIRTY[group] = None
    return EmptyResult()


def template_of(group: Group, machine: Any) -> dict[str, str] | None:
    """The template that an instance was launched from by itself, as its tags have it."""
    tags = group.cell.ec2.tags.get(machine.id, {})
    template = group.cell.ec2.launch_templates.get(tags.get("aws:ec2launchtemplate:id"))
    if template is None:
        return None
    version = tags["aws:ec2launchtemplate:version"]
    return {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name, "Version": version}


ACTIONS = (
    set_instance_health,
    set_instance_protection,
    enter_standby,
    exit_standby,
    detach_instances,
    attach_instances,
)

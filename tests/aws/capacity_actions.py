"""EC2 Auto Scaling's actions on a group's capacity: the desired one, launching at once, terminating chosen members."""

from __future__ import annotations

import json
from typing import Any

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, EmptyResult

from answers import Answer
from cells import Cell, Place, cell_of
from groups import Group, Member, find_group, invalid
from launching import failed, kind_of, start
from lifecycle import DIRTY, leave
from timeline import moment
from world import WORLD, AwsError, remembered

# The most instances of one LaunchInstances or TerminateInstanceInAutoScalingGroup.
MOST = 100


def set_desired_capacity(self: Any) -> ActionResult:
    """SetDesiredCapacity: between the group's sizes, and after the cooldown where that is to be honoured."""
    group = find_group(cell_of(self.autoscaling_backend), self._get_param("AutoScalingGroupName"))
    desired = int(self._get_param("DesiredCapacity"))
    said = f"New SetDesiredCapacity value {desired}"
    if desired > group.most:
        raise invalid(f"{said} is above max value {group.most} for the AutoScalingGroup.")
    if desired < group.least:
        raise invalid(f"{said} is below min value {group.least} for the AutoScalingGroup.")
    if self._get_param("HonorCooldown") and moment() < group.cooldown_until:
        raise AwsError("ScalingActivityInProgress", f"A cooldown of AutoScalingGroup {group.name} is in effect")
    group.resize(desired)
    DIRTY[group] = None
    return EmptyResult()


def launch_instances(self: Any) -> ActionResult:
    """LaunchInstances. Documented by AWS are: the parameters and their limits, that the answer has ids or errors for
    the one place, that the instances are Pending then, that a group of several zones needs a place, that a launch
    configuration will not do, and that nothing is tried again where the retry strategy is `none`, the default.

    Assumed are: that the desired capacity rises by what was launched, at once; that MaxSize is not exceeded and that a
    suspended Launch refuses the call; that the answer of a client token is given again, errors included; that all or
    nothing is launched; and that a warm pool is not used."""
    cell, given = cell_of(self.autoscaling_backend), dict(self.params)
    group = find_group(cell, given["AutoScalingGroupName"])
    token = given.pop("ClientToken")
    key = ("launch-instances", cell.account, cell.region, group.name, token)
    parameters = json.dumps(given, sort_keys=True, default=str)
    mismatch = AwsError("IdempotentParameterMismatch", "The client token was used with other parameters")
    known = remembered(key, parameters, mismatch)
    if known is None:
        count, place = checked(group, given), place_of(cell, group, given)
        known = {"AutoScalingGroupName": group.name, "ClientToken": token}
        known |= launched(group, place, count, str(given.get("RetryStrategy") or "none"))
        WORLD.tokens[key] = (parameters, known)
    return Answer(known)


def checked(group: Group, given: dict[str, Any]) -> int:
    """How many instances a request of LaunchInstances is about, if it may be answered."""
    requested = int(given["RequestedCapacity"])
    weight = int(group.overrides()[0].get("WeightedCapacity") or 1)
    count = -(-requested // weight)
    if requested < 1 or count > MOST:
        raise invalid(f"RequestedCapacity must be from 1 to {MOST} instances")
    if group.specification() is None:
        raise invalid("LaunchInstances needs a launch template; launch configurations are not supported")
    if group.deleting or not group.runs("Launch"):
        raise invalid(f"The Launch process of AutoScalingGroup {group.name} is suspended")
    if group.desired + requested > group.most:
        raise invalid(
            f"RequestedCapacity {requested} would exceed the max size {group.most} of AutoScalingGroup {group.name}"
        )
    return count


def place_of(cell: Cell, group: Group, given: dict[str, Any]) -> Place:
    """Where to launch: the place that is asked for, or the only one there is."""
    zones, ids = given.get("AvailabilityZones") or [], given.get("AvailabilityZoneIds") or []
    subnets, places = given.get("SubnetIds") or [], group.places()
    if max(len(zones), len(ids), len(subnets)) > 1 or zones and ids:
        raise invalid("Exactly one Availability Zone or subnet can be given")
    if not zones and not ids and not subnets and len({place.zone for place in places}) > 1:
        raise invalid("AvailabilityZones or SubnetIds must be given for a group with several Availability Zones")
    for place in places:
        in_zone = not zones or place.zone == zones[0]
        if in_zone and (not ids or cell.zone_id(place.zone) == ids[0]) and (not subnets or place.subnet == subnets[0]):
            return place
    raise invalid("The Availability Zone or subnet is not one of the group's")


def launched(group: Group, place: Place, count: int, retry: str) -> dict[str, Any]:
    """The instances that were launched, or why there are none."""
    where = {"AvailabilityZone": place.zone, "AvailabilityZoneId": group.cell.zone_id(place.zone)}
    where |= {"SubnetId": place.subnet, "MarketType": "on-demand"}
    size, weight = group.size(), int(group.overrides()[0].get("WeightedCapacity") or 1)
    cause = f"a user request launched instances, increasing the capacity from {size} to {size + count * weight}."
    try:
        members = start(group, place, count, cause)
    except ServiceException as error:
        failed(group, place, cause, error)
        if retry == "retry-with-group-configuration":
            group.resize(group.desired + count * weight)
            DIRTY[group] = None
        kind = kind_of(group, group.overrides()[0])
        entry = where | {"InstanceType": kind, "ErrorCode": error.code, "ErrorMessage": error.message}
        return {"Instances": [], "Errors": [entry]}
    group.resize(group.desired + sum(member.weight for member in members))
    DIRTY[group] = None
    ids = [member.id for member in members]
    return {"Instances": [where | {"InstanceType": members[0].machine.instance_type, "InstanceIds": ids}], "Errors": []}


def terminate_instance_in_auto_scaling_group(self: Any) -> ActionResult:
    """TerminateInstanceInAutoScalingGroup: one instance, or several of a group that is named. Protection from scale-in
    does not stop it."""
    cell = cell_of(self.autoscaling_backend)
    several, one = self._get_param("InstanceIds") or [], self._get_param("InstanceId")
    if bool(several) == bool(one) or several and not self._get_param("AutoScalingGroupName"):
        raise invalid("Either InstanceId, or InstanceIds and AutoScalingGroupName must be given")
    if len(several) > MOST:
        raise invalid(f"At most {MOST} InstanceIds can be given")
    members = [managed(cell, instance) for instance in several or [one]]
    group = members[0].group
    if any(member.group is not group for member in members):
        raise invalid("The instances are not of one group")
    decrement = bool(self._get_param("ShouldDecrementDesiredCapacity"))
    weight = sum(member.weight for member in members if member.state != "Standby")
    if decrement and group.desired - weight < group.least:
        raise invalid(
            f"Currently, desiredSize equals minSize ({group.least}). Terminating instance without replacement will "
            "violate group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower "
            "group's min size."
        )
    cause = "instance was taken out of service in response to a user request"
    if decrement:
        cause += f", shrinking the capacity from {group.desired} to {group.desired - weight}"
        group.resize(group.desired - weight)
    activities = [leave(member, f"{cause}.") for member in members]
    DIRTY[group] = None
    shown = [activity.shown() for activity in activities]
    return Answer({"Activities": shown} if several else {"Activity": shown[0]})


def managed(cell: Cell, instance: str) -> Member:
    """The member of any group that an instance is, if it can be terminated."""
    group = cell.group_of(instance)
    if group is None:
        raise invalid(f"Instance Id not found - No managed instance found for instance ID {instance}")
    if instance not in group.members:
        raise invalid(f"The instance {instance} is in the warm pool of AutoScalingGroup {group.name}")
    member = group.members[instance]
    if member.state.startswith("Terminating"):
        # Assumed: what AWS says of an instance that is on its way out already is not documented.
        raise AwsError("ScalingActivityInProgress", f"The instance {instance} is {member.state} already")
    return member


ACTIONS = (set_desired_capacity, launch_instances, terminate_instance_in_auto_scaling_group)

"""Warm pools: instances that have booted before they are needed, stopped or running. Hooks have no say in them here."""

from __future__ import annotations

from typing import Any

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, EmptyResult

from answers import Answer
from cells import Place, cell_of
from groups import Group, Member, find_group, invalid
from launching import failed, postpone, start
from lifecycle import DIRTY, booted
from machines import LISTENERS as MACHINE_LISTENERS
from machines import Machine
from timeline import moment
from world import AwsError

STATES = {"Stopped": "Warmed:Stopped", "Running": "Warmed:Running", "Hibernated": "Warmed:Hibernated"}
READY = tuple(STATES.values())


def wanted(group: Group) -> int:
    """How many instances the pool should have."""
    if not group.pool or group.deleting or "Status" in group.pool:
        return 0
    prepared = group.pool.get("MaxGroupPreparedCapacity")
    prepared = group.most if prepared in (None, -1) else prepared
    return max(group.pool.get("MinSize", 0), prepared - group.desired)


def fill(group: Group) -> None:
    """Launch what the pool lacks, or terminate what it has too much; the newest goes first."""
    difference = wanted(group) - len(group.warm)
    for member in list(group.warm.values())[difference:] if difference < 0 else []:
        group.remove(member, "Warmed:Terminated")
        member.machine.finish()
    if difference > 0 and group.runs("Launch") and moment() >= group.retry_at:
        cause = f"an instance was launched into a warm pool, increasing the warm capacity to {wanted(group)}."
        places = group.places()
        for number in range(difference):
            place = places[number % len(places)]
            try:
                start(group, place, 1, cause, "Warmed:Pending")
            except ServiceException as error:
                failed(group, place, cause, error)
                postpone(group)
                return
    if group.pool and "Status" in group.pool and not group.warm:
        group.pool = None


def take(group: Group, place: Place, count: int, cause: str) -> int:
    """Bring ready instances of a zone from the pool into the group; returns how many there were."""
    ready = [one for one in group.warm.values() if one.state in READY and one.zone == place.zone][:count]
    for member in ready:
        del group.warm[member.id]
        group.members[member.id] = member
        member.born = moment()
        member.start_activity(f"Launching a new EC2 instance from warm pool: {member.id}", cause)
        member.move("Pending")
        if member.machine.state == "running":
            booted(member)
        else:
            member.machine.boot()
    return len(ready)


def machine_changed(machine: Machine) -> None:
    """A pool's instance has booted, has stopped, or has ended by itself."""
    member = machine.member
    if member is None or machine.id not in member.group.warm:
        return
    ready = STATES[(member.group.pool or {}).get("PoolState", "Stopped")]
    if machine.state == "running" and member.state == "Warmed:Pending":
        if ready == "Warmed:Running":
            settled(member, ready)
        else:
            machine.halt()
    elif machine.state == "stopped" and member.state == "Warmed:Pending":
        settled(member, ready)
    elif machine.state == "shutting-down":
        member.group.remove(member, "Warmed:Terminated")
        DIRTY[member.group] = None


def settled(member: Member, state: str) -> None:
    """Be ready to be taken."""
    member.move(state)
    member.end_activity()
    DIRTY[member.group] = None


def put_warm_pool(self: Any) -> ActionResult:
    """PutWarmPool: what is not said stays as it was."""
    group = find_group(cell_of(self.autoscaling_backend), self._get_param("AutoScalingGroupName"))
    if group.settings.get("MixedInstancesPolicy"):
        raise invalid("You can't add a warm pool to a group that has a mixed instances policy")
    names = ("MaxGroupPreparedCapacity", "MinSize", "PoolState", "InstanceReusePolicy")
    given = {name: self.params[name] for name in names if name in self.params}
    group.pool = {"MinSize": 0, "PoolState": "Stopped"} | (group.pool or {}) | given
    DIRTY[group] = None
    return EmptyResult()


def describe_warm_pool(self: Any) -> ActionResult:
    """DescribeWarmPool."""
    group = find_group(cell_of(self.autoscaling_backend), self._get_param("AutoScalingGroupName"))
    start_at, size = int(self._get_param("NextToken") or 0), self._get_param("MaxRecords") or 50
    found = [member.shown() for member in group.warm.values()]
    token = str(start_at + size) if start_at + size < len(found) else None
    pool = dict(group.pool) if group.pool else None
    return Answer(
        {"WarmPoolConfiguration": pool, "Instances": found[start_at : start_at + size], "NextToken": token}
    )


def delete_warm_pool(self: Any) -> ActionResult:
    """DeleteWarmPool: only an empty one, unless it is forced."""
    group = find_group(cell_of(self.autoscaling_backend), self._get_param("AutoScalingGroupName"))
    if group.pool is None:
        raise invalid(f"No warm pool found for AutoScaling Group {group.name}")
    if group.warm and not self._get_param("ForceDelete"):
        raise AwsError("ResourceInUse", "You cannot delete a warm pool while there are instances still in it.")
    group.pool["Status"] = "PendingDelete"
    DIRTY[group] = None
    return EmptyResult()


MACHINE_LISTENERS.append(machine_changed)
ACTIONS = (put_warm_pool, describe_warm_pool, delete_warm_pool)

"""EC2 Auto Scaling's actions on what is written down of groups: target groups, suspended processes, tags, refreshes."""

from __future__ import annotations

import uuid
from typing import Any

from moto.core.responses import ActionResult, EmptyResult

from answers import Answer
from cells import cell_of
from group_actions import target_groups_of
from groups import Group, find_group, invalid
from lifecycle import DIRTY, join, part, suspect
from timeline import date, moment
from world import AwsError, matches

PROCESSES = (
    "Launch Terminate AddToLoadBalancer AlarmNotification AZRebalance HealthCheck InstanceRefresh ReplaceUnhealthy "
    "ScheduledActions"
).split()
# A refresh that is not over.
ACTIVE = ("Pending", "InProgress", "Cancelling")


def group_of(self: Any) -> Group:
    """The group that is asked about."""
    return find_group(cell_of(self.autoscaling_backend), self._get_param("AutoScalingGroupName"))


def paged(self: Any, name: str, found: list[dict[str, Any]], most: int = 100) -> ActionResult:
    """A page of a list."""
    start, size = int(self._get_param("NextToken") or 0), int(self._get_param("MaxRecords") or most)
    token = str(start + size) if start + size < len(found) else None
    return Answer({name: found[start : start + size], "NextToken": token})


def attach_sources(self: Any) -> ActionResult:
    """Members in service get requests from further target groups."""
    group = group_of(self)
    for arn in target_groups_of(group.cell, self.params):
        if arn not in group.sources:
            group.sources.append(arn)
            for member in group.members.values():
                if member.state == "InService" and group.runs("AddToLoadBalancer"):
                    join(member, arn)
                group.recount(member)
    return EmptyResult()


def detach_sources(self: Any) -> ActionResult:
    """Members get requests from some target groups no more."""
    group = group_of(self)
    sources = [source["Identifier"] for source in self._get_param("TrafficSources") or []]
    for arn in [*(self._get_param("TargetGroupARNs") or []), *sources]:
        if arn not in group.sources:
            raise invalid(f"Trying to remove Target Groups that are not part of the group: {arn}")
        group.sources.remove(arn)
        for member in group.members.values():
            part(member, [arn])
    return EmptyResult()


def attach_load_balancer_target_groups(self: Any) -> ActionResult:
    """AttachLoadBalancerTargetGroups."""
    return attach_sources(self)


def attach_traffic_sources(self: Any) -> ActionResult:
    """AttachTrafficSources."""
    return attach_sources(self)


def detach_load_balancer_target_groups(self: Any) -> ActionResult:
    """DetachLoadBalancerTargetGroups."""
    return detach_sources(self)


def detach_traffic_sources(self: Any) -> ActionResult:
    """DetachTrafficSources."""
    return detach_sources(self)


def source_state(group: Group, arn: str) -> str:
    """How far a target group has come: `Added` until a member of the group is healthy there (assumed: AWS says that
    all are registered, and that one has passed)."""
    targets = group.cell.targets.get(arn, {})
    serving = [member.id for member in group.members.values() if member.state == "InService"]
    if any(instance in targets and targets[instance].state == "healthy" for instance in serving):
        return "InService"
    return "Added" if all(instance in targets for instance in serving) else "Adding"


def describe_load_balancer_target_groups(self: Any) -> ActionResult:
    """DescribeLoadBalancerTargetGroups."""
    group = group_of(self)
    shown = [{"LoadBalancerTargetGroupARN": arn, "State": source_state(group, arn)} for arn in group.sources]
    return paged(self, "LoadBalancerTargetGroups", shown)


def describe_traffic_sources(self: Any) -> ActionResult:
    """DescribeTrafficSources."""
    group, kind = group_of(self), self._get_param("TrafficSourceType")
    sources = group.sources if kind in (None, "elbv2") else []
    shown = [{"Identifier": arn, "Type": "elbv2", "State": source_state(group, arn)} for arn in sources]
    return paged(self, "TrafficSources", shown, 50)


def processes_of(self: Any) -> list[str]:
    """The processes that are named; all, if none is."""
    names = self._get_param("ScalingProcesses") or PROCESSES
    if unknown := [name for name in names if name not in PROCESSES]:
        raise invalid(f"The following processes are not valid: {', '.join(unknown)}")
    return list(names)


def suspend_processes(self: Any) -> ActionResult:
    """SuspendProcesses."""
    group = group_of(self)
    for name in processes_of(self):
        group.suspended[name] = f"User suspended at {date(moment()):%Y-%m-%dT%H:%M:%SZ}"
    group.note("suspended", processes=sorted(group.suspended))
    return EmptyResult()


def resume_processes(self: Any) -> ActionResult:
    """ResumeProcesses: what was left undone is done now."""
    group = group_of(self)
    for name in processes_of(self):
        group.suspended.pop(name, None)
    group.note("suspended", processes=sorted(group.suspended))
    for member in group.members.values():
        suspect(member)
    DIRTY[group] = None
    return EmptyResult()


def create_or_update_tags(self: Any) -> ActionResult:
    """CreateOrUpdateTags: instances that run do not get them."""
    cell, tags = cell_of(self.autoscaling_backend), self._get_param("Tags") or []
    for tag in tags:
        find_group(cell, tag.get("ResourceId"))
        if tag["Key"].startswith("aws:"):
            raise invalid("Tag keys starting with 'aws:' are reserved")
    for tag in tags:
        group = cell.groups[tag["ResourceId"]]
        group.tags[tag["Key"]] = (tag.get("Value", ""), bool(tag.get("PropagateAtLaunch")))
        group.note("tag", key=tag["Key"], value=tag.get("Value", ""))
    return EmptyResult()


def delete_tags(self: Any) -> ActionResult:
    """DeleteTags: one that has another value stays."""
    cell = cell_of(self.autoscaling_backend)
    for tag in self._get_param("Tags") or []:
        group = find_group(cell, tag.get("ResourceId"))
        known = group.tags.get(tag["Key"])
        if known is not None and tag.get("Value") in (None, known[0]):
            del group.tags[tag["Key"]]
            group.note("tag", key=tag["Key"], value=None)
    return EmptyResult()


def describe_tags(self: Any) -> ActionResult:
    """DescribeTags, of all groups."""
    cell = cell_of(self.autoscaling_backend)
    found = [tag for name in sorted(cell.groups) for tag in cell.groups[name].shown_tags()]
    looked_at = {
        "auto-scaling-group": lambda tag: tag["ResourceId"],
        "key": lambda tag: tag["Key"],
        "value": lambda tag: tag["Value"],
        "propagate-at-launch": lambda tag: str(tag["PropagateAtLaunch"]).lower(),
    }
    for one in self._get_param("Filters") or []:
        if one["Name"] not in looked_at:
            raise invalid(f"The filter {one['Name']} is not valid")
        found = [tag for tag in found if matches(one["Values"], [looked_at[one["Name"]](tag)])]
    return paged(self, "Tags", found, 50)


def active_refresh(group: Group) -> dict[str, Any] | None:
    """The refresh that is not over, if there is one."""
    return next((one for one in group.refreshes if one["Status"] in ACTIVE), None)


def start_instance_refresh(self: Any) -> ActionResult:
    """StartInstanceRefresh: written down only, nothing is replaced."""
    group = group_of(self)
    if active_refresh(group):
        message = "An Instance Refresh is already in progress and blocks the execution of this Instance Refresh."
        raise AwsError("InstanceRefreshInProgress", message)
    refresh = {
        "InstanceRefreshId": str(uuid.uuid4()),
        "AutoScalingGroupName": group.name,
        "Status": "InProgress",
        "StartTime": date(moment()),
        "PercentageComplete": 0,
        "InstancesToUpdate": len(group.members),
        "Strategy": "Rolling",
    }
    names = ("Preferences", "DesiredConfiguration", "Strategy")
    group.refreshes.insert(0, refresh | {name: self.params[name] for name in names if name in self.params})
    group.note("refresh", state="InProgress")
    return Answer({"InstanceRefreshId": refresh["InstanceRefreshId"]})


def cancel_instance_refresh(self: Any) -> ActionResult:
    """CancelInstanceRefresh."""
    group = group_of(self)
    refresh = active_refresh(group)
    if refresh is None:
        message = f"No in progress or pending Instance Refresh found for Auto Scaling group {group.name}"
        raise AwsError("ActiveInstanceRefreshNotFound", message)
    refresh |= {"Status": "Cancelled", "EndTime": date(moment()), "StatusReason": "Cancelled due to user request."}
    group.note("refresh", state="Cancelled")
    return Answer({"InstanceRefreshId": refresh["InstanceRefreshId"]})


def describe_instance_refreshes(self: Any) -> ActionResult:
    """DescribeInstanceRefreshes: the newest first."""
    group, wanted = group_of(self), self._get_param("InstanceRefreshIds") or []
    found = [one for one in group.refreshes if not wanted or one["InstanceRefreshId"] in wanted]
    return paged(self, "InstanceRefreshes", found, 50)


ACTIONS = (
    attach_load_balancer_target_groups,
    attach_traffic_sources,
    detach_load_balancer_target_groups,
    detach_traffic_sources,
    describe_load_balancer_target_groups,
    describe_traffic_sources,
    suspend_processes,
    resume_processes,
    create_or_update_tags,
    delete_tags,
    describe_tags,
    start_instance_refresh,
    cancel_instance_refresh,
    describe_instance_refreshes,
)

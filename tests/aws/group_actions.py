"""EC2 Auto Scaling's actions on groups as a whole: making, changing, describing, deleting."""

from __future__ import annotations

from typing import Any

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, EmptyResult

from answers import Answer
from cells import Cell, cell_of
from groups import KEPT, Group, find_group, invalid
from hooks import put_hook
from launching import single
from lifecycle import DIRTY, end, forget_group, suspect
from views import seen_groups
from world import AwsError, matches

# What a group launches; each of them replaces the others.
LAUNCHED = ("LaunchTemplate", "MixedInstancesPolicy", "LaunchConfigurationName")


def create_auto_scaling_group(self: Any) -> ActionResult:
    """CreateAutoScalingGroup."""
    cell, given = cell_of(self.autoscaling_backend), dict(self.params)
    name = given["AutoScalingGroupName"]
    if name in cell.groups:
        message = "AutoScalingGroup by this name already exists - A group with the name"
        raise AwsError("AlreadyExists", f"{message} {name} already exists")
    if sum(key in given for key in LAUNCHED) != 1:
        raise invalid(
            "Valid requests must contain either LaunchTemplate, LaunchConfigurationName, InstanceId or "
            "MixedInstancesPolicy parameter."
        )
    group = Group(cell, name)
    take_sizes(group, given)
    take_settings(group, given)
    if not group.places():
        raise invalid("At least one Availability Zone or VPC Subnet is required.")
    group.sources = target_groups_of(cell, given)
    for tag in given.get("Tags") or []:
        group.tags[tag["Key"]] = (tag.get("Value", ""), bool(tag.get("PropagateAtLaunch")))
    for hook in given.get("LifecycleHookSpecificationList") or []:
        put_hook(group, hook)
    cell.groups[name] = group
    group.note("group", state="created")
    DIRTY[group] = None
    return EmptyResult()


def take_sizes(group: Group, given: dict[str, Any]) -> None:
    """The sizes of a request: the desired one stays between the other two, by itself or it is refused."""
    least, most = int(given.get("MinSize", group.least)), int(given.get("MaxSize", group.most))
    if least > most:
        raise invalid(f"Max bound, {most}, must be greater than or equal to min bound, {least}")
    desired = given.get("DesiredCapacity")
    if desired is None:
        desired = min(max(group.desired, least), most)
    elif not least <= int(desired) <= most:
        raise invalid(f"Desired capacity:{desired} must be between the specified min size:{least} and max size:{most}")
    group.least, group.most = least, most
    group.resize(int(desired))


def take_settings(group: Group, given: dict[str, Any]) -> None:
    """The settings of a request; what it does not name stays as it is."""
    settings = {name: given[name] for name in KEPT if name in given}
    if "LaunchTemplate" in settings:
        settings["LaunchTemplate"] = template_of(group, settings["LaunchTemplate"])
    if "MixedInstancesPolicy" in settings:
        policy = (group.settings.get("MixedInstancesPolicy") or {}) | settings["MixedInstancesPolicy"]
        launched = dict(policy.get("LaunchTemplate") or {})
        if "LaunchTemplateSpecification" not in launched:
            raise invalid("A mixed instances policy needs a launch template")
        launched["LaunchTemplateSpecification"] = template_of(group, launched["LaunchTemplateSpecification"])
        settings["MixedInstancesPolicy"] = policy | {"LaunchTemplate": launched}
    if chosen := [name for name in LAUNCHED if name in settings]:
        for name in set(LAUNCHED) - set(chosen):
            group.settings.pop(name, None)
    for subnet in (settings.get("VPCZoneIdentifier") or "").split(","):
        if subnet.strip() and subnet.strip() not in known_subnets(group.cell):
            raise invalid(f"The subnet ID '{subnet.strip()}' does not exist")
    group.settings |= settings
    group.zones = list(given.get("AvailabilityZones") or group.zones)


def template_of(group: Group, given: dict[str, Any]) -> dict[str, Any]:
    """A template that is there, as the group shows it."""
    try:
        return group.shown_template(single(given))
    except ServiceException as error:
        raise invalid(f"You must use a valid fully-formed launch template. {error.message}") from error


def known_subnets(cell: Cell) -> set[str]:
    """The ids of all subnets."""
    return {subnet for zone in cell.ec2.subnets.values() for subnet in zone}


def target_groups_of(cell: Cell, given: dict[str, Any]) -> list[str]:
    """The target groups of a request, named in one of two ways."""
    sources = [source["Identifier"] for source in given.get("TrafficSources") or []]
    found = list(dict.fromkeys([*(given.get("TargetGroupARNs") or []), *sources]))
    if any(arn not in cell.elbv2.target_groups for arn in found):
        raise invalid("Provided Target Groups may not be valid. Please ensure they exist and try again.")
    return found


def update_auto_scaling_group(self: Any) -> ActionResult:
    """UpdateAutoScalingGroup: only what is given."""
    given = dict(self.params)
    group = find_group(cell_of(self.autoscaling_backend), given["AutoScalingGroupName"])
    if group.deleting:
        raise AwsError("ScalingActivityInProgress", "The group is pending deletion")
    take_sizes(group, given)
    take_settings(group, given)
    # What made launches fail may be put right now.
    group.failures, group.retry_at = 0, 0.0
    for member in group.members.values():
        suspect(member)
    group.note("group", state="updated")
    DIRTY[group] = None
    return EmptyResult()


def delete_auto_scaling_group(self: Any) -> ActionResult:
    """DeleteAutoScalingGroup: with instances only if that is forced, which no hook can hold up."""
    group = find_group(cell_of(self.autoscaling_backend), self._get_param("AutoScalingGroupName"))
    force, protection = bool(self._get_param("ForceDelete")), group.settings.get("DeletionProtection")
    if protection == "prevent-all-deletion" or force and protection == "prevent-force-deletion":
        raise invalid(f"The group {group.name} is protected from deletion")
    if (group.members or group.warm) and not force:
        raise AwsError(
            "ResourceInUse",
            "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance request(s) "
            "still in the group.",
        )
    group.deleting, group.least, group.most = True, 0, 0
    group.resize(0)
    for member in [*group.members.values(), *group.warm.values()]:
        end(member)
    forget_group(group, at_once=not force)
    return EmptyResult()


def describe_auto_scaling_groups(self: Any) -> ActionResult:
    """DescribeAutoScalingGroups: by names and tags, in pages."""
    size = self._get_param("MaxRecords") or 50
    if not 1 <= int(size) <= 100:
        raise invalid("1 validation error detected: Value at 'maxRecords' failed to satisfy constraint: 1 to 100")
    seen = seen_groups(cell_of(self.autoscaling_backend), self._get_param("AutoScalingGroupNames") or [])
    found = [group for group in seen.values() if tagged(group, self._get_param("Filters") or [])]
    token = self._get_param("NextToken")
    if token:
        found = [group for group in found if group["AutoScalingGroupName"] > token]
    shown = found[: int(size)]
    if self._get_param("IncludeInstances") is False:
        shown = [group | {"Instances": []} for group in shown]
    more = shown[-1]["AutoScalingGroupName"] if len(found) > len(shown) else None
    return Answer({"AutoScalingGroups": shown, "NextToken": more})


def tagged(group: dict[str, Any], filters: list[dict[str, Any]]) -> bool:
    """Whether a group fits all filters, which are about tags only."""
    for one in filters:
        name, tags = one["Name"], group["Tags"]
        if name.startswith("tag:"):
            values = [tag["Value"] for tag in tags if tag["Key"] == name.removeprefix("tag:")]
        elif name in ("tag-key", "tag-value"):
            values = [tag["Key" if name == "tag-key" else "Value"] for tag in tags]
        else:
            raise invalid(f"The filter {name} is not valid")
        if not matches(one["Values"], values):
            return False
    return True


def describe_auto_scaling_instances(self: Any) -> ActionResult:
    """DescribeAutoScalingInstances: of all groups, in pages; those that are in none are just not there."""
    wanted, size = self._get_param("InstanceIds") or [], int(self._get_param("MaxRecords") or 50)
    seen = seen_groups(cell_of(self.autoscaling_backend), [])
    found = [
        {name: value for name, value in member.items() if name != "WeightedCapacity" or value}
        | {"AutoScalingGroupName": group["AutoScalingGroupName"], "HealthStatus": member["HealthStatus"].upper()}
        for group in seen.values()
        for member in group["Instances"]
        if not wanted or member["InstanceId"] in wanted
    ]
    start = int(self._get_param("NextToken") or 0)
    more = str(start + size) if start + size < len(found) else None
    return Answer({"AutoScalingInstances": found[start : start + size], "NextToken": more})


def describe_scaling_activities(self: Any) -> ActionResult:
    """DescribeScalingActivities: the newest first, in pages."""
    cell, name = cell_of(self.autoscaling_backend), self._get_param("AutoScalingGroupName")
    groups = [find_group(cell, name)] if name else list(cell.groups.values())
    wanted, size = self._get_param("ActivityIds") or [], int(self._get_param("MaxRecords") or 100)
    if not 1 <= size <= 100:
        raise invalid("1 validation error detected: Value at 'maxRecords' failed to satisfy constraint: 1 to 100")
    found = [one for group in groups for one in reversed(group.activities) if not wanted or one.id in wanted]
    start = int(self._get_param("NextToken") or 0)
    more = str(start + size) if start + size < len(found) else None
    return Answer({"Activities": [one.shown() for one in found[start : start + size]], "NextToken": more})


ACTIONS = (
    create_auto_scaling_group,
    update_auto_scaling_group,
    delete_auto_scaling_group,
    describe_auto_scaling_groups,
    describe_auto_scaling_instances,
    describe_scaling_activities,
)

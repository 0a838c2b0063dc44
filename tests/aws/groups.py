"""The model of an Auto Scaling group and its members. moto's is a counter, whose instances are there at once."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import launch_templates
from activities import Activity, begin
from cells import Cell, Place
from machines import Machine
from timeline import after, date, moment, note
from world import AwsError

# Members that count for the desired capacity: all but those on their way out, in standby or in the warm pool.
COUNTED = ("Pending", "Pending:Wait", "Pending:Proceed", "InService")
DEFAULTS: dict[str, Any] = {
    "DefaultCooldown": 300,
    "HealthCheckType": "EC2",
    "HealthCheckGracePeriod": 0,
    "TerminationPolicies": ["Default"],
    "NewInstancesProtectedFromScaleIn": False,
    "CapacityRebalance": False,
}
# What a group is made with, and shown with as it was given.
KEPT = (
    "LaunchConfigurationName LaunchTemplate MixedInstancesPolicy DefaultCooldown HealthCheckType "
    "HealthCheckGracePeriod PlacementGroup VPCZoneIdentifier TerminationPolicies NewInstancesProtectedFromScaleIn "
    "CapacityRebalance ServiceLinkedRoleARN MaxInstanceLifetime Context DesiredCapacityType DefaultInstanceWarmup "
    "InstanceMaintenancePolicy DeletionProtection AvailabilityZoneDistribution AvailabilityZoneImpairmentPolicy "
    "CapacityReservationSpecification InstanceLifecyclePolicy LoadBalancerNames"
).split()


@dataclass(eq=False)
class Hook:
    """A lifecycle hook."""

    name: str
    transition: str
    given: dict[str, Any]
    timeout: float
    result: str


@dataclass(eq=False)
class Wait:
    """A member that waits for what a hook's user has to say."""

    hook: Hook
    deadline: float
    token: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(eq=False)
class Member:
    """An instance in a group. The version of the template is the one it was launched from, whatever comes later."""

    group: Group
    machine: Machine
    zone: str
    template: dict[str, str] | None
    weight: int
    weighted: bool = False
    state: str = "Pending"
    health: str = "Healthy"
    protected: bool = False
    # Said by SetInstanceHealth, which nothing else takes back.
    condemned: bool = False
    born: float = field(default_factory=moment)
    serving_since: float | None = None
    activity: Activity | None = None
    waits: dict[str, Wait] = field(default_factory=dict)
    # An event that was planned in an earlier state is void.
    epoch: int = 0

    @property
    def id(self) -> str:
        """The instance's id."""
        return self.machine.id

    def move(self, state: str) -> None:
        """Go on to another state, and say so."""
        self.group.counts[self.state] -= 1
        self.group.counts[state] += 1
        self.epoch += 1
        self.state = state
        self.group.recount(self)
        self.group.note("member", self.id, state=state)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something after some seconds, unless the state changes before."""
        epoch = self.epoch
        after(seconds, lambda: action() if self.epoch == epoch else None)

    def start_activity(self, description: str, cause: str) -> Activity:
        """Begin to do something with the member; what began before is cancelled."""
        if self.activity:
            self.activity.end("Cancelled")
        self.activity = begin(self.group, description, cause, self.zone, self.machine.subnet_id)
        return self.activity

    def end_activity(self) -> None:
        """What was done with the member is done."""
        if self.activity:
            self.activity.end()
            self.activity = None

    def shown(self) -> dict[str, Any]:
        """The member as answers have it."""
        return {
            "InstanceId": self.id,
            "InstanceType": self.machine.instance_type,
            "AvailabilityZone": self.zone,
            "LifecycleState": self.state,
            "HealthStatus": self.health,
            "LaunchConfigurationName": None if self.template else self.group.settings.get("LaunchConfigurationName"),
            "LaunchTemplate": self.template,
            "ProtectedFromScaleIn": self.protected,
            "WeightedCapacity": str(self.weight) if self.weighted else None,
        }


class Group:
    """An Auto Scaling group."""

    def __init__(self, cell: Cell, name: str) -> None:
        self.cell, self.name = cell, name
        where = f"{cell.region}:{cell.account}"
        self.arn = f"arn:aws:autoscaling:{where}:autoScalingGroup:{uuid.uuid4()}:autoScalingGroupName/{name}"
        self.settings: dict[str, Any] = dict(DEFAULTS)
        self.zones: list[str] = []
        self.least = self.most = self.desired = 0
        self.created = moment()
        self.members: dict[str, Member] = {}
        self.warm: dict[str, Member] = {}
        self.pool: dict[str, Any] | None = None
        self.hooks: dict[str, Hook] = {}
        self.activities: list[Activity] = []
        self.refreshes: list[dict[str, Any]] = []
        # Key -> value, and whether instances get it.
        self.tags: dict[str, tuple[str, bool]] = {}
        self.suspended: dict[str, str] = {}
        # ARNs of target groups, in the order in which they were attached.
        self.sources: list[str] = []
        self.counts: Counter[str] = Counter()
        # Members in service that are healthy in all target groups, and those whose health has to be looked at.
        self.healthy: set[str] = set()
        self.suspects: dict[str, Member] = {}
        self.cooldown_until = 0.0
        # Launches that fail are tried again later and later.
        self.failures = 0
        self.retry_at = 0.0
        self.deleting = False

    def note(self, event: str, instance: str | None = None, **more: Any) -> None:
        """Add to the log, with what a test's invariants are about."""
        note(
            event,
            group=self.name,
            instance=instance,
            desired=self.desired,
            members=len(self.members),
            in_service=self.counts["InService"],
            healthy_targets=len(self.healthy),
            **more,
        )

    def recount(self, member: Member) -> None:
        """Find out whether a member is in service and healthy in all target groups (without any, whether it runs), and
        say so if that has changed."""
        known = [self.cell.targets.get(arn, {}).get(member.id) for arn in self.sources]
        well = member.state == "InService" and member.machine.state == "running" and member.id in self.members
        well = well and all(target is not None and target.state == "healthy" for target in known)
        if well != (member.id in self.healthy):
            (self.healthy.add if well else self.healthy.discard)(member.id)
            self.note("healthy", member.id, healthy=well)

    def add(self, member: Member, warm: bool = False) -> None:
        """Take a member in, in the state it has, or into the warm pool."""
        (self.warm if warm else self.members)[member.id] = member
        member.machine.member = member
        self.counts[member.state] += 1
        self.note("member", member.id, state=member.state)

    def remove(self, member: Member, state: str) -> None:
        """Let a member go."""
        self.counts[member.state] -= 1
        member.epoch += 1
        self.members.pop(member.id, None)
        self.warm.pop(member.id, None)
        self.suspects.pop(member.id, None)
        member.machine.member = None
        self.recount(member)
        member.state = state
        self.note("member", member.id, state=state)

    def size(self) -> int:
        """The capacity that counts, in units of weight."""
        return sum(member.weight for member in self.members.values() if member.state in COUNTED)

    def busy(self) -> bool:
        """Whether an instance is on its way in or out."""
        steady = self.counts["InService"] + self.counts["Standby"]
        return steady != len(self.members)

    def runs(self, *processes: str) -> bool:
        """Whether none of these processes is suspended."""
        return not any(process in self.suspended for process in processes)

    def resize(self, desired: int) -> None:
        """Another desired capacity."""
        if desired != self.desired:
            before, self.desired = self.desired, desired
            self.note("desired", before=before)

    def places(self) -> list[Place]:
        """Where the group launches: its subnets, or its zones' default ones; by zone."""
        subnets = [part.strip() for part in (self.settings.get("VPCZoneIdentifier") or "").split(",") if part.strip()]
        if not subnets:
            return [Place(zone, None) for zone in sorted(self.zones)]
        return sorted(Place(self.cell.ec2.get_subnet(subnet).availability_zone, subnet) for subnet in subnets)

    def specification(self) -> dict[str, Any] | None:
        """The launch template that the group or its mixed instances policy names."""
        policy = self.settings.get("MixedInstancesPolicy")
        if policy:
            return (policy.get("LaunchTemplate") or {}).get("LaunchTemplateSpecification")
        return self.settings.get("LaunchTemplate")

    def overrides(self) -> list[dict[str, Any]]:
        """What can be launched, in the order in which it is tried; without a policy, what the template says."""
        policy = self.settings.get("MixedInstancesPolicy") or {}
        return (policy.get("LaunchTemplate") or {}).get("Overrides") or [{}]

    def shown_template(self, given: dict[str, Any]) -> dict[str, Any]:
        """A template as the group shows it: by both id and name, and by version as it was given."""
        template = launch_templates.find_template(self.cell.ec2, given)
        result = {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name}
        return result | ({"Version": given["Version"]} if "Version" in given else {})

    def shown(self) -> dict[str, Any]:
        """The group as DescribeAutoScalingGroups has it."""
        result = {name: self.settings[name] for name in KEPT if self.settings.get(name) is not None}
        result |= {
            "AutoScalingGroupName": self.name,
            "AutoScalingGroupARN": self.arn,
            "MinSize": self.least,
            "MaxSize": self.most,
            "DesiredCapacity": self.desired,
            "CreatedTime": date(self.created),
            "AvailabilityZones": sorted({place.zone for place in self.places()}),
            "Instances": [member.shown() for member in self.members.values()],
            "TargetGroupARNs": list(self.sources),
            "TrafficSources": [{"Identifier": arn, "Type": "elbv2"} for arn in self.sources],
            "SuspendedProcesses": [
                {"ProcessName": process, "SuspensionReason": why} for process, why in sorted(self.suspended.items())
            ],
            "Tags": self.shown_tags(),
            "WarmPoolConfiguration": dict(self.pool) if self.pool else None,
            "WarmPoolSize": len(self.warm) if self.pool else None,
            "Status": "Delete in progress" if self.deleting else None,
        }
        return result

    def shown_tags(self) -> list[dict[str, Any]]:
        """The tags, by key."""
        common = {"ResourceId": self.name, "ResourceType": "auto-scaling-group"}
        return [
            common | {"Key": key, "Value": value, "PropagateAtLaunch": propagated}
            for key, (value, propagated) in sorted(self.tags.items())
        ]


def invalid(message: str) -> AwsError:
    """What Auto Scaling answers to most mistakes."""
    return AwsError("ValidationError", message)


def find_group(cell: Cell, name: str | None) -> Group:
    """The group of a name."""
    if name not in cell.groups:
        raise invalid(f"AutoScalingGroup name not found - {name}")
    return cell.groups[name]


def find_member(group: Group, instance: str) -> Member:
    """A member of a group."""
    if instance not in group.members:
        raise invalid(f"The instance {instance} is not part of Auto Scaling group {group.name}.")
    return group.members[instance]

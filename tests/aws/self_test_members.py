"""Goes through the corrections of single members once: health, standby, attaching, warm pools, tags, refreshes."""

from __future__ import annotations

from typing import Any

from self_test_client import Clients, Program, refused
from self_test_fleet import BOOT, DRAIN, INITIAL, PROCEED, TERMINATE, Fleet

INVALID = "ValidationError"
NAMED = {"AutoScalingGroupName": "web"}


def test_members(clients: Clients, endpoint: Program) -> None:
    """Each in a world of its own."""
    for test in (test_ec2_health, test_elb_health, test_said_health, test_standby, test_attach, test_warm_pool):
        test(Fleet(clients, endpoint))
    test_records(Fleet(clients, endpoint))


def test_ec2_health(fleet: Fleet) -> None:
    """Instances that end or stop are replaced, those that are stopped or killed while they boot too."""
    first, second = fleet.serving(HealthCheckGracePeriod=10_000)
    fleet.ec2.stop_instances(InstanceIds=[first])
    shown = {one["InstanceId"]: one for one in fleet.shown()["Instances"]}
    assert first not in shown and sorted(fleet.states().values()) == ["InService", "Pending"]
    fleet.step(BOOT + INITIAL)
    fleet.endpoint.control("instances", {"instance": second, "kill": True})
    assert second not in fleet.states() and fleet.health()[second] == "draining"
    fleet.step(DRAIN)
    assert second not in fleet.health() and fleet.health(None, second) == {second: "unused/Target.NotRegistered"}
    booting = next(one for one, state in fleet.states().items() if state == "Pending")
    fleet.ec2.terminate_instances(InstanceIds=[booting])
    assert booting not in fleet.states() and len(fleet.states()) == 2
    fleet.step(BOOT)
    fleet.asg.suspend_processes(**NAMED, ScalingProcesses=["ReplaceUnhealthy"])
    victim = min(fleet.states())
    fleet.ec2.terminate_instances(InstanceIds=[victim])
    shown = {one["InstanceId"]: one["HealthStatus"] for one in fleet.shown()["Instances"]}
    assert shown[victim] == "Unhealthy" and len(shown) == 2
    fleet.asg.resume_processes(**NAMED, ScalingProcesses=["ReplaceUnhealthy"])
    assert victim not in fleet.states() and len(fleet.states()) == 2


def test_elb_health(fleet: Fleet) -> None:
    """Unhealthy targets are replaced where the group asks the load balancer for their health, after the grace."""
    first, second = fleet.serving()
    fleet.endpoint.control("instances", {"instance": first, "health": "unhealthy"})
    assert fleet.states()[first] == "InService" and fleet.health()[first] == "unhealthy"
    fleet.asg.update_auto_scaling_group(**NAMED, HealthCheckType="ELB", HealthCheckGracePeriod=INITIAL + 100)
    fleet.step(50)
    assert fleet.states()[first] == "InService"
    fleet.step(50)
    assert sorted(fleet.states().values()) == ["InService", "Pending", "Terminating"]
    assert fleet.states()[first] == "Terminating" and fleet.states()[second] == "InService"


def test_said_health(fleet: Fleet) -> None:
    """SetInstanceHealth, with and without regard for the grace."""
    first, second = fleet.serving(HealthCheckGracePeriod=1000)
    said = {"InstanceId": first, "HealthStatus": "Unhealthy"}
    fleet.asg.set_instance_health(**said)
    assert fleet.states()[first] == "InService" and fleet.shown()["Instances"][0]["HealthStatus"] == "Healthy"
    fleet.asg.set_instance_health(**said, ShouldRespectGracePeriod=False)
    assert fleet.states()[first] == "Terminating"
    fleet.step(1000)
    fleet.asg.set_instance_health(InstanceId=second, HealthStatus="Unhealthy")
    assert second in fleet.states() and fleet.states()[second] == "Terminating"
    refused(INVALID, fleet.asg.set_instance_health, InstanceId="i-0123456789abcdef0", HealthStatus="Healthy")
    refused(INVALID, fleet.asg.set_instance_health, InstanceId=second, HealthStatus="So-so")


def test_standby(fleet: Fleet) -> None:
    """EnteringStandby, Standby, and the way back; what stands by is not replaced."""
    asg = fleet.asg
    first, second, third = fleet.serving(size=3, MinSize=2, MaxSize=3)
    moved: dict[str, Any] = NAMED | {"InstanceIds": [first], "ShouldDecrementDesiredCapacity": True}
    assert asg.enter_standby(**moved)["Activities"][0]["StatusCode"] == "WaitingForELBConnectionDraining"
    assert fleet.states()[first] == "EnteringStandby" and fleet.health()[first] == "draining"
    refused(INVALID, asg.exit_standby, **NAMED, InstanceIds=[first])
    refused(INVALID, asg.enter_standby, **(moved | {"InstanceIds": [second]}))
    fleet.step(DRAIN)
    assert fleet.states()[first] == "Standby" and fleet.shown()["DesiredCapacity"] == 2
    fleet.ec2.stop_instances(InstanceIds=[first])
    fleet.step(TERMINATE)
    assert fleet.states()[first] == "Standby"
    fleet.ec2.start_instances(InstanceIds=[first])
    fleet.step(BOOT)
    asg.exit_standby(**NAMED, InstanceIds=[first])
    assert fleet.states()[first] == "Pending" and fleet.shown()["DesiredCapacity"] == 3
    fleet.step(PROCEED)
    assert fleet.states()[first] == "InService" and fleet.health()[first] == "initial"
    asg.enter_standby(**NAMED, InstanceIds=[third], ShouldDecrementDesiredCapacity=False)
    assert sorted(fleet.states().values()) == ["EnteringStandby", "InService", "InService", "Pending"]
    fleet.step(DRAIN)
    refused(INVALID, asg.exit_standby, **NAMED, InstanceIds=[third])


def test_attach(fleet: Fleet) -> None:
    """DetachInstances, AttachInstances, SetInstanceProtection."""
    asg = fleet.asg
    first, second = fleet.serving(MaxSize=3)
    many = [f"i-{number:017x}" for number in range(21)]
    refused(INVALID, asg.detach_instances, **NAMED, InstanceIds=many, ShouldDecrementDesiredCapacity=True)
    asg.detach_instances(**NAMED, InstanceIds=[first], ShouldDecrementDesiredCapacity=True)
    assert fleet.states()[first] == "Detaching"
    refused(INVALID, asg.attach_instances, **NAMED, InstanceIds=[first])
    fleet.step(DRAIN)
    assert list(fleet.states()) == [second] and fleet.shown()["DesiredCapacity"] == 1
    shown = fleet.instance(first)
    assert shown["State"]["Name"] == "running"
    assert "aws:autoscaling:groupName" not in {tag["Key"] for tag in shown["Tags"]}
    asg.attach_instances(**NAMED, InstanceIds=[first])
    assert fleet.states()[first] == "Pending" and fleet.shown()["DesiredCapacity"] == 2
    refused(INVALID, asg.set_instance_protection, **NAMED, InstanceIds=[first], ProtectedFromScaleIn=True)
    fleet.step(PROCEED + INITIAL)
    assert fleet.states()[first] == "InService" and fleet.health()[first] == "healthy"
    assert fleet.shown()["Instances"][1]["LaunchTemplate"]["Version"] == "1"
    asg.set_instance_protection(**NAMED, InstanceIds=[first], ProtectedFromScaleIn=True)
    assert [one["ProtectedFromScaleIn"] for one in fleet.shown()["Instances"]] == [False, True]
    asg.detach_instances(**NAMED, InstanceIds=[second], ShouldDecrementDesiredCapacity=False)
    assert sorted(fleet.states().values()) == ["Detaching", "InService", "Pending"]


def test_warm_pool(fleet: Fleet) -> None:
    """Warm pools: filled, taken from, refilled and deleted."""
    asg = fleet.asg
    fleet.serving(size=1, MaxSize=3)
    asg.put_warm_pool(**NAMED, MinSize=1)

    def warm() -> list[str]:
        return sorted(one["LifecycleState"] for one in asg.describe_warm_pool(**NAMED)["Instances"])

    assert warm() == ["Warmed:Pending"] * 2 and fleet.shown()["WarmPoolSize"] == 2
    fleet.step(BOOT + TERMINATE)
    assert warm() == ["Warmed:Stopped"] * 2
    ids = [one["InstanceId"] for one in asg.describe_warm_pool(**NAMED)["Instances"]]
    assert {fleet.instance(one)["State"]["Name"] for one in ids} == {"stopped"}
    refused(INVALID, lambda: fleet.terminate(ids[0], False))
    asg.set_desired_capacity(**NAMED, DesiredCapacity=2)
    taken = [one for one, state in fleet.states().items() if state == "Pending"]
    assert len(taken) == 1 and taken[0] in ids and len(warm()) == 1
    fleet.step(BOOT)
    assert set(fleet.states().values()) == {"InService"} and taken[0] in fleet.health()
    refused("ResourceInUse", asg.delete_warm_pool, **NAMED)
    asg.delete_warm_pool(**NAMED, ForceDelete=True)
    assert warm() == [] and "WarmPoolConfiguration" not in fleet.shown()
    asg.put_warm_pool(**NAMED, PoolState="Running", MaxGroupPreparedCapacity=3)
    fleet.step(BOOT)
    assert warm() == ["Warmed:Running"]


def test_records(fleet: Fleet) -> None:
    """Tags, target groups, refreshes."""
    asg = fleet.asg
    fleet.serving(Tags=[{"Key": "a", "Value": "1", "PropagateAtLaunch": False}])
    tag = {"ResourceId": "web", "ResourceType": "auto-scaling-group", "Key": "rekiln:plan", "Value": "x"}
    asg.create_or_update_tags(Tags=[tag | {"PropagateAtLaunch": False}])
    wanted = [{"Name": "auto-scaling-group", "Values": ["web"]}, {"Name": "key", "Values": ["rekiln:plan"]}]
    assert asg.describe_tags(Filters=wanted)["Tags"] == [tag | {"PropagateAtLaunch": False}]
    asg.delete_tags(Tags=[tag | {"Value": "other"}])
    assert len(asg.describe_tags()["Tags"]) == 2
    asg.delete_tags(Tags=[tag])
    assert [one["Key"] for one in fleet.shown()["Tags"]] == ["a"]
    refused(INVALID, asg.create_or_update_tags, Tags=[tag | {"ResourceId": "none"}])
    other = fleet.unused("other")
    asg.attach_traffic_sources(**NAMED, TrafficSources=[{"Identifier": other}])
    shown = asg.describe_traffic_sources(**NAMED)["TrafficSources"]
    assert [(one["Identifier"], one["State"]) for one in shown] == [(fleet.target_group, "InService"), (other, "Added")]
    assert set(fleet.health(other).values()) == {"unused"} and len(fleet.health(other)) == 2
    found = asg.describe_load_balancer_target_groups(**NAMED)["LoadBalancerTargetGroups"]
    assert [one["LoadBalancerTargetGroupARN"] for one in found] == [fleet.target_group, other]
    asg.detach_traffic_sources(**NAMED, TrafficSources=[{"Identifier": other}])
    assert not fleet.health(other) and fleet.shown()["TargetGroupARNs"] == [fleet.target_group]
    asg.detach_load_balancer_target_groups(**NAMED, TargetGroupARNs=[fleet.target_group])
    assert set(fleet.health().values()) == {"draining"}
    asg.attach_load_balancer_target_groups(**NAMED, TargetGroupARNs=[fleet.target_group])
    assert set(fleet.health().values()) == {"initial"}
    refresh = asg.start_instance_refresh(**NAMED)["InstanceRefreshId"]
    refused("InstanceRefreshInProgress", asg.start_instance_refresh, **NAMED)
    assert asg.cancel_instance_refresh(**NAMED)["InstanceRefreshId"] == refresh
    refused("ActiveInstanceRefreshNotFound", asg.cancel_instance_refresh, **NAMED)
    shown = asg.describe_instance_refreshes(**NAMED)["InstanceRefreshes"]
    assert [(one["InstanceRefreshId"], one["Status"]) for one in shown] == [(refresh, "Cancelled")]

"""Goes through the corrections of lifecycle hooks once."""

from __future__ import annotations

from self_test_client import Clients, Program, refused
from self_test_fleet import BOOT, DRAIN, PROCEED, Fleet

INVALID = "ValidationError"


def test_hooks(clients: Clients, endpoint: Program) -> None:
    """Each in a world of its own."""
    test_launch_hooks(Fleet(clients, endpoint))
    test_terminate_hooks(Fleet(clients, endpoint))


def hook(fleet: Fleet, kind: str, result: str = "CONTINUE", name: str = "hook") -> None:
    """PutLifecycleHook, with a heartbeat of a hundred seconds."""
    given = {"AutoScalingGroupName": "web", "LifecycleHookName": name, "HeartbeatTimeout": 100, "DefaultResult": result}
    fleet.asg.put_lifecycle_hook(**given, LifecycleTransition=f"autoscaling:EC2_INSTANCE_{kind}")


def complete(fleet: Fleet, instance: str, result: str = "CONTINUE") -> None:
    """CompleteLifecycleAction."""
    named = {"AutoScalingGroupName": "web", "LifecycleHookName": "hook", "InstanceId": instance}
    fleet.asg.complete_lifecycle_action(**named, LifecycleActionResult=result)


def test_launch_hooks(fleet: Fleet) -> None:
    """Pending:Wait and Pending:Proceed, heartbeats, time-outs, and instances that are abandoned."""
    fleet.group(size=0)
    hook(fleet, "LAUNCHING")
    shown = fleet.asg.describe_lifecycle_hooks(AutoScalingGroupName="web")["LifecycleHooks"][0]
    assert (shown["HeartbeatTimeout"], shown["GlobalTimeout"], shown["DefaultResult"]) == (100, 10000, "CONTINUE")
    fleet.asg.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=3)
    first, second, third = fleet.states()
    refused(INVALID, lambda: complete(fleet, first))
    fleet.step(BOOT)
    assert set(fleet.states().values()) == {"Pending:Wait"} and not fleet.health()
    assert fleet.activities()[0][1] == "MidLifecycleAction"
    complete(fleet, first)
    assert fleet.states()[first] == "Pending:Proceed" and not fleet.health()
    fleet.step(PROCEED)
    assert fleet.states()[first] == "InService" and list(fleet.health()) == [first]
    complete(fleet, second, "ABANDON")
    assert second not in fleet.states() and fleet.instance(second)["State"]["Name"] == "shutting-down"
    assert sorted(fleet.states().values()) == ["InService", "Pending", "Pending:Wait"]
    fleet.step(60)
    beat = {"AutoScalingGroupName": "web", "LifecycleHookName": "hook", "InstanceId": third}
    fleet.asg.record_lifecycle_action_heartbeat(**beat)
    fleet.step(60)
    assert fleet.states()[third] == "Pending:Wait"
    fleet.step(40 + PROCEED)
    assert fleet.states()[third] == "InService"
    fleet.asg.delete_lifecycle_hook(AutoScalingGroupName="web", LifecycleHookName="hook")
    assert not fleet.asg.describe_lifecycle_hooks(AutoScalingGroupName="web")["LifecycleHooks"]


def test_terminate_hooks(fleet: Fleet) -> None:
    """Terminating:Wait comes after the draining; the replacement does not wait for it."""
    first, second = fleet.serving()
    hook(fleet, "TERMINATING")
    fleet.terminate(first, True)
    fleet.terminate(second, False)
    assert sorted(fleet.states().values()) == ["Pending", "Terminating", "Terminating"]
    fleet.step(DRAIN)
    assert sorted(fleet.states().values()) == ["Pending", "Terminating:Wait", "Terminating:Wait"]
    assert not fleet.health() and fleet.instance(first)["State"]["Name"] == "running"
    complete(fleet, first)
    assert fleet.states()[first] == "Terminating:Proceed"
    fleet.step(PROCEED)
    assert first not in fleet.states() and fleet.instance(first)["State"]["Name"] == "shutting-down"
    assert fleet.states()[second] == "Terminating:Wait"
    members = fleet.endpoint.control("state")["groups"][0]["members"]
    named = {"AutoScalingGroupName": "web", "LifecycleHookName": "hook", "LifecycleActionResult": "CONTINUE"}
    token = next(one["waits"]["hook"] for one in members if one["instance"] == second)
    fleet.asg.complete_lifecycle_action(**named, LifecycleActionToken=token)
    fleet.step(PROCEED)
    assert second not in fleet.states()
    third = next(iter(fleet.states()))
    fleet.step(BOOT)
    fleet.terminate(third, True)
    fleet.step(DRAIN + 100)
    assert fleet.states() == {third: "Terminating:Proceed"}
    fleet.step(PROCEED)
    assert not fleet.states()

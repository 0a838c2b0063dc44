"""Goes through the corrections of target groups once, and through what the tests can break and see of fleets."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from self_test_client import PATIENCE_SECONDS, Clients, Program, refused
from self_test_fleet import BOOT, DRAIN, INITIAL, TERMINATE, Fleet


def test_targets(clients: Clients, endpoint: Program) -> None:
    """Each in a world of its own."""
    for test in (test_health, test_use, test_stale, test_log, test_probe, test_speed):
        test(Fleet(clients, endpoint))


def test_health(fleet: Fleet) -> None:
    """initial, healthy, what the tests say, draining, and back from it."""
    control, elb = fleet.endpoint.control, fleet.elb
    first, second = fleet.serving()
    assert set(fleet.health().values()) == {"healthy"}
    control("instances", {"instance": first, "health": "unhealthy"})
    assert fleet.health(None, first) == {first: "unhealthy/Target.FailedHealthChecks"}
    control("instances", {"instance": "*", "health": "unknown"})
    assert fleet.health() == {first: "unhealthy", second: "unavailable"}
    control("instances", {"instance": "*", "health": None})
    control("instances", {"instance": first, "health": None})
    assert set(fleet.health().values()) == {"healthy"}
    control("boot", {"image": fleet.images[0], "bad": True})
    assert set(fleet.health().values()) == {"unhealthy"}
    control("boot", {"image": fleet.images[0], "bad": False})
    control("boot", {"type": fleet.data["InstanceType"], "bad": True})
    assert set(fleet.health().values()) == {"unhealthy"}
    control("boot", {"type": fleet.data["InstanceType"], "bad": False})
    one = {"TargetGroupArn": fleet.target_group, "Targets": [{"Id": first}]}
    elb.deregister_targets(**one)
    assert fleet.health(None, first) == {first: "draining/Target.DeregistrationInProgress"}
    fleet.step(DRAIN - 10)
    elb.register_targets(**one)
    assert fleet.health(None, first) == {first: "initial/Elb.RegistrationInProgress"}
    fleet.step(INITIAL)
    assert fleet.health()[first] == "healthy"
    elb.deregister_targets(**one)
    fleet.step(DRAIN)
    assert first not in fleet.health() and fleet.health(None, first) == {first: "unused/Target.NotRegistered"}
    elb.deregister_targets(**one)
    refused("InvalidTarget", elb.register_targets, **(one | {"Targets": [{"Id": "i-0123456789abcdef0"}]}))
    fleet.ec2.stop_instances(InstanceIds=[first])
    refused("InvalidTarget", elb.register_targets, **one)
    answer = refused("TargetGroupNotFound", elb.describe_target_health, TargetGroupArn="arn:none")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400
    try:
        control("instances", {"instance": first, "health": "nonsense"})
        raise AssertionError("400 was expected")
    except OSError as error:
        assert "400" in str(error)


def test_use(fleet: Fleet) -> None:
    """A target group that no listener sends requests to is not used, unless the tests say so."""
    (first,) = fleet.serving(size=1)
    lonely = fleet.unused("lonely")
    given = {"TargetGroupArn": lonely, "Targets": [{"Id": first, "Port": 99}]}
    fleet.elb.register_targets(**given)
    assert fleet.health(lonely, first) == {first: "unused/Target.NotInUse"}
    fleet.endpoint.control("target_groups", {"target_group": "lonely", "in_use": True})
    assert fleet.health(lonely, first) == {first: "initial/Elb.RegistrationInProgress"}
    fleet.step(INITIAL)
    assert fleet.health(lonely, first) == {first: "healthy/"}
    shown = fleet.elb.describe_target_health(TargetGroupArn=lonely)["TargetHealthDescriptions"][0]
    assert shown["Target"] == {"Id": first, "Port": 99} and shown["HealthCheckPort"] == "99"
    given = {"LaunchTemplate": {"LaunchTemplateName": "web"}, "SubnetId": fleet.subnets[0]}
    alone = fleet.ec2.run_instances(MinCount=1, MaxCount=1, **given)["Instances"][0]["InstanceId"]
    refused("InvalidTarget", fleet.elb.register_targets, TargetGroupArn=lonely, Targets=[{"Id": alone}])
    fleet.step(BOOT)
    fleet.elb.register_targets(TargetGroupArn=lonely, Targets=[{"Id": alone}])
    fleet.ec2.terminate_instances(InstanceIds=[alone])
    assert fleet.health(lonely)[alone] == "draining"
    fleet.step(DRAIN)
    assert alone not in fleet.health(lonely)
    listeners = fleet.elb.describe_load_balancers()["LoadBalancers"][0]["LoadBalancerArn"]
    listener = fleet.elb.describe_listeners(LoadBalancerArn=listeners)["Listeners"][0]["ListenerArn"]
    fleet.elb.delete_listener(ListenerArn=listener)
    assert fleet.health(None, first) == {first: "unused/Target.NotInUse"}


def test_stale(fleet: Fleet) -> None:
    """Describe calls answer what was true some seconds ago."""
    fleet.serving(size=1)
    fleet.endpoint.control("stale", {"seconds": 50})
    fleet.asg.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=2)
    made = fleet.asg.launch_instances(
        AutoScalingGroupName="web", RequestedCapacity=1, ClientToken="one", AvailabilityZones=["eu-central-1a"]
    )
    new = made["Instances"][0]["InstanceIds"][0]
    assert fleet.shown()["DesiredCapacity"] == 1 and len(fleet.states()) == 1
    refused("InvalidInstanceID.NotFound", fleet.ec2.describe_instances, InstanceIds=[new])
    fleet.step(40)
    assert len(fleet.states()) == 1
    fleet.step(10)
    assert len(fleet.states()) == 3 and fleet.instance(new)["State"]["Name"] == "pending"
    fleet.step(BOOT - 10)
    assert fleet.states()[new] == "Pending" and new not in fleet.health()
    fleet.step(10)
    assert fleet.states()[new] == "InService" and fleet.health()[new] == "initial"
    assert len(fleet.endpoint.control("state")["groups"][0]["members"]) == 3
    fleet.endpoint.control("stale", {"seconds": 0})
    assert fleet.health()[new] == "healthy"


def test_log(fleet: Fleet) -> None:
    """The log has each change in its order and at its time, with what the invariants are about."""
    control = fleet.endpoint.control
    began = control("clock", {"seconds": 0})["now"]
    first, second = fleet.serving(MinSize=1)
    seen = len(control("log"))
    fleet.terminate(first, True)
    # A jump over all that follows changes neither the order nor the times.
    fleet.step(10_000)
    entries = control(f"log?from={seen}")
    assert entries == control("log")[seen:]
    way = [(one["event"], one["state"], round(one["at"] - entries[0]["at"])) for one in entries if "state" in one]
    assert way == [
        ("member", "Terminating", 0),
        ("target", "draining", 0),
        ("target", "unused", DRAIN),
        ("member", "Terminated", DRAIN),
        ("instance", "shutting-down", DRAIN),
        ("instance", "terminated", DRAIN + 20),
    ]
    names = ("desired", "members", "in_service", "healthy_targets")
    counts = [tuple(one[name] for name in names) for one in entries if "desired" in one]
    assert counts == [(1, 2, 2, 2), (1, 2, 1, 1), (1, 2, 1, 1), (1, 1, 1, 1)]
    fleet.asg.suspend_processes(AutoScalingGroupName="web", ScalingProcesses=["HealthCheck"])
    seen = len(control("log"))
    control("instances", {"instance": second, "health": "unhealthy"})
    control("instances", {"instance": second, "health": None})
    fleet.ec2.stop_instances(InstanceIds=[second])
    flips = [one for one in control(f"log?from={seen}") if one["event"] == "healthy"]
    assert [(one["healthy"], one["healthy_targets"]) for one in flips] == [(False, 0), (True, 1), (False, 0)]
    assert control("state")["groups"][0]["members"][0]["health"] == "Healthy"
    fleet.step(TERMINATE)
    fleet.ec2.start_instances(InstanceIds=[second])
    fleet.step(BOOT + INITIAL)
    assert {one["by"] for one in entries} == {"TerminateInstanceInAutoScalingGroup", ""}
    assert all(began <= one["at"] for one in entries) and entries == sorted(entries, key=lambda one: one["at"])
    state = control("state")
    assert [one["id"] for one in state["instances"]] == [second] and state["instances"][0]["group"] == "web"
    assert state["target_groups"][0]["targets"] == {second: {"state": "healthy", "reason": None, "port": 8080}}
    fleet.asg.delete_auto_scaling_group(AutoScalingGroupName="web", ForceDelete=True)
    assert [one["healthy_targets"] for one in control("log") if "healthy_targets" in one][-1] == 0
    assert state["groups"][0]["members"][0]["version"] == "1" and state["templates"][0]["versions"][0]["number"] == 1


class Healthy(BaseHTTPRequestHandler):
    """What answers health checks, and only those."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(204 if self.path == "/healthy" else 404)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def becomes(fleet: Fleet, health: dict[str, str]) -> None:
    """Look until the targets' health is this."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while fleet.health() != health:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_probe(fleet: Fleet) -> None:
    """Targets that are really asked at their private addresses."""
    (first,) = fleet.serving(size=1)
    address = fleet.instance(first)["PrivateIpAddress"]
    fleet.endpoint.control("target_groups", {"target_group": fleet.target_group, "probe": True})
    fleet.step(INITIAL)
    assert fleet.health() == {first: "initial"}
    server = HTTPServer((address, 8080), Healthy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        becomes(fleet, {first: "healthy"})
    finally:
        server.shutdown()
        server.server_close()
    becomes(fleet, {first: "unhealthy"})


def test_speed(fleet: Fleet) -> None:
    """A thousand instances: what each step takes is said, and not judged, since machines differ."""
    took: dict[str, float] = {}

    def timed(name: str, call: Any) -> Any:
        began = time.monotonic()
        result = call()
        took[name] = time.monotonic() - began
        return result

    timed("create", lambda: fleet.group(size=1000, MaxSize=2000))
    timed("boot", lambda: fleet.step(BOOT) or fleet.health(None, "i-0"))
    timed("check", lambda: fleet.step(INITIAL) or fleet.health(None, "i-0"))
    assert len(timed("groups", fleet.shown)["Instances"]) == 1000
    assert set(timed("targets", fleet.health).values()) == {"healthy"}
    filters = [{"Name": "tag:aws:autoscaling:groupName", "Values": ["web"]}]
    found = timed("instances", lambda: fleet.ec2.describe_instances(Filters=filters)["Reservations"])
    assert sum(len(one["Instances"]) for one in found) == 1000
    timed("nothing", lambda: [fleet.elb.describe_target_groups() for _ in range(3)])
    timed("end", lambda: fleet.asg.delete_auto_scaling_group(AutoScalingGroupName="web", ForceDelete=True))
    print("1000 instances: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in took.items()))

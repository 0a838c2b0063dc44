"""Goes through the corrections of Auto Scaling groups once: sizes, launches, terminations, what they do themselves."""

from __future__ import annotations

from typing import Any

from self_test_client import Clients, Program, refused
from self_test_fleet import BOOT, DRAIN, INITIAL, RETRY, TERMINATE, Fleet

INVALID = "ValidationError"


def test_groups(clients: Clients, endpoint: Program) -> None:
    """Each in a world of its own, so that what one leaves behind is no other's trouble."""
    for test in (
        test_create,
        test_versions,
        test_sizes,
        test_terminate,
        test_launch_instances,
        test_scale_in,
        test_policy,
        test_zones,
        test_shortage,
        test_suspended,
    ):
        test(Fleet(clients, endpoint))


def test_create(fleet: Fleet) -> None:
    """CreateAutoScalingGroup, its pages and filters, and DeleteAutoScalingGroup."""
    asg = fleet.asg
    tags = [{"Key": "rekiln:fleet", "Value": "b", "PropagateAtLaunch": True, "ResourceId": "web"}]
    fleet.group(size=5, Tags=tags, DefaultInstanceWarmup=7, MaxInstanceLifetime=86400)
    answer = refused("AlreadyExists", fleet.group)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400
    refused(INVALID, lambda: fleet.group("x", MinSize=3, MaxSize=2))
    refused(INVALID, lambda: fleet.group("x", size=11))
    refused(INVALID, lambda: fleet.group("x", LaunchTemplate={"LaunchTemplateName": "none"}))
    refused(INVALID, lambda: fleet.group("x", TargetGroupARNs=["arn:none"]))
    refused(INVALID, lambda: fleet.group("x", LaunchTemplate=None))
    shown = fleet.shown()
    assert [one["LifecycleState"] for one in shown["Instances"]] == ["Pending"] * 5
    assert fleet.zones() == list("aaabb") and shown["AvailabilityZones"] == ["eu-central-1a", "eu-central-1b"]
    assert (shown["DefaultInstanceWarmup"], shown["MaxInstanceLifetime"], shown["DefaultCooldown"]) == (7, 86400, 300)
    assert shown["TargetGroupARNs"] == [fleet.target_group] and not fleet.health()
    instance = fleet.instance(shown["Instances"][0]["InstanceId"])
    assert {tag["Key"]: tag["Value"] for tag in instance["Tags"]} == {
        "rekiln:fleet": "b",
        "aws:autoscaling:groupName": "web",
        "aws:ec2launchtemplate:id": fleet.template,
        "aws:ec2launchtemplate:version": "1",
    }
    assert instance["SubnetId"] == fleet.subnets[0] and instance["PrivateIpAddress"].startswith("127.10.")
    fleet.step(BOOT)
    assert set(fleet.states().values()) == {"InService"} and set(fleet.health().values()) == {"initial"}
    assert fleet.ec2.get_console_output(InstanceId=instance["InstanceId"])["Output"] == f"{instance['InstanceId']}\n"
    for number in range(3):
        fleet.group(f"a{number}", size=0)
    pages = asg.get_paginator("describe_auto_scaling_groups").paginate(PaginationConfig={"PageSize": 3})
    names = [[one["AutoScalingGroupName"] for one in page["AutoScalingGroups"]] for page in pages]
    assert names == [["a0", "a1", "a2"], ["web"]]
    found = asg.describe_auto_scaling_groups(Filters=[{"Name": "tag:rekiln:fleet", "Values": ["b"]}])
    assert [one["AutoScalingGroupName"] for one in found["AutoScalingGroups"]] == ["web"]
    refused(INVALID, asg.describe_auto_scaling_groups, MaxRecords=101)
    assert asg.describe_auto_scaling_groups(AutoScalingGroupNames=["none"])["AutoScalingGroups"] == []
    bare = asg.describe_auto_scaling_groups(AutoScalingGroupNames=["web"], IncludeInstances=False)
    assert not bare["AutoScalingGroups"][0].get("Instances") and bare["AutoScalingGroups"][0]["DesiredCapacity"] == 5
    assert len(asg.describe_auto_scaling_instances()["AutoScalingInstances"]) == 5
    answer = refused(INVALID, asg.suspend_processes, AutoScalingGroupName="none")
    assert answer["Error"]["Message"] == "AutoScalingGroup name not found - none"
    refused("ResourceInUse", asg.delete_auto_scaling_group, AutoScalingGroupName="web")
    asg.delete_auto_scaling_group(AutoScalingGroupName="a0")
    asg.delete_auto_scaling_group(AutoScalingGroupName="web", ForceDelete=True)
    assert fleet.shown()["Status"] == "Delete in progress"
    assert fleet.instance(instance["InstanceId"])["State"]["Name"] == "shutting-down"
    fleet.step(TERMINATE)
    assert len(asg.describe_auto_scaling_groups()["AutoScalingGroups"]) == 2


def versions(fleet: Fleet) -> list[str]:
    """The versions of the members, in order."""
    return sorted(one["LaunchTemplate"]["Version"] for one in fleet.shown()["Instances"])


def test_versions(fleet: Fleet) -> None:
    """The version is that of the launch, whatever comes later; and what a mixed instances policy says."""
    named = {"LaunchTemplateName": "web"}
    fleet.serving(LaunchTemplate=named | {"Version": "$Latest"})
    data = {"ImageId": fleet.images[1]}
    fleet.ec2.create_launch_template_version(**named, SourceVersion="1", LaunchTemplateData=data)
    fleet.ec2.modify_launch_template(**named, DefaultVersion="2")
    assert versions(fleet) == ["1", "1"]
    fleet.asg.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=3)
    assert versions(fleet) == ["1", "1", "2"] and fleet.shown()["LaunchTemplate"]["Version"] == "$Latest"
    new = next(one["InstanceId"] for one in fleet.shown()["Instances"] if one["LaunchTemplate"]["Version"] == "2")
    assert fleet.instance(new)["ImageId"] == fleet.images[1]
    assert {"Key": "aws:ec2launchtemplate:version", "Value": "2"} in fleet.instance(new)["Tags"]
    overrides = [{"InstanceType": "t3.large", "WeightedCapacity": "2"}, {"InstanceType": "t3.small"}]
    specification = {"LaunchTemplateSpecification": {"LaunchTemplateId": fleet.template, "Version": "1"}}
    policy = {"LaunchTemplate": specification | {"Overrides": overrides}}
    fleet.asg.update_auto_scaling_group(AutoScalingGroupName="web", MixedInstancesPolicy=policy, DesiredCapacity=5)
    shown = fleet.shown()
    assert "LaunchTemplate" not in shown and versions(fleet) == ["1", "1", "1", "2"]
    assert [(one["InstanceType"], one.get("WeightedCapacity")) for one in shown["Instances"]][-1] == ("t3.large", "2")
    distribution = {"OnDemandPercentageAboveBaseCapacity": 100}
    policy = {"InstancesDistribution": distribution}
    fleet.asg.update_auto_scaling_group(AutoScalingGroupName="web", MixedInstancesPolicy=policy)
    shown["MixedInstancesPolicy"]["InstancesDistribution"] = distribution
    fleet.asg.update_auto_scaling_group(AutoScalingGroupName="web", MaxSize=9)
    assert fleet.shown()["MixedInstancesPolicy"] == shown["MixedInstancesPolicy"]
    assert shown["MixedInstancesPolicy"]["LaunchTemplate"]["Overrides"] == overrides


def test_sizes(fleet: Fleet) -> None:
    """SetDesiredCapacity and UpdateAutoScalingGroup."""
    asg, named = fleet.asg, {"AutoScalingGroupName": "web"}
    fleet.serving(MinSize=1, MaxSize=4, HealthCheckGracePeriod=17)
    answer = refused(INVALID, asg.set_desired_capacity, **named, DesiredCapacity=5)
    said = "New SetDesiredCapacity value 5 is above max value 4 for the AutoScalingGroup."
    assert answer["Error"]["Message"] == said
    refused(INVALID, asg.set_desired_capacity, **named, DesiredCapacity=0)
    refused("ScalingActivityInProgress", asg.set_desired_capacity, **named, DesiredCapacity=3, HonorCooldown=True)
    fleet.step(300)
    asg.set_desired_capacity(**named, DesiredCapacity=3, HonorCooldown=True)
    refused(INVALID, asg.update_auto_scaling_group, **named, MinSize=5)
    answer = refused(INVALID, asg.update_auto_scaling_group, **named, DesiredCapacity=9)
    assert answer["Error"]["Message"] == "Desired capacity:9 must be between the specified min size:1 and max size:4"

    def sizes() -> tuple[int, int, int]:
        shown = fleet.shown()
        return shown["MinSize"], shown["DesiredCapacity"], shown["MaxSize"]

    asg.update_auto_scaling_group(**named, MaxSize=2)
    assert sizes() == (1, 2, 2)
    asg.update_auto_scaling_group(**named, MinSize=4, MaxSize=6)
    assert sizes() == (4, 4, 6)
    kept: dict[str, Any] = {
        "InstanceMaintenancePolicy": {"MinHealthyPercentage": 90, "MaxHealthyPercentage": 120},
        "TerminationPolicies": ["OldestInstance"],
        "DefaultCooldown": 11,
        "CapacityRebalance": True,
        "NewInstancesProtectedFromScaleIn": True,
        "HealthCheckType": "ELB",
        "MaxInstanceLifetime": 90000,
        "DefaultInstanceWarmup": 12,
    }
    asg.update_auto_scaling_group(**named, **kept)
    asg.update_auto_scaling_group(**named, MinSize=3)
    shown = fleet.shown()
    assert {name: shown[name] for name in kept} == kept and shown["HealthCheckGracePeriod"] == 17
    assert shown["LaunchTemplate"] == {"LaunchTemplateId": fleet.template, "LaunchTemplateName": "web", "Version": "1"}


def test_terminate(fleet: Fleet) -> None:
    """TerminateInstanceInAutoScalingGroup: with and without decrement, and the way out through the target group."""
    first, second, third = fleet.serving(size=3, MinSize=2)
    activity = fleet.terminate(first, True)
    assert activity["StatusCode"] == "WaitingForELBConnectionDraining" and first in activity["Description"]
    assert fleet.shown()["DesiredCapacity"] == 2 and fleet.states()[first] == "Terminating"
    assert fleet.health()[first] == "draining" and fleet.instance(first)["State"]["Name"] == "running"
    refused("ScalingActivityInProgress", lambda: fleet.terminate(first, False))
    answer = refused(INVALID, lambda: fleet.terminate(second, True))
    assert answer["Error"]["Message"].startswith("Currently, desiredSize equals minSize (2). Terminating instance")
    answer = refused(INVALID, lambda: fleet.terminate("i-0123456789abcdef0", False))
    said = "Instance Id not found - No managed instance found for instance ID i-0123456789abcdef0"
    assert answer["Error"]["Message"] == said
    fleet.step(DRAIN - 5)
    assert len(fleet.states()) == 3
    fleet.step(5)
    assert set(fleet.states()) == {second, third} and first not in fleet.health()
    assert fleet.instance(first)["State"]["Name"] == "shutting-down"
    assert fleet.health(None, first) == {first: "unused/Target.NotRegistered"}
    fleet.terminate(second, False)
    states = fleet.states()
    assert fleet.shown()["DesiredCapacity"] == 2 and sorted(states.values()) == ["InService", "Pending", "Terminating"]
    fleet.step(BOOT + INITIAL)
    assert sorted(fleet.health().values()) == ["healthy"] * 2
    several = {"InstanceIds": list(fleet.states()), "AutoScalingGroupName": "web"}
    answer = fleet.asg.terminate_instance_in_auto_scaling_group(**several, ShouldDecrementDesiredCapacity=False)
    assert len(answer["Activities"]) == 2
    log = [entry for entry in fleet.endpoint.control("log") if entry["event"] == "desired"]
    assert [(entry["before"], entry["desired"], entry["by"]) for entry in log] == [
        (0, 3, "CreateAutoScalingGroup"),
        (3, 2, "TerminateInstanceInAutoScalingGroup"),
    ]


def test_launch_instances(fleet: Fleet) -> None:
    """LaunchInstances: tokens, places, limits, errors."""
    asg = fleet.asg
    fleet.serving(MaxSize=6)
    given: dict[str, Any] = {"AutoScalingGroupName": "web", "RequestedCapacity": 2, "ClientToken": "one"}
    refused(INVALID, asg.launch_instances, **given)
    given["AvailabilityZones"] = ["eu-central-1b"]
    made = asg.launch_instances(**given)
    ids = made["Instances"][0]["InstanceIds"]
    assert len(ids) == 2 and not made["Errors"] and made["Instances"][0]["SubnetId"] == fleet.subnets[1]
    assert {fleet.states()[one] for one in ids} == {"Pending"} and fleet.shown()["DesiredCapacity"] == 4
    assert asg.launch_instances(**given)["Instances"] == made["Instances"] and len(fleet.states()) == 4
    refused("IdempotentParameterMismatch", asg.launch_instances, **(given | {"RequestedCapacity": 1}))
    fresh = given | {"ClientToken": "two"}
    refused(INVALID, asg.launch_instances, **(fresh | {"RequestedCapacity": 3}))
    refused(INVALID, asg.launch_instances, **(fresh | {"RequestedCapacity": 101}))
    refused(INVALID, asg.launch_instances, **(fresh | {"AvailabilityZones": ["eu-central-1c"]}))
    fleet.endpoint.control("capacity", {"zone": "eu-central-1b", "until": 100})
    failed = asg.launch_instances(**fresh)
    assert failed["Instances"] == [] and failed["Errors"][0]["ErrorCode"] == "InsufficientInstanceCapacity"
    assert failed["Errors"][0]["AvailabilityZone"] == "eu-central-1b" and fleet.shown()["DesiredCapacity"] == 4
    assert fleet.activities()[0] == ("Launching", "Failed")
    retried = given | {"ClientToken": "three", "RetryStrategy": "retry-with-group-configuration"}
    assert asg.launch_instances(**retried)["Errors"]
    assert fleet.shown()["DesiredCapacity"] == 6 and fleet.zones() == ["a", "a", "a", "b", "b", "b"]
    asg.update_auto_scaling_group(AutoScalingGroupName="web", MaxSize=9)
    subnet = {key: value for key, value in fresh.items() if key != "AvailabilityZones"}
    subnet |= {"ClientToken": "four", "SubnetIds": fleet.subnets[:1], "RequestedCapacity": 1}
    assert len(asg.launch_instances(**subnet)["Instances"][0]["InstanceIds"]) == 1


def test_scale_in(fleet: Fleet) -> None:
    """What is terminated: not the protected, the fullest zone first, other versions first, then the oldest."""
    fleet.serving(size=4)
    named = {"LaunchTemplateId": fleet.template}
    fleet.ec2.create_launch_template_version(**named, SourceVersion="1", LaunchTemplateData={})
    given = {"AutoScalingGroupName": "web", "LaunchTemplate": named | {"Version": "2"}, "DesiredCapacity": 7}
    fleet.asg.update_auto_scaling_group(**given)
    fleet.step(BOOT)
    old = {one["InstanceId"]: one["AvailabilityZone"][-1] for one in fleet.shown()["Instances"][:4]}
    assert fleet.zones() == list("aaaabbb") and sorted(old.values()) == list("aabb")
    safe = min(one for one, zone in old.items() if zone == "a")
    protect = {"AutoScalingGroupName": "web", "InstanceIds": [safe], "ProtectedFromScaleIn": True}
    fleet.asg.set_instance_protection(**protect)
    for size, zones in ((6, "aaabbb"), (4, "aabb"), (3, "aab")):
        fleet.asg.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=size)
        fleet.step(DRAIN)
        assert len(fleet.states()) == size, size
        if size != 3:
            assert fleet.zones() == list(zones)
    assert safe in fleet.states() and set(fleet.states()) & set(old) == {safe}
    fleet.asg.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=0)
    fleet.step(DRAIN)
    assert list(fleet.states()) == [safe]


def test_policy(fleet: Fleet) -> None:
    """An older version goes first even if the instance is younger, unless the policy says otherwise; and nothing in
    service goes as long as what is too much is on its way in."""
    named = {"LaunchTemplateId": fleet.template}
    fleet.ec2.create_launch_template_version(**named, SourceVersion="1", LaunchTemplateData={})
    old = fleet.serving(size=1, LaunchTemplate=named | {"Version": "2"}, VPCZoneIdentifier=fleet.subnets[0])
    given: dict[str, Any] = {"AutoScalingGroupName": "web", "LaunchTemplate": named | {"Version": "1"}}
    fleet.asg.update_auto_scaling_group(**given, DesiredCapacity=2)
    fleet.asg.update_auto_scaling_group(**given, DesiredCapacity=1)
    assert sorted(fleet.states().values()) == ["InService", "Pending"]
    fleet.step(BOOT)
    assert fleet.states()[old[0]] == "InService" and sorted(fleet.states().values()) == ["InService", "Terminating"]
    fleet.step(DRAIN)
    fleet.asg.update_auto_scaling_group(**given, DesiredCapacity=2, TerminationPolicies=["OldestInstance"])
    fleet.step(BOOT)
    fleet.asg.update_auto_scaling_group(**given, DesiredCapacity=1)
    assert fleet.states()[old[0]] == "Terminating"


def test_zones(fleet: Fleet) -> None:
    """AZRebalance launches before it terminates, and not while it is suspended."""
    fleet.serving(size=4)
    zone = {one["InstanceId"]: one["AvailabilityZone"][-1] for one in fleet.shown()["Instances"]}
    fleet.asg.suspend_processes(AutoScalingGroupName="web", ScalingProcesses=["AZRebalance"])
    for instance in [one for one, letter in zone.items() if letter == "b"]:
        fleet.terminate(instance, True)
        fleet.step(DRAIN)
    assert fleet.zones() == ["a", "a"]
    fleet.asg.resume_processes(AutoScalingGroupName="web", ScalingProcesses=["AZRebalance"])
    assert fleet.zones() == ["a", "a", "b"] and fleet.shown()["DesiredCapacity"] == 2
    fleet.step(BOOT)
    assert sorted(fleet.states().values()) == ["InService", "InService", "Terminating"]
    fleet.step(DRAIN)
    assert fleet.zones() == ["a", "b"]


def test_shortage(fleet: Fleet) -> None:
    """Without capacity in one zone the other one is used; without any the launch is tried again."""
    control = fleet.endpoint.control
    control("capacity", {"zone": "eu-central-1a", "until": 1000})
    fleet.group(size=2)
    assert fleet.zones() == ["b", "b"] and ("Launching", "Failed") in fleet.activities()
    control("capacity", {"zone": "eu-central-1b", "until": 1000})
    fleet.asg.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=3)
    fleet.step(RETRY)
    assert fleet.shown()["DesiredCapacity"] == 3 and len(fleet.states()) == 2
    newest = fleet.asg.describe_scaling_activities(AutoScalingGroupName="web", MaxRecords=1)
    assert "sufficient t3.micro capacity" in newest["Activities"][0]["StatusMessage"] and newest["NextToken"]
    fleet.step(1000)
    assert fleet.zones() == ["a", "b", "b"]
    for zone in ("a", "b"):
        control("capacity", {"zone": f"eu-central-1{zone}", "until": RETRY / 2, "type": "t3.micro"})
    fleet.asg.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=4)
    assert len(fleet.states()) == 3
    fleet.step(RETRY / 2)
    assert fleet.zones() == ["a", "a", "b", "b"]
    fleet.ec2.disable_image(ImageId=fleet.images[0])
    fleet.asg.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=5)
    assert len(fleet.states()) == 4 and fleet.activities()[0] == ("Launching", "Failed")
    fleet.ec2.enable_image(ImageId=fleet.images[0])
    fleet.step(RETRY / 2)
    assert len(fleet.states()) == 4
    fleet.step(RETRY / 2)
    assert len(fleet.states()) == 5


def test_suspended(fleet: Fleet) -> None:
    """Suspended processes do nothing; resumed, they do what was left undone."""
    asg, named = fleet.asg, {"AutoScalingGroupName": "web"}
    fleet.serving(size=2)
    refused(INVALID, asg.suspend_processes, **named, ScalingProcesses=["Nonsense"])
    asg.suspend_processes(**named, ScalingProcesses=["Launch", "AddToLoadBalancer"])
    assert [one["ProcessName"] for one in fleet.shown()["SuspendedProcesses"]] == ["AddToLoadBalancer", "Launch"]
    asg.set_desired_capacity(**named, DesiredCapacity=3)
    assert len(fleet.states()) == 2
    asg.resume_processes(**named, ScalingProcesses=["Launch"])
    fleet.step(BOOT)
    assert len(fleet.states()) == 3 and len(fleet.health()) == 2
    asg.suspend_processes(**named, ScalingProcesses=["Terminate"])
    asg.set_desired_capacity(**named, DesiredCapacity=1)
    assert set(fleet.states().values()) == {"InService"}
    asg.resume_processes(**named)
    assert sorted(fleet.states().values()) == ["InService", "Terminating", "Terminating"]
    assert fleet.shown()["SuspendedProcesses"] == []

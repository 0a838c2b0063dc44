"""What the self tests of fleets have in common: a network, an image, a template, a target group, and the clock."""

from __future__ import annotations

import base64
from typing import Any

from self_test_client import Clients, Program, completed_snapshot, image_arguments

# Long enough that no test is so slow that they pass by themselves.
BOOT, INITIAL, TERMINATE, PROCEED, RETRY = 60, 30, 20, 10, 50
DRAIN = 40
ZONES = ("eu-central-1a", "eu-central-1b", "eu-central-1c")


class Fleet:
    """A world with all that a group needs, and short words for what is done with it."""

    def __init__(self, clients: Clients, endpoint: Program, zones: int = 2, load_balancer: bool = True) -> None:
        self.clients, self.endpoint = clients, endpoint
        self.ec2, self.asg, self.elb = clients.ec2, clients.autoscaling, clients.elbv2
        endpoint.control("reset", {})
        endpoint.control("looks", {"n": 0})
        given = {"boot": BOOT, "initial": INITIAL, "terminate": TERMINATE, "proceed": PROCEED, "retry": RETRY}
        endpoint.control("times", given)
        vpc = self.ec2.create_vpc(CidrBlock="127.10.0.0/16")["Vpc"]["VpcId"]
        self.vpc = vpc
        self.subnets = []
        for number, zone in enumerate(ZONES[:zones]):
            place = {"VpcId": vpc, "CidrBlock": f"127.10.{16 * number}.0/20", "AvailabilityZone": zone}
            self.subnets.append(self.ec2.create_subnet(**place)["Subnet"]["SubnetId"])
        self.images = [self.image("one"), self.image("two")]
        clients.iam.create_instance_profile(InstanceProfileName="web")
        self.ec2.create_key_pair(KeyName="ops")
        self.security = self.ec2.create_security_group(GroupName="web", Description="web", VpcId=vpc)["GroupId"]
        self.data: dict[str, Any] = {
            "ImageId": self.images[0],
            "InstanceType": "t3.micro",
            "KeyName": "ops",
            "SecurityGroupIds": [self.security],
            "IamInstanceProfile": {"Name": "web"},
            "UserData": base64.b64encode(b"hello").decode(),
            "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
            "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "rekiln:fleet", "Value": "web"}]}],
        }
        made = self.ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData=self.data)
        self.template = made["LaunchTemplate"]["LaunchTemplateId"]
        self.target_group = self.balanced() if load_balancer else None

    def image(self, name: str) -> str:
        """An image that is available at once."""
        given = image_arguments(completed_snapshot(self.clients, {0: 1}), name)
        return self.ec2.register_image(**given)["ImageId"]

    def balanced(self) -> str:
        """A target group behind a load balancer."""
        arn = self.unused("web")
        balancer = self.elb.create_load_balancer(Name="web", Subnets=self.subnets)["LoadBalancers"][0]
        actions = [{"Type": "forward", "TargetGroupArn": arn}]
        given = {"LoadBalancerArn": balancer["LoadBalancerArn"], "Protocol": "HTTP", "Port": 80}
        self.elb.create_listener(**given, DefaultActions=actions)
        return arn

    def unused(self, name: str) -> str:
        """A target group that no load balancer uses."""
        given = {"Protocol": "HTTP", "Port": 8080, "VpcId": self.vpc, "HealthCheckPath": "/healthy"}
        arn = self.elb.create_target_group(Name=name, **given)["TargetGroups"][0]["TargetGroupArn"]
        delay = {"Key": "deregistration_delay.timeout_seconds", "Value": str(DRAIN)}
        self.elb.modify_target_group_attributes(TargetGroupArn=arn, Attributes=[delay])
        return arn

    def group(self, name: str = "web", size: int = 2, **changed: Any) -> str:
        """A group that spreads over all subnets, and behind the target group if there is one."""
        given: dict[str, Any] = {
            "MinSize": 0,
            "MaxSize": 10,
            "DesiredCapacity": size,
            "VPCZoneIdentifier": ",".join(self.subnets),
            "LaunchTemplate": {"LaunchTemplateId": self.template, "Version": "1"},
        }
        if self.target_group:
            given["TargetGroupARNs"] = [self.target_group]
        given = {key: value for key, value in (given | changed).items() if value is not None}
        self.asg.create_auto_scaling_group(AutoScalingGroupName=name, **given)
        return name

    def serving(self, name: str = "web", size: int = 2, **changed: Any) -> list[str]:
        """A group whose members are in service and healthy; their ids."""
        self.group(name, size, **changed)
        self.step(BOOT)
        self.step(INITIAL)
        return list(self.states(name))

    def step(self, seconds: float) -> None:
        """Let time pass, and a moment more."""
        self.endpoint.control("clock", {"seconds": seconds + 0.01})

    def shown(self, name: str = "web") -> dict[str, Any]:
        """The group as AWS shows it."""
        return self.asg.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"][0]

    def states(self, name: str = "web") -> dict[str, str]:
        """The states of the members."""
        return {one["InstanceId"]: one["LifecycleState"] for one in self.shown(name)["Instances"]}

    def zones(self, name: str = "web") -> list[str]:
        """The last letters of the members' zones, in order."""
        return sorted(one["AvailabilityZone"][-1] for one in self.shown(name)["Instances"])

    def health(self, target_group: str | None = None, *ids: str) -> dict[str, str]:
        """The targets' states; of the ids that are given, with the reasons."""
        arn = target_group or self.target_group
        wanted = {"Targets": [{"Id": one} for one in ids]} if ids else {}
        found = self.elb.describe_target_health(TargetGroupArn=arn, **wanted)["TargetHealthDescriptions"]
        states = {one["Target"]["Id"]: one["TargetHealth"] for one in found}
        if not ids:
            return {target: shown["State"] for target, shown in states.items()}
        return {target: f"{shown['State']}/{shown.get('Reason', '')}" for target, shown in states.items()}

    def instance(self, instance: str) -> dict[str, Any]:
        """An instance as AWS shows it."""
        return self.ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]

    def terminate(self, instance: str, decrement: bool) -> dict[str, Any]:
        """TerminateInstanceInAutoScalingGroup; the activity."""
        given = {"InstanceId": instance, "ShouldDecrementDesiredCapacity": decrement}
        return self.asg.terminate_instance_in_auto_scaling_group(**given)["Activity"]

    def activities(self, name: str = "web") -> list[tuple[str, str]]:
        """What the group did, the newest first: the first word and the status."""
        pages = self.asg.get_paginator("describe_scaling_activities").paginate(AutoScalingGroupName=name)
        found = [one for page in pages for one in page["Activities"]]
        return [(one["Description"].split(" ")[0], one["StatusCode"]) for one in found]

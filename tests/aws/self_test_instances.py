"""Goes through the corrections of instances and launch templates once."""

from __future__ import annotations

import base64
from typing import Any

from self_test_client import Clients, Program, refused
from self_test_fleet import BOOT, TERMINATE, Fleet

NO_INSTANCE, NO_TEMPLATE = "i-0123456789abcdef0", "lt-0123456789abcdef0"


def test_instances(clients: Clients, endpoint: Program) -> None:
    """Instances by themselves, and what they are launched from."""
    fleet = Fleet(clients, endpoint, load_balancer=False)
    test_run(fleet)
    test_states(fleet)
    test_describe(fleet)
    test_templates(fleet)
    test_versions(fleet)


def run(fleet: Fleet, count: int = 1, **more: Any) -> list[str]:
    """RunInstances from the template, in the first subnet."""
    given = {"LaunchTemplate": {"LaunchTemplateName": "web"}, "SubnetId": fleet.subnets[0]}
    made = fleet.ec2.run_instances(MinCount=1, MaxCount=count, **(given | more))["Instances"]
    return [one["InstanceId"] for one in made]


def test_run(fleet: Fleet) -> None:
    """RunInstances: all of the template, client tokens, capacity, images that are not there."""
    ids = run(fleet, 3, ClientToken="one")
    assert len(ids) == 3 and run(fleet, 3, ClientToken="one") == ids
    given = {"MinCount": 1, "MaxCount": 1, "ClientToken": "one", "ImageId": fleet.images[0]}
    refused("IdempotentParameterMismatch", fleet.ec2.run_instances, **given)
    shown = fleet.instance(ids[1])
    assert shown["PrivateIpAddress"].startswith("127.10.") and shown["SubnetId"] == fleet.subnets[0]
    assert shown["MetadataOptions"]["HttpTokens"] == "required" and shown["KeyName"] == "ops"
    assert shown["MetadataOptions"]["HttpPutResponseHopLimit"] == 2 and shown["ClientToken"] == "one"
    assert shown["IamInstanceProfile"]["Arn"].endswith("/web")
    assert [group["GroupId"] for group in shown["SecurityGroups"]] == [fleet.security]
    assert [group["GroupId"] for group in shown["NetworkInterfaces"][0]["Groups"]] == [fleet.security]
    tags = {tag["Key"]: tag["Value"] for tag in shown["Tags"]}
    assert tags["rekiln:fleet"] == "web" and tags["aws:ec2launchtemplate:version"] == "1"
    data = fleet.ec2.describe_instance_attribute(InstanceId=ids[0], Attribute="userData")["UserData"]["Value"]
    assert base64.b64decode(data) == b"hello"
    assert fleet.ec2.describe_security_groups(GroupIds=[fleet.security])["SecurityGroups"][0]["GroupName"] == "web"
    nic = {"DeviceIndex": 0, "SubnetId": fleet.subnets[0], "AssociatePublicIpAddress": True, "Groups": [fleet.security]}
    given = {"MinCount": 1, "MaxCount": 1, "ImageId": fleet.images[0], "InstanceType": "t3.micro"}
    public = fleet.ec2.run_instances(**given, NetworkInterfaces=[nic])["Instances"][0]["InstanceId"]
    shown = fleet.instance(public)
    assert shown["PublicIpAddress"] == shown["NetworkInterfaces"][0]["Association"]["PublicIp"]
    assert "PublicIpAddress" not in fleet.instance(ids[0])
    fleet.endpoint.control("capacity", {"zone": "eu-central-1a", "until": 100, "type": "t3.micro"})
    refused("InsufficientInstanceCapacity", run, fleet=fleet)
    run(fleet, InstanceType="t3.large")
    fleet.endpoint.control("capacity", {"zone": "eu-central-1a", "until": 0, "type": "t3.micro"})
    run(fleet)
    refused("InvalidAMIID.NotFound", run, fleet=fleet, ImageId="ami-0123456789abcdef0")
    refused("InvalidParameterValue", run, fleet=fleet, IamInstanceProfile={"Name": "none"})
    refused("InvalidGroup.NotFound", run, fleet=fleet, SecurityGroupIds=["sg-0123456789abcdef0"])


def test_states(fleet: Fleet) -> None:
    """pending, running, stopped, shutting-down, terminated, forgotten; and what the console says."""
    one, other = run(fleet, 2)
    ec2, address = fleet.ec2, fleet.instance(one)["PrivateIpAddress"]
    assert fleet.instance(one)["State"] == {"Code": 0, "Name": "pending"}
    fleet.step(BOOT)
    assert fleet.instance(one)["State"]["Name"] == "running"
    found = ec2.describe_instance_status(InstanceIds=[one])["InstanceStatuses"]
    assert [entry["InstanceId"] for entry in found] == [one]
    change = ec2.stop_instances(InstanceIds=[one])["StoppingInstances"][0]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("running", "stopping")
    fleet.step(TERMINATE)
    assert fleet.instance(one)["State"]["Name"] == "stopped"
    assert not ec2.describe_instance_status(InstanceIds=[one])["InstanceStatuses"]
    found = ec2.describe_instance_status(InstanceIds=[one], IncludeAllInstances=True)["InstanceStatuses"][0]
    assert found["InstanceState"]["Name"] == "stopped" and found["InstanceStatus"]["Status"] == "not-applicable"
    ec2.start_instances(InstanceIds=[one])
    assert fleet.instance(one)["State"]["Name"] == "pending"
    fleet.step(BOOT)
    fleet.endpoint.control("console", {"instance": one, "text": "hällo"})
    assert ec2.get_console_output(InstanceId=one)["Output"] == "hällo"
    change = ec2.terminate_instances(InstanceIds=[one])["TerminatingInstances"][0]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("running", "shutting-down")
    fleet.endpoint.control("instances", {"instance": other, "kill": "spot"})
    assert fleet.instance(other)["StateReason"]["Code"] == "Server.SpotInstanceTermination"
    fleet.step(TERMINATE)
    shown = fleet.instance(one)
    assert shown["State"] == {"Code": 48, "Name": "terminated"} and "PrivateIpAddress" not in shown
    assert ec2.terminate_instances(InstanceIds=[one])["TerminatingInstances"][0]["CurrentState"]["Code"] == 48
    refused("IncorrectInstanceState", ec2.start_instances, InstanceIds=[one])
    taken = {"ImageId": fleet.images[0], "SubnetId": fleet.subnets[0], "PrivateIpAddress": address}
    ec2.run_instances(MinCount=1, MaxCount=1, **taken)
    fleet.step(3590)
    fleet.instance(one)
    fleet.step(20)
    refused("InvalidInstanceID.NotFound", ec2.describe_instances, InstanceIds=[one])
    refused("InvalidInstanceID.NotFound", ec2.terminate_instances, InstanceIds=[NO_INSTANCE])


def test_describe(fleet: Fleet) -> None:
    """DescribeInstances: filters and pages."""

    def found(**filters: str) -> int:
        given = [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in filters.items()]
        pages = fleet.ec2.get_paginator("describe_instances").paginate(Filters=given)
        return sum(len(reservation["Instances"]) for page in pages for reservation in page["Reservations"])

    assert found(client_token="one") == 3 and found(client_token="on*", instance_state_name="running") == 3
    assert found(instance_state_name="pending") == 0 and found(image_id=fleet.images[1]) == 0
    assert found(tag_key="rekiln:fleet") == found(**{"tag:rekiln:fleet": "web"}) > 0 == found(**{"tag:x": "web"})
    refused("InvalidParameterValue", fleet.ec2.describe_instances, Filters=[{"Name": "nonsense", "Values": ["x"]}])
    run(fleet, 5)
    pages = [
        [one["InstanceId"] for reservation in page["Reservations"] for one in reservation["Instances"]]
        for page in fleet.ec2.get_paginator("describe_instances").paginate(MaxResults=5)
    ]
    assert len(pages) > 1 and {len(page) for page in pages[:-1]} == {5}
    assert len({one for page in pages for one in page}) == sum(len(page) for page in pages) == found()


def test_templates(fleet: Fleet) -> None:
    """Launch templates: client tokens, tags, names that are taken or not there."""
    ec2, tags = fleet.ec2, [{"ResourceType": "launch-template", "Tags": [{"Key": "a", "Value": "b"}]}]
    given: dict[str, Any] = {"LaunchTemplateName": "once", "LaunchTemplateData": {"ImageId": fleet.images[0]}}
    given |= {"ClientToken": "once", "TagSpecifications": tags}
    made = ec2.create_launch_template(**given)["LaunchTemplate"]
    assert ec2.create_launch_template(**given)["LaunchTemplate"]["LaunchTemplateId"] == made["LaunchTemplateId"]
    assert made["Tags"] == tags[0]["Tags"]
    mismatch = given | {"LaunchTemplateName": "twice"}
    refused("IdempotentParameterMismatch", ec2.create_launch_template, **mismatch)
    taken = "InvalidLaunchTemplateName.AlreadyExistsException"
    refused(taken, ec2.create_launch_template, **(given | {"ClientToken": "other"}))
    version = {"LaunchTemplateName": "once", "LaunchTemplateData": {"KeyName": "ops"}, "ClientToken": "version"}
    numbers = [ec2.create_launch_template_version(**version)["LaunchTemplateVersion"]["VersionNumber"] for _ in "ab"]
    assert numbers == [2, 2]
    shown = ec2.describe_launch_templates(LaunchTemplateNames=["once"])["LaunchTemplates"][0]
    assert (shown["DefaultVersionNumber"], shown["LatestVersionNumber"]) == (1, 2) and shown["Tags"] == made["Tags"]
    wanted = [{"Name": "tag:a", "Values": ["b"]}]
    assert len(ec2.describe_launch_templates(Filters=wanted)["LaunchTemplates"]) == 1
    missing = {"LaunchTemplateNames": ["none"]}
    refused("InvalidLaunchTemplateName.NotFoundException", ec2.describe_launch_templates, **missing)
    refused("InvalidLaunchTemplateId.NotFound", ec2.describe_launch_templates, LaunchTemplateIds=[NO_TEMPLATE])
    refused("InvalidLaunchTemplateId.NotFound", ec2.describe_launch_template_versions, LaunchTemplateId=NO_TEMPLATE)
    refused(
        "InvalidLaunchTemplateName.NotFoundException",
        ec2.create_launch_template_version,
        LaunchTemplateName="none",
        LaunchTemplateData={},
    )


def test_versions(fleet: Fleet) -> None:
    """Versions: built on others, by number and by word, deleted."""
    ec2, named = fleet.ec2, {"LaunchTemplateName": "web"}
    for source, data in (("1", {"ImageId": fleet.images[1]}), (None, {"ImageId": fleet.images[1]})):
        inherited = {"SourceVersion": source} if source else {}
        ec2.create_launch_template_version(**named, **inherited, LaunchTemplateData=data)

    def data(*versions: str) -> list[dict[str, Any]]:
        pages = ec2.get_paginator("describe_launch_template_versions").paginate(**named, Versions=list(versions))
        return [one for page in pages for one in page["LaunchTemplateVersions"]]

    first, second, third = (one["LaunchTemplateData"] for one in data())
    assert second == first | {"ImageId": fleet.images[1]} and third == {"ImageId": fleet.images[1]}
    assert [one["VersionNumber"] for one in data("$Default", "$Latest", "2")] == [1, 3, 2]
    refused("InvalidLaunchTemplateId.VersionNotFound", lambda: data("4"))
    ec2.modify_launch_template(**named, DefaultVersion="2")
    assert [one["VersionNumber"] for one in data("$Default")] == [2]
    refused("InvalidLaunchTemplateId.VersionNotFound", ec2.modify_launch_template, **named, DefaultVersion="9")
    result = ec2.delete_launch_template_versions(**named, Versions=["2", "3", "7"])
    gone = [one["VersionNumber"] for one in result["SuccessfullyDeletedLaunchTemplateVersions"]]
    kept = [one["ResponseError"]["Code"] for one in result["UnsuccessfullyDeletedLaunchTemplateVersions"]]
    assert gone == [3] and kept == ["unexpectedError", "launchTemplateVersionDoesNotExist"]
    assert [one["VersionNumber"] for one in data("$Latest")] == [2]
    made = ec2.create_launch_template_version(**named, LaunchTemplateData={"ImageId": fleet.images[0]})
    assert made["LaunchTemplateVersion"]["VersionNumber"] == 4

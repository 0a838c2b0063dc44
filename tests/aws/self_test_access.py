"""Goes through the corrections about logging in, and about what instances take from launch templates, once."""

from __future__ import annotations

import json
from typing import Any

from self_test_client import Clients, Program, completed_snapshot, image_arguments, refused


def test_access(clients: Clients, endpoint: Program) -> None:
    """Who could log in, and who did."""
    endpoint.control("looks", {"n": 0})
    instance = test_launch(clients)
    assert clients.ec2.get_serial_console_access_status()["SerialConsoleAccessEnabled"] is False
    assert "Output" not in clients.ec2.get_console_output(InstanceId=instance)
    ids = ["i-1", "i-2", "i-3", "i-4"]
    sessions = [{"target": "i-1", "owner": f"o{number}", "start": 0, "active": number == 0} for number in range(4)]
    access = {"serial": True, "managed": ids, "sessions": sessions, "consoles": {instance: "hällo"}}
    endpoint.control("access", access)
    assert clients.ec2.get_serial_console_access_status()["SerialConsoleAccessEnabled"] is True
    assert clients.ec2.get_console_output(InstanceId=instance, Latest=True)["Output"] == "hällo"
    asked = [{"Key": "InstanceIds", "Values": ["i-4", "i-1", "i-2", "i-9"]}]
    pages = clients.ssm.get_paginator("describe_instance_information").paginate(Filters=asked)
    assert [len(page["InstanceInformationList"]) for page in pages] == [2, 1]
    assert owners(clients, "Active", "i-1") == ["o0"] and owners(clients, "History", "i-1") == ["o1", "o2", "o3"]
    assert not owners(clients, "History", "i-2")
    test_roles(clients)
    endpoint.control("reset", {})
    assert clients.ec2.get_serial_console_access_status()["SerialConsoleAccessEnabled"] is False


def owners(clients: Clients, state: str, target: str) -> list[str]:
    """Who had sessions on an instance, from all pages."""
    wanted = [{"key": "Target", "value": target}]
    pages = clients.ssm.get_paginator("describe_sessions").paginate(State=state, Filters=wanted)
    return [session["Owner"] for page in pages for session in page["Sessions"]]


def test_launch(clients: Clients) -> str:
    """RunInstances: the profile and the metadata options come from the template, and the latter else from the image."""
    given = image_arguments(completed_snapshot(clients, {0: 1}), "launched") | {"ImdsSupport": "v2.0"}
    image = clients.ec2.register_image(**given)["ImageId"]
    clients.iam.create_instance_profile(InstanceProfileName="profile")
    data: dict[str, Any] = {"ImageId": image, "InstanceType": "t3.micro", "IamInstanceProfile": {"Name": "profile"}}

    def launched(name: str, more: dict[str, Any]) -> dict[str, Any]:
        clients.ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data | more)
        template = {"LaunchTemplateName": name}
        made = clients.ec2.run_instances(MinCount=1, MaxCount=1, LaunchTemplate=template)["Instances"][0]["InstanceId"]
        return clients.ec2.describe_instances(InstanceIds=[made])["Reservations"][0]["Instances"][0]

    plain, open_ = launched("plain", {}), launched("open", {"MetadataOptions": {"HttpTokens": "optional"}})
    assert plain["IamInstanceProfile"]["Arn"].endswith(":instance-profile/profile")
    assert (plain["MetadataOptions"]["HttpTokens"], open_["MetadataOptions"]["HttpTokens"]) == ("required", "optional")
    return plain["InstanceId"]


def test_roles(clients: Clients) -> None:
    """SimulatePrincipalPolicy: what is allowed, what is not, and that a denial wins."""
    arn = clients.iam.create_role(RoleName="role", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    statements = [("Allow", "ssm:*"), ("Deny", "ssm:SendCommand")]
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": effect, "Action": [action], "Resource": "*"} for effect, action in statements],
    }
    clients.iam.put_role_policy(RoleName="role", PolicyName="own", PolicyDocument=json.dumps(document))
    actions = ["ssm:StartSession", "ssm:SendCommand", "s3:GetObject"]
    simulate = clients.iam.get_paginator("simulate_principal_policy")
    pages = simulate.paginate(PolicySourceArn=arn, ActionNames=actions)
    decisions = [result["EvalDecision"] for page in pages for result in page["EvaluationResults"]]
    assert decisions == ["allowed", "explicitDeny", "implicitDeny"]
    refused("NoSuchEntity", clients.iam.simulate_principal_policy, PolicySourceArn=f"{arn}x", ActionNames=actions)

"""Who could log in to instances, and who did: serial consoles, Systems Manager, consoles' texts, what roles allow.

The tests say what there is by POST /control/access; moto has nothing of it, or a constant.
"""

from __future__ import annotations

import base64
from typing import Any

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2.responses import EC2Response
from moto.iam.access_control import IAMPolicy, PermissionResult
from moto.iam.responses import IamResponse
from moto.ssm.responses import SimpleSystemManagerResponse

from world import WORLD, AwsError

# AWS has 50 and more on a page; a client that reads only the first one is to be caught.
PAGE = 2


def page(entries: list[Any], token: str | None) -> tuple[list[Any], str | None]:
    """A page of a list, and the token of the next one."""
    start = int(token or 0)
    end = start + PAGE
    return entries[start:end], str(end) if end < len(entries) else None


def get_serial_console_access_status(_: Any) -> ActionResult:
    """GetSerialConsoleAccessStatus: off in a fresh account."""
    return ActionResult({"SerialConsoleAccessEnabled": WORLD.access.get("serial", False), "ManagedBy": "account"})


def get_console_output(self: Any) -> ActionResult:
    """GetConsoleOutput: what the test put there, in base 64. A member of a group has written its id at least, once it
    runs; any other instance nothing."""
    instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
    default = f"{instance.id}\n" if instance.member and instance.state == "running" else None
    text = WORLD.consoles.get(instance.id, WORLD.access.get("consoles", {}).get(instance.id, default))
    result: dict[str, Any] = {"InstanceId": instance.id, "Timestamp": utcnow()}
    if text is not None:
        result["Output"] = base64.b64encode(text.encode()).decode()
    return ActionResult(result)


def describe_instance_information(self: Any) -> ActionResult:
    """DescribeInstanceInformation: the instances that Systems Manager's agent runs on, of those that are asked for."""
    wanted = [entry["Values"] for entry in self._get_param("Filters") or [] if entry["Key"] == "InstanceIds"]
    managed = [one for one in WORLD.access.get("managed", []) if all(one in values for values in wanted)]
    found, token = page(managed, self._get_param("NextToken"))
    result: dict[str, Any] = {"InstanceInformationList": [{"InstanceId": one, "PingStatus": "Online"} for one in found]}
    if token:
        result["NextToken"] = token
    return ActionResult(result)


def describe_sessions(self: Any) -> ActionResult:
    """DescribeSessions: of one state, to one target."""
    state = self._get_param("State")
    wanted = [entry["value"] for entry in self._get_param("Filters") or [] if entry["key"] == "Target"]
    sessions = [
        {"SessionId": f"session-{number}", "Target": one["target"], "Owner": one["owner"], "StartDate": one["start"]}
        for number, one in enumerate(WORLD.access.get("sessions", []))
        if (state == "Active") == bool(one.get("active")) and one["target"] in wanted
    ]
    found, token = page(sessions, self._get_param("NextToken"))
    return ActionResult({"Sessions": found} | ({"NextToken": token} if token else {}))


def simulate_principal_policy(self: Any) -> ActionResult:
    """SimulatePrincipalPolicy: what a role's own and its attached policies allow for any resource."""
    arn = self._get_param("PolicySourceArn")
    role = next((role for role in self.backend.roles.values() if role.arn == arn), None)
    if role is None:
        raise AwsError("NoSuchEntity", f"The entity {arn} cannot be found.")
    policies = [*role.policies.values(), *role.managed_policies.values()]
    actions = self._get_param("ActionNames") or []
    results = [{"EvalActionName": action, "EvalDecision": decision(policies, action)} for action in actions]
    found, token = page(results, self._get_param("Marker"))
    answer: dict[str, Any] = {"EvaluationResults": found, "IsTruncated": token is not None}
    if token:
        answer["Marker"] = token
    return ActionResult(answer)


def decision(policies: list[Any], action: str) -> str:
    """IAM's word for what policies say together: a denial wins."""
    said = [IAMPolicy(policy).is_action_permitted(action, "*") for policy in policies]
    if PermissionResult.DENIED in said:
        return "explicitDeny"
    return "allowed" if PermissionResult.PERMITTED in said else "implicitDeny"


def install() -> None:
    """Put the actions into moto's classes."""
    for response, actions in (
        (EC2Response, (get_serial_console_access_status, get_console_output)),
        (SimpleSystemManagerResponse, (describe_instance_information, describe_sessions)),
        (IamResponse, (simulate_principal_policy,)),
    ):
        for action in actions:
            setattr(response, action.__name__, action)

"""EC2's actions on instances: running, describing, stopping, terminating."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.exceptions import InvalidInstanceIdError
from moto.ec2.models.instances import InstanceBackend
from moto.ec2.utils import simple_aws_filter_to_re

import launch_templates
from answers import Answer
from cells import Cell, Place, cell_of, lacks
from machines import Machine, launch, shortage
from views import seen_instances
from world import WORLD, AwsError, remembered, specified_tags, text

# The most that AWS has on a page.
PAGE = 1000
# What a filter looks at, of an instance as it is shown.
FILTERS: dict[str, Callable[[dict[str, Any]], list[Any]]] = {
    "instance-id": lambda one: [one["InstanceId"]],
    "instance-state-name": lambda one: [one["State"]["Name"]],
    "instance-state-code": lambda one: [one["State"]["Code"]],
    "client-token": lambda one: [one["ClientToken"]],
    "image-id": lambda one: [one["ImageId"]],
    "instance-type": lambda one: [one["InstanceType"]],
    "instance-lifecycle": lambda one: [one["InstanceLifecycle"]] if one["InstanceLifecycle"] else [],
    "key-name": lambda one: [one["KeyName"]] if one["KeyName"] else [],
    "architecture": lambda one: [one["Architecture"]],
    "availability-zone": lambda one: [one["Placement"]["AvailabilityZone"]],
    "subnet-id": lambda one: [one["SubnetId"]] if "SubnetId" in one else [],
    "vpc-id": lambda one: [one["VpcId"]] if "VpcId" in one else [],
    "private-ip-address": lambda one: [one["PrivateIpAddress"]] if "PrivateIpAddress" in one else [],
    "ip-address": lambda one: [one["PublicIpAddress"]] if one.get("PublicIpAddress") else [],
    "instance.group-id": lambda one: [group["GroupId"] for group in one.get("SecurityGroups", [])],
    "instance.group-name": lambda one: [group["GroupName"] for group in one.get("SecurityGroups", [])],
    "iam-instance-profile.arn": lambda one: [one["IamInstanceProfile"]["Arn"]] if "IamInstanceProfile" in one else [],
    "metadata-options.http-tokens": lambda one: [one["MetadataOptions"]["HttpTokens"]],
    "tag-key": lambda one: [tag["Key"] for tag in one["Tags"]],
    "tag-value": lambda one: [tag["Value"] for tag in one["Tags"]],
}


def looked_at(name: str) -> Callable[[dict[str, Any]], list[Any]]:
    """What a filter looks at; one that is not known is refused, as it might be one of AWS's that is missed here."""
    if name.startswith("tag:"):
        key = name.removeprefix("tag:")
        return lambda one: [tag["Value"] for tag in one["Tags"] if tag["Key"] == key]
    if name not in FILTERS:
        raise AwsError("InvalidParameterValue", f"The filter '{name}' is invalid")
    return FILTERS[name]


def fits(patterns: list[str]) -> Callable[[str], bool]:
    """Whether a value fits one of a filter's, wildcards included. Hundreds of ids are looked up at once."""
    plain = {pattern for pattern in patterns if not re.search(r"[*?\\]", pattern)}
    rest = [re.compile(simple_aws_filter_to_re(pattern)) for pattern in patterns if pattern not in plain]
    return lambda value: value in plain or any(pattern.match(value) for pattern in rest)


def filtered(found: list[dict[str, Any]], filters: dict[str, list[str]]) -> list[dict[str, Any]]:
    """The instances that fit all filters."""
    for name, patterns in filters.items():
        look, fit = looked_at(name), fits(patterns)
        found = [one for one in found if any(fit(text(value)) for value in look(one))]
    return found


def page(found: list[Any], given: Any, token: str | None) -> tuple[list[Any], str | None]:
    """A page of a list, and the token of the next one."""
    if given is not None and not 5 <= given <= PAGE:
        message = f"Value ({given}) for parameter maxResults is invalid. Expecting a value from 5 to {PAGE}."
        raise AwsError("InvalidParameterValue", message)
    if token and not token.isdigit():
        raise AwsError("InvalidParameterValue", f"The token '{token}' is invalid")
    start = int(token or 0)
    end = start + (given or PAGE)
    return found[start:end], str(end) if end < len(found) else None


def asked_for(self: Any) -> list[dict[str, Any]]:
    """The instances that are asked for by ids and filters."""
    seen = seen_instances(cell_of(self.ec2_backend))
    ids = self._get_param("InstanceIds") or []
    if missing := [instance for instance in ids if instance not in seen]:
        raise InvalidInstanceIdError(missing)
    wanted = set(ids)
    found = [one for one in seen.values() if not wanted or one["InstanceId"] in wanted]
    return filtered(found, self._filters_from_querystring())


def describe_instances(self: Any) -> ActionResult:
    """DescribeInstances, by pages of instances."""
    self.error_on_dryrun()
    size = self._get_param("MaxResults")
    if self._get_param("InstanceIds") and size is not None:
        raise AwsError(
            "InvalidParameterCombination", "The parameter instancesSet cannot be used with the parameter maxResults"
        )
    found, token = page(asked_for(self), size, self._get_param("NextToken"))
    cell = cell_of(self.ec2_backend)
    reservations: dict[str, list[dict[str, Any]]] = {}
    for one in found:
        machine = cell.machines.get(one["InstanceId"])
        reservations.setdefault(machine.reservation if machine else "r-0", []).append(one)
    shown = [reservation(cell, name, instances) for name, instances in reservations.items()]
    return Answer({"Reservations": shown, "NextToken": token})


def reservation(cell: Cell, name: str, instances: list[dict[str, Any]]) -> dict[str, Any]:
    """A reservation as answers have it."""
    return {"ReservationId": name, "OwnerId": cell.account, "Groups": [], "Instances": instances}


def describe_instance_status(self: Any) -> ActionResult:
    """DescribeInstanceStatus: only of those that run, unless all are asked for."""
    everything = self._get_param("IncludeAllInstances")
    found = [one for one in asked_for(self) if everything or one["State"]["Name"] == "running"]
    found, token = page(found, self._get_param("MaxResults"), self._get_param("NextToken"))
    return Answer({"InstanceStatuses": [status(one) for one in found], "NextToken": token})


def status(one: dict[str, Any]) -> dict[str, Any]:
    """The status checks of an instance, which a running one passes."""
    passed = {"Status": "ok", "Details": [{"Name": "reachability", "Status": "passed"}]}
    checks = passed if one["State"]["Name"] == "running" else {"Status": "not-applicable"}
    return {
        "InstanceId": one["InstanceId"],
        "AvailabilityZone": one["Placement"]["AvailabilityZone"],
        "InstanceState": one["State"],
        "SystemStatus": checks,
        "InstanceStatus": checks,
    }


def run_instances(self: Any) -> ActionResult:
    """RunInstances: what is given here goes before what the launch template says."""
    self.error_on_dryrun()
    cell, given = cell_of(self.ec2_backend), dict(self.params)
    token = given.pop("ClientToken", "")
    key = ("run-instances", cell.account, cell.region, token)
    parameters = json.dumps(given, sort_keys=True, default=str)
    mismatch = AwsError("IdempotentParameterMismatch", "The client token was used with other parameters")
    name = remembered(key, parameters, mismatch) if token else None
    if name is None:
        machines = run(cell, given, token)
        name = machines[0].reservation
        if token:
            WORLD.tokens[key] = (parameters, name)
    machines = [one for one in cell.machines.values() if one.reservation == name]
    return Answer(reservation(cell, name, [one.shown() for one in machines]))


def run(cell: Cell, given: dict[str, Any], token: str) -> list[Machine]:
    """Launch what a request of RunInstances asks for: as many as there is capacity for, all that is at most asked."""
    tags = specified_tags(given.pop("TagSpecifications", None), {"instance", "volume", "network-interface"})["instance"]
    template = given.pop("LaunchTemplate", None)
    data: dict[str, Any] = {}
    if template:
        data, of_template = launch_templates.resolved(cell.ec2, template)[:2]
        tags = of_template | tags
    options = data.get("MetadataOptions") or {}
    data |= given | {"MetadataOptions": options | (given.get("MetadataOptions") or {})}
    if data.get("NetworkInterfaces") and given.get("SubnetId"):
        raise AwsError("InvalidParameterCombination", "Network interfaces and a subnet cannot both be given")
    place = place_of(cell, data)
    kind = data.get("InstanceType") or "m1.small"
    spot = (data.get("InstanceMarketOptions") or {}).get("MarketType") == "spot"
    if lacks(place.zone, kind) or spot and lacks(place.zone, "spot"):
        raise shortage(place.zone, kind)
    machines = launch(cell, data, int(given["MaxCount"]), place, tags, token)
    for machine in machines:
        machine.boot()
    return machines


def place_of(cell: Cell, data: dict[str, Any]) -> Place:
    """Where an instance is launched: in its subnet's zone, in the zone that is asked for, or in the first one."""
    subnets = [data.get("SubnetId")] + [nic.get("SubnetId") for nic in data.get("NetworkInterfaces") or []]
    subnet = next((subnet for subnet in subnets if subnet), None)
    if subnet:
        return Place(cell.ec2.get_subnet(subnet).availability_zone, subnet)
    zone = (data.get("Placement") or {}).get("AvailabilityZone") or f"{cell.region}a"
    return Place(zone, None)


def changed(self: Any, change: Callable[[Machine], None]) -> list[dict[str, Any]]:
    """Change the state of the instances that are named; their states before and after."""
    self.error_on_dryrun()
    machines = cell_of(self.ec2_backend).machines
    ids = self._get_param("InstanceIds") or []
    if missing := [instance for instance in ids if instance not in machines]:
        raise InvalidInstanceIdError(missing)
    result = []
    for machine in [machines[instance] for instance in dict.fromkeys(ids)]:
        before = {"Code": machine.state_code, "Name": machine.state}
        change(machine)
        after = {"Code": machine.state_code, "Name": machine.state}
        result.append({"InstanceId": machine.id, "PreviousState": before, "CurrentState": after})
    return result


def terminate_instances(self: Any) -> ActionResult:
    """TerminateInstances: nothing happens to those that are protected, nor to the others named with them."""
    machines = cell_of(self.ec2_backend).machines
    for instance in self._get_param("InstanceIds") or []:
        if instance in machines and machines[instance].disable_api_termination is True:
            raise AwsError("OperationNotPermitted", f"The instance '{instance}' may not be terminated")
    return Answer({"TerminatingInstances": changed(self, lambda machine: machine.finish())})


def stop_instances(self: Any) -> ActionResult:
    """StopInstances."""
    return Answer({"StoppingInstances": changed(self, lambda machine: machine.halt())})


def start_instances(self: Any) -> ActionResult:
    """StartInstances: only of those that are stopped."""

    def start(machine: Machine) -> None:
        if machine.state not in ("stopped", "pending", "running"):
            raise AwsError("IncorrectInstanceState", f"The instance '{machine.id}' is not in a state to be started")
        if machine.state == "stopped":
            machine.boot()

    return Answer({"StartingInstances": changed(self, start)})


def reboot_instances(self: Any) -> ActionResult:
    """RebootInstances: the state does not show it."""
    changed(self, lambda machine: None)
    return EmptyResult()


def install() -> None:
    """Let moto's own actions find instances without going through all of them."""

    def get_instance_by_id(self: Any, instance_id: str) -> Machine | None:
        return cell_of(self).machines.get(instance_id)

    def get_instance(self: Any, instance_id: str) -> Machine:
        found = get_instance_by_id(self, instance_id)
        if found is None:
            raise InvalidInstanceIdError(instance_id)
        return found

    InstanceBackend.get_instance = get_instance
    InstanceBackend.get_instance_by_id = get_instance_by_id


ACTIONS = (
    describe_instances,
    describe_instance_status,
    run_instances,
    terminate_instances,
    stop_instances,
    start_instances,
    reboot_instances,
)

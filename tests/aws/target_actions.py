"""ELBv2's actions on targets."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.elbv2.exceptions import TargetGroupNotFoundError
from moto.elbv2.responses import ELBV2Response

from answers import Answer
from cells import cell_of
from targets import described, deregister, in_use, probe, register
from views import seen_targets
from world import AwsError


def target_group(self: Any) -> Any:
    """The target group that is asked for."""
    found = self.elbv2_backend.target_groups.get(self._get_param("TargetGroupArn"))
    if found is None:
        raise TargetGroupNotFoundError()
    return found


def register_targets(self: Any) -> ActionResult:
    """RegisterTargets: instances that run."""
    group, cell = target_group(self), cell_of(self.elbv2_backend)
    targets = self._get_param("Targets") or []
    for target in targets:
        if group.target_type == "instance":
            machine = cell.machines.get(target["Id"])
            if machine is None:
                raise AwsError("InvalidTarget", f"The following targets are not valid instances: '{target['Id']}'")
            if machine.state != "running":
                message = "The following targets are not in a running state and cannot be registered"
                raise AwsError("InvalidTarget", f"{message}: '{target['Id']}'")
    for target in targets:
        register(cell, group.arn, target["Id"], int(target.get("Port") or group.port))
    return EmptyResult()


def deregister_targets(self: Any) -> ActionResult:
    """DeregisterTargets: one that is not registered is no error."""
    group, cell = target_group(self), cell_of(self.elbv2_backend)
    for target in self._get_param("Targets") or []:
        deregister(cell, group.arn, target["Id"])
    return EmptyResult()


def describe_target_health(self: Any) -> ActionResult:
    """DescribeTargetHealth: of all targets, or of those that are asked for, registered or not."""
    group, cell = target_group(self), cell_of(self.elbv2_backend)
    probe(cell, group.arn)
    seen = seen_targets(cell, group.arn)
    wanted = self._get_param("Targets") or []
    shown = [
        seen.get(target["Id"])
        or described(
            target["Id"],
            int(target.get("Port") or group.port),
            group.health_check_port,
            "unused",
            "Target.NotRegistered",
        )
        for target in wanted
    ]
    return Answer({"TargetHealthDescriptions": shown if wanted else list(seen.values())})


def state_of_target_groups(backend: Any) -> list[dict[str, Any]]:
    """The target groups and their targets, as the tests see them."""
    cell = cell_of(backend)
    return [
        {
            "arn": group.arn,
            "name": group.name,
            "region": backend.region_name,
            "in_use": in_use(cell, group.arn),
            "targets": {
                target.id: {"state": target.state, "reason": target.reason, "port": target.port}
                for target in cell.targets.get(group.arn, {}).values()
            },
        }
        for group in backend.target_groups.values()
    ]


def install() -> None:
    """Put the actions into moto's class."""
    for action in (register_targets, deregister_targets, describe_target_health):
        setattr(ELBV2Response, action.__name__, action)

"""EC2 Auto Scaling's actions on lifecycle hooks."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult, EmptyResult

from answers import Answer
from cells import cell_of
from groups import Group, Hook, Member, Wait, find_group, invalid
from lifecycle import LAUNCHING, TERMINATING, resolve
from timeline import moment

# A heartbeat is an hour if nothing is said, and all of them together are a hundred times that or two days at most.
DEFAULT_TIMEOUT, LONGEST = 3600, 48 * 3600


def put_hook(group: Group, given: dict[str, Any]) -> None:
    """Make a hook, or change what is given of one."""
    known = group.hooks.get(given["LifecycleHookName"])
    names = ("NotificationTargetARN", "RoleARN", "NotificationMetadata")
    told = {name: given[name] for name in names if name in given}
    transition = given.get("LifecycleTransition") or (known.transition if known else None)
    if transition not in (LAUNCHING, TERMINATING):
        raise invalid(f"Lifecycle Transition is not valid: {transition}")
    timeout = given.get("HeartbeatTimeout") or (known.timeout if known else DEFAULT_TIMEOUT)
    result = given.get("DefaultResult") or (known.result if known else "ABANDON")
    if not 30 <= int(timeout) <= 7200 or result not in ("CONTINUE", "ABANDON"):
        raise invalid("HeartbeatTimeout must be from 30 to 7200, DefaultResult CONTINUE or ABANDON")
    told = (known.given if known else {}) | told
    group.hooks[given["LifecycleHookName"]] = Hook(given["LifecycleHookName"], transition, told, int(timeout), result)


def put_lifecycle_hook(self: Any) -> ActionResult:
    """PutLifecycleHook: members that are on their way already are not held."""
    group = find_group(cell_of(self.autoscaling_backend), self._get_param("AutoScalingGroupName"))
    put_hook(group, self.params)
    return EmptyResult()


def describe_lifecycle_hooks(self: Any) -> ActionResult:
    """DescribeLifecycleHooks."""
    group = find_group(cell_of(self.autoscaling_backend), self._get_param("AutoScalingGroupName"))
    wanted = self._get_param("LifecycleHookNames") or []
    shown = [
        hook.given
        | {
            "LifecycleHookName": hook.name,
            "AutoScalingGroupName": group.name,
            "LifecycleTransition": hook.transition,
            "HeartbeatTimeout": int(hook.timeout),
            "GlobalTimeout": min(LONGEST, 100 * int(hook.timeout)),
            "DefaultResult": hook.result,
        }
        for hook in group.hooks.values()
        if not wanted or hook.name in wanted
    ]
    return Answer({"LifecycleHooks": shown})


def delete_lifecycle_hook(self: Any) -> ActionResult:
    """DeleteLifecycleHook: who waits for it goes on, abandoned on the way in and terminated on the way out."""
    group = find_group(cell_of(self.autoscaling_backend), self._get_param("AutoScalingGroupName"))
    name = self._get_param("LifecycleHookName")
    if name not in group.hooks:
        raise invalid(f"No Lifecycle Hook found with name {name}")
    del group.hooks[name]
    for member in list(group.members.values()):
        if name in member.waits:
            resolve(member, name, "ABANDON" if member.state == "Pending:Wait" else "CONTINUE")
    return EmptyResult()


def waiting(self: Any) -> tuple[Member, Wait]:
    """The member that waits, named by its id or by the action's token."""
    group = find_group(cell_of(self.autoscaling_backend), self._get_param("AutoScalingGroupName"))
    name, token = self._get_param("LifecycleHookName"), self._get_param("LifecycleActionToken")
    instance = self._get_param("InstanceId")
    for member in group.members.values():
        wait = member.waits.get(name)
        if wait is not None and (member.id == instance or instance is None and wait.token == token):
            return member, wait
    if instance is None:
        raise invalid(f"No active Lifecycle Action found with token {token}")
    raise invalid(f"No active Lifecycle Action found with instance ID {instance}")


def complete_lifecycle_action(self: Any) -> ActionResult:
    """CompleteLifecycleAction."""
    member, wait = waiting(self)
    result = self._get_param("LifecycleActionResult")
    if result not in ("CONTINUE", "ABANDON"):
        raise invalid("LifecycleActionResult must be CONTINUE or ABANDON")
    resolve(member, wait.hook.name, result)
    return EmptyResult()


def record_lifecycle_action_heartbeat(self: Any) -> ActionResult:
    """RecordLifecycleActionHeartbeat: the time begins anew."""
    _, wait = waiting(self)
    wait.deadline = moment() + wait.hook.timeout
    return EmptyResult()


ACTIONS = (
    put_lifecycle_hook,
    describe_lifecycle_hooks,
    delete_lifecycle_hook,
    complete_lifecycle_action,
    record_lifecycle_action_heartbeat,
)

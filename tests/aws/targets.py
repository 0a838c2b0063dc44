"""The targets of ELBv2's target groups and their health: registering, checking, draining. moto's are always healthy."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cells import Cell
from machines import LISTENERS as MACHINE_LISTENERS
from machines import Machine
from timeline import after, moment, note
from world import WORLD

# What a state's reason is called, and described as.
REASONS = {
    "Elb.RegistrationInProgress": "Target registration is in progress",
    "Target.FailedHealthChecks": "Health checks failed",
    "Target.HealthCheckDisabled": "Health checks are not done",
    "Target.NotRegistered": "Target is not registered to the target group",
    "Target.NotInUse": "Target group is not configured to receive traffic from the load balancer",
    "Target.InvalidState": "Target is in the stopped state",
    "Target.DeregistrationInProgress": "Target deregistration is in progress",
}
# What the tests can say of a target's health.
SAID = {
    "healthy": ("healthy", None),
    "unhealthy": ("unhealthy", "Target.FailedHealthChecks"),
    "initial": ("initial", "Elb.RegistrationInProgress"),
    "unknown": ("unavailable", "Target.HealthCheckDisabled"),
}
# A real target is asked at most once in so many seconds of real time, and has to answer in so many.
PROBE_INTERVAL, PROBE_TIMEOUT = 1.0, 2.0
# What has to know when a target's state has changed; groups add themselves.
LISTENERS: list[Callable[[Any], None]] = []


@dataclass(eq=False)
class Target:
    """An instance in a target group."""

    cell: Cell
    arn: str
    id: str
    port: int
    # From when on its health is checked.
    since: float
    state: str = "initial"
    reason: str | None = "Elb.RegistrationInProgress"
    # When it is gone, once it is deregistered.
    drained: float | None = None
    # What the last real checks found, how many failed since one was good, and when by the monotonic clock.
    answers: bool | None = None
    misses: int = 0
    probed: float = -PROBE_INTERVAL

    @property
    def group(self) -> Any:
        """moto's target group."""
        return self.cell.elbv2.target_groups[self.arn]

    def shown(self) -> dict[str, Any]:
        """The target as DescribeTargetHealth has it."""
        port = self.group.health_check_port if self.arn in self.cell.elbv2.target_groups else None
        return described(self.id, self.port, port, self.state, self.reason)

    def settle(self) -> None:
        """Take the state that follows from everything, and say so if it is another."""
        state, reason = health(self)
        if (state, reason) != (self.state, self.reason):
            self.state, self.reason = state, reason
            note("target", instance=self.id, target_group=self.group.name, state=state, reason=reason)
            for listener in LISTENERS:
                listener(self)


def described(target: str, port: Any, check_port: Any, state: str, reason: str | None) -> dict[str, Any]:
    """One entry of DescribeTargetHealth."""
    health_of: dict[str, Any] = {"State": state}
    if reason:
        health_of |= {"Reason": reason, "Description": REASONS[reason]}
    shown_port = str(port) if check_port in (None, "traffic-port") else str(check_port)
    return {"Target": {"Id": target, "Port": port}, "HealthCheckPort": shown_port, "TargetHealth": health_of}


def in_use(cell: Cell, arn: str) -> bool:
    """Whether a load balancer sends requests to a target group: by a listener, or because the tests say so."""
    said = cell.target_groups.get(arn, {}).get("in_use")
    return bool(cell.used.get(arn) if said is None else said)


def health(target: Target) -> tuple[str, str | None]:
    """A target's state and its reason, as they follow from everything."""
    cell, machine = target.cell, target.cell.machines.get(target.id)
    if target.drained is not None:
        return "draining", "Target.DeregistrationInProgress"
    if not in_use(cell, target.arn):
        return "unused", "Target.NotInUse"
    if machine is None:
        # An address, which is taken to be of something that is well.
        return SAID[WORLD.health.get(target.id, "healthy")]
    if machine.state not in ("pending", "running"):
        return "unused", "Target.InvalidState"
    if machine.state == "pending" or moment() < target.since + WORLD.times["initial"]:
        return SAID["initial"]
    if said := WORLD.health.get(target.id):
        return SAID[said]
    if {machine.image_id, machine.instance_type} & WORLD.bad:
        return SAID["unhealthy"]
    if said := WORLD.health.get("*"):
        return SAID[said]
    return probed_health(target) if cell.target_groups.get(target.arn, {}).get("probe") else SAID["healthy"]


def probed_health(target: Target) -> tuple[str, str | None]:
    """What the real checks say. One that has not answered yet is given as long as AWS gives it to fail."""
    if target.answers:
        return SAID["healthy"]
    group = target.group
    patience = int(group.health_check_interval_seconds) * int(group.unhealthy_threshold_count)
    new = target.state in ("initial", "unused") and moment() < target.since + patience
    return SAID["initial" if new else "unhealthy"]


def register(cell: Cell, arn: str, target: str, port: int) -> None:
    """Register a target; one that drains is taken back."""
    known = cell.targets.setdefault(arn, {}).get(target)
    if known is not None and known.drained is None:
        known.port = port
        return
    fresh = Target(cell, arn, target, port, moment())
    cell.targets[arn][target] = fresh
    note("target", instance=target, target_group=fresh.group.name, state=fresh.state, reason=fresh.reason)
    fresh.settle()
    check_later(fresh)


def check_later(target: Target) -> None:
    """Look at a target again when its first health checks are done."""
    after(WORLD.times["initial"], lambda: target.settle() if is_current(target) else None)


def is_current(target: Target) -> bool:
    """Whether a target is still registered, and not registered anew."""
    known = target.cell.targets.get(target.arn, {}).get(target.id)
    return known is target and target.arn in target.cell.elbv2.target_groups


def deregister(cell: Cell, arn: str, target: str) -> float:
    """Deregister a target; returns when it is drained. One that is not registered is none already."""
    known = cell.targets.get(arn, {}).get(target)
    if known is None:
        return moment()
    if known.drained is None:
        delay = float(known.group.attributes["deregistration_delay.timeout_seconds"])
        # Nothing is sent to a target group without a load balancer, so that nothing has to end (assumed).
        known.drained = moment() + (delay if in_use(cell, arn) else 0)
        known.settle()
        if known.drained <= moment():
            gone(known)
        else:
            after(known.drained - moment(), lambda: gone(known) if is_current(known) else None)
    return known.drained


def gone(target: Target) -> None:
    """Forget a drained target."""
    del target.cell.targets[target.arn][target.id]
    target.state, target.reason = "unused", "Target.NotRegistered"
    note("target", instance=target.id, target_group=target.group.name, state="unused", reason=target.reason)
    for listener in LISTENERS:
        listener(target)


def refresh(cell: Cell) -> None:
    """Find out which target groups get requests; in those that did not before all checks begin anew."""
    for arn in list(cell.elbv2.target_groups):
        used = cell.elbv2._any_listener_using(arn)
        if cell.used.get(arn, False) != used:
            cell.used[arn] = used
            for target in list(cell.targets.get(arn, {}).values()):
                target.since = moment()
                target.settle()
                check_later(target)
    for arn in set(cell.targets) - set(cell.elbv2.target_groups):
        del cell.targets[arn]


def settle_all() -> None:
    """Look at all targets: the tests have said something about their health."""
    for cell in WORLD.cells.values():
        for targets in cell.targets.values():
            for target in list(targets.values()):
                target.settle()


def machine_changed(machine: Machine) -> None:
    """Look at an instance's targets: one that ends is deregistered by itself."""
    for arn, targets in list(machine.cell.targets.items()):
        target = targets.get(machine.id)
        if target is None:
            continue
        if machine.state in ("shutting-down", "terminated"):
            deregister(machine.cell, arn, machine.id)
            continue
        if machine.state == "running":
            target.since = moment()
            check_later(target)
        target.settle()


def probe(cell: Cell, arn: str) -> None:
    """Ask the real targets of a group, all at once, that were not asked just now."""
    due = [
        target
        for target in cell.targets.get(arn, {}).values()
        if target.drained is None and time.monotonic() - target.probed >= PROBE_INTERVAL
    ]
    if not due or not cell.target_groups.get(arn, {}).get("probe"):
        return
    with ThreadPoolExecutor(len(due[:16])) as pool:
        for target, answers in zip(due, pool.map(asked, due)):
            target.misses = 0 if answers else target.misses + 1
            # One that is slow for once is well.
            if answers or target.misses >= int(target.group.unhealthy_threshold_count):
                target.answers = answers
            target.probed = time.monotonic()
    for target in due:
        target.settle()


def asked(target: Target) -> bool:
    """Whether an instance answers the health check on its private address as it should."""
    machine, group = target.cell.machines.get(target.id), target.group
    if machine is None or machine.state != "running":
        return False
    port = target.port if group.health_check_port in (None, "traffic-port") else int(group.health_check_port)
    connection = http.client.HTTPConnection(machine.private_ip, port, timeout=PROBE_TIMEOUT)
    try:
        connection.request("GET", group.health_check_path or "/")
        return 200 <= connection.getresponse().status < 400
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


MACHINE_LISTENERS.append(machine_changed)

"""Brings the world up to date before and after each request."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from moto.autoscaling.responses import AutoScalingResponse

import capacity_actions
import group_actions
import group_records
import hooks
import lifecycle
import member_actions
import scaling
import targets
import timeline
import views
import warm_pools
from world import WORLD

# The services whose requests are about what takes its time.
SERVICES = ("ec2", "autoscaling", "elasticloadbalancing")


def during(act: Callable[[], Any], body: bytes = b"") -> Any:
    """Do all that is due, answer a request, and do what follows from it. Time stands still meanwhile."""
    WORLD.actor = ""
    timeline.catch_up(settled)
    found = re.search(rb"(?:^|&)Action=(\w+)", body)
    WORLD.actor, WORLD.moment = found.group(1).decode() if found else "control", WORLD.now()
    try:
        result = act()
        for cell in WORLD.cells.values():
            targets.refresh(cell)
        settled()
        return result
    finally:
        WORLD.actor, WORLD.moment = "", None


def settled() -> None:
    """Let all groups do what they have to, and keep what is true then."""
    scaling.settle()
    views.take()


def forget() -> None:
    """Forget what is not in the world itself."""
    lifecycle.DIRTY.clear()


def install() -> None:
    """Put the actions of EC2 Auto Scaling into moto's class."""
    for module in (group_actions, capacity_actions, member_actions, hooks, group_records, warm_pools):
        for action in module.ACTIONS:
            setattr(AutoScalingResponse, action.__name__, action)

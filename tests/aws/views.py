"""What Describe calls see: what is true now, or what was true some seconds ago, where the tests want stale answers."""

from __future__ import annotations

from typing import Any

from cells import Cell
from timeline import moment
from world import WORLD


def true_now(cell: Cell) -> dict[str, Any]:
    """All that Describe calls can ask for of a cell."""
    return {
        "instances": {name: machine.shown() for name, machine in cell.machines.items()},
        "targets": {arn: shown_targets(targets) for arn, targets in cell.targets.items()},
        "groups": {name: group.shown() for name, group in cell.groups.items()},
    }


def shown_targets(targets: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The targets of a group as answers have them."""
    return {name: target.shown() for name, target in targets.items()}


def take() -> None:
    """Keep what is true now, if it is not the same as before; and of what is too old only the newest, which is seen."""
    if not WORLD.stale:
        return
    view = {key: true_now(cell) for key, cell in WORLD.cells.items()}
    if not WORLD.views or WORLD.views[-1][1] != view:
        WORLD.views.append((moment(), view))
    limit = WORLD.now() - WORLD.stale
    while len(WORLD.views) > 1 and WORLD.views[1][0] <= limit:
        WORLD.views.pop(0)


def old(cell: Cell, part: str) -> dict[str, Any] | None:
    """A part of a cell as it was when stale answers have it; None where answers are fresh."""
    if not WORLD.stale or not WORLD.views:
        return None
    limit = WORLD.now() - WORLD.stale
    seen = [view for when, view in WORLD.views if when <= limit] or [WORLD.views[0][1]]
    return seen[-1].get((cell.account, cell.region), {}).get(part, {})


def seen_instances(cell: Cell) -> dict[str, dict[str, Any]]:
    """The instances, by id."""
    view = old(cell, "instances")
    return {name: machine.shown() for name, machine in cell.machines.items()} if view is None else view


def seen_targets(cell: Cell, arn: str) -> dict[str, dict[str, Any]]:
    """The targets of a target group, by id."""
    view = old(cell, "targets")
    return shown_targets(cell.targets.get(arn, {})) if view is None else view.get(arn, {})


def seen_groups(cell: Cell, names: list[str]) -> dict[str, dict[str, Any]]:
    """The Auto Scaling groups of these names, or all; by name, in the order of names."""
    view = old(cell, "groups")
    wanted = sorted(set(names) or set(cell.groups if view is None else view))
    if view is None:
        return {name: cell.groups[name].shown() for name in wanted if name in cell.groups}
    return {name: view[name] for name in wanted if name in view}

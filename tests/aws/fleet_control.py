"""What the tests say of instances, target groups and capacity, and what they see of groups: see endpoint.py."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from moto.ec2.models import ec2_backends
from moto.elbv2.models import elbv2_backends

import launch_templates
import target_actions
import targets
import views
from cells import Cell, cell_of
from groups import Group
from lifecycle import DIRTY
from machines import Machine
from timeline import after, moment
from world import DEFAULT_TIMES, WORLD, tags_of

# How an instance ends by itself.
KILLS = {
    "crash": ("Server.InternalError", "Server.InternalError: Internal error on launch"),
    "spot": ("Server.SpotInstanceTermination", "Server.SpotInstanceTermination: Spot instance termination"),
}


def machine_of(instance: str) -> Machine:
    """An instance of any account and region."""
    return next(cell.machines[instance] for cell in WORLD.cells.values() if instance in cell.machines)


def instances(given: dict[str, Any]) -> dict[str, Any]:
    """A target health to be shown, null to forget it; or the end of an instance."""
    instance = given["instance"]
    if "health" in given:
        if given["health"] is None:
            WORLD.health.pop(instance, None)
        elif given["health"] in targets.SAID:
            WORLD.health[instance] = given["health"]
        else:
            raise ValueError(f"no health {given['health']!r}")
        targets.settle_all()
    if given.get("kill"):
        machine_of(instance).finish(KILLS["crash" if given["kill"] is True else given["kill"]])
    return {"health": WORLD.health}


def capacity(given: dict[str, Any]) -> dict[str, Any]:
    """No capacity in a zone for some seconds, for one type or all; none of this any more for no seconds."""
    zone, kind, seconds = given["zone"], given.get("type"), float(given["until"])
    WORLD.shortages = [entry for entry in WORLD.shortages if entry[:2] != (zone, kind)]
    if seconds > 0:
        WORLD.shortages.append((zone, kind, moment() + seconds))
    wake_all()
    after(seconds, wake_all)
    return {"shortages": [list(entry) for entry in WORLD.shortages]}


def wake_all() -> None:
    """Have all groups look at what they need, and not wait after launches that failed."""
    for cell in WORLD.cells.values():
        for group in cell.groups.values():
            group.retry_at, group.failures = 0.0, 0
            DIRTY[group] = None


def boot(given: dict[str, Any]) -> dict[str, Any]:
    """Whether the instances of an image, or of a type, never become healthy."""
    marked = given["image"] if "image" in given else given["type"]
    (WORLD.bad.add if given["bad"] else WORLD.bad.discard)(marked)
    targets.settle_all()
    return {"bad": sorted(WORLD.bad)}


def times(given: dict[str, Any]) -> dict[str, Any]:
    """How long things take that begin from now on."""
    if unknown := set(given) - set(DEFAULT_TIMES):
        raise ValueError(f"no time {sorted(unknown)}")
    # A launch that fails all the time would be tried for ever at one moment.
    if any(float(seconds) < 0 for seconds in given.values()) or float(given.get("retry", 1)) < 0.1:
        raise ValueError("times cannot be negative, and a retry needs 0.1 s at least")
    WORLD.times |= {name: float(seconds) for name, seconds in given.items()}
    return dict(WORLD.times)


def stale(given: dict[str, Any]) -> dict[str, Any]:
    """How old the answers of Describe calls are; what was before this call is not seen."""
    WORLD.stale, WORLD.views = float(given["seconds"]), []
    views.take()
    return {"seconds": WORLD.stale}


def console(given: dict[str, Any]) -> dict[str, Any]:
    """What an instance has written to its console."""
    WORLD.consoles[machine_of(given["instance"]).id] = given["text"]
    return {}


def target_groups(given: dict[str, Any]) -> dict[str, Any]:
    """Whether a target group's targets are really asked, and whether it is in use whatever its listeners are."""
    unknown = set(given) - {"target_group", "probe", "in_use"}
    if unknown:
        raise ValueError(f"no member {sorted(unknown)}")
    backends = [backend for regions in elbv2_backends.values() for backend in regions.values()]
    wanted = given["target_group"]
    every = [(backend, group) for backend in backends for group in backend.target_groups.values()]
    backend, group = next(one for one in every if wanted in (one[1].arn, one[1].name))
    said = cell_of(backend).target_groups.setdefault(group.arn, {})
    said |= {name: given[name] for name in ("probe", "in_use") if name in given}
    for target in list(cell_of(backend).targets.get(group.arn, {}).values()):
        target.since = moment()
        target.settle()
        targets.check_later(target)
    return said


def log(query: str) -> list[dict[str, Any]]:
    """What happened, from the entry on that has the number `from`."""
    return WORLD.log[int(parse_qs(query).get("from", ["0"])[0]) :]


def state() -> dict[str, list[dict[str, Any]]]:
    """What a fleet is made of, of all accounts and regions."""
    cells = [cell_of(cloud) for regions in ec2_backends.values() for cloud in regions.values()]
    return {
        "groups": [state_of_group(group) for cell in cells for group in cell.groups.values()],
        "instances": [state_of_machine(cell, machine) for cell in cells for machine in cell.machines.values()],
        "templates": [entry for cell in cells for entry in launch_templates.state_of_templates(cell.ec2)],
        "target_groups": [entry for cell in cells for entry in target_actions.state_of_target_groups(cell.elbv2)],
        "security_groups": [
            {"id": group.id, "name": group.name, "tags": tags_of(cell.ec2, group.id), "rules": rules(group)}
            for cell in cells
            for groups in cell.ec2.groups.values()
            for group in groups.values()
            if group.name != "default"
        ],
    }


def rules(group: Any) -> list[dict[str, Any]]:
    """What a security group admits."""
    return [
        {"from": rule.from_port, "to": rule.to_port, "ranges": [rule.ip_range.get("CidrIp")]}
        for rule in group.ingress_rules
    ]


def state_of_group(group: Group) -> dict[str, Any]:
    """A group and its members."""
    return {
        "name": group.name,
        "region": group.cell.region,
        "min": group.least,
        "max": group.most,
        "desired": group.desired,
        "suspended": sorted(group.suspended),
        "tags": {key: value for key, (value, _) in group.tags.items()},
        "healthy_targets": len(group.healthy),
        "in_service": group.counts["InService"],
        "template": group.specification(),
        "members": [state_of_member(member) for member in group.members.values()],
        "warm": [state_of_member(member) for member in group.warm.values()],
        "hooks": sorted(group.hooks),
        "tags": {key: value for key, (value, _) in sorted(group.tags.items())},
        "refreshes": [refresh["Status"] for refresh in group.refreshes],
    }


def state_of_member(member: Any) -> dict[str, Any]:
    """A member of a group or of its warm pool."""
    return {
        "instance": member.id,
        "zone": member.zone,
        "state": member.state,
        "health": member.health,
        "protected": member.protected,
        "version": (member.template or {}).get("Version"),
        "image": member.machine.image_id,
        "waits": {name: wait.token for name, wait in member.waits.items()},
    }


def state_of_machine(cell: Cell, machine: Machine) -> dict[str, Any]:
    """An instance, whether it is in a group or not."""
    tags = tags_of(cell.ec2, machine.id)
    return {
        "id": machine.id,
        "region": cell.region,
        "zone": machine.availability_zone,
        "state": machine.state,
        "image": machine.image_id,
        "type": machine.instance_type,
        "lifecycle": machine.lifecycle,
        "private_ip": machine.private_ip,
        "group": tags.get("aws:autoscaling:groupName"),
        "client_token": machine.client_token,
        "user_data": None if machine.user_data is None else str(machine.user_data),
        "shutdown": machine.instance_initiated_shutdown_behavior,
        "tokens": machine.metadata_options.http_tokens,
        "volumes": [
            {"gib": volume.size, "encrypted": bool(volume.encrypted), "key": volume.kms_key_id}
            for volume in (cell.ec2.volumes.get(mapped.volume_id) for _, mapped in machine.get_block_device_mapping)
            if volume
        ],
        "security_groups": [group.id for nic in machine.nics.values() for group in nic.group_set],
        "tags": tags,
    }


ACTIONS = {
    "/control/instances": instances,
    "/control/capacity": capacity,
    "/control/boot": boot,
    "/control/times": times,
    "/control/stale": stale,
    "/control/console": console,
    "/control/target_groups": target_groups,
}

"""What one account has in one region: instances, targets and groups."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from moto.ec2.models import ec2_backends
from moto.elbv2.models import elbv2_backends

from timeline import moment
from world import WORLD


class Place(NamedTuple):
    """Where an instance is launched; without a subnet it is the zone's default one."""

    zone: str
    subnet: str | None


@dataclass
class Cell:
    """One account's part of a region."""

    account: str
    region: str
    # id -> machines.Machine; the terminated ones are kept for an hour.
    machines: dict[str, Any] = field(default_factory=dict)
    # ARN of a target group -> id -> targets.Target
    targets: dict[str, dict[str, Any]] = field(default_factory=dict)
    # ARN of a target group -> whether a listener sends requests to it
    used: dict[str, bool] = field(default_factory=dict)
    # name -> groups.Group
    groups: dict[str, Any] = field(default_factory=dict)
    # What the tests say of target groups: ARN -> {"probe": …, "in_use": …}
    target_groups: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def ec2(self) -> Any:
        """moto's EC2 back end."""
        return ec2_backends[self.account][self.region]

    @property
    def elbv2(self) -> Any:
        """moto's back end of load balancers."""
        return elbv2_backends[self.account][self.region]

    def zone_id(self, zone: str) -> str | None:
        """The id of a zone, which names the same place in all accounts."""
        found = self.ec2.describe_availability_zones(zone_names=[zone])
        return found[0].zone_id if found else None

    def group_of(self, instance: str) -> Any:
        """The group that an instance is a member of, or in whose warm pool it is."""
        machine = self.machines.get(instance)
        return None if machine is None or machine.member is None else machine.member.group


def cell_of(backend: Any) -> Cell:
    """The cell of a back end of moto's, of whatever service."""
    key = (backend.account_id, backend.region_name)
    if key not in WORLD.cells:
        WORLD.cells[key] = Cell(*key)
    return WORLD.cells[key]


def lacks(zone: str, kind: str) -> bool:
    """Whether a zone has no capacity for an instance type now."""
    return any(
        place == zone and of in (None, kind) and moment() < until for place, of, until in WORLD.shortages
    )

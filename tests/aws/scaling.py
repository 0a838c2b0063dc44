"""What a group does by itself: replace the unhealthy, launch what is missing, terminate what is too much, rebalance.

Everything happens when something has changed, not at intervals. AWS takes seconds to minutes for each step, and does
not replace all unhealthy members at once; that is not modelled.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from moto.core.exceptions import ServiceException

import warm_pools
from cells import Place
from groups import COUNTED, Group, Member
from launching import failed, has_capacity, kind_of, postpone, start
from lifecycle import DIRTY, leave, suspect
from machines import shortage
from timeline import at, moment


def settle() -> None:
    """Let all groups do what they have to, until none has to do anything."""
    while DIRTY:
        group = next(iter(DIRTY))
        del DIRTY[group]
        if group.cell.groups.get(group.name) is group:
            reconcile(group)


def reconcile(group: Group) -> None:
    """Do what a group has to do now."""
    for member in list(group.suspects.values()):
        judge(member)
    group.suspects.clear()
    missing = group.desired - group.size()
    if missing > 0:
        scale_out(group, missing)
    else:
        scale_in(group)
        rebalance(group)
    warm_pools.fill(group)


def judge(member: Member) -> None:
    """Decide whether a member is healthy, and replace it if it is not."""
    group = member.group
    if member.state not in COUNTED or member.id not in group.members:
        return
    if group.runs("HealthCheck"):
        health = "Unhealthy" if member.condemned or ailment(member) else "Healthy"
        if health != member.health:
            member.health = health
            group.note("health", member.id, state=health)
    if member.health == "Unhealthy" and group.runs("ReplaceUnhealthy", "Terminate"):
        reason = ailment(member) or "a user health-check"
        leave(member, f"an instance was taken out of service in response to {reason}.")


def ailment(member: Member) -> str | None:
    """What is wrong with a member. An instance that does not run has no grace."""
    group = member.group
    if member.machine.state not in ("pending", "running"):
        return f"an EC2 health check indicating it has been terminated or stopped ({member.machine.state})"
    if member.state != "InService" or "ELB" not in str(group.settings["HealthCheckType"]).split(","):
        return None
    known = [group.cell.targets.get(arn, {}).get(member.id) for arn in group.sources]
    if not any(target is not None and target.state == "unhealthy" for target in known):
        return None
    if moment() < grace_end(member):
        at(grace_end(member), lambda: suspect(member))
        return None
    return "an ELB system health check failure"


def grace_end(member: Member) -> float:
    """Until when a member's health is not checked; before it serves that is not known."""
    since = moment() if member.serving_since is None else member.serving_since
    return since + float(member.group.settings["HealthCheckGracePeriod"])


def zone_counts(group: Group, states: tuple[str, ...] = COUNTED) -> Counter[str]:
    """The members that count in each zone."""
    counts: Counter[str] = Counter({place.zone: 0 for place in group.places()})
    counts.update(member.zone for member in group.members.values() if member.state in states)
    return counts


def emptiest(places: list[Place], counts: Counter[str]) -> Place:
    """Where to launch next: in the zone with the fewest, the first of them by name."""
    return min(places, key=lambda place: (counts[place.zone], place.zone))


def scale_out(group: Group, missing: int) -> None:
    """Launch what is missing. Where one zone has no capacity another one is tried, and the failure is recorded."""
    if not group.runs("Launch") or moment() < group.retry_at or group.deleting:
        return
    size = group.size()
    cause = (
        "an instance was started in response to a difference between desired and actual capacity, "
        f"increasing the capacity from {size} to {size + missing}."
    )
    counts, places = zone_counts(group), group.places()
    usable = [place for place in places if has_capacity(group, place)]
    preferred = emptiest(places, counts)
    if preferred not in usable:
        failed(group, preferred, cause, shortage(preferred.zone, kind_of(group, group.overrides()[0]) or ""))
    if not usable:
        postpone(group)
        return
    wanted: Counter[Place] = Counter()
    weight = int(group.overrides()[0].get("WeightedCapacity") or 1)
    for _ in range(0, missing, weight):
        place = emptiest(usable, counts)
        wanted[place] += 1
        counts[place.zone] += 1
    for place in sorted(wanted, key=lambda place: place.zone):
        try:
            count = wanted[place] - warm_pools.take(group, place, wanted[place], cause)
            if count:
                start(group, place, count, cause)
        except ServiceException as error:
            failed(group, place, cause, error)
            postpone(group)
            return
    group.failures = 0


def scale_in(group: Group) -> None:
    """Terminate what is too much. Only members in service are chosen, so what is on its way in is waited for."""
    if not group.runs("Terminate"):
        return
    serving = [member for member in group.members.values() if member.state == "InService"]
    excess = sum(member.weight for member in serving) - group.desired
    if excess <= 0:
        return
    counts, size = zone_counts(group, ("InService",)), group.size()
    cause = (
        "an instance was taken out of service in response to a difference between desired and actual capacity, "
        f"shrinking the capacity from {size} to {group.desired}."
    )
    order = sorted((member for member in serving if not member.protected), key=lambda one: seniority(group, one))
    while order:
        fullest = max(counts[member.zone] for member in order)
        victim = next(member for member in order if counts[member.zone] == fullest)
        order.remove(victim)
        if victim.weight > excess:
            continue
        excess -= victim.weight
        counts[victim.zone] -= 1
        leave(victim, cause)
        if excess <= 0:
            return


def seniority(group: Group, member: Member) -> tuple[Any, ...]:
    """In which order members are terminated by the group's first policy: by default those of another template or of an
    older version go first, and of the same version the older ones."""
    policy = group.settings["TerminationPolicies"][0]
    template = member.template or {}
    specification = group.specification() or {}
    current = template.get("LaunchTemplateId") == specification.get("LaunchTemplateId")
    age = (member.born, member.id)
    if policy == "OldestInstance":
        return age
    if policy == "NewestInstance":
        return (-member.born, member.id)
    return (current, int(template.get("Version", 0)), *age)


def rebalance(group: Group) -> None:
    """Launch in a zone that has two members less than another; what is too much then is terminated there."""
    if group.busy() or group.deleting or not group.runs("AZRebalance", "Launch", "Terminate"):
        return
    if moment() < group.retry_at or group.size() != group.desired:
        return
    counts = zone_counts(group)
    places = [place for place in group.places() if has_capacity(group, place)]
    if not places or max(counts.values()) - counts[emptiest(places, counts).zone] < 2:
        return
    place = emptiest(places, counts)
    cause = (
        f"an instance was launched to aid in balancing the group's zones: {place.zone} has {counts[place.zone]} "
        f"of {group.size()}."
    )
    try:
        start(group, place, 1, cause)
    except ServiceException as error:
        failed(group, place, cause, error)
        postpone(group)

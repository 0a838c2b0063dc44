"""A member's way into service and out of it: hooks, target groups, standby, detaching.

    Pending -> [Pending:Wait -> Pending:Proceed] -> InService
    Terminating -> [Terminating:Wait -> Terminating:Proceed] -> gone
    EnteringStandby -> Standby -> Pending -> InService
    Detaching -> gone, and the instance runs on
"""

from __future__ import annotations

from collections.abc import Callable

from activities import Activity
from groups import Group, Hook, Member, Wait
from machines import LISTENERS as MACHINE_LISTENERS
from machines import Machine
from targets import LISTENERS as TARGET_LISTENERS
from targets import Target, deregister, register
from timeline import after, at, moment
from world import WORLD

LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"
TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
# Groups which may have to launch or terminate something; kept in the order in which that came up.
DIRTY: dict[Group, None] = {}


def suspect(member: Member) -> None:
    """Have a member's health looked at, and what its group needs."""
    member.group.suspects[member.id] = member
    DIRTY[member.group] = None


def booted(member: Member) -> None:
    """The instance runs: wait for what the hooks' users have to do, then serve."""
    hold(member, LAUNCHING, "Pending:Wait", lambda: serve(member))


def hold(member: Member, transition: str, state: str, done: Callable[[], None]) -> None:
    """Wait for all hooks of a transition, if there are any."""
    hooks = [hook for hook in member.group.hooks.values() if hook.transition == transition]
    if not hooks:
        done()
        return
    member.move(state)
    if member.activity:
        member.activity.step("MidLifecycleAction", 60)
    for hook in hooks:
        expect(member, hook)


def expect(member: Member, hook: Hook) -> None:
    """Begin to wait for a hook's user."""
    wait = member.waits[hook.name] = Wait(hook, moment() + hook.timeout)
    watch(member, wait)


def watch(member: Member, wait: Wait) -> None:
    """End the wait with the hook's default result once its time is over; heartbeats move that on."""

    def look() -> None:
        if member.waits.get(wait.hook.name) is not wait:
            return
        if moment() < wait.deadline:
            watch(member, wait)
        else:
            resolve(member, wait.hook.name, wait.hook.result)

    at(wait.deadline, look)


def resolve(member: Member, hook: str, result: str) -> None:
    """A hook's user is done, or its time is over. An instance that is abandoned on its way in is terminated."""
    del member.waits[hook]
    if result == "ABANDON":
        member.waits.clear()
        if member.state == "Pending:Wait":
            leave(member, "an instance was abandoned by a lifecycle hook", hooks=False)
            return
    if not member.waits:
        launching = member.state == "Pending:Wait"
        member.move("Pending:Proceed" if launching else "Terminating:Proceed")
        member.later(WORLD.times["proceed"], lambda: serve(member) if launching else end(member))


def serve(member: Member) -> None:
    """Come into service, and get requests."""
    group = member.group
    member.serving_since = moment()
    member.move("InService")
    if group.runs("AddToLoadBalancer"):
        for arn in group.sources:
            join(member, arn)
    member.end_activity()
    group.cooldown_until = moment() + float(group.settings["DefaultCooldown"])
    suspect(member)


def join(member: Member, arn: str) -> None:
    """Get requests from a target group, if it is still there."""
    found = member.group.cell.elbv2.target_groups.get(arn)
    if found is not None and member.machine.state == "running":
        register(member.group.cell, arn, member.id, int(found.port))
    member.group.recount(member)


def part(member: Member, sources: list[str]) -> float:
    """Get no requests any more; returns when the last target is drained."""
    drained = [deregister(member.group.cell, arn, member.id) for arn in sources]
    member.group.recount(member)
    # Nobody waits for the requests to an instance that does not run (assumed).
    return max(drained, default=moment()) if member.machine.state == "running" else moment()


def depart(member: Member, state: str, done: Callable[[], None]) -> None:
    """Go out of service by way of a state that lasts until the targets are drained."""
    member.waits.clear()
    member.move(state)
    drained = part(member, member.group.sources)
    if drained > moment():
        if member.activity:
            member.activity.step("WaitingForELBConnectionDraining", 50)
        member.later(drained - moment(), done)
    else:
        done()
    DIRTY[member.group] = None


def leave(member: Member, cause: str, hooks: bool = True) -> Activity:
    """Be terminated, if that has not begun yet. What began before is cancelled."""
    if member.state.startswith("Terminating") and member.activity:
        return member.activity
    activity = member.start_activity(f"Terminating EC2 instance: {member.id}", cause)

    def drained() -> None:
        if hooks:
            hold(member, TERMINATING, "Terminating:Wait", lambda: end(member))
        else:
            end(member)

    depart(member, "Terminating", drained)
    return activity


def end(member: Member) -> None:
    """Be no member any more, and shut down."""
    group = member.group
    group.remove(member, "Terminated")
    member.machine.finish()
    member.end_activity()
    group.cooldown_until = moment() + float(group.settings["DefaultCooldown"])
    DIRTY[group] = None


def stand_by(member: Member) -> None:
    """Go into standby."""

    def done() -> None:
        member.move("Standby")
        member.end_activity()

    depart(member, "EnteringStandby", done)


def come_back(member: Member) -> None:
    """Come back from standby, or come from outside; no hook has a say in it."""
    member.move("Pending")
    member.later(WORLD.times["proceed"], lambda: serve(member))


def detach(member: Member) -> None:
    """Go, and run on."""

    def done() -> None:
        group = member.group
        group.remove(member, "Detached")
        group.cell.ec2.tags[member.id].pop("aws:autoscaling:groupName", None)
        member.end_activity()
        DIRTY[group] = None

    depart(member, "Detaching", done)


def machine_changed(machine: Machine) -> None:
    """An instance boots, or ends without its group's doing."""
    member = machine.member
    if member is None:
        return
    if machine.state == "running" and member.state == "Pending" and member.serving_since is None:
        booted(member)
    member.group.recount(member)
    if machine.state not in ("pending", "running"):
        suspect(member)


def target_changed(target: Target) -> None:
    """A member's health in a target group is another."""
    machine = target.cell.machines.get(target.id)
    member = machine.member if machine else None
    if member is None:
        return
    member.group.recount(member)
    if member.state == "InService":
        suspect(member)


def forget_group(group: Group, at_once: bool) -> None:
    """Nothing is left of a group: at once, or when its last instances have ended."""

    def gone() -> None:
        group.cell.groups.pop(group.name, None)
        group.note("group", state="deleted")

    if at_once:
        gone()
    else:
        after(WORLD.times["terminate"], gone)


MACHINE_LISTENERS.append(machine_changed)
TARGET_LISTENERS.append(target_changed)

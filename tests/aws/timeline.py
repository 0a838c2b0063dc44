"""What is due when, in the order of time however the tests move the clock, and the log of what happened.

Nothing runs by itself: everything that is due is done before the next request is answered, each thing at its own
moment, so that a chain of them takes as long as it should even when the clock has jumped over all of it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from world import WORLD


def moment() -> float:
    """The time of what is being done: that at which it was due, or that of the request."""
    return WORLD.now() if WORLD.moment is None else WORLD.moment


def at(when: float, action: Callable[[], None]) -> None:
    """Do something at a time; what is due at the same time is done in the order in which it was said."""
    heapq.heappush(WORLD.due, (max(when, moment()), next_number(), action))


def after(seconds: float, action: Callable[[], None]) -> None:
    """Do something after some seconds."""
    at(moment() + seconds, action)


def next_number() -> int:
    """Numbers that only grow: the due things of one time must not be compared themselves."""
    WORLD.numbers += 1
    return WORLD.numbers


def catch_up(settle: Callable[[], None]) -> None:
    """Do all that is due by now. `settle` is called after the things of each time, at that time."""
    now = WORLD.now()
    try:
        while WORLD.due and WORLD.due[0][0] <= now:
            WORLD.moment = WORLD.due[0][0]
            while WORLD.due and WORLD.due[0][0] <= WORLD.moment:
                heapq.heappop(WORLD.due)[2]()
            settle()
    finally:
        WORLD.moment = None


def note(event: str, **more: Any) -> None:
    """Add to the log. Who did it is the API call's name, or nothing where AWS did it by itself."""
    WORLD.log.append({"at": moment(), "event": event, "by": WORLD.actor} | more)


def written(when: float) -> str:
    """A time as AWS writes it in texts."""
    return datetime.fromtimestamp(when, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def date(when: float | None) -> datetime | None:
    """A time as answers have it."""
    return None if when is None else datetime.fromtimestamp(when, timezone.utc)

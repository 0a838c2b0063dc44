"""Scaling activities: what a group did, why, and what came of it. moto has none."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from timeline import date, moment, written


@dataclass(eq=False)
class Activity:
    """One launch or termination, or one change of an instance's part in the group."""

    group: str
    arn: str
    description: str
    cause: str
    details: str
    status: str = "InProgress"
    message: str | None = None
    progress: int = 0
    began: float = field(default_factory=moment)
    ended: float | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def step(self, status: str, progress: int) -> None:
        """Go on to another status."""
        self.status, self.progress = status, progress

    def end(self, status: str = "Successful", message: str | None = None) -> None:
        """Be over, one way or the other."""
        self.status, self.message, self.progress, self.ended = status, message, 100, moment()

    def shown(self) -> dict[str, Any]:
        """The activity as answers have it."""
        return {
            "ActivityId": self.id,
            "AutoScalingGroupName": self.group,
            "AutoScalingGroupARN": self.arn,
            "Description": self.description,
            "Cause": self.cause,
            "StartTime": date(self.began),
            "EndTime": date(self.ended),
            "StatusCode": self.status,
            "StatusMessage": self.message,
            "Progress": self.progress,
            "Details": self.details,
        }


def begin(group: Any, description: str, cause: str, zone: str = "", subnet: str | None = None) -> Activity:
    """A new activity of a group."""
    place = {"Subnet ID": subnet, "Availability Zone": zone} if zone else {}
    cause = f"At {written(moment())} {cause}"
    activity = Activity(group.name, group.arn, description, cause, json.dumps(place))
    group.activities.append(activity)
    return activity

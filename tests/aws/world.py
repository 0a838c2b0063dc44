"""What every correction shares: the clock, the number of looks, errors, and the snapshot model."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from moto.core.exceptions import ServiceException
from moto.ec2.models import ec2_backends
from moto.ec2.models.elastic_block_store import Snapshot as MotoSnapshot
from moto.ec2.utils import random_snapshot_id, simple_aws_filter_to_re

# EBS direct knows one block size; it is named in every answer and a client must not assume another.
BLOCK_SIZE = 512 * 1024
BLOCKS_PER_GIB = 1024**3 // BLOCK_SIZE
# How often a fresh resource is seen `pending`: at least two, so that a client which looks only once
# more after its first look is caught too.
DEFAULT_LOOKS = 2
# EC2 shows this volume id for snapshots which were not made from a volume.
NO_VOLUME = "vol-ffffffff"
# The account's AWS managed key for EBS: any fixed key id does, but it must be told from customer keys.
DEFAULT_KEY_ID = "00000000-0000-4000-8000-0000000000eb"
# How many seconds things take: an instance's boot and its end, a target's first health checks, the way out of a
# lifecycle hook, and the wait after a failed launch, which doubles. AWS takes minutes; the tests set what they need.
DEFAULT_TIMES = {"boot": 0.2, "terminate": 0.1, "initial": 0.1, "proceed": 0.05, "retry": 1.0}


class World:
    """State which moto's back ends have no place for; forgotten by a reset."""

    def __init__(self) -> None:
        self.looks = DEFAULT_LOOKS
        self.clock_offset = 0.0
        # (service, account, region, client token) -> (parameters, answer)
        self.tokens: dict[tuple[str, ...], tuple[Any, Any]] = {}
        # (account, region) -> versions of SSM parameters which are not validated yet
        self.parameters: dict[tuple[str, str], list[Any]] = {}
        # What the tests say of logins: see access.py.
        self.access: dict[str, Any] = {}
        # How long things take, what is due, the moment of what is being done, and all that happened: see timeline.py.
        self.times = dict(DEFAULT_TIMES)
        self.due: list[tuple[float, int, Callable[[], None]]] = []
        self.moment: float | None = None
        self.numbers = 0
        self.actor = ""
        self.log: list[dict[str, Any]] = []
        # (account, region) -> instances, targets and groups: see cells.py.
        self.cells: dict[tuple[str, str], Any] = {}
        # What the tests break: see fleet_control.py.
        self.health: dict[str, str] = {}
        self.shortages: list[tuple[str, str | None, float]] = []
        # Images and types of instances.
        self.bad: set[str] = set()
        self.consoles: dict[str, str] = {}
        # instance -> the file that is its root disk: see disks.py.
        self.disks: dict[str, str] = {}
        # How old the answers of Describe calls are, and what was true when: see views.py.
        self.stale = 0.0
        self.views: list[tuple[float, Any]] = []
        # Block tokens of an earlier world must not be valid in this one.
        self.secret = uuid.uuid4().hex

    def now(self) -> float:
        """The time as the tests moved it, in seconds since the epoch."""
        return time.time() + self.clock_offset


WORLD = World()


class AwsError(ServiceException):
    """An error with the code that AWS answers; moto brings it into the service's wire format."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)


@dataclass
class Block:
    """One block of a snapshot; shared by its copies and children, for their content is the same."""

    digest: bytes
    data: bytes = field(repr=False)


class Snapshot(MotoSnapshot):
    """An EC2 snapshot with content, which takes its time to become `completed`."""

    # moto's metaclass takes the service from the second part of the module's name.
    __module__ = "moto.ec2"

    def __init__(
        self,
        backend: Any,
        size: int,
        description: str | None,
        *,
        inherited: dict[int, Block] | None = None,
        parent: Snapshot | None = None,
        kms_key_id: str | None = None,
        timeout_minutes: int | None = None,
    ) -> None:
        volume = SimpleNamespace(id=NO_VOLUME, size=size)
        super().__init__(backend, random_snapshot_id(), volume, description or "", kms_key_id=kms_key_id)
        self.status = "pending"
        self.state_message: str | None = None
        self.parent_id = parent.id if parent else None
        # Only snapshots of one lineage can be compared by ListChangedBlocks.
        self.lineage: str = parent.lineage if parent else self.id
        self.inherited = inherited or {}
        self.own: dict[int, Block] = {}
        # A snapshot with a time-out is being written through EBS direct; others are complete in content.
        self.timeout_minutes = timeout_minutes
        self.sealed = timeout_minutes is None
        self.looks_left = WORLD.looks
        self.touch()
        if self.sealed:
            self.seal()

    @property
    def blocks(self) -> dict[int, Block]:
        """All content: what the parent had, overlaid by what was written."""
        return {**self.inherited, **self.own}

    def touch(self) -> None:
        """The time-out counts from the last write, not from the start."""
        self.last_write = WORLD.now()

    def seal(self) -> None:
        """The content is final; the state follows after some looks."""
        self.sealed = True
        self.looks_left = WORLD.looks
        if self.looks_left == 0:
            self.status = "completed"

    def complete(self) -> None:
        """Become `completed` whatever looks are left: an image which is available has complete snapshots."""
        if self.status == "pending" and self.sealed:
            self.status = "completed"

    def expire(self) -> None:
        """AWS gives up a snapshot which nobody writes to or completes any more."""
        if self.status == "pending" and not self.sealed and self.timeout_minutes is not None:
            if WORLD.now() >= self.last_write + self.timeout_minutes * 60:
                self.status = "error"
                self.state_message = "The snapshot was not completed within its timeout"

    def look(self) -> str:
        """The state to show now; each look at a sealed pending snapshot brings it nearer to `completed`."""
        self.expire()
        if self.status == "pending" and self.sealed:
            if self.looks_left == 0:
                self.status = "completed"
            else:
                self.looks_left -= 1
        return self.status


def backend_of(account: str, region: str) -> Any:
    """moto's EC2 back end of an account and region."""
    return ec2_backends[account][region]


def default_key(account: str, region: str) -> str:
    """The ARN of the AWS managed key, which encrypts where no key is named."""
    return f"arn:aws:kms:{region}:{account}:key/{DEFAULT_KEY_ID}"


def key_arn(account: str, region: str, key: str | None) -> str:
    """EC2 takes a key's id, alias or ARN, and always shows an ARN."""
    if not key:
        return default_key(account, region)
    if key.startswith("arn:"):
        return key
    return f"arn:aws:kms:{region}:{account}:" + (key if key.startswith("alias/") else f"key/{key}")


def tags_of(backend: Any, resource: str) -> dict[str, str]:
    """The tags of a resource, read without moto's search through the tags of all resources."""
    return dict(backend.tags.get(resource, {}))


def tag_list(backend: Any, resource: str) -> list[dict[str, str]]:
    """Tags as AWS answers have them."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags_of(backend, resource).items())]


def specified_tags(specifications: list[dict[str, Any]] | None, allowed: set[str]) -> dict[str, dict[str, str]]:
    """TagSpecifications by resource type; a type the action does not create is refused."""
    found: dict[str, dict[str, str]] = {kind: {} for kind in allowed}
    for specification in specifications or []:
        kind = specification.get("ResourceType")
        if kind not in allowed:
            raise AwsError(
                "InvalidParameterValue",
                f"'{kind}' is not a valid taggable resource type for this operation.",
            )
        for tag in specification.get("Tags", []):
            if tag["Key"].startswith("aws:"):
                raise AwsError("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved")
            found[kind][tag["Key"]] = tag.get("Value", "")
    return found


def matches(patterns: list[str], values: list[str]) -> bool:
    """Whether one of the values fits one of the filter's values, wildcards included."""
    return any(re.match(simple_aws_filter_to_re(pattern), value) for pattern in patterns for value in values)


def tag_filter(name: str, tags: dict[str, str]) -> list[str] | None:
    """The values of a tag filter, or None if the filter is not about tags."""
    if name.startswith("tag:"):
        key = name.removeprefix("tag:")
        return [tags[key]] if key in tags else []
    if name == "tag-key":
        return list(tags)
    if name == "tag-value":
        return list(tags.values())
    return None


def text(value: Any) -> str:
    """A filter's form of a value: booleans are lower case in AWS."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def remembered(key: tuple[str, ...], parameters: Any, mismatch: Exception) -> Any:
    """The answer given before to this client token, None if it is new; another request is refused."""
    if key not in WORLD.tokens:
        return None
    known, answer = WORLD.tokens[key]
    if known != parameters:
        raise mismatch
    return answer

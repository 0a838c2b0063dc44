"""The EBS direct API. moto's own checks nothing, so it is replaced, not patched."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from typing import Any
from urllib.parse import parse_qs

from world import BLOCK_SIZE, BLOCKS_PER_GIB, WORLD, Block, Snapshot, backend_of, default_key, remembered

# The bounds are those of the service model and the user guide.
MAX_VOLUME_GIB = 64 * 1024
MAX_TAGS = 50
MAX_DESCRIPTION = 255
MAX_CLIENT_TOKEN = 64
TIMEOUT_MINUTES = range(10, 4320 + 1)
DEFAULT_TIMEOUT_MINUTES = 60
PAGE = range(100, 10000 + 1)
# Block tokens are valid for seven days.
TOKEN_LIFE_SECONDS = 7 * 24 * 3600

# The status codes of the service model's errors.
STATUS = {"ValidationException": 400, "ResourceNotFoundException": 404, "ConflictException": 409}

Answer = tuple[int, dict[str, str], bytes]


class EbsError(Exception):
    """An error of the service model, with its reason."""

    def __init__(self, code: str, reason: str | None, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message

    def answer(self) -> Answer:
        """The error in the wire format of rest-json."""
        body = {"Message": self.message} | ({"Reason": self.reason} if self.reason else {})
        headers = {"Content-Type": "application/json", "x-amzn-ErrorType": self.code}
        return STATUS[self.code], headers, json.dumps(body).encode()


def invalid(reason: str, message: str) -> EbsError:
    """A ValidationException."""
    return EbsError("ValidationException", reason, message)


def missing(message: str, reason: str = "SNAPSHOT_NOT_FOUND") -> EbsError:
    """A ResourceNotFoundException."""
    return EbsError("ResourceNotFoundException", reason, message)


def number(value: str | None, name: str) -> int:
    """A whole number of a header, path or query."""
    try:
        result = int(value or "")
    except ValueError:
        raise invalid("INVALID_PARAMETER_VALUE", f"{name} must be a whole number") from None
    if result < 0:
        raise invalid("INVALID_PARAMETER_VALUE", f"{name} must not be negative")
    return result


def encoded(digest: bytes) -> str:
    """A digest as the API writes it."""
    return base64.b64encode(digest).decode()


class Ebs:
    """One request to EBS direct, of an account in a region."""

    def __init__(
        self, account: str, region: str, headers: dict[str, str], query: str, body: bytes, digest: bytes
    ) -> None:
        self.account, self.region = account, region
        self.backend = backend_of(account, region)
        self.headers, self.body, self.digest = headers, body, digest
        self.query = {name: values[0] for name, values in parse_qs(query).items()}

    def find(self, snapshot_id: str) -> Snapshot:
        """A snapshot by its id, its time-out taken into account."""
        if not re.fullmatch("snap-[0-9a-f]{1,59}", snapshot_id):
            raise invalid("INVALID_SNAPSHOT_ID", f"The snapshot id '{snapshot_id}' is not valid")
        snapshot = self.backend.snapshots.get(snapshot_id)
        if not isinstance(snapshot, Snapshot):
            raise missing(f"The snapshot '{snapshot_id}' does not exist.")
        snapshot.expire()
        return snapshot

    def writable(self, snapshot_id: str) -> Snapshot:
        """A snapshot which can still be written."""
        snapshot = self.find(snapshot_id)
        if snapshot.sealed or snapshot.status != "pending":
            raise invalid("INVALID_SNAPSHOT_ID", f"The snapshot '{snapshot_id}' is not pending")
        return snapshot

    def readable(self, snapshot_id: str) -> Snapshot:
        """EBS direct reads a snapshot only when it is completed."""
        snapshot = self.find(snapshot_id)
        if snapshot.status != "completed":
            raise invalid("INVALID_SNAPSHOT_ID", f"The snapshot '{snapshot_id}' is not completed")
        return snapshot

    # Writing

    def start(self) -> Answer:
        """StartSnapshot."""
        try:
            given = json.loads(self.body or b"{}")
        except ValueError:
            raise invalid("INVALID_PARAMETER_VALUE", "The body is not JSON") from None
        token = given.pop("ClientToken", None)
        parameters = dict(given, Tags=sorted(given.get("Tags") or [], key=json.dumps))
        key = ("ebs", self.account, self.region, token or "")
        if token is not None:
            if not 1 <= len(token) <= MAX_CLIENT_TOKEN:
                raise invalid("INVALID_PARAMETER_VALUE", f"ClientToken is longer than {MAX_CLIENT_TOKEN} characters")
            conflict = EbsError("ConflictException", None, "The client token was used with other parameters")
            # The original answer is given even if the snapshot is no more: that is what the guide promises.
            if answer := remembered(key, parameters, conflict):
                return answer
        snapshot = self.create(given)
        result = {
            "SnapshotId": snapshot.id,
            "OwnerId": self.account,
            "Status": "pending",
            "StartTime": int(WORLD.now()),
            "VolumeSize": snapshot.volume_size,
            "BlockSize": BLOCK_SIZE,
            "Tags": given.get("Tags") or [],
            "SseType": "sse-kms" if snapshot.encrypted else "sse-ebs",
        }
        optional = {
            "Description": given.get("Description"),
            "ParentSnapshotId": snapshot.parent_id,
            "KmsKeyArn": snapshot.kms_key_id,
        }
        result |= {name: value for name, value in optional.items() if value}
        answer = json_answer(201, result)
        if token is not None:
            WORLD.tokens[key] = (parameters, answer)
        return answer

    def create(self, given: dict[str, Any]) -> Snapshot:
        """Check StartSnapshot's parameters and make the snapshot."""
        size, parent_id, timeout = given.get("VolumeSize"), given.get("ParentSnapshotId"), given.get("Timeout")
        if not isinstance(size, int) or not 1 <= size <= MAX_VOLUME_GIB:
            raise invalid("INVALID_VOLUME_SIZE", f"VolumeSize must be between 1 and {MAX_VOLUME_GIB} GiB")
        if timeout is not None and timeout not in TIMEOUT_MINUTES:
            raise invalid("INVALID_PARAMETER_VALUE", "Timeout must be between 10 and 4320 minutes")
        if len(given.get("Description") or "") > MAX_DESCRIPTION:
            raise invalid("INVALID_PARAMETER_VALUE", f"Description is longer than {MAX_DESCRIPTION} characters")
        encrypted, kms_key = given.get("Encrypted"), given.get("KmsKeyArn")
        if kms_key and not encrypted:
            raise invalid("INVALID_PARAMETER_VALUE", "KmsKeyArn requires Encrypted")
        if kms_key and not re.fullmatch(rf"arn:aws[a-z-]*:kms:{self.region}:\d{{12}}:key/.+", kms_key):
            raise invalid("INVALID_CUSTOMER_KEY", f"KmsKeyArn is not a key of {self.region}")
        tags = {tag["Key"]: tag.get("Value", "") for tag in given.get("Tags") or []}
        if len(tags) != len(given.get("Tags") or []) or len(tags) > MAX_TAGS:
            raise invalid("INVALID_TAG", "Tags are doubled or too many")
        if any(name.startswith("aws:") for name in tags):
            raise invalid("INVALID_TAG", "Tag keys starting with 'aws:' are reserved")
        parent = None
        if parent_id is not None:
            # In one request they contradict each other: the child always takes its parent's encryption.
            if encrypted is not None or kms_key:
                raise invalid("INVALID_PARAMETER_VALUE", "ParentSnapshotId excludes Encrypted and KmsKeyArn")
            parent = self.readable(parent_id)
            if size < parent.volume_size:
                raise invalid("INVALID_VOLUME_SIZE", "VolumeSize is smaller than that of the parent")
            kms_key = parent.kms_key_id
        elif encrypted:
            kms_key = kms_key or default_key(self.account, self.region)
        snapshot = Snapshot(
            self.backend,
            size,
            given.get("Description"),
            inherited=parent.blocks if parent else None,
            parent=parent,
            kms_key_id=kms_key,
            timeout_minutes=timeout or DEFAULT_TIMEOUT_MINUTES,
        )
        self.backend.snapshots[snapshot.id] = snapshot
        if tags:
            self.backend.tags[snapshot.id].update(tags)
        return snapshot

    def put(self, snapshot_id: str, block_index: str) -> Answer:
        """PutSnapshotBlock."""
        snapshot = self.writable(snapshot_id)
        index = number(block_index, "BlockIndex")
        length = number(self.headers.get("x-amz-data-length"), "DataLength")
        if index >= snapshot.volume_size * BLOCKS_PER_GIB:
            raise invalid("INVALID_BLOCK", f"BlockIndex {index} is beyond the volume")
        if length != BLOCK_SIZE or len(self.body) != length:
            raise invalid("INVALID_BLOCK", f"DataLength {length}, {len(self.body)} bytes: must be {BLOCK_SIZE}")
        if self.headers.get("x-amz-checksum-algorithm") != "SHA256":
            raise invalid("INVALID_PARAMETER_VALUE", "ChecksumAlgorithm must be SHA256")
        if (progress := self.headers.get("x-amz-progress")) and number(progress, "Progress") > 100:
            raise invalid("INVALID_PARAMETER_VALUE", "Progress must be at most 100")
        if self.headers.get("x-amz-checksum") != encoded(self.digest):
            raise invalid("INVALID_PARAMETER_VALUE", "Checksum does not fit the block data")
        known = snapshot.own.get(index)
        if known and known.digest != self.digest:
            raise invalid("CONFLICTING_BLOCK_UPDATE", f"Block {index} was written with other data")
        if not known:
            snapshot.own[index] = Block(self.digest, self.body)
        snapshot.touch()
        return 201, checksum_headers(self.digest), b""

    def complete(self, snapshot_id: str) -> Answer:
        """CompleteSnapshot."""
        snapshot = self.find(snapshot_id)
        if snapshot.status == "error" or snapshot.timeout_minutes is None:
            raise invalid("INVALID_SNAPSHOT_ID", f"The snapshot '{snapshot_id}' is not pending")
        count = number(self.headers.get("x-amz-changedblockscount"), "ChangedBlocksCount")
        if count != len(snapshot.own):
            raise invalid("INVALID_PARAMETER_VALUE", f"ChangedBlocksCount is {count}, written were {len(snapshot.own)}")
        checksum = self.headers.get("x-amz-checksum")
        method = self.headers.get("x-amz-checksum-aggregation-method")
        algorithm = self.headers.get("x-amz-checksum-algorithm")
        if method not in (None, "LINEAR") or algorithm not in (None, "SHA256"):
            raise invalid("INVALID_PARAMETER_VALUE", "Only SHA256 and LINEAR are known")
        if checksum:
            if not method or not algorithm:
                raise invalid("INVALID_PARAMETER_VALUE", "Checksum requires its algorithm and aggregation method")
            aggregate = hashlib.sha256(b"".join(snapshot.own[index].digest for index in sorted(snapshot.own)))
            if checksum != encoded(aggregate.digest()):
                raise invalid("INVALID_PARAMETER_VALUE", "Checksum does not fit the blocks written")
        if not snapshot.sealed:
            snapshot.seal()
        return json_answer(202, {"Status": snapshot.status})

    # Reading

    def token(self, snapshot: Snapshot, index: int) -> str:
        """The token which allows to read one block of one snapshot."""
        return encoded(hashlib.sha256(f"{WORLD.secret} {snapshot.id} {index}".encode()).digest())

    def get(self, snapshot_id: str, block_index: str) -> Answer:
        """GetSnapshotBlock."""
        snapshot = self.readable(snapshot_id)
        index = number(block_index, "BlockIndex")
        block = snapshot.own.get(index) or snapshot.inherited.get(index)
        if block is None:
            raise missing(f"Block {index} was never written", "DEPENDENCY_RESOURCE_NOT_FOUND")
        # A token's `+` is a blank to those who do not quote the query.
        if self.query.get("blockToken", "").replace(" ", "+") != self.token(snapshot, index):
            raise invalid("INVALID_BLOCK_TOKEN", "The block token is not valid")
        headers = {"Content-Type": "application/octet-stream", "x-amz-Data-Length": str(len(block.data))}
        return 200, headers | checksum_headers(block.digest), block.data

    def list_blocks(self, snapshot_id: str) -> Answer:
        """ListSnapshotBlocks."""
        snapshot = self.readable(snapshot_id)
        items = [{"BlockIndex": index, "BlockToken": self.token(snapshot, index)} for index in sorted(snapshot.blocks)]
        return self.page("Blocks", items, snapshot)

    def list_changed(self, second_id: str) -> Answer:
        """ListChangedBlocks: of the second snapshot against the first, or against an empty volume."""
        second = self.readable(second_id)
        first_id = self.query.get("firstSnapshotId")
        first = self.readable(first_id) if first_id else None
        if first and first.lineage != second.lineage:
            raise invalid("UNRELATED_SNAPSHOTS", "The snapshots are not of the same lineage")
        old, new = first.blocks if first else {}, second.blocks
        items = []
        for index in sorted(old.keys() | new.keys()):
            if index in old and index in new and old[index].digest == new[index].digest:
                continue
            item: dict[str, Any] = {"BlockIndex": index}
            if first and index in old:
                item["FirstBlockToken"] = self.token(first, index)
            if index in new:
                item["SecondBlockToken"] = self.token(second, index)
            items.append(item)
        return self.page("ChangedBlocks", items, second)

    def page(self, name: str, items: list[dict[str, Any]], snapshot: Snapshot) -> Answer:
        """One page of blocks; the page token is the index to go on from."""
        most = number(self.query["maxResults"], "MaxResults") if "maxResults" in self.query else PAGE[-1]
        if most not in PAGE:
            raise invalid("INVALID_PARAMETER_VALUE", f"MaxResults must be between {PAGE[0]} and {PAGE[-1]}")
        start = number(self.query.get("startingBlockIndex", "0"), "StartingBlockIndex")
        if "pageToken" in self.query:
            try:
                start = int(base64.b64decode(self.query["pageToken"], validate=True))
            except (ValueError, binascii.Error):
                raise invalid("INVALID_PAGE_TOKEN", "The page token is not valid") from None
        rest = [item for item in items if item["BlockIndex"] >= start]
        result = {
            name: rest[:most],
            "ExpiryTime": int(WORLD.now()) + TOKEN_LIFE_SECONDS,
            "VolumeSize": snapshot.volume_size,
            "BlockSize": BLOCK_SIZE,
        }
        if len(rest) > most:
            result["NextToken"] = encoded(str(rest[most]["BlockIndex"]).encode())
        return json_answer(200, result)


def checksum_headers(digest: bytes) -> dict[str, str]:
    """The headers which go with a block."""
    return {"x-amz-Checksum": encoded(digest), "x-amz-Checksum-Algorithm": "SHA256"}


def json_answer(status: int, result: dict[str, Any]) -> Answer:
    """A successful answer."""
    return status, {"Content-Type": "application/json"}, json.dumps(result).encode()


ROUTES = (
    ("POST", r"/snapshots", Ebs.start),
    ("POST", r"/snapshots/completion/([^/]+)", Ebs.complete),
    ("PUT", r"/snapshots/([^/]+)/blocks/([^/]+)", Ebs.put),
    ("GET", r"/snapshots/([^/]+)/blocks/([^/]+)", Ebs.get),
    ("GET", r"/snapshots/([^/]+)/blocks", Ebs.list_blocks),
    ("GET", r"/snapshots/([^/]+)/changedblocks", Ebs.list_changed),
)


def handle(
    account: str, region: str, method: str, path: str, query: str, headers: dict[str, str], body: bytes, digest: bytes
) -> Answer | None:
    """Answer a request, or None if it is none of this API; `digest` is the body's SHA-256."""
    for wanted, pattern, action in ROUTES:
        found = re.fullmatch(pattern, path.rstrip("/"))
        if found and method == wanted:
            try:
                return action(Ebs(account, region, headers, query, body, digest), *found.groups())
            except EbsError as error:
                return error.answer()
    return None

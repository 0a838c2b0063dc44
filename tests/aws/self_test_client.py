"""Clients and small helpers of the self test."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

HERE = Path(__file__).parent
# Any regions but the SDK's default one, so that a lost region is seen.
REGION, OTHER_REGION = "eu-central-1", "eu-west-1"
BLOCK_SIZE = 512 * 1024
# Either program starts in about two seconds; ten times that means that it hangs.
PATIENCE_SECONDS = 20


class Program:
    """One of the two programs; it ends when its input is closed."""

    def __init__(self, name: str, *arguments: str) -> None:
        command = [sys.executable, "-B", str(HERE / name), *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        word, port = self.process.stdout.readline().split()
        assert word == "listening"
        self.port = int(port)

    def control(self, path: str, given: Any = None) -> Any:
        """Ask the program's own interface."""
        data = None if given is None else json.dumps(given).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/control/{path}", data=data)
        # The machine's proxy settings are none of the loopback's business.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=PATIENCE_SECONDS) as answer:
            return json.load(answer)

    def close(self) -> None:
        """Close the input, and see the program end."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        assert self.process.wait(timeout=PATIENCE_SECONDS) == 0
        self.process.stdout.close()


class Clients:
    """SDK clients which do not try again: a fault has to be seen as it is."""

    def __init__(self, port: int, region: str = REGION) -> None:
        def client(service: str) -> Any:
            return boto3.client(
                service,
                region_name=region,
                endpoint_url=f"http://127.0.0.1:{port}",
                aws_access_key_id="test",
                aws_secret_access_key="test",
                config=Config(
                    retries={"total_max_attempts": 1},
                    proxies={},
                    read_timeout=PATIENCE_SECONDS,
                    max_pool_connections=64,
                    s3={"addressing_style": "path"},
                ),
            )

        self.region = region
        self.ec2, self.ebs, self.ssm = client("ec2"), client("ebs"), client("ssm")
        self.sts, self.s3, self.iam = client("sts"), client("s3"), client("iam")
        self.autoscaling, self.elbv2 = client("autoscaling"), client("elbv2")


def refused(code: str, call: Callable[..., Any], reason: str | None = None, **arguments: Any) -> dict[str, Any]:
    """Expect an error with a code, and a reason where one is given."""
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error
        assert reason is None or error.response["Reason"] == reason, error.response
        return error.response
    raise AssertionError(f"{code} was expected")


def block(fill: int) -> bytes:
    """A block of one value."""
    return bytes([fill]) * BLOCK_SIZE


def checksum(data: bytes) -> str:
    """A block's checksum as the API writes it."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def put(clients: Clients, snapshot: str, index: int, data: bytes, **changed: Any) -> Any:
    """PutSnapshotBlock with everything right but what is changed."""
    arguments = {
        "SnapshotId": snapshot,
        "BlockIndex": index,
        "BlockData": data,
        "DataLength": len(data),
        "Checksum": checksum(data),
        "ChecksumAlgorithm": "SHA256",
    }
    return clients.ebs.put_snapshot_block(**(arguments | changed))


def snapshot_state(clients: Clients, snapshot: str) -> str:
    """One look at a snapshot."""
    return clients.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"]


def image_state(clients: Clients, image: str) -> str:
    """One look at an image."""
    return clients.ec2.describe_images(ImageIds=[image])["Images"][0]["State"]


def completed_snapshot(clients: Clients, fills: dict[int, int], **arguments: Any) -> str:
    """A snapshot with some blocks, looked at until it is completed."""
    arguments = {"VolumeSize": 1} | arguments
    snapshot = clients.ebs.start_snapshot(**arguments)["SnapshotId"]
    for index, fill in fills.items():
        put(clients, snapshot, index, block(fill))
    clients.ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=len(fills))
    for _ in range(3):
        state = snapshot_state(clients, snapshot)
    assert state == "completed"
    return snapshot


def image_arguments(snapshot: str, name: str) -> dict[str, Any]:
    """What a modern image is registered with."""
    return {
        "Name": name,
        "Description": "an image",
        "Architecture": "x86_64",
        "VirtualizationType": "hvm",
        "EnaSupport": True,
        "SriovNetSupport": "simple",
        "RootDeviceName": "/dev/xvda",
        "BootMode": "uefi",
        "ImdsSupport": "v2.0",
        "TpmSupport": "v2.0",
        "UefiData": base64.b64encode(b"variables").decode(),
        "BlockDeviceMappings": [
            {
                "DeviceName": "/dev/xvda",
                "Ebs": {"SnapshotId": snapshot, "VolumeType": "gp3", "DeleteOnTermination": True},
            }
        ],
        "TagSpecifications": [{"ResourceType": "image", "Tags": [{"Key": "rekiln:bake", "Value": name}]}],
    }

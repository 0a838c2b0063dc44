"""The self test of the proxy."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from self_test_client import (
    Clients,
    Program,
    block,
    completed_snapshot,
    image_arguments,
    put,
    refused,
)


def broken(call: Any, **arguments: Any) -> None:
    """Expect that the connection breaks."""
    try:
        call(**arguments)
    except (BotoCoreError, ConnectionError):
        return
    raise AssertionError("a broken connection was expected")


def test_faults(endpoint: Program, proxy: Program) -> None:
    """Every fault once."""
    clients = Clients(proxy.port)
    endpoint.control("looks", {"n": 2})
    test_plain(clients, proxy)
    test_wire(clients, proxy)
    test_connection(clients, proxy, endpoint)
    test_rules(clients, proxy)
    test_hold(clients, proxy, endpoint)
    test_http(clients, proxy)
    test_load(clients, proxy)


def rules(proxy: Program, *given: dict[str, Any]) -> None:
    """Set the rules."""
    assert proxy.control("rules", list(given)) == {"rules": len(given)}


def test_plain(clients: Clients, proxy: Program) -> None:
    """Without rules everything passes, and is known."""
    snapshot = completed_snapshot(clients, {0: 1})
    clients.ec2.register_image(**image_arguments(snapshot, "plain"))
    clients.sts.get_caller_identity()
    clients.ssm.put_parameter(Name="/plain", Type="String", Value="x")
    clients.s3.create_bucket(Bucket="faults", CreateBucketConfiguration={"LocationConstraint": clients.region})
    large = bytes(600 * 1024)
    clients.s3.put_object(Bucket="faults", Key="key", Body=large)
    assert clients.s3.get_object(Bucket="faults", Key="key")["Body"].read() == large
    calls = proxy.control("calls")
    numbered = [(call["operation"], call["mutating"]) for call in calls if call["mutating"]]
    names = ["StartSnapshot", "PutSnapshotBlock", "CompleteSnapshot", "RegisterImage", "PutParameter"]
    assert numbered == [(name, number) for number, name in enumerate(names, 1)], numbered
    assert [call["number"] for call in calls] == list(range(1, len(calls) + 1))
    assert {call["status"] for call in calls} == {200, 201, 202}
    assert calls[1]["size"] == 512 * 1024 and calls[1]["service"] == "ebs" and calls[1]["region"] == clients.region
    assert [call["operation"] for call in calls if call["service"] == "s3"][-1] == "s3:GET"


def test_wire(clients: Clients, proxy: Program) -> None:
    """Errors in the wire format of each service."""
    rules(proxy, {"do": "throttle", "times": -1})
    refused("RequestLimitExceeded", clients.ec2.describe_images)
    refused("RequestThrottledException", clients.ebs.start_snapshot, "ACCOUNT_THROTTLED", VolumeSize=1)
    refused("ThrottlingException", clients.ssm.get_parameter, Name="/x")
    refused("Throttling", clients.sts.get_caller_identity)
    for call in (clients.autoscaling.describe_auto_scaling_groups, clients.elbv2.describe_target_groups):
        answer = refused("Throttling", call)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400 and answer["Error"]["Message"] == "Rate exceeded"
    refused("SlowDown", clients.s3.list_buckets)
    named = {"do": "error", "code": "UnauthorizedOperation", "status": 403, "message": "<no>", "times": -1}
    rules(proxy, named)
    for call in (clients.ec2.describe_images, clients.sts.get_caller_identity, clients.ssm.describe_parameters):
        answer = refused("UnauthorizedOperation", call)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 403 and answer["Error"]["Message"] == "<no>"
    refused("UnauthorizedOperation", clients.ebs.start_snapshot, VolumeSize=1)
    rules(proxy, {"do": "500", "times": -1})
    refused("InternalError", clients.ec2.describe_images)
    refused("InternalServerException", clients.ebs.start_snapshot, VolumeSize=1)
    rules(proxy, {"do": "503"})
    # No service's wire format, so the SDK's XML or JSON reader has its own say; it is no answer in any case.
    try:
        clients.ebs.start_snapshot(VolumeSize=1)
        raise AssertionError("503 was expected")
    except ClientError as error:
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    rules(proxy, {"do": "not_found", "times": -1})
    gone = "snap-0123456789abcdef0"
    refused(
        "ResourceNotFoundException", put, "SNAPSHOT_NOT_FOUND", clients=clients, snapshot=gone, index=0, data=block(1)
    )
    refused("InvalidSnapshot.NotFound", clients.ec2.describe_snapshots)
    refused("InvalidAMIID.NotFound", clients.ec2.describe_images)
    refused("InvalidAMIID.NotFound", clients.ec2.create_tags, Resources=["ami-1"], Tags=[{"Key": "a", "Value": "b"}])
    refused("InvalidSnapshot.NotFound", clients.ec2.create_tags, Resources=[gone], Tags=[{"Key": "a", "Value": "b"}])
    refused("ParameterNotFound", clients.ssm.get_parameter, Name="/x")
    refused("InvalidInstanceID.NotFound", clients.ec2.describe_instances)
    refused("InvalidLaunchTemplateId.NotFound", clients.ec2.describe_launch_template_versions, LaunchTemplateId="lt-1")
    desired = {"AutoScalingGroupName": "x", "DesiredCapacity": 1}
    answer = refused("ValidationError", clients.autoscaling.set_desired_capacity, **desired)
    assert "not found" in answer["Error"]["Message"]
    refused("TargetGroupNotFound", clients.elbv2.describe_target_health, TargetGroupArn="arn:x")
    rules(proxy)


def test_connection(clients: Clients, proxy: Program, endpoint: Program) -> None:
    """Connections which break before or after the endpoint was asked."""

    def count() -> int:
        return len(endpoint.control("state")["snapshots"])

    for fault, made in (("reset", 0), ("lost", 1)):
        before = count()
        rules(proxy, {"operation": "StartSnapshot", "do": fault})
        broken(clients.ebs.start_snapshot, VolumeSize=1)
        assert count() == before + made, fault
        call = proxy.control("calls")[-1]
        assert call["fault"] == fault and call["status"] is None and call["upstream"] == (201 if made else None)
    rules(proxy, {"operation": "StartSnapshot", "do": "slow", "seconds": 0.5})
    began = time.monotonic()
    snapshot = clients.ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    assert time.monotonic() - began >= 0.5
    # boto3 takes a cut answer for an empty one, so what is on the wire is looked at.
    rules(proxy, {"do": "truncate", "times": 2})
    before, body = count(), b'{"VolumeSize": 1}'
    head, _, cut = raw(proxy, b"POST /snapshots", body).partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    assert len(cut) == length // 2 and count() == before + 1
    # An answer without a body is cut in its head.
    cut = raw(proxy, f"HEAD /snapshots/{snapshot}/blocks".encode(), b"")
    assert cut.startswith(b"HTTP/1.1 4") and b"\r\n\r\n" not in cut
    rules(proxy)


def raw(proxy: Program, start: bytes, body: bytes) -> bytes:
    """A call to EBS direct by hand; the answer as it is on the wire, up to the end of the connection."""
    scope = b"AWS4-HMAC-SHA256 Credential=test/20300101/eu-central-1/ebs/aws4_request, Signature=0"
    head = b"%s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n" % (start, scope, len(body))
    answer = b""
    with socket.create_connection(("127.0.0.1", proxy.port)) as sock:
        sock.sendall(head + body)
        while part := sock.recv(65536):
            answer += part
    return answer


def test_rules(clients: Clients, proxy: Program) -> None:
    """Which calls a rule meets."""

    def outcome(operation: Any, **arguments: Any) -> bool:
        try:
            operation(**arguments)
            return True
        except ClientError:
            return False

    def starts(count: int) -> list[bool]:
        return [outcome(clients.ebs.start_snapshot, VolumeSize=1) for _ in range(count)]

    rules(proxy, {"operation": "StartSnapshot", "nth": 2, "times": 2, "do": "throttle"})
    assert starts(5) == [True, False, False, True, True]
    rules(proxy, {"operation": "StartSnapshot", "times": 2, "do": "throttle"})
    assert starts(3) == [False, False, True]
    rules(proxy, {"operation": "CopyImage", "do": "throttle"})
    assert starts(1) == [True]
    proxy.control("reset", {})
    rules(proxy, {"mutating": 3, "do": "throttle"})
    assert starts(2) == [True, True] and outcome(clients.ec2.describe_images)
    assert starts(2) == [False, True]
    assert [call["mutating"] for call in proxy.control("calls")] == [1, 2, None, 3, 4]
    try:
        proxy.control("rules", [{"do": "nonsense"}])
        raise AssertionError("400 was expected")
    except OSError as error:
        assert "400" in str(error)
    proxy.control("reset", {})
    assert proxy.control("calls") == [] and starts(1) == [True]


def test_hold(clients: Clients, proxy: Program, endpoint: Program) -> None:
    """Calls which are never answered."""
    for fault, made in (("hold_before", 0), ("hold_after", 1)):
        before = len(endpoint.control("state")["snapshots"])
        rules(proxy, {"operation": "StartSnapshot", "do": fault})
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(broken, clients.ebs.start_snapshot, VolumeSize=1)
            deadline = time.monotonic() + 10
            while not (held := proxy.control("held")):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert held[0]["operation"] == "StartSnapshot" and held[0]["phase"] == fault.removeprefix("hold_")
            assert not waiting.done()
            assert len(endpoint.control("state")["snapshots"]) == before + made
            assert proxy.control("release", {}) == {"released": 1}
            waiting.result(timeout=10)
        assert proxy.control("held") == []
    # A client which goes away is not held any longer.
    rules(proxy, {"do": "hold_before"})
    with socket.create_connection(("127.0.0.1", proxy.port)) as sock:
        sock.sendall(b"GET /bucket/key HTTP/1.1\r\nHost: x\r\n\r\n")
        while not proxy.control("held"):
            time.sleep(0.02)
    while proxy.control("held"):
        time.sleep(0.02)
    rules(proxy)


def exchange(sock: socket.socket, request: bytes) -> bytes:
    """Send a request, and read an answer without a body."""
    sock.sendall(request)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += sock.recv(65536)
    return answer


def test_http(clients: Clients, proxy: Program) -> None:
    """Keep-alive, chunked bodies, Expect: 100-continue, aws-chunked bodies."""
    with socket.create_connection(("127.0.0.1", proxy.port)) as sock:
        head = b"PUT /faults/raw HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        chunks = b"4\r\nabcd\r\n2\r\nef\r\n0\r\n\r\n"
        answer = exchange(sock, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
        assert b" 200 " in answer, answer
        # moto lets an unsigned request make an object, but not replace it.
        head = head.replace(b"/raw", b"/waited")
        # The second request on the same connection waits for the interim answer.
        interim = b"HTTP/1.1 100 Continue\r\n\r\n"
        assert exchange(sock, head + b"Content-Length: 6\r\nExpect: 100-continue\r\n\r\n") == interim
        answer = exchange(sock, b"ghijkl")
        assert b" 200 " in answer, answer
    assert clients.s3.get_object(Bucket="faults", Key="waited")["Body"].read() == b"ghijkl"
    assert clients.s3.get_object(Bucket="faults", Key="raw")["Body"].read() == b"abcdef"
    # The SDK sends aws-chunked bodies with trailers when it is to give a checksum of a stream.
    clients.s3.put_object(Bucket="faults", Key="sum", Body=block(6), ChecksumAlgorithm="SHA256")
    assert clients.s3.get_object(Bucket="faults", Key="sum")["Body"].read() == block(6)
    assert clients.s3.head_object(Bucket="faults", Key="sum")["ContentLength"] == 512 * 1024
    assert proxy.control("calls")[-1]["operation"] == "s3:HEAD"


def test_load(clients: Clients, proxy: Program) -> None:
    """64 connections at a time lose and mix up nothing."""
    proxy.control("reset", {})
    snapshot = clients.ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    count = 256
    began = time.monotonic()
    with ThreadPoolExecutor(64) as pool:
        list(pool.map(lambda index: put(clients, snapshot, index, block(index % 251)), range(count)))
    seconds = time.monotonic() - began
    clients.ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=count)
    assert len(proxy.control("calls")) == count + 2
    print(f"{count} blocks by 64 connections: {count / 2 / seconds:.0f} MiB/s")

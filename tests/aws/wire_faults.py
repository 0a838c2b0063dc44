"""Answers of AWS which say no, in the wire format of each service."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from xml.sax.saxutils import escape


# The services that a fleet is made of, beside EC2.
FLEET_SERVICES = ("autoscaling", "elasticloadbalancing")


@dataclass
class Call:
    """One request to AWS."""

    service: str
    region: str
    operation: str
    path: str
    size: int
    body: bytes
    number: int = 0
    mutating: int | None = None
    # What the client was answered, and what the endpoint said where it was asked.
    status: int | None = None
    upstream: int | None = None
    fault: str | None = None

    def forget_body(self) -> None:
        """Calls are kept, their bodies are not: an image has thousands of blocks."""
        self.body = b""

    def shown(self) -> dict[str, Any]:
        """The call as the tests see it."""
        return {name: value for name, value in vars(self).items() if name != "body"}


def http_answer(status: int, kind: str, body: bytes, headers: dict[str, str]) -> bytes:
    """An HTTP answer as it is on the wire."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def aws_error(call: Call, status: int, code: str, message: str, reason: str | None = None) -> tuple[int, bytes]:
    """An error in the wire format of the call's service."""
    identity = str(uuid.uuid4())
    headers = {"x-amzn-RequestId": identity}
    name, text = escape(code), escape(message)
    if call.service == "ec2":
        errors = f"<Errors><Error><Code>{name}</Code><Message>{text}</Message></Error></Errors>"
        body, kind = f"<Response>{errors}<RequestID>{identity}</RequestID></Response>", "text/xml;charset=UTF-8"
    elif call.service == "s3":
        error = f"<Error><Code>{name}</Code><Message>{text}</Message><RequestId>{identity}</RequestId></Error>"
        body, kind = error, "application/xml"
    elif call.service == "ebs":
        body = json.dumps({"Message": message} | ({"Reason": reason} if reason else {}))
        kind = "application/json"
        headers["x-amzn-ErrorType"] = code
    elif call.service == "ssm":
        body, kind = json.dumps({"__type": code, "message": message}), "application/x-amz-json-1.1"
        headers["x-amzn-ErrorType"] = code
    else:
        side = "Sender" if status < 500 else "Receiver"
        error = f"<Error><Type>{side}</Type><Code>{name}</Code><Message>{text}</Message></Error>"
        body, kind = f"<ErrorResponse>{error}<RequestId>{identity}</RequestId></ErrorResponse>", "text/xml"
    return status, http_answer(status, kind, body.encode(), headers)


def throttle(call: Call, _: dict[str, Any]) -> tuple[int, bytes]:
    """What each service says to those who are too quick."""
    status, code = {
        "ec2": (503, "RequestLimitExceeded"),
        "ebs": (400, "RequestThrottledException"),
        "ssm": (400, "ThrottlingException"),
        "s3": (503, "SlowDown"),
    }.get(call.service, (400, "Throttling"))
    message = "Rate exceeded" if call.service in FLEET_SERVICES else "Request rate exceeded"
    return aws_error(call, status, code, message, "ACCOUNT_THROTTLED")


def error(call: Call, rule: dict[str, Any]) -> tuple[int, bytes]:
    """The error which the rule names."""
    code = rule.get("code", "InternalError")
    return aws_error(call, int(rule.get("status", 400)), code, rule.get("message", "as the test demands"))


def internal(call: Call, _: dict[str, Any]) -> tuple[int, bytes]:
    """A fault inside the service."""
    code = {"ebs": "InternalServerException", "ssm": "InternalServerError", "sts": "InternalFailure"}
    return aws_error(call, 500, code.get(call.service, "InternalError"), "An internal error has occurred")


def unavailable(_: Call, __: dict[str, Any]) -> tuple[int, bytes]:
    """What a load balancer before the service says: it knows nothing of the service's wire format."""
    body = b"<html><body><h1>503 Service Temporarily Unavailable</h1></body></html>"
    return 503, http_answer(503, "text/html", body, {})


def not_found(call: Call, _: dict[str, Any]) -> tuple[int, bytes]:
    """What a service says of a resource which not all of its parts know yet."""
    if call.service == "ebs":
        message = "The snapshot does not exist."
        return aws_error(call, 404, "ResourceNotFoundException", message, "SNAPSHOT_NOT_FOUND")
    if call.service == "ssm":
        return aws_error(call, 400, "ParameterNotFound", "The parameter was not found")
    if call.service == "s3":
        return aws_error(call, 404, "NoSuchKey", "The specified key does not exist.")
    if call.service == "autoscaling":
        # There is no code of its own for this.
        return aws_error(call, 400, "ValidationError", "AutoScalingGroup name not found - null")
    if call.service == "elasticloadbalancing":
        return aws_error(call, 400, "TargetGroupNotFound", "One or more target groups not found")
    if call.service == "ec2" and "LaunchTemplate" in call.operation:
        message = "The specified launch template does not exist."
        return aws_error(call, 400, "InvalidLaunchTemplateId.NotFound", message)
    if call.service == "ec2" and "Instance" in call.operation:
        return aws_error(call, 400, "InvalidInstanceID.NotFound", "The instance ID does not exist")
    if call.service == "ec2":
        # CreateTags and RegisterImage name resources of either kind; their ids tell which.
        about_snapshot = "Snapshot" in call.operation or "Image" not in call.operation and b"ami-" not in call.body
        if about_snapshot or call.operation == "RegisterImage":
            return aws_error(call, 400, "InvalidSnapshot.NotFound", "The snapshot does not exist.")
        return aws_error(call, 400, "InvalidAMIID.NotFound", "The image id does not exist")
    return aws_error(call, 404, "NoSuchEntity", "The entity does not exist")


WIRE_FAULTS: dict[str, Callable[[Call, dict[str, Any]], tuple[int, bytes]]] = {
    "throttle": throttle,
    "error": error,
    "500": internal,
    "503": unavailable,
    "not_found": not_found,
}

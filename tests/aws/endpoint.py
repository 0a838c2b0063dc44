"""An AWS endpoint on the loopback interface: moto's server, with what it gets wrong about images and fleets put right.

    python3 endpoint.py [--port PORT]

prints `listening PORT`, and ends when its standard input is closed. Beside the AWS services it answers

    POST /control/clock {"seconds": n}  moves the clock of all that takes time: boots, drains, time-outs, cool-downs
    POST /control/looks {"n": n}        how often a fresh resource is seen before it is ready, from now on
    POST /control/reset                 forgets everything
    GET  /control/state                 all that there is, from snapshots to groups; it does not count as a look
    GET  /control/log?from=n            all that happened: {"at", "event", "by" (the call's name, or nothing), …}. The
                                        events group, desired, member, healthy, health, protection, suspended, tag,
                                        refresh and launch failed have the group's desired, members, in_service and
                                        healthy_targets (members in service that are healthy in all target groups);
                                        instance and target have states only
    POST /control/content {"snapshot": id}  the SHA-256 of each block of a snapshot
    POST /control/access {"serial": …, "managed": […], "sessions": […], "consoles": {…}}  who could log in: see access.py
    POST /control/spoil {"snapshot": id, "block": n, "missing": false}  puts another byte into a block, or takes it away
    POST /control/instances {"instance": id or "*", "health": …}  the health that targets show: "healthy",
                                        "unhealthy", "initial", "unknown", or null for what follows from the rest
    POST /control/instances {"instance": id, "kill": "crash" or "spot"}  the instance ends by itself
    POST /control/capacity {"zone": z, "until": seconds, "type": t or none}  there is no capacity, for so long;
                                        of the type "spot": none for spot instances
    POST /control/boot {"image": ami, "bad": true}  its instances never become healthy targets; or a "type"'s
    POST /control/times {"boot": s, "terminate": s, "initial": s, "proceed": s, "retry": s}  how long things take
    POST /control/stale {"seconds": s}  Describe calls of groups, instances and targets answer what was true before
    POST /control/console {"instance": id, "text": …}  what an instance has written to its console
    POST /control/vendor {"account", "region", "path", "name", "owner", "gib", "boot_mode", "tags"}  another account's AMI
    POST /control/disk {"instance": id, "path": file}  where an instance's root disk lies, of which images are made
    POST /control/off {"instance": id}  the instance has switched itself off
    POST /control/target_groups {"target_group": name or ARN, "in_use": …, "probe": …}  it is in use, or not, whatever
                                        its listeners are; its targets are really asked, at their private addresses

The files are: snapshots and EBS direct (snapshots.py, ebs.py), images (image*.py), instances (machines.py,
instance_actions.py), templates (launch_templates.py), target groups (targets.py, target_actions.py), disks (disks.py), groups (groups.py:
the model, lifecycle.py: a member's way, scaling.py: what a group does by itself, launching.py, warm_pools.py, hooks.py,
and *_actions.py), and what makes time pass (timeline.py, clockwork.py).
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import sys
import threading
import traceback
import uuid
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any
from xml.sax.saxutils import escape

# moto's 1301 built-in images would only slow each look at images down; the tests make their own.
# It has to be said before moto is imported.
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")

# pylint: disable=wrong-import-position
from botocore.model import OperationNotFoundError
from moto.ec2.models import ec2_backends
from moto.ec2.responses import EC2Response
from moto.iam.models import get_account_id_from
from moto.moto_api._internal.models import moto_api_backend
from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.ssm.models import ssm_backends
from werkzeug.serving import make_server

import access
import clockwork
import disks
import ebs
import fleet_control
import image_attributes
import image_model
import images
import instance_actions
import launch_templates
import parameters
import snapshots
import target_actions
from world import WORLD, Snapshot

# moto's models are not thread safe: one request at a time.
LOCK = threading.RLock()
# Services of the query protocol, whose errors are XML.
QUERY_SERVICES = {"sts", "iam", "autoscaling", "elasticloadbalancing", "sns", "cloudformation", "monitoring", "rds"}


def install() -> None:
    """Put the corrections into moto's classes."""
    for module in (snapshots, images, image_attributes, launch_templates, instance_actions, disks):
        for action in module.ACTIONS:
            setattr(EC2Response, action.__name__, action)
    access.install()
    parameters.install()
    launch_templates.install()
    instance_actions.install()
    target_actions.install()
    clockwork.install()


class Request:
    """The parts of a WSGI request which are needed to find out where it belongs."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self.method = environ["REQUEST_METHOD"]
        self.path = environ.get("PATH_INFO", "/")
        self.query = environ.get("QUERY_STRING", "")
        self.target = environ.get("HTTP_X_AMZ_TARGET", "")
        authorization = environ.get("HTTP_AUTHORIZATION", "")
        scope = re.search(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/aws4_request", authorization)
        self.access_key, self.region, self.service = scope.groups() if scope else ("", "us-east-1", "")
        self.headers = {
            name.removeprefix("HTTP_").replace("_", "-").lower(): value
            for name, value in environ.items()
            if name.startswith("HTTP_")
        }


def read_body(environ: dict[str, Any]) -> bytes | None:
    """The whole body, or None if the client went away before its end."""
    stream = environ["wsgi.input"]
    if environ.get("wsgi.input_terminated"):
        try:
            body = stream.read()
        except OSError:
            return None
        environ.pop("HTTP_TRANSFER_ENCODING", None)
    else:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = stream.read(length)
        if len(body) < length:
            return None
    environ["CONTENT_LENGTH"], environ["wsgi.input"] = str(len(body)), io.BytesIO(body)
    return body


def error_answer(request: Request, status: int, code: str, message: str) -> ebs.Answer:
    """An error in the wire format of the service which was asked."""
    identity, code, text = str(uuid.uuid4()), escape(code), escape(message)
    if request.service == "ec2":
        error = f"<Errors><Error><Code>{code}</Code><Message>{text}</Message></Error></Errors>"
        body, kind = f"<Response>{error}<RequestID>{identity}</RequestID></Response>", "text/xml"
    elif request.service in QUERY_SERVICES:
        error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{text}</Message></Error>"
        body, kind = f"<ErrorResponse>{error}<RequestId>{identity}</RequestId></ErrorResponse>", "text/xml"
    elif request.service in ("s3", "") and not request.target:
        body, kind = f"<Error><Code>{code}</Code><Message>{text}</Message></Error>", "application/xml"
    else:
        body, kind = json.dumps({"__type": code, "message": message}), "application/x-amz-json-1.1"
    return status, {"Content-Type": kind, "x-amzn-ErrorType": code, "x-amzn-RequestId": identity}, body.encode()


class Endpoint:
    """The WSGI application: control, EBS direct, and moto for all the rest."""

    def __init__(self) -> None:
        self.moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request, body = Request(environ), read_body(environ)
        if body is None:
            return answered(error_answer(request, 400, "RequestTimeout", "The body is not complete"), start_response)
        # Hashing lets other threads run, so it is done before the lock is taken.
        digest = hashlib.sha256(body).digest() if request.service == "ebs" else b""
        with LOCK:
            if request.path.startswith("/control/"):
                return answered(control(request, body), start_response)
            if request.service == "ebs":
                account = get_account_id_from(request.access_key)
                args = (request.method, request.path, request.query, request.headers, body, digest)
                answer = ebs.handle(account, request.region, *args)
                if answer is None:
                    answer = error_answer(request, 400, "UnknownOperationException", "EBS direct has no such action")
                return answered(answer, start_response)
            try:
                if request.service in clockwork.SERVICES:
                    head, parts = clockwork.during(lambda: self.forward(environ), body)
                else:
                    head, parts = self.forward(environ)
                start_response(*head)
                return parts
            except (NotImplementedError, OperationNotFoundError) as error:
                answer = error_answer(request, 400, "InvalidAction", f"The action is not modelled: {error}")
            except Exception as error:  # pylint: disable=broad-exception-caught
                # A fault of moto or of these corrections: its trace has to be seen, the client gets AWS's form.
                traceback.print_exc()
                answer = error_answer(request, 500, "InternalError", f"{type(error).__name__}: {error}")
            return answered(answer, start_response)

    def forward(self, environ: dict[str, Any]) -> tuple[tuple[Any, ...], list[bytes]]:
        """Let moto answer. Its head is kept back, as what follows from the request may fail."""
        heads: list[tuple[Any, ...]] = []
        parts = self.moto(environ, lambda *head: heads.append(head))
        try:
            body = list(parts)
            return heads[-1], body
        finally:
            parts.close()


def answered(answer: ebs.Answer, start_response: Callable[..., Any]) -> list[bytes]:
    """Give a ready answer."""
    status, headers, body = answer
    headers = {"x-amzn-RequestId": str(uuid.uuid4()), **headers, "Content-Length": str(len(body))}
    start_response(f"{status} {HTTPStatus(status).phrase}", list(headers.items()))
    return [body]


def control(request: Request, body: bytes) -> ebs.Answer:
    """The tests' own interface."""
    try:
        given = json.loads(body or b"{}")
        action = (request.method, request.path)
        controls = fleet_control.ACTIONS | disks.CONTROLS
        if request.method == "POST" and request.path in controls:
            act = controls[request.path]
            return ebs.json_answer(200, clockwork.during(lambda: act(given)))
        if action == ("GET", "/control/log"):
            return ebs.json_answer(200, clockwork.during(lambda: fleet_control.log(request.query)))
        if action == ("POST", "/control/clock"):
            WORLD.clock_offset += float(given["seconds"])
            return ebs.json_answer(200, {"now": WORLD.now()})
        if action == ("POST", "/control/looks"):
            WORLD.looks = int(given["n"])
            return ebs.json_answer(200, {"n": WORLD.looks})
        if action == ("POST", "/control/reset"):
            WORLD.__init__()  # type: ignore[misc]
            clockwork.forget()
            moto_api_backend.reset()
            return ebs.json_answer(200, {})
        if action == ("POST", "/control/access"):
            WORLD.access = given
            return ebs.json_answer(200, {})
        if action == ("POST", "/control/content"):
            content = snapshot_by_id(given["snapshot"]).blocks
            return ebs.json_answer(200, {str(index): content[index].digest.hex() for index in sorted(content)})
        if action == ("POST", "/control/spoil"):
            snapshots.spoil(snapshot_by_id(given["snapshot"]), int(given["block"]), bool(given.get("missing")))
            return ebs.json_answer(200, {})
        if action == ("GET", "/control/state"):
            return ebs.json_answer(200, clockwork.during(state))
    except (KeyError, StopIteration, TypeError, ValueError) as error:
        return ebs.json_answer(400, {"error": f"{type(error).__name__}: {error}"})
    return ebs.json_answer(404, {"error": f"no {request.method} {request.path}"})


def snapshot_by_id(snapshot_id: str) -> Snapshot:
    """A snapshot of any account and region."""
    clouds = [cloud for regions in ec2_backends.values() for cloud in regions.values()]
    return next(cloud.snapshots[snapshot_id] for cloud in clouds if snapshot_id in cloud.snapshots)


def state() -> dict[str, list[dict[str, Any]]]:
    """Everything which a bake can leave behind, and what fleets are made of, of all accounts and regions."""
    clouds = [cloud for regions in ec2_backends.values() for cloud in regions.values()]
    stores = [store for regions in ssm_backends.values() for store in regions.values()]
    return {
        "snapshots": [entry for cloud in clouds for entry in snapshots.state_of_snapshots(cloud)],
        "images": [entry for cloud in clouds for entry in image_model.state_of_images(cloud)],
        "parameters": [entry for store in stores for entry in parameters.state_of_parameters(store)],
        **fleet_control.state(),
    }


class Handler(MotoRequestHandler):
    """Connections as the tests want them: quick and quiet."""

    # Headers and body are written apart; without this each answer waits for the client's delayed ACK.
    disable_nagle_algorithm = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Requests are not logged: the proxy before this server knows them all."""


def main() -> None:
    """Serve until standard input is closed, so that no server outlives its test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free port")
    port = parser.parse_args().port
    install()
    server = make_server("127.0.0.1", port, Endpoint(), threaded=True, request_handler=Handler)
    # moto calls itself by this port in some services.
    os.environ["MOTO_PORT"] = str(server.server_port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"listening {server.server_port}", flush=True)
    while sys.stdin.buffer.read(4096):
        pass
    # Threads of open connections must not hold the process back.
    os._exit(0)


if __name__ == "__main__":
    main()

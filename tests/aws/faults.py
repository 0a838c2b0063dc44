"""A reverse proxy before an AWS endpoint, which knows the calls that pass and spoils those it is told to.

    python3 faults.py --upstream PORT [--port PORT]

prints `listening PORT`, and ends when its standard input is closed. Its own interface is

    POST /control/rules [rule, ...]  replaces the rules; calls are counted on
    GET  /control/calls              every call so far: number, operation, mutating number or null, status, size
    GET  /control/held               the calls which are held now
    POST /control/release            drops the held connections
    POST /control/reset              forgets rules, calls and counts, and drops the held connections

A rule has "do": "throttle", "error" with "code", "status" and "message", "500", "503", "not_found" are answers,
the endpoint is not asked; "reset" and "hold_before" come before the endpoint is asked, "lost", "truncate" and
"hold_after" after it; "slow" waits "seconds" before. It says which calls it meets:

    "operation"  the operation's name; "*" or none for all
    "nth"        from the nth call on that has this operation, counted since the rule was set
    "mutating"   from the call on that has this number among all mutating ones since the last reset
    "times"      how many calls from there on, 1 if not said, -1 for all

The first rule which meets a call spoils it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import struct
import sys
import threading
from dataclasses import dataclass, field
from typing import Any

from wire_faults import Call, WIRE_FAULTS, http_answer

# The buffer of a connection, and the most that a head may have: an EBS block fits, so that reading it does not stop and go.
BUFFER = 1024 * 1024
# Connections that wait to be accepted: more than a client with 64 connections opens at once.
BACKLOG = 256
# Calls which change nothing; all others are numbered as mutating.
READING = re.compile(r"(Describe|List|Get|Simulate)[A-Z]|AssumeRole")
CONNECTION_FAULTS = {"reset", "lost", "slow", "truncate", "hold_before", "hold_after"}
EBS_ROUTES = (
    ("POST", r"/snapshots", "StartSnapshot"),
    ("POST", r"/snapshots/completion/[^/]+", "CompleteSnapshot"),
    ("PUT", r"/snapshots/[^/]+/blocks/[^/]+", "PutSnapshotBlock"),
    ("GET", r"/snapshots/[^/]+/blocks/[^/]+", "GetSnapshotBlock"),
    ("GET", r"/snapshots/[^/]+/blocks", "ListSnapshotBlocks"),
    ("GET", r"/snapshots/[^/]+/changedblocks", "ListChangedBlocks"),
)


@dataclass
class Message:
    """A request or an answer: its head, and its body both as it was on the wire and without its framing."""

    start: str
    headers: list[tuple[str, str]]
    raw_body: bytes = b""
    body: bytes = b""
    # The body ends where the connection ends.
    until_close: bool = False

    def header(self, name: str) -> str:
        """The value of a header, empty if there is none."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    def head(self, drop: set[str], add: list[tuple[str, str]]) -> bytes:
        """The head on the wire, without and with some headers."""
        lines = [self.start] + [f"{key}: {value}" for key, value in self.headers if key.lower() not in drop]
        lines += [f"{key}: {value}" for key, value in add]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@dataclass
class Rule:
    """Which calls to spoil, and how."""

    given: dict[str, Any]
    seen: int = 0
    done: int = 0

    def __post_init__(self) -> None:
        fault = self.given.get("do")
        if fault not in CONNECTION_FAULTS and fault not in WIRE_FAULTS:
            raise ValueError(f"no fault {fault!r}")
        unknown = set(self.given) - {
            "operation",
            "nth",
            "times",
            "mutating",
            "do",
            "code",
            "status",
            "message",
            "seconds",
        }
        if unknown:
            raise ValueError(f"no member {sorted(unknown)}")

    def meets(self, call: Call) -> bool:
        """Whether the call is of the operation; it is counted then."""
        if self.given.get("operation", "*") not in ("*", call.operation):
            return False
        self.seen += 1
        times = self.given.get("times", 1)
        if "mutating" in self.given:
            return call.mutating is not None and in_window(call.mutating, self.given["mutating"], times)
        if "nth" in self.given:
            return in_window(self.seen, self.given["nth"], times)
        return times == -1 or self.done < times


def in_window(number: int, first: int, times: int) -> bool:
    """Whether a number is one of `times` from the first on."""
    return number >= first and (times == -1 or number < first + times)


@dataclass
class Proxy:
    """What the proxy knows of its calls."""

    upstream: int
    rules: list[Rule] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    mutating: int = 0
    held: dict[int, dict[str, Any]] = field(default_factory=dict)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        """Wake all that is held; whoever is held after this waits for the next release."""
        self.released.set()
        self.released = asyncio.Event()

    def register(self, request: Message) -> Call:
        """Number a call."""
        method, target, _ = request.start.split(" ", 2)
        call = classify(method, target, request)
        call.number = len(self.calls) + 1
        if call.service != "s3" and not READING.match(call.operation):
            self.mutating += 1
            call.mutating = self.mutating
        self.calls.append(call)
        return call

    def fault_for(self, call: Call) -> dict[str, Any] | None:
        """What to do with a call. All rules count it, but only one spoils it."""
        met = [rule for rule in self.rules if rule.meets(call)]
        if not met:
            return None
        met[0].done += 1
        return met[0].given

    def control(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """The tests' own interface."""
        if (method, path) == ("POST", "/control/rules"):
            try:
                self.rules = [Rule(rule) for rule in json.loads(body)]
            except (AttributeError, TypeError, ValueError) as error:
                return 400, {"error": str(error)}
            return 200, {"rules": len(self.rules)}
        if (method, path) == ("GET", "/control/calls"):
            return 200, [call.shown() for call in self.calls]
        if (method, path) == ("GET", "/control/held"):
            return 200, list(self.held.values())
        if (method, path) in (("POST", "/control/release"), ("POST", "/control/reset")):
            count = len(self.held)
            self.release()
            if path == "/control/reset":
                self.rules, self.calls, self.mutating = [], [], 0
            return 200, {"released": count}
        return 404, {"error": f"no {method} {path}"}


def classify(method: str, target: str, request: Message) -> Call:
    """The service, region and operation of a request."""
    path, _, query = target.partition("?")
    scope = re.search(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/aws4_request", request.header("authorization"))
    region, service = scope.groups() if scope else ("", "")
    name = request.header("x-amz-target").rpartition(".")[2]
    if service == "ebs":
        plain = path.rstrip("/")
        name = next((name for verb, form, name in EBS_ROUTES if verb == method and re.fullmatch(form, plain)), "")
    elif not name and service != "s3":
        form = request.body if request.header("content-type").startswith("application/x-www-form-urlencoded") else b""
        found = re.search(rb"(?:^|&)Action=(\w+)", form) or re.search(rb"(?:^|&)Action=(\w+)", query.encode())
        name = found.group(1).decode() if found else ""
        # AssumeRoleWithWebIdentity and its like are not signed.
        service = service or ("sts" if name else "")
    service = service or "s3"
    return Call(service, region, name or f"{service}:{method}", path, len(request.body), request.body)


async def read_message(
    reader: asyncio.StreamReader, is_request: bool, writer: asyncio.StreamWriter | None, bodyless: bool
) -> Message | None:
    """Read a request or an answer as a whole; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    start, *lines = head[:-4].decode("latin-1").split("\r\n")
    headers = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    message = Message(start, headers)
    if writer is not None and message.header("expect").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if bodyless:
        return message
    if "chunked" in message.header("transfer-encoding").lower():
        await read_chunks(reader, message)
    elif length := message.header("content-length"):
        message.body = message.raw_body = await reader.readexactly(int(length))
    elif not is_request:
        message.until_close = True
        message.body = message.raw_body = await reader.read(-1)
    return message


async def read_chunks(reader: asyncio.StreamReader, message: Message) -> None:
    """Read a chunked body; what is passed on is exactly what came, trailers included."""
    raw, plain = [], []
    while True:
        line = await reader.readuntil(b"\r\n")
        raw.append(line)
        size = int(line.split(b";")[0], 16)
        if size == 0:
            break
        chunk = await reader.readexactly(size + 2)
        raw.append(chunk)
        plain.append(chunk[:-2])
    while line != b"\r\n":
        line = await reader.readuntil(b"\r\n")
        raw.append(line)
    message.raw_body, message.body = b"".join(raw), b"".join(plain)


async def forward(upstream: int, request: Message) -> Message:
    """Ask the endpoint. A connection serves one request only, as moto's server closes it anyway."""
    reader, writer = await asyncio.open_connection("127.0.0.1", upstream, limit=BUFFER)
    try:
        writer.write(request.head({"expect", "connection"}, [("Connection", "close")]) + request.raw_body)
        await writer.drain()
        while True:
            answer = await read_message(reader, False, None, request.start.startswith("HEAD "))
            if answer is None:
                raise ConnectionError("the endpoint did not answer")
            status = int(answer.start.split(" ")[1])
            if status in (204, 304):
                answer.until_close = False
            if status >= 200:
                return answer
    finally:
        writer.close()


def abort(writer: asyncio.StreamWriter) -> None:
    """Reset the connection: with no time to linger the kernel sends RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Connection:
    """A client's connection."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.proxy, self.reader, self.writer = proxy, reader, writer

    async def serve(self) -> None:
        """Answer requests until one side has enough."""
        try:
            while (request := await read_message(self.reader, True, self.writer, False)) is not None:
                if not await self.answer(request):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            # A client which goes away or speaks no HTTP is given up; its call was not counted.
            pass
        finally:
            self.writer.close()

    async def answer(self, request: Message) -> bool:
        """Answer one request; whether the connection goes on."""
        method, target, version = request.start.split(" ", 2)
        keep = version == "HTTP/1.1" and request.header("connection").lower() != "close"
        if target.startswith("/control/"):
            status, result = self.proxy.control(method, target, request.body)
            self.writer.write(http_answer(status, "application/json", json.dumps(result).encode(), {}))
            await self.writer.drain()
            return keep
        call = self.proxy.register(request)
        fault = self.proxy.fault_for(call)
        if fault is not None:
            call.fault = fault["do"]
            if fault["do"] in WIRE_FAULTS:
                call.status, raw = WIRE_FAULTS[fault["do"]](call, fault)
                call.forget_body()
                self.writer.write(raw)
                await self.writer.drain()
                return keep
        call.forget_body()
        return await self.connection_fault(request, call, fault or {}, keep)

    async def connection_fault(self, request: Message, call: Call, fault: dict[str, Any], keep: bool) -> bool:
        """Forward a request, spoiled at the connection or not at all."""
        do = fault.get("do")
        if do == "reset":
            abort(self.writer)
            return False
        if do == "hold_before":
            return await self.hold(call, "before")
        if do == "slow":
            await asyncio.sleep(float(fault.get("seconds", 1)))
        answer = await forward(self.proxy.upstream, request)
        status = int(answer.start.split(" ")[1])
        call.upstream = status
        if do == "lost":
            abort(self.writer)
            return False
        if do == "hold_after":
            return await self.hold(call, "after")
        keep = keep and not answer.until_close
        extra = [] if keep else [("Connection", "close")]
        head = answer.head({"connection"}, extra)
        if do == "truncate":
            cut = head + answer.raw_body[: len(answer.raw_body) // 2] if answer.raw_body else head[: len(head) // 2]
            self.writer.write(cut)
            await self.writer.drain()
            return False
        call.status = status
        self.writer.write(head + answer.raw_body)
        await self.writer.drain()
        return keep

    async def hold(self, call: Call, phase: str) -> bool:
        """Say nothing until the test or the client has enough."""
        self.proxy.held[call.number] = {"number": call.number, "operation": call.operation, "phase": phase}
        waits = [
            asyncio.ensure_future(self.proxy.released.wait()),
            asyncio.ensure_future(self.reader.read(1)),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            self.proxy.held.pop(call.number, None)
        abort(self.writer)
        return False


async def run(upstream: int, port: int) -> None:
    """Serve until standard input is closed, so that no proxy outlives its test."""
    proxy, ended, loop = Proxy(upstream), asyncio.Event(), asyncio.get_running_loop()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Connection(proxy, reader, writer).serve()

    def watch() -> None:
        while sys.stdin.buffer.read(4096):
            pass
        loop.call_soon_threadsafe(ended.set)

    server = await asyncio.start_server(accept, "127.0.0.1", port, limit=BUFFER, backlog=BACKLOG)
    threading.Thread(target=watch, daemon=True).start()
    print(f"listening {server.sockets[0].getsockname()[1]}", flush=True)
    await ended.wait()
    # Held connections must not hold the process back.
    os._exit(0)


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", type=int, required=True, help="the endpoint's port")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free port")
    args = parser.parse_args()
    asyncio.run(run(args.upstream, args.port))


if __name__ == "__main__":
    main()

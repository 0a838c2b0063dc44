#!/usr/bin/env python3
"""Measures publishing a disk beside coldsnap, to the same endpoint in the same run. Part of `just bench`.

What is compared, and what keeps it fair:

(g) A disk of 2 GiB with 1 GiB of data that cannot be compressed, in stretches between holes, as a file system has it:
    `rekiln publish` from start to end (the ledger, the snapshot with its checksums, its wait for three successes in a
    row, the AMI and the wait for that) against `coldsnap upload --wait`, which makes the snapshot alone, of the same
    file. The digests of the blocks are there already, as the bake has recorded them; each is computed again to check. Both over HTTP to tests/aws/endpoint.py, which takes blocks as fast as its one processor
    hashes them, so that wall-clock time is the endpoint's as much as theirs; processor time is their own. They take turns.
(h) Bytes of that disk that are sent: coldsnap told to leave out zeros, and as it is called by default.

Needs `cargo build --release`, coldsnap (`cargo install coldsnap --root target/bench`), and the endpoint's packages, which
`cargo test --test integration publish::the_endpoint` installs.
"""

import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import bench

TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", bench.ROOT / "target"))
# Where the tests install the endpoint's packages.
PACKAGES = TARGET / "pytools-aws"
REGION = "eu-central-1"
BLOCK = bench.SNAPSHOT_BLOCK
GIB = 1 << 30
# Data and holes take turns in stretches of so many blocks.
STRETCH = 64


class Endpoint:
    """AWS as the tests have it; it ends with its input."""

    def __init__(self):
        command = [sys.executable, "-B", bench.ROOT / "tests" / "aws" / "endpoint.py"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, text=True, env={**os.environ, "PYTHONPATH": str(PACKAGES)}, **pipes)
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline().split()[1])}"

    def control(self, path, **given):
        data = json.dumps(given).encode() if given or path == "reset" else None
        with urllib.request.urlopen(f"{self.url}/control/{path}", data) as answer:
            return json.load(answer)

    def sent(self):
        """Returns how many blocks its snapshots have."""
        snapshots = self.control("state")["snapshots"]
        return sum(len(self.control("content", snapshot=snapshot["id"])) for snapshot in snapshots)

    def end(self):
        self.process.kill()
        self.process.wait()


def program(name, *others):
    """Returns where a program is, or ends."""
    found = next((path for path in others if path.is_file()), None) or shutil.which(name)
    return found or sys.exit(f"bench: `{name}` is missing: see the head of {pathlib.Path(__file__).name}")


def needs():
    """Returns rekiln and coldsnap, or ends and says what is missing."""
    if not (PACKAGES / "installed").is_file():
        sys.exit("bench: no packages of the endpoint: run `cargo test --test integration publish::the_endpoint`")
    rekiln = program("rekiln", TARGET / "release" / "rekiln")
    return rekiln, program("coldsnap", TARGET / "bench" / "bin" / "coldsnap")


def write_disk(path):
    """Writes the disk and, beside it, the digests of its blocks as a bake does; returns both digests."""
    numbers, blocks = random.Random(1), {}
    with open(path, "wb") as file:
        file.truncate(2 * GIB)
        for first in range(0, 2 * GIB // BLOCK, 2 * STRETCH):
            file.seek(first * BLOCK)
            for number in range(first, first + STRETCH):
                block = numbers.randbytes(BLOCK)
                blocks[number] = hashlib.sha256(block).hexdigest()
                file.write(block)
    recorded = json.dumps(blocks).encode()
    path.with_name("blocks.json").write_bytes(recorded)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), hashlib.sha256(recorded).hexdigest()


def write_record(store):
    """Puts the disk into a store as an image that passed; returns its id, and where the disk lies."""
    image = hashlib.sha256(b"bench").hexdigest()
    disk = store / "images" / image / "disk.raw"
    disk.parent.mkdir(parents=True)
    digest, blocks = write_disk(disk)
    verdict = {
        "passed": True, "reasons": [], "open_ports": [], "ready_s": None, "serving_s": None, "accelerator": "tcg",
        "failed_units": [], "at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    record = {
        "version": 1, "id": image, "name": "web", "debug": False, "commit": None, "clean": False, "lock": image,
        "parents": [], "disk": {"sha256": digest, "blocks": blocks, "size": 2 * GIB, "partitions": []}, "root_hash": image,
        "cmdline": "", "layers": [], "kernel": None, "ports": [], "services": [], "exceptions": [], "packages": {},
        "findings": [], "verdict": verdict, "baked": "2026-01-01T00:00:00Z", "timings": {},
    }  # fmt: skip
    (store / "images" / image / "record.json").write_text(json.dumps(record))
    return image, disk


def timed(command, environment):
    """Returns wall-clock and processor seconds of a command."""
    start, used = time.monotonic(), bench.processor_seconds()
    bench.run(command, env=environment)
    return time.monotonic() - start, bench.processor_seconds() - used


def uploads(work, runs):
    """Returns rows with what publishing costs."""
    rekiln, coldsnap = needs()
    # The ledger of one run would make the next one quick, so that each has a store of its own with the same disk.
    template = work / "upload"
    template.mkdir()
    bench.run([rekiln, "init", work / "published"])
    image, disk = write_record(template)
    endpoint = Endpoint()
    environment = {name: value for name, value in os.environ.items() if not name.lower().startswith("aws_")}
    environment |= {
        "AWS_ENDPOINT_URL": endpoint.url, "AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }  # fmt: skip
    own, peer, counts = [], [], []
    try:
        for number in range(runs):
            bench.say(f"uploads {number + 1} of {runs}")
            store = work / f"published-{number}"
            shutil.copytree(template, store, copy_function=os.link)
            publish = [rekiln, "-C", work / "published", "--store", store, "publish", image[:12], "--region", REGION]
            own.append((*timed(publish, environment), endpoint.sent()))
            endpoint.control("reset")
            upload = [coldsnap, "--region", REGION, "--endpoint", endpoint.url, "upload", "--wait", "--no-progress", disk]
            peer.append((*timed([*upload, "--omit-zero-blocks"], environment), endpoint.sent()))
            endpoint.control("reset")
            if not counts:
                timed(upload, environment)
                counts.append(endpoint.sent())
                endpoint.control("reset")
    finally:
        endpoint.end()
    wall, processor, blocks = zip(*own)
    peer_wall, peer_processor, peer_blocks = zip(*peer)
    row, median, mib = bench.row, statistics.median, BLOCK / (1 << 20)
    return [
        row("g", "publish 1 GiB of data", "s", median(wall), median(peer_wall), "ratio", 1.0, wall, peer_wall),
        row("g", "its processor time", "s", median(processor), median(peer_processor), "ratio", 1.0, processor, peer_processor),
        row("h", "sent, zeros left out", "MiB", blocks[0] * mib, peer_blocks[0] * mib, "ratio", 1.0),
        row("h", "sent, as called by default", "MiB", blocks[0] * mib, counts[0] * mib, "ratio", 1.0),
    ]


def main():
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("bench: ended"))
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    work = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=TARGET))
    load = [os.getloadavg()[0]]
    try:
        rows = uploads(work, runs)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    load.append(os.getloadavg()[0])
    bench.show({"machine": bench.machine_words("none"), "runs": runs, "load": load, "rows": rows})


if __name__ == "__main__":
    main()

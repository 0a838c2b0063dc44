#!/usr/bin/env python3
"""Measures deriving an image from a vendor's disk beside Packer, in one run on one machine. `just bench-derive`.

What is compared, and what keeps it fair:

(i) An image with nginx and one page from the disk that tests/derive/vendor.py makes: `rekiln bake` of a recipe with
    `[source] disk`, in an empty store, against Packer's qemu builder with `disk_image`. Both boot a copy of the same
    qcow2, which is on this disk already and whose digest both check; install the package from the archive that the vendor's
    apt knows; bring the same file and the same unit's state; clean up what a first boot leaves; power off; and end with an
    image of their own. Packer finds its key by a NoCloud seed and waits until cloud-init has finished, as its users have it;
    rekiln starts the disk's kernel itself, without cloud-init, and has the package chosen and downloaded meanwhile, which is
    what it is faster by. Same machine type, processor, processors, memory, disk bus, cache and accelerator. rekiln besides
    hardens the image and inspects its bytes, which Packer has nothing like: that is in its time. They take turns, so
    that both meet the same load.
(j) The disk that comes out, in bytes that are not holes.

Packer is Debian's (1.6.6), which has the qemu builder built in; it waits at least a second for a boot command that is not
there, and polls SSH as it always does.

Needs root, `cargo build --release`, packer, openssh-client, and what tests/derive/vendor.py and rekiln need.
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import bench

VENDOR = bench.ROOT / "tests" / "derive" / "vendor.py"
MIB = 1 << 20
# What rekiln gives the machine in which it derives.
MEMORY_MIB = 1024
CPUS = 2
# A stock image on a translated machine that shares its processors has been seen to need 150 s until SSH answers.
SSH_TIMEOUT = "20m"
PAGE = "<h1>hello</h1>\n"
PAGE_PATH = "/var/www/html/index.html"

RECIPE = """\
packages = ["nginx-light"]

[source]
disk = {{ path = "{disk}", sha256 = "{sha256}" }}

[[file]]
path = "{page}"
template = "web/page.html.hbs"

[services]
enable = ["nginx"]
ports = ["22/tcp", "80/tcp"]
"""

INSTALL = [
    # Exit status 2 is a boot with warnings, from cloud-init 23.4 on.
    "cloud-init status --wait || [ $? -eq 2 ]",
    "export DEBIAN_FRONTEND=noninteractive",
    "apt-get -q -o DPkg::Lock::Timeout=300 update",
    "apt-get -q -y --no-install-recommends install nginx-light",
    "systemctl enable nginx",
]
# What people who build images with Packer remove of the machine that it was.
SEAL = [
    "apt-get clean",
    "rm -rf /var/lib/apt/lists/* /tmp/* /var/tmp/*",
    "cloud-init clean --logs --seed",
    "rm -f /etc/ssh/ssh_host_* /root/.ssh/authorized_keys /root/.bash_history /var/lib/systemd/random-seed",
    "rm -rf /var/log/journal/*",
    "find /var/log -type f -exec truncate -s 0 {} +",
    "truncate -s 0 /etc/machine-id",
    "fstrim -a",
    "sync",
]


class Vendor:
    """The vendor's image and its digest."""

    def __init__(self, work):
        self.disk = work / "vendor.qcow2"
        bench.run([sys.executable, "-B", VENDOR, self.disk])
        with open(self.disk, "rb") as file:
            self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()


def holeless(path):
    """Returns how many bytes of a file are not holes."""
    return path.stat().st_blocks * 512


class Packer:
    """Packer's qemu builder, with nothing of the user's."""

    def __init__(self, work, vendor, accel):
        self.work, self.vendor, self.accel = work / "packer", vendor, accel
        self.work.mkdir()
        self.key = self.make_key()
        self.seed = self.make_seed()
        self.page = self.work / "index.html"
        self.page.write_text(PAGE)

    def make_key(self):
        key = self.work / "key"
        bench.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", key])
        return key

    def make_seed(self):
        """Writes a NoCloud seed as a FAT image."""
        public = pathlib.Path(f"{self.key}.pub").read_text().strip()
        user = {"disable_root": False, "users": [{"name": "root", "ssh_authorized_keys": [public]}]}
        (self.work / "user-data").write_text(f"#cloud-config\n{json.dumps(user)}\n")
        (self.work / "meta-data").write_text(json.dumps({"instance-id": "bench"}))
        seed = self.work / "seed.img"
        with open(seed, "wb") as file:
            file.truncate(MIB)
        bench.run(["mkfs.vfat", "-n", "CIDATA", seed])
        bench.run(["mcopy", "-i", seed, self.work / "user-data", self.work / "meta-data", "::"])
        return seed

    def template(self, output):
        """Returns a template that makes the image below a directory."""
        disk = output / "image"
        cpu = "host" if self.accel == "kvm" else "max,la57=off"
        accel = "kvm" if self.accel == "kvm" else "tcg,thread=multi"
        builder = {
            "type": "qemu", "accelerator": self.accel, "headless": True, "machine_type": "q35",
            "disk_image": True, "iso_url": str(self.vendor.disk), "iso_checksum": f"sha256:{self.vendor.sha256}",
            "format": "qcow2", "skip_resize_disk": True, "use_backing_file": False,
            "output_directory": str(output), "vm_name": disk.name,
            "memory": MEMORY_MIB, "cpus": CPUS, "net_device": "virtio-net", "disk_interface": "virtio",
            # A negative time is none; there is nothing to type.
            "boot_wait": "-1s",
            "ssh_username": "root", "ssh_private_key_file": str(self.key), "ssh_timeout": SSH_TIMEOUT,
            "ssh_handshake_attempts": 1000, "shutdown_command": "systemctl poweroff", "shutdown_timeout": SSH_TIMEOUT,
            # Drives given here are all drives; the seed is one.
            "qemuargs": [
                ["-machine", "type=q35"], ["-accel", accel], ["-cpu", cpu],
                ["-drive", f"file={disk},if=virtio,cache=unsafe,discard=unmap,format=qcow2"],
                ["-drive", f"file={self.seed},if=virtio,format=raw,readonly=on"],
                ["-device", "virtio-rng-pci"], ["-device", "virtio-net,netdev=user.0"],
            ],
        }  # fmt: skip
        provisioners = [
            {"type": "shell", "inline": ["set -e", *INSTALL]},
            {"type": "file", "source": str(self.page), "destination": PAGE_PATH},
            {"type": "shell", "inline": ["set -e", *SEAL]},
        ]
        return {"builders": [builder], "provisioners": provisioners}

    def build(self):
        """Returns wall-clock seconds, processor seconds, and bytes of the image."""
        output, template = self.work / "output", self.work / "template.json"
        template.write_text(json.dumps(self.template(output)))
        # Nobody is asked for newer versions, and nothing is kept in anybody's home.
        temporary = self.work / "tmp"
        temporary.mkdir()
        environment = {
            **os.environ, "CHECKPOINT_DISABLE": "1", "PACKER_NO_COLOR": "1", "PACKER_CACHE_DIR": str(self.work / "cache"),
            "PACKER_CONFIG": str(self.work / "none"), "PACKER_CONFIG_DIR": str(self.work), "HOME": str(self.work),
            "TMPDIR": str(temporary),
        }  # fmt: skip
        start, used = time.monotonic(), bench.processor_seconds()
        bench.run(["packer", "build", template], env=environment)
        seconds, used = time.monotonic() - start, bench.processor_seconds() - used
        size = holeless(output / "image")
        for left in (output, temporary, self.work / "cache"):
            shutil.rmtree(left, ignore_errors=True)
        return seconds, used, size


class Rekiln:
    """The release build, on a repository with one recipe."""

    def __init__(self, work, vendor):
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", bench.ROOT / "target"))
        self.program = target / "release" / "rekiln"
        if not self.program.is_file():
            sys.exit("bench: no release build: run `cargo build --release`")
        self.work, self.repo = work, work / "repo"
        page = self.repo / "bootstrap" / "web" / "page.html.hbs"
        page.parent.mkdir(parents=True)
        page.write_text(PAGE)
        (self.repo / "images").mkdir()
        recipe = RECIPE.format(disk=vendor.disk, sha256=vendor.sha256, page=PAGE_PATH)
        (self.repo / "images" / "web.toml").write_text(recipe)
        self.call(work / "first", "lock", "web")
        shutil.rmtree(work / "first", ignore_errors=True)

    def call(self, store, *words):
        return bench.run([self.program, "-C", self.repo, "--store", store, "--json", *words])

    def accelerator(self):
        """Returns what machines run with here, as rekiln finds by trying the kernel of one of this repository's locks."""
        command = [self.program, "-C", bench.ROOT, "--store", self.work / "doctor", "--json", "doctor"]
        # It ends with 1 when anything is missing; what it found is said all the same.
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        return "kvm" if any(row.get("what") == "KVM" and row.get("state") == "good" for row in rows) else "tcg"

    def build(self):
        """Returns wall-clock seconds, processor seconds, and bytes of the image."""
        store = self.work / "store"
        store.mkdir()
        start, used = time.monotonic(), bench.processor_seconds()
        out = self.call(store, "bake", "web", "--no-boot")
        seconds, used = time.monotonic() - start, bench.processor_seconds() - used
        record = json.loads(out.strip().splitlines()[-1])
        if record["cached"]:
            sys.exit("bench: the wrong thing was measured: the image was there")
        size = holeless(pathlib.Path(record["disk"]))
        shutil.rmtree(store)
        return seconds, used, size


def derived(work, runs, sides=("rekiln", "packer"), accel=None):
    """Returns rows with what deriving costs. A side that is left out has no numbers."""
    bench.say("the vendor's image (not measured)")
    work = work / "derive"
    work.mkdir()
    vendor = Vendor(work)
    rekiln = Rekiln(work, vendor) if "rekiln" in sides else None
    accel = accel or (rekiln.accelerator() if rekiln else "tcg")
    packer = Packer(work, vendor, accel) if "packer" in sides else None
    own, peer = [], []
    for number in range(runs):
        for name, side, found in (("rekiln", rekiln, own), ("Packer", packer, peer)):
            if side:
                bench.say(f"{name} derives, {number + 1} of {runs}")
                found.append(side.build())
                bench.say(f"{found[-1][0]:.1f} s, of which processors {found[-1][1]:.1f} s")

    def row(key, what, unit, column, aim, scale=1.0):
        values, references = ([result[column] * scale for result in found] for found in (own, peer))
        middle = lambda numbers: statistics.median(numbers) if numbers else None
        if not values:
            # Packer alone: its numbers stand where ours would, without a ratio.
            return {**bench.row(key, f"{what} (Packer)", unit, middle(references), None, "value", aim), "met": None}
        return bench.row(key, what, unit, middle(values), middle(references), "ratio" if references else "value",
                         aim, values, references)  # fmt: skip

    return [
        row("i", "image from a vendor's disk", "s", 0, 0.7),
        row("i", "its processor time", "s", 1, 1.0),
        row("j", "its disk", "MiB", 2, 1.0, 1 / MIB),
    ]


def needs():
    for program, package in (("packer", "packer"), ("ssh-keygen", "openssh-client"), ("mcopy", "mtools")):
        if not shutil.which(program):
            sys.exit(f"bench: `{program}` is missing: apt-get install {package}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="repetitions of each; the medians are shown [3]")
    parser.add_argument("--only", choices=("rekiln", "packer"), help="measures one side alone")
    parser.add_argument("--accelerator", choices=("kvm", "tcg"), help="for Packer [what rekiln finds]")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also writes everything measured to FILE")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench: needs root, as baking does")
    needs()
    # So that Ctrl-C and a closed terminal unwind like any error, and machines and files go.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("bench: ended"))
    parent = bench.ROOT / "target"
    parent.mkdir(exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
    load = [os.getloadavg()[0]]
    sides = (options.only,) if options.only else ("rekiln", "packer")
    try:
        rows = derived(work, options.runs, sides, options.accelerator)
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(work)
    load = sorted(round(value, 2) for value in (*load, os.getloadavg()[0]))
    machine = bench.machine_words(options.accelerator or "as rekiln finds it")
    result = {"machine": machine, "runs": options.runs, "load": load, "rows": rows}
    bench.show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

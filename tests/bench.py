#!/usr/bin/env python3
"""Measures rekiln beside the field's own tools, in one run on one machine. `just bench`.

What is compared, and what keeps it fair:

(a) A cold bake of images/web: an empty store whose vault is full, against mmdebstrap of the same packages with
    its .debs cached (one warm-up run fills the cache) and its indexes read from the network, as it always does,
    followed by mkfs.erofs of the tree. Both have every .deb on this disk; rekiln has its lock, which is its point.
    The bake ends with an inspected GPT disk with UKI and hash tree; the reference ends with a bare file system.
(b) The bake after only a variable of a template changed.
(c) The bake of an unchanged image.
(d) Seconds from QEMU's start to the first HTTP 200: rekiln's image booted directly, against the tree of (a) with
    initramfs-tools and Debian's default units, booted from ext4 (initramfs-tools leaves the erofs module out).
    Same machine type, processors, memory and poll; the two take turns, so that both meet the same load.
(e) Apparent size of the disk.
(f) What has to be sent of a disk when the image before is published already, as a share of all that is not zero, in the
    blocks of 512 KiB that AWS cuts it into: one value in one file changed; one small package more in the ground, which
    everything else stands on; the kernel updated. With locks that know where packages lay, as they are after a bake.

(g), (h) Publishing beside coldsnap: see bench_upload.py, which also measures it alone.

(i), (j) Deriving an image from a vendor's disk beside Packer: see bench_derive.py, which also measures it alone.

Needs root, `cargo build --release`, mmdebstrap, e2fsprogs, rekiln's own programs, and what bench_upload.py and
bench_derive.py need.
"""

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What people wait for in practice: a tenth of a second more or less is not felt.
POLL_S = 0.1
# A stock image on a translated, busy machine has been seen to take 64 s.
BOOT_LIMIT_S = 240
# What fleets/web.toml gives its machines; a stock Debian with nginx starts in it too.
MEMORY_MIB = 256
CPUS = 2
# Room for the stock tree (about 400 MiB) with ext4's own tables; the file is sparse.
EXT4_SIZE = "1G"

# A block of the EBS direct APIs.
SNAPSHOT_BLOCK = 512 << 10
# What the recipe of the ground names for its kernel: always the newest.
KERNEL = "linux-image-cloud-amd64"

# The keys of Debian's archives, as apt has them.
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# mmdebstrap mounts /proc, /sys and devices into its tree, in whatever namespace it finds itself; killed, it would leave
# them, and whoever removes the tree would walk into them. In namespaces of its own, they and its children go with it.
CLOSED = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--"]

# What a machine of one's own needs besides the packages: a network by DHCP and nginx, both started at boot. Debian's
# nginx package enables itself, and the default site answers 200.
NETWORK = "[Match]\nName=eth0\n[Network]\nDHCP=yes\n"


def run(command, **options):
    """Runs a command, silent unless it fails. When the bench is ended meanwhile, the command's children end too."""
    command = [str(word) for word in command]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # A session of its own: mmdebstrap's children go on working when only their parent is killed.
    with subprocess.Popen(command, text=True, start_new_session=True, **pipes, **options) as process:
        try:
            out, err = process.communicate()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode != 0:
        sys.exit(f"bench: {' '.join(command)[:200]} ended with {process.returncode}:\n{err[-3000:]}")
    return out


def processor_seconds():
    """Returns what all ended programs of this run have used; it tells more than the clock on a busy machine."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


class Rekiln:
    """The release build, on a scratch copy of the repository."""

    def __init__(self, work):
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        self.program = target / "release" / "rekiln"
        if not self.program.is_file():
            sys.exit("bench: no release build: run `cargo build --release`")
        self.repo = work / "repo"
        self.repo.mkdir()
        for part in ("images", "bootstrap", "fleets"):
            shutil.copytree(ROOT / part, self.repo / part)
        self.vault = work / "vault"

    def call(self, store, *words):
        """Returns wall-clock seconds and the last line of `--json`."""
        command = [self.program, "-C", self.repo, "--store", store, "--json", *words]
        start = time.monotonic()
        out = run(command)
        seconds = time.monotonic() - start
        lines = out.strip().splitlines()
        return seconds, json.loads(lines[-1]) if lines else None

    def fill_vault(self, work):
        """Makes locks that fit this machine and fetches what they name; returns the disk's record."""
        store = work / "first"
        # Locks name tool versions; on a machine with others, or when versions are gone, new locks are needed.
        command = [self.program, "-C", self.repo, "--store", store, "--json", "bake", "web", "--no-boot"]
        if subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode != 0:
            say("the repository's locks do not bake here; refreshing them in the scratch copy")
            self.call(store, "lock", "--all", "--update")
        self.call(store, "bake", "web", "--no-boot")
        shutil.copytree(store / "vault", self.vault)
        shutil.rmtree(store)

    def empty_store(self, path):
        path.mkdir()
        # Hard links: the same bytes, as in a store that has been used before.
        shutil.copytree(self.vault, path / "vault", copy_function=os.link)
        return path


def packages_of_recipes():
    """Returns the packages that the recipes name; both tools add those that these depend on."""
    names = set()
    for recipe in ("base", "web"):
        names |= set(tomllib.loads((ROOT / "images" / f"{recipe}.toml").read_text())["packages"])
    return sorted(names)


class Stock:
    """The same packages by mmdebstrap, with initramfs-tools and Debian's default units."""

    def __init__(self, work):
        self.work = work
        self.cache = work / "debs"
        self.cache.mkdir()
        self.sources = work / "sources.list"
        self.sources.write_text(debian_sources())
        # Debian's kernel depends on initramfs-tools or another maker of an initrd; this says which.
        self.packages = [*packages_of_recipes(), "initramfs-tools"]

    def tree(self, tree):
        """Makes the tree as a directory; .debs come from the cache once it is warm."""
        # As mmdebstrap(1) caches: .debs are put in before the first download, and once taken out after the last.
        archives = '"$1"/var/cache/apt/archives'
        cached = any(self.cache.glob("*.deb"))
        if cached:
            cache = [f"--setup-hook=mkdir -p {archives}; cp -al {self.cache}/*.deb {archives}/"]
        else:
            cache = ["--skip=essential/unlink", f"--customize-hook=cp {archives}/*.deb {self.cache}/"]
        run(
            [
                *CLOSED, "mmdebstrap", "--quiet", "--variant=essential", "--format=directory", *cache,
                "--aptopt=Apt::Install-Recommends false",
                "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
                f"--include={','.join(self.packages)}",
                "--customize-hook=printf '%s' \"$NETWORK\" > \"$1/etc/systemd/network/80-dhcp.network\"",
                "--customize-hook=chroot \"$1\" systemctl enable systemd-networkd nginx",
                "bookworm", tree, self.sources,
            ],
            env={**os.environ, "NETWORK": NETWORK, "SOURCE_DATE_EPOCH": "1700000000"},
        )  # fmt: skip

    def build(self, number):
        """Returns wall-clock and processor seconds for tree and file system together, bytes, and the tree."""
        tree, image = self.work / f"tree{number}", self.work / "stock.erofs"
        start, used = time.monotonic(), processor_seconds()
        self.tree(tree)
        run(["mkfs.erofs", "-T1700000000", image, tree])
        seconds, used = time.monotonic() - start, processor_seconds() - used
        size = image.stat().st_size
        image.unlink()
        return seconds, used, size, tree

    def bootable(self, tree):
        """Writes the tree to ext4 and returns what boots it."""
        disk = self.work / "stock.ext4"
        run(["truncate", "-s", EXT4_SIZE, disk])
        run(["mkfs.ext4", "-q", "-F", "-d", tree, disk])
        boot = tree / "boot"
        kernel, initrd = max(boot.glob("vmlinuz-*")), max(boot.glob("initrd.img-*"))
        for name, source in (("stock.kernel", kernel), ("stock.initrd", initrd)):
            shutil.copy(source, self.work / name)
        line = "root=/dev/vda rw console=ttyS0 quiet net.ifnames=0 systemd.firstboot=off"
        return self.work / "stock.kernel", self.work / "stock.initrd", line, disk


def debian_sources():
    """Returns this machine's own entries for bookworm, as one-line sources."""
    lines = []
    fields = "$(RELEASE) $(COMPONENT) $(REPO_URI)"
    targets = run(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"])
    for line in targets.splitlines():
        release, component, uri = line.split()
        if release.startswith("bookworm") and component == "main":
            lines.append(f"deb [signed-by={KEYRING}] {uri} {release} {component}")
    if not lines:
        sys.exit("bench: this machine's apt has no source for bookworm")
    return "\n".join(sorted(set(lines))) + "\n"


def accelerator(record):
    """Uses what rekiln's own boot verdict found to work on this machine."""
    return record["verdict"]["accelerator"] if record.get("verdict") else "tcg"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port):
    # Short: a request that came before the guest's network hangs, and would hide when the next one is served.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=0.5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def boot(kernel, initrd, line, disk, accel, console):
    """Returns seconds from QEMU's start to the first HTTP 200."""
    port = free_port()
    fast = ["kvm", "host"] if accel == "kvm" else ["tcg,thread=multi", "max,la57=off"]
    command = [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35",
        "-accel", fast[0], "-cpu", fast[1], "-m", f"{MEMORY_MIB}M", "-smp", str(CPUS),
        "-kernel", kernel, "-initrd", initrd, "-append", line,
        "-drive", f"if=none,id=disk,format=raw,snapshot=on,file={disk}", "-device", "virtio-blk-pci,drive=disk",
        "-serial", f"file:{console}",
        "-netdev", f"user,id=user,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:80",
        "-device", "virtio-net-pci,netdev=user,romfile=",
    ]  # fmt: skip
    start = time.monotonic()
    machine = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL)
    try:
        while time.monotonic() - start < BOOT_LIMIT_S:
            if answers(port):
                return time.monotonic() - start
            if machine.poll() is not None:
                break
            time.sleep(POLL_S)
        tail = pathlib.Path(console).read_text(errors="replace")[-2000:]
        sys.exit(f"bench: a machine did not answer:\n{tail}")
    finally:
        machine.kill()
        machine.wait()


def change_greeting(repo, text):
    path = repo / "images" / "web.toml"
    old = path.read_text()
    lines = [f'greeting = "{text}"' if line.startswith("greeting") else line for line in old.splitlines()]
    path.write_text("\n".join(lines) + "\n")


def blocks(disk):
    """Returns a digest of each block, and None for zeros, which nobody sends."""
    found = []
    with open(disk, "rb") as file:
        while block := file.read(SNAPSHOT_BLOCK):
            found.append(hashlib.sha256(block).digest() if block.strip(b"\0") else None)
    return found


def share(before, after):
    """Returns how much of a disk has to be sent in percent of what a whole upload is."""
    before, after = blocks(before), blocks(after)
    before += [None] * (len(after) - len(before))
    differ = sum(old != new for old, new in zip(before, after))
    return 100 * differ / sum(block is not None for block in after)


def older_kernel():
    """Returns the name of the second newest kernel that this machine's apt knows, or None."""
    names = run(["apt-cache", "pkgnames", "linux-image-"]).split()
    kernels = [name for name in names if name.endswith("-cloud-amd64") and name[len("linux-image-")].isdigit()]
    version = lambda name: [int(part) for part in name.replace("-", ".").split(".") if part.isdigit()]
    real = [name for name in sorted(kernels, key=version) if "unsigned" not in name]
    return real[-2] if len(real) > 1 else None


def deltas(rekiln, work):
    """Returns rows with what differs between an image and the next."""
    store, ground = rekiln.empty_store(work / "deltas"), rekiln.repo / "images" / "base.toml"
    recipe = ground.read_text()
    bake = lambda: rekiln.call(store, "bake", "web", "--no-boot")[1]["disk"]

    def updated(old, new):
        ground.write_text(recipe.replace(*old) if old else recipe)
        rekiln.call(store, "lock", "--all")
        before = bake()
        ground.write_text(recipe.replace(*new) if new else recipe)
        rekiln.call(store, "lock", "--all")
        return share(before, bake())

    say("what differs between images")
    change_greeting(rekiln.repo, "hello")
    before = bake()
    change_greeting(rekiln.repo, "hello again")
    rows = [row("f", "to send: a value changed", "%", share(before, bake()), None, "value", 3.0)]
    more = updated(None, ('"udev",', '"udev",\n    "tree",'))
    rows.append(row("f", "to send: a package more", "%", more, None, "value", 10.0))
    if kernel := older_kernel():
        newer = updated((KERNEL, kernel), None)
        rows.append(row("f", "to send: a newer kernel", "%", newer, None, "value", 40.0))
    else:
        say("this machine's apt knows one kernel only: its update is not measured")
    return rows


def machine_words(accel):
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    return f"{os.cpu_count()} x {model}, {memory} GiB, Linux {os.uname().release}, QEMU accelerator {accel}"


def measure(work, runs):
    import bench_derive  # pylint: disable=import-outside-toplevel,cyclic-import
    import bench_upload  # pylint: disable=import-outside-toplevel,cyclic-import

    load = [os.getloadavg()[0]]
    rekiln, stock = Rekiln(work), Stock(work)
    say("filling the vault and mmdebstrap's cache (not measured)")
    rekiln.fill_vault(work)
    stock.tree(work / "warm")
    shutil.rmtree(work / "warm")

    cold, changed, unchanged, reference = [], [], [], []
    cold_cpu, reference_cpu = [], []
    tree, store, record, stock_size = None, None, None, 0
    for number in range(runs):
        say(f"bakes {number + 1} of {runs}")
        if store:
            shutil.rmtree(store)
        store = rekiln.empty_store(work / f"store{number}")
        change_greeting(rekiln.repo, "hello")
        used = processor_seconds()
        seconds, _ = rekiln.call(store, "bake", "web", "--no-boot")
        cold.append(seconds)
        cold_cpu.append(processor_seconds() - used)
        # The page keeps the text that the recipe's check wants.
        change_greeting(rekiln.repo, f"hello again {number}")
        seconds, record = rekiln.call(store, "bake", "web", "--no-boot")
        changed.append(seconds)
        seconds, again = rekiln.call(store, "bake", "web", "--no-boot")
        assert again["cached"] and not record["cached"], "the wrong thing was measured"
        unchanged.append(seconds)
        if tree:
            shutil.rmtree(tree)
        seconds, used, stock_size, tree = stock.build(number)
        reference.append(seconds)
        reference_cpu.append(used)
        load.append(os.getloadavg()[0])

    say("the boot verdict, which finds the accelerator (not measured)")
    rekiln.call(store, "bake", "web")
    _, full = rekiln.call(store, "image", "web")
    accel = accelerator(full)
    disk = pathlib.Path(record["disk"])
    ours = (disk.with_name("kernel"), disk.with_name("initrd"), disk.with_name("cmdline").read_text().strip(), disk)
    theirs = stock.bootable(tree)
    own_boot, stock_boot = [], []
    for number in range(runs):
        say(f"boots {number + 1} of {runs}")
        own_boot.append(boot(*ours, accel, work / "console"))
        stock_boot.append(boot(*theirs, accel, work / "console"))
        load.append(os.getloadavg()[0])

    mib = 1 << 20
    median = statistics.median
    return {
        "machine": machine_words(accel),
        "runs": runs,
        "load": [round(min(load), 2), round(max(load), 2)],
        "processor_seconds": {"cold bake": median(cold_cpu), "reference": median(reference_cpu)},
        "rows": [
            row("a", "cold bake, vault full", "s", median(cold), median(reference), "ratio", 0.4, cold, reference),
            row("b", "bake, a variable changed", "s", median(changed), None, "value", 2.0, changed),
            row("c", "bake, nothing changed", "s", median(unchanged), None, "value", 0.2, unchanged),
            row("d", "start to first HTTP 200", "s", median(own_boot), median(stock_boot), "ratio", 0.5, own_boot, stock_boot),
            row("e", "disk", "MiB", disk.stat().st_size / mib, stock_size / mib, "value", 160.0),
            *deltas(rekiln, work),
            *bench_upload.uploads(work, runs),
            *bench_derive.derived(work, runs, accel=accel),
        ],
    }


def row(key, what, unit, value, reference, kind, aim, values=(), references=()):
    ratio = value / reference if reference else None
    return {
        "key": key, "what": what, "unit": unit, "value": value, "reference": reference, "ratio": ratio,
        "aim": aim, "aim_of": kind, "met": (ratio if kind == "ratio" else value) <= aim,
        "values": list(values), "references": list(references),
    }  # fmt: skip


def show(result):
    print(f"{result['machine']}; medians of {result['runs']}; load {result['load'][0]} to {result['load'][1]}\n")
    head = ("", "what", "value", "reference", "ratio", "aim", "met")
    rows = [head]
    for entry in result["rows"]:
        number = lambda value, unit=entry["unit"]: "" if value is None else f"{value:.2f} {unit}"
        aim = f"ratio <= {entry['aim']}" if entry["aim_of"] == "ratio" else f"<= {number(entry['aim'])}"
        ratio = "" if entry["ratio"] is None else f"{entry['ratio']:.2f}"
        rows.append((entry["key"], entry["what"], number(entry["value"]), number(entry["reference"]), ratio, aim,
                     {True: "yes", False: "NO", None: ""}[entry["met"]]))  # fmt: skip
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(head))]
    for cells in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip())
    if "processor_seconds" not in result:
        return
    print("\nreference of (a) and (e): mmdebstrap and mkfs.erofs of the same packages; of (d): that tree with an")
    print("initramfs-tools initrd and Debian's default units, on ext4")
    used = result["processor_seconds"]
    print(f"processor time of (a): {used['cold bake']:.1f} s, reference {used['reference']:.1f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="repetitions of each; the medians are shown [3]")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also writes everything measured to FILE")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench: needs root, as baking does")
    for program in ("mmdebstrap", "mkfs.erofs", "mkfs.ext4", "qemu-system-x86_64"):
        if not shutil.which(program):
            sys.exit(f"bench: `{program}` is missing: apt-get install mmdebstrap erofs-utils e2fsprogs qemu-system-x86")
    # Not at the top: they stand on this.
    import bench_derive  # pylint: disable=import-outside-toplevel,cyclic-import
    import bench_upload  # pylint: disable=import-outside-toplevel,cyclic-import

    bench_upload.needs()
    bench_derive.needs()
    # So that Ctrl-C and a closed terminal unwind like any error, and machines and files go.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("bench: ended"))
    # Beside the build, on a real disk: /tmp may be small or memory.
    parent = ROOT / "target"
    parent.mkdir(exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
    # mmdebstrap's own user must reach the cache.
    work.chmod(0o755)
    try:
        result = measure(work, options.runs)
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(work)
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Makes a cloud image as vendors publish them: Debian 12 in a qcow2, without rekiln. `vendor.py OUT.qcow2 [--fs xfs]`.

What it is for: a bake with `[source] disk` starts from such an image. Published ones cannot be fetched where the tests
run, which reach Debian's packages and nothing else; so one is made of packages, by programs that share nothing with rekiln.

What it is like: Debian's own genericcloud image. GPT with the root as partition 1 and last on the disk, so that it can
grow; GRUB for BIOS in partition 14, shim and signed GRUB in the ESP, partition 15; `grub-cloud-amd64`, so that
`update-grub` and kernel updates work in the running machine; Debian's cloud kernel; cloud-init with every data source of
its package and the user `debian`; netplan, systemd-networkd and systemd-resolved; no password, no SSH host keys, no
machine id. What differs, and why:

- apt's sources, keys and proxy are those of this machine, so that the guest reaches the archive that this machine reaches;
  of a proxy or an archive on the loopback, the guest sees QEMU's name for that (10.0.2.2). cloud-init is told to
  leave them alone, as vendors with an archive of their own do; otherwise it writes Debian's default over them.
- No documentation, no recommended packages, no unattended-upgrades: every package costs seconds of each boot and build.
- The initrd has the drivers of virtual machines only, and GRUB does not wait: emulated machines are slow enough.

How it is made: mmdebstrap makes the tree, mke2fs or mkfs.xfs fills a file system from it, sfdisk, mkfs.vfat and mtools
do the rest; nothing is mounted here, only in namespaces of mmdebstrap. The image is kept below Cargo's target directory,
by the digest of this program and of what the archive is, so that a second call only copies; one call at a time makes it.

Needs root, mmdebstrap, fdisk, dosfstools, mtools, qemu-utils, and e2fsprogs or xfsprogs.
"""

import argparse
import contextlib
import fcntl
import glob
import hashlib
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import urllib.parse
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
RELEASE = "bookworm"
# What `packages` and the disk's layout need, and Debian's name of what brings it.
PROGRAMS = {"mmdebstrap": "mmdebstrap", "sfdisk": "fdisk", "mkfs.vfat": "dosfstools", "mcopy": "mtools", "qemu-img": "qemu-utils"}
MAKERS = {"ext4": ("mke2fs", "e2fsprogs"), "xfs": ("mkfs.xfs", "xfsprogs")}

PACKAGES = [
    # What makes it boot; zstd compresses the initrd.
    "linux-image-cloud-amd64", "initramfs-tools", "zstd", "grub-cloud-amd64", "systemd-sysv", "udev",
    # The network as genericcloud has it.
    "netplan.io", "systemd-resolved", "iproute2",
    # What a vendor's image is known by; cloud-guest-utils brings growpart.
    "cloud-init", "cloud-guest-utils", "openssh-server", "sudo",
    "dbus", "libpam-systemd", "systemd-timesyncd", "ca-certificates", "debian-archive-keyring",
]  # fmt: skip

# mmdebstrap mounts /proc, /sys and devices into its tree, in whatever namespace it finds itself; killed, it would leave
# them, and whoever removes the tree would walk into them. In namespaces of its own, they and its children go with it.
CLOSED = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--"]

MIB = 1 << 20
SECTOR = 512
# The size that genericcloud has; about a gigabyte of it is free.
DISK_MIB = 2048
# Where genericcloud's partitions begin, and how long they are: BIOS boot, ESP, and the root up to the end.
BIOS_START, BIOS_SECTORS = 2048, 3 * MIB // SECTOR
ESP_START, ESP_SECTORS = 8192, 124 * MIB // SECTOR
ROOT_START = 262144
# The backup of the partition table takes the last 33 sectors; whole megabytes are easier to read.
ROOT_SECTORS = DISK_MIB * MIB // SECTOR - ROOT_START - MIB // SECTOR

# What the loopback of the host is called inside QEMU's user network.
GUEST_NAME_OF_HOST = "10.0.2.2"

# Disks of QEMU, Xen, EC2 and VMware, and both file systems.
MODULES = "virtio_pci virtio_blk virtio_scsi virtio_net nvme xen_blkfront sd_mod ext4 xfs vfat".split()

# As Debian's cloud images have it, without the menu's five seconds.
GRUB_DEFAULTS = """\
GRUB_TIMEOUT=0
GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200 earlyprintk=ttyS0,115200 consoleblank=0"
"""
KERNEL_LINE = "console=tty0 console=ttyS0,115200 earlyprintk=ttyS0,115200 consoleblank=0"

# What GRUB for BIOS must have built in to find its modules; the rest it loads.
CORE_MODULES = "biosdisk part_gpt ext2 xfs search_fs_uuid configfile normal linux".split()

NETPLAN = """\
network:
    version: 2
    ethernets:
        all-en:
            match: {name: en*}
            dhcp4: true
            dhcp4-overrides: {use-domains: true}
            dhcp6: true
            dhcp6-overrides: {use-domains: true}
        all-eth:
            match: {name: eth*}
            dhcp4: true
            dhcp4-overrides: {use-domains: true}
            dhcp6: true
            dhcp6-overrides: {use-domains: true}
"""

CLOUD = """\
apt:
    preserve_sources_list: true
manage_etc_hosts: true
system_info:
    default_user:
        name: debian
        sudo: ALL=(ALL) NOPASSWD:ALL
        shell: /bin/bash
        lock_passwd: true
        gecos: Debian
        groups: [adm, audio, cdrom, dialout, dip, floppy, netdev, plugdev, sudo, video]
"""

HOSTS = """\
127.0.0.1\tlocalhost
::1\t\tlocalhost ip6-localhost ip6-loopback
ff02::1\t\tip6-allnodes
ff02::2\t\tip6-allrouters
"""


def fail(text):
    sys.exit(f"vendor: {text}")


def run(command, **options):
    """Runs a command, silent unless it fails. When this program is ended meanwhile, the command's children end too."""
    command = [str(word) for word in command]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if text := options.pop("input", None):
        pipes["stdin"] = subprocess.PIPE
    # A session of its own, for its children; and it ends when this program is killed outright.
    command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
    with subprocess.Popen(command, text=True, start_new_session=True, **pipes, **options) as process:
        try:
            out, err = process.communicate(text)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode != 0:
        fail(f"{' '.join(command[4:])[:200]} ended with {process.returncode}:\n{(out + err)[-3000:]}")
    return out


class Archive:
    """What this machine's apt knows of the release, as the guest must have it."""

    def __init__(self):
        fields = "$(RELEASE) $(COMPONENT) $(REPO_URI) $(SIGNED_BY) $(FILENAME)"
        known = run(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"])
        entries = set()
        self.dates = set()
        for line in known.splitlines():
            release, component, uri, signed, *_ = line.split()
            if release.startswith(RELEASE) and component == "main":
                entries.add((release, component, uri, keyring(signed)))
        if not entries:
            fail(f"this machine's apt has no source for {RELEASE}, or no list of it: apt-get update")
        self.entries = sorted(entries)
        # With the lists that this machine has, a set of them; the archive itself is asked by mmdebstrap.
        self.settings = settings()

    def keyrings(self):
        return sorted({key for *_, key in self.entries if key})

    def lines(self, address=lambda uri: uri):
        """Returns one-line sources."""
        sources = []
        for release, component, uri, key in self.entries:
            options = f"[signed-by={key}] " if key else ""
            sources.append(f"deb {options}{address(uri)} {release} {component}\n")
        return "".join(sources)


def keyring(signed):
    """Returns the keyring of an entry; apt leaves the field as it stands when there is none, and then has its own."""
    if signed.startswith("/"):
        return signed
    # What the .sources of Debian's own images name.
    debian = "/usr/share/keyrings/debian-archive-keyring.gpg"
    return debian if os.path.exists(debian) else None


def settings():
    """Returns those settings of this machine's apt without which an archive is not reached, or is not believed."""
    wanted = re.compile(r'Acquire::(https?::Proxy(::\S+)?|Check-Valid-Until|Check-Date) "(?!")')
    lines = [f"{line}\n" for line in run(["apt-config", "dump"]).splitlines() if wanted.match(line)]
    for scheme in ("http", "https"):
        # apt takes these too; a name in capitals is no setting of apt.
        if (proxy := os.environ.get(f"{scheme}_proxy")) and not any(f"::{scheme}::Proxy " in line for line in lines):
            lines.append(f'Acquire::{scheme}::Proxy "{proxy}";\n')
    return "".join(lines)


def as_guest(text):
    """Returns an address, or settings with addresses, as they are reached from inside QEMU's user network."""
    return re.sub(r"(?<=//)(localhost|127\.[0-9.]+|\[::1\])(?=[:/\"])", GUEST_NAME_OF_HOST, text)


class Identity:
    """Names of the disk's parts; of the key that the image is kept by, so that the same input makes the same names."""

    def __init__(self, key):
        name = lambda part: str(uuid.uuid5(uuid.NAMESPACE_URL, f"rekiln-vendor:{key}:{part}"))
        self.disk, self.bios, self.esp, self.root = (name(part) for part in ("disk", "bios", "esp", "root"))
        self.filesystem = name("filesystem")
        # What FAT has is four bytes.
        self.fat = name("fat")[:8].upper()


def write(path, text, mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def before_packages(stage, identity, filesystem):
    """Writes what packages look at while they are installed: mmdebstrap copies it into the tree first."""
    write(stage / "usr/share/initramfs-tools/modules.d/vendor", "".join(f"{name}\n" for name in MODULES))
    write(stage / "etc/initramfs-tools/conf.d/vendor", "MODULES=list\nCOMPRESS=zstd\nCOMPRESSLEVEL=1\n")
    options = "rw,discard,errors=remount-ro,x-systemd.growfs" if filesystem == "ext4" else "rw,discard,x-systemd.growfs"
    write(
        stage / "etc/fstab",
        f"UUID={identity.filesystem} / {filesystem} {options} 0 1\n"
        f"UUID={identity.fat[:4]}-{identity.fat[4:]} /boot/efi vfat defaults 0 0\n",
    )
    write(stage / "etc/default/grub.d/15_vendor.cfg", GRUB_DEFAULTS)


def make_tree(work, archive, identity, filesystem):
    """Makes the root as a directory."""
    tree, stage, sources = work / "tree", work / "stage", work / "sources.list"
    before_packages(stage, identity, filesystem)
    sources.write_text(archive.lines())
    packages = [*PACKAGES, *(["xfsprogs"] if filesystem == "xfs" else [])]
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "info", "locale")]
    run(
        [
            *CLOSED, "mmdebstrap", "--quiet", "--variant=apt", "--format=directory", "--mode=root",
            "--aptopt=Apt::Install-Recommends false", "--aptopt=Acquire::Languages none",
            # Of this machine's settings, only what the archive needs.
            *(f"--aptopt={line.strip().rstrip(';')}" for line in archive.settings.splitlines()),
            "--dpkgopt=force-unsafe-io", *excluded,
            f"--include={','.join(packages)}",
            f"--essential-hook=cp -a {stage}/. \"$1\"/",
            RELEASE, tree, sources,
        ],
    )  # fmt: skip
    return tree


def like_a_vendor(tree, archive, identity):
    """Makes a tree of packages what a vendor publishes."""
    mmdebstraps = ("apt.conf.d/99mmdebstrap", "sources.list.d/0000sources.list")
    for path in (*(f"etc/apt/{name}" for name in mmdebstraps), "etc/dpkg/dpkg.cfg.d/99mmdebstrap"):
        (tree / path).unlink(missing_ok=True)
    for path in (tree / "etc/ssh").glob("ssh_host_*"):
        path.unlink()
    for path in [*(tree / "var/lib/apt/lists").glob("*_*"), *(tree / "var/log").glob("*.log")]:
        path.unlink()
    # Made at the first boot; the file must be there, and empty says that the boot is no first-boot wizard's.
    write(tree / "etc/machine-id", "", 0o444)
    (tree / "var/lib/dbus/machine-id").unlink(missing_ok=True)
    write(tree / "etc/hostname", "localhost\n")
    write(tree / "etc/hosts", HOSTS)
    # What cloud-init then leaves alone; otherwise it generates one, which takes emulated machines half a minute.
    write(tree / "etc/default/locale", "LANG=C.UTF-8\n")
    write(tree / "etc/netplan/90-default.yaml", NETPLAN)
    write(tree / "etc/cloud/cloud.cfg.d/01_vendor_cloud.cfg", CLOUD)
    resolv = tree / "etc/resolv.conf"
    resolv.unlink(missing_ok=True)
    resolv.symlink_to("/run/systemd/resolve/stub-resolv.conf")

    write(tree / "etc/apt/sources.list", as_guest(archive.lines()))
    write(tree / "etc/apt/apt.conf.d/90vendor", 'Acquire::Languages "none";\n' + as_guest(archive.settings))
    for key in archive.keyrings():
        inside = tree / key[1:]
        if not inside.exists():
            inside.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(key, inside)

    # Its package leaves this to the first boot, where it takes seconds, and whoever has booted an image has it.
    run(["chroot", tree, "python3", "-m", "compileall", "-q", "/usr/share/netplan"])

    version = max((tree / "boot").glob("vmlinuz-*")).name.removeprefix("vmlinuz-")
    (tree / "boot/efi").mkdir(exist_ok=True)
    # As `grub-install` leaves them: what GRUB for BIOS loads comes from here.
    shutil.copytree(tree / "usr/lib/grub/i386-pc", tree / "boot/grub/i386-pc", ignore=shutil.ignore_patterns("*.img", "*.image"))
    run(["chroot", tree, "grub-editenv", "/boot/grub/grubenv", "create"])
    # What the packages' scripts want from `grub-cloud-amd64` before they install GRUB on kernel updates.
    write(tree / "etc/grub.d/enable_cloud", "", 0o644)
    # Newer than all that it is made from, as where `update-grub` is the last that was run.
    write(tree / "boot/grub/grub.cfg", grub_config(identity, version), 0o600)


def grub_config(identity, version):
    """Returns what `update-grub` would write; it cannot run in a directory that is no file system of its own."""
    return f"""\
if [ -s $prefix/grubenv ]; then
  load_env
fi
insmod part_gpt
insmod ext2
insmod xfs
search --no-floppy --fs-uuid --set=root {identity.filesystem}
serial --speed=115200
terminal_input console serial
terminal_output console serial
set default=0
set timeout=0
menuentry 'Debian GNU/Linux' --class debian --class gnu-linux --class gnu --class os {{
\tlinux\t/boot/vmlinuz-{version} root=UUID={identity.filesystem} ro {KERNEL_LINE}
\tinitrd\t/boot/initrd.img-{version}
}}
"""


def partition(disk, identity):
    """Makes the disk and its partitions."""
    with open(disk, "wb") as file:
        file.truncate(DISK_MIB * MIB)
    table = f"""\
label: gpt
label-id: {identity.disk}
1 : start={ROOT_START}, size={ROOT_SECTORS}, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, uuid={identity.root}
14 : start={BIOS_START}, size={BIOS_SECTORS}, type=21686148-6449-6E6F-744E-656564454649, uuid={identity.bios}
15 : start={ESP_START}, size={ESP_SECTORS}, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid={identity.esp}
"""
    run(["sfdisk", "--quiet", "--no-tell-kernel", "--no-reread", disk], input=table)


def boot_by_bios(disk, tree, identity):
    """Puts GRUB where `grub-install` puts it, which would need a device."""
    early = tree / "tmp/early.cfg"
    early.write_text(f"search.fs_uuid {identity.filesystem} root\nset prefix=($root)/boot/grub\n")
    made = tree / "tmp/core.img"
    words = ["-O", "i386-pc", "-c", "/tmp/early.cfg", "-p", "/boot/grub", "-o", "/tmp/core.img"]
    run(["chroot", tree, "grub-mkimage", *words, *CORE_MODULES])
    core = bytearray(made.read_bytes())
    boot = (tree / "usr/lib/grub/i386-pc/boot.img").read_bytes()
    early.unlink()
    made.unlink()
    if len(core) > BIOS_SECTORS * SECTOR:
        fail(f"GRUB's core of {len(core)} bytes is larger than its partition")
    # The core's first sector ends with where the others are: by default they follow the first sector of the disk.
    struct.pack_into("<Q", core, SECTOR - 12, BIOS_START + 1)
    first = bytearray(boot[:440])
    # boot.img has a place for where the core is, and a jump that believes the BIOS about the drive only if it is no floppy;
    # like `grub-install`, believe it always. (GRUB: include/grub/i386/pc/boot.h.)
    struct.pack_into("<Q", first, 0x5C, BIOS_START)
    first[0x66:0x68] = b"\x90\x90"
    with open(disk, "r+b") as file:
        file.write(first)
        file.seek(BIOS_START * SECTOR)
        file.write(core)


def boot_by_uefi(disk, tree, identity):
    """Puts shim and signed GRUB where firmware looks on removable media, as `grub-install --force-extra-removable` does."""
    offset = ESP_START * SECTOR
    blocks = ESP_SECTORS * SECTOR // 1024
    run(["mkfs.vfat", "-F", "16", "-i", identity.fat, "--offset", ESP_START, disk, blocks])
    # The signed GRUB looks for its configuration here, wherever it is itself.
    config = tree.parent / "esp.cfg"
    config.write_text(
        f"search.fs_uuid {identity.filesystem} root\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"
    )
    image = f"{disk}@@{offset}"
    run(["mmd", "-i", image, "::EFI", "::EFI/BOOT", "::EFI/debian"])
    shim, grub = tree / "usr/lib/shim/shimx64.efi.signed", tree / "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"
    for source, name in ((shim, "BOOT/BOOTX64.EFI"), (grub, "BOOT/grubx64.efi"), (shim, "debian/shimx64.efi"),
                         (grub, "debian/grubx64.efi"), (config, "debian/grub.cfg")):  # fmt: skip
        run(["mcopy", "-i", image, source, f"::EFI/{name}"])


def fill_ext4(disk, tree, identity):
    size = f"{ROOT_SECTORS * SECTOR // 1024}k"
    options = f"offset={ROOT_START * SECTOR},nodiscard"
    run(["mke2fs", "-q", "-F", "-t", "ext4", "-E", options, "-U", identity.filesystem, "-d", tree, disk, size])


def fill_xfs(disk, tree, identity):
    """Fills XFS from a list of files, which is what mkfs.xfs takes; it knows no hard links, and no names with blanks."""
    listing = tree.parent / "listing"
    lines = ["/", "0 0", entry(tree, "d", "")]

    def walk(directory):
        for item in sorted(os.scandir(directory), key=lambda item: item.name):
            if " " in item.name:
                continue
            if item.is_symlink():
                lines.append(f"{item.name} {entry(item.path, 'l', os.readlink(item.path))}")
            elif item.is_dir():
                lines.append(f"{item.name} {entry(item.path, 'd', '')}")
                walk(item.path)
            elif item.is_file():
                lines.append(f"{item.name} {entry(item.path, '-', item.path)}")
        lines.append("$")

    walk(tree)
    listing.write_text("\n".join(lines) + "\n")
    filesystem = tree.parent / "xfs"
    size = ROOT_SECTORS * SECTOR
    run(["mkfs.xfs", "-q", "-m", f"uuid={identity.filesystem}", "-p", listing, "-d", f"file,name={filesystem},size={size}"])
    words = [f"if={filesystem}", f"of={disk}", f"bs={MIB}", f"seek={ROOT_START * SECTOR // MIB}", "conv=notrunc,sparse"]
    run(["dd", "status=none", *words])


def entry(path, kind, rest):
    """Returns one entry of mkfs.xfs's list: kind and mode, owner, group, and where the content is."""
    status = os.lstat(path)
    setuid, setgid = "u" if status.st_mode & 0o4000 else "-", "g" if status.st_mode & 0o2000 else "-"
    return f"{kind}{setuid}{setgid}{status.st_mode & 0o777:03o} {status.st_uid} {status.st_gid} {rest}".rstrip()


def make(work, image, archive, identity, filesystem):
    """Makes the image, which is there whole or not at all."""
    tree = make_tree(work, archive, identity, filesystem)
    like_a_vendor(tree, archive, identity)
    disk = work / "disk.raw"
    partition(disk, identity)
    boot_by_bios(disk, tree, identity)
    boot_by_uefi(disk, tree, identity)
    {"ext4": fill_ext4, "xfs": fill_xfs}[filesystem](disk, tree, identity)
    run(["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", disk, work / "disk.qcow2"])
    os.replace(work / "disk.qcow2", image)


def cached(filesystem):
    """Returns the image of this program, made unless it is there."""
    archive = Archive()
    text = repr((pathlib.Path(__file__).read_text(), archive.entries, archive.settings, filesystem))
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
    kept = target / "vendor"
    kept.mkdir(parents=True, exist_ok=True)
    image = kept / f"{key}.qcow2"
    # One at a time: tests run side by side, and the second one wants what the first one makes.
    with open(kept / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Whoever made these was killed outright, or the lock would not be free.
        for left in glob.glob(str(kept / "work-*")):
            shutil.rmtree(left, ignore_errors=True)
        if not image.exists():
            work = pathlib.Path(tempfile.mkdtemp(prefix="work-", dir=kept))
            # apt's own user must reach what mmdebstrap downloads.
            work.chmod(0o755)
            try:
                make(work, image, archive, Identity(key), filesystem)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    return image


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path, metavar="OUT.qcow2", help="where the image is copied to")
    parser.add_argument("--fs", choices=sorted(MAKERS), default="ext4", help="what the root is [ext4]")
    options = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    os.environ.update(LC_ALL="C.UTF-8", DEBIAN_FRONTEND="noninteractive")
    if os.geteuid() != 0:
        fail("needs root: the files of an image have many owners")
    program, package = MAKERS[options.fs]
    missing = sorted({package for name, package in {**PROGRAMS, program: package}.items() if not shutil.which(name)})
    if missing:
        fail(f"programs are missing: apt-get install {' '.join(missing)}")
    # So that Ctrl-C and a closed terminal unwind like any error, and files and processes go.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit("vendor: ended"))
    image = cached(options.fs)
    temporary = options.out.with_name(f".{options.out.name}.{os.getpid()}")
    try:
        # A reflink where the file system can; never a hard link, by which a test could change what is kept.
        run(["cp", "--reflink=auto", "--sparse=always", image, temporary])
        os.replace(temporary, options.out)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    main()

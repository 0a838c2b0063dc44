#!/usr/bin/env python3
"""Servers that an SSH client must survive, one a mode, on 127.0.0.1. `hostile.py MODE [PUBLIC-KEY]`.

The first line of output is JSON with the `port` and, where OpenSSH's own sshd serves, with the public `host_key` to pin as
in `known_hosts`, the `own_key` that the server shows, and the path of its `log`, which says who asked to be let in. A
server ends when its input ends, or by itself after two minutes; so do its children and files.

Without SSH, by itself:
    banner                64 MiB of lines before the version, which RFC 4253 allows, then the version and nothing
    banner-endless-line   64 MiB without an end of line, then nothing
    stall                 takes connections and says nothing
    stall-after-version   says its version and nothing else
    garbage               its version, then bytes that are no packets
    close                 takes connections and closes them
    version1              speaks a version of the protocol that is dead

OpenSSH's sshd, as root, from a configuration of its own (needs root and the package openssh-server; PUBLIC-KEY logs in
as root where keys are taken):
    key                   lets the key in
    other-host-key        the same, and prints a host key that is not its own: what a client would be told to pin
    rsa-host-key          the same, and its own is of another kind, too
    password              asks for passwords and takes no key
    key-and-password      takes the key and then wants a password, too
    one-try               ends the connection at the first key that it does not know
    no-sessions           lets the key in and starts no command
    forced-banner         lets the key in after a banner of 250,000 bytes, the most that its packets hold
    stall-in-session      lets the key in; every command only sleeps
    close-in-session      lets the key in; every command ends at once with status 7
"""

import argparse
import contextlib
import ctypes
import json
import os
import pathlib
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

# Longer than any test waits; nothing may stay when whoever started it forgot it.
LIMIT_S = 120
# Far more than what a program's memory grows by for other reasons while it connects.
FLOOD = 64 << 20
GARBAGE = 1 << 20
# sshd sends a banner in one packet, and no packet may be larger than a quarter of a megabyte.
BANNER = 250_000
# Garbage is the same in each run.
SEED = 6
SSHD = "/usr/sbin/sshd"
# prctl(2): the signal that a child gets when its parent dies.
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None)

VERSION = b"SSH-2.0-hostile\r\n"
LINE = b"The quick brown fox has something to say before it says who it is.\r\n"

# What each mode of ours sends, and how often; None holds the connection open.
SCRIPTS = {
    "banner": [(LINE, FLOOD // len(LINE)), (VERSION, 1), None],
    "banner-endless-line": [(b"x" * 65536, FLOOD // 65536), None],
    "stall": [None],
    "stall-after-version": [(VERSION, 1), None],
    "garbage": [(VERSION, 1), (random.Random(SEED).randbytes(GARBAGE), 1), None],
    "close": [],
    "version1": [(b"SSH-1.5-hostile\r\n", 1), None],
}

KEYS_ONLY = "PubkeyAuthentication yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
# What each of sshd's modes has in its configuration besides what all have.
CONFIGURATIONS = {
    "key": KEYS_ONLY,
    "other-host-key": KEYS_ONLY,
    "rsa-host-key": KEYS_ONLY,
    # By itself: with PAM it would need a service of that name, and read this machine's passwords.
    "password": "PubkeyAuthentication no\nPasswordAuthentication yes\nKbdInteractiveAuthentication yes\n",
    "key-and-password": "PasswordAuthentication yes\nAuthenticationMethods publickey,password\n",
    "one-try": f"{KEYS_ONLY}MaxAuthTries 1\n",
    "no-sessions": f"{KEYS_ONLY}MaxSessions 0\n",
    "forced-banner": f"{KEYS_ONLY}Banner {{work}}/banner\n",
    "stall-in-session": f"{KEYS_ONLY}ForceCommand exec sleep {LIMIT_S}\n",
    "close-in-session": f"{KEYS_ONLY}ForceCommand exit 7\n",
}
COMMON = """\
ListenAddress 127.0.0.1
HostKey {work}/host
PidFile none
UsePAM no
StrictModes no
PermitRootLogin {root}
AuthorizedKeysFile {work}/authorized
PermitUserRC no
LogVerbose auth2.c:input_userauth_request():*
"""
# sshd is the first process of a namespace: when it goes, so does whatever its sessions started. What it writes of logins
# (wtmp, btmp) and wants below /run, and what it reads of passwords, is not this machine's. Nor is root's home: a shell
# would do what its .bashrc says, and be killed in the middle of that.
CLOSED = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL"]
PREPARE = """\
mount -t tmpfs -o mode=755 none /run
mkdir -m 755 /run/sshd
mount -t tmpfs -o mode=755 none /var/log
mount -t tmpfs -o mode=700 none /root
mount --bind "$1" /etc/shadow
shift
exec "$@"
"""


def die_with_parent():
    """Runs in a child before its program: it goes when this process goes, however that ends."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def say(**facts):
    print(json.dumps(facts), flush=True)


def wait_for_end(also=lambda: False):
    """Returns when the input ends, when two minutes are over, or when `also` says so."""
    end = time.monotonic() + LIMIT_S
    while (left := end - time.monotonic()) > 0 and not also():
        readable, _, _ = select.select([sys.stdin], [], [], min(left, 0.2))
        if readable and not os.read(sys.stdin.fileno(), 4096):
            return


def serve(script, connection):
    """Sends what the script says. A client that goes is no error."""
    with connection, contextlib.suppress(OSError):
        for part in script:
            if part is None:
                # Reads until the client goes, so that the kernel never answers for this server.
                while connection.recv(65536):
                    pass
                continue
            what, times = part
            for _ in range(times):
                connection.sendall(what)


def by_itself(mode):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=serve, args=(SCRIPTS[mode], connection), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        say(port=listener.getsockname()[1])
        wait_for_end()


def make_key(path, kind="ed25519"):
    """Returns the public part as `known_hosts` has it, without the comment."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", path], stdin=subprocess.DEVNULL, check=True)
    return " ".join(pathlib.Path(f"{path}.pub").read_text().split()[:2])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def by_sshd(mode, public_key):
    if os.geteuid() != 0:
        sys.exit("hostile: sshd needs root")
    if not os.path.exists(SSHD) or not shutil.which("ssh-keygen"):
        sys.exit("hostile: no sshd here: apt-get install --no-install-recommends openssh-server openssh-client (it need not run: this starts its own)")
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        work = pathlib.Path(name)
        own_key = make_key(work / "host", "rsa" if mode == "rsa-host-key" else "ed25519")
        host_key = make_key(work / "other") if mode in ("other-host-key", "rsa-host-key") else own_key
        (work / "authorized").write_text(f"{public_key or ''}\n")
        (work / "banner").write_bytes(LINE * (BANNER // len(LINE)))
        root = "yes" if "password" in mode else "prohibit-password"
        text = (COMMON + CONFIGURATIONS[mode]).format(work=work, root=root)
        (work / "config").write_text(text)
        port = free_port()
        # Locked accounts have another word there, and sshd lets nobody into those.
        (work / "shadow").write_text("root:*:19000:0:99999:7:::\n")
        sshd_words = [SSHD, "-D", "-e", "-f", work / "config", "-p", str(port)]
        command = [*CLOSED, "/bin/sh", "-ec", PREPARE, "sh", work / "shadow", *sshd_words]
        log = open(work / "log", "wb")
        with log:
            sshd = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent)
        try:
            while not listens(port):
                if sshd.poll() is not None:
                    sys.exit(f"hostile: sshd ended:\n{(work / 'log').read_text(errors='replace')[-2000:]}")
                time.sleep(0.02)
            say(port=port, host_key=host_key, own_key=own_key, log=str(work / "log"))
            wait_for_end(also=lambda: sshd.poll() is not None)
        finally:
            sshd.kill()
            sshd.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=[*SCRIPTS, *CONFIGURATIONS])
    parser.add_argument("public_key", nargs="?", help="the key that may log in as root, as in authorized_keys")
    options = parser.parse_args()
    # So that a signal unwinds like any error.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit("hostile: ended"))
    if options.mode in SCRIPTS:
        by_itself(options.mode)
    else:
        by_sshd(options.mode, options.public_key)


if __name__ == "__main__":
    main()
